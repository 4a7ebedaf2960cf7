#include "haqa/agent/answer_form.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

#include "haqa/base/text.h"

namespace haqa {
namespace {

constexpr std::string_view kFence = "```";
constexpr const char* kBlank = " \t\r\n";

const Parameter* find_parameter(const SearchSpace& space, const std::string& name) {
  for (const Parameter& p : space.parameters())
    if (p.name == name) return &p;
  return nullptr;
}

std::string quoted(const std::string& name) {
  return fmt::format("\"{}\"", name);
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(kBlank) == std::string_view::npos;
}

/// The text in a fence of its own, within a JSON string say.
std::string unfenced(const std::string& text) {
  const size_t open = text.find_first_not_of(kBlank), last = text.find_last_not_of(kBlank);
  if (open == std::string::npos || text.compare(open, kFence.size(), kFence) != 0) return text;
  const size_t begin = text.find('\n', open), close = text.rfind(kFence, last);
  if (begin == std::string::npos || close <= begin || close + kFence.size() != last + 1) return text;
  return text.substr(begin + 1, close - begin - 1);
}

/// Value by value: of what is not active its default, so that a list is whole.
Json list_of(const Track& track, const AnswerName& a, const Configuration& configuration) {
  Json list = Json::array();
  for (const std::string& name : a.parameters) {
    const Parameter* p = find_parameter(track.space, name);
    const auto value = configuration.find(name);
    list.push_back(value != configuration.end() ? *value : p ? p->default_value : Json(1));
  }
  return list;
}

bool is_list(const AnswerName& a) {
  return a.parameters.size() > 1;
}

/// Reads one track's answer, key by key.
class Reader {
 public:
  Reader(const Track& track, const Json& answer, std::vector<std::string>& code)
      : track_(track), answer_(answer), code_(code) {}

  std::variant<Configuration, AnswerFaults> read() {
    for (const AnswerName& a : track_.answer_names) {
      known_.push_back(a.key);
      if (!a.flag.empty()) known_.push_back(a.flag);
      if (is_list(a)) {
        take_list(a);
      } else if (a.flag.empty()) {
        take_value(a);
      } else {
        take_text(a);
      }
    }
    for (const auto& [name, value] : answer_.items())
      if (std::find(known_.begin(), known_.end(), name) == known_.end()) read_[name] = value;
    if (!faults_.empty()) return AnswerFaults{std::move(faults_)};
    return std::move(read_);
  }

 private:
  bool stands_by_itself(const std::string& name) const { return name.empty() || answer_.contains(name); }

  void take_list(const AnswerName& a) {
    const auto list = answer_.find(a.key);
    if (list == answer_.end()) {
      if (!std::all_of(a.parameters.begin(), a.parameters.end(), [&](const auto& n) { return stands_by_itself(n); }))
        faults_.push_back(fmt::format("{} is missing; it must be {}", quoted(a.key), form_of(a)));
      return;
    }
    if (!list->is_array() || list->size() != a.parameters.size()) {
      faults_.push_back(
          fmt::format("{} is {}; it must be {}", quoted(a.key), shortened(to_line(*list), 57), form_of(a)));
      return;
    }
    for (size_t i = 0; i < a.parameters.size(); ++i)
      if (!a.parameters[i].empty()) read_[a.parameters[i]] = (*list)[i];
  }

  static std::string form_of(const AnswerName& a) {
    std::vector<std::string> names;
    for (const std::string& name : a.parameters) names.push_back(name.empty() ? "1" : quoted(name));
    return fmt::format("a list of {}: {}", names.size(), fmt::join(names, ", "));
  }

  void take_value(const AnswerName& a) {
    const auto value = answer_.find(a.key);
    if (value != answer_.end()) {
      read_[a.parameters.front()] = *value;
    } else if (!answer_.contains(a.parameters.front())) {
      faults_.push_back(fmt::format("{} is missing", quoted(a.key)));
    }
  }

  void take_text(const AnswerName& a) {
    const std::string& name = a.parameters.front();
    const auto flag = answer_.find(a.flag), given = answer_.find(a.key);
    if (flag == answer_.end() && given == answer_.end()) {
      if (!answer_.contains(name))
        faults_.push_back(fmt::format("{} is missing; it must be true or false", quoted(a.flag)));
      return;
    }
    if (flag != answer_.end() && !flag->is_boolean()) {
      faults_.push_back(
          fmt::format("{} is {}; it must be true or false", quoted(a.flag), shortened(to_line(*flag), 57)));
      return;
    }
    if (flag != answer_.end() && !flag->get<bool>()) {
      read_[name] = track_default(name);
    } else if (given != answer_.end() && !given->is_string() && !given->is_null()) {
      read_[name] = *given;  // whose type the space finds fault with
    } else {
      const std::string text = given == answer_.end() || given->is_null() ? "" : unfenced(given->get<std::string>());
      take_changed(a, text, flag != answer_.end());
    }
  }

  void take_changed(const AnswerName& a, const std::string& text, bool said_so) {
    const std::string& name = a.parameters.front();
    if (is_short_text(text)) {
      faults_.push_back(fmt::format("{} is only the summary of an earlier one; give the complete text", quoted(a.key)));
    } else if (!is_blank(text)) {
      read_[name] = text;
    } else if (!said_so) {
      read_[name] = track_default(name);
    } else if (!code_.empty()) {
      read_[name] = std::move(code_.front());
      code_.erase(code_.begin());
    } else {
      faults_.push_back(fmt::format(
          "{0} is true, but there is no {1}; give the complete text as {1}, or in a fenced block after the JSON object",
          quoted(a.flag), quoted(a.key)));
    }
  }

