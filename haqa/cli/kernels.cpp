#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/progress.h"
#include "haqa/base/stats.h"
#include "haqa/base/text.h"
#include "haqa/cli/agent_setup.h"
#include "haqa/cli/commands.h"
#include "haqa/cli/facts.h"
#include "haqa/cli/kernel_brief.h"
#include "haqa/cli/kernel_problems.h"
#include "haqa/cli/logged_sampler.h"
#include "haqa/cli/trial_source.h"
#include "haqa/kernel/compiler.h"
#include "haqa/kernel/kernel_objective.h"
#include "haqa/report/kernels_report.h"
#include "haqa/report/run_log.h"
#include "haqa/study/sweep.h"
#include "haqa/worker/worker.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

/// What the command is asked for; written down with the run.
struct KernelsTask {
  std::vector<SuiteEntry> entries;
  std::string title;  ///< "the paper's suite"
  std::string engine = "cpu", sampler = "expert";
  int rounds = 10, rotations = 6, threads = 0;  ///< 0: a thread a core
  double seconds = 0.5;
  uint64_t seed = 1;
  AgentTask agent;
  /// A kernel's prompt holds its source and headers, an observation two more sources: the last and the best.
  KernelsTask() { agent.history.token_budget = 48000; }
};

Json to_json(const KernelsTask& task) {
  Json json = {{"title", task.title},     {"engine", task.engine},       {"sampler", task.sampler},
               {"rounds", task.rounds},   {"rotations", task.rotations}, {"threads", task.threads},
               {"seconds", task.seconds}, {"seed", task.seed},           {"agent", to_json(task.agent)}};
  for (const SuiteEntry& e : task.entries)
    json["kernels"].push_back({{"kernel", e.kernel}, {"type", to_string(e.problem.type)}, {"shape", e.problem.shape}});
  return json;
}

KernelsTask read_kernels_task(const fs::path& file) {
  const Json json = read_json(file);
  KernelsTask task;
  read_agent(YamlMap::load(file).map("agent"), task.agent);
  task.title = json.at("title");
  task.engine = json.at("engine");
  task.sampler = json.at("sampler");
  task.rounds = json.at("rounds");
  task.rotations = json.at("rotations");
  task.threads = json.at("threads");
  task.seconds = json.at("seconds");
  task.seed = json.at("seed");
  for (const Json& e : json.at("kernels"))
    task.entries.push_back({e.at("kernel"), {element_type_from(e.at("type")), e.at("shape").get<Shape>()}});
  return task;
}

std::string title_of(const SuiteEntry& entry) {
  return fmt::format("{} {}", entry.kernel, entry.problem.label());
}

std::string folder_name(const SuiteEntry& entry) {
  return fmt::format("{}-{}-{}", entry.kernel, to_string(entry.problem.type), fmt::join(entry.problem.shape, "x"));
}

/// What a fresh process found wrong with the best variant.
class NotConfirmed : public Error {
 public:
  using Error::Error;
};

/// A kernel's rounds, in a folder and a log of their own.
class KernelRun {
 public:
  KernelRun(const KernelsTask& task, const SuiteEntry& entry, const HardwareProfile& hardware, const fs::path& folder,
            Progress& progress)
      : task_(task),
        entry_(entry),
        folder_(folder),
        progress_(progress),
        log_(fs::exists(folder / "log.jsonl") ? RunLog::resume(folder) : RunLog::create(folder)),
        objective_(kernel_task(hardware), [&progress](double share) { progress.update(share); }),
        track_(make_track()) {}

  Json run() {
    tune();
    Json row = {{"kernel", entry_.kernel}, {"type", to_string(entry_.problem.type)}, {"shape", entry_.problem.shape}};
    row.update(log_.once("confirmed", [&] { return confirm(); }));
    row["rounds"] = log_.finished().size();
    row["track"] = {{"name", track_.name}, {"value_name", track_.value_name}, {"direction", "maximize"}};
    for (const Trial& t : log_.finished()) row["trials"].push_back(haqa::to_json(t));
    write_file(folder_ / "results.t4.json", to_t4(track_, log_.finished()).dump(1) + "\n");
    return row;
  }

