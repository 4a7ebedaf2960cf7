#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "haqa/agent/agent_sampler.h"

namespace haqa {

/// The paper's agent over all tracks of a study: it sees all in one prompt and answers for all of them at once. The
/// first track that asks in a round starts the exchange; the others' configurations wait until they ask in the same
/// round. A track whose entry stays unusable falls back to a surrogate of its own, the others keep the agent's.
class JointAgent {
 public:
  /// Throws std::invalid_argument where a track has no name or two have the same.
  JointAgent(ChatProvider& provider, Prompts prompts, AgentOptions options, std::vector<Track> tracks,
             std::function<void(const AgentEvent&)> on_event = {});
  ~JointAgent();
  JointAgent(const JointAgent&) = delete;
  JointAgent& operator=(const JointAgent&) = delete;

  /// The sampler of one track, by its place among the constructor's; valid as long as this. A study tells and asks it
  /// as ever; what the other tracks' samplers were told is in the prompt.
  std::unique_ptr<Sampler> sampler(size_t track);

 private:
  class Part;
  struct OnTrack;
  Proposal ask(size_t track, std::span<const Trial> trials, int rounds_left);
  void tell(size_t track, const Trial& trial);
  void decide(int rounds);

  Agent agent_;
  std::vector<OnTrack> tracks_;
};

}  // namespace haqa
