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

void read_search(YamlMap& map, const std::filesystem::path& folder, const std::string& usual, FinetuneTask& finetune) {
  const std::string space = map.text("space").value_or(usual);
  const bool known = space == usual || space == usual + "-appendix-d";
  finetune.space = known ? known_space(space) : *map.existing_file("space");
  if (const auto sampler = map.text("sampler")) {
    if (const auto unknown = unknown_sampler(*sampler)) map.fail("sampler", *unknown);
    finetune.sampler = located_sampler(*sampler, folder);
  }
  finetune.rounds = map.integer("rounds", 1, 100);
}

std::filesystem::path required_path(YamlMap& map, const char* key, const char* what,
                                    const char* page = "docs/finetune.md") {
  const auto path = map.existing_file(key);
  if (!path) map.fail(key, fmt::format("is missing: {}; see {}", what, page));
  return *path;
}

/// true or false, where the key is given.
void set_flag(bool& target, YamlMap& map, const char* key) {
  const auto on = map.value(key);
  if (!on) return;
  if (!on->is_boolean()) map.fail(key, "must be true or false");
  target = *on;
}

/// What trainings of both kinds have.
template <typename Setup>
void read_training(YamlMap& map, const Task& task, Setup& setup) {
  setup.model = task.model;
  setup.seed = task.seed;
  setup.memory_limit = map.bytes("memory_limit");
  set(setup.device, map.choice("device", {"cpu", "cuda"}));
  set(setup.compute, map.choice("compute", {"fp32", "bf16"}));
  set(setup.timeout_s, map.number("timeout_s", 1, 1e7));
  set(setup.threads, map.integer("threads", 1, 4096));
}

void read_llama(YamlMap& map, const Task& task, FinetuneTask& finetune) {
  FinetuneSetup& setup = finetune.setup;
  read_training(map, task, setup);
  setup.examples = required_path(map, "examples", "a file to learn from");
  setup.form = map.choice("form", {"alpaca", "chat", "text", "document"});
  setup.data = required_path(map, "data", "the folder with TASK.jsonl for each task");
  setup.tasks = map.choices("tasks", task_names()).value_or(task_names());
  set(setup.limit, map.integer("limit", 1, 1000000000));
  set(setup.held_out_limit, map.integer("held_out_limit", 1, 1000000000));
  if (const auto name = map.choice("bit_width", bit_width_names())) finetune.bit_width = bit_width_from(*name);
  setup.bit_width = finetune.bit_width.value_or(BitWidth::int4);
  set(setup.context, map.integer("context", 2, 10000000));
  set(setup.optimizer_states, map.choice("optimizer_states", {"fp32", "int8", "offloaded"}));
  set(setup.lora_targets, map.choices("lora_targets", lora_targets()));
  set_flag(setup.activation_checkpointing, map, "activation_checkpointing");
  set(setup.schedule, map.choice("schedule", {"constant", "linear", "cosine"}));
}

/// One name, or a list of names to choose among.
void read_layer_bits(YamlMap& map, ImageSetup& setup) {
  const auto given = map.value("bit_width");
  if (!given) return;
  const auto fail = [&](const std::string& what) { map.fail("bit_width", what); };
  const bool many = given->is_array();
  std::vector<LayerBits> all;
  for (const Json& name : many ? *given : Json::array({*given})) {
    if (!name.is_string()) fail(fmt::format("{} must be a bit width such as w4a4, or a list of such", name.dump()));
    try {
      all.push_back(layer_bits_from(name.get<std::string>()));
    } catch (const UsageError& e) {
      fail(e.what());
    }
    if (std::count(all.begin(), all.end(), all.back()) > 1)
      fail(fmt::format("{} stands there twice", to_string(all.back())));
  }
  if (all.empty()) fail("is an empty list; name a bit width such as w4a4, or several");
  setup.bits = all.front();
  if (all.size() > 1) setup.bit_widths = std::move(all);
}

