#include "haqa/report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "haqa/base/file.h"

namespace haqa {
namespace {

using testing::HasSubstr;
using testing::Not;

Json measured(double rate) {
  return {{"tokens_per_s", rate},    {"prompt_tokens_per_s", 10 * rate}, {"generate_tokens_per_s", 1.1 * rate},
          {"request_s", 256 / rate}, {"peak_bytes", 45'000'000},         {"samples", {rate, rate}}};
}

Json trial(int number, double value, double low, double high, const Json& configuration) {
  return {{"number", number},
          {"configuration", configuration},
          {"state", "complete"},
          {"value", value},
          {"metrics", {{"tokens_per_s", 20 * value}, {"speedup", value}, {"speedup_low", low}, {"speedup_high", high}}},
          {"proposed_by", number == 0 ? "default" : "expert"},
          {"thought", "because of round " + std::to_string(number)},
          {"propose_s", 0.001},
          {"evaluate_s", 1}};
}

/// A run that found something: round 2 is confirmed as 1.234 times as fast.
Json summary() {
  Json failed = trial(2, 0, 0, 0, {{"threads", 9}, {"repack", true}});
  failed.update({{"state", "failed"}, {"value", nullptr}, {"reason", "out_of_memory"}, {"message", "used 5 GB"}});
  const Json row = {{"bit_width", "int4"},
                    {"gguf_type", "Q4_0"},
                    {"weights_bytes", 620'000'000},
                    {"total_bytes", 700'000'000},
                    {"fits", true}};
  const Json wide = {{"bit_width", "fp16"}, {"gguf_type", "F16"}, {"total_bytes", 2'345'000'000}, {"fits", false}};
  const Json quality = {
      {"perplexity", 8.1}, {"perplexity_ratio", 1.0312}, {"kl_divergence", 0.0456}, {"same_top", 0.93}};
  return {
      {"haqa_version", "0.1.0"},
      {"command", "haqa run task.yaml"},
      {"started", "2026-11-24T08:00:00Z"},
      {"task", {{"prompt_tokens", 128}, {"generate_tokens", 256}}},
      {"hardware",
       {{"name", "Test CPU"},
        {"here", true},
        {"caches", {{{"level", 3}, {"bytes", 32'000'000}, {"count", 1}}}},
        {"bandwidth", {{{"threads", 1}, {"bytes_per_s", 28.6e9}}}}}},
      {"model", {{"name", "tinyllama"}, {"main_type", "F16"}}},
      {"memory_plan", {{"limit_bytes", 1'000'000'000}, {"rows", {wide, row}}}},
      {"bit_widths",
       {{{"bit_width", "int4"},
         {"gguf_type", "Q4_0"},
         {"predicted_tokens_per_s", 17.6},
         {"why", "reads little"},
         {"measured", measured(20)},
         {"quality", quality},
         {"refused", ""}}}},
      {"decision",
       {{"bit_width", "int4"}, {"gguf_type", "Q4_0"}, {"basis", "measurement"}, {"why", "It was the fastest."}}},
      {"track", {{"name", "runtime"}, {"value_name", "speedup"}, {"direction", "maximize"}}},
      {"trials",
       {trial(0, 1, 0.99, 1.01, {{"threads", 1}, {"repack", true}}),
        trial(1, 1.25, 1.2, 1.3, {{"threads", 2}, {"repack", true}}), failed}},
      {"agent_events", {{{"round", 2}, {"kind", "out of range"}, {"detail", "threads is 99"}, {"fallback", false}}}},
      {"verification",
       {{"confirmed", true},
        {"trial", 1},
        {"configuration", {{"threads", 2}}},
        {"speedup", {{"median", 1.234}, {"low", 1.2}, {"high", 1.27}, {"pairs", 10}}},
        {"default", measured(20)},
        {"winner", measured(24.7)},
        {"quality", quality}}},
      {"agent", {{"provider", "expert"}, {"calls", 2}}},
      {"bundle", {{"command", "llama-server --model q4.gguf --threads 2"}}}};
}

std::string page(const Json& s) {
  return html_report(s, "/* chart */");
}

TEST(Report, ShowsTheFiguresOfTheRun) {
  for (const std::string& text : {page(summary()), text_report(summary())})
    for (const char* expected :
         {"Run int4 (Q4_0) with the tuned options: 24.7 generated tokens/s", "1.234", "1.200 to 1.270",
          "10 fresh pairs", "llama-server --model q4.gguf --threads 2", "1.250 (1.200 to 1.300)", "+3.12 %", "0.0456",
          "used 5 GB", "threads is 99", "620.0 MB"})
      EXPECT_THAT(text, HasSubstr(expected));
  EXPECT_THAT(page(summary()), HasSubstr("because of round 1"));
}

TEST(Report, SaysPlainlyWhatWasNotConfirmed) {
  Json s = summary();
  s["verification"]["confirmed"] = false;
  EXPECT_THAT(text_report(s), HasSubstr("was no better than the defaults, which are kept"));
  EXPECT_THAT(text_report(s), HasSubstr("20.0 generated tokens/s"));
  s["hardware"]["here"] = false;
  s["trials"] = Json::array();
  s.erase("verification");
  s["bit_widths"][0]["measured"] = nullptr;
  EXPECT_THAT(text_report(s), HasSubstr("Nothing was measured"));
  EXPECT_THAT(text_report(s), HasSubstr("17.6"));
}

/// Calls `visit` with every way in which one value of the document is missing or of another type.
void damage_each(const Json& original, Json& whole, const std::function<Json&(Json&)>& find,
                 const std::function<void(const Json&)>& visit) {
  for (const Json& instead : {Json(nullptr), Json("text"), Json(-1e308), Json::array(), Json::object({{"x", 1}}),
                              Json(std::numeric_limits<double>::quiet_NaN())}) {
    const Json before = find(whole);
    find(whole) = instead;
    visit(whole);
    find(whole) = before;
  }
  if (original.is_structured())
    for (const auto& [key, value] : original.items()) {
      const bool in_array = original.is_array();
      damage_each(
          value, whole,
          [&find, key = key, in_array](Json& w) -> Json& { return in_array ? find(w)[std::stoul(key)] : find(w)[key]; },
          visit);
    }
}

TEST(Report, SurvivesAnyMissingOrWrongPart) {
  Json s = summary();
  const Json original = s;
  int seen = 0;
  damage_each(
      original, s, [](Json& w) -> Json& { return w; },
      [&](const Json& damaged) {
        ++seen;
        for (const std::string& text : {html_report(damaged, ""), suggestions(damaged), text_report(damaged)}) {
          EXPECT_THAT(text, Not(HasSubstr("nan")));
          EXPECT_THAT(text, Not(HasSubstr("null")));
          EXPECT_THAT(text, Not(HasSubstr("inf "))) << damaged;
        }
      });
  EXPECT_GT(seen, 500);
  EXPECT_NO_THROW(page(Json::object()));
}

/// Puts `text` in place of every string.
void infect(Json& json, const std::string& text) {
  if (json.is_string()) json = text;
  if (json.is_structured())
    for (auto& [key, value] : json.items()) infect(value, text);
}

TEST(Report, HostileTextStaysText) {
  for (const char* text :
       {"<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", "\"><b onclick='x'>", "<!--<script>",
        "a\xE2\x80\xAE"
        "b",
        "\x1b[31mred"}) {
    Json s = summary();
    infect(s, text);
    s["model"]["name"] = text;
    const std::string html = page(s);
    EXPECT_THAT(html, Not(HasSubstr("<script>alert")));
    EXPECT_THAT(html, Not(HasSubstr("<img")));
    EXPECT_THAT(html, Not(HasSubstr("<b onclick")));
    EXPECT_THAT(html, Not(HasSubstr("\xE2\x80\xAE")));
    EXPECT_THAT(text_report(s), Not(HasSubstr("\x1b")));
    EXPECT_THAT(suggestions(s), Not(HasSubstr("\x1b")));
  }
  EXPECT_THAT(html_report(summary(), "x = '</script>'"), Not(HasSubstr("x = '</script>'")));
}

TEST(Report, AsksTheNetworkForNothing) {
  const std::string html = html_report(summary(), read_file(HAQA_CHART_JS));
  EXPECT_THAT(html, HasSubstr("Content-Security-Policy"));
  EXPECT_THAT(html, HasSubstr("default-src 'none'"));
  for (const char* attribute : {" src=", "<link", "@import", "url("})
    EXPECT_THAT(page(summary()), Not(HasSubstr(attribute))) << attribute;
}

TEST(Suggestions, FollowFromTheFigures) {
  EXPECT_THAT(suggestions(summary()), HasSubstr("`threads 2` helped here"));
  EXPECT_THAT(suggestions(summary()), HasSubstr("Round 3 failed (out of memory): `used 5 GB`"));
  EXPECT_THAT(suggestions(summary()), HasSubstr("With a memory limit of 2.37 GB, fp16 (F16) would fit"));
  EXPECT_THAT(suggestions(summary()), HasSubstr("perplexity +3.12 %"));
  // 620 MB x 27.2 tokens/s = 16.8 GB/s of 28.6
  EXPECT_THAT(suggestions(summary()), HasSubstr("Better kernels have room"));
  EXPECT_THAT(suggestions(summary()), HasSubstr("Try a language model"));
  EXPECT_THAT(suggestions(summary()), Not(HasSubstr("Measure more pairs")));

  Json s = summary();
  s["trials"][0]["metrics"].update({{"speedup_low", 0.7}, {"speedup_high", 1.4}});
  EXPECT_THAT(suggestions(s), HasSubstr("Measure more pairs"));
  EXPECT_THAT(suggestions(s), Not(HasSubstr("helped here"))) << "the intervals overlap";
  s = summary();
  s["agent"]["provider"] = "gpt-4o";
  EXPECT_THAT(suggestions(s), Not(HasSubstr("Try a language model")));
  s["hardware"]["caches"][0]["bytes"] = 700'000'000;
  EXPECT_THAT(suggestions(s), Not(HasSubstr("kernels"))) << "the weights stay in the cache";
  EXPECT_THAT(suggestions(Json::object()), HasSubstr("Nothing that this run's figures would support"));
}

}  // namespace
}  // namespace haqa
