#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/dataset/examples.h"

namespace haqa {

/// Text to tokens, with neither BOS nor EOS added: Tokenizer::encode(text, false).
using Encoder = std::function<std::vector<int32_t>(std::string_view text)>;

struct EncodeOptions {
  int32_t bos = -1;     ///< put before each example; -1: none, as where the vocabulary adds none
  int32_t eos = -1;     ///< put behind each segment that is trained on, and trained on itself; -1: none
  size_t length = 512;  ///< the most tokens of an example; at least 2
  int threads = 1;      ///< the encoder is called from so many at once
};

/// An example as tokens.
struct TokenExample {
  std::vector<int32_t> tokens;
  /// As long as tokens: 1 where predicting the token from those before it counts for the loss. The first is 0, as
  /// nothing stands before it.
  std::vector<uint8_t> counts;
  bool operator==(const TokenExample&) const = default;
};

struct TokenExamples {
  std::vector<TokenExample> examples;  ///< in the order of the texts; each has a token that counts
  size_t truncated = 0;                ///< examples of which the end was cut off, as they are longer than `length`
  size_t dropped = 0;                  ///< examples left out, as all of their response would have been cut off
  size_t divided = 0;                  ///< plain texts longer than `length`, each now several examples
};

/// One sentence for the user: "51974 examples; 12 longer than 512 tokens lost their end; 3 had no room for a response
/// and were left out".
std::string describe(const TokenExamples& found, size_t length);

/// The tokens of a text that stands behind other text. Some vocabularies, LLaMA-2's among them, put a space before
/// whatever they encode; here there is none. The way: the text is encoded behind a line break (behind a digit, where it
/// begins with one itself), and the tokens of that are taken off.
std::vector<int32_t> encode_continuation(const Encoder& encode, std::string_view text);

/// The boundary between what is read and what is learned is exact: the first segment is encoded by itself, as a prompt
/// is when the model is used, and each later one as encode_continuation() does; no token spans two segments. What
/// counts are the tokens of segments that are trained on, and the EOS behind each of them.
/// An example that is longer than `length` loses its end. A plain text (trained on from its beginning) is divided
/// instead, and nothing of it is lost: each part but the first begins with the last token of the part before.
/// Throws UsageError for a `length` below 2, Error where no example is left, and what the encoder throws.
TokenExamples encode_examples(std::span<const Example> examples, const Encoder& encode, const EncodeOptions& options);

}  // namespace haqa
