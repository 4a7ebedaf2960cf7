#pragma once
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <string>

#include "haqa/base/json.h"

namespace haqa {

/// A model of 0.1 million random weights, and something that it can learn within a second: whether it is day or night,
/// which the last word of the question says. Rows of BoolQ, and examples of the same form.
inline std::filesystem::path learning_model() {
  return std::filesystem::path(HAQA_SOURCE_DIR) / "tests/golden/evaluation/llama.gguf";
}

inline void write_learning_data(const std::filesystem::path& folder, int examples = 300, int rows = 200) {
  std::mt19937_64 random(1);
  const auto pick = [&](std::initializer_list<const char*> words) {
    return std::string(words.begin()[random() % words.size()]);
  };
  const auto passage = [&] {
    const std::string who = pick({"Anna", "Ben", "Clara", "David", "Emma", "Frank", "Greta", "Henry"});
    const std::string what = pick({"the dog", "the cat", "the bird", "a horse", "a fish"});
    return who + " saw " + what + " at the " + pick({"house", "garden", "street", "school", "river"});
  };
  std::filesystem::create_directory(folder / "data");
  std::ofstream learned(folder / "examples.jsonl");
  for (int i = 0; i < examples; ++i) {
    const bool day = random() % 2 == 0;
    learned << Json{{"text",
                     passage() + "\nQuestion: is it " + (day ? "day" : "night") + "?\nAnswer: " + (day ? "yes" : "no")}}
                   .dump()
            << "\n";
  }
  std::ofstream asked(folder / "data/boolq.jsonl");
  std::set<std::string> seen;
  while (seen.size() < static_cast<size_t>(rows)) {
    const bool day = random() % 2 == 0;
    const Json row = {{"question", day ? "is it day" : "is it night"}, {"passage", passage()}, {"label", day ? 1 : 0}};
    if (seen.insert(row.dump()).second) asked << row.dump() << "\n";
  }
}

/// The paper's parameters, with a training that takes a second as the defaults. extra: lines that take the place of
/// those of the same names.
inline std::string learning_space(
    const std::string& learning_rate = "{type: float, low: 1e-4, high: 0.03, log: true, default: 0.008}",
    const std::string& max_steps = "{type: int, low: 20, high: 120, default: 120}") {
  return "learning_rate: " + learning_rate + "\nmax_steps: " + max_steps +
         "\nper_device_train_batch_size: {type: int, low: 8, high: 16, default: 16}\n"
         "gradient_accumulation_steps: {type: int, low: 1, high: 2, default: 1}\n"
         "max_grad_norm: {type: float, low: 0.5, high: 1, default: 1}\n"
         "lora_r: {type: int, low: 8, high: 32, default: 16}\n"
         "lora_alpha: {type: int, low: 16, high: 32, default: 32}\n"
         "lora_dropout: {type: float, low: 0, high: 0.1, default: 0}\n";
}

}  // namespace haqa
