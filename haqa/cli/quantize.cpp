#include "haqa/deploy/quantize.h"

#include <fmt/format.h>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/base/progress.h"
#include "haqa/cli/commands.h"
#include "haqa/cli/facts.h"

namespace haqa {

void add_quantize(CLI::App& app) {
  struct Options {
    std::filesystem::path model, output;
    std::string type;
    bool requantize = false, json = false, quiet = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("quantize", "Write a GGUF in another type with llama.cpp's quantizer");
  command->add_option("model", o->model, "GGUF file")->required()->type_name("MODEL");
  command->add_option("type", o->type, "F16, BF16, Q8_0, Q4_0, Q4_K_S, Q4_K_M or IQ4_NL; or fp16, int8, int4")
      ->required()
      ->type_name("TYPE");
  command->add_option("-o,--output", o->output, "File to write (default: NAME-TYPE.gguf beside the model)")
      ->type_name("FILE");
  command->add_flag("--allow-requantize", o->requantize, "Accept a source that is quantized already, at a loss");
  command->add_flag("--json", o->json, "Print JSON");
  command->add_flag("-q,--quiet", o->quiet, "No progress on standard error");
  command->footer("Examples:\n  haqa quantize model-f16.gguf Q4_0\n  haqa quantize model-f16.gguf int8 -o small.gguf");
  command->callback([o] {
    std::string type = o->type;
    if (type == "fp16" || type == "int8" || type == "int4") type = gguf_types(bit_width_from(type)).front();
    bit_width_of(type);  // throws with the list of types
    const ModelInfo model = read_model(o->model);
    if (width_of_file(model) != BitWidth::fp16 && !o->requantize)
      throw Error(
          "{}: its weights are {} already, and quantizing again loses more; give the F16 file, or "
          "--allow-requantize",
          o->model.string(), model.main_type());
    const std::filesystem::path output =
        o->output.empty() ? o->model.parent_path() / fmt::format("{}-{}.gguf", model_stem(o->model), type) : o->output;
    if (std::filesystem::exists(output))
      throw Error("{}: is there already; remove it or name another file with --output", output.string());
    Progress progress(o->quiet);
    progress.step(fmt::format("quantizing to {}", type));
    quantize_model(model, type, output, o->requantize, [&](double share) { progress.update(share); });
    progress.done();
    const uint64_t bytes = std::filesystem::file_size(output);
    if (o->json) {
      fmt::print("{}\n", Json{{"file", output.string()}, {"gguf_type", type}, {"bytes", bytes}}.dump(2));
    } else {
      fmt::print("{}: {} ({} before)\n", output.string(), format_bytes(bytes),
                 format_bytes(std::filesystem::file_size(o->model)));
    }
  });
}

}  // namespace haqa
