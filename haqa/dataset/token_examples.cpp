#include "haqa/dataset/token_examples.h"

#include <algorithm>

#include "haqa/base/error.h"
#include "haqa/base/parallel.h"

namespace haqa {
namespace {

TokenExample whole_example(const Example& example, const Encoder& encode, const EncodeOptions& options) {
  TokenExample whole;
  const auto add = [&](std::span<const int32_t> tokens, bool counts) {
    whole.tokens.insert(whole.tokens.end(), tokens.begin(), tokens.end());
    whole.counts.resize(whole.tokens.size(), counts);
  };
  if (options.bos >= 0) add({&options.bos, 1}, false);
  for (const Segment& segment : example.segments) {
    const bool first = &segment == &example.segments.front();
    add(first ? encode(segment.text) : encode_continuation(encode, segment.text), segment.trained);
    if (segment.trained && options.eos >= 0) add({&options.eos, 1}, true);
  }
  if (!whole.counts.empty()) whole.counts[0] = 0;
  return whole;
}

/// The tokens from `begin` on, `length` at most.
TokenExample part_of(const TokenExample& whole, size_t begin, size_t length) {
  const auto from = static_cast<std::ptrdiff_t>(begin);
  const auto to = static_cast<std::ptrdiff_t>(std::min(begin + length, whole.tokens.size()));
  TokenExample part{{whole.tokens.begin() + from, whole.tokens.begin() + to},
                    {whole.counts.begin() + from, whole.counts.begin() + to}};
  part.counts[0] = 0;
  return part;
}

/// What follows the last token that counts teaches nothing.
void cut_end(TokenExample& example) {
  while (!example.counts.empty() && example.counts.back() == 0) {
    example.counts.pop_back();
    example.tokens.pop_back();
  }
}

void take(bool plain_text, TokenExample whole, size_t length, TokenExamples& into) {
  const bool too_long = whole.tokens.size() > length;
  if (too_long && plain_text) {
    ++into.divided;
    for (size_t begin = 0; begin + 1 < whole.tokens.size(); begin += length - 1)
      into.examples.push_back(part_of(whole, begin, length));
    return;
  }
  if (too_long) whole = part_of(whole, 0, length);
  cut_end(whole);
  if (whole.tokens.empty()) {
    ++into.dropped;
    return;
  }
  into.truncated += too_long;
  into.examples.push_back(std::move(whole));
}

}  // namespace

std::vector<int32_t> encode_continuation(const Encoder& encode, std::string_view text) {
  if (text.empty()) return {};
  // A vocabulary may join two line breaks into one token, so what begins with one is put behind a digit; no vocabulary
  // known joins those two.
  for (const char* anchor : {"\n", "1"}) {
    const std::vector<int32_t> before = encode(anchor), joined = encode(anchor + std::string(text));
    if (joined.size() >= before.size() && std::equal(before.begin(), before.end(), joined.begin()))
      return {joined.begin() + static_cast<std::ptrdiff_t>(before.size()), joined.end()};
  }
  return encode(text);
}

std::string describe(const TokenExamples& found, size_t length) {
  std::string text = fmt::format("{} examples", found.examples.size());
  if (found.truncated > 0) text += fmt::format("; {} longer than {} tokens lost their end", found.truncated, length);
  if (found.divided > 0) text += fmt::format("; {} texts longer than {} tokens were divided", found.divided, length);
  if (found.dropped > 0) text += fmt::format("; {} had no room for a response and were left out", found.dropped);
  return text;
}

TokenExamples encode_examples(std::span<const Example> examples, const Encoder& encode, const EncodeOptions& options) {
  if (options.length < 2) throw UsageError("sequences of {} tokens teach nothing; allow at least 2", options.length);
  std::vector<TokenExample> whole(examples.size());
  parallel_for(
      examples.size(), [&](size_t i) { whole[i] = whole_example(examples[i], encode, options); }, {},
      std::max(1, options.threads));
  TokenExamples found;
  found.examples.reserve(examples.size());
  for (size_t i = 0; i < examples.size(); ++i)
    take(is_plain_text(examples[i]), std::move(whole[i]), options.length, found);
  if (found.examples.empty())
    throw Error("none of {} examples has a response within {} tokens; allow longer sequences", examples.size(),
                options.length);
  return found;
}

}  // namespace haqa
