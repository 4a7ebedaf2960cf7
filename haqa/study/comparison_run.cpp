#include "haqa/study/comparison_run.h"

#include <algorithm>
#include <array>
#include <map>
#include <sstream>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/space/space_file.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

/// The first line of a file: what its results are of.
Json about(const ComparisonPlan& plan, const Track& track) {
  return {{"comparison",
           {{"track", track.name},
            {"value_name", track.value_name},
            {"direction", to_string(track.direction)},
            {"space", to_json(track.space)},
            {"settings", plan.settings}}}};
}

struct Content {
  Json about;
  std::vector<MethodRun> runs;
  std::map<std::string, Json> settings_of;  ///< by method; null where a line has none
};

MethodRun& run_of(std::vector<MethodRun>& runs, const std::string& method, uint64_t seed) {
  const auto found =
      std::find_if(runs.begin(), runs.end(), [&](const MethodRun& r) { return r.method == method && r.seed == seed; });
  return found != runs.end() ? *found : runs.emplace_back(MethodRun{method, seed, {}});
}

void take_line(Content& content, const Json& line) {
  if (content.about.is_null()) {
    if (!line.is_object() || !line.contains("comparison")) throw Error("it does not begin as a comparison's file does");
    content.about = line;
    return;
  }
  MethodRun& run = run_of(content.runs, line.at("method"), line.at("seed"));
  run.trials.push_back(trial_from_json(line.at("trial")));
  content.settings_of[run.method] = line.value("settings", Json());
}

/// What is behind the last line's end is being written, or was when its writer was killed.
Content content_of(const fs::path& file) {
  std::string text = read_file(file);
  text.resize(text.rfind('\n') + 1);  // npos + 1 is 0
  std::istringstream lines(text);
  Content content;
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    try {
      take_line(content, Json::parse(line));
    } catch (const std::exception& e) {
      throw Error("{}:{}: is damaged ({}); name another file", file.string(), number, e.what());
    }
  }
  // Of parallel trials a later one may have ended first, and an earlier one never.
  for (MethodRun& run : content.runs)
    std::stable_sort(run.trials.begin(), run.trials.end(),
                     [](const Trial& a, const Trial& b) { return a.number < b.number; });
  return content;
}

/// Numbers without gaps: what had not ended when a comparison was interrupted is in no file.
void number_anew(std::vector<Trial>& trials) {
  for (size_t i = 0; i < trials.size(); ++i) trials[i].number = static_cast<int>(i);
}

/// The file of a comparison that runs; without a path it keeps nothing.
class Keeper {
 public:
  Keeper(const ComparisonPlan& plan, const Track& track) {
    if (plan.file.empty()) return;
    file_.emplace(plan.file);
    const Json now = about(plan, track);
    Content content = content_of(plan.file);
    if (content.about.is_null()) {
      file_->append(to_line(now));
    } else if (to_line(content.about) != to_line(now)) {
      throw Error("{}: holds a comparison on another search space, goal or setting; name another file",
                  plan.file.string());
    }
    settings_of_ = plan.settings_of;
    for (const std::string& method : plan.methods)
      if (const auto there = content.settings_of.find(method); there != content.settings_of.end())
        require_same(plan.file, method, there->second);
    runs_ = std::move(content.runs);
    for (MethodRun& run : runs_) {
      if (!run.trials.empty())
        gaps_[{run.method, run.seed}] = run.trials.back().number + 1 - static_cast<int>(run.trials.size());
      number_anew(run.trials);
    }
  }
  /// At most `rounds` of those that were kept before.
  std::vector<Trial> trials(const std::string& method, uint64_t seed, int rounds) {
    std::vector<Trial> all = run_of(runs_, method, seed).trials;
    all.resize(std::min(all.size(), static_cast<size_t>(std::max(0, rounds))));
    return all;
  }
  void add(const std::string& method, uint64_t seed, const Trial& trial) {
    if (!file_) return;
    Trial kept = trial;  // after all that were begun before
    if (const auto gaps = gaps_.find({method, seed}); gaps != gaps_.end()) kept.number += gaps->second;
    Json line = {{"method", method}, {"seed", seed}, {"trial", to_json(kept)}};
    if (const Json settings = settings_of(method); !settings.is_null()) line["settings"] = settings;
    file_->append(to_line(line));
  }

