#include "haqa/variants/graph_kernels.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>

namespace haqa {
namespace {

constexpr int64_t kLongestPrompt = 128;

std::optional<ElementType> packed_type(const std::string& name) {
  for (const ElementType type : {ElementType::f16, ElementType::bf16, ElementType::q8_0, ElementType::q4_0,
                                 ElementType::q4_k, ElementType::q6_k, ElementType::iq4_nl})
    if (name == to_string(type)) return type;
  return std::nullopt;
}

/// Those of the layers, and the one that every token's probabilities come from.
bool is_product(const TensorInfo& t, const ModelInfo& model) {
  const bool is_output = t.name == (model.tied_output ? "token_embd.weight" : "output.weight");
  return (is_output || t.name.starts_with("blk.")) && t.shape.size() == 2 && t.shape[1] > 1;
}

/// As many rows as the judge's memory holds; more of them are computed alike.
int64_t judged_rows(ElementType type, int64_t rows, int64_t columns) {
  return std::min(rows, kMostTensorBytes / 2 / row_bytes(type, columns));
}

/// One for each type of weights: all its shapes for a token, the one with most bytes first, then all for a prompt.
std::vector<GraphKernel> products(const ModelInfo& model, int64_t prompt) {
  std::map<ElementType, std::map<std::pair<int64_t, int64_t>, double>> bytes;
  for (const TensorInfo& t : model.tensors)
    if (const auto type = packed_type(t.type); type && is_product(t, model) && t.shape[0] % block_length(*type) == 0)
      bytes[*type][{judged_rows(*type, t.shape[1], t.shape[0]), t.shape[0]}] += static_cast<double>(t.bytes);
  std::vector<GraphKernel> all;
  for (const auto& [type, shapes] : bytes) {
    GraphKernel kernel{"matvec", type, {}, 0};
    double most = 0;
    for (const auto& [shape, of_shape] : shapes) {
      const KernelProblem problem{type, {shape.first, 1, shape.second}};
      kernel.problems.insert(of_shape > most ? kernel.problems.begin() : kernel.problems.end(), problem);
      most = std::max(most, of_shape);
      kernel.share += of_shape;
    }
    for (size_t i = 0, token = kernel.problems.size(); i < token; ++i)
      kernel.problems.push_back({type, {kernel.problems[i].shape[0], prompt, kernel.problems[i].shape[2]}});
    all.push_back(std::move(kernel));
  }
  return all;
}

std::optional<GraphKernel> attention(const ModelInfo& m, const RuntimeOptions& options, const Workload& workload,
                                     int64_t prompt) {
  if (options.flash_attention == "off" || options.cache_type_k != options.cache_type_v) return std::nullopt;
  if (options.cache_type_k != "f16" && options.cache_type_k != "q8_0") return std::nullopt;
  if (m.n_embd_head_k != m.n_embd_head_v || m.n_embd_head_k % 8 != 0 || m.n_head_kv < 1) return std::nullopt;
  const ElementType type = options.cache_type_k == "f16" ? ElementType::f16 : ElementType::q8_0;
  if (m.n_embd_head_k % block_length(type) != 0) return std::nullopt;
  const int64_t positions = workload.prompt_tokens + workload.generate_tokens / 2;
  const double row = static_cast<double>(row_bytes(type, m.n_embd_head_k));
  return GraphKernel{"attention",
                     type,
                     {{type, {m.n_embd_head_k, 1, positions, m.n_head, m.n_head_kv}},
                      {type, {m.n_embd_head_k, prompt, prompt, m.n_head, m.n_head_kv}}},
                     2 * row * static_cast<double>(positions * m.n_head_kv * m.n_layer)};
}

/// Of rows of activations, as often as a layer has it.
GraphKernel of_rows(const std::string& kernel, int64_t width, int64_t prompt, double times) {
  const ElementType type = ElementType::f32;
  return {kernel, type, {{type, {width, 1, 1}}, {type, {width, prompt, 1}}}, 8 * times * static_cast<double>(width)};
}

}  // namespace

std::string GraphKernel::name() const {
  return fmt::format("{}-{}", kernel, to_string(type));
}

std::vector<GraphKernel> kernels_of_graph(const ModelInfo& model, const RuntimeOptions& options,
                                          const Workload& workload) {
  if (model.architecture != "llama") return {};
  const int64_t prompt = std::clamp<int64_t>(workload.prompt_tokens, 2, kLongestPrompt);
  std::vector<GraphKernel> all = products(model, prompt);
  if (auto found = attention(model, options, workload, prompt)) all.push_back(*std::move(found));
  all.push_back(of_rows("rms_norm_mul", model.n_embd, prompt, 2.0 * model.n_layer + 1));
  all.push_back(of_rows("swiglu", model.n_ff, prompt, 1.5 * model.n_layer));
  double sum = 0;
  for (const GraphKernel& k : all) sum += k.share;
  for (GraphKernel& k : all) k.share /= sum;
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.share > b.share; });
  return all;
}

}  // namespace haqa
