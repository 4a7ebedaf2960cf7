#pragma once
#include <chrono>
#include <string>
#include <string_view>

namespace haqa {

/// What long work tells the person who waits: on a terminal one line that changes, with the time left; otherwise plain
/// lines, one at the start and one at the end of each step and at most one in ten seconds between. All of it on stderr.
class Progress {
 public:
  /// quiet: say nothing at all.
  explicit Progress(bool quiet = false);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Begins a step, ending the former.
  void step(std::string_view title);
  /// share: 0 to 1 of the step done, or of that part of it which is in hand: where it falls, another part has begun.
  /// The time left follows from it.
  void update(double share, std::string_view detail = {});
  /// Ends the step; `result` is printed as its line.
  void done(std::string_view result = {});
  /// A line of its own that stays.
  void note(std::string_view line);

 private:
  void show(const std::string& text);
  void clear();
  bool quiet_, terminal_, line_open_ = false;
  std::string title_;
  double share_ = 0;  ///< the last one
  std::chrono::steady_clock::time_point started_, shown_;
};

}  // namespace haqa
