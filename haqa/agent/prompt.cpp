#include "haqa/agent/prompt.h"

#include <fmt/format.h>

#include <algorithm>

#include "haqa/agent/answer_form.h"
#include "haqa/base/file.h"

namespace haqa {
namespace {

constexpr std::string_view kOpen = "{{", kClose = "}}";

using Histories = std::span<const TrackHistory>;
using Slots = std::map<std::string, std::string>;

/// Trials of the track up to the end of a round.
size_t trials_until(const TrackHistory& of, size_t round) {
  const auto before = static_cast<size_t>(of.track->first_round);
  return round < before ? 0 : std::min(round + 1 - before, of.trials.size());
}

const Trial* trial_of(const TrackHistory& of, size_t round) {
  const auto before = static_cast<size_t>(of.track->first_round);
  return round >= before && round - before < of.trials.size() ? &of.trials[round - before] : nullptr;
}

/// Whose texts are told in full.
enum class Texts { none, incumbent, both };

/// Under what an answer has the parameter that is no list's element.
std::string answer_key(const Track& track, const std::string& parameter) {
  for (const AnswerName& a : track.answer_names)
    if (a.parameters.size() == 1 && a.parameters.front() == parameter) return a.key;
  return parameter;
}

/// As the agent would have answered it, but for long texts.
std::string told(const Track& track, const Configuration& configuration) {
  Json answer = to_answer(track, configuration);
  for (const Parameter& p : track.space.parameters()) {
    if (p.type != ParameterType::text) continue;
    const auto text = answer.find(answer_key(track, p.name));
    if (text != answer.end() && text->is_string()) *text = short_text(*text);
  }
  return to_line(answer);
}

/// The texts that told() has in short, each in a fenced block.
std::string texts_in_full(const Track& track, const Configuration& configuration) {
  std::string all;
  for (const Parameter& p : track.space.parameters()) {
    const auto value = configuration.find(p.name);
    if (p.type != ParameterType::text || value == configuration.end() || *value == p.default_value) continue;
    const auto text = value->get<std::string>();
    if (short_text(text) != text)
      all += fmt::format("\nIts {}:\n```\n{}{}```", p.name, text, text.ends_with('\n') ? "" : "\n");
  }
  return all;
}

/// What a round measured of a track, and the best up to then.
Slots outcome(const TrackHistory& of, size_t round, Texts texts) {
  const Track& track = *of.track;
  const Trial* trial = trial_of(of, round);
  const Trial* best = best_trial(of.trials.first(trials_until(of, round)), track.direction);
  std::string incumbent = best ? fmt::format("{} with {} (round {})", told(track, best->configuration),
                                             describe_result(track, *best), best->number + 1)
                               : "none yet";
  std::string configuration = trial ? told(track, trial->configuration) : "none in this round";
  const bool with_trial = trial && (texts == Texts::both || (texts == Texts::incumbent && trial == best));
  if (with_trial) configuration += texts_in_full(track, trial->configuration);
  if (best && texts != Texts::none && !(with_trial && best->configuration == trial->configuration))
    incumbent += texts_in_full(track, best->configuration);
  return {{"configuration", configuration},
          {"result", trial ? describe_result(track, *trial) : "not measured in this round"},
          {"incumbent", incumbent}};
}

Message dynamic_prompt(const Prompts& prompts, Histories tracks, size_t round, int rounds_left, Texts texts) {
  const std::string left = std::to_string(rounds_left);
  if (tracks.size() == 1) {
    Slots slots = outcome(tracks[0], round, texts);
    slots["rounds_left"] = left;
    return {"user", prompts.render("dynamic", slots)};
  }
  std::string results;
  for (const TrackHistory& of : tracks) {
    Slots slots = outcome(of, round, texts);
    slots["track"] = of.track->name;
    results += (results.empty() ? "" : "\n") + prompts.render("joint_result", slots);
  }
  return {"user", prompts.render("joint_dynamic", {{"rounds_left", left}, {"results", results}})};
}

/// Whether a trial ran what the agent answered, and not what a surrogate or a person put in its place.
bool is_own(const Trial& trial, std::string_view agent) {
  return agent.empty() || trial.proposed_by == agent || trial.proposed_by == "hybrid: agent";
}

/// One thought where the trials share it, as after a joint answer; else each track's.
std::string thought_of(std::span<const std::pair<std::string, const Trial*>> answered) {
  std::string all;
  bool is_shared = true;
  for (const auto& [track, trial] : answered) {
    is_shared = is_shared && trial->thought == answered.front().second->thought;
    all += fmt::format("{}{}: {}", all.empty() ? "" : " ", track, trial->thought);
  }
  return is_shared ? answered.front().second->thought : all;
}

/// Who decided a round: the agent's answer, and what was tried in place of one.
std::vector<Message> decision(const Prompts& prompts, Histories tracks, size_t round, std::string_view agent) {
  std::vector<std::pair<std::string, const Trial*>> answered;
  std::string others;
  std::string action;
  for (const TrackHistory& of : tracks) {
    const Trial* trial = trial_of(of, round);
    if (!trial) continue;
    if (is_own(*trial, agent)) {
      answered.emplace_back(of.track->name, trial);
      action += fmt::format("{}{}:{}", action.empty() ? "" : ",", to_line(of.track->name),
                            told(*of.track, trial->configuration));
    } else {
      others += (others.empty() ? "" : "\n") +
                prompts.render("other_proposal", {{"proposer", trial->proposed_by},
                                                  {"configuration", told(*of.track, trial->configuration)},
                                                  {"thought", trial->thought}});
    }
  }
  std::vector<Message> messages;
  action = tracks.size() == 1 && !answered.empty() ? told(*tracks[0].track, answered.front().second->configuration)
                                                   : "{" + action + "}";
  if (!answered.empty())
    messages.push_back({"assistant", fmt::format("Thought: {}\nAction: {}", thought_of(answered), action)});
  if (!others.empty()) messages.push_back({"user", others});
  return messages;
}

/// Those that went by before any of the tracks began.
size_t rounds_before(Histories tracks) {
  size_t fewest = SIZE_MAX;
  for (const TrackHistory& of : tracks) fewest = std::min(fewest, static_cast<size_t>(of.track->first_round));
  return tracks.empty() ? 0 : fewest;
}

std::string summary_line(Histories tracks, size_t round) {
  std::string line;
  for (const TrackHistory& of : tracks) {
    const Trial* trial = trial_of(of, round);
    if (!trial) continue;
    if (line.empty()) line = fmt::format("Round {}: ", trial->number + 1);
    const std::string value = trial->value ? fmt::format("{:.4g}", *trial->value) : describe_result(*of.track, *trial);
    const std::string name = tracks.size() == 1 ? "" : of.track->name + " ";
    line += fmt::format("{}{} -> {}; ", name, told(*of.track, trial->configuration), value);
  }
  return line.substr(0, line.size() - 2) + "\n";
}

Message static_prompt(const Prompts& prompts, Histories tracks, int rounds) {
  std::string joint;
  for (const TrackHistory& of : tracks) {
    const Track& track = *of.track;
    Slots slots = {{"brief", track.brief},
                   {"search_space", track.space.describe() + describe_answer(track)},
                   {"value_name", track.value_name},
                   {"direction", track.direction == Direction::maximize ? "maximized" : "minimized"}};
    if (tracks.size() == 1) {
      slots["rounds"] = std::to_string(rounds);
      slots["example"] = example_action(track);
      return {"user", prompts.render("static", slots)};
    }
    slots["track"] = track.name;
    joint += (joint.empty() ? "" : "\n\n") + prompts.render("joint_track", slots);
  }
  return {"user",
          prompts.render("joint_static",
                         {{"tracks", joint}, {"rounds", std::to_string(rounds)}, {"example", example_action(tracks)}})};
}

void append(std::vector<Message>& messages, Message message) {
  if (!messages.empty() && messages.back().role == message.role) {
    messages.back().content += "\n\n" + message.content;
  } else {
    messages.push_back(std::move(message));
  }
}

size_t rounds_told(Histories tracks) {
  size_t most = 0;
  for (const TrackHistory& of : tracks)
    most = std::max(most, static_cast<size_t>(of.track->rounds_with(of.trials.size())));
  return most;
}

/// Rounds from `first_full` on in full, those from `first_told` on in a line each.
std::vector<Message> conversation(const Prompts& prompts, Histories tracks, std::string_view agent, size_t first_told,
                                  size_t first_full, Texts texts) {
  std::vector<Message> messages = {{"system", prompts.render("system", {})}};
  const size_t count = rounds_told(tracks);
  int rounds = 0, left = 0;
  for (const TrackHistory& of : tracks) {
    rounds = std::max(rounds, of.track->rounds_with(of.trials.size()) + of.rounds_left);
    left = std::max(left, of.rounds_left);
  }
  const size_t before = rounds_before(tracks);
  append(messages, static_prompt(prompts, tracks, rounds - static_cast<int>(before)));
  std::string lines;
  for (size_t i = first_told; i < first_full; ++i) lines += summary_line(tracks, i);
  if (!lines.empty()) append(messages, {"user", prompts.render("history_summary", {{"rounds", lines}})});
  for (size_t i = first_full; i < count; ++i) {
    if (i > first_full)
      for (Message& m : decision(prompts, tracks, i, agent)) append(messages, std::move(m));
    const bool last = i + 1 == count;
    append(messages, dynamic_prompt(prompts, tracks, i, last ? left : rounds - static_cast<int>(i) - 1,
                                    last ? texts : Texts::none));
  }
  if (count > before) return messages;
  append(messages, tracks.size() == 1
                       ? Message{"user", prompts.render("dynamic_first", {{"rounds_left", std::to_string(left)}})}
                       : dynamic_prompt(prompts, tracks, before, left, Texts::none));
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

std::string example_action(const Track& track) {
  return told(track, track.space.defaults());
}

std::string example_action(Histories tracks) {
  std::string all;
  for (const TrackHistory& of : tracks)
    all += fmt::format("{}{}:{}", all.empty() ? "" : ",", to_line(of.track->name), example_action(*of.track));
  return "{" + all + "}";
}

std::vector<Message> build_conversation(const Prompts& prompts, const Track& track, std::span<const Trial> trials,
                                        int rounds_left, const HistoryLimits& limits, std::string_view agent) {
  const TrackHistory one[] = {{&track, trials, rounds_left}};
  return build_conversation(prompts, one, limits, agent);
}

std::vector<Message> build_conversation(const Prompts& prompts, Histories tracks, const HistoryLimits& limits,
                                        std::string_view agent) {
  const size_t n = rounds_told(tracks), before = rounds_before(tracks), last = n == before ? before : n - 1;
  const size_t in_full = static_cast<size_t>(std::max(1, limits.rounds));
  const size_t first = n > before + in_full ? n - in_full : before;
  size_t first_full = first, first_told = before;
  Texts texts = Texts::both;
  for (;;) {
    std::vector<Message> messages = conversation(prompts, tracks, agent, first_told, first_full, texts);
    const int tokens = total_tokens(messages);
    if (tokens <= limits.token_budget) return messages;
    if (first_full < last) {
      ++first_full;
    } else if (first_told < first_full) {
      ++first_told;
    } else if (texts != Texts::none) {
      texts = texts == Texts::both ? Texts::incumbent : Texts::none;
      first_full = first;  // what a text has made room for
      first_told = before;
    } else {
      throw Error(
          "the agent's prompt needs about {} tokens without any history, more than the token budget of {}; "
          "raise agent.token_budget in the task",
          tokens, limits.token_budget);
    }
  }
}

}  // namespace haqa