 private:
  KernelTask kernel_task(const HardwareProfile& hardware) const {
    KernelTask t;
    t.folder = kernels_folder() / entry_.kernel;
    t.spec = read_kernel_spec(t.folder);
    t.engine = task_.engine;
    t.problem = entry_.problem;
    t.hardware = hardware;
    if (task_.threads > 0) t.hardware.cores = t.hardware.threads = task_.threads;
    t.seconds = task_.seconds;
    t.rotations = task_.rotations;
    t.seed = task_.seed;
    return t;
  }

  const KernelEngine& engine() const { return objective_.task().spec.engines.at(task_.engine); }

  Track make_track() const {
    Track track;
    track.name = title_of(entry_);
    const HardwareProfile& hardware = objective_.task().hardware;
    track.space = machine_space(engine().space, std::max(hardware.cores, hardware.threads),
                                task_.engine == "cpu" ? installed_compilers() : std::vector<std::string>{},
                                asks_agent(task_.sampler));
    track.direction = Direction::maximize;
    track.value_name = "speed-up over llama.cpp's own implementation";
    track.answer_names = engine().answer_names;
    if (asks_agent(task_.sampler)) track.answer_names.push_back({kCode, {kCode}, "code changed"});
    std::vector<std::string> all;
    for (const SuiteEntry& e : task_.entries) all.push_back(title_of(e));
    track.brief = kernel_brief(objective_.task(), track.space.defaults(), task_.title, all);
    return track;
  }

  void tune() {
    AgentSetup agent{task_.agent, folder_, [&](const std::string& trouble) {
                       progress_.note(trouble);
                       log_.add_event("agent", {{"detail", trouble}});
                     }};
    const std::unique_ptr<Sampler> inner = make_named_sampler(task_.sampler, task_.seed, agent);
    LoggedSamplers samplers(log_);
    Sampler& sampler = samplers.add(track_, *inner, log_);
    StudyOptions options;
    options.budget.rounds = task_.rounds;
    options.on_proposal = [&](const Track&, const Trial& t) {
      progress_.step(fmt::format("{}: round {} of {}", track_.name, t.number + 1, task_.rounds));
    };
    options.on_trial = [&](const Track&, const Trial& t) { progress_.done(described(t)); };
    run_study(std::array{StudyTrack{track_, sampler, objective_, log_}}, options);
  }

  std::string described(const Trial& t) const {
    std::string changed = changes(Part(track_.space.defaults()), Part(t.configuration));
    if (changed.empty()) changed = "the defaults";
    if (!t.value)
      return one_line(fmt::format("round {}: failed ({}): {} [{}]", t.number + 1, t.message, changed, t.proposed_by),
                      300);
    return one_line(fmt::format("round {}: {:.3f}x ({:.3f} to {:.3f}), {:.4g} us: {} [{}]", t.number + 1, *t.value,
                                t.metrics.value("speedup_low", *t.value), t.metrics.value("speedup_high", *t.value),
                                t.metrics.value("latency_us", 0.0), changed, t.proposed_by),
                    300);
  }

  /// The best variant, built anew and measured afresh: what a fresh process does not confirm makes place for the next.
  Json confirm() {
    std::vector<const Trial*> ranked;
    for (const Trial& t : log_.finished())
      if (has_finite_value(t)) ranked.push_back(&t);
    std::stable_sort(ranked.begin(), ranked.end(),
                     [](const Trial* a, const Trial* b) { return *a->value > *b->value; });
    std::string fault = log_.finished().empty() ? "nothing was tried" : log_.finished().front().message;
    for (const Trial* trial : ranked) {
      progress_.step(fmt::format("{}: confirming round {}", track_.name, trial->number + 1));
      try {
        Json row = row_of(*trial, faultless(objective_.confirm(trial->configuration, {"ggml", "default", "read"})));
        progress_.done(fmt::format("{}: {:.3f}x ({:.3f} to {:.3f}), {:.4g} us", track_.name,
                                   row["speedup"].get<double>(), row["speedup_low"].get<double>(),
                                   row["speedup_high"].get<double>(), row["tuned_us"].get<double>()));
        return row;
      } catch (const NotConfirmed& e) {
        fault = e.what();
      } catch (const WorkerError& e) {
        fault = e.what();
      }
      progress_.done(fmt::format("round {} is not confirmed: {}", trial->number + 1, one_line(fault)));
    }
    return {{"failed", fault}};
  }

  /// A variant that had a fault once is none.
  static Json faultless(Json found) {
    if (found.contains("fault"))
      throw NotConfirmed("{}: {}", found["fault"].get<std::string>(), found.value("message", ""));
    return found;
  }

