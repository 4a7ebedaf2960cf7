#include "haqa/cli/kernel_problems.h"

#include <algorithm>
#include <set>

#include "haqa/base/error.h"

namespace haqa {
namespace {

constexpr int64_t kContext = 1024, kBatch = 128;

bool is_known(const std::string& type) {
  return type == "F16" || type == "Q8_0" || type == "Q4_0";
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
    all.push_back({"swiglu", {ElementType::f32, {model.n_ff, n, 1}}});
  }
  std::set<std::pair<std::string, Shape>> products;
  for (const TensorInfo& t : model.tensors)
    if (is_product(t, model)) products.emplace(is_known(t.type) ? t.type : "", Shape{t.shape[1], 1, t.shape[0]});
  for (const auto& [type, shape] : products)
    for (const std::string& as : type.empty() ? std::vector<std::string>{"F16", "Q8_0", "Q4_0"} : std::vector{type})
      all.push_back({"matvec", {element_type_from(as), shape}});
  return all;
}

}  // namespace haqa
