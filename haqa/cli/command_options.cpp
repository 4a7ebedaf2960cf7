#include "haqa/cli/command_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "haqa/base/error.h"
#include "haqa/base/text.h"
#include "haqa/space/space_file.h"

namespace haqa {
namespace {

/// What a shell can export. Source: POSIX.1-2017, 3.235, Name.
bool is_variable(const std::string& name) {
  const auto fits = [](unsigned char c) { return c < 0x80 && (std::isalnum(c) || c == '_'); };
  return !name.empty() && !std::isdigit(static_cast<unsigned char>(name[0])) &&
         std::all_of(name.begin(), name.end(), fits);
}

}  // namespace

CommandOptions CommandFlags::options() const {
  std::optional<Direction> better;
  if (!direction.empty()) better = direction == "maximize" ? Direction::maximize : Direction::minimize;
  CommandOptions options{command, {}, timeout_s, {}, serves, workers};
  for (const std::string& text : metrics) options.metrics.emplace_back(text, better);
  for (const std::string& entry : environment) {
    const size_t equals = entry.find('=');
    const bool named = equals != std::string::npos && is_variable(entry.substr(0, equals));
    if (!named) throw UsageError("--env {}: write NAME=VALUE, the name of letters, digits and _", one_line(entry));
    options.environment.emplace_back(entry.substr(0, equals), entry.substr(equals + 1));
  }
  return options;
}

std::string CommandFlags::name() const {
  return one_line(space.stem().string());
}

Track CommandFlags::track(const CommandOptions& options) const {
  Track track{name(), read_space(space)};
  track.direction = options.metrics.front().goal().direction;
  track.value_name = options.metrics.front().goal().value_name;
  for (size_t i = 1; i < options.metrics.size(); ++i) track.more_goals.push_back(options.metrics[i].goal());
  track.brief = fmt::format("Each trial runs: {}", command);
  return track;
}

std::string CommandFlags::repeating(const CommandObjective& objective, const Configuration& configuration) const {
  const std::string filled = objective.command().filled_in(configuration);
  std::string before;
  for (const std::string& entry : environment) {
    const size_t equals = entry.find('=');
    before += fmt::format("export {}={}; ", entry.substr(0, equals), shell_word(entry.substr(equals + 1)));
  }
  // Not echo: some shells' turns a \n within the JSON into an end of line.
  if (serves)
    return fmt::format("{}printf '%s\\n' {} | {}", before,
                       shell_word(to_line({{"configuration", configuration}, {"folder", "."}})), filled);
  const std::string json = shell_word(to_line(configuration));
  if (objective.command().names_folder()) before += fmt::format("printf '%s\\n' {} > configuration.json; ", json);
  if (!objective.command().unused().empty()) before += fmt::format("export HAQA_CONFIGURATION={}; ", json);
  return before + filled;
}

void CommandFlags::add_to(CLI::App& app, bool required) {
  app.add_option("--space", space, "Search space in YAML or JSON; see docs/spaces.md")
      ->required(required)
      ->type_name("FILE");
  app.add_option("--command", command,
                 "What the shell runs, with {NAME} for the value of a parameter, {file} for a JSON file with all of "
                 "them, {folder} for a folder of the trial's own; {{ is a brace")
      ->required(required);
  app.add_option("--metric", metrics,
                 "Where the value is: a regular expression with one group, whose last match counts; json:KEY of the "
                 "last JSON object printed; file:PATH:KEY; t4:PATH[:NAME]. Several goals: NAME:minimize=... each")
      ->required(required)
      ->allow_extra_args(false);
  app.add_option("--direction", direction, "maximize or minimize")->check(CLI::IsMember({"maximize", "minimize"}));
  app.add_option("--timeout", timeout_s, "Seconds after which a trial is ended, with all that it started")
      ->check(CLI::PositiveNumber);
  app.add_flag("--worker", serves, "The program stays and takes a request a line; see docs/tune.md");
  app.add_option("--env", environment, "NAME=VALUE for the program's environment")->allow_extra_args(false);
  app.add_option("--workers", workers, "Trials at once")->check(CLI::Range(1, 1024))->capture_default_str();
}

}  // namespace haqa
