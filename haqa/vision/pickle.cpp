#include "haqa/vision/pickle.h"

#include <bit>
#include <map>

#include "haqa/base/error.h"

namespace haqa {

using Kind = PickleValue::Kind;
using Value = PickleValue;

constexpr size_t kMostValues = 2'000'000;
/// Of what stands once in the bytes and goes into several values.
constexpr size_t kMostCopiedBytes = 64 << 20;

/// Python's machine: a stack with marks, and a memo of values by number.
class PickleReader {
 public:
  PickleReader(std::string_view bytes, Pickle& pickle) : bytes_(bytes), pickle_(pickle) {}

  void read() {
    if (byte() != 0x80) fail("it is no pickle");
    if (const int protocol = byte(); protocol < 2 || protocol > 5) fail(fmt::format("its protocol is {}", protocol));
    for (uint8_t code = byte(); code != '.'; code = byte())
      if (!constant(code) && !text(code) && !memo(code) && !group(code) && !call(code))
        fail(fmt::format("it has an instruction {:#04x}", code));
    pickle_.value_ = pop();
    pickle_.length_ = at_;
  }

 private:
  [[noreturn]] static void fail(const std::string& why) { throw Error("a pickle that cannot be read: {}", why); }

  // ---- what is read ----

  std::string_view take(uint64_t count) {
    if (count > bytes_.size() - at_) fail("it is cut short");
    at_ += count;
    return bytes_.substr(at_ - count, count);
  }
  uint8_t byte() { return static_cast<uint8_t>(take(1)[0]); }

  /// Little-endian.
  uint64_t number(size_t count) {
    uint64_t value = 0;
    const std::string_view digits = take(count);
    for (size_t i = 0; i < count; ++i) value |= static_cast<uint64_t>(static_cast<uint8_t>(digits[i])) << (8 * i);
    return value;
  }
  /// Of two's complement.
  int64_t whole(size_t count) {
    if (count == 0 || count > 8) return take(count), 0;
    const size_t unused = 64 - 8 * count;
    return static_cast<int64_t>(number(count) << unused) >> unused;
  }
  std::string line() {
    const size_t end = bytes_.find('\n', at_);
    if (end == std::string_view::npos) fail("it is cut short");
    const std::string_view all = take(end - at_ + 1);
    return std::string(all.substr(0, all.size() - 1));
  }

  // ---- the stack ----

  /// Of anything that is kept.
  static void limit(size_t count) {
    if (count >= kMostValues) fail("it has too many values");
  }
  void count_copied(size_t bytes) {
    copied_ += bytes;
    if (copied_ > kMostCopiedBytes) fail("it repeats itself too often");
  }

