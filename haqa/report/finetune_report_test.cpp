#include "haqa/report/finetune_report.h"

#include <gmock/gmock.h>

namespace haqa {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

Json accuracies(double boolq, double rte, double error) {
  return {
      {"tasks", {{"boolq", {{"accuracy", boolq}, {"error", 0.02}}}, {"rte", {{"accuracy", rte}, {"error", nullptr}}}}},
      {"mean", (boolq + rte) / 2},
      {"error", error}};
}

Json summary(double base, double defaults, double best) {
  return {{"best", 1},
          {"trials",
           {{{"number", 0}, {"configuration", {{"lora_r", 16}}}, {"value", 0.5}, {"proposed_by", "default"}},
            {{"number", 1},
             {"configuration", {{"lora_r", 8}}},
             {"value", 0.6},
             {"metrics", {{"error", 0.02}, {"training", {{"losses", {3, 2, 1.5, 1.25, 1}}}}}},
             {"proposed_by", "expert"}},
            {{"number", 2},
             {"configuration", {{"lora_r", 64}}},
             {"value", nullptr},
             {"reason", "out_of_memory"},
             {"message", "too large"}}}},
          {"held_out",
           {{"base", accuracies(base, base, 0.01)},
            {"defaults", accuracies(defaults, defaults, 0.01)},
            {"best", accuracies(best, best, 0.01)}}}};
}

TEST(FinetuneReport, SaysWhereAGainLiesWithinTheError) {
  EXPECT_THAT(finetune_answer(summary(0.5, 0.6, 0.62)),
              ElementsAre("The best, round 2, is better than the untuned model: +12.00 ± 1.41 points.",
                          "It cannot be told from the defaults of round 1: +2.00 ± 1.41 points are within the error."));
  EXPECT_THAT(finetune_answer(summary(0.6, 0.4, 0.5))[0], HasSubstr("is worse than the untuned model: -10.00"));
  Json s = summary(0.5, 0.6, 0.6);
  s["best"] = 0;
  EXPECT_THAT(finetune_answer(s), ElementsAre(HasSubstr("The best, the defaults of round 1, is better")));
  s.erase("best");
  EXPECT_THAT(finetune_answer(s), ElementsAre("No configuration gave a model."));
  EXPECT_THAT(finetune_answer(Json::object({{"best", "x"}, {"held_out", 3}})), ElementsAre(HasSubstr("No conf")));
}

TEST(FinetuneReport, OfARunTheDeployedFileIsWeighedAgainstTheGivenOne) {
  Json finetune = summary(0.5, 0.6, 0.6);
  finetune["held_out"]["given"] = accuracies(0.52, 0.52, 0.01);
  finetune["held_out"]["given_tuned"] = accuracies(0.63, 0.63, 0.01);
  finetune["held_out"]["deployed"] = accuracies(0.62, 0.62, 0.01);
  Json run = {{"finetune", finetune}};
  const std::vector<std::string> sentences = finetune_sentences(Part(run));
  EXPECT_THAT(sentences.front(), HasSubstr("Fine-tuning: The best, round 2, is better"));
  EXPECT_EQ(sentences.back(), "What is deployed is better than the model as given: +10.00 ± 1.41 points.");
  EXPECT_THAT(held_out_table(Part(finetune)).head, ElementsAre("task", "as given %", "as given, tuned %", "untuned %",
                                                               "defaults %", "best %", "deployed %"));
  run["finetune"]["deployed"] = "untuned";
  EXPECT_THAT(finetune_sentences(Part(run)), testing::Contains(HasSubstr("the untuned model, which is deployed")));
  const Json none = Json::object();
  EXPECT_TRUE(finetune_sentences(Part(none)).empty());
  const Json so_far = {{"finetune", {{"unfinished", true}, {"trials", Json::array()}}}};
  EXPECT_TRUE(finetune_sentences(Part(so_far)).empty());
}

TEST(FinetuneReport, WhatANetworkTakesDeployedStandsBesideFullPrecision) {
  const auto interval = [](double median) {
    return Json{{"median", median}, {"low", median / 2}, {"high", 2 * median}};
  };
  const auto row = [&](const char* name, uint64_t bytes, double ms) {
    return Json{{"bit_width", name},
                {"bytes", bytes},
                {"size_ratio", static_cast<double>(bytes) / 1e6},
                {"latency_ms", interval(ms)},
                {"speed_up", interval(4 / ms)},
                {"memory_bytes", 10 * bytes},
                {"accuracy", accuracies(0.5, 0.5, 0.01)}};
  };
  Json s = summary(0.5, 0.6, 0.62);
  s["network"] = {{"bit_width", "w4a4"}};
  s["deployment"]["candidates"] = {row("fp32", 1'000'000, 4), row("w8a8", 300'000, 2), row("w4a4", 200'000, 1)};
  s["deployment"]["candidates"][1]["left_out"] = "its file is too large";
  s["deployment"]["best"] = row("w4a4", 200'000, 1);
  EXPECT_THAT(deployment_table(Part(s)).rows,
              ElementsAre(ElementsAre("fp32", "1.00 MB", "1.000", "4.000 (2.000 to 8.000)", "1.000 (0.500 to 2.000)",
                                      "10.0 MB", "50.00 ± 1.00", ""),
                          ElementsAre("w8a8", "300.0 kB", "0.300", "2.000 (1.000 to 4.000)", "2.000 (1.000 to 4.000)",
                                      "3.00 MB", "50.00 ± 1.00", "left out: its file is too large"),
                          ElementsAre("w4a4", "200.0 kB", "0.200", "1.000 (0.500 to 2.000)", "4.000 (2.000 to 8.000)",
                                      "2.00 MB", "50.00 ± 1.00", ""),
                          ElementsAre("w4a4, trained", "200.0 kB", "0.200", "1.000 (0.500 to 2.000)",
                                      "4.000 (2.000 to 8.000)", "2.00 MB", "50.00 ± 1.00", "")));
  EXPECT_THAT(finetune_text(s), HasSubstr("left out: its file is too large"));
  EXPECT_THAT(finetune_answer(s),
              testing::Contains("As an ONNX file it takes 200.0 kB, 0.2 of full precision's size, and "
                                "an image 1.00 ms, 4.000 (2.000 to 8.000) times as fast as in full "
                                "precision."));
  s["deployment"]["best"]["latency_ms"] = nullptr;
  s["deployment"]["best"]["broken"] = "that is too much";
  EXPECT_THAT(finetune_answer(s), testing::Contains("As an ONNX file it takes 200.0 kB, 0.2 of full precision's size; "
                                                    "that is too much."));
  EXPECT_TRUE(deployment_table(Part(summary(0.5, 0.6, 0.62))).rows.empty());
}

TEST(FinetuneReport, TablesShowEachTask) {
  const std::string text = finetune_text(summary(0.5, 0.6, 0.62));
  for (const char* expected : {"untuned %", "62.00 ± 2.00", "62.00 ± 1.00", "lora_r 8", "out_of_memory: too large"})
    EXPECT_THAT(text, HasSubstr(expected));
  const Table t = accuracy_table(std::array{std::pair<std::string, Json>("best", accuracies(0.5, 0.75, 0.03))});
  EXPECT_THAT(t.head, ElementsAre("task", "best %"));
  EXPECT_THAT(t.rows, ElementsAre(ElementsAre("boolq", "50.00 ± 2.00"), ElementsAre("rte", "75.00"),
                                  ElementsAre("mean", "62.50 ± 3.00")));
}

TEST(FinetuneReport, SuggestsWhatTheFiguresSay) {
  const std::string good = finetune_suggestions(summary(0.5, 0.6, 0.62));
  EXPECT_THAT(
      good,
      HasSubstr(
          "Train longer (max_steps): the best round's loss was still falling, from 1.25 to 1.00 in its last fifth"));
  EXPECT_THAT(good, HasSubstr("1 of 3 rounds needed too much memory"));
  EXPECT_THAT(good, Not(HasSubstr("within its error")));
  EXPECT_THAT(finetune_suggestions(summary(0.6, 0.6, 0.61)), HasSubstr("Measure on more questions"));
  EXPECT_THAT(finetune_suggestions(summary(0.6, 0.5, 0.5)), HasSubstr("Do not ship this adapter"));
  EXPECT_THAT(finetune_suggestions(Json::object()), HasSubstr("Nothing stands out"));
}

// Mean and deviation by hand: 0.5 and 0.7 have 0.6 and 0.1 · √2.
TEST(FinetuneReport, MethodsHaveMeansAndDeviationsOverSeeds) {
  const std::vector<Json> outcomes = {{{"method", "random"}, {"seed", 0}, {"held_out", accuracies(0.5, 0.4, 0.01)}},
                                      {{"method", "expert"}, {"seed", 0}, {"held_out", nullptr}},
                                      {{"method", "random"}, {"seed", 1}, {"held_out", accuracies(0.7, 0.4, 0.01)}}};
  const Table t = methods_table(outcomes);
  EXPECT_THAT(t.head, ElementsAre("method", "seeds", "boolq", "rte", "mean"));
  EXPECT_THAT(t.rows, ElementsAre(ElementsAre("random", "2", "60.00 ± 14.14", "40.00 ± 0.00", "50.00 ± 7.07"),
                                  ElementsAre("expert", "0", "", "", "")));
  EXPECT_THAT(methods_csv(outcomes),
              HasSubstr("method,seeds,boolq,boolq_sd,rte,rte_sd,mean,mean_sd\nrandom,2,0.6,0.1414213"));
  EXPECT_THAT(methods_csv(outcomes), HasSubstr("\nexpert,0,,,,,,\n"));
}

// The paper's table 1: bit widths beside each other, without a mean over them.
TEST(FinetuneReport, BitWidthsStandBesideEachOther) {
  const auto outcome = [](const char* method, int seed, double wide, double narrow) -> Json {
    return {{"method", method},
            {"seed", seed},
            {"held_out", {{"tasks", {{"w8a8", {{"accuracy", wide}}}, {"w2a2", {{"accuracy", narrow}}}}}}}};
  };
  const std::vector<Json> outcomes = {outcome("default", 0, 0.9, 0.6), outcome("default", 1, 0.9, 0.8)};
  const Table t = methods_table(outcomes);  // in the order in which they were asked for
  EXPECT_THAT(t.head, ElementsAre("method", "seeds", "w8a8", "w2a2"));
  EXPECT_EQ(t.align.size(), 4u);
  EXPECT_THAT(t.rows, ElementsAre(ElementsAre("default", "2", "90.00 ± 0.00", "70.00 ± 14.14")));
  EXPECT_THAT(methods_csv(outcomes), HasSubstr("method,seeds,w8a8,w8a8_sd,w2a2,w2a2_sd\ndefault,2,0.9"));
  // Where a seed has no value at one of them, its mean is of the others alone.
  const Json wide = {{"tasks", {{"w8a8", {{"accuracy", 0.9}}}}}};
  const std::vector<Json> failed = {outcome("default", 0, 0.9, 0.6),
                                    {{"method", "default"}, {"seed", 1}, {"held_out", wide}}};
  EXPECT_THAT(methods_table(failed).rows, ElementsAre(ElementsAre("default", "2", "90.00 ± 0.00", "60.00 (1 seeds)")));
}

TEST(FinetuneReport, SpeaksOfImagesWhereANetworkForThemWasTuned) {
  Json s = summary(0.5, 0.6, 0.62);
  s["network"] = {{"bit_width", "w2a2"}};
  s["files"] = {{"network", "/run/resnet20-w2a2.safetensors"}};
  s["held_out"]["given"] = accuracies(0.95, 0.95, 0.01);
  EXPECT_THAT(finetune_answer(s),
              testing::Contains("In w2a2 it is worse than the model in full precision: -33.00 ± 1.41 points."));
  s["held_out"]["best"]["skipped"] = 2;
  s["held_out"]["best"]["skipped_files"] = {"val/a/1.jpg: cut", "val/a/2.jpg: cut"};
  EXPECT_THAT(finetune_answer(s),
              testing::Contains("Of the test images 2 are damaged and left out, the first: val/a/1.jpg: cut."));
  const std::string text = finetune_text(s);
  for (const char* expected : {"Accuracy on the test images", "full precision %", "images to choose by",
                               "names that torchvision has: /run/resnet20-w2a2.safetensors"})
    EXPECT_THAT(text, HasSubstr(expected));
  EXPECT_THAT(text, Not(HasSubstr("question")));
  EXPECT_THAT(finetune_suggestions(s), HasSubstr("Train longer (num_epochs)"));
}

}  // namespace
}  // namespace haqa
