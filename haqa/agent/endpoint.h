#pragma once
#include <functional>
#include <memory>

#include "haqa/agent/chat.h"

namespace haqa {

/// How a provider pauses, in seconds; tests pass one that only takes notes.
using Wait = std::function<void(double seconds)>;

/// Sleeps; throws Interrupted within 100 ms of Ctrl-C.
void wait_interruptibly(double seconds);

std::unique_ptr<ChatProvider> make_endpoint_provider(const EndpointOptions& options, Wait wait);

}  // namespace haqa
