// haqa-qlora-steps: trains on batches of tokens as they are given, so that another trainer can be run on the same.
//   haqa-qlora-steps REQUEST.json ADAPTER    prints {"losses":[...],"seconds":[...],"peak_bytes":...}
// Request: {"model","base","compute","checkpointing","threads","rank","alpha","learning_rate","weight_decay",
// "max_grad_norm","seed","batches":[[{"tokens":[...],"scored_from":n},...],...]}. ADAPTER: a PEFT folder that gets the
// adapter as it is before the first step.
#include <malloc.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <numeric>

#include "haqa/base/file.h"
#include "haqa/base/json.h"
#include "haqa/train/adamw.h"
#include "haqa/train/llama.h"
#include "haqa/train/save.h"
#include "haqa/train/trainer.h"

namespace {

using namespace haqa;

TokenBatch batch_from(const Json& json) {
  std::vector<TokenExample> examples;
  for (const Json& sequence : json) {
    TokenExample& example = examples.emplace_back();
    example.tokens = sequence.at("tokens").get<std::vector<int32_t>>();
    for (size_t i = 0; i < example.tokens.size(); ++i)
      example.counts.push_back(i >= sequence.at("scored_from").get<size_t>());
  }
  std::vector<size_t> all(examples.size());
  std::iota(all.begin(), all.end(), size_t{0});
  return token_batch(examples, all, at::kCPU);
}

/// The most memory that this process held.
uint64_t peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) * 1024;
  return 0;
}

Json run(const Json& request, const std::filesystem::path& adapter) {
  at::set_num_threads(request.at("threads"));
  LlamaOptions options;
  options.lora = LoraOptions{.rank = request.at("rank"), .alpha = request.at("alpha"), .dropout = 0};
  options.base = base_format_from(request.at("base").get<std::string>());
  options.compute = request.at("compute") == "bf16" ? at::kBFloat16 : at::kFloat;
  options.checkpointing = request.at("checkpointing");
  options.seed = request.at("seed");
  Llama llama(request.at("model").get<std::string>(), options);
  save(llama, adapter);
  AdamW adamw(llama.parameters(), {.weight_decay = request.at("weight_decay")});
  Json losses = Json::array(), seconds = Json::array();
  for (const Json& json : request.at("batches")) {
    const TokenBatch batch = batch_from(json);
    const auto start = std::chrono::steady_clock::now();
    const torch::Tensor loss = llama.summed_loss(batch, 0) / static_cast<double>(batch.scored.size(0));
    loss.backward();
    clip_gradients(llama.parameters(), request.at("max_grad_norm"));
    adamw.step(request.at("learning_rate"));
    losses.push_back(loss.item<double>());
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return {{"losses", losses}, {"seconds", seconds}, {"peak_bytes", peak_bytes()}, {"base_bytes", llama.base_bytes()}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("haqa-qlora-steps REQUEST.json ADAPTER\n", stderr);
    return 2;
  }
  mallopt(M_MMAP_THRESHOLD, 1 << 30);  // as haqa-train does
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  std::puts(run(read_json(argv[1]), argv[2]).dump().c_str());
}
