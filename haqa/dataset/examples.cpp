#include "haqa/dataset/examples.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>

#include "haqa/base/error.h"
#include "haqa/base/json.h"
#include "haqa/base/text.h"

namespace haqa {
namespace {

constexpr int kMaxDepth = 64;  // nlohmann copies and compares by recursion

/// A fault within a record; who knows the record's place adds it.
class RecordError : public Error {
 public:
  using Error::Error;
};

std::string_view type_of(const Json& value) {
  return value.type_name();
}

/// The text of a field. Throws where it is missing or no text.
const std::string& text_of(const Json& record, const char* field) {
  const auto found = record.find(field);
  if (found == record.end()) throw RecordError("the field {} is missing", field);
  if (!found->is_string()) throw RecordError("the field {} is no text but {}", field, type_of(*found));
  return found->get_ref<const std::string&>();
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos;
}

/// Nothing where the response is empty.
std::optional<Example> alpaca_example(const Json& record) {
  const std::string& instruction = text_of(record, "instruction");
  if (is_blank(instruction)) throw RecordError("the field instruction is empty");
  const bool has_input = record.contains("input") && !record["input"].is_null();
  const std::string& output = text_of(record, "output");
  std::string prompt = alpaca_prompt(instruction, has_input ? text_of(record, "input") : std::string());
  if (is_blank(output)) return std::nullopt;
  return Example{{{std::move(prompt), false}, {output, true}}};
}

/// "### User:\n...\n\n"; an assistant's heading belongs to what the model reads, its text to what it writes.
class ChatWriter {
 public:
  void add(const std::string& role, const std::string& content) {
    if (role == "assistant") {
      read_ += "### Assistant:\n";
      example_.segments.push_back({std::move(read_), false});
      example_.segments.push_back({content, true});
      read_ = "\n\n";
    } else if (role == "system" || role == "user") {
      read_ += (role == "system" ? "### System:\n" : "### User:\n") + content + "\n\n";
    } else {
      throw RecordError("the role '{}' is none of system, user and assistant", one_line(role, 40));
    }
  }
  /// What nobody answered at the end is left out.
  Example finish() && { return std::move(example_); }

 private:
  Example example_;
  std::string read_;
};

std::optional<Example> chat_example(const Json& record) {
  const auto messages = record.find("messages");
  if (messages == record.end()) throw RecordError("the field messages is missing");
  if (!messages->is_array() || messages->empty())
    throw RecordError("the field messages is no list of messages; write [{{\"role\": ..., \"content\": ...}}, ...]");
  ChatWriter writer;
  bool answered = false;
  for (size_t i = 0; i < messages->size(); ++i) {
    const Json& message = (*messages)[i];
    try {
      if (!message.is_object()) throw RecordError("it is no object but {}", type_of(message));
      const std::string &role = text_of(message, "role"), &content = text_of(message, "content");
      const bool assistant = role == "assistant";
      if (assistant && is_blank(content)) return std::nullopt;
      answered |= assistant;
      writer.add(role, content);
    } catch (const RecordError& e) {
      throw RecordError("message {}: {}", i + 1, e.what());
    }
  }
  if (!answered) throw RecordError("no message is the assistant's, so there is nothing to learn");
  return std::move(writer).finish();
}

std::optional<Example> text_example(const Json& record) {
  const std::string& text = text_of(record, "text");
  if (is_blank(text)) return std::nullopt;
  return Example{{{text, true}}};
}

ExampleForm form_of(const Json& record) {
  if (record.contains("messages")) return ExampleForm::chat;
  if (record.contains("instruction")) return ExampleForm::alpaca;  // before text, which Alpaca's records have too
  if (record.contains("text")) return ExampleForm::text;
  throw RecordError("it has neither instruction and output, nor messages, nor text; docs/data.md shows the forms");
}

std::optional<Example> example_of(const Json& record, std::optional<ExampleForm> form) {
  if (!record.is_object()) throw RecordError("it is no object but {}", type_of(record));
  switch (form ? *form : form_of(record)) {
    case ExampleForm::alpaca:
      return alpaca_example(record);
    case ExampleForm::chat:
      return chat_example(record);
    default:
      return text_example(record);
  }
}

class Reader {
 public:
  Reader(const std::filesystem::path& file, std::optional<ExampleForm> form) : file_(file), form_(form) {
    std::error_code code;
    if (std::filesystem::exists(file, code) &&
        !std::filesystem::is_regular_file(file, code))  // is read from its start twice
      throw Error("{}: is a folder or a pipe; name a file", file.string());
    in_.open(file, std::ios::binary);
    if (!in_) throw Error("{}: cannot read: {}", file.string(), std::strerror(errno));
    skip_byte_order_mark();
  }

  ExampleFile read() && {
    const int first = first_character();
    if (is_plain_text(first)) {
      if (form_ == ExampleForm::alpaca || form_ == ExampleForm::chat)
        throw Error("{}: is no JSON; write an array of records, or one record a line", file_.string());
      read_text();
    } else if (first == '[') {
      read_array();
    } else {
      read_lines();
    }
    if (in_.bad()) throw Error("{}: cannot read: {}", file_.string(), std::strerror(errno));
    require_examples();
    return std::move(found_);
  }

