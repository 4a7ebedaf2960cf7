#include "haqa/kernel/sandbox.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>

#include "haqa/base/descriptor.h"
#include "haqa/base/error.h"

namespace haqa {
namespace {

/// Where the handler of SIGSYS reports to: it can reach nothing but globals.
void (*forbidden_call_report)(int) = nullptr;

__attribute__((no_sanitize("address"))) void on_sigsys(int, siginfo_t* info, void*) {
  if (forbidden_call_report) forbidden_call_report(info->si_syscall);
  _exit(128 + SIGSYS);
}

void set_limit(int which, uint64_t value) {
  const rlimit limit = {value, value};
  setrlimit(static_cast<__rlimit_resource>(which), &limit);
}

uint64_t mapped_bytes() {
  uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

class Filter {
 public:
  explicit Filter(uint32_t otherwise) : context_(seccomp_init(otherwise), seccomp_release) {
    if (!context_) throw Error("cannot set up seccomp; this kernel lacks what keeps generated code apart");
    check(seccomp_attr_set(context_.get(), SCMP_FLTATR_CTL_TSYNC, 1), "all threads");
  }
  template <typename... Conditions>
  void rule(uint32_t action, int call, Conditions... conditions) {
    if (call == __NR_SCMP_ERROR) return;  // there is no such call here
    check(seccomp_rule_add(context_.get(), action, call, sizeof...(conditions), conditions...), "a rule");
  }
  void load() {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    check(seccomp_load(context_.get()), "the filter");
  }

 private:
  static void check(int fault, const char* what) {
    if (fault != 0)
      throw Error("cannot confine generated code by seccomp: {}: {}; nothing of it is run", what,
                  std::strerror(std::abs(fault)));
  }
  std::unique_ptr<void, void (*)(scmp_filter_ctx)> context_;
};

int call_number(const char* name) {
  return seccomp_syscall_resolve_name(name);
}

}  // namespace

void limit_resources(uint64_t address_bytes) {
  set_limit(RLIMIT_CORE, 0);
  set_limit(RLIMIT_FSIZE, 0);
  set_limit(RLIMIT_AS, mapped_bytes() + address_bytes);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

void limit_driver() {
  set_limit(RLIMIT_CORE, 0);
  set_limit(RLIMIT_FSIZE, uint64_t{1} << 30);
}

void limit_files(uint64_t bytes) {
  set_limit(RLIMIT_CORE, 0);
  set_limit(RLIMIT_FSIZE, bytes);
}

bool has_landlock() {
  return syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

void confine_files(const std::vector<std::filesystem::path>& readable,
                   const std::vector<std::filesystem::path>& writable) {
  constexpr uint64_t kRead = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
  constexpr uint64_t kAll = (uint64_t{LANDLOCK_ACCESS_FS_MAKE_SYM} << 1) - 1;  // what its first version knows
  if (!has_landlock()) return;
  const auto check = [](bool done, const std::string& what) {
    if (!done) throw Error("cannot confine generated code by Landlock: {}: {}", what, std::strerror(errno));
  };
  landlock_ruleset_attr attributes = {};
  attributes.handled_access_fs = kAll;
  const Descriptor rules(static_cast<int>(syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0)));
  check(static_cast<bool>(rules), "rules");
  const auto allow = [&](const std::filesystem::path& path, uint64_t access) {
    const Descriptor place(open(path.c_str(), O_PATH | O_CLOEXEC));
    if (!place) return;  // what is not there needs no rule
    std::error_code ignored;
    if (!std::filesystem::is_directory(path, ignored))
      access &= LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE;
    landlock_path_beneath_attr beneath = {};
    beneath.allowed_access = access;
    beneath.parent_fd = place.get();
    check(syscall(SYS_landlock_add_rule, rules.get(), LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) == 0, path.string());
  };
  for (const auto& path : readable) allow(path, kRead);
  for (const auto& path : writable) allow(path, kAll);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  check(syscall(SYS_landlock_restrict_self, rules.get(), 0) == 0, "this thread");
}

void forbid_reaching_out() {
  Filter filter(SCMP_ACT_ALLOW);
  for (const char* name : {"clone",
                           "clone3",
                           "fork",
                           "vfork",
                           "execve",
                           "execveat",
                           "socket",
                           "socketpair",
                           "connect",
                           "bind",
                           "listen",
                           "accept",
                           "accept4",
                           "sendto",
                           "sendmsg",
                           "kill",
                           "tkill",
                           "tgkill",
                           "pidfd_open",
                           "pidfd_send_signal",
                           "pidfd_getfd",
                           "ptrace",
                           "process_vm_readv",
                           "process_vm_writev",
                           "io_uring_setup",
                           "bpf",
                           "mount",
                           "umount2",
                           "unshare",
                           "setns",
                           "chroot",
                           "pivot_root",
                           "memfd_create",
                           "shmget",
                           "shmat",
                           "msgget",
                           "semget",
                           "mq_open",
                           "perf_event_open",
                           "userfaultfd",
                           "keyctl",
                           "add_key",
                           "request_key",
                           "setsid",
                           "setpgid",
                           "timer_create",
                           "nanosleep",
                           "clock_nanosleep",
                           "alarm",
                           "setitimer",
                           "rt_sigaction",
                           "unlink",
                           "unlinkat",
                           "rename",
                           "renameat",
                           "renameat2",
                           "mkdir",
                           "mkdirat",
                           "link",
                           "linkat",
                           "symlink",
                           "symlinkat",
                           "truncate",
                           "ftruncate",
                           "chmod",
                           "fchmod",
                           "fchmodat",
                           "chown",
                           "fchown",
                           "fchownat",
                           "creat"})
    filter.rule(SCMP_ACT_TRAP, call_number(name));
  filter.load();
}

void forbid_all_but_computing() {
  Filter filter(SCMP_ACT_TRAP);
  const auto of_descriptor = [](uint64_t number) {
    return scmp_arg_cmp{0, SCMP_CMP_MASKED_EQ, 0xffffffff, number};  // what SCMP_A0 makes by an extension of C
  };
  filter.rule(SCMP_ACT_ALLOW, SCMP_SYS(read), of_descriptor(0));
  filter.rule(SCMP_ACT_ALLOW, SCMP_SYS(write), of_descriptor(1));
  for (const char* name : {"futex", "sched_yield", "rt_sigreturn", "restart_syscall", "exit", "exit_group"})
    filter.rule(SCMP_ACT_ALLOW, call_number(name));
  filter.load();
}

void on_forbidden_call(void (*report)(int)) {
  forbidden_call_report = report;
  struct sigaction action = {};
  action.sa_sigaction = on_sigsys;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSYS, &action, nullptr);
}

std::string system_call_name(int number) {
  const std::unique_ptr<char, void (*)(void*)> name(seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number),
                                                    std::free);
  return name ? name.get() : "call " + std::to_string(number);
}

}  // namespace haqa
