#include "haqa/deploy/runtime_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "haqa/base/file.h"
#include "haqa/model/memory_plan.h"
#include "haqa/worker/process.h"

namespace haqa {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

TEST(RuntimeSpace, DefaultsAreLlamaCppsOwn) {
  const SearchSpace space = runtime_space({3, 8, 4, false, {}});
  RuntimeOptions stock;
  stock.threads = stock.threads_batch = 3;
  EXPECT_EQ(runtime_options(space.defaults()), stock);
  Configuration c = space.defaults();
  c["ubatch"] = 512;
  c["batch"] = 256;
  EXPECT_THAT(*space.problem(c), HasSubstr("ubatch <= batch"));
  c = space.defaults();
  c["cache_type_v"] = "q8_0";
  c["flash_attention"] = "off";
  EXPECT_THAT(*space.problem(c), HasSubstr("flash_attention != 'off'"));
}

TEST(RuntimeSpace, FollowsTheFacts) {
  const auto names = [](const SearchSpace& s) {
    std::vector<std::string> all;
    for (const Parameter& p : s.parameters()) all.push_back(p.name);
    return all;
  };
  const std::vector<std::string> always = {"threads",      "threads_batch", "affinity",        "polling",
                                           "batch",        "ubatch",        "flash_attention", "cache_type_k",
                                           "cache_type_v", "load_mode",     "repack"};
  EXPECT_EQ(names(runtime_space({2, 4, 22, false, {}})), always);
  EXPECT_EQ(names(runtime_space({2, 4, 22, false, {"Q8_0"}})), always) << "one type is no choice";
  auto more = always;
  more.insert(more.end(), {"gpu_layers", "gguf_type"});
  const SearchSpace rich = runtime_space({2, 4, 22, true, {"Q4_0", "IQ4_NL"}});
  EXPECT_EQ(names(rich), more);
  EXPECT_EQ(rich.defaults()["gpu_layers"], 23) << "every layer and the output, as llama.cpp does by itself";
  EXPECT_EQ(rich.defaults()["gguf_type"], "Q4_0");
  EXPECT_EQ(rich.parameters()[0].high, 4);
  // A cgroup may allow fewer threads than llama.cpp takes by default; the default stays in range.
  EXPECT_EQ(runtime_space({8, 4, 22, false, {}}).parameters()[0].high, 8);
  EXPECT_EQ(runtime_space({1, 1, 22, false, {}}).defaults()["threads"], 1);
}

// openllama-3B's heads are 100 wide, which no block of 32 divides: llama.cpp refuses, and so would the memory plan.
TEST(RuntimeSpace, NarrowHeadsHaveNoQuantizedCache) {
  RuntimeSpaceFacts facts;
  facts.n_embd_head_k = 100;
  facts.n_embd_head_v = 64;
  const SearchSpace space = runtime_space(facts);
  for (const Parameter& p : space.parameters()) {
    if (p.name == "cache_type_k") {
      EXPECT_THAT(p.choices, testing::ElementsAre("f16", "bf16"));
    } else if (p.name == "cache_type_v") {
      EXPECT_THAT(p.choices, testing::ElementsAre("f16", "bf16", "q8_0", "q4_0"));
    }
  }
  ModelInfo model = architecture("openllama-3b");
  std::mt19937_64 random(1);
  facts.n_embd_head_k = model.n_embd_head_k;
  facts.n_embd_head_v = model.n_embd_head_v;
  const SearchSpace own = runtime_space(facts);
  for (int i = 0; i < 200; ++i) {
    const RuntimeOptions o = runtime_options(own.sample(random));
    EXPECT_NO_THROW(kv_cache_bytes(model, {.type_k = o.cache_type_k, .type_v = o.cache_type_v}));
  }
}

TEST(RuntimeSpace, BatchesReachToTheDefaultOrThePrompt) {
  RuntimeSpaceFacts facts;
  for (const auto& [prompt, batch, ubatch] : {std::tuple(128, 2048, 512), {1000, 2048, 1000}, {5000, 5000, 5000}}) {
    facts.prompt_tokens = prompt;
    const SearchSpace space = runtime_space(facts);
    EXPECT_EQ(space.defaults()["batch"], 2048);
    EXPECT_EQ(space.defaults()["ubatch"], 512);
    for (const Parameter& p : space.parameters()) {
      if (p.name != "batch" && p.name != "ubatch") continue;
      EXPECT_EQ(p.high, p.name == "batch" ? batch : ubatch);
      EXPECT_THAT(p.description, HasSubstr("From " + std::to_string(prompt) + " on"));
    }
  }
}

TEST(RuntimeSpace, ConstraintsHoldInEverySample) {
  const SearchSpace space = runtime_space({2, 4, 22, true, {"Q4_0", "IQ4_NL"}});
  std::mt19937_64 random(1);
  for (int i = 0; i < 1000; ++i) {
    const RuntimeOptions o = runtime_options(space.sample(random));
    EXPECT_LE(o.ubatch, o.batch);
    EXPECT_FALSE(o.flash_attention == "off" && (o.cache_type_v == "q8_0" || o.cache_type_v == "q4_0"));
  }
}

TEST(RuntimeOptions, CarryEveryParameter) {
  const SearchSpace space = runtime_space({2, 4, 22, true, {"Q4_0", "IQ4_NL"}});
  const Configuration c = {{"threads", 1},
                           {"threads_batch", 3},
                           {"affinity", "pinned"},
                           {"polling", "active"},
                           {"batch", 64},
                           {"ubatch", 33},
                           {"flash_attention", "on"},
                           {"cache_type_k", "bf16"},
                           {"cache_type_v", "q4_0"},
                           {"load_mode", "none"},
                           {"repack", false},
                           {"gpu_layers", 5},
                           {"gguf_type", "IQ4_NL"}};
  ASSERT_EQ(space.problem(c), std::nullopt);
  const RuntimeOptions want = {"IQ4_NL", 1, 3, "pinned", "active", 64, 33, "on", "bf16", "q4_0", "none", false, 5};
  EXPECT_EQ(runtime_options(c), want);
  EXPECT_EQ(runtime_options(Json::object()), RuntimeOptions{});
}

TEST(RuntimeOptions, BecomeArguments) {
  EXPECT_THAT(server_arguments({}), IsEmpty()) << "llama.cpp's defaults need no options";
  EXPECT_THAT(runtime_environment({}, {}), IsEmpty());
  RuntimeOptions o;
  o.threads = 2;
  EXPECT_THAT(server_arguments(o), ElementsAre("--threads", "2"));
  EXPECT_EQ(bench_arguments(o, true)[1], "2") << "threads_batch as threads where it is not given";
  o.threads_batch = 4;
  EXPECT_EQ(bench_arguments(o, true)[1], "4");
  EXPECT_EQ(bench_arguments(o, false)[1], "2");
  o = {};
  o.gpu_layers = 0;
  EXPECT_THAT(server_arguments(o), ElementsAre("--gpu-layers", "0")) << "none is not the same as not told";
  o = {};
  o.polling = "active";
  EXPECT_THAT(server_arguments(o), ElementsAre("--poll", "100"));
  EXPECT_THAT(runtime_environment(o, {}), ElementsAre(Pair("OMP_WAIT_POLICY", "ACTIVE")));
  o.polling = "passive";
  o.affinity = "pinned";
  EXPECT_THAT(server_arguments(o), ElementsAre("--poll", "0"));
  EXPECT_THAT(runtime_environment(o, {}), ElementsAre(Pair("OMP_PROC_BIND", "close"), Pair("OMP_PLACES", "cores"),
                                                      Pair("OMP_WAIT_POLICY", "PASSIVE")));
}

TEST(RuntimeOptions, TheRealServerKnowsEveryOption) {
  const ProcessResult help = run_process({{(llama_bin_folder() / "llama-server").string(), "--help"}});
  RuntimeOptions o = {"", 1, 1, "none", "active", 64, 64, "on", "q8_0", "q8_0", "none", false, 1};
  int options = 0;
  for (const std::string& argument : server_arguments(o)) {
    if (!argument.starts_with("--")) continue;
    // As a word: "--threads" is not "--threads-batch".
    EXPECT_TRUE(std::regex_search(help.output, std::regex("(^|[ ,\n])" + argument + "[ ,\n]"))) << argument;
    ++options;
  }
  EXPECT_EQ(options, 11);
}

// It reads its arguments, then fails on the model: a wrong value ends it before.
TEST(RuntimeOptions, TheRealServerTakesEveryValue) {
  const SearchSpace space = runtime_space({2, 4, 2, true, {"Q4_0", "IQ4_NL"}});
  const auto errors = [](const std::vector<std::string>& arguments) {
    Command command{{(llama_bin_folder() / "llama-server").string(), "--model", "/no/such/model.gguf"}};
    command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
    command.timeout_s = 30;
    const ProcessResult r = run_process(command);
    return r.output + r.errors;
  };
  EXPECT_THAT(errors({"--cache-type-k", "q7"}), testing::Not(HasSubstr("failed to load model"))) << "the test can fail";
  for (const Parameter& p : space.parameters())
    for (const Json& choice : p.choices) {
      Configuration c = space.defaults();
      c[p.name] = choice;
      EXPECT_THAT(errors(server_arguments(runtime_options(c))), HasSubstr("failed to load model")) << c;
    }
  std::mt19937_64 random(1);
  for (int i = 0; i < 12; ++i) {
    const Configuration c = space.sample(random);
    EXPECT_THAT(errors(server_arguments(runtime_options(c))), HasSubstr("failed to load model")) << c;
  }
}

// A rule that names no parameter, or a value that is none, would never be tried and nobody would notice.
TEST(RuntimeSpace, HoldsWhatTheShippedPriorsTry) {
  const SearchSpace space = runtime_space({4, 8, 22, true, {"Q4_0", "IQ4_NL"}, 128, 64, 64, /*has_module=*/true});
  const Json priors = read_json(std::filesystem::path(HAQA_SOURCE_DIR) / "data/priors/runtime.json");
  for (const Json& rule : priors["rules"]) {
    Configuration c = space.defaults();
    ASSERT_TRUE(c.contains(rule["parameter"])) << rule;
    if (rule["value"] == "high" || rule["value"] == "low" || rule["value"] == "half") continue;
    c[rule["parameter"].get<std::string>()] = rule["value"];
    EXPECT_EQ(space.problem(c), std::nullopt) << rule;
  }
}

}  // namespace
}  // namespace haqa