  Value* push(Kind kind, std::string text = "") {
    limit(pickle_.values_.size());
    Value* value = &pickle_.values_.emplace_back();
    value->kind = kind;
    value->text = std::move(text);
    put(value);
    return value;
  }
  void put(Value* value) {
    limit(stack_.size());
    stack_.push_back(value);
  }
  /// A value made with what `arguments` holds.
  void push_made(Kind kind, const std::string& of, const Value& arguments) {
    count_copied(of.size() + arguments.items.size() * sizeof(Value*));
    push(kind, of)->items = arguments.items;
  }
  Value* pop() {
    if (stack_.size() == (marks_.empty() ? 0 : marks_.back())) fail("its stack is empty");
    Value* value = stack_.back();
    stack_.pop_back();
    return value;
  }
  Value* top() {
    if (stack_.empty()) fail("its stack is empty");
    return stack_.back();
  }
  std::vector<const Value*> popped(size_t count) {
    std::vector<const Value*> values(count);
    for (size_t i = count; i > 0; --i) values[i - 1] = pop();
    return values;
  }
  std::vector<const Value*> popped_to_mark() {
    if (marks_.empty()) fail("a mark is missing");
    std::vector<const Value*> values(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return values;
  }
  void push_list(std::vector<const Value*> items) { push(Kind::list)->items = std::move(items); }

  /// An object's own items are passed over: it would become a part of what it was made of.
  static void append(Value* to, const std::vector<const Value*>& items) {
    if (to->kind == Kind::list) to->items.insert(to->items.end(), items.begin(), items.end());
  }
  static void set(Value* to, const std::vector<const Value*>& pairs) {
    if (pairs.size() % 2) fail("a key has no value");
    if (to->kind != Kind::dict && to->kind != Kind::object) return;
    for (size_t i = 0; i < pairs.size(); i += 2) to->entries.emplace_back(pairs[i], pairs[i + 1]);
  }

  // ---- instructions, by what they are about ----

  bool constant(uint8_t code) {
    switch (code) {
      case 'N':
        push(Kind::none);
        return true;
      case 0x88:  // true, false
      case 0x89:
        push(Kind::boolean)->integer = code == 0x88;
        return true;
      case 'J':
        push(Kind::integer)->integer = whole(4);
        return true;
      case 'K':
        push(Kind::integer)->integer = static_cast<int64_t>(number(1));
        return true;
      case 'M':
        push(Kind::integer)->integer = static_cast<int64_t>(number(2));
        return true;
      case 0x8a:  // of any length
        push(Kind::integer)->integer = whole(number(1));
        return true;
      case 'G':  // big-endian
        push(Kind::number)->number = std::bit_cast<double>(__builtin_bswap64(number(8)));
        return true;
      default:
        return false;
    }
  }

  bool text(uint8_t code) {
    switch (code) {
      case 'X':  // text, bytes and the strings of Python 2
      case 'B':
      case 'T':
        push(Kind::text, std::string(take(number(4))));
        return true;
      case 0x8c:
      case 'C':
      case 'U':
        push(Kind::text, std::string(take(number(1))));
        return true;
      case 0x8d:
      case 0x8e:
        push(Kind::text, std::string(take(number(8))));
        return true;
      default:
        return false;
    }
  }

  void remember(uint64_t place) {
    limit(memo_.size());
    memo_[place] = top();
  }
  void recall(uint64_t place) {
    const auto found = memo_.find(place);
    if (found == memo_.end()) fail("it recalls what it never had");
    put(found->second);
  }

  bool memo(uint8_t code) {
    switch (code) {
      case 'q':
        remember(number(1));
        return true;
      case 'r':
        remember(number(4));
        return true;
      case 0x94:
        remember(memo_.size());
        return true;
      case 'h':
        recall(number(1));
        return true;
      case 'j':
        recall(number(4));
        return true;
      case 0x95:  // a frame, which is a hint at what to read at once
        take(8);
        return true;
      default:
        return false;
    }
  }

  bool group(uint8_t code) {
    switch (code) {
      case '(':
        limit(marks_.size());
        marks_.push_back(stack_.size());
        return true;
      case '0':
        pop();
        return true;
      case '1':
        popped_to_mark();
        return true;
      case ']':  // list, tuple, set
      case ')':
      case 0x8f:
        push(Kind::list);
        return true;
      case '}':
        push(Kind::dict);
        return true;
      case 't':
        push_list(popped_to_mark());
        return true;
      case 0x85:
      case 0x86:
      case 0x87:
        push_list(popped(code - 0x84u));
        return true;
      case 'a': {
        const auto item = popped(1);
        append(top(), item);
        return true;
      }
      case 'e':
      case 0x90: {
        const auto items = popped_to_mark();
        append(top(), items);
        return true;
      }
      case 's': {
        const auto pair = popped(2);
        set(top(), pair);
        return true;
      }
      case 'u': {
        const auto pairs = popped_to_mark();
        set(top(), pairs);
        return true;
      }
      default:
        return false;
    }
  }

  bool call(uint8_t code) {
    switch (code) {
      case 'c': {
        const std::string module = line();
        push(Kind::global, module + "." + line());
        return true;
      }
      case 0x93: {
        const auto names = popped(2);
        count_copied(names[0]->text.size() + names[1]->text.size());
        push(Kind::global, names[0]->text + "." + names[1]->text);
        return true;
      }
      case 'R':  // a call, or a new object of a class
      case 0x81: {
        const auto both = popped(2);
        push_made(Kind::object, both[0]->text, *both[1]);
        return true;
      }
      case 'b':  // attributes, which no tensor has
        pop();
        top();
        return true;
      case 'Q':
        push_made(Kind::outside, "", *pop());
        return true;
      default:
        return false;
    }
  }

  const std::string_view bytes_;
  Pickle& pickle_;
  size_t at_ = 0;
  size_t copied_ = 0;
  std::vector<Value*> stack_;
  std::vector<size_t> marks_;
  std::map<uint64_t, Value*> memo_;
};

Pickle::Pickle(std::string_view bytes) {
  PickleReader(bytes, *this).read();
}

}  // namespace haqa
