#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "haqa/adapter/adapter.h"
#include "haqa/model/quant_rules.h"

namespace haqa {

/// What every trial of a fine-tuning shares.
struct FinetuneSetup {
  std::filesystem::path model;     ///< GGUF
  std::filesystem::path examples;  ///< what to learn from (dataset/examples.h)
  std::optional<std::string> form;
  std::filesystem::path data;  ///< folder with TASK.jsonl for each task
  std::vector<std::string> tasks;
  int limit = 200;         ///< questions of each task in a trial; 0: all
  int held_out_limit = 0;  ///< questions of each task in the report; 0: all
  BitWidth bit_width = BitWidth::int4;
  std::string gguf_type;  ///< of what ships; empty: the bit width's plainest
  /// What rounds choose by: the file with the adapter merged into its weights, which are quantized then; else the
  /// quantized model with the adapter beside it.
  bool merged = false;
  int context = 512;                                             ///< tokens of an example, at most
  std::string device = "cpu";                                    ///< of the training: "cpu" or "cuda"
  std::string compute = "fp32";                                  ///< "fp32" or "bf16"
  std::string optimizer_states = "fp32";                         ///< "fp32", "int8" or "offloaded"
  std::vector<std::string> lora_targets = haqa::lora_targets();  ///< layers that get an adapter (adapter/adapter.h)
  bool activation_checkpointing = false;
  std::string schedule = "constant";
  double timeout_s = 0;                  ///< of one training; 0: none
  int threads = 0;                       ///< 0: all cores
  std::optional<uint64_t> memory_limit;  ///< bytes a training may take; on the CPU it is ended where it takes more
  uint64_t memory_free = 0;              ///< the device's bytes; 0: not known. It only refuses what would not fit
  uint64_t seed = 1;
};

}  // namespace haqa
