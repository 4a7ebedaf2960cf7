#include <fmt/format.h>

#include <algorithm>

#include "haqa/base/bytes.h"
#include "haqa/cli/commands.h"
#include "haqa/cli/facts.h"
#include "haqa/hardware/cpu.h"
#include "haqa/model/memory_plan.h"
#include "haqa/report/report.h"

namespace haqa {
namespace {

void print_table(const ModelInfo& model, const MemoryPlan& plan) {
  const Json memory = memory_json(plan);
  fmt::print("{}: {:.4g} billion parameters, {} layers; {} tokens of context, cache {}/{}\n{}", model.name,
             static_cast<double>(model.parameters()) / 1e9, model.n_layer, plan.use.n_ctx, plan.use.type_k,
             plan.use.type_v, text_memory({{"memory_plan", memory}}));
}

/// Whether this machine's processor is one for which llama.cpp lays weights out larger.
bool has_amx() {
  const std::vector<std::string> sets = detect_instruction_sets();
  return std::find(sets.begin(), sets.end(), "amx_int8") != sets.end();
}

}  // namespace

void add_memory(CLI::App& app) {
  struct Options {
    std::filesystem::path model, adapter;
    std::string arch, limit;
    MemoryUse use;
    bool json = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("memory", "Plan the memory a model needs in each bit width");
  CLI::Option* model = command->add_option("model", o->model, "GGUF file")->type_name("MODEL");
  CLI::Option* arch =
      command->add_option("--arch", o->arch, "A known architecture instead of a file, such as llama2-13b")
          ->type_name("NAME")
          ->excludes(model);
  command->add_option("-l,--limit", o->limit, "Memory limit such as 12GB")->check(not_empty);
  command->add_option("-c,--context", o->use.n_ctx, "Tokens of context")
      ->check(CLI::Range(1, 100000000))
      ->capture_default_str();
  command->add_option("-k,--cache-type-k", o->use.type_k, "Type of the cached keys")->capture_default_str();
  command->add_option("-v,--cache-type-v", o->use.type_v, "Type of the cached values")->capture_default_str();
  command->add_option("-u,--ubatch", o->use.n_ubatch, "Micro-batch in tokens")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command->add_option("--adapter", o->adapter, "LoRA adapter to be loaded beside the weights")
      ->type_name("FILE")
      ->check(CLI::ExistingFile);
  command->add_flag("--json", o->json, "Print JSON; see docs/json.md");
  command->footer(
      "Exit status 1 where a limit is given and no bit width fits.\n\n"
      "Examples:\n"
      "  haqa memory model-f16.gguf --limit 12GB --context 4096\n"
      "  haqa memory --arch llama2-13b --limit 20GB --json");
  command->callback([o, model, arch] {
    if (!model->count() && !arch->count())
      throw UsageError("name a GGUF file, or an architecture by --arch; see haqa memory --help");
    std::optional<uint64_t> limit;
    if (!o->limit.empty()) limit = parse_bytes(o->limit);
    const ModelInfo info = model->count() ? read_model(o->model) : architecture(o->arch);
    if (model->count()) o->use.amx = has_amx();
    if (!o->adapter.empty()) o->use.adapter_bytes = std::filesystem::file_size(o->adapter);
    MemoryPlan plan = plan_memory(info, o->use, limit);
    if (model->count()) restrict_plan(plan, info, {});  // a quantized file can only be narrowed
    if (o->json) {
      fmt::print("{}\n", to_json(plan).dump(2));
    } else {
      print_table(info, plan);
    }
    if (!plan.any_fits()) throw Error("{}", explain_no_fit(info, plan));
  });
}

}  // namespace haqa
