#include "haqa/deploy/quantize.h"

#include "haqa/base/file.h"
#include "haqa/model/quant_rules.h"

namespace haqa {

void quantize_model(const ModelInfo& model, std::string_view gguf_type, const std::filesystem::path& output,
                    bool allow_requantize, const std::function<void(double)>& progress) {
  if (std::filesystem::exists(output)) return;
  const std::string purpose = "the " + std::string(gguf_type) + " file";
  require_space(output.parent_path(), quantized_bytes(model, gguf_type) + (1u << 24), purpose);
  PendingFile pending(output);  // ours, as a worker that is killed cleans nothing up
  const Json request = {{"command", "quantize"},
                        {"model", model.file.string()},
                        {"output", pending.path().string()},
                        {"type", gguf_type},
                        {"allow_requantize", allow_requantize}};
  call_worker("haqa-infer", request, {}, progress);
  pending.commit();
}

}  // namespace haqa
