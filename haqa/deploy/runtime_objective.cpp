#include "haqa/deploy/runtime_objective.h"

#include "haqa/base/error.h"
#include "haqa/worker/worker.h"

namespace haqa {
namespace {

FailReason reason_of(ProcessEnd end) {
  switch (end) {
    case ProcessEnd::out_of_memory:
      return FailReason::out_of_memory;
    case ProcessEnd::timed_out:
      return FailReason::timed_out;
    case ProcessEnd::exited:
    case ProcessEnd::signalled:
      break;
  }
  return FailReason::crashed;
}

Outcome failure(FailReason reason, std::string message) {
  Outcome outcome;
  outcome.reason = reason;
  outcome.message = std::move(message);
  return outcome;
}

}  // namespace

RuntimeObjective::RuntimeObjective(Tools tools, Configuration defaults, int pairs)
    : tools_(std::move(tools)), defaults_(std::move(defaults)), pairs_(pairs) {}

Outcome RuntimeObjective::evaluate(const Configuration& configuration, const Report&) {
  try {
    return measure(configuration);
  } catch (const WrongResult& e) {
    return failure(FailReason::wrong_result, e.what());
  } catch (const WorkerError& e) {  // the trial's end, not the study's
    return failure(reason_of(e.end), e.what());
  }
}

Setup RuntimeObjective::setup(const Configuration& configuration) const {
  const RuntimeOptions options = runtime_options(configuration);
  return {tools_.model(options.gguf_type), options};
}

/// A failure of the defaults is not that of the configuration beside them.
Measurement RuntimeObjective::time(const Setup& setup, const Setup& stock) const {
  if (setup != stock) return tools_.benchmark(setup);
  try {
    return tools_.benchmark(stock);
  } catch (const WorkerError&) {
  }
  try {
    return tools_.benchmark(stock);
  } catch (const WorkerError& e) {
    throw Error(
        "llama.cpp's defaults, which every round is timed against, failed twice: {}; see whether the machine has "
        "memory "
        "and time to spare, then go on with haqa run --resume",
        e.what());
  }
}

Outcome RuntimeObjective::measure(const Configuration& configuration) {
  const Setup options = {{}, runtime_options(configuration)};  // its file may take minutes to make
  if (tools_.too_large)
    if (std::string why = tools_.too_large(options); !why.empty())
      return failure(FailReason::out_of_memory, std::move(why));
  const Json quality = tools_.quality(options);
  if (const std::string refused = quality.value("refused", ""); !refused.empty()) {
    Outcome outcome = failure(FailReason::quality_loss, refused);
    outcome.metrics["quality"] = quality;
    return outcome;
  }
  const Setup stock = setup(defaults_), tried = setup(configuration);
  const Comparison c = compare([&](const Setup& s) { return time(s, stock); }, stock, tried, pairs_, tools_.progress);
  Outcome outcome;
  // The defaults against themselves tell the noise; their ratio is 1 by definition, whatever came out.
  outcome.value = configuration == defaults_ ? 1.0 : c.speedup.median;
  outcome.metrics = summarize(c.b);
  outcome.metrics["default_tokens_per_s"] = summarize(c.a)["tokens_per_s"];
  outcome.metrics["speedup"] = c.speedup.median;
  outcome.metrics["speedup_low"] = c.speedup.low;
  outcome.metrics["speedup_high"] = c.speedup.high;
  outcome.metrics["pairs"] = c.speedup.samples;
  outcome.metrics["quality"] = quality;
  return outcome;
}

}  // namespace haqa
