#include "haqa/cli/tune.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>

#include "haqa/base/bytes.h"
#include "haqa/base/file.h"
#include "haqa/base/file_name.h"
#include "haqa/base/progress.h"
#include "haqa/base/text.h"
#include "haqa/cli/agent_setup.h"
#include "haqa/cli/commands.h"
#include "haqa/cli/facts.h"
#include "haqa/cli/trial_source.h"
#include "haqa/report/findings.h"
#include "haqa/sampler/warm_start.h"
#include "haqa/storage/storage.h"
#include "haqa/study/evaluations.h"
#include "haqa/study/pruner.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

/// By default a study is that of a space, a command and its values: the space's name, and a number that tells the
/// others apart.
std::string study_name(const TuneOptions& o) {
  if (!o.study.empty()) return o.study;
  std::string what = o.command.command;
  for (const std::string& metric : o.command.metrics) what += '\0' + metric;
  return fmt::format("{}-{:08x}", o.command.name(), fnv1a_32(what));
}

std::unique_ptr<Storage> open_study_storage(const TuneOptions& o, const Track& track) {
  if (o.storage == "memory") return std::make_unique<MemoryStorage>();
  return open_storage(o.storage, study_name(o), track);
}

/// Where the agent's transcript is; studies that nobody keeps have one each.
fs::path agent_folder(const TuneOptions& o) {
  if (!o.output.empty()) return o.output;
  const std::string name = as_file_name(study_name(o));
  return o.storage == "memory" ? new_folder(name) : fs::path("runs") / name;
}

/// The answers and tokens of another study, as where the database was deleted, are not this one's: they are moved into
/// a folder beside. Gives where the transcript to replay is then.
fs::path set_former_study_aside(const TuneOptions& o, const fs::path& folder) {
  const fs::path transcript = folder / "transcript.jsonl";
  if (!fs::exists(transcript)) return o.agent.replay;
  try {
    const LineFile nobody_writes_it(transcript);
  } catch (const Error& e) {
    throw Error("{} by --output", e.what());
  }
  if (o.storage != "memory" && has_trials(o.storage, study_name(o))) return o.agent.replay;
  const bool replayed = !o.agent.replay.empty() && fs::equivalent(o.agent.replay, transcript);
  std::vector<fs::path> former;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name == "transcript.jsonl" || name.starts_with("prompt-") || name.starts_with("answer-"))
      former.push_back(entry.path());
  }
  fs::path aside = folder / new_folder("former").filename();
  while (fs::exists(aside)) aside += "-again";
  make_folder(aside);
  for (const fs::path& file : former) fs::rename(file, aside / file.filename());
  return replayed ? aside / transcript.filename() : o.agent.replay;
}

/// STUDY of the same storage, or URL#STUDY.
std::vector<EarlierTrial> earlier_trials(const TuneOptions& o, const SearchSpace& space, const std::string& where) {
  const size_t hash = where.find("://") == std::string::npos ? std::string::npos : where.rfind('#');
  const std::string url = hash == std::string::npos ? o.storage : where.substr(0, hash);
  const std::string name = hash == std::string::npos ? where : where.substr(hash + 1);
  if (url == "memory") throw UsageError("--warm-start {}: name its database too: URL#STUDY", where);
  const StoredStudy study = read_study(url, name);
  const Direction direction = study.goals.empty() ? Direction::maximize : study.goals.front().direction;
  std::vector<EarlierTrial> best = best_earlier_trials(space, name, study.trials, direction);
  // Not the URL, which may hold a password.
  if (best.empty()) throw Error("--warm-start: no trial of study \"{}\" fits the search space", name);
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
    text += fmt::format("\n{} (study {}, value {:.6g})", to_line(with_short_texts(e.configuration)), e.study, e.value);
  return text;
}

std::unique_ptr<Sampler> make_tune_sampler(const TuneOptions& o, const fs::path& folder,
                                           std::vector<EarlierTrial> earlier, Progress& progress) {
  AgentSetup agent{o.agent, folder, [&](const std::string& trouble) { progress.note(trouble); }, told(earlier)};
  if (asks_agent(o.sampler)) agent.task.replay = set_former_study_aside(o, folder);
  std::unique_ptr<Sampler> sampler = make_named_sampler(o.sampler, o.seed, agent);
  if (earlier.empty()) return sampler;
  return std::make_unique<WarmStartSampler>(std::move(sampler), std::move(earlier));
}

