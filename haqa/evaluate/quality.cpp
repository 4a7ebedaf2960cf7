#include "haqa/evaluate/quality.h"

#include <llama.h>
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/stats.h"
#include "haqa/evaluate/llama_handles.h"
#include "haqa/model/compute_graph.h"

namespace haqa {
namespace {

LlamaContext make_context(llama_model* model, const QualityOptions& options) {
  llama_context_params params = llama_context_default_params();
  params.n_ctx = params.n_batch = params.n_ubatch = static_cast<uint32_t>(options.n_ctx);
  params.n_threads = params.n_threads_batch = threads_or_all(options.threads);
  params.type_k = kv_cache_type(options.type_k);
  params.type_v = kv_cache_type(options.type_v);
  params.flash_attn_type = flash_type(options.flash_attention);
  LlamaContext context(llama_init_from_model(model, params));
  if (!context) throw Error("{}: llama.cpp cannot make a context with these KV cache types", options.model.string());
  return context;
}

std::vector<llama_token> tokenize(const llama_vocab* vocab, const std::string& text) {
  std::vector<llama_token> tokens(text.size() + 16);
  const int n = llama_tokenize(vocab, text.data(), static_cast<int32_t>(text.size()), tokens.data(),
                               static_cast<int32_t>(tokens.size()), /*add_special=*/true, /*parse_special=*/false);
  if (n < 0) throw Error("the calibration text cannot be tokenized; is it UTF-8?");
  tokens.resize(static_cast<size_t>(n));
  return tokens;
}

/// The first `bytes` of a file at most, whole characters.
std::string beginning(const std::filesystem::path& file, size_t bytes) {
  std::ifstream in(file, std::ios::binary);
  std::string text(bytes, '\0');
  if (!in.read(text.data(), static_cast<std::streamsize>(bytes))) {
    if (in.bad() || !in.eof()) throw Error("{}: cannot be read", file.string());
    text.resize(static_cast<size_t>(in.gcount()));
    return text;
  }
  while (!text.empty() && (text.back() & 0xC0) == 0x80) text.pop_back();
  if (!text.empty()) text.pop_back();  // the first byte of the character that was cut, or a whole one
  return text;
}

/// A model in use: it yields the logits of the scored positions, one after another.
class TextReader {
 public:
  explicit TextReader(const QualityOptions& options)
      : options_(checked(options)),
        model_(load_model(options.model)),
        context_(make_context(model_.get(), options)),
        vocab_(llama_model_get_vocab(model_.get())),
        tokens_(tokenize(vocab_, beginning(options.text, kBytesOfAToken * tokens_wanted()))) {
    const int whole = static_cast<int>(tokens_.size()) / options.n_ctx;
    if (whole < 1)
      throw Error("{}: only {} tokens, but quality needs at least {}; give a longer calibration text",
                  options.text.string(), tokens_.size(), options.n_ctx);
    chunks_ = std::clamp(options.max_tokens / scored_per_chunk(), 1, whole);
  }

  int n_vocab() const { return llama_vocab_n_tokens(vocab_); }
  int chunks() const { return chunks_; }
  /// FNV-1a of the tokens in use: another text of the same length is no ground for comparison.
  uint32_t text_hash() const {
    uint32_t fnv = 0x811c9dc5;
    for (int i = 0; i < chunks_ * options_.n_ctx; ++i)
      fnv = (fnv ^ static_cast<uint32_t>(tokens_[static_cast<size_t>(i)])) * 0x01000193;
    return fnv;
  }
  int scored() const { return chunks_ * scored_per_chunk(); }

  /// visit(position among the scored, its logits, the token that really follows)
  template <typename Visit>
  void run(const Visit& visit, const std::function<void(double)>& progress) {
    for (int chunk = 0; chunk < chunks_; ++chunk) {
      decode(chunk);
      const int first = options_.n_ctx / 2;
      for (int i = 0; i < scored_per_chunk(); ++i) {
        const float* logits = llama_get_logits_ith(context_.get(), first + i);
        visit(chunk * scored_per_chunk() + i, std::span(logits, static_cast<size_t>(n_vocab())),
              tokens_[static_cast<size_t>(chunk * options_.n_ctx + first + i + 1)]);
      }
      if (progress) progress(static_cast<double>(chunk + 1) / chunks_);
    }
  }

