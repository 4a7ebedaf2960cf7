#include <fmt/format.h>

#include "haqa/base/bytes.h"
#include "haqa/base/progress.h"
#include "haqa/cli/commands.h"
#include "haqa/deploy/benchmark.h"
#include "haqa/model/model_info.h"

namespace haqa {
namespace {

using Rows = std::vector<std::vector<Measurement>>;

Json to_json(const std::vector<std::filesystem::path>& models, const Rows& rows) {
  Json all = Json::array();
  for (size_t i = 0; i < models.size(); ++i) {
    Json entry = {{"model", models[i].string()}, {"type", read_model(models[i]).main_type()}};
    entry.update(summarize(rows[i]));
    entry["ratio_to_first"] = haqa::to_json(paired_ratio(rows[i], rows[0]));
    all.push_back(std::move(entry));
  }
  return all;
}

void print_table(const Json& all) {
  fmt::print("{:<36} {:<7} {:>10} {:>10} {:>12} {:>10}  {}\n", "model", "type", "prompt t/s", "gen t/s", "request t/s",
             "peak", "against the first");
  for (const Json& e : all)
    fmt::print("{:<36} {:<7} {:>10.2f} {:>10.2f} {:>12.2f} {:>10}  {:.3f} ({:.3f} to {:.3f})\n",
               std::filesystem::path(e["model"].get<std::string>()).filename().string(), e["type"].get<std::string>(),
               e["prompt_tokens_per_s"].get<double>(), e["generate_tokens_per_s"].get<double>(),
               e["tokens_per_s"].get<double>(), format_bytes(e["peak_bytes"].get<uint64_t>()),
               e["ratio_to_first"]["median"].get<double>(), e["ratio_to_first"]["low"].get<double>(),
               e["ratio_to_first"]["high"].get<double>());
}

}  // namespace

void add_bench(CLI::App& app) {
  struct Options {
    std::vector<std::filesystem::path> models;
    Workload workload;
    int repetitions = 10;
    bool json = false, quiet = false;
    int timeout_s = 600;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "bench", "Time requests with llama.cpp's defaults, several models in turn: medians and paired ratios");
  command->add_option("model", o->models, "GGUF files")->required()->type_name("MODEL");
  command->add_option("-p,--prompt-tokens", o->workload.prompt_tokens, "Tokens in")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_option("-n,--generate-tokens", o->workload.generate_tokens, "Tokens out")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_option("-r,--repetitions", o->repetitions, "Repetitions; fewer than 6 give intervals of less than 95 %")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command->add_option("--timeout", o->timeout_s, "Seconds a measurement may take")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_flag("--json", o->json, "Print JSON; see docs/json.md");
  command->add_flag("-q,--quiet", o->quiet, "No progress on standard error");
  command->footer("Examples:\n  haqa bench model-q4_0.gguf\n  haqa bench model-f16.gguf model-q8_0.gguf -r 5 --json");
  command->callback([o] {
    std::vector<Setup> setups;
    for (const std::filesystem::path& model : o->models) {
      require_plain_path(model);
      read_model(model);  // a clear error before anything runs
      setups.push_back({model, {}});
    }
    Progress progress(o->quiet);
    progress.step(fmt::format("{} repetitions", o->repetitions));
    const Rows rows = measure_interleaved(llama_bench(o->workload, o->timeout_s), setups, o->repetitions,
                                          [&](double share) { progress.update(share); });
    progress.done();
    const Json all = to_json(o->models, rows);
    if (o->json) {
      fmt::print("{}\n", all.dump(2));
    } else {
      print_table(all);
    }
  });
}

}  // namespace haqa
