#include "haqa/sampler/prior.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/space/space_file.h"

namespace haqa {
namespace {

using testing::HasSubstr;

std::filesystem::path shipped() {
  return std::filesystem::path(HAQA_SOURCE_DIR) / "data" / "priors";
}

Track shipped_track(const std::string& space, const std::string& brief) {
  Track t;
  t.brief = brief;
  t.space = read_space(std::filesystem::path(HAQA_SOURCE_DIR) / "data" / "spaces" / space);
  return t;
}

std::vector<PriorEntry> entries(const std::string& list) {
  const TemporaryFolder folder;
  std::ofstream(folder / "p.json") << R"({"priors": )" << list << "}";
  return read_priors(folder.path());
}

Track one(Parameter p) {
  Track t;
  t.space = SearchSpace({std::move(p)});
  return t;
}

// By hand: Student's t with 3 degrees of freedom falls to (1 + z^2 / 3)^-2.
TEST(Prior, DensitiesAreThoseOfAHandCalculation) {
  struct Case {
    const char* what;
    std::string entry;
    Parameter parameter;
    Json at, from;
    double expected;  ///< log density at `at` less that at `from`
  };
  const double one_sigma = -2 * std::log(4.0 / 3), two_sigma = -2 * std::log(7.0 / 3);
  const Case cases[] = {
      {"a factor away", R"("median": 1e-3, "factor": 3)", real_parameter("p", 1e-5, 1, 1e-3, "", true), 3e-3, 1e-3,
       one_sigma},
      {"two factors below", R"("median": 1e-3, "factor": 3)", real_parameter("p", 1e-5, 1, 1e-3, "", true), 1e-3 / 9,
       1e-3, two_sigma},
      {"a deviation away", R"("median": 0.9, "deviation": 0.05)", real_parameter("p", 0, 1, 0.5, ""), 0.85, 0.9,
       one_sigma},
      {"a quarter of the range from its end", R"("at": "high", "deviation": 0.25)", real_parameter("p", 4, 8, 5, ""), 7,
       8, one_sigma},
      {"by the default deviation", R"("at": "low")", real_parameter("p", 4, 8, 5, ""), 5, 4, one_sigma},
      {"from the default", R"("at": "default", "deviation": 0.1)", real_parameter("p", 0, 10, 5, ""), 7, 5, two_sigma},
      {"weights", R"("weights": {"a": 4, "b": 1})", categorical_parameter("p", {"a", "b", "c"}, "a", ""), "a", "b",
       std::log(4)},
      {"a choice without a weight", R"("weights": {"a": 4})", categorical_parameter("p", {"a", "b"}, "a", ""), "a", "b",
       std::log(4)},
      {"a boolean", R"("weights": {"true": 2})", boolean_parameter("p", false, ""), true, false, std::log(2)},
      {"choices that are numbers", R"("median": 16, "factor": 2)", categorical_parameter("p", {8, 16, 32}, 8, ""), 32,
       16, one_sigma},
  };
  for (const Case& c : cases) {
    const Track t = one(c.parameter);
    const auto prior = Prior::match(t, entries(R"([{"name": "^p$", )" + c.entry + R"(, "why": "w", "source": "s"}])"));
    ASSERT_TRUE(prior) << c.what;
    EXPECT_NEAR(prior->log_density({{"p", c.at}}) - prior->log_density({{"p", c.from}}), c.expected, 1e-9) << c.what;
  }
}

// By hand: at twice the batch and half of 1 - momentum the median is where it was.
TEST(Prior, MediansGrowWithOtherParameters) {
  Track t;
  t.space = SearchSpace({real_parameter("lr", 1e-5, 1, 1e-2, "", true), integer_parameter("batch", 16, 512, 128, ""),
                         real_parameter("momentum", 0.5, 0.99, 0.9, "")});
  const auto prior = Prior::match(t, entries(R"([{"name": "^LR$", "median": 0.1, "factor": 2, "why": "w", "source": "s",
      "grows_with": [{"name": "batch", "power": 1, "at": 128}, {"name": "momentum", "power": 0.5, "at": 0.1, "of_rest": true},
                     {"name": "absent", "power": 3, "at": 1}]}])"));
  ASSERT_TRUE(prior);
  const auto density = [&](double lr, int batch, double momentum) {
    return prior->log_density({{"lr", lr}, {"batch", batch}, {"momentum", momentum}});
  };
  EXPECT_NEAR(density(0.1, 128, 0.9), 0, 1e-12) << "the median";
  EXPECT_NEAR(density(0.2, 256, 0.9), 0, 1e-12);
  EXPECT_NEAR(density(0.2, 128, 0.6), 0, 1e-9) << "four times the rest, by its root";
  EXPECT_NEAR(density(0.1, 256, 0.9), -2 * std::log(4.0 / 3), 1e-9);
}

TEST(Prior, DrawsWhatItHoldsLikely) {
  Track t;
  t.space = SearchSpace({real_parameter("lr", 1e-5, 1, 1e-2, "", true), categorical_parameter("c", {"a", "b"}, "a", ""),
                         real_parameter("free", 0, 1, 0.25, "")},
                        {Expression("free <= 0.75")});
  const auto prior =
      Prior::match(t, entries(R"([{"name": "^lr$", "median": 1e-3, "factor": 2, "why": "w", "source": "s"},
                                                {"name": "^c$", "weights": {"b": 9}, "why": "w", "source": "s"}])"));
  ASSERT_TRUE(prior);
  std::mt19937_64 random(1);
  int within = 0, b = 0, at_default = 0;
  for (int i = 0; i < 2000; ++i) {
    const Configuration c = prior->sample(random);
    ASSERT_EQ(t.space.problem(c), std::nullopt) << c;
    within += std::abs(std::log(c["lr"].get<double>() / 1e-3)) < std::log(2);
    b += c["c"] == "b";
    at_default += c["free"] == 0.25;
  }
  // P(|t_3| < 1) = 0.6090 by its distribution function; four standard errors of 2000 draws are 0.045 and less.
  EXPECT_NEAR(within / 2000.0, 0.609, 0.045);
  EXPECT_NEAR(b / 2000.0, 0.9, 0.03);
  EXPECT_NEAR(at_default / 2000.0, 0.5, 0.045) << "of what nothing is known of";
}

TEST(Prior, ShippedPriorsMatchTheShippedSpaces) {
  const std::vector<PriorEntry> all = read_priors(shipped());
  struct Case {
    const char *space, *brief;
    Configuration likely, unlikely;
  };
  const Configuration resnet = {
      {"learning_rate", 0.02}, {"batch_size", 128}, {"weight_decay", 2e-4}, {"momentum", 0.9}, {"num_epochs", 12}};
  Configuration cold = resnet;
  cold["learning_rate"] = 1e-4;
  for (const char* space : {"llama.yaml", "llama-appendix-d.yaml", "resnet.yaml", "resnet-appendix-d.yaml",
                            "kernel.yaml", "deployment.yaml"})
    EXPECT_TRUE(Prior::match(shipped_track(space, ""), all)) << space;
  const auto prior = Prior::match(shipped_track("resnet.yaml", "DoReFa quantization-aware training"), all);
  ASSERT_TRUE(prior);
  EXPECT_GT(prior->log_density(resnet), prior->log_density(cold) + 2);
  EXPECT_THAT(prior->explain(resnet, cold), HasSubstr("learning_rate 0.02"));
  EXPECT_THAT(prior->explain(resnet, cold), HasSubstr("Esser"));
  EXPECT_EQ(prior->explain(resnet, resnet), "");
}

TEST(Prior, IsAboutWhatItSays) {
  const std::string list = R"([{"name": "rate", "about": "lora", "median": 2e-4, "why": "w", "source": "LORA"},
                               {"name": "rate", "median": 1e-3, "why": "w", "source": "REST"}])";
  const std::vector<PriorEntry> all = entries(list);
  const auto source = [&](const Track& t) {
    const auto prior = Prior::match(t, all);
    return prior ? prior->explain({{"rate", 0.1}}, {{"rate", 0.2}}) : std::string("none");
  };
  const Parameter rate = real_parameter("rate", 1e-6, 1, 1e-3, "", true);
  Track by_brief = one(rate), by_name;
  by_brief.brief = "QLoRA of a LLaMA";
  by_name.space = SearchSpace({rate, integer_parameter("lora_r", 1, 64, 8, "")});
  EXPECT_THAT(source(one(rate)), HasSubstr("REST"));
  EXPECT_THAT(source(by_brief), HasSubstr("LORA"));
  EXPECT_THAT(source(by_name), HasSubstr("LORA"));
  EXPECT_EQ(source(one(real_parameter("other", 0, 1, 0.5, ""))), "none");
  EXPECT_EQ(source(one(categorical_parameter("rate", {"fast", "slow"}, "fast", ""))), "none") << "no number";
  EXPECT_EQ(source(one(categorical_parameter("rate", {0.1, "auto"}, 0.1, ""))), "none") << "nor all numbers";
  EXPECT_THAT(source(one(categorical_parameter("rate", {0.1, 0.2}, 0.1, ""))), HasSubstr("REST"));
}

