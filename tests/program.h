#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "haqa/base/file.h"
#include "haqa/base/json.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/model/make_model.h"
#include "haqa/worker/background_process.h"
#include "haqa/worker/process_test_support.h"

namespace haqa {

/// Trials in a log that another process is writing.
inline int trials_in(const std::filesystem::path& log) {
  std::ifstream in(log);
  int n = 0;
  for (std::string line; std::getline(in, line);) n += line.find("\"event\":\"trial\"") != std::string::npos;
  return n;
}

/// Whether the condition comes true within a minute.
inline bool wait_until(const std::function<bool()>& condition) {
  return comes_true(condition);
}

/// Runs it until it is ready, within a minute, and kills it then. Fails fatally where it is not.
inline void kill_when(const std::function<bool()>& ready, const Command& command, const std::filesystem::path& log) {
  BackgroundProcess killed(command, log);
  ASSERT_TRUE(wait_until(ready));
  killed.signal(SIGKILL);
  ASSERT_TRUE(wait_until([&] { return !killed.running(); }));
}

/// Of this machine, which nothing listens on.
inline std::string free_port() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  bind(fd, reinterpret_cast<sockaddr*>(&address), size);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  close(fd);
  return std::to_string(ntohs(address.sin_port));
}

/// Begins a llama-bench that only says what it took: less with the module, and less still with a variant of the
/// products in its tuning file; more with one of attention, or with stock code in place of one of its kernels.
inline constexpr const char* kModuleIsFaster = R"sh(case "$*" in *--help*|*--list*) ;; *)
  ns=8000000 name=CPU
  if [ -n "$GGML_BACKEND_PATH" ]; then
    ns=4000000 name=HAQA
    if [ -n "$HAQA_TUNING" ]; then
      echo "$HAQA_TUNING" >>"$0.log"
      tuning=$(tr -d ' \n' <"$HAQA_TUNING")
      case "$tuning" in *'"kernel":"matvec"'*) ns=$((ns - 1000000));; esac
      case "$tuning" in *'"kernel":"attention"'*) ns=$((ns + 500000));; esac
      case "$tuning" in *'"stock":[]'*) ;; *) ns=$((ns + 2000000));; esac
    fi
  fi
  echo "[{\"backends\":\"$name\",\"samples_ns\":[$ns]}]"; exit 0;;
esac)sh";

/// A folder within `folder` with a llama-bench that runs `script` first, which may end it.
inline std::string llama_bench_that(const std::filesystem::path& folder, const std::string& script) {
  const std::filesystem::path programs = folder / "llama-bin", program = programs / "llama-bench";
  std::filesystem::create_directory(programs);
  std::ofstream(program) << "#!/bin/sh\n"
                         << script << "\nexec '" << (llama_bin_folder() / "llama-bench").string() << "' \"$@\"\n";
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  return programs.string();
}

/// A folder of its own for each test, with a tiny model and the means to run haqa in it.
class ProgramTest : public testing::Test {
 protected:
  const TemporaryFolder temporary_;
  const std::filesystem::path folder_ = temporary_.path();
  ProgramTest() { make_model(model_shape("tiny"), default_vocabulary(), 1, folder_ / "tiny-f16.gguf"); }

  /// The environment holds nothing that could reach a real provider.
  Command haqa(std::vector<std::string> arguments) const {
    Command command;
    command.argv = {HAQA_BIN_DIR "/haqa"};
    command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
    command.environment = {{"HAQA_CACHE", (folder_ / "cache").string()},
                           {"HAQA_BASE_URL", ""},
                           {"HAQA_MODEL", ""},
                           {"HAQA_API_KEY", ""},
                           {"OPENAI_BASE_URL", ""},
                           {"OPENAI_API_KEY", ""}};
    if (!llama_bin_.empty()) command.environment.emplace_back("HAQA_LLAMA_BIN", llama_bin_);
    command.timeout_s = 300;
    return command;
  }
  /// From now on a llama-bench that runs `script` first, which may end it.
  void use_llama_bench(const std::string& script) { llama_bin_ = llama_bench_that(folder_, script); }
  ProcessResult run(std::vector<std::string> arguments) const { return run_process(haqa(std::move(arguments))); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return path(name);
  }
  /// A task that takes seconds, as kernels stay as they ship where it says no more of them; `more` is added to it.
  std::string task(const std::string& more = "", int rounds = 3) const {
    const std::string kernels = more.find("kernels:") == std::string::npos ? "kernels: {rounds: 0}\n" : "";
    return write("task.yaml",
                 "model: tiny-f16.gguf\ncontext: 64\nprompt_tokens: 16\ngenerate_tokens: 8\n"
                 "repetitions: 6\ntuning: {rounds: " +
                     std::to_string(rounds) + ", pairs: 1, confirm_pairs: 6}\n" + kernels + more);
  }
  /// Everything below the folder but the model and the cache: what a failed command left behind.
  std::vector<std::string> left_behind() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_)) {
      const std::string name = std::filesystem::relative(entry.path(), folder_).string();
      if (name != "tiny-f16.gguf" && name != "task.yaml" && !name.starts_with("cache")) names.push_back(name);
    }
    return names;
  }

 private:
  std::string llama_bin_;
};

}  // namespace haqa
