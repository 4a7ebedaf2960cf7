#pragma once
#include <random>
#include <span>
#include <vector>

#include "haqa/sampler/truncated_normal.h"
#include "haqa/space/search_space.h"

namespace haqa {

/// Where a value lies on the unit interval: the part that stands for it, and its middle; the three are one for a real
/// without steps. An unordered choice or a truth value lies at its index, from 0.
struct Place {
  double low = 0, middle = 0, high = 0;
};
Place place_of(const Parameter& p, const Json& value);

/// How likely the values of some parameters are together, by observations: a mixture of one kernel for each and of the
/// uniform prior, which counts as one more and is all there is without any. A kernel is a product over the parameters:
/// a normal cut off outside the unit interval, of the mass of the value's part where it has one; for unordered choices
/// more weight on the one observed.
/// Source: Bergstra et al. 2011, Algorithms for hyper-parameter optimization, section 4; kernels of several parameters
/// as in Falkner et al. 2018, BOHB, section 4.1.
class Parzen {
 public:
  /// observations: [n][parameters], as place_of() gives them. The parameters must outlive this.
  Parzen(std::vector<const Parameter*> parameters, std::vector<std::vector<Place>> observations);
  /// Logarithm of the density at places: [parameters]; of the probability where no value is a real.
  double log_density(std::span<const Place> places) const;
  /// Places from 0 to 1, as value_at() reads them: [parameters].
  std::vector<double> draw(std::mt19937_64& random) const;

 private:
  double log_kernel(size_t observation, std::span<const Place> places) const;
  double draw_one(size_t observation, size_t parameter, std::mt19937_64& random) const;

  std::vector<const Parameter*> parameters_;
  std::vector<std::vector<Place>> observations_;
  std::vector<std::vector<TruncatedNormal>> normals_;  ///< [n][parameters]; not used for unordered ones
};

}  // namespace haqa
