#include "haqa/space/expression.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <functional>
#include <optional>

#include "haqa/base/error.h"
#include "haqa/base/text.h"

namespace haqa {

struct Expression::Node {
  enum class Kind { literal, name, operation, list, chain };
  Kind kind = Kind::literal;
  std::string word;  ///< the name, or the operator: "+", "and", "in", "min", ...
  Json value;        ///< of a literal; of a chain of comparisons its operators, between its children
  std::vector<Node> children;
};

namespace {

using Node = Expression::Node;
using Kind = Node::Kind;

// Beyond what people write; more would end in the machine's stack.
constexpr int kDeepest = 200;
constexpr size_t kLongest = 4000;

/// Splits the text into words: numbers, quoted texts, names, operators.
class Words {
 public:
  explicit Words(std::string_view text) : text_(text) { next(); }

  const std::string& word() const { return word_; }
  bool at_end() const { return word_.empty() && !quoted_; }
  bool is_quoted() const { return quoted_; }
  size_t length() const { return text_.size(); }
  size_t place() const { return begin_ + 1; }

  /// Whether the next word is this operator; then it is passed over.
  bool take(std::string_view wanted) {
    if (quoted_ || word_ != wanted) return false;
    next();
    return true;
  }

  void next() {
    while (end_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[end_]))) ++end_;
    begin_ = end_;
    quoted_ = false;
    word_.clear();
    if (end_ == text_.size()) return;
    const char c = text_[end_];
    if (c == '\'' || c == '"') return take_quoted(c);
    const auto is_word = [](char w) { return std::isalnum(static_cast<unsigned char>(w)) || w == '_' || w == '.'; };
    if (is_word(c)) {
      while (end_ < text_.size() && (is_word(text_[end_]) || is_sign_of_exponent())) ++end_;
    } else {
      const std::string_view rest = text_.substr(end_);
      constexpr std::array<std::string_view, 8> kLong = {"==", "!=", "<=", ">=", "**", "//", "||", "&&"};
      const bool is_long =
          std::any_of(kLong.begin(), kLong.end(), [&](std::string_view o) { return rest.starts_with(o); });
      end_ += is_long ? 2 : 1;
    }
    word_ = text_.substr(begin_, end_ - begin_);
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw UsageError("'{}' makes no sense at character {}: {}", one_line(text_), place(), what);
  }

 private:
  void take_quoted(char mark) {
    const size_t close = text_.find(mark, end_ + 1);
    if (close == std::string_view::npos) fail("the quotation mark is not closed");
    word_ = text_.substr(end_ + 1, close - end_ - 1);
    quoted_ = true;
    end_ = close + 1;
  }

  /// The sign in 1e-5.
  bool is_sign_of_exponent() const {
    const char before = text_[end_ - 1], first = text_[begin_];
    return (text_[end_] == '-' || text_[end_] == '+') && (before == 'e' || before == 'E') &&
           (std::isdigit(static_cast<unsigned char>(first)) || first == '.');
  }

  std::string_view text_;
  std::string word_;
  size_t begin_ = 0, end_ = 0;
  bool quoted_ = false;
};

/// Recursive descent, loosest binding first. Source: The Python Language Reference, 6.17, operator precedence.
class Parser {
 public:
  explicit Parser(std::string_view text) : words_(text) {}

  Node parse() {
    if (words_.at_end()) words_.fail("it is empty");
    if (words_.length() > kLongest) words_.fail(fmt::format("it is longer than {} characters", kLongest));
    Node whole = disjunction();
    if (!words_.at_end()) words_.fail(fmt::format("\"{}\" is not expected there", one_line(words_.word(), 30)));
    return whole;
  }

 private:
  static Node operation(std::string word, std::vector<Node> children) {
    return {Kind::operation, std::move(word), {}, std::move(children)};
  }

  /// The first of the operators that stands there, which is passed over.
  std::optional<std::string> take_any(std::initializer_list<std::string_view> operators) {
    for (const std::string_view o : operators)
      if (words_.take(o)) return std::string(o);
    return std::nullopt;
  }

  Node left_to_right(std::initializer_list<std::string_view> operators, const std::function<Node()>& operand) {
    Node left = operand();
    while (const auto o = take_any(operators)) left = operation(*o, {std::move(left), operand()});
    return left;
  }

  Node disjunction() {
    const Deeper deeper(*this);
    Node left = conjunction();
    while (take_any({"or", "||"})) left = operation("or", {std::move(left), conjunction()});
    return left;
  }

  Node conjunction() {
    Node left = negation();
    while (take_any({"and", "&&"})) left = operation("and", {std::move(left), negation()});
    return left;
  }

  Node negation() {
    const Deeper deeper(*this);
    if (take_any({"not", "!"})) return operation("not", {negation()});
    return comparison();
  }

