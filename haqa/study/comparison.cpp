#include "haqa/study/comparison.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "haqa/base/csv.h"
#include "haqa/base/error.h"
#include "haqa/base/text.h"

namespace haqa {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// By seed: what a run came to, the greater the better; -infinity without a complete trial.
using Results = std::map<uint64_t, double>;

double sign_of(Direction direction) {
  return direction == Direction::maximize ? 1 : -1;
}

std::vector<std::string> methods_of(std::span<const MethodRun> runs) {
  std::vector<std::string> names;
  for (const MethodRun& run : runs)
    if (std::find(names.begin(), names.end(), run.method) == names.end()) names.push_back(run.method);
  return names;
}

std::string checked_reference(const std::vector<std::string>& methods, std::string reference) {
  if (methods.empty()) throw UsageError("there is no run to compare; run at least one method");
  const auto has = [&](const std::string& name) {
    return std::find(methods.begin(), methods.end(), name) != methods.end();
  };
  if (reference.empty()) return has("random") ? "random" : methods[0];
  if (!has(reference))
    throw UsageError("the reference {} is not among the methods; choose one of {}", one_line(reference),
                     fmt::join(methods, ", "));
  return reference;
}

/// The runs as far as the shortest one of their seed came.
std::vector<MethodRun> equal_budgets(std::span<const MethodRun> runs) {
  std::map<uint64_t, size_t> shortest;
  for (const MethodRun& run : runs) {
    const auto at = shortest.emplace(run.seed, run.trials.size()).first;
    at->second = std::min(at->second, run.trials.size());
  }
  std::vector<MethodRun> equal(runs.begin(), runs.end());
  for (MethodRun& run : equal) run.trials.resize(shortest[run.seed]);
  return equal;
}

size_t trials_in(std::span<const MethodRun> runs) {
  size_t sum = 0;
  for (const MethodRun& run : runs) sum += run.trials.size();
  return sum;
}

std::map<std::string, Results> results_of(std::span<const MethodRun> runs, Direction direction) {
  std::map<std::string, Results> results;
  for (const MethodRun& run : runs) {
    const Trial* best = best_trial(run.trials, direction);
    const double result = best ? sign_of(direction) * *best->value : -kInfinity;
    if (!results[run.method].emplace(run.seed, result).second)
      throw UsageError("two runs of {} have the seed {}; keep one of them", run.method, run.seed);
  }
  return results;
}

std::vector<uint64_t> seeds_of_all(const std::map<std::string, Results>& results) {
  std::vector<uint64_t> common;
  for (const auto& [seed, result] : results.begin()->second)
    if (std::all_of(results.begin(), results.end(), [&, s = seed](const auto& r) { return r.second.contains(s); }))
      common.push_back(seed);
  return common;
}

/// [blocks][methods]: the less the better.
std::vector<std::vector<double>> losses_of(const std::vector<std::string>& methods,
                                           const std::map<std::string, Results>& results) {
  std::vector<std::vector<double>> rows;
  for (const uint64_t seed : seeds_of_all(results)) {
    rows.emplace_back();
    for (const std::string& m : methods) rows.back().push_back(-results.at(m).at(seed));
  }
  return rows;
}

Versus versus(const Results& method, const Results& reference) {
  Versus v;
  std::vector<double> gains;
  for (const auto& [seed, result] : method) {
    const auto other = reference.find(seed);
    if (other == reference.end()) continue;
    gains.push_back(result == other->second ? 0 : result - other->second);  // infinity less itself is NaN
    ++(gains.back() > 0 ? v.wins : gains.back() < 0 ? v.losses : v.ties);
  }
  v.gain = estimate_median(gains);
  v.p = v.p_holm = wilcoxon_signed_rank(gains).p;
  return v;
}

void add_metric(std::optional<double>& sum, const Trial& t, const char* name) {
  const auto found = t.metrics.find(name);
  if (found != t.metrics.end() && found->is_number()) sum = sum.value_or(0) + found->get<double>();
}

void count_trials(MethodSummary& m, std::span<const Trial> trials) {
  for (const Trial& t : trials) {
    ++m.evaluations;
    m.failures += t.state == TrialState::failed;
    m.propose_s += t.propose_s;
    m.evaluate_s += t.evaluate_s;
    add_metric(m.tokens, t, "prompt_tokens");
    add_metric(m.tokens, t, "completion_tokens");
    add_metric(m.cost_usd, t, "cost_usd");
  }
}

/// values: [rounds][seeds].
std::vector<CurvePoint> curve_of(const std::vector<std::vector<double>>& values) {
  std::vector<CurvePoint> curve;
  for (const std::vector<double>& round : values)
    curve.push_back({static_cast<int>(round.size()), mean(round), round.empty() ? kNan : standard_deviation(round)});
  return curve;
}

MethodSummary summary_of(const std::string& method, std::span<const MethodRun> runs, Direction direction,
                         size_t rounds) {
  MethodSummary m;
  m.method = method;
  std::vector<std::vector<double>> values(rounds);
  for (const MethodRun& run : runs) {
    if (run.method != method) continue;
    ++m.seeds;
    count_trials(m, run.trials);
    const auto best = best_so_far(run.trials, direction);
    if (best.empty() || !best.back()) ++m.without_value;
    for (size_t i = 0; i < rounds && !best.empty(); ++i)
      if (const auto& value = best[std::min(i, best.size() - 1)]) values[i].push_back(*value);
  }
  m.curve = curve_of(values);
  const std::vector<double> final_values = values.empty() ? std::vector<double>() : values.back();
  m.mean = mean(final_values);
  m.deviation = final_values.empty() ? kNan : standard_deviation(final_values);
  m.median = median(final_values);
  return m;
}

void correct(std::vector<MethodSummary>& methods) {
  std::vector<double> p;
  for (const MethodSummary& m : methods)
    if (m.versus) p.push_back(m.versus->p);
  const std::vector<double> corrected = holm(p);
  auto next = corrected.begin();
  for (MethodSummary& m : methods)
    if (m.versus) m.versus->p_holm = *next++;
}

Json finite(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

Json finite(const std::optional<double>& value) {
  return value ? finite(*value) : Json(nullptr);
}

Json to_json(const MethodSummary& m) {
  Json json = {{"method", m.method},
               {"seeds", m.seeds},
               {"without_value", m.without_value},
               {"mean", finite(m.mean)},
               {"deviation", finite(m.deviation)},
               {"median", finite(m.median)},
               {"mean_rank", finite(m.mean_rank)},
               {"evaluations", m.evaluations},
               {"failures", m.failures},
               {"propose_s", m.propose_s},
               {"evaluate_s", m.evaluate_s},
               {"tokens", finite(m.tokens)},
               {"cost_usd", finite(m.cost_usd)},
               {"versus", nullptr}};
  if (const auto& v = m.versus)
    json["versus"] = {
        {"wins", v->wins},
        {"ties", v->ties},
        {"losses", v->losses},
        {"gain", {{"median", finite(v->gain.median)}, {"low", finite(v->gain.low)}, {"high", finite(v->gain.high)}}},
        {"p", finite(v->p)},
        {"p_holm", finite(v->p_holm)}};
  json["curve"] = Json::array();
  for (const CurvePoint& c : m.curve)
    json["curve"].push_back({{"seeds", c.seeds}, {"mean", finite(c.mean)}, {"deviation", finite(c.deviation)}});
  return json;
}

}  // namespace

std::string csv_number(std::optional<double> value) {
  return value && std::isfinite(*value) ? fmt::format("{}", *value) : "";
}

std::vector<std::optional<double>> best_so_far(std::span<const Trial> trials, Direction direction) {
  std::vector<std::optional<double>> best;
  const double sign = sign_of(direction);
  std::optional<double> incumbent;
  for (const Trial& t : trials) {
    if (has_finite_value(t) && t.fits && (!incumbent || sign * *t.value > sign * *incumbent)) incumbent = t.value;
    best.push_back(incumbent);
  }
  return best;
}

void check_methods(const std::vector<std::string>& methods, const std::string& reference) {
  for (auto name = methods.begin(); name != methods.end(); ++name)
    if (std::find(methods.begin(), name, *name) != name)
      throw UsageError("the method {} is named twice; name it once", one_line(*name));
  checked_reference(methods, reference);
}

MethodComparison compare_methods(std::span<const MethodRun> all, Direction direction, std::string reference) {
  const std::vector<std::string> methods = methods_of(all);
  const std::vector<MethodRun> runs = equal_budgets(all);
  MethodComparison c;
  c.left_out = static_cast<int>(trials_in(all) - trials_in(runs));
  c.direction = direction;
  c.reference = checked_reference(methods, std::move(reference));
  for (const MethodRun& run : runs) c.rounds = std::max(c.rounds, static_cast<int>(run.trials.size()));
  const std::map<std::string, Results> results = results_of(runs, direction);
  const std::vector<std::vector<double>> losses = losses_of(methods, results);
  const std::vector<double> mean_rank = mean_ranks(losses);
  c.blocks = static_cast<int>(losses.size());
  c.friedman = friedman(losses);
  for (size_t i = 0; i < methods.size(); ++i) {
    c.methods.push_back(summary_of(methods[i], runs, direction, static_cast<size_t>(c.rounds)));
    c.methods.back().mean_rank = losses.empty() ? kNan : mean_rank[i];
    if (methods[i] != c.reference) c.methods.back().versus = versus(results.at(methods[i]), results.at(c.reference));
  }
  correct(c.methods);
  std::stable_sort(c.methods.begin(), c.methods.end(),
                   [](const auto& a, const auto& b) { return a.mean_rank < b.mean_rank; });
  return c;
}

Json to_json(const MethodComparison& c) {
  Json json = {{"direction", to_string(c.direction)},
               {"reference", c.reference},
               {"rounds", c.rounds},
               {"blocks", c.blocks},
               {"left_out", c.left_out},
               {"friedman", {{"statistic", finite(c.friedman.statistic)}, {"p", finite(c.friedman.p)}}},
               {"methods", Json::array()}};
  for (const MethodSummary& m : c.methods) json["methods"].push_back(to_json(m));
  return json;
}

std::string summary_csv(const MethodComparison& c) {
  std::string csv =
      "method,seeds,mean,sd,median,mean_rank,wins,ties,losses,gain,gain_low,gain_high,p,p_holm,evaluations,failures,"
      "seeds_without_value,propose_s,evaluate_s,tokens,cost_usd\n";
  for (const MethodSummary& m : c.methods) {
    const Versus none{.gain = {kNan, kNan, kNan}, .p = kNan, .p_holm = kNan}, &v = m.versus ? *m.versus : none;
    const auto games = [&](int n) { return m.versus ? std::to_string(n) : ""; };
    csv += fmt::format("{},{},{},{},{},{},{},{},{},", csv_field(m.method), m.seeds, csv_number(m.mean),
                       csv_number(m.deviation), csv_number(m.median), csv_number(m.mean_rank), games(v.wins),
                       games(v.ties), games(v.losses));
    csv += fmt::format("{},{},{},{},{},", csv_number(v.gain.median), csv_number(v.gain.low), csv_number(v.gain.high),
                       csv_number(v.p), csv_number(v.p_holm));
    csv += fmt::format("{},{},{},{},{},{},{}\n", m.evaluations, m.failures, m.without_value, m.propose_s, m.evaluate_s,
                       csv_number(m.tokens), csv_number(m.cost_usd));
  }
  return csv;
}

std::string curves_csv(std::span<const MethodRun> runs, Direction direction) {
  std::string csv = "method,seed,round,value,best\n";
  for (const MethodRun& run : runs) {
    const auto best = best_so_far(run.trials, direction);
    for (size_t i = 0; i < run.trials.size(); ++i) {
      const Trial& t = run.trials[i];
      csv += fmt::format("{},{},{},{},{}\n", csv_field(run.method), run.seed, i + 1,
                         t.state == TrialState::complete ? csv_number(t.value) : "", csv_number(best[i]));
    }
  }
  return csv;
}

}  // namespace haqa
