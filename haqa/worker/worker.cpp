#include "haqa/worker/worker.h"

#include <csignal>
#include <cstdio>
#include <iostream>
#include <new>
#include <optional>

#include "haqa/base/file.h"
#include "haqa/base/text.h"

namespace haqa {
namespace {

/// What a worker's lines add up to.
struct Conversation {
  std::optional<Json> result;
  std::string error, kind, rubbish;

  void take(std::string_view line, const std::function<void(double)>& on_progress) {
    const Json message = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    const Json event = message.is_object() ? message.value("event", Json()) : Json();
    if (event == "progress" && message.value("share", Json()).is_number()) {
      if (on_progress) on_progress(message["share"]);
    } else if (event == "result") {
      result = message;
      result->erase("event");
    } else if (event == "error" && message.value("message", Json()).is_string()) {
      error = message["message"];
      if (const Json name = message.value("kind", Json()); name.is_string()) kind = name;
    } else if (rubbish.empty() && !line.empty()) {
      rubbish = one_line(line, 120);
    }
  }
};

constexpr const char* kNoSpace = "no_space";
constexpr const char* kNoMemory = "no_memory";

[[noreturn]] void throw_told(const Conversation& talk) {
  if (talk.kind == kNoSpace) throw NoSpaceError("{}", talk.error);
  throw WorkerError(talk.kind == kNoMemory ? ProcessEnd::out_of_memory : ProcessEnd::exited, talk.error);
}

}  // namespace

Json call_worker(const std::string& program, const Json& request, const WorkerLimits& limits,
                 const std::function<void(double)>& on_progress) {
  Command command{{(program_folder() / program).string()}};
  // libtorch's threads would spin between two pieces of work, and starve what else the machine does.
  if (program == "haqa-train") command.environment = {{"OMP_WAIT_POLICY", "passive"}};
  command.input = to_line(request) + "\n";
  command.timeout_s = limits.timeout_s;
  command.memory_bytes = limits.memory_bytes;
  Conversation talk;
  const ProcessResult process = run_process(command, [&](std::string_view line) { talk.take(line, on_progress); });
  if (!talk.error.empty()) throw_told(talk);
  if (process.end == ProcessEnd::signalled && process.code == SIGKILL)
    throw WorkerError(ProcessEnd::out_of_memory,
                      fmt::format("{} was killed, as systems do where memory is short", program));
  if (!process.ok()) throw WorkerError(process.end, fmt::format("{} failed: {}", program, process.describe()));
  if (!talk.result) {
    const std::string seen = talk.rubbish.empty() ? "nothing" : "\"" + talk.rubbish + "\"";
    throw WrongResult(fmt::format("{} gave no result but {}", program, seen));
  }
  return *talk.result;
}

int serve_worker(const WorkerHandler& handle) {
  const auto say = [](const Json& message) { std::cout << to_line(message) << '\n' << std::flush; };
  const auto fail = [&](const char* message, const char* kind = nullptr) {
    Json event = {{"event", "error"}, {"message", message}};
    if (kind) event["kind"] = kind;
    say(event);
    return 1;
  };
  try {
    std::string line;
    std::getline(std::cin, line);
    const Json request = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!request.is_object()) throw Error("this program answers haqa: one JSON object on its standard input");
    Json result = {{"event", "result"}};
    result.update(handle(request, [&](double share) { say({{"event", "progress"}, {"share", share}}); }));
    say(result);
    return 0;
  } catch (const NoSpaceError& e) {
    return fail(e.what(), kNoSpace);
  } catch (const NoMemoryError& e) {
    return fail(e.what(), kNoMemory);
  } catch (const std::bad_alloc&) {
    return fail("memory ran out; free some, or ask for less", kNoMemory);
  } catch (const std::exception& e) {
    return fail(e.what());
  }
}

}  // namespace haqa