 private:
  void skip_byte_order_mark() {
    char mark[3] = {};
    in_.read(mark, 3);
    if (in_.gcount() == 3 && std::memcmp(mark, "\xEF\xBB\xBF", 3) == 0) return;
    rewind();
  }
  void rewind() {
    in_.clear();
    in_.seekg(0);
  }

  /// That is no space; the position stays.
  int first_character() {
    const auto start = in_.tellg();
    int c = in_.get();
    while (c != EOF && std::isspace(c)) c = in_.get();
    in_.clear();
    in_.seekg(start);
    return c;
  }

  bool is_plain_text(int first) const {
    if (form_ == ExampleForm::document) return true;
    const auto extension = file_.extension();
    if (extension == ".txt" && (!form_ || *form_ == ExampleForm::text)) return true;
    const bool claims_json = extension == ".json" || extension == ".jsonl" || extension == ".ndjson";
    return !claims_json && first != '[' && first != '{';
  }

  void require_examples() const {
    if (!found_.examples.empty()) return;
    if (found_.without_response > 0)
      throw Error("{}: the responses of all {} records are empty; give records with a response", file_.string(),
                  found_.without_response);
    throw Error("{}: holds no example; docs/data.md shows the forms", file_.string());
  }

  void take(const Json& record) {
    if (std::optional<Example> example = example_of(record, form_))
      found_.examples.push_back(std::move(*example));
    else
      ++found_.without_response;
  }

  void read_lines() {
    size_t number = 0;
    for (std::string line; std::getline(in_, line);) {
      ++number;
      if (is_blank(line)) continue;
      try {
        take(parse(line));
      } catch (const Json::exception& e) {
        fail_at_line(number, e);
      } catch (const RecordError& e) {
        throw Error("{}:{}: {}", file_.string(), number, e.what());
      }
    }
  }

  [[noreturn]] void fail_at_line(size_t number, const Json::exception& e) const {
    throw Error("{}:{}: not valid JSON ({}); each line must be one whole object, or the file one array", file_.string(),
                number, words_of(e));
  }

  static Json parse(const std::string& line) {
    return Json::parse(line, [](int depth, Json::parse_event_t, Json&) {
      if (depth > kMaxDepth) throw RecordError("it nests deeper than {} levels", kMaxDepth);
      return true;
    });
  }

  /// Each element is taken when it is complete, and dropped: the array never exists as a whole.
  void read_array() {
    using Event = Json::parse_event_t;
    size_t element = 1;
    const auto on_event = [&](int depth, Event event, Json& value) {
      if (depth > kMaxDepth) throw RecordError("it nests deeper than {} levels", kMaxDepth);
      const bool complete = event == Event::object_end || event == Event::array_end || event == Event::value;
      if (depth != 1 || !complete) return true;
      take(value);
      ++element;
      return false;
    };
    try {
      [[maybe_unused]] const Json emptied = Json::parse(in_, on_event);
    } catch (const Json::parse_error& e) {
      throw Error("{}:{}: element {} of the array is not valid JSON ({}); correct it", file_.string(), line_of(e.byte),
                  element, words_of(e));
    } catch (const Json::exception& e) {
      throw Error("{}: element {} of the array is not valid JSON ({}); correct it", file_.string(), element,
                  words_of(e));
    } catch (const RecordError& e) {
      throw Error("{}: element {} of the array: {}", file_.string(), element, e.what());
    }
  }

  /// It quotes the last token, whole.
  static std::string words_of(const Json::exception& e) { return one_line(shortened(e.what(), 200)); }

  size_t line_of(size_t byte) {
    rewind();
    size_t line = 1;
    for (int c = in_.get(); c != EOF && byte > 0; c = in_.get(), --byte) line += c == '\n';
    return line;
  }

  void read_text() {
    std::string document;
    size_t number = 0;
    const auto take_document = [&] {
      while (document.ends_with('\n')) document.pop_back();
      if (!is_blank(document)) found_.examples.push_back({{{document, true}}});
      document.clear();
    };
    for (std::string line; std::getline(in_, line);) {
      ++number;
      if (!is_utf8(line))
        throw Error("{}:{}: holds bytes that are no UTF-8; save the file in that encoding", file_.string(), number);
      if (line.ends_with('\r')) line.pop_back();
      if (is_blank(line) && form_ != ExampleForm::document) {
        take_document();
      } else {
        document += line + '\n';
      }
    }
    take_document();
  }

  std::filesystem::path file_;
  std::optional<ExampleForm> form_;
  std::ifstream in_;
  ExampleFile found_;
};

}  // namespace

bool is_plain_text(const Example& example) {
  return example.segments.front().trained;
}

ExampleForm example_form_from(std::string_view name) {
  if (name == "alpaca") return ExampleForm::alpaca;
  if (name == "chat") return ExampleForm::chat;
  if (name == "text") return ExampleForm::text;
  if (name == "document") return ExampleForm::document;
  throw UsageError("'{}' is no form of examples; choose alpaca, chat, text or document", one_line(name, 40));
}

std::string alpaca_prompt(std::string_view instruction, std::string_view input) {
  if (input.empty())
    return fmt::format(
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\n{}\n\n### Response:\n",
        instruction);
  return fmt::format(
      "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
      "response that appropriately completes the request.\n\n### Instruction:\n{}\n\n### Input:\n{}\n\n### Response:\n",
      instruction, input);
}

ExampleFile read_examples(const std::filesystem::path& file, std::optional<ExampleForm> form) {
  return Reader(file, form).read();
}

}  // namespace haqa
