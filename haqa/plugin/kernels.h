#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "haqa/kernel/kernel_library.h"
#include "haqa/plugin/ggml.h"
#include "haqa/plugin/tuning.h"

namespace haqa {

/// The kernels that this process runs: those of the tuning file, else the defaults that ship with the module. Pointers
/// into it stay valid as long as it lives.
class Kernels {
 public:
  /// Opens what `tuning` names and, for the rest, the defaults in `folder`. What cannot be used is said in the log.
  /// `tuning` is to live on: its files stay open, so that none that is opened later has the name of one in use.
  Kernels(const std::filesystem::path& folder, const Tuning& tuning);

  /// For products with these weights, which may be packed for it: a matrix of a type that there is a kernel for. Null
  /// where stock code serves.
  const KernelFunctions* of_weights(const ggml_tensor& weights) const;
  /// "rms_norm-F32", "attention-Q8_0": of what is not packed, and so of no shape; null where stock code serves.
  const KernelFunctions* find(std::string_view name) const;
  /// Whether there is a kernel for products with weights of any type.
  bool has_products() const;

 private:
  struct ForShape {
    int64_t rows = 0, columns = 0;  ///< of the weights; 0 for any
    KernelFunctions functions;
  };
  std::multimap<std::string, ForShape, std::less<>>
      kernels_;  ///< by kernel and type, those for more exact shapes first
};

}  // namespace haqa
