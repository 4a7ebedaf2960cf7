#include "haqa/evaluate/llama_scorer.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <numeric>

#include "haqa/base/error.h"
#include "haqa/base/parallel.h"
#include "haqa/evaluate/request_encoder.h"
#include "haqa/model/compute_graph.h"
#include "haqa/tasks/prefix_batches.h"

namespace haqa {
namespace {

/// The greatest logit, where it is first, and log(sum(exp(logits))).
struct Row {
  float top = 0;
  double normalizer = 0;
};

Row summarize(std::span<const float> logits) {
  const auto size = static_cast<Eigen::Index>(logits.size());
  const Eigen::Map<const Eigen::ArrayXf> row(logits.data(), size);
  const float top = row.maxCoeff();
  double sum = 0;
  constexpr Eigen::Index kBlock = 1024;  // floats add up within a block, doubles over them
  for (Eigen::Index at = 0; at < size; at += kBlock)
    sum += static_cast<double>((row.segment(at, std::min(kBlock, size - at)) - top).exp().sum());
  return {top, top + std::log(sum)};
}

/// What the model says after one batch token of each token that is asked for.
void score_tokens(std::span<const float> logits, std::span<const Wanted> wanted, std::span<Score> scores) {
  const Row row = summarize(logits);
  for (size_t i = 0; i < wanted.size(); ++i) {
    const auto token = static_cast<size_t>(wanted[i].token);
    scores[i].log_likelihood = logits[token] - row.normalizer;
    // torch.argmax, too, takes the first of equals.
    scores[i].greedy = logits[token] == row.top &&
                       std::find(logits.begin(), logits.end(), row.top) == logits.begin() + wanted[i].token;
  }
}

/// llama.cpp's form of a batch, which points into this.
class DecodeBatch {
 public:
  explicit DecodeBatch(const PrefixBatch& batch) : sequences_(static_cast<size_t>(batch.n_sequences)) {
    std::iota(sequences_.begin(), sequences_.end(), 0);
    for (const BatchToken& t : batch.tokens) {
      tokens_.push_back(t.token);
      positions_.push_back(t.position);
      counts_.push_back(t.last_sequence - t.first_sequence + 1);
      lists_.push_back(&sequences_[static_cast<size_t>(t.first_sequence)]);
      outputs_.push_back(t.output);
    }
  }
  llama_batch get() {
    llama_batch batch{};
    batch.n_tokens = static_cast<int32_t>(tokens_.size());
    batch.token = tokens_.data();
    batch.pos = positions_.data();
    batch.n_seq_id = counts_.data();
    batch.seq_id = lists_.data();
    batch.logits = outputs_.data();
    return batch;
  }

 private:
  std::vector<llama_seq_id> sequences_;
  std::vector<llama_token> tokens_;
  std::vector<llama_pos> positions_;
  std::vector<int32_t> counts_;
  std::vector<llama_seq_id*> lists_;
  std::vector<int8_t> outputs_;
};

/// Adds what the decoded batch says to the requests' scores. Rows of a large vocabulary take their time: in threads.
void add_scores(llama_context* context, size_t n_vocab, const PrefixBatch& batch, int threads,
                std::vector<Score>& scores) {
  const std::span<const Wanted> wanted = batch.wanted;
  std::vector<size_t> begins;  // of those who ask for the same row
  std::vector<const float*> rows;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (i > 0 && wanted[i].at == wanted[i - 1].at) continue;
    begins.push_back(i);
    rows.push_back(llama_get_logits_ith(context, wanted[i].at));
  }
  begins.push_back(wanted.size());
  std::vector<Score> tokens(wanted.size());
  parallel_for(
      rows.size(),
      [&](size_t row) {
        const size_t from = begins[row], n = begins[row + 1] - from;
        score_tokens({rows[row], n_vocab}, wanted.subspan(from, n), std::span(tokens).subspan(from, n));
      },
      {}, threads);
  for (size_t i = 0; i < wanted.size(); ++i) {
    scores[wanted[i].request].log_likelihood += tokens[i].log_likelihood;
    scores[wanted[i].request].greedy = scores[wanted[i].request].greedy && tokens[i].greedy;
  }
}

}  // namespace

