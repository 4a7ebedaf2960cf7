#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <random>
#include <string_view>

#include "haqa/agent/chat.h"
#include "haqa/agent/endpoint.h"
#include "haqa/base/bytes.h"
#include "haqa/base/descriptor.h"
#include "haqa/base/file.h"
#include "haqa/base/text.h"
#include "haqa/http/http.h"
#include "haqa/worker/background_process.h"
#include "haqa/worker/process.h"

namespace haqa {
namespace fs = std::filesystem;
namespace {

using Clock = std::chrono::steady_clock;

/// A loopback port that was free a moment ago.
int free_port() {
  const Descriptor fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (!fd || bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw ProviderError(true, fmt::format("no free loopback port for llama-server: {}", std::strerror(errno)));
  return ntohs(address.sin_port);
}

std::string random_key() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

/// Why llama-server ended, from its log.
std::string cause_in(const fs::path& log) {
  const std::string line = fs::exists(log) ? telling_line(read_file(log), 300) : "";
  return line.empty() ? "it wrote nothing" : line;
}

class SelfProvider : public ChatProvider {
 public:
  explicit SelfProvider(SelfOptions options) : options_(std::move(options)) {}
  std::string name() const override { return options_.model.stem().string(); }
  void check() override { start(); }
  ChatReply complete(const ChatRequest& request) override;
  void suspend() override { stop(); }

 private:
  void start();
  void stop();
  void launch();
  void launch_on(int port);
  Command command_line(int port, const std::string& key) const;
  void wait_until_ready(const std::string& address);
  bool has_died();
  ProviderError ended(std::string_view when) const;

  SelfOptions options_;
  std::unique_ptr<BackgroundProcess> server_;
  std::unique_ptr<ChatProvider> endpoint_;
  bool takes_schemas_ = false;
  std::optional<bool> builtin_templates_;  ///< llama.cpp's own chat templates instead of the model's; once known
};

ProviderError SelfProvider::ended(std::string_view when) const {
  return {false, fmt::format("llama-server ended while {} {}: {}; its log is {}", when, options_.model.string(),
                             cause_in(options_.log), options_.log.string())};
}

/// Starts llama-server unless it runs already; also after it died or was suspended.
///
/// Where a vocabulary has no tokens for the template's marks, as TinyLlama's for "<|assistant|>", llama.cpp 0.5.0 fails
/// on every schema ("Failed to initialize samplers"): its grammar is to begin with the mark, whose first character went
/// with the space that SentencePiece puts before it. Its built-in templates know no such grammar.
void SelfProvider::start() {
  if (server_ && server_->running()) return;
  launch();
  if (builtin_templates_) return;
  builtin_templates_ = false;
  if (takes_schemas_) return;
  builtin_templates_ = true;
  launch();
  if (takes_schemas_) return;
  builtin_templates_ = false;  // the endpoint will do without the schema
  launch();
}

void SelfProvider::stop() {
  endpoint_.reset();
  server_.reset();
}

void SelfProvider::launch() {
  if (!fs::is_regular_file(options_.model))
    throw ProviderError(false, fmt::format("{}: no such model file; name a GGUF file", options_.model.string()));
  const fs::path program = llama_bin_folder() / "llama-server";
  if (access(program.c_str(), X_OK) != 0)
    throw ProviderError(false, fmt::format("{}: no llama-server there; run setup.sh, or set $HAQA_LLAMA_BIN to the "
                                           "folder of llama.cpp's programs",
                                           program.string()));
  // Between free_port() and llama-server's own bind another program may take the port.
  for (int tried = 1;; ++tried) {
    stop();
    try {
      return launch_on(free_port());
    } catch (const ProviderError&) {
      stop();
      if (tried == 3 || cause_in(options_.log).find("couldn't bind") == std::string::npos) throw;
    }
  }
}

/// One slot: with more, llama-server divides its context. No prompt cache beside the slot's own: it takes up to 8 GiB.
Command SelfProvider::command_line(int port, const std::string& key) const {
  Command command;
  const auto add = [&](auto... words) { (command.argv.push_back(words), ...); };
  add((llama_bin_folder() / "llama-server").string(), "--offline", "--no-webui");
  add("--model", options_.model.string(), "--alias", name());
  add("--host", "127.0.0.1", "--port", std::to_string(port));
  add("--ctx-size", std::to_string(options_.n_ctx), "--parallel", "1", "--cache-ram", "0");
  if (options_.threads > 0) add("--threads", std::to_string(options_.threads));
  if (const int trained = options_.n_ctx_train; trained > 0 && options_.n_ctx > trained)
    add("--rope-scaling", "yarn", "--rope-scale", fmt::format("{:.4g}", 1.0 * options_.n_ctx / trained),
        "--yarn-orig-ctx", std::to_string(trained));
  if (builtin_templates_.value_or(false)) add("--no-jinja");
  command.environment = {{"LLAMA_API_KEY", key}};  // not in argv, which everyone can read
  return command;
}

/// Whether a reply can be held to a schema, found out with a question of one token.
bool can_constrain(const EndpointOptions& endpoint) {
  const Json body = {{"messages", {{{"role", "user"}, {"content", "?"}}}},
                     {"max_tokens", 1},
                     {"response_format", {{"type", "json_object"}}}};
  const auto result =
      http_exchange({endpoint.base_url + "/chat/completions", endpoint.key, body.dump(), endpoint.timeout_s});
  const auto* response = std::get_if<HttpResponse>(&result);
  return response && response->status == 200;
}

void SelfProvider::launch_on(int port) {
  const std::string address = fmt::format("http://127.0.0.1:{}", port);
  EndpointOptions endpoint = options_.endpoint;
  endpoint.base_url = address + "/v1";
  endpoint.model = name();
  endpoint.key = random_key();  // other users of this machine have no business with our server
  server_ = std::make_unique<BackgroundProcess>(command_line(port, endpoint.key), options_.log);
  wait_until_ready(address);
  if (!builtin_templates_ || *builtin_templates_) takes_schemas_ = can_constrain(endpoint);
  endpoint_ = make_endpoint_provider(endpoint);
}

void SelfProvider::wait_until_ready(const std::string& address) {
  const auto end = Clock::now() + std::chrono::duration<double>(options_.start_timeout_s);
  while (Clock::now() < end) {
    const auto result = http_exchange({address + "/health", "", {}, 2});
    const auto* response = std::get_if<HttpResponse>(&result);
    if (!server_->running()) throw ended("loading");
    if (response && response->status == 200) return;
    wait_interruptibly(0.05);
  }
  throw ProviderError(
      false, fmt::format("llama-server was not ready with {} after {}; take a smaller model, or see {}",
                         options_.model.string(), format_seconds(options_.start_timeout_s), options_.log.string()));
}

/// A dying process closes its connections some time before it is gone.
bool SelfProvider::has_died() {
  for (int look = 0; look < 10 && server_->running(); ++look) wait_interruptibly(0.05);
  return !server_->running();
}

ChatReply SelfProvider::complete(const ChatRequest& request) {
  start();
  try {
    return endpoint_->complete(request);
  } catch (const ProviderError&) {
    if (!has_died()) throw;
  }
  throw ProviderError(true, ended("answering with").what());  // the next call starts it anew
}

}  // namespace

std::unique_ptr<ChatProvider> make_self_provider(const SelfOptions& options) {
  return std::make_unique<SelfProvider>(options);
}

}  // namespace haqa
