#include <fmt/format.h>

#include "haqa/base/bytes.h"
#include "haqa/base/file.h"
#include "haqa/cli/facts.h"
#include "haqa/cli/finetune_run.h"
#include "haqa/cli/finetuning.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

/// To an adapter, and the model with it.
class LlamaRun : public FinetuneRun {
 public:
  LlamaRun(const Task& task, RunLog& log, Progress& progress)
      : FinetuneRun(task, log, progress),
        finetuning_(finetune_setup(finetune_), space_, log, log.finished(), progress),
        merged_(log.folder() / fmt::format("model-merged-{}.gguf", finetuning_.objective().gguf_type())) {
    if (task.memory_limit && !finetune_.setup.memory_limit)
      progress.note("memory_limit is the deployed model's; a training's would be finetune.memory_limit");
  }

 private:
  TrainingRounds& rounds() override { return finetuning_; }
  void write_files() override;
  Json measure_held_out() override;
  Json description() override;

  Finetuning finetuning_;
  const fs::path merged_;
};

void LlamaRun::write_files() {
  log_.once("files", [&] {
    finetuning_.write_adapter(log_.folder());
    const FinetuneObjective& objective = finetuning_.objective();
    progress_.step(
        fmt::format("merging round {} and quantizing to {}", finetuning_.best()->number + 1, objective.gguf_type()));
    fs::rename(objective.merged(finetuning_.best()->configuration, objective.gguf_type()), merged_);
    progress_.done(fmt::format("{}: {}", merged_.string(), format_bytes(fs::file_size(merged_))));
    return Json();
  });
}

Json LlamaRun::measure_held_out() {
  Json held_out = Json::object();
  const fs::path base = finetuning_.objective().base();
  const auto measured = [&](const char* key, const fs::path& model, const fs::path& adapter) {
    held_out[key] = finetuning_.measured(fmt::format("{}: held-out", key), model, adapter, Half::held_out);
  };
  const Trial& first = log_.finished().front();
  measured("base", base, {});
  if (has_finite_value(first)) measured("defaults", base, finetuning_.adapter(first));
  measured("best", base, finetuning_.adapter(*finetuning_.best()));
  measured("merged", merged_, {});
  return held_out;
}

Json LlamaRun::description() {
  const fs::path folder = log_.folder();
  return {{"model", to_json(finetuning_.objective().model())},
          {"files",
           {{"base", finetuning_.objective().base().string()},
            {"adapter", (folder / "adapter.gguf").string()},
            {"peft", (folder / "adapter").string()},
            {"merged", merged_.string()}}}};
}

}  // namespace

std::unique_ptr<FinetuneRun> make_llama_run(const Task& task, RunLog& log, Progress& progress) {
  return std::make_unique<LlamaRun>(task, log, progress);
}

}  // namespace haqa
