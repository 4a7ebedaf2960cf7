#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/base/json.h"

namespace haqa {

/// A rule over the parameters of a configuration, in the part of Python's expressions that search spaces use, Kernel
/// Tuner's among them: numbers, 'texts', true and false, names of parameters; or, and, not; == != < <= > >= and chains
/// of them; in and not in [a, b]; + - * / // % **, signs, parentheses; min, max and abs. (||, && and ! are understood
/// too.)
class Expression {
 public:
  /// Throws UsageError that names the place where the text makes no sense.
  explicit Expression(std::string_view text);

  /// The names of parameters in it, each once, in the order of their appearance.
  const std::vector<std::string>& names() const { return names_; }
  /// Whether it is true of a configuration. What has no value (a missing parameter, a division by zero, arithmetic with
  /// texts) makes the comparison that it stands in false.
  bool holds(const Json& configuration) const;
  /// Whether the configuration has a value for each of names().
  bool applies(const Json& configuration) const;
  /// Its number; nullopt where it has none, as for a missing parameter.
  std::optional<double> number(const Json& configuration) const;
  const std::string& text() const { return text_; }

  struct Node;

 private:
  std::string text_;
  std::shared_ptr<const Node> root_;  ///< never changed, so that copies may share it
  std::vector<std::string> names_;
};

}  // namespace haqa
