#include "haqa/base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <vector>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"

namespace haqa {
namespace fs = std::filesystem;
namespace {

constexpr const char* kPending = ".part-";

std::string reason() {
  return std::strerror(errno);
}

void sync_folder(const fs::path& folder) {
  const Descriptor fd(open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd) fsync(fd.get());  // some file systems refuse; the rename itself has happened
}

void write_all(int fd, std::string_view content, const fs::path& file) {
  while (!content.empty()) {
    const ssize_t n = write(fd, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw_cannot_write(file);
    content.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string read_file(const fs::path& file) {
  std::error_code code;
  if (fs::is_directory(file, code)) throw Error("{}: is a folder; name a file", file.string());
  std::ifstream in(file, std::ios::binary);
  if (!in) throw Error("{}: cannot read: {}", file.string(), reason());
  std::string content;
  std::array<char, 65536> buffer;
  errno = 0;
  // Not out << in.rdbuf(): a failing disk would give what was read until then, without a word.
  while (in.read(buffer.data(), buffer.size()) || in.gcount() > 0)
    content.append(buffer.data(), static_cast<size_t>(in.gcount()));
  if (in.bad()) throw Error("{}: cannot read: {}", file.string(), reason());
  return content;
}

PendingFile::PendingFile(fs::path target) : target_(std::move(target)) {
  const fs::path folder = target_.parent_path();
  std::error_code code;
  if (!folder.empty() && !fs::is_directory(folder, code))
    throw Error("{}: cannot write: there is no folder {}; make it or choose another", target_.string(),
                folder.string());
  pending_ = target_;
  pending_ += kPending + std::to_string(getpid());
}

PendingFile::~PendingFile() {
  std::error_code ignored;
  if (!committed_) fs::remove(pending_, ignored);
}

void PendingFile::commit() {
  {
    const Descriptor fd(open(pending_.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd || fsync(fd.get()) != 0) throw_cannot_write(target_);
  }
  if (rename(pending_.c_str(), target_.c_str()) != 0) throw_cannot_write(target_);
  committed_ = true;
  sync_folder(target_.parent_path());
}

void remove_unfinished(const fs::path& folder) {
  if (!fs::exists(folder)) return;
  std::vector<fs::path> unfinished;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const size_t at = name.rfind(kPending);
    if (at == std::string::npos || !entry.is_regular_file()) continue;
    const std::string_view process = std::string_view(name).substr(at + std::strlen(kPending));
    if (!process.empty() && process.find_first_not_of("0123456789") == std::string_view::npos)
      unfinished.push_back(entry.path());
  }
  for (const fs::path& file : unfinished) fs::remove(file);
}

void throw_cannot_write(const fs::path& file) {
  // A limit on the size of files is a quota, too.
  if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
    throw NoSpaceError("{}: cannot write: {}; free some space or choose another folder", file.string(), reason());
  throw Error("{}: cannot write: {}; choose another folder", file.string(), reason());
}

void write_at(int fd, std::span<const std::byte> data, uint64_t offset, const fs::path& file) {
  while (!data.empty()) {
    const ssize_t n = pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw_cannot_write(file);
    data = data.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
}

void write_file(const fs::path& file, std::string_view content) {
  PendingFile pending(file);
  Descriptor fd(open(pending.path().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!fd) throw_cannot_write(file);
  write_all(fd.get(), content, file);
  fd.reset();
  pending.commit();
}

LineFile::LineFile(const fs::path& file)
    : file_(file), fd_(open(file.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
  if (!fd_) throw_cannot_write(file_);
  if (flock(fd_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK)
      throw Error("{}: cannot be locked: {}; choose a folder on another disk", file.string(), reason());
    throw Error("{}: another haqa is writing it; wait for that one or choose another folder", file.string());
  }
  off_t end = lseek(fd_.get(), 0, SEEK_END);
  char last = '\n';
  while (end > 0 && pread(fd_.get(), &last, 1, end - 1) == 1 && last != '\n') --end;
  if (ftruncate(fd_.get(), end) != 0) throw_cannot_write(file_);
  sync_folder(file.parent_path());
}

void LineFile::append(std::string_view line) {
  const off_t whole = lseek(fd_.get(), 0, SEEK_END);
  try {
    write_all(fd_.get(), std::string(line) + "\n", file_);
  } catch (...) {
    // A full disk took half of it, which the next line, should there be room again, would be glued to. Where even this
    // fails, the next to open the file cuts it.
    [[maybe_unused]] const int ignored = ftruncate(fd_.get(), whole);
    throw;
  }
  if (fdatasync(fd_.get()) != 0 && errno != EINVAL && errno != EROFS) throw_cannot_write(file_);
}

void make_folder(const fs::path& folder) {
  std::error_code code;
  fs::create_directories(folder, code);
  if (code || !fs::is_directory(folder))
    throw Error("{}: cannot be made a folder: {}; choose another with --output", folder.string(),
                code ? code.message() : "a file has that name");
  if (access(folder.c_str(), W_OK | X_OK) != 0)
    throw Error("{}: cannot write there: {}; choose another folder with --output", folder.string(), reason());
}

void require_space(const fs::path& named, uint64_t bytes, std::string_view purpose) {
  std::error_code code;
  const fs::path folder = named.empty() ? fs::path(".") : named;
  fs::path there = fs::absolute(folder, code);
  while (!fs::exists(there, code) && there.has_relative_path()) there = there.parent_path();  // it is made later
  const fs::space_info space = fs::space(there, code);
  if (!code && space.available < bytes)
    throw NoSpaceError("{}: {} free, but {} are needed for {}; free some space or choose another folder with --output",
                       folder.string(), format_bytes(space.available), format_bytes(bytes), purpose);
}

fs::path program_folder() {
  std::error_code code;
  const fs::path program = fs::read_symlink("/proc/self/exe", code);
  return code ? fs::current_path() : program.parent_path();
}

fs::path data_folder() {
  if (const std::string named = environment("HAQA_DATA"); !named.empty()) return named;
  const fs::path installed = program_folder().parent_path() / "share/haqa/data";
  return fs::is_directory(installed) ? installed : fs::path(HAQA_SOURCE_DATA);
}

fs::path cache_folder() {
  if (const std::string named = environment("HAQA_CACHE"); !named.empty()) return named;
  if (const std::string xdg = environment("XDG_CACHE_HOME"); !xdg.empty()) return fs::path(xdg) / "haqa";
  const std::string home = environment("HOME");
  return fs::path(home.empty() ? "/tmp" : home) / ".cache/haqa";
}

fs::path llama_bin_folder() {
  const std::string named = environment("HAQA_LLAMA_BIN");
  return named.empty() ? fs::path(HAQA_LLAMA_BIN_DIR) : fs::path(named);
}

}  // namespace haqa
