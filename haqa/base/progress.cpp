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
}  // namespace

Progress::Progress(bool quiet) : quiet_(quiet), terminal_(isatty(2) == 1) {}

Progress::~Progress() {
  clear();
}

void Progress::step(std::string_view title) {
  clear();
  title_ = title;
  started_ = shown_ = Clock::now();
  if (terminal_) {
    show(title_ + " ...");
  } else if (!quiet_) {
    fmt::print(stderr, "{} ...\n", title_);
  }
}

void Progress::update(double share, std::string_view detail) {
  const auto now = Clock::now();
  if (seconds(now - shown_) < (terminal_ ? 0.1 : 10)) return;
  shown_ = now;
  const double spent = seconds(now - started_);
  std::string text = fmt::format("{} {:3.0f} %", title_, 100 * share);
  if (share > 0.01 && share < 1) text += ", " + format_seconds(spent * (1 - share) / share) + " left";
  if (!detail.empty()) text += fmt::format(" ({})", detail);
  if (terminal_) {
    show(text);
  } else if (!quiet_) {
    fmt::print(stderr, "{}\n", text);
  }
}

void Progress::done(std::string_view result) {
  clear();
  if (!quiet_ && !result.empty()) fmt::print(stderr, "{}\n", result);
  title_.clear();
}

void Progress::note(std::string_view line) {
  clear();
  if (!quiet_) fmt::print(stderr, "{}\n", line);
}

void Progress::show(const std::string& text) {
  if (quiet_) return;
  fmt::print(stderr, "\r\033[K{}", text);
  std::fflush(stderr);
  line_open_ = true;
}

void Progress::clear() {
  if (line_open_) fmt::print(stderr, "\r\033[K");
  line_open_ = false;
}

}  // namespace haqa
