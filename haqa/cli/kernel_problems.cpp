#include "haqa/cli/kernel_problems.h"

#include <algorithm>
#include <set>

#include "haqa/base/error.h"

namespace haqa {
namespace {

constexpr int64_t kContext = 1024, kBatch = 128;

/// Of the weights that matvec multiplies with; one of another type will be quantized or converted to one of the last.
std::vector<ElementType> types_of_product(const std::string& type) {
  using enum ElementType;
  for (const ElementType known : {bf16, q4_k, q6_k, iq4_nl, f16, q8_0, q4_0})
    if (type == to_string(known)) return {known};
  return {f16, q8_0, q4_0};
}

/// Those of the layers, and the one that every token's probabilities come from: the largest.
bool is_product(const TensorInfo& t, const ModelInfo& model) {
  const bool is_output = t.name == (model.tied_output ? "token_embd.weight" : "output.weight");
  return (is_output || t.name.starts_with("blk.")) && t.shape.size() == 2 && t.shape[1] > 1;
}

}  // namespace

std::vector<SuiteEntry> kernels_of_model(const ModelInfo& model) {
  if (model.architecture != "llama")
    throw UsageError("{}: its kernels are not known, as it is {} and no llama", model.file.string(),
                     model.architecture);
  std::vector<SuiteEntry> all;
  for (const int64_t n : {int64_t{1}, kBatch}) {
    all.push_back({"rms_norm_mul", {ElementType::f32, {model.n_embd, n, 1}}});
    all.push_back({"rope", {ElementType::f32, {model.n_embd_head_k, model.n_head, n}}});
    all.push_back({"softmax", {ElementType::f32, {kContext, n, model.n_head}}});
    if (model.n_embd_head_k % 8 == 0 && model.n_head_kv > 0)
      all.push_back(
          {"attention", {ElementType::f16, {model.n_embd_head_k, n, kContext, model.n_head, model.n_head_kv}}});
    all.push_back({"swiglu", {ElementType::f32, {model.n_ff, n, 1}}});
  }
  std::set<std::pair<ElementType, Shape>> products;
  for (const TensorInfo& t : model.tensors)
    if (is_product(t, model))
      for (const ElementType type : types_of_product(t.type)) products.emplace(type, Shape{t.shape[1], 1, t.shape[0]});
  for (const auto& [type, shape] : products) all.push_back({"matvec", {type, shape}});
  return all;
}

}  // namespace haqa
