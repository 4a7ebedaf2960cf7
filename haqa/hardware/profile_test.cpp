#include "haqa/hardware/profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"

namespace haqa {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Not;

/// Sets an environment variable for one test.
class Environment {
 public:
  Environment(const char* name, const std::string& value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    setenv(name, value.c_str(), 1);
  }
  ~Environment() { old_ ? setenv(name_, old_->c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

Json smallest() {
  return Json::parse(R"({"id": "x", "name": "X", "vendor": "V", "architecture": "A", "engine": "gpu",
                         "memory_bytes": 1000, "bandwidth": [{"threads": 0, "bytes_per_s": 5e9}],
                         "peak": {"fp16": 1e12}})");
}

HardwareProfile full() {
  HardwareProfile p;
  p.id = "this-machine";
  p.here = true;
  p.name = "Name \"quoted\"";
  p.vendor = "Vendor";
  p.architecture = "x86_64";
  p.platform = "Debian";
  p.engine = "gpu";
  p.cores = 3;
  p.threads = 6;
  p.numa_nodes = 2;
  p.caches = {{1, 32768, 3}, {3, uint64_t{1} << 40, 1}};
  p.instruction_sets = {"avx2", "fma"};
  p.memory_bytes = (uint64_t{1} << 53) + 1;  // not a double
  p.free_bytes = 7;
  p.bandwidth = {{1, 1.5e9}, {6, 3.25e9}};
  p.peak = {1e12, 2e12, 3e12, 4e12};
  p.matrix_units = {"unit"};
  p.gpus = {{"G", "NV", "cuda", 84, 48'000'000'000, 1, "8.6"}};
  p.weight_rates = {{"Q4_0", 2.5e9}};
  p.notes = {"a note"};
  p.sources = {{"cores", "somewhere"}};
  return p;
}

TEST(Profile, RoundTripKeepsEveryField) {
  const Json written = to_json(full());
  const HardwareProfile read = profile_from_json(Json::parse(written.dump()));
  EXPECT_EQ(to_json(read), written);
  EXPECT_EQ(read.memory_bytes, (uint64_t{1} << 53) + 1);
  EXPECT_TRUE(read.here);
  ASSERT_EQ(read.caches.size(), 2u);
  EXPECT_EQ(read.caches[1].bytes, uint64_t{1} << 40);
  ASSERT_EQ(read.gpus.size(), 1u);
  EXPECT_EQ(read.gpus[0].compute_units, 84);
  EXPECT_EQ(read.bandwidth[1].bytes_per_s, 3.25e9);
  EXPECT_EQ(read.peak.int4, 4e12);
}

TEST(Profile, KeysAreTheDocumentedOnes) {
  std::vector<std::string> keys;
  const Json json = to_json(full());
  for (const auto& item : json.items()) keys.push_back(item.key());
  EXPECT_THAT(keys, ElementsAre("id", "here", "name", "vendor", "architecture", "platform", "engine", "cores",
                                "threads", "numa_nodes", "caches", "instruction_sets", "memory_bytes", "free_bytes",
                                "bandwidth", "peak", "matrix_units", "gpus", "weight_rates", "notes", "sources"));
}

TEST(Profile, HasAndBestBandwidth) {
  EXPECT_TRUE(full().has("fma"));
  EXPECT_FALSE(full().has("fm"));
  EXPECT_FALSE(HardwareProfile().has(""));
  EXPECT_EQ(full().best_bandwidth(), 3.25e9);
  EXPECT_EQ(HardwareProfile().best_bandwidth(), 0);
}

TEST(Profile, MissingKeysTakeDefaults) {
  const HardwareProfile p = profile_from_json(smallest());
  EXPECT_FALSE(p.here);
  EXPECT_EQ(p.numa_nodes, 1);
  EXPECT_EQ(p.peak.fp16, 1e12);
  EXPECT_EQ(p.peak.fp32, 0);
}

struct BadCase {
  const char* patch;  ///< merged into the smallest profile; null removes the key
  const char* key;    ///< that the message must name
};

TEST(Profile, BadInputNamesTheKey) {
  const BadCase cases[] = {
      {R"({"id": null})", "id is missing"},
      {R"({"engine": null})", "engine is missing"},
      {R"({"memory_bytes": null})", "memory_bytes is missing"},
      {R"({"bandwidth": null})", "bandwidth is missing"},
      {R"({"peak": null})", "peak is missing"},
      {R"({"name": 5})", "name must be a text"},
      {R"({"here": 1})", "here must be true or false"},
      {R"({"engine": "npu"})", "engine must be"},
      {R"({"memory_bytes": -1})", "memory_bytes must not be negative"},
      {R"({"memory_bytes": 1.5})", "memory_bytes must be a whole number"},
      {R"({"memory_bytes": 1e300})", "memory_bytes is too large"},
      {R"({"memory_bytes": 9223372036854775808})", "memory_bytes is too large"},
      {R"({"memory_bytes": "48GB"})", "memory_bytes must be a number"},
      {R"({"memory_bytes": true})", "memory_bytes must be a number"},
      {R"({"cores": 99999999999})", "cores is too large"},
      {R"({"threads": [4]})", "threads must be a number"},
      {R"({"bandwidth": 5e9})", "bandwidth must be a list"},
      {R"({"bandwidth": [5e9]})", "bandwidth[0] must be an object"},
      {R"({"bandwidth": [{"threads": 1, "bytes_per_s": 1}, {"threads": 1}]})", "bandwidth[1].bytes_per_s is missing"},
      {R"({"bandwidth": [{"threads": 1, "bytes_per_s": -5}]})", "bandwidth[0].bytes_per_s must not be negative"},
      {R"({"peak": []})", "peak must be an object"},
      {R"({"peak": {"fp16": "309T"}})", "peak.fp16 must be a number"},
      {R"({"peak": {"fp17": 1}})", "peak.fp17 is not a key"},
      {R"({"memory_byte": 1})", "memory_byte is not a key"},
      {R"({"caches": [{"level": 1, "bytes": 5}]})", "caches[0].count is missing"},
      {R"({"caches": [{"level": 1, "bytes": 5, "count": 1, "way": 8}]})", "caches[0].way is not a key"},
      {R"({"gpus": [{"vendor": "V"}]})", "gpus[0].name is missing"},
      {R"({"instruction_sets": ["avx2", 5]})", "instruction_sets must hold texts"},
      {R"({"notes": "one"})", "notes must be a list"},
      {R"({"weight_rates": {"Q4_0": 0}})", "weight_rates.Q4_0 must be above 0"},
      {R"({"weight_rates": {"Q4_0": -1}})", "weight_rates.Q4_0 must not be negative"},
      {R"({"weight_rates": [1]})", "weight_rates must be an object"},
      {R"({"sources": {"cores": ""}})", "sources.cores must be a text"},
      {R"({"sources": "data sheet"})", "sources must be an object"},
  };
  for (const BadCase& c : cases) {
    Json json = smallest();
    json.merge_patch(Json::parse(c.patch));
    try {
      profile_from_json(json);
      ADD_FAILURE() << "accepted " << c.patch;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr(c.key)) << c.patch;
    }
  }
  for (const char* json : {"null", "[]", "5", "\"text\""}) EXPECT_THROW(profile_from_json(Json::parse(json)), Error);
}

TEST(Devices, NamesAreSortedAndHoldThePapersTwo) {
  const std::vector<std::string> names = device_names();
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_THAT(names,
              IsSupersetOf({"rtx-a6000", "adreno-740", "h100", "h200", "rtx-4090", "apple-m2-max", "raspberry-pi-5"}));
}

TEST(Devices, UnknownNamesListTheKnown) {
  for (const char* name : {"rtx-9999", "", ".", "../devices/h100", "h100.json", "H100"}) {
    try {
      load_device(name);
      ADD_FAILURE() << "accepted \"" << name << "\"";
    } catch (const UsageError& e) {
      EXPECT_THAT(e.what(), HasSubstr("adreno-740, apple-m2-max")) << name;
    }
  }
}

/// Each figure other than 0 or empty needs its source, and each source a figure.
TEST(Devices, EveryFigureHasItsSource) {
  ASSERT_FALSE(device_names().empty());
  for (const std::string& name : device_names()) {
    const HardwareProfile p = load_device(name);
    const auto check = [&](const char* key, bool given) {
      EXPECT_EQ(p.sources.contains(key), given) << name << ": " << key;
    };
    check("cores", p.cores != 0);
    check("threads", p.threads != 0);
    check("caches", !p.caches.empty());
    check("instruction_sets", !p.instruction_sets.empty());
    check("memory_bytes", p.memory_bytes != 0);
    check("bandwidth", p.best_bandwidth() > 0);
    check("peak.fp32", p.peak.fp32 > 0);
    check("peak.fp16", p.peak.fp16 > 0);
    check("peak.int8", p.peak.int8 > 0);
    check("peak.int4", p.peak.int4 > 0);
    check("matrix_units", !p.matrix_units.empty());
    check("gpus", !p.gpus.empty());
    check("weight_rates", !p.weight_rates.empty());
    check("notes", !p.notes.empty());
    for (const auto& source : p.sources.items())
      EXPECT_THAT(source.value().get<std::string>(), Not(HasSubstr("http"))) << name;
  }
}

TEST(Devices, AreComplete) {
  for (const std::string& name : device_names()) {
    const HardwareProfile p = load_device(name);
    EXPECT_FALSE(p.here) << name;
    EXPECT_GT(p.memory_bytes, 0u) << name;
    EXPECT_GT(p.best_bandwidth(), 0) << name;
    EXPECT_FALSE(p.notes.empty()) << name << ": the prompt needs to know what is native";
    if (p.engine == "gpu") {
      ASSERT_EQ(p.bandwidth.size(), 1u) << name;
      EXPECT_EQ(p.bandwidth[0].threads, 0) << name;
    } else {
      EXPECT_GT(p.threads, 0) << name;
    }
    EXPECT_EQ(read_file(data_folder() / "devices" / (name + ".json")).back(), '\n') << name;
  }
}

TEST(Devices, PaperFigures) {
  const HardwareProfile a6000 = load_device("rtx-a6000");
  EXPECT_EQ(a6000.peak.fp16, 309e12);
  EXPECT_EQ(a6000.peak.int8, 618e12);
  EXPECT_EQ(a6000.peak.int4, 1236e12);
  EXPECT_EQ(a6000.best_bandwidth(), 768e9);
  EXPECT_EQ(a6000.memory_bytes, 48'000'000'000u);
  EXPECT_EQ(load_device("adreno-740").peak.fp16, 8e12);
  EXPECT_EQ(load_device("adreno-740").memory_bytes, 16'000'000'000u);
}

/// The other way round than the file was made: from the rates back to the paper's tokens per second (table 4).
TEST(Devices, AdrenoRatesGiveThePapersTokenRates) {
  const HardwareProfile phone = load_device("adreno-740");
  struct Case {
    const char* type;
    double bytes_per_weight, tokens_per_s;
  };
  for (const Case& c : {Case{"F16", 2, 5.11}, Case{"Q8_0", 34.0 / 32, 5.25}, Case{"Q4_0", 18.0 / 32, 4.95}}) {
    const double parameters = 3'426'473'600.0;
    const double seconds = parameters * c.bytes_per_weight / phone.best_bandwidth() +
                           parameters / phone.weight_rates.at(c.type).get<double>();
    EXPECT_NEAR(1 / seconds, c.tokens_per_s, 1e-6) << c.type;
  }
}

class DeviceFolder : public ::testing::Test {
 protected:
  DeviceFolder() { make_folder(folder_ / "devices"); }
  void write(const std::string& name, const std::string& text) { write_file(folder_ / "devices" / name, text); }

  const TemporaryFolder temporary_;
  const std::filesystem::path folder_ = temporary_.path();
  const Environment data_{"HAQA_DATA", folder_.string()};
};

TEST_F(DeviceFolder, BrokenFilesAreNamed) {
  Json wrong_id = smallest();
  write("y.json", wrong_id.dump());
  write("broken.json", "{\"id\": ");
  write("negative.json", R"({"id": "negative", "name": "", "vendor": "", "architecture": "", "engine": "cpu",
                             "memory_bytes": -5, "bandwidth": [], "peak": {}})");
  write("notes.txt", "not a device");
  EXPECT_THAT(device_names(), ElementsAre("broken", "negative", "y"));
  for (const char* name : {"broken", "negative", "y"}) {
    try {
      load_device(name);
      ADD_FAILURE() << "accepted " << name;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr(std::string(name) + ".json: ")) << name;
    }
  }
}

TEST_F(DeviceFolder, EmptyFolderSaysSo) {
  EXPECT_TRUE(device_names().empty());
  try {
    load_device("h100");
    ADD_FAILURE() << "accepted";
  } catch (const UsageError& e) {
    EXPECT_THAT(e.what(), HasSubstr("HAQA_DATA"));
  }
}

}  // namespace
}  // namespace haqa
