#include "haqa/sampler/prior.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "haqa/base/error.h"
#include "haqa/base/file.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

std::regex pattern(const Json& text) {
  return std::regex(text.get<std::string>(), std::regex::icase | std::regex::ECMAScript);
}

bool found(const std::regex& r, const std::string& text) {
  return std::regex_search(text, r);
}

PriorEntry read_entry(const Json& json) {
  const std::set<std::string> known = {"name",    "about",     "median",     "at",  "factor",
                                       "weights", "deviation", "grows_with", "why", "source"};
  if (!json.is_object()) throw Error("is no JSON object");
  for (const auto& [key, value] : json.items())
    if (!known.contains(key)) throw Error("{} is no key", key);
  PriorEntry e;
  e.name = pattern(json.at("name"));
  if (json.contains("about")) e.about = pattern(json["about"]);
  if (json.contains("median")) e.median = json["median"].get<double>();
  e.at = json.value("at", "");
  e.factor = json.value("factor", e.factor);
  e.deviation = json.value("deviation", e.at.empty() ? 0.0 : 0.25);
  e.weights = json.value("weights", e.weights);
  for (const Json& c : json.value("grows_with", Json::array()))
    e.grows_with.push_back({pattern(c.at("name")), c.at("power"), c.at("at"), c.value("of_rest", false)});
  e.why = json.at("why");
  e.source = json.at("source");
  if ((e.median ? 1 : 0) + (e.at.empty() ? 0 : 1) + (e.weights.empty() ? 0 : 1) != 1)
    throw Error("one of median, at and weights is needed");
  if (!e.at.empty() && e.at != "low" && e.at != "high" && e.at != "default") throw Error("at is low, high or default");
  if (!(e.factor > 1) || !(e.deviation >= 0) || (e.median && e.deviation == 0 && !(*e.median > 0)))
    throw Error("the factor must be above 1, the deviation and, without one, the median above 0");
  return e;
}

/// Whether an entry is about a parameter of the track.
bool is_about(const PriorEntry& entry, const Parameter& p, const Track& track) {
  if (!found(entry.name, p.name) || p.type == ParameterType::text) return false;
  const bool number = is_numeric(p), ordered = number || is_ordinal(p);
  if (entry.weights.empty() ? !ordered : number) return false;
  if (!entry.at.empty() && !number) return false;
  if (!entry.about) return true;
  std::string text = fmt::format("{}\n{}\n{}\n{}", p.description, p.unit, track.brief, track.name);
  for (const Parameter& other : track.space.parameters())
    if (other.name != p.name) text += '\n' + other.name;
  return found(*entry.about, text);
}

std::string text_of(const Json& choice) {
  return choice.is_string() ? choice.get<std::string>() : choice.dump();
}

/// Student's t with 3 degrees of freedom, up to a constant.
double heavy_tailed(double z) {
  return -2 * std::log1p(z * z / 3);
}

double place_of(const Parameter& p, const std::string& at) {
  return at == "low" ? 0 : at == "high" ? 1 : unit_of(p, p.default_value);
}

}  // namespace

std::vector<fs::path> json_files(const fs::path& folder) {
  std::set<fs::path> files;
  if (!fs::is_directory(folder)) throw Error("{}: is no folder of priors", folder.string());
  for (const fs::directory_entry& f : fs::directory_iterator(folder))
    if (f.path().extension() == ".json") files.insert(f.path());
  return {files.begin(), files.end()};
}

std::vector<PriorEntry> read_priors(const fs::path& folder) {
  std::vector<PriorEntry> entries;
  for (const fs::path& file : json_files(folder)) {
    const Json json = read_json(file);
    const Json list = json.is_object() ? json.value("priors", Json::array()) : Json::array();
    for (size_t i = 0; i < list.size(); ++i) {
      try {
        entries.push_back(read_entry(list[i]));
      } catch (const std::exception& e) {  // of the JSON library, of a regular expression
        throw Error("{}: prior {}: {}", file.string(), i + 1, e.what());
      }
    }
  }
  return entries;
}