 private:
  Json settings_of(const std::string& method) const {
    const auto found = settings_of_.find(method);
    return found == settings_of_.end() ? Json() : found->second;
  }
  void require_same(const fs::path& file, const std::string& method, const Json& there) const {
    if (there != settings_of(method))
      throw Error("{}: what {} proposed there was with {}, not {}; name another file", file.string(), method,
                  to_line(there), to_line(settings_of(method)));
  }

  std::optional<LineFile> file_;
  std::vector<MethodRun> runs_;
  std::map<std::string, Json> settings_of_;
  std::map<std::pair<std::string, uint64_t>, int> gaps_;  ///< trials of a run that were begun and never ended
};

/// Proposes the defaults, as any method does first.
struct Deaf : Sampler {
  Proposal ask(const Track& track, std::span<const Trial>, int) override {
    return {track.space.defaults(), "default", "", {}};
  }
};

/// All methods with one seed.
class Block {
 public:
  Block(const ComparisonPlan& plan, const Track& track, Objective& objective, const SamplerMaker& make_sampler,
        uint64_t seed, Keeper& keeper)
      : plan_(plan), seed_(seed), keeper_(keeper), tracks_(plan.methods.size(), track) {
    storages_.reserve(plan.methods.size());  // the tracks hold references
    for (size_t i = 0; i < plan.methods.size(); ++i) {
      samplers_.push_back(make_sampler(plan.methods[i], seed));
      storages_.emplace_back(keeper.trials(plan.methods[i], seed, plan.rounds));
      study_.push_back({tracks_[i], *samplers_[i], objective, storages_[i]});
    }
  }

  void run(const ComparisonProgress& progress) {
    StudyOptions options;
    options.workers = plan_.workers;
    options.on_trial = [&](const Track& track, const Trial& trial) {
      keep(static_cast<size_t>(&track - tracks_.data()), trial, progress);
    };
    share_first_trial(options, progress);
    options.budget.rounds = plan_.rounds;
    run_study(study_, options);
  }

  void move_runs_to(std::vector<MethodRun>& runs) {
    for (size_t i = 0; i < storages_.size(); ++i) runs.push_back({plan_.methods[i], seed_, storages_[i].trials()});
  }

 private:
  void keep(size_t method, const Trial& trial, const ComparisonProgress& progress) {
    keeper_.add(plan_.methods[method], seed_, trial);
    if (progress) progress(plan_.methods[method], seed_, trial);
  }

  void share_first_trial(StudyOptions options, const ComparisonProgress& progress) {
    if (plan_.rounds < 1) return;
    auto with = std::find_if(storages_.begin(), storages_.end(), [](MemoryStorage& s) { return !s.trials().empty(); });
    if (with == storages_.end()) {
      options.budget.rounds = 1;
      Deaf nobody;  // the first method's sampler is told of it with all others
      run_study(std::array{StudyTrack{tracks_[0], nobody, study_[0].objective, storages_[0]}}, options);
      with = storages_.begin();
    }
    const Trial first = with->trials()[0];
    for (size_t i = 0; i < storages_.size(); ++i) {
      if (!storages_[i].trials().empty()) continue;
      storages_[i] = MemoryStorage({first});
      keep(i, first, progress);
    }
  }

  const ComparisonPlan& plan_;
  uint64_t seed_;
  Keeper& keeper_;
  std::vector<Track> tracks_;  ///< one a method: a finished trial is told by the track's address
  std::vector<std::unique_ptr<Sampler>> samplers_;
  std::vector<MemoryStorage> storages_;
  std::vector<StudyTrack> study_;
};

}  // namespace

std::vector<MethodRun> run_comparison(const ComparisonPlan& plan, const Track& track, Objective& objective,
                                      const SamplerMaker& make_sampler, const ComparisonProgress& progress) {
  Keeper keeper(plan, track);
  std::vector<MethodRun> runs;
  if (plan.methods.empty()) return runs;
  for (int seed = 0; seed < plan.seeds; ++seed) {
    Block block(plan, track, objective, make_sampler, static_cast<uint64_t>(seed), keeper);
    block.run(progress);
    block.move_runs_to(runs);
  }
  return runs;
}

StoredComparison read_comparison(const fs::path& file) {
  Content content = content_of(file);
  if (content.about.is_null()) throw Error("{}: holds no comparison; name the file of one", file.string());
  const Json& what = content.about["comparison"];
  StoredComparison stored;
  stored.direction = what.value("direction", "") == "minimize" ? Direction::minimize : Direction::maximize;
  stored.value_name = what.value("value_name", "");
  stored.runs = std::move(content.runs);
  for (MethodRun& run : stored.runs) number_anew(run.trials);
  return stored;
}

}  // namespace haqa
