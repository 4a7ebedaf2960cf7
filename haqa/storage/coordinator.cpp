#include "haqa/storage/coordinator.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <sstream>
#include <string>

namespace haqa {
namespace {

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

std::string content(const std::string& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The start of a process in clock ticks since boot; empty where only its remains are left, nullopt where it cannot be
/// read.
std::optional<std::string> start_of(int64_t pid) {
  const std::string stat = content("/proc/" + std::to_string(pid) + "/stat");
  const size_t name_end = stat.rfind(')');  // the program's name may hold blanks and brackets
  if (name_end == std::string::npos) return {};
  std::istringstream rest(stat.substr(name_end + 1));
  const std::vector<std::string> fields{std::istream_iterator<std::string>(rest), {}};
  // proc(5): field 3 is the state, Z and X mean dead; field 22 the start.
  return fields.size() < 20 || fields[0] == "Z" || fields[0] == "X" ? "" : fields[19];
}

/// Whether there is none of that number, nor another user's.
bool unknown(int64_t pid) {
  if (pid <= 0 || pid > std::numeric_limits<pid_t>::max()) return true;
  return kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH;
}

Json place() {
  std::error_code none;
  std::string boot = content("/proc/sys/kernel/random/boot_id");
  if (!boot.empty()) boot.pop_back();  // its line break
  return {{"host", host_name()},
          {"boot", boot},
          {"pid_space", std::filesystem::read_symlink("/proc/self/ns/pid", none).string()}};
}

}  // namespace

Json this_coordinator() {
  Json all = place();
  all["pid"] = getpid();
  all["start"] = start_of(getpid()).value_or("");
  return all;
}

bool is_gone(const Json& coordinator) {
  const Json here = place();
  if (!coordinator.is_object() || !coordinator.contains("pid") || !coordinator["pid"].is_number_integer()) return false;
  for (const char* key : {"host", "pid_space"})
    if (coordinator.value(key, Json()) != here[key]) return false;
  if (coordinator.value("boot", Json()) != here["boot"]) return true;
  const auto pid = coordinator["pid"].get<int64_t>();
  const std::optional<std::string> start = start_of(pid);
  // Where /proc is mounted with hidepid, it shows nothing of other users' processes.
  return start ? *start != coordinator.value("start", Json()) : unknown(pid);
}

}  // namespace haqa
