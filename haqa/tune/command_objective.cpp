#include "haqa/tune/command_objective.h"

#include <fmt/ranges.h>
#include <signal.h>
#include <string.h>

#include <algorithm>
#include <limits>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/base/text.h"

namespace haqa {
namespace {

constexpr size_t kOutputKept = 1u << 20;  // bytes; metrics are looked for in the last so many
constexpr size_t kLinesShown = 10, kBytesShown = 2000;

/// Thrown through run_process(), which ends the program.
struct Stopped {};

/// Whether what was printed says that memory was short: of PyTorch, C++, Python, CUDA and the C library.
bool speaks_of_memory(const std::string& printed) {
  const std::string text = lowercase(printed);
  for (const char* sign :
       {"out of memory", "out_of_memory", "outofmemory", "bad_alloc", "memoryerror", "cannot allocate memory"})
    if (text.find(sign) != std::string::npos) return true;
  return false;
}

/// The signal that ended it, also where the shell around it says so by its exit status; 0: none.
int signal_of(const ProcessResult& r) {
  if (r.end == ProcessEnd::signalled) return r.code;
  return r.code > 128 && sigabbrev_np(r.code - 128) ? r.code - 128 : 0;
}

std::string state_of(const ProcessResult& r) {
  if (r.end == ProcessEnd::timed_out) return fmt::format("no result after {}: timed out", format_seconds(r.seconds));
  if (const int number = signal_of(r)) {
    const char* name = sigabbrev_np(number);
    return fmt::format("ended by SIG{} ({}){}", name ? name : std::to_string(number), strsignal(number),
                       number == SIGKILL ? ", most likely for want of memory" : "");
  }
  return fmt::format("exit status {}", r.code);
}

/// The last lines, for people.
std::string last_lines(std::string_view text) {
  if (text.size() > kBytesShown) text.remove_prefix(text.size() - kBytesShown);
  size_t begin = text.find_last_not_of("\n");
  for (size_t lines = 0; lines < kLinesShown && begin != std::string_view::npos && begin > 0; ++lines)
    begin = text.rfind('\n', begin - 1);
  return printable(begin == std::string_view::npos ? text : text.substr(begin + 1));
}

Outcome failure(FailReason reason, std::string message) {
  Outcome outcome;
  outcome.reason = reason;
  outcome.message = std::move(message);
  return outcome;
}

/// error: what it said of itself; empty where it said nothing.
Outcome failed_run(const ProcessResult& ended, const std::string& error, const Traces& traces) {
  std::string line = error;
  for (const std::string* printed : {&traces.errors, &traces.output})
    if (line.empty()) line = one_line(telling_line(*printed, 300), 300);
  const std::string message = state_of(ended) + (line.empty() ? "; it printed nothing" : ": " + line);
  if (ended.end == ProcessEnd::timed_out) return failure(FailReason::timed_out, message);
  const bool no_memory = signal_of(ended) == SIGKILL || speaks_of_memory(traces.output + traces.errors);
  return failure(no_memory ? FailReason::out_of_memory : FailReason::crashed, message);
}

}  // namespace

/// Takes the program's lines: keeps the last, and hears what they report.
class CommandObjective::Listener {
 public:
  explicit Listener(const Report& report) : report_(report) {}

  void take(std::string_view line) {
    output_.append(line).push_back('\n');
    if (output_.size() > 2 * kOutputKept) {
      output_.erase(0, output_.size() - kOutputKept);
      cut_ = true;
    }
    if (line.find("\"event\"") == std::string_view::npos) return;
    for (const Json& message : printed_objects(line)) hear(message);
  }

  bool answered() const { return result_ || !error_.empty(); }
  const std::string& error() const { return error_; }

  Traces traces(std::string errors) {
    if (output_.size() > kOutputKept) {
      output_.erase(0, output_.size() - kOutputKept);
      cut_ = true;
    }
    return {std::move(output_), cut_, std::move(errors), {}};
  }

 private:
  void hear(const Json& message) {
    const Json event = message.value("event", Json());
    if (event == "result") {
      result_ = true;
    } else if (event == "error") {
      const Json what = message.value("message", Json());
      error_ = what.is_string() && what != "" ? one_line(what.get<std::string>(), 300) : "it reported an error";
    } else if (event == "intermediate") {
      intermediate(message.value("step", Json()), message.value("value", Json()));
    }
  }

