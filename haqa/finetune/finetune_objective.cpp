#include "haqa/finetune/finetune_objective.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "haqa/adapter/gguf_adapter.h"
#include "haqa/adapter/merge.h"
#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/file_name.h"
#include "haqa/dataset/examples.h"
#include "haqa/deploy/evaluation.h"
#include "haqa/deploy/quantize.h"
#include "haqa/model/trainable.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

/// What the worker reads from a configuration. The names are those of data/spaces/llama.yaml.
constexpr std::array<Hyperparameter, 10> kHyperparameters = {{{"learning_rate", false, kAboveZero, kAny},
                                                              {"per_device_train_batch_size", true, 1, 1e6},
                                                              {"gradient_accumulation_steps", true, 1, 1e6},
                                                              {"weight_decay", false, 0, kAny},
                                                              {"max_steps", true, 1, 1e9},
                                                              {"max_grad_norm", false, kAboveZero, kAny},
                                                              {"lora_r", true, 1, 1e6},
                                                              {"lora_alpha", false, kAboveZero, kAny},
                                                              {"lora_dropout", false, 0, 1},
                                                              {"warmup_ratio", false, 0, 1}}};

std::vector<EvaluationTask> load_all(const std::vector<std::string>& names) {
  std::vector<EvaluationTask> tasks;
  for (const std::string& name : names) tasks.push_back(load_task(name));
  if (tasks.empty()) throw UsageError("no task to measure the accuracy on is named");
  return tasks;
}

void check_tasks(const FinetuneSetup& setup) {
  for (const EvaluationTask& task : load_all(setup.tasks)) {
    const fs::path file = rows_of(task, setup.data);
    read_items(task, file, ItemPart::validation, setup.limit);
    read_items(task, file, ItemPart::held_out, setup.held_out_limit);
  }
}

/// Ranks beyond the narrowest layer that gets an adapter add nothing, and fail in the worker.
void check_ranks(const SearchSpace& space, const ModelInfo& model, const std::vector<std::string>& targets) {
  for (const Parameter& p : space.parameters()) {
    if (p.name != "lora_r") continue;
    double largest = 0;
    for (const Json& value : values_within(p)) largest = std::max(largest, value.get<double>());
    for (const TensorInfo& t : model.tensors)
      if (is_lora_target(t.name, targets) && largest > static_cast<double>(std::min(t.shape[0], t.shape[1])))
        throw UsageError("the search space's 'lora_r' may be {}, above the width {} of '{}'; lower it", largest,
                         std::min(t.shape[0], t.shape[1]), t.name);
  }
}

ExampleFile read_examples(const FinetuneSetup& setup) {
  std::optional<ExampleForm> form;
  if (setup.form) form = example_form_from(*setup.form);
  return haqa::read_examples(setup.examples, form);
}

/// Lengths of the sequences that examples become, the longest first, without their vocabulary at hand: three bytes a
/// token, which is more tokens than text in English has. Plain texts are divided, others are cut, as
/// dataset/token_examples.h does.
std::vector<int64_t> estimated_lengths(const std::vector<Example>& examples, int64_t context) {
  std::vector<int64_t> lengths;
  for (const Example& example : examples) {
    size_t bytes = 0;
    for (const Segment& segment : example.segments) bytes += segment.text.size();
    auto tokens = static_cast<int64_t>(bytes / 3) + 2;
    for (; is_plain_text(example) && tokens > context; tokens -= context - 1) lengths.push_back(context);
    lengths.push_back(std::min(context, tokens));
  }
  std::sort(lengths.rbegin(), lengths.rend());
  return lengths;
}

/// What the quantizer is asked for to get a file mainly of this type: a file tells of a mixture no more than that.
std::string_view written_as(std::string_view gguf_type) {
  return gguf_type == "Q4_K" ? "Q4_K_M" : gguf_type;
}

/// A file that no one needs when this ends, whatever ends it.
struct Passing {
  fs::path file;
  explicit Passing(fs::path path) : file(std::move(path)) { remove(); }  // that of a process that was killed
  ~Passing() { remove(); }
  Passing(const Passing&) = delete;
  Passing& operator=(const Passing&) = delete;

 private:
  void remove() const {
    std::error_code ignored;
    fs::remove(file, ignored);
  }
};

}  // namespace

std::string training_base(const FinetuneSetup& setup) {
  switch (setup.bit_width) {
    case BitWidth::fp16:
      return "gguf";
    case BitWidth::int8:
      return setup.device == "cpu" ? "int8" : "gguf";
    case BitWidth::int4:
      break;
  }
  return "nf4_double";
}

