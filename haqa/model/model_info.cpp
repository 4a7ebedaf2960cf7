#include "haqa/model/model_info.h"

#include <algorithm>
#include <climits>
#include <map>
#include <numeric>
#include <unordered_map>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/json.h"
#include "haqa/base/text.h"
#include "haqa/model/gguf_file.h"
#include "haqa/model/tensor_list.h"

namespace haqa {
namespace fs = std::filesystem;
namespace {

constexpr int kMaxLayers = 512;  // LLAMA_MAX_LAYERS in llama.cpp's src/llama-hparams.h
constexpr int kMaxWidth = 1 << 20;
constexpr int kMaxVocabulary = 1 << 24;
constexpr int kMaxHeads = 1 << 12;

/// A file that can be planned and run: one of the two architectures, with weights, whole and not an adapter.
void check_kind(const GgufFile& gguf) {
  const std::string file = gguf.file().string();
  const std::string architecture = gguf.text("general.architecture");
  if (architecture.empty())
    throw Error("{}: its header lacks 'general.architecture'; convert the model again with llama.cpp's converter",
                file);
  if (const std::string type = gguf.text("general.type"); !type.empty() && type != "model")
    throw Error("{}: holds no model but '{}'; name the model that it belongs to", file, type);
  if (gguf_get_n_tensors(gguf.context()) == 0)
    throw Error("{}: holds a vocabulary without weights; name a whole model", file);
  if (architecture != "llama" && architecture != "gpt2")
    throw Error("{}: architecture '{}' is not supported; llama and gpt2 are", file, architecture);
  if (gguf.integer("split.count", 0, INT_MAX).value_or(0) > 1)
    throw Error("{}: is one of several parts of a model; join them with `llama-gguf-split --merge` and name the result",
                file);
  if (gguf.integer(architecture + ".expert_count", 0, INT_MAX).value_or(0) > 0)
    throw Error("{}: is a mixture of experts, which is not supported; choose a dense llama or gpt2", file);
}

int required(const GgufFile& gguf, const std::string& key, int high) {
  const auto value = gguf.integer(key, 1, high);
  if (!value)
    throw Error("{}: its header lacks '{}'; convert the model again with llama.cpp's converter", gguf.file().string(),
                key);
  return static_cast<int>(*value);
}

void read_sizes(const GgufFile& gguf, ModelInfo& m) {
  const std::string prefix = m.architecture + ".";
  const auto optional = [&](const char* key, int high, int otherwise) {
    return static_cast<int>(gguf.integer(prefix + key, 1, high).value_or(otherwise));
  };
  m.n_layer = required(gguf, prefix + "block_count", kMaxLayers);
  m.n_embd = required(gguf, prefix + "embedding_length", kMaxWidth);
  m.n_ff = required(gguf, prefix + "feed_forward_length", kMaxVocabulary);
  m.n_head = required(gguf, prefix + "attention.head_count", kMaxHeads);
  m.n_ctx_train = required(gguf, prefix + "context_length", INT_MAX);
  m.n_head_kv = optional("attention.head_count_kv", kMaxHeads, m.n_head);
  m.n_embd_head_k = optional("attention.key_length", kMaxWidth, m.n_embd / m.n_head);
  m.n_embd_head_v = optional("attention.value_length", kMaxWidth, m.n_embd / m.n_head);
  // llama.cpp aborts on what this refuses. Rotary positions turn pairs of numbers, all of a head.
  const bool rotary = m.architecture == "llama";
  const int rotated = rotary ? optional("rope.dimension_count", kMaxWidth, m.n_embd_head_k) : m.n_embd_head_k;
  const bool heads = m.n_embd_head_k == m.n_embd_head_v && m.n_embd_head_k > 0 && m.n_head % m.n_head_kv == 0;
  if (!heads || rotated != m.n_embd_head_k || (rotary && rotated % 2 != 0))
    throw Error(
        "{}: {} heads over {} key-value heads of width {} and {}, {} of it rotated, make no {} model; convert the "
        "model again",
        gguf.file().string(), m.n_head, m.n_head_kv, m.n_embd_head_k, m.n_embd_head_v, rotated, m.architecture);
}

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

using TensorsByName = std::unordered_map<std::string, const TensorInfo*>;

TensorsByName by_name(const std::vector<TensorInfo>& tensors) {
  TensorsByName named;
  for (const TensorInfo& tensor : tensors) named.emplace(tensor.name, &tensor);
  return named;
}

/// Some converters of llama models fuse the three projections of attention, which llama.cpp reads too.
bool fused(const TensorsByName& named, const ModelInfo& m, const TensorInfo& expected) {
  const size_t dot = expected.name.rfind(".attn_");
  const bool projection = dot != std::string::npos && expected.name.find("attn_output") == std::string::npos &&
                          expected.name.find("norm") == std::string::npos;
  if (!projection) return false;
  const auto found = named.find(expected.name.substr(0, dot) + ".attn_qkv.weight");
  const int64_t rows = int64_t{m.n_embd_head_k} * (m.n_head + 2 * int64_t{m.n_head_kv});
  return found != named.end() && found->second->shape == std::vector<int64_t>{m.n_embd, rows};
}

void check_tensors(const fs::path& file, const ModelInfo& m, const TensorsByName& named) {
  for (const TensorInfo& expected : converted_tensors(m)) {
    const auto found = named.find(expected.name);
    if (found == named.end() && fused(named, m, expected)) continue;
    if (found == named.end())
      throw Error("{}: lacks the tensor '{}' of its {} layers; convert or download the model again", file.string(),
                  expected.name, m.n_layer);
    if (found->second->shape != expected.shape)
      throw Error(
          "{}: tensor '{}' has the shape {}, but the header's sizes give {}; convert or download the model again",
          file.string(), expected.name, shape_text(found->second->shape), shape_text(expected.shape));
  }
}

}  // namespace

int64_t TensorInfo::elements() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

int64_t ModelInfo::parameters() const {
  int64_t sum = 0;
  // LLaMA 3's table of rope frequencies is stored as a tensor but is no parameter: published counts leave it out.
  for (const TensorInfo& tensor : tensors)
    if (tensor.name != "rope_freqs.weight") sum += tensor.elements();
  return sum;
}

uint64_t ModelInfo::weights_bytes() const {
  uint64_t sum = 0;
  for (const TensorInfo& tensor : tensors) sum += tensor.bytes;
  return sum;
}

std::string ModelInfo::main_type() const {
  std::map<std::string, int64_t> elements;
  for (const TensorInfo& tensor : tensors) elements[tensor.type] += tensor.elements();
  const auto most = std::max_element(elements.begin(), elements.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == elements.end() ? "" : most->first;
}

ModelInfo read_model(const fs::path& file) {
  const GgufFile gguf(file);
  check_kind(gguf);
  ModelInfo m;
  m.file = file;
  m.architecture = gguf.text("general.architecture");
  m.name = gguf.text("general.name");
  if (m.name.empty()) m.name = one_line(file.stem().string());
  read_sizes(gguf, m);
  m.tensors = gguf.tensors();

  const TensorsByName named = by_name(m.tensors);
  const auto embedding = named.find("token_embd.weight");
  if (embedding == named.end() || embedding->second->shape.size() != 2 ||
      embedding->second->shape[1] > kMaxVocabulary || embedding->second->shape[1] < 1)
    throw Error("{}: lacks a token embedding ('token_embd.weight'); convert or download the model again",
                file.string());
  m.n_vocab = static_cast<int>(embedding->second->shape[1]);
  m.tied_output = !named.contains("output.weight");
  check_tensors(file, m, named);
  return m;
}

std::vector<std::string> architecture_names() {
  std::vector<std::string> names;
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(data_folder() / "architectures", code))
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

ModelInfo architecture(std::string_view name) {
  const std::vector<std::string> names = architecture_names();
  if (std::find(names.begin(), names.end(), name) == names.end())
    throw UsageError("'{}' is no known model; known are {}", one_line(name), fmt::join(names, ", "));
  const fs::path file = data_folder() / "architectures" / (std::string(name) + ".json");
  const Json json = read_json(file);
  ModelInfo m;
  m.name = name;
  try {
    m.architecture = json.at("architecture").get<std::string>();
    m.n_layer = json.at("n_layer").get<int>();
    m.n_embd = json.at("n_embd").get<int>();
    m.n_head = json.at("n_head").get<int>();
    m.n_head_kv = json.at("n_head_kv").get<int>();
    m.n_ff = json.at("n_ff").get<int>();
    m.n_vocab = json.at("n_vocab").get<int>();
    m.n_ctx_train = json.at("n_ctx_train").get<int>();
    m.tied_output = json.at("tied_output").get<bool>();
    m.n_embd_head_k = m.n_embd_head_v = m.n_embd / m.n_head;
    m.tensors = converted_tensors(m);
    if (json.value("rope_freqs", false))
      m.tensors.push_back(
          {"rope_freqs.weight", "F32", {m.n_embd_head_k / 2}, tensor_bytes({m.n_embd_head_k / 2}, "F32")});
  } catch (const Json::exception& error) {
    throw Error("{}: {}; restore the file from the release", file.string(), error.what());
  }
  return m;
}

}  // namespace haqa
