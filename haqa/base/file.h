#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "haqa/base/descriptor.h"

namespace haqa {

/// The value of an environment variable; empty where it is not set.
std::string environment(const char* name);

/// The whole content. Throws Error where the file is missing, is a folder or cannot be read.
std::string read_file(const std::filesystem::path& file);

/// Writes the file whole or not at all: temporary file beside it, fsync, rename, fsync of the folder.
/// Throws Error (no space, no permission); nothing half-written is left behind.
void write_file(const std::filesystem::path& file, std::string_view content);

/// Names a temporary file beside `target` for a writer that wants a path; removed by the destructor unless commit()ed.
class PendingFile {
 public:
  explicit PendingFile(std::filesystem::path target);
  ~PendingFile();
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;
  const std::filesystem::path& path() const { return pending_; }
  /// fsync, then rename over the target. Throws Error.
  void commit();

 private:
  std::filesystem::path target_, pending_;
  bool committed_ = false;
};

/// Removes what killed processes left of their PendingFiles in a folder and those below it, where there is one. Not for
/// a folder in which others are writing.
void remove_unfinished(const std::filesystem::path& folder);

/// Throws what a system call that was to write `file` failed by, as errno has it: NoSpaceError or another Error.
[[noreturn]] void throw_cannot_write(const std::filesystem::path& file);

/// Writes `data` at `offset` of an open file, all of it; several threads may. Throws Error that names `file`.
void write_at(int fd, std::span<const std::byte> data, uint64_t offset, const std::filesystem::path& file);

/// A file of complete lines that grows; each line is on disk when append() returns. One writer at a time: a second
/// process that opens the same file gets an Error. What a killed writer left of an unfinished line is cut off.
class LineFile {
 public:
  explicit LineFile(const std::filesystem::path& file);
  void append(std::string_view line);

 private:
  std::filesystem::path file_;
  Descriptor fd_;
};

/// Creates the folder and its parents. Throws Error saying what stands in the way.
void make_folder(const std::filesystem::path& folder);

/// Throws Error unless the file system of `folder` has `bytes` to spare; `purpose` completes "... are needed for".
void require_space(const std::filesystem::path& folder, uint64_t bytes, std::string_view purpose);

/// Where HAQA's data files are: $HAQA_DATA, else beside the installed program, else the source tree.
std::filesystem::path data_folder();

/// ~/.cache/haqa, or as $HAQA_CACHE and $XDG_CACHE_HOME say.
std::filesystem::path cache_folder();

/// The folder of the running program, where the worker programs are too.
std::filesystem::path program_folder();

/// Where llama.cpp's programs are: $HAQA_LLAMA_BIN, else those of the build that HAQA was linked with.
std::filesystem::path llama_bin_folder();

}  // namespace haqa
