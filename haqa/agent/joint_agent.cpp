#include "haqa/agent/joint_agent.h"

#include <algorithm>
#include <set>
#include <stdexcept>

#include "haqa/sampler/untried.h"

namespace haqa {

struct JointAgent::OnTrack {
  Track track;
  BayesianSampler fallback;
  std::vector<Trial> trials;  ///< by number: told, seen when asked, or proposed here and not told since
  /// How many of them there were at the exchange that waits to be asked for; its answer, nothing if unusable.
  std::optional<size_t> decided_at;
  std::optional<AgentAction> decision;

  /// Whether the decision was made for what is asked now, not for an earlier round.
  bool waits() const {
    return decided_at == trials.size() &&
           !(decision && tried_hashes(track.space, trials).contains(track.space.hash(decision->configuration)));
  }
};

class JointAgent::Part : public Sampler {
 public:
  Part(JointAgent& all, size_t track) : all_(all), track_(track) {}
  Proposal ask(const Track&, std::span<const Trial> trials, int rounds_left) override {
    return all_.ask(track_, trials, rounds_left);
  }
  void tell(const Track&, const Trial& trial) override { all_.tell(track_, trial); }

 private:
  JointAgent& all_;
  size_t track_;
};

JointAgent::JointAgent(ChatProvider& provider, Prompts prompts, AgentOptions options, std::vector<Track> tracks,
                       std::function<void(const AgentEvent&)> on_event)
    : agent_(provider, std::move(prompts), options, std::move(on_event)) {
  std::set<std::string> names;
  for (Track& t : tracks) {
    if (t.name.empty() || !names.insert(t.name).second)
      throw std::invalid_argument("the tracks of a joint study need different names");
    tracks_.push_back({std::move(t), BayesianSampler(options.seed + tracks_.size()), {}, {}, {}});
  }
}

JointAgent::~JointAgent() = default;

std::unique_ptr<Sampler> JointAgent::sampler(size_t track) {
  if (track >= tracks_.size()) throw std::invalid_argument("there is no such track");
  return std::make_unique<Part>(*this, track);
}

Proposal JointAgent::ask(size_t track, std::span<const Trial> trials, int rounds_left) {
  OnTrack& on = tracks_[track];
  on.trials.assign(trials.begin(), trials.end());
  if (!on.waits()) decide(on.track.rounds_with(trials.size()) + rounds_left);
  on.decided_at.reset();
  Proposal proposal;
  if (on.decision) {
    proposal = {std::move(on.decision->configuration), agent_.name(), std::move(on.decision->thought), {}};
  } else {
    proposal = fall_back(on.fallback, on.track, trials, rounds_left);
  }
  on.trials.push_back(running_trial(static_cast<int>(trials.size()), proposal));
  return proposal;
}

/// One exchange for the next trial of every track.
void JointAgent::decide(int rounds) {
  std::vector<TrackHistory> histories;
  for (const OnTrack& on : tracks_)
    histories.push_back({&on.track, on.trials, std::max(0, rounds - on.track.rounds_with(on.trials.size()))});
  std::vector<std::optional<AgentAction>> decided = agent_.decide(histories);
  for (size_t i = 0; i < tracks_.size(); ++i) {
    tracks_[i].decided_at = tracks_[i].trials.size();
    tracks_[i].decision = std::move(decided[i]);
  }
}

void JointAgent::tell(size_t track, const Trial& trial) {
  std::vector<Trial>& trials = tracks_[track].trials;
  // ask() could not know the number that the storage would give it.
  std::erase_if(trials, [&](const Trial& t) {
    return t.state == TrialState::running && t.number != trial.number && t.configuration == trial.configuration;
  });
  const auto at = std::find_if(trials.begin(), trials.end(), [&](const Trial& t) { return t.number >= trial.number; });
  if (at != trials.end() && at->number == trial.number) {
    *at = trial;
  } else {
    trials.insert(at, trial);
  }
}

}  // namespace haqa
