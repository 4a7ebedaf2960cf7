#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <regex>
#include <string>
#include <vector>

#include "haqa/study/study.h"

namespace haqa {

/// What usually works for one kind of parameter, as data/priors/ has it: whom it is about, where its value tends to
/// lie, why, and who says so.
struct PriorEntry {
  std::regex name;  ///< found in the parameter's name, whatever its case
  std::optional<std::regex>
      about;                     ///< found in its description, its unit, the track's brief or another parameter's name
  std::optional<double> median;  ///< of a number; or
  std::string at;                ///< "low", "high" or "default": the parameter's own
  double factor = 2;             ///< two of three good values lie within median / factor and median * factor; or
  double deviation = 0;          ///< within median - deviation and median + deviation, of `at` in shares of the range
  std::map<std::string, double> weights;  ///< of a choice, by its text
  /// The median grows with another parameter: by (value / at)^power, of 1 - value where it says so.
  struct Coupling {
    std::regex name;
    double power = 1, at = 1;
    bool of_rest = false;
  };
  std::vector<Coupling> grows_with;
  std::string why, source;
};

/// The *.json files of a folder, by name. Throws Error where it is none.
std::vector<std::filesystem::path> json_files(const std::filesystem::path& folder);

/// All entries of the *.json files of a folder, in the order of their names. Throws Error naming the file and what is
/// missing or wrong in it.
std::vector<PriorEntry> read_priors(const std::filesystem::path& folder);

/// What is known of a track's well-known parameters before any trial. Densities have heavy tails: a wrong prior can be
/// overcome.
class Prior {
 public:
  /// nullopt where no entry is about any parameter of the track. For each parameter the first entry counts.
  static std::optional<Prior> match(const Track& track, std::span<const PriorEntry> entries);

  /// The logarithm of how likely a valid configuration is a good one, up to a constant.
  double log_density(const Configuration& configuration) const;
  /// A valid configuration drawn from it; parameters that nothing is known of stay at their defaults every other time.
  Configuration sample(std::mt19937_64& random) const;
  /// Why a configuration that differs from `from` is a good guess: for the first few parameters that do, what is known.
  std::string explain(const Configuration& configuration, const Configuration& from) const;

 private:
  struct Known {
    Parameter parameter;
    PriorEntry entry;
    std::vector<std::string>
        coupled;  ///< for each of its couplings the other parameter's name; empty where there is none
  };
  explicit Prior(const SearchSpace& space) : space_(space) {}
  double median(const Known& known, const Configuration& configuration) const;
  double log_density(const Known& known, const Configuration& configuration) const;
  Json draw(const Known& known, const Configuration& configuration, std::mt19937_64& random) const;
  Configuration drawn(std::mt19937_64& random) const;

  SearchSpace space_;
  std::vector<Known> known_;
};

}  // namespace haqa
