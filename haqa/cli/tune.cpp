#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <chrono>

#include "haqa/base/bytes.h"
#include "haqa/base/progress.h"
#include "haqa/base/text.h"
#include "haqa/cli/agent_setup.h"
#include "haqa/cli/command_options.h"
#include "haqa/cli/commands.h"
#include "haqa/cli/facts.h"
#include "haqa/cli/trial_source.h"
#include "haqa/report/findings.h"
#include "haqa/sampler/warm_start.h"
#include "haqa/storage/storage.h"
#include "haqa/study/pruner.h"
#include "haqa/study/study.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

struct TuneOptions {
  CommandFlags command;
  std::string sampler = "expert", pruner = "none", study, storage = "sqlite:///haqa.db";
  int rounds = 10;
  double max_seconds = 0, max_tokens = 0, max_money = 0, stop_early = 0;
  std::vector<std::string> warm_start;
  AgentTask agent;
  fs::path output;
  uint64_t seed = 1;
  bool json = false, quiet = false;
};

/// By default a study is that of a space, a command and its values: the space's name, and a number that tells the
/// others apart. Source of the number: FNV-1a, draft-eastlake-fnv, as std::hash may differ from one build to the next.
std::string study_name(const TuneOptions& o) {
  if (!o.study.empty()) return o.study;
  std::string what = o.command.command;
  for (const std::string& metric : o.command.metrics) what += '\0' + metric;
  uint32_t hash = 2166136261u;
  for (const unsigned char c : what) hash = (hash ^ c) * 16777619u;
  return fmt::format("{}-{:08x}", o.command.space.stem().string(), hash);
}

std::unique_ptr<Storage> open_study_storage(const TuneOptions& o, const Track& track) {
  if (o.storage == "memory") return std::make_unique<MemoryStorage>();
  return open_storage(o.storage, study_name(o), track);
}

/// Where the agent's transcript and the study's page go.
fs::path output_folder(const TuneOptions& o) {
  return o.output.empty() ? fs::path("runs") / study_name(o) : o.output;
}

/// STUDY of the same storage, or URL#STUDY.
std::vector<EarlierTrial> earlier_trials(const TuneOptions& o, const SearchSpace& space, const std::string& where) {
  const size_t hash = where.find("://") == std::string::npos ? std::string::npos : where.rfind('#');
  const std::string url = hash == std::string::npos ? o.storage : where.substr(0, hash);
  const std::string name = hash == std::string::npos ? where : where.substr(hash + 1);
  if (url == "memory") throw UsageError("--warm-start {}: name its database too: URL#STUDY", where);
  const std::vector<Trial> trials = read_trials(url, name);
  Direction direction = Direction::maximize;
  for (const StudySummary& s : list_studies(url))
    if (s.name == name && !s.directions.empty()) direction = s.directions.front();
  std::vector<EarlierTrial> best = best_earlier_trials(space, name, trials, direction);
  if (best.empty()) throw Error("--warm-start {}: no trial of study \"{}\" fits the search space", where, name);
  return best;
}

std::vector<EarlierTrial> earlier_trials(const TuneOptions& o, const SearchSpace& space) {
  std::vector<EarlierTrial> all;
  for (const std::string& where : o.warm_start)
    for (EarlierTrial& e : earlier_trials(o, space, where)) all.push_back(std::move(e));
  return all;
}

/// For the agent's prompt.
std::string told(const std::vector<EarlierTrial>& earlier) {
  std::string text = earlier.empty() ? "" : "\n\nThe best of earlier studies:";
  for (const EarlierTrial& e : earlier)
    text += fmt::format("\n{} (study {}, value {:.6g})", to_line(e.configuration), e.study, e.value);
  return text;
}

std::unique_ptr<Sampler> make_tune_sampler(const TuneOptions& o, std::vector<EarlierTrial> earlier,
                                           Progress& progress) {
  const AgentSetup agent{o.agent, output_folder(o), [&](const std::string& trouble) { progress.note(trouble); }};
  std::unique_ptr<Sampler> sampler = make_named_sampler(o.sampler, o.seed, agent);
  if (earlier.empty()) return sampler;
  return std::make_unique<WarmStartSampler>(std::move(sampler), std::move(earlier));
}

/// The agent's tokens and money, those of earlier calls included: the transcript has them.
Budget spent(const TuneOptions& o, std::chrono::duration<double> time) {
  const Json usage = usage_of(output_folder(o) / "transcript.jsonl", o.agent);
  return {0, time.count(), usage["prompt_tokens"].get<double>() + usage["completion_tokens"].get<double>(),
          usage["cost_usd"].is_number() ? usage["cost_usd"].get<double>() : 0};
}

