#include "haqa/agent/manual.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <future>
#include <sstream>
#include <thread>

#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/worker/process.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kAnswer = "Thought: t\nAction: {\"a\": 1}";

class ManualTest : public testing::Test {
 protected:
  fs::path file(const std::string& name) const { return folder_ / name; }
  void save(const std::string& name, const std::string& content) const {
    std::ofstream(folder_ / name, std::ios::binary) << content;
  }

  const TemporaryFolder temporary_;
  const fs::path folder_ = temporary_ / "prompts";
  std::ostringstream notices_;
};

ChatRequest request_with(std::vector<Message> messages) {
  ChatRequest request;
  request.messages = std::move(messages);
  return request;
}

template <typename Call>
std::future<ChatReply> in_background(Call call) {
  return std::async(std::launch::async, call);
}

bool is_waiting(std::future<ChatReply>& reply, milliseconds time) {
  return reply.wait_for(time) == std::future_status::timeout;
}

TEST_F(ManualTest, WritesThePromptAndReadsTheAnswer) {
  const auto provider = make_manual_provider(folder_ / "deeper", 0, -1, notices_);
  EXPECT_EQ(provider->name(), "manual");
  auto reply = in_background([&] {
    return provider->complete(request_with({{"system", "You tune."}, {"user", "Round 1"}}));
  });
  EXPECT_TRUE(is_waiting(reply, milliseconds(300)));
  EXPECT_EQ(read_file(file("deeper/prompt-1.md")), "# system\n\nYou tune.\n\n# user\n\nRound 1\n");
  save("deeper/answer-1.md", kAnswer);
  const ChatReply got = reply.get();
  EXPECT_EQ(got.content, kAnswer);
  EXPECT_EQ(got.finish_reason, "stop");
  EXPECT_GE(got.latency_s, 0.3);
  EXPECT_THAT(notices_.str(), AllOf(HasSubstr("You tune."), HasSubstr("deeper/prompt-1.md"),
                                    HasSubstr("deeper/answer-1.md"), Not(HasSubstr("paste it here"))));
}