std::optional<Prior> Prior::match(const Track& track, std::span<const PriorEntry> entries) {
  Prior prior(track.space);
  for (const Parameter& p : prior.space_.parameters()) {
    const auto entry =
        std::find_if(entries.begin(), entries.end(), [&](const auto& e) { return is_about(e, p, track); });
    if (entry == entries.end()) continue;
    prior.known_.push_back({p, *entry, {}});
    for (const PriorEntry::Coupling& c : entry->grows_with) {
      const auto other = std::find_if(prior.space_.parameters().begin(), prior.space_.parameters().end(),
                                      [&](const Parameter& o) { return o.name != p.name && found(c.name, o.name); });
      prior.known_.back().coupled.push_back(other == prior.space_.parameters().end() ? "" : other->name);
    }
  }
  // Those that grow with another come after it, as they are drawn in this order.
  std::stable_partition(prior.known_.begin(), prior.known_.end(),
                        [](const Known& k) { return k.entry.grows_with.empty(); });
  if (prior.known_.empty()) return std::nullopt;
  return prior;
}

double Prior::median(const Known& known, const Configuration& configuration) const {
  double median = *known.entry.median;
  for (size_t i = 0; i < known.coupled.size(); ++i) {
    const auto value = configuration.find(known.coupled[i]);
    if (value == configuration.end() || !value->is_number()) continue;
    const PriorEntry::Coupling& c = known.entry.grows_with[i];
    const double x = c.of_rest ? 1 - value->get<double>() : value->get<double>();
    if (x > 0) median *= std::pow(x / c.at, c.power);
  }
  return median;
}

double Prior::log_density(const Known& known, const Configuration& configuration) const {
  const PriorEntry& e = known.entry;
  const auto at = configuration.find(known.parameter.name);
  if (at == configuration.end()) return 0;
  if (!e.weights.empty()) {
    const auto weight = e.weights.find(text_of(*at));
    return weight == e.weights.end() ? 0 : std::log(std::max(weight->second, 1e-3));
  }
  if (!e.at.empty())
    return heavy_tailed((unit_of(known.parameter, *at) - place_of(known.parameter, e.at)) / e.deviation);
  const double value = at->get<double>(), middle = median(known, configuration);
  if (e.deviation > 0) return heavy_tailed((value - middle) / e.deviation);
  return heavy_tailed(std::log(std::max(value, 1e-12) / middle) / std::log(e.factor));
}

double Prior::log_density(const Configuration& configuration) const {
  double sum = 0;
  for (const Known& known : known_) sum += log_density(known, configuration);
  return sum;
}

Json Prior::draw(const Known& known, const Configuration& configuration, std::mt19937_64& random) const {
  const PriorEntry& e = known.entry;
  const Parameter& p = known.parameter;
  if (!e.weights.empty()) {
    const std::vector<Json> choices = p.type == ParameterType::boolean ? std::vector<Json>{false, true} : p.choices;
    std::vector<double> weights;
    for (const Json& c : choices) {
      const auto weight = e.weights.find(text_of(c));
      weights.push_back(weight == e.weights.end() ? 1 : weight->second);
    }
    return choices[std::discrete_distribution<size_t>(weights.begin(), weights.end())(random)];
  }
  const double z = std::student_t_distribution<double>(3)(random);
  if (!e.at.empty()) return value_at(p, place_of(p, e.at) + z * e.deviation);
  const double middle = median(known, configuration);
  const double value = e.deviation > 0 ? middle + z * e.deviation : middle * std::pow(e.factor, z);
  if (p.type != ParameterType::categorical) return value;
  return *std::min_element(p.choices.begin(), p.choices.end(), [&](const Json& a, const Json& b) {
    return std::abs(a.get<double>() - value) < std::abs(b.get<double>() - value);
  });
}

Configuration Prior::drawn(std::mt19937_64& random) const {
  Configuration all = std::bernoulli_distribution(0.5)(random) ? space_.defaults() : space_.sample(random);
  for (const Known& known : known_) all[known.parameter.name] = draw(known, all, random);
  return space_.clipped(all);
}

Configuration Prior::sample(std::mt19937_64& random) const {
  for (int attempt = 0; attempt < 100; ++attempt)
    if (Configuration all = drawn(random); space_.allows(all)) return all;
  return space_.sample(random);
}

std::string Prior::explain(const Configuration& configuration, const Configuration& from) const {
  std::vector<std::string> reasons;
  for (const Known& known : known_) {
    const std::string& name = known.parameter.name;
    if (!configuration.contains(name) || (from.contains(name) && from.at(name) == configuration.at(name))) continue;
    if (reasons.size() == 3) break;
    reasons.push_back(
        fmt::format("{} {}: {} ({})", name, configuration.at(name).dump(), known.entry.why, known.entry.source));
  }
  return fmt::format("{}", fmt::join(reasons, "; "));
}

}  // namespace haqa
