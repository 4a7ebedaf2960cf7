// On whatever OpenCL device there is; PoCL's is the processor.
#include "haqa/kernel/opencl_runner.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/kernel/checks.h"
#include "haqa/kernel/contestant.h"
#include "haqa/kernel/device_variant.h"
#include "haqa/kernel/measure.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

/// The shipped specification with its engine for OpenCL alone, and few shapes: each costs PoCL a compilation.
Json specification(const fs::path& folder) {
  Json spec = read_json(folder / "spec.json");
  spec["Engines"] = {{"opencl", spec.at("Engines").at("opencl")}};
  if (const Json types = spec["Engines"]["opencl"].value("Types", Json()); !types.is_null())
    spec["KernelSpecification"]["Types"] = types;
  Json& shapes = spec["KernelSpecification"]["HeldOutShapes"];
  shapes.erase(shapes.begin() + 2, shapes.end());
  return spec;
}

class OpenClRunner : public testing::Test {
 protected:
  void SetUp() override {
    setenv("HAQA_CACHE", cache_.path().c_str(), 1);
    setenv("POCL_CACHE_DIR", cache_.path().c_str(), 1);
    try {
      opencl_device_name();
    } catch (const UsageError& e) {
      GTEST_SKIP() << e.what();
    }
  }

  fs::path folder_of(const std::string& operation) {
    const fs::path shipped = fs::path(HAQA_SOURCE_DIR) / "kernels" / operation;
    const fs::path folder = kernels_ / operation;
    make_folder(folder);
    write_file(folder / "opencl.cl", read_file(shipped / "opencl.cl"));
    write_file(folder / "spec.json", specification(shipped).dump());
    return folder;
  }

  Json ask(const std::string& operation, Shape shape, const std::string& source = "", const std::string& type = "F32",
           const std::string& command = "verify") {
    const Json request = {{"command", command}, {"kernel", folder_of(operation).string()},
                          {"engine", "opencl"}, {"type", type},
                          {"shape", shape},     {"source", source},
                          {"threads", 2},       {"against", {"default"}},
                          {"seconds", 0.05},    {"rotations", 2}};
    return measure_kernel(request, {});
  }

  /// SiLU in a few words, which PoCL compiles sooner than the shipped source, with something in place of something
  /// else.
  static std::string silu_with(const std::string& from, const std::string& to) {
    std::string source = R"(
__kernel void haqa_kernel(__global const float* in0, __global float* out, const haqa_shape s) {
  const int n = s.out.ne[0];
  for (int r = get_global_id(1); r < haqa_rows(s.out); r += get_global_size(1)) {
    const int i1 = r % s.out.ne[1], i2 = r / s.out.ne[1];
    for (int i = get_global_id(0); i < n; i += get_global_size(0)) {
      const float x = haqa_row(in0, s.in[0], i1, i2)[i];
      haqa_out_row(out, s.out, i1, i2)[i] = x / (1.0f + exp(-x));
    }
  }
}
)";
    const size_t at = source.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return source.replace(at, from.size(), to);
  }

  void expect_fault(const std::string& source, const std::string& fault, const std::string& message) {
    const Json answer = ask("silu", {40, 2, 1}, source);
    EXPECT_EQ(answer.value("fault", ""), fault) << answer;
    EXPECT_NE(answer.value("message", "").find(message), std::string::npos) << answer;
  }

  TemporaryFolder cache_, kernels_;
};

const char* const kLast = "x / (1.0f + exp(-x));";  ///< of what is done for an element

TEST_F(OpenClRunner, DefaultVariantsOfRowWiseOperationsAreRight) {
  for (const char* operation : {"softmax", "silu", "swiglu", "rms_norm", "rms_norm_mul", "rope"}) {
    const Json answer = ask(operation, {130, 6, 3});
    EXPECT_FALSE(answer.contains("fault")) << operation << answer;
    EXPECT_GT(answer.value("compile_s", 0.0), 0);
  }
}

TEST_F(OpenClRunner, DefaultVariantsOfProductsAreRight) {
  EXPECT_FALSE(ask("matmul", {70, 9, 67}).contains("fault"));
  for (const char* type : {"F16", "Q8_0", "Q4_0"}) {
    const Json answer = ask("matvec", {70, 2, 320}, "", type);
    EXPECT_FALSE(answer.contains("fault")) << type << answer;
  }
}

TEST_F(OpenClRunner, IsTimedBesideOthers) {
  const Json answer = ask("silu", {512, 4, 1}, "", "F32", "measure");
  ASSERT_FALSE(answer.contains("fault")) << answer;
  EXPECT_GT(answer.at("times").at("variant").at("us").get<double>(), 0);
  EXPECT_EQ(answer.value("device", ""), opencl_device_name());
}

