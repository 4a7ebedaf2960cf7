#include "haqa/train/training_scorer.h"

#include <algorithm>
#include <numeric>

#include "haqa/evaluate/request_encoder.h"

namespace haqa {
namespace {

/// Requests as sequences of one batch: each continuation's tokens are the targets of the places before them.
TokenBatch batch_of(std::span<const RequestTokens> requests, std::span<const size_t> chosen, at::Device device) {
  std::vector<int64_t> tokens, scored, targets, lengths;
  for (const size_t index : chosen) {
    const RequestTokens& request = requests[index];
    tokens.insert(tokens.end(), request.input.begin(), request.input.end());
    lengths.push_back(static_cast<int64_t>(request.input.size()));
    for (size_t i = 0; i < request.continuation.size(); ++i) {
      scored.push_back(static_cast<int64_t>(tokens.size() - request.continuation.size() + i));
      targets.push_back(request.continuation[i]);
    }
  }
  return token_batch(tokens, std::move(lengths), scored, targets, device);
}

}  // namespace

std::vector<Score> TrainingScorer::score(std::span<const Request> requests,
                                         const std::function<void(double)>& progress) {
  const std::vector<RequestTokens> encoded =
      encode_requests(requests, request_encoder(tokenizer_, llama_.info().n_ctx_train), at::get_num_threads());
  std::vector<Score> scores(requests.size());
  size_t done = 0;
  while (done < encoded.size()) {
    std::vector<size_t> chosen;
    int64_t tokens = 0;
    for (size_t i = done; i < encoded.size(); ++i) {
      tokens += static_cast<int64_t>(encoded[i].input.size());
      if (!chosen.empty() && tokens > batch_tokens_) break;
      chosen.push_back(i);
    }
    const Llama::Predictions predictions = llama_.predictions(batch_of(encoded, chosen, llama_.options().device));
    int64_t place = 0;
    for (const size_t i : chosen) {
      const auto n = static_cast<int64_t>(encoded[i].continuation.size());
      scores[i].log_likelihood = predictions.log_probability.narrow(0, place, n).sum().item<double>();
      scores[i].greedy = predictions.likeliest.narrow(0, place, n).all().item<bool>();
      place += n;
    }
    done += chosen.size();
    if (progress) progress(static_cast<double>(done) / static_cast<double>(encoded.size()));
  }
  return scores;
}

}  // namespace haqa
