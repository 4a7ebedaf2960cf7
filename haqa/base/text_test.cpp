#include "haqa/base/text.h"

#include <gtest/gtest.h>

#include "haqa/base/json.h"

namespace haqa {
namespace {

TEST(Text, IsNotCutWithinACharacter) {
  EXPECT_EQ(shortened("", 3), "");
  EXPECT_EQ(shortened("abc", 3), "abc");
  EXPECT_EQ(shortened("abcd", 3), "abc...");
  EXPECT_EQ(shortened("abcd", 0), "...");
  const std::string text = "a\u00fc\u20ac\U0001F600z";  // of 1, 2, 3, 4 and 1 bytes
  for (size_t longest = 0; longest <= text.size(); ++longest) {
    const std::string cut = shortened(text, longest);
    EXPECT_NO_THROW(Json(cut).dump()) << longest;
    EXPECT_LE(cut.size(), longest + 3);
    EXPECT_EQ(text.find(longest < text.size() ? cut.substr(0, cut.size() - 3) : cut), 0u);
  }
  EXPECT_EQ(shortened(std::string(10, '\x80'), 5), "...") << "no character at all";
}

TEST(Text, SpellsOutWhatIsNotToBeSeen) {
  const std::pair<std::string, const char*> cases[] = {{"plain\ttext\n", "plain\ttext\n"},
                                                       {"\x1b[31mred", "[U+001B][31mred"},
                                                       {"a\u202Eb", "a[U+202E]b"},
                                                       {"\u2066x\u2069", "[U+2066]x[U+2069]"},
                                                       {"\xff", "\uFFFD"},
                                                       {"\u00fc\U0001F600", "\u00fc\U0001F600"},
                                                       {std::string("a\0b", 3), "a[U+0000]b"},
                                                       {"\x7f\u0085", "[U+007F][U+0085]"}};
  for (const auto& [text, expected] : cases) EXPECT_EQ(printable(text), expected);
}

// nlohmann's own check, which refuses to write what is not well-formed, is the reference.
TEST(Text, KnowsUtf8) {
  const auto written = [](const std::string& text) {
    try {
      static_cast<void>(Json(text).dump());
      return true;
    } catch (const Json::type_error&) {
      return false;
    }
  };
  EXPECT_TRUE(is_utf8(""));
  EXPECT_FALSE(is_utf8("\xed\xa0\x80")) << "a surrogate";
  EXPECT_FALSE(is_utf8("\xc0\xaf")) << "an overlong form";
  EXPECT_FALSE(is_utf8("\xf4\x90\x80\x80")) << "beyond U+10FFFF";
  const std::string edges("\x00\x7f\x80\x8f\x90\x9f\xa0\xbf\xc1\xc2\xdf\xe0\xe1\xec\xed\xee\xef\xf0\xf1\xf4\xf5\xff",
                          22);
  int good = 0;
  for (const char a : edges)
    for (const char b : edges)
      for (const char c : edges)
        for (const char d : edges) {
          const std::string text{a, b, c, d};
          ASSERT_EQ(is_utf8(text), written(text)) << Json::parse(to_line(Json(text)));
          good += is_utf8(text);
        }
  EXPECT_GT(good, 0);
}

TEST(Text, FitsOnOneLine) {
  EXPECT_EQ(one_line(" a \n\t b  "), "a b");
  EXPECT_EQ(one_line("\u00fc\u00fc\u00fc", 3), "\u00fc\u00fc\u00fc");
  EXPECT_EQ(one_line("\u00fc\u00fc\u00fc\u00fc", 3), "\u00fc\u00fc\u00fc ...");
  EXPECT_EQ(one_line(std::string(1000, 'x')).size(), 204u);
}

}  // namespace
}  // namespace haqa
