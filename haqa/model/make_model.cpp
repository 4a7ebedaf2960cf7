#include "haqa/model/make_model.h"

#include <ggml.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include "haqa/base/error.h"
#include "haqa/base/parallel.h"
#include "haqa/base/text.h"
#include "haqa/model/gguf_file.h"
#include "haqa/model/gguf_writer.h"
#include "haqa/model/model_info.h"
#include "haqa/model/tensor_list.h"
#include "haqa/model/vocabulary_cut.h"

namespace haqa {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kChunk = 1 << 20;  // numbers that a thread makes at once: 4 MB of floats and 2 MB of halves

/// The distribution of a tensor's numbers.
struct Job {
  int64_t elements = 0;
  bool half = false;
  float mean = 0, deviation = 0;
};

/// A 64-bit hash with every output bit depending on every input bit. Source: splitmix64, Steele, Lea and Flood 2014.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// Close to a normal number: the sum of four uniform ones, from the counter alone, so that threads and machines agree.
/// Sums of integers and a single product round alike everywhere; Box-Muller's logarithm would not.
float normal(uint64_t stream, uint64_t counter) {
  const uint64_t bits = mix(stream ^ mix(counter));
  const auto sum = static_cast<int32_t>((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48));
  constexpr float kUnit = 1.0f / 37837.2266f;  // 65536 · sqrt(4 / 12)
  return static_cast<float>(sum - 2 * 65535) * kUnit;
}

/// Keeps activations near one and logits near a deviation of 2, so that predictions are neither flat nor certain and
/// the divergence between two quantizations means something.
float deviation_of(const ModelInfo& m, const TensorInfo& tensor) {
  const float per_input = 1.0f / std::sqrt(static_cast<float>(tensor.shape[0]));
  const bool embedding = tensor.name == "token_embd.weight";
  if (tensor.name == "output.weight" || (embedding && m.tied_output)) return 2.0f * per_input;
  if (embedding) return 1.0f;
  // A tied output sees the input's own embedding; the layers must drown it, or the model repeats its input forever.
  const float branch = (m.tied_output ? 2.0f : 1.0f) / std::sqrt(2.0f * static_cast<float>(m.n_layer));
  if (tensor.name.find("attn_output") != std::string::npos) return branch * per_input;
  if (tensor.name.find("ffn_down") != std::string::npos)
    return branch * per_input * 1.7f;  // SwiGLU of unit normals: 0.6
  // Scores with a deviation of 2 look at a few tokens; with 1, attention would average everything away.
  const bool score =
      tensor.name.find("attn_q.") != std::string::npos || tensor.name.find("attn_k.") != std::string::npos;
  return score ? 1.414f * per_input : per_input;
}

Job job_of(const ModelInfo& m, const TensorInfo& tensor) {
  Job job;
  job.elements = tensor.elements();
  job.half = tensor.type == "F16";
  job.mean = job.half ? 0.0f : 1.0f;  // what is not half are the norms
  job.deviation = job.half ? deviation_of(m, tensor) : 0.1f;
  return job;
}

/// Fills a tensor's numbers from `begin` on, kChunk at most.
void fill(const GgufWriter& writer, size_t tensor, const Job& job, int64_t begin, uint64_t seed) {
  const int64_t n = std::min(kChunk, job.elements - begin);
  const uint64_t stream = mix(seed ^ mix(tensor));
  std::vector<float> numbers(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const float deviation = job.deviation * normal(stream, static_cast<uint64_t>(begin + i));
    // Rounded, so that a processor which fuses the product into the sum gets the same bits.
    numbers[static_cast<size_t>(i)] =
        job.mean == 0 ? deviation : job.mean + std::round(deviation * 65536.0f) / 65536.0f;
  }
  if (!job.half) {
    writer.write(tensor, static_cast<uint64_t>(begin) * sizeof(float), std::as_bytes(std::span(numbers)));
    return;
  }
  std::vector<ggml_fp16_t> halves(numbers.size());
  ggml_fp32_to_fp16_row(numbers.data(), halves.data(), n);
  writer.write(tensor, static_cast<uint64_t>(begin) * sizeof(ggml_fp16_t), std::as_bytes(std::span(halves)));
}

/// Only the vocabulary's own keys: those that describe a model would contradict the new one.
/// merges: how many stay; 0: all. Returns the number of tokens.
int copy_tokenizer(gguf_context* to, const GgufFile& vocabulary, int merges) {
  const auto tokens = [to] { return gguf_find_key(to, "tokenizer.ggml.tokens"); };
  gguf_set_kv(to, vocabulary.context());
  std::vector<std::string> others;
  for (int64_t i = 0; i < gguf_get_n_kv(to); ++i)
    if (const std::string key = gguf_get_key(to, i); !key.starts_with("tokenizer.")) others.push_back(key);
  for (const std::string& key : others) gguf_remove_key(to, key.c_str());
  if (tokens() < 0 || gguf_get_kv_type(to, tokens()) != GGUF_TYPE_ARRAY)
    throw Error("{}: has no vocabulary ('tokenizer.ggml.tokens'); name a GGUF file that has, such as {}",
                vocabulary.file().string(), "llama.cpp's models/ggml-vocab-llama-spm.gguf");
  if (merges > 0) cut_vocabulary(to, merges, vocabulary.file());
  return static_cast<int>(gguf_get_arr_n(to, tokens()));
}

void set_model_keys(gguf_context* to, const ModelInfo& m) {
  const auto number = [to](const char* key, int value) { gguf_set_val_u32(to, key, static_cast<uint32_t>(value)); };
  gguf_set_val_str(to, "general.architecture", "llama");
  gguf_set_val_str(to, "general.name", m.name.c_str());
  gguf_set_val_str(to, "general.description", "random weights made by haqa; writes no sensible text");
  number("general.file_type", 1);  // mostly F16
  number("general.quantization_version", 2);
  number("llama.vocab_size", m.n_vocab);
  number("llama.context_length", m.n_ctx_train);
  number("llama.embedding_length", m.n_embd);
  number("llama.block_count", m.n_layer);
  number("llama.feed_forward_length", m.n_ff);
  number("llama.rope.dimension_count", m.n_embd_head_k);
  number("llama.attention.head_count", m.n_head);
  number("llama.attention.head_count_kv", m.n_head_kv);
  gguf_set_val_f32(to, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
  gguf_set_val_f32(to, "llama.rope.freq_base", 10000.0f);
}

ModelInfo model_of(const ModelShape& shape, int n_vocab) {
  const bool good = shape.n_layer > 0 && shape.n_embd > 0 && shape.n_head > 0 && shape.n_head_kv > 0 &&
                    shape.n_ff > 0 && shape.n_ctx_train > 0 && shape.merges >= 0 &&
                    shape.n_embd % (2 * shape.n_head) == 0 && shape.n_head % shape.n_head_kv == 0;
  if (!good)
    throw UsageError(
        "{} layers, {} wide, {} heads over {} key-value heads make no llama; heads must divide the width "
        "into even parts, and key-value heads the heads",
        shape.n_layer, shape.n_embd, shape.n_head, shape.n_head_kv);
  ModelInfo m;
  m.name = shape.name;
  m.architecture = "llama";
  m.n_layer = shape.n_layer, m.n_embd = shape.n_embd, m.n_head = shape.n_head, m.n_head_kv = shape.n_head_kv;
  m.n_ff = shape.n_ff, m.n_ctx_train = shape.n_ctx_train, m.tied_output = shape.tied_output;
  m.n_vocab = n_vocab;
  m.n_embd_head_k = m.n_embd_head_v = m.n_embd / m.n_head;
  m.tensors = converted_tensors(m);
  return m;
}

/// Layers, widths and heads, and merges of the vocabulary. About 40, 360 and 6 MB of F16; all widths are multiples of
/// 256, which K-quants need. "demo" is made to be trained within seconds: most of LLaMA-2's vocabulary would be dead
/// weight in it.
constexpr std::array<std::pair<std::string_view, std::array<int, 6>>, 3> kGenerated = {{
    {"tiny", {4, 256, 4, 2, 768, 0}},
    {"small", {10, 1024, 16, 4, 2816, 0}},
    {"demo", {2, 256, 4, 2, 512, 1024}},
}};

}  // namespace

ModelShape model_shape(std::string_view name) {
  std::vector<std::string> names;
  for (const auto& [known, s] : kGenerated) {
    if (known == name)
      return {.name = std::string(name),
              .n_layer = s[0],
              .n_embd = s[1],
              .n_head = s[2],
              .n_head_kv = s[3],
              .n_ff = s[4],
              .merges = s[5]};
    names.emplace_back(known);
  }
  for (const std::string& known : architecture_names()) {
    const ModelInfo m = architecture(known);
    if (m.architecture != "llama") continue;
    if (known == name) return {known, m.n_layer, m.n_embd, m.n_head, m.n_head_kv, m.n_ff, m.n_ctx_train, m.tied_output};
    names.push_back(known);
  }
  throw UsageError("'{}' is no shape to make a model of; choose one of {}", one_line(name), fmt::join(names, ", "));
}

void make_model(const ModelShape& shape, const fs::path& vocabulary, uint64_t seed, const fs::path& file,
                const std::function<void(double)>& progress) {
  GgufPtr gguf(gguf_init_empty());
  const ModelInfo model = model_of(shape, copy_tokenizer(gguf.get(), GgufFile(vocabulary), shape.merges));
  set_model_keys(gguf.get(), model);
  add_tensors(gguf.get(), model.tensors);

  GgufWriter writer(std::move(gguf), file, "the model");
  struct Chunk {
    size_t tensor;
    Job job;
    int64_t begin;
  };
  std::vector<Chunk> chunks;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const Job job = job_of(model, model.tensors[i]);
    for (int64_t begin = 0; begin < job.elements; begin += kChunk) chunks.push_back({i, job, begin});
  }
  const auto work = [&](size_t i) { fill(writer, chunks[i].tensor, chunks[i].job, chunks[i].begin, seed); };
  parallel_for(chunks.size(), work, progress);
  writer.commit();
}

fs::path default_vocabulary() {
  const fs::path file = fs::path(HAQA_LLAMA_MODELS_DIR) / "ggml-vocab-llama-spm.gguf";
  if (!fs::is_regular_file(file))
    throw Error("{}: no such file; name a GGUF file with a vocabulary, such as {}", file.string(),
                "llama.cpp's models/ggml-vocab-llama-spm.gguf");
  return file;
}

}  // namespace haqa