  /// A measurement that a row can do without; null where the judge says that its baseline could not be measured.
  Json besides(const Configuration& configuration, const std::vector<std::string>& against, bool cold) {
    try {
      return faultless(objective_.confirm(configuration, against, cold));
    } catch (const WorkerError& e) {
      if (e.end != ProcessEnd::exited) throw;
      progress_.note(fmt::format("{} beside {}: {}", track_.name, against.front(), one_line(e.what())));
      return nullptr;
    }
  }

  Json row_of(const Trial& trial, const Json& found) {
    const Json& times = found.at("times");
    // Where tuning gained nothing beyond the noise, what ships stays.
    const Estimate gain = estimate_median(paired_ratios(times["default"], times["variant"]));
    const bool is_default = trial.configuration == track_.space.defaults() || !(gain.low > 1);
    const Json& best = times[is_default ? "default" : "variant"];
    const bool cold = objective_.task().spec.is_cold;
    const Configuration configuration = is_default ? track_.space.defaults() : trial.configuration;
    Json row = {{"baseline_us", times["ggml"]["us"]},
                {"tuned_us", best["us"]},
                {"speedup", best["ratio"]},
                {"speedup_low", best["low"]},
                {"speedup_high", best["high"]},
                {"over_default", is_default ? 1.0 : gain.median},
                {"is_default", is_default},
                {"code_changed", !configuration.value(kCode, "").empty()},
                {"round", is_default ? 1 : trial.number + 1},
                {"configuration", configuration}};
    // A device's rates are not known.
    if (task_.engine == "cpu") row["roofline_share"] = roofline_share(times, best);
    if (found.contains("device")) row["device"] = found["device"];
    if (times.contains("read")) row["reading_alone"] = times["read"]["ratio"];  // what a speed-up can hardly pass
    for (const char* key : {"busy", "disturbed", "drift", "packed_bytes", "partly_cold", "no_landlock"})
      if (found.contains(key)) row[key] = found[key];
    row[cold ? "cold" : "hot"] = {{"us", best["us"]}, {"ratio", best["ratio"]}};
    const Json other = besides(configuration, {"ggml"}, !cold);
    if (!other.is_null())
      row[cold ? "hot" : "cold"] = {{"us", other["us"]}, {"ratio", other["times"]["variant"]["ratio"]}};
    // By itself, as its threads spin on for long.
    if (entry_.kernel == "matmul")
      if (const Json library = besides(configuration, {"openblas"}, cold);
          library.is_object() && library["times"].contains("openblas"))
        row["over_openblas"] = library["times"]["variant"]["ratio"];
    for (const auto& [name, time] : times.items()) row["samples_us"][name] = time.at("samples_us");
    row["files"] = write_files(row);
    return row;
  }

  /// How many times as fast the second is, rotation by rotation.
  static std::vector<double> paired_ratios(const Json& slow, const Json& fast) {
    std::vector<double> ratios;
    for (size_t i = 0; i < fast.at("samples_us").size(); ++i)
      ratios.push_back(slow["samples_us"][i].get<double>() / fast["samples_us"][i].get<double>());
    return ratios;
  }

  /// Of weights from main memory what reading them alone took in the same rotations; else what this machine's rates
  /// say.
  double roofline_share(const Json& times, const Json& best) const {
    const bool cold = objective_.task().spec.is_cold;
    if (!cold || !times.contains("read"))
      return roofline_seconds(objective_.task(), cold) * 1e6 / best["us"].get<double>();
    const double arithmetic = arithmetic_seconds(objective_.task()) * 1e6 / best["us"].get<double>();
    return std::max(arithmetic, median(paired_ratios(times["read"], best)));
  }

  /// The variant as it was measured: its source with its parameters and the evidence.
  Json write_files(const Json& row) {
    const std::string own = row["configuration"].value(kCode, "");
    const fs::path source = folder_ / ("kernel" + engine().source.extension().string());
    write_file(source, own.empty() ? read_file(engine().source) : own);
    Json variant = {{"kernel", entry_.kernel},
                    {"type", to_string(entry_.problem.type)},
                    {"shape", entry_.problem.shape},
                    {"engine", task_.engine},
                    {"device", row.value("device", objective_.task().hardware.name)},
                    {"instruction_sets", objective_.task().hardware.instruction_sets},
                    {"parameters", row["configuration"]},
                    {"source", source.filename().string()},
                    {"evidence", row}};
    variant["parameters"].erase(kCode);
    variant["evidence"].erase("configuration");
    write_file(folder_ / "variant.json", variant.dump(2) + "\n");
    return {{"source", source.string()}, {"variant", (folder_ / "variant.json").string()}};
  }

