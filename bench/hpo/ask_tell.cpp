// Our samplers for programs in other languages: one JSON object a line in, one out.
//   {"start": {"space": {...}, "sampler": "bayesian", "seed": 3, "direction": "maximize", "rounds": 50}}
//     -> {"started": NAME}
//   {"ask": true} -> {"configuration": {...}, "seconds": what the sampler took}
//   {"tell": {"value": 0.71}} or {"tell": {"failed": "out_of_memory"}} -> {"told": trials so far}
// Whatever goes wrong is answered by {"error": "..."}. A space is written as in data/spaces; the first ask gives the
// defaults. Another start begins a new study.
#include <chrono>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "haqa/agent/expert.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/sampler/registry.h"
#include "haqa/space/space_file.h"

namespace haqa {
namespace {

/// The one place that knows where samplers come from.
std::unique_ptr<Sampler> make_bench_sampler(const std::string& name, uint64_t seed) {
  if (name == "expert") return std::make_unique<ExpertSampler>(data_folder() / "priors", seed);
  return make_sampler(name, seed);
}

SearchSpace space_from(const Json& json) {
  const TemporaryFolder folder;
  std::ofstream(folder / "space.json") << json.dump();
  return read_space(folder / "space.json");
}

FailReason reason_from(const std::string& text) {
  for (const FailReason reason : {FailReason::out_of_memory, FailReason::timed_out, FailReason::crashed,
                                  FailReason::wrong_result, FailReason::quality_loss})
    if (text == to_string(reason)) return reason;
  return FailReason::crashed;
}

struct BenchStudy {
  Track track;
  std::unique_ptr<Sampler> sampler;
  std::vector<Trial> trials;
  std::optional<Proposal> asked;
  int rounds;

  explicit BenchStudy(const Json& start)
      : track{start.value("name", "bench"),
              space_from(start.at("space")),
              start.at("direction") == "maximize" ? Direction::maximize : Direction::minimize,
              start.value("value_name", "value"),
              start.value("brief", ""),
              {}},
        sampler(make_bench_sampler(start.at("sampler"), start.at("seed"))),
        rounds(start.value("rounds", 50)) {}

  Json ask() {
    const auto begin = std::chrono::steady_clock::now();
    if (trials.empty())
      asked = Proposal{track.space.defaults(), "default", "", {}};
    else
      asked = sampler->ask(track, trials, rounds - static_cast<int>(trials.size()));
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (const auto problem = track.space.problem(asked->configuration)) throw Error("invalid proposal: {}", *problem);
    return {{"configuration", asked->configuration}, {"seconds", seconds}, {"proposed_by", asked->proposed_by}};
  }

  Json tell(const Json& result) {
    if (!asked) throw Error("tell before ask");
    Trial trial;
    trial.number = static_cast<int>(trials.size());
    trial.configuration = asked->configuration;
    trial.proposed_by = asked->proposed_by;
    trial.thought = asked->thought;
    if (result.contains("failed")) {
      trial.state = TrialState::failed;
      trial.reason = reason_from(result["failed"]);
      trial.message = result["failed"];
    } else {
      trial.value = result.at("value").get<double>();
    }
    asked.reset();
    trials.push_back(std::move(trial));
    sampler->tell(track, trials.back());
    return {{"told", trials.size()}};
  }
};

Json answer(const Json& request, std::optional<BenchStudy>& study) {
  if (request.contains("start")) {
    study.reset();
    study.emplace(request["start"]);
    return {{"started", request["start"]["sampler"]}};
  }
  if (!study) throw Error("start a study first");
  return request.contains("tell") ? study->tell(request["tell"]) : study->ask();
}

}  // namespace
}  // namespace haqa

int main() {
  std::optional<haqa::BenchStudy> study;
  for (std::string line; std::getline(std::cin, line);) {
    haqa::Json reply;
    try {
      reply = haqa::answer(haqa::Json::parse(line), study);
    } catch (const std::exception& e) {
      reply = {{"error", e.what()}};
    }
    std::cout << reply.dump() << std::endl;
  }
}
