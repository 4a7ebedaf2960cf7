#include "haqa/vision/pickle.h"

#include <gmock/gmock.h>

#include "haqa/base/error.h"
#include "haqa/base/error_test_support.h"

namespace haqa {
namespace {

using Kind = PickleValue::Kind;
using namespace std::string_literals;

/// A pickle as Python writes it, back as text.
std::string shown(const PickleValue& value) {
  std::string text;
  switch (value.kind) {
    case Kind::none:
      return "None";
    case Kind::boolean:
      return value.integer ? "True" : "False";
    case Kind::integer:
      return std::to_string(value.integer);
    case Kind::number:
      return std::to_string(value.number);
    case Kind::text:
      return "'" + value.text + "'";
    case Kind::list:
      text = "list";
      break;
    case Kind::dict:
      text = "dict";
      break;
    case Kind::global:
      return value.text;
    case Kind::object:
      text = value.text;
      break;
    case Kind::outside:
      text = "outside";
  }
  text += "(";
  for (const PickleValue* item : value.items) text += shown(*item) + ",";
  for (const auto& [key, entry] : value.entries) text += shown(*key) + ":" + shown(*entry) + ",";
  return text + ")";
}

TEST(Pickle, ReadsWhatPythonWrites) {
  struct Case {
    std::string bytes, expected;
  };
  // Python 3.11, pickle.dumps(value, protocol) of what is expected, as far as it is no object.
  const std::vector<Case> cases = {
      {"\x80\x02N."s, "None"},
      {"\x80\x02\x88."s, "True"},
      {"\x80\x02K\xff."s, "255"},
      {"\x80\x02M\x00\x01."s, "256"},
      {"\x80\x02J\xff\xff\xff\xff."s, "-1"},
      {"\x80\x02\x8a\x05\x00\x00\x00\x00\x80."s, "-549755813888"},
      {"\x80\x02G?\xe0\x00\x00\x00\x00\x00\x00."s, "0.500000"},
      {"\x80\x02X\x02\x00\x00\x00hiq\x00."s, "'hi'"},
      {"\x80\x02]q\x00(K\x01K\x02K\x03K\x04\x87q\x01"
       "e."s,
       "list(1,list(2,3,4,),)"},
      {"\x80\x02}q\x00X\x01\x00\x00\x00"
       "aq\x01]q\x02K\x01"
       "as."s,
       "dict('a':list(1,),)"},
      {"\x80\x02]q\x00(]q\x01h\x01"
       "e."s,
       "list(list(),list(),)"},
      {"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01\x8c\x01x\x94"
       "e."s,
       "list(1,'x',)"},
      // An ordered dictionary with an attribute, as which PyTorch writes a state_dict().
      {"\x80\x02"
       "ccollections\nOrderedDict\n)R(X\x01\x00\x00\x00wK\x07u}X\x01\x00\x00\x00m}sb."s,
       "collections.OrderedDict('w':7,)"},
      {"\x80\x02X\x03\x00\x00\x00keyK\x05\x86Q."s, "outside('key',5,)"},
  };
  for (const Case& c : cases) {
    const Pickle pickle(c.bytes + "behind it");
    EXPECT_EQ(shown(pickle.value()), c.expected);
    EXPECT_EQ(pickle.length(), c.bytes.size());
    for (size_t cut = 0; cut < c.bytes.size(); ++cut)
      EXPECT_THROW(Pickle(std::string_view(c.bytes).substr(0, cut)), Error) << c.expected << " " << cut;
  }
}

TEST(Pickle, RefusesWhatNoPythonWrites) {
  for (const std::string& bytes : {"no pickle"s, "\x80\x09N."s, "\x80\x02."s,
                                   "\x80\x02"
                                   "e."s,
                                   "\x80\x02h\x05."s, "\x80\x02(N0."s, "\x80\x02(."s, "\x80\x02NR."s, "\x80\x02\xff."s,
                                   "\x80\x02X\xff\xff\xff\xffhi."s, "\x80\x02(]Nu."s})
    EXPECT_THROW(Pickle{bytes}, Error) << bytes;
}

std::string repeated(const std::string& text, size_t times) {
  std::string all;
  for (size_t i = 0; i < times; ++i) all += text;
  return all;
}

// A few megabytes that would take gigabytes.
TEST(Pickle, RefusesWhatTakesTooMuchMemory) {
  const std::string begin = "\x80\x02", many = "it has too many values", often = "it repeats itself too often";
  const std::string long_text = "X\x00\x00\x10\x00"s + std::string(1 << 20, 'x');
  const struct {
    const char* name;
    std::string bytes, says;
  } cases[] = {
      {"values", begin + "(" + repeated("N", 3'000'000) + "t.", many},
      {"values recalled", begin + "Nq\0("s + repeated("h\0"s, 3'000'000) + "t.", many},
      {"marks", begin + repeated("(", 3'000'000) + "t.", many},
      {"memo", begin + "N" + repeated("\x94", 3'000'000) + ".", many},
      {"arguments", begin + "cA\nB\nq\0("s + repeated("N", 100'000) + "tq\1"s + repeated("h\0h\1R"s, 100'000) + ".",
       often},
      {"a name", begin + "c" + std::string(1 << 20, 'x') + "\nB\nq\0)q\1"s + repeated("h\0h\1R"s, 100'000) + ".",
       often},
      {"what is outside", begin + "(" + repeated("N", 100'000) + "tq\0"s + repeated("h\0Q"s, 100'000) + ".", often},
      {"names", begin + long_text + "q\0"s + repeated("h\0h\0\x93"s, 100'000) + ".", often},
  };
  for (const auto& c : cases) EXPECT_THAT(message_of([&] { Pickle{c.bytes}; }), testing::EndsWith(c.says)) << c.name;
}

// Appending to it would make it an item of its own.
TEST(Pickle, KeepsWhatAnObjectIsMadeOf) {
  const Pickle pickle(
      "\x80\x02"
      "cA\nB\n(K\1tRq\0h\0a."s);
  EXPECT_EQ(shown(pickle.value()), "A.B(1,)");
}

}  // namespace
}  // namespace haqa
