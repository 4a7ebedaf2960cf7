#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "haqa/study/study.h"

namespace haqa {

/// The samplers of this folder by their names on the command line; those that need a provider are the agent's, and
/// "human:FILE" needs its file.
std::vector<std::string> sampler_names();
/// The file of "human:FILE"; nullopt for another name.
std::optional<std::string> human_file(const std::string& name);
/// One of the names, or "human:FILE" (human.h). Throws UsageError that lists the names where there is none such.
std::unique_ptr<Sampler> make_sampler(const std::string& name, uint64_t seed);

}  // namespace haqa
