#include "haqa/cli/compare.h"

#include <fmt/format.h>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/text.h"
#include "haqa/cli/commands.h"
#include "haqa/cli/trial_source.h"
#include "haqa/report/comparison_page.h"
#include "haqa/study/comparison.h"

namespace haqa {

void show_comparison(const StoredComparison& stored, const std::string& name, const CompareFlags& flags) {
  const MethodComparison comparison = compare_methods(stored.runs, stored.direction, flags.reference);
  if (!flags.output.empty()) {
    make_folder(flags.output);
    write_file(flags.output / "compare.html", comparison_page(name, stored.value_name, comparison, chart_js()));
    write_file(flags.output / "summary.csv", summary_csv(comparison));
    write_file(flags.output / "curves.csv", curves_csv(stored.runs, stored.direction));
  }
  if (flags.json) {
    fmt::print("{}\n", to_json(comparison).dump(2, ' ', false, Json::error_handler_t::replace));
    return;
  }
  const std::string title = fmt::format("Methods over {} seeds, {} rounds", comparison.blocks, comparison.rounds);
  fmt::print("{}{}", text_table(title, comparison_table(comparison)).substr(1),
             text_table("What it took", cost_table(comparison)));
  if (!flags.output.empty())
    fmt::print("\n{}: compare.html, summary.csv and curves.csv\n", one_line(flags.output.string()));
}

void CompareFlags::add_to(CLI::App& command) {
  command
      .add_option("--reference", reference,
                  "Method that the others are tested against (default: random, else the first)")
      ->type_name("NAME")
      ->check(not_empty);
  command.add_option("-o,--output", output, "Folder for compare.html, summary.csv and curves.csv")
      ->type_name("FOLDER")
      ->check(not_empty);
  command.add_flag("--json", json, "Print JSON; see docs/compare.md");
}

void add_compare(CLI::App& app) {
  struct Options {
    std::filesystem::path file;
    CompareFlags flags;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("compare", "Methods side by side: curves, ranks and tests over seeds");
  command->add_option("file", o->file, "File of a comparison, finished or not")
      ->required()
      ->check(CLI::ExistingFile)
      ->type_name("FILE");
  o->flags.add_to(*command);
  command->footer("Example:\n  haqa compare comparison.jsonl --reference random --output comparison");
  command->callback([o] { show_comparison(read_comparison(o->file), o->file.stem().string(), o->flags); });
}

}  // namespace haqa
