#include "haqa/adapter/merge.h"

#include <fmt/format.h>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/base/progress.h"
#include "haqa/cli/commands.h"
#include "haqa/worker/process.h"

namespace haqa {

void add_merge(CLI::App& app) {
  struct Options {
    std::filesystem::path model, adapter, output;
    float scale = 1;
    bool json = false, quiet = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("merge", "Write a model with a LoRA adapter merged into its weights");
  command->add_option("model", o->model, "GGUF file of the base model")->required()->type_name("MODEL");
  command->add_option("adapter", o->adapter, "LoRA adapter: a GGUF file, or the folder that PEFT saved")
      ->required()
      ->type_name("ADAPTER");
  command->add_option("--scale", o->scale, "How much of the adapter: 0 is nothing, 1 all of it")
      ->type_name("S")
      ->capture_default_str();
  command->add_option("-o,--output", o->output, "File to write")->required()->type_name("FILE");
  command->add_flag("--json", o->json, "Print JSON");
  command->add_flag("-q,--quiet", o->quiet, "No progress on standard error");
  command->footer(
      "Examples:\n  haqa merge model-f16.gguf adapter.gguf -o tuned-f16.gguf\n"
      "  haqa merge model-f16.gguf checkpoint/ --scale 0.5 -o half-f16.gguf");
  command->callback([o] {
    if (std::filesystem::exists(o->output))
      throw Error("{}: is there already; remove it or name another file with --output", o->output.string());
    const LoraAdapter adapter = read_adapter(o->adapter, read_model(o->model));
    const TensorData base(o->model);
    Progress progress(o->quiet);
    progress.step(fmt::format("merging {} matrices of rank {}", adapter.pairs.size(), adapter.rank));
    merge(base, adapter, o->scale, o->output, [&](double share) {
      check_interrupted();
      progress.update(share);
    });
    progress.done();
    const ModelInfo merged = read_model(o->output);
    if (o->json) {
      fmt::print("{}\n", Json{{"file", o->output.string()},
                              {"gguf_type", merged.main_type()},
                              {"bytes", std::filesystem::file_size(o->output)},
                              {"rank", adapter.rank},
                              {"matrices", adapter.pairs.size()}}
                             .dump(2));
    } else {
      fmt::print("{}: {}, {}\n", o->output.string(), merged.main_type(),
                 format_bytes(std::filesystem::file_size(o->output)));
    }
  });
}

}  // namespace haqa