  /// a < b < c is a < b and b < c.
  Node comparison() {
    Node first = sum();
    Node chain{Kind::chain, "", Json::array(), {}};
    while (const auto o = comparison_operator()) {
      chain.value.push_back(*o);
      chain.children.push_back(sum());
      if (const Node& right = chain.children.back(); o->ends_with("in") && right.kind != Kind::list)
        words_.fail(fmt::format("after \"{}\" stands a list, such as {}", *o, as_list(right)));
    }
    if (chain.children.empty()) return first;
    chain.children.insert(chain.children.begin(), std::move(first));
    return chain;
  }

  /// A value as a list of one, as Python has it: ('adam') is no list.
  static std::string as_list(const Node& node) {
    if (node.kind != Kind::literal) return "[1, 2]";
    const std::string one =
        node.value.is_string() ? fmt::format("'{}'", one_line(node.value.get<std::string>(), 30)) : node.value.dump();
    return fmt::format("[{0}] or ({0},)", one);
  }

  std::optional<std::string> comparison_operator() {
    if (words_.take("not")) {
      if (!words_.take("in")) words_.fail("\"in\" is missing after \"not\"");
      return "not in";
    }
    return take_any({"==", "!=", "<=", ">=", "<", ">", "in"});
  }

  Node sum() {
    return left_to_right({"+", "-"}, [this] { return product(); });
  }
  Node product() {
    return left_to_right({"*", "//", "/", "%"}, [this] { return signed_value(); });
  }

  Node signed_value() {
    const Deeper deeper(*this);
    if (words_.take("-")) return operation("negative", {signed_value()});
    if (words_.take("+")) return signed_value();
    Node base = value();
    if (words_.take("**")) return operation("**", {std::move(base), signed_value()});
    return base;
  }

  Node value() {
    if (words_.at_end()) words_.fail("a value is missing");
    if (words_.take("(")) {
      Node first = disjunction();
      if (!words_.take(",")) return closed(std::move(first), ")");
      Node list = list_until(")");
      list.children.insert(list.children.begin(), std::move(first));
      return list;
    }
    if (words_.take("[")) return list_until("]");
    const std::string word = words_.word();
    if (words_.is_quoted()) return literal(word);
    const char c = word.front();
    if (std::isdigit(static_cast<unsigned char>(c)) || c == '.') return literal(number(word));
    if (!std::isalpha(static_cast<unsigned char>(c)) && c != '_')
      words_.fail(fmt::format("\"{}\" is not expected there", one_line(word, 30)));
    words_.next();
    if (word == "true" || word == "True") return {Kind::literal, "", true, {}};
    if (word == "false" || word == "False") return {Kind::literal, "", false, {}};
    if (words_.take("(")) return call(word);
    return {Kind::name, word, {}, {}};
  }

  Node call(const std::string& function) {
    if (function != "min" && function != "max" && function != "abs")
      words_.fail(fmt::format("there is no function {}; min, max and abs are", one_line(function, 30)));
    Node arguments = list_until(")");
    const size_t n = arguments.children.size();
    if (n == 0 || (function == "abs" && n != 1)) words_.fail(function + " has another number of arguments");
    return operation(function, std::move(arguments.children));
  }

  Node list_until(const char* end) {
    Node list{Kind::list, "", {}, {}};
    while (!words_.take(end)) {
      list.children.push_back(disjunction());
      if (!words_.take(",")) return closed(std::move(list), end);
    }
    return list;
  }

  Node closed(Node node, const char* end) {
    if (!words_.take(end)) words_.fail(fmt::format("\"{}\" is missing", end));
    return node;
  }

  Node literal(Json value) {
    words_.next();
    return {Kind::literal, "", std::move(value), {}};
  }

  Json number(const std::string& word) const {
    const char* end = word.data() + word.size();
    int64_t whole = 0;
    if (const auto [stop, code] = std::from_chars(word.data(), end, whole); code == std::errc() && stop == end)
      return whole;
    double real = 0;
    if (const auto [stop, code] = std::from_chars(word.data(), end, real); code == std::errc() && stop == end)
      return real;
    words_.fail(fmt::format("\"{}\" is no number", one_line(word, 30)));
  }

  /// Counts how deep the expression is nested.
  struct Deeper {
    explicit Deeper(Parser& parser) : parser_(parser) {
      if (++parser_.depth_ > kDeepest) parser_.words_.fail("it is nested too deeply");
    }
    ~Deeper() { --parser_.depth_; }
    Parser& parser_;
  };

  Words words_;
  int depth_ = 0;
};

void collect_names(const Node& node, std::vector<std::string>& names) {
  if (node.kind == Kind::name && std::find(names.begin(), names.end(), node.word) == names.end())
    names.push_back(node.word);
  for (const Node& child : node.children) collect_names(child, names);
}

/// Of an expression, without a copy of what stands in the configuration. nothing: a missing parameter, a division by
/// zero, arithmetic with texts; it makes every comparison false.
struct Value {
  enum class Kind { nothing, number, other };
  Kind kind = Kind::nothing;
  double number = 0;           ///< also of truth values, 0 or 1
  const Json* json = nullptr;  ///< of others

