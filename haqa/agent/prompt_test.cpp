#include "haqa/agent/prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <random>
#include <set>

#include "haqa/agent/agent_test_support.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"

namespace haqa {
namespace {

using testing::HasSubstr;

TEST(Prompt, HasThePapersStructure) {
  const auto messages = build_conversation(prompts(), track(), trials_of(3), 7, {});
  ASSERT_EQ(messages.size(), 6u);
  const char* roles[] = {"system", "user", "assistant", "user", "assistant", "user"};
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(messages[i].role, roles[i]);
  EXPECT_THAT(messages[1].content, HasSubstr("BRIEF"));
  EXPECT_THAT(messages[1].content, HasSubstr("'threads': Threads. Type: UniformInteger, Range: [1, 8], Default: 4."));
  EXPECT_THAT(messages[1].content, HasSubstr("Note that there are 9 rounds left"));
  EXPECT_THAT(messages[2].content, HasSubstr("Thought: thought 1\nAction: {\"threads\":4"));
  EXPECT_THAT(messages[5].content, HasSubstr("Note that there are 7 rounds left"));
  EXPECT_THAT(messages[5].content, HasSubstr("speedup: 1.5"));
}

// What the surrogate tried in place of an answer is not put into the agent's mouth.
TEST(Prompt, SaysWhatSomebodyElseProposed) {
  std::vector<Trial> trials = trials_of(4);
  for (Trial& t : trials) t.proposed_by = "gpt";
  trials[2].proposed_by = "hybrid: surrogate";
  trials[3].proposed_by = "hybrid: agent";
  const auto messages = build_conversation(prompts(), track(), trials, 6, {}, "gpt");
  ASSERT_EQ(messages.size(), 6u);
  const char* roles[] = {"system", "user", "assistant", "user", "assistant", "user"};
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(messages[i].role, roles[i]);
  EXPECT_THAT(messages[2].content, HasSubstr("Thought: thought 1"));
  EXPECT_THAT(messages[3].content,
              HasSubstr("\"hybrid: surrogate\" tried " + to_line(trials[2].configuration) + ". thought 2"));
  EXPECT_THAT(messages[4].content, HasSubstr("Thought: thought 3"));
}

TEST(Prompt, NeverExceedsTheBudgetAndKeepsTheIncumbent) {
  int summarized = 0;
  for (int n = 0; n <= 50; n += 5)
    for (const int budget : {1200, 1500, 2500, 6000, 100000})
      for (const int rounds : {1, 3, 10}) {
        const auto messages = build_conversation(prompts(), track(), trials_of(n), 3, {rounds, budget});
        int tokens = 0;
        for (size_t i = 0; i < messages.size(); ++i) {
          tokens += estimate_tokens(messages[i].content);
          if (i > 1) {
            EXPECT_NE(messages[i].role, messages[i - 1].role);
          }
        }
        EXPECT_LE(tokens, budget);
        EXPECT_EQ(messages.back().role, "user");
        EXPECT_LE(messages.size(), static_cast<size_t>(2 * rounds + 2));
        if (n > 3) {
          EXPECT_THAT(messages.back().content, HasSubstr("speedup: 1.5 (round 3)"));
        }
        summarized += messages[1].content.find("Earlier rounds in short") != std::string::npos;
      }
  EXPECT_GT(summarized, 10);
  EXPECT_THROW(build_conversation(prompts(), track(), trials_of(2), 3, {10, 100}), Error);
}

TEST(Prompt, SlotsAndValuesMustMatch) {
  EXPECT_THROW(prompts().render("dynamic_first", {}), Error);
  EXPECT_THROW(prompts().render("system", {{"more", "x"}}), Error);
  EXPECT_THROW(prompts().render("no-such-prompt", {}), Error);
  EXPECT_THAT(prompts().render("dynamic_first", {{"rounds_left", "{{4}}"}}), HasSubstr("{{4}} rounds left"));
}

class OwnPrompts : public testing::Test {
 protected:
  const TemporaryFolder temporary_;
  const std::filesystem::path folder_ = temporary_.path();
  void write(const std::string& name, const std::string& text) { std::ofstream(folder_ / (name + ".md")) << text; }
  std::string render(const std::string& text, const std::map<std::string, std::string>& values) {
    write("it", text);
    return Prompts(folder_).render("it", values);
  }
};

TEST_F(OwnPrompts, RendersSlots) {
  EXPECT_EQ(render("", {}), "");
  EXPECT_EQ(render("plain {text} }}\n\n", {}), "plain {text} }}");
  EXPECT_EQ(render("{{a}}{{b}} and {{a}}\n", {{"a", "1"}, {"b", ""}}), "1 and 1");
  EXPECT_EQ(render("{{a}}", {{"a", "{{b}} \\1 $0"}}), "{{b}} \\1 $0") << "a value is not read again";
}

TEST_F(OwnPrompts, FaultsNameFileAndSlot) {
  const std::tuple<const char*, std::map<std::string, std::string>, const char*> cases[] = {
      {"{{a}} {{b}}", {{"a", "1"}}, "the slot \"b\""},
      {"{{a}}", {{"a", "1"}, {"more", "2"}}, "the slot \"more\" is missing"},
      {"{{a}} {{b", {{"a", "1"}}, "not closed"},
      {"{{}}", {}, "the slot \"\""},
      {"{{ a }}", {{"a", "1"}}, "the slot \" a \""}};
  for (const auto& [text, values, expected] : cases) {
    try {
      render(text, values);
      ADD_FAILURE() << text;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr(expected));
      EXPECT_THAT(e.what(), HasSubstr("it.md"));
    }
  }
}

// The structure of the paper's appendix E, word for word on prompts that hold nothing but slots.
TEST_F(OwnPrompts, GoldenConversation) {
  write("system", "SYSTEM");
  write("static", "{{brief}}|{{search_space}}|{{value_name}}|{{direction}}|{{rounds}}|{{example}}\n");
  write("dynamic", "{{rounds_left}}|{{configuration}}|{{result}}|{{incumbent}}\n");
  write("dynamic_first", "FIRST {{rounds_left}}");
  write("history_summary", "EARLIER\n{{rounds}}");
  Track t;
  t.brief = "BRIEF";
  t.value_name = "speed";
  t.space = SearchSpace({integer_parameter("n", 1, 8, 4, "Number.")});
  std::vector<Trial> trials(4);
  for (int i = 0; i < 4; ++i) {
    Trial& trial = trials[static_cast<size_t>(i)];
    trial.number = i;
    trial.configuration = {{"n", i + 1}};
    trial.thought = "T" + std::to_string(i);
    trial.value = i == 1 ? 2.0 : 1.0 + i / 8.0;
  }
  trials[2].value.reset();
  trials[2].reason = FailReason::timed_out;
  trials[2].message = "no result after 3 s";
  trials[3].metrics = {{"rate", 12.345678}, {"samples", {1, 2}}, {"quality", {{"kl", 0.5}}}, {"none", Json::object()}};
  const std::string still = "BRIEF|" + t.space.describe() + "|speed|maximized|6|{\"n\":4}";

  const auto expect = [&](const std::vector<Message>& got,
                          const std::vector<std::pair<const char*, std::string>>& want) {
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_EQ(got[i].role, want[i].first) << i;
      EXPECT_EQ(got[i].content, want[i].second) << i;
    }
  };
  const std::string last =
      R"(2|{"n":4}|speed: 1.375, rate: 12.35, quality: {"kl":0.5}|{"n":2} with speed: 2 (round 2))";
  const std::string third = R"(3|{"n":3}|failed (timed_out): no result after 3 s|{"n":2} with speed: 2 (round 2))";
  const std::string second = R"(4|{"n":2}|speed: 2|{"n":2} with speed: 2 (round 2))";
  const std::string first = R"(5|{"n":1}|speed: 1|{"n":1} with speed: 1 (round 1))";
  const auto answer = [](int i) { return fmt::format("Thought: T{}\nAction: {{\"n\":{}}}", i, i + 1); };
  expect(build_conversation(Prompts(folder_), t, {}, 6, {}), {{"system", "SYSTEM"}, {"user", still + "\n\nFIRST 6"}});
  expect(build_conversation(Prompts(folder_), t, trials, 2, {}), {{"system", "SYSTEM"},
                                                                  {"user", still + "\n\n" + first},
                                                                  {"assistant", answer(1)},
                                                                  {"user", second},
                                                                  {"assistant", answer(2)},
                                                                  {"user", third},
                                                                  {"assistant", answer(3)},
                                                                  {"user", last}});
  // The older two in a line each, and none of them in full.
  expect(build_conversation(Prompts(folder_), t, trials, 2, {2, 16000}),
         {{"system", "SYSTEM"},
          {"user", still + "\n\nEARLIER\nRound 1: {\"n\":1} -> 1\nRound 2: {\"n\":2} -> 2\n\n" + third},
          {"assistant", answer(3)},
          {"user", last}});
  expect(build_conversation(Prompts(folder_), t, trials, 2, {1, 16000}),
         {{"system", "SYSTEM"},
          {"user", still +
                       "\n\nEARLIER\nRound 1: {\"n\":1} -> 1\nRound 2: {\"n\":2} -> 2\n"
                       "Round 3: {\"n\":3} -> failed (timed_out): no result after 3 s\n\n" +
                       last}});
  t.direction = Direction::minimize;
  const auto minimized = build_conversation(Prompts(folder_), t, trials, 2, {1, 16000});
  EXPECT_THAT(minimized[1].content, HasSubstr("|minimized|"));
  EXPECT_THAT(minimized[1].content, HasSubstr("{\"n\":1} with speed: 1 (round 1)"));
}

