#include "haqa/train/matmul.h"

#include <chrono>

namespace haqa {
namespace {

torch::Tensor onednn_times_transposed(const torch::Tensor& x, const torch::Tensor& weight) {
  return at::mkldnn_linear(x.to_mkldnn(), weight).to_dense();
}

torch::Tensor onednn_times(const torch::Tensor& x, const torch::Tensor& weight) {
  return at::mkldnn_linear_backward_input({x.size(0), weight.size(1)}, x.to_mkldnn(), weight).to_dense();
}

template <typename Work>
double best_seconds(const Work& work) {
  double best = 1e9;
  for (int i = 0; i < 4; ++i) {  // the first one warms up
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

bool onednn_is_faster() {
  if (!at::globalContext().hasMKLDNN()) return false;
  const at::NoGradGuard no_grad;
  const torch::Tensor x = torch::ones({256, 1024}), weight = torch::ones({1024, 1024});
  return best_seconds([&] { onednn_times_transposed(x, weight); }) < best_seconds([&] { at::linear(x, weight); });
}

/// oneDNN's layouts are for whole matrices of floats in main memory; small ones are not worth the copies.
bool use_onednn(const torch::Tensor& x, const torch::Tensor& weight) {
  static const bool faster = onednn_is_faster();
  return faster && x.is_cpu() && x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat &&
         x.size(0) >= 32 && weight.size(0) >= 64 && weight.size(1) >= 64 && weight.is_contiguous();
}

}  // namespace

torch::Tensor times_transposed(const torch::Tensor& x, const torch::Tensor& weight) {
  return use_onednn(x, weight) ? onednn_times_transposed(x.contiguous(), weight) : at::linear(x, weight);
}

torch::Tensor times(const torch::Tensor& x, const torch::Tensor& weight) {
  return use_onednn(x, weight) ? onednn_times(x.contiguous(), weight) : at::matmul(x, weight);
}

}  // namespace haqa
