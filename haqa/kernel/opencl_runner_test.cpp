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

Json argument(const char* name, const char* type, Json size, bool is_output = false) {
  return {
      {"Name", name}, {"Type", type}, {"AccessType", is_output ? "WriteOnly" : "ReadOnly"}, {"Size", std::move(size)}};
}

/// An operation along rows of [ne0, ne1, ne2], with these inputs.
Json row_wise(const std::string& reference, Json arguments, Json tolerance) {
  arguments.push_back(argument("y", "float", {"ne0", "ne1", "ne2"}, true));
  return {
      {"Shape", {"ne0", "ne1", "ne2"}},          {"Arguments", std::move(arguments)}, {"Reference", reference},
      {"Tolerance", std::move(tolerance)},       {"Bytes", "8 * ne0 * ne1 * ne2"},    {"Operations", "ne0 * ne1 * ne2"},
      {"HeldOutShapes", {{2, 1, 1}, {34, 3, 2}}}};
}

Json product(const std::string& type, Json types) {
  Json weights = argument("a", type.c_str(), {"k", "m"});
  weights["Constant"] = true;
  return {{"Shape", {"m", "n", "k"}},
          {"Types", std::move(types)},
          {"Arguments", {weights, argument("b", "float", {"k", "n"}), argument("c", "float", {"m", "n"}, true)}},
          {"Reference", "matmul"},
          {"Tolerance", {{"Absolute", 1e-30}, {"Norm", 2e-5}}},
          {"Bytes", "4 * m * k"},
          {"Operations", "2 * m * n * k"},
          {"HeldOutShapes", {{1, 1, 32}, {33, 3, 96}}}};
}

Json specification(const std::string& operation) {
  const Json x = argument("x", "float", {"ne0", "ne1", "ne2"});
  const Json near = {{"Absolute", 1e-7}, {"Relative", 2e-5}};
  if (operation == "matmul") return product("float", {"F32"});
  if (operation == "matvec") return product("weights", {"F16", "Q8_0", "Q4_0"});
  Json arguments = {x};
  if (operation == "swiglu") arguments.push_back(argument("b", "float", {"ne0", "ne1", "ne2"}));
  if (operation == "rms_norm_mul") arguments.push_back(argument("w", "float", Json::array({"ne0"})));
  if (operation == "rope") arguments.push_back(argument("positions", "int32", Json::array({"ne2"})));
  Json spec = row_wise(operation, arguments, near);
  if (operation.starts_with("rms_norm")) spec["Scalars"] = {{{"Name", "eps"}, {"Value", 1e-5}}};
  if (operation == "rope") {
    spec["Scalars"] = {{{"Name", "theta_base"}, {"Value", 10000.0}}};
    spec["Tolerance"] = {{"Absolute", 1e-6}, {"Norm", 1e-6}};
  }
  return spec;
}

Json shipped_engine(const fs::path& folder) {
  const fs::path own = folder / "opencl.json";
  return fs::exists(own) ? read_json(own) : read_json(folder / "spec.json").at("Engines").at("opencl");
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
    const Json spec = {{"General", {{"BenchmarkName", operation}, {"Description", "a test"}}},
                       {"KernelSpecification", specification(operation)},
                       {"Engines", {{"opencl", shipped_engine(shipped)}}}};
    write_file(folder / "spec.json", spec.dump());
    return folder;
  }

  Json ask(const std::string& operation, Shape shape, const std::string& source = "", const std::string& type = "F32",
           const std::string& command = "verify") {
    const Json request = {{"command", command}, {"kernel", folder_of(operation).string()},
                          {"engine", "opencl"}, {"type", type},
                          {"shape", shape},     {"source", source},
                          {"threads", 2},       {"against", {"default"}},
                          {"seconds", 0.05},    {"pairs", 2}};
    return measure_kernel(request, {});
  }

  /// The source of SiLU with something in place of something else.
  static std::string silu_with(const std::string& from, const std::string& to) {
    std::string source = read_file(fs::path(HAQA_SOURCE_DIR) / "kernels/silu/opencl.cl");
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

const char* const kStore = "haqa_store_within(value * sigmoid(value), y, column, n);";

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
  expect_fault(silu_with("rows = haqa_rows(s.out)", "rows = haqa_rose(s.out)"), "does not compile", "haqa_rose");
  expect_fault(silu_with("void haqa_kernel", "void another"), "does not compile", "haqa_kernel");
  expect_fault("#include \"/etc/hostname\"\n", "refused source", "#include");
}

TEST_F(OpenClRunner, MessagesOfTheCompilerNameNoFolders) {
  const Json answer = ask("silu", {40, 2, 1}, silu_with("const int n = ", "const int n = nothing + "));
  EXPECT_EQ(answer.value("message", "").find('/'), std::string::npos) << answer;
}

TEST_F(OpenClRunner, ArgumentsThatAreMissingAreAFault) {
  expect_fault(silu_with("const haqa_shape s)", "const haqa_shape s, const float more)"), "does not run", "arguments");
}

TEST_F(OpenClRunner, WrongResultsAreCaught) {
  expect_fault(silu_with(kStore, "haqa_store_within(value * sigmoid(value) * 1.001f, y, column, n);"), "wrong result",
               "");
  expect_fault(silu_with(kStore, "if (r != 1) haqa_store_within(value * sigmoid(value), y, column, n);"), "not written",
               "");
}

TEST_F(OpenClRunner, WhatIsWrittenBesideTheOutputIsCaught) {
  expect_fault(silu_with(kStore, std::string(kStore) + " haqa_out_row(out, s.out, i1, i2)[n] = 1;"), "out of bounds",
               "behind");
  expect_fault(silu_with(kStore, std::string(kStore) + " haqa_out_row(out, s.out, 0, 0)[-3] = 1;"), "out of bounds",
               "before");
}

TEST_F(OpenClRunner, WhatNeverEndsIsEnded) {
  const fs::path folder = folder_of("silu");
  const KernelSpec spec = read_kernel_spec(folder);
  const KernelEngine& engine = spec.engines.at("opencl");
  const SourceVariant endless{silu_with(kStore, "volatile int on = 1; while (on) {}"), engine.space.defaults(), {}, {}};
  const fs::path file = kernels_ / "variant.json";
  write_device_variant(device_variant(spec, engine, endless, read_file(kernels_folder() / "kernel.clh")), file);
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
  const Json answer = ask("silu", {40, 2, 1}, silu_with(kStore, std::string(kStore) + " printf(\"PRF\");"));
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
