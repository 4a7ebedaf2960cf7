#include "haqa/train/save.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "haqa/adapter/adapter.h"
#include "haqa/adapter/gguf_adapter.h"
#include "haqa/adapter/peft.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/model/gguf_writer.h"
#include "haqa/model/tensor_list.h"

namespace haqa {
namespace {

constexpr std::string_view kA = ".lora_a", kB = ".lora_b";

std::vector<float> numbers(const torch::Tensor& tensor) {
  const torch::Tensor flat = tensor.detach().to(at::kCPU, at::kFloat).contiguous().flatten();
  return {flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel()};
}

LoraAdapter adapter_of(const Llama& llama) {
  LoraAdapter adapter;
  adapter.rank = static_cast<int>(llama.options().lora->rank);
  adapter.alpha = static_cast<float>(llama.options().lora->alpha);
  for (const auto& [name, a] : llama.parameters()) {
    if (!name.ends_with(kA)) continue;
    const std::string tensor = name.substr(0, name.size() - kA.size());
    adapter.pairs.push_back({tensor, numbers(a), numbers(llama.parameters().at(tensor + std::string(kB)))});
  }
  return adapter;
}

/// The numbers of a tensor as the bytes of its type.
std::vector<std::byte> encoded(const std::vector<float>& values, ggml_type type) {
  const auto n = static_cast<int64_t>(values.size());
  std::vector<std::byte> bytes(ggml_row_size(type, n));
  constexpr float kLargestHalf = 65504;
  const auto fits = [](float value) { return std::abs(value) <= kLargestHalf; };  // so that undefined numbers fail
  if (type == GGML_TYPE_F16 && !std::all_of(values.begin(), values.end(), fits))
    throw Error("the trained model holds numbers that F16 cannot; a smaller learning rate helps");
  if (type == GGML_TYPE_F16)
    ggml_fp32_to_fp16_row(values.data(), reinterpret_cast<ggml_fp16_t*>(bytes.data()), n);
  else if (type == GGML_TYPE_BF16)
    ggml_fp32_to_bf16_row(values.data(), reinterpret_cast<ggml_bf16_t*>(bytes.data()), n);
  else
    std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

void save_model(const Llama& llama, const std::filesystem::path& file) {
  std::vector<TensorInfo> tensors = llama.data().tensors();
  GgufPtr header(gguf_init_empty());
  gguf_set_kv(header.get(), llama.data().header().context());
  for (TensorInfo& tensor : tensors)
    if (tensor.type != "F32" && tensor.type != "F16" && tensor.type != "BF16") {
      tensor.type = "F16";
      tensor.bytes = tensor_bytes(tensor.shape, tensor.type);
      gguf_set_val_u32(header.get(), "general.file_type", 1);  // mostly F16
    }
  gguf_remove_key(header.get(), "general.alignment");
  gguf_remove_key(header.get(), "general.description");  // it says that the weights are random
  add_tensors(header.get(), tensors);
  GgufWriter writer(std::move(header), file, "the trained model");
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto found = llama.parameters().find(tensors[i].name);
    const std::vector<float> values =
        found == llama.parameters().end() ? llama.data().floats(tensors[i].name) : numbers(found->second);
    writer.write(i, 0, encoded(values, ggml_type_named(tensors[i].type)));
  }
  writer.commit();
}

}  // namespace

void save(const Llama& llama, const std::filesystem::path& folder) {
  make_folder(folder);
  if (!llama.options().lora) return save_model(llama, folder / "model.gguf");
  const LoraAdapter adapter = adapter_of(llama);
  write_gguf(adapter, llama.info(), folder / "adapter.gguf");
  write_peft(adapter, llama.info(), folder / "adapter");
}

}  // namespace haqa
