#include <fmt/format.h>
#include <fmt/ranges.h>

#include "haqa/cli/commands.h"

namespace haqa {
namespace {

std::string long_options(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return fmt::format("{}", fmt::join(names, " "));
}

}  // namespace

void add_completion(CLI::App& app) {
  CLI::App* command = app.add_subcommand("completion", "Print a completion script for bash");
  command->footer("Example:\n  eval \"$(haqa completion)\"");
  command->callback([&app] {
    std::string commands, cases;
    for (const CLI::App* sub : app.get_subcommands([](CLI::App*) { return true; })) {
      commands += sub->get_name() + " ";
      cases += fmt::format("    {}) words='{}' ;;\n", sub->get_name(), long_options(*sub));
    }
    fmt::print(R"sh(_haqa() {{
  local words current=${{COMP_WORDS[COMP_CWORD]}}
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W '{}--help --version' -- "$current"))
    return
  fi
  case ${{COMP_WORDS[1]}} in
{}  esac
  if [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  else
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}}
complete -o filenames -F _haqa haqa
)sh",
               commands, cases);
  });
}

}  // namespace haqa