TEST(Prompt, NothingMeasuredLeavesNoIncumbent) {
  std::vector<Trial> trials = trials_of(1);
  trials[0].value.reset();
  trials[0].reason = FailReason::crashed;
  trials[0].message = "ended by signal 11";
  const auto messages = build_conversation(prompts(), track(), trials, 3, {});
  EXPECT_THAT(messages.back().content, HasSubstr("The best so far: none yet"));
  EXPECT_THAT(messages.back().content, HasSubstr("failed (crashed): ended by signal 11"));
}

// Whatever the trials and the limits are: within the budget with roles in turn and the incumbent in the last message,
// or an Error.
TEST(Prompt, BudgetHoldsForRandomTrials) {
  std::mt19937 random(1);
  const auto up_to = [&](int high) { return std::uniform_int_distribution<int>(0, high)(random); };
  int refused = 0, built = 0;
  for (int n = 0; n <= 50; ++n) {
    std::vector<Trial> trials = trials_of(n);
    double best = 0;
    for (Trial& t : trials) {
      t.thought = std::string(static_cast<size_t>(up_to(3000)), 'x');
      if (up_to(3) == 0) {
        t.value.reset();
        t.message = std::string(static_cast<size_t>(up_to(300)), 'y');
      }
      best = std::max(best, t.value.value_or(0));
    }
    const HistoryLimits limits = {up_to(12), 300 + up_to(6000)};
    std::vector<Message> messages;
    try {
      messages = build_conversation(prompts(), track(), trials, 3, limits);
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("agent.token_budget"));
      EXPECT_LT(limits.token_budget, 1500) << "the static prompt and one round need less";
      ++refused;
      continue;
    }
    ++built;
    size_t bytes = 0;
    for (size_t i = 0; i < messages.size(); ++i) {
      bytes += messages[i].content.size();
      EXPECT_EQ(messages[i].role, i == 0 ? "system" : i % 2 ? "user" : "assistant");
    }
    EXPECT_LE(bytes / 3, static_cast<size_t>(limits.token_budget));
    if (best > 0) {
      EXPECT_THAT(messages.back().content, HasSubstr(fmt::format("speedup: {:.4g} (round ", best)));
    }
  }
  EXPECT_GT(built, 20);
  EXPECT_GT(refused, 0);
}

