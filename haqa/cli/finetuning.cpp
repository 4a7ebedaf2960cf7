#include "haqa/cli/finetuning.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/text.h"
#include "haqa/cli/agent_setup.h"
#include "haqa/deploy/bundle.h"
#include "haqa/hardware/detect.h"
#include "haqa/report/findings.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

/// What the prompt calls the frozen weights, and the prompt with their code.
struct BaseWords {
  std::string name, prompt;
};

BaseWords words_of_base(const std::string& base) {
  if (base == "gguf") return {"as they are", "finetune_fp16"};
  if (base == "int8") return {"quantized by LLM.int8", "finetune_int8"};
  return {"quantized to NF4 with double quantization", "finetune_nf4"};
}

std::string describe_lengths(const FinetuneObjective& objective) {
  const int context = objective.setup().context;
  return objective.plain_texts()
             ? fmt::format("Texts longer than {} tokens are divided; the loss is of all their tokens.", context)
             : fmt::format("Examples are cut to {} tokens; the loss is of the responses alone.", context);
}

/// As far as it is known; 0: not.
uint64_t free_bytes(const std::string& device) {
  if (device == "cpu") return read_memory().free_bytes;
  const std::vector<Gpu> gpus = cuda_gpus();
  if (gpus.empty()) throw UsageError("finetune.device: there is no CUDA GPU here; take cpu");
  return gpus.front().free_bytes;
}

}  // namespace

const FinetuneTask& finetune_section(const Task& task) {
  if (!task.finetune) throw UsageError("{}: has no section finetune; docs/finetune.md shows one", task.file.string());
  const bool asks = task.finetune->sampler.empty() || asks_agent(task.finetune->sampler);
  if (asks && task.agent.provider == "self")
    throw UsageError("{}: agent.provider self is for runs without a fine-tuning; take expert, openai or manual",
                     task.file.string());
  return *task.finetune;
}

FinetuneSetup finetune_setup(const FinetuneTask& finetune) {
  FinetuneSetup setup = finetune.setup;
  setup.memory_free = free_bytes(setup.device);
  return setup;
}

Track finetune_track(const FinetuneObjective& objective, const SearchSpace& space, const Json& before) {
  const FinetuneSetup& setup = objective.setup();
  const ModelInfo& m = objective.model();
  const Prompts prompts = agent_prompts();
  const BaseWords base = words_of_base(training_base(setup));
  const std::map<std::string, std::string> structure = {
      {"n_layer", std::to_string(m.n_layer)},
      {"n_embd", std::to_string(m.n_embd)},
      {"n_head", std::to_string(m.n_head)},
      {"n_head_kv", std::to_string(m.n_head_kv)},
      {"n_ff", std::to_string(m.n_ff)},
      {"n_vocab", std::to_string(m.n_vocab)},
      {"targets", fmt::format("{}", fmt::join(setup.lora_targets, ", "))},
      {"quantizer", prompts.render(base.prompt, {})}};
  Track track;
  track.name = kFinetuneTrack;
  track.space = space;
  track.value_name = "accuracy";
  track.direction = Direction::maximize;
  track.brief = prompts.render(
      "finetune",
      {{"model", fmt::format("{} ({}, {:.3g} billion parameters)", m.name, m.architecture,
                             static_cast<double>(m.parameters()) * 1e-9)},
       {"bit_width", std::string(to_string(setup.bit_width))},
       {"base", base.name},
       {"gguf_type", objective.gguf_type()},
       {"adapter", setup.merged ? "with the adapter merged into its weights before they are quantized"
                                : "with the adapter beside its weights"},
       {"schedule", setup.schedule},
       {"compute", setup.compute},
       {"examples", fmt::format("{} ({} examples)", setup.examples.filename().string(), objective.n_examples())},
       {"lengths", describe_lengths(objective)},
       {"tasks", fmt::format("{}", fmt::join(setup.tasks, ", "))},
       {"questions", std::to_string(setup.limit)},
       {"before", to_line(before)},
       {"memory", setup.memory_limit ? fmt::format("A training that needs more than {} of memory fails.",
                                                   format_bytes(*setup.memory_limit))
                                     : ""},
       {"code", prompts.render("finetune_code", structure)}});
  return track;
}

Finetuning::Finetuning(const FinetuneSetup& setup, const SearchSpace& space, RunLog& log,
                       const std::vector<Trial>& trials, Progress& progress)
    : TrainingRounds(space, log, trials, progress), objective_(setup, space_, log.folder(), shown_by(progress)) {}

void Finetuning::begin() {
  require_same_inputs();
  progress_.step(fmt::format("the model as {}", objective_.gguf_type()));
  const fs::path base = objective_.base();
  progress_.done();
  before_ = untuned(objective_.gguf_type(), base);
  track_ = finetune_track(objective_, space_, before_);
}

const Trial* Finetuning::improvement() const {
  const Trial* found = best();
  constexpr double kRounded = 1e-6;  // what was written down, to six digits
  return found && *found->value >= before_.at("mean").get<double>() - kRounded ? found : nullptr;
}

fs::path Finetuning::adapter(const Trial& trial) const {
  return objective_.adapter_folder(trial.configuration) / "adapter.gguf";
}

void Finetuning::write_adapter(const fs::path& folder) const {
  const fs::path from = objective_.adapter_folder(best()->configuration);
  make_folder(folder / "adapter");
  link_or_copy(from / "adapter.gguf", folder / "adapter.gguf");
  for (const fs::directory_entry& entry : fs::directory_iterator(from / "adapter"))
    link_or_copy(entry.path(), folder / "adapter" / entry.path().filename());
}

Json Finetuning::measured(const std::string& step, const fs::path& model, const fs::path& adapter, Half half,
                          const std::string& type_k, const std::string& type_v) {
  // The same file is the same whatever it is measured as: held-out questions are looked at once.
  const auto named = [](const fs::path& file) { return file.empty() ? "none" : fs::absolute(file).string(); };
  const std::string what =
      fmt::format("{} {} {} {} {}", named(model), named(adapter), half == Half::held_out, type_k, type_v);
  if (const auto known = measured_.find(what); known != measured_.end()) return known->second;
  return measured_[what] =
             accuracy_of(step, [&] { return to_json(objective_.accuracy(model, adapter, half, type_k, type_v)); });
}

Json Finetuning::untuned(const std::string& gguf_type, const fs::path& model) {
  return measured(fmt::format("untuned {}: validation", gguf_type), model, {}, Half::validation);
}

}  // namespace haqa
