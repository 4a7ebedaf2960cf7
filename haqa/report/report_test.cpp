#include "haqa/report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <regex>

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
  return {
      {"number", number},
      {"configuration", configuration},
      {"state", "complete"},
      {"value", value},
      {"metrics",
       {{"tokens_per_s", 20 * value}, {"speedup", value}, {"speedup_low", low}, {"speedup_high", high}, {"pairs", 10}}},
      {"proposed_by", number == 0 ? "default" : "expert"},
      {"thought", "because of round " + std::to_string(number)},
      {"propose_s", 0.001},
      {"evaluate_s", 1}};
}

Json accuracies(double mean) {
  return {{"tasks", {{"boolq", {{"accuracy", mean}, {"error", 0.01}}}}}, {"mean", mean}, {"error", 0.01}};
}

Json taught(int number, double accuracy) {
  return {{"number", number},
          {"state", "complete"},
          {"value", accuracy},
          {"configuration", {{"lora_r", 8 + number}}},
          {"metrics", {{"error", 0.01}, {"training", {{"losses", {3.5, 2.5}}}}}},
          {"proposed_by", number == 0 ? "default" : "expert"},
          {"thought", "a rank of " + std::to_string(8 + number)}};
}

Json finetuned() {
  return {{"track", {{"name", "fine-tuning"}, {"value_name", "accuracy"}}},
          {"base_validation", accuracies(0.5)},
          {"trials", {taught(0, 0.61), taught(1, 0.72), taught(2, 0.66)}},
          {"best", 1},
          {"deployed", "tuned"},
          {"deployed_validation", accuracies(0.72)},
          {"held_out",
           {{"given", accuracies(0.52)},
            {"base", accuracies(0.5)},
            {"best", accuracies(0.7)},
            {"deployed", accuracies(0.7)}}}};
}

/// A run that found something: round 2 is confirmed as 1.234 times as fast.
Json summary() {
  Json failed = trial(2, 0, 0, 0, {{"threads", 9}, {"repack", true}});
  failed.update({{"state", "failed"}, {"value", nullptr}, {"reason", "out_of_memory"}, {"message", "used 5 GB"}});
  Json best = trial(1, 1.25, 1.2, 1.3, {{"threads", 2}, {"repack", true}});
  const Json row = {{"bit_width", "int4"},
                    {"gguf_type", "Q4_0"},
                    {"weights_bytes", 620'000'000},
                    {"total_bytes", 700'000'000},
                    {"fits", true}};
  const Json wide = {{"bit_width", "fp16"}, {"gguf_type", "F16"}, {"total_bytes", 2'345'000'000}, {"fits", false}};
  const Json quality = {
      {"perplexity", 8.1}, {"perplexity_ratio", 1.0312}, {"kl_divergence", 0.0456}, {"same_top", 0.93}};
  best["metrics"]["quality"] = quality;
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
         {"accuracy", accuracies(0.5)},
         {"ratio_to_widest", {{"median", 1}, {"low", 1}, {"high", 1}, {"pairs", 10}}},
         {"refused", ""}}}},
      {"decision",
       {{"bit_width", "int4"}, {"gguf_type", "Q4_0"}, {"basis", "measurement"}, {"why", "It was the fastest."}}},
      {"track", {{"name", "runtime"}, {"value_name", "speedup"}, {"direction", "maximize"}}},
      {"trials", {trial(0, 1, 0.99, 1.01, {{"threads", 1}, {"repack", true}}), best, failed}},
      {"agent_events", {{{"round", 2}, {"kind", "out of range"}, {"detail", "threads is 99"}, {"fallback", false}}}},
      {"finetune", finetuned()},
      {"verification",
       {{"confirmed", true},
        {"trial", 1},
        {"configuration", {{"threads", 2}}},
        {"speedup", {{"median", 1.234}, {"low", 1.2}, {"high", 1.27}, {"pairs", 10}}},
        {"default", measured(20)},
        {"winner", measured(24.7)}}},
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

void forget_measurements(Json& s) {
  s["trials"] = Json::array();
  s.erase("verification");
  s["bit_widths"][0]["measured"] = nullptr;
}

void fail_every_round(Json& s) {
  s.erase("verification");
  for (Json& t : s["trials"]) t.update({{"state", "failed"}, {"value", nullptr}, {"reason", "crashed"}});
}

/// The fresh comparison of a winner that was not confirmed.
void refute(Json& s, double median, double low, double high) {
  s["verification"]["confirmed"] = false;
  s["verification"]["speedup"] = {{"median", median}, {"low", low}, {"high", high}, {"pairs", 10}};
}

