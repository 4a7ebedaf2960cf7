// kernels/matvec in every type of weights and for several instruction sets, its packing above all.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/kernel/compiler.h"
#include "haqa/kernel/inputs.h"
#include "haqa/kernel/judge.h"
#include "haqa/kernel/kernel_library.h"
#include "kernels/kernel.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

KernelSpec matvec() {
  return read_kernel_spec(kernels_folder() / "matvec");
}

/// The default variants of a type that this processor can run.
std::vector<fs::path> variants_of(ElementType type) {
  return default_variants(program_folder() / "kernels", "matvec", to_string(type));
}

/// Throws KernelFault where a variant is wrong.
void verify(const fs::path& library, const KernelProblem& problem) {
  const KernelSpec spec = matvec();
  Judge judge(spec, problem, 5);
  Contestant variant("a variant", judge.contest(), (program_folder() / "haqa-kernel").string(), 2,
                     judge.weights_limit({}), {library.string()}, /*is_confined=*/true);
  judge.verify(variant, /*quick=*/false);
}

/// As it ships, little optimized as that compiles in less time.
SourceVariant source_for(ElementType type) {
  const KernelSpec spec = matvec();
  const KernelEngine& engine = spec.engines.at("cpu");
  return {read_file(engine.source),
          engine.space.defaults(),
          {"HAQA_WEIGHTS=" + std::to_string(weights_number(type))},
          {"-O1"}};
}

class WeightTypes : public testing::TestWithParam<ElementType> {};

TEST_P(WeightTypes, DefaultVariantsOfAllInstructionSetsAreRight) {
  for (const fs::path& library : variants_of(GetParam()))
    EXPECT_NO_THROW(verify(library, {GetParam(), {70, 3, 512}})) << library;
}

/// Neither instructions beyond those that every processor has nor the widest vectors.
TEST_P(WeightTypes, WhatIsCompiledForAnyProcessorIsRight) {
  if (installed_compilers().empty()) GTEST_SKIP() << "there is no compiler";
  SourceVariant variant = source_for(GetParam());
  variant.parameters["row_groups"] = 2;
#if defined(__x86_64__)
  variant.options.emplace_back("-march=x86-64");
#endif
  EXPECT_NO_THROW(verify(compile(variant).library, {GetParam(), {70, 3, 512}}));
}

/// A vector of rows at a time, of which a tile takes two: the second is another thread's.
TEST_P(WeightTypes, ThreadsThatShareVectorByVectorWriteNothingOfOthers) {
  if (installed_compilers().empty()) GTEST_SKIP() << "there is no compiler";
  SourceVariant variant = source_for(GetParam());
  variant.parameters["share_rows"] = 16;
  variant.parameters["sharing"] = "dynamic";
  EXPECT_NO_THROW(verify(compile(variant).library, {GetParam(), {37, 23, 256}}));
}

TEST_P(WeightTypes, ArePackedInAsManyBytesAndUnpackedAsTheyWere) {
  const KernelSpec spec = matvec();
  for (const fs::path& library : variants_of(GetParam())) {
    std::string why;
    const KernelFunctions packing = open_kernel(library, why);
    ASSERT_TRUE(packing.can_pack() && packing.can_pack_for_host()) << library << why;
    for (const int64_t rows : {1, 128, 201}) {
      const TensorShape shape = tensors_of(spec, {GetParam(), {rows, 1, 768}}).front();
      const auto size = static_cast<size_t>(shape.bytes());
      std::vector<std::byte> raw(size), back(size);
      FastRandom random(static_cast<uint64_t>(rows));
      draw(spec.arguments[0], shape, Distribution::normal, random, raw.data());
      haqa_tensor weights = {raw.data(), {768, rows, 1}, {shape.nb[0], shape.nb[1], shape.nb[2]}};
      const int64_t bytes = packing.packed_bytes(&weights);
      EXPECT_LE(bytes, (rows + 15) / 16 * 16 * shape.row + 63) << library << rows;
      std::vector<std::byte> whole(static_cast<size_t>(bytes)), parts(whole.size());
      packing.pack(&weights, whole.data());
      for (int64_t row = 0; row < rows; row += 64)
        packing.pack_rows(&weights, parts.data(), row, std::min(rows, row + 64));
      EXPECT_EQ(whole, parts) << library << rows;
      weights.data = back.data();
      packing.unpack(&weights, whole.data());
      EXPECT_EQ(raw, back) << library << rows;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, WeightTypes,
                         testing::Values(ElementType::f16, ElementType::bf16, ElementType::q8_0, ElementType::q4_0,
                                         ElementType::q4_k, ElementType::q6_k, ElementType::iq4_nl),
                         [](const auto& tested) { return std::string(to_string(tested.param)); });

}  // namespace
}  // namespace haqa
