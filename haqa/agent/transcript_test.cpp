#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <fstream>
#include <functional>

#include "haqa/agent/chat.h"
#include "haqa/agent/endpoint.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/http/fake_server.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

/// Answers what the test says, in turn.
struct Scripted : ChatProvider {
  std::deque<std::function<ChatReply()>> answers;
  int checks = 0, suspensions = 0;
  std::string name() const override { return "scripted"; }
  void check() override { ++checks; }
  void suspend() override { ++suspensions; }
  ChatReply complete(const ChatRequest&) override {
    const auto answer = answers.front();
    answers.pop_front();
    return answer();
  }
};

class TranscriptTest : public testing::Test {
 protected:
  /// A recording provider whose inner one is left in `script_`.
  std::unique_ptr<RecordingProvider> recorder() {
    auto script = std::make_unique<Scripted>();
    script_ = script.get();
    return std::make_unique<RecordingProvider>(std::move(script), file_);
  }
  std::vector<Json> lines() const {
    std::vector<Json> all;
    std::ifstream in(file_);
    for (std::string line; std::getline(in, line);) all.push_back(Json::parse(line));
    return all;
  }

  const TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path(), file_ = folder_ / "transcript.jsonl";
  Scripted* script_ = nullptr;
};

ChatRequest request_with(std::vector<Message> messages) {
  ChatRequest request;
  request.messages = std::move(messages);
  return request;
}

std::function<ChatReply()> says(const std::string& content) {
  return [content] { return ChatReply{content, 100, 20, 1.5, "stop"}; };
}

TEST_F(TranscriptTest, RecordsAnExchangeALine) {
  auto provider = recorder();
  script_->answers = {says("one"), says("two\nlines")};
  const ChatReply first = provider->complete(request_with({{"system", "s"}, {"user", "u1"}}));
  EXPECT_EQ(first.content, "one");
  EXPECT_EQ(lines().size(), 1u) << "on disk at once, not at the end";
  provider->complete(request_with({{"system", "s"}, {"user", "u1"}, {"assistant", "one"}, {"user", "u2"}}));
  ASSERT_EQ(lines().size(), 2u);
  Json line = lines()[0];
  EXPECT_THAT(line["time"].get<std::string>(), testing::MatchesRegex("20..-..-..T..:..:..Z"));
  line.erase("time");
  EXPECT_EQ(line.dump(), R"({"provider":"scripted","messages":[{"role":"system","content":"s"},)"
                         R"({"role":"user","content":"u1"}],"messages_from":0,"messages_total":2,"reply":"one",)"
                         R"("prompt_tokens":100,"completion_tokens":20,"latency_s":1.5,"finish_reason":"stop"})");
  line = lines()[1];
  EXPECT_EQ(line["messages"].dump(), R"([{"role":"assistant","content":"one"},{"role":"user","content":"u2"}])");
  EXPECT_EQ(line["messages_from"], 2);
  EXPECT_EQ(line["messages_total"], 4);
}

TEST_F(TranscriptTest, StoresAnotherConversationWhole) {
  struct Case {
    const char* name;
    std::vector<Message> messages;
    size_t from;
  };
  const std::vector<Message> first = {{"system", "s"}, {"user", "u1"}, {"assistant", "a"}};
  const Case cases[] = {
      {"same again", first, 3},
      {"one more", {{"system", "s"}, {"user", "u1"}, {"assistant", "a"}, {"user", "u2"}}, 3},
      {"summarised", {{"system", "s"}, {"user", "summary"}, {"assistant", "a"}, {"user", "u2"}}, 0},
      {"another role", {{"system", "s"}, {"user", "u1"}, {"user", "a"}}, 0},
      {"shorter", {{"system", "s"}, {"user", "u1"}}, 0},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    fs::remove(file_);
    auto provider = recorder();
    script_->answers = {says("1"), says("2")};
    provider->complete(request_with(first));
    provider->complete(request_with(c.messages));
    const Json line = lines()[1];
    EXPECT_EQ(line["messages_from"], c.from);
    EXPECT_EQ(line["messages_total"], c.messages.size());
    EXPECT_EQ(line["messages"].size(), c.messages.size() - c.from);
  }
}

TEST_F(TranscriptTest, GoesOnWhereAnEarlierRunStopped) {
  for (int run = 0; run < 2; ++run) {
    auto provider = recorder();
    script_->answers = {says("r")};
    provider->complete(request_with({{"user", "u"}}));
  }
  ASSERT_EQ(lines().size(), 2u);
  EXPECT_EQ(lines()[1]["messages_from"], 0);
  EXPECT_EQ(lines()[1]["messages"].size(), 1u);
}

TEST_F(TranscriptTest, RecordsFailures) {
  auto provider = recorder();
  script_->answers = {[]() -> ChatReply { throw ProviderError(true, "overloaded"); }, says("ok"),
                      []() -> ChatReply { throw ProviderError(false, "wrong key"); },
                      []() -> ChatReply { throw Interrupted("Ctrl-C"); }};
  const ChatRequest request = request_with({{"user", "u"}});
  EXPECT_THROW(provider->complete(request), ProviderError);
  provider->complete(request);
  EXPECT_THROW(provider->complete(request), ProviderError);
  EXPECT_THROW(provider->complete(request), Interrupted);
  ASSERT_EQ(lines().size(), 3u) << "Ctrl-C is no answer of the provider";
  EXPECT_EQ(lines()[0]["error"], "overloaded");
  EXPECT_EQ(lines()[0]["passing"], true);
  EXPECT_FALSE(lines()[0].contains("reply"));
  EXPECT_EQ(lines()[0]["messages"].size(), 1u);
  EXPECT_EQ(lines()[1]["messages"].size(), 0u) << "already in the failed exchange";
  EXPECT_EQ(lines()[2]["passing"], false);
}

