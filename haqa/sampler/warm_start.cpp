#include "haqa/sampler/warm_start.h"

#include <fmt/format.h>

#include <algorithm>

#include "haqa/sampler/untried.h"

namespace haqa {
namespace {

bool shares_a_parameter(const SearchSpace& space, const Configuration& configuration) {
  return std::any_of(space.parameters().begin(), space.parameters().end(),
                     [&](const Parameter& p) { return configuration.contains(p.name); });
}

}  // namespace

std::vector<EarlierTrial> best_earlier_trials(const SearchSpace& space, const std::string& study,
                                              std::span<const Trial> trials, Direction direction, size_t count) {
  std::vector<const Trial*> complete;
  for (const Trial& t : trials)
    if (has_finite_value(t)) complete.push_back(&t);
  std::stable_sort(complete.begin(), complete.end(), [&](const Trial* a, const Trial* b) {
    return direction == Direction::maximize ? *a->value > *b->value : *a->value < *b->value;
  });
  std::vector<EarlierTrial> best;
  std::set<std::string> seen;
  for (const Trial* t : complete) {
    if (best.size() == count) break;
    if (!shares_a_parameter(space, t->configuration)) continue;
    const Configuration here = space.clipped(t->configuration);
    if (!space.problem(here) && seen.insert(space.hash(here)).second) best.push_back({study, here, *t->value});
  }
  return best;
}

WarmStartSampler::WarmStartSampler(std::unique_ptr<Sampler> inner, std::vector<EarlierTrial> earlier)
    : inner_(std::move(inner)), earlier_(std::move(earlier)) {}

Proposal WarmStartSampler::ask(const Track& track, std::span<const Trial> trials, int rounds_left) {
  const std::set<std::string> tried = tried_hashes(track.space, trials);
  for (const EarlierTrial& e : earlier_)
    if (!tried.contains(track.space.hash(e.configuration)))
      return {e.configuration, "warm start: " + e.study,
              fmt::format("Among the best of study {}, where its value was {:.6g}.", e.study, e.value), std::nullopt};
  return inner_->ask(track, trials, rounds_left);
}

}  // namespace haqa
