#pragma once
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace haqa {

/// A piece of an example's text; the model learns to write those that are trained on, and reads the others.
struct Segment {
  std::string text;
  bool trained = false;
  bool operator==(const Segment&) const = default;
};

/// What a model is shown at once: segments that follow one another, at least one of them trained on, the last one
/// always. An end-of-text token belongs behind each that is trained on (token_examples.h).
struct Example {
  std::vector<Segment> segments;
  bool operator==(const Example&) const = default;
};

/// Whether all of it is trained on, from its beginning.
bool is_plain_text(const Example& example);

enum class ExampleForm {
  alpaca,    ///< records with instruction, input (may be missing or empty) and output
  chat,      ///< records with messages: a list of {role, content}, roles system, user and assistant
  text,      ///< records with text, or a plain text file of documents with blank lines between them; all trained on
  document,  ///< a plain text file that is one document, all trained on
};
/// Throws UsageError where the name is none of alpaca, chat, text and document.
ExampleForm example_form_from(std::string_view name);

struct ExampleFile {
  std::vector<Example> examples;  ///< in the order of the file; at least one
  /// Records left out because their output is empty: of tatsu-lab/alpaca's 52,002 there are 28.
  size_t without_response = 0;
};

/// Reads a file of examples: JSON (one array of records), JSON Lines (one record a line, blank lines are passed over)
/// or plain text, known by the first character and the ending .txt. Each record's form is known by its fields unless
/// `form` names it; fields beyond those of the form are passed over. The file is read as a stream.
/// Throws Error naming file and line (in an array: the record's number, from 1) where something is wrong: broken JSON,
/// bytes that are no UTF-8, missing fields, wrong types, unknown roles, no example in all of the file.
ExampleFile read_examples(const std::filesystem::path& file, std::optional<ExampleForm> form = {});

/// The prompt of an instruction; the response follows it at once. Source: stanford_alpaca, PROMPT_DICT in train.py,
/// with a line break behind "### Response:", as in the field `text` of tatsu-lab/alpaca; train.py leaves it out.
std::string alpaca_prompt(std::string_view instruction, std::string_view input);

}  // namespace haqa
