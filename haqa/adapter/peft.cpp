#include "haqa/adapter/peft.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "haqa/adapter/one_rank.h"
#include "haqa/adapter/safetensors.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/json.h"
#include "haqa/base/text.h"

namespace haqa {
namespace fs = std::filesystem;
namespace {

constexpr const char *kConfig = "adapter_config.json", *kWeights = "adapter_model.safetensors";
constexpr std::string_view kRoot = "base_model.model.", kA = ".lora_A.weight", kB = ".lora_B.weight";

/// Hugging Face's name of a layer's matrix and GGUF's. Source: gguf-py/gguf/tensor_mapping.py in llama.cpp.
constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kNames = {{{"self_attn.q_proj", "attn_q"},
                                                                                  {"self_attn.k_proj", "attn_k"},
                                                                                  {"self_attn.v_proj", "attn_v"},
                                                                                  {"self_attn.o_proj", "attn_output"},
                                                                                  {"mlp.gate_proj", "ffn_gate"},
                                                                                  {"mlp.up_proj", "ffn_up"},
                                                                                  {"mlp.down_proj", "ffn_down"}}};

/// "12" and "rest" of "12.rest"; empty where no number stands there.
std::optional<std::pair<int, std::string_view>> layer_and_rest(std::string_view text) {
  int layer = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), layer);
  if (fault != std::errc() || layer < 0 || end == text.data() + text.size() || *end != '.') return std::nullopt;
  return std::pair(layer, text.substr(static_cast<size_t>(end - text.data()) + 1));
}

