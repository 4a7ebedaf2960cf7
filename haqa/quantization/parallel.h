#pragma once
#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

namespace haqa {

/// Calls body(begin, end) for parts of 0 to n, each on a thread of its own and the last on the caller's; with one part
/// there is no thread and no allocation. Parts begin at multiples of `grain`, and none is smaller but the last, so that
/// little work is not spread. body must not throw.
template <typename Body>
void parallel_for(int64_t n, int64_t grain, int threads, const Body& body) {
  const int64_t grains = (n + grain - 1) / grain;
  const int64_t parts = std::clamp<int64_t>(threads, 1, std::max<int64_t>(grains, 1));
  if (parts == 1) return body(int64_t{0}, n);
  const auto edge = [&](int64_t part) { return std::min(n, grains * part / parts * grain); };
  std::vector<std::jthread> others;
  others.reserve(static_cast<size_t>(parts - 1));
  for (int64_t part = 0; part + 1 < parts; ++part)
    others.emplace_back([&body, begin = edge(part), end = edge(part + 1)] { body(begin, end); });
  body(edge(parts - 1), n);
}

}  // namespace haqa
