#include <fmt/format.h>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/json.h"
#include "haqa/base/progress.h"
#include "haqa/cli/commands.h"
#include "haqa/download/fetch.h"

namespace haqa {
namespace {

struct Options {
  std::vector<std::string> names;
  std::filesystem::path output = "datasets";
  std::string server;
  bool list = false, json = false, quiet = false;
};

void print_list(bool json) {
  Json list = Json::array();
  if (!json)
    fmt::print("{:<14} {:>6}  {:<20} {:<14} {:<11} {}\n", "name", "rows", "data set", "configuration", "split", "for");
  for (const DataSet& set : known_data_sets()) {
    if (!json)
      fmt::print("{:<14} {:>6}  {:<20} {:<14} {:<11} {}\n", set.name, set.rows, set.repository, set.configuration,
                 set.split, set.purpose);
    list.push_back({{"name", set.name},
                    {"rows", set.rows},
                    {"repository", set.repository},
                    {"configuration", set.configuration},
                    {"split", set.split},
                    {"purpose", set.purpose}});
  }
  if (json) fmt::print("{}\n", list.dump(2));
}

/// Each once, in the order given; all are checked before the first is fetched.
std::vector<DataSet> named_sets(const std::vector<std::string>& names) {
  std::vector<DataSet> sets;
  const auto add = [&](const DataSet& set) {
    for (const DataSet& other : sets)
      if (other.name == set.name) return;
    sets.push_back(set);
  };
  for (const std::string& name : names) {
    if (name != "all") {
      add(known_data_set(name));
      continue;
    }
    for (const DataSet& set : known_data_sets()) add(set);
  }
  return sets;
}

FetchOptions fetch_options(const Options& o, Progress& progress) {
  FetchOptions options;
  if (const std::string named = environment("HAQA_DATA_SERVER"); !named.empty()) options.server = named;
  if (!o.server.empty()) options.server = o.server;
  options.note = [&progress](const std::string& line) { progress.note(line); };
  options.progress = [&progress](int64_t done, int64_t total) {
    progress.update(static_cast<double>(done) / static_cast<double>(total), fmt::format("{} of {} rows", done, total));
  };
  return options;
}

void fetch(const Options& o) {
  if (o.names.empty()) throw UsageError("no data set is named; name some, or all; haqa data --list shows them");
  const std::vector<DataSet> sets = named_sets(o.names);
  Progress progress(o.quiet);
  const FetchOptions options = fetch_options(o, progress);
  parse_http_address(options.server);
  make_folder(o.output);
  Json fetched = Json::array();
  for (const DataSet& set : sets) {
    const std::filesystem::path file = o.output / (set.name + ".jsonl");
    if (std::filesystem::exists(file)) {
      progress.note(file.string() + " is there already; remove it to fetch it anew");
      continue;
    }
    progress.step(fmt::format("fetching {} ({})", set.name, set.repository));
    const int64_t rows = fetch_rows(set, file, options);
    progress.done();
    if (!o.json) fmt::print("{}: {} rows\n", file.string(), rows);
    fetched.push_back({{"name", set.name}, {"file", file.string()}, {"rows", rows}});
  }
  if (o.json) fmt::print("{}\n", fetched.dump(2));
}

}  // namespace

void add_data(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "data", "Fetch the data sets: instructions to fine-tune on, tasks to evaluate on; or generate images");
  command->add_option("names", o->names, "alpaca, boolq, rte, winogrande, ...; or all")
      ->type_name("NAME")
      ->check(not_empty);
  command->add_option("-o,--output", o->output, "Folder of the files, NAME.jsonl")
      ->type_name("DIR")
      ->check(not_empty)
      ->capture_default_str();
  command
      ->add_option("--server", o->server,
                   fmt::format("Server of the rows (default: $HAQA_DATA_SERVER, else {})", kDataSetsServer))
      ->type_name("URL")
      ->check(not_empty);
  command->add_flag("--list", o->list, "List the data sets");
  command->add_flag("--json", o->json, "Print JSON");
  command->add_flag("-q,--quiet", o->quiet, "No progress on standard error");
  command->footer(
      "Examples:\n  haqa data alpaca\n  haqa data boolq rte -o datasets\n  haqa data --list\n"
      "  haqa data make-images cifar10 shapes --train 5000 --test 1000");
  add_make_images(*command);
  command->callback([o, command] {
    if (!command->get_subcommands().empty()) return;  // which does its own work
    o->list ? print_list(o->json) : fetch(*o);
  });
}

}  // namespace haqa