// A pattern finds whole words: a quantile is no tile, an exploration no LoRA.
TEST(Prior, ShippedPriorsFindWholeWords) {
  const std::vector<PriorEntry> all = read_priors(shipped());
  const auto source = [&](const Parameter& p, const char* brief) {
    Track t = one(p);
    t.brief = brief;
    Configuration other = t.space.defaults();
    other[p.name] = is_numeric(p) ? Json(p.high) : p.choices.back();
    const auto prior = Prior::match(t, all);
    return prior ? prior->explain(other, t.space.defaults()) : std::string("none");
  };
  const auto numeric = [](const char* name) { return real_parameter(name, 1e-5, 64, 8, ""); };
  for (const char* name :
       {"tile", "tile_m", "m_tile", "tileM", "tiling_size", "tile_k", "block_k", "loop_unroll", "prefetch_distance",
        "weight_decay", "l2_reg", "attention_dropout", "max_grad_norm", "per_device_train_batch_size",
        "gradient_clip_norm", "label_smoothing", "simd_lanes", "warmup_ratio"})
    EXPECT_NE(source(numeric(name), ""), "none") << name;
  for (const char* name : {"quantile", "percentile", "quantile_m", "projectile_k", "planes", "dl2_reg"})
    EXPECT_EQ(source(numeric(name), ""), "none") << name;
  const Parameter order = categorical_parameter("loop_nest", {"mkn", "kij"}, "mkn", "");
  EXPECT_NE(source(order, ""), "none");
  EXPECT_EQ(source(categorical_parameter("honest", {"mkn", "kij"}, "mkn", ""), ""), "none");

  // Of what an entry is about.
  for (const char* brief : {"LoRA", "a QLoRA", "use_lora=1", "(lora)"})
    EXPECT_THAT(source(numeric("learning_rate"), brief), HasSubstr("Dettmers")) << brief;
  for (const char* brief : {"Adam and exploration", "Adam for flora"})
    EXPECT_THAT(source(numeric("learning_rate"), brief), HasSubstr("Kingma")) << brief;
  EXPECT_NE(source(numeric("batch_size"), "pretraining"), "none");
  EXPECT_EQ(source(numeric("batch_size"), "under a constraint"), "none");
  EXPECT_NE(source(numeric("block_size_x"), "HIP"), "none");
  EXPECT_EQ(source(numeric("block_size_x"), "a chip"), "none");
  EXPECT_NE(source(numeric("work_group_size"), "gpu"), "none");
  EXPECT_EQ(source(numeric("network_groups"), "gpu"), "none");
}

