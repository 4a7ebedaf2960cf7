#include "haqa/finetune/training_objective.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "haqa/adapter/merge.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTold = "training.json";

void check_values(const Parameter& p, const Hyperparameter& known) {
  for (const Json& value : values_within(p)) {
    const double number = value.is_number() ? value.get<double>() : -1;
    const bool fits = value.is_number() && number >= known.low && number < known.below;
    const bool whole = p.type == ParameterType::integer ||
                       (value.is_number() && p.type == ParameterType::categorical && number == std::floor(number));
    if (!fits || (known.whole && !whole))
      throw UsageError("the search space's '{}' may be {}; a fine-tuning takes {}numbers {}{}", p.name,
                       value.is_number() ? fmt::format("{}", number) : value.dump(), known.whole ? "whole " : "",
                       known.low == kAboveZero ? "above 0" : fmt::format("from {}", known.low),
                       known.below == kAny ? "" : fmt::format(" to below {}", known.below));
  }
}

/// The worker says in words what it met; that a training diverged is a result of it, though not one to use.
FailReason reason_of(const WorkerError& error) {
  const std::string_view what = error.what();
  if (what.starts_with("the training diverged")) return FailReason::wrong_result;
  switch (error.end) {
    case ProcessEnd::out_of_memory:
      return FailReason::out_of_memory;
    case ProcessEnd::timed_out:
      return FailReason::timed_out;
    default:
      return FailReason::crashed;
  }
}

}  // namespace

std::vector<Json> values_within(const Parameter& p) {
  return p.type == ParameterType::categorical ? p.choices : std::vector<Json>{p.low, p.high};
}

void check_hyperparameters(const SearchSpace& space, std::span<const Hyperparameter> known) {
  std::vector<std::string_view> names;
  for (const Hyperparameter& h : known) names.push_back(h.name);
  for (const Parameter& p : space.parameters()) {
    const auto found =
        std::find_if(known.begin(), known.end(), [&](const Hyperparameter& h) { return h.name == p.name; });
    if (found == known.end())
      throw UsageError("the search space has '{}', which is no parameter of a fine-tuning; there are {}", p.name,
                       fmt::join(names, ", "));
    check_values(p, *found);
  }
}

double rounded(double value) {
  return std::round(value * 1e6) / 1e6;
}

Outcome failure(FailReason reason, std::string message) {
  Outcome outcome;
  outcome.reason = reason;
  outcome.message = std::move(message);
  return outcome;
}

Json told_losses(const Json& losses) {
  Json told = Json::array();
  for (const Json& loss : losses) told.push_back(std::round(loss.get<double>() * 1e4) / 1e4);
  return told;
}

TrainingObjective::TrainingObjective(const SearchSpace& space, fs::path trained, const WorkerLimits& limits,
                                     uint64_t seed, std::function<void(std::string_view, double)> progress)
    : space_(space), trained_(fs::absolute(trained)), limits_(limits), seed_(seed), progress_(std::move(progress)) {}

void TrainingObjective::tell(std::string_view what, double share) const {
  if (progress_) progress_(what, share);
}

fs::path TrainingObjective::trained_folder(const Configuration& configuration) const {
  return trained_ / fmt::format("{}-{}", space_.hash(configuration), seed_);
}

void TrainingObjective::keep_only(std::span<const Configuration> configurations) const {
  if (!fs::exists(trained_)) return;
  std::vector<std::string> kept;
  for (const Configuration& c : configurations) kept.push_back(space_.hash(c) + "-");
  for (const fs::directory_entry& entry : fs::directory_iterator(trained_)) {
    const std::string name = entry.path().filename().string();
    std::error_code ignored;
    if (std::none_of(kept.begin(), kept.end(), [&](const std::string& k) { return name.starts_with(k); }))
      fs::remove_all(entry.path(), ignored);
  }
}

Json TrainingObjective::train(const Configuration& configuration) {
  const fs::path folder = trained_folder(configuration), told = folder / kTold;
  if (fs::exists(told)) return read_json(told);
  make_folder(folder);
  const Json result =
      call_worker("haqa-train", request(configuration), limits_, [&](double share) { tell("training", share); });
  write_file(told, result.dump(2) + "\n");
  std::error_code ignored;
  for (const char* no_more : {"checkpoint", "losses.json"}) fs::remove(folder / no_more, ignored);
  return result;
}

Outcome TrainingObjective::evaluate(const Configuration& configuration, const Report&) {
  const fs::path folder = trained_folder(configuration);
  const bool is_earlier_trials = fs::exists(folder / kTold);
  const auto failed = [&](FailReason reason, const char* what) {
    std::error_code ignored;
    if (!is_earlier_trials) fs::remove_all(folder, ignored);
    return failure(reason, what);
  };
  try {
    return measure(configuration);
  } catch (const WrongResult& e) {
    return failed(FailReason::wrong_result, e.what());
  } catch (const MergeRangeError& e) {
    return failed(FailReason::wrong_result, e.what());
  } catch (const WorkerError& e) {
    return failed(reason_of(e), e.what());
  }
}

}  // namespace haqa
