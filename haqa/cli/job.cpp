#include "haqa/cli/job.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <thread>

#include "haqa/agent/joint_agent.h"
#include "haqa/base/bytes.h"
#include "haqa/base/file.h"
#include "haqa/cli/agent_setup.h"
#include "haqa/cli/facts.h"
#include "haqa/cli/logged_sampler.h"
#include "haqa/deploy/quantize.h"
#include "haqa/hardware/detect.h"
#include "haqa/report/findings.h"
#include "haqa/report/report.h"
#include "haqa/report/trade_offs.h"
#include "haqa/space/space_file.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

/// Exchanges with the provider that came to something: one whose proposal was not logged before a kill is had again.
size_t exchanges_used(const RunLog& log) {
  Json last = log.result_of("agent_bit_width");
  for (size_t round = 1;; ++round) {  // the first is the defaults, which nobody proposed
    const Json proposal = log.result_of(fmt::format("proposal:{}", round));
    if (proposal.is_null()) return last.is_object() ? last.value("exchanges", size_t{0}) : 0;
    last = proposal;
  }
}

/// What a transcript's first question was about.
std::string first_track(const fs::path& transcript) {
  const std::string text = read_file(transcript);
  const Json line = Json::parse(text.substr(0, text.find('\n')), nullptr, /*allow_exceptions=*/false);
  return line.is_object() ? line.value("track", "") : "";
}

Json trials_of(const RunLog& log) {
  Json all = Json::array();
  for (const Trial& t : log.finished()) all.push_back(to_json(t));
  return all;
}

/// Whether the fine-tuning is proposed by another sampler than the one agent of all tracks.
bool has_own_sampler(const FinetuneTask& task) {
  return !task.sampler.empty() && task.sampler != "agent";
}

Json to_json(const std::vector<Measurement>& row) {
  Json list = Json::array();
  for (const Measurement& m : row)
    list.push_back({m.prompt_tokens_per_s, m.generate_tokens_per_s, m.request_s, m.tokens_per_s, m.peak_bytes});
  return list;
}

std::vector<Measurement> measurements_from(const Json& list) {
  std::vector<Measurement> row;
  for (const Json& m : list) row.push_back({m.at(0), m.at(1), m.at(2), m.at(3), m.at(4)});
  return row;
}

}  // namespace

void check_job(const Task& task) {
  if (!task.finetune) return;
  const FinetuneTask& finetune = finetune_section(task);
  if (finetune.images)
    throw UsageError("{}: a network for images is not deployed in llama.cpp; tune it by haqa finetune",
                     task.file.string());
  if (finetune.sampler == "hybrid")
    throw UsageError("{}: finetune.sampler hybrid is for haqa finetune; leave it out, or take expert, bayesian, ...",
                     task.file.string());
  if (finetune.rounds && *finetune.rounds != task.rounds)
    throw UsageError("{}: finetune.rounds {} is not tuning.rounds {}, which is the rounds of both; leave it out",
                     task.file.string(), *finetune.rounds, task.rounds);
  const std::vector<BitWidth>& allowed = task.bit_widths;
  if (finetune.bit_width && !allowed.empty() &&
      std::find(allowed.begin(), allowed.end(), *finetune.bit_width) == allowed.end())
    throw UsageError("{}: finetune.bit_width {} is none of bit_widths; leave one of the two out", task.file.string(),
                     to_string(*finetune.bit_width));
  const SearchSpace space = read_space(finetune.space);
  check_sampler(finetune.sampler, space);
  check_finetune(finetune_setup(finetune), space);
}

Job::Job(const Task& task, RunLog& log, Progress& progress) : task_(task), log_(log), progress_(progress) {}
Job::~Job() = default;

/// Whether the agent has rounds left to answer for.
bool Job::asks_again() {
  const auto has_rounds = [this](const std::vector<Trial>& done) {
    return static_cast<int>(done.size()) < task_.rounds;
  };
  const bool is_here = task_.device == "this-machine";
  const bool teaches = task_.finetune && !has_own_sampler(*task_.finetune);
  const std::vector<Trial>&deployed = log_.finished(), &taught = log_.beside(kFinetuneTrack).finished();
  const bool chooses_bit_width = deployed.empty() && taught.empty() && log_.result_of("agent_bit_width").is_null();
  const Trial* best = best_trial(deployed, Direction::maximize);
  const bool tunes_kernels =
      best && runtime_options(best->configuration).kernels == "haqa" && VariantTuning::is_possible(task_);
  const bool deploys = is_here && log_.result_of("verification").is_null();
  return (deploys && (has_rounds(deployed) || tunes_kernels)) || (teaches && has_rounds(taught)) || chooses_bit_width;
}