  Value() = default;
  explicit Value(double n) : kind(Kind::number), number(n) {}
  explicit Value(const Json& v) : kind(Kind::number) {
    if (v.is_boolean()) {
      number = v.get<bool>();
    } else if (v.is_number()) {
      number = v.get<double>();
    } else {
      kind = Kind::other;
      json = &v;
    }
  }
  explicit operator bool() const { return kind != Kind::nothing; }
  bool is_number() const { return kind == Kind::number; }
  bool is_text() const { return kind == Kind::other && json->is_string(); }
  const std::string& text() const { return json->get_ref<const std::string&>(); }
};

bool truth(const Value& v) {
  return v.is_number() ? v.number != 0 : v.is_text() && !v.text().empty();
}

bool equal(const Value& a, const Value& b) {
  if (!a || a.kind != b.kind) return false;
  return a.is_number() ? a.number == b.number : *a.json == *b.json;
}

double calculated(const std::string& o, double a, double b) {
  if (o == "+") return a + b;
  if (o == "-") return a - b;
  if (o == "*") return a * b;
  if (o == "/") return a / b;
  if (o == "//") return std::floor(a / b);
  if (o == "%") return a - b * std::floor(a / b);  // Python's: the divisor's sign
  return std::pow(a, b);
}

/// Nothing for a division by zero, the root of a negative number, and what is beyond a double.
Value arithmetic(const std::string& o, double a, double b) {
  const double result = calculated(o, a, b);
  return std::isfinite(result) ? Value(result) : Value();
}

bool compare(const std::string& o, const Value& a, const Value& b) {
  if (!a || !b) return false;
  if (o == "==") return equal(a, b);
  if (o == "!=") return !equal(a, b);
  const bool texts = a.is_text() && b.is_text();
  if (!texts && (!a.is_number() || !b.is_number())) return false;
  const bool less = texts ? a.text() < b.text() : a.number < b.number;
  const bool same = texts ? a.text() == b.text() : a.number == b.number;
  if (o == "<") return less;
  if (o == "<=") return less || same;
  return o == ">" ? !less && !same : !less;
}

Value evaluate(const Node& node, const Json& configuration);

bool is_in(const Value& item, const Node& list, const Json& configuration) {
  return std::any_of(list.children.begin(), list.children.end(),
                     [&](const Node& n) { return equal(item, evaluate(n, configuration)); });
}

bool evaluate_chain(const Node& node, const Json& configuration) {
  Value left = evaluate(node.children[0], configuration);
  for (size_t i = 1; i < node.children.size(); ++i) {
    const Node& operand = node.children[i];
    const auto& o = node.value[i - 1].get_ref<const std::string&>();
    const Value right = evaluate(operand, configuration);
    if (o == "in" || o == "not in") {
      if (!left || operand.kind != Kind::list || is_in(left, operand, configuration) != (o == "in")) return false;
    } else if (!compare(o, left, right)) {
      return false;
    }
    left = right;
  }
  return true;
}

Value evaluate_operation(const Node& node, const Json& configuration) {
  const std::string& o = node.word;
  const auto operand = [&](size_t i) { return evaluate(node.children[i], configuration); };
  if (o == "and") return Value(truth(operand(0)) && truth(operand(1)) ? 1.0 : 0.0);
  if (o == "or") return Value(truth(operand(0)) || truth(operand(1)) ? 1.0 : 0.0);
  if (o == "not") {
    const Value v = operand(0);
    return Value(v && !truth(v) ? 1.0 : 0.0);
  }
  Value result = operand(0);
  if (!result.is_number()) return {};
  if (o == "negative") return Value(-result.number);
  if (o == "abs") return Value(std::abs(result.number));
  for (size_t i = 1; i < node.children.size(); ++i) {
    const Value next = operand(i);
    if (!next.is_number()) return {};
    if (o != "min" && o != "max") return arithmetic(o, result.number, next.number);
    result.number = o == "min" ? std::min(result.number, next.number) : std::max(result.number, next.number);
  }
  return result;
}

Value evaluate(const Node& node, const Json& configuration) {
  switch (node.kind) {
    case Kind::literal:
      return Value(node.value);
    case Kind::name: {
      const auto found = configuration.find(node.word);
      return found == configuration.end() ? Value() : Value(*found);
    }
    case Kind::list:
      return {};
    case Kind::chain:
      return Value(evaluate_chain(node, configuration) ? 1.0 : 0.0);
    case Kind::operation:
      break;
  }
  return evaluate_operation(node, configuration);
}

}  // namespace

Expression::Expression(std::string_view text)
    : text_(text), root_(std::make_shared<const Node>(Parser(text_).parse())) {
  collect_names(*root_, names_);
}

bool Expression::applies(const Json& configuration) const {
  return std::all_of(names_.begin(), names_.end(), [&](const std::string& n) { return configuration.contains(n); });
}

bool Expression::holds(const Json& configuration) const {
  return truth(evaluate(*root_, configuration));
}

std::optional<double> Expression::number(const Json& configuration) const {
  const Value value = evaluate(*root_, configuration);
  return value.is_number() ? std::optional(value.number) : std::nullopt;
}

}  // namespace haqa
