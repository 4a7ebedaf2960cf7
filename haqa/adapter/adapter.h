#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/model/model_info.h"

namespace haqa {

/// The low-rank change of one matrix: W + scale · alpha / rank · B · A. In GGUF's layout: where llama.cpp's converter
/// permuted the rows of a matrix for its rotary embedding (attn_q and attn_k of a llama), those of B are so too.
struct LoraPair {
  std::string tensor;    ///< the GGUF tensor it belongs to: "blk.0.attn_q.weight"
  std::vector<float> a;  ///< [rank, in], row-major
  std::vector<float> b;  ///< [out, rank], row-major
};

/// A LoRA adapter. Source: Hu et al. 2021, arXiv:2106.09685.
struct LoraAdapter {
  int rank = 0;  ///< the same for all pairs
  float alpha = 0;
  std::vector<LoraPair> pairs;
  std::filesystem::path file;  ///< what it was read from; empty for one in the making

  float scale() const { return alpha / static_cast<float>(rank); }
};

/// The layers of a llama that take an adapter, by the middle of their names: "attn_q" of "blk.0.attn_q.weight".
std::vector<std::string> lora_targets();
/// Whether a tensor belongs to one of these layers.
bool is_lora_target(std::string_view tensor, std::span<const std::string> targets);

/// Throws Error that says what does not fit where the adapter belongs to another model: a tensor that the model does
/// not have or that has another shape; also where the rank is above the model's width, numbers are not finite, or
/// nothing is adapted at all. The token embedding and what is no matrix cannot be adapted.
void check_matches(const LoraAdapter& adapter, const ModelInfo& model);

/// An adapter of `model` from llama.cpp's GGUF or from the folder that PEFT saves, whichever it is; checked. Throws
/// Error.
LoraAdapter read_adapter(const std::filesystem::path& file, const ModelInfo& model);

}  // namespace haqa
