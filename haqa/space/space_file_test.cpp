#include "haqa/space/space_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"

namespace haqa {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class SpaceFileTest : public testing::Test {
 protected:
  SearchSpace read(const std::string& content, const std::string& name = "space.yaml") {
    std::ofstream(folder_ / name) << content;
    return read_space(folder_ / name);
  }
  std::string fault(const std::string& content) {
    try {
      read(content);
    } catch (const UsageError& e) {
      return e.what();
    }
    return "none";
  }

  const TemporaryFolder folder_;
};

TEST_F(SpaceFileTest, ReadsEveryKey) {
  const SearchSpace space = read(R"(
optimizer: {type: categorical, choices: [sgd, adamw, "8"], default: adamw}
learning_rate: {type: float, low: 1e-5, high: 0.1, log: true, default: 1e-3, description: "Step length."}
momentum: {type: float, low: 0, high: 0.9, step: 0.3, when: optimizer == 'sgd'}
batch: {type: int, low: 8, high: 64, step: 8, default: 16, unit: samples}
bias: {type: bool, default: true}
constraints:
  - batch * 2 <= 96
  - momentum < 0.8
)");
  EXPECT_EQ(space.defaults().dump(), R"({"optimizer":"adamw","learning_rate":0.001,"batch":16,"bias":true})");
  EXPECT_EQ(space.describe(),
            "'optimizer':  Type: Categorical, Choices: [\"sgd\",\"adamw\",\"8\"], Default: \"adamw\".\n"
            "'learning_rate': Step length. Type: UniformFloat, Range: [1e-05, 0.1], Default: 0.001, Log scale.\n"
            "'momentum':  Type: UniformFloat, Range: [0, 0.9], Step: 0.3, Default: 0.6, only where optimizer == "
            "'sgd'.\n"
            "'batch':  Type: UniformInteger, Range: [8, 64], Step: 8, Unit: samples, Default: 16.\n"
            "'bias':  Type: Boolean, Default: true.\n"
            "It must hold that batch * 2 <= 96.\n"
            "It must hold that momentum < 0.8.\n");
}

TEST_F(SpaceFileTest, WritesWhatItReads) {
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(HAQA_SOURCE_DIR) / "data/spaces")) {
    const SearchSpace space = read_space(entry.path());
    const Json written = to_json(space);
    const SearchSpace again = read(written.dump(1), "again.json");
    EXPECT_EQ(again.describe(), space.describe()) << entry.path();
    EXPECT_EQ(to_json(again), written) << entry.path();
    EXPECT_EQ(again.schema(), space.schema()) << entry.path();
  }
}

// The paper's numbers, by hand.
TEST_F(SpaceFileTest, ThePapersSpacesShip) {
  const std::filesystem::path folder = std::filesystem::path(HAQA_SOURCE_DIR) / "data/spaces";
  EXPECT_EQ(read_space(folder / "resnet.yaml").defaults().dump(),
            R"({"learning_rate":0.01,"batch_size":128,"weight_decay":0.0005,"momentum":0.9,"num_epochs":12})");
  const SearchSpace llama = read_space(folder / "llama.yaml");
  EXPECT_EQ(llama.defaults().dump(),
            R"({"learning_rate":0.0004,"per_device_train_batch_size":8,"gradient_accumulation_steps":8,)"
            R"("weight_decay":0.01,"max_steps":400,"max_grad_norm":0.3,"lora_r":16,"lora_alpha":8,)"
            R"("lora_dropout":0.05,"warmup_ratio":0.03})");
  EXPECT_EQ(llama.problem({{"learning_rate", 1e-3},
                           {"per_device_train_batch_size", 16},
                           {"gradient_accumulation_steps", 32},
                           {"weight_decay", 0.1},
                           {"max_steps", 1000},
                           {"max_grad_norm", 1},
                           {"lora_r", 64},
                           {"lora_alpha", 32},
                           {"lora_dropout", 0.3},
                           {"warmup_ratio", 0.08}}),
            std::nullopt);
  EXPECT_EQ(read_space(folder / "llama-appendix-d.yaml").parameters()[0].high, 5e-4);
  EXPECT_EQ(read_space(folder / "resnet-appendix-d.yaml").parameters()[4].high, 24);
  EXPECT_EQ(read_space(folder / "kernel.yaml").parameters().size(), 8u);
  EXPECT_EQ(read_space(folder / "deployment.yaml").parameters().size(), 10u);
}