Json Job::run(const std::string& command) {
  log_.add_event("start", {{"kind", kRunKind}, {"command", command}, {"task", to_json(task_)}});
  model_ = read_model(task_.model);
  remove_unfinished(log_.folder());
  const bool has_questions = asks_again();
  if (has_questions && (task_.agent.provider == "openai" || !task_.agent.replay.empty())) provider().check();
  profile_hardware();
  plan();
  if (has_questions && hardware_.here && task_.agent.provider == "self") require_room_for_prompt();
  ask_bit_width();
  weigh_bit_widths();
  decide();
  if (task_.finetune) begin_finetuning();
  if (hardware_.here || finetuning_) tune();
  if (hardware_.here) verify();
  if (finetuning_) measure_accuracy();
  bundle();
  summarize_run(command);
  clean_up(log_.folder());
  return read_summary(log_.folder());
}

void Job::profile_hardware() {
  progress_.step("hardware: detecting and measuring");
  const Json found = log_.once("hardware", [&] {
    return to_json(task_.device == "this-machine" ? measure_hardware() : load_device(task_.device));
  });
  hardware_ = profile_from_json(found);
  progress_.done("hardware: " + describe(hardware_));
  if (hardware_.here) note_other_work();
}

void Job::note_other_work() {
  const CpuTime before = read_cpu_time();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const CpuTime after = read_cpu_time();
  const double all = static_cast<double>(after.all - before.all);
  const double share = all > 0 ? static_cast<double>(after.busy - before.busy) / all : 0;
  if (share < 0.25) return;
  progress_.note(
      fmt::format("the processors are {:.0f} % busy with other work: what is timed now will be noise", 100 * share));
  log_.add_event("busy", {{"share", share}});
}

void Job::plan() {
  MemoryUse use;
  use.n_ctx = task_.context;
  use.amx = hardware_.has("amx_int8");
  const uint64_t memory = hardware_.here ? hardware_.free_bytes : hardware_.memory_bytes;
  std::optional<uint64_t> limit = task_.memory_limit;
  if (!limit && memory > 0) limit = memory;
  plan_ = plan_memory(model_, use, limit);
  const bool named = task_.finetune && task_.finetune->bit_width;
  restrict_plan(plan_, model_, named ? std::vector{*task_.finetune->bit_width} : task_.bit_widths);
  progress_.note(fmt::format("memory: {}", describe(plan_)));
  if (!plan_.any_fits()) throw Error("{}", explain_no_fit(model_, plan_));
  candidates_ =
      predict_bit_widths(hardware_, model_, plan_, task_.workload.prompt_tokens + task_.workload.generate_tokens / 2);
}

void Job::weigh_bit_widths() {
  quality_.emplace(task_, model_, log_, progress_, hardware_.here ? hardware_.threads : 0,
                   [this](const std::string& type) { return model_file(type); });
  quality_->reference();
  for (BitWidthCandidate& candidate : candidates_)
    if (candidate.refused.empty()) prepare(candidate);
  if (hardware_.here) measure_bit_widths();
}

/// Quantizes and measures quality; a format that fails is refused with its reason, and the others go on.
void Job::prepare(BitWidthCandidate& c) {
  const std::string type = c.memory.gguf_type;
  const Json failure = log_.once("prepare:" + type, [&]() -> Json {
    try {
      model_file(type);
      quality_->loss(type, "f16", "f16");
      return "";
    } catch (const WorkerError& e) {
      progress_.note(fmt::format("{}: {}", type, e.what()));
      return e.what();
    }
  });
  c.refused = failure;
  if (!c.refused.empty()) return;
  c.quality = quality_->loss(type, "f16", "f16");
  c.refused = c.quality->value("refused", "");
}

void Job::measure_bit_widths() {
  const Json rows = log_.once("bit_widths", [&] { return measure_formats(); });
  for (BitWidthCandidate& c : candidates_) {
    const Json row = rows.value(c.memory.gguf_type, Json());
    if (row.is_string()) c.refused = row;
    if (row.is_array()) c.measured = measurements_from(row);
  }
}