LlamaScorer::LlamaScorer(const LlamaScorerOptions& options)
    : options_(options), tokenizer_(options.model), model_(load_model(options.model)) {
  options_.threads = threads_or_all(options.threads);
  if (options_.max_length <= 0) options_.max_length = llama_model_n_ctx_train(model_.get());
  if (options_.adapter.empty()) return;
  adapter_.reset(llama_adapter_lora_init(model_.get(), options_.adapter.c_str()));
  if (!adapter_)
    throw Error("{}: llama.cpp cannot apply it to {}; is it a LoRA adapter in GGUF format, made for this model?",
                options_.adapter.string(), options_.model.string());
}

LlamaContext LlamaScorer::make_context(int n_tokens, int n_sequences) const {
  llama_context_params params = llama_context_default_params();
  params.n_ctx = params.n_batch = static_cast<uint32_t>(n_tokens);
  params.n_ubatch = static_cast<uint32_t>(std::min(n_tokens, options_.batch_tokens));
  params.n_seq_max = static_cast<uint32_t>(n_sequences);
  params.kv_unified = true;  // a token may belong to several sequences
  params.n_threads = params.n_threads_batch = options_.threads;
  params.type_k = kv_cache_type(options_.type_k);
  params.type_v = kv_cache_type(options_.type_v);
  params.flash_attn_type = flash_type(options_.flash_attention);
  LlamaContext context(llama_init_from_model(model_.get(), params));
  if (!context)
    throw Error("{}: llama.cpp cannot make a context of {} tokens with a {}/{} KV cache and flash attention {}",
                options_.model.string(), n_tokens, options_.type_k, options_.type_v, options_.flash_attention);
  llama_adapter_lora* adapter = adapter_.get();
  float scale = static_cast<float>(options_.adapter_scale);
  if (adapter && llama_set_adapters_lora(context.get(), &adapter, 1, &scale) != 0)
    throw Error("{}: llama.cpp cannot use the adapter", options_.adapter.string());
  return context;
}

std::vector<Score> LlamaScorer::score(std::span<const Request> requests, const std::function<void(double)>& progress) {
  const std::vector<RequestTokens> encoded =
      encode_requests(requests, request_encoder(tokenizer_, options_.max_length), options_.threads);
  const std::vector<PrefixBatch> batches =
      prefix_batches(encoded, options_.batch_tokens, static_cast<int>(llama_max_parallel_sequences()));
  work_ = {};
  work_.requests = requests.size();
  for (const RequestTokens& r : encoded) {
    work_.truncated += r.truncated;
    work_.tokens_apart += r.input.size();
  }
  size_t largest = 1;
  int n_sequences = 1;
  for (const PrefixBatch& batch : batches) {
    work_.tokens += batch.tokens.size();
    largest = std::max(largest, batch.tokens.size());
    n_sequences = std::max(n_sequences, batch.n_sequences);
  }
  const LlamaContext context = make_context(static_cast<int>(largest), n_sequences);
  std::vector<Score> scores(requests.size(), Score{0, true});
  size_t done = 0;
  for (const PrefixBatch& batch : batches) {
    llama_memory_clear(llama_get_memory(context.get()), /*data=*/false);
    DecodeBatch decode(batch);
    if (const int status = llama_decode(context.get(), decode.get()); status != 0)
      throw Error("{}: llama.cpp could not evaluate {} tokens at once (status {})", options_.model.string(),
                  batch.tokens.size(), status);
    add_scores(context.get(), static_cast<size_t>(tokenizer_.n_vocab()), batch, options_.threads, scores);
    done += batch.tokens.size();
    if (progress) progress(static_cast<double>(done) / static_cast<double>(work_.tokens));
  }
  if (!std::all_of(scores.begin(), scores.end(), [](const Score& s) { return std::isfinite(s.log_likelihood); }))
    throw Error("{}: computes no numbers (NaN or infinity); is the file damaged?", options_.model.string());
  return scores;
}

}  // namespace haqa
