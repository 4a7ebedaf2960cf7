// haqa: the coordinator. It loads neither llama.cpp nor libtorch; what runs models is a worker program of its own.
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <span>

#include "haqa/base/error.h"
#include "haqa/base/text.h"
#include "haqa/cli/commands.h"
#include "haqa/worker/process.h"

namespace {

enum ExitCode { kFailure = 1, kUsage = 2, kInterrupted = 130 };

void add_commands(CLI::App& app) {
  haqa::add_run(app);
  haqa::add_deploy(app);
  haqa::add_hardware(app);
  haqa::add_memory(app);
  haqa::add_bench(app);
  haqa::add_eval(app);
  haqa::add_finetune(app);
  haqa::add_pretrain(app);
  haqa::add_kernels(app);
  haqa::add_quantize(app);
  haqa::add_convert(app);
  haqa::add_merge(app);
  haqa::add_export(app);
  haqa::add_show(app);
  haqa::add_importance(app);
  haqa::add_compare(app);
  haqa::add_make_model(app);
  haqa::add_tune(app);
  haqa::add_data(app);
  haqa::add_completion(app);
}

/// CLI11 would say no more than "A subcommand is required".
void require_command(const CLI::App& app, std::span<char*> arguments) {
  const std::string first = arguments.size() > 1 ? arguments[1] : "";
  if (first.starts_with('-')) return;
  std::vector<std::string> all;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    all.push_back(command->get_name());
  if (std::find(all.begin(), all.end(), first) != all.end()) return;
  throw haqa::UsageError("{}; choose one of {}",
                         first.empty() ? "a command is missing" : "'" + haqa::one_line(first) + "' is no command",
                         fmt::join(all, ", "));
}

/// Texts end up in databases, JSON and pages, none of which takes anything else; files that exist may be named as they
/// are.
void require_utf8(std::span<char*> arguments) {
  for (const char* argument : arguments.subspan(1)) {
    std::error_code ignored;
    if (!haqa::is_utf8(argument) && !std::filesystem::exists(argument, ignored))
      throw haqa::UsageError("the argument '{}' is no UTF-8, nor a file that is there; write it in UTF-8",
                             haqa::one_line(argument));
  }
}

int report(const char* what, ExitCode code) {
  std::fprintf(stderr, "haqa: %s\n", what);  // fmt::print would throw where stderr is closed
  return code;
}

/// What was printed is on its way only now, and the disk may be full.
int finish() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return 0;
  return report("standard output cannot be written; free some space or print elsewhere", kFailure);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("HAQA turns a model, a device and a memory limit into a tuned, quantized, verified deployment.", "haqa");
  app.set_version_flag("--version", "haqa " HAQA_VERSION);
  app.require_subcommand(1);
  app.footer("`haqa COMMAND --help` shows the options and examples of a command.");
  try {
    haqa::install_interrupt_handler();
    add_commands(app);
    if (argc > 0) require_utf8({argv, static_cast<size_t>(argc)});
    require_command(app, {argv, static_cast<size_t>(argc)});
    app.parse(argc, argv);
    return finish();
  } catch (const CLI::Success& e) {  // --help, --version
    app.exit(e);
    return finish();
  } catch (const CLI::ParseError& e) {
    return report(e.what(), kUsage);
  } catch (const haqa::Interrupted& e) {
    return report(e.what(), kInterrupted);
  } catch (const haqa::UsageError& e) {
    return report(e.what(), kUsage);
  } catch (const std::exception& e) {
    return report(e.what(), kFailure);
  }
}
