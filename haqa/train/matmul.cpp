#include "haqa/train/matmul.h"

namespace haqa {
namespace {

torch::Tensor onednn_times_transposed(const torch::Tensor& x, const torch::Tensor& weight) {
  return at::mkldnn_linear(x.to_mkldnn(), weight).to_dense();
}

torch::Tensor onednn_times(const torch::Tensor& x, const torch::Tensor& weight) {
  return at::mkldnn_linear_backward_input({x.size(0), weight.size(1)}, x.to_mkldnn(), weight).to_dense();
}

/// By the processor and not by a stopwatch: a training must come to the same numbers when it is run again.
bool onednn_is_faster() {
#if defined(__x86_64__)
  return at::globalContext().hasMKLDNN() && !__builtin_cpu_is("intel") && __builtin_cpu_supports("avx512f");
#else
  return false;
#endif
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