ModelInfo check_finetune(const FinetuneSetup& setup, const SearchSpace& space) {
  check_hyperparameters(space, kHyperparameters);
  ModelInfo model = read_model(setup.model);
  check_trainable(model);
  check_ranks(space, model, setup.lora_targets);
  if (setup.bit_width < width_of_file(model))  // widest first in the enum
    throw UsageError("{}: holds {} weights, narrower than {}; set bit_width: {}", setup.model.string(),
                     model.main_type(), to_string(setup.bit_width), to_string(width_of_file(model)));
  if (setup.context > model.n_ctx_train)
    throw UsageError("examples of {} tokens are longer than what {} was made for, {}; set a smaller context",
                     setup.context, setup.model.string(), model.n_ctx_train);
  read_examples(setup);
  check_tasks(setup);
  return model;
}

Json input_fingerprints(const FinetuneSetup& setup) {
  const auto shown = [](uint64_t hash) { return fmt::format("{:016x}", hash); };
  Json all = {{setup.model.string(), shown(TensorData(setup.model).fingerprint())},
              {setup.examples.string(), shown(fnv1a_64(read_file(setup.examples)))}};
  for (const EvaluationTask& task : load_all(setup.tasks)) {
    const fs::path file = rows_of(task, setup.data);
    all[file.string()] = shown(fnv1a_64(read_file(file)));
  }
  return all;
}

TaskAccuracies accuracies(const Evaluation& evaluation) {
  TaskAccuracies all;
  for (const TaskRun& run : evaluation.runs) {
    const Accuracy& a = run.result.headline();
    all.tasks[run.task.name] = {{"accuracy", rounded(a.value)},
                                {"error", std::isnan(a.error) ? Json(nullptr) : Json(rounded(a.error))}};
  }
  const Accuracy mean = evaluation.mean().headline;
  all.mean = mean.value, all.error = mean.error;
  return all;
}

Json to_json(const TaskAccuracies& a) {
  return {{"tasks", a.tasks},
          {"mean", rounded(a.mean)},
          {"error", std::isnan(a.error) ? Json(nullptr) : Json(rounded(a.error))}};
}

namespace {

WorkerLimits worker_limits(const FinetuneSetup& setup) {
  const bool in_main_memory = setup.device == "cpu";
  return {setup.timeout_s, in_main_memory ? setup.memory_limit.value_or(0) : 0};
}

}  // namespace

FinetuneObjective::FinetuneObjective(FinetuneSetup setup, const SearchSpace& space, fs::path folder,
                                     std::function<void(std::string_view, double)> progress)
    : TrainingObjective(space, folder / "adapters", worker_limits(setup), setup.seed, std::move(progress)),
      setup_(std::move(setup)),
      folder_(fs::absolute(folder)),
      model_(check_finetune(setup_, space)) {
  const std::vector<Example> examples = read_examples(setup_).examples;
  n_examples_ = examples.size();
  plain_texts_ = is_plain_text(examples.front());
  lengths_ = estimated_lengths(examples, setup_.context);
}

std::string FinetuneObjective::gguf_type() const {
  return setup_.gguf_type.empty() ? std::string(gguf_types(setup_.bit_width).front()) : setup_.gguf_type;
}

fs::path FinetuneObjective::base() {
  if (model_.main_type() == gguf_type()) return setup_.model;
  const fs::path file = folder_ / "models" / fmt::format("{}-{}.gguf", model_stem(setup_.model), gguf_type());
  make_folder(file.parent_path());
  quantize_model(model_, gguf_type(), file, width_of_file(model_) != BitWidth::fp16,
                 [&](double share) { tell("quantizing", share); });
  return file;
}

fs::path FinetuneObjective::merged(const Configuration& configuration, const std::string& gguf_type) const {
  const fs::path folder = adapter_folder(configuration),
                 file = folder / fmt::format("{}-finetuned-{}.gguf", model_stem(setup_.model), gguf_type);
  if (fs::exists(file)) return file;
  const Passing whole(folder / "merged.gguf");
  merge(TensorData(setup_.model), read_adapter(folder / "adapter.gguf", model_), 1, whole.file, [&](double share) {
    check_interrupted();
    tell("merging", share);
  });
  const ModelInfo merged = read_model(whole.file);
  if (merged.main_type() == gguf_type)
    fs::rename(whole.file, file);
  else
    quantize_model(merged, written_as(gguf_type), file, false, [&](double share) { tell("quantizing", share); });
  return file;
}

