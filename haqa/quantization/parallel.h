#pragma once
#include <cstdint>
#include <functional>

namespace haqa {

/// The work of a loop on the places from `begin` to before `end`.
using Part = std::function<void(int64_t begin, int64_t end)>;

/// Runs a loop over 0 to n: calls `part` for parts that cover it once, at the same time where it has threads; what is
/// shorter than `grain` is not worth one. The caller brings the threads: training has some that wait, and to start
/// others for every product took longer.
using Loop = std::function<void(int64_t n, int64_t grain, const Part& part)>;

/// All of it here and now.
inline void in_turn(int64_t n, int64_t /*grain*/, const Part& part) {
  if (n > 0) part(0, n);
}

}  // namespace haqa
