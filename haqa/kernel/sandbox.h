#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace haqa {

/// What generated code may do. Nothing here can be undone. Limits of resources and the refusal of system calls hold for
/// this process and all threads that it has; Landlock for the calling thread and those that it starts from then on.

/// No core files, no files written, at most `address_bytes` of address space beyond what is mapped now, no new
/// privileges.
void limit_resources(uint64_t address_bytes);

/// What a device's driver survives, which maps and writes files as it pleases: no core files, none above 1 GiB.
void limit_driver();

/// No file that is written grows beyond so many bytes; no core files.
void limit_files(uint64_t bytes);

/// Whether the kernel has Landlock (Linux 5.13) and lets it be used.
bool has_landlock();

/// From now on files below `readable` can be read and run and those below `writable` written too, and nothing else, by
/// this thread and those that it starts. Without Landlock nothing happens. Throws Error where it is refused.
void confine_files(const std::vector<std::filesystem::path>& readable,
                   const std::vector<std::filesystem::path>& writable);

/// Refuses system calls that reach beyond this process: starting others or threads, sockets, signals, other processes'
/// memory. Loading a library is still possible. Throws Error where the kernel does not do so, as the next does.
void forbid_reaching_out();
/// Refuses all but reading standard input, writing standard output, waiting for other threads and ending. A call that
/// is refused ends the process by SIGSYS, for which on_forbidden_call() may have been set.
void forbid_all_but_computing();

/// Calls `report(number of the call)` before the process ends for it; must be async-signal-safe.
void on_forbidden_call(void (*report)(int));

/// "clone3"; "call 435" where it has no name.
std::string system_call_name(int number);

}  // namespace haqa
