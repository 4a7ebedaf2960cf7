#include <fmt/format.h>

#include <cmath>
#include <cstdlib>

#include "haqa/base/file.h"
#include "haqa/base/text.h"
#include "haqa/cli/commands.h"
#include "haqa/cli/job.h"
#include "haqa/deploy/benchmark.h"
#include "haqa/report/report.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

void print_outcome(const Json& summary, const fs::path& folder, const RunFlags& flags) {
  if (flags.json) {
    fmt::print("{}\n", summary.dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    fmt::print("{}\nreport: {}\n", text_report(summary), (folder / "report.html").string());
  }
}

void run_job(const Task& task, RunLog& log, const std::string& command, const RunFlags& flags) {
  Progress progress(flags.quiet);
  try {
    const Json summary = Job(task, log, progress).run(command);
    print_outcome(summary, log.folder(), flags);
  } catch (const Interrupted&) {
    throw Interrupted("interrupted; what was finished is kept: go on with haqa run --resume {}", log.folder().string());
  } catch (const NoSpaceError& e) {
    if (!log.has_results()) throw;
    throw NoSpaceError("{}; then go on with haqa run --resume {}", e.what(), log.folder().string());
  }
}

}  // namespace

std::string not_empty(const std::string& value) {
  return value.empty() ? "must not be empty" : "";
}

std::string not_nan(const std::string& value) {
  return std::isnan(std::strtod(value.c_str(), nullptr)) ? "must be a number" : "";
}

fs::path new_folder(const std::string& name) {
  std::string time = utc_now();
  std::erase_if(time, [](char c) { return c == '-' || c == ':' || c == 'Z'; });
  const std::string first = name + "-" + time;
  fs::path folder = fs::path("runs") / first;
  for (int i = 2; fs::exists(folder); ++i) folder = fs::path("runs") / fmt::format("{}-{}", first, i);
  return folder;
}

void RunFlags::add_to(CLI::App& command) {
  command.add_option("-o,--output", output, "Folder of the run (default: runs/NAME-TIME)")
      ->type_name("DIR")
      ->check(not_empty);
  command.add_flag("--json", json, "Print the summary as JSON");
  command.add_flag("-q,--quiet", quiet, "No progress on standard error");
}

void run_new(const Task& task, const std::string& name, const RunFlags& flags) {
  const fs::path folder = flags.output.empty() ? new_folder(name) : flags.output;
  require_plain_path(task.model);
  require_plain_path(folder);
  check_job(task);
  RunLog log = RunLog::create(folder);
  try {
    write_file(folder / "task.yaml", to_json(task).dump(2) + "\n");
    run_job(task, log,
            task.file.empty() ? "haqa run " + (folder / "task.yaml").string() : "haqa run " + task.file.string(),
            flags);
  } catch (const Interrupted&) {
    throw;
  } catch (const std::exception&) {
    // Before anything worth keeping was done, nothing is left behind: the folder was new or empty.
    std::error_code ignored;
    if (!log.has_results()) fs::remove_all(folder, ignored);
    throw;
  }
}

void run_resumed(const fs::path& folder, const RunFlags& flags) {
  require_kind(folder, kRunKind);
  if (fs::exists(folder / "summary.json")) {
    Job::clean_up(folder);  // it may have been killed just then
    print_outcome(read_summary(folder), folder, flags);
    return;
  }
  RunLog log = RunLog::resume(folder);
  const Task task = read_task(folder / "task.yaml");
  run_job(task, log, "haqa run --resume " + folder.string(), flags);
}

void add_run(CLI::App& app) {
  struct Options {
    RunFlags flags;
    fs::path task, resume, replay;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("run", "The main job: from a task file to a tuned, quantized, verified bundle");
  CLI::Option* task = command->add_option("task", o->task, "Task file in YAML; see docs/task.md")->type_name("TASK");
  CLI::Option* resume =
      command->add_option("--resume", o->resume, "Go on with an interrupted run")->type_name("RUN")->excludes(task);
  command->add_option("--replay", o->replay, "Take the agent's answers from a transcript.jsonl")
      ->type_name("FILE")
      ->excludes(resume);
  o->flags.add_to(*command);
  resume->excludes("--output");
  command->footer(
      "Examples:\n"
      "  haqa run examples/quickstart.yaml\n"
      "  haqa run task.yaml --output runs/first\n"
      "  haqa run --resume runs/first");
  command->callback([o, task, resume] {
    if (resume->count()) return run_resumed(o->resume, o->flags);
    if (!task->count()) throw UsageError("name a task file, or a run to go on with by --resume; see haqa run --help");
    Task read = read_task(o->task);
    if (!o->replay.empty()) read.agent.replay = o->replay;
    run_new(read, o->task.stem().string(), o->flags);
  });
}

}  // namespace haqa
