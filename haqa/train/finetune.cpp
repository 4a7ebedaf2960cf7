#include "haqa/train/finetune.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "haqa/adapter/gguf_adapter.h"
#include "haqa/adapter/peft.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/dataset/split.h"
#include "haqa/tokenizer/tokenizer.h"
#include "haqa/train/computing.h"
#include "haqa/train/save.h"

namespace haqa {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kLossesTold = 20;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

Grouping grouping_from(const std::string& name) {
  if (name == "shuffled") return Grouping::shuffled;
  if (name == "by_length") return Grouping::by_length;
  if (name == "packed") return Grouping::packed;
  throw UsageError("'{}' is no way to group examples; shuffled, by_length and packed are", name);
}

/// The paper's parameters, by the names of its search space (data/spaces/llama.yaml).
void read_configuration(const Json& c, FinetuneJob& job) {
  TrainerOptions& t = job.trainer;
  t.learning_rate = c.value("learning_rate", t.learning_rate);
  t.batch = c.value("per_device_train_batch_size", t.batch);
  t.accumulation = c.value("gradient_accumulation_steps", t.accumulation);
  t.steps = c.value("max_steps", t.steps);
  t.max_grad_norm = c.value("max_grad_norm", t.max_grad_norm);
  t.warmup_ratio = c.value("warmup_ratio", t.warmup_ratio);
  t.adamw.weight_decay = c.value("weight_decay", t.adamw.weight_decay);
  if (!job.llama.lora) return;
  job.llama.lora->rank = c.value("lora_r", job.llama.lora->rank);
  job.llama.lora->alpha = c.value("lora_alpha", job.llama.lora->alpha);
  job.llama.lora->dropout = c.value("lora_dropout", job.llama.lora->dropout);
}

void read_method(const Json& m, FinetuneJob& job) {
  if (!m.value("full", false)) job.llama.lora.emplace();
  if (job.llama.lora) job.llama.lora->targets = m.value("lora_targets", job.llama.lora->targets);
  job.llama.base = base_format_from(m.value("base", "nf4_double"));
  job.llama.compute = compute_type(m.value("compute", "fp32"));
  job.llama.device = device_named(m.value("device", "cpu"));
  job.llama.checkpointing = m.value("activation_checkpointing", false);
  job.trainer.schedule = schedule_from(m.value("schedule", "constant"));
  job.trainer.grouping = grouping_from(m.value("grouping", "by_length"));
  job.trainer.adamw.states = optimizer_states_from(m.value("optimizer_states", "fp32"));
}

struct Examples {
  std::vector<TokenExample> training, validation;
  size_t truncated = 0, dropped = 0;
  std::string note;  ///< what a user should know of them
};

Examples read(const FinetuneJob& job) {
  const Tokenizer tokenizer(job.model);
  const ExampleFile file = read_examples(job.examples, job.form);
  EncodeOptions encoding;
  encoding.bos = tokenizer.adds_bos() ? tokenizer.bos() : -1;
  encoding.eos = tokenizer.eos();
  encoding.length = job.context;
  encoding.threads = at::get_num_threads();
  TokenExamples tokens = encode_examples(
      file.examples, [&](std::string_view text) { return tokenizer.encode(text, false); }, encoding);
  Examples examples{{}, {}, tokens.truncated, tokens.dropped, describe(tokens, job.context)};
  if (file.without_response > 0)
    examples.note += fmt::format("; {} without a response left out", file.without_response);
  const Split split = split_by_share(tokens.examples.size(), job.validation_share, job.trainer.seed);
  for (const size_t i : split.training) examples.training.push_back(std::move(tokens.examples[i]));
  for (const size_t i : split.validation) examples.validation.push_back(std::move(tokens.examples[i]));
  return examples;
}

/// Means over equal parts of the training, which the agent is told as the paper tells it the losses of epochs.
Json told(const std::vector<double>& losses) {
  Json means = Json::array();
  const auto n = static_cast<int64_t>(losses.size()), parts = std::min(kLossesTold, n);
  for (int64_t i = 0; i < parts; ++i) {
    const auto begin = losses.begin() + n * i / parts, end = losses.begin() + n * (i + 1) / parts;
    means.push_back(std::accumulate(begin, end, 0.0) / static_cast<double>(end - begin));
  }
  return means;
}

struct Losses {
  std::vector<double> losses;
  Json validation_loss_before;
};

/// Those before the checkpoint, which the trainer goes on from; nothing where there is none, or it or they are damaged:
/// then there is no way but from the beginning.
std::optional<Losses> earlier_losses(Trainer& trainer, const std::filesystem::path& folder) {
  if (!std::filesystem::exists(folder / "checkpoint") || !std::filesystem::exists(folder / "losses.json")) return {};
  const Json log = Json::parse(read_file(folder / "losses.json"), nullptr, /*allow_exceptions=*/false);
  if (!log.is_object() || !log.contains("losses") || !log.contains("validation_loss_before")) return {};
  try {
    trainer.load(folder / "checkpoint");
  } catch (const DamagedCheckpoint&) {
    return {};
  }
  return Losses{log["losses"].get<std::vector<double>>(), log["validation_loss_before"]};
}

/// A last step too large shows in no loss of the training.
void check_trained(const Llama& llama, const Json& validation_loss) {
  const bool finite = std::all_of(llama.parameters().begin(), llama.parameters().end(), [](const auto& named) {
    return named.second.isfinite().all().template item<bool>();
  });
  const bool says_so = validation_loss.is_number() && !std::isfinite(validation_loss.get<double>());
  if (!finite || says_so)
    throw Error(
        "the training diverged in its last step: its weights or its loss are no numbers; a smaller learning rate "
        "helps");
}

}  // namespace

