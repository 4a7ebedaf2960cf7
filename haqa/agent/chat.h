#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "haqa/base/error.h"
#include "haqa/base/json.h"
#include "haqa/study/study.h"

namespace haqa {

struct Message {
  std::string role;  ///< "system", "user" or "assistant"
  std::string content;
  bool operator==(const Message&) const = default;
};

/// Whether the longer conversation begins with the whole shorter one.
bool extends(std::span<const Message> longer, std::span<const Message> shorter);

/// What is known of one track when the agent is asked.
struct TrackHistory {
  const Track* track = nullptr;
  std::span<const Trial> trials;
  int rounds_left = 0;  ///< that which is asked for counts
};

/// One question to a provider.
struct ChatRequest {
  std::vector<Message> messages;
  Json schema;  ///< JSON schema of the answer, for providers that can constrain their output; null: none

  /// The same facts in machine form, for the expert, which is no language model: the tracks to answer for. Valid during
  /// the call.
  std::span<const TrackHistory> tracks;
};

struct ChatReply {
  std::string content;
  int64_t prompt_tokens = 0, completion_tokens = 0;  ///< 0 where the provider does not tell
  double latency_s = 0;
  std::string finish_reason;  ///< "stop", "length" (cut off), ...
};

/// A provider that could not answer. `passing`: worth another try later (overload, time-out, 5xx, a broken stream);
/// otherwise the set-up is wrong (key, address, model, HTML instead of JSON) and the user must act.
class ProviderError : public Error {
 public:
  ProviderError(bool is_passing, const std::string& what) : Error(what), passing(is_passing) {}
  bool passing;
};

/// Answers chat messages. Not used concurrently.
class ChatProvider {
 public:
  virtual ~ChatProvider() = default;
  /// What logs and reports call it: "expert", "manual", the model's name.
  virtual std::string name() const = 0;
  /// Asks nothing but finds out whether complete() can work, so that a wrong key or address shows before long work.
  /// Throws ProviderError.
  virtual void check() {}
  /// Throws ProviderError, or Interrupted on Ctrl-C.
  virtual ChatReply complete(const ChatRequest& request) = 0;
  /// Gives back what would disturb a measurement (self: the memory of llama-server, a second copy of the model); the
  /// next complete() takes it again, at the price of loading.
  virtual void suspend() {}
};

/// An OpenAI-compatible endpoint: llama-server, vLLM, Ollama, OpenAI.
struct EndpointOptions {
  std::string base_url;  ///< up to and with "/v1"
  std::string model;
  std::string key;  ///< sent as a bearer token, never logged; empty: none
  double timeout_s = 120;
  int tries = 4;            ///< in all, on 429, 5xx and broken connections
  double first_wait_s = 1;  ///< doubled after each try; a Retry-After header is obeyed, or ends the call above 60 s
  double temperature = 0.7;
  int max_tokens = 2048;
};
std::unique_ptr<ChatProvider> make_endpoint_provider(const EndpointOptions& options);

/// Throws UsageError where an address (empty: none) holds a user's name, a password or a query, which may be a key: for
/// those that are written down with the task. They may stand in $HAQA_BASE_URL.
void require_no_secret(const std::string& base_url);

/// Fills what is empty from $HAQA_BASE_URL, $HAQA_MODEL, $HAQA_API_KEY, then OpenAI's $OPENAI_BASE_URL and
/// $OPENAI_API_KEY; https://api.openai.com/v1 where neither names an address. OpenAI's key goes to OpenAI's address and
/// that of $OPENAI_BASE_URL only. Throws UsageError without a model, or for the real OpenAI without a key.
EndpointOptions endpoint_from_environment(EndpointOptions options);

/// llama-server on the model being deployed, started on a free loopback port and stopped with the provider.
struct SelfOptions {
  std::filesystem::path model;  ///< GGUF
  std::filesystem::path log;    ///< where llama-server's output goes
  int threads = 0;              ///< 0: llama.cpp's default
  int n_ctx = 8192;             ///< tokens of question and answer together
  int n_ctx_train = 0;          ///< what the model was trained on: beyond it, its positions are stretched by YaRN
  double start_timeout_s = 300;
  EndpointOptions endpoint;  ///< time-outs, tries, temperature; address and model are filled in
};
std::unique_ptr<ChatProvider> make_self_provider(const SelfOptions& options);

/// For people with a chat window: the prompt is printed to stderr and written to folder/prompt-N.md (whole conversation
/// the first time, then what is new); the answer is read from folder/answer-N.md once that file is there, or from
/// standard input on a terminal, ended by an empty line after a JSON object or by Ctrl-D.
/// answered: exchanges that the run has had already; the first file is that of the next one.
std::unique_ptr<ChatProvider> make_manual_provider(const std::filesystem::path& folder, size_t answered = 0);

/// The replies of a transcript again, in their order, and its errors as ProviderErrors. Throws Error where the file is
/// none; complete() throws ProviderError when they are used up. skip: exchanges that a run that goes on has had
/// already.
std::unique_ptr<ChatProvider> make_replay_provider(const std::filesystem::path& transcript, size_t skip = 0);

/// A provider whose every exchange is appended to a transcript (JSON Lines, one exchange a line: {"time","provider",
/// "messages": those new since the last exchange, "messages_from": the index at which they start (0: the whole
/// conversation), "messages_total", "track": the names of the tracks that are asked for, "reply", "prompt_tokens",
/// "completion_tokens", "latency_s", "finish_reason"}, or "error" and "passing" instead of what follows "track").
class RecordingProvider : public ChatProvider {
 public:
  RecordingProvider(std::unique_ptr<ChatProvider> inner, const std::filesystem::path& transcript);
  ~RecordingProvider() override;
  std::string name() const override;
  void check() override;
  ChatReply complete(const ChatRequest& request) override;
  void suspend() override;

 private:
  struct File;
  std::unique_ptr<ChatProvider> inner_;
  std::unique_ptr<File> file_;
};

}  // namespace haqa