struct EndOfRun {
  const char* name;
  void (*change)(Json&);
  std::vector<const char*> said, not_said;
};
const EndOfRun kEnds[] = {
    {"confirmed", [](Json&) {}, {"with the tuned options: 24.7", "Confirmed: this is 1.234"}, {"Not confirmed"}},
    {"not confirmed",
     [](Json& s) { refute(s, 1.02, 0.98, 1.05); },
     {"with llama.cpp's defaults: 20.0", "Not confirmed",
      "of round 2, could not be told from the defaults, which are kept"},
     {"tuned options", "Confirmed: ", "slower"}},
    {"disturbed",
     [](Json& s) {
       s["trials"][0]["metrics"].update({{"speedup_low", 0.6}, {"speedup_high", 1.5}});
     },
     {"busy with other work", "(0.600 to 1.500)"},
     {}},
    {"verification failed",
     [](Json& s) {
       s["verification"] = {{"confirmed", false}, {"trial", 1}, {"message", "no result after 5 s"}};
     },
     {"verifying the best round failed, llama.cpp's defaults are kept: no result after 5 s", "best, not confirmed"},
     {"tuned options", "busy"}},
    {"refuted",
     [](Json& s) { refute(s, 0.95, 0.92, 0.98); },
     {"with llama.cpp's defaults: 20.0", "of round 2, was slower than the defaults, which are kept"},
     {"tuned options", "Confirmed: "}},
    {"not verified",
     [](Json& s) { s.erase("verification"); },
     {"its best round, 2, at 1.250", "probably overstated"},
     {"Confirmed: ", "tuned options"}},
    {"all failed", fail_every_round, {"None of the 3 configurations tried ran", "crashed"}, {"onfirmed: ", " best\n"}},
    {"no rounds",
     [](Json& s) {
       s["trials"] = Json::array();
       s.erase("verification");
     },
     {"The run ended before the tuning began.", "20.0 generated tokens/s"},
     {"onfirmed: "}},
    {"not here",
     [](Json& s) {
       forget_measurements(s);
       s["hardware"]["here"] = false;
     },
     {"predicted to be the fastest", "17.6 generated tokens/s", "No speed was measured"},
     {"onfirmed: ", "tuned options"}},
    {"stopped early", [](Json& s) { forget_measurements(s); }, {"before anything was measured"}, {"onfirmed: "}},
    {"empty", [](Json& s) { s = Json::object(); }, {"This run has no result."}, {"Run "}},
};

TEST(Report, SaysPlainlyHowTheRunEnded) {
  for (const EndOfRun& end : kEnds) {
    Json s = summary();
    s.erase("finetune");  // what it came to is said beside
    end.change(s);
    for (const char* text : end.said) EXPECT_THAT(text_report(s), HasSubstr(text)) << end.name;
    for (const char* text : end.not_said) EXPECT_THAT(text_report(s), Not(HasSubstr(text))) << end.name;
    // Both tell the same; the page spells apostrophes out.
    for (const char* text : end.said)
      EXPECT_THAT(std::regex_replace(page(s), std::regex("&#39;"), "'"), HasSubstr(text)) << end.name;
  }
}

/// What the page's script draws, by the plots' ids; empty where the page has no plot.
std::map<std::string, Json> plotted(const std::string& html) {
  const std::string start = "const plots = ";
  const size_t from = html.find(start);
  if (from == std::string::npos) return {};
  const size_t to = html.find(";\n", from);
  std::map<std::string, Json> by_id;
  for (const Json& plot : Json::parse(html.substr(from + start.size(), to - from - start.size())))
    by_id[plot["id"]] = plot;
  return by_id;
}

/// Its points, without what is said of them.
std::vector<std::pair<Json, Json>> points_of(const Json& plot, const std::string& label) {
  std::vector<std::pair<Json, Json>> points;
  for (const Json& series : plot["series"])
    if (series["label"] == label)
      for (const Json& point : series["data"]) points.emplace_back(point["x"], point["y"]);
  return points;
}

