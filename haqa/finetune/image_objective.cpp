#include "haqa/finetune/image_objective.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/file_name.h"
#include "haqa/dataset/split.h"
#include "haqa/finetune/bit_width_choice.h"
#include "haqa/images/image_set.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

/// What the worker reads from a configuration. The names are those of data/spaces/resnet.yaml.
constexpr std::array<Hyperparameter, 5> kHyperparameters = {{{"learning_rate", false, kAboveZero, kAny},
                                                             {"batch_size", true, 1, 1e6},
                                                             {"weight_decay", false, 0, kAny},
                                                             {"momentum", false, 0, 1},
                                                             {"num_epochs", true, 1, 1e6}}};

/// Of a share p of n. Source: lm-eval's, for the tasks of language models.
Json standard_error(double p, double n) {
  return n > 1 ? Json(rounded(std::sqrt(p * (1 - p) / (n - 1)))) : Json(nullptr);
}

/// In the form of what language models are measured on: the images are the one task.
Json accuracies(const ImageSetup& setup, double accuracy, double images) {
  const Json error = standard_error(accuracy, images), value = rounded(accuracy);
  const std::string name = fs::path(setup.images / "").parent_path().filename().string();
  return {{"tasks", {{name, {{"accuracy", value}, {"error", error}}}}}, {"mean", value}, {"error", error}};
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
  std::string text = fmt::format("{} images", trained.at("training_images").get<int64_t>());
  if (const auto skipped = trained.at("skipped").get<int64_t>(); skipped > 0)
    text += fmt::format("; {} damaged left out, the first: {}", skipped,
                        trained.at("skipped_files").front().get<std::string>());
  return text;
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
  return {data.classes, split.training.size(), split.validation.size(), data.test.size()};
}

ImageCounts check_image_training(const ImageSetup& setup, const SearchSpace& space) {
  check_hyperparameters(space, kHyperparameters);
  if (!setup.model.empty() && !fs::is_regular_file(setup.model))
    throw Error("{}: no such file; haqa pretrain images makes one", setup.model.string());
  ImageCounts counts = count_images(setup);
  check_batches(space, counts);
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
  const Json found = call_worker("haqa-train", request);
  return accuracies(setup_, found.at("accuracy"), found.at("images"));
}

Json ImageObjective::full_precision(Half half) const {
  return measured(request_at(setup_.model, {32, 32}, false), half);
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

Json ImageObjective::fingerprints() const {
  Json all = Json::object();
  std::vector<fs::path> files = {setup_.model};
  for (const fs::directory_entry& entry : fs::directory_iterator(setup_.images))
    if (entry.is_regular_file() && entry.path().extension() == ".bin") files.push_back(entry.path());
  for (const fs::path& file : files) all[file.string()] = fmt::format("{:016x}", fnv1a_64(read_file(file)));
  return all;
}

Outcome ImageObjective::measure(const Configuration& configuration) {
  const Json trained = train(configuration);
  const double accuracy = trained.at("accuracy");
  Outcome outcome;
  outcome.value = rounded(accuracy);
  outcome.metrics = {{"error", standard_error(accuracy, trained.at("validation_images"))},
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
