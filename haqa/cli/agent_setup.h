#pragma once
#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "haqa/agent/agent_sampler.h"
#include "haqa/cli/task.h"

namespace haqa {

/// The agent's texts.
Prompts agent_prompts();

/// Lines of a file, 0 where there is none: the exchanges of a transcript.
size_t lines_of(const std::filesystem::path& file);

/// The provider of a task but `self`, which needs the model. folder: where `manual` has its files. answered: exchanges
/// that were had already, which `manual` and a replay pass over. Throws UsageError where the endpoint lacks a setting.
std::unique_ptr<ChatProvider> make_provider(const AgentTask& agent, const std::filesystem::path& folder,
                                            size_t answered, uint64_t seed);

/// --agent, --base-url and --agent-model. providers: what --agent may be.
void add_agent_options(CLI::App& command, AgentTask& agent, const std::vector<std::string>& providers);

/// --price-prompt and --price-completion.
void add_price_options(CLI::App& command, AgentTask& agent);
/// Throws UsageError where an option of the agent was given and nothing asks it.
void require_asked(const CLI::App& command, bool asked);

/// What "agent" and "hybrid" are among the samplers.
struct AgentSetup {
  AgentTask task;
  std::filesystem::path folder;                        ///< of its transcript.jsonl; made when it is needed
  std::function<void(const std::string&)> on_trouble;  ///< hears what went wrong in a round
  std::string earlier;                                 ///< what the prompt says of earlier studies
};

/// Throws UsageError where a sampler cannot serve the space: a person's entry that is not valid there, one that is
/// infinite or too large to be walked.
void check_sampler(const std::string& name, const SearchSpace& space);

bool asks_agent(const std::string& sampler);
/// "expert", "agent", "hybrid" and those of sampler/registry.h.
std::vector<std::string> named_samplers();
/// What is to be said of a name that is none of these and no human:FILE either; else nothing.
std::optional<std::string> unknown_sampler(const std::string& name);
/// human:FILE with the file as seen from a folder, absolute; every other name as it is.
std::string located_sampler(const std::string& name, const std::filesystem::path& folder);
/// One of them, or "human:FILE". The agent's provider is checked; its exchanges are added to the transcript, and each
/// proposal's metrics get the prompt_tokens, completion_tokens and cost_usd of its own, where the provider tells.
/// Throws UsageError for another name, ProviderError where the provider cannot answer.
std::unique_ptr<Sampler> make_named_sampler(const std::string& name, uint64_t seed, const AgentSetup& agent);

}  // namespace haqa