TEST(Report, PlotsWhatTheTableSays) {
  Json s = summary();
  s["trials"].push_back(s["trials"][1]);
  s["trials"][3].update({{"number", 3}, {"value", 1.1}});
  const Json plot = plotted(page(s))["rounds"];
  using testing::ElementsAre;
  using testing::IsSupersetOf;
  using testing::Pair;
  EXPECT_THAT(points_of(plot, "this round"), IsSupersetOf({Pair(Json(2), Json(1.25))}));
  EXPECT_EQ(points_of(plot, "this round").size(), 3u) << "a failure has no value";
  EXPECT_THAT(points_of(plot, "interval"),
              IsSupersetOf({Pair(Json(2), Json(1.2)), Pair(Json(2), Json(1.3)), Pair(Json(2), Json(nullptr))}));
  EXPECT_THAT(points_of(plot, "best so far"),
              IsSupersetOf({Pair(Json(2), Json(1.25)), Pair(Json(3), Json(1.25)), Pair(Json(4), Json(1.25))}))
      << "the line goes on through a failure";
  EXPECT_THAT(points_of(plot, "failed"), ElementsAre(Pair(Json(3), testing::_)));
  EXPECT_THAT(page(s), HasSubstr("round 2: threads 2"));
  EXPECT_TRUE(plotted(html_report(s, "")).empty()) << "no plot without Chart.js";
}

TEST(Report, OrdersThePage) {
  const std::string html = page(summary());
  size_t last = 0;
  for (const char* heading :
       {"class=\"verdict\"", "class=\"answer\"", ">Run it", ">Device<", ">Memory<", ">Bit widths<", ">Fine-tuning<",
        "why</summary>", "<canvas", ">Accuracy, speed and memory<", ">Failures<", ">The agent<",
        ">How it was measured<", ">What this report cannot say<"}) {
    const size_t at = html.find(heading);
    ASSERT_NE(at, std::string::npos) << heading;
    EXPECT_GT(at, last) << heading;
    last = at;
  }
}

TEST(Report, MarksTheChosenRows) {
  const auto marked = [](const std::string& html, const char* row_class) {
    const std::regex row(std::string("<tr class=\"") + row_class + "\">(.*)</tr>");
    std::string all;
    for (std::sregex_iterator i(html.begin(), html.end(), row), end; i != end; ++i) all += (*i)[1].str() + "\n";
    return all;
  };
  EXPECT_THAT(marked(page(summary()), "best"), HasSubstr("620.0 MB"));
  EXPECT_THAT(marked(page(summary()), "best"), HasSubstr("chosen"));
  EXPECT_THAT(marked(page(summary()), "best"), HasSubstr("1.250 (1.200 to 1.300)"));
  EXPECT_THAT(marked(page(summary()), "best"), Not(HasSubstr("too much")));
  EXPECT_THAT(marked(page(summary()), "failed"), HasSubstr("out of memory"));
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
  if (original.is_object())
    for (const auto& [key, value] : original.items()) {
      const Json before = find(whole);
      find(whole).erase(key);
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
        for (const auto& [id, plot] : plotted(page(damaged)))
          for (const Json& series : plot["series"])
            for (const Json& point : series["data"])
              for (const char* key : {"x", "y"})
                EXPECT_TRUE(point[key].is_null() || std::abs(point[key].get<double>()) < 1e18) << point;
      });
  EXPECT_GT(seen, 500);
  EXPECT_NO_THROW(page(Json::object()));
}

const char* const kHostile[] = {
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"><b onclick='x'>",
    "<!--<script>",
    "a\xE2\x80\xAE"
    "b",
    "\x1b[31mred",
    "`` `<img src=x>` [x](javascript:x) ``",
    "line\n# heading <img src=x>",
    "\xff\xfe<b onclick=x>",
};

/// Markdown without its code spans: what is left has a meaning. Written apart from markdown_code(), by CommonMark's
/// rule: a span ends at the next run of as many backticks.
std::string outside_code(const std::string& markdown) {
  std::string out;
  for (size_t i = 0; i < markdown.size();) {
    const size_t run = std::min(markdown.find_first_not_of('`', i), markdown.size()) - i;
    size_t end = i + run;
    if (run == 0) {
      out += markdown[i++];
      continue;
    }
    for (size_t length = 0; end < markdown.size() && length != run;) {
      end = markdown.find('`', end);
      if (end == std::string::npos) break;
      length = std::min(markdown.find_first_not_of('`', end), markdown.size()) - end;
      end += length;
    }
    i = std::min(end, markdown.size());
  }
  return out;
}

