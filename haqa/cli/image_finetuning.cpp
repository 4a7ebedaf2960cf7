#include "haqa/cli/image_finetuning.h"

#include <fmt/format.h>

#include <map>

#include "haqa/base/bytes.h"
#include "haqa/base/file.h"
#include "haqa/cli/agent_setup.h"
#include "haqa/cli/finetune_run.h"
#include "haqa/deploy/bundle.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

std::string words_of_layers(const ImageSetup& setup) {
  if (setup.first_layer && setup.last_layer) return "All layers are quantized, the first and the last too.";
  if (setup.first_layer) return "The last layer stays in full precision.";
  if (setup.last_layer) return "The first convolution stays in full precision.";
  return "The first convolution and the last layer stay in full precision.";
}

std::string words_of_augmentation(const ImageSetup& setup) {
  return fmt::format("random windows of images padded by {} pixels (of files, random resized crops){}", setup.padding,
                     setup.flip ? ", half of them mirrored" : "");
}

/// What the optimizer does besides the paper's defaults.
std::string words_of_optimizer(const ImageSetup& s) {
  std::string words = s.optimizer == "sgd" ? (s.nesterov ? "SGD with Nesterov's momentum" : "SGD with momentum")
                                           : "AdamW, whose first mean keeps the momentum";
  words += fmt::format(", learning rate {} over the training", s.schedule);
  if (s.warmup_epochs > 0) words += fmt::format(" after a warm-up of {} epochs", s.warmup_epochs);
  if (s.label_smoothing > 0) words += fmt::format(", labels smoothed by {}", s.label_smoothing);
  if (s.ema_decay > 0) words += fmt::format(", weights averaged with a decay of {}", s.ema_decay);
  if (!s.decay_norms) words += ", no weight decay of normalizations and biases";
  return words;
}

std::string structure_of(const ImageSetup& s, size_t classes, const Prompts& prompts) {
  std::map<std::string, std::string> values = {{"classes", std::to_string(classes)}};
  if (s.network == "resnet50") return prompts.render("images_resnet50", values);
  values["blocks"] = s.network == "resnet20" ? "3" : "5";
  values["shortcut"] = s.shortcut == "a" ? "every other place, and channels of zeros (option A)"
                                         : "a 1 x 1 convolution and a normalization (option B)";
  return prompts.render("images_resnet_cifar", values);
}

/// What is done before the first epoch, a line, or nothing.
std::string fitting_of(const ImageSetup& s) {
  if (s.bits.activations == 32) return "";
  return s.method == "pact" ? "clip of each layer begins at the bound with the least error on some images\n"
                            : "activations of the pretrained model are brought into the quantizer's range: "
                              "normalizations divided by the bound with the least error on some images\n";
}

/// To the weights of a quantized network.
class ImageRun : public FinetuneRun {
 public:
  ImageRun(const Task& task, RunLog& log, Progress& progress)
      : FinetuneRun(task, log, progress),
        finetuning_(*finetune_.images, space_, log, log.finished(), progress),
        network_(log.folder() /
                 fmt::format("{}-{}.safetensors", finetune_.images->network, to_string(finetune_.images->bits))) {}

 private:
  TrainingRounds& rounds() override { return finetuning_; }
  void write_files() override {
    if (fs::exists(network_)) return;
    const ImageObjective& objective = finetuning_.objective();
    link_or_copy(objective.trained_folder(finetuning_.best()->configuration) / objective.trained_file(), network_);
  }
  Json measure_held_out() override { return finetuning_.measure_held_out(); }
  Json description() override {
    const ImageSetup& setup = finetuning_.objective().setup();
    const ImageCounts& counts = finetuning_.objective().counts();
    Json network = {{"kind", setup.network},
                    {"method", setup.method},
                    {"bit_width", to_string(setup.bits)},
                    {"classes", counts.classes},
                    {"training_images", counts.training},
                    {"validation_images", counts.validation},
                    {"test_images", counts.test}};
    if (const auto trained = trained_images_of(network_)) {
      network["mean"] = trained->normalization.mean;
      network["deviation"] = trained->normalization.deviation;
    }
    return {{"network", std::move(network)},
            {"files", {{"model", setup.model.string()}, {"network", network_.string()}}}};
  }

