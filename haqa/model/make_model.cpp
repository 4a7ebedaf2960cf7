#include "haqa/model/make_model.h"

#include <fcntl.h>
#include <ggml.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "haqa/base/descriptor.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/text.h"
#include "haqa/model/gguf_file.h"
#include "haqa/model/model_info.h"
#include "haqa/model/tensor_list.h"

namespace haqa {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kChunk = 1 << 20;  // numbers that a thread makes at once: 4 MB of floats and 2 MB of halves

/// A tensor's place in the file and the distribution of its numbers.
struct Job {
  uint64_t offset = 0;
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

[[noreturn]] void throw_unwritable(const fs::path& file) {
  throw Error("{}: cannot write: {}; free some space or choose another folder", file.string(), std::strerror(errno));
}

void write_at(int fd, const char* data, size_t size, uint64_t offset, const fs::path& file) {
  while (size > 0) {
    const ssize_t n = pwrite(fd, data, size, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw_unwritable(file);
    data += n;
    size -= static_cast<size_t>(n);
    offset += static_cast<uint64_t>(n);
  }
}

/// Writes all numbers of all tensors, a chunk at a time on every core.
class Filler {
 public:
  Filler(std::vector<Job> jobs, uint64_t seed, int fd, fs::path file)
      : jobs_(std::move(jobs)), seed_(seed), fd_(fd), file_(std::move(file)) {
    for (size_t i = 0; i < jobs_.size(); ++i)
      for (int64_t begin = 0; begin < jobs_[i].elements; begin += kChunk) chunks_.push_back({i, begin});
  }

  void run(const std::function<void(double)>& progress) {
    std::vector<std::jthread> threads;
    const unsigned others = std::max(1u, std::thread::hardware_concurrency()) - 1;
    try {
      for (unsigned i = 0; i < others; ++i) threads.emplace_back([this] { work({}); });
    } catch (const std::system_error&) {  // no more are to be had: the others do the work
    }
    work(progress);  // on this thread, so that the callback needs no lock
    threads.clear();
    if (failure_) std::rethrow_exception(failure_);
    if (progress) progress(1.0);
  }

 private:
  struct Chunk {
    size_t job;
    int64_t begin;
  };

  void work(const std::function<void(double)>& progress) noexcept {
    try {
      std::vector<float> numbers(kChunk);
      std::vector<ggml_fp16_t> halves(kChunk);
      for (size_t i = next_++; i < chunks_.size(); i = next_++) {
        fill(chunks_[i], numbers, halves);
        if (progress) progress(static_cast<double>(i) / static_cast<double>(chunks_.size()));
      }
    } catch (...) {
      next_ = chunks_.size();  // the others stop too
      const std::lock_guard lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
  }

  void fill(const Chunk& chunk, std::vector<float>& numbers, std::vector<ggml_fp16_t>& halves) const {
    const Job& job = jobs_[chunk.job];
    const int64_t n = std::min(kChunk, job.elements - chunk.begin);
    const uint64_t stream = mix(seed_ ^ mix(chunk.job));
    for (int64_t i = 0; i < n; ++i) {
      const float deviation = job.deviation * normal(stream, static_cast<uint64_t>(chunk.begin + i));
      // Rounded, so that a processor which fuses the product into the sum gets the same bits.
      numbers[static_cast<size_t>(i)] =
          job.mean == 0 ? deviation : job.mean + std::round(deviation * 65536.0f) / 65536.0f;
    }
    const size_t width = job.half ? sizeof(ggml_fp16_t) : sizeof(float);
    if (job.half) ggml_fp32_to_fp16_row(numbers.data(), halves.data(), n);
    const void* data = job.half ? static_cast<const void*>(halves.data()) : numbers.data();
    write_at(fd_, static_cast<const char*>(data), static_cast<size_t>(n) * width,
             job.offset + static_cast<uint64_t>(chunk.begin) * width, file_);
  }

  const std::vector<Job> jobs_;
  const uint64_t seed_;
  const int fd_;
  const fs::path file_;
  std::vector<Chunk> chunks_;
  std::atomic<size_t> next_ = 0;
  std::mutex mutex_;
  std::exception_ptr failure_;
};

/// Only the vocabulary's own keys: those that describe a model would contradict the new one.
void copy_tokenizer(gguf_context* to, const GgufFile& vocabulary) {
  gguf_set_kv(to, vocabulary.context());
  std::vector<std::string> others;
  for (int64_t i = 0; i < gguf_get_n_kv(to); ++i)
    if (const std::string key = gguf_get_key(to, i); !key.starts_with("tokenizer.")) others.push_back(key);
  for (const std::string& key : others) gguf_remove_key(to, key.c_str());
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

void add_tensors(gguf_context* to, const std::vector<TensorInfo>& tensors) {
  const size_t bytes = ggml_tensor_overhead() * (tensors.size() + 1);
  const std::unique_ptr<ggml_context, decltype(&ggml_free)> context(
      ggml_init({.mem_size = bytes, .mem_buffer = nullptr, .no_alloc = true}), ggml_free);
  for (const TensorInfo& tensor : tensors) {
    ggml_tensor* added = ggml_new_tensor(context.get(), ggml_type_named(tensor.type),
                                         static_cast<int>(tensor.shape.size()), tensor.shape.data());
    ggml_set_name(added, tensor.name.c_str());
    gguf_add_tensor(to, added);
  }
}

ModelInfo model_of(const ModelShape& shape, const GgufFile& vocabulary) {
  const int64_t tokens = gguf_find_key(vocabulary.context(), "tokenizer.ggml.tokens");
  if (tokens < 0 || gguf_get_kv_type(vocabulary.context(), tokens) != GGUF_TYPE_ARRAY)
    throw Error("{}: has no vocabulary ('tokenizer.ggml.tokens'); name a GGUF file that has, such as {}",
                vocabulary.file().string(), "llama.cpp's models/ggml-vocab-llama-spm.gguf");
  const bool good = shape.n_layer > 0 && shape.n_embd > 0 && shape.n_head > 0 && shape.n_head_kv > 0 &&
                    shape.n_ff > 0 && shape.n_ctx_train > 0 && shape.n_embd % (2 * shape.n_head) == 0 &&
                    shape.n_head % shape.n_head_kv == 0;
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
  m.n_vocab = static_cast<int>(gguf_get_arr_n(vocabulary.context(), tokens));
  m.n_embd_head_k = m.n_embd_head_v = m.n_embd / m.n_head;
  m.tensors = converted_tensors(m);
  return m;
}

/// Sizes in about 40 and 360 MB of F16; all widths are multiples of 256, which K-quants need.
constexpr std::array<std::pair<std::string_view, std::array<int, 5>>, 2> kGenerated = {{
    {"tiny", {4, 256, 4, 2, 768}},
    {"small", {10, 1024, 16, 4, 2816}},
}};

}  // namespace

ModelShape model_shape(std::string_view name) {
  std::vector<std::string> names;
  for (const auto& [known, s] : kGenerated) {
    if (known == name)
      return {
          .name = std::string(name), .n_layer = s[0], .n_embd = s[1], .n_head = s[2], .n_head_kv = s[3], .n_ff = s[4]};
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
  const GgufFile tokens(vocabulary);
  const ModelInfo model = model_of(shape, tokens);
  const GgufPtr gguf(gguf_init_empty());
  copy_tokenizer(gguf.get(), tokens);
  set_model_keys(gguf.get(), model);
  add_tensors(gguf.get(), model.tensors);

  const size_t header = gguf_get_meta_size(gguf.get());
  std::vector<Job> jobs;
  uint64_t end = header;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const auto id = static_cast<int64_t>(i);
    jobs.push_back(job_of(model, model.tensors[i]));
    jobs.back().offset = header + gguf_get_tensor_offset(gguf.get(), id);
    end = jobs.back().offset + GGML_PAD(gguf_get_tensor_size(gguf.get(), id), GGUF_DEFAULT_ALIGNMENT);
  }

  require_space(file.parent_path(), end, "the model");
  PendingFile pending(file);
  {
    const Descriptor out(open(pending.path().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!out || ftruncate(out.get(), static_cast<off_t>(end)) != 0) throw_unwritable(file);
    std::vector<char> meta(header);
    gguf_get_meta_data(gguf.get(), meta.data());
    write_at(out.get(), meta.data(), meta.size(), 0, file);
    Filler(std::move(jobs), seed, out.get(), file).run(progress);
  }
  pending.commit();
}

fs::path default_vocabulary() {
  const fs::path file = fs::path(HAQA_LLAMA_MODELS_DIR) / "ggml-vocab-llama-spm.gguf";
  if (!fs::is_regular_file(file))
    throw Error("{}: no such file; name a GGUF file with a vocabulary, such as {}", file.string(),
                "llama.cpp's models/ggml-vocab-llama-spm.gguf");
  return file;
}

}  // namespace haqa