void expect_harmless(const Json& s, const std::string& where) {
  const std::string html = page(s), body = html.substr(html.find("<body>"));
  for (const char* bad : {"<script>alert", "<img", "<b onclick", "<!--", "\xE2\x80\xAE", "\x1b", "\xff"}) {
    EXPECT_THAT(body, Not(HasSubstr(bad))) << where;
    EXPECT_THAT(outside_code(suggestions(s)), Not(HasSubstr(bad))) << where;
  }
  for (const char* bad : {"](javascript", "\n# heading"})
    EXPECT_THAT(outside_code(suggestions(s)), Not(HasSubstr(bad))) << where;
  for (const char* bad : {"\x1b", "\xE2\x80\xAE", "\xff", "\n# heading"}) {
    EXPECT_THAT(text_report(s), Not(HasSubstr(bad))) << where;
    EXPECT_THAT(suggestions(s), Not(HasSubstr(bad))) << where;
  }
}

/// One text at a time, so that what decides the course of the report ("failed", "int4") stays as it is elsewhere.
TEST(Report, HostileTextStaysText) {
  int texts = 0;
  for (const char* text : kHostile) {
    Json s = summary();
    const Json flat = s.flatten();
    for (const auto& [pointer, value] : flat.items()) {
      if (!value.is_string()) continue;
      ++texts;
      Json& field = s[Json::json_pointer(pointer)];
      field = text;
      expect_harmless(s, pointer);
      field = value;
    }
    for (Json& t : s["trials"]) t["configuration"][text] = t["number"];
    expect_harmless(s, "a parameter's name");
  }
  EXPECT_GT(texts, 200);
}

