#include "haqa/cli/kernel_problems.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "haqa/base/error.h"

namespace haqa {
namespace {

using testing::UnorderedElementsAre;

/// A llama of one layer; the output has a matrix of its own unless it is tied.
ModelInfo model(bool tied) {
  ModelInfo m;
  m.architecture = "llama";
  m.n_embd = 64;
  m.n_head = 2;
  m.n_head_kv = 1;
  m.n_embd_head_k = 32;
  m.n_ff = 160;
  m.tied_output = tied;
  m.tensors = {{"token_embd.weight", "Q8_0", {64, 500}},   {"output_norm.weight", "F32", {64}},
               {"blk.0.attn_q.weight", "Q4_0", {64, 64}},  {"blk.0.attn_output.weight", "Q4_0", {64, 64}},
               {"blk.0.attn_v.weight", "Q4_K", {256, 32}}, {"blk.0.ffn_down.weight", "Q5_K", {160, 64}},
               {"blk.0.attn_norm.weight", "F32", {64}},    {"blk.0.ffn_gate_inp.weight", "Q4_0", {64, 1}}};
  if (!tied) m.tensors.push_back({"output.weight", "F16", {64, 500}});
  return m;
}

std::vector<std::string> products_of(const ModelInfo& m) {
  std::vector<std::string> labels;
  for (const SuiteEntry& e : kernels_of_model(m))
    if (e.kernel == "matvec") labels.push_back(e.problem.label());
  return labels;
}

TEST(KernelsOfModelTest, ProductsAreItsMatricesAndItsOutput) {
  // One that it has in a type that is not known here is taken in each that is.
  EXPECT_THAT(products_of(model(false)), UnorderedElementsAre("Q4_0 [64,1,64]", "F16 [64,1,160]", "Q8_0 [64,1,160]",
                                                              "Q4_0 [64,1,160]", "Q4_K [32,1,256]", "F16 [500,1,64]"));
  EXPECT_THAT(products_of(model(true)), UnorderedElementsAre("Q4_0 [64,1,64]", "F16 [64,1,160]", "Q8_0 [64,1,160]",
                                                             "Q4_0 [64,1,160]", "Q4_K [32,1,256]", "Q8_0 [500,1,64]"));
}

TEST(KernelsOfModelTest, OthersAreOfOneTokenAndOfABatch) {
  std::vector<std::string> others;
  for (const SuiteEntry& e : kernels_of_model(model(true)))
    if (e.kernel != "matvec") others.push_back(e.kernel + " " + e.problem.label());
  EXPECT_THAT(others, UnorderedElementsAre("rms_norm_mul [64,1,1]", "rms_norm_mul [64,128,1]", "rope [32,2,1]",
                                           "rope [32,2,128]", "softmax [1024,1,2]", "softmax [1024,128,2]",
                                           "swiglu [160,1,1]", "swiglu [160,128,1]", "attention F16 [32,1,1024,2,1]",
                                           "attention F16 [32,128,1024,2,1]"));
}

TEST(KernelsOfModelTest, AnotherArchitectureIsRefused) {
  ModelInfo gpt2 = model(true);
  gpt2.architecture = "gpt2";
  EXPECT_THROW(kernels_of_model(gpt2), UsageError);
}

}  // namespace
}  // namespace haqa
