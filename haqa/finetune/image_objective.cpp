#include "haqa/finetune/image_objective.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>

#include "haqa/adapter/safetensors.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/file_name.h"
#include "haqa/dataset/split.h"
#include "haqa/finetune/bit_width_choice.h"
#include "haqa/images/cifar.h"
#include "haqa/images/image_folder.h"
#include "haqa/tasks/multiple_choice.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

/// What the worker reads from a configuration. The names are those of data/spaces/resnet.yaml.
constexpr std::array<Hyperparameter, 5> kHyperparameters = {{{"learning_rate", false, kAboveZero, kAny},
                                                             {"batch_size", true, 1, 1e6},
                                                             {"weight_decay", false, 0, kAny},
                                                             {"momentum", false, 0, 1},
                                                             {"num_epochs", true, 1, 1e6}}};

/// Null for a single image.
Json error_of(double accuracy, double images) {
  const double error = standard_error(accuracy, images);
  return std::isfinite(error) ? Json(rounded(error)) : Json(nullptr);
}

/// What the worker measured, in the form of what language models are measured on: the images are the one task.
Json accuracies(const ImageSetup& setup, const Json& found) {
  const double accuracy = found.at("accuracy");
  const Json error = error_of(accuracy, found.at("images")), value = rounded(accuracy);
  const std::string name = fs::path(setup.images / "").parent_path().filename().string();
  Json all = {{"tasks", {{name, {{"accuracy", value}, {"error", error}}}}}, {"mean", value}, {"error", error}};
  if (found.at("skipped") > 0)
    for (const char* key : {"skipped", "skipped_files"}) all[key] = found.at(key);
  return all;
}

void check_batches(const SearchSpace& space, const ImageCounts& counts) {
  for (const Parameter& p : space.parameters()) {
    if (p.name != "batch_size") continue;
    for (const Json& value : values_within(p))
      if (value.get<double>() > static_cast<double>(counts.training))
        throw UsageError("the search space's 'batch_size' may be {}, more than the {} images to train on; lower it",
                         value.dump(), counts.training);
  }
}

std::string describe_images(const Json& trained) {
  const std::string skipped = describe_skipped(trained);
  return fmt::format("{} images{}{}", trained.at("training_images").get<int64_t>(), skipped.empty() ? "" : "; ",
                     skipped);
}

/// The least that the space gives, or the worker's default.
double least(const SearchSpace& space, std::string_view name, double usual) {
  for (const Parameter& p : space.parameters())
    if (p.name == name) {
      usual = std::numeric_limits<double>::infinity();
      for (const Json& value : values_within(p)) usual = std::min(usual, value.get<double>());
    }
  return usual;
}

/// What would fail in some trials only.
void check_method(const ImageSetup& setup, const SearchSpace& space) {
  if (const double epochs = least(space, "num_epochs", 12); setup.warmup_epochs >= epochs)
    throw UsageError(
        "a warm-up of {} epochs leaves nothing of the {} that the search space's 'num_epochs' may be; set a smaller "
        "finetune.warmup_epochs",
        setup.warmup_epochs, epochs);
  if (setup.nesterov && !(least(space, "momentum", 0.9) > 0))
    throw UsageError("Nesterov's step needs a momentum above 0, and the search space's 'momentum' may be 0; raise it");
  for (const LayerBits& bits : setup.choices())
    for (const auto& [of, n] : {std::pair("weights", bits.weights), std::pair("activations", bits.activations)})
      if (setup.compute == "bf16" && n > 8 && n < 32)
        throw UsageError("bf16 cannot tell {} of {} bits apart, as it has 8; set compute: fp32", of, n);
}

WorkerLimits worker_limits(const ImageSetup& setup) {
  return {setup.timeout_s, setup.device == "cpu" ? setup.memory_limit.value_or(0) : 0};
}

}  // namespace

ImageCounts count_images(const ImageSetup& setup) {
  const ImageData data = read_images(setup.images);
  const Split split = split_by_share(data.training.size(), setup.validation_share, 0);
  if (split.validation.empty())
    throw UsageError("{}: a validation_share of {} of {} images leaves none to choose by", setup.images.string(),
                     setup.validation_share, data.training.size());
  return {data.classes, split.training.size(), split.validation.size(), data.test.size(), fingerprint(data.training)};
}

std::optional<TrainedImages> trained_images_of(const fs::path& weights) {
  std::map<std::string, std::string> notes;
  try {
    notes = SafetensorsFile(weights).notes();
  } catch (const Error&) {  // of PyTorch, or none at all, which the worker says
    return std::nullopt;
  }
  return trained_images_in(notes, weights);
}

void check_held_back(const ImageSetup& setup, const ImageCounts& counts) {
  if (setup.model.empty()) return;
  const auto trained = trained_images_of(setup.model);
  if (!trained || trained->fingerprint != counts.fingerprint || trained->validation_share == setup.validation_share)
    return;
  throw UsageError(
      "{}: was trained on these images with a validation share of {}, not {}: it may know some by which is to be "
      "chosen; set {}, or train it anew",
      setup.model.string(), trained->validation_share, setup.validation_share, trained->validation_share);
}

std::string describe_skipped(const Json& told) {
  const auto skipped = told.value("skipped", int64_t{0});
  if (skipped <= 0) return "";
  return fmt::format("{} damaged image{} left out, the first: {}", skipped, skipped == 1 ? "" : "s",
                     told.at("skipped_files").front().get<std::string>());
}

