#include "haqa/agent/endpoint.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>
#include <utility>

#include "haqa/base/bytes.h"
#include "haqa/base/file.h"
#include "haqa/base/text.h"
#include "haqa/worker/process.h"

namespace haqa {
namespace {

constexpr double kLongestRetryAfterS = 60;
/// Characters. Bound to a schema, a small model may never end a string by itself: with no limit a random one wrote
/// until max_tokens cut it off.
constexpr int kLongestThought = 1500;

enum class Outlook {
  lasting,  ///< the user must act
  passing,  ///< as in ProviderError
  again,    ///< passing, and worth another try at once
};

/// Why a call brought no answer.
struct Problem {
  Outlook outlook = Outlook::lasting;
  std::string what;
  double wait_s = 0;  ///< what the server asked for
  long status = 0;
  std::string refused{};  ///< the server's words on a request it does not understand
};
using Answer = std::variant<Json, Problem>;

/// What servers of the same protocol disagree about. Starts with what most understand.
struct Dialect {
  bool max_completion_tokens = false;  ///< OpenAI's newer models refuse max_tokens
  bool temperature = true;             ///< reasoning models refuse it
  bool schema = true;                  ///< many small servers lack response_format
};

std::string replaced(std::string text, const std::string& from, std::string_view to) {
  if (from.empty()) return text;
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
  return text;
}

/// The strings at the first of `keys` that exists, or an empty one: what servers send is trusted in no detail.
std::string text_at(const Json& json, std::initializer_list<const char*> keys) {
  for (const char* key : keys)
    if (json.is_object() && json.contains(key) && json[key].is_string()) return json[key].get<std::string>();
  return "";
}

int64_t count_at(const Json& json, const char* key) {
  constexpr uint64_t kMost = 1'000'000'000'000;  // of a server that makes numbers up; sums must not overflow
  if (!json.is_object() || !json.contains(key) || !json[key].is_number_unsigned()) return 0;
  return static_cast<int64_t>(std::min(json[key].get<uint64_t>(), kMost));
}

const Json& member(const Json& json, const char* key) {
  static const Json none;
  return json.is_object() && json.contains(key) ? json[key] : none;
}

Json parse(const std::string& body) {
  return Json::parse(body, nullptr, /*allow_exceptions=*/false);
}

bool is_html(const HttpResponse& response) {
  const size_t first = response.body.find_first_not_of(" \t\r\n");
  return lowercase(response.content_type).starts_with("text/html") ||
         (first != std::string::npos && response.body[first] == '<');
}

/// What the server itself says is wrong: OpenAI's {"error": {"message"}}, Ollama's {"error": "..."}, FastAPI's
/// {"detail": ...}, or plain text; nothing where it is a web page.
std::string words_of(const HttpResponse& response) {
  const Json body = parse(response.body);
  if (body.is_discarded()) return is_html(response) ? "" : response.body;
  const Json& error = member(body, "error");
  if (std::string words = text_at(error, {"message", "msg"}); !words.empty()) return words;
  if (std::string words = text_at(body, {"error", "message", "detail"}); !words.empty()) return words;
  return response.body;  // not dumped again: that is recursive, and the nesting is the server's choice
}

/// Status of a response, or what an error object sent with 200 claims to be (OpenRouter does so).
long status_of(const HttpResponse& response, const Json& body) {
  if (response.status / 100 != 2) return response.status;
  const Json& error = member(body, "error");
  if (!error.is_object() && text_at(body, {"error"}).empty()) return 200;
  const int64_t code = count_at(error, "code");
  return code >= 400 && code < 600 ? static_cast<long>(code) : 400;
}

/// OpenAI's 429 for an empty account, which no waiting cures. Others speak of quotas in passing rate limits too.
bool is_used_up(const HttpResponse& response) {
  const Json body = parse(response.body);
  const Json& error = member(body, "error");
  return text_at(error, {"code"}) == "insufficient_quota" || text_at(error, {"type"}) == "insufficient_quota";
}

Json request_body(const EndpointOptions& options, const Dialect& dialect, const ChatRequest& request) {
  Json body = {{"model", options.model}, {"messages", Json::array()}, {"stream", false}};
  for (const Message& message : request.messages)
    body["messages"].push_back({{"role", message.role}, {"content", message.content}});
  body[dialect.max_completion_tokens ? "max_completion_tokens" : "max_tokens"] = options.max_tokens;
  if (dialect.temperature) body["temperature"] = options.temperature;
  if (dialect.schema && !request.schema.is_null()) {
    // ReAct: the thought comes first, so that the action follows from it.
    const Json schema = {
        {"type", "object"},
        {"properties", {{"thought", {{"type", "string"}, {"maxLength", kLongestThought}}}, {"action", request.schema}}},
        {"required", {"thought", "action"}}};
    body["response_format"] = {{"type", "json_schema"},
                               {"json_schema", {{"name", "configuration"}, {"strict", false}, {"schema", schema}}}};
  }
  return body;
}

/// Leaves out or renames what the server complained of. False where that is nothing of ours, or was tried already.
bool adapt(Dialect& dialect, const std::string& complaint, bool has_schema) {
  const auto names = [text = lowercase(complaint)](std::initializer_list<std::string_view> words) {
    return std::any_of(words.begin(), words.end(),
                       [&](std::string_view word) { return text.find(word) != std::string::npos; });
  };
  if (!dialect.max_completion_tokens && names({"max_tokens", "max_completion_tokens"}))
    return dialect.max_completion_tokens = true;
  // "Failed to initialize samplers" is what llama-server says where its grammar and the chat template do not fit.
  if (dialect.schema && has_schema && names({"response_format", "schema", "grammar", "samplers"}))
    return !(dialect.schema = false);
  if (dialect.temperature && names({"temperature"})) return !(dialect.temperature = false);
  return false;
}

ProviderError provider_error(const Problem& problem) {
  return {problem.outlook != Outlook::lasting, problem.what};
}

class Endpoint : public ChatProvider {
 public:
  Endpoint(EndpointOptions options, Wait wait);
  std::string name() const override { return options_.model; }
  void check() override;
  ChatReply complete(const ChatRequest& request) override;