TEST_F(OpenClRunner, WeightsMayBePackedByTheVariant) {
  const fs::path folder = folder_of("matvec");
  const KernelSpec spec = read_kernel_spec(folder);
  Configuration configuration = spec.engines.at("opencl").space.defaults();
  configuration["weight_layout"] = "apart";
  const Json answer = measure_kernel({{"command", "verify"},
                                      {"kernel", folder.string()},
                                      {"engine", "opencl"},
                                      {"type", "Q4_0"},
                                      {"shape", {33, 1, 320}},
                                      {"configuration", configuration}},
                                     {});
  EXPECT_FALSE(answer.contains("fault")) << answer;
}

TEST_F(OpenClRunner, SourcesThatDoNotBuildAreFaultsWithTheCompilersMessages) {
  expect_fault(silu_with("haqa_rows(s.out)", "haqa_rose(s.out)"), "does not compile", "haqa_rose");
  expect_fault(silu_with("void haqa_kernel", "void another"), "does not compile", "haqa_kernel");
  expect_fault("#include <math.h>\n", "refused source", "#include");
  expect_fault(silu_with(kLast, "x; __asm__(\"nop\");"), "refused source", "asm");
}

TEST_F(OpenClRunner, MessagesOfTheCompilerNameNoFolders) {
  const Json answer = ask("silu", {40, 2, 1}, silu_with("const int n = ", "const int n = nothing + "));
  EXPECT_EQ(answer.value("message", "").find('/'), std::string::npos) << answer;
}

TEST_F(OpenClRunner, ArgumentsThatAreMissingAreAFault) {
  expect_fault(silu_with("const haqa_shape s)", "const haqa_shape s, const float more)"), "does not run", "arguments");
}

TEST_F(OpenClRunner, WrongResultsAreCaught) {
  expect_fault(silu_with(kLast, "x / (1.001f + exp(-x));"), "wrong result", "");
  expect_fault(silu_with("r < haqa_rows(s.out)", "r < haqa_rows(s.out) - 1"), "not written", "");
}

TEST_F(OpenClRunner, WhatIsWrittenBesideTheOutputIsCaught) {
  expect_fault(silu_with(kLast, std::string(kLast) + " haqa_out_row(out, s.out, i1, i2)[n] = 1;"), "out of bounds",
               "behind");
  expect_fault(silu_with(kLast, std::string(kLast) + " haqa_out_row(out, s.out, 0, 0)[-3] = 1;"), "out of bounds",
               "before");
}

TEST_F(OpenClRunner, WhatNeverEndsIsEnded) {
  const fs::path folder = folder_of("silu");
  const KernelSpec spec = read_kernel_spec(folder);
  const KernelEngine& engine = spec.engines.at("opencl");
  const SourceVariant endless{
      silu_with(kLast, "x; volatile int on = 1; while (on) {}"), engine.space.defaults(), {}, {}};
  const fs::path file = kernels_ / "variant.json";
  write_device_variant(device_variant(spec, engine, endless, read_file(kernels_folder() / "opencl.h")), file);
  Contest contest;
  Contestant contestant("it", contest, (program_folder() / "haqa-kernel").string(), 1, 4096, {file.string()}, true,
                        "opencl");
  const std::vector<TensorShape> shapes = tensors_of(spec, {ElementType::f32, {64, 1, 1}});
  contestant.control().inputs = 1;
  contestant.control().in[0] = shapes[0];
  contestant.control().out = shapes[1];
  contestant.prepare(60);
  const LaunchPlace place = {{4096}, kOutputsAt + 4096, 0};
  try {
    contestant.run({&place, 1}, 3);
    FAIL() << "it ended";
  } catch (const KernelFault& fault) {
    EXPECT_EQ(fault.kind, KernelFaultKind::timed_out);
  }
}

TEST_F(OpenClRunner, WhatAKernelPrintsIsNoAnswer) {
  const Json answer = ask("silu", {40, 2, 1}, silu_with(kLast, std::string(kLast) + " printf(\"PRF\");"));
  EXPECT_FALSE(answer.contains("fault")) << answer;
}

TEST_F(OpenClRunner, WithoutTheDeviceThatIsWantedItSaysWhichThereAre) {
  setenv("HAQA_OPENCL_DEVICE", "no such device", 1);
  EXPECT_THROW(
      {
        try {
          ask("silu", {40, 2, 1});
        } catch (const UsageError& e) {
          EXPECT_NE(std::string(e.what()).find("HAQA_OPENCL_DEVICE"), std::string::npos);
          throw;
        }
      },
      UsageError);
  unsetenv("HAQA_OPENCL_DEVICE");
}

}  // namespace
}  // namespace haqa
