#include "haqa/study/comparison_run.h"

#include <algorithm>
#include <array>
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
  // Of parallel trials a later one may have ended first, and an earlier one never.
  run.trials.back().number = static_cast<int>(run.trials.size()) - 1;
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
  return content;
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
    runs_ = std::move(content.runs);
  }
  /// At most `rounds` of those that were kept before.
  std::vector<Trial> trials(const std::string& method, uint64_t seed, int rounds) {
    std::vector<Trial> all = run_of(runs_, method, seed).trials;
    all.resize(std::min(all.size(), static_cast<size_t>(std::max(0, rounds))));
    return all;
  }
  void add(const std::string& method, uint64_t seed, const Trial& trial) {
    if (file_) file_->append(to_line({{"method", method}, {"seed", seed}, {"trial", to_json(trial)}}));
  }

 private:
  std::optional<LineFile> file_;
  std::vector<MethodRun> runs_;
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
  return stored;
}

}  // namespace haqa