  const KernelsTask& task_;
  const SuiteEntry& entry_;
  const fs::path folder_;
  Progress& progress_;
  RunLog log_;
  KernelObjective objective_;
  Track track_;
};

/// Of a kernel that cannot be measured, too large perhaps, a row that says why: the others are measured all the same.
Json row_for(const KernelsTask& task, const SuiteEntry& entry, const HardwareProfile& hardware, const fs::path& folder,
             Progress& progress) {
  const auto failed = [&](const Error& e) {
    progress.note(fmt::format("{}: {}", title_of(entry), one_line(e.what())));
    return Json{{"kernel", entry.kernel},
                {"type", to_string(entry.problem.type)},
                {"shape", entry.problem.shape},
                {"failed", e.what()}};
  };
  try {
    return KernelRun(task, entry, hardware, folder, progress).run();
  } catch (const WorkerError& e) {
    return failed(e);
  } catch (const UsageError& e) {
    return failed(e);
  }
}

Json run_all(const KernelsTask& task, RunLog& log, const std::string& command, Progress& progress) {
  log.add_event("start", {{"kind", kKernelsKind}, {"command", command}, {"task", to_json(task)}});
  const Json hardware = log.once("hardware", [&] {
    progress.step("measuring this machine");
    const Json found = to_json(measure_hardware());
    progress.done(describe(profile_from_json(found)));
    return found;
  });
  Json summary = {{"haqa_version", HAQA_VERSION}, {"kind", kKernelsKind},
                  {"command", command},           {"started", log.events("start").front()["time"]},
                  {"task", to_json(task)},        {"hardware", hardware},
                  {"kernels", Json::array()}};
  for (const SuiteEntry& entry : task.entries)
    summary["kernels"].push_back(
        row_for(task, entry, profile_from_json(hardware), log.folder() / folder_name(entry), progress));
  summary["seconds"] = log.seconds();
  write_file(log.folder() / "report.html", kernels_page(summary, chart_js()));
  write_file(log.folder() / "summary.json", summary.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  return summary;
}

/// The rows alone: what `--json` prints.
Json rows_of(const Json& summary) {
  Json rows = Json::array();
  for (Json row : summary.at("kernels")) {
    for (const char* key : {"trials", "track", "samples_us"}) row.erase(key);
    rows.push_back(std::move(row));
  }
  return rows;
}

void print_outcome(const Json& summary, const RunFlags& flags, const fs::path& folder) {
  if (flags.json) {
    fmt::print("{}\n", rows_of(summary).dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    fmt::print("{}\nreport: {}\n", kernels_text(summary), (folder / "report.html").string());
  }
}

void run_logged(const KernelsTask& task, RunLog& log, const std::string& command, const RunFlags& flags) {
  Progress progress(flags.quiet);
  try {
    const Json summary = run_all(task, log, command, progress);
    print_outcome(summary, flags, log.folder());
    const Json& rows = summary.at("kernels");
    if (std::none_of(rows.begin(), rows.end(), [](const Json& row) { return row.contains("speedup"); }))
      throw Error("no kernel could be measured: {}", one_line(rows.front().value("failed", "")));
  } catch (const Interrupted&) {
    throw Interrupted("interrupted; what was finished is kept: go on with haqa kernels --resume {}",
                      log.folder().string());
  } catch (const NoSpaceError& e) {
    throw NoSpaceError("{}; then go on with haqa kernels --resume {}", e.what(), log.folder().string());
  }
}

bool has_source(const SuiteEntry& entry, const std::string& engine) {
  const KernelSpec spec = read_kernel_spec(kernels_folder() / entry.kernel);
  const auto found = spec.engines.find(engine);
  if (found == spec.engines.end()) return false;
  const std::vector<ElementType>& types = found->second.types;
  return types.empty() || std::find(types.begin(), types.end(), entry.problem.type) != types.end();
}

/// Everything that can be wrong with the request, before anything is measured.
void check_task(const KernelsTask& task) {
  if (task.entries.empty()) throw UsageError("no kernel is left to tune; see haqa kernels --list");
  std::optional<UsageError> unfit;  // one of many becomes a row that failed
  size_t fit = 0;
  for (const SuiteEntry& entry : task.entries) {
    const KernelSpec spec = read_kernel_spec(kernels_folder() / entry.kernel);
    if (!spec.engines.contains(task.engine))
      throw UsageError("{}: there is no source for {}", entry.kernel, task.engine);
    if (!has_source(entry, task.engine))
      throw UsageError("{}: {} has no source for {}", entry.kernel, task.engine, to_string(entry.problem.type));
    try {
      tensors_of(spec, entry.problem);
      ++fit;
    } catch (const UsageError& e) {
      if (!unfit) unfit = e;
    }
  }
  if (fit == 0) throw *unfit;
  if (const auto unknown = unknown_sampler(task.sampler)) throw UsageError("--sampler: {}", *unknown);
}

void start(KernelsTask task, const RunFlags& flags) {
  check_task(task);
  if (task.engine == "cpu" && installed_compilers().empty()) {
    Progress(flags.quiet)
        .note("no C++ compiler is installed (apt-get install g++): only the prebuilt defaults are measured");
    task.rounds = 1;
  }
  const fs::path folder = flags.output.empty() ? new_folder("kernels") : flags.output;
  RunLog log = RunLog::create(folder);
  write_file(folder / "task.json", to_json(task).dump(2) + "\n");
  run_logged(task, log, "haqa kernels --resume " + folder.string(), flags);
}

void resume(const fs::path& folder, const RunFlags& flags) {
  require_kind(folder, kKernelsKind);
  if (fs::exists(folder / "summary.json")) return print_outcome(read_summary(folder), flags, folder);
  RunLog log = RunLog::resume(folder);
  run_logged(read_kernels_task(folder / "task.json"), log, "haqa kernels --resume " + folder.string(), flags);
}

/// Each once, in the suite's order.
std::vector<std::string> kernels_of_suite(const std::string& suite) {
  std::vector<std::string> names;
  for (const SuiteEntry& entry : read_suite(suite))
    if (std::find(names.begin(), names.end(), entry.kernel) == names.end()) names.push_back(entry.kernel);
  return names;
}

void list_kernels(bool json) {
  Json kernels = Json::array(), suites = Json::object();
  for (const std::string& name : kernel_names()) {
    const KernelSpec spec = read_kernel_spec(kernels_folder() / name);
    std::vector<std::string> engines;
    for (const auto& [engine, source] : spec.engines) engines.push_back(engine);
    kernels.push_back(
        {{"kernel", name}, {"engines", engines}, {"description", spec.description}, {"shape", spec.shape_names}});
    if (json) continue;
    fmt::print("{:<14} {:<14} {} [{}]\n", name, fmt::format("{}", fmt::join(engines, " ")), spec.description,
               fmt::join(spec.shape_names, ", "));
  }
  if (!json) fmt::print("\nSuites\n");
  for (const std::string& suite : suite_names()) {
    suites[suite] = kernels_of_suite(suite);
    if (!json) fmt::print("{:<14} {}\n", suite, fmt::join(kernels_of_suite(suite), " "));
  }
  if (json) fmt::print("{}\n", Json{{"kernels", kernels}, {"suites", suites}}.dump(2));
}

/// "2048,1,2048"
Shape shape_from(const std::string& text) {
  Shape shape;
  const Json list = Json::parse("[" + text + "]", nullptr, false);
  for (const Json& n : list.is_array() ? list : Json::array()) {
    if (!n.is_number_integer()) return {};
    shape.push_back(n.get<int64_t>());
  }
  return shape;
}

struct Options {
  KernelsTask task;
  RunFlags flags;
  fs::path resume, model;
  std::string suite = "paper", shape, type;
  std::vector<std::string> kernels;
  bool list = false;
};

void choose_entries(Options& o) {
  KernelsTask& task = o.task;
  if (!o.shape.empty()) {
    if (o.kernels.size() != 1) throw UsageError("--shape is of one kernel; name it by --kernel");
    const Shape shape = shape_from(o.shape);
    if (shape.empty()) throw UsageError("--shape {}: must be whole numbers such as 2048,1,2048", one_line(o.shape, 60));
    task.entries = {{o.kernels.front(), {element_type_from(o.type.empty() ? "F32" : o.type), shape}}};
    task.title = "a model that runs " + title_of(task.entries.front());
    return;
  }
  if (!o.type.empty()) throw UsageError("--type is of the weights of a --shape; a suite or a model has its own");
  if (o.model.empty()) {
    task.entries = read_suite(o.suite);
    task.title = "the suite " + o.suite;
  } else {
    const ModelInfo model = read_model(o.model);
    task.entries = kernels_of_model(model);
    std::erase_if(task.entries, [&](const SuiteEntry& e) { return !has_source(e, task.engine); });
    task.title = model.name;
  }
  const auto is_out = [&](const SuiteEntry& e) {
    return !o.kernels.empty() && std::find(o.kernels.begin(), o.kernels.end(), e.kernel) == o.kernels.end();
  };
  std::erase_if(task.entries, is_out);
  for (const std::string& kernel : o.kernels)
    if (std::none_of(task.entries.begin(), task.entries.end(), [&](const auto& e) { return e.kernel == kernel; }))
      throw UsageError("--kernel {}: {} has no such kernel; see haqa kernels --list", one_line(kernel, 40), task.title);
}

void add_options(CLI::App& command, Options& o) {
  command
      .add_option("--suite", o.suite, "Kernels and shapes of a suite: paper, decode, tinyllama-1.1b, llama2-7b, ...")
      ->capture_default_str();
  command.add_option("-m,--model", o.model, "Kernels and shapes of a GGUF instead")
      ->type_name("MODEL")
      ->excludes("--suite");
  command.add_option("-k,--kernel", o.kernels, "Of those only these kernels")->delimiter(',');
  command.add_option("--shape", o.shape, "With one --kernel: its shape, such as 2048,1,2048")->check(not_empty);
  command
      .add_option("--type", o.type,
                  "With --shape: type of the weights (F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q6_K, IQ4_NL; default: F32)")
      ->check(not_empty);
  command.add_option("--engine", o.task.engine, "What runs them")
      ->check(CLI::IsMember({"cpu", "opencl", "cuda"}))
      ->capture_default_str();
  command.add_option("--rounds", o.task.rounds, "Variants of each kernel to try, the defaults included")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command
      .add_option("--threads", o.task.threads, "Threads of llama.cpp, and at most of ours (default: a thread a core)")
      ->check(CLI::Range(1, 1024));
  command.add_option("--seconds", o.task.seconds, "Seconds of timing a round, at most")
      ->check(CLI::Range(0.01, 1000.0))
      ->check(not_nan)
      ->capture_default_str();
  command.add_option("--rotations", o.task.rotations, "Rotations of a round at least: measurements by turns")
      ->check(CLI::Range(6, 100))
      ->capture_default_str();
  command.add_option("--sampler", o.task.sampler, fmt::format("Who proposes: {}", fmt::join(named_samplers(), ", ")))
      ->check(not_empty)
      ->capture_default_str();
  command.add_option("--seed", o.task.seed, "Seed of the sampler and of the data")
      ->check(CLI::Range(0, 2147483647))
      ->capture_default_str();
  add_agent_options(command, o.task.agent, {"expert", "openai", "manual"});
  command.add_flag("--list", o.list, "List kernels and suites");
}

}  // namespace

void add_kernels(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "kernels", "Tune compute kernels, parameters and code, in turn with llama.cpp's own; verified, with a report");
  add_options(*command, *o);
  CLI::Option* resumed = command->add_option("--resume", o->resume, "Go on with an interrupted run")->type_name("RUN");
  o->flags.add_to(*command);
  resumed->excludes("--output");
  command->footer(
      "Examples:\n"
      "  haqa kernels --suite paper --rounds 10 --json\n"
      "  haqa kernels --kernel softmax,rope\n"
      "  haqa kernels --kernel matvec --type Q4_0 --shape 4096,1,11008 --sampler bayesian\n"
      "  haqa kernels --model model-q4_0.gguf --sampler agent --agent openai --agent-model gpt-4o");
  command->callback([o, resumed, command] {
    if (o->list) return list_kernels(o->flags.json);
    if (resumed->count()) return resume(o->resume, o->flags);
    require_asked(*command, asks_agent(o->task.sampler));
    require_no_secret(o->task.agent.endpoint.base_url);
    o->task.sampler = located_sampler(o->task.sampler, fs::current_path());
    constexpr int kTokensOfASource = 16384;
    o->task.agent.endpoint.max_tokens = std::max(o->task.agent.endpoint.max_tokens, kTokensOfASource);
    choose_entries(*o);
    start(o->task, o->flags);
  });
}

}  // namespace haqa
