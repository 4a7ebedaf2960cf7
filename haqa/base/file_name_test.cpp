#include "haqa/base/file_name.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

namespace haqa {
namespace {

TEST(FileName, OfAnyText) {
  for (const std::string plain : {"a", "space-0badcafe", "A.b_c-9", "-", "x..y", "x."})
    EXPECT_EQ(as_file_name(plain), plain);
  const std::string odd[] = {"",
                             ".",
                             "..",
                             ".a",
                             "_a/b",
                             "a/b",
                             "a_b/",
                             "/a/b",
                             "../../x",
                             "a b",
                             "caf\xc3\xa9",
                             "caf\xe9",
                             "a\nb",
                             "a\\b",
                             "a:b",
                             "a%b",
                             std::string(201, 'a'),
                             std::string(202, 'a'),
                             std::string(512, '/'),
                             std::string("a\0b", 3)};
  std::set<std::string> names;
  for (const std::string& text : odd) {
    const std::string name = as_file_name(text);
    EXPECT_EQ(std::filesystem::path(name).filename(), name) << "it stays within its folder";
    EXPECT_NE(name.front(), '.');
    EXPECT_LE(name.size(), 200u);
    EXPECT_EQ(as_file_name(name), name);
    names.insert(name);
  }
  EXPECT_EQ(names.size(), std::size(odd)) << "they stay apart";
}

// The vectors of draft-eastlake-fnv-17, section 6.
TEST(FileName, Fnv1a) {
  EXPECT_EQ(fnv1a_32(""), 0x811c9dc5u);
  EXPECT_EQ(fnv1a_32("a"), 0xe40c292cu);
  EXPECT_EQ(fnv1a_32("foobar"), 0xbf9cf968u);
  EXPECT_EQ(fnv1a_64(""), 0xcbf29ce484222325u);
  EXPECT_EQ(fnv1a_64("a"), 0xaf63dc4c8601ec8cu);
  EXPECT_EQ(fnv1a_64("foobar"), 0x85944171f73967e8u);
}

}  // namespace
}  // namespace haqa