  /// Without a step: the next. What does not ascend is left out, as storages keep one value for each step.
  void intermediate(const Json& step, const Json& value) {
    if (!report_ || !value.is_number()) return;
    const int64_t at = step.is_number_integer() ? step.get<int64_t>() : last_step_ + 1;
    if (at <= last_step_ || at > std::numeric_limits<int>::max()) return;
    last_step_ = at;
    if (!report_(static_cast<int>(at), value.get<double>())) throw Stopped();
  }

  const Report& report_;
  std::string output_, error_;
  bool cut_ = false, result_ = false;
  int64_t last_step_ = -1;
};

CommandObjective::CommandObjective(const SearchSpace& space, CommandOptions options)
    : options_(std::move(options)), command_(options_.command, space) {
  if (options_.metrics.empty()) throw UsageError("a metric is missing: where the program's value is found");
  if (options_.serves && command_.has_placeholders())
    throw UsageError("a program that stays gets its values by requests: leave the placeholders out of its command");
  for (const Metric& m : options_.metrics)
    if (m.shares_file() && options_.workers > 1)
      throw UsageError("{}: {} workers would write the same file; put it into {{folder}}, which each trial has anew",
                       m.goal().value_name, options_.workers);
}

Command CommandObjective::prepared(Command command) const {
  command.environment.insert(command.environment.begin(), options_.environment.begin(), options_.environment.end());
  command.timeout_s = options_.timeout_s;
  command.longest_line = kOutputKept;
  command.returns_end_lines = true;
  return command;
}

Outcome CommandObjective::evaluate(const Configuration& configuration, const Report& report) {
  const TemporaryFolder folder;
  write_file(folder / "configuration.json", to_line(configuration) + "\n");
  Traces traces;
  traces.folder = folder.path();
  std::vector<std::optional<std::filesystem::file_time_type>> before;
  for (const Metric& m : options_.metrics) before.push_back(m.stamp(traces));

  Listener listener(report);
  std::optional<ProcessResult> ended;
  try {
    ended = options_.serves ? ask_serving(configuration, folder.path(), listener)
                            : run(configuration, folder.path(), listener);
  } catch (const Stopped&) {
    return failure(FailReason::none, "given up as hopeless");
  }
  traces = listener.traces(ended ? ended->errors : "");
  traces.folder = folder.path();
  Outcome outcome;
  if (ended && !ended->ok()) {
    outcome = failed_run(*ended, listener.error(), traces);
  } else if (!listener.error().empty()) {
    outcome =
        failure(speaks_of_memory(listener.error()) ? FailReason::out_of_memory : FailReason::crashed, listener.error());
  } else if (ended && options_.serves) {
    outcome = failure(FailReason::crashed, "it ended before its result");
  } else {
    outcome = measured(traces, before);
  }
  const std::string printed = traces.output + traces.errors;
  if (!outcome.value && !printed.empty()) outcome.metrics["output"] = last_lines(printed);
  return outcome;
}

std::optional<ProcessResult> CommandObjective::run(const Configuration& configuration,
                                                   const std::filesystem::path& folder, Listener& listener) {
  Command command = prepared(command_.command(configuration, folder));
  command.environment.emplace_back("HAQA_CONFIGURATION", to_line(configuration));
  return run_process(command, [&](std::string_view line) { listener.take(line); });
}

/// One of the programs that are idle, else another.
std::optional<ProcessResult> CommandObjective::ask_serving(const Configuration& configuration,
                                                           const std::filesystem::path& folder, Listener& listener) {
  std::optional<ServingProcess> program;
  {
    const std::scoped_lock lock(mutex_);
    if (!idle_.empty()) {
      program = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (!program) program.emplace(prepared(command_.command(configuration, {})));
  const auto put_back = [&] {
    const std::scoped_lock lock(mutex_);
    idle_.push_back(std::move(*program));
  };
  try {
    const Json request = {{"configuration", configuration}, {"folder", folder.string()}};
    auto ended = program->ask(to_line(request), [&](std::string_view line) {
      listener.take(line);
      return listener.answered();
    });
    put_back();
    return ended;
  } catch (const Stopped&) {
    put_back();  // it starts the program anew
    throw;
  }
}

Outcome CommandObjective::measured(const Traces& traces,
                                   const std::vector<std::optional<std::filesystem::file_time_type>>& before) const {
  Outcome all;
  for (size_t i = 0; i < options_.metrics.size(); ++i) {
    Outcome one = options_.metrics[i].read(traces, before[i]);
    if (!one.value) return one;
    if (i == 0) {
      all.value = one.value;
    } else {
      all.more_values.push_back(*one.value);
    }
  }
  return all;
}

}  // namespace haqa