void require_sense(const TuneOptions& o) {
  require_no_secret(o.agent.endpoint.base_url);
  if (!asks_agent(o.sampler) && (o.max_tokens > 0 || o.max_money > 0))
    throw UsageError("--max-tokens and --max-money are for --sampler agent and hybrid");
  if (o.max_money > 0 && o.agent.price_prompt <= 0 && o.agent.price_completion <= 0)
    throw UsageError("--max-money needs --price-prompt and --price-completion");
}

std::string value_text(const Track& track, const Trial& t) {
  std::string text = fmt::format("{} {:.6g}", track.value_name, *t.value);
  for (size_t i = 0; i < t.more_values.size() && i < track.more_goals.size(); ++i)
    text += fmt::format(", {} {:.6g}", track.more_goals[i].value_name, t.more_values[i]);
  return text;
}

/// "round 3: accuracy 0.91, best 0.93: learning_rate 0.01 [bayesian]"
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

/// What a study came to.
struct TuneResult {
  std::string study, stop;
  std::vector<Trial> trials;
};

Json to_json(const TuneOptions& o, const Track& track, const CommandObjective& objective, const TuneResult& result) {
  const auto goal = [](const std::string& name, Direction d) {
    return Json{{"name", name}, {"direction", d == Direction::maximize ? "maximize" : "minimize"}};
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
    if (t.configuration == default_values) {
      defaults = t.value ? fmt::format("{:.6g}", *t.value) : "failed";
      break;
    }
  fmt::print("Best: {} in round {} of {}; the defaults: {}\n", value_text(track, *best), best->number + 1,
             result.trials.size(), defaults);
  for (const auto& [name, value] : best->configuration.items())
    fmt::print("  {:<24} {}\n", name, one_line(argument(value), 1000));
  fmt::print("Command: {}\nStopped: {}.\n", printable(o.command.repeating(objective, best->configuration)),
             result.stop);
  if (o.storage != "memory") fmt::print("Study: {}; with more --rounds the same command goes on.\n", result.study);
}

void print_result(const TuneOptions& o, const Track& track, const CommandObjective& objective,
                  const TuneResult& result) {
  if (o.json) {
    fmt::print("{}\n", to_json(o, track, objective, result).dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    print_text(o, track, objective, result);
  }
}

void note_unused(const TuneOptions& o, const CommandObjective& objective, Progress& progress) {
  const std::vector<std::string> unused = objective.command().unused();
  if (!o.command.serves && !unused.empty())
    progress.note(fmt::format("note: not in the command, so the program must read $HAQA_CONFIGURATION: {}",
                              fmt::join(unused, ", ")));
}

/// "round 4 of 10, 12 s left"
std::string step_title(const Trial& t, int rounds, int done, std::chrono::duration<double> spent) {
  std::string title = fmt::format("round {} of {}", t.number + 1, rounds);
  if (done > 0) title += fmt::format(", {} left", format_seconds(spent.count() / done * (rounds - t.number)));
  return title;
}

void run_tune(const TuneOptions& o) {
  const CommandOptions command = o.command.options();
  require_sense(o);
  Track track = o.command.track(command);
  CommandObjective objective(track.space, command);
  std::vector<EarlierTrial> earlier = earlier_trials(o, track.space);
  track.brief += told(earlier);
  Progress progress(o.quiet);
  const std::unique_ptr<Sampler> sampler = make_tune_sampler(o, std::move(earlier), progress);
  const std::unique_ptr<Pruner> pruner = make_pruner(o.pruner);
  const std::unique_ptr<Storage> storage = open_study_storage(o, track);
  note_unused(o, objective, progress);

  StudyOptions options;
  options.budget = {o.rounds, o.max_seconds, o.max_tokens, o.max_money};
  options.workers = o.command.workers;
  options.negligible_gain = o.stop_early;
  options.pruner = pruner.get();
  const auto start = std::chrono::steady_clock::now();
  if (asks_agent(o.sampler)) options.spent = [&o, start] { return spent(o, std::chrono::steady_clock::now() - start); };
  int done = 0;
  std::vector<Trial> finished = storage->trials();  // asking it again is not safe while other threads report to it
  options.on_proposal = [&](const Track&, const Trial& t) {
    progress.step(step_title(t, o.rounds, done, std::chrono::steady_clock::now() - start));
  };
  options.on_trial = [&](const Track&, const Trial& t) {
    ++done;
    finished.push_back(t);
    progress.done(one_line(describe(track, t, best_trial(finished, track.direction)), 1000));
  };
  TuneResult result{study_name(o), "interrupted", {}};
  if (!finished.empty())
    progress.note(
        fmt::format("going on with study {}: {} of {} rounds are there", result.study, finished.size(), o.rounds));
  const auto finish = [&] {
    result.trials = storage->trials();
    std::erase_if(result.trials, [](const Trial& t) { return t.state == TrialState::running; });
    print_result(o, track, objective, result);
    if (o.output.empty()) return;
    write_study(o.output, {result.study, track, result.trials},
                importance(track.space, result.trials, track.direction));
    progress.note(fmt::format("{}: study.html and its figures as CSV", one_line(o.output.string())));
  };
  try {
    result.stop = to_string(run_study(std::array{StudyTrack{track, *sampler, objective, *storage}}, options));
  } catch (const Interrupted&) {
    progress.done();
    finish();
    throw Interrupted("interrupted after {} of {} rounds{}", result.trials.size(), o.rounds,
                      o.storage == "memory" ? "" : "; the same command goes on");
  }
  finish();
  if (!best_trial(result.trials, track.direction))
    throw Error("no round gave a value; the last: {}",
                result.trials.empty() ? "there was none" : result.trials.back().message);
}

void add_study_options(CLI::App& command, TuneOptions& o) {
  command.add_option("--rounds", o.rounds, "Trials of the study in all, the first of which runs the defaults")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command.add_option("--max-seconds", o.max_seconds, "Begin no trial after this time")->check(CLI::PositiveNumber);
  command
      .add_option("--sampler", o.sampler,
                  fmt::format("Who proposes: {}, human:FILE", fmt::join(named_samplers(), ", ")))
      ->capture_default_str();
  command.add_option("--seed", o.seed, "Seed of the sampler")->capture_default_str();
  command
      .add_option("--pruner", o.pruner, "Give up hopeless trials that report values on the way: none, median or asha")
      ->capture_default_str();
  command
      .add_option("--stop-early", o.stop_early,
                  "Stop where less than this share of the spread of values so far is expected to be gained")
      ->type_name("SHARE")
      ->check(CLI::Range(0.0, 1.0));
  add_agent_options(command, o.agent, {"expert", "openai", "manual"});
  command.add_option("--replay", o.agent.replay, "Take the agent's answers from a transcript.jsonl")
      ->type_name("FILE")
      ->check(CLI::ExistingFile);
  command.add_option("--max-tokens", o.max_tokens, "Ask the agent no more after these tokens, in and out together")
      ->check(CLI::PositiveNumber);
  command.add_option("--max-money", o.max_money, "Nor after these US dollars")->check(CLI::PositiveNumber);
  command.add_option("--price-prompt", o.agent.price_prompt, "US dollars per million tokens in")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--price-completion", o.agent.price_completion, "US dollars per million tokens out")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--warm-start", o.warm_start,
                  "Try the best three of an earlier study after the defaults; of another database: URL#STUDY")
      ->type_name("STUDY")
      ->allow_extra_args(false)
      ->check(not_empty);
  command
      .add_option("-o,--output", o.output,
                  "Folder for study.html, its figures as CSV and the agent's transcript (else runs/STUDY has that)")
      ->type_name("FOLDER")
      ->check(not_empty);
  command.add_option("--study", o.study, "Name of the study (default: from the space and the command)")
      ->check(not_empty);
  command
      .add_option("--storage", o.storage,
                  "Database of studies: sqlite:///FILE, postgresql://... (docs/storage.md), or memory for none")
      ->type_name("URL")
      ->check(not_empty)
      ->capture_default_str();
}

}  // namespace