bool strip(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

/// "blk.3.attn_q.weight" of "model.layers.3.self_attn.q_proj"; empty where a llama has no such matrix.
std::string gguf_name(std::string_view module) {
  if (module == "lm_head") return "output.weight";
  strip(module, "model.");
  if (!strip(module, "layers.")) return "";
  const auto found = layer_and_rest(module);
  if (!found) return "";
  for (const auto& [theirs, ours] : kNames)
    if (theirs == found->second) return fmt::format("blk.{}.{}.weight", found->first, ours);
  return "";
}

struct Module {
  std::string path;  ///< "model.layers.3.self_attn.q_proj"
  std::string name;  ///< "q_proj"
};

/// The other way round.
Module module_of(std::string_view tensor, const LoraAdapter& adapter) {
  if (tensor == "output.weight") return {"lm_head", "lm_head"};
  std::string_view rest = tensor;
  if (strip(rest, "blk."))
    if (const auto found = layer_and_rest(rest))
      for (const auto& [theirs, ours] : kNames)
        if (found->second == fmt::format("{}.weight", ours))
          return {fmt::format("model.layers.{}.{}", found->first, theirs),
                  std::string(theirs.substr(theirs.find('.') + 1))};
  throw Error("{}: adapts \"{}\", which has no name in a Hugging Face llama; write a GGUF adapter",
              adapter.file.empty() ? "the adapter" : adapter.file.string(), one_line(tensor));
}

void require_llama(const ModelInfo& model) {
  if (model.architecture != "llama")
    throw Error("{}: PEFT adapters are supported for llamas, not for a {}; take the adapter as GGUF", model.name,
                model.architecture);
}

enum class Order { gguf, hugging_face };

/// Rows of B in the order of the other program. Hugging Face turns each number of a head's first half with its
/// counterpart in the second, llama.cpp turns neighbours. Source: LlamaModel.permute in conversion/llama.py.
std::vector<float> reordered(const std::vector<float>& b, size_t rank, int heads, Order to) {
  std::vector<float> moved(b.size());
  const size_t width = b.size() / rank / static_cast<size_t>(heads), half = width / 2;
  for (size_t row = 0; row < b.size() / rank; ++row) {
    const size_t start = row / width * width, within = row % width;  // `row` counts in Hugging Face's order
    const size_t other = start + within % half * 2 + within / half;
    const size_t from = to == Order::gguf ? row : other, into = to == Order::gguf ? other : row;
    std::copy_n(b.begin() + static_cast<std::ptrdiff_t>(from * rank), rank,
                moved.begin() + static_cast<std::ptrdiff_t>(into * rank));
  }
  return moved;
}

void reorder(LoraPair& pair, int rank, const ModelInfo& model, Order to) {
  const int heads = pair.tensor.ends_with(".attn_q.weight")   ? model.n_head
                    : pair.tensor.ends_with(".attn_k.weight") ? model.n_head_kv
                                                              : 0;
  if (heads > 0) pair.b = reordered(pair.b, static_cast<size_t>(rank), heads, to);
}

/// What adapter_config.json says, as far as it changes the numbers.
class Config {
 public:
  explicit Config(fs::path file) : file_(std::move(file)), json_(read_json(file_)) {
    if (!json_.is_object() || json_.value("peft_type", Json()) != "LORA")
      throw Error("{}: is no LoRA adapter of PEFT's (peft_type is not LORA); name a LoRA adapter", file_.string());
    refuse_other_kinds();
    alpha_ = number(json_, "lora_alpha");
    stabilized_ = truthy("use_rslora");
  }

  /// What B · A of a module is multiplied with.
  double scale(std::string_view module, int64_t rank) const {
    const double alpha = alpha_of(module), r = static_cast<double>(rank);
    return alpha / (stabilized_ ? std::sqrt(r) : r);
  }

 private:
  bool truthy(const char* key) const {
    const auto found = json_.find(key);
    return found != json_.end() && !found->is_null() && *found != false && !(found->is_structured() && found->empty());
  }

  /// A whole table of what PEFT can do that W + scale · B · A cannot.
  void refuse_other_kinds() const {
    for (const char* key :
         {"use_dora", "fan_in_fan_out", "lora_bias", "modules_to_save", "layer_replication", "trainable_token_indices",
          "alora_invocation_tokens", "use_qalora", "target_parameters", "use_bdlora", "arrow_config"})
      if (truthy(key)) refuse(key);
    if (const auto bias = json_.find("bias"); bias != json_.end() && *bias != "none") refuse("bias");
    // The others change the base model before training starts, so that the adapter belongs to the changed one.
    const Json start = json_.value("init_lora_weights", Json(true));
    if (!start.is_boolean() && start != "gaussian" && start != "eva" && start != "orthogonal")
      refuse("init_lora_weights");
  }

  [[noreturn]] void refuse(const char* key) const {
    throw Error("{}: \"{}\" is set, which a plain LoRA adapter cannot express; merge it with PEFT, or train without",
                file_.string(), key);
  }

  double number(const Json& in, const std::string& key) const {
    const auto found = in.find(key);
    if (found == in.end() || !found->is_number() || !(found->get<double>() > 0))
      throw Error("{}: \"{}\" is no number above zero; save the adapter again with PEFT", file_.string(),
                  one_line(key));
    return found->get<double>();
  }

  /// PEFT takes keys as regular expressions for the end of a module's path; they are plain names in practice.
  double alpha_of(std::string_view module) const {
    if (!truthy("alpha_pattern")) return alpha_;
    const Json& patterns = json_.at("alpha_pattern");
    if (!patterns.is_object()) refuse("alpha_pattern");
    for (const auto& [key, value] : patterns.items()) {
      if (key.find_first_of("^$*+?()[]{}|\\") != std::string::npos) refuse("alpha_pattern");
      if (module == key || module.ends_with("." + key)) return number(patterns, key);
    }
    return alpha_;
  }

  fs::path file_;
  Json json_;
  double alpha_ = 0;
  bool stabilized_ = false;
};

struct Found {
  std::string a, b;  ///< names of tensors
};

/// By module.
std::map<std::string, Found> pairs_in(const SafetensorsFile& weights) {
  std::map<std::string, Found> pairs;
  for (const auto& [name, tensor] : weights.tensors()) {
    std::string_view module = name;
    while (strip(module, kRoot)) {
    }
    if (module.ends_with(".base_layer.weight")) continue;  // PEFT adds a copy of an adapted output matrix
    if (module.ends_with(kA)) {
      pairs[std::string(module.substr(0, module.size() - kA.size()))].a = name;
    } else if (module.ends_with(kB)) {
      pairs[std::string(module.substr(0, module.size() - kB.size()))].b = name;
    } else {
      throw Error("{}: holds \"{}\" beside the pairs of LoRA, which is not supported; merge it with PEFT",
                  weights.file().string(), one_line(name, 100));
    }
  }
  return pairs;
}

ScaledPair read_pair(const SafetensorsFile& weights, const std::string& module, const Found& found,
                     const Config& config) {
  const std::string tensor = gguf_name(module);
  if (tensor.empty())
    throw Error("{}: adapts \"{}\", which a llama does not have; it is an adapter for another model",
                weights.file().string(), one_line(module, 100));
  if (found.a.empty() || found.b.empty())
    throw Error("{}: \"{}\" has only one half of its pair; save the adapter again with PEFT", weights.file().string(),
                one_line(module, 100));
  const std::vector<int64_t>&a = weights.tensors().at(found.a).shape, &b = weights.tensors().at(found.b).shape;
  if (a.size() != 2 || b.size() != 2 || a[0] != b[1] || a[0] < 1)
    throw Error("{}: the two matrices for \"{}\" do not fit each other; save the adapter again with PEFT",
                weights.file().string(), one_line(module, 100));
  return {{tensor, weights.floats(found.a), weights.floats(found.b)}, a[0], config.scale(module, a[0])};
}

/// "q_proj" for all layers where every layer has it, as people write it; else every path.
std::set<std::string> target_modules(const LoraAdapter& adapter, int n_layer) {
  std::map<std::string, int> count;
  std::set<std::string> paths, names;
  for (const LoraPair& pair : adapter.pairs) {
    const Module module = module_of(pair.tensor, adapter);
    paths.insert(module.path);
    names.insert(module.name);
    ++count[module.name];
  }
  const auto everywhere = [&](const auto& entry) { return entry.second == (entry.first == "lm_head" ? 1 : n_layer); };
  return std::all_of(count.begin(), count.end(), everywhere) ? names : paths;
}

std::string config_text(const LoraAdapter& adapter, const ModelInfo& model) {
  Json alpha = adapter.alpha;
  if (adapter.alpha == std::floor(adapter.alpha) && adapter.alpha < 1e9f) alpha = static_cast<int64_t>(adapter.alpha);
  const Json config = {{"base_model_name_or_path", nullptr},
                       {"bias", "none"},
                       {"fan_in_fan_out", false},
                       {"inference_mode", true},
                       {"init_lora_weights", true},
                       {"lora_alpha", alpha},
                       {"lora_dropout", 0.0},
                       {"peft_type", "LORA"},
                       {"r", adapter.rank},
                       {"target_modules", target_modules(adapter, model.n_layer)},
                       {"task_type", "CAUSAL_LM"}};
  return config.dump(2) + "\n";
}

}  // namespace

