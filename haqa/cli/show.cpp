#include <fmt/format.h>

#include "haqa/cli/commands.h"
#include "haqa/report/finetune_report.h"
#include "haqa/report/kernels_report.h"
#include "haqa/report/report.h"
#include "haqa/report/run_log.h"

namespace haqa {

void add_show(CLI::App& app) {
  struct Options {
    std::filesystem::path run;
    bool json = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("show", "Print what a run found");
  command->add_option("run", o->run, "Folder of the run")->required()->type_name("RUN");
  command->add_flag("--json", o->json, "Print summary.json; see docs/json.md");
  command->footer("Example:\n  haqa show runs/quickstart-20261124T081933");
  command->callback([o] {
    const Json summary = read_summary(o->run);
    const std::string kind = summary.value("kind", kRunKind);
    const std::string text = kind == kFinetuneKind  ? finetune_text(summary)
                             : kind == kKernelsKind ? kernels_text(summary)
                                                    : text_report(summary);
    fmt::print("{}\n", o->json ? summary.dump(2, ' ', false, Json::error_handler_t::replace) : text);
    if (summary.value("unfinished", false) && !o->json)
      fmt::print("\nNot finished: haqa {} --resume {} goes on.\n", kind, o->run.string());
  });
}

}  // namespace haqa
