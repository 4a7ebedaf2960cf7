// haqa export as a user runs it. What it writes is checked in haqa/vision.
#include "haqa/adapter/safetensors.h"
#include "tests/program.h"

namespace haqa {
namespace {

using testing::AllOf;
using testing::HasSubstr;

namespace fs = std::filesystem;

/// A ResNet20 for ten classes, under torchvision's names.
class ExportTest : public ProgramTest {
 protected:
  ExportTest() {
    add("conv1.weight", {16, 3, 3, 3});
    add_norm("bn1", 16);
    int64_t channels = 16;
    for (int stage = 1; stage <= 3; ++stage)
      for (int block = 0; block < 3; ++block) {
        const int64_t width = 8 << stage;
        const std::string name = "layer" + std::to_string(stage) + "." + std::to_string(block);
        for (const char* number : {"1", "2"}) {
          add(name + ".conv" + number + ".weight", {width, channels, 3, 3});
          add_norm(name + ".bn" + number, width);
          channels = width;
        }
      }
    add("fc.weight", {10, 64});
    write_safetensors(tensors_, path("lacking.safetensors"));
    add("fc.bias", {10});
    write_safetensors(tensors_, path("resnet.safetensors"));
    add("layer9.weight", {4});
    write_safetensors(tensors_, path("more.safetensors"));
  }

  void add(const std::string& name, std::vector<int64_t> shape) {
    size_t count = 1;
    for (const int64_t length : shape) count *= static_cast<size_t>(length);
    tensors_.push_back({name, std::move(shape), std::span(numbers_).first(count)});
  }
  void add_norm(const std::string& name, int64_t channels) {
    for (const char* part : {".weight", ".bias", ".running_mean", ".running_var"}) add(name + part, {channels});
  }

 private:
  const std::vector<float> numbers_ = std::vector<float>(64 * 64 * 9, 0.5f);
  std::vector<TensorToSave> tensors_;
};

TEST_F(ExportTest, WritesOnnx) {
  const std::string checkpoint = path("resnet.safetensors");
  const ProcessResult full = run({"export", checkpoint, "-o", path("full.onnx")});
  ASSERT_TRUE(full.ok()) << full.errors;
  EXPECT_THAT(full.output, AllOf(HasSubstr("full.onnx: resnet20, weights in full precision"),
                                 HasSubstr("\ntakes images that are normalized as they were in training\n"),
                                 HasSubstr("0 of 20 layers compute with whole numbers")));
  const ProcessResult scaled = run(
      {"export", checkpoint, "--mean", "0.5", "0.25", "0", "--deviation", "1", "2", "0.1", "-o", path("scaled.onnx")});
  EXPECT_THAT(scaled.output, HasSubstr("\ntakes pixels from 0 to 1; subtracts the mean 0.5 0.25 0 itself and divides "
                                       "by the deviation 1 2 0.1\n"));
  const ProcessResult quantized = run({"export", checkpoint, "--weight-bits", "4", "--activation-bits", "4", "-o",
                                       path("w4a4.onnx"), "--json", "--quiet"});
  ASSERT_TRUE(quantized.ok()) << quantized.errors;
  EXPECT_EQ(quantized.errors, "");
  const Json made = Json::parse(quantized.output);
  EXPECT_EQ(made["file"], path("w4a4.onnx"));
  EXPECT_EQ(made["bytes"], fs::file_size(path("w4a4.onnx")));
  EXPECT_EQ(made["integer_layers"], 18);
  EXPECT_EQ(made["opset"], 21);
  EXPECT_LT(fs::file_size(path("w4a4.onnx")), fs::file_size(path("full.onnx")) / 5);
  const ProcessResult again = run({"export", checkpoint, "-o", path("full.onnx")});
  EXPECT_EQ(again.code, 1);
  EXPECT_THAT(again.errors, HasSubstr("full.onnx: is there already"));
}

TEST_F(ExportTest, SaysWhatIsWrong) {
  const std::string good = path("resnet.safetensors"), out = path("out.onnx");
  write("text.pt", "no weights at all");
  struct Case {
    std::vector<std::string> arguments;
    int code;
    std::string says;
  };
  for (const Case& c : std::vector<Case>{
           {{"export", path("none.pt"), "-o", out}, 1, "none.pt: no such file"},
           {{"export", path("text.pt"), "-o", out}, 1, "text.pt"},
           {{"export", path("tiny-f16.gguf"), "-o", out}, 1, "tiny-f16.gguf"},
           {{"export", path("lacking.safetensors"), "-o", out}, 1, "it lacks fc.bias"},
           {{"export", path("more.safetensors"), "-o", out}, 1, "it has layer9.weight that the network has not"},
           {{"export", good, "-o", path("no/such/out.onnx")}, 1, "no/such"},
           {{"export", good}, 2, "--output is required"},
           {{"export", good, "-o", out, "--weight-bits", "0"}, 2, "--weight-bits"},
           {{"export", good, "-o", out, "--activation-bits", "33"}, 2, "--activation-bits"},
           {{"export", good, "-o", out, "--scaling", "none"}, 2, "--scaling"},
           {{"export", good, "-o", out, "--opset", "12"}, 2, "--opset"},
           {{"export", good, "-o", out, "--mean", "0", "0", "0"}, 2, "--mean and --deviation"},
           {{"export", good, "-o", out, "--mean", "0", "0", "0", "--normalized"}, 2, "excludes"},
           {{"export", good, "-o", out, "--mean", "0", "0", "0", "--deviation", "1", "0", "1"}, 2, "above 0"},
           {{"export", good, "-o", out, "--mean", "nan", "0", "0", "--deviation", "1", "1", "1"}, 2, "--mean nan"},
           {{"export", good, "-o", out, "--mean", "0", "0", "0", "--deviation", "1", "1", "inf"}, 2, "finite"}}) {
    const ProcessResult r = run(c.arguments);
    EXPECT_EQ(r.code, c.code) << c.says << r.errors;
    EXPECT_THAT(r.errors, HasSubstr(c.says));
    EXPECT_FALSE(fs::exists(out));
  }
  EXPECT_THAT(run({"export", "--help"}).output, HasSubstr("Examples:"));
}

}  // namespace
}  // namespace haqa
