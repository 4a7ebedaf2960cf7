#include <fmt/format.h>

#include <cmath>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/progress.h"
#include "haqa/cli/commands.h"
#include "haqa/worker/worker.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

struct Options {
  fs::path checkpoint, output;
  Json quantization = Json::object();  ///< what was given of it
  std::vector<float> mean, deviation;
  int opset = 21;
  bool normalized = false, exact = false, json = false, quiet = false;
};

Json request_of(const Options& o) {
  Json request = {{"command", "export"},
                  {"checkpoint", fs::absolute(o.checkpoint).string()},
                  {"output", fs::absolute(o.output).string()},
                  {"quantization", o.quantization},
                  {"four_bits", o.opset >= 21},
                  {"normalized", o.normalized},
                  {"exact", o.exact}};
  if (o.mean.empty() != o.deviation.empty()) throw UsageError("--mean and --deviation are given both or not at all");
  for (const float mean : o.mean)
    if (!std::isfinite(mean)) throw UsageError("--mean {}: must be a finite number", mean);
  for (const float deviation : o.deviation)
    if (!std::isfinite(deviation) || deviation <= 0)
      throw UsageError("--deviation {}: must be a finite number above 0, as pixels are divided by it", deviation);
  if (!o.mean.empty()) request["mean"] = o.mean, request["deviation"] = o.deviation;
  return request;
}

std::string bits(const Json& number, std::string_view what) {
  return number == 32 ? fmt::format("{} in full precision", what) : fmt::format("{} of {} bits", what, number.dump());
}

std::string pixels(const Json& made) {
  if (made.at("mean").is_null()) return "takes images that are normalized as they were in training";
  const auto by_channel = [&](const char* key) {
    const auto n = made.at(key).get<std::vector<double>>();
    return fmt::format("{:.4g} {:.4g} {:.4g}", n.at(0), n.at(1), n.at(2));
  };
  return fmt::format("takes pixels from 0 to 1; subtracts the mean {} itself and divides by the deviation {}",
                     by_channel("mean"), by_channel("deviation"));
}

void print(const Options& o, const Json& made) {
  fmt::print("{}: {}, {}, {}, {}\n", o.output.string(), made.at("network").get<std::string>(),
             bits(made.at("weight_bits"), "weights"), bits(made.at("activation_bits"), "activations"),
             format_bytes(made.at("bytes").get<uint64_t>()));
  fmt::print("{}\n", pixels(made));
  const auto whole = made.at("integer_layers").get<int64_t>(), floats = made.at("float_layers").get<int64_t>();
  fmt::print("{} of {} layers compute with whole numbers; version {} of ONNX's operators\n", whole, whole + floats,
             made.at("opset").dump());
  if (const auto rounded = made.at("rounded_weights").get<int64_t>())
    fmt::print("{:.1f} % of the weights do not fit INT8 as they are and were rounded, at most half a step\n",
               100.0 * static_cast<double>(rounded) / made.at("integer_weights").get<double>());
  if (const auto sums = made.at("rounded_sums").get<int64_t>())
    fmt::print("{} sums with shortcuts are rounded to 256 steps; --exact keeps them in floats\n", sums);
}

void export_file(const Options& o) {
  if (fs::exists(o.output))
    throw Error("{}: is there already; remove it or name another file with --output", o.output.string());
  PendingFile(o.output);  // throws where there is no folder for it
  const Json request = request_of(o);
  Progress progress(o.quiet);
  progress.step(fmt::format("writing {} in ONNX's form", o.checkpoint.string()));
  const Json result = call_worker("haqa-train", request);
  progress.done();
  Json made = {{"file", o.output.string()}, {"bytes", fs::file_size(o.output)}};
  made.update(result);
  if (o.json)
    fmt::print("{}\n", made.dump(2));
  else
    print(o, made);
}

/// An option whose value goes into the request only where it is given.
template <typename T>
CLI::Option* add_quantization(CLI::App& command, const std::shared_ptr<Options>& o, const std::string& flag,
                              const char* key, const std::string& help) {
  return command.add_option_function<T>(
      flag, [o, key](const T& value) { o->quantization[key] = value; }, help);
}

}  // namespace

void add_export(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("export", "Write a ResNet, quantized or not, as ONNX to run elsewhere");
  command->add_option("checkpoint", o->checkpoint, "Weights: safetensors, or a file of PyTorch")
      ->required()
      ->type_name("CHECKPOINT");
  command->add_option("-o,--output", o->output, "File to write")->required()->type_name("FILE");
  const CLI::Range widths(1, 32);
  add_quantization<int>(*command, o, "--weight-bits", "weight_bits",
                        "Bits of the weights as trained, where the checkpoint does not say; 32 is full precision")
      ->check(widths);
  add_quantization<int>(*command, o, "--activation-bits", "activation_bits", "The same of activations")->check(widths);
  add_quantization<std::string>(*command, o, "--scaling", "scaling",
                                "How weights were scaled: pretrained (default) or original")
      ->check(CLI::IsMember({"original", "pretrained"}));
  command->add_flag_callback(
      "--first-layer", [o] { o->quantization["first_layer"] = true; }, "The first layer was quantized too");
  command->add_flag_callback(
      "--last-layer", [o] { o->quantization["last_layer"] = true; }, "The last layer was quantized too");
  CLI::Option* mean =
      command
          ->add_option("--mean", o->mean,
                       "The file's network takes pixels from 0 to 1, from which it subtracts these (default: those of "
                       "the training, where the checkpoint has them)")
          ->expected(3)
          ->type_name("R G B");
  command->add_flag("--normalized", o->normalized, "It takes images that are normalized already, as in the training")
      ->excludes(mean);
  command->add_option("--deviation", o->deviation, "and which it divides by these")->expected(3)->type_name("R G B");
  command->add_option("--opset", o->opset, "Version of ONNX's operators: 21 has weights of 4 bits, 13 runs anywhere")
      ->check(CLI::IsMember({13, 21}))
      ->capture_default_str();
  command->add_flag("--exact", o->exact,
                    "Add shortcuts in floats where whole numbers would be rounded once more: slower");
  command->add_flag("--json", o->json, "Print JSON");
  command->add_flag("-q,--quiet", o->quiet, "No progress on standard error");
  command->footer(
      "Examples:\n  haqa export tuned.safetensors -o tuned.onnx\n"
      "  haqa export resnet50.pth --mean 0.485 0.456 0.406 --deviation 0.229 0.224 0.225 -o resnet50.onnx\n"
      "  haqa export w4a4.pt --weight-bits 4 --activation-bits 4 --scaling original -o w4a4.onnx");
  command->callback([o] { export_file(*o); });
}

}  // namespace haqa