/// For each GGUF type its measurements, or why it failed: then the others are measured anew, without it.
Json Job::measure_formats() {
  Json rows = Json::object();
  for (;;) {
    std::vector<Setup> setups;
    std::string names, running;
    for (const BitWidthCandidate& c : candidates_) {
      if (!c.refused.empty() || rows.contains(c.memory.gguf_type)) continue;
      setups.push_back({model_file(c.memory.gguf_type), {}});
      setups.back().options.gguf_type = c.memory.gguf_type;
      names += " " + c.memory.gguf_type;
    }
    progress_.step(fmt::format("bit widths: {} repetitions of {} formats, in turn", task_.repetitions, setups.size()));
    const Benchmark time = llama_bench(task_.workload, task_.timeout_s, bench_limit());
    const Benchmark watched = [&](const Setup& s) {
      running = s.options.gguf_type;
      return time(s);
    };
    try {
      for (int r = 0; r < task_.repetitions; ++r) {
        const Json once = log_.once(fmt::format("repetition:{}{}", r, names), [&] {
          Json all = Json::array();
          for (const auto& row : measure_interleaved(watched, setups, 1, {}, static_cast<size_t>(r)))
            all.push_back(to_json(row).front());
          return all;
        });
        for (size_t i = 0; i < setups.size(); ++i) rows[setups[i].options.gguf_type].push_back(once.at(i));
        progress_.update(static_cast<double>(r + 1) / task_.repetitions);
      }
      progress_.done();
      return rows;
    } catch (const WorkerError& e) {
      progress_.done(fmt::format("{}: {}", running, e.what()));
      for (const Setup& s : setups) rows.erase(s.options.gguf_type);
      rows[running] = e.what();
    }
  }
}

/// llama-bench keeps the logits of all its tokens, llama-server of one: what that takes is not the deployment's.
uint64_t Job::bench_limit() const {
  if (!plan_.limit) return 0;
  MemoryUse bench = plan_.use;
  bench.n_ctx = task_.workload.prompt_tokens + task_.workload.generate_tokens;
  bench.n_outputs = 0;
  const uint64_t needed = compute_bytes(model_, bench), planned = compute_bytes(model_, plan_.use);
  return *plan_.limit + (needed > planned ? needed - planned : 0);
}

void Job::ask_bit_width() {
  // The expert's opinion is the prediction itself; `self` has no model to run before one is chosen.
  const bool has_opinion = task_.agent.replay.empty()
                               ? task_.agent.provider != "expert" && task_.agent.provider != "self"
                               : fs::exists(task_.agent.replay) && first_track(task_.agent.replay) == "bit_width";
  const auto fits = std::count_if(plan_.rows.begin(), plan_.rows.end(), [](const MemoryRow& r) { return r.fits; });
  if (!has_opinion || (fits < 2 && task_.agent.replay.empty())) return;
  agent_choice_ = log_.once("agent_bit_width", [&] {
    AgentSampler agent(provider(), agent_prompts(), agent_options(), agent_events([] { return 0; }));
    const Proposal p = agent.ask(bit_width_track(), {}, 1);
    return Json{{"bit_width", p.configuration["bit_width"]},
                {"thought", p.thought},
                {"proposed_by", p.proposed_by},
                {"exchanges", lines_of(log_.folder() / "transcript.jsonl")}};
  });
  agent_choice_.erase("exchanges");
}

void Job::decide() {
  decision_ = decide_bit_width(candidates_);
  if (!decision_.chosen)
    throw Error("{} Raise memory_limit or max_quality_loss where that is the reason, or see {}", decision_.why,
                (log_.folder() / "log.jsonl").string());
  for (const BitWidthCandidate& c : candidates_)
    if (c.memory.bit_width == *decision_.chosen) gguf_type_ = c.memory.gguf_type;
  winner_ = Json::object();
  progress_.note(fmt::format("bit width: {}", decision_.why));
}

void Job::begin_finetuning() {
  FinetuneSetup setup = finetune_setup(*task_.finetune);
  setup.bit_width = *decision_.chosen;
  setup.gguf_type = gguf_type_;
  setup.merged = true;
  const SearchSpace space = read_space(task_.finetune->space);
  finetuning_.emplace(setup, space, log_, log_.beside(kFinetuneTrack).finished(), progress_);
  finetuning_->begin();
  for (const BitWidthCandidate& c : candidates_)
    if (c.refused.empty()) untuned_accuracy(c.memory.gguf_type);
}

