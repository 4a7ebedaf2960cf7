#include "haqa/cli/training_rounds.h"

#include <fmt/format.h>

#include "haqa/base/error.h"
#include "haqa/base/text.h"
#include "haqa/finetune/image_objective.h"
#include "haqa/report/findings.h"

namespace haqa {
namespace {

std::string describe_round(const Trial& t, const Configuration& defaults) {
  const std::string changed = changes(Part(defaults), Part(t.configuration));
  const std::string what = changed.empty() ? "the defaults" : changed;
  if (!t.value)
    return one_line(fmt::format("round {}: failed ({}): {} [{}: {}]", t.number + 1, to_string(t.reason), what,
                                t.proposed_by, t.message),
                    1000);
  const Json error = t.metrics.value("error", Json());
  const bool images = t.metrics.contains("images_per_second");
  return one_line(fmt::format("round {}: accuracy {:.2f}{} %, {:.0f} {}: {} [{}]", t.number + 1, 100 * *t.value,
                              error.is_number() ? fmt::format(" ± {:.2f}", 100 * error.get<double>()) : "",
                              t.metrics.value(images ? "images_per_second" : "tokens_per_second", 0.0),
                              images ? "images/s" : "tokens/s", what, t.proposed_by),
                  1000);
}

}  // namespace

std::function<void(std::string_view, double)> shown_by(Progress& progress) {
  return [&progress](std::string_view what, double share) { progress.update(share, what); };
}

Json TrainingRounds::accuracy_of(const std::string& step, const std::function<Json()>& measure) {
  return log_.once(step, [&] {
    progress_.step(fmt::format("accuracy of {}", step));
    const Json found = measure();
    const Json& error = found.at("error");
    progress_.done(fmt::format("accuracy of {}: {:.2f}{} %", step, 100 * found.at("mean").get<double>(),
                               error.is_number() ? fmt::format(" ± {:.2f}", 100 * error.get<double>()) : ""));
    if (const std::string skipped = describe_skipped(found); !skipped.empty()) progress_.note(skipped);
    return found;
  });
}

/// A ranking of rounds is of one model, one set of examples and the same questions.
void TrainingRounds::require_same_inputs() {
  const Json now = objective().fingerprints();
  const std::vector<Json> began = log_.events("inputs");
  if (began.empty()) return log_.add_event("inputs", {{"files", now}});
  const Json before = began.front()["files"];
  for (const auto& [file, hash] : before.items())
    if (now.value(file, Json()) != hash)
      throw Error("{}: is not what it was when {} began; bring it back, or begin a new run", file,
                  log_.folder().string());
  for (const auto& [file, hash] : now.items())
    if (!before.contains(file))
      throw Error("{}: was not there when {} began; take it away, or begin a new run", file, log_.folder().string());
}

void TrainingRounds::finish_round(const Trial& trial) {
  const Configuration defaults = track_.space.defaults();
  progress_.done(describe_round(trial, defaults));
  if (const std::string note = trial.metrics.value("examples", ""); trial.number == 0 && !note.empty())
    progress_.note(note);
  std::vector<Configuration> kept = {defaults};
  if (const Trial* so_far = best()) kept.push_back(so_far->configuration);
  objective().keep_only(kept);
}

const Trial* TrainingRounds::best() const {
  return best_trial(trials_, Direction::maximize);
}

void TrainingRounds::require_best() const {
  if (!best())
    throw Error("no round gave a model; the last: {}; see {}", trials_.back().message,
                (log_.folder() / "log.jsonl").string());
}

Json TrainingRounds::summary() const {
  const Trial* found = best();
  Json trials = Json::array();
  for (const Trial& t : trials_) trials.push_back(to_json(t));
  return {{"track", {{"name", track_.name}, {"value_name", track_.value_name}, {"direction", "maximize"}}},
          {"base_validation", before_},
          {"trials", std::move(trials)},
          {"best", found ? Json(found->number) : Json(nullptr)}};
}

}  // namespace haqa