TEST(Report, HostileTextOfAWholeKindStaysText) {
  for (const char* text : kHostile) {
    Json s = summary();
    for (const auto* list : {"memory_plan", "bit_widths"})
      for (Json& row : s[list].is_array() ? s[list] : s[list]["rows"])
        row.update({{"bit_width", text}, {"gguf_type", text}});
    s["decision"].update({{"bit_width", text}, {"gguf_type", text}});
    expect_harmless(s, "formats");
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

struct SuggestionCase {
  const char* name;
  void (*change)(Json&);
  const char* text;
  bool present;
};

void add_round(Json& s, double value, double low, double high, const Json& configuration) {
  s["trials"].push_back(trial(static_cast<int>(s["trials"].size()), value, low, high, configuration));
}

void generate_at(Json& s, double rate) {
  s["verification"]["winner"]["generate_tokens_per_s"] = rate;
}

const SuggestionCase kSuggestions[] = {
    {"a change that helped", [](Json&) {}, "`threads 2` seems to help", true},
    {"with its evidence", [](Json&) {}, "1.234 (1.200 to 1.270) after 1, the defaults", true},
    {"noise is not taken for an effect",
     [](Json& s) {
       s["trials"][0]["metrics"].update({{"speedup", 0.95}, {"speedup_low", 0.93}, {"speedup_high", 0.97}});
       refute(s, 0.98, 0.975, 1.17);
     },
     "seems to", false},
    {"a change that hurt",
     [](Json& s) {
       add_round(s, 0.5, 0.4, 0.6, {{"threads", 1}, {"repack", false}});
     },
     "`repack false` seems to hurt", true},
    {"intervals that overlap", [](Json& s) { s["verification"]["speedup"]["low"] = 0.995; }, "seems to", false},
    {"intervals that touch", [](Json& s) { s["verification"]["speedup"]["low"] = 1.0; }, "seems to", false},
    {"the luckiest round, refuted anew", [](Json& s) { refute(s, 0.984, 0.955, 1.019); }, "seems to", false},
    {"no comparison with it either",
     [](Json& s) {
       refute(s, 0.984, 0.955, 1.019);
       add_round(s, 0.972, 0.96, 0.98, {{"threads", 2}, {"repack", false}});
     },
     "`repack false`", false},
    {"too few pairs",
     [](Json& s) {
       s["verification"].erase("speedup");
       for (Json& t : s["trials"]) t["metrics"]["pairs"] = 5;
     },
     "seems to", false},
    {"too few pairs are said", [](Json& s) { s["trials"][0]["metrics"]["pairs"] = 5; },
     "Measure at least 6 pairs in each round", true},
    {"two changes at once", [](Json& s) { s["trials"][1]["configuration"]["repack"] = false; }, "seems to", false},
    {"a failed round", [](Json&) {}, "Round 3 failed (`out of memory`): `used 5 GB`", true},
    {"no failed round", [](Json& s) { s["trials"].erase(2); }, "failed", false},
    {"noise below the gain", [](Json&) {}, "Measure more pairs", false},
    {"noise above the gain",
     [](Json& s) {
       s["trials"][0]["metrics"].update({{"speedup_low", 0.8}, {"speedup_high", 1.1}});
     },
     "Measure more pairs", true},
    {"noise too small to matter",
     [](Json& s) {
       s["trials"] = Json::array({trial(0, 1, 0.995, 1.005, {{"threads", 1}})});
     },
     "Measure more pairs", false},
    {"undecided", [](Json& s) { refute(s, 1.02, 0.99, 1.05); }, "tuning.confirm_pairs", true},
    {"decided against", [](Json& s) { refute(s, 0.97, 0.95, 0.99); }, "tuning.confirm_pairs", false},
    {"not above 1", [](Json& s) { refute(s, 0.99, 0.95, 1.02); }, "tuning.confirm_pairs", false},
    {"confirmed", [](Json&) {}, "tuning.confirm_pairs", false},
    // 620 MB x 27.2 tokens/s = 16.8 GB/s of 28.6, which is 59 %
    {"memory idle", [](Json&) {}, "Better kernels have room", true},
    {"with its figures", [](Json&) {}, "27.2 tokens/s: 16.8 GB/s of the 28.6 GB/s", true},
    {"between", [](Json& s) { generate_at(s, 32); }, "GB/s", false},
    {"memory busy", [](Json& s) { generate_at(s, 40); }, "bandwidth is nearly used up", true},
    {"weights in the cache", [](Json& s) { s["hardware"]["caches"][0]["bytes"] = 700'000'000; }, "GB/s", false},
    {"weights in caches together",
     [](Json& s) {
       s["hardware"]["caches"][0].update({{"bytes", 100'000'000}, {"count", 8}});
     },
     "GB/s", false},
    {"bandwidth unknown", [](Json& s) { s["hardware"].erase("bandwidth"); }, "GB/s", false},
    {"wider would fit", [](Json&) {}, "limit of 2.37 GB (`memory_limit`), `fp16 (F16)` would fit", true},
    {"no limit", [](Json& s) { s["memory_plan"]["limit_bytes"] = nullptr; }, "would fit", false},
    {"all fit", [](Json& s) { s["memory_plan"]["rows"][0]["fits"] = true; }, "would fit", false},
    {"refused for another reason than the limit",
     [](Json& s) { s["memory_plan"]["rows"][0]["total_bytes"] = 900'000'000; }, "would fit", false},
    {"quality lost", [](Json&) {}, "a wider bit width or Q4_K_M", true},
    {"quality lost by int8", [](Json& s) { s["decision"]["bit_width"] = "int8"; }, "Q4_K_M", false},
    {"quality kept", [](Json& s) { s["trials"][1]["metrics"]["quality"]["perplexity_ratio"] = 1.019; },
     "If answers matter", false},
    {"the expert", [](Json&) {}, "Try a language model as the agent: `agent.provider: openai`", true},
    {"a language model", [](Json& s) { s["agent"]["provider"] = "gpt-4o"; }, "Try a language model", false},
    {"no rounds", [](Json& s) { s["trials"] = Json::array(); }, "Try a language model", false},
    {"not here", [](Json& s) { s["hardware"]["here"] = false; }, "on the device itself", true},
    {"here", [](Json&) {}, "on the device itself", false},
    {"nothing known", [](Json& s) { s = Json::object(); }, "Nothing that this run's figures would support", true},
    {"something known", [](Json&) {}, "Nothing that", false},
};

TEST(Suggestions, FollowFromTheFigures) {
  for (const SuggestionCase& c : kSuggestions) {
    Json s = summary();
    c.change(s);
    EXPECT_EQ(suggestions(s).find(c.text) != std::string::npos, c.present) << c.name << "\n" << suggestions(s);
  }
}

TEST(Suggestions, NameEachChangeOnceTheStrongestFirst) {
  Json s = summary();
  for (int i = 0; i < 20; ++i) {  // the same change again, on another configuration and weaker
    add_round(s, 1.0, 0.99, 1.01, {{"threads", 1}, {"ubatch", i}});
    add_round(s, 1.1, 1.09, 1.11, {{"threads", 2}, {"ubatch", i}});
  }
  add_round(s, 0.2, 0.19, 0.21, {{"threads", 1}, {"repack", false}});
  const std::string text = suggestions(s), change = "`threads 2` seems to help";
  EXPECT_EQ(text.find(change), text.rfind(change));
  EXPECT_THAT(text, HasSubstr("1.234 (1.200 to 1.270) after"));
  EXPECT_LT(text.find("`repack false` seems to hurt"), text.find(change));
}

}  // namespace
}  // namespace haqa