ImageCounts check_image_training(const ImageSetup& setup, const SearchSpace& space) {
  check_hyperparameters(space, kHyperparameters);
  check_method(setup, space);
  if (!setup.model.empty() && !fs::is_regular_file(setup.model))
    throw Error("{}: no such file; haqa pretrain images makes one", setup.model.string());
  ImageCounts counts = count_images(setup);
  check_batches(space, counts);
  check_held_back(setup, counts);
  return counts;
}

ImageObjective::ImageObjective(ImageSetup setup, const SearchSpace& space, fs::path folder,
                               std::function<void(std::string_view, double)> progress)
    : TrainingObjective(with_bit_width(space, setup.bit_widths), folder / "networks", worker_limits(setup), setup.seed,
                        std::move(progress)),
      setup_(std::move(setup)),
      counts_(check_image_training(setup_, space)) {}

Json ImageObjective::request(const Configuration& configuration) const {
  Json request = request_at(setup_.model, bits_of(configuration), true);
  request["command"] = "train_images";
  request["folder"] = trained_folder(configuration).string();
  request["seed"] = seed();
  request["configuration"] = configuration;
  return request;
}

LayerBits ImageObjective::bits_of(const Configuration& configuration) const {
  const auto found = configuration.find(kBitWidth);
  return found == configuration.end() ? setup_.bits : layer_bits_from(found->get<std::string>());
}

Json ImageObjective::request_at(const fs::path& weights, const LayerBits& bits, bool fit) const {
  ImageSetup setup = setup_;
  setup.model = weights;
  setup.bits = bits;
  Json request = image_request(setup);
  request["fit"] = fit;
  return request;
}

Json ImageObjective::measured(Json request, Half half) const {
  request["command"] = "measure_images";
  request["part"] = half == Half::held_out ? "test" : "validation";
  tell("measuring accuracy", 0);
  return accuracies(setup_, call_worker("haqa-train", request));
}

Json ImageObjective::full_precision(Half half) const {
  return measured(request_at(setup_.model, kUnquantized, false), half);
}

Json ImageObjective::untuned(const LayerBits& bits, Half half) const {
  return measured(request_at(setup_.model, bits, true), half);
}

Json ImageObjective::tuned(const Configuration& configuration, Half half) {
  return measured(request_at(trained_folder(configuration) / trained_file(), bits_of(configuration), false), half);
}

Json ImageObjective::exported(Json request, const fs::path& file) const {
  request["command"] = "export_network";
  request["output"] = fs::absolute(file).string();
  return call_worker("haqa-train", request);
}

Json ImageObjective::export_untuned(const LayerBits& bits, const fs::path& file) const {
  return exported(request_at(setup_.model, bits, true), file);
}

Json ImageObjective::export_tuned(const Configuration& configuration, const fs::path& file) const {
  return exported(request_at(trained_folder(configuration) / trained_file(), bits_of(configuration), false), file);
}

namespace {

/// By content: CIFAR's records, and names of classes.
void add_contents(const std::vector<fs::path>& files, Json& all) {
  for (const fs::path& file : files) all[file.string()] = fmt::format("{:016x}", fnv1a_64(read_file(file)));
}

/// JPEGs may be a million: a hash for each folder of them, by names, sizes and times.
void add_listed(const ImageSet& images, Json& all) {
  std::map<std::string, uint64_t> hashes;
  for (const fs::path& file : images.files) {
    std::error_code ignored;  // of one that is gone the name counts
    const auto time = static_cast<uint64_t>(fs::last_write_time(file, ignored).time_since_epoch().count());
    uint64_t& hash = hashes[file.parent_path().string()];
    hash = mixed_seed(mixed_seed(hash, fnv1a_64(file.filename().string())),
                      mixed_seed(fs::file_size(file, ignored), time));
  }
  for (const auto& [folder, hash] : hashes) all[folder] = fmt::format("{:016x}", hash);
}

}  // namespace

Json ImageObjective::fingerprints() const {
  Json all = Json::object();
  std::vector<fs::path> files;
  if (!setup_.model.empty()) files.push_back(setup_.model);
  if (is_cifar(setup_.images)) {
    for (const fs::directory_entry& entry : fs::directory_iterator(setup_.images))
      if (entry.is_regular_file() && (entry.path().extension() == ".bin" || entry.path().extension() == ".txt"))
        files.push_back(entry.path());
  } else {
    const ImageData data = list_image_folder(setup_.images);
    add_listed(data.training, all);
    add_listed(data.test, all);
  }
  add_contents(files, all);
  return all;
}

Outcome ImageObjective::measure(const Configuration& configuration) {
  const Json trained = train(configuration);
  const double accuracy = trained.at("accuracy");
  Outcome outcome;
  outcome.value = rounded(accuracy);
  outcome.metrics = {{"error", error_of(accuracy, trained.at("validation_images"))},
                     {"training",
                      {{"losses", told_losses(trained.at("losses"))},
                       {"validation_accuracies", told_losses(trained.at("accuracies"))},
                       {"validation_losses", told_losses(trained.at("validation_losses"))}}}};
  outcome.metrics["examples"] = describe_images(trained);
  for (const char* name : {"images_per_second", "seconds", "peak_bytes"})
    if (const Json value = trained.value(name, Json()); value.is_number()) outcome.metrics[name] = value;
  return outcome;
}

}  // namespace haqa
