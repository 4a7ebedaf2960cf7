#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>

#include "haqa/agent/chat.h"

namespace haqa {

/// The offline expert: no language model and no network, but rules from the literature (data/priors/NAME.json, each
/// with its source) and a surrogate over the trials so far. It answers in the agent's protocol from the request's
/// track and trials. A rule is tried on the incumbent when its parameter is part of the search space and its value is
/// not what the incumbent has; when the rules are used up, the surrogate proposes.
std::unique_ptr<ChatProvider> make_expert(const std::filesystem::path& priors, uint64_t seed);

}  // namespace haqa
