#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "haqa/model/model_info.h"

namespace haqa {

/// A bit width is what the paper tunes; a GGUF type is how llama.cpp stores it.
enum class BitWidth { fp16, int8, int4 };

std::string_view to_string(BitWidth width);      ///< "fp16", "int8", "int4"
BitWidth bit_width_from(std::string_view name);  ///< throws UsageError
std::span<const BitWidth> all_bit_widths();      ///< fp16, int8, int4

/// GGUF types that llama.cpp can write for a bit width, its plainest first (which decides the bit width):
/// fp16: F16, BF16; int8: Q8_0; int4: Q4_0, Q4_K_S, Q4_K_M, IQ4_NL.
std::span<const std::string_view> gguf_types(BitWidth width);
/// The bit width of a GGUF type. Throws UsageError that lists the types.
BitWidth bit_width_of(std::string_view gguf_type);

/// The narrowest bit width that holds the file's weights without loss. Throws Error for types HAQA does not handle.
BitWidth width_of_file(const ModelInfo& model);

/// The type ("Q6_K") that llama.cpp's quantizer gives one tensor when asked for `gguf_type` ("Q4_K_M").
/// Source: llama_tensor_get_type in llama.cpp's src/llama-quant.cpp.
std::string quantized_type(const ModelInfo& model, const TensorInfo& tensor, std::string_view gguf_type);

/// Bytes of all tensors after quantization to `gguf_type`, as llama.cpp would write them.
uint64_t quantized_bytes(const ModelInfo& model, std::string_view gguf_type);

}  // namespace haqa