 private:
  /// More than a token of text ever has: a calibration text may be large, and a few thousand tokens of it are used.
  static constexpr size_t kBytesOfAToken = 64;
  size_t tokens_wanted() const {
    const size_t chunks = std::max(1, options_.max_tokens / scored_per_chunk());
    return chunks * static_cast<size_t>(options_.n_ctx);
  }

  static const QualityOptions& checked(const QualityOptions& options) {
    if (options.n_ctx < 4) throw Error("quality needs at least 4 tokens of context, not {}", options.n_ctx);
    return options;
  }
  // llama-perplexity scores positions n_ctx/2 to n_ctx-2: each needs a follower within its chunk.
  int scored_per_chunk() const { return options_.n_ctx - 1 - options_.n_ctx / 2; }

  void decode(int chunk) {
    llama_memory_clear(llama_get_memory(context_.get()), true);
    llama_batch batch = llama_batch_init(options_.n_ctx, 0, 1);
    for (int i = 0; i < options_.n_ctx; ++i) {
      const bool starts = i == 0 && llama_vocab_get_add_bos(vocab_);
      batch.token[i] = starts ? llama_vocab_bos(vocab_) : tokens_[static_cast<size_t>(chunk * options_.n_ctx + i)];
      batch.pos[i] = i;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = i >= options_.n_ctx / 2;
    }
    batch.n_tokens = options_.n_ctx;
    const int status = llama_decode(context_.get(), batch);
    llama_batch_free(batch);
    if (status != 0) throw Error("{}: llama.cpp could not evaluate the calibration text", options_.model.string());
  }

  const QualityOptions& options_;
  LlamaModel model_;
  LlamaContext context_;
  const llama_vocab* vocab_;
  std::vector<llama_token> tokens_;
  int chunks_ = 0;
};

/// log(sum(exp(logits))), in double precision.
double log_normalizer(std::span<const float> logits) {
  const float top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x - top));
  return top + std::log(sum);
}

double kl_divergence(std::span<const float> p, std::span<const float> q) {
  const double zp = log_normalizer(p), zq = log_normalizer(q);
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double log_p = p[i] - zp;
    if (std::isinf(log_p)) continue;  // what never comes adds nothing
    sum += std::exp(log_p) * (log_p - (q[i] - zq));
  }
  return sum < 0 ? 0 : sum;  // rounding may leave -1e-16; std::max would make 0, the best of all, of NaN
}

/// A model with a broken tensor, or a cache that overflows, yields NaN; as JSON that would be a null.
void require_numbers(double mean, const QualityOptions& options) {
  if (!std::isfinite(mean))
    throw Error("{}: with a {}/{} KV cache llama.cpp computes no numbers (NaN or infinity); is the file damaged?",
                options.model.string(), options.type_k, options.type_v);
}

/// Header of a reference file; then `scored` rows of n_vocab floats in the machine's own order.
struct ReferenceHeader {
  char magic[8] = {'h', 'a', 'q', 'a', 'r', 'e', 'f', '2'};
  int32_t n_ctx = 0, n_vocab = 0, scored = 0;
  uint32_t text = 0;  ///< hash of the tokens
  double nll = 0;     ///< mean, in nats
};

