#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "haqa/agent/agent_sampler.h"
#include "haqa/agent/chat.h"
#include "haqa/base/yaml_map.h"
#include "haqa/deploy/benchmark.h"
#include "haqa/finetune/finetune_setup.h"
#include "haqa/finetune/image_setup.h"
#include "haqa/model/memory_plan.h"

namespace haqa {

/// How the agent is reached.
struct AgentTask {
  std::string provider = "expert";  ///< "expert", "openai" (any compatible endpoint), "self", "manual"
  std::filesystem::path replay;     ///< a transcript to answer from instead; empty: none
  EndpointOptions endpoint;
  HistoryLimits history;
  double price_prompt = 0, price_completion = 0;  ///< US dollars per million tokens, for the cost in the report
};

/// The section finetune: what `haqa finetune` is asked for, and `haqa run` for the track beside deployment.
struct FinetuneTask {
  FinetuneSetup setup;                ///< of a language model, by QLoRA
  std::optional<ImageSetup> images;   ///< in its place: of a network for images, by DoReFa or PACT
  std::optional<BitWidth> bit_width;  ///< where the task names one; the setup has it, or int4
  std::filesystem::path space;        ///< of search
  std::string sampler;                ///< empty: the agent
  std::optional<int> rounds;          ///< nothing: as tuning.rounds
};

/// The section kernels: the module's kernels, tuned in the model where the options that win run it.
struct KernelsInModelTask {
  int rounds = 3;                  ///< of each, its default variant first; 0: they stay as they ship
  std::vector<std::string> names;  ///< "matvec", ...; empty: what most of a token's time goes to
  double seconds = 600;            ///< after which no further round begins
};

/// What the user asks for: the content of task.yaml. docs/task.md describes every key.
struct Task {
  std::filesystem::path file;   ///< where it was read from; empty for `haqa deploy`
  std::filesystem::path model;  ///< a GGUF; for a network for images its weights
  std::string device = "this-machine";
  std::optional<uint64_t> memory_limit;  ///< bytes, of the deployed model
  int context = 512;
  std::vector<BitWidth> bit_widths;  ///< allowed ones; empty: all that the model file can be brought to
  Workload workload;
  int repetitions = 10;                    ///< of the bit widths' comparison
  std::optional<double> max_quality_loss;  ///< largest accepted relative rise of the perplexity
  std::filesystem::path calibration;       ///< text; empty: the one that ships
  int rounds = 10, pairs = 6, confirm_pairs = 20;
  double timeout_s = 600;  ///< of one llama-bench call
  uint64_t seed = 1;
  AgentTask agent;
  KernelsInModelTask kernels;
  std::optional<FinetuneTask> finetune;
};

/// The section agent of a task file; its keys are all read. Throws UsageError as read_task() does.
void read_agent(YamlMap map, AgentTask& agent);
/// In the form that it reads.
Json to_json(const AgentTask& agent);

/// Reads and checks a task file. Throws UsageError naming file, line, key and what is allowed.
Task read_task(const std::filesystem::path& file);

/// The task in the form of a task file (JSON is YAML), with absolute paths: read_task() gives the same task again.
Json to_json(const Task& task);

}  // namespace haqa
