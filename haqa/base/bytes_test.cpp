#include "haqa/base/bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

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
                                                    {"3Ti", 3'298'534'883'328},
                                                    {"2k", 2000},
                                                    {"1.5", 2},
                                                    {"1000000000000000000", 1'000'000'000'000'000'000},
                                                    {"\t4 GB\n", 4'000'000'000}};
  for (const auto& [text, bytes] : cases) EXPECT_EQ(parse_bytes(text), bytes) << text;
}

TEST(Bytes, RefusesWhatIsNoAmount) {
  for (const char* text :
       {"",      "  ",    "10Q",  "-1",   "-4GB",  "0",    "nan", "inf",    "nan GB",  "1e30",  "0x10",  "GB", "10 GBB",
        "1,5GB", "12GB!", "1e-9", "+5GB", "1e999", "-nan", "0.4", "12 G B", "9300 PB", "0x1p3", "1_000", "--1"})
    EXPECT_THROW(parse_bytes(text), UsageError) << text;
  using std::string_view_literals::operator""sv;
  EXPECT_THROW(parse_bytes("1\0GB"sv), UsageError);
}

TEST(Bytes, ErrorsSayWhatIsWanted) {
  const std::pair<const char*, const char*> cases[] = {
      {"10Q", "\"10Q\" is not an amount of memory; write a number and a unit such as 12GB, 800MB or 6GiB"},
      {"-4GB", "\"-4GB\" is not a possible amount of memory; it must be above zero and below 9 exabytes"}};
  for (const auto& [text, expected] : cases) {
    try {
      parse_bytes(text);
      ADD_FAILURE() << text;
    } catch (const UsageError& e) {
      EXPECT_STREQ(e.what(), expected);
    }
  }
  EXPECT_THROW(parse_bytes(std::string_view("12GB\0", 5)), UsageError);
}

TEST(Bytes, FormatsShort) {
  const std::pair<uint64_t, const char*> cases[] = {{0, "0 B"},
                                                    {1, "1 B"},
                                                    {999, "999 B"},
                                                    {1000, "1.00 kB"},
                                                    {1049, "1.05 kB"},
                                                    {9'994, "9.99 kB"},
                                                    {9'996, "10.0 kB"},
                                                    {99'940, "99.9 kB"},
                                                    {999'940, "999.9 kB"},
                                                    {999'960, "1.00 MB"},
                                                    {13'828'620'288, "13.8 GB"},
                                                    {999'960'000'000, "1.00 TB"},
                                                    {UINT64_MAX, "18446744.1 TB"}};
  for (const auto& [bytes, text] : cases) EXPECT_EQ(format_bytes(bytes), text) << bytes;
}

// What is printed is read again as the same amount, but for the rounding to three digits.
TEST(Bytes, ReadsWhatItFormats) {
  for (double bytes = 1; bytes < 8e18; bytes *= 1.37) {
    const uint64_t exact = static_cast<uint64_t>(bytes);
    EXPECT_NEAR(static_cast<double>(parse_bytes(format_bytes(exact))) / static_cast<double>(exact), 1, 0.006) << exact;
  }
}

TEST(Bytes, FormatsSeconds) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const std::pair<double, const char*> cases[] = {{0, "0 ms"},
                                                  {0.0042, "4 ms"},
                                                  {0.9994, "999 ms"},
                                                  {0.9996, "1.0 s"},
                                                  {1, "1.0 s"},
                                                  {59.94, "59.9 s"},
                                                  {59.96, "1 min 00 s"},
                                                  {60, "1 min 00 s"},
                                                  {125, "2 min 05 s"},
                                                  {3599.4, "59 min 59 s"},
                                                  {3599.6, "1 h 00 min"},
                                                  {3725, "1 h 02 min"},
                                                  {360000, "100 h 00 min"},
                                                  {nan, "nan s"},
                                                  {inf, "inf s"}};
  for (const auto& [seconds, text] : cases) EXPECT_EQ(format_seconds(seconds), text) << seconds;
}

}  // namespace
}  // namespace haqa
