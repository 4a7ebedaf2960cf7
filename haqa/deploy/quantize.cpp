#include "haqa/deploy/quantize.h"

#include "haqa/base/file.h"
#include "haqa/model/quant_rules.h"

namespace haqa {

std::string model_stem(const std::filesystem::path& file) {
  std::string stem = file.stem().string();
  for (const char* suffix : {"-f16", "-F16", ".f16", ".F16", "-bf16", "-BF16", "-f32", "-F32", "-q8_0", "-Q8_0"})
    if (stem.ends_with(suffix) && stem.size() > std::string_view(suffix).size())
      return stem.substr(0, stem.size() - std::string_view(suffix).size());
  return stem;
}

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
