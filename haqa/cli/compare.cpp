#include "haqa/cli/compare.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/file_name.h"
#include "haqa/base/progress.h"
#include "haqa/base/text.h"
#include "haqa/cli/agent_setup.h"
#include "haqa/cli/command_options.h"
#include "haqa/cli/commands.h"
#include "haqa/cli/trial_source.h"
#include "haqa/http/http.h"
#include "haqa/report/comparison_page.h"
#include "haqa/space/space_file.h"
#include "haqa/study/comparison.h"
#include "haqa/study/sweep.h"

namespace haqa {

MethodComparison keep_comparison(const StoredComparison& stored, const std::string& name, const CompareFlags& flags) {
  const MethodComparison comparison = compare_methods(stored.runs, stored.direction, flags.reference);
  if (flags.output.empty()) return comparison;
  make_folder(flags.output);
  write_file(flags.output / "compare.html", comparison_page(name, stored.value_name, comparison, chart_js()));
  write_file(flags.output / "summary.csv", summary_csv(comparison));
  write_file(flags.output / "curves.csv", curves_csv(stored.runs, stored.direction));
  return comparison;
}

void print_comparison(const MethodComparison& comparison, const CompareFlags& flags) {
  const std::string title = fmt::format("Methods over {} seeds, {} rounds", comparison.blocks, comparison.rounds);
  const std::string left_out = left_out_text(comparison);
  fmt::print("{}{}{}", text_table(title, comparison_table(comparison)).substr(1),
             left_out.empty() ? "" : left_out + "\n", text_table("What it took", cost_table(comparison)));
  if (!flags.output.empty())
    fmt::print("\n{}: compare.html, summary.csv and curves.csv\n", one_line(flags.output.string()));
}

void show_comparison(const StoredComparison& stored, const std::string& name, const CompareFlags& flags,
                     const Json& more) {
  const MethodComparison comparison = keep_comparison(stored, name, flags);
  if (!flags.json) return print_comparison(comparison, flags);
  Json json = to_json(comparison);
  json.update(more);
  fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
}

SamplerMaker comparison_samplers(const CompareOptions& o, Progress& progress) {
  return [&](const std::string& method, uint64_t seed) {
    AgentSetup agent = o.agent;
    agent.folder = o.flags.output / fmt::format("{}-{}", method, seed);
    agent.on_trouble = [&progress](const std::string& trouble) { progress.note(trouble); };
    return make_named_sampler(method, seed, agent);
  };
}

ComparisonProgress comparison_progress(const CompareOptions& o, Progress& progress) {
  return [&](const std::string& method, uint64_t seed, const Trial& t) {
    progress.note(
        one_line(fmt::format("seed {} of {}, round {} of {}, {}: {}", seed + 1, o.seeds, t.number + 1, o.rounds, method,
                             t.value ? fmt::format("{:.6g}", *t.value) : "failed: " + t.message)));
  };
}

void require_a_value(const std::vector<MethodRun>& runs) {
  std::string message = "there was none";
  for (const MethodRun& run : runs)
    for (const Trial& t : run.trials) {
      if (t.value) return;
      message = t.message;
    }
  throw Error("no trial of any method gave a value; the last: {}", message);
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

namespace {

using Options = CompareOptions;

/// What the values depend on: a file of results is bound to it.
Json settings(const CommandFlags& c) {
  return {{"command", c.command},     {"metrics", c.metrics}, {"environment", c.environment},
          {"timeout_s", c.timeout_s}, {"worker", c.serves},   {"workers", c.workers}};
}

/// Who answers as the agent: nothing that is secret, as an address has no password on its command line
/// (require_no_secret()) and is shown without one where it comes from the environment.
Json who_answers(const AgentTask& agent) {
  if (agent.provider != "openai") return {{"provider", agent.provider}};
  const EndpointOptions endpoint = endpoint_from_environment(agent.endpoint);
  return {{"provider", agent.provider},
          {"model", endpoint.model},
          {"base_url", parse_http_address(endpoint.base_url).shown}};
}

bool asks_agents(const Options& o) {
  return std::any_of(o.methods.begin(), o.methods.end(), asks_agent);
}

void require_sense(const Options& o) {
  if (!o.bit_widths.empty() && o.task.empty()) throw UsageError("--bit-widths is for --task");
  if (!o.sweep.empty()) {
    if (!o.task.empty() || !o.command.command.empty() || !o.command.metrics.empty())
      throw UsageError("--sweep is the objective; leave --task, --command and --metric out");
  } else if (!o.task.empty()) {
    if (!o.command.space.empty() || !o.command.command.empty() || !o.command.metrics.empty())
      throw UsageError("--task names an objective already; leave --space, --command and --metric out");
    if (o.flags.output.empty()) throw UsageError("--task needs --output, a folder for the models");
  } else if (o.command.space.empty() || o.command.command.empty() || o.command.metrics.empty())
    throw UsageError("name a comparison's file, or --space, --command and --metric, or --task, or --sweep, to run one");
  check_methods(o.methods, o.flags.reference);
  require_no_secret(o.agent.task.endpoint.base_url);
  if (asks_agents(o) && o.flags.output.empty())
    throw UsageError("agent and hybrid need --output, a folder for their transcripts");
}

/// Where its results are kept: nowhere without --output.
void run_methods(const Options& o, const Track& track, Objective& objective, const Json& results_depend_on) {
  for (const std::string& method : o.methods) check_sampler(method, track.space);
  Progress progress(o.quiet);
  ComparisonPlan plan{o.methods, o.seeds, o.rounds, o.command.workers, {}, results_depend_on, {}};
  for (const std::string& method : o.methods)
    if (asks_agent(method)) plan.settings_of[method] = who_answers(o.agent.task);
  if (!o.flags.output.empty()) {
    make_folder(o.flags.output);
    plan.file = o.flags.output / "results.jsonl";
  }
  try {
    const StoredComparison runs{
        track.direction, track.value_name,
        run_comparison(plan, track, objective, comparison_samplers(o, progress), comparison_progress(o, progress))};
    show_comparison(runs, track.name, o.flags);
    require_a_value(runs.runs);
  } catch (const Interrupted&) {
    throw Interrupted("interrupted{}", plan.file.empty() ? "; with --output it could go on"
                                                         : "; what was finished is kept: the same command goes on");
  }
}

void run_command(const Options& o) {
  const CommandOptions command = o.command.options();
  const Track track = o.command.track(command);
  CommandObjective objective(track.space, command);
  run_methods(o, track, objective, settings(o.command));
}

Direction sweep_direction(const Options& o, const Sweep& sweep) {
  if (!o.command.direction.empty())
    return o.command.direction == "minimize" ? Direction::minimize : Direction::maximize;
  if (!sweep.direction)
    throw UsageError("{} does not say whether less of \"{}\" is better; give --direction", o.sweep.string(),
                     one_line(sweep.value_name));
  return *sweep.direction;
}

/// A stored sweep in place of measuring.
void run_sweep(const Options& o) {
  const Sweep sweep = read_sweep(o.sweep);
  Track track{one_line(o.sweep.stem().string()),
              o.command.space.empty() ? space_of(sweep) : read_space(o.command.space)};
  track.direction = sweep_direction(o, sweep);
  track.value_name = sweep.value_name;
  track.brief = fmt::format("Each trial is looked up among {} results measured before.", sweep.trials.size());
  SweepObjective objective(track.space, sweep.trials);
  if (objective.size() == 0)
    throw UsageError(
        "none of the {} results of {} is of the search space; leave --space out to take the values of the "
        "sweep",
        sweep.trials.size(), o.sweep.string());
  // Of the content, wherever the file lies.
  run_methods(o, track, objective, {{"sweep", fmt::format("{:016x}", fnv1a_64(read_file(o.sweep)))}});
}

void run_compare(const Options& o) {
  if (!o.file.empty()) return show_comparison(read_comparison(o.file), o.file.stem().string(), o.flags);
  require_sense(o);
  if (!o.sweep.empty()) return run_sweep(o);
  o.task.empty() ? run_command(o) : compare_finetuning(o);
}

/// All options but those that show a comparison are for running one.
void require_only_shown(const CLI::App& command) {
  const std::set<std::string> shows = {"file", "--reference", "--output", "--json", "--quiet"};
  for (const CLI::Option* option : command.get_options())
    if (option->count() > 0 && !shows.contains(option->get_name()))
      throw UsageError("{} is for running a comparison, and FILE is shown as it is; leave one of them out",
                       option->get_name());
}

}  // namespace

void add_compare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("compare", "Methods side by side: curves, ranks and tests over seeds");
  command->add_option("file", o->file, "File of a comparison, finished or not; else one is run, by these options")
      ->check(CLI::ExistingFile)
      ->type_name("FILE");
  o->command.add_to(*command, /*required=*/false);
  command->add_option("--task", o->task, "Task file whose fine-tuning is the objective; see docs/finetune.md")
      ->check(CLI::ExistingFile)
      ->type_name("TASK");
  command
      ->add_option("--bit-widths", o->bit_widths,
                   "Of weights and activations of the task's network for images, such as w8a8,w4a4,w2a2: a comparison "
                   "each")
      ->delimiter(',')
      ->check(not_empty)
      ->type_name("LIST");
  command
      ->add_option("--sweep", o->sweep,
                   "T4 results file of many configurations whose values are the objective; with --space FILE or the "
                   "values that occur in it")
      ->check(CLI::ExistingFile)
      ->type_name("FILE");
  command->add_option("--methods", o->methods, fmt::format("Of {}", fmt::join(named_samplers(), ", ")))
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--seeds", o->seeds, "Runs of each method")->check(CLI::Range(1, 1000))->capture_default_str();
  command->add_option("--rounds", o->rounds, "Trials of each run, the defaults included")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  add_agent_options(*command, o->agent.task, {"expert", "openai"});
  add_price_options(*command, o->agent.task);
  o->flags.add_to(*command);
  command->add_flag("-q,--quiet", o->quiet, "No progress on standard error");
  command->footer(
      "Examples:\n"
      "  haqa compare --space space.yaml --command './train.py --lr {lr}' --metric 'loss=(\\S+)' \\\n"
      "    --direction minimize --methods random,bayesian,expert --seeds 8 --rounds 20 --output comparison\n"
      "  haqa compare comparison/results.jsonl --reference random\n"
      "  haqa compare --sweep results.t4.json --methods expert,random,exhaustive --seeds 20 --rounds 30\n"
      "  haqa compare --task task.yaml --methods default,random,bayesian,expert --seeds 5 --output comparison\n"
      "  haqa compare --task digits.yaml --bit-widths w8a8,w4a4,w2a2 --seeds 5 --output table-1");
  command->callback([o, command] {
    o->file.empty() ? require_asked(*command, asks_agents(*o)) : require_only_shown(*command);
    run_compare(*o);
  });
}

}  // namespace haqa
