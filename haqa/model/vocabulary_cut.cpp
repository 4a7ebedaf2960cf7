#include "haqa/model/vocabulary_cut.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/base/error.h"
#include "haqa/base/text.h"

namespace haqa {
namespace {

constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kScores = "tokenizer.ggml.scores";
constexpr const char* kTypes = "tokenizer.ggml.token_type";
constexpr int32_t kNormal = 1;  ///< a piece of text; control, unknown and byte pieces are others. Source: llama.h

struct Pieces {
  std::vector<std::string> texts;
  std::vector<float> scores;
  std::vector<int32_t> types;
};

/// The array of a key; empty where it is missing or of another type.
template <typename T>
std::vector<T> numbers(const gguf_context* header, const char* key, gguf_type type) {
  const int64_t id = gguf_find_key(header, key);
  if (id < 0 || gguf_get_kv_type(header, id) != GGUF_TYPE_ARRAY || gguf_get_arr_type(header, id) != type) return {};
  std::vector<T> values(gguf_get_arr_n(header, id));
  if (!values.empty()) std::memcpy(values.data(), gguf_get_arr_data(header, id), values.size() * sizeof(T));
  return values;
}

std::string kind_of(const gguf_context* header) {
  const int64_t id = gguf_find_key(header, "tokenizer.ggml.model");
  return id >= 0 && gguf_get_kv_type(header, id) == GGUF_TYPE_STRING ? gguf_get_val_str(header, id) : "";
}

Pieces read_pieces(const gguf_context* header, const std::filesystem::path& file) {
  if (const std::string kind = kind_of(header); kind != "llama")
    throw Error("{}: its vocabulary is of the kind '{}', which cannot be cut; name one of the kind 'llama' {}",
                file.string(), one_line(kind), "(SentencePiece BPE)");
  Pieces pieces;
  const int64_t id = gguf_find_key(header, kTokens);
  if (id >= 0 && gguf_get_kv_type(header, id) == GGUF_TYPE_ARRAY && gguf_get_arr_type(header, id) == GGUF_TYPE_STRING)
    for (size_t i = 0; i < gguf_get_arr_n(header, id); ++i) pieces.texts.emplace_back(gguf_get_arr_str(header, id, i));
  pieces.scores = numbers<float>(header, kScores, GGUF_TYPE_FLOAT32);
  pieces.types = numbers<int32_t>(header, kTypes, GGUF_TYPE_INT32);
  if (pieces.texts.empty() || pieces.scores.size() != pieces.texts.size() || pieces.types.size() != pieces.texts.size())
    throw Error("{}: its vocabulary has {} pieces, {} scores and {} types, so that it cannot be cut; name another",
                file.string(), pieces.texts.size(), pieces.scores.size(), pieces.types.size());
  return pieces;
}

bool is_merged(const Pieces& pieces, size_t i) {
  const auto begins_character = [](char c) { return (c & 0xc0) != 0x80; };
  return pieces.types[i] == kNormal &&
         std::count_if(pieces.texts[i].begin(), pieces.texts[i].end(), begins_character) > 1;
}

/// The new number of each piece, -1 of those that are cut off.
std::vector<int64_t> new_numbers(const Pieces& pieces, int merges) {
  std::vector<size_t> merged;
  for (size_t i = 0; i < pieces.texts.size(); ++i)
    if (is_merged(pieces, i)) merged.push_back(i);
  std::stable_sort(merged.begin(), merged.end(),
                   [&](size_t a, size_t b) { return pieces.scores[a] > pieces.scores[b]; });
  std::vector<int64_t> numbers(pieces.texts.size(), 0);
  for (size_t i = static_cast<size_t>(merges); i < merged.size(); ++i) numbers[merged[i]] = -1;
  int64_t kept = 0;
  for (int64_t& number : numbers)
    if (number == 0) number = kept++;
  return numbers;
}

void write_pieces(gguf_context* header, const Pieces& pieces, const std::vector<int64_t>& numbers) {
  std::vector<const char*> texts;
  std::vector<float> scores;
  std::vector<int32_t> types;
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (numbers[i] < 0) continue;
    texts.push_back(pieces.texts[i].c_str());
    scores.push_back(pieces.scores[i]);
    types.push_back(pieces.types[i]);
  }
  gguf_set_arr_str(header, kTokens, texts.data(), texts.size());
  gguf_set_arr_data(header, kScores, GGUF_TYPE_FLOAT32, scores.data(), scores.size());
  gguf_set_arr_data(header, kTypes, GGUF_TYPE_INT32, types.data(), types.size());
}

/// tokenizer.ggml.bos_token_id and the like.
void renumber_special(gguf_context* header, const std::vector<int64_t>& numbers) {
  std::vector<std::pair<std::string, uint32_t>> special;
  for (int64_t i = 0; i < gguf_get_n_kv(header); ++i)
    if (const std::string_view key = gguf_get_key(header, i);
        key.starts_with("tokenizer.") && key.ends_with("_token_id") && gguf_get_kv_type(header, i) == GGUF_TYPE_UINT32)
      special.emplace_back(key, gguf_get_val_u32(header, i));
  for (const auto& [key, id] : special) {
    if (id < numbers.size() && numbers[id] >= 0)
      gguf_set_val_u32(header, key.c_str(), static_cast<uint32_t>(numbers[id]));
    else
      gguf_remove_key(header, key.c_str());
  }
}

}  // namespace

void cut_vocabulary(gguf_context* header, int merges, const std::filesystem::path& file) {
  const Pieces pieces = read_pieces(header, file);
  const std::vector<int64_t> numbers = new_numbers(pieces, merges);
  write_pieces(header, pieces, numbers);
  renumber_special(header, numbers);
}

}  // namespace haqa
