// What tests of started programs share.
#pragma once
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "haqa/worker/process.h"

namespace haqa {

inline Command shell(const std::string& script) {
  return Command{{"/bin/sh", "-c", script}};
}

/// Whether the condition comes true within a minute: machines that test are busy.
inline bool comes_true(const std::function<bool()>& condition) {
  for (int i = 0; i < 6000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return condition();
}

/// A killed one may stay a zombie until init takes it.
inline bool alive(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string number, name, state;
  return static_cast<bool>(stat >> number >> name >> state) && state != "Z";
}

inline bool gone_soon(pid_t pid) {
  return comes_true([&] { return !alive(pid); });
}

/// The numbers in a file, a line each, once there are so many.
inline std::vector<pid_t> numbers_in(const std::string& file, size_t count) {
  std::vector<pid_t> numbers;
  comes_true([&] {
    numbers.clear();
    std::ifstream in(file);
    for (std::string line; std::getline(in, line) && !in.eof();) numbers.push_back(std::stoi(line));
    return numbers.size() >= count;
  });
  return numbers;
}

/// The exit status of `work` in a process of its own.
template <typename Work>
int in_process(const Work& work) {
  const pid_t pid = fork();
  if (pid == 0) _exit(work());
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/// Runs `work` in a thread and returns once the kernel has buried it, with all that its end brings about.
inline void in_thread_that_ends(const std::function<void()>& work) {
  pid_t id = 0;
  std::thread([&] {
    id = gettid();
    work();
  }).join();
  comes_true([&] { return !std::filesystem::exists("/proc/self/task/" + std::to_string(id)); });
}

}  // namespace haqa
