#include "haqa/plugin/weights.h"

#include <algorithm>
#include <functional>
#include <system_error>
#include <thread>
#include <vector>

#include "haqa/plugin/team.h"

namespace haqa {
namespace {

/// In ggml's layout, without gaps.
haqa_tensor whole_matrix(const ggml_tensor& tensor, const void* data) {
  haqa_tensor t = {};
  t.data = const_cast<void*>(data);
  std::copy_n(tensor.ne, 3, t.ne);
  t.nb[0] = static_cast<int64_t>(ggml_type_size(tensor.type));
  t.nb[1] = static_cast<int64_t>(ggml_row_size(tensor.type, tensor.ne[0]));
  t.nb[2] = t.nb[1] * t.ne[1];
  return t;
}

/// On threads of their own, which end with the work: after OpenMP's have worked a forked host cannot use them any more.
void in_parallel(int threads, const std::function<void(Share)>& work) {
  std::vector<std::jthread> others;
  for (int i = 1; i < threads; ++i) {
    try {
      others.emplace_back(work, Share{i, threads});
    } catch (const std::system_error&) {
      work({i, threads});
    }
  }
  work({0, threads});
}

}  // namespace

size_t room_for(const Kernels& kernels, const ggml_tensor& tensor) {
  const size_t plain = ggml_nbytes(&tensor);
  const KernelFunctions* kernel = kernels.of_weights(tensor);
  if (!kernel) return plain;
  const haqa_tensor weights = whole_matrix(tensor, nullptr);
  return std::max(plain, static_cast<size_t>(kernel->packed_bytes(&weights)));
}

void pack(const ggml_tensor& tensor, const KernelFunctions& kernel, const void* source, void* target) {
  const haqa_tensor weights = whole_matrix(tensor, source);
  constexpr int64_t kStep = 64;  // rows: a multiple of what any layout puts side by side
  const auto most = static_cast<int64_t>(std::thread::hardware_concurrency());
  const int64_t steps = (weights.ne[1] + kStep - 1) / kStep;
  in_parallel(static_cast<int>(std::clamp<int64_t>(most, 1, steps)), [&](Share share) {
    const auto [first, end] = share.of(steps);
    if (first < end) kernel.pack_rows(&weights, target, first * kStep, std::min(end * kStep, weights.ne[1]));
  });
}

void unpack(const ggml_tensor& tensor, const KernelFunctions& kernel, void* target) {
  const haqa_tensor weights = whole_matrix(tensor, target);
  kernel.unpack(&weights, tensor.data);
}

}  // namespace haqa
