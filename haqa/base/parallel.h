#pragma once
#include <cstddef>
#include <functional>

namespace haqa {

/// Calls work(i) for every i below `count`, in no order, in `threads` threads (0: on all cores); `progress` hears the
/// share begun, on the calling thread. What one of them throws first is thrown here after all threads have stopped; no
/// other i is begun then.
void parallel_for(size_t count, const std::function<void(size_t)>& work,
                  const std::function<void(double)>& progress = {}, int threads = 0);

}  // namespace haqa