void add_tune(CLI::App& app) {
  auto o = std::make_shared<TuneOptions>();
  CLI::App* command = app.add_subcommand("tune", "Tune any program: its command line, and where its value is found");
  o->command.add_to(*command, /*required=*/true);
  add_study_options(*command, *o);
  command->add_flag("--json", o->json, "Print JSON; see docs/json.md");
  command->add_flag("-q,--quiet", o->quiet, "No progress on standard error");
  command->footer(
      "A trial that fails, hangs or prints no number is kept as failed, with the reason; the study goes on. Exit "
      "status "
      "1 where none gave a value.\n\n"
      "Examples:\n"
      "  haqa tune --space space.yaml --command './train.py --lr {learning_rate} --batch {batch_size}' \\\n"
      "    --metric 'accuracy=(\\S+)' --direction maximize --timeout 600\n"
      "  haqa tune --space flags.yaml --command 'cc -O{level} -o {folder}/a.out a.c && {folder}/a.out' \\\n"
      "    --metric json:seconds --direction minimize --rounds 30 --sampler random\n"
      "  haqa tune --space space.yaml --command './train.py --lr {learning_rate}' --metric json:loss \\\n"
      "    --direction minimize --sampler agent --agent openai --agent-model gpt-4o --output study\n"
      "  haqa tune --space space.yaml --command ./serve.py --worker --workers 2 --pruner median \\\n"
      "    --metric accuracy:maximize=json:accuracy --metric bytes:minimize=json:bytes");
  command->callback([o] { run_tune(*o); });
}

}  // namespace haqa
