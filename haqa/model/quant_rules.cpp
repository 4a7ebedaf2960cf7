#include "haqa/model/quant_rules.h"

#include <ggml.h>

#include <algorithm>
#include <array>

#include "haqa/base/error.h"
#include "haqa/base/text.h"
#include "haqa/model/gguf_file.h"
#include "haqa/model/tensor_list.h"

namespace haqa {
namespace {

constexpr std::array kBitWidths = {BitWidth::fp16, BitWidth::int8, BitWidth::int4};
constexpr std::array<std::string_view, 2> kFp16 = {"F16", "BF16"};
constexpr std::array<std::string_view, 1> kInt8 = {"Q8_0"};
constexpr std::array<std::string_view, 4> kInt4 = {"Q4_0", "Q4_K_S", "Q4_K_M", "IQ4_NL"};

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

bool is_mixed(std::string_view gguf_type) {
  return gguf_type == "Q4_K_S" || gguf_type == "Q4_K_M";
}

/// The type most tensors get: llama_ftype_get_default_type.
ggml_type default_type(std::string_view gguf_type) {
  return ggml_type_named(is_mixed(gguf_type) ? std::string_view("Q4_K") : gguf_type);
}

/// tensor_allows_quantization, for the tensors that llama and gpt2 have.
bool may_change(const TensorInfo& tensor) {
  return tensor.shape.size() >= 2 && tensor.name.ends_with("weight") && !contains(tensor.name, "_norm.weight") &&
         tensor.name != "position_embd.weight" && tensor.name != "token_types.weight";
}

/// The first eighth, the last eighth and every third layer between.
bool use_more_bits(int layer, int n_layer) {
  return layer < n_layer / 8 || layer >= 7 * n_layer / 8 || (layer - n_layer / 8) % 3 == 2;
}

/// The value projection loses most by quantization, so it gets more bits.
ggml_type attn_v_type(const ModelInfo& model, int layer, std::string_view asked, ggml_type type) {
  const int n_gqa = model.n_head_kv > 0 ? model.n_head / model.n_head_kv : 0;
  if (asked == "IQ4_NL" && n_gqa >= 4) type = GGML_TYPE_Q5_K;
  if (asked == "Q4_K_M" && use_more_bits(layer, model.n_layer)) type = GGML_TYPE_Q6_K;
  if (asked == "Q4_K_S" && layer < 4) type = GGML_TYPE_Q5_K;
  // llama.cpp knows the 70B model by its 80 layers.
  const bool is_70b = model.architecture == "llama" && model.n_layer == 80 && model.n_head != model.n_head_kv;
  return is_70b && type == GGML_TYPE_Q4_K ? GGML_TYPE_Q5_K : type;
}

ggml_type ffn_down_type(const ModelInfo& model, int layer, std::string_view asked, ggml_type type) {
  if (asked == "Q4_K_M") return use_more_bits(layer, model.n_layer) ? GGML_TYPE_Q6_K : type;
  const bool early = layer < model.n_layer / 8;
  return early && (asked == "IQ4_NL" || asked == "Q4_K_S") ? GGML_TYPE_Q5_K : type;
}

/// llama_tensor_get_type_impl. It counts the value and down projections as it meets them, sorted by layer; every layer
/// has one of each, so the count is the layer.
ggml_type mixture_type(const ModelInfo& model, const TensorInfo& tensor, std::string_view asked, ggml_type type) {
  const bool is_output = tensor.name == "output.weight" || (model.tied_output && tensor.name == "token_embd.weight");
  if (is_output && tensor.shape[0] % ggml_blck_size(type) != 0) return GGML_TYPE_Q8_0;
  if (is_output) return type == GGML_TYPE_Q8_0 ? type : GGML_TYPE_Q6_K;
  const int layer = layer_of(tensor.name);
  if (contains(tensor.name, "attn_v.weight") || contains(tensor.name, "attn_qkv.weight"))
    return attn_v_type(model, layer, asked, type);
  return contains(tensor.name, "ffn_down") ? ffn_down_type(model, layer, asked, type) : type;
}

/// tensor_type_fallback: a type whose blocks divide the row.
ggml_type fallback_type(int64_t width, ggml_type type) {
  if (width % ggml_blck_size(type) == 0) return type;
  if (type == GGML_TYPE_Q4_K) type = GGML_TYPE_Q5_0;
  if (type == GGML_TYPE_Q5_K) type = GGML_TYPE_Q5_1;
  if (type == GGML_TYPE_Q6_K) type = GGML_TYPE_Q8_0;
  return width % ggml_blck_size(type) == 0 ? type : GGML_TYPE_F16;
}

}  // namespace

std::string_view to_string(BitWidth width) {
  switch (width) {
    case BitWidth::fp16:
      return "fp16";
    case BitWidth::int8:
      return "int8";
    case BitWidth::int4:
      return "int4";
  }
  return "";
}

BitWidth bit_width_from(std::string_view name) {
  for (const BitWidth width : kBitWidths)
    if (to_string(width) == name) return width;
  throw UsageError("'{}' is no bit width; fp16, int8 and int4 are", one_line(name));
}

std::span<const BitWidth> all_bit_widths() {
  return kBitWidths;
}

std::span<const std::string_view> gguf_types(BitWidth width) {
  switch (width) {
    case BitWidth::fp16:
      return kFp16;
    case BitWidth::int8:
      return kInt8;
    case BitWidth::int4:
      return kInt4;
  }
  return {};
}

BitWidth bit_width_of(std::string_view gguf_type) {
  std::vector<std::string_view> known;
  for (const BitWidth width : kBitWidths)
    for (const std::string_view type : gguf_types(width)) {
      if (type == gguf_type) return width;
      known.push_back(type);
    }
  throw UsageError("'{}' is no GGUF type that HAQA writes; choose one of {}", one_line(gguf_type),
                   fmt::join(known, ", "));
}

BitWidth width_of_file(const ModelInfo& model) {
  const std::string type = model.main_type();
  if (type == "F32" || type == "F16" || type == "BF16") return BitWidth::fp16;
  if (type == "Q8_0") return BitWidth::int8;
  if (type == "Q4_0" || type == "Q4_K" || type == "IQ4_NL") return BitWidth::int4;
  throw Error(
      "{}: its weights are {}, which HAQA does not tune; give a file in F16, BF16, F32, Q8_0, Q4_0, Q4_K or "
      "IQ4_NL",
      model.file.string(), type);
}

std::string quantized_type(const ModelInfo& model, const TensorInfo& tensor, std::string_view gguf_type) {
  bit_width_of(gguf_type);  // throws for an unknown one
  if (!may_change(tensor)) return tensor.type;
  const ggml_type plain = default_type(gguf_type);
  if (!ggml_is_quantized(plain)) return type_name(plain);
  return type_name(fallback_type(tensor.shape[0], mixture_type(model, tensor, gguf_type, plain)));
}

uint64_t quantized_bytes(const ModelInfo& model, std::string_view gguf_type) {
  uint64_t sum = 0;
  for (const TensorInfo& tensor : model.tensors)
    sum += tensor_bytes(tensor.shape, quantized_type(model, tensor, gguf_type));
  return sum;
}

}  // namespace haqa