/// Of the untuned model in a type; null where it cannot be had, as it decides nothing.
Json Job::untuned_accuracy(const std::string& gguf_type) {
  try {
    return finetuning_->untuned(gguf_type, model_file(gguf_type));
  } catch (const WorkerError& e) {
    progress_.note(fmt::format("accuracy of {}: {}", gguf_type, e.what()));
    return nullptr;
  }
}

/// What is tuned of the deployment in a study: the run-time options, or one kernel.
struct Job::Deployment {
  const Track& track;
  Objective& objective;
  Storage& storage;
  bool is_kernel = false;
};

/// Kernels come after the options, one after another. Beside a fine-tuning, whose rounds are the run's, the options
/// leave them the last ones; where there are none after all, the options go on.
int Job::option_rounds() const {
  if (!finetuning_ || !hardware_.here || !VariantTuning::is_possible(task_)) return task_.rounds;
  const int of_kernels = VariantTuning::most_kernels(task_) * (task_.kernels.rounds - 1);
  return std::max((task_.rounds + 1) / 2, task_.rounds - of_kernels);
}

void Job::tune() {
  std::optional<Deployment> options;
  if (hardware_.here) {
    track_ = runtime_track(gguf_type_);
    runtime_.emplace(runtime_tools(), track_.space.defaults(), task_.pairs);
    options.emplace(Deployment{track_, *runtime_, log_});
  }
  run_rounds(option_rounds(), options ? &*options : nullptr);
  if (hardware_.here && VariantTuning::is_possible(task_)) tune_variants();
  if (option_rounds() < task_.rounds) run_rounds(task_.rounds, variants_ ? nullptr : &*options);
  if (variants_) tuning_ = variants_->write_file();
}

/// Rounds up to one. One agent sees all tracks at once; another sampler of the fine-tuning has that track for itself.
void Job::run_rounds(int until, const Deployment* deployment) {
  std::vector<StudyTrack> tracks;
  std::vector<Track> asked;
  const bool own_sampler = finetuning_ && has_own_sampler(*task_.finetune);
  const bool is_kernel = deployment && deployment->is_kernel;
  // A model that answers for itself has no room for a source in its context.
  const bool by_expert = is_kernel && task_.agent.provider == "self";
  if (finetuning_ && !own_sampler) asked.push_back(finetuning_->track());
  if (deployment && !by_expert) asked.push_back(deployment->track);
  JointAgent agent(provider(), agent_prompts(), agent_options(is_kernel), asked,
                   agent_events([this, deployment] { return rounds_done(deployment) + 1; }));
  LoggedSamplers logged(log_);
  std::vector<std::unique_ptr<Sampler>> samplers;
  const auto add = [&](const Track& track, std::unique_ptr<Sampler> sampler, Objective& objective, Storage& storage) {
    samplers.push_back(std::move(sampler));
    tracks.push_back({track, logged.add(track, *samplers.back(), storage), objective, storage});
  };
  if (finetuning_)
    add(finetuning_->track(),
        own_sampler ? make_named_sampler(task_.finetune->sampler, task_.seed, {}) : agent.sampler(0),
        finetuning_->objective(), log_.beside(kFinetuneTrack));
  if (deployment)
    add(deployment->track, by_expert ? make_named_sampler("expert", task_.seed, {}) : agent.sampler(asked.size() - 1),
        deployment->objective, deployment->storage);
  run_study(tracks, study_options(until, is_kernel));
}

/// Only where the options that won run the module.
void Job::tune_variants() {
  const Trial* best = best_trial(log_.finished(), Direction::maximize);
  if (!best || runtime_options(best->configuration).kernels != "haqa") return;
  const Configuration options = best->configuration;
  VariantObjective::Tools tools;
  tools.benchmark = llama_bench(task_.workload, task_.timeout_s, bench_limit());
  tools.setup = [this, options] { return setup(options); };
  tools.progress = [this](double share) { progress_.update(share); };
  variants_.emplace(task_, hardware_, log_, progress_, std::move(tools));
  const Setup best_setup = setup(options);
  variants_->choose(read_model(best_setup.model), best_setup);
  if (variants_->kernels().empty()) return variants_.reset();
  int gone = option_rounds();
  for (size_t i = 0; i < variants_->kernels().size() && variants_->has_time(i); ++i) {
    const VariantTuning::InHand kernel = variants_->begin(i, gone - 1, writes_code());
    const int until = gone + task_.kernels.rounds - 1;
    const Deployment deployment{kernel.track, kernel.objective, kernel.storage, true};
    run_rounds(finetuning_ ? std::min(until, task_.rounds) : until, &deployment);
    gone = std::max(gone, kernel.track.rounds_with(kernel.storage.finished().size()));
    variants_->finish(i);
  }
}

