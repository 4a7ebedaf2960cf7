#include "haqa/model/make_model.h"

#include <fmt/format.h>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/base/progress.h"
#include "haqa/cli/commands.h"
#include "haqa/worker/process.h"

namespace haqa {

void add_make_model(CLI::App& app) {
  struct Options {
    std::string shape = "tiny";
    std::filesystem::path output, vocabulary;
    uint64_t seed = 1;
    bool quiet = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "make-model", "Generate a LLaMA with random weights: for speed, memory and numerics, not for sensible text");
  command->add_option("shape", o->shape, "tiny, small, demo, tinyllama-1.1b, llama3.2-3b, ...")
      ->type_name("SHAPE")
      ->capture_default_str();
  command->add_option("-o,--output", o->output, "File to write (default: SHAPE-f16.gguf)")->type_name("FILE");
  command->add_option("--vocabulary", o->vocabulary, "GGUF to take the tokenizer from (default: LLaMA-2's)")
      ->type_name("FILE");
  command->add_option("--seed", o->seed, "Seed of the weights")->check(CLI::NonNegativeNumber)->capture_default_str();
  command->add_flag("-q,--quiet", o->quiet, "No progress on standard error");
  command->footer("Examples:\n  haqa make-model tiny\n  haqa make-model tinyllama-1.1b -o speed-f16.gguf");
  command->callback([o] {
    const ModelShape shape = model_shape(o->shape);
    const std::filesystem::path file = o->output.empty() ? std::filesystem::path(o->shape + "-f16.gguf") : o->output;
    if (std::filesystem::exists(file))
      throw Error("{}: is there already; remove it or name another file with --output", file.string());
    Progress progress(o->quiet);
    progress.step("generating " + file.string());
    make_model(shape, o->vocabulary.empty() ? default_vocabulary() : o->vocabulary, o->seed, file, [&](double share) {
      check_interrupted();
      progress.update(share);
    });
    progress.done();
    fmt::print("{}: {}\n", file.string(), format_bytes(std::filesystem::file_size(file)));
  });
}

}  // namespace haqa
