#include "haqa/agent/prompt.h"

#include <fmt/format.h>

#include <algorithm>

#include "haqa/base/file.h"

namespace haqa {
namespace {

constexpr std::string_view kOpen = "{{", kClose = "}}";

Message dynamic_prompt(const Prompts& prompts, const Track& track, std::span<const Trial> trials, size_t current,
                       int rounds_left) {
  const Trial& trial = trials[current];
  const Trial* best = best_trial(trials.first(current + 1), track.direction);
  const std::string incumbent = best ? fmt::format("{} with {} (round {})", to_line(best->configuration),
                                                   describe_result(track, *best), best->number + 1)
                                     : "none yet";
  return {"user", prompts.render("dynamic", {{"rounds_left", std::to_string(rounds_left)},
                                             {"configuration", to_line(trial.configuration)},
                                             {"result", describe_result(track, trial)},
                                             {"incumbent", incumbent}})};
}

Message answer(const Trial& trial) {
  return {"assistant", fmt::format("Thought: {}\nAction: {}", trial.thought, to_line(trial.configuration))};
}

std::string summary_line(const Track& track, const Trial& trial) {
  const std::string value = trial.value ? fmt::format("{:.4g}", *trial.value) : describe_result(track, trial);
  return fmt::format("Round {}: {} -> {}\n", trial.number + 1, to_line(trial.configuration), value);
}

void append(std::vector<Message>& messages, Message message) {
  if (!messages.empty() && messages.back().role == message.role) {
    messages.back().content += "\n\n" + message.content;
  } else {
    messages.push_back(std::move(message));
  }
}

/// Rounds from `first_full` on in full, those from `first_told` on in a line each.
std::vector<Message> conversation(const Prompts& prompts, const Track& track, std::span<const Trial> trials,
                                  int rounds_left, size_t first_told, size_t first_full) {
  std::vector<Message> messages = {{"system", prompts.render("system", {})}};
  const int rounds = static_cast<int>(trials.size()) + rounds_left;
  append(messages,
         {"user",
          prompts.render("static", {{"brief", track.brief},
                                    {"search_space", track.space.describe()},
                                    {"value_name", track.value_name},
                                    {"direction", track.direction == Direction::maximize ? "maximized" : "minimized"},
                                    {"rounds", std::to_string(rounds)},
                                    {"example", example_action(track.space)}})});
  std::string lines;
  for (size_t i = first_told; i < first_full; ++i) lines += summary_line(track, trials[i]);
  if (!lines.empty()) append(messages, {"user", prompts.render("history_summary", {{"rounds", lines}})});
  for (size_t i = first_full; i < trials.size(); ++i) {
    if (i > first_full) append(messages, answer(trials[i]));
    append(messages, dynamic_prompt(prompts, track, trials, i, rounds - static_cast<int>(i) - 1));
  }
  if (trials.empty())
    append(messages, {"user", prompts.render("dynamic_first", {{"rounds_left", std::to_string(rounds_left)}})});
  return messages;
}

}  // namespace

Prompts::Prompts(std::filesystem::path folder) : folder_(std::move(folder)) {}

std::string Prompts::render(const std::string& name, const std::map<std::string, std::string>& values) const {
  const std::filesystem::path file = folder_ / (name + ".md");
  const std::string text = read_file(file);
  std::string out;
  std::map<std::string, std::string> unused = values;
  size_t at = 0;
  for (size_t open; (open = text.find(kOpen, at)) != std::string::npos;) {
    const size_t close = text.find(kClose, open);
    if (close == std::string::npos) throw Error("{}: a slot is opened by {{{{ but not closed", file.string());
    const std::string slot = text.substr(open + kOpen.size(), close - open - kOpen.size());
    const auto value = values.find(slot);
    if (value == values.end()) throw Error("{}: nothing is known for the slot \"{}\"", file.string(), slot);
    out.append(text, at, open - at).append(value->second);
    unused.erase(slot);
    at = close + kClose.size();
  }
  if (!unused.empty()) throw Error("{}: the slot \"{}\" is missing", file.string(), unused.begin()->first);
  out.append(text, at);
  while (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

int estimate_tokens(std::string_view text) {
  return static_cast<int>(text.size() / 3) + 1;
}

int total_tokens(std::span<const Message> messages) {
  int sum = 0;
  for (const Message& m : messages) sum += estimate_tokens(m.content) + 8;  // role and separators
  return sum;
}

std::string describe_result(const Track& track, const Trial& trial) {
  if (trial.state == TrialState::running) return "still being measured";
  if (!trial.value) return fmt::format("failed ({}): {}", to_string(trial.reason), trial.message);
  std::string text = fmt::format("{}: {:.4g}", track.value_name, *trial.value);
  for (size_t i = 0; i < trial.more_values.size(); ++i)
    text += fmt::format(", {}: {:.4g}", track.more_goals.at(i).value_name, trial.more_values[i]);
  if (trial.state == TrialState::pruned) text += ", given up as hopeless";
  for (const auto& [name, value] : trial.metrics.items()) {
    if (value.is_number()) text += fmt::format(", {}: {:.4g}", name, value.get<double>());
    if (value.is_object() && !value.empty()) text += fmt::format(", {}: {}", name, to_line(value));
  }
  return text;
}

std::string example_action(const SearchSpace& space) {
  return to_line(space.defaults());
}

std::vector<Message> build_conversation(const Prompts& prompts, const Track& track, std::span<const Trial> trials,
                                        int rounds_left, const HistoryLimits& limits) {
  const size_t n = trials.size(), last = n == 0 ? 0 : n - 1;
  const size_t in_full = static_cast<size_t>(std::max(1, limits.rounds));
  size_t first_full = n > in_full ? n - in_full : 0, first_told = 0;
  for (;;) {
    std::vector<Message> messages = conversation(prompts, track, trials, rounds_left, first_told, first_full);
    const int tokens = total_tokens(messages);
    if (tokens <= limits.token_budget) return messages;
    if (first_full < last) {
      ++first_full;
    } else if (first_told < first_full) {
      ++first_told;
    } else {
      throw Error(
          "the agent's prompt needs about {} tokens without any history, more than the token budget of {}; "
          "raise agent.token_budget in the task",
          tokens, limits.token_budget);
    }
  }
}

}  // namespace haqa