/// The agent's tokens and money, those of earlier calls included: the transcript has them.
Budget spent(const TuneOptions& o, const fs::path& folder, std::chrono::duration<double> time) {
  const Json usage = usage_of(folder / "transcript.jsonl", o.agent);
  return {0, time.count(), usage["prompt_tokens"].get<double>() + usage["completion_tokens"].get<double>(),
          usage["cost_usd"].is_number() ? usage["cost_usd"].get<double>() : 0};
}

void require_sense(const TuneOptions& o) {
  if (o.stop_early > 0 && o.sampler != "expert" && o.sampler != "bayesian" && !asks_agent(o.sampler))
    throw UsageError("--stop-early needs a sampler that tells what it expects to gain: expert, bayesian or hybrid");
  if (o.pruner != "none" && o.command.metrics.size() > 1)
    throw UsageError(
        "--pruner is for one goal: Optuna cannot go on with pruned trials of several; leave it out, or name "
        "one --metric");
  require_no_secret(o.agent.endpoint.base_url);
  if (!asks_agent(o.sampler) && (o.max_tokens > 0 || o.max_money > 0))
    throw UsageError("--max-tokens and --max-money are for --sampler agent and hybrid");
  if (o.max_money > 0 && o.agent.price_prompt <= 0 && o.agent.price_completion <= 0)
    throw UsageError("--max-money needs --price-prompt and --price-completion");
}

/// Found out before all trials rather than after them.
void require_writable(const fs::path& output) {
  if (output.empty()) return;
  make_folder(output);
  if (access(output.c_str(), W_OK | X_OK) != 0)
    throw Error("--output {}: cannot be written to: {}", one_line(output.string()), std::strerror(errno));
}

void note_unused(const TuneOptions& o, const CommandObjective& objective, Progress& progress) {
  const std::vector<std::string> unused = objective.command().unused();
  if (!o.command.serves && !unused.empty())
    progress.note(fmt::format("note: not in the command, so the program must read $HAQA_CONFIGURATION: {}",
                              fmt::join(unused, ", ")));
}

StudyOptions study_options(const TuneOptions& o, const fs::path& folder, const Pruner* pruner) {
  StudyOptions options;
  options.budget = {o.rounds, o.max_seconds, o.max_tokens, o.max_money};
  options.workers = o.command.workers;
  options.negligible_gain = o.stop_early;
  options.pruner = pruner;
  if (asks_agent(o.sampler))
    options.spent = [&o, folder, start = Clock::now()] { return spent(o, folder, Clock::now() - start); };
  return options;
}

/// Tells of each round on standard error. It keeps trials of its own: asking the storage again is not safe while other
/// threads report to it.
class RoundsShown {
 public:
  RoundsShown(const TuneOptions& o, const Track& track, std::vector<Trial> earlier, Progress& progress)
      : progress_(progress), track_(track), trials_(std::move(earlier)), start_(Clock::now()) {
    const size_t counted = counted_trials(trials_, track.space).size();
    last_ = o.rounds + static_cast<int>(trials_.size() - counted);
    if (!trials_.empty())
      progress_.note(
          fmt::format("going on with study {}: {} of {} rounds are there", study_name(o), counted, o.rounds));
    if (const auto others = std::count_if(trials_.begin(), trials_.end(), [](const Trial& t) { return !t.fits; }))
      progress_.note(
          fmt::format("note: {} of its trials ran in another search space; the sampler hears of them, but none is the "
                      "best of this one",
                      others));
  }

  /// "round 4 of 10, 12 s left"
  void begins(const Trial& t) {
    std::string title = fmt::format("round {} of {}", t.number + 1, std::max(last_, t.number + 1));
    const std::chrono::duration<double> spent = Clock::now() - start_;
    if (done_ > 0 && t.number < last_)
      title += fmt::format(", {} left", format_seconds(spent.count() / done_ * (last_ - t.number)));
    progress_.step(title);
  }
  void ended(const Trial& t) {
    ++done_;
    trials_.push_back(t);
    progress_.done(one_line(describe(track_, t, best_trial(trials_, track_.direction)), 1000));
  }
  const std::vector<Trial>& trials() const { return trials_; }

 private:
  Progress& progress_;
  const Track& track_;
  std::vector<Trial> trials_;
  Clock::time_point start_;
  int last_ = 0, done_ = 0;
};

