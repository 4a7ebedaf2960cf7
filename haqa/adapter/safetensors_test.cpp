#include "haqa/adapter/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"

namespace haqa {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

/// A file by the letter of the format: the header's length in eight bytes, the header, the data.
std::string raw(const std::string& header, const std::string& data, std::optional<uint64_t> length = {}) {
  const uint64_t n = length.value_or(header.size());
  return std::string(reinterpret_cast<const char*>(&n), sizeof n) + header + data;
}

class Safetensors : public testing::Test {
 protected:
  std::filesystem::path write(const std::string& content) const {
    std::ofstream(folder_ / "x.safetensors", std::ios::binary) << content;
    return folder_ / "x.safetensors";
  }
  std::string fault(const std::string& content) const {
    try {
      SafetensorsFile(write(content));
    } catch (const Error& error) {
      return error.what();
    }
    return "none";
  }
  const TemporaryFolder folder_;
};

/// Numbers by hand: F16 1.5 is 0x3e00, BF16 -2 is 0xc000.
TEST_F(Safetensors, ReadsEachType) {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[1,1],"data_offsets":[6,8]},)"
      R"("f":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
      R"("h":{"dtype":"F16","shape":[1],"data_offsets":[4,6]},)"
      R"("i":{"dtype":"I8","shape":[2,0],"data_offsets":[8,8]}})";
  const SafetensorsFile file(write(raw(header, std::string("\0\0\x80\x3f\0\x3e\0\xc0", 8))));
  EXPECT_EQ(file.tensors().size(), 4u);
  EXPECT_THAT(file.floats("f"), ElementsAre(1.0f));
  EXPECT_THAT(file.floats("h"), ElementsAre(1.5f));
  EXPECT_THAT(file.floats("b"), ElementsAre(-2.0f));
  EXPECT_THROW(file.floats("i"), Error);
  EXPECT_THROW(file.floats("none"), Error);
}

TEST_F(Safetensors, ReadsBackWhatItWrites) {
  const std::vector<float> a = {1, -0.0f, std::numeric_limits<float>::infinity()}, b = {3, 4, 5, 6};
  write_safetensors({{"z \"quoted\"", {3}, a}, {"a", {2, 2}, b}, {"empty", {0, 7}, {}}}, folder_ / "w.safetensors",
                    {{"made by", "a \"test\""}});
  const SafetensorsFile file(folder_ / "w.safetensors");
  EXPECT_EQ(file.floats("z \"quoted\""), a);
  EXPECT_EQ(file.floats("a"), b);
  EXPECT_THAT(file.tensors().at("a").shape, ElementsAre(2, 2));
  EXPECT_TRUE(file.floats("empty").empty());
  EXPECT_THAT(file.notes(), ElementsAre(Pair("format", "pt"), Pair("made by", "a \"test\"")));
  uint64_t length = 0;
  std::memcpy(&length, read_file(folder_ / "w.safetensors").data(), sizeof length);
  EXPECT_EQ(length % 8, 0u);
}

TEST_F(Safetensors, RefusesWhatIsDamagedOrHostile) {
  const auto one = [](const std::string& entry) { return "{\"a\":" + entry + "}"; };
  const std::string good = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})", four(4, '\0');
  EXPECT_EQ(fault(raw(one(good), four)), "none");
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "too short"},
      {"1234567", "too short"},
      {raw(one(good), four, 1'000'000), "header should be"},
      {raw(one(good), four, std::numeric_limits<uint64_t>::max()), "header should be"},
      {raw("", "", 0), "does not begin with {"},
      {raw("[1]", ""), "does not begin with {"},
      {raw("{\"a\":", ""), "is no JSON"},
      {raw("{\"\xff\":1}", ""), "is no JSON"},
      {raw(one(good), "\0\0"), "should have 4 bytes of data, but has 0"},
      {raw(one(good), four + "x"), "more data"},
      {raw(one("1"), four), "no type, shape and data_offsets"},
      {raw(one(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})"), four), "no type, shape"},
      {raw(one(R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})"), four), "no type, shape"},
      {raw(one(R"({"dtype":"F32","shape":[1],"data_offsets":[0]})"), four), "no type, shape"},
      {raw(one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4,8]})"), four), "no type, shape"},
      {raw(one(R"({"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]})"), four), "no type, shape"},
      {raw(one(R"({"dtype":"F31","shape":[1],"data_offsets":[0,4]})"), four), "has the type \"F31\""},
      {raw(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})"), four), "contradicts its shape"},
      {raw(one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})"), four), "contradicts its shape"},
      {raw(one(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]})"), ""),
       "contradicts its shape"},
      {raw(one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})"), four + four), "overlap or leave holes"},
      {raw("{\"a\":" + good + ",\"b\":" + good + "}", four), "overlap or leave holes"},
      {raw("{\"a\":" + good + ",\"a\":" + good + "}", four), "comes twice"},
      {raw(std::string(100000, '[') + std::string(100000, ']'), ""), "does not begin with {"},
      {raw("{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}", ""), "nests too deep"},
  };
  for (const auto& [content, says] : cases) EXPECT_THAT(fault(content), HasSubstr(says)) << content.substr(0, 100);
  for (const auto& [content, says] : cases) EXPECT_THAT(fault(content), testing::Not(HasSubstr("\n")));
}

TEST_F(Safetensors, NamesAFileThatIsNotThere) {
  EXPECT_THROW(SafetensorsFile(folder_ / "none"), Error);
  EXPECT_THROW(SafetensorsFile(folder_.path()), Error);
  EXPECT_THROW(write_safetensors({}, folder_ / "none" / "x"), Error);
}

}  // namespace
}  // namespace haqa
