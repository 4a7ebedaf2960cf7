// Whatever an agent answers, the result is a valid configuration or a fault.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "haqa/agent/reply.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const haqa::SearchSpace space(
      {haqa::text_parameter("code", 100, ""), haqa::integer_parameter("threads", 1, 8, 4, ""),
       haqa::real_parameter("rate", 0.1, 1, 0.5, "", true),
       haqa::categorical_parameter("type", {"f16", "q8_0"}, "f16", ""), haqa::boolean_parameter("repack", true, "")});
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  haqa::Track alone;
  alone.space = space;
  alone.answer_names = {{"griddim", {"threads", "rate", ""}, ""}, {"code", {"code"}, "code changed"}};
  const auto parsed = haqa::parse_reply(text, alone, {});
  if (const auto* action = std::get_if<haqa::AgentAction>(&parsed))
    if (space.problem(action->configuration)) std::abort();

  haqa::Track one, other;
  one.name = "runtime";
  other.name = "rate";  // a track named like a parameter
  one.space = other.space = space;
  const haqa::TrackHistory tracks[] = {{&one, {}, 1}, {&other, {}, 1}};
  for (const auto& entry : haqa::parse_joint_reply(text, tracks))
    if (const auto* action = std::get_if<haqa::AgentAction>(&entry))
      if (space.problem(action->configuration)) std::abort();
  return 0;
}
