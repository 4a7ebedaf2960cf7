#include "haqa/tune/command_template.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "haqa/base/error.h"
#include "haqa/base/text.h"

namespace haqa {
namespace {

constexpr const char* kVariable = "HAQA_VALUE_";  // and the parameter's place; the shell's names allow less than ours

bool is_space(char c) {
  return std::isspace(static_cast<unsigned char>(c)) != 0;
}

std::string escaped(std::string_view text, std::string_view special, std::string_view escape) {
  std::string out;
  for (const char c : text) {
    if (special.find(c) != std::string_view::npos) out += escape;
    out += c;
  }
  return out;
}

}  // namespace

/// Splits the text into pieces, as far into the shell's grammar as quoting and words need.
class CommandParser {
 public:
  CommandParser(std::string_view text, const SearchSpace& space, CommandTemplate& result)
      : text_(text), space_(space), out_(result) {}

  void parse() {
    while (at_ < text_.size()) step();
    if (frame().quote != Quote::none || frame().open > 0 || frames_.size() > 1 || backquoted_)
      fail("a quotation mark, a parenthesis or ${ is not closed");
    require_option_with_value();
  }

 private:
  using Quote = CommandTemplate::Quote;
  using Piece = CommandTemplate::Piece;
  /// The command itself, and each $( ) within it, is read anew.
  struct Frame {
    Quote quote = Quote::none;
    int word = -1;
    int outer = -1;           ///< the word around it
    int open = 0;             ///< ${ whose } is to come
    bool arithmetic = false;  ///< within $(( ))
  };

  [[noreturn]] void fail(const std::string& what) const { throw UsageError("--command: {}", what); }
  Frame& frame() { return frames_.back(); }
  bool ahead(std::string_view s) const { return text_.substr(at_).starts_with(s); }

  int word() {
    if (frame().word < 0) {
      frame().word = static_cast<int>(out_.outer_word_.size());
      out_.outer_word_.push_back(frame().outer);
    }
    return frame().word;
  }
  void add(std::string_view text, int word) { out_.pieces_.push_back({std::string(text), false, Quote::none, word}); }
  void take(size_t n) {
    add(text_.substr(at_, n), word());
    at_ += n;
  }
  void between_words() {
    frame().word = -1;
    add(text_.substr(at_++, 1), -1);
  }

  void step() {
    const char c = text_[at_];
    if (c == '{') return brace();
    if (c == '}' && frame().open > 0 && frame().quote != Quote::single) {
      --frame().open;
      take(1);
    } else if (ahead("}}")) {
      add("}", word());
      at_ += 2;
    } else if (frame().quote == Quote::single) {
      if (c == '\'') frame().quote = Quote::none;
      take(1);
    } else if (c == '\\') {
      take(std::min<size_t>(2, text_.size() - at_));
    } else if (ahead("${")) {
      ++frame().open;
      take(2);
    } else if (ahead("$((")) {
      take(3);
      frames_.insert(frames_.end(), 2, {.outer = frame().word, .arithmetic = true});
    } else if (ahead("$(")) {
      take(2);
      frames_.push_back({.outer = frame().word});
    } else if (c == '`') {
      backquoted_ = !backquoted_;
      take(1);
    } else if (c == '"') {
      frame().quote = frame().quote == Quote::twice ? Quote::none : Quote::twice;
      take(1);
    } else if (frame().quote == Quote::twice) {
      take(1);
    } else {
      unquoted(c);
    }
  }

  void unquoted(char c) {
    if (c == '\'') {
      frame().quote = Quote::single;
      take(1);
    } else if (c == '(') {
      between_words();
      frames_.push_back({.outer = frame().outer, .arithmetic = frame().arithmetic});
    } else if (c == ')' && frames_.size() > 1) {
      frames_.pop_back();
      take(1);
    } else if (c == '#' && frame().word < 0) {  // a comment, in which quotation marks mean nothing
      while (at_ < text_.size() && text_[at_] != '\n') between_words();
    } else if (is_space(c) || std::string_view(";|&<>").find(c) != std::string_view::npos) {
      document_ = document_ || (ahead("<<") && !frame().arithmetic);
      between_words();
    } else {
      take(1);
    }
  }

  void brace() {
    const size_t end = text_.find('}', at_);
    const std::string_view name = text_.substr(at_, end == std::string_view::npos ? end : end - at_).substr(1);
    if (ahead("{{")) {
      add("{", word());
      at_ += 2;
    } else if (ahead("{}") || at_ + 1 == text_.size() || is_space(text_[at_ + 1])) {
      take(1);
    } else if (end == std::string_view::npos) {
      fail(fmt::format("{{{} is not closed by a }}; a brace is written {{{{", one_line(name, 40)));
    } else if (std::find(known().begin(), known().end(), name) == known().end()) {
      fail(fmt::format("{{{}}} is no parameter; there are {}, and {{file}} and {{folder}}; a brace is written {{{{",
                       one_line(name, 40), fmt::join(out_.parameters_, ", ")));
    } else if (backquoted_ || document_) {
      fail(fmt::format("{{{}}} stands in {}", name,
                       backquoted_ ? "backquotes; write $( ) for them" : "or after a here-document; make it a script"));
    } else if (frame().arithmetic) {
      fail(
          fmt::format("{{{0}}} stands in $(( )), which takes no quotation marks; give it to a variable first, as in "
                      "x={{{0}}}; echo $((x * 2))",
                      name));
    } else {
      out_.pieces_.push_back({std::string(name), true, frame().quote, word()});
      at_ = end + 1;
    }
  }