TEST(Prompt, EveryShippedPromptRenders) {
  const std::map<std::string, std::set<std::string>> slots = {
      {"system", {}},
      {"static", {"brief", "search_space", "value_name", "direction", "rounds", "example"}},
      {"dynamic", {"rounds_left", "configuration", "result", "incumbent"}},
      {"dynamic_first", {"rounds_left"}},
      {"history_summary", {"rounds"}},
      {"other_proposal", {"proposer", "configuration", "thought"}},
      {"joint_static", {"tracks", "rounds", "example"}},
      {"joint_track", {"track", "brief", "search_space", "value_name", "direction"}},
      {"joint_dynamic", {"rounds_left", "results"}},
      {"joint_result", {"track", "configuration", "result", "incumbent"}},
      {"correction_joint", {"faults", "example"}},
      {"correction_format", {"detail", "example"}},
      {"correction_irrelevant", {"detail", "example"}},
      {"correction_duplicate", {"detail"}},
      {"correction_range", {"detail"}},
      {"bit_width", {"model", "device", "hardware", "memory_limit", "memory", "prompt_tokens", "generate_tokens"}},
      {"deployment",
       {"model", "device", "hardware", "memory_limit", "bit_width", "prompt_tokens", "generate_tokens", "context",
        "quality"}},
      {"finetune",
       {"model", "bit_width", "base", "gguf_type", "adapter", "schedule", "compute", "examples", "lengths", "tasks",
        "questions", "before", "memory", "code"}},
      {"images",
       {"augmentation", "before", "bits", "compute", "deployment", "fitting", "full", "images", "layers", "method",
        "network", "optimizer", "quantizer", "structure", "update", "validation"}},
      {"images_adamw", {}},
      {"images_deployment", {"limits", "table"}},
      {"images_dorefa", {"scale"}},
      {"images_nesterov", {}},
      {"images_pact", {"scale"}},
      {"images_resnet50", {"classes"}},
      {"images_resnet_cifar", {"blocks", "classes", "shortcut"}},
      {"images_sgd", {}},
      {"finetune_code", {"n_layer", "n_embd", "n_head", "n_head_kv", "n_ff", "n_vocab", "targets", "quantizer"}},
      {"finetune_fp16", {}},
      {"finetune_int8", {}},
      {"finetune_nf4", {}},
      {"kernel",
       {"model", "device", "hardware", "kernel", "kernels", "code", "includes", "interface", "engine", "timing"}},
      {"kernel_alone", {}},
      {"kernel_in_model", {}}};
  size_t files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(HAQA_SOURCE_DIR) / "data/prompts")) {
    const std::string name = entry.path().stem().string();
    ASSERT_TRUE(slots.contains(name)) << name << ": a prompt that nothing here renders";
    std::map<std::string, std::string> values;
    for (const std::string& slot : slots.at(name)) values[slot] = "[" + slot + "]";
    const std::string text = prompts().render(name, values);
    for (const auto& [slot, value] : values) EXPECT_THAT(text, HasSubstr(value)) << name;
    EXPECT_EQ(text.find("{{"), std::string::npos) << name;
    ++files;
  }
  EXPECT_EQ(files, slots.size());
}

}  // namespace
}  // namespace haqa
