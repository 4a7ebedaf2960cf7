#include "haqa/sampler/human.h"

#include <fmt/format.h>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/yaml_map.h"
#include "haqa/sampler/untried.h"

namespace haqa {
namespace {

Json content_of(const std::filesystem::path& file) {
  const std::string text = read_file(file);
  try {
    return yaml_value(text);  // JSON is YAML
  } catch (const UsageError& e) {
    throw UsageError("{}: {}", file.string(), e.what());
  }
}

}  // namespace

HumanSampler::HumanSampler(std::filesystem::path file) : file_(std::move(file)) {
  const Json content = content_of(file_);
  if (!content.is_array() || content.empty())
    throw UsageError("{}: must be a list of configurations, such as \"- {{learning_rate: 0.001, epochs: 3}}\"",
                     file_.string());
  entries_.assign(content.begin(), content.end());
}

void HumanSampler::check(const SearchSpace& space) const {
  for (size_t i = 0; i < entries_.size(); ++i)
    if (const auto fault = space.problem(entries_[i]))
      throw UsageError("{}: entry {}: {}", file_.string(), i + 1, *fault);
}

Proposal HumanSampler::ask(const Track& track, std::span<const Trial> trials, int) {
  check(track.space);
  const std::set<std::string> tried = tried_hashes(track.space, trials);
  for (size_t i = 0; i < entries_.size(); ++i)
    if (!tried.contains(track.space.hash(entries_[i])))
      return {track.space.normalized(entries_[i]),
              "human",
              fmt::format("Entry {} of {} in {}.", i + 1, entries_.size(), file_.filename().string()),
              {}};
  // A study may go on with narrower ranges: what is outside them cannot be run again.
  std::vector<Trial> valid(trials.begin(), trials.end());
  std::erase_if(valid, [&](const Trial& t) { return track.space.problem(t.configuration).has_value(); });
  const Trial* best = best_trial(std::span<const Trial>(valid), track.direction);
  return {best ? best->configuration : track.space.normalized(entries_.front()),
          "human",
          best ? fmt::format("The list is through: its best again, from round {}.", best->number + 1)
               : "The list is through and nothing that is valid today ran: its first entry again.",
          {}};
}

}  // namespace haqa
