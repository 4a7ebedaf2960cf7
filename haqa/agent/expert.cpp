#include "haqa/agent/expert.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "haqa/agent/prompt.h"
#include "haqa/sampler/bayesian.h"

namespace haqa {
namespace {

struct Rule {
  std::string parameter;
  Json value;
  std::string why, source;
};

std::vector<Rule> read_rules(const std::filesystem::path& file) {
  std::vector<Rule> rules;
  try {
    const Json priors = read_json(file);
    for (const Json& r : priors.at("rules"))
      rules.push_back({r.at("parameter"), r.at("value"), r.at("why"), r.at("source")});
  } catch (const Json::exception& e) {
    throw Error("{}: a rule needs parameter, value, why and source ({})", file.string(), e.what());
  }
  return rules;
}

const Parameter* find_parameter(const SearchSpace& space, const std::string& name) {
  for (const Parameter& p : space.parameters())
    if (p.name == name) return &p;
  return nullptr;
}

Json value_of(const Rule& rule, const Parameter& p) {
  const bool whole = p.type == ParameterType::integer;
  const auto number = [&](double x) { return whole ? Json(static_cast<int64_t>(x)) : Json(x); };
  if (rule.value == "high" && p.choices.empty()) return number(p.high);
  if (rule.value == "low" && p.choices.empty()) return number(p.low);
  if (rule.value == "half" && p.choices.empty()) return number(p.default_value.get<double>() / 2);
  return rule.value;
}

class Expert : public ChatProvider {
 public:
  Expert(std::vector<Rule> rules, uint64_t seed) : rules_(std::move(rules)), surrogate_(seed) {}
  std::string name() const override { return "expert"; }

  ChatReply complete(const ChatRequest& request) override {
    const auto start = std::chrono::steady_clock::now();
    const Proposal proposal = propose(*request.track, request.trials, request.rounds_left);
    ChatReply reply;
    reply.content = fmt::format("Thought: {}\nAction: {}", proposal.thought, to_line(proposal.configuration));
    reply.finish_reason = "stop";
    reply.latency_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return reply;
  }

 private:
  Proposal propose(const Track& track, std::span<const Trial> trials, int rounds_left) {
    const std::string seen = observation(track, trials);
    const Trial* best = best_trial(trials, track.direction);
    const Configuration base = best ? best->configuration : track.space.defaults();
    for (const Rule& rule : rules_) {
      const Parameter* p = find_parameter(track.space, rule.parameter);
      if (!p || judged(trials, rule.parameter, value_of(rule, *p))) continue;
      Configuration changed = base;
      changed[rule.parameter] = value_of(rule, *p);
      if (changed == base || track.space.problem(changed)) continue;
      return {changed, name(),
              fmt::format("{} Next I change {} from {} to {} on the best configuration: {} ({}).", seen, rule.parameter,
                          base[rule.parameter].dump(), changed[rule.parameter].dump(), rule.why, rule.source)};
    }
    Proposal proposal = surrogate_.ask(track, trials, rounds_left);
    proposal.thought = fmt::format("{} My rules are used up, so the surrogate proposes. {}", seen, proposal.thought);
    return proposal;
  }

  static std::string observation(const Track& track, std::span<const Trial> trials) {
    if (trials.empty()) return "Nothing has been measured yet.";
    const Trial& last = trials.back();
    if (!last.value) return fmt::format("The last configuration failed ({}).", to_string(last.reason));
    const Trial* best = best_trial(trials, track.direction);
    if (trials.size() == 1) return fmt::format("The defaults give {:.3f}.", *last.value);
    if (best == &last) return fmt::format("The last change helped: {:.3f} is the best so far.", *last.value);
    return fmt::format("The last change gave {:.3f}, no better than {:.3f} in round {}.", *last.value, *best->value,
                       best->number + 1);
  }

  /// Any trial with the rule's value, failed or not, has judged it, whatever the rest was.
  static bool judged(std::span<const Trial> trials, const std::string& parameter, const Json& value) {
    return std::any_of(trials.begin(), trials.end(),
                       [&](const Trial& t) { return t.configuration.at(parameter) == value; });
  }

  std::vector<Rule> rules_;
  BayesianSampler surrogate_;
};

}  // namespace

std::unique_ptr<ChatProvider> make_expert(const std::filesystem::path& priors, uint64_t seed) {
  return std::make_unique<Expert>(read_rules(priors), seed);
}

}  // namespace haqa
