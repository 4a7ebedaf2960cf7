#include "haqa/cli/task.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/yaml_map.h"
#include "haqa/cli/agent_setup.h"
#include "haqa/sampler/registry.h"
#include "haqa/tasks/task.h"

namespace haqa {
namespace {

std::vector<std::string> bit_width_names() {
  std::vector<std::string> names;
  for (const BitWidth width : all_bit_widths()) names.emplace_back(to_string(width));
  return names;
}

std::vector<std::string> known_devices() {
  std::vector<std::string> names = {"this-machine"};
  for (std::string& name : device_names()) names.push_back(std::move(name));
  return names;
}

/// Where the key is given, its value; otherwise what stands in the struct.
template <typename T>
void set(T& target, std::optional<T> value) {
  if (value) target = std::move(*value);
}

void read_tuning(YamlMap map, Task& task) {
  set(task.rounds, map.integer("rounds", 1, 100));
  set(task.pairs, map.integer("pairs", 1, 100));
  set(task.confirm_pairs, map.integer("confirm_pairs", 6, 1000));
  set(task.timeout_s, map.number("timeout_s", 1, 1e6));
  map.finish();
}

void read_kernels(YamlMap map, Task& task) {
  set(task.kernels.rounds, map.integer("rounds", 0, 100));
  set(task.kernels.names, map.choices("names", {"matvec", "attention", "rms_norm_mul", "swiglu"}));
  set(task.kernels.seconds, map.number("seconds", 0, 1e7));
  map.finish();
}

std::filesystem::path known_space(const std::string& name) {
  return data_folder() / "spaces" / (name + ".yaml");
}

void read_search(YamlMap& map, const std::filesystem::path& folder, FinetuneTask& finetune) {
  const std::string space = map.text("space").value_or("llama");
  const bool known = space == "llama" || space == "llama-appendix-d";
  finetune.space = known ? known_space(space) : *map.existing_file("space");
  if (const auto sampler = map.text("sampler")) {
    if (const auto unknown = unknown_sampler(*sampler)) map.fail("sampler", *unknown);
    finetune.sampler = located_sampler(*sampler, folder);
  }
  finetune.rounds = map.integer("rounds", 1, 100);
}

void read_finetune(YamlMap map, Task& task) {
  if (map.keys().empty()) return;
  FinetuneTask& finetune = task.finetune.emplace();
  FinetuneSetup& setup = finetune.setup;
  const auto required = [&](const char* key, const char* what) {
    const auto path = map.existing_file(key);
    if (!path) map.fail(key, fmt::format("is missing: {}; see docs/finetune.md", what));
    return *path;
  };
  setup.model = task.model;
  setup.memory_limit = map.bytes("memory_limit");
  setup.seed = task.seed;
  setup.examples = required("examples", "a file to learn from");
  setup.form = map.choice("form", {"alpaca", "chat", "text", "document"});
  setup.data = required("data", "the folder with TASK.jsonl for each task");
  setup.tasks = map.choices("tasks", task_names()).value_or(task_names());
  set(setup.limit, map.integer("limit", 1, 1000000000));
  set(setup.held_out_limit, map.integer("held_out_limit", 1, 1000000000));
  if (const auto name = map.choice("bit_width", bit_width_names())) finetune.bit_width = bit_width_from(*name);
  setup.bit_width = finetune.bit_width.value_or(BitWidth::int4);
  set(setup.context, map.integer("context", 2, 10000000));
  set(setup.device, map.choice("device", {"cpu", "cuda"}));
  set(setup.compute, map.choice("compute", {"fp32", "bf16"}));
  set(setup.optimizer_states, map.choice("optimizer_states", {"fp32", "int8", "offloaded"}));
  set(setup.lora_targets, map.choices("lora_targets", lora_targets()));
  if (const auto on = map.value("activation_checkpointing")) {
    if (!on->is_boolean()) map.fail("activation_checkpointing", "must be true or false");
    setup.activation_checkpointing = *on;
  }
  set(setup.schedule, map.choice("schedule", {"constant", "linear", "cosine"}));
  set(setup.timeout_s, map.number("timeout_s", 1, 1e7));
  set(setup.threads, map.integer("threads", 1, 4096));
  read_search(map, task.file.parent_path(), finetune);
  map.finish();
}

Json finetune_document(const FinetuneTask& f) {
  const FinetuneSetup& s = f.setup;
  Json document = {{"examples", std::filesystem::absolute(s.examples).string()},
                   {"data", std::filesystem::absolute(s.data).string()},
                   {"tasks", s.tasks},
                   {"limit", s.limit},
                   {"context", s.context},
                   {"device", s.device},
                   {"compute", s.compute},
                   {"optimizer_states", s.optimizer_states},
                   {"lora_targets", s.lora_targets},
                   {"activation_checkpointing", s.activation_checkpointing},
                   {"schedule", s.schedule},
                   {"space", std::filesystem::absolute(f.space).string()}};
  if (f.bit_width) document["bit_width"] = to_string(*f.bit_width);
  if (f.rounds) document["rounds"] = *f.rounds;
  if (s.memory_limit) document["memory_limit"] = std::to_string(*s.memory_limit);
  if (s.form) document["form"] = *s.form;
  if (s.held_out_limit > 0) document["held_out_limit"] = s.held_out_limit;
  if (s.timeout_s > 0) document["timeout_s"] = s.timeout_s;
  if (s.threads > 0) document["threads"] = s.threads;
  if (!f.sampler.empty()) document["sampler"] = f.sampler;
  return document;
}

}  // namespace

void read_agent(YamlMap map, AgentTask& agent) {
  set(agent.provider, map.choice("provider", {"expert", "openai", "self", "manual"}));
  set(agent.endpoint.base_url, map.text("base_url"));
  try {
    require_no_secret(agent.endpoint.base_url);
  } catch (const UsageError& e) {
    map.fail("base_url", e.what());
  }
  set(agent.endpoint.model, map.text("model"));
  set(agent.replay, map.existing_file("replay"));
  set(agent.endpoint.timeout_s, map.number("timeout_s", 1, 1e5));
  set(agent.endpoint.tries, map.integer("tries", 1, 100));
  set(agent.endpoint.temperature, map.number("temperature", 0, 2));
  set(agent.endpoint.max_tokens, map.integer("max_tokens", 16, 1000000));
  set(agent.history.rounds, map.integer("history", 1, 1000));
  set(agent.history.token_budget, map.integer("token_budget", 1000, 10000000));
  YamlMap price = map.map("price_per_million_tokens");
  set(agent.price_prompt, price.number("prompt", 0, 1e6));
  set(agent.price_completion, price.number("completion", 0, 1e6));
  price.finish();
  map.finish();
}

Json to_json(const AgentTask& a) {
  Json document = {{"provider", a.provider},
                   {"timeout_s", a.endpoint.timeout_s},
                   {"tries", a.endpoint.tries},
                   {"temperature", a.endpoint.temperature},
                   {"max_tokens", a.endpoint.max_tokens},
                   {"history", a.history.rounds},
                   {"token_budget", a.history.token_budget},
                   {"price_per_million_tokens", {{"prompt", a.price_prompt}, {"completion", a.price_completion}}}};
  if (!a.endpoint.base_url.empty()) document["base_url"] = a.endpoint.base_url;
  if (!a.endpoint.model.empty()) document["model"] = a.endpoint.model;
  if (!a.replay.empty()) document["replay"] = std::filesystem::absolute(a.replay).string();
  return document;
}

Task read_task(const std::filesystem::path& file) {
  YamlMap map = YamlMap::load(file);
  Task task;
  task.file = file;
  const auto model = map.existing_file("model");
  if (!model) map.fail("model", "is missing: the path of a GGUF file; see examples/quickstart.yaml");
  task.model = *model;
  set(task.device, map.choice("device", known_devices()));
  task.memory_limit = map.bytes("memory_limit");
  set(task.context, map.integer("context", 16, 10000000));
  for (const std::string& name : map.choices("bit_widths", bit_width_names()).value_or(std::vector<std::string>{}))
    task.bit_widths.push_back(bit_width_from(name));
  set(task.workload.prompt_tokens, map.integer("prompt_tokens", 1, 1000000));
  set(task.workload.generate_tokens, map.integer("generate_tokens", 1, 1000000));
  set(task.repetitions, map.integer("repetitions", 6, 1000));
  task.max_quality_loss = map.number("max_quality_loss", 0, 1000);
  set(task.calibration, map.existing_file("calibration"));
  if (const auto seed = map.integer("seed", 0, 2147483647)) task.seed = static_cast<uint64_t>(*seed);
  read_tuning(map.map("tuning"), task);
  read_kernels(map.map("kernels"), task);
  read_agent(map.map("agent"), task.agent);
  read_finetune(map.map("finetune"), task);
  map.finish();
  if (task.context < task.workload.prompt_tokens + task.workload.generate_tokens)
    map.fail("context", fmt::format("{} tokens do not hold prompt_tokens + generate_tokens = {}; raise it",
                                    task.context, task.workload.prompt_tokens + task.workload.generate_tokens));
  return task;
}

Json to_json(const Task& t) {
  Json document = {
      {"model", std::filesystem::absolute(t.model).string()},
      {"device", t.device},
      {"context", t.context},
      {"prompt_tokens", t.workload.prompt_tokens},
      {"generate_tokens", t.workload.generate_tokens},
      {"repetitions", t.repetitions},
      {"seed", t.seed},
      {"tuning",
       {{"rounds", t.rounds}, {"pairs", t.pairs}, {"confirm_pairs", t.confirm_pairs}, {"timeout_s", t.timeout_s}}}};
  document["kernels"] = {{"rounds", t.kernels.rounds}, {"seconds", t.kernels.seconds}};
  if (!t.kernels.names.empty()) document["kernels"]["names"] = t.kernels.names;
  if (t.memory_limit) document["memory_limit"] = std::to_string(*t.memory_limit);
  if (t.max_quality_loss) document["max_quality_loss"] = *t.max_quality_loss;
  if (!t.calibration.empty()) document["calibration"] = std::filesystem::absolute(t.calibration).string();
  for (const BitWidth width : t.bit_widths) document["bit_widths"].push_back(to_string(width));
  document["agent"] = to_json(t.agent);
  if (t.finetune) document["finetune"] = finetune_document(*t.finetune);
  return document;
}

}  // namespace haqa
