#include "haqa/vision/torch_file.h"

#include <gmock/gmock.h>

#include <chrono>

#include "haqa/base/error.h"
#include "haqa/base/error_test_support.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/vision/weights.h"

namespace haqa {
namespace {

using testing::HasSubstr;
using namespace std::string_literals;

// ---- pickles, instruction by instruction ----

std::string little_endian(uint64_t value, size_t bytes) {
  std::string text;
  for (size_t i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
  return text;
}
std::string text(const std::string& value) {
  return "X" + little_endian(value.size(), 4) + value;
}
std::string number(int64_t value) {
  return "\x8a\x08" + little_endian(static_cast<uint64_t>(value), 8);
}
std::string tuple(const std::vector<std::string>& items) {
  std::string all = "(";
  for (const std::string& item : items) all += item;
  return all + "t";
}
std::string numbers(const std::vector<int64_t>& values) {
  std::vector<std::string> items;
  for (const int64_t value : values) items.push_back(number(value));
  return tuple(items);
}
std::string call(const std::string& module, const std::string& name, const std::string& arguments) {
  return "c" + module + "\n" + name + "\n" + arguments + "R";
}
std::string storage(const std::string& key, int64_t count, const std::string& type = "FloatStorage") {
  return tuple({text("storage"), "ctorch\n" + type + "\n", text(key), text("cpu"), number(count), "N"}) + "Q";
}
std::string tensor(const std::string& storage, const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides,
                   int64_t offset = 0) {
  return call("torch._utils", "_rebuild_tensor_v2",
              tuple({storage, number(offset), numbers(sizes), numbers(strides), "\x89", "}"}));
}
std::string parameter(const std::string& inner) {
  return call("torch._utils", "_rebuild_parameter", tuple({inner, "\x88", "}"}));
}
std::string dictionary(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string all = "}(";
  for (const auto& [key, value] : entries) all += text(key) + value;
  return all + "u";
}

/// A file as PyTorch before 1.6 wrote it, with storages of floats by their keys.
std::string file_of(const std::string& object, const std::vector<std::pair<std::string, std::vector<float>>>& storages,
                    int protocol = 2) {
  const std::string begin = {'\x80', static_cast<char>(protocol)};
  std::string bytes;
  for (int i = 0; i < 3; ++i) bytes += begin + "N.";
  bytes += begin + object + "." + begin + "](";
  for (const auto& [key, values] : storages) bytes += text(key);
  bytes += "e.";
  for (const auto& [key, values] : storages)
    bytes += little_endian(values.size(), 8) +
             std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  return bytes;
}

class TorchFile : public testing::Test {
 protected:
  std::map<std::string, torch::Tensor> read(const std::string& bytes) const {
    write_file(folder_ / "file.pt", bytes);
    return read_torch_file(folder_ / "file.pt", false);
  }
  std::string refusal_of(const std::string& bytes) const {
    return message_of([&] { read(bytes); });
  }
  const TemporaryFolder folder_;
};

const std::string kFour = storage("0", 4);
const std::vector<std::pair<std::string, std::vector<float>>> kNumbers = {{"0", {1, 2, 3, 4}}};

TEST_F(TorchFile, HasTensorsThatAreParts) {
  const auto tensors =
      read(file_of(dictionary({{"epoch", "K\x05"},
                               {"model", dictionary({{"w", tensor(kFour, {2, 2}, {1, 2})},
                                                     {"p", parameter(tensor(kFour, {2}, {2}, 1))},
                                                     {"none", tensor(kFour, {0, 3}, {3, 1})},
                                                     {"twice", parameter(parameter(tensor(kFour, {4}, {1})))}})}}),
                   kNumbers));
  ASSERT_EQ(tensors.size(), 3u);
  EXPECT_TRUE(tensors.at("w").equal(torch::tensor({1.f, 3.f, 2.f, 4.f}).view({2, 2})));
  EXPECT_TRUE(tensors.at("p").equal(torch::tensor({2.f, 4.f})));
  EXPECT_EQ(tensors.at("none").numel(), 0);
}

TEST_F(TorchFile, IsKnownByItsBeginning) {
  for (const int protocol : {2, 3, 4, 5}) {
    write_file(folder_ / "file.pt", file_of(dictionary({{"w", tensor(kFour, {4}, {1})}}), kNumbers, protocol));
    EXPECT_EQ(read_tensors(folder_ / "file.pt").count("w"), 1u) << protocol;
  }
}

TEST_F(TorchFile, RefusesTensorsThatAreNone) {
  const int64_t huge = int64_t{1} << 35;
  struct Wrong {
    std::string tensor, says;
  };
  const std::vector<Wrong> wrong = {
      {tensor(kFour, {5}, {1}), "larger than its numbers"},
      {tensor(kFour, {2}, {1}, 3), "larger than its numbers"},
      {tensor(kFour, {huge}, {0}), "larger than its numbers"},
      {tensor(kFour, {huge, huge, 16}, {0, 0, 0}), "larger than its numbers"},
      {tensor(kFour, {2}, {-1}, 3), "larger than its numbers"},
      {tensor(kFour, {1}, {1}, -1), "larger than its numbers"},
      {tensor(kFour, {2}, {1, 1}), "larger than its numbers"},
      {tensor(kFour, std::vector<int64_t>(65, 1), std::vector<int64_t>(65, 1)), "too many dimensions"},
      {tensor(storage("0", 5), {5}, {1}), "cut short"},
      {tensor(storage("0", huge), {1}, {1}), "cut short"},
      {tensor(storage("0", -1), {1}, {1}), "larger than its numbers"},
      {tensor(storage("0", 4, "Quant\033[31mStorage"), {1}, {1}), "in torch.Quant[U+001B][31mStorage"},
  };
  for (const Wrong& w : wrong)
    EXPECT_THAT(refusal_of(file_of(dictionary({{"w", w.tensor}}), kNumbers)), HasSubstr(w.says));
  EXPECT_THAT(refusal_of(file_of(dictionary({{"w", tensor("N", {1}, {1})}}), {})), HasSubstr("no storage"));
  EXPECT_THAT(refusal_of(file_of(dictionary({{"a", tensor(storage("0", 2, "DoubleStorage"), {1}, {1})},
                                             {"b", tensor(kFour, {4}, {1})}}),
                                 kNumbers)),
              HasSubstr("contradict"));
}

// Both would be followed for ever.
TEST_F(TorchFile, EndsWithValuesThatHoldThemselves) {
  const std::string made = call("torch._utils", "_rebuild_parameter", ")");
  EXPECT_TRUE(read(file_of("}" + text("w") + made + "q\0h\0a"s + "s", {})).empty());

  std::string back = "}q\0("s;  // a dictionary that is each of its own entries
  for (int i = 0; i < 1000; ++i) back += text("state_dict") + "h\0"s;
  back += text("w") + tensor(kFour, {4}, {1}) + "u";
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(read(file_of(back, kNumbers)).size(), 1u);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));

  std::string deep = tensor(kFour, {4}, {1});
  for (int i = 0; i < 1000; ++i) deep = parameter(deep);
  EXPECT_TRUE(read(file_of(dictionary({{"w", deep}}), kNumbers)).empty());
}

// 20,000 tensors of 4 MB in a file of that size.
TEST_F(TorchFile, SharesWhatTensorsShare) {
  const std::vector<float> values(1 << 20, 3);
  std::string object = storage("0", 1 << 20) + "q\0"s + "0}(";
  for (int i = 0; i < 20'000; ++i) object += text(std::to_string(i)) + tensor("h\0"s, {1 << 20}, {1});
  const auto tensors = read(file_of(object + "u", {{"0", values}}));
  ASSERT_EQ(tensors.size(), 20'000u);
  EXPECT_EQ(tensors.at("1").data_ptr(), tensors.at("19999").data_ptr());
}

}  // namespace
}  // namespace haqa
