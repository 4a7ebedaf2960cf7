#pragma once
#include <memory>

#include "haqa/agent/chat.h"
#include "haqa/http/http.h"

namespace haqa {

std::unique_ptr<ChatProvider> make_endpoint_provider(const EndpointOptions& options, Wait wait);

}  // namespace haqa
