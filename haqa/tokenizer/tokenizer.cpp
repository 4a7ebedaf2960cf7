#include "haqa/tokenizer/tokenizer.h"

#include <limits>

#include "haqa/base/error.h"

namespace haqa {

Tokenizer::Tokenizer(const std::filesystem::path& gguf) {
  llama_model_params params = llama_model_default_params();
  params.vocab_only = true;
  model_.reset(llama_model_load_from_file(gguf.c_str(), params));
  if (!model_) throw Error("{}: llama.cpp cannot read its vocabulary; name a model in GGUF format", gguf.string());
  vocab_ = llama_model_get_vocab(model_.get());
  if (llama_vocab_type(vocab_) == LLAMA_VOCAB_TYPE_NONE)
    throw Error(
        "{}: holds no vocabulary, so that text cannot become tokens; convert the model again, with its tokenizer",
        gguf.string());
}

std::vector<llama_token> Tokenizer::encode(std::string_view text, bool add_special, bool parse_special) const {
  if (text.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max() / 2))
    throw Error("a text of {} bytes is too long to tokenize at once; split it", text.size());
  const auto n_text = static_cast<int32_t>(text.size());
  std::vector<llama_token> tokens(text.size() + 2);
  const auto run = [&] {
    return llama_tokenize(vocab_, text.data(), n_text, tokens.data(), static_cast<int32_t>(tokens.size()), add_special,
                          parse_special);
  };
  int32_t n = run();
  if (n < 0 && n != std::numeric_limits<int32_t>::min()) {  // the negative of what it needs
    tokens.resize(static_cast<size_t>(-n));
    n = run();
  }
  if (n < 0) throw Error("a text cannot be tokenized; is it UTF-8?");
  tokens.resize(static_cast<size_t>(n));
  return tokens;
}

int Tokenizer::n_vocab() const {
  return llama_vocab_n_tokens(vocab_);
}

llama_token Tokenizer::bos() const {
  return llama_vocab_bos(vocab_);
}

llama_token Tokenizer::eos() const {
  return llama_vocab_eos(vocab_);
}

bool Tokenizer::adds_bos() const {
  return llama_vocab_get_add_bos(vocab_);
}

std::string Tokenizer::spelling(llama_token token) const {
  return token < 0 ? "" : llama_vocab_get_text(vocab_, token);
}

}  // namespace haqa
