#include "haqa/evaluate/request_encoder.h"

namespace haqa {

RequestEncoder request_encoder(const Tokenizer& tokenizer, int max_length) {
  RequestEncoder encoder;
  encoder.encode = [&tokenizer](std::string_view text, bool add_special) {
    return tokenizer.encode(text, add_special, /*parse_special=*/true);
  };
  encoder.prefix = tokenizer.bos() >= 0 ? tokenizer.bos() : tokenizer.eos();
  encoder.prefix_text = tokenizer.spelling(encoder.prefix);
  encoder.max_length = max_length;
  return encoder;
}

}  // namespace haqa
