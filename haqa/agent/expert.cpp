#include "haqa/agent/expert.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "haqa/base/error.h"
#include "haqa/base/file.h"

namespace haqa {
namespace {

const Parameter* find_parameter(const SearchSpace& space, const std::string& name) {
  for (const Parameter& p : space.parameters())
    if (p.name == name) return &p;
  return nullptr;
}

/// A rule's value for a parameter: itself, or what "high", "low" and "half" stand for.
Json value_for(const Json& rule, const Parameter& p) {
  const bool whole = p.type == ParameterType::integer;
  const auto number = [&](double x) { return whole ? Json(static_cast<int64_t>(x)) : Json(x); };
  if (rule == "high" && p.choices.empty()) return number(p.high);
  if (rule == "low" && p.choices.empty()) return number(p.low);
  if (rule == "half" && p.choices.empty()) return number(p.default_value.get<double>() / 2);
  return rule;
}

std::string observation(const Track& track, std::span<const Trial> trials) {
  while (!trials.empty() && trials.back().state == TrialState::running) trials = trials.first(trials.size() - 1);
  if (trials.empty()) return "Nothing has been measured yet.";
  const Trial& last = trials.back();
  if (!last.value) return fmt::format("The last configuration failed ({}).", to_string(last.reason));
  const Trial* best = best_trial(trials, track.direction);
  if (trials.size() == 1 || !best) return fmt::format("The defaults give {:.3f}.", *last.value);
  if (best == &last) return fmt::format("The last change helped: {:.3f} is the best so far.", *last.value);
  return fmt::format("The last change gave {:.3f}, no better than {:.3f} in round {}.", *last.value, *best->value,
                     best->number + 1);
}

/// Any trial with the rule's value, failed or not, has judged it, whatever the rest was.
bool judged(std::span<const Trial> trials, const std::string& parameter, const Json& value) {
  return std::any_of(trials.begin(), trials.end(), [&](const Trial& t) {
    const auto at = t.configuration.find(parameter);
    return at != t.configuration.end() && *at == value;
  });
}

class Expert : public ChatProvider {
 public:
  Expert(const std::filesystem::path& priors, uint64_t seed) : sampler_(priors, seed) {}
  std::string name() const override { return "expert"; }

  ChatReply complete(const ChatRequest& request) override {
    const auto start = std::chrono::steady_clock::now();
    std::string thought;
    Json action;
    for (const TrackHistory& h : request.tracks) {
      Proposal proposal = sampler_.ask(*h.track, h.trials, h.rounds_left);
      if (request.tracks.size() == 1) {
        thought = std::move(proposal.thought);
        action = std::move(proposal.configuration);
      } else {
        thought += fmt::format("{}{}: {}", thought.empty() ? "" : " ", h.track->name, proposal.thought);
        action[h.track->name] = std::move(proposal.configuration);
      }
    }
    ChatReply reply;
    reply.content = fmt::format("Thought: {}\nAction: {}", thought, to_line(action));
    reply.finish_reason = "stop";
    reply.latency_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return reply;
  }

 private:
  ExpertSampler sampler_;
};

}  // namespace

ExpertSampler::ExpertSampler(const std::filesystem::path& priors, uint64_t seed)
    : rules_(read_rules(priors)), surrogate_(seed, read_priors(priors)) {}

std::vector<ExpertSampler::Rule> ExpertSampler::read_rules(const std::filesystem::path& folder) {
  std::vector<Rule> rules;
  for (const std::filesystem::path& file : json_files(folder)) {
    try {
      const Json priors = read_json(file);
      for (const Json& r : priors.value("rules", Json::array())) {
        rules.push_back({r.at("parameter"), r.at("value"), r.at("why"), r.at("source"), {}});
        if (r.contains("about")) rules.back().about.emplace(r["about"].get<std::string>(), std::regex::icase);
      }
    } catch (const Json::exception& e) {
      throw Error("{}: a rule needs parameter, value, why and source ({})", file.string(), e.what());
    } catch (const std::regex_error& e) {
      throw Error("{}: what a rule is about is no regular expression ({})", file.string(), e.what());
    }
  }
  return rules;
}

Proposal ExpertSampler::ask(const Track& track, std::span<const Trial> trials, int rounds_left) {
  if (auto proposal = by_rule(track, trials)) return *proposal;
  Proposal proposal = surrogate_.ask(track, trials, rounds_left);
  proposal.proposed_by = "expert";
  proposal.thought = fmt::format("{} {}", observation(track, trials), proposal.thought);
  return proposal;
}

std::optional<Proposal> ExpertSampler::by_rule(const Track& track, std::span<const Trial> trials) const {
  const Trial* best = best_trial(trials, track.direction);
  const Configuration base = best ? best->configuration : track.space.defaults();
  for (const Rule& rule : rules_) {
    const Parameter* p = find_parameter(track.space, rule.parameter);
    if (!p || p->type == ParameterType::text || !base.contains(p->name)) continue;
    if (rule.about && !std::regex_search(track.brief, *rule.about)) continue;
    const Json value = value_for(rule.value, *p);
    if (judged(trials, p->name, value)) continue;
    Configuration changed = base;
    changed[p->name] = value;
    changed = track.space.clipped(changed);  // what becomes active by it has its default
    // Clipped it is where the space has another parameter of that name.
    if (changed[p->name] != value || changed == base || track.space.problem(changed)) continue;
    return Proposal{
        changed, "expert",
        fmt::format("{} Next I change {} from {} to {} on the best configuration: {} ({}).", observation(track, trials),
                    p->name, base[p->name].dump(), changed[p->name].dump(), rule.why, rule.source)};
  }
  return std::nullopt;
}

std::unique_ptr<ChatProvider> make_expert(const std::filesystem::path& priors, uint64_t seed) {
  return std::make_unique<Expert>(priors, seed);
}

}  // namespace haqa
