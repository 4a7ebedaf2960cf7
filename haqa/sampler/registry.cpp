#include "haqa/sampler/registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <functional>
#include <map>
#include <string_view>
#include <type_traits>

#include "haqa/base/error.h"
#include "haqa/sampler/bayesian.h"
#include "haqa/sampler/default_sampler.h"
#include "haqa/sampler/exhaustive.h"
#include "haqa/sampler/human.h"
#include "haqa/sampler/local_search.h"
#include "haqa/sampler/nsga2.h"
#include "haqa/sampler/quasi_random.h"
#include "haqa/sampler/random.h"
#include "haqa/sampler/tpe.h"

namespace haqa {
namespace {

using Maker = std::function<std::unique_ptr<Sampler>(uint64_t seed)>;

template <typename S>
std::unique_ptr<Sampler> make(uint64_t seed) {
  if constexpr (std::is_constructible_v<S, uint64_t>)
    return std::make_unique<S>(seed);
  else
    return std::make_unique<S>();
}

const std::map<std::string, Maker>& makers() {
  static const std::map<std::string, Maker> all = {
      {"bayesian", make<BayesianSampler>}, {"default", make<DefaultSampler>}, {"exhaustive", make<ExhaustiveSampler>},
      {"local", make<LocalSearchSampler>}, {"nsga2", make<Nsga2Sampler>},     {"random", make<RandomSampler>},
      {"sobol", make<QuasiRandomSampler>}, {"tpe", make<TpeSampler>}};
  return all;
}

}  // namespace

std::vector<std::string> sampler_names() {
  std::vector<std::string> names;
  for (const auto& [name, maker] : makers()) names.push_back(name);
  return names;
}

std::optional<std::string> human_file(const std::string& name) {
  constexpr std::string_view kHuman = "human:";
  if (!name.starts_with(kHuman) || name.size() == kHuman.size()) return std::nullopt;
  return name.substr(kHuman.size());
}

std::unique_ptr<Sampler> make_sampler(const std::string& name, uint64_t seed) {
  if (const auto file = human_file(name)) return std::make_unique<HumanSampler>(*file);
  const auto at = makers().find(name);
  if (at == makers().end())
    throw UsageError("sampler {}: there is none such; use one of {}, or human:FILE with configurations written down",
                     name, fmt::join(sampler_names(), ", "));
  return at->second(seed);
}

}  // namespace haqa
