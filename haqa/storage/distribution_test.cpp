#include "haqa/storage/distribution.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "haqa/base/error.h"
#include "haqa/storage/storage_test_support.h"

namespace haqa {
namespace {

/// The JSON is what Optuna 5.0.0's distribution_to_json() gave for suggest_float, suggest_int and suggest_categorical.
TEST(Distribution, IsWrittenAsOptunaDoes) {
  struct Case {
    Parameter parameter;
    const char* json;
  };
  const Case cases[] = {
      {real_parameter("p", 1e-5, 1, 0.1, "", true),
       R"({"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 1.0, "log": true}})"},
      {stepped(real_parameter("p", 0, 1, 0.5, ""), 0.25),
       R"({"name": "FloatDistribution", "attributes": {"step": 0.25, "low": 0.0, "high": 1.0, "log": false}})"},
      {stepped(real_parameter("p", 0.1, 0.75, 0.1, ""), 0.3),
       R"({"name": "FloatDistribution", "attributes": {"step": 0.3, "low": 0.1, "high": 0.7, "log": false}})"},
      {stepped(real_parameter("p", 0.1, 1, 0.1, ""), 0.1),
       R"({"name": "FloatDistribution", "attributes": {"step": 0.1, "low": 0.1, "high": 1.0, "log": false}})"},
      {real_parameter("p", -1e300, 123456789012, 0, ""),
       R"({"name": "FloatDistribution", "attributes": {"step": null, "low": -1e+300, "high": 123456789012.0, "log": false}})"},
      {integer_parameter("p", 1, 1024, 1, "", true),
       R"({"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 1, "high": 1024}})"},
      {stepped(integer_parameter("p", -1, 9, 1, ""), 2),
       R"({"name": "IntDistribution", "attributes": {"log": false, "step": 2, "low": -1, "high": 9}})"},
      {stepped(integer_parameter("p", 8, 100, 8, ""), 32),
       R"({"name": "IntDistribution", "attributes": {"log": false, "step": 32, "low": 8, "high": 72}})"},
      {boolean_parameter("p", true, ""),
       R"({"name": "CategoricalDistribution", "attributes": {"choices": [false, true]}})"},
      {categorical_parameter("p", {"a\"\n", "\u00e9\U0001F600", nullptr, 3, 2.5, true}, 3, ""),
       R"({"name": "CategoricalDistribution", "attributes": {"choices": ["a\"\n", "\u00e9\ud83d\ude00", null, 3, 2.5, true]}})"},
  };
  for (const Case& c : cases) {
    const Distribution d = distribution_of(c.parameter);
    EXPECT_EQ(to_optuna(d), c.json);
    EXPECT_EQ(to_optuna(distribution_from_optuna(c.json)), c.json);
    EXPECT_EQ(contradiction(distribution_from_optuna(c.json), d), std::nullopt);
    EXPECT_EQ(from_stored(d, to_stored(d, c.parameter.default_value)).dump(), c.parameter.default_value.dump());
  }
}

TEST(Distribution, KeepsChoicesByIndexAndNumbersInTheirType) {
  const Distribution choices = distribution_of(categorical_parameter("p", {16, "auto", nullptr, true}, 16, ""));
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(to_stored(choices, choices.choices[i]), i);
    EXPECT_EQ(from_stored(choices, i).dump(), choices.choices[i].dump());
  }
  EXPECT_THROW(to_stored(choices, "none"), Error);
  for (const double index : {-1.0, 4.0, std::nan("")}) EXPECT_THROW(from_stored(choices, index), Error);
  EXPECT_EQ(from_stored(distribution_of(integer_parameter("p", 0, 9, 1, "")), 7).dump(), "7");
  EXPECT_EQ(from_stored(distribution_of(real_parameter("p", 0, 9, 1, "")), 7).dump(), "7.0");
  EXPECT_EQ(from_stored(distribution_of(integer_parameter("p", 0, 9, 1, "")), 123456).dump(), "123456");  // beyond it
  EXPECT_EQ(to_stored(distribution_of(boolean_parameter("p", true, "")), true), 1);
}

TEST(Distribution, RefusesWhatItDoesNotKnow) {
  for (const char* json :
       {"", "{}", "[]", "{\"name\": 1}", R"({"name": "UniformDistribution", "attributes": {"low": 0, "high": 1}})",
        R"({"name": "FloatDistribution", "attributes": {"low": 0}})",
        R"({"name": "IntDistribution", "attributes": {"log": 1, "step": 1, "low": 0, "high": 1}})",
        R"({"name": "CategoricalDistribution", "attributes": {"choices": 3}})"})
    EXPECT_THROW(distribution_from_optuna(json), Error) << json;
}

TEST(Distribution, PythonsJson) {
  EXPECT_EQ(to_python_json({{"a", {1, 2.5, nullptr}}, {"b", Json::object()}, {"c", Json::array()}}),
            R"({"a": [1, 2.5, null], "b": {}, "c": []})");
  EXPECT_EQ(to_python_json("\xff"), R"("\ufffd")");
  EXPECT_EQ(to_python_json(std::numeric_limits<double>::quiet_NaN()), "null");
}

// Optuna has no free texts: each trial's text is the only choice that it had.
TEST(Distribution, ATextIsAChoiceOfItself) {
  const Distribution text = distribution_of(text_parameter("p", 100, ""));
  const Distribution kept = of_value(text, "a\n\"b\"");
  EXPECT_EQ(to_optuna(kept), R"({"name": "CategoricalDistribution", "attributes": {"choices": ["a\n\"b\""]}})");
  EXPECT_EQ(from_stored(distribution_from_optuna(to_optuna(kept)), to_stored(kept, "a\n\"b\"")), "a\n\"b\"");
  EXPECT_EQ(contradiction(kept, text), std::nullopt);
  EXPECT_EQ(contradiction(distribution_of(categorical_parameter("p", {"x", "y"}, "x", "")), text), std::nullopt);
  EXPECT_EQ(contradiction(distribution_of(categorical_parameter("p", {"x", 3}, "x", "")), text),
            "is a choice there and a text here");
  EXPECT_EQ(contradiction(distribution_of(integer_parameter("p", 0, 9, 1, "")), text),
            "is a whole number there and a text here");
  const Distribution number = distribution_of(integer_parameter("p", 0, 9, 1, ""));
  EXPECT_EQ(to_optuna(of_value(number, 3)), to_optuna(number));
}

}  // namespace
}  // namespace haqa
