#include "haqa/report/finetune_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "haqa/base/bytes.h"
#include "haqa/base/csv.h"
#include "haqa/base/stats.h"
#include "haqa/base/text.h"
#include "haqa/report/escape.h"
#include "haqa/study/comparison.h"

namespace haqa {
namespace {

std::string percent(std::optional<double> value, std::optional<double> error) {
  if (!value) return "";
  if (!error) return fmt::format("{:.2f}", 100 * *value);
  return fmt::format("{:.2f} ± {:.2f}", 100 * *value, 100 * *error);
}

std::optional<Interval> interval_of(const Part& part) {
  const auto median = part["median"].positive(), low = part["low"].positive(), high = part["high"].positive();
  return median && low && high ? std::optional(Interval{*median, *low, *high}) : std::nullopt;
}

std::vector<std::string> deployment_row(const std::string& name, const Part& row, const std::string& note) {
  const auto ms = interval_of(row["latency_ms"]), speed = interval_of(row["speed_up"]);
  const auto size = row["size_ratio"].positive();
  return {name,
          amount(row["bytes"].bytes()),
          size ? ratio(*size) : "",
          ms ? text_of(*ms) : "",
          speed ? text_of(*speed) : "",
          amount(row["memory_bytes"].bytes()),
          percent(row["accuracy"]["mean"].number(), row["accuracy"]["error"].number()),
          note};
}

/// What the network that was made takes, where that was asked for.
std::string deployment_sentence(const Part& deployment) {
  const Part best = deployment["best"];
  const auto size = best["size_ratio"].positive();
  if (!size) return "";
  std::string text = fmt::format("As an ONNX file it takes {}, {} of full precision's size",
                                 amount(best["bytes"].bytes()), figure(*size));
  const auto ms = interval_of(best["latency_ms"]), speed = interval_of(best["speed_up"]);
  if (ms && speed)
    text +=
        fmt::format(", and an image {} ms, {} times as fast as in full precision", figure(ms->median), text_of(*speed));
  const std::string broken = best["broken"].text();
  return text + (broken.empty() ? "." : "; " + broken + ".");
}

/// Tasks that any of these has, in the order in which they come.
std::vector<std::string> tasks_of(const std::vector<Part>& accuracies) {
  std::vector<std::string> names;
  for (const Part& a : accuracies)
    for (const auto& [name, value] : a["tasks"].members())
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  return names;
}

struct Gain {
  double value = 0;             ///< of the difference
  std::optional<double> error;  ///< nothing where a single question was asked
  bool is_told() const { return error && std::abs(value) > 2 * *error; }
};

std::optional<Gain> gain(const Part& from, const Part& to) {
  const auto a = from["mean"].number(), b = to["mean"].number();
  if (!a || !b) return std::nullopt;
  const auto error_a = from["error"].number(), error_b = to["error"].number();
  return Gain{*b - *a, error_a && error_b ? std::optional(std::hypot(*error_a, *error_b)) : std::nullopt};
}

std::string sentence(const std::string& what, const std::string& against, const Gain& g) {
  if (!g.error)
    return fmt::format("{} and {} differ by {:+.2f} points on too few questions to tell.", what, against,
                       100 * g.value);
  const std::string figures = fmt::format("{:+.2f} ± {:.2f} points", 100 * g.value, 100 * *g.error);
  if (!g.is_told()) return fmt::format("{} cannot be told from {}: {} are within the error.", what, against, figures);
  return fmt::format("{} is {} than {}: {}.", what, g.value > 0 ? "better" : "worse", against, figures);
}

/// Of a network for images, not of a language model.
bool is_of_images(const Part& summary) {
  return !summary["network"].is_missing();
}

std::vector<std::pair<std::string, Json>> held_out_columns(const Part& summary) {
  std::vector<std::pair<std::string, Json>> columns;
  const Part held_out = summary["held_out"];
  for (const auto& [key, name] :
       {std::pair("given", is_of_images(summary) ? "full precision" : "as given"),
        std::pair("given_tuned", "as given, tuned"), std::pair("base", "untuned"), std::pair("defaults", "defaults"),
        std::pair("best", "best"), std::pair("merged", "best, merged"), std::pair("deployed", "deployed")})
    if (!held_out[key].is_missing()) columns.emplace_back(name, held_out[key].json());
  return columns;
}

struct MethodRow {
  std::string method;
  int seeds = 0;
  std::vector<std::vector<double>> values;  ///< of each task, then of the mean: a value a seed
};

std::vector<MethodRow> method_rows(std::span<const Json> outcomes, const std::vector<std::string>& tasks) {
  std::vector<MethodRow> rows;
  for (const Json& json : outcomes) {
    const Part outcome(json);
    const std::string method = outcome["method"].text();
    auto row = std::find_if(rows.begin(), rows.end(), [&](const MethodRow& r) { return r.method == method; });
    if (row == rows.end()) row = rows.insert(row, {method, 0, std::vector<std::vector<double>>(tasks.size() + 1)});
    const Part held_out = outcome["held_out"];
    if (held_out.is_missing()) continue;
    ++row->seeds;
    for (size_t i = 0; i <= tasks.size(); ++i) {
      const Part value = i < tasks.size() ? held_out["tasks"][tasks[i].c_str()]["accuracy"] : held_out["mean"];
      if (const auto number = value.number()) row->values[i].push_back(*number);
    }
  }
  return rows;
}

std::vector<std::string> tasks_of(std::span<const Json> outcomes) {
  std::vector<Part> all;
  for (const Json& outcome : outcomes) all.push_back(Part(outcome)["held_out"]);
  return tasks_of(all);
}

/// Whether there is one mean over the tasks; bit widths beside each other have none.
bool have_mean(std::span<const Json> outcomes) {
  return std::any_of(outcomes.begin(), outcomes.end(),
                     [](const Json& o) { return Part(o)["held_out"]["mean"].number().has_value(); });
}

/// Of a single seed there is none.
std::optional<double> deviation(const std::vector<double>& values) {
  return values.size() > 1 ? std::optional(standard_deviation(values)) : std::nullopt;
}

}  // namespace

Table accuracy_table(std::span<const std::pair<std::string, Json>> measured) {
  Table t{{"task"}, "l", {}};
  std::vector<Part> all;
  for (const auto& [name, json] : measured) {
    t.head.push_back(name + " %");
    t.align += 'r';
    all.emplace_back(json);
  }
  for (const std::string& task : tasks_of(all)) {
    t.rows.push_back({one_line(task)});
    for (const Part& a : all) {
      const Part of_task = a["tasks"][task.c_str()];
      t.rows.back().push_back(percent(of_task["accuracy"].number(), of_task["error"].number()));
    }
  }
  t.rows.push_back({"mean"});
  for (const Part& a : all) t.rows.back().push_back(percent(a["mean"].number(), a["error"].number()));
  return t;
}

std::vector<std::string> finetune_answer(const Json& summary) {
  const Part part(summary), held_out = part["held_out"];
  std::vector<std::string> sentences;
  const auto best = part["best"].count();
  if (part["unfinished"].is(true)) return {};
  if (!best) return {"No configuration gave a model."};
  const std::string round =
      *best == 0 ? "The best, the defaults of round 1," : fmt::format("The best, round {},", *best + 1);
  if (const auto g = gain(held_out["base"], held_out["best"]))
    sentences.push_back(sentence(round, "the untuned model", *g));
  if (const auto g = gain(held_out["defaults"], held_out["best"]); g && *best != 0)
    sentences.push_back(sentence("It", "the defaults of round 1", *g));
  if (const auto g = gain(held_out["given"], held_out["best"]); g && is_of_images(part))
    sentences.push_back(
        sentence("In " + one_line(part["network"]["bit_width"].text()) + " it", "the model in full precision", *g));
  if (const std::string deployed = deployment_sentence(part["deployment"]); !deployed.empty())
    sentences.push_back(deployed);
  if (part["deployed"].text() == "untuned")
    sentences.push_back(
        "On the questions that rounds choose by none answered as well as the untuned model, which is deployed.");
  if (const auto g = gain(held_out["given"], held_out["deployed"]))
    sentences.push_back(sentence("What is deployed", "the model as given", *g));
  for (const Part& trial : part["trials"].list())
    if (const std::string note = trial["metrics"]["examples"].text(); !note.empty()) {
      sentences.push_back("Learned from " + note + ".");
      break;
    }
  if (const auto skipped = held_out["best"]["skipped"].count(); skipped && *skipped > 0) {
    const std::vector<Part> files = held_out["best"]["skipped_files"].list();
    sentences.push_back(fmt::format("Of the test images {} {} damaged and left out{}.", *skipped,
                                    *skipped == 1 ? "is" : "are",
                                    files.empty() ? "" : ", the first: " + one_line(files.front().text(), 300)));
  }
  return sentences;
}

std::vector<std::string> finetune_sentences(const Part& run) {
  if (run["finetune"].is_missing()) return {};
  std::vector<std::string> sentences = finetune_answer(run["finetune"].json());
  if (!sentences.empty()) sentences.front() = "Fine-tuning: " + sentences.front();
  return sentences;
}

Table held_out_table(const Part& summary) {
  const auto columns = held_out_columns(summary);
  return columns.empty() ? Table{} : accuracy_table(columns);
}

Table deployment_table(const Part& summary) {
  Table t{{"network", "file", "size, of fp32's", "ms an image", "speed, times fp32's", "memory to run",
           "accuracy untuned %", "note"},
          "lrrrrrrl",
          {}};
  const Part deployment = summary["deployment"];
  for (const Part& row : deployment["candidates"].list()) {
    const std::string left_out = row["left_out"].text();
    t.rows.push_back(deployment_row(one_line(row["bit_width"].text()), row,
                                    left_out.empty() ? "" : "left out: " + one_line(left_out)));
  }
  if (const Part best = deployment["best"]; !best.is_missing())
    t.rows.push_back(
        deployment_row(one_line(best["bit_width"].text()) + ", trained", best, one_line(best["broken"].text())));
  return t;
}

Table finetune_rounds_table(const Part& summary) {
  Table t{{"round", "changed", "accuracy %", "last loss", "proposed by", "note"}, "rlrrll", {}};
  const auto best = summary["best"].count();
  const std::vector<Part> trials = summary["trials"].list();
  for (const Part& trial : trials) {
    std::string changed = changes(trials.front()["configuration"], trial["configuration"]);
    const std::vector<Part> losses = trial["metrics"]["training"]["losses"].list();
    const auto loss = losses.empty() ? std::nullopt : losses.back().number();
    const auto number = trial["number"].count();
    std::string note = trial["reason"].text();
    if (!note.empty()) note += ": " + one_line(trial["message"].text());
    if (best && number == best) note = "best";
    t.rows.push_back({number ? std::to_string(*number + 1) : "", changed.empty() ? "the defaults" : one_line(changed),
                      percent(trial["value"].number(), trial["metrics"]["error"].number()), loss ? figure(*loss) : "",
                      one_line(trial["proposed_by"].text()), note});
  }
  return t;
}

std::string finetune_text(const Json& summary) {
  const Part part(summary);
  std::string text;
  for (const std::string& s : finetune_answer(summary)) text += (text.empty() ? "" : " ") + s;
  if (!text.empty()) text += '\n';
  const bool images = is_of_images(part);
  if (const Table table = held_out_table(part); !table.rows.empty()) {
    text += text_table(images ? "Accuracy on the test images" : "Accuracy on held-out questions", table);
    text += fmt::format("± is one standard error. The rounds chose by other {} than these.\n",
                        images ? "images" : "questions");
  }
  text += text_table(kDeploymentTitle, deployment_table(part));
  text += text_table(fmt::format("Rounds: accuracy on the {} to choose by", images ? "images" : "questions"),
                     finetune_rounds_table(part));
  if (const std::string file = part["files"]["adapter"].text(); !file.empty())
    text += fmt::format("\nUse it\n  llama-cli --model {} --lora {}\n  llama-cli --model {}\n",
                        one_line(part["files"]["base"].text(), 1000), one_line(file, 1000),
                        one_line(part["files"]["merged"].text(), 1000));
  if (const std::string file = part["files"]["network"].text(); !file.empty())
    text += fmt::format("\nThe network, by the names that torchvision has: {}\n", one_line(file, 1000));
  if (const std::string file = part["files"]["onnx"].text(); !file.empty())
    text += fmt::format("For ONNX Runtime, of pixels from 0 to 1: {}\n", one_line(file, 1000));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::vector<std::string> finetune_ideas(const Part& part) {
  const Part held_out = part["held_out"];
  const bool images = is_of_images(part);
  std::vector<std::string> ideas;
  const auto add = [&](std::string what) { ideas.push_back(std::move(what)); };
  const auto g = gain(held_out["base"], held_out["best"]);
  if (g && !g->is_told())
    add(fmt::format(
        "Measure on more {}: a gain of {:.2f} points is {}.",
        images ? "images (finetune.validation_share; and the test set)"
               : "questions (finetune.limit, finetune.held_out_limit)",
        100 * g->value,
        g->error ? fmt::format("within its error of {:.2f}", 100 * *g->error) : "all that one question tells"));
  if (g && g->is_told() && g->value < 0)
    add(images ? "Do not ship this network: the untuned one is better. A smaller learning rate may help."
               : "Do not ship this adapter: the untuned model is better. Examples nearer to the tasks, or a smaller "
                 "learning rate, may help.");
  size_t failed = 0, memory = 0, slow = 0;
  const std::vector<Part> trials = part["trials"].list();
  for (const Part& t : trials) {
    const std::string reason = t["reason"].text();
    failed += !reason.empty();
    memory += reason == "out_of_memory";
    slow += reason == "timed_out";
  }
  if (memory > 0)
    add(fmt::format("{} of {} rounds needed too much memory: allow {}smaller batches.", memory, trials.size(),
                    images ? "" : "activation_checkpointing, a smaller context or "));
  if (slow > 0) add(fmt::format("{} of {} rounds took too long: raise finetune.timeout_s.", slow, trials.size()));
  if (failed > memory + slow)
    add(fmt::format("{} of {} rounds failed otherwise; log.jsonl has their messages.", failed - memory - slow,
                    trials.size()));
  if (const auto best = part["best"].count(); best && *best < static_cast<int>(trials.size())) {
    const std::vector<Part> losses = trials[static_cast<size_t>(*best)]["metrics"]["training"]["losses"].list();
    const double first = losses.size() < 5 ? 0 : losses[losses.size() - 1 - losses.size() / 5].number().value_or(0);
    const double last = losses.empty() ? 0 : losses.back().number().value_or(0);
    if (last < 0.95 * first)
      add(fmt::format("Train longer ({}): the best round's loss was still falling, from {} to {} in its last fifth.",
                      images ? "num_epochs" : "max_steps", figure(first), figure(last)));
  }
  return ideas;
}

std::string finetune_suggestions(const Json& summary) {
  std::vector<std::string> ideas = finetune_ideas(Part(summary));
  if (ideas.empty()) ideas.push_back("Nothing stands out. More rounds or another sampler may find more.");
  std::string text = "# What to try next\n";
  for (const std::string& idea : ideas) text += "\n- " + idea + "\n";
  return text;
}

Table methods_table(std::span<const Json> outcomes) {
  const std::vector<std::string> tasks = tasks_of(outcomes);
  Table t{{"method", "seeds"}, "lr", {}};
  for (const std::string& task : tasks) t.head.push_back(one_line(task));
  const bool with_mean = have_mean(outcomes);
  if (with_mean) t.head.push_back("mean");
  t.align += std::string(t.head.size() - 2, 'r');
  for (const MethodRow& row : method_rows(outcomes, tasks)) {
    t.rows.push_back({one_line(row.method), std::to_string(row.seeds)});
    for (const std::vector<double>& values : std::span(row.values).first(t.head.size() - 2)) {
      const bool all = std::ssize(values) == row.seeds;
      t.rows.back().push_back(values.empty() ? ""
                                             : percent(mean(values), deviation(values)) +
                                                   (all ? "" : fmt::format(" ({} seeds)", values.size())));
    }
  }
  return t;
}

std::string methods_csv(std::span<const Json> outcomes) {
  const std::vector<std::string> tasks = tasks_of(outcomes);
  std::string text = "method,seeds";
  for (const std::string& task : tasks) text += fmt::format(",{},{}", csv_field(task), csv_field(task + "_sd"));
  const bool with_mean = have_mean(outcomes);
  text += with_mean ? ",mean,mean_sd\n" : "\n";
  for (const MethodRow& row : method_rows(outcomes, tasks)) {
    text += fmt::format("{},{}", csv_field(row.method), row.seeds);
    for (const std::vector<double>& values : std::span(row.values).first(tasks.size() + with_mean))
      text += values.empty() ? ",," : fmt::format(",{},{}", mean(values), csv_number(deviation(values)));
    text += '\n';
  }
  return text;
}

}  // namespace haqa
