#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/tasks/task.h"

namespace haqa {

/// A request in tokens: the model reads `input`; its predictions after the last continuation.size() tokens of `input`
/// are for `continuation`, one each.
struct RequestTokens {
  std::vector<int32_t> input, continuation;
  bool truncated = false;  ///< the context was cut at its beginning, to fit the model's
};

/// What encoding needs of a model. lm-eval's Hugging Face models are the reference for each of these.
struct RequestEncoder {
  /// Text to tokens; with add_special, BOS in front where the vocabulary says so. Words such as "</s>" are tokens.
  std::function<std::vector<int32_t>(std::string_view text, bool add_special)> encode;
  int32_t prefix = 0;       ///< what stands before a request whose context is empty: BOS, or EOS where there is none
  std::string prefix_text;  ///< its spelling: a text that begins with it gets no other
  int max_length = 2048;    ///< tokens that the model reads at most
};

/// White space at the context's end is moved to the continuation; both are encoded together, and what goes beyond the
/// tokens of the context alone is the continuation. The input is cut at its beginning to max_length tokens.
/// Throws Error where nothing is left of the continuation, or it is itself longer than max_length.
/// Source: lm-eval 0.4.13, api/model.py, TemplateLM.loglikelihood() and _encode_pair(); models/huggingface.py,
/// _loglikelihood_tokens().
RequestTokens encode_request(const Request& request, const RequestEncoder& encoder);

/// All of them, in `threads` threads, so encoder.encode must be safe to call from several.
std::vector<RequestTokens> encode_requests(std::span<const Request> requests, const RequestEncoder& encoder,
                                           int threads);

}  // namespace haqa
