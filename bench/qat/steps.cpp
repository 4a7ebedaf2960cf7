// haqa-qat-steps: times steps of training on batches that are made once.
//   haqa-qat-steps NETWORK WEIGHT_BITS ACTIVATION_BITS COMPUTE BATCH STEPS THREADS
#include <malloc.h>

#include <chrono>
#include <cstdio>

#include "haqa/vision/image_trainer.h"

using namespace haqa;

int main(int, char** argv) {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  ResNetOptions options;
  options.kind = resnet_kind_from(argv[1]);
  options.quantization = {.weight_bits = std::atoi(argv[2]), .activation_bits = std::atoi(argv[3])};
  options.compute = std::string(argv[4]) == "bf16" ? at::kBFloat16 : at::kFloat;
  const int batch = std::atoi(argv[5]), steps = std::atoi(argv[6]);
  at::set_num_threads(std::atoi(argv[7]));
  ResNet net(options);
  const int size = options.kind == ResNetKind::resnet50 ? 224 : 32;
  const torch::Tensor x = at::randn({batch, 3, size, size}).contiguous(at::MemoryFormat::ChannelsLast);
  const torch::Tensor y = at::randint(0, 10, {batch}, at::kLong);
  Sgd sgd(net.parameters(), {});
  const auto now = [] {
    timespec t{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return std::pair(std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(),
                     static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec));
  };
  for (int i = 0; i < steps; ++i) {
    const auto start = now();
    const torch::Tensor logits = net.logits(x, true);
    const auto mid = now();
    const torch::Tensor loss = at::cross_entropy_loss(logits, y);
    loss.backward();
    sgd.step(0.01);
    const auto end = now();
    std::printf("%.4f wall %.1f ms cpu %.1f (forward %.1f)\n", loss.item<double>(), 1e3 * (end.first - start.first),
                1e3 * (end.second - start.second), 1e3 * (mid.second - start.second));
  }
}
