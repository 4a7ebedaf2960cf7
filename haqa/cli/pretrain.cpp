#include <fmt/format.h>

#include <algorithm>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/progress.h"
#include "haqa/cli/commands.h"
#include "haqa/cli/file_training.h"
#include "haqa/dataset/examples.h"
#include "haqa/model/model_info.h"
#include "haqa/model/quant_rules.h"
#include "haqa/model/trainable.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

/// The defaults are for weights that begin at random: a full rate of AdamW's with a warm-up, falling to nothing.
struct Options {
  fs::path model, examples, output;
  std::string form, schedule = "cosine";
  int64_t steps = 1000, batch = 16, accumulation = 1, context = 512, threads = 0;
  double learning_rate = 1e-3, warmup = 0.05, weight_decay = 0.1, max_grad_norm = 1, validation_share = 0.05;
  double checkpoint_s = 0;
  uint64_t seed = 1;
  bool json = false, quiet = false;
};

/// A checkpoint's bytes: each weight and AdamW's two means of it, in F32.
uint64_t checkpoint_bytes(const ModelInfo& model) {
  return 12 * model.parameters();
}

/// Seconds from one to the next: writing takes a few per cent of the time on a disk of 200 MB/s, and 10 s are little
/// to lose.
double checkpoint_interval(const Options& o, const ModelInfo& model) {
  return o.checkpoint_s > 0 ? o.checkpoint_s : std::max(10.0, static_cast<double>(checkpoint_bytes(model)) / 10e6);
}

/// What can be known before the first step, so that nothing is left behind. Throws Error, UsageError.
ModelInfo check(const Options& o, const FileTraining& training) {
  ModelInfo model = read_model(o.model);
  check_trainable(model);
  if (width_of_file(model) != BitWidth::fp16)
    throw Error("{}: its weights are {}, too coarse for a step of training to show; give an F32, F16 or BF16 file",
                o.model.string(), model.main_type());
  if (o.context > model.n_ctx_train)
    throw UsageError("examples of {} tokens are longer than what {} was made for, {}; set a smaller --context",
                     o.context, o.model.string(), model.n_ctx_train);
  std::optional<ExampleForm> form;
  if (!o.form.empty()) form = example_form_from(o.form);
  read_examples(o.examples, form);
  // A new checkpoint is written beside the one that it replaces, which may be there.
  const uint64_t checkpoints = training.goes_on() ? 1 : 2;
  require_space(o.output.parent_path(), checkpoints * checkpoint_bytes(model) + fs::file_size(o.model),
                "the training and its checkpoint");
  return model;
}

Json request_of(const Options& o, const ModelInfo& model, const fs::path& folder) {
  Json request = {{"command", "finetune"},
                  {"model", fs::absolute(o.model).string()},
                  {"examples", fs::absolute(o.examples).string()},
                  {"folder", folder.string()},
                  {"context", o.context},
                  {"threads", o.threads},
                  {"seed", o.seed},
                  {"validation_share", o.validation_share},
                  {"checkpoint_s", checkpoint_interval(o, model)},
                  {"method", {{"full", true}, {"schedule", o.schedule}, {"grouping", "shuffled"}}},
                  {"configuration",
                   {{"learning_rate", o.learning_rate},
                    {"per_device_train_batch_size", o.batch},
                    {"gradient_accumulation_steps", o.accumulation},
                    {"weight_decay", o.weight_decay},
                    {"max_steps", o.steps},
                    {"max_grad_norm", o.max_grad_norm},
                    {"warmup_ratio", o.warmup}}}};
  if (!o.form.empty()) request["form"] = o.form;
  return request;
}

Json train(const Options& o, const ModelInfo& model, const FileTraining& training) {
  Progress progress(o.quiet);
  progress.step(fmt::format("{} {} parameters on {}", training.goes_on() ? "going on with training" : "training",
                            model.parameters(), o.examples.string()));
  return training.run(request_of(o, model, training.folder()), "model.gguf", progress, [&](double share) {
    return fmt::format("step {:.0f} of {}", share * static_cast<double>(o.steps), o.steps);
  });
}

/// Losses are means over tokens, in nats. Without examples held back they are those of the training's ends.
Json summary(const Options& o, const ModelInfo& model, const Json& trained) {
  const bool held_back = trained.at("validation_loss").is_number();
  const Json& losses = trained.at("losses");
  Json s = {{"file", o.output.string()},
            {"parameters", model.parameters()},
            {"loss_before", held_back ? trained.at("validation_loss_before") : losses.front()},
            {"loss", held_back ? trained.at("validation_loss") : losses.back()}};
  for (const char* key : {"losses", "steps", "tokens", "seconds", "tokens_per_second", "examples",
                          "validation_examples", "examples_note", "peak_bytes"})
    s[key] = trained.at(key);
  return s;
}