void write_peft(const LoraAdapter& adapter, const ModelInfo& model, const fs::path& folder) {
  require_llama(model);
  check_matches(adapter, model);
  const std::string config = config_text(adapter, model);
  std::vector<LoraPair> pairs = adapter.pairs;
  std::vector<TensorToSave> tensors;
  const int64_t rank = adapter.rank;
  for (LoraPair& pair : pairs) {
    reorder(pair, adapter.rank, model, Order::hugging_face);
    const std::string name = std::string(kRoot) + module_of(pair.tensor, adapter).path;
    tensors.push_back({name + std::string(kA), {rank, static_cast<int64_t>(pair.a.size()) / rank}, pair.a});
    tensors.push_back({name + std::string(kB), {static_cast<int64_t>(pair.b.size()) / rank, rank}, pair.b});
  }
  make_folder(folder);
  write_safetensors(tensors, folder / kWeights);
  write_file(folder / kConfig, config);
}

LoraAdapter read_peft(const fs::path& folder, const ModelInfo& model) {
  require_llama(model);
  if (!fs::exists(folder / kConfig))
    throw Error("{}: holds no {}; name the folder that PEFT saved an adapter in", folder.string(), kConfig);
  if (!fs::exists(folder / kWeights) && fs::exists(folder / "adapter_model.bin"))
    throw Error("{}: holds an adapter_model.bin, which may run code when it is read; save it as safetensors with PEFT",
                folder.string());
  const Config config(folder / kConfig);
  const SafetensorsFile weights(folder / kWeights);
  std::vector<ScaledPair> pairs;
  for (const auto& [module, found] : pairs_in(weights)) pairs.push_back(read_pair(weights, module, found, config));
  LoraAdapter adapter = with_one_rank(std::move(pairs), model.n_embd, folder);
  check_matches(adapter, model);  // before the rows are moved, which takes the model's sizes for granted
  for (LoraPair& pair : adapter.pairs) reorder(pair, adapter.rank, model, Order::gguf);
  return adapter;
}

}  // namespace haqa
