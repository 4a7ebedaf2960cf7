#include "haqa/cli/quality_check.h"

#include <fmt/format.h>

#include "haqa/base/file.h"
#include "haqa/worker/worker.h"

namespace haqa {

namespace fs = std::filesystem;

namespace {
constexpr double kQualityTimeout = 4 * 3600;
}

fs::path QualityCheck::reference_file() const {
  return log_.folder() / "models/reference.logits";
}

Json QualityCheck::request(const char* command) const {
  const fs::path text = task_.calibration.empty() ? data_folder() / "calibration.txt" : task_.calibration;
  return {{"command", command},
          {"model", task_.model.string()},
          {"text", text.string()},
          {"threads", threads_},
          {"reference", reference_file().string()}};
}

/// The given file as the measure of the others: its perplexity, and its logits in a file. A fault here, of the
/// calibration text say, is no format's: it ends the run.
Json QualityCheck::reference() {
  Json asked = request("reference");
  const fs::path file = reference_file();
  const auto measure = [&] {
    make_folder(file.parent_path());
    PendingFile pending(file);  // ours, as a worker that is killed cleans nothing up
    asked["reference"] = pending.path().string();
    progress_.step(fmt::format("quality: reference {}", model_.main_type()));
    const Json result =
        call_worker("haqa-infer", asked, {kQualityTimeout, 0}, [&](double share) { progress_.update(share); });
    progress_.done(fmt::format("quality: reference {}: perplexity {:.4g} over {} tokens", model_.main_type(),
                               result["perplexity"].get<double>(), result["tokens"].get<int>()));
    pending.commit();
    return result;
  };
  const Json measured = log_.once("quality_reference", measure);
  return fs::exists(file) ? measured : measure();  // someone may have removed it since
}

Json QualityCheck::loss(const std::string& gguf_type, const std::string& type_k, const std::string& type_v) {
  Json measured = log_.once(fmt::format("quality:{}:{}:{}", gguf_type, type_k, type_v), [&]() -> Json {
    const Json reference = this->reference();
    if (gguf_type == model_.main_type() && type_k == "f16" && type_v == "f16")
      return {{"perplexity", reference["perplexity"]},
              {"perplexity_ratio", 1.0},
              {"perplexity_ratio_error", 0.0},
              {"kl_divergence", 0.0},
              {"same_top", 1.0},
              {"tokens", reference["tokens"]}};
    Json asked = request("quality");
    asked["model"] = model_file_(gguf_type).string();
    asked["type_k"] = type_k;
    asked["type_v"] = type_v;
    progress_.step(fmt::format("quality of {}", gguf_type));
    const Json result =
        call_worker("haqa-infer", asked, {kQualityTimeout, 0}, [&](double share) { progress_.update(share); });
    progress_.done(fmt::format("quality of {} (cache {}/{}): perplexity x {:.4f}, KL divergence {:.5f}", gguf_type,
                               type_k, type_v, result["perplexity_ratio"].get<double>(),
                               result["kl_divergence"].get<double>()));
    return result;
  });
  const double loss = measured["perplexity_ratio"].get<double>() - 1;
  if (task_.max_quality_loss && !(loss <= *task_.max_quality_loss))
    measured["refused"] =
        fmt::format("it raises the perplexity by {:.2f} % (± {:.2f} %), more than the {:.2f} % allowed", 100 * loss,
                    100 * measured["perplexity_ratio_error"].get<double>(), 100 * *task_.max_quality_loss);
  return measured;
}

}  // namespace haqa
