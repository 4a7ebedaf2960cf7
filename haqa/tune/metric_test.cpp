#include "haqa/tune/metric.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"

namespace haqa {
namespace {

using testing::HasSubstr;

/// A number, or what the failure must say.
struct Expected {
  std::optional<double> value;
  std::string message;
  Expected(double v) : value(v) {}
  Expected(const char* m) : message(m) {}
};

void check(const Outcome& o, const Expected& expected, const std::string& what) {
  EXPECT_EQ(o.value, expected.value) << what << ": " << o.message;
  EXPECT_EQ(o.value.has_value(), o.reason == FailReason::none) << what;
  EXPECT_THAT(o.message, HasSubstr(expected.message)) << what;
}

Outcome read(const std::string& metric, const std::string& output, const std::string& errors = "") {
  return Metric(metric, Direction::maximize).read({output, false, errors, {}}, {});
}

TEST(Metric, LastMatchOfAPattern) {
  const std::string pattern = "accuracy=(\\S+)";
  const struct {
    std::string metric, output, errors;
    Expected expected;
  } cases[] = {
      {pattern, "accuracy=0.5\naccuracy=0.75\n", "", 0.75},
      {pattern, "accuracy=0.5 accuracy=1e-3", "", 1e-3},
      {pattern, "accuracy=-2", "", -2},
      {pattern, "accuracy=+2\r\n", "", 2},
      {pattern, "\x1b[32maccuracy=7 \x1b[0m", "accuracy=8", 7},
      {pattern, "nothing here", "accuracy=8", 8},
      {pattern, "accuracy=nan\n", "", "accuracy is nan, not a finite number"},
      {pattern, "accuracy=0.5\naccuracy=-inf\n", "", "accuracy is -inf, not a finite"},
      {pattern, "accuracy=1e999\n", "", "accuracy is inf, not a finite"},
      {pattern, "accuracy=high\n", "", "accuracy is 'high', which is no number"},
      {"accuracy=([0-9.]+)", "accuracy=0.5.\n", "", "accuracy is '0.5.', which is no number"},
      {pattern, "loss=1\n", "", "nothing matches 'accuracy=(\\S+)' in what it printed"},
      {pattern, "", "", "it printed nothing"},
      {"^loss: (.*)$", "x loss: 1\nloss: 2\nloss 3\n", "", 2},
      {"^loss: (.*)$", " 10%|#   |\rloss: 4\r 20%|##  |\r", "", 4},
      {"^loss: (.*)$", "loss: 4\r\nend\r\n", "", 4},
      {"(?:train|test) loss ([\\d.]+)", "train loss 2 test loss 3", "", 3},
      {"a(b)?", "ab a", "", "is 'b'"},
      {"(.*)", "1\n2\n", "", 2},
      {"time=(\\d*)", "time=\n", "", "'', which is no number"},
  };
  for (const auto& c : cases) check(read(c.metric, c.output, c.errors), c.expected, c.metric + " in " + c.output);
}

// std::regex overflows the stack here, and takes forever there.
TEST(Metric, LongLinesAndCostlyPatternsEnd) {
  const auto started = std::chrono::steady_clock::now();
  const std::string longest(200'000, 'x');
  check(read("(?:.|x)*value=([0-9]+)", longest + "value=3"), 3.0, "a long line");
  const Outcome o = read("((?:a+)+)[bc]", std::string(5000, 'a'));
  EXPECT_FALSE(o.value);
  EXPECT_THAT(o.message, HasSubstr("limit exceeded"));
  EXPECT_LE(std::chrono::steady_clock::now() - started, std::chrono::seconds(60));
}

TEST(Metric, LastJsonObjectThatHasTheKey) {
  const struct {
    std::string metric, output;
    Expected expected;
  } cases[] = {
      {"json:acc", "{\"acc\": 0.5}\n{\"acc\": 0.75}\n{\"other\": 1}\n", 0.75},
      {"json:acc", "done: {\"acc\": 3} ok", 3},
      {"json:acc", "{\n  \"acc\": 2\n}\n", 2},
      {"json:test.acc", "{\"test\": {\"acc\": 4}}", 4},
      {"json:test.acc", "{\"test.acc\": 5, \"test\": {\"acc\": 4}}", 5},
      {"json:a.b.c", "{\"a.b\": {\"c\": 6}}", 6},
      {"json:acc", "{\"acc\": NaN, \"note\": \"NaN\"}", "acc is null, NaN or infinite"},
      {"json:acc", "{\"acc\": 1}\n{\"acc\": -Infinity}", "acc is null, NaN or infinite"},
      {"json:acc", "{\"acc\": 1, \"x\": NaN}", 1},
      {"json:acc", "{\"acc\": [1, 2]}", "acc holds several values"},
      {"json:acc", "{\"acc\": \"0.5\"}", "acc is \"0.5\", which is no number"},
      {"json:acc", "{\"acc\": true}", "acc is true, which is no number"},
      {"json:acc", "{\"loss\": 1}", "no JSON object that it printed has \"acc\""},
      {"json:acc", "", "it printed nothing on its standard output"},
      {"json:acc", "{\"acc\": 1", "no JSON object that it printed has \"acc\""},
  };
  for (const auto& c : cases) check(read(c.metric, c.output), c.expected, c.metric + " in " + c.output);
  EXPECT_FALSE(read("json:acc", std::string(100000, '{') + "\"acc\": 1" + std::string(100000, '}')).value);
  std::string cut_off;
  for (int i = 0; i < 65; ++i) cut_off += "{" + std::string(16 << 10, 'x') + "\n";
  EXPECT_EQ(read("json:acc", cut_off + "{\"acc\": 0.5}\n").value, 0.5);
}

class MetricFile : public testing::Test {
 protected:
  Outcome read(const std::string& metric, const std::string& content) const {
    std::ofstream(folder_ / "out.json") << content;
    return Metric(metric, Direction::maximize).read({"", false, "", folder_.path()}, {});
  }
  const TemporaryFolder folder_;
};

TEST_F(MetricFile, JsonThatTheProgramWrote) {
  const std::pair<std::string, Expected> cases[] = {
      {"{\"acc\": 0.5}", 0.5},
      {"{\"acc\": 0.5}\n{\"acc\": 0.75}\n", 0.75},
      {"{\"acc\": NaN}", "acc is null"},
      {"", "out.json holds no JSON object"},
      {"{\"acc\": 0.5", "out.json holds no JSON object"},
      {"{\"loss\": 0.5}", "out.json has no \"acc\""},
  };
  for (const auto& [content, expected] : cases) check(read("file:{folder}/out.json:acc", content), expected, content);
}

TEST_F(MetricFile, AFileThatIsMissingOrStale) {
  const Metric metric("file:{folder}/out.json:acc", Direction::maximize);
  const Traces traces{"", false, "", folder_.path()};
  check(metric.read(traces, metric.stamp(traces)), "it did not write", "missing");
  std::ofstream(folder_ / "out.json") << "{\"acc\": 1}";
  auto before = metric.stamp(traces);
  ASSERT_TRUE(before);
  check(metric.read(traces, before), "which is an earlier one's", "stale");
  for (int i = 0; i < 20; ++i) {  // at once after it, of the same size
    before = metric.stamp(traces);
    std::ofstream(folder_ / "out.json") << "{\"acc\": 2}";
    check(metric.read(traces, before), 2.0, "rewritten");
  }
  std::filesystem::create_directory(folder_ / "dir");
  EXPECT_FALSE(Metric("file:{folder}/dir:acc", Direction::maximize).read(traces, {}).value);
}

/// As get_t4_results() of kernel_tuner 1.5.0 writes it (file_utils.py).
std::string t4(const std::string& invalidity, const std::string& measurements) {
  return R"({"results": [{"timestamp": "2026-01-01 00:00:00+00:00", "configuration": {"block_size_x": 128},
    "times": {"compilation": 413.1, "benchmark": 1.2, "framework": 1.6, "search_algorithm": 0.1, "validation": 0,
    "runtimes": [0.06, 0.07]}, "invalidity": ")" +
         invalidity + R"(", "correctness": 1, "measurements": [)" + measurements +
         R"(], "objectives": ["GFLOP/s"]}], "schema_version": "1.0.0", "metadata": {"timeunit": "milliseconds"}})";
}

TEST_F(MetricFile, T4Results) {
  const std::string both =
      R"({"name": "time", "value": 0.065, "unit": "ms"}, {"name": "GFLOP/s", "value": 154.5, "unit": ""})";
  const struct {
    std::string metric, content;
    Expected expected;
    FailReason reason = FailReason::wrong_result;
  } cases[] = {
      {"t4:{folder}/out.json", t4("correct", both), 154.5, FailReason::none},
      {"t4:{folder}/out.json:time", t4("correct", both), 0.065, FailReason::none},
      {"t4:{folder}/out.json:power", t4("correct", both), "no measurement \"power\""},
      {"t4:{folder}/out.json:time", t4("timeout", both), "invalid: timeout", FailReason::timed_out},
      {"t4:{folder}/out.json:time", t4("compile", both), "invalid: compile", FailReason::does_not_compile},
      {"t4:{folder}/out.json:time", t4("constraints", both), "invalid: constraints", FailReason::crashed},
      {"t4:{folder}/out.json:time", t4("correctness", both), "invalid: correctness"},
      {"t4:{folder}/out.json:time", t4("correct", R"({"name": "time", "value": [1, 2]})"), "several values"},
      {"t4:{folder}/out.json:time", t4("correct", R"({"name": "time", "value": "1"})"), "which is no number"},
      {"t4:{folder}/out.json", R"({"results": []})", "holds 0 results; one is needed"},
      {"t4:{folder}/out.json", R"({"results": [{}, {}]})", "holds 2 results; one is needed"},
      {"t4:{folder}/out.json", R"({"results": [{}]})", "no measurement \"time\""},
      {"t4:{folder}/out.json", R"({"time": 1})", "is no T4 file"},
  };
  for (const auto& c : cases) {
    const Outcome o = read(c.metric, c.content);
    check(o, c.expected, c.content);
    EXPECT_EQ(o.reason, c.reason) << c.content;
  }
}

TEST(Metric, NamesAndDirections) {
  const struct {
    std::string text, name;
    Direction direction;
  } cases[] = {
      {"accuracy=([0-9.]+)", "accuracy", Direction::maximize},
      {"^loss (.*)", "value", Direction::maximize},
      {"json:test.acc", "test.acc", Direction::maximize},
      {"file:a:b.json:acc", "acc", Direction::maximize},
      {"t4:out.json", "objective", Direction::maximize},
      {"t4:out.json:power", "power", Direction::maximize},
      {"peak memory:minimize=json:bytes", "peak memory", Direction::minimize},
      {"loss:minimize=loss=(.*)", "loss", Direction::minimize},
      {"x=(a:minimize=)", "x", Direction::maximize},
  };
  for (const auto& c : cases) {
    const Metric metric(c.text, Direction::maximize);
    EXPECT_EQ(metric.goal().value_name, c.name) << c.text;
    EXPECT_EQ(metric.goal().direction, c.direction) << c.text;
  }
  EXPECT_TRUE(Metric("file:out.json:a", Direction::maximize).shares_file());
  EXPECT_FALSE(Metric("file:{folder}/out.json:a", Direction::maximize).shares_file());
  EXPECT_FALSE(Metric("json:a", Direction::maximize).shares_file());
}

TEST(Metric, RefusesWhatIsNone) {
  const std::pair<std::string, std::string> cases[] = {
      {"accuracy=([0-9.+", "missing terminating ] for character class at position 17"},
      {"accuracy=(", "missing closing parenthesis"},
      {"a(*)", "position 3, before '*)'"},
      {"accuracy=.*", "has 0 groups; put one pair of parentheses around the number"},
      {"(a)(b)", "has 2 groups"},
      {"json:", "lacks its key"},
      {"file:out.json", "is not file:PATH:KEY"},
      {"file::acc", "is not file:PATH:KEY"},
      {"t4:", "is not t4:PATH"},
      {"", "is empty"},
      {"name:minimize=", "is empty"},
  };
  for (const auto& [text, expected] : cases) {
    try {
      Metric(text, Direction::maximize);
      ADD_FAILURE() << "accepted: " << text;
    } catch (const UsageError& e) {
      EXPECT_THAT(e.what(), HasSubstr(expected)) << text;
    }
  }
  EXPECT_THROW(Metric("json:acc", {}), UsageError) << "no direction";
  EXPECT_NO_THROW(Metric("acc:maximize=json:acc", {}));
}

}  // namespace
}  // namespace haqa
