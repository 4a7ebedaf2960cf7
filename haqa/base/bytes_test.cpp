#include "haqa/base/bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "haqa/base/error.h"

namespace haqa {
namespace {

TEST(Bytes, ParsesAmountsAsPeopleWriteThem) {
  const std::pair<const char*, uint64_t> cases[] = {{"12GB", 12'000'000'000},
                                                    {"10 gb", 10'000'000'000},
                                                    {"10Gb", 10'000'000'000},
                                                    {"1.5GiB", 1'610'612'736},
                                                    {"4096M", 4'096'000'000},
                                                    {"800000", 800'000},
                                                    {"1 kib", 1024},
                                                    {" 2TB ", 2'000'000'000'000},
                                                    {"0.5 MB", 500'000},
                                                    {"7B", 7},
                                                    {"1e3", 1000},
                                                    {"3Ti", 3'298'534'883'328}};
  for (const auto& [text, bytes] : cases) EXPECT_EQ(parse_bytes(text), bytes) << text;
}

TEST(Bytes, RefusesWhatIsNoAmount) {
  for (const char* text : {"", "  ", "10Q", "-1", "-4GB", "0", "nan", "inf", "nan GB", "1e30", "0x10", "GB", "10 GBB",
                           "1,5GB", "12GB!", "1e-9"})
    EXPECT_THROW(parse_bytes(text), UsageError) << text;
}

TEST(Bytes, FormatsShort) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1000), "1.00 kB");
  EXPECT_EQ(format_bytes(999'960), "1.00 MB");
  EXPECT_EQ(format_bytes(13'828'620'288), "13.8 GB");
  EXPECT_EQ(format_seconds(0.0042), "4 ms");
  EXPECT_EQ(format_seconds(59.94), "59.9 s");
  EXPECT_EQ(format_seconds(125), "2 min 05 s");
  EXPECT_EQ(format_seconds(3725), "1 h 02 min");
}

}  // namespace
}  // namespace haqa
