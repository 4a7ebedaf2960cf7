// haqa-qat-steps: an epoch of quantization-aware training on a folder of images, so that another trainer can be run on
// the same.
//   haqa-qat-steps REQUEST.json    prints {"losses":[...],"seconds":[...]}, both of each batch
// Request: {"images","network","weight_bits","activation_bits","compute","batch","threads","learning_rate","momentum",
// "weight_decay","augment","weights","mean","deviation"}; "weights" is written before the first step.
#include <malloc.h>

#include <chrono>
#include <cstdio>
#include <numeric>

#include "haqa/base/json.h"
#include "haqa/images/image_set.h"
#include "haqa/vision/loaded_images.h"
#include "haqa/vision/resnet.h"
#include "haqa/vision/sgd.h"
#include "haqa/vision/weights.h"

namespace {

using namespace haqa;

ResNetOptions network_options(const Json& request, int64_t classes) {
  ResNetOptions options{.kind = resnet_kind_from(request.at("network").get<std::string>()), .classes = classes};
  options.quantization.weight_bits = request.at("weight_bits");
  options.quantization.activation_bits = request.at("activation_bits");
  options.compute = request.at("compute") == "bf16" ? at::kBFloat16 : at::kFloat;
  return options;
}

LoaderOptions loader_options(const Json& request) {
  LoaderOptions options;
  options.batch = request.at("batch");
  options.normalization = {request.at("mean").get<std::array<float, 3>>(),
                           request.at("deviation").get<std::array<float, 3>>()};
  options.shuffle = request.at("augment");
  if (options.shuffle) options.augmentation = Augmentation{};
  return options;
}

Json run(const Json& request) {
  at::set_num_threads(request.at("threads"));
  const ImageData data = read_images(request.at("images").get<std::string>());
  std::vector<size_t> all(data.training.size());
  std::iota(all.begin(), all.end(), size_t{0});
  const auto classes = std::ssize(data.classes);
  LoadedImages source(data.training, all, classes, loader_options(request));
  ResNet network(network_options(request, classes));
  save_weights(network, request.at("weights").get<std::string>());
  Sgd sgd(network.parameters(), {.momentum = request.at("momentum"), .weight_decay = request.at("weight_decay")});
  const double learning_rate = request.at("learning_rate");
  Json losses = Json::array(), seconds = Json::array();
  source.start_epoch(0, 0);
  for (auto start = std::chrono::steady_clock::now();;) {
    const std::optional<ImageBatch> batch = source.next();
    if (!batch) break;
    const torch::Tensor loss = at::cross_entropy_loss(network.logits(batch->images, true), batch->labels);
    loss.backward();
    sgd.step(learning_rate);
    losses.push_back(loss.item<double>());
    const auto end = std::chrono::steady_clock::now();
    seconds.push_back(std::chrono::duration<double>(end - start).count());
    start = end;
  }
  return {{"losses", losses}, {"seconds", seconds}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("haqa-qat-steps REQUEST.json\n", stderr);
    return 2;
  }
  mallopt(M_MMAP_THRESHOLD, 1 << 30);  // as haqa-train does
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  std::puts(run(read_json(argv[1])).dump().c_str());
}
