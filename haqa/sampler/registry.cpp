#include "haqa/sampler/registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <functional>
#include <map>

#include "haqa/base/error.h"
#include "haqa/sampler/bayesian.h"
#include "haqa/sampler/local_search.h"
#include "haqa/sampler/random.h"

namespace haqa {
namespace {

using Maker = std::function<std::unique_ptr<Sampler>(uint64_t seed)>;

template <typename S>
std::unique_ptr<Sampler> make(uint64_t seed) {
  return std::make_unique<S>(seed);
}

const std::map<std::string, Maker>& makers() {
  static const std::map<std::string, Maker> all = {
      {"bayesian", make<BayesianSampler>}, {"local", make<LocalSearchSampler>}, {"random", make<RandomSampler>}};
  return all;
}

}  // namespace

std::vector<std::string> sampler_names() {
  std::vector<std::string> names;
  for (const auto& [name, maker] : makers()) names.push_back(name);
  return names;
}

std::unique_ptr<Sampler> make_sampler(const std::string& name, uint64_t seed) {
  const auto at = makers().find(name);
  if (at == makers().end())
    throw UsageError("sampler {}: there is none such; use one of {}", name, fmt::join(sampler_names(), ", "));
  return at->second(seed);
}

}  // namespace haqa
