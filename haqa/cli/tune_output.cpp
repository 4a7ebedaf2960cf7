#include <fmt/format.h>

#include "haqa/base/text.h"
#include "haqa/cli/tune.h"
#include "haqa/report/findings.h"

namespace haqa {
namespace {

std::string value_text(const Track& track, const Trial& t) {
  std::string text = fmt::format("{} {:.6g}", track.value_name, *t.value);
  for (size_t i = 0; i < t.more_values.size() && i < track.more_goals.size(); ++i)
    text += fmt::format(", {} {:.6g}", track.more_goals[i].value_name, t.more_values[i]);
  return text;
}

Json to_json(const TuneOptions& o, const Track& track, const CommandObjective& objective, const TuneResult& result) {
  const auto goal = [](const std::string& name, Direction d) {
    return Json{{"name", name}, {"direction", to_string(d)}};
  };
  Json json = {{"study", result.study},
               {"space", o.command.space.string()},
               {"command", o.command.command},
               {"sampler", o.sampler},
               {"seed", o.seed},
               {"goals", {goal(track.value_name, track.direction)}},
               {"stopped", result.stop},
               {"best", nullptr},
               {"trials", Json::array()}};
  for (const Goal& g : track.more_goals) json["goals"].push_back(goal(g.value_name, g.direction));
  if (const Trial* best = best_trial(result.trials, track.direction)) {
    json["best"] = {{"number", best->number}, {"value", *best->value}, {"configuration", best->configuration}};
    if (!best->more_values.empty()) json["best"]["more_values"] = best->more_values;
    json["best"]["command"] = o.command.repeating(objective, best->configuration);
  }
  for (const Trial& t : result.trials) json["trials"].push_back(to_json(t));
  return json;
}

void print_text(const TuneOptions& o, const Track& track, const CommandObjective& objective, const TuneResult& result) {
  const Trial* best = best_trial(result.trials, track.direction);
  if (!best) return;
  const Configuration default_values = track.space.defaults();
  std::string defaults = "not tried";
  for (const Trial& t : result.trials)
    if (t.fits && t.configuration == default_values && t.reason != FailReason::interrupted) {
      defaults = t.value ? fmt::format("{:.6g}", *t.value) : "failed";
      break;
    }
  fmt::print("Best: {} in round {} of {}; the defaults: {}\n", value_text(track, *best), best->number + 1,
             result.trials.back().number + 1, defaults);
  const Configuration shown = with_short_texts(best->configuration);
  for (const auto& [name, value] : shown.items()) fmt::print("  {:<24} {}\n", name, one_line(argument(value), 1000));
  fmt::print("Command: {}\nStopped: {}.\n", printable(o.command.repeating(objective, best->configuration)),
             result.stop);
  if (o.storage != "memory") fmt::print("Study: {}; with more --rounds the same command goes on.\n", result.study);
}

}  // namespace

std::string describe(const Track& track, const Trial& t, const Trial* best) {
  const Configuration defaults = track.space.defaults();
  std::string changed = changes(Part(defaults), Part(t.configuration));
  if (changed.empty()) changed = "the defaults";
  if (t.state == TrialState::failed)
    return fmt::format("round {}: failed ({}): {} [{}: {}]", t.number + 1, to_string(t.reason), changed, t.proposed_by,
                       t.message);
  std::string state = value_text(track, t);
  if (t.state == TrialState::pruned) state = "given up at " + state;
  if (best) state += fmt::format(", best {:.6g}", *best->value);
  return fmt::format("round {}: {}: {} [{}]", t.number + 1, state, changed, t.proposed_by);
}

void print_result(const TuneOptions& o, const Track& track, const CommandObjective& objective,
                  const TuneResult& result) {
  if (o.json) {
    fmt::print("{}\n", to_json(o, track, objective, result).dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    print_text(o, track, objective, result);
  }
}

}  // namespace haqa