/// Who answers with text may change a kernel's source.
bool Job::writes_code() const {
  return task_.agent.provider == "openai" || task_.agent.provider == "manual";
}

RuntimeObjective::Tools Job::runtime_tools() {
  RuntimeObjective::Tools tools;
  tools.benchmark = llama_bench(task_.workload, task_.timeout_s, bench_limit());
  tools.model = [this](const std::string& type) { return served_file(type.empty() ? gguf_type_ : type); };
  tools.quality = [this](const Setup& s) {
    return quality_->loss(s.options.gguf_type.empty() ? gguf_type_ : s.options.gguf_type, s.options.cache_type_k,
                          s.options.cache_type_v);
  };
  tools.too_large = [this](const Setup& s) { return too_large(s); };
  tools.progress = [this](double share) { progress_.update(share); };
  return tools;
}

StudyOptions Job::study_options(int until, bool is_kernel) {
  StudyOptions options;
  options.budget.rounds = until;
  if (is_kernel) {
    options.budget.seconds = task_.kernels.seconds;
    options.spent = [this] { return Budget{0, variants_->seconds(variants_->begun())}; };
  }
  options.on_proposal = [this](const Track& track, const Trial& t) {
    provider().suspend();  // a model of its own would take memory from what is measured
    const bool is_of_kernel = track.name.starts_with(kKernelTrack);
    progress_.step(fmt::format("round {} of {}{}", t.number + 1, is_of_kernel ? task_.kernels.rounds : task_.rounds,
                               finetuning_ || is_of_kernel ? fmt::format(", {}", track.name) : ""));
  };
  options.on_trial = [this](const Track& track, const Trial& t) {
    if (track.name == kFinetuneTrack)
      finetuning_->finish_round(t);
    else if (track.name.starts_with(kKernelTrack))
      progress_.done(variants_->describe(t, track.space.defaults()));
    else
      progress_.done(describe(t, track_.space.defaults()));
  };
  return options;
}

/// Rounds that are done in the track that is ahead.
size_t Job::rounds_done(const Deployment* deployment) {
  const size_t taught = log_.beside(kFinetuneTrack).finished().size();
  if (!deployment) return taught;
  return std::max(taught, static_cast<size_t>(deployment->track.rounds_with(deployment->storage.trials().size())));
}

/// The model in a type with what the rounds so far have taught it, where that is no worse than the untuned one.
fs::path Job::served_file(const std::string& gguf_type) {
  const Trial* best = finetuning_ ? finetuning_->improvement() : nullptr;
  return best ? finetuning_->objective().merged(best->configuration, gguf_type) : model_file(gguf_type);
}

void Job::verify() {
  const Trial* best = best_trial(log_.finished(), Direction::maximize);
  const Configuration defaults = track_.space.defaults();
  winner_ = defaults;
  if (!best)
    throw Error("no configuration ran, not even llama.cpp's defaults: {}; see {}", log_.finished().front().message,
                (log_.folder() / "log.jsonl").string());
  progress_.step(fmt::format("verifying round {} against the defaults anew", best->number + 1));
  verification_ = log_.once("verification", [&] {
    Json v = {{"confirmed", false}, {"trial", best->number}, {"configuration", best->configuration}};
    if (best->configuration == defaults) return v;
    try {
      Setup tuned = setup(best->configuration);
      tuned.tuning = tuning_;
      const Comparison c = compare(llama_bench(task_.workload, task_.timeout_s, bench_limit()), setup(defaults), tuned,
                                   task_.confirm_pairs, [&](double share) { progress_.update(share); });
      v.update(haqa::to_json(c));
      v["confirmed"] = c.speedup.low > 1;
    } catch (const WorkerError& e) {  // the rounds are not lost for it
      v["message"] = e.what();
    }
    return v;
  });
  if (verification_["confirmed"]) winner_ = best->configuration;
  const Json so_far = {{"verification", verification_}, {"trials", trials_of(log_)}};
  progress_.done("verified: " + verdict_sentence(Part(so_far)));
}

