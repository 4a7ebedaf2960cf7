#include "haqa/base/bytes.h"
#include "haqa/cli/agent_setup.h"
#include "haqa/cli/commands.h"
#include "haqa/cli/facts.h"
#include "haqa/deploy/quantize.h"

namespace haqa {
void add_deploy(CLI::App& app) {
  struct Options {
    Task task;
    RunFlags flags;
    std::string limit;
    std::vector<std::string> bit_widths;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "deploy", "Tune llama.cpp's run-time options for one GGUF as it is, and write a bundle: haqa run without a task");
  command->add_option("model", o->task.model, "GGUF file")->required()->type_name("MODEL");
  command->add_option("--bit-widths", o->bit_widths, "Quantize to the best of these first (fp16, int8, int4)")
      ->delimiter(',')
      ->check(CLI::IsMember({"fp16", "int8", "int4"}));
  command->add_option("-l,--limit", o->limit, "Memory limit such as 12GB (default: the free memory)")->check(not_empty);
  command->add_option("-c,--context", o->task.context, "Tokens of context")
      ->check(CLI::Range(16, 10000000))
      ->capture_default_str();
  command->add_option("-p,--prompt-tokens", o->task.workload.prompt_tokens, "Tokens in")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_option("-n,--generate-tokens", o->task.workload.generate_tokens, "Tokens out")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_option("--rounds", o->task.rounds, "Configurations to try, the defaults included")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  command->add_option("--pairs", o->task.pairs, "Interleaved pairs for each round")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  command
      ->add_option("--kernel-rounds", o->task.kernels.rounds,
                   "Variants of each kernel to try in the model, where the module serves it; 0: none")
      ->check(CLI::Range(0, 100))
      ->capture_default_str();
  command->add_option("--seed", o->task.seed, "Seed of the sampler")
      ->check(CLI::Range(0, 2147483647))
      ->capture_default_str();
  add_agent_options(*command, o->task.agent, {"expert", "openai", "self", "manual"});
  o->flags.add_to(*command);
  command->footer(
      "Examples:\n"
      "  haqa deploy model-q4_0.gguf\n"
      "  haqa deploy model-f16.gguf --bit-widths int8,int4 --limit 12GB");
  command->callback([o] {
    Task& task = o->task;
    require_no_secret(task.agent.endpoint.base_url);
    if (!o->limit.empty()) task.memory_limit = parse_bytes(o->limit);
    if (task.context < task.workload.prompt_tokens + task.workload.generate_tokens)
      throw UsageError("--context {} does not hold {} tokens in and {} out; raise it", task.context,
                       task.workload.prompt_tokens, task.workload.generate_tokens);
    for (const std::string& name : o->bit_widths) task.bit_widths.push_back(bit_width_from(name));
    if (task.bit_widths.empty()) task.bit_widths = {width_of_file(read_model(task.model))};
    run_new(task, model_stem(task.model), o->flags);
  });
}

}  // namespace haqa
