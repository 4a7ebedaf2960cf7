// Any file is a set of examples or an Error. What is read has something to learn at its end, is UTF-8, and becomes
// batches in which nothing is lost.
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/base/text.h"
#include "haqa/dataset/batches.h"
#include "haqa/dataset/examples.h"
#include "haqa/dataset/token_examples.h"

namespace {

void require(bool truth) {
  if (!truth) std::abort();
}

void check(const std::vector<haqa::Example>& examples) {
  require(!examples.empty());
  for (const haqa::Example& example : examples) {
    require(!example.segments.empty() && example.segments.back().trained);
    for (const haqa::Segment& segment : example.segments) require(haqa::is_utf8(segment.text) && !segment.text.empty());
  }
}

/// A byte a token.
void check_batches(const std::vector<haqa::Example>& examples) {
  const auto bytes = [](std::string_view text) { return std::vector<int32_t>(text.begin(), text.end()); };
  const haqa::TokenExamples found = haqa::encode_examples(examples, bytes, {.bos = 1, .eos = 2, .length = 300});
  require(found.examples.size() + found.dropped >= examples.size());
  size_t tokens = 0, used = 0;
  for (const haqa::TokenExample& e : found.examples) tokens += e.tokens.size();
  for (const auto& batch : haqa::plan_epoch(found.examples, {haqa::Grouping::packed, 4, 300, 1}, 0))
    for (const size_t i : batch) used += found.examples[i].tokens.size();
  require(tokens == used);
}

}  // namespace

/// Leaves a file of each form in the corpus.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  for (int i = 1; i < *argc; ++i) {
    const std::filesystem::path corpus = (*argv)[i];
    if (!std::filesystem::is_directory(corpus)) continue;
    const std::string alpaca = R"({"instruction": "a", "input": "\u00fc", "output": "c"})",
                      chat = R"({"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"},)"
                             R"( {"role": "assistant", "content": "c"}, {"role": "user", "content": "d"}]})";
    std::ofstream(corpus / "seed-alpaca") << alpaca << "\n" << alpaca;
    std::ofstream(corpus / "seed-array") << "[" << alpaca << ",\n" << chat << "]";
    std::ofstream(corpus / "seed-chat") << "\xEF\xBB\xBF" << chat;
    std::ofstream(corpus / "seed-text") << "one\ntwo\r\n\r\nthree \xc3\xbc\n\n{\"text\": \"x\"}";
    break;
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const haqa::TemporaryFolder folder;
  using Form = haqa::ExampleForm;
  std::ofstream(folder / "examples", std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  for (const std::optional<Form> form :
       {std::optional<Form>(), std::optional(Form::chat), std::optional(Form::document)}) {
    try {
      const haqa::ExampleFile found = haqa::read_examples(folder / "examples", form);
      check(found.examples);
      check_batches(found.examples);
    } catch (const haqa::Error&) {
    }
  }
  return 0;
}
