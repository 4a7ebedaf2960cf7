#pragma once
#include "haqa/quantization/parallel.h"
#include "haqa/train/torch.h"

namespace haqa {

/// On libtorch's threads, which are there already; a Loop.
inline void on_libtorchs_threads(int64_t n, int64_t grain, const Part& part) {
  at::parallel_for(0, n, grain, part);
}

}  // namespace haqa