TEST_F(SpaceFileTest, FindsDefaultsWhereNoneAreGiven) {
  const SearchSpace space = read(
      "lr: {type: float, low: 1e-4, high: 1, log: true}\nn: {type: int, low: 1, high: 10}\n"
      "s: {type: int, low: 0, high: 100, step: 30}\nc: {type: categorical, choices: [b, a]}\nf: {type: bool}\n");
  EXPECT_EQ(space.defaults().dump(), R"({"lr":0.01,"n":6,"s":60,"c":"b","f":false})");
  // The middles 50 and 50 break it; what is given stays.
  const SearchSpace bound = read(
      "a: {type: int, low: 1, high: 99}\nb: {type: int, low: 1, high: 99}\nc: {type: int, low: 1, high: 9, default: "
      "7}\n"
      "constraints: [a * b <= 64, a * c >= 14]\n");
  const Configuration d = bound.defaults();
  EXPECT_EQ(d["c"], 7);
  EXPECT_LE(d["a"].get<int>() * d["b"].get<int>(), 64);
}

// What a default that is given makes active is there, whatever the rest was drawn with.
TEST_F(SpaceFileTest, FindsDefaultsOfWhatOthersMakeActive) {
  const SearchSpace space = read(
      "optimizer: {type: categorical, choices: [sgd, adamw], default: adamw}\n"
      "beta: {type: float, low: 0, high: 1, when: optimizer == 'adamw'}\n"
      "constraints: [beta <= 0.2]\n");
  EXPECT_EQ(space.defaults()["optimizer"], "adamw");
  EXPECT_LE(space.defaults()["beta"].get<double>(), 0.2);
}

TEST_F(SpaceFileTest, ReadsKernelTunersFormat) {
  const SearchSpace space = read(R"json({
    "General": {"FormatVersion": 1},
    "ConfigurationSpace": {
      "TuningParameters": [
        {"Name": "block_size_x", "Type": "int", "Values": "[16, 32, 64, 128]", "Default": 64},
        {"Name": "tile", "Type": "uint", "Values": "list(range(1, 9))"},
        {"Name": "down", "Type": "int", "Values": "range(6, 0, -2)"},
        {"Name": "factor", "Type": "float", "Values": "[0.5, 1.0, 2]"},
        {"Name": "vector", "Type": "string", "Values": "['float', 'float4']"},
        {"Name": "unroll", "Type": "bool", "Values": "[0, 1]"}],
      "Conditions": [{"Expression": "block_size_x * tile <= 256 and tile > 1", "Parameters": ["block_size_x", "tile"]}]
    },
    "KernelSpecification": {"KernelName": "x"}})json",
                                 "t1.json");
  EXPECT_EQ(space.parameters().size(), 6u);
  EXPECT_THAT(space.parameters()[1].choices, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_THAT(space.parameters()[2].choices, ElementsAre(6, 4, 2));
  EXPECT_THAT(space.parameters()[4].choices, ElementsAre("float", "float4"));
  EXPECT_THAT(space.parameters()[5].choices, ElementsAre(false, true));
  EXPECT_EQ(space.defaults()["block_size_x"], 64);
  EXPECT_GT(space.defaults()["tile"], 1) << "the first value, 1, breaks the condition";
  EXPECT_EQ(space.problem(space.defaults()), std::nullopt);
}

