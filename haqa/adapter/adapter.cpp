#include "haqa/adapter/adapter.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <unordered_map>

#include "haqa/adapter/gguf_adapter.h"
#include "haqa/adapter/peft.h"
#include "haqa/base/error.h"
#include "haqa/base/text.h"

namespace haqa {
namespace {

/// What messages begin with.
std::string named(const LoraAdapter& adapter) {
  return adapter.file.empty() ? "the adapter" : adapter.file.string();
}

void check_numbers(const LoraAdapter& adapter, const ModelInfo& model) {
  if (adapter.pairs.empty()) throw Error("{}: adapts no tensor; name an adapter that was trained", named(adapter));
  if (adapter.rank < 1 || !std::isfinite(adapter.alpha) || adapter.alpha <= 0)
    throw Error("{}: has rank {} and alpha {}; both must be above zero", named(adapter), adapter.rank, adapter.alpha);
  if (adapter.rank > model.n_embd)
    throw Error("{}: its rank, {}, is above the width of {}, {}; choose a smaller rank", named(adapter), adapter.rank,
                model.name, model.n_embd);
}

void check_pair(const LoraAdapter& adapter, const LoraPair& pair, const TensorInfo& tensor, const ModelInfo& model) {
  const auto rank = static_cast<size_t>(adapter.rank);
  const auto in = static_cast<size_t>(tensor.shape[0]), out = static_cast<size_t>(tensor.shape[1]);
  if (pair.a.size() != rank * in || pair.b.size() != out * rank)
    throw Error("{}: changes a matrix of {} x {} where {} has \"{}\" of {} x {}; it is an adapter for another model",
                named(adapter), pair.b.size() / rank, pair.a.size() / rank, model.name, pair.tensor, out, in);
  const auto finite = [](float value) { return std::isfinite(value); };
  if (!std::all_of(pair.a.begin(), pair.a.end(), finite) || !std::all_of(pair.b.begin(), pair.b.end(), finite))
    throw Error("{}: has infinite or undefined numbers for \"{}\"; train it again with a lower learning rate",
                named(adapter), pair.tensor);
}

}  // namespace

std::vector<std::string> lora_targets() {
  return {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
}

bool is_lora_target(std::string_view tensor, std::span<const std::string> targets) {
  return std::any_of(targets.begin(), targets.end(), [&](const std::string& target) {
    return tensor.find("." + target + ".") != std::string_view::npos;
  });
}

void check_matches(const LoraAdapter& adapter, const ModelInfo& model) {
  check_numbers(adapter, model);
  std::unordered_map<std::string, const TensorInfo*> tensors;
  for (const TensorInfo& tensor : model.tensors) tensors.emplace(tensor.name, &tensor);
  std::set<std::string> seen;
  for (const LoraPair& pair : adapter.pairs) {
    const std::string name = one_line(pair.tensor, 100);
    if (!seen.insert(pair.tensor).second) throw Error("{}: adapts \"{}\" twice", named(adapter), name);
    if (pair.tensor == "token_embd.weight")
      throw Error("{}: adapts the token embedding, which is not supported; adapt linear layers", named(adapter));
    const auto found = tensors.find(pair.tensor);
    if (found == tensors.end())
      throw Error("{}: adapts \"{}\", which {} does not have; it is an adapter for another model", named(adapter), name,
                  model.name);
    if (found->second->shape.size() != 2)
      throw Error("{}: adapts \"{}\", which is no matrix; adapt linear layers", named(adapter), name);
    check_pair(adapter, pair, *found->second, model);
  }
}

LoraAdapter read_adapter(const std::filesystem::path& file, const ModelInfo& model) {
  return std::filesystem::is_directory(file) ? read_peft(file, model) : read_gguf_adapter(file, model);
}

}  // namespace haqa
