#include "haqa/plugin/kernels.h"

#include <algorithm>
#include <array>

#include "haqa/plugin/log.h"

namespace haqa {
namespace {

/// Kernels without weights, and those with each of their types.
constexpr std::array kNames = {"rms_norm-F32",   "rms_norm_mul-F32", "silu-F32",     "swiglu-F32",  "attention-F16",
                               "attention-Q8_0", "matvec-F16",       "matvec-BF16",  "matvec-Q8_0", "matvec-Q4_0",
                               "matvec-Q4_K",    "matvec-Q6_K",      "matvec-IQ4_NL"};

std::string name_of(ggml_type type) {
  std::string name = ggml_type_name(type);
  for (char& c : name)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return name;
}

KernelFunctions default_kernel(const std::filesystem::path& folder, std::string_view name) {
  const size_t dash = name.find('-');
  for (const auto& file : default_variants(folder, name.substr(0, dash), name.substr(dash + 1)))
    if (std::string why; const KernelFunctions f = open_kernel(file, why, name)) return f;
  return {};
}

/// How much of the weights' shape it is for.
int exactness(const TunedKernel& k) {
  return (k.rows > 0) + (k.columns > 0);
}

/// Nothing, with a line in the log, where it cannot do what its entry in the tuning file says.
KernelFunctions tuned_kernel(const TunedKernel& tuned, const std::string& name) {
  const bool is_packed = tuned.kernel == "matvec";
  std::string why;
  const KernelFunctions f = open_kernel(tuned.opened.name(), why, name);
  if (f && is_packed && !f.can_pack_for_host()) why = "it has no functions to pack weights in parts and back";
  if (f && !is_packed && exactness(tuned) > 0) why = "it has no weights whose rows and columns could be named";
  if (why.empty()) {
    log_info(name + " is computed by " + tuned.file.string());
    return f;
  }
  log_warning(tuned.file.string() + ": " + why + "; the default serves");
  return {};
}

bool is_known(std::string_view name) {
  return std::any_of(kNames.begin(), kNames.end(),
                     [&](std::string_view known) { return name == known || name == known.substr(0, known.find('-')); });
}

void warn_of_unknown(const Tuning& tuning) {
  for (const std::string& name : tuning.stock)
    if (!is_known(name)) log_warning("the tuning file leaves " + name + " to stock code, which is no kernel here");
  for (const TunedKernel& k : tuning.kernels)
    if (const std::string name = k.kernel + "-" + k.type; !is_known(name))
      log_warning("the tuning file has a variant of " + name + ", which is no kernel here");
}

}  // namespace

Kernels::Kernels(const std::filesystem::path& folder, const Tuning& tuning) {
  warn_of_unknown(tuning);
  const auto names_stock = [&](std::string_view name) {
    return std::find(tuning.stock.begin(), tuning.stock.end(), name) != tuning.stock.end();
  };
  const auto is_stock = [&](const std::string& name) {
    const std::string kernel = name.substr(0, name.find('-'));
    // What stock code computes in two steps, it computes both of.
    const bool is_part = kernel == "rms_norm" && (names_stock("rms_norm_mul") || names_stock("rms_norm_mul-F32"));
    return names_stock(name) || names_stock(kernel) || is_part;
  };
  for (const int exact : {2, 1, 0})
    for (const TunedKernel& tuned : tuning.kernels) {
      const std::string name = tuned.kernel + "-" + tuned.type;
      if (exactness(tuned) != exact || is_stock(name) || !is_known(name)) continue;
      if (const KernelFunctions f = tuned_kernel(tuned, name))
        kernels_.emplace(name, ForShape{tuned.rows, tuned.columns, f});
    }
  for (const std::string name : kNames) {
    if (is_stock(name)) continue;
    if (const KernelFunctions f = default_kernel(folder, name)) kernels_.emplace(name, ForShape{0, 0, f});
  }
}

const KernelFunctions* Kernels::of_weights(const ggml_tensor& weights) const {
  if (weights.ne[2] != 1 || weights.ne[3] != 1 || !ggml_is_contiguous(&weights)) return nullptr;
  if (ggml_is_quantized(weights.type) && weights.ne[0] % 32 != 0) return nullptr;
  const auto [first, end] = kernels_.equal_range("matvec-" + name_of(weights.type));
  for (auto it = first; it != end; ++it) {
    const ForShape& k = it->second;
    if ((k.rows == 0 || k.rows == weights.ne[1]) && (k.columns == 0 || k.columns == weights.ne[0]))
      return k.functions.can_pack_for_host() ? &k.functions : nullptr;
  }
  return nullptr;
}

const KernelFunctions* Kernels::find(std::string_view name) const {
  const auto it = kernels_.find(name);
  return it == kernels_.end() ? nullptr : &it->second.functions;
}

bool Kernels::has_products() const {
  return std::any_of(kernels_.begin(), kernels_.end(), [](const auto& entry) {
    return entry.first.starts_with("matvec-") && entry.second.functions.can_pack_for_host();
  });
}

}  // namespace haqa