  Json track_default(const std::string& name) const {
    const Parameter* p = find_parameter(track_.space, name);
    return p ? p->default_value : Json("");
  }

  const Track& track_;
  const Json& answer_;
  std::vector<std::string>& code_;
  std::vector<std::string> known_, faults_;
  Configuration read_ = Json::object();
};

/// A list whose elements are of one type, where they are.
Json list_schema(const AnswerName& a, const Json& properties) {
  Json type;
  bool same = true;
  for (const std::string& name : a.parameters) {
    const Json& p = properties.value(name, Json::object());
    const Json of = name.empty() ? Json("integer") : p.value("type", Json());
    same = same && (type.is_null() || type == of);
    type = of;
  }
  const Json items = same && !type.is_null() ? Json{{"type", type}} : Json::object();
  return {{"type", "array"}, {"items", items}, {"minItems", a.parameters.size()}, {"maxItems", a.parameters.size()}};
}

size_t end_of_line(std::string_view text, size_t from) {
  return std::min(text.find('\n', from), text.size());
}

/// The line that closes a fence: where it begins, and where it ends.
std::optional<std::pair<size_t, size_t>> closing_line(std::string_view text, size_t from) {
  for (size_t line = from; line < text.size();) {
    const size_t end = end_of_line(text, line), mark = text.find_first_not_of(" \t", line);
    if (mark < end && text.substr(mark).starts_with(kFence)) return std::pair(line, mark + kFence.size());
    line = end + 1;
  }
  return std::nullopt;
}

}  // namespace

Json to_answer(const Track& track, const Configuration& configuration) {
  Json answer = Json::object();
  std::vector<std::string> told;
  for (const AnswerName& a : track.answer_names) {
    told.insert(told.end(), a.parameters.begin(), a.parameters.end());
    if (is_list(a)) {
      answer[a.key] = list_of(track, a, configuration);
    } else if (const auto value = configuration.find(a.parameters.front()); value != configuration.end()) {
      const Parameter* p = find_parameter(track.space, value.key());
      if (!a.flag.empty()) answer[a.flag] = !p || *value != p->default_value;
      answer[a.key] = *value;
    }
  }
  for (const auto& [name, value] : configuration.items())
    if (std::find(told.begin(), told.end(), name) == told.end()) answer[name] = value;
  return answer;
}

std::variant<Configuration, AnswerFaults> from_answer(const Track& track, const Json& answer,
                                                      std::vector<std::string>& code) {
  return Reader(track, answer, code).read();
}

Json answer_schema(const Track& track) {
  Json schema = track.space.schema();
  if (track.answer_names.empty()) return schema;
  Json rest = schema["properties"], properties = Json::object(), required = Json::array();
  for (const AnswerName& a : track.answer_names) {
    if (!a.flag.empty()) {
      properties[a.flag] = {{"type", "boolean"}};
      required.push_back(a.flag);
    } else {
      required.push_back(a.key);
    }
    properties[a.key] =
        is_list(a) ? list_schema(a, schema["properties"]) : schema["properties"].value(a.parameters.front(), Json());
  }
  for (const AnswerName& a : track.answer_names)
    for (const std::string& name : a.parameters) rest.erase(name);
  properties.update(rest);
  for (const Json& name : schema["required"])
    if (rest.contains(name.get<std::string>())) required.push_back(name);
  schema["properties"] = properties;
  schema["required"] = required;
  return schema;
}

std::string describe_answer(const Track& track) {
  std::string text;
  for (const AnswerName& a : track.answer_names) {
    std::vector<std::string> names;
    for (const std::string& name : a.parameters) names.push_back(name.empty() ? "1" : fmt::format("'{}'", name));
    if (is_list(a)) {
      text += fmt::format("In an answer \"{}\" is the list [{}].\n", a.key, fmt::join(names, ", "));
    } else if (!a.flag.empty()) {
      text += fmt::format(
          "In an answer \"{0}\" says whether {1} is changed. Where it is true, \"{2}\" is the complete text, as a JSON "
          "string, or left empty and given in one fenced block right after the JSON object.\n",
          a.flag, names.front(), a.key);
    } else if (a.key != a.parameters.front()) {
      text += fmt::format("In an answer \"{}\" is {}.\n", a.key, names.front());
    }
  }
  return text;
}

Unfenced without_code(std::string_view answer, const std::function<bool(std::string_view)>& is_code) {
  Unfenced found;
  size_t at = 0;
  for (size_t open; (open = answer.find(kFence, at)) != std::string_view::npos;) {
    const size_t content = end_of_line(answer, open) + 1;
    // Within a line, in a JSON string say: no block.
    if (const size_t again = answer.find(kFence, open + kFence.size()); again < content) {
      found.text += answer.substr(at, again + kFence.size() - at);
      at = again + kFence.size();
      continue;
    }
    const auto close = closing_line(answer, content);
    const size_t end = close ? close->first : answer.size(), next = close ? close->second : answer.size();
    const std::string_view inside = content < end ? answer.substr(content, end - content) : std::string_view();
    const bool code = is_code(inside);
    found.text += answer.substr(at, (code ? open : next) - at);
    if (code) found.blocks.push_back({std::string(inside), found.text.size(), close.has_value()});
    at = next;
  }
  found.text += answer.substr(at);
  return found;
}

}  // namespace haqa
