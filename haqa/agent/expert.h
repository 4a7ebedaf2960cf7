#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <regex>
#include <span>
#include <string>
#include <vector>

#include "haqa/agent/chat.h"
#include "haqa/sampler/bayesian.h"

namespace haqa {

/// The offline expert: no language model and no network, but rules and priors from the literature (data/priors/, each
/// with its source) and a surrogate over the trials so far. A rule is tried on the incumbent when its parameter is part
/// of the search space, its value is not what the incumbent has, and the track's brief says what the rule is about;
/// when the rules are used up, the surrogate proposes, led by the priors (sampler/surrogate.h).
class ExpertSampler : public Sampler {
 public:
  /// priors: the folder. Throws Error naming the file and what is missing in it.
  ExpertSampler(const std::filesystem::path& priors, uint64_t seed);
  Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) override;

 private:
  struct Rule {
    std::string parameter;
    Json value;
    std::string why, source;
    std::optional<std::regex> about;  ///< found in the track's brief
  };
  static std::vector<Rule> read_rules(const std::filesystem::path& folder);
  std::optional<Proposal> by_rule(const Track& track, std::span<const Trial> trials) const;

  std::vector<Rule> rules_;
  BayesianSampler surrogate_;
};

/// The expert as a provider: it answers in the agent's protocol from the request's track and trials.
std::unique_ptr<ChatProvider> make_expert(const std::filesystem::path& priors, uint64_t seed);

}  // namespace haqa