FinetuneJob finetune_job_from(const Json& request) {
  FinetuneJob job;
  try {
    job.model = request.at("model").get<std::string>();
    job.examples = request.at("examples").get<std::string>();
    job.folder = request.at("folder").get<std::string>();
    if (request.contains("form")) job.form = example_form_from(request["form"].get<std::string>());
    job.context = job.trainer.length = request.value("context", job.context);
    job.validation_share = request.value("validation_share", job.validation_share);
    job.checkpoint_s = request.value("checkpoint_s", job.checkpoint_s);
    job.threads = request.value("threads", job.threads);
    job.trainer.seed = request.value("seed", job.trainer.seed);
    job.llama.seed = job.trainer.seed;
    read_method(request.value("method", Json::object()), job);
    read_configuration(request.value("configuration", Json::object()), job);
  } catch (const Json::exception& error) {
    throw UsageError("the request to train is not understood: {}", error.what());
  }
  return job;
}

Json finetune(const FinetuneJob& job, const std::function<void(double)>& progress) {
  if (job.threads > 0) at::set_num_threads(job.threads);
  make_folder(job.folder);
  const Examples examples = read(job);
  Llama llama(job.model, job.llama);
  if (job.context > static_cast<size_t>(llama.info().n_ctx_train))
    throw UsageError("examples of {} tokens are longer than what {} was made for, {}; set a smaller context",
                     job.context, job.model.string(), llama.info().n_ctx_train);
  Trainer trainer(llama, examples.training, job.trainer);
  const auto checkpoint = job.folder / "checkpoint";
  std::vector<double> losses;
  Json result = {{"validation_loss_before", nullptr}, {"validation_loss", nullptr}};
  if (const auto earlier = earlier_losses(trainer, job.folder)) {
    losses = earlier->losses;
    result["validation_loss_before"] = earlier->validation_loss_before;
  } else if (!examples.validation.empty()) {
    result["validation_loss_before"] = trainer.loss(examples.validation);
  }
  const int64_t resumed_after = trainer.steps_done();
  losses.resize(static_cast<size_t>(resumed_after));
  const auto start = Clock::now();
  auto saved = start;
  int64_t tokens = 0;
  while (!trainer.finished()) {
    const Trainer::Step step = trainer.step();
    tokens += step.tokens;
    losses.push_back(step.loss);
    progress(static_cast<double>(step.number) / static_cast<double>(job.trainer.steps));
    if (trainer.finished() || seconds_since(saved) < job.checkpoint_s) continue;
    // Losses first: a checkpoint never knows of steps that they do not.
    write_file(job.folder / "losses.json",
               Json{{"losses", losses}, {"validation_loss_before", result["validation_loss_before"]}}.dump());
    trainer.save(checkpoint);
    saved = Clock::now();
  }
  const double seconds = seconds_since(start);
  if (!examples.validation.empty()) result["validation_loss"] = trainer.loss(examples.validation);
  check_trained(llama, result["validation_loss"]);
  save(llama, job.folder);
  int64_t parameters = 0;
  for (const auto& [name, parameter] : llama.parameters()) parameters += parameter.numel();
  result.update({{"losses", told(losses)},
                 {"steps", trainer.steps_done()},
                 {"resumed_after", resumed_after},
                 {"tokens", tokens},
                 {"seconds", seconds},
                 {"tokens_per_second", seconds > 0 ? static_cast<double>(tokens) / seconds : 0},
                 {"base_bytes", llama.base_bytes()},
                 {"trained_parameters", parameters},
                 {"examples", examples.training.size()},
                 {"validation_examples", examples.validation.size()},
                 {"truncated", examples.truncated},
                 {"dropped", examples.dropped},
                 {"examples_note", examples.note},
                 {"peak_bytes", peak_bytes()}});
  return result;
}

}  // namespace haqa
