#include "haqa/agent/endpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "haqa/http/fake_server.h"
#include "haqa/worker/process.h"

namespace haqa {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::Ge;
using testing::HasSubstr;
using testing::Le;
using testing::Not;

// With a slash, which some servers escape when they repeat it.
constexpr const char* kKey = "sk-secret/0123456789";

EndpointOptions options_for(const std::string& url) {
  EndpointOptions options;
  options.base_url = url;
  options.model = "m1";
  options.key = kKey;
  options.timeout_s = 10;
  return options;
}

ChatRequest request_with(std::vector<Message> messages = {{"user", "hello"}}) {
  ChatRequest request;
  request.messages = std::move(messages);
  return request;
}

/// A provider that takes notes instead of waiting.
struct Client {
  explicit Client(const EndpointOptions& options)
      : provider(make_endpoint_provider(options, [this](double s) { waits_s.push_back(s); })) {}
  explicit Client(const FakeServer& server) : Client(options_for(server.url())) {}

  std::vector<double> waits_s;
  std::unique_ptr<ChatProvider> provider;
};

struct Failure {
  std::string text = "no error";
  bool passing = false;
};

template <typename Call>
Failure failure_of(Call call) {
  try {
    call();
    return {};
  } catch (const ProviderError& e) {
    return {e.what(), e.passing};
  }
}

/// The n-th request gets the n-th reply, all later ones the last.
FakeServer::Handler in_turn(std::vector<std::string> replies) {
  return [replies, n = size_t{0}](const FakeServer::Request&, const FakeServer::Connection& c) mutable {
    c.send(replies[std::min(n++, replies.size() - 1)]);
  };
}

std::string reply(int status, const std::string& body, const std::string& type = "application/json",
                  const std::string& headers = "") {
  return FakeServer::reply(status, body, type, headers);
}

std::string error_reply(int status, const std::string& message) {
  return reply(status, Json({{"error", {{"message", message}}}}).dump());
}

TEST(Endpoint, AsksAsOpenAiDocumentsIt) {
  FakeServer server(FakeServer::chat("Thought: x\nAction: {}"));
  Client client(server);
  ChatRequest request = request_with({{"system", "s"}, {"user", "caf\xc3\xa9 \"q\"\n"}});
  request.schema = {{"type", "object"},
                    {"properties", {{"zeta", {{"type", "number"}}}, {"alpha", {{"type", "number"}}}}}};
  const ChatReply got = client.provider->complete(request);
  EXPECT_EQ(got.content, "Thought: x\nAction: {}");
  EXPECT_EQ(got.prompt_tokens, 12);
  EXPECT_EQ(got.completion_tokens, 3);
  EXPECT_EQ(got.finish_reason, "stop");
  EXPECT_GT(got.latency_s, 0);
  ASSERT_EQ(server.requests().size(), 1u);
  const FakeServer::Request seen = server.requests()[0];
  EXPECT_THAT(seen.head, testing::StartsWith("POST /v1/chat/completions HTTP/1.1\r\n"));
  EXPECT_TRUE(seen.has_header("Content-Type: application/json\r\n"));
  // Written out by hand from https://platform.openai.com/docs/api-reference/chat/create; the order counts in schemas.
  EXPECT_EQ(seen.body,
            "{\"model\":\"m1\",\"messages\":[{\"role\":\"system\",\"content\":\"s\"},"
            "{\"role\":\"user\",\"content\":\"caf\xc3\xa9 \\\"q\\\"\\n\"}],\"stream\":false,\"max_tokens\":2048,"
            "\"temperature\":0.7,\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{"
            "\"name\":\"configuration\",\"strict\":false,\"schema\":{\"type\":\"object\",\"properties\":{"
            "\"thought\":{\"type\":\"string\",\"maxLength\":1500},\"action\":{\"type\":\"object\",\"properties\":{"
            "\"zeta\":{\"type\":\"number\"},\"alpha\":{\"type\":\"number\"}}}},"
            "\"required\":[\"thought\",\"action\"]}}}}");
}

TEST(Endpoint, SendsTheKeyInItsHeaderOnly) {
  FakeServer server(FakeServer::chat("ok"));
  Client with_key(server);
  with_key.provider->complete(request_with());
  EndpointOptions keyless = options_for(server.url());
  keyless.key.clear();
  Client(keyless).provider->complete(request_with());
  const FakeServer::Request first = server.requests()[0], second = server.requests()[1];
  EXPECT_TRUE(first.has_header(std::string("Authorization: Bearer ") + kKey + "\r\n"));
  EXPECT_EQ(first.head.find(kKey), first.head.rfind(kKey));
  EXPECT_THAT(first.body, Not(HasSubstr(kKey)));
  EXPECT_FALSE(second.has_header("Authorization"));
}

TEST(Endpoint, SendsRepairedUtf8) {
  FakeServer server(FakeServer::chat("ok"));
  Client(server).provider->complete(request_with({{"user", "bad \xff byte"}}));
  EXPECT_EQ(server.requests()[0].json()["messages"][0]["content"], "bad \xef\xbf\xbd byte");
}

TEST(Endpoint, ReadsWhatServersSend) {
  struct Case {
    const char* name;
    std::string reply, content;
    int64_t prompt_tokens;
    std::string finish_reason;
  };
  const std::string bare = R"({"choices":[{"message":{"content":"hi"}}]})";
  const Case cases[] = {
      {"no usage, no reason", reply(200, bare), "hi", 0, ""},
      {"rubbish in usage",
       reply(200, R"({"choices":[{"message":{"content":"hi"},"finish_reason":null}],)"
                  R"("usage":{"prompt_tokens":"many","completion_tokens":-1}})"),
       "hi", 0, ""},
      {"usage null", reply(200, R"({"choices":[{"message":{"content":"hi"}}],"usage":null,"error":null})"), "hi", 0,
       ""},
      {"cut off by max_tokens",
       reply(200, R"({"choices":[{"message":{"content":"h"},"finish_reason":"length"}],"usage":{"prompt_tokens":7}})"),
       "h", 7, "length"},
      {"content in parts",
       reply(200, R"({"choices":[{"message":{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}}]})"),
       "ab", 0, ""},
      {"another content type", reply(200, bare, "text/plain; charset=utf-8"), "hi", 0, ""},
      {"spaces before the JSON", reply(200, "\n\n " + bare), "hi", 0, ""},
      {"escapes", reply(200, R"({"choices":[{"message":{"content":"\u00e9\ud83d\ude00\n"}}]})"),
       "\xc3\xa9\xf0\x9f\x98\x80\n", 0, ""},
      {"chunks",
       "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" +
           fmt::format("{:x}\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n", 10, bare.substr(0, 10), bare.size() - 10,
                       bare.substr(10)),
       "hi", 0, ""},
      {"until the connection closes", "HTTP/1.0 200 OK\r\n\r\n" + bare, "hi", 0, ""},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    FakeServer server(c.reply);
    ChatReply got;
    ASSERT_NO_THROW(got = Client(server).provider->complete(request_with()));
    EXPECT_EQ(got.content, c.content);
    EXPECT_EQ(got.prompt_tokens, c.prompt_tokens);
    EXPECT_EQ(got.completion_tokens, 0);
    EXPECT_EQ(got.finish_reason, c.finish_reason);
  }
}

struct FaultCase {
  const char* name;
  FakeServer::Handler handler;
  std::string text;
  bool passing;
  size_t requests;
};

FakeServer::Handler always(std::string bytes) {
  return [bytes = std::move(bytes)](const FakeServer::Request&, const FakeServer::Connection& c) { c.send(bytes); };
}

std::vector<FaultCase> faults() {
  const std::string key = kKey, html = "<!DOCTYPE html><html><body>Sign in</body></html>";
  const std::string head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
  const auto chat = [](const std::string& message) {
    return reply(200, R"({"choices":[{"message":)" + message + "}]}");
  };
  return {
      // The set-up is wrong: the user must act, and nothing is asked twice.
      {"401", always(error_reply(401, "Incorrect API key provided: " + key + ".")),
       "refuses the API key (HTTP 401: Incorrect API key provided: ***.); set $HAQA_API_KEY", false, 1},
      {"401, slashes escaped", always(reply(401, R"({"detail":["sk-secret\/0123456789"]})")), "HTTP 401", false, 1},
      {"403", always(reply(403, "no " + key + " here", "text/plain")), "(HTTP 403: no *** here)", false, 1},
      {"404", always(error_reply(404, "The model `m1` does not exist")),
       "does not exist there (HTTP 404: The model `m1` does not exist); correct the address", false, 1},
      {"404, web page", always(reply(404, html, "text/html")), "(HTTP 404)", false, 1},
      {"404, Ollama", always(reply(404, R"({"error":"model 'm1' not found"})")), "model 'm1' not found", false, 1},
      {"400", always(error_reply(400, "context is full\nof  words")), "(HTTP 400: context is full of words)", false, 1},
      // C1's CSI and the turn of the writing's direction, which a terminal would obey.
      {"control characters",
       always(reply(400,
                    "be \xC2\x9B"
                    "31m \xE2\x80\xAEred",
                    "text/plain")),
       "(HTTP 400: be [U+009B]31m [U+202E]red)", false, 1},
      {"422", always(reply(422, R"({"detail":"bad field"})")), "(HTTP 422: bad field)", false, 1},
      {"501", always(reply(501, "")), "refuses the request (HTTP 501)", false, 1},
      {"used up", always(reply(429, R"({"error":{"message":"You exceeded","code":"insufficient_quota"}})")),
       "account is used up (HTTP 429: You exceeded)", false, 1},
      {"redirect", always(reply(307, "", "text/html", "Location: http://u:p@127.0.0.1:1/v1?k=" + key + "\r\n")),
       "redirects to another address", false, 1},
      {"redirect to https", always(reply(301, "", "text/html", "Location: https://example.org/v1?k=" + key + "\r\n")),
       "redirects to https://example.org/v1;", false, 1},
      {"web page", always(reply(200, html, "text/html; charset=utf-8")), "answers with a web page", false, 1},
      {"web page called JSON", always(reply(200, " \n" + html)), "answers with a web page", false, 1},
      {"text", always(reply(200, "It works! " + key, "text/plain")), "something else than JSON ('It works! ***')",
       false, 1},
      {"a number", always(reply(200, "42")), "something else than JSON ('42')", false, 1},
      {"not HTTP", always("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), "does not speak HTTP", false, 1},
      {"error object with 200", always(error_reply(200, "no credit for " + key)), "no credit for ***", false, 1},
      {"huge",
       [head](const FakeServer::Request&, const FakeServer::Connection& c) {
         c.send(head + "\r\n{\"choices\":\"");
         const std::string megabyte(1 << 20, 'x');
         for (int i = 0; i < 300 && c.send(megabyte); ++i) continue;
       },
       "larger than 8 MiB", false, 1},
      // Another try later may do; the provider itself leaves it at one, as a second reply costs as much as the first.
      {"no choices", always(reply(200, R"({"choices":[]})")), "holds no text", true, 1},
      {"choices of the wrong type", always(reply(200, R"({"choices":{"message":1}})")), "holds no text", true, 1},
      {"an array", always(reply(200, "[]")), "holds no text", true, 1},
      {"no message", always(reply(200, R"({"choices":[null]})")), "holds no text", true, 1},
      {"null content", always(chat(R"({"content":null})")), "holds no text", true, 1},
      {"number as content", always(chat(R"({"content":7})")), "holds no text", true, 1},
      {"empty content", always(chat(R"({"content":""})")), "holds no text", true, 1},
      {"refusal", always(chat(R"({"content":null,"refusal":"I can't, )" + key + "\"}")), "no text (I can't, ***)", true,
       1},
      {"thought too long", always(reply(200, R"({"choices":[{"message":{"content":null},"finish_reason":"length"}]})")),
       "raise max_tokens", true, 1},
      {"nested too deep",
       always(reply(200, "{\"choices\":" + std::string(300'000, '[') + std::string(300'000, ']') + "}")),
       "holds no text", true, 1},
      // Passing, and tried again at once.
      {"429", always(error_reply(429, "Rate limit reached; check quota")),
       "too many requests (HTTP 429: Rate limit reached; check quota); try again later (tried 4 times)", true, 4},
      {"500", always(error_reply(500, key)), "the server failed (HTTP 500: ***)", true, 4},
      {"502, web page", always(reply(502, html, "text/html")), "the server failed (HTTP 502)", true, 4},
      {"503, deep rubbish", always(reply(503, std::string(300'000, '[') + std::string(300'000, ']'))), "HTTP 503", true,
       4},
      {"error object with 200 and a code", always(reply(200, R"({"error":{"message":"overloaded","code":503}})")),
       "(HTTP 503: overloaded)", true, 4},
      {"JSON cut off", always(reply(200, R"({"choices":[{"message":{"conte)")), "cut off after 30 bytes", true, 4},
      {"nothing", always(reply(200, "")), "cut off after 0 bytes", true, 4},
      {"not UTF-8", always(chat("{\"content\":\"\xff\xfe\"}")), "not UTF-8", true, 4},
      {"body cut off", always(head + "Content-Length: 5000\r\n\r\n{\"choices\":[{\"mess"), "the connection broke off",
       true, 4},
      {"chunk cut off", always(head + "Transfer-Encoding: chunked\r\n\r\n100\r\n{\"choices\":[{\"mess"),
       "the connection broke off", true, 4},
      {"last chunk missing",
       always(head + "Transfer-Encoding: chunked\r\n\r\n2a\r\n" + R"({"choices":[{"message":{"content":"hi"}}]})" +
              "\r\n"),
       "the connection broke off", true, 4},
      {"no reply", always(""), "the connection broke off", true, 4},
      {"reset", [](const FakeServer::Request&, const FakeServer::Connection& c) { c.reset(); },
       "the connection broke off", true, 4},
  };
}

TEST(Endpoint, SaysWhatIsWrong) {
  for (const FaultCase& c : faults()) {
    SCOPED_TRACE(c.name);
    FakeServer server(c.handler);
    EndpointOptions options = options_for(fmt::format("http://me:pass%2Fword@127.0.0.1:{}/v1/", server.port()));
    Client client(options);
    const Failure got = failure_of([&] { client.provider->complete(request_with()); });
    EXPECT_THAT(got.text, testing::StartsWith(server.url()));
    EXPECT_THAT(got.text, HasSubstr(c.text));
    EXPECT_EQ(got.passing, c.passing);
    EXPECT_EQ(server.requests().size(), c.requests);
    EXPECT_EQ(client.waits_s.size(), c.requests - 1);
    EXPECT_LT(got.text.size(), 600u);
    for (const char* secret : {"secret", "0123456789", "pass", "me:", "\n"})
      EXPECT_THAT(got.text, Not(HasSubstr(secret)));
  }
}

TEST(Endpoint, HidesAKeyThatAReplyRepeats) {
  FakeServer server(FakeServer::chat(std::string("your key is ") + kKey));
  EXPECT_EQ(Client(server).provider->complete(request_with()).content, "your key is ***");
  // A placeholder is no secret: with it hidden, replies would be damaged.
  FakeServer local(FakeServer::chat("EMPTY x"));
  EndpointOptions options = options_for(local.url());
  options.key = "x";
  EXPECT_EQ(Client(options).provider->complete(request_with()).content, "EMPTY x");
}

TEST(Endpoint, HidesAKeyThatCrossesTheEndOfAnExcerpt) {
  // Shortened first and scrubbed then, the first half of the key would remain.
  FakeServer server(reply(400, std::string(290, 'a') + kKey, "text/plain"));
  const Failure got = failure_of([&] { Client(server).provider->complete(request_with()); });
  EXPECT_THAT(got.text, Not(HasSubstr("sk-")));
  EXPECT_THAT(got.text, HasSubstr("aaa***"));
}

TEST(Endpoint, GivesUpOnTime) {
  FakeServer server([](const FakeServer::Request&, const FakeServer::Connection& c) { c.hang(); });
  EndpointOptions options = options_for(server.url());
  options.timeout_s = 0.3;
  Client client(options);
  const auto start = std::chrono::steady_clock::now();
  const Failure got = failure_of([&] { client.provider->complete(request_with()); });
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(3));
  EXPECT_THAT(got.text, HasSubstr("no complete answer within 300 ms"));
  EXPECT_TRUE(got.passing);
  EXPECT_EQ(server.requests().size(), 1u);
}

TEST(Endpoint, GivesUpOnADribble) {
  FakeServer server([](const FakeServer::Request&, const FakeServer::Connection& c) {
    c.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n");
    while (c.send(" ")) usleep(20'000);
  });
  EndpointOptions options = options_for(server.url());
  options.timeout_s = 0.5;
  EXPECT_THAT(failure_of([&] { Client(options).provider->complete(request_with()); }).text,
              HasSubstr("no complete answer within 500 ms"));
}

TEST(Endpoint, SaysWhenNobodyListens) {
  std::string url;
  {
    FakeServer gone(FakeServer::chat("ok"));
    url = gone.url();
  }
  Client client(options_for(url));
  for (const Failure& got : {failure_of([&] { client.provider->complete(request_with()); }),
                             failure_of([&] { client.provider->check(); })}) {
    EXPECT_THAT(got.text,
                AllOf(testing::StartsWith(url), HasSubstr("cannot be reached"), HasSubstr("start the server")));
    EXPECT_FALSE(got.passing);
  }
  EXPECT_TRUE(client.waits_s.empty());
  Client nowhere(options_for("http://no-such-host.invalid/v1"));
  const Failure got = failure_of([&] { nowhere.provider->check(); });
  EXPECT_THAT(got.text, HasSubstr("http://no-such-host.invalid/v1/models: cannot be reached"));
  EXPECT_FALSE(got.passing);
}

TEST(Endpoint, WaitsForAServerThatAnsweredBefore) {
  auto server = std::make_unique<FakeServer>(FakeServer::chat("ok"));
  Client client(*server);
  client.provider->complete(request_with());
  server.reset();
  const Failure got = failure_of([&] { client.provider->complete(request_with()); });
  EXPECT_THAT(got.text, HasSubstr("cannot be reached"));
  EXPECT_TRUE(got.passing);
  EXPECT_EQ(client.waits_s.size(), 3u);
}

TEST(Endpoint, TriesAgainAndSucceeds) {
  FakeServer server(in_turn({reply(503, "loading"), "", FakeServer::chat("ok")}));
  Client client(server);
  EXPECT_EQ(client.provider->complete(request_with()).content, "ok");
  EXPECT_EQ(server.requests().size(), 3u);
  EXPECT_EQ(server.requests()[0].body, server.requests()[2].body);
}

TEST(Endpoint, WaitsLongerEachTime) {
  FakeServer server(reply(503, ""));
  EndpointOptions options = options_for(server.url());
  options.first_wait_s = 2;
  Client client(options);
  failure_of([&] { client.provider->complete(request_with()); });
  EXPECT_THAT(client.waits_s, ElementsAre(AllOf(Ge(1.5), Le(2.5)), AllOf(Ge(3.0), Le(5.0)), AllOf(Ge(6.0), Le(10.0))));
  Client other(options);
  failure_of([&] { other.provider->complete(request_with()); });
  EXPECT_NE(client.waits_s, other.waits_s) << "no jitter";
}

TEST(Endpoint, ObeysRetryAfter) {
  struct Case {
    const char* value;
    size_t requests;
    double low_s, high_s;
  };
  const Case cases[] = {
      {"7", 2, 7, 7},        {"60", 2, 60, 60}, {"0", 2, 0.75, 1.25},     {"soon", 2, 0.75, 1.25},
      {"-5", 2, 0.75, 1.25}, {"61", 1, 0, 0},   {"99999999999", 1, 0, 0}, {"Fri, 01 Jan 2100 00:00:00 GMT", 1, 0, 0}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.value);
    FakeServer server(
        in_turn({reply(429, "", "text/plain", fmt::format("Retry-After: {}\r\n", c.value)), FakeServer::chat("ok")}));
    Client client(server);
    const Failure got = failure_of([&] { client.provider->complete(request_with()); });
    EXPECT_EQ(server.requests().size(), c.requests);
    if (c.requests == 1) {
      EXPECT_THAT(got.text, HasSubstr("asks for a pause of"));
      EXPECT_TRUE(got.passing);
      EXPECT_TRUE(client.waits_s.empty());
    } else {
      EXPECT_THAT(client.waits_s, ElementsAre(AllOf(Ge(c.low_s), Le(c.high_s))));
    }
  }
}

/// Refuses, one after another, each field named, in the words of OpenAI, vLLM and llama.cpp.
FakeServer::Handler refusing(std::vector<std::pair<std::string, std::string>> fields) {
  return [fields](const FakeServer::Request& request, const FakeServer::Connection& c) {
    for (const auto& [field, error] : fields)
      if (request.json().contains(field)) {
        c.send(reply(400, error));
        return;
      }
    c.send(FakeServer::chat("ok"));
  };
}

TEST(Endpoint, LearnsWhatAServerRefuses) {
  const std::pair<std::string, std::string> max_tokens = {
      "max_tokens", R"({"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use )"
                    R"('max_completion_tokens' instead.","param":"max_tokens","code":"unsupported_parameter"}})"};
  const std::pair<std::string, std::string> temperature = {
      "temperature", R"({"error":{"message":"Unsupported value: 'temperature' does not support 0.7 with this model.",)"
                     R"("param":"temperature","code":"unsupported_value"}})"};
  const std::pair<std::string, std::string> format = {
      "response_format", R"({"object":"error","message":"Value error: Guided JSON schema is not available"})"};
  const std::pair<std::string, std::string> grammar = {
      "response_format", R"({"error":{"code":400,"message":"Failed to initialize samplers: std::exception"}})"};
  struct Case {
    std::vector<std::pair<std::string, std::string>> refused;
    size_t requests;
  };
  const Case cases[] = {
      {{max_tokens}, 2}, {{temperature}, 2}, {{format}, 2}, {{grammar}, 2}, {{temperature, format, max_tokens}, 4}};
  for (const Case& c : cases) {
    FakeServer server(refusing(c.refused));
    Client client(server);
    ChatRequest request = request_with();
    request.schema = {{"type", "object"}};
    EXPECT_EQ(client.provider->complete(request).content, "ok");
    EXPECT_EQ(server.requests().size(), c.requests);
    EXPECT_TRUE(client.waits_s.empty());
    client.provider->complete(request);
    EXPECT_EQ(server.requests().size(), c.requests + 1) << "not remembered";
    const Json last = server.requests().back().json();
    for (const auto& [field, error] : c.refused) EXPECT_FALSE(last.contains(field)) << field;
    EXPECT_EQ(last.value("max_tokens", 0) + last.value("max_completion_tokens", 0), 2048);
    for (const char* field : {"temperature", "response_format"}) {
      const bool refused =
          std::any_of(c.refused.begin(), c.refused.end(), [&](const auto& f) { return f.first == field; });
      EXPECT_NE(last.contains(field), refused) << field;
    }
  }
}

TEST(Endpoint, GivesUpWhereNothingSuitsTheServer) {
  const std::string complaint = "max_tokens, response_format, temperature: all wrong";
  FakeServer server(error_reply(400, complaint));
  ChatRequest request = request_with();
  request.schema = {{"type", "object"}};
  const Failure got = failure_of([&] { Client(server).provider->complete(request); });
  EXPECT_THAT(got.text, HasSubstr(complaint));
  EXPECT_FALSE(got.passing);
  EXPECT_EQ(server.requests().size(), 4u);
  // An attempt that did not help is not remembered.
  FakeServer second(in_turn({error_reply(400, "max_tokens is too large"), error_reply(400, "max_tokens is too large"),
                             FakeServer::chat("ok")}));
  Client client(second);
  failure_of([&] { client.provider->complete(request_with()); });
  client.provider->complete(request_with());
  EXPECT_TRUE(second.requests().back().json().contains("max_tokens"));
}

TEST(Endpoint, ChecksWithoutAsking) {
  struct Case {
    const char* name;
    std::string reply, error;  ///< error empty: fine
    size_t requests = 1;
  };
  const auto list = [](const std::string& models) {
    return reply(200, R"({"object":"list","data":[)" + models + "]}");
  };
  const Case cases[] = {
      {"listed", list(R"({"id":"a"},{"id":"m1"})"), ""},
      {"listed by Ollama", list(R"({"id":"m1:latest"})"), ""},
      {"listed by Google", list(R"({"id":"models/m1"})"), ""},
      {"empty list", list(""), ""},
      {"no list", reply(200, "{}"), ""},
      {"rubbish in the list", list(R"(null,7,{"id":null})"), ""},
      {"not listed", list(R"({"id":"a"},{"id":"m10"},{"id":"c"},{"id":"d"},{"id":"e"},{"id":"f"})"),
       "has no model 'm1'; name one of its models: a, m10, c, d, e, ..."},
      {"a single other", list(R"({"id":"a"})"), "name one of its models: a"},
      {"404", reply(404, "not found"), ""},
      {"405", reply(405, ""), ""},
      {"401", error_reply(401, "no"), "/v1/models: refuses the API key (HTTP 401: no)"},
      {"web page", reply(200, "<html>", "text/html"), "answers with a web page"},
      {"500", reply(500, ""), "the server failed (HTTP 500)", 4},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    FakeServer server(c.reply);
    Client client(server);
    const Failure got = failure_of([&] { client.provider->check(); });
    EXPECT_THAT(got.text, HasSubstr(c.error.empty() ? "no error" : c.error));
    ASSERT_EQ(server.requests().size(), c.requests);
    EXPECT_THAT(server.requests()[0].head, testing::StartsWith("GET /v1/models HTTP/1.1\r\n"));
    EXPECT_TRUE(server.requests()[0].has_header(std::string("Authorization: Bearer ") + kKey));
  }
}

TEST(Endpoint, RefusesWhatIsNoAddress) {
  for (const char* url : {"", "localhost:8080/v1", "ftp://host/v1", "file:///etc/passwd", "http://", "http://a b/v1",
                          "ftp://u:topsecret@host", "u:topsecret@host:80/v1", "ftp://h/?key=topsecret"}) {
    SCOPED_TRACE(url);
    try {
      make_endpoint_provider(options_for(url));
      ADD_FAILURE() << "taken";
    } catch (const UsageError& e) {
      EXPECT_THAT(e.what(), HasSubstr("write it like http://localhost:8080/v1"));
      EXPECT_THAT(e.what(), Not(HasSubstr("topsecret")));
    }
  }
  EndpointOptions options = options_for("http://localhost/v1");
  options.key = "two\r\nX-Lines: 1";  // would add a header
  EXPECT_THROW(make_endpoint_provider(options), UsageError);
  options = options_for("http://localhost/v1");
  options.model.clear();
  EXPECT_THROW(make_endpoint_provider(options), UsageError);
}

TEST(Endpoint, KeepsAQueryAndHidesIt) {
  FakeServer server(reply(400, "Cannot POST /v1/chat/completions?api-key=topsecret", "text/plain"));
  const Failure got =
      failure_of([&] { Client(options_for(server.url() + "/?api-key=topsecret")).provider->complete(request_with()); });
  EXPECT_THAT(server.requests()[0].head,
              testing::StartsWith("POST /v1/chat/completions?api-key=topsecret HTTP/1.1\r\n"));
  EXPECT_THAT(got.text, Not(HasSubstr("topsecret")));
}

TEST(Endpoint, ReachesLoopbackPastAProxy) {
  FakeServer server(FakeServer::chat("ok"));
  setenv("http_proxy", "http://127.0.0.1:1", 1);
  Client client(server);
  EXPECT_NO_THROW(client.provider->complete(request_with()));
  unsetenv("http_proxy");
}

/// Runs in the child of a death test, since the handler's state is the process's for good. Exits with 0 where `call`
/// throws Interrupted soon after Ctrl-C.
template <typename Call>
[[noreturn]] void exit_0_where_interruptible(Call call) {
  signal(SIGINT, SIG_DFL);  // else it stays ignored where these tests run in the background
  install_interrupt_handler();
  std::thread presser([] {
    usleep(200'000);
    kill(getpid(), SIGINT);
  });
  const auto start = std::chrono::steady_clock::now();
  int code = 1;
  try {
    call();
  } catch (const Interrupted&) {
    code = std::chrono::steady_clock::now() - start < std::chrono::seconds(3) ? 0 : 2;
  }
  presser.join();
  _exit(code);
}

TEST(EndpointDeathTest, StopsOnCtrlC) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // the server is a thread, which a plain fork() would lose
  FakeServer server([](const FakeServer::Request&, const FakeServer::Connection& c) { c.hang(); });
  auto provider = make_endpoint_provider(options_for(server.url()));
  EXPECT_EXIT(exit_0_where_interruptible([&] { provider->complete(request_with()); }), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(exit_0_where_interruptible([] { wait_interruptibly(30); }), testing::ExitedWithCode(0), "");
}

TEST(WaitInterruptibly, Waits) {
  const auto start = std::chrono::steady_clock::now();
  wait_interruptibly(0.12);
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(120));
}

/// Sets the five variables for one case, and puts them back.
class EnvironmentTest : public testing::Test {
 protected:
  static constexpr const char* kNames[] = {"HAQA_BASE_URL", "HAQA_MODEL", "HAQA_API_KEY", "OPENAI_BASE_URL",
                                           "OPENAI_API_KEY"};
  void SetUp() override {
    for (const char* name : kNames) {
      const char* value = getenv(name);
      saved_.push_back(value ? std::optional<std::string>(value) : std::nullopt);
      unsetenv(name);
    }
  }
  void TearDown() override {
    for (size_t i = 0; i < saved_.size(); ++i) {
      if (saved_[i]) {
        setenv(kNames[i], saved_[i]->c_str(), 1);
      } else {
        unsetenv(kNames[i]);
      }
    }
  }

 private:
  std::vector<std::optional<std::string>> saved_;
};

TEST_F(EnvironmentTest, FillsWhatIsEmpty) {
  struct Case {
    const char* name;
    std::array<const char*, 5> values;  ///< in the order of kNames
    std::string url, model, key;        ///< given
    std::string want_url, want_model, want_key;
  };
  const std::string openai = "https://api.openai.com/v1";
  const Case cases[] = {
      {"HAQA's", {"http://h/v1", "m", "k", "http://o/v1", "ok"}, "", "", "", "http://h/v1", "m", "k"},
      {"given ones win", {"http://h/v1", "m", "k", "", ""}, "http://g/v1", "gm", "gk", "http://g/v1", "gm", "gk"},
      {"OpenAI's", {"", "m", "", "http://o/v1", "ok"}, "", "", "", "http://o/v1", "m", "ok"},
      {"OpenAI itself", {"", "m", "", "", "ok"}, "", "", "", openai, "m", "ok"},
      {"no key needed", {"http://h/v1", "m", "", "", ""}, "", "", "", "http://h/v1", "m", ""},
      {"OpenAI's key stays with OpenAI", {"http://h/v1", "m", "", "", "ok"}, "", "", "", "http://h/v1", "m", ""},
      {"also from another port's owner",
       {"http://h:2/v1", "m", "", "http://h:1/v1", "ok"},
       "",
       "",
       "",
       "http://h:2/v1",
       "m",
       ""},
      {"OpenAI by HAQA's name",
       {"https://api.openai.com/v1/", "m", "", "", "ok"},
       "",
       "",
       "",
       "https://api.openai.com/v1/",
       "m",
       "ok"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    for (size_t i = 0; i < 5; ++i) setenv(kNames[i], c.values[i], 1);
    EndpointOptions options;
    options.base_url = c.url;
    options.model = c.model;
    options.key = c.key;
    const EndpointOptions got = endpoint_from_environment(options);
    EXPECT_EQ(got.base_url, c.want_url);
    EXPECT_EQ(got.model, c.want_model);
    EXPECT_EQ(got.key, c.want_key);
  }
}

TEST_F(EnvironmentTest, WantsAModelAndForOpenAiAKey) {
  EndpointOptions options;
  EXPECT_THROW(endpoint_from_environment(options), UsageError);
  options.model = "m";
  EXPECT_THROW(endpoint_from_environment(options), UsageError);
  options.base_url = "http://localhost:1/v1";
  EXPECT_NO_THROW(endpoint_from_environment(options));
}

}  // namespace
}  // namespace haqa