 private:
  Answer converse(const std::string& path, const ChatRequest* request);
  Answer judge(const HttpFailure& failure, const std::string& address) const;
  Answer judge(const HttpResponse& response, const std::string& address) const;
  Problem problem_of_status(long status, const HttpResponse& response, const std::string& address) const;
  std::string target_of(const HttpResponse& response) const;
  double pause_s(const Problem& problem, int tried);
  ChatReply reply_of(const Json& body) const;
  std::string scrub(std::string text) const;

  EndpointOptions options_;
  HttpAddress address_;
  Wait wait_;
  Dialect dialect_;
  std::vector<std::string> secrets_;
  std::mt19937 random_{std::random_device{}()};
  bool answered_ = false;  ///< the address is right: from then on an unreachable server is one that restarts
  double last_s_ = 0;      ///< duration of the last exchange
};

Endpoint::Endpoint(EndpointOptions options, Wait wait)
    : options_(std::move(options)), address_(parse_http_address(options_.base_url)), wait_(std::move(wait)) {
  if (options_.model.empty()) throw UsageError("no model is named for {}; give one", address_.shown);
  const auto unfit = [](unsigned char c) { return c <= ' ' || c >= 0x7f; };
  if (std::any_of(options_.key.begin(), options_.key.end(), unfit))
    throw UsageError("the API key for {} holds a space, a line break or another character that no key has; set it anew",
                     address_.shown);
  while (address_.shown.ends_with('/')) address_.shown.pop_back();
  // Some JSON writers escape slashes.
  secrets_ = {options_.key, replaced(options_.key, "/", "\\/"), address_.password, address_.query};
}

/// Whatever a server says passes through here before anyone sees it: some repeat the key in their errors.
std::string Endpoint::scrub(std::string text) const {
  for (const std::string& secret : secrets_) text = replaced(std::move(text), secret, "***");
  return text;
}

Answer Endpoint::judge(const HttpFailure& failure, const std::string& address) const {
  using Kind = HttpFailure::Kind;
  const std::string detail = one_line(scrub(failure.detail), 300);
  switch (failure.kind) {
    case Kind::unreachable:
      return Problem{
          answered_ ? Outlook::again : Outlook::lasting,
          fmt::format("{}: cannot be reached ({}); start the server or correct the address", address, detail)};
    case Kind::timed_out:  // not tried again at once: four time-outs in a row would cost the user many minutes
      return Problem{Outlook::passing,
                     fmt::format("{}: no complete answer within {}; raise the time-out or take a faster model", address,
                                 format_seconds(options_.timeout_s))};
    case Kind::too_large:
      return Problem{Outlook::lasting,
                     fmt::format("{}: the answer is larger than {} MiB; name an OpenAI-compatible endpoint", address,
                                 kMaxBodyBytes >> 20)};
    case Kind::insecure:
      return Problem{Outlook::lasting, fmt::format("{}: no secure connection ({}); check its certificate, or write "
                                                   "http:// where the server speaks no TLS",
                                                   address, detail)};
    case Kind::not_http:
      return Problem{Outlook::lasting,
                     fmt::format("{}: does not speak HTTP ({}); correct the address", address, detail)};
    case Kind::broken:
      break;
  }
  return Problem{Outlook::again, fmt::format("{}: the connection broke off ({}); try again later", address, detail)};
}

/// Where a redirect leads, without what may be secret there.
std::string Endpoint::target_of(const HttpResponse& response) const {
  const std::string target = scrub(response.location.substr(0, response.location.find('?')));
  return target.empty() || target.find('@') != std::string::npos ? "another address" : one_line(target, 300);
}

Problem Endpoint::problem_of_status(long status, const HttpResponse& response, const std::string& address) const {
  // Scrubbed before it is shortened: half a key is still too much.
  const std::string words = one_line(scrub(words_of(response)), 300);
  const std::string said = fmt::format("HTTP {}{}{}", status, words.empty() ? "" : ": ", words);
  if (status >= 300 && status < 400)
    return {Outlook::lasting, fmt::format("{}: redirects to {}; make that the address if you trust it with the key",
                                          address, target_of(response))};
  if (status == 401 || status == 403)
    return {Outlook::lasting, fmt::format("{}: {} ({}); set $HAQA_API_KEY to a key that is valid there", address,
                                          options_.key.empty() ? "wants an API key" : "refuses the API key", said)};
  if (status == 404 || status == 405)
    return {Outlook::lasting,
            fmt::format("{}: does not exist there ({}); correct the address, which usually ends in /v1, or the model's "
                        "name '{}'",
                        address, said, options_.model),
            0, status};
  if (status == 429 && is_used_up(response))
    return {Outlook::lasting,
            fmt::format("{}: the account is used up ({}); raise its limit or take another provider", address, said)};
  if (status == 429 || status == 408 || (status >= 500 && status != 501)) {
    const bool waits_too_long = response.retry_after_s > kLongestRetryAfterS;
    return {waits_too_long ? Outlook::passing : Outlook::again,
            fmt::format("{}: {} ({}); try again later{}", address,
                        status == 429 ? "too many requests" : "the server failed", said,
                        waits_too_long ? "; it asks for a pause of " + format_seconds(response.retry_after_s) : ""),
            response.retry_after_s};
  }
  if (response.body.find("exceed_context_size") != std::string::npos ||
      response.body.find("context_length_exceeded") != std::string::npos)
    return {
        Outlook::passing,
        fmt::format("{}: the conversation is longer than its context ({}); lower agent.token_budget", address, said)};
  const std::string parameter = text_at(member(parse(response.body), "error"), {"param"});
  return {Outlook::lasting,
          fmt::format("{}: refuses the request ({}); correct the model's name or the settings", address, said), 0,
          status, parameter.empty() ? words_of(response) : parameter};
}

Answer Endpoint::judge(const HttpResponse& response, const std::string& address) const {
  Json body = parse(response.body);
  if (const long status = status_of(response, body); status != 200) return problem_of_status(status, response, address);
  if (body.is_object() || body.is_array()) return Answer(std::move(body));
  if (is_html(response))
    return Problem{Outlook::lasting, fmt::format("{}: answers with a web page; correct the address, which usually ends "
                                                 "in /v1",
                                                 address)};
  if (!is_utf8(response.body))
    return Problem{Outlook::again,
                   fmt::format("{}: the answer is not UTF-8; try again later or take another server", address)};
  const size_t first = response.body.find_first_not_of(" \t\r\n");
  if (first == std::string::npos || response.body[first] == '{')  // a proxy ended the stream without saying so
    return Problem{Outlook::again, fmt::format("{}: the answer is cut off after {} bytes; try again later", address,
                                               response.body.size())};
  return Problem{Outlook::lasting, fmt::format("{}: answers with something else than JSON ('{}'); correct the address, "
                                               "which usually ends in /v1",
                                               address, one_line(scrub(response.body), 80))};
}

/// Exponential back-off; the jitter keeps several studies that were refused together from coming back together.
double Endpoint::pause_s(const Problem& problem, int tried) {
  if (problem.wait_s > 0) return problem.wait_s;
  return options_.first_wait_s * std::pow(2, tried - 1) * std::uniform_real_distribution(0.75, 1.25)(random_);
}

/// POSTs the request, or GETs where there is none, until there is an answer or no sense in another try.
Answer Endpoint::converse(const std::string& path, const ChatRequest* request) {
  const std::string url = add_to_path(options_.base_url, path), address = address_.shown + path;
  Dialect dialect = dialect_;
  for (int tried = 1;; ++tried) {
    HttpRequest call{url, options_.key, {}, options_.timeout_s};
    if (request) call.json = to_line(request_body(options_, dialect, *request));
    const auto result = http_exchange(call);
    Answer answer = std::visit([&](const auto& got) { return judge(got, address); }, result);
    if (const auto* response = std::get_if<HttpResponse>(&result)) {
      answered_ = true;
      last_s_ = response->seconds;
    }
    Problem* problem = std::get_if<Problem>(&answer);
    if (!problem) {
      dialect_ = dialect;
      return answer;
    }
    if (request && !problem->refused.empty() && adapt(dialect, problem->refused, !request->schema.is_null())) {
      --tried;
      continue;
    }
    if (problem->outlook != Outlook::again || tried >= options_.tries) {
      if (tried > 1) problem->what += fmt::format(" (tried {} times)", tried);
      return answer;
    }
    wait_(pause_s(*problem, tried));
  }
}

ChatReply Endpoint::reply_of(const Json& body) const {
  const Json& choices = member(body, "choices");
  const Json none;
  const Json& choice = choices.is_array() && !choices.empty() ? choices[0] : none;
  const Json& message = member(choice, "message");
  ChatReply reply;
  reply.finish_reason = scrub(text_at(choice, {"finish_reason"}));
  reply.content = text_at(message, {"content"});
  if (const Json& parts = member(message, "content"); parts.is_array())
    for (const Json& part : parts) reply.content += text_at(part, {"text"});
  reply.prompt_tokens = count_at(member(body, "usage"), "prompt_tokens");
  reply.completion_tokens = count_at(member(body, "usage"), "completion_tokens");
  reply.latency_s = last_s_;
  if (reply.content.empty()) {
    const std::string why = scrub(text_at(message, {"refusal"}));
    throw ProviderError(
        true, fmt::format("{}: the answer holds no text{}; {}", address_.shown,
                          why.empty() ? "" : " (" + one_line(why, 300) + ")",
                          reply.finish_reason == "length" ? "the model thought until it was cut off: raise max_tokens"
                                                          : "try again later or take another model"));
  }
  // In replies only what is long enough to be a key: "EMPTY", "x" and the like are placeholders for local servers.
  if (options_.key.size() >= 8) reply.content = replaced(std::move(reply.content), options_.key, "***");
  return reply;
}

ChatReply Endpoint::complete(const ChatRequest& request) {
  const Answer answer = converse("/chat/completions", &request);
  if (const Problem* problem = std::get_if<Problem>(&answer)) throw provider_error(*problem);
  return reply_of(std::get<Json>(answer));
}

/// The names in a list of models: OpenAI's {"data": [{"id"}]}.
std::vector<std::string> model_names(const Json& body) {
  std::vector<std::string> names;
  const Json& data = body.is_array() ? body : member(body, "data");
  if (!data.is_array()) return names;
  for (const Json& model : data)
    if (std::string name = text_at(model, {"id"}); !name.empty()) names.push_back(name);
  return names;
}

void Endpoint::check() {
  const Answer answer = converse("/models", nullptr);
  if (const Problem* problem = std::get_if<Problem>(&answer)) {
    if (problem->status == 404 || problem->status == 405) return;  // some servers have no such list
    throw provider_error(*problem);
  }
  const std::vector<std::string> names = model_names(std::get<Json>(answer));
  const std::string& wanted = options_.model;
  // Ollama leaves out ":latest", Google's endpoint the "models/" that it lists.
  const auto is_wanted = [&](const std::string& name) {
    return name == wanted || name == wanted + ":latest" || name == "models/" + wanted;
  };
  if (names.empty() || std::any_of(names.begin(), names.end(), is_wanted)) return;
  const size_t shown = std::min<size_t>(names.size(), 5);
  throw ProviderError(
      false, fmt::format("{}: has no model '{}'; name one of its models: {}{}", address_.shown, wanted,
                         one_line(scrub(fmt::format("{}", fmt::join(names.begin(), names.begin() + shown, ", "))), 300),
                         names.size() > shown ? ", ..." : ""));
}

bool same_server(const std::string& a, const std::string& b) {
  const auto origin = [](const std::string& url) {
    const HttpAddress address = parse_http_address(url);
    return address.scheme + "://" + address.host + ":" + address.port;
  };
  return origin(a) == origin(b);
}

constexpr const char* kOpenAi = "https://api.openai.com/v1";

}  // namespace

std::unique_ptr<ChatProvider> make_endpoint_provider(const EndpointOptions& options, Wait wait) {
  return std::make_unique<Endpoint>(options, std::move(wait));
}

std::unique_ptr<ChatProvider> make_endpoint_provider(const EndpointOptions& options) {
  return make_endpoint_provider(options, wait_interruptibly);
}

void require_no_secret(const std::string& base_url) {
  if (base_url.empty()) return;
  const HttpAddress address = parse_http_address(base_url);
  if (!address.user.empty() || !address.password.empty() || !address.query.empty())
    throw UsageError(
        "{}: must hold no user, password or query, as it is written down with the run; put the key into "
        "$HAQA_API_KEY, or the whole address into $HAQA_BASE_URL",
        address.shown);
}

EndpointOptions endpoint_from_environment(EndpointOptions options) {
  const auto fill = [](std::string& value, const std::string& other) {
    if (value.empty()) value = other;
  };
  const std::string openai_url = environment("OPENAI_BASE_URL").empty() ? kOpenAi : environment("OPENAI_BASE_URL");
  fill(options.base_url, environment("HAQA_BASE_URL"));
  fill(options.base_url, openai_url);
  fill(options.model, environment("HAQA_MODEL"));
  fill(options.key, environment("HAQA_API_KEY"));
  // OpenAI's key goes to OpenAI's address only: many have it in their shell while they talk to another server.
  if (same_server(options.base_url, openai_url) || same_server(options.base_url, kOpenAi))
    fill(options.key, environment("OPENAI_API_KEY"));
  if (options.model.empty()) throw UsageError("no chat model is named; set $HAQA_MODEL, such as gpt-4o");
  if (options.key.empty() && same_server(options.base_url, kOpenAi))
    throw UsageError("OpenAI wants an API key; set $OPENAI_API_KEY, or $HAQA_BASE_URL to another server");
  return options;
}

}  // namespace haqa
