#pragma once
#include <memory>

#include "haqa/agent/chat.h"
#include "haqa/http/http.h"

namespace haqa {

/// As chat.h's, with another way than sleeping to wait before a question is put again.
std::unique_ptr<ChatProvider> make_endpoint_provider(const EndpointOptions& options, Wait wait);

}  // namespace haqa
