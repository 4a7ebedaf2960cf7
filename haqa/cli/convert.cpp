#include <fmt/format.h>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/json.h"
#include "haqa/cli/commands.h"
#include "haqa/deploy/hugging_face.h"
#include "haqa/model/model_info.h"

namespace haqa {
namespace {

/// Why HAQA cannot go on with the converted file, which other programs may all the same; empty where it can.
std::string not_for_haqa(const std::filesystem::path& file) {
  try {
    read_model(file);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

void add_convert(CLI::App& app) {
  struct Options {
    std::filesystem::path folder, output;
    std::string type = "f16";
    bool json = false, quiet = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("convert", "Write a Hugging Face model as GGUF with llama.cpp's converter");
  command->add_option("folder", o->folder, "Folder with config.json, weights and tokenizer")
      ->required()
      ->type_name("FOLDER");
  command->add_option("--type", o->type, "f16, bf16 or f32")
      ->check(CLI::IsMember({"f16", "bf16", "f32"}))
      ->capture_default_str();
  command->add_option("-o,--output", o->output, "File to write")->required()->type_name("FILE");
  command->add_flag("--json", o->json, "Print JSON");
  command->add_flag("-q,--quiet", o->quiet, "No progress on standard error");
  command->footer("Example:\n  haqa convert TinyLlama-1.1B/ -o tinyllama-f16.gguf");
  command->callback([o] {
    if (std::filesystem::exists(o->output))
      throw Error("{}: is there already; remove it or name another file with --output", o->output.string());
    Progress progress(o->quiet);
    convert_folder(o->folder, o->type, o->output, progress);
    const std::string note = not_for_haqa(o->output);
    if (!note.empty()) progress.note("converted, but not for HAQA: " + note);
    const uint64_t bytes = std::filesystem::file_size(o->output);
    if (o->json)
      fmt::print("{}\n", Json{{"file", o->output.string()}, {"type", o->type}, {"bytes", bytes}}.dump(2));
    else
      fmt::print("{}: {}\n", o->output.string(), format_bytes(bytes));
  });
}

}  // namespace haqa