TEST(Prior, FaultyFilesAreSentences) {
  const std::pair<const char*, const char*> cases[] = {
      {R"([{"median": 1, "why": "w", "source": "s"}])", "name"},
      {R"([{"name": "a", "median": 1, "source": "s"}])", "why"},
      {R"([{"name": "a", "median": 1, "why": "w"}])", "source"},
      {R"([{"name": "a", "why": "w", "source": "s"}])", "one of median, at and weights"},
      {R"([{"name": "a", "median": 1, "at": "low", "why": "w", "source": "s"}])", "one of median, at and weights"},
      {R"([{"name": "a", "median": -1, "why": "w", "source": "s"}])", "above 0"},
      {R"([{"name": "a", "median": 1, "factor": 1, "why": "w", "source": "s"}])", "above 1"},
      {R"([{"name": "a", "at": "middle", "why": "w", "source": "s"}])", "low, high or default"},
      {R"([{"name": "(", "median": 1, "why": "w", "source": "s"}])", "prior 1"},
      {R"([{"name": "a", "medain": 1, "why": "w", "source": "s"}])", "medain"},
      {R"([1])", "prior 1"},
  };
  for (const auto& [text, part] : cases) {
    try {
      entries(text);
      ADD_FAILURE() << text;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr(part)) << text;
      EXPECT_THAT(e.what(), HasSubstr("p.json")) << text;
    }
  }
}

}  // namespace
}  // namespace haqa
