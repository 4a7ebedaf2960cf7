#pragma once
#include <algorithm>

#include "haqa/base/parallel.h"
#include "haqa/quantization/parallel.h"

namespace haqa {

/// A loop on so many threads of its own.
inline Loop on_threads(int threads) {
  return [threads](int64_t n, int64_t grain, const Part& part) {
    const int64_t parts = std::clamp<int64_t>(n / std::max<int64_t>(grain, 1), 1, threads);
    parallel_for(
        static_cast<size_t>(parts),
        [&](size_t i) {
          const auto at = static_cast<int64_t>(i);
          part(n * at / parts, n * (at + 1) / parts);
        },
        {}, threads);
  };
}

}  // namespace haqa
