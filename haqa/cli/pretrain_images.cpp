#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/base/progress.h"
#include "haqa/cli/commands.h"
#include "haqa/cli/file_training.h"
#include "haqa/finetune/image_objective.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

/// The defaults are for weights that begin at random.
struct Options {
  ImageSetup setup;
  fs::path output;
  int64_t epochs = 30, batch = 128;
  double learning_rate = 0.1, momentum = 0.9, weight_decay = 5e-4, checkpoint_s = 30;
  bool no_flip = false, json = false, quiet = false;
};

Json request_of(const Options& o, const fs::path& folder) {
  ImageSetup setup = o.setup;
  setup.bits = kUnquantized;
  setup.flip = !o.no_flip;
  setup.images = fs::absolute(setup.images);
  if (!setup.model.empty()) setup.model = fs::absolute(setup.model);
  Json request = image_request(setup);
  request.update({{"command", "train_images"},
                  {"folder", folder.string()},
                  {"seed", setup.seed},
                  {"checkpoint_s", o.checkpoint_s},
                  {"configuration",
                   {{"learning_rate", o.learning_rate},
                    {"batch_size", o.batch},
                    {"weight_decay", o.weight_decay},
                    {"momentum", o.momentum},
                    {"num_epochs", o.epochs}}}});
  return request;
}

void pretrain(const Options& o) {
  const FileTraining training(o.output);
  const ImageCounts counts = count_images(o.setup);
  check_held_back(o.setup, counts);
  if (o.batch > static_cast<int64_t>(counts.training))
    throw UsageError("a batch of {} is more than the {} images to train on; set a smaller --batch", o.batch,
                     counts.training);
  Progress progress(o.quiet);
  progress.step(fmt::format("{} {} on {} images of {} classes",
                            training.goes_on() ? "going on with training" : "training", o.setup.network,
                            counts.training, counts.classes.size()));
  Json s = training.run(request_of(o, training.folder()), "network.safetensors", progress, [&](double share) {
    const auto epochs = static_cast<double>(o.epochs);
    return fmt::format("epoch {:.0f} of {}", std::min(epochs, 1 + std::floor(share * epochs)), o.epochs);
  });
  s["file"] = o.output.string();
  if (o.json) {
    fmt::print("{}\n", s.dump(2));
    return;
  }
  fmt::print("{}: {}, {} in full precision, {} epochs over {} images\n", o.output.string(),
             format_bytes(fs::file_size(o.output)), o.setup.network, o.epochs, counts.training);
  if (const std::string skipped = describe_skipped(s); !skipped.empty()) fmt::print("{}\n", skipped);
  fmt::print(
      "accuracy {:.2f} % on {} images that it was not trained on; loss {:.3f} in the first epoch, {:.3f} in the "
      "last; {:.0f} images/s, {}\n",
      100 * s["accuracy"].get<double>(), counts.validation, s["losses"].front().get<double>(),
      s["losses"].back().get<double>(), s["images_per_second"].get<double>(), format_seconds(s["seconds"]));
}

void add_training_options(CLI::App& command, Options& o) {
  command.add_option("--epochs", o.epochs, "Passes over the images")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command.add_option("--batch", o.batch, "Images of a step")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  command.add_option("--optimizer", o.setup.optimizer, "sgd or adamw")
      ->check(CLI::IsMember({"sgd", "adamw"}))
      ->capture_default_str();
  command.add_option("--learning-rate", o.learning_rate, "After the warm-up")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_option("--momentum", o.momentum, "Of SGD; AdamW's first mean keeps as much")
      ->check(CLI::Range(0.0, 0.9999))
      ->check(not_nan)
      ->capture_default_str();
  command.add_flag("--nesterov", o.setup.nesterov, "Nesterov's momentum");
  command.add_option("--weight-decay", o.weight_decay, "Of all weights")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--schedule", o.setup.schedule, "How the learning rate goes on: constant, step or cosine")
      ->check(CLI::IsMember({"constant", "step", "cosine"}))
      ->capture_default_str();
  command.add_option("--warmup", o.setup.warmup_epochs, "Epochs in which the learning rate rises")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--label-smoothing", o.setup.label_smoothing, "Share of a label that all classes get")
      ->check(CLI::Range(0.0, 0.99))
      ->check(not_nan)
      ->capture_default_str();
  command.add_option("--ema", o.setup.ema_decay, "Decay of an average of the weights, which is kept; 0: none")
      ->check(CLI::Range(0.0, 0.999999))
      ->check(not_nan)
      ->capture_default_str();
}

void add_image_options(CLI::App& command, Options& o) {
  command.add_option("--weights", o.setup.model, "To train further; safetensors or PyTorch's (default: random)")
      ->check(CLI::ExistingFile)
      ->type_name("FILE");
  command.add_option("--shortcut", o.setup.shortcut, "a: zeros, or b: convolutions; of ResNet20 and 32")
      ->check(CLI::IsMember({"a", "b"}))
      ->capture_default_str();
  command.add_option("--validation-share", o.setup.validation_share, "Of the images to train on, held back")
      ->check(CLI::Range(0.0, 0.99))
      ->check(not_nan)
      ->capture_default_str();
  command.add_flag("--no-flip", o.no_flip, "Do not mirror images: digits and letters");
  command.add_option("--padding", o.setup.padding, "Pixels around CIFAR's images, of which windows are cut")
      ->check(CLI::Range(0, 32))
      ->capture_default_str();
  command.add_option("--normalization", o.setup.normalization, "By the images' own statistics, or as imagenet")
      ->check(CLI::IsMember({"images", "imagenet"}))
      ->capture_default_str();
  command.add_option("--device", o.setup.device, "cpu or cuda")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  command.add_option("--compute", o.setup.compute, "fp32 or bf16")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
}

}  // namespace

void add_pretrain_images(CLI::App& pretraining) {
  auto o = std::make_shared<Options>();
  CLI::App* command = pretraining.add_subcommand("images", "Train a ResNet on a folder of images in full precision");
  command->add_option("network", o->setup.network, "resnet20, resnet32 (CIFAR's size) or resnet50 (ImageNet's)")
      ->required()
      ->check(CLI::IsMember({"resnet20", "resnet32", "resnet50"}))
      ->type_name("NETWORK");
  command->add_option("folder", o->setup.images, "Folder of images; docs/data.md has the forms")
      ->required()
      ->type_name("FOLDER");
  command->add_option("-o,--output", o->output, "File of weights to write (safetensors)")
      ->required()
      ->type_name("FILE");
  add_training_options(*command, *o);
  add_image_options(*command, *o);
  command->add_option("--seed", o->setup.seed, "Of the weights, the order and the augmentation")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--threads", o->setup.threads, "0: all cores")->check(CLI::Range(0, 4096))->capture_default_str();
  command->add_option("--checkpoint", o->checkpoint_s, "Seconds between checkpoints")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--json", o->json, "Print JSON");
  command->add_flag("-q,--quiet", o->quiet, "No progress on standard error");
  command->footer(
      "Example:\n"
      "  haqa pretrain images resnet20 digits --no-flip --epochs 20 -o digits-resnet20.safetensors");
  command->callback([o] { pretrain(*o); });
}

}  // namespace haqa