TaskAccuracies FinetuneObjective::accuracy(const fs::path& model, const fs::path& adapter, Half half,
                                           const std::string& type_k, const std::string& type_v) const {
  EvaluationRequest request;
  request.model = model;
  request.adapter = adapter;
  request.tasks = load_all(setup_.tasks);
  request.data = setup_.data;
  const bool held_out = half == Half::held_out;
  request.part = held_out ? ItemPart::held_out : ItemPart::validation;
  request.limit = held_out ? setup_.held_out_limit : setup_.limit;
  request.threads = setup_.threads;
  request.type_k = type_k;
  request.type_v = type_v;
  return accuracies(evaluate_model(request, [&](double share) { tell("measuring accuracy", share); }));
}

TrainingMemory FinetuneObjective::memory(const Configuration& c) const {
  TrainingUse use;
  use.base = training_base(setup_);
  use.gpu = setup_.device != "cpu";
  use.optimizer_states = setup_.optimizer_states;
  use.targets = setup_.lora_targets;
  use.rank = c.value("lora_r", use.rank);
  use.dropout = c.value("lora_dropout", 0.05) > 0;
  use.bf16 = setup_.compute == "bf16";
  use.checkpointing = setup_.activation_checkpointing;
  const auto batch = static_cast<size_t>(std::max<int64_t>(1, c.value("per_device_train_batch_size", int64_t{8})));
  const auto end = lengths_.begin() + static_cast<std::ptrdiff_t>(std::min(batch, lengths_.size()));
  use.sequences = end - lengths_.begin();
  use.tokens = std::accumulate(lengths_.begin(), end, int64_t{0});
  return training_memory(model_, use);
}

std::optional<std::string> FinetuneObjective::too_large(const Configuration& configuration) const {
  const uint64_t needed = memory(configuration).total();
  if (setup_.memory_limit && needed > *setup_.memory_limit)
    return fmt::format("the training needs about {}, more than the limit of {}; a smaller batch{} takes less",
                       format_bytes(needed), format_bytes(*setup_.memory_limit),
                       setup_.activation_checkpointing ? "" : " or activation_checkpointing");
  if (setup_.memory_free > 0 && needed > setup_.memory_free)
    return fmt::format("the training needs about {}, more than the {} that are free; a smaller batch{} takes less",
                       format_bytes(needed), format_bytes(setup_.memory_free),
                       setup_.activation_checkpointing ? "" : " or activation_checkpointing");
  return std::nullopt;
}

Json FinetuneObjective::untuned(Half half) {
  return to_json(accuracy(base(), {}, half));
}

Json FinetuneObjective::tuned(const Configuration& configuration, Half half) {
  return to_json(accuracy(base(), trained_folder(configuration) / trained_file(), half));
}

Json FinetuneObjective::fingerprints() const {
  return input_fingerprints(setup_);
}

Json FinetuneObjective::request(const Configuration& configuration) const {
  Json request = {{"command", "finetune"},
                  {"model", setup_.model.string()},
                  {"examples", setup_.examples.string()},
                  {"folder", adapter_folder(configuration).string()},
                  {"context", setup_.context},
                  {"threads", setup_.threads},
                  {"seed", seed()},
                  {"method",
                   {{"base", training_base(setup_)},
                    {"device", setup_.device},
                    {"compute", setup_.compute},
                    {"optimizer_states", setup_.optimizer_states},
                    {"lora_targets", setup_.lora_targets},
                    {"activation_checkpointing", setup_.activation_checkpointing},
                    {"schedule", setup_.schedule}}},
                  {"configuration", configuration}};
  if (setup_.form) request["form"] = *setup_.form;
  return request;
}

Outcome FinetuneObjective::measure(const Configuration& configuration) {
  if (std::optional<std::string> why = too_large(configuration))
    return failure(FailReason::out_of_memory, std::move(*why));
  const Json trained = train(configuration);
  const TaskAccuracies found = setup_.merged
                                   ? accuracy(merged(configuration, gguf_type()), {}, Half::validation)
                                   : accuracy(base(), adapter_folder(configuration) / "adapter.gguf", Half::validation);
  Outcome outcome;
  outcome.value = found.mean;
  outcome.metrics = {{"error", to_json(found)["error"]}, {"tasks", found.tasks}};
  outcome.metrics["training"] = {{"losses", told_losses(trained.at("losses"))}};
  for (const char* name : {"validation_loss_before", "validation_loss"})
    if (const Json loss = trained.value(name, Json()); loss.is_number())
      outcome.metrics["training"][name] = std::round(loss.get<double>() * 1e4) / 1e4;
  if (const std::string note = trained.value("examples_note", ""); !note.empty()) outcome.metrics["examples"] = note;
  for (const char* name : {"tokens_per_second", "seconds", "peak_bytes"})
    if (const Json value = trained.value(name, Json()); value.is_number()) outcome.metrics[name] = value;
  return outcome;
}

}  // namespace haqa
