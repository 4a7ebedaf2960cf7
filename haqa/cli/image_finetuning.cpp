#include "haqa/cli/image_finetuning.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "haqa/base/bytes.h"
#include "haqa/base/file.h"
#include "haqa/cli/agent_setup.h"
#include "haqa/cli/finetune_run.h"
#include "haqa/cli/network_deployment.h"
#include "haqa/deploy/bundle.h"
#include "haqa/finetune/bit_width_choice.h"
#include "haqa/report/finetune_report.h"

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

std::string words_of_bits(const LayerBits& bits) {
  return fmt::format("{} ({} bits of weights, {} of activations)", to_string(bits), bits.weights, bits.activations);
}

/// What the setup's bits are, or those that the space lets choose.
std::string words_of_bits(const ImageSetup& setup, const SearchSpace& space) {
  std::vector<std::string> choices;
  for (const Parameter& p : space.parameters())
    if (p.name == kBitWidth)
      for (const Json& name : p.choices) choices.push_back(words_of_bits(layer_bits_from(name.get<std::string>())));
  if (choices.empty()) return words_of_bits(setup.bits);
  return fmt::format("the bit width that you choose in each round: {}", fmt::join(choices, " or "));
}

std::string words_of_limits(const DeploymentLimits& limits) {
  std::vector<std::string> words;
  if (limits.file_bytes) words.push_back(fmt::format("at most {} for the file", format_bytes(*limits.file_bytes)));
  if (limits.latency_ms) words.push_back(fmt::format("at most {} ms for an image", *limits.latency_ms));
  if (limits.memory_bytes)
    words.push_back(fmt::format("at most {} of memory to run it", format_bytes(*limits.memory_bytes)));
  return words.empty() ? "none" : fmt::format("{}", fmt::join(words, ", "));
}

std::string deployment_of(const ImageSetup& setup, const Json& deployment, const Prompts& prompts) {
  if (deployment.is_null()) return "";
  const Json summary = {{"deployment", deployment}};
  const std::string table = text_table("Bit widths", deployment_table(Part(summary)));
  return prompts.render("images_deployment", {{"limits", words_of_limits(setup.limits)}, {"table", table}}) + "\n\n";
}

/// What is done before the first epoch, a line, or nothing.
std::string fitting_of(const ImageSetup& s) {
  const std::vector<LayerBits> choices = s.choices();
  if (std::all_of(choices.begin(), choices.end(), [](const LayerBits& b) { return b.activations == 32; })) return "";
  return s.method == "pact" ? "clip of each layer begins at the bound with the least error on some images\n"
                            : "activations of the pretrained model are brought into the quantizer's range: "
                              "normalizations divided by the bound with the least error on some images\n";
}

/// To the weights of a quantized network.
class ImageRun : public FinetuneRun {
 public:
  ImageRun(const Task& task, RunLog& log, Progress& progress)
      : FinetuneRun(task, log, progress), finetuning_(*finetune_.images, space_, log, log.finished(), progress) {}

 private:
  TrainingRounds& rounds() override { return finetuning_; }
  void write_files() override {
    const ImageObjective& objective = finetuning_.objective();
    const Configuration& best = finetuning_.best()->configuration;
    const fs::path network = file(".safetensors"), onnx = file(".onnx");
    if (!fs::exists(network)) link_or_copy(objective.trained_folder(best) / objective.trained_file(), network);
    if (!fs::exists(onnx)) objective.export_tuned(best, onnx);
    deployment_ = finetuning_.measure_deployment(onnx);
  }
  /// The best network's.
  fs::path file(const char* extension) const {
    return log_.folder() /
           fmt::format("{}-{}{}", finetune_.images->network, to_string(finetuning_.best_bits()), extension);
  }
  Json measure_held_out() override { return finetuning_.measure_held_out(); }
  Json description() override {
    const ImageSetup& setup = finetuning_.objective().setup();
    const ImageCounts& counts = finetuning_.objective().counts();
    Json network = {{"kind", setup.network},
                    {"method", setup.method},
                    {"bit_width", to_string(finetuning_.best_bits())},
                    {"classes", counts.classes},
                    {"training_images", counts.training},
                    {"validation_images", counts.validation},
                    {"test_images", counts.test}};
    if (const auto trained = trained_images_of(file(".safetensors"))) {
      network["mean"] = trained->normalization.mean;
      network["deviation"] = trained->normalization.deviation;
    }
    Json found = {{"network", std::move(network)},
                  {"files",
                   {{"model", setup.model.string()},
                    {"network", file(".safetensors").string()},
                    {"onnx", file(".onnx").string()}}}};
    if (!deployment_.is_null()) found["deployment"] = deployment_;
    return found;
  }

  ImageFinetuning finetuning_;
  Json deployment_;
};

}  // namespace

Track image_track(const ImageObjective& objective, const SearchSpace& space, const Json& full, const Json& before,
                  const Json& deployment) {
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
       {"bits", words_of_bits(s, space)},
       {"layers", words_of_layers(s)},
       {"optimizer", words_of_optimizer(s)},
       {"compute", s.compute},
       {"images", fmt::format("{} ({} images of {} classes)", s.images.filename().string(), counts.training,
                              counts.classes.size())},
       {"augmentation", words_of_augmentation(s)},
       {"validation", std::to_string(counts.validation)},
       {"full", to_line(full)},
       {"before", to_line(before)},
       {"deployment", deployment_of(s, deployment, prompts)},
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
    : TrainingRounds(space, log, trials, progress), objective_(setup, space_, log.folder(), shown_by(progress)) {}

void ImageFinetuning::begin() {
  require_same_inputs();
  const ImageSetup& setup = objective_.setup();
  if (setup.weighs_deployment())
    deployment_ = log_.once("deployment", [&] { return measure_candidates(objective_, progress_); });
  const Json full =
      accuracy_of("full precision: validation", [&] { return objective_.full_precision(Half::validation); });
  if (deployment_.is_null()) {
    before_ = accuracy_untuned(setup.bits);
    track_ = image_track(objective_, space_, full, before_);
    return;
  }
  Json before = Json::object();
  for (Json& row : deployment_["candidates"]) {
    const std::string name = row[kBitWidth];
    row["accuracy"] = name == kFloats ? full : accuracy_untuned(layer_bits_from(name));
    if (name != kFloats) before[name] = row["accuracy"];
  }
  const std::vector<LayerBits> choices = within_limits(deployment_["candidates"], setup.limits);
  before_ = before[to_string(choices.front())];
  const SearchSpace space = setup.bit_widths.empty() ? space_ : with_bit_width(space_, choices);
  track_ = image_track(objective_, space, full, before, deployment_);
}

Json ImageFinetuning::accuracy_untuned(const LayerBits& bits) {
  return accuracy_of(fmt::format("untuned {}: validation", to_string(bits)),
                     [&] { return objective_.untuned(bits, Half::validation); });
}

Json ImageFinetuning::measure_deployment(const fs::path& best_file) {
  if (deployment_.is_null()) return nullptr;
  Json all = deployment_;
  all["best"] = log_.once("deployment of the best",
                          [&] { return measure_trained(objective_, best_bits(), best_file, deployment_, progress_); });
  return all;
}

Json ImageFinetuning::measure_held_out() {
  Json held_out = Json::object();
  const auto measured = [&](const char* key, const auto& measure) {
    held_out[key] = accuracy_of(fmt::format("{}: held-out", key), measure);
  };
  measured("given", [&] { return objective_.full_precision(Half::held_out); });
  measured("base", [&] { return objective_.untuned(best_bits(), Half::held_out); });
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
