#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "haqa/study/study.h"

namespace haqa {

/// The points of the Sobol sequence in Gray code order, with the direction numbers of Joe and Kuo 2008. A seed
/// scrambles them: each 2^m points still hold exactly one in each box of a base-2 net, and each point alone is uniform.
/// Source: Sobol 1967; Antonov and Saleev 1979; Owen 1995, Randomly permuted (t,m,s)-nets and (t,s)-sequences.
class SobolSequence {
 public:
  /// Throws UsageError where there are more dimensions than direction numbers.
  explicit SobolSequence(size_t dimensions, std::optional<uint64_t> seed = std::nullopt);
  ~SobolSequence();
  /// Point number `index` from 0: [dimensions], each at least 0 and below 1.
  std::vector<double> point(uint32_t index);

 private:
  struct Engine;
  size_t dimensions_;
  std::optional<uint64_t> seed_;
  std::unique_ptr<Engine> engine_;  ///< nothing without dimensions
};

/// Quasi-random search: the first point of the scrambled sequence that is valid and was not tried. Which one that is
/// follows from the trials, so that an interrupted study goes on as it would have; values are not heeded.
/// Source: Bergstra and Bengio 2012, section 4.2.
class QuasiRandomSampler : public Sampler {
 public:
  explicit QuasiRandomSampler(uint64_t seed) : seed_(seed) {}
  Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) override;

 private:
  uint64_t seed_;
};

}  // namespace haqa
