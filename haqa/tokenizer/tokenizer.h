#pragma once
#include <llama.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace haqa {

/// The tokenizer of a model, by llama.cpp, from the vocabulary in its GGUF; the weights are not read.
/// Links libllama, so it is for the worker programs, never for the coordinator.
class Tokenizer {
 public:
  /// Throws Error where the file is no GGUF that llama.cpp reads, or holds no vocabulary.
  explicit Tokenizer(const std::filesystem::path& gguf);

  /// add_special: BOS in front and EOS behind where the vocabulary says so. Words such as "<s>" in the text stay text,
  /// but with parse_special. Safe to call from several threads. Throws Error where the text cannot be tokenized.
  std::vector<llama_token> encode(std::string_view text, bool add_special, bool parse_special = false) const;

  int n_vocab() const;
  /// -1 where the vocabulary has none.
  llama_token bos() const;
  llama_token eos() const;
  bool adds_bos() const;
  /// How a token is spelt in a text, as "<s>"; empty for -1.
  std::string spelling(llama_token token) const;

 private:
  struct Free {
    void operator()(llama_model* model) const { llama_model_free(model); }
  };
  std::unique_ptr<llama_model, Free> model_;
  const llama_vocab* vocab_ = nullptr;
};

}  // namespace haqa
