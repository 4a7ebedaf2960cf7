#include "haqa/base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "haqa/base/bytes.h"

namespace haqa {
namespace {
using Clock = std::chrono::steady_clock;
double seconds(Clock::duration d) {
  return std::chrono::duration<double>(d).count();
}
/// fmt::print would throw where stderr is closed or its disk full, and end a run for want of a reader.
void print(const std::string& text) {
  std::fputs(text.c_str(), stderr);
}
}  // namespace

Progress::Progress(bool quiet) : quiet_(quiet), terminal_(isatty(2) == 1), started_(Clock::now()), shown_(started_) {}

Progress::~Progress() {
  clear();
}

void Progress::step(std::string_view title) {
  clear();
  title_ = title;
  share_ = 0;
  started_ = shown_ = Clock::now();
  if (terminal_) {
    show(title_ + " ...");
  } else if (!quiet_) {
    print(title_ + " ...\n");
  }
}

void Progress::update(double share, std::string_view detail) {
  const auto now = Clock::now();
  if (share < share_) started_ = now;
  share_ = share;
  if (seconds(now - shown_) < (terminal_ ? 0.1 : 10)) return;
  shown_ = now;
  const double spent = seconds(now - started_);
  std::string text = fmt::format("{}{}{:3.0f} %", title_, title_.empty() ? "" : " ", 100 * share);
  if (share > 0.01 && share < 1) text += ", " + format_seconds(spent * (1 - share) / share) + " left";
  if (!detail.empty()) text += fmt::format(" ({})", detail);
  if (terminal_) {
    show(text);
  } else if (!quiet_) {
    print(text + "\n");
  }
}

void Progress::done(std::string_view result) {
  clear();
  if (!quiet_ && !result.empty()) print(std::string(result) + "\n");
  title_.clear();
}

void Progress::note(std::string_view line) {
  clear();
  if (!quiet_) print(std::string(line) + "\n");
}

void Progress::show(const std::string& text) {
  if (quiet_) return;
  print("\r\033[K" + text);
  std::fflush(stderr);
  line_open_ = true;
}

void Progress::clear() {
  if (line_open_) print("\r\033[K");
  line_open_ = false;
}

}  // namespace haqa