/// Of held-out questions, once each, when all is chosen: what one looks at again and again is chosen by. And of those
/// that rounds choose by, what the trade-offs lack.
void Job::measure_accuracy() {
  const Setup deployed = setup(winner_);
  const auto held_out = [&](const char* key, const fs::path& model, const fs::path& adapter = {}) {
    accuracy_["held_out"][key] =
        finetuning_->measured(fmt::format("{}: held-out", key), model, adapter, Half::held_out);
  };
  FinetuneObjective& objective = finetuning_->objective();
  const Trial* best = finetuning_->best();
  const Trial& first = log_.beside(kFinetuneTrack).finished().front();
  held_out("base", objective.base());
  if (has_finite_value(first)) held_out("defaults", objective.merged(first.configuration, gguf_type_));
  if (best) held_out("best", objective.merged(best->configuration, gguf_type_));
  try {  // the model as given may be too large for what the deployed one fits into
    held_out("given", task_.model);
    if (best) held_out("given_tuned", task_.model, finetuning_->adapter(*best));
  } catch (const WorkerError& e) {
    progress_.note(fmt::format("accuracy of {}: {}", task_.model.string(), e.what()));
  }
  for (const auto& [half, name] : {std::pair(Half::held_out, "held-out"), std::pair(Half::validation, "validation")}) {
    const Json found = finetuning_->measured(fmt::format("deployed: {}", name), deployed.model, {}, half,
                                             deployed.options.cache_type_k, deployed.options.cache_type_v);
    (half == Half::held_out ? accuracy_["held_out"]["deployed"] : accuracy_["deployed_validation"]) = found;
  }
  accuracy_["deployed"] = finetuning_->improvement() ? "tuned" : "untuned";
}

void Job::bundle() {
  const fs::path folder = log_.folder() / "bundle";
  fs::remove_all(folder);  // of an interrupted run
  Setup deployed = setup(winner_);
  if (deployed.options.kernels == "haqa") deployed.tuning = tuning_;
  bundle_ = write_bundle(folder, deployed, task_.context, hardware_);
  if (!finetuning_) return;
  if (finetuning_->improvement()) finetuning_->write_adapter(folder);
  write_file(folder / "accuracy.json", accuracy_["held_out"].dump(2) + "\n");
}