TEST_F(SpaceFileTest, FaultsNameTheirLineAndWhatIsAllowed) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "is empty; see data/spaces/llama.yaml"},
      {"constraints: [a < 1]\n", "there is no parameter"},
      {"a: 3\n", ":1: a: must be a mapping"},
      {"a: {low: 1, high: 2}\n", "a.type: is missing: one of float, int, categorical, bool"},
      {"\na: {type: double, low: 1, high: 2}\n", ":2: a.type: \"double\" is not allowed"},
      {"a: {type: float, high: 2}\n", "a.low: is missing"},
      {"a: {type: float, low: x, high: 2}\n", ":1: a.low: \"x\" is not a number"},
      {"\n\na: {type: float, low: 3, high: 2}\n", ":3: a: low is above high"},
      {"a: {type: float, low: 0, high: 2, log: true}\n", ":1: a: a logarithmic range starts above 0"},
      {"a: {type: int, low: 0.5, high: 2}\n", "a: the bounds and the step of a whole number are whole"},
      {"a: {type: int, low: 1, high: 8, log: true, step: 2}\n", "a: a logarithmic range has no step"},
      {"a: {type: int, low: 1, high: 8, step: -2}\n", "a.step: \"-2\" is not a number from 0"},
      {"a: {type: int, low: 1, high: 8, default: 9}\n",
       "a: the defaults are not valid: \"a\" is 9; it must be a whole number from 1 to 8"},
      {"a: {type: int, low: 1, high: 8, step: 3, default: 3}\n", "from 1 to 8 in steps of 3"},
      {"a: {type: categorical}\n", "a.choices: must be a list of values"},
      {"a: {type: categorical, choices: []}\n", "a.choices: must be a list of values"},
      {"a: {type: categorical, choices: [x, y, x]}\n", "a: the choice \"x\" stands there twice"},
      {"a: {type: categorical, choices: [x], default: z}\n", "it must be one of [\"x\"]"},
      {"a: {type: bool, low: 1}\n", ":1: unknown key \"low\" in a"},
      {"a: {type: bool}\na: {type: bool}\n", ":2: the key \"a\" stands there twice"},
      {"a: {type: bool, when: b}\nb: {type: bool}\n", "a: its condition 'b' names b, which is no parameter before it"},
      {"a: {type: bool, when: a <}\n", ":1: a.when: 'a <' makes no sense"},
      {"a: {type: bool}\nconstraints: [c == 1]\n", "the constraint 'c == 1' names c, which is no parameter"},
      {"a: {type: bool}\nconstraints: [a ==]\n", ":2: constraints: 'a ==' makes no sense"},
      {"a: {type: bool}\nconstraints: [3]\n", ":2: constraints: must be a list of expressions"},
      {"a: {type: bool, default: false}\nconstraints: [a]\n", "the defaults are not valid: it must hold that a"},
      {"a: {type: int, low: 1, high: 9}\nconstraints: [a < 1]\n",
       "no configuration was found that keeps all constraints"},
      {"ConfigurationSpace: {}\n", "is no T1 file"},
      {"ConfigurationSpace: {TuningParameters: [{Name: a, Type: int, Values: [16, 32]}]}\n",
       "a: Values must be there, as a text"},
      {"ConfigurationSpace: {TuningParameters: [{Name: a, Type: int}]}\n", "a: Values must be there, as a text"},
      {"a: {type: int, low: 1, high: 10, step: 100}\n", "a: the step is larger than the range"},
      {"ConfigurationSpace: {TuningParameters: [{Name: a, Type: int, Values: '[2**i for i in range(5)]'}]}\n",
       "a: its Values: '[2**i for i in range(5)]' is a comprehension, which only Python can work out; write its "
       "values"},
      {"ConfigurationSpace: {TuningParameters: [{Name: a, Type: int, Values: '[1,2'}]}\n",
       "space.yaml: a: its Values: '[1,2' is not valid YAML"},
      {"a: {type: categorical, choices: [{b: 1, b: 2}]}\n", "space.yaml: line 1: the key b stands there twice"},
      {"ConfigurationSpace: {TuningParameters: [{Name: a, Type: int, Values: 'sorted(x)'}]}\n",
       "'sorted(x)' is no list of values and no range()"},
      {"ConfigurationSpace: {TuningParameters: [{Name: a, Type: int, Values: '[a, b]'}]}\n", "a: \"a\" is no int"},
      {"ConfigurationSpace: {TuningParameters: [{Name: a, Type: int, Values: 'range(999999)'}]}\n",
       "more than 100000 values"},
  };
  for (const auto& [content, expected] : cases) EXPECT_THAT(fault(content), HasSubstr(expected)) << content;
}

TEST_F(SpaceFileTest, ReadsTexts) {
  const SearchSpace space = read(
      "prompt: {type: text, longest: 400, default: 'Answer:', description: D.}\n"
      "code: {type: text, longest: 9, when: prompt != ''}\n");
  EXPECT_EQ(space.defaults().dump(), R"({"prompt":"Answer:","code":""})");
  EXPECT_EQ(to_json(space).dump(), R"({"prompt":{"type":"text","longest":400,"default":"Answer:","description":"D."},)"
                                   R"("code":{"type":"text","longest":9,"default":"","when":"prompt != ''"}})");
  EXPECT_EQ(to_json(read(to_json(space).dump(), "again.json")), to_json(space));
  EXPECT_THAT(fault("p: {type: text}\n"), HasSubstr("longest"));
  EXPECT_THAT(fault("p: {type: text, longest: 50001}\n"), HasSubstr("longest"));
  EXPECT_THAT(fault("p: {type: text, longest: 3, default: long}\n"), HasSubstr("at most 3 bytes"));
  EXPECT_THAT(fault("p: {type: int, low: 0, high: 1, longest: 3}\n"), HasSubstr("longest"));
}

}  // namespace
}  // namespace haqa
