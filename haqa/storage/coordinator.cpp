#include "haqa/storage/coordinator.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
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

std::string line_of(const std::string& file) {
  std::string line = content(file);
  line.resize(std::min(line.size(), line.find('\n')));
  return line;
}

/// 32 hexadecimal digits; empty where the machine has none, or none yet ("uninitialized"). Source: machine-id(5).
std::string machine_id() {
  const std::string id = line_of("/etc/machine-id");
  const bool is_one = id.size() == 32 && id.find_first_not_of("0123456789abcdef") == std::string::npos;
  return is_one ? id : "";
}

Json place() {
  std::error_code none;
  return {{"host", host_name()},
          {"machine", machine_id()},
          {"boot", line_of("/proc/sys/kernel/random/boot_id")},
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
  // Machines may share a name, and their first spaces of process ids have one number. A boot is of one machine; of
  // another boot's processes only those of this machine are known to be gone.
  const Json boot = coordinator.value("boot", Json());
  if (here["boot"] == "" || boot == "") return false;
  if (boot != here["boot"]) return here["machine"] != "" && coordinator.value("machine", Json()) == here["machine"];
  const auto pid = coordinator["pid"].get<int64_t>();
  const std::optional<std::string> start = start_of(pid);
  // Where /proc is mounted with hidepid, it shows nothing of other users' processes.
  return start ? *start != coordinator.value("start", Json()) : unknown(pid);
}

}  // namespace haqa