TEST_F(TranscriptTest, PassesTheRestThrough) {
  auto provider = recorder();
  EXPECT_EQ(provider->name(), "scripted");
  provider->check();
  provider->suspend();
  EXPECT_EQ(script_->checks, 1);
  EXPECT_EQ(script_->suspensions, 1);
  EXPECT_THROW(recorder(), Error) << "two writers would mix their lines";
}

TEST_F(TranscriptTest, NeverHoldsTheKey) {
  const std::string key = "sk-0123456789";
  FakeServer server([key, n = 0](const FakeServer::Request&, const FakeServer::Connection& c) mutable {
    c.send(n++ == 0 ? FakeServer::reply(401, "bad key " + key, "text/plain") : FakeServer::chat("your key: " + key));
  });
  EndpointOptions options;
  options.base_url = server.url();
  options.model = "m";
  options.key = key;
  RecordingProvider provider(make_endpoint_provider(options), file_);
  EXPECT_THROW(provider.complete(request_with({{"user", "u"}})), ProviderError);
  provider.complete(request_with({{"user", "u"}}));
  const std::string text = read_file(file_);
  EXPECT_THAT(text, HasSubstr("bad key ***"));
  EXPECT_THAT(text, HasSubstr("your key: ***"));
  EXPECT_THAT(text, Not(HasSubstr(key)));
}

TEST_F(TranscriptTest, ReplaysWhatItRecorded) {
  {
    auto provider = recorder();
    script_->answers = {says("one \xc3\xa9"), []() -> ChatReply { throw ProviderError(false, "wrong key"); },
                        []() -> ChatReply { throw ProviderError(true, "busy"); }, says("bad \xff byte")};
    for (int i = 0; i < 4; ++i) try {
        provider->complete(request_with({{"user", "u"}}));
      } catch (const ProviderError&) {
      }
  }
  const auto replay = make_replay_provider(file_);
  EXPECT_EQ(replay->name(), "replay");
  replay->check();
  const ChatReply first = replay->complete(request_with({{"user", "anything"}}));
  EXPECT_EQ(first.content, "one \xc3\xa9");
  EXPECT_EQ(first.prompt_tokens, 100);
  EXPECT_EQ(first.completion_tokens, 20);
  EXPECT_EQ(first.latency_s, 1.5);
  EXPECT_EQ(first.finish_reason, "stop");
  for (const auto& [passing, text] : {std::pair(false, "wrong key"), {true, "busy"}}) try {
      replay->complete(request_with({}));
      ADD_FAILURE();
    } catch (const ProviderError& e) {
      EXPECT_EQ(e.passing, passing);
      EXPECT_STREQ(e.what(), text);
    }
  EXPECT_EQ(replay->complete(request_with({})).content, "bad \xef\xbf\xbd byte");
  for (int again = 0; again < 2; ++again) try {
      replay->complete(request_with({}));
      ADD_FAILURE();
    } catch (const ProviderError& e) {
      EXPECT_FALSE(e.passing);
      EXPECT_THAT(e.what(), HasSubstr("all its 4 exchanges are used up"));
    }
}

TEST_F(TranscriptTest, TellsDamageFromAKilledWriter) {
  const std::string good = R"({"reply":"r"})";
  struct Case {
    const char* name;
    std::string content;
    int replies;        ///< where it can be read
    std::string error;  ///< where not
  };
  const Case cases[] = {
      {"two", good + "\n" + good + "\n", 2, ""},
      {"last line cut off", good + "\n" + good.substr(0, 7), 1, ""},
      {"last line without its end", good + "\n" + good, 2, ""},
      {"empty lines, Windows ends", good + "\r\n\n" + good + "\r\n", 2, ""},
      {"only a cut-off line", good.substr(0, 7), 0, "holds no exchange"},
      {"empty", "", 0, "holds no exchange"},
      {"damaged in the middle", good + "\n{\"rep\n" + good + "\n", 0, "line 2 is no exchange"},
      {"damaged at the end", good + "\n" + good + "\n\n{\"rep\n", 0, "line 4 is no exchange"},
      {"another file", "# A title\ntext\n", 0, "line 1 is no exchange"},
      {"JSON of another kind", "[1]\n", 0, "line 1 is no exchange"},
      {"neither reply nor error", "{\"messages\":[]}\n", 0, "line 1 is no exchange"},
      {"reply of the wrong type", "{\"reply\":7}\n", 0, "line 1 is no exchange"},
      {"tokens of the wrong type", "{\"reply\":\"r\",\"prompt_tokens\":\"x\"}\n", 0, "line 1 is no exchange"},
      {"zeros, as a lost disk block leaves", good + "\n" + std::string(20, '\0') + "\n", 0, "line 2 is no exchange"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    std::ofstream(file_, std::ios::binary) << c.content;
    std::string error;
    int replies = 0;
    try {
      const auto replay = make_replay_provider(file_);
      while (replay->complete(request_with({})).content == "r") ++replies;
    } catch (const ProviderError&) {  // used up
    } catch (const Error& e) {
      error = e.what();
      EXPECT_THAT(error, HasSubstr(file_.string()));
    }
    EXPECT_EQ(replies, c.replies);
    if (c.error.empty()) {
      EXPECT_EQ(error, "");
    } else {
      EXPECT_THAT(error, HasSubstr(c.error));
    }
  }
  EXPECT_THROW(make_replay_provider(folder_ / "missing"), Error);
  EXPECT_THROW(make_replay_provider(folder_), Error);
}

}  // namespace
}  // namespace haqa
