#include "haqa/tasks/prefix_batches.h"

#include <algorithm>
#include <numeric>

namespace haqa {
namespace {

using Tokens = std::vector<int32_t>;

size_t shared_beginning(const Tokens& a, const Tokens& b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

/// Grows a batch by one sequence after another, each next to the one it shares the most with.
class Builder {
 public:
  Builder(size_t max_tokens, int32_t max_sequences) : max_tokens_(max_tokens), max_sequences_(max_sequences) {}

  void add_sequence(const Tokens& input) {
    size_t shared = shared_beginning(input, last_);
    if (!batch_.tokens.empty() &&
        (batch_.tokens.size() + input.size() - shared > max_tokens_ || batch_.n_sequences == max_sequences_)) {
      flush();
      shared = 0;
    }
    path_.resize(shared);
    const int32_t sequence = batch_.n_sequences++;
    for (const size_t at : path_) batch_.tokens[at].last_sequence = sequence;
    for (size_t i = shared; i < input.size(); ++i) {
      path_.push_back(batch_.tokens.size());
      batch_.tokens.push_back({input[i], static_cast<int32_t>(i), sequence, sequence, false});
    }
    last_ = input;
  }

  /// A request whose input is the sequence added last, or its beginning.
  void ask(const RequestTokens& request, size_t index) {
    const size_t first = request.input.size() - request.continuation.size();
    for (size_t i = 0; i < request.continuation.size(); ++i) {
      const size_t at = path_[first + i];
      batch_.tokens[at].output = true;
      batch_.wanted.push_back({static_cast<int32_t>(at), request.continuation[i], index});
    }
  }

  std::vector<PrefixBatch> done() {
    flush();
    return std::move(batches_);
  }

 private:
  void flush() {
    if (batch_.tokens.empty()) return;
    std::stable_sort(batch_.wanted.begin(), batch_.wanted.end(),
                     [](const Wanted& a, const Wanted& b) { return a.at < b.at; });
    batches_.push_back(std::move(batch_));
    batch_ = {};
    path_.clear();
    last_.clear();
  }

  size_t max_tokens_;
  int32_t max_sequences_;
  PrefixBatch batch_;
  std::vector<size_t> path_;  ///< where in the batch the tokens of last_ stand
  Tokens last_;
  std::vector<PrefixBatch> batches_;
};

}  // namespace

std::vector<PrefixBatch> prefix_batches(std::span<const RequestTokens> requests, int max_tokens, int max_sequences) {
  std::vector<size_t> order(requests.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return requests[a].input < requests[b].input; });
  Builder builder(static_cast<size_t>(max_tokens), max_sequences);
  for (size_t first = 0; first < order.size();) {
    // In this order an input is followed at once by those that go on from it: one sequence answers for all of them.
    size_t last = first;
    while (last + 1 < order.size() && shared_beginning(requests[order[last]].input, requests[order[last + 1]].input) ==
                                          requests[order[last]].input.size())
      ++last;
    builder.add_sequence(requests[order[last]].input);
    for (; first <= last; ++first) builder.ask(requests[order[first]], order[first]);
  }
  return builder.done();
}

}  // namespace haqa