void pretrain(const Options& o) {
  for (const auto& [name, value] : {std::pair("MODEL", o.model), {"EXAMPLES", o.examples}, {"--output", o.output}})
    if (value.empty()) throw UsageError("{} is missing; see haqa pretrain --help", name);
  const FileTraining training(o.output);
  const ModelInfo model = check(o, training);
  const Json s = summary(o, model, train(o, model, training));
  if (o.json) {
    fmt::print("{}\n", s.dump(2));
    return;
  }
  fmt::print("{}: {}, {} steps on {}\n", o.output.string(), format_bytes(fs::file_size(o.output)),
             s["steps"].get<int64_t>(), s["examples_note"].get<std::string>());
  fmt::print("loss {:.3f} before, {:.3f} now{}; {:.0f} tokens/s, {}\n", s["loss_before"].get<double>(),
             s["loss"].get<double>(),
             s["validation_examples"] > 0 ? fmt::format(", on {} examples held back", s["validation_examples"].dump())
                                          : " of the training itself",
             s["tokens_per_second"].get<double>(), format_seconds(s["seconds"]));
}

void add_training_options(CLI::App& command, Options& o) {
  command.add_option("--steps", o.steps, "Steps of the optimizer")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->capture_default_str();
  command.add_option("--batch", o.batch, "Examples computed at once")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command.add_option("--accumulation", o.accumulation, "Batches whose gradients are added up before a step")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command.add_option("--learning-rate", o.learning_rate, "Of AdamW, after the warm-up")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_option("--schedule", o.schedule, "How the learning rate goes on: constant, linear or cosine")
      ->check(CLI::IsMember({"constant", "linear", "cosine"}))
      ->capture_default_str();
  command.add_option("--warmup", o.warmup, "Share of the steps in which the learning rate rises")
      ->check(CLI::Range(0.0, 0.99))
      ->check(not_nan)
      ->capture_default_str();
  command.add_option("--weight-decay", o.weight_decay, "Of AdamW")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--max-grad-norm", o.max_grad_norm, "Norm that gradients are clipped to")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

}  // namespace

void add_pretrain(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "pretrain",
      "Train every weight of a LLaMA on a file of examples, or of a ResNet on images, from random weights too");
  command->add_option("model", o->model, "GGUF in F32, F16 or BF16")->check(not_empty)->type_name("MODEL");
  command->add_option("examples", o->examples, "What to learn from; docs/data.md has the forms")
      ->check(not_empty)
      ->type_name("EXAMPLES");
  command->add_option("-o,--output", o->output, "File to write")->check(not_empty)->type_name("FILE");
  command->add_option("--form", o->form, "alpaca, chat, text or document (default: by the content)")->check(not_empty);
  add_training_options(*command, *o);
  command->add_option("--context", o->context, "Tokens of an example; longer ones are cut, plain texts divided")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  command->add_option("--validation-share", o->validation_share, "Of the examples, held back to measure the loss")
      ->check(CLI::Range(0.0, 0.99))
      ->check(not_nan)
      ->capture_default_str();
  command->add_option("--seed", o->seed, "Of the order of the examples, and of which are held back")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--threads", o->threads, "0: all cores")->check(CLI::Range(0, 4096))->capture_default_str();
  command->add_option("--checkpoint", o->checkpoint_s, "Seconds between checkpoints (default: by the model's size)")
      ->check(CLI::PositiveNumber)
      ->type_name("S");
  command->add_flag("--json", o->json, "Print JSON");
  command->add_flag("-q,--quiet", o->quiet, "No progress on standard error");
  command->footer(
      "Examples:\n"
      "  haqa make-model demo -o random.gguf && haqa pretrain random.gguf stories.jsonl -o stories-f16.gguf\n"
      "  haqa pretrain model-f16.gguf more.txt --learning-rate 1e-5 --steps 200 -o further-f16.gguf\n"
      "  haqa pretrain images resnet20 digits --no-flip --epochs 20 -o digits-resnet20.safetensors");
  add_pretrain_images(*command);
  command->callback([o, command] {
    if (command->get_subcommands().empty()) pretrain(*o);  // else that does its own work
  });
}

}  // namespace haqa
