#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "haqa/base/json.h"

namespace haqa {

/// Loads models, so it runs in haqa-infer, never in the coordinator.

struct QualityOptions {
  std::filesystem::path model;      ///< GGUF
  std::filesystem::path text;       ///< UTF-8; at least n_ctx tokens
  std::filesystem::path reference;  ///< logits of the reference model: written by measure_reference()
  int n_ctx = 256;
  int max_tokens = 1024;  ///< scored positions at most; each costs n_vocab * 4 bytes in the reference file
  int threads = 0;        ///< 0: all cores
  std::string type_k = "f16", type_v = "f16";
  std::string flash_attention = "auto";
};

/// Perplexity of the text as llama.cpp's llama-perplexity defines it: chunks of n_ctx tokens, each begun with BOS where
/// the vocabulary says so, the second half of each chunk scored. Writes the logits of the scored positions to
/// options.reference.
/// Returns {"perplexity","tokens","chunks"}. Throws Error (no model, text too short).
Json measure_reference(const QualityOptions& options, const std::function<void(double)>& progress);

/// The same positions by another model, or the same with another KV cache, against the reference.
/// Returns {"perplexity","perplexity_ratio": to the reference's,"perplexity_ratio_error": its standard error, from the
/// differences at each position,"kl_divergence": mean over positions in nats,
/// "same_top": share of positions with the same likeliest token,"tokens"}.
Json measure_quality(const QualityOptions& options, const std::function<void(double)>& progress);

}  // namespace haqa
