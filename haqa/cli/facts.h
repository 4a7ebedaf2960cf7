#pragma once
#include <filesystem>
#include <map>
#include <span>
#include <string>

#include "haqa/cli/task.h"
#include "haqa/hardware/profile.h"
#include "haqa/model/memory_plan.h"
#include "haqa/study/trial.h"

namespace haqa {

/// What people, prompts and reports are told of the things a job handles. One line each, without a line break.
std::string describe(const HardwareProfile& profile);
/// The profile as prompts show it: without what says nothing of speed or memory.
Json hardware_facts(const HardwareProfile& profile);
std::string describe(const MemoryPlan& plan);
std::string describe(const Trial& trial, const Configuration& defaults);

Json to_json(const ModelInfo& model);
/// {"limit_bytes","context","rows"}: as in summary.json.
Json memory_json(const MemoryPlan& plan);

/// Leaves the rows that are allowed (all where `allowed` is empty) and not wider than the file; the file's own width
/// takes the file's own type and size. Throws UsageError where nothing is left.
void restrict_plan(MemoryPlan& plan, const ModelInfo& model, std::span<const BitWidth> allowed);

/// Slots that data/prompts/deployment.md and bit_width.md share.
std::map<std::string, std::string> prompt_facts(const Task& task, const HardwareProfile& hardware,
                                                const ModelInfo& model, const MemoryPlan& plan);

/// Calls, tokens, latency and cost over the whole transcript, earlier parts of a resumed run included.
Json usage_of(const std::filesystem::path& transcript, const AgentTask& agent);

}  // namespace haqa
