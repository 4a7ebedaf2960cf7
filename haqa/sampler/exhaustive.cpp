#include "haqa/sampler/exhaustive.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "haqa/base/error.h"

namespace haqa {
namespace {

constexpr double kMost = 100'000;           // configurations
constexpr uint64_t kMostSteps = 1'000'000;  // of a walk to count them: a second or two

/// Infinity for a real without steps.
double count_of(const Parameter& p) {
  switch (p.type) {
    case ParameterType::text:
      return 1;
    case ParameterType::boolean:
      return 2;
    case ParameterType::categorical:
      return static_cast<double>(p.choices.size());
    case ParameterType::integer:
    case ParameterType::real:
      break;
  }
  if (p.high <= p.low) return 1;
  if (p.type == ParameterType::real && p.step <= 0) return INFINITY;
  return std::floor((p.high - p.low) / (p.step > 0 ? p.step : 1) * (1 + 1e-12)) + 1;
}

Json value_number(const Parameter& p, uint64_t i) {
  switch (p.type) {
    case ParameterType::text:
      return p.default_value;
    case ParameterType::boolean:
      return i == 1;
    case ParameterType::categorical:
      return p.choices[i];
    case ParameterType::integer:
    case ParameterType::real:
      break;
  }
  const double value = std::min(p.high, p.low + (p.step > 0 ? p.step : 1) * static_cast<double>(i));
  return p.type == ParameterType::integer ? Json(static_cast<int64_t>(value)) : Json(value);
}

bool has_rules(const SearchSpace& space) {
  return !space.constraints().empty() || std::any_of(space.parameters().begin(), space.parameters().end(),
                                                     [](const Parameter& p) { return p.when.has_value(); });
}

}  // namespace

/// A parameter on the way from the first to the last.
struct ConfigurationWalk::Level {
  const Parameter* parameter = nullptr;
  uint64_t count = 0;
  std::vector<const Expression*> rules;  ///< constraints that the parameter is in
  uint64_t next = 0;                     ///< number of the value to take next
  Configuration so_far;                  ///< with this parameter's value
};

struct ConfigurationWalk::State {
  SearchSpace space;
  std::vector<Level> levels;
  bool begun = false, ended = false;
  uint64_t steps = 0, most_steps = UINT64_MAX;

  /// Takes the level's next value that keeps the rules so far.
  bool advance(size_t at) {
    Level& level = levels[at];
    const Configuration before = at == 0 ? Configuration(Json::object()) : levels[at - 1].so_far;
    const Parameter& p = *level.parameter;
    const bool active = !p.when || p.when->holds(before);
    for (const uint64_t count = active ? level.count : 1; level.next < count && steps < most_steps;) {
      ++steps;
      level.so_far = before;
      if (active) level.so_far[p.name] = value_number(p, level.next);
      ++level.next;
      if (!active || keeps(level)) return true;
    }
    return false;
  }
  static bool keeps(const Level& level) {
    return std::all_of(level.rules.begin(), level.rules.end(), [&](const Expression* rule) {
      return !rule->applies(level.so_far) || rule->holds(level.so_far);
    });
  }
};

ConfigurationWalk::ConfigurationWalk(const SearchSpace& space) : state_(std::make_unique<State>()) {
  state_->space = space;
  for (const Parameter& p : state_->space.parameters()) {
    const double count = count_of(p);
    if (std::isinf(count))
      throw UsageError(
          "'{}' has infinitely many values, which cannot all be tried; give it a step, or take another "
          "sampler than exhaustive",
          p.name);
    Level level{&p, static_cast<uint64_t>(count), {}, 0, {}};
    for (const Expression& rule : state_->space.constraints())
      if (std::find(rule.names().begin(), rule.names().end(), p.name) != rule.names().end())
        level.rules.push_back(&rule);
    state_->levels.push_back(std::move(level));
  }
}

ConfigurationWalk::~ConfigurationWalk() = default;

std::optional<Configuration> ConfigurationWalk::next(uint64_t most_steps) {
  State& s = *state_;
  const size_t depth = s.levels.size();
  if (s.ended || (depth == 0 && s.begun)) return std::nullopt;
  size_t at = s.begun ? depth - 1 : 0;
  s.begun = true;
  s.most_steps = most_steps;
  if (depth == 0) return Json::object();
  while (s.steps < most_steps) {
    if (!s.advance(at)) {
      if (at == 0) {
        s.ended = true;
        return std::nullopt;
      }
      s.levels[at--].next = 0;
    } else if (at + 1 == depth) {
      return s.levels[at].so_far;
    } else {
      s.levels[++at].next = 0;
    }
  }
  s.ended = true;  // where it stands within the levels is lost
  return std::nullopt;
}

double ConfigurationWalk::combinations() const {
  double product = 1;
  for (const Level& level : state_->levels) product *= static_cast<double>(level.count);
  return product;
}

uint64_t ConfigurationWalk::steps() const {
  return state_->steps;
}

void require_walkable(const SearchSpace& space) {
  ConfigurationWalk walk(space);
  const double all = walk.combinations();
  if (all <= kMost) return;
  constexpr const char* kAdvice = "take steps or fewer choices, or another sampler than exhaustive";
  if (!has_rules(space))
    throw UsageError("the search space holds {:.15g} configurations, and at most {:.0f} are walked; {}", all, kMost,
                     kAdvice);
  double valid = 0;
  while (valid <= kMost && walk.next(kMostSteps)) ++valid;
  if (valid > kMost)
    throw UsageError("the search space holds more than {:.0f} configurations, of {:.15g} combinations; {}", kMost, all,
                     kAdvice);
  if (walk.steps() >= kMostSteps)
    throw UsageError("the search space has {:.15g} combinations, too many to find out which are valid; {}", all,
                     kAdvice);
}

ExhaustiveSampler::ExhaustiveSampler() = default;
ExhaustiveSampler::~ExhaustiveSampler() = default;

/// Begins the walk anew where the space or the trials are others than before.
void ExhaustiveSampler::go_on_with(const Track& track, std::span<const Trial> trials) {
  if (std::string space = track.space.describe(); !walk_ || space != space_ || trials.size() < known_) {
    require_walkable(track.space);
    walk_ = std::make_unique<ConfigurationWalk>(track.space);
    space_ = std::move(space);
    known_ = 0;
    tried_.clear();
  }
  for (; known_ < trials.size(); ++known_) tried_.insert(track.space.hash(trials[known_].configuration));
}

Proposal ExhaustiveSampler::ask(const Track& track, std::span<const Trial> trials, int) {
  go_on_with(track, trials);
  Configuration next = track.space.defaults();
  if (!tried_.contains(track.space.hash(next))) return {std::move(next), "exhaustive", "The defaults come first.", {}};
  while (std::optional<Configuration> found = walk_->next()) {
    if (tried_.contains(track.space.hash(*found))) continue;
    return {*std::move(found), "exhaustive", "The next in the order of the space.", {}};
  }
  Proposal nothing{std::move(next), "exhaustive", "All configurations are tried.", {}};
  nothing.exhausted = true;
  return nothing;
}

}  // namespace haqa
