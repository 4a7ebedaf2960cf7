#define PCRE2_CODE_UNIT_WIDTH 8
#include "haqa/tasks/readers.h"

#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <charconv>
#include <memory>

#include "haqa/base/error.h"
#include "haqa/base/text.h"
#include "haqa/tasks/python_text.h"

namespace haqa {
namespace {

/// The value under a key, or under a path such as "choices.text".
const Json& field(const Json& row, std::string_view path) {
  const Json* at = &row;
  for (std::string_view rest = path; !rest.empty();) {
    const size_t dot = std::min(rest.find('.'), rest.size());
    const auto found = at->is_object() ? at->find(rest.substr(0, dot)) : at->end();
    if (!at->is_object() || found == at->end())
      throw Error("\"{}\" is missing; a row has the data set's own fields", path);
    at = &*found;
    rest.remove_prefix(std::min(dot + 1, rest.size()));
  }
  return *at;
}

const std::string& text(const Json& row, std::string_view path) {
  const Json& value = field(row, path);
  if (!value.is_string()) throw Error("\"{}\" is {}, not a text", path, one_line(to_line(value), 60));
  return value.get_ref<const std::string&>();
}

std::vector<std::string> texts(const Json& row, std::string_view path) {
  const Json& value = field(row, path);
  if (!value.is_array()) throw Error("\"{}\" is {}, not a list of texts", path, one_line(to_line(value), 60));
  std::vector<std::string> out;
  for (const Json& one : value) {
    if (!one.is_string()) throw Error("\"{}\" holds {}, not a text", path, one_line(to_line(one), 60));
    out.push_back(one);
  }
  return out;
}

/// An answer's index, given as a number or, as HellaSwag does, as a text.
int index(const Json& row, std::string_view path) {
  const Json& value = field(row, path);
  int number = -1;
  bool is_number = value.is_number_integer();
  if (is_number) {
    number = value.get<int64_t>() < 0 || value.get<int64_t>() > 1000 ? -1 : value.get<int>();
  } else if (value.is_string()) {
    const std::string& word = value.get_ref<const std::string&>();
    const auto [end, code] = std::from_chars(word.data(), word.data() + word.size(), number);
    is_number = code == std::errc() && end == word.data() + word.size();
  }
  if (!is_number || number < 0)
    throw Error("\"{}\" is {}, no answer; take a split that has answers", path, one_line(to_line(value), 60));
  return number;
}

/// Which of `names` the field holds; leading white space does not count, as OpenBookQA has some.
int index_among(const Json& row, std::string_view path, const std::vector<std::string>& names) {
  const std::string_view key = strip(text(row, path));
  const auto found = std::find(names.begin(), names.end(), key);
  if (found == names.end())
    throw Error("\"{}\" is \"{}\", none of the choices; take a split that has answers", path, one_line(key, 60));
  return static_cast<int>(found - names.begin());
}

/// "Question: {question}" with the row's texts in place of the braces.
std::string filled(const std::string& form, const Json& row) {
  std::string out;
  for (size_t at = 0; at < form.size();) {
    const size_t open = std::min(form.find('{', at), form.size()), close = form.find('}', open);
    out.append(form, at, open - at);
    if (open == form.size()) break;
    out += text(row, std::string_view(form).substr(open + 1, close - open - 1));
    at = close + 1;
  }
  return out;
}

/// lm-eval puts a space before each choice.
Item item_of(const std::string& context, const std::vector<std::string>& choices, int gold) {
  if (choices.empty()) throw Error("no choices are found");
  Item item;
  for (const std::string& choice : choices) {
    item.requests.push_back({context, " " + choice});
    item.lengths.push_back(characters(choice));
  }
  item.gold = gold < static_cast<int>(choices.size()) ? gold : -1;
  return item;
}

/// The blank is "_"; each option stands in it, and what follows the blank is the same for all.
Item winogrande(const Json& row) {
  const std::string& sentence = text(row, "sentence");
  const size_t blank = sentence.find('_');
  if (blank == std::string::npos) throw Error("\"sentence\" has no blank \"_\": {}", one_line(sentence, 60));
  Item item;
  for (const char* option : {"option1", "option2"}) {
    const std::string context = sentence.substr(0, blank) + text(row, option);
    item.requests.push_back({context, " " + std::string(strip(std::string_view(sentence).substr(blank + 1)))});
    item.lengths.push_back(characters(context));
  }
  item.gold = index_among(row, "answer", {"1", "2"});
  return item;
}

Item hellaswag(const Json& row) {
  std::vector<std::string> endings = texts(row, "endings");
  for (std::string& ending : endings) ending = clean_hellaswag(ending);
  const std::string context =
      text(row, "activity_label") + ": " + text(row, "ctx_a") + " " + capitalize(text(row, "ctx_b"));
  return item_of(clean_hellaswag(context), endings, index(row, "label"));
}

using Choices = std::function<std::vector<std::string>(const Json& row)>;

/// A key that holds a mapping is read by its own checks; `found` says whether it is one.
std::optional<YamlMap> mapping(YamlMap& file, const std::string& key) {
  const auto value = file.value(key);
  if (!value) file.fail(key, "is missing");
  if (!value->is_object()) return std::nullopt;
  return file.map(key);
}

std::vector<std::string> listed(YamlMap& map, const std::string& key) {
  std::vector<std::string> out;
  for (const Json& one : map.value(key).value_or(Json())) {
    if (!one.is_string()) map.fail(key, "is a list of texts; put quotes around words such as yes");
    out.push_back(one);
  }
  return out;
}

Choices choices_of(YamlMap& file) {
  auto map = mapping(file, "choices");
  if (!map) return [fixed = listed(file, "choices")](const Json&) { return fixed; };
  const auto path = map->text("field");
  if (!path) map->fail("field", "is missing");
  const auto pattern = map->text("pattern");
  const size_t drop = static_cast<size_t>(map->integer("drop", 0, 100).value_or(0));
  const std::string strip_end = map->text("strip_end").value_or("");
  map->finish();
  if (!pattern) return [path = *path](const Json& row) { return texts(row, path); };
  return [path = *path, pattern = *pattern, drop, strip_end](const Json& row) {
    std::vector<std::string> options = all_matches(pattern, text(row, path));
    for (std::string& option : options) {
      option.erase(0, drop);
      option.erase(option.find_last_not_of(strip_end) + 1);
    }
    return options;
  };
}

std::function<int(const Json& row)> gold_of(YamlMap& file) {
  auto map = mapping(file, "gold");
  if (!map) file.fail("gold", "is {index: FIELD} or {key: FIELD, among: LIST}");
  const auto at = map->text("index"), key = map->text("key");
  std::function<int(const Json&)> gold;
  if (at) {
    gold = [at = *at](const Json& row) { return index(row, at); };
  } else if (!key) {
    map->fail("key", "is missing");
  } else if (const auto among = map->value("among"); among && among->is_string()) {
    gold = [key = *key, path = among->get<std::string>()](const Json& row) {
      return index_among(row, key, texts(row, path));
    };
  } else {
    gold = [key = *key, names = listed(*map, "among")](const Json& row) { return index_among(row, key, names); };
  }
  map->finish();
  return gold;
}

}  // namespace

std::function<Item(const Json& row)> row_reader(YamlMap& file) {
  if (const auto reader = file.choice("reader", {"winogrande", "hellaswag"}))
    return *reader == "winogrande" ? winogrande : hellaswag;
  const auto context = file.text("context");
  if (!context) file.fail("context", "is missing");
  for (size_t open = context->find('{'); open != std::string::npos; open = context->find('{', open + 1))
    if (context->find('}', open) == std::string::npos) file.fail("context", "has a brace that nothing closes");
  return [context = *context, choices = choices_of(file), gold = gold_of(file)](const Json& row) {
    const std::vector<std::string> texts = choices(row);
    return item_of(filled(context, row), texts, gold(row));
  };
}

std::string clean_hellaswag(std::string_view text) {
  std::string titled, out;
  for (text = strip(text); !text.empty();) {
    constexpr std::string_view kTitle = " [title]";
    const bool title = text.starts_with(kTitle);
    titled += title ? std::string_view(". ") : text.substr(0, 1);
    text.remove_prefix(title ? kTitle.size() : 1);
  }
  for (size_t at = 0; at < titled.size();) {
    const size_t close = titled[at] == '[' ? titled.find_first_of("]\n", at) : std::string::npos;
    if (close != std::string::npos && titled[close] == ']') {
      at = close + 1;
    } else {
      out += titled[at++];
    }
  }
  std::string single;
  for (size_t at = 0; at < out.size(); ++at) {
    single += out[at];
    if (out[at] == ' ' && at + 1 < out.size() && out[at + 1] == ' ') ++at;
  }
  return single;
}

std::vector<std::string> all_matches(const std::string& pattern, std::string_view text) {
  int error = 0;
  PCRE2_SIZE where = 0;
  const std::unique_ptr<pcre2_compile_context, void (*)(pcre2_compile_context*)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  const std::unique_ptr<pcre2_code, void (*)(pcre2_code*)> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), 0, &error, &where, context.get()),
      pcre2_code_free);
  if (!code) throw Error("'{}' is no regular expression", pattern);
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(
      pcre2_match_data_create_from_pattern(code.get(), nullptr), pcre2_match_data_free);
  std::vector<std::string> found;
  for (size_t from = 0; from <= text.size();) {
    const int rc =
        pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from, 0, data.get(), nullptr);
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0) throw Error("the pattern '{}' takes too many steps on {}", pattern, one_line(text, 60));
    const PCRE2_SIZE* at = pcre2_get_ovector_pointer(data.get());
    found.emplace_back(text.substr(at[0], at[1] - at[0]));
    from = at[1] > at[0] ? at[1] : at[1] + 1;
  }
  return found;
}

}  // namespace haqa