void read_images_task(YamlMap& map, const Task& task, const std::string& method, ImageSetup& setup) {
  read_training(map, task, setup);
  setup.method = method;
  setup.images = required_path(map, "images", "a folder of images to learn from", "docs/images.md");
  set(setup.network, map.choice("network", {"resnet20", "resnet32", "resnet50"}));
  set(setup.shortcut, map.choice("shortcut", {"a", "b"}));
  read_layer_bits(map, setup);
  setup.limits.file_bytes = map.bytes("file_limit");
  setup.limits.latency_ms = map.number("latency_limit_ms", 1e-6, 1e9);
  setup.limits.memory_bytes = map.bytes("inference_memory_limit");
  set(setup.scaling, map.choice("scaling", {"pretrained", "original"}));
  set_flag(setup.first_layer, map, "first_layer");
  set_flag(setup.last_layer, map, "last_layer");
  set(setup.validation_share, map.number("validation_share", 0, 1));
  set_flag(setup.flip, map, "flip");
  set(setup.padding, map.integer("padding", 0, 32));
  set(setup.normalization, map.choice("normalization", {"images", "imagenet"}));
  set(setup.optimizer, map.choice("optimizer", {"sgd", "adamw"}));
  set(setup.schedule, map.choice("schedule", {"constant", "step", "cosine"}));
  set_flag(setup.nesterov, map, "nesterov");
  set_flag(setup.decay_norms, map, "decay_norms");
  set(setup.warmup_epochs, map.number("warmup_epochs", 0, 1000));
  set(setup.label_smoothing, map.number("label_smoothing", 0, 0.99));
  set(setup.ema_decay, map.number("ema_decay", 0, 0.999999));
}

void read_finetune(YamlMap map, Task& task) {
  if (map.keys().empty()) return;
  FinetuneTask& finetune = task.finetune.emplace();
  const std::string method = map.choice("method", {"qlora", "dorefa", "pact"}).value_or("qlora");
  if (method == "qlora")
    read_llama(map, task, finetune);
  else
    read_images_task(map, task, method, finetune.images.emplace());
  read_search(map, task.file.parent_path(), finetune.images ? "resnet" : "llama", finetune);
  map.finish();
}

Json image_document(const ImageSetup& s) {
  Json document = {{"method", s.method},
                   {"images", std::filesystem::absolute(s.images).string()},
                   {"network", s.network},
                   {"shortcut", s.shortcut},
                   {"bit_width", to_string(s.bits)},
                   {"scaling", s.scaling},
                   {"first_layer", s.first_layer},
                   {"last_layer", s.last_layer},
                   {"validation_share", s.validation_share},
                   {"flip", s.flip},
                   {"padding", s.padding},
                   {"normalization", s.normalization},
                   {"optimizer", s.optimizer},
                   {"schedule", s.schedule},
                   {"nesterov", s.nesterov},
                   {"decay_norms", s.decay_norms},
                   {"warmup_epochs", s.warmup_epochs},
                   {"label_smoothing", s.label_smoothing},
                   {"ema_decay", s.ema_decay}};
  if (!s.bit_widths.empty()) document["bit_width"] = Json::array();
  for (const LayerBits& bits : s.bit_widths) document["bit_width"].push_back(to_string(bits));
  if (s.limits.file_bytes) document["file_limit"] = std::to_string(*s.limits.file_bytes);
  if (s.limits.latency_ms) document["latency_limit_ms"] = *s.limits.latency_ms;
  if (s.limits.memory_bytes) document["inference_memory_limit"] = std::to_string(*s.limits.memory_bytes);
  return document;
}

/// What trainings of both kinds have.
template <typename Setup>
void add_training(const Setup& s, Json& document) {
  document["device"] = s.device;
  document["compute"] = s.compute;
  if (s.memory_limit) document["memory_limit"] = std::to_string(*s.memory_limit);
  if (s.timeout_s > 0) document["timeout_s"] = s.timeout_s;
  if (s.threads > 0) document["threads"] = s.threads;
}

Json llama_document(const FinetuneTask& f) {
  const FinetuneSetup& s = f.setup;
  Json document = {{"examples", std::filesystem::absolute(s.examples).string()},
                   {"data", std::filesystem::absolute(s.data).string()},
                   {"tasks", s.tasks},
                   {"limit", s.limit},
                   {"context", s.context},
                   {"optimizer_states", s.optimizer_states},
                   {"lora_targets", s.lora_targets},
                   {"activation_checkpointing", s.activation_checkpointing},
                   {"schedule", s.schedule}};
  if (f.bit_width) document["bit_width"] = to_string(*f.bit_width);
  if (s.form) document["form"] = *s.form;
  if (s.held_out_limit > 0) document["held_out_limit"] = s.held_out_limit;
  return document;
}

Json finetune_document(const FinetuneTask& f) {
  Json document = f.images ? image_document(*f.images) : llama_document(f);
  f.images ? add_training(*f.images, document) : add_training(f.setup, document);
  document["space"] = std::filesystem::absolute(f.space).string();
  if (f.rounds) document["rounds"] = *f.rounds;
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
  if (!model)
    map.fail("model",
             "is missing: the path of a GGUF file, or of a network's weights where finetune has "
             "images; see examples/quickstart.yaml and examples/digits/task.yaml");
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
