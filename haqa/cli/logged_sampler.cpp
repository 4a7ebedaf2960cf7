#include "haqa/cli/logged_sampler.h"

#include <fmt/format.h>

#include <algorithm>

#include "haqa/cli/agent_setup.h"

namespace haqa {

class LoggedSamplers::One : public Sampler {
 public:
  One(LoggedSamplers& all, const Track& of, Sampler& asked, Storage& stored)
      : track(of), inner(asked), storage(stored), all_(all) {}
  Proposal ask(const Track&, std::span<const Trial> trials, int rounds_left) override {
    return all_.ask(track, track.rounds_with(trials.size()), rounds_left);
  }
  void tell(const Track&, const Trial& trial) override { inner.tell(track, trial); }

  const Track& track;
  Sampler& inner;
  Storage& storage;

 private:
  LoggedSamplers& all_;
};

LoggedSamplers::LoggedSamplers(RunLog& log) : log_(log) {}
LoggedSamplers::~LoggedSamplers() = default;

Sampler& LoggedSamplers::add(const Track& track, Sampler& inner, Storage& storage) {
  return *all_.emplace_back(std::make_unique<One>(*this, track, inner, storage));
}

Proposal LoggedSamplers::ask(const Track& track, int round, int rounds_left) {
  const Json asked = log_.once(fmt::format("proposal:{}", round), [&] {
    Json proposals = Json::object();
    for (const auto& one : all_) {
      const std::vector<Trial> trials = one->storage.trials();
      if (one->track.rounds_with(trials.size()) != round) continue;  // it has had this round
      const Proposal p = one->inner.ask(one->track, trials, rounds_left);
      proposals[one->track.name] = {
          {"configuration", p.configuration}, {"proposed_by", p.proposed_by}, {"thought", p.thought}};
      if (!p.metrics.empty()) proposals[one->track.name]["metrics"] = p.metrics;
    }
    return Json{{"tracks", proposals}, {"exchanges", lines_of(log_.folder() / "transcript.jsonl")}};
  });
  const Json& p = asked.at("tracks").at(track.name);
  Proposal proposal{p["configuration"], p["proposed_by"], p["thought"], {}};
  proposal.metrics = p.value("metrics", Json::object());
  return proposal;
}

}  // namespace haqa
