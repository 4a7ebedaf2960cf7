// haqa-infer: the worker that runs models through libllama. haqa starts it; see worker/worker.h for the protocol.
#include <llama.h>

#include <cstdio>
#include <map>

#include "haqa/base/error.h"
#include "haqa/evaluate/llama_scorer.h"
#include "haqa/evaluate/quality.h"
#include "haqa/worker/worker.h"

namespace haqa {
namespace {

using ReportProgress = std::function<void(double)>;

QualityOptions quality_options(const Json& request) {
  QualityOptions options;
  options.model = request.at("model").get<std::string>();
  options.text = request.at("text").get<std::string>();
  options.reference = request.at("reference").get<std::string>();
  options.threads = request.value("threads", options.threads);
  options.n_ctx = request.value("n_ctx", options.n_ctx);
  options.max_tokens = request.value("max_tokens", options.max_tokens);
  options.type_k = request.value("type_k", options.type_k);
  options.type_v = request.value("type_v", options.type_v);
  options.flash_attention = request.value("flash_attention", options.flash_attention);
  return options;
}

llama_ftype file_type(const std::string& name) {
  static const std::map<std::string, llama_ftype> types = {
      {"F16", LLAMA_FTYPE_MOSTLY_F16},       {"BF16", LLAMA_FTYPE_MOSTLY_BF16},
      {"Q8_0", LLAMA_FTYPE_MOSTLY_Q8_0},     {"Q4_0", LLAMA_FTYPE_MOSTLY_Q4_0},
      {"Q4_K_S", LLAMA_FTYPE_MOSTLY_Q4_K_S}, {"Q4_K_M", LLAMA_FTYPE_MOSTLY_Q4_K_M},
      {"IQ4_NL", LLAMA_FTYPE_MOSTLY_IQ4_NL}};
  const auto found = types.find(name);
  if (found == types.end()) throw Error("\"{}\" is no GGUF type that haqa-infer can write", name);
  return found->second;
}

/// llama.cpp tells how far it is in its log only: "[  12/ 201]  blk.0.attn_q.weight ...".
void report_tensor(ggml_log_level level, const char* text, void* data) {
  int done = 0, total = 0;
  if (std::sscanf(text, "[%d/%d]", &done, &total) == 2 && total > 0) {
    (*static_cast<const ReportProgress*>(data))(static_cast<double>(done) / total);
  } else if (level == GGML_LOG_LEVEL_ERROR) {
    std::fputs(text, stderr);
  }
}

Json quantize(const Json& request, const ReportProgress& progress) {
  const std::string model = request.at("model"), output = request.at("output");
  llama_model_quantize_params params = llama_model_quantize_default_params();
  params.ftype = file_type(request.at("type"));
  params.nthread = request.value("threads", 0);
  params.allow_requantize = request.value("allow_requantize", false);
  ReportProgress report = progress;
  llama_log_set(report_tensor, &report);
  if (llama_model_quantize(model.c_str(), output.c_str(), &params) != 0) {
    std::error_code ignored;
    std::filesystem::remove(output, ignored);
    throw Error("{}: llama.cpp could not quantize it to {}; see whether the disk is full and the file complete", model,
                request.at("type").get<std::string>());
  }
  return {{"bytes", std::filesystem::file_size(output)}};
}

LlamaScorerOptions scorer_options(const Json& request) {
  LlamaScorerOptions options;
  options.model = request.at("model").get<std::string>();
  options.adapter = request.value("adapter", std::string());
  options.adapter_scale = request.value("adapter_scale", options.adapter_scale);
  options.threads = request.value("threads", options.threads);
  options.max_length = request.value("max_length", options.max_length);
  options.type_k = request.value("type_k", options.type_k);
  options.type_v = request.value("type_v", options.type_v);
  options.flash_attention = request.value("flash_attention", options.flash_attention);
  return options;
}

/// {"tasks": [{"task","file"}], "part", "limit"} and the scorer's options. The scores of all requests of all items, one
/// after another; who asked has the same items and grades them (tasks/multiple_choice.h).
Json evaluate(const Json& request, const ReportProgress& progress) {
  std::vector<Request> requests;
  for (const Json& one : request.at("tasks"))
    for (Item& item : read_items(load_task(one.at("task")), one.at("file").get<std::string>(),
                                 part_from(request.value("part", "all")), request.value("limit", 0)))
      for (Request& r : item.requests) requests.push_back(std::move(r));
  LlamaScorer scorer(scorer_options(request));
  Json scores = Json::array();
  for (const Score& score : scorer.score(requests, progress)) scores.push_back({score.log_likelihood, score.greedy});
  const ScoringWork& work = scorer.work();
  return {{"scores", std::move(scores)},
          {"truncated", work.truncated},
          {"tokens", work.tokens},
          {"tokens_apart", work.tokens_apart},
          {"max_length", scorer.max_length()}};
}

Json handle(const Json& request, const ReportProgress& progress) {
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  llama_backend_init();
  const std::string command = request.at("command");
  if (command == "reference") return measure_reference(quality_options(request), progress);
  if (command == "quality") return measure_quality(quality_options(request), progress);
  if (command == "evaluate") return evaluate(request, progress);
  if (command == "quantize") return quantize(request, progress);
  throw Error("haqa-infer knows no command \"{}\"", command);
}

}  // namespace
}  // namespace haqa

int main() {
  return haqa::serve_worker(haqa::handle);
}