TEST_F(ManualTest, ShowsOnlyWhatIsNew) {
  struct Case {
    const char* name;
    std::vector<Message> second;
    std::string prompt;
  };
  const std::vector<Message> first = {{"system", "s"}, {"user", "u1"}};
  const Case cases[] = {
      {"next round", {first[0], first[1], {"assistant", "tidied answer"}, {"user", "u2"}}, "# user\n\nu2\n"},
      {"an empty message", {first[0], first[1], {"assistant", "a"}, {"user", ""}}, "# user\n\n\n"},
      {"asked to correct itself", {first[0], first[1], {"user", "u2"}}, "# user\n\nu2\n"},
      {"not followed", {first[0], {"user", "u1\n\nthe surrogate tried"}}, "# user\n\nthe surrogate tried\n"},
      {"summarised",
       {first[0], {"user", "summary"}, {"user", "u2"}},
       "# system\n\ns\n\n# user\n\nsummary\n\n# user\n\nu2\n"},
      {"the same again", first, "# system\n\ns\n\n# user\n\nu1\n"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    fs::remove_all(folder_);
    const auto provider = make_manual_provider(folder_, 0, -1, notices_);
    save("answer-1.md", kAnswer);
    save("answer-2.md", "{\"b\": 2}");
    EXPECT_EQ(provider->complete(request_with(first)).content, kAnswer);
    EXPECT_EQ(provider->complete(request_with(c.second)).content, "{\"b\": 2}");
    EXPECT_EQ(read_file(file("prompt-2.md")), c.prompt);
  }
}

TEST_F(ManualTest, TakesNoAnswerOfAnEarlierRun) {
  fs::create_directories(folder_);
  for (const char* name :
       {"prompt-1.md", "answer-1.md", "prompt-12.md", "answer-12.md", "prompt-x.md", "prompt-99.txt"})
    save(name, "{\"old\": 1}");
  const auto provider = make_manual_provider(folder_, 12, -1, notices_);
  save("answer-13.md", kAnswer);
  EXPECT_EQ(provider->complete(request_with({{"user", "u"}})).content, kAnswer);
}

// Ctrl-C while it waited for answer-3, which is saved then: the run that goes on reads it.
TEST_F(ManualTest, TakesAnAnswerSavedWhileItWasStopped) {
  fs::create_directories(folder_);
  for (const char* name : {"prompt-1.md", "prompt-2.md", "prompt-3.md"}) save(name, "");
  save("answer-3.md", kAnswer);
  EXPECT_EQ(make_manual_provider(folder_, 2, -1, notices_)->complete(request_with({{"user", "u"}})).content, kAnswer);
}

TEST_F(ManualTest, DoesNotReadTooEarly) {
  const auto provider = make_manual_provider(folder_, 0, -1, notices_);
  auto reply = in_background([&] { return provider->complete(request_with({{"user", "u"}})); });
  fs::create_directories(file("answer-1.md"));  // whatever it is, it is no answer
  EXPECT_TRUE(is_waiting(reply, milliseconds(500)));
  fs::remove(file("answer-1.md"));
  // An editor that saves a piece every 100 ms: each state holds a complete object, and none is final.
  std::string text = "{\"a\": 1}";
  for (int piece = 0; piece < 5; ++piece) {
    save("answer-1.md", text += " more");
    EXPECT_TRUE(is_waiting(reply, milliseconds(100)));
  }
  EXPECT_EQ(reply.get().content, text);
}

TEST_F(ManualTest, LooksTwiceAtACompleteAnswer) {
  const auto provider = make_manual_provider(folder_, 0, -1, notices_);
  save("answer-1.md", kAnswer);
  const auto start = Clock::now();
  provider->complete(request_with({{"user", "u"}}));
  EXPECT_GE(Clock::now() - start, milliseconds(200));
}

TEST_F(ManualTest, GivesAnUnfinishedObjectTime) {
  const auto provider = make_manual_provider(folder_, 0, -1, notices_);
  auto reply = in_background([&] { return provider->complete(request_with({{"user", "u"}})); });
  EXPECT_TRUE(is_waiting(reply, milliseconds(100)));
  save("answer-1.md", "Action: {\"a\":");
  EXPECT_TRUE(is_waiting(reply, milliseconds(1500)));
  save("answer-1.md", kAnswer);
  EXPECT_EQ(reply.get().content, kAnswer);
}

TEST_F(ManualTest, HandsOnWhatNeverBecomesAnObject) {
  const auto provider = make_manual_provider(folder_, 0, -1, notices_);
  save("answer-1.md", "I would rather not.");
  const auto start = Clock::now();
  EXPECT_EQ(provider->complete(request_with({{"user", "u"}})).content, "I would rather not.");
  EXPECT_GE(Clock::now() - start, milliseconds(2000));
  EXPECT_LT(Clock::now() - start, milliseconds(6000));
}

TEST_F(ManualTest, WaitsWhileTheFileIsEmpty) {
  const auto provider = make_manual_provider(folder_, 0, -1, notices_);
  save("answer-1.md", "");
  auto reply = in_background([&] { return provider->complete(request_with({{"user", "u"}})); });
  EXPECT_TRUE(is_waiting(reply, milliseconds(1000)));
  save("answer-1.md", " \n\n");
  EXPECT_TRUE(is_waiting(reply, milliseconds(2600)));
  save("answer-1.md", kAnswer);
  EXPECT_EQ(reply.get().content, kAnswer);
}

/// A terminal as the provider sees it: what is typed arrives in pieces; closing the end is Ctrl-D.
struct Terminal {
  Terminal() {
    if (pipe(ends) != 0) throw Error("no pipe");
  }
  ~Terminal() {
    close(ends[0]);
    end();
  }
  void type(std::string_view text) const { ASSERT_EQ(write(ends[1], text.data(), text.size()), std::ssize(text)); }
  void end() {
    if (ends[1] >= 0) close(std::exchange(ends[1], -1));
  }
  int ends[2];
};

TEST_F(ManualTest, ReadsTheTerminal) {
  struct Case {
    const char* name;
    std::vector<std::string> waiting;  ///< after each piece the provider still waits
    std::string last;                  ///< "": Ctrl-D
  };
  const Case cases[] = {
      {"empty line after the object", {"Thought: t\n", "\n", "Action: {\"a\":\n", "\n", "1}\n"}, "\n"},
      {"with spaces", {"{\"a\": 1}\n"}, "  \n"},
      {"Windows ends", {"{\"a\": 1}\r\n"}, "\r\n"},
      {"pasted in one piece", {}, "Thought: t\n\nAction: {\"a\": 1}\n\n"},
      {"words after the object", {"{\"a\": 1}\nThat is all.\n"}, "\n"},
      {"Ctrl-D", {"no object\n", "\n"}, ""},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    fs::remove_all(folder_);
    Terminal terminal;
    const auto provider = make_manual_provider(folder_, 0, terminal.ends[0], notices_);
    auto reply = in_background([&] { return provider->complete(request_with({{"user", "u"}})); });
    std::string all;
    for (const std::string& piece : c.waiting) {
      terminal.type(piece);
      EXPECT_TRUE(is_waiting(reply, milliseconds(150)));
      all += piece;
    }
    terminal.type(c.last);
    if (c.last.empty()) terminal.end();
    EXPECT_EQ(reply.get().content, all + c.last);
  }
  EXPECT_THAT(notices_.str(), HasSubstr("or paste it here and end it with an empty line"));
}

TEST_F(ManualTest, ReadsTheFileWhenTheTerminalIsGone) {
  Terminal terminal;
  terminal.end();
  const auto provider = make_manual_provider(folder_, 0, terminal.ends[0], notices_);
  auto reply = in_background([&] { return provider->complete(request_with({{"user", "u"}})); });
  EXPECT_TRUE(is_waiting(reply, milliseconds(300)));
  save("answer-1.md", kAnswer);
  EXPECT_EQ(reply.get().content, kAnswer);
}

TEST_F(ManualTest, ReadsTheFileWhileSomeoneTypes) {
  Terminal terminal;
  const auto provider = make_manual_provider(folder_, 0, terminal.ends[0], notices_);
  terminal.type("half an ans");
  save("answer-1.md", kAnswer);
  EXPECT_EQ(provider->complete(request_with({{"user", "u"}})).content, kAnswer);
}

TEST_F(ManualTest, SaysWhereTheFolderCannotBe) {
  fs::create_directories(folder_);
  save("taken", "");
  EXPECT_THROW(make_manual_provider(folder_ / "taken", 0, -1, notices_), Error);
}

using ManualDeathTest = ManualTest;

TEST_F(ManualDeathTest, StopsOnCtrlC) {
  // In a child, since the handler's state is the process's for good.
  const auto run = [&] {
    signal(SIGINT, SIG_DFL);  // else it stays ignored where these tests run in the background
    install_interrupt_handler();
    const auto provider = make_manual_provider(folder_, 0, -1, notices_);
    std::thread presser([] {
      usleep(200'000);
      kill(getpid(), SIGINT);
    });
    int code = 1;
    const auto start = Clock::now();
    try {
      provider->complete(request_with({{"user", "u"}}));
    } catch (const Interrupted&) {
      code = Clock::now() - start < std::chrono::seconds(2) ? 0 : 2;
    }
    presser.join();
    _exit(code);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace haqa
