#include "haqa/cli/logged_sampler.h"

#include <fmt/format.h>

#include "haqa/cli/agent_setup.h"

namespace haqa {

Proposal LoggedSampler::ask(const Track& track, std::span<const Trial> trials, int rounds_left) {
  const Json p = log_.once(fmt::format("proposal:{}", trials.size()), [&] {
    const Proposal asked = inner_.ask(track, trials, rounds_left);
    Json proposal = {{"configuration", asked.configuration},
                     {"proposed_by", asked.proposed_by},
                     {"thought", asked.thought},
                     {"exchanges", lines_of(log_.folder() / "transcript.jsonl")}};
    if (!asked.metrics.empty()) proposal["metrics"] = asked.metrics;
    return proposal;
  });
  Proposal proposal{p["configuration"], p["proposed_by"], p["thought"]};
  proposal.metrics = p.value("metrics", Json::object());
  return proposal;
}

}  // namespace haqa