  const std::vector<std::string>& known() {
    if (known_.empty()) {
      known_ = out_.parameters_;
      known_.insert(known_.end(), {"file", "folder"});
    }
    return known_;
  }

  /// `--momentum {momentum}` would leave --momentum alone where momentum has no value.
  void require_option_with_value() const {
    const auto& pieces = out_.pieces_;
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (!pieces[i].placeholder || pieces[i].quote != Quote::none || !may_lack_value(pieces[i].text)) continue;
      const auto of_word = [&](const Piece& p) { return p.word == pieces[i].word; };
      if (std::count_if(pieces.begin(), pieces.end(), of_word) > 1) continue;
      std::string option;
      for (size_t k = i; k-- > 0;) {
        if (pieces[k].word < 0 && option.empty() && is_space(pieces[k].text[0])) continue;
        if (pieces[k].word < 0 || pieces[k].placeholder) break;
        option.insert(0, pieces[k].text);
      }
      if (option.starts_with("-") && option.find_first_not_of('-') != std::string::npos)
        fail(fmt::format("{0} {{{1}}} would leave {0} behind where {1} has no value; write {0}={{{1}}} in one word",
                         option, pieces[i].text));
    }
  }
  bool may_lack_value(const std::string& name) const {
    return std::any_of(space_.parameters().begin(), space_.parameters().end(),
                       [&](const Parameter& p) { return p.name == name && p.when; });
  }

  std::string_view text_;
  const SearchSpace& space_;
  CommandTemplate& out_;
  size_t at_ = 0;
  std::vector<Frame> frames_ = {{}};
  std::vector<std::string> known_;
  bool backquoted_ = false, document_ = false;
};

std::string argument(const Json& value) {
  return value.is_string() ? value.get<std::string>() : to_line(value);
}

/// As Python's shlex.quote().
std::string shell_word(const std::string& text) {
  const auto plain = [](unsigned char c) {
    return std::isalnum(c) || std::string_view("_@%+=:,./-").find(c) != std::string_view::npos;
  };
  if (!text.empty() && std::all_of(text.begin(), text.end(), plain)) return text;
  return "'" + escaped(text, "'", "'\\'") + "'";
}

CommandTemplate::CommandTemplate(std::string_view text, const SearchSpace& space) {
  if (text.find_first_not_of(" \t\n") == std::string_view::npos) throw UsageError("--command: is empty");
  for (const Parameter& p : space.parameters()) parameters_.push_back(p.name);
  CommandParser(text, space, *this).parse();
}

bool CommandTemplate::names(std::string_view placeholder) const {
  const auto is_it = [&](const Piece& p) { return p.placeholder && p.text == placeholder; };
  // A parameter of that name comes first.
  const bool parameter = std::find(parameters_.begin(), parameters_.end(), placeholder) != parameters_.end();
  return !parameter && std::any_of(pieces_.begin(), pieces_.end(), is_it);
}

bool CommandTemplate::has_placeholders() const {
  return std::any_of(pieces_.begin(), pieces_.end(), [](const Piece& p) { return p.placeholder; });
}

std::vector<std::string> CommandTemplate::unused() const {
  std::vector<std::string> rest = names_folder() ? std::vector<std::string>() : parameters_;
  for (const Piece& p : pieces_)
    if (p.placeholder) std::erase(rest, p.text);
  return rest;
}

bool CommandTemplate::has_value(const std::string& name, const Configuration& configuration) const {
  const bool parameter = std::find(parameters_.begin(), parameters_.end(), name) != parameters_.end();
  return !parameter || configuration.contains(name);
}

std::string CommandTemplate::expanded(const Configuration& configuration,
                                      const std::function<std::string(const Piece&)>& value) const {
  std::set<int> dropped;
  for (const Piece& p : pieces_)
    if (p.placeholder && !has_value(p.text, configuration)) dropped.insert(p.word);
  const auto stays = [&](int word) {
    for (; word >= 0; word = outer_word_[static_cast<size_t>(word)])
      if (dropped.contains(word)) return false;
    return true;
  };
  std::string text;
  for (const Piece& p : pieces_)
    if (stays(p.word)) text += p.placeholder ? value(p) : p.text;
  return text;
}

Command CommandTemplate::command(const Configuration& configuration, const std::filesystem::path& folder) const {
  Command result;
  std::vector<std::string> names = parameters_;
  names.insert(names.end(), {"file", "folder"});
  const auto variable = [&](const std::string& name) {
    return kVariable + std::to_string(std::find(names.begin(), names.end(), name) - names.begin());
  };
  for (const std::string& name : parameters_)
    if (configuration.contains(name)) result.environment.emplace_back(variable(name), argument(configuration[name]));
  if (this->names("folder")) result.environment.emplace_back(variable("folder"), folder.string());
  if (this->names("file")) result.environment.emplace_back(variable("file"), (folder / "configuration.json").string());
  const std::string text = expanded(configuration, [&](const Piece& p) {
    const std::string reference = "${" + variable(p.text) + "}";
    if (p.quote == Quote::twice) return reference;
    return p.quote == Quote::single ? "'\"" + reference + "\"'" : "\"" + reference + "\"";
  });
  result.argv = {"/bin/sh", "-c", text};
  return result;
}

std::string CommandTemplate::filled_in(const Configuration& configuration) const {
  return expanded(configuration, [&](const Piece& p) -> std::string {
    if (!configuration.contains(p.text)) return p.text == "file" ? "configuration.json" : ".";
    const std::string value = argument(configuration[p.text]);
    if (p.quote == Quote::none) return shell_word(value);
    return p.quote == Quote::single ? escaped(value, "'", "'\\'") : escaped(value, "\"\\$`", "\\");
  });
}

}  // namespace haqa
