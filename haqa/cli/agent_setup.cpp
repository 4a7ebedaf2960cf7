#include "haqa/cli/agent_setup.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "haqa/agent/expert.h"
#include "haqa/agent/hybrid_sampler.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/text.h"
#include "haqa/cli/facts.h"
#include "haqa/sampler/exhaustive.h"
#include "haqa/sampler/human.h"
#include "haqa/sampler/registry.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

constexpr int kCorrections = 2;

std::string describe(const AgentEvent& e) {
  return one_line(fmt::format("agent: {}: {}{}", e.kind, e.detail, e.fallback ? "; the surrogate proposes" : ""));
}

/// The agent with the provider that it speaks to.
class AgentWithProvider : public Sampler {
 public:
  AgentWithProvider(uint64_t seed, const AgentSetup& setup)
      : provider_(recorded(seed, setup)),
        agent_(provider_, agent_prompts(), {setup.task.history, kCorrections, seed, setup.earlier},
               [trouble = setup.on_trouble](const AgentEvent& e) {
                 if (trouble) trouble(describe(e));
               }) {
    provider_.check();
  }
  Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) override {
    return agent_.ask(track, trials, rounds_left);
  }
  void tell(const Track& track, const Trial& trial) override { agent_.tell(track, trial); }

 private:
  static RecordingProvider recorded(uint64_t seed, const AgentSetup& setup) {
    const fs::path transcript = setup.folder / "transcript.jsonl";
    std::unique_ptr<ChatProvider> inner = make_provider(setup.task, setup.folder, lines_of(transcript), seed);
    make_folder(setup.folder);
    return RecordingProvider(std::move(inner), transcript);
  }

  RecordingProvider provider_;
  AgentSampler agent_;
};

/// Adds to each proposal what asking the agent took, by its transcript.
class MeteredSampler : public Sampler {
 public:
  MeteredSampler(std::unique_ptr<Sampler> inner, const AgentSetup& setup)
      : inner_(std::move(inner)), transcript_(setup.folder / "transcript.jsonl"), task_(setup.task) {}
  Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) override {
    const Json before = usage_of(transcript_, task_);
    Proposal proposal = inner_->ask(track, without_usage(trials), rounds_left);
    const Json after = usage_of(transcript_, task_);
    for (const char* name : kUsage)
      if (after[name].is_number() && after[name] > before[name])
        proposal.metrics[name] = difference(after, before, name);
    return proposal;
  }
  void tell(const Track& track, const Trial& trial) override { inner_->tell(track, trial); }

 private:
  static constexpr std::array<const char*, 3> kUsage = {"prompt_tokens", "completion_tokens", "cost_usd"};

  static Json difference(const Json& after, const Json& before, const char* name) {
    if (after[name].is_number_integer()) return after[name].get<int64_t>() - before[name].get<int64_t>();
    return after[name].get<double>() - (before[name].is_number() ? before[name].get<double>() : 0);
  }
  /// Its own tokens say nothing to the agent.
  static std::vector<Trial> without_usage(std::span<const Trial> trials) {
    std::vector<Trial> all(trials.begin(), trials.end());
    for (Trial& t : all)
      for (const char* name : kUsage) t.metrics.erase(name);
    return all;
  }

  std::unique_ptr<Sampler> inner_;
  fs::path transcript_;
  AgentTask task_;
};

}  // namespace

Prompts agent_prompts() {
  return Prompts(data_folder() / "prompts");
}

size_t lines_of(const fs::path& file) {
  if (!fs::exists(file)) return 0;
  const std::string text = read_file(file);
  return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
}

std::unique_ptr<ChatProvider> make_provider(const AgentTask& agent, const fs::path& folder, size_t answered,
                                            uint64_t seed) {
  if (!agent.replay.empty()) return make_replay_provider(agent.replay, answered);
  if (agent.provider == "openai") return make_endpoint_provider(endpoint_from_environment(agent.endpoint));
  if (agent.provider == "manual") return make_manual_provider(folder, answered);
  return make_expert(data_folder() / "priors", seed);
}

void add_agent_options(CLI::App& command, AgentTask& agent, const std::vector<std::string>& providers) {
  const std::pair<std::string, std::string> all[] = {{"expert", "offline rules and a surrogate"},
                                                     {"openai", "any compatible endpoint"},
                                                     {"self", "the model itself"},
                                                     {"manual", "you and a chat window"}};
  std::vector<std::string> told;
  for (const auto& [name, what] : all)
    if (std::find(providers.begin(), providers.end(), name) != providers.end())
      told.push_back(fmt::format("{} ({})", name, what));
  command.add_option("--agent", agent.provider, fmt::format("Who answers as the agent: {}", fmt::join(told, ", ")))
      ->check(CLI::IsMember(providers))
      ->capture_default_str();
  command.add_option("--base-url", agent.endpoint.base_url, "Endpoint of --agent openai, up to /v1 ($HAQA_BASE_URL)");
  command.add_option("--agent-model", agent.endpoint.model, "Model of --agent openai ($HAQA_MODEL)");
}

void add_price_options(CLI::App& command, AgentTask& agent) {
  command.add_option("--price-prompt", agent.price_prompt, "US dollars per million tokens in")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--price-completion", agent.price_completion, "US dollars per million tokens out")
      ->check(CLI::NonNegativeNumber);
}

void require_asked(const CLI::App& command, bool asked) {
  if (asked) return;
  for (const char* name : {"--agent", "--agent-model", "--base-url", "--replay"})
    if (const CLI::Option* option = command.get_option_no_throw(name); option && option->count() > 0)
      throw UsageError("--agent, --agent-model, --base-url and --replay are for --sampler agent and hybrid");
}

bool asks_agent(const std::string& sampler) {
  return sampler == "agent" || sampler == "hybrid";
}

std::vector<std::string> named_samplers() {
  std::vector<std::string> names = {"expert", "agent", "hybrid"};
  for (std::string& name : sampler_names()) names.push_back(std::move(name));
  return names;
}

std::optional<std::string> unknown_sampler(const std::string& name) {
  const std::vector<std::string> names = named_samplers();
  if (human_file(name) || std::find(names.begin(), names.end(), name) != names.end()) return std::nullopt;
  return fmt::format("there is no sampler {}; use one of {}, or human:FILE with configurations written down",
                     one_line(name), fmt::join(names, ", "));
}

std::string located_sampler(const std::string& name, const std::filesystem::path& folder) {
  const auto file = human_file(name);
  return file ? "human:" + std::filesystem::absolute(folder / *file).string() : name;
}

void check_sampler(const std::string& name, const SearchSpace& space) {
  if (const auto file = human_file(name)) HumanSampler(*file).check(space);
  if (name == "exhaustive") require_walkable(space);
}

std::unique_ptr<Sampler> make_named_sampler(const std::string& name, uint64_t seed, const AgentSetup& agent) {
  if (name == "expert") return std::make_unique<ExpertSampler>(data_folder() / "priors", seed);
  if (asks_agent(name)) {
    std::unique_ptr<Sampler> sampler = std::make_unique<AgentWithProvider>(seed, agent);
    if (name == "hybrid")
      sampler = std::make_unique<HybridSampler>(std::move(sampler), seed, read_priors(data_folder() / "priors"));
    return std::make_unique<MeteredSampler>(std::move(sampler), agent);
  }
  if (const auto unknown = unknown_sampler(name)) throw UsageError("{}", *unknown);
  return make_sampler(name, seed);
}

}  // namespace haqa
