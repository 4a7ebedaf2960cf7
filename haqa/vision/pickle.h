#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace haqa {

/// A value in a pickle of Python, as it is written there: nothing is looked up and nothing is called.
struct PickleValue {
  enum class Kind {
    none,
    boolean,  ///< integer is 0 or 1
    integer,  ///< 0 for one beyond 64 bits
    number,
    text,    ///< bytes too
    list,    ///< a tuple or a set too
    dict,    ///< entries
    global,  ///< text: the name of a class or function, with its module: "collections.OrderedDict"
    object,  ///< what calling `text` with `items` gives; entries, where it has some
    outside  ///< items: what says which object outside of the pickle it is
  };
  Kind kind = Kind::none;
  int64_t integer = 0;
  double number = 0;
  std::string text;
  std::vector<const PickleValue*> items;
  std::vector<std::pair<const PickleValue*, const PickleValue*>> entries;
};

/// The values of a pickle of protocol 2 to 5, as far as torch.save() and what goes into its files use them. libtorch's
/// own reader takes TorchScript's alone: not a dictionary with attributes, as which PyTorch writes every state_dict().
/// Source: Python's pickletools.py.
class Pickle {
 public:
  /// Reads from the beginning of `bytes`. Safe on hostile ones: at most two million values are kept, and 64 MB of what
  /// the bytes have once and the values several times. Values of lists and dictionaries may hold themselves.
  /// Throws Error: cut short, or no pickle.
  explicit Pickle(std::string_view bytes);
  const PickleValue& value() const { return *value_; }
  /// All that it is made of.
  const std::deque<PickleValue>& values() const { return values_; }
  /// Bytes read.
  size_t length() const { return length_; }

 private:
  friend class PickleReader;
  std::deque<PickleValue> values_;  ///< which point to each other
  const PickleValue* value_ = nullptr;
  size_t length_ = 0;
};

}  // namespace haqa
