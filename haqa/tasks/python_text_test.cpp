#include "haqa/tasks/python_text.h"

#include <gtest/gtest.h>

namespace haqa {
namespace {

// Each answer is what Python 3.11 prints for the same text.
TEST(PythonText, StripsWhatPythonCallsSpace) {
  EXPECT_EQ(strip(""), "");
  EXPECT_EQ(strip(" \t\n\v\f\r "), "");
  EXPECT_EQ(strip("\x1c\x1d\x1e\x1f x \u0085\u00a0\u1680"), "x");
  EXPECT_EQ(strip("\u2000\u200a\u2028\u2029\u202f\u205f\u3000 a b \u3000"), "a b");
  EXPECT_EQ(strip("\u200bx\ufeff"), "\u200bx\ufeff");  // no width, but no space either
  EXPECT_EQ(trailing_space("a \u3000"), 4u);
  EXPECT_EQ(trailing_space("a"), 0u);
  EXPECT_EQ(trailing_space("  "), 2u);
}

TEST(PythonText, CountsCharacters) {
  EXPECT_EQ(characters(""), 0);
  EXPECT_EQ(characters("naïve"), 5);
  EXPECT_EQ(characters("東京🦙"), 3);
  EXPECT_EQ(characters("e\u0301"), 2);  // code points, not what is seen as one
}

TEST(PythonText, CapitalizesAsPython) {
  const std::pair<const char*, const char*> cases[] = {
      {"", ""},
      {"he SAID I", "He said i"},
      {"(HE SAID", "(he said"},
      {" SPACE first", " space first"},
      {"ßtraße", "Sstraße"},
      {"ﬁSH", "Fish"},
      {"ŉX", "ʼNx"},
      {"ǆ", "ǅ"},
      {"ὈΔΥΣΣΕΎΣ", "Ὀδυσσεύς"},  // the last sigma has a form of its own
      {"Σ", "Σ"},
      {"ΑΣ.Σ", "Ασ.ς"},
      {"İSTANBUL", "İstanbul"},
      {"xİ", "Xi\u0307"},
      {"ijS", "Ijs"},
      {"ᾳX", "ᾼx"},
      {"1ST A", "1st a"},
      {"МОСКВА", "Москва"}};
  for (const auto& [text, want] : cases) EXPECT_EQ(capitalize(text), want) << text;
}

}  // namespace
}  // namespace haqa
