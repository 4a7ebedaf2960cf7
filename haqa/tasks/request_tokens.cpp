#include "haqa/tasks/request_tokens.h"

#include <algorithm>

#include "haqa/base/error.h"
#include "haqa/base/parallel.h"
#include "haqa/base/text.h"
#include "haqa/tasks/python_text.h"

namespace haqa {
namespace {

using Tokens = std::vector<int32_t>;

/// One context in tokens, kept for the next request: the choices of a question share theirs.
struct KnownContext {
  std::string text;
  size_t n_tokens = 0;
};

size_t context_tokens(std::string_view context, const RequestEncoder& encoder, bool add_special, KnownContext& known) {
  if (known.n_tokens == 0 || known.text != context)
    known = {std::string(context), encoder.encode(context, add_special).size()};
  return known.n_tokens;
}

/// All tokens of a request, and how many of them are its context.
std::pair<Tokens, size_t> split_tokens(const Request& request, const RequestEncoder& encoder, KnownContext& known) {
  const auto add_special = [&](std::string_view text) {
    return encoder.prefix_text.empty() || !text.starts_with(encoder.prefix_text);
  };
  if (request.context.empty()) {
    Tokens tokens = encoder.encode(request.continuation, false);
    if (tokens.empty() || tokens[0] != encoder.prefix) tokens.insert(tokens.begin(), encoder.prefix);
    return {std::move(tokens), 1};
  }
  const std::string whole = request.context + request.continuation;
  const std::string_view context =
      std::string_view(request.context).substr(0, request.context.size() - trailing_space(request.context));
  return {encoder.encode(whole, add_special(whole)), context_tokens(context, encoder, add_special(context), known)};
}

RequestTokens encode_request(const Request& request, const RequestEncoder& encoder, KnownContext& known) {
  auto [tokens, n_context] = split_tokens(request, encoder, known);
  const std::string where = one_line(request.context + " |" + request.continuation, 80);
  if (n_context == 0 || tokens.size() <= n_context)
    throw Error("the vocabulary leaves no token of the answer in \"{}\"; take that question out", where);
  RequestTokens out;
  out.continuation.assign(tokens.begin() + static_cast<ptrdiff_t>(n_context), tokens.end());
  tokens.pop_back();
  const size_t longest = static_cast<size_t>(encoder.max_length);
  if (out.continuation.size() > longest)
    throw Error("an answer of {} tokens is longer than the {} that the model reads: \"{}\"", out.continuation.size(),
                longest, where);
  out.truncated = tokens.size() > longest;
  if (out.truncated) tokens.erase(tokens.begin(), tokens.end() - static_cast<ptrdiff_t>(longest));
  out.input = std::move(tokens);
  return out;
}

}  // namespace

RequestTokens encode_request(const Request& request, const RequestEncoder& encoder) {
  KnownContext known;
  return encode_request(request, encoder, known);
}

std::vector<RequestTokens> encode_requests(std::span<const Request> requests, const RequestEncoder& encoder,
                                           int threads) {
  constexpr size_t kChunk = 64;  // neighbours share contexts
  std::vector<RequestTokens> out(requests.size());
  parallel_for((requests.size() + kChunk - 1) / kChunk,
               [&](size_t chunk) {
                 KnownContext known;
                 for (size_t i = chunk * kChunk; i < std::min((chunk + 1) * kChunk, requests.size()); ++i)
                   out[i] = encode_request(requests[i], encoder, known);
               },
               {}, std::max(1, threads));
  return out;
}

}  // namespace haqa