/// The whole file in memory, read by the page.
class Mapping {
 public:
  explicit Mapping(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    if (!in.read(reinterpret_cast<char*>(&header), sizeof header) || std::memcmp(header.magic, "haqaref2", 8) != 0)
      throw Error("{}: no reference of quality; measure the reference first", file.string());
    bytes_ = std::filesystem::file_size(file);
    if (header.n_ctx < 4 || header.n_vocab < 1 || header.scored < 1 || !std::isfinite(header.nll) ||
        bytes_ != sizeof header + 4ull * static_cast<uint64_t>(header.n_vocab) * static_cast<uint64_t>(header.scored))
      throw Error("{}: the reference of quality is damaged; delete it and run again", file.string());
    std::unique_ptr<FILE, int (*)(FILE*)> handle(std::fopen(file.c_str(), "rb"), std::fclose);
    data_ = handle ? mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, fileno(handle.get()), 0) : MAP_FAILED;
    if (data_ == MAP_FAILED) throw Error("{}: cannot be mapped into memory", file.string());
  }
  ~Mapping() { munmap(data_, bytes_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::span<const float> row(int position) const {
    const char* rows = static_cast<const char*>(data_) + sizeof(ReferenceHeader);
    const size_t width = static_cast<size_t>(header.n_vocab);
    return {reinterpret_cast<const float*>(rows) + static_cast<size_t>(position) * width, width};
  }
  ReferenceHeader header;

 private:
  void* data_ = MAP_FAILED;
  size_t bytes_ = 0;
};

size_t top(std::span<const float> logits) {
  return static_cast<size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

Json measure_reference(const QualityOptions& options, const std::function<void(double)>& progress) {
  TextReader scorer(options);
  ReferenceHeader header;
  header.n_ctx = options.n_ctx;
  header.n_vocab = scorer.n_vocab();
  header.scored = scorer.scored();
  header.text = scorer.text_hash();
  require_space(options.reference.parent_path(), 4ull * header.n_vocab * header.scored, "the reference of quality");

  std::ofstream out(options.reference, std::ios::binary);
  out.write(reinterpret_cast<const char*>(&header), sizeof header);
  if (!out.flush())  // before minutes of work, not after them
    throw Error("{}: cannot be written; see whether its folder exists and has space", options.reference.string());
  double nll = 0;
  scorer.run(
      [&](int, std::span<const float> logits, llama_token next) {
        out.write(reinterpret_cast<const char*>(logits.data()), static_cast<std::streamsize>(logits.size_bytes()));
        nll += log_normalizer(logits) - logits[static_cast<size_t>(next)];
      },
      progress);
  header.nll = nll / header.scored;
  require_numbers(header.nll, options);
  out.seekp(0);
  out.write(reinterpret_cast<const char*>(&header), sizeof header);
  out.close();
  if (!out) throw Error("{}: cannot be written; free some space", options.reference.string());
  return {{"perplexity", std::exp(header.nll)}, {"tokens", header.scored}, {"chunks", scorer.chunks()}};
}

Json measure_quality(const QualityOptions& options, const std::function<void(double)>& progress) {
  const Mapping reference(options.reference);
  QualityOptions same = options;
  same.n_ctx = reference.header.n_ctx;
  same.max_tokens = reference.header.scored;
  TextReader scorer(same);
  if (scorer.n_vocab() != reference.header.n_vocab || scorer.scored() != reference.header.scored ||
      scorer.text_hash() != reference.header.text)
    throw Error("{}: another vocabulary or text than the reference's", options.model.string());

  double divergence = 0;
  int same_top = 0;
  std::vector<double> nlls, differences;
  scorer.run(
      [&](int position, std::span<const float> logits, llama_token next) {
        const std::span<const float> expected = reference.row(position);
        const auto nll = [&](std::span<const float> row) {
          return log_normalizer(row) - row[static_cast<size_t>(next)];
        };
        nlls.push_back(nll(logits));
        differences.push_back(nlls.back() - nll(expected));
        divergence += kl_divergence(expected, logits);
        same_top += top(expected) == top(logits);
      },
      progress);
  const double n = scorer.scored(), nll = mean(nlls), ratio = std::exp(nll - reference.header.nll);
  require_numbers(nll + divergence / n, options);
  return {{"perplexity", std::exp(nll)},
          {"perplexity_ratio", ratio},
          {"perplexity_ratio_error", ratio * standard_deviation(differences) / std::sqrt(n)},
          {"kl_divergence", divergence / n},
          {"same_top", same_top / n},
          {"tokens", scorer.scored()}};
}

}  // namespace haqa