void Job::summarize_run(const std::string& command) {
  Json agent_events = Json::array();
  for (const Json& e : log_.events("agent")) agent_events.push_back(e);
  const auto fastest = std::max_element(candidates_.begin(), candidates_.end(), [](const auto& a, const auto& b) {
    return a.prediction.tokens_per_s < b.prediction.tokens_per_s;
  });
  Json summary = {{"haqa_version", HAQA_VERSION},
                  {"kind", kRunKind},
                  {"command", command},
                  {"started", log_.events("start").front()["time"]},
                  {"seconds", log_.seconds()},
                  {"task", haqa::to_json(task_)},
                  {"hardware", haqa::to_json(hardware_)},
                  {"model", haqa::to_json(model_)},
                  {"memory_plan", memory_json(plan_)},
                  {"bit_widths", haqa::to_json(candidates_)},
                  {"decision",
                   {{"bit_width", to_string(*decision_.chosen)},
                    {"gguf_type", gguf_type_},
                    {"basis", decision_.basis},
                    {"why", decision_.why},
                    {"predicted", to_string(fastest->memory.bit_width)},
                    {"agent", agent_choice_}}},
                  {"trials", trials_of(log_)},
                  {"agent_events", agent_events},
                  {"verification", verification_},
                  {"agent", usage_of(log_.folder() / "transcript.jsonl", task_.agent)},
                  {"bundle",
                   {{"folder", bundle_.folder.string()},
                    {"model", bundle_.model.filename().string()},
                    {"bytes", bundle_.bytes},
                    {"command", bundle_.command}}}};
  if (!track_.name.empty())
    summary["track"] = {{"name", track_.name}, {"value_name", track_.value_name}, {"direction", "maximize"}};
  if (variants_) summary["kernels"] = variants_->summary();
  if (finetuning_) add_finetuning(summary);
  const std::string chart_js = fs::exists(HAQA_CHART_JS) ? read_file(HAQA_CHART_JS) : "";  // without it, no plot
  write_file(log_.folder() / "report.html", html_report(summary, chart_js));
  write_file(log_.folder() / "suggestions.md", suggestions(summary));
  // Last, as it is what tells that the run is complete.
  write_file(log_.folder() / "summary.json", summary.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void Job::add_finetuning(Json& summary) {
  for (size_t i = 0; i < candidates_.size(); ++i)
    if (candidates_[i].refused.empty())
      summary["bit_widths"][i]["accuracy"] = untuned_accuracy(candidates_[i].memory.gguf_type);
  summary["finetune"] = finetuning_->summary();
  summary["finetune"].update(accuracy_);
  summary["trade_offs"] = trade_offs_json(summary);
}

void Job::clean_up(const fs::path& folder) {
  std::error_code ignored;
  for (const char* name : {"models", "adapters"}) fs::remove_all(folder / name, ignored);
}

BitWidth Job::source_width() const {
  return width_of_file(model_);
}

fs::path Job::model_file(const std::string& gguf_type) {
  if (gguf_type == model_.main_type()) return task_.model;
  const fs::path folder = log_.folder() / "models";
  const fs::path file = folder / fmt::format("{}-{}.gguf", model_stem(task_.model), gguf_type);
  if (fs::exists(file)) return file;
  const uint64_t needed = plan_row(model_, gguf_type, plan_.use).total();
  if (plan_.limit && needed > *plan_.limit)
    throw WorkerError(ProcessEnd::out_of_memory, fmt::format("{} needs {}, more than the limit of {}", gguf_type,
                                                             format_bytes(needed), format_bytes(*plan_.limit)));
  make_folder(folder);
  progress_.step(fmt::format("quantizing to {}", gguf_type));
  quantize_model(model_, gguf_type, file, source_width() != BitWidth::fp16,
                 [&](double share) { progress_.update(share); });
  progress_.done(fmt::format("quantized to {}: {}", gguf_type, format_bytes(fs::file_size(file))));
  return file;
}

ChatProvider& Job::provider() {
  if (provider_) return *provider_;
  std::unique_ptr<ChatProvider> inner;
  if (task_.agent.provider == "self" && task_.agent.replay.empty()) {
    SelfOptions options;
    options.model = model_file(gguf_type_);
    options.log = log_.folder() / "llama-server.log";
    options.endpoint = task_.agent.endpoint;
    options.endpoint.max_tokens = answer_tokens();
    options.n_ctx = agent_options().history.token_budget + answer_tokens();
    options.n_ctx_train = model_.n_ctx_train;
    inner = make_self_provider(options);
  } else {
    inner = make_provider(task_.agent, log_.folder(), exchanges_used(log_), task_.seed);
  }
  provider_ = std::make_unique<RecordingProvider>(std::move(inner), log_.folder() / "transcript.jsonl");
  return *provider_;
}

/// For the log: what went wrong with the agent in a round.
std::function<void(const AgentEvent&)> Job::agent_events(std::function<size_t()> round) {
  return [this, round = std::move(round)](const AgentEvent& e) {
    log_.add_event("agent", {{"round", round()}, {"kind", e.kind}, {"detail", e.detail}, {"fallback", e.fallback}});
  };
}

/// Tokens of question and answer that a model can hold that answers for itself. What YaRN makes of a short context is
/// good for twice what the model was trained on; positions that GPT-2 learnt cannot be stretched.
int Job::self_context() const {
  constexpr int kStretched = 4096;
  const bool rotary = model_.architecture != "gpt2";
  return rotary ? std::max(model_.n_ctx_train, std::min(kStretched, 2 * model_.n_ctx_train)) : model_.n_ctx_train;
}

int Job::answer_tokens() const {
  constexpr int kShort = 640;  // a thought and a configuration
  const int wanted = task_.agent.endpoint.max_tokens;
  return task_.agent.provider == "self" && self_context() <= 8192 ? std::min(wanted, kShort) : wanted;
}

/// shows_source: of a kernel, with all that it includes.
AgentOptions Job::agent_options(bool shows_source) const {
  constexpr int kTokensWithSource = 64000;
  AgentOptions options{task_.agent.history, 2, task_.seed};
  int& budget = options.history.token_budget;
  if (shows_source) budget = std::max(budget, kTokensWithSource);
  if (task_.agent.provider == "self") budget = std::min(budget, self_context() - answer_tokens());
  return options;
}

/// Before hours of work, not after them.
void Job::require_room_for_prompt() {
  constexpr int kResultTokens = 900;  // what the first result adds: two configurations, the metrics
  const Track track = runtime_track(plan_.rows.front().gguf_type);
  const HistoryLimits any = {1, std::numeric_limits<int>::max()};
  const int needed =
      total_tokens(build_conversation(agent_prompts(), track, {}, task_.rounds, any)) + kResultTokens + answer_tokens();
  if (needed > self_context())
    throw Error(
        "{}: was trained on {} tokens, and the agent's prompt and answer need about {}; take another "
        "agent.provider",
        task_.model.string(), model_.n_ctx_train, needed);
}

Track Job::runtime_track(const std::string& chosen) {
  RuntimeSpaceFacts facts;
  facts.default_threads = static_cast<int>(log_.once("default_threads", [] { return Json(default_llama_threads()); }));
  facts.max_threads = hardware_.threads;
  facts.n_layer = model_.n_layer;
  facts.prompt_tokens = task_.workload.prompt_tokens;
  facts.has_gpu = log_.once("llama_uses_gpu", [] { return Json(llama_uses_gpu()); });
  // Beside a GPU the module has nothing to do, and it computes what LLaMA's graphs consist of.
  facts.has_module = !facts.has_gpu && !backend_module().empty();
  facts.n_embd_head_k = model_.n_embd_head_k;
  facts.n_embd_head_v = model_.n_embd_head_v;
  const BitWidth width = plan_row(model_, chosen, plan_.use).bit_width;
  facts.gguf_types = {chosen};
  if (chosen != model_.main_type() || source_width() == BitWidth::fp16)
    for (const std::string_view type : gguf_types(width))
      if (type != chosen) facts.gguf_types.emplace_back(type);
  Track track;
  track.name = "runtime";
  track.space = runtime_space(facts);
  track.value_name = "speedup over llama.cpp's defaults";
  const std::string quality_rule =
      task_.max_quality_loss
          ? fmt::format("A configuration that raises the perplexity by more than {:.2f} % is refused.",
                        100 * *task_.max_quality_loss)
          : "";
  std::map<std::string, std::string> slots = prompt_facts(task_, hardware_, model_, plan_);
  slots["bit_width"] = fmt::format("{} ({})", to_string(width), chosen);
  slots["context"] = std::to_string(task_.context);
  slots["quality"] = quality_rule;
  track.brief = agent_prompts().render("deployment", slots);
  return track;
}

Track Job::bit_width_track() const {
  std::vector<Json> fitting;
  for (const MemoryRow& row : plan_.rows)
    if (row.fits) fitting.push_back(to_string(row.bit_width));
  Track track;
  track.name = "bit_width";
  track.space = SearchSpace(
      {categorical_parameter("bit_width", fitting, fitting.front(), "Quantization bit width of the weights.")});
  track.value_name = "generated tokens per second";
  std::map<std::string, std::string> slots = prompt_facts(task_, hardware_, model_, plan_);
  slots["memory"] = to_line(haqa::to_json(plan_));
  track.brief = agent_prompts().render("bit_width", slots);
  return track;
}

/// llama-bench makes a context just large enough for its request; the bundle makes the task's.
std::string Job::too_large(const Setup& s) const {
  const std::string type = s.options.gguf_type.empty() ? gguf_type_ : s.options.gguf_type;
  MemoryUse use = plan_.use;
  use.type_k = s.options.cache_type_k;
  use.type_v = s.options.cache_type_v;
  use.n_batch = s.options.batch;
  use.n_ubatch = s.options.ubatch;
  use.flash_attention = s.options.flash_attention != "off";
  const MemoryRow row = plan_row(model_, type, use);
  if (!plan_.limit || row.total() <= *plan_.limit) return "";
  return fmt::format("it needs {} with {} tokens of context, more than the limit of {}", format_bytes(row.total()),
                     task_.context, format_bytes(*plan_.limit));
}

Setup Job::setup(const Configuration& configuration) {
  const RuntimeOptions options = runtime_options(configuration);
  return {served_file(options.gguf_type.empty() ? gguf_type_ : options.gguf_type), options};
}

}  // namespace haqa
