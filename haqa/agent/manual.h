#pragma once
#include <iosfwd>
#include <memory>

#include "haqa/agent/chat.h"

namespace haqa {

/// The manual provider with its terminal passed in. input: a descriptor that answers are typed into, -1 for none; it is
/// not closed. notices: where prompts are shown.
std::unique_ptr<ChatProvider> make_manual_provider(const std::filesystem::path& folder, size_t answered, int input,
                                                   std::ostream& notices);

}  // namespace haqa