  ImageFinetuning finetuning_;
  const fs::path network_;
};

}  // namespace

Track image_track(const ImageObjective& objective, const SearchSpace& space, const Json& full, const Json& before) {
  const ImageSetup& s = objective.setup();
  const ImageCounts& counts = objective.counts();
  const Prompts prompts = agent_prompts();
  Track track;
  track.name = kFinetuneTrack;
  track.space = space;
  track.value_name = "accuracy";
  track.direction = Direction::maximize;
  track.brief = prompts.render(
      "images",
      {{"network", s.network},
       {"method", s.method == "dorefa" ? "DoReFa" : "DoReFa with PACT's learned clipping"},
       {"bits", fmt::format("{} ({} bits of weights, {} of activations)", to_string(s.bits), s.bits.weights,
                            s.bits.activations)},
       {"layers", words_of_layers(s)},
       {"optimizer", words_of_optimizer(s)},
       {"compute", s.compute},
       {"images", fmt::format("{} ({} images of {} classes)", s.images.filename().string(), counts.training,
                              counts.classes.size())},
       {"augmentation", words_of_augmentation(s)},
       {"validation", std::to_string(counts.validation)},
       {"full", to_line(full)},
       {"before", to_line(before)},
       {"fitting", fitting_of(s)},
       {"update", prompts.render(s.optimizer == "adamw" ? "images_adamw"
                                 : s.nesterov           ? "images_nesterov"
                                                        : "images_sgd",
                                 {})},
       {"structure", structure_of(s, counts.classes.size(), prompts)},
       {"quantizer", prompts.render(s.method == "dorefa" ? "images_dorefa" : "images_pact",
                                    {{"scale", s.scaling == "pretrained" ? "max |tanh(w)|, a constant" : "1"}})}});
  return track;
}

ImageFinetuning::ImageFinetuning(const ImageSetup& setup, const SearchSpace& space, RunLog& log,
                                 const std::vector<Trial>& trials, Progress& progress)
    : TrainingRounds(space, log, trials, progress),
      objective_(setup, space_, log.folder(),
                 [&progress](std::string_view what, double share) { progress.update(share, what); }) {}

void ImageFinetuning::begin() {
  require_same_inputs();
  const Json full =
      accuracy_of("full precision: validation", [&] { return objective_.full_precision(Half::validation); });
  before_ = accuracy_of(fmt::format("untuned {}: validation", to_string(objective_.setup().bits)),
                        [&] { return objective_.untuned(Half::validation); });
  track_ = image_track(objective_, space_, full, before_);
}

Json ImageFinetuning::measure_held_out() {
  Json held_out = Json::object();
  const auto measured = [&](const char* key, const auto& measure) {
    held_out[key] = accuracy_of(fmt::format("{}: held-out", key), measure);
  };
  measured("given", [&] { return objective_.full_precision(Half::held_out); });
  measured("base", [&] { return objective_.untuned(Half::held_out); });
  const Trial& first = trials_.front();
  if (first.number != best()->number && has_finite_value(first))
    measured("defaults", [&] { return objective_.tuned(first.configuration, Half::held_out); });
  measured("best", [&] { return objective_.tuned(best()->configuration, Half::held_out); });
  if (first.number == best()->number) held_out["defaults"] = held_out["best"];
  return held_out;
}

std::unique_ptr<FinetuneRun> make_image_run(const Task& task, RunLog& log, Progress& progress) {
  return std::make_unique<ImageRun>(task, log, progress);
}

}  // namespace haqa
