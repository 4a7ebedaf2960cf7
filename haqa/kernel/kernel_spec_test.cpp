#include "haqa/kernel/kernel_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"

namespace haqa {
namespace {

using testing::HasSubstr;

TEST(KernelSpecTest, WhatShipsIsWhole) {
  const std::vector<std::string> names = kernel_names();
  for (const char* name :
       {"softmax", "silu", "swiglu", "rms_norm", "rms_norm_mul", "rope", "matmul", "matvec", "attention"})
    EXPECT_THAT(names, testing::Contains(name));
  for (const std::string& name : names) {
    const KernelSpec spec = read_kernel_spec(kernels_folder() / name);
    EXPECT_EQ(spec.name, name);
    EXPECT_FALSE(spec.description.empty());
    EXPECT_FALSE(spec.held_out.empty()) << name;
    EXPECT_TRUE(spec.engines.contains("cpu")) << name;
    for (const auto& [engine, source] : spec.engines) {
      EXPECT_FALSE(source.space.problem(source.space.defaults())) << name << " " << engine;
      for (const Parameter& p : source.space.parameters()) EXPECT_FALSE(p.description.empty()) << name << " " << p.name;
    }
  }
}

TEST(KernelSpecTest, SuitesNameKernelsAndShapesThatAre) {
  for (const std::string& suite : suite_names())
    for (const SuiteEntry& entry : read_suite(suite)) {
      const KernelSpec spec = read_kernel_spec(kernels_folder() / entry.kernel);
      EXPECT_NO_THROW(tensors_of(spec, entry.problem)) << suite << " " << entry.kernel;
      EXPECT_GT(bytes_of(spec, entry.problem), 0);
      EXPECT_GT(operations_of(spec, entry.problem), 0);
    }
  EXPECT_EQ(read_suite("paper").size(), 15u) << "the paper's table 3";
  EXPECT_THROW(read_suite("no-such"), UsageError);
}

TEST(KernelSpecTest, ShapesAreGgmls) {
  const KernelSpec matvec = read_kernel_spec(kernels_folder() / "matvec");
  const auto shapes = tensors_of(matvec, {ElementType::q4_0, {4096, 2, 11008}}, 12);
  EXPECT_EQ(shapes[0].ne[0], 11008);
  EXPECT_EQ(shapes[0].ne[1], 4096);
  EXPECT_EQ(shapes[0].nb[1], 11008 / 32 * 18) << "weights have no gaps";
  EXPECT_EQ(shapes[1].nb[1], 11008 * 4 + 12);
  EXPECT_EQ(shapes[2].ne[0], 4096);
  EXPECT_EQ(shapes[2].ne[1], 2);
  EXPECT_THROW(tensors_of(matvec, {ElementType::q4_0, {16, 1, 100}}), UsageError) << "no whole blocks";
  EXPECT_THROW(tensors_of(matvec, {ElementType::f32, {16, 1, 128}}), UsageError) << "not one of its types";
  EXPECT_THROW(tensors_of(matvec, {ElementType::f16, {16, 1}}), UsageError);
  EXPECT_THROW(tensors_of(matvec, {ElementType::f16, {16, 0, 32}}), UsageError);
  EXPECT_EQ((KernelProblem{ElementType::q8_0, {2048, 1, 2048}}.label()), "Q8_0 [2048,1,2048]");
}

TEST(KernelSpecTest, WhatCannotBeComputedOrMeasuredIsRefused) {
  constexpr int64_t kHuge = int64_t{1} << 31;
  for (const auto& [kernel, shape, message] :
       {std::tuple<const char*, Shape, const char*>{"silu", {kHuge, kHuge, kHuge}, "bytes or more"},
        {"silu", {kHuge, 1, 1}, "bytes or more"},
        {"matmul", {1 << 20, 1, 1 << 20}, "bytes or more"},
        {"silu", {kHuge + 1, 1, 1}, "no dimension"},
        {"rope", {127, 4, 2}, "ne0 % 2 == 0"}}) {
    const KernelSpec spec = read_kernel_spec(kernels_folder() / kernel);
    try {
      tensors_of(spec, {ElementType::f32, shape});
      ADD_FAILURE() << kernel;
    } catch (const UsageError& e) {
      EXPECT_THAT(e.what(), HasSubstr(message));
    }
  }
  const KernelSpec silu = read_kernel_spec(kernels_folder() / "silu");
  EXPECT_EQ(tensors_of(silu, {ElementType::f32, {1 << 16, 1 << 10, 1}}).size(), 2u) << "as much as there may be";
}

TEST(KernelSpecTest, CachesOfAttentionLieAsLlamaCppsDo) {
  const KernelSpec attention = read_kernel_spec(kernels_folder() / "attention");
  const KernelProblem problem{ElementType::q8_0, {64, 3, 100, 8, 2}};
  const auto shapes = tensors_of(attention, problem);
  ASSERT_EQ(shapes.size(), 5u);
  const TensorShape &q = shapes[0], &k = shapes[1], &mask = shapes[3], &out = shapes[4];
  EXPECT_THAT(std::vector<int64_t>(q.ne, q.ne + 3), testing::ElementsAre(64, 3, 8));
  EXPECT_EQ(q.nb[2], 64 * 4) << "a token's heads lie side by side";
  EXPECT_EQ(q.nb[1], 8 * 64 * 4);
  EXPECT_EQ(k.type, ElementType::q8_0);
  EXPECT_EQ(k.nb[2], 68);
  EXPECT_EQ(k.nb[1], 2 * 68);
  EXPECT_EQ(k.bytes(), 100 * 2 * 68);
  EXPECT_EQ(mask.type, ElementType::f16);
  EXPECT_EQ(out.nb[1], 64 * 4) << "as the others";
  EXPECT_EQ(bytes_of(attention, problem), 2 * 100 * 2 * 68 + 8 * 64 * 3 * 8 + 2 * 100 * 3) << "keys and values";
  EXPECT_EQ(operations_of(attention, {ElementType::f16, {64, 3, 3, 1, 1}}), 4 * 64 * 6) << "what the mask leaves";
  for (const Shape& bad : {Shape{64, 1, 100, 7, 2}, Shape{64, 101, 100, 8, 2}, Shape{63, 1, 100, 8, 2}})
    EXPECT_THROW(tensors_of(attention, {ElementType::f16, bad}), UsageError) << bad[0] << "," << bad[1];
}

/// A specification with one member changed.
class BrokenSpec : public testing::Test {
 protected:
  BrokenSpec() : json_(Json::parse(read_file(kernels_folder() / "silu/spec.json"))) {
    write_file(folder_ / "cpu.cpp", "");
    json_["Engines"] = {{"cpu", json_["Engines"]["cpu"]}};
  }
  std::string fault() {
    write_file(folder_ / "spec.json", json_.dump());
    try {
      read_kernel_spec(folder_.path());
    } catch (const UsageError& e) {
      EXPECT_THAT(e.what(), HasSubstr("spec.json"));
      return e.what();
    }
    return "";
  }
  TemporaryFolder folder_;
  Json json_;
};

TEST_F(BrokenSpec, TheOneThatShipsIsNone) {
  EXPECT_EQ(fault(), "");
}

TEST_F(BrokenSpec, EveryMissingFieldIsNamed) {
  const Json whole = json_;
  for (const char* part : {"General", "KernelSpecification", "Engines"}) {
    json_ = whole;
    json_.erase(part);
    EXPECT_THAT(fault(), HasSubstr(part));
  }
  for (const char* key : {"Shape", "Arguments", "Reference", "Tolerance", "Bytes", "Operations", "HeldOutShapes"}) {
    json_ = whole;
    json_["KernelSpecification"].erase(key);
    EXPECT_THAT(fault(), HasSubstr(key));
  }
  for (const char* key : {"KernelFile", "ConfigurationSpace"}) {
    json_ = whole;
    json_["Engines"]["cpu"].erase(key);
    EXPECT_THAT(fault(), HasSubstr(key));
  }
  for (const char* key : {"Name", "Type", "AccessType", "Size"}) {
    json_ = whole;
    json_["KernelSpecification"]["Arguments"][0].erase(key);
    EXPECT_THAT(fault(), HasSubstr(key));
  }
}

TEST_F(BrokenSpec, WhatMakesNoSenseIsNamed) {
  const Json whole = json_;
  const auto with = [&](const char* pointer, const Json& value) {
    json_ = whole;
    json_[Json::json_pointer(pointer)] = value;
    return fault();
  };
  EXPECT_THAT(with("/KernelSpecification/Reference", "sorcery"), HasSubstr("sorcery"));
  EXPECT_THAT(with("/KernelSpecification/Types", Json{"Q9_9"}), HasSubstr("Q9_9"));
  EXPECT_THAT(with("/KernelSpecification/Arguments/0/Type", "double"), HasSubstr("double"));
  EXPECT_THAT(with("/KernelSpecification/Arguments/0/Size", Json{"ne7"}), HasSubstr("ne7"));
  EXPECT_THAT(with("/KernelSpecification/Arguments/1/AccessType", "ReadOnly"), HasSubstr("output"));
  EXPECT_THAT(with("/KernelSpecification/ShapeConditions", Json{"ne0 > 1"}), HasSubstr("ne0 > 1"));
  EXPECT_THAT(with("/KernelSpecification/Bytes", "8 *"), HasSubstr("8 *"));
  EXPECT_THAT(with("/KernelSpecification/HeldOutShapes", Json{{1, 2}}), HasSubstr("3 numbers"));
  EXPECT_THAT(with("/KernelSpecification/Caches", "tepid"), HasSubstr("tepid"));
  EXPECT_THAT(with("/KernelSpecification/Reference", "matmul"), HasSubstr("takes 2 inputs"));
  EXPECT_THAT(with("/KernelSpecification/Reference", "rms_norm"), HasSubstr("Reference rms_norm takes 1 scalars"));
  EXPECT_THAT(with("/KernelSpecification/HeldOutShapes", Json::parse("[[64, 1.5, 1]]")),
              HasSubstr("HeldOutShapes holds 1.5"));
  EXPECT_THAT(with("/KernelSpecification/HeldOutShapes", Json::parse("[7]")), HasSubstr("HeldOutShapes"));
  EXPECT_THAT(with("/KernelSpecification/Operations", "0"), HasSubstr("Operations: '0'"));
  EXPECT_THAT(with("/KernelSpecification/Bytes", "-5"), HasSubstr("Bytes: '-5'"));
  EXPECT_THAT(with("/KernelSpecification/Bytes", "1e308 * 10"), HasSubstr("Bytes"));
  EXPECT_THAT(with("/KernelSpecification/Arguments/0/Size", Json{"1"}), HasSubstr("argument x: its Size (1, 1, 1)"));
  EXPECT_THAT(with("/KernelSpecification/Arguments/1/Size", Json::parse(R"(["ne0 * 2", "ne1", "ne2"])")),
              HasSubstr("argument x: its Size"));
  EXPECT_THAT(with("/KernelSpecification/Arguments/0/Type", "int32"), HasSubstr("its Type"));
  EXPECT_THAT(with("/KernelSpecification/Arguments/1/Type", "int32"), HasSubstr("argument y: its Size"));
  EXPECT_THAT(with("/KernelSpecification/Tolerance", Json{{"Norm", 1e300}}), HasSubstr("Tolerance: Norm is 1e+300"));
  EXPECT_THAT(with("/KernelSpecification/Tolerance", Json{{"Relative", "x"}}), HasSubstr("Tolerance: Relative"));
  EXPECT_THAT(with("/KernelSpecification/Tolerance", Json{{"NormOf", 3}}), HasSubstr("NormOf must be an object"));
  EXPECT_THAT(with("/KernelSpecification/Tolerance", Json{{"NormOf", {{"F16", -1}}}}),
              HasSubstr("Tolerance: F16 is -1"));
  EXPECT_THAT(with("/KernelSpecification/Arguments/0/Size", Json{"ne0 - 64"}), HasSubstr("no dimension"));
  EXPECT_THAT(with("/KernelSpecification/Arguments/0/Size", Json{"ne0 * 1e18"}), HasSubstr("no dimension"));
  EXPECT_THAT(with("/KernelSpecification/Tolerance", Json{{"Absolute", -1}}), HasSubstr("negative"));
  EXPECT_THAT(with("/KernelSpecification/Tolerance", 7), HasSubstr("Tolerance must be an object"));
  EXPECT_THAT(with("/Engines/cpu/KernelFile", "gone.cpp"), HasSubstr("gone.cpp"));
  EXPECT_THAT(with("/KernelSpecification/ShapeConditions", Json{"ne0 > 1000"}),
              HasSubstr("does not suit it: ne0 > 1000"));
  EXPECT_THAT(with("/KernelSpecification/Arguments/0/Mask", true), HasSubstr("half"));
  const Json x = whole["KernelSpecification"]["Arguments"][0], y = whole["KernelSpecification"]["Arguments"][1];
  EXPECT_THAT(with("/KernelSpecification/Arguments", Json{x, x, x, x, x, y}), HasSubstr("four inputs"));
  json_ = whole;
  json_["KernelSpecification"]["InPlace"] = true;
  EXPECT_EQ(fault(), "");
  json_["KernelSpecification"]["Arguments"][0]["Interleaved"] = true;
  EXPECT_THAT(fault(), HasSubstr("InPlace: the output cannot take the place of x"));
  json_ = whole;
  json_["Engines"]["cuda"] = json_["Engines"]["cpu"];
  json_["KernelSpecification"]["Reference"] = "attention";
  const Json scale = {{"Name", "scale"}, {"Type", "float"}, {"MemoryType", "Scalar"}, {"FillValue", 1}};
  json_["KernelSpecification"]["Arguments"] = {x, x, x, x, y, scale};
  EXPECT_THAT(fault(), HasSubstr("cuda")) << "calls of devices have room for three";
  // A constraint that nobody can satisfy.
  EXPECT_NE(with("/Engines/cpu/ConfigurationSpace/Conditions",
                 Json::array({{{"Expression", "unroll > 1000"}, {"Parameters", {"unroll"}}}})),
            "");
}

}  // namespace
}  // namespace haqa