void write_page(const TuneOptions& o, const Track& track, const TuneResult& result, Progress& progress) {
  if (o.output.empty()) return;
  write_study(o.output, {result.study, track, result.trials}, importance(track.space, result.trials, track.direction));
  progress.note(fmt::format("{}: study.html and its figures as CSV", one_line(o.output.string())));
}

/// Those that ended; those that were shown where the storage is the trouble.
std::vector<Trial> ended_trials(Storage& storage, const RoundsShown& shown) {
  std::vector<Trial> trials;
  try {
    trials = storage.trials();
  } catch (const Error&) {
    trials = shown.trials();
  }
  std::erase_if(trials, [](const Trial& t) { return t.state == TrialState::running; });
  return trials;
}

/// As long as nothing else keeps it from that; what went wrong first is what the user reads.
void show_before_error(const std::function<void()>& show) {
  try {
    show();
  } catch (const std::exception&) {
  }
}

void run_tune(const TuneOptions& o) {
  const CommandOptions command = o.command.options();
  require_sense(o);
  const Track track = o.command.track(command);
  check_sampler(o.sampler, track.space);
  CommandObjective objective(track.space, command);
  require_writable(o.output);
  std::vector<EarlierTrial> earlier = earlier_trials(o, track.space);
  Progress progress(o.quiet);
  const fs::path folder = agent_folder(o);
  const std::unique_ptr<Sampler> sampler = make_tune_sampler(o, folder, std::move(earlier), progress);
  const std::unique_ptr<Pruner> pruner = make_pruner(o.pruner);
  const std::unique_ptr<Storage> storage = open_study_storage(o, track);
  note_unused(o, objective, progress);

  RoundsShown shown(o, track, storage->trials(), progress);
  StudyOptions options = study_options(o, folder, pruner.get());
  options.on_proposal = [&](const Track&, const Trial& t) { shown.begins(t); };
  options.on_trial = [&](const Track&, const Trial& t) { shown.ended(t); };
  TuneResult result{study_name(o), "", {}};
  const auto show = [&](const std::string& stop) {
    progress.done();
    result.stop = stop;
    result.trials = ended_trials(*storage, shown);
    print_result(o, track, objective, result);
    write_page(o, track, result, progress);
  };
  try {
    show(std::string(to_string(run_study(std::array{StudyTrack{track, *sampler, objective, *storage}}, options))));
  } catch (const Interrupted&) {
    show_before_error([&] { show("interrupted"); });
    throw Interrupted("interrupted after {} of {} rounds{}", counted_trials(result.trials, track.space).size(),
                      o.rounds, o.storage == "memory" ? "" : "; the same command goes on");
  } catch (const std::exception&) {
    if (result.stop.empty()) show_before_error([&] { show("an error"); });
    throw;
  }
  if (!best_trial(result.trials, track.direction))
    throw Error("no round gave a value; the last: {}", result.trials.empty() ? "there was none"
                                                       : result.trials.back().fits
                                                           ? result.trials.back().message
                                                           : "it ran in another search space; give more --rounds");
}

void add_search_options(CLI::App& command, TuneOptions& o) {
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
      .add_option(
          "--stop-early", o.stop_early,
          "Stop where the gain expected is less than this share of what the best trial is ahead of the median one")
      ->type_name("SHARE")
      ->check(CLI::Range(0.0, 1.0))
      ->check(not_nan);
}

void add_asking_options(CLI::App& command, TuneOptions& o) {
  add_agent_options(command, o.agent, {"expert", "openai", "manual"});
  command.add_option("--replay", o.agent.replay, "Take the agent's answers from a transcript.jsonl")
      ->type_name("FILE")
      ->check(CLI::ExistingFile);
  command.add_option("--max-tokens", o.max_tokens, "Ask the agent no more after these tokens, in and out together")
      ->check(CLI::PositiveNumber);
  command.add_option("--max-money", o.max_money, "Nor after these US dollars")->check(CLI::PositiveNumber);
  add_price_options(command, o.agent);
}

void add_keeping_options(CLI::App& command, TuneOptions& o) {
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
  add_search_options(*command, *o);
  add_asking_options(*command, *o);
  add_keeping_options(*command, *o);
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
      "    --metric json:accuracy --direction maximize\n"
      "  haqa tune --space space.yaml --command './train.py --lr {learning_rate}' --sampler nsga2 \\\n"
      "    --metric accuracy:maximize=json:accuracy --metric bytes:minimize=json:bytes");
  command->callback([o, command] {
    require_asked(*command, asks_agent(o->sampler));
    run_tune(*o);
  });
}

}  // namespace haqa
