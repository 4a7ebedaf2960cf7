#include "haqa/adapter/gguf_adapter.h"

#include <ggml.h>

#include <map>
#include <utility>

#include "haqa/adapter/one_rank.h"
#include "haqa/base/error.h"
#include "haqa/model/gguf_writer.h"
#include "haqa/model/tensor_data.h"
#include "haqa/model/tensor_list.h"

namespace haqa {
namespace {

constexpr std::string_view kSuffixA = ".lora_a", kSuffixB = ".lora_b";
constexpr const char* kAlpha = "adapter.lora.alpha";

void set_keys(gguf_context* to, const LoraAdapter& adapter, const ModelInfo& model, bool half) {
  gguf_set_val_str(to, "general.architecture", model.architecture.c_str());
  gguf_set_val_str(to, "general.type", "adapter");
  gguf_set_val_str(to, "general.name", (model.name + " LoRA").c_str());
  gguf_set_val_u32(to, "general.file_type", half ? 1 : 0);
  gguf_set_val_u32(to, "general.quantization_version", GGML_QNT_VERSION);
  gguf_set_val_str(to, "adapter.type", "lora");
  gguf_set_val_f32(to, kAlpha, adapter.alpha);
}

std::vector<TensorInfo> tensors_of(const LoraAdapter& adapter, const std::string& type) {
  std::vector<TensorInfo> all;
  const auto add = [&](const std::string& name, const std::vector<int64_t>& shape) {
    all.push_back({name, type, shape, tensor_bytes(shape, type)});
  };
  for (const LoraPair& pair : adapter.pairs) {
    add(pair.tensor + std::string(kSuffixA), {static_cast<int64_t>(pair.a.size()) / adapter.rank, adapter.rank});
    add(pair.tensor + std::string(kSuffixB), {adapter.rank, static_cast<int64_t>(pair.b.size()) / adapter.rank});
  }
  return all;
}

void write_numbers(const GgufWriter& writer, size_t tensor, const std::vector<float>& numbers, bool half) {
  if (!half) return writer.write(tensor, 0, std::as_bytes(std::span(numbers)));
  std::vector<ggml_fp16_t> halves(numbers.size());
  ggml_fp32_to_fp16_row(numbers.data(), halves.data(), static_cast<int64_t>(numbers.size()));
  writer.write(tensor, 0, std::as_bytes(std::span(halves)));
}

void check_kind(const GgufFile& gguf, const ModelInfo& model) {
  const std::string file = gguf.file().string();
  const std::string type = gguf.text("general.type"), kind = gguf.text("adapter.type");
  if (type != "adapter" || kind != "lora")
    throw Error("{}: holds no LoRA adapter but '{}'; name the adapter's file, or the folder that PEFT saved", file,
                type == "adapter" ? kind
                : type.empty()    ? "model"
                                  : type);
  if (const std::string architecture = gguf.text("general.architecture"); architecture != model.architecture)
    throw Error("{}: is an adapter for architecture '{}', but {} is a {}; name the model that it was trained for", file,
                architecture, model.name, model.architecture);
  if (gguf_find_key(gguf.context(), "adapter.alora.invocation_tokens") >= 0)
    throw Error("{}: works only after certain tokens (aLoRA), which is not supported; name a plain LoRA adapter", file);
}

/// 0 where there is none, which llama.cpp takes as the rank.
float alpha_of(const GgufFile& gguf) {
  const int64_t id = gguf_find_key(gguf.context(), kAlpha);
  if (id < 0) return 0;
  if (gguf_get_kv_type(gguf.context(), id) != GGUF_TYPE_FLOAT32)
    throw Error("{}: '{}' is no number of type F32; convert the adapter again", gguf.file().string(), kAlpha);
  return gguf_get_val_f32(gguf.context(), id);
}

struct Found {
  const TensorInfo *a = nullptr, *b = nullptr;
};

std::map<std::string, Found> pairs_in(const TensorData& data) {
  std::map<std::string, Found> pairs;
  for (const TensorInfo& tensor : data.tensors()) {
    const std::string_view name = tensor.name;
    if (name.ends_with(kSuffixA)) {
      pairs[std::string(name.substr(0, name.size() - kSuffixA.size()))].a = &tensor;
    } else if (name.ends_with(kSuffixB)) {
      pairs[std::string(name.substr(0, name.size() - kSuffixB.size()))].b = &tensor;
    } else {
      throw Error("{}: holds \"{}\" beside the pairs of LoRA, which is not supported; name a plain LoRA adapter",
                  data.header().file().string(), tensor.name);
    }
  }
  return pairs;
}

/// ggml drops trailing dimensions of one.
int64_t rows(const TensorInfo& tensor) {
  return tensor.shape.size() > 1 ? tensor.shape[1] : 1;
}

}  // namespace

void write_gguf(const LoraAdapter& adapter, const ModelInfo& model, const std::filesystem::path& file,
                std::string_view type) {
  if (type != "F32" && type != "F16") throw UsageError("'{}' is no type of an adapter; choose F32 or F16", type);
  check_matches(adapter, model);
  const bool half = type == "F16";
  GgufPtr header(gguf_init_empty());
  set_keys(header.get(), adapter, model, half);
  add_tensors(header.get(), tensors_of(adapter, std::string(type)));
  GgufWriter writer(std::move(header), file, "the adapter");
  for (size_t i = 0; i < adapter.pairs.size(); ++i) {
    write_numbers(writer, 2 * i, adapter.pairs[i].a, half);
    write_numbers(writer, 2 * i + 1, adapter.pairs[i].b, half);
  }
  writer.commit();
}

LoraAdapter read_gguf_adapter(const std::filesystem::path& file, const ModelInfo& model) {
  const TensorData data(file);
  check_kind(data.header(), model);
  const double alpha = alpha_of(data.header());
  std::vector<ScaledPair> pairs;
  for (const auto& [name, found] : pairs_in(data)) {
    if (!found.a || !found.b)
      throw Error("{}: \"{}\" has only one half of its pair; convert the adapter again", file.string(), name);
    const int64_t rank = found.b->shape[0];
    if (found.a->shape.size() > 2 || found.b->shape.size() > 2 || rows(*found.a) != rank)
      throw Error("{}: the two matrices for \"{}\" do not fit each other; convert the adapter again", file.string(),
                  name);
    pairs.push_back({{name, data.floats(found.a->name), data.floats(found.b->name)},
                     rank,
                     alpha == 0 ? 1 : alpha / static_cast<double>(rank)});
  }
  LoraAdapter adapter = with_one_rank(std::move(pairs), model.n_embd, file);
  check_matches(adapter, model);
  return adapter;
}

}  // namespace haqa
