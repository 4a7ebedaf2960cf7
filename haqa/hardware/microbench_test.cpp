#include "haqa/hardware/microbench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <numeric>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/hardware/cpu.h"
#include "haqa/hardware/detect.h"
#include "haqa/hardware/peak_kernels.h"

namespace haqa {
namespace {

using ::testing::ElementsAre;
constexpr uint64_t kMiB = uint64_t{1} << 20, kGiB = uint64_t{1} << 30;

bool runs_here(const PeakKernel& kernel) {
  const std::vector<std::string> sets = detect_instruction_sets();
  return kernel.needs.empty() || std::count(sets.begin(), sets.end(), kernel.needs) > 0;
}

/// The accumulators count the multiply-adds themselves: an optimizer that merges or drops some is found out.
TEST(PeakKernels, DoTheWorkTheyClaim) {
  int tested = 0;
  for (const auto& kernels : {fp32_kernels(), fp16_kernels(), int8_kernels()}) {
    for (const PeakKernel& kernel : kernels) {
      if (!runs_here(kernel)) continue;
      for (const int64_t iterations : {int64_t{0}, int64_t{1}, int64_t{7}, int64_t{2000}})
        EXPECT_EQ(kernel.run(iterations), kernel.operations / 2 * static_cast<double>(iterations)) << kernel.needs;
      ++tested;
    }
  }
  EXPECT_GE(tested, 2);
}

TEST(PeakKernels, SomethingRunsEverywhere) {
  EXPECT_EQ(fp32_kernels().back().needs, "");
  EXPECT_EQ(int8_kernels().back().needs, "");
}

TEST(SumWords, AgreesWithAccumulate) {
  alignas(64) uint64_t words[256];
  for (size_t i = 0; i < 256; ++i) words[i] = i * 0x9E3779B97F4A7C15u;  // wraps
  std::vector<std::pair<const char*, SumWords>> ways{{"portable", portable_sum_words()}};
  const std::vector<std::string> sets = detect_instruction_sets();
  if (std::count(sets.begin(), sets.end(), "avx2")) ways.emplace_back("avx2", best_sum_words(true));
  for (const auto& [name, sum] : ways)
    for (const size_t size : {0, 64, 128, 256})
      EXPECT_EQ(sum({words, size}), std::accumulate(words, words + size, uint64_t{0})) << name << " " << size;
}

TEST(Microbench, ThreadCounts) {
  EXPECT_THAT(bandwidth_thread_counts(1, 1), ElementsAre(1));
  EXPECT_THAT(bandwidth_thread_counts(2, 2), ElementsAre(1, 2));
  EXPECT_THAT(bandwidth_thread_counts(6, 12), ElementsAre(1, 2, 4, 6, 8, 12));
  EXPECT_THAT(bandwidth_thread_counts(16, 16), ElementsAre(1, 2, 4, 8, 16));
  EXPECT_THAT(bandwidth_thread_counts(0, 0), ElementsAre(1));
  EXPECT_THAT(bandwidth_thread_counts(9, 3), ElementsAre(1, 2, 3));
}

TEST(Microbench, BufferSize) {
  struct Case {
    std::vector<Cache> caches;
    uint64_t free_bytes, want;
  };
  const Case cases[] = {
      {{{1, 32 << 10, 8}, {3, 32 * kMiB, 1}}, 16 * kGiB, 256 * kMiB},
      {{{3, 32 * kMiB, 8}}, 16 * kGiB, kGiB},       // 8 caches of 32 MiB, four times
      {{{3, 32 * kMiB, 8}}, 3 * kGiB, 768 * kMiB},  // a quarter of what is free
      {{{3, 32 * kMiB, 8}}, kGiB, 0},               // less than twice the caches
      {{{2, 8 * kMiB, 2}, {2, 4 * kMiB, 1}}, 16 * kGiB, 256 * kMiB},
      {{{3, 96 * kMiB, 1}, {3, 32 * kMiB, 1}}, 16 * kGiB, 512 * kMiB},  // dies of unlike size
      {{}, 16 * kGiB, 256 * kMiB},
      {{}, 100 * kMiB, 25 * kMiB},
      {{}, 10 * kMiB, 0},
      {{}, 0, 0},
  };
  for (const Case& c : cases) {
    HardwareProfile p;
    p.caches = c.caches;
    p.free_bytes = c.free_bytes;
    EXPECT_EQ(bandwidth_buffer_bytes(p), c.want) << c.free_bytes;
  }
}

TEST(Microbench, NothingToMeasureIsNotAFigure) {
  EXPECT_TRUE(measure_bandwidth({1}, 0, false, 0.01).empty());
  EXPECT_TRUE(measure_bandwidth({}, 64 * kMiB, false, 0.01).empty());
  EXPECT_TRUE(measure_bandwidth({1}, uint64_t{1} << 60, false, 0.01).empty()) << "no machine has that much";
}

TEST(Microbench, TakesTheTimeItWasGiven) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<Bandwidth> measured = measure_bandwidth({1, 2}, 64 * kMiB, false, 0.3);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  EXPECT_GE(seconds, 0.3);
  EXPECT_LT(seconds, 3);
  ASSERT_EQ(measured.size(), 2u);
  EXPECT_EQ(measured[0].threads, 1);
  EXPECT_EQ(measured[1].threads, 2);
}

class MeasuredOnce : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    profile() = detect_hardware();
    measure_rates(profile());
  }
  static HardwareProfile& profile() {
    static HardwareProfile measured;
    return measured;
  }
};

/// What silicon can do: no core reads less than 50 MB/s or more than 200 GB/s; clocks are below 7 GHz, and at most
/// four 16-byte, two 32-byte or two 64-byte multiply-adds start in each cycle.
TEST_F(MeasuredOnce, WithinPhysicalBounds) {
  const HardwareProfile& p = profile();
  const double cycles = 7e9 * p.threads;
  for (const Bandwidth& b : p.bandwidth) {
    EXPECT_GT(b.bytes_per_s, 50e6) << b.threads;
    EXPECT_LT(b.bytes_per_s, 200e9 * b.threads) << b.threads;
  }
  ASSERT_FALSE(p.bandwidth.empty());
  EXPECT_EQ(p.bandwidth.back().threads, p.threads);
  const double vector_bytes = p.has("avx512") ? 64 : 32;  // 2 x 32 = 4 x 16
  EXPECT_LT(p.peak.fp32, cycles * 2 * 2 * vector_bytes / 4);
  EXPECT_LT(p.peak.int8, cycles * 2 * 2 * vector_bytes * (p.has("i8mm") ? 2 : 1));
  EXPECT_GT(p.peak.fp32, 1e7 * p.threads);
  EXPECT_GT(p.peak.int8, 1e7 * p.threads);
  EXPECT_EQ(p.peak.int4, 0);
  EXPECT_EQ(p.peak.fp16 > 0, p.has("avx512_fp16") || p.has("fp16"));
}

#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/// Vectors are what makes these figures: without them, or with a loop that waits for itself, a core stays below.
TEST_F(MeasuredOnce, VectorUnitsAreBusy) {
  const HardwareProfile& p = profile();
  if (!p.has("fma")) GTEST_SKIP() << "no AVX2";
  // One fused multiply-add of 8 floats in each cycle of a slow 1 GHz, on a core that is shared with one more program.
  EXPECT_GT(p.peak.fp32, 8e9 * p.cores);
  EXPECT_GT(p.peak.int8, 8e9 * p.cores);
  // Where a multiply-add of floats starts, so does at most one maddubs or madd: 32 products against 2 x 8 in a cycle.
  // The measured ratio is 2; 6 or more where the compiler has taken the products out of the loop.
  if (!p.has("avx512_vnni") && !p.has("avx_vnni")) {
    EXPECT_LT(p.peak.int8, 4.5 * p.peak.fp32);
  }
}
#endif

/// A cache folder of its own for measure_hardware.
class HardwareCache : public ::testing::Test {
 protected:
  HardwareCache() {
    if (const char* old = std::getenv("HAQA_CACHE")) old_ = old;
    setenv("HAQA_CACHE", folder_.c_str(), 1);
  }
  ~HardwareCache() override { old_ ? setenv("HAQA_CACHE", old_->c_str(), 1) : unsetenv("HAQA_CACHE"); }

  const TemporaryFolder temporary_;
  const std::filesystem::path folder_ = temporary_ / "not there yet/deep";
  std::optional<std::string> old_;
};

TEST_F(HardwareCache, SecondCallReadsTheFirst) {
  const HardwareProfile first = measure_hardware();
  ASSERT_GT(first.peak.fp32, 0);
  EXPECT_EQ(hardware_cache_file(), folder_ / "hardware.json");
  // A figure no machine measures shows where the second came from.
  Json cache = read_json(hardware_cache_file());
  ASSERT_TRUE(cache["machines"].contains(machine_identity(first)));
  cache["machines"][machine_identity(first)]["peak"]["fp32"] = 1.0;
  write_file(hardware_cache_file(), cache.dump());
  const HardwareProfile second = measure_hardware();
  EXPECT_EQ(second.peak.fp32, 1.0);
  EXPECT_EQ(second.peak.int8, first.peak.int8);
  ASSERT_EQ(second.bandwidth.size(), first.bandwidth.size());
  EXPECT_EQ(second.best_bandwidth(), first.best_bandwidth());
  EXPECT_NE(measure_hardware(/*again=*/true).peak.fp32, 1.0);
  EXPECT_NE(measure_hardware().peak.fp32, 1.0) << "again overwrites";
}

/// A machine with rates that no machine has, so that it shows where figures come from.
HardwareProfile invented() {
  HardwareProfile p;
  p.name = "invented";
  p.bandwidth = {{1, 5.5}, {2, 6.5}};
  p.peak = {1, 2, 3, 0};
  return p;
}

TEST_F(HardwareCache, KeepsWhatItIsGiven) {
  HardwareProfile p = invented();
  EXPECT_FALSE(recall_rates(p)) << "nothing there yet";
  remember_rates(p);
  HardwareProfile other = invented();
  other.cores = 64;
  remember_rates(other);
  p.bandwidth.clear();
  p.peak = {};
  p.free_bytes = 77;
  ASSERT_TRUE(recall_rates(p));
  ASSERT_EQ(p.bandwidth.size(), 2u);
  EXPECT_EQ(p.bandwidth[1].threads, 2);
  EXPECT_EQ(p.bandwidth[1].bytes_per_s, 6.5);
  EXPECT_EQ(p.peak.int8, 3);
  EXPECT_EQ(p.free_bytes, 77u) << "only rates come from the cache";
  EXPECT_TRUE(recall_rates(other)) << "machines that share a folder do not push each other out";
}

TEST_F(HardwareCache, CorruptCacheIsNoCache) {
  make_folder(folder_);
  const std::string head = R"({"version": 1, "machines": {)" + Json(machine_identity(invented())).dump() + ": ";
  const std::string bandwidth = R"({"bandwidth": [{"threads": 1, "bytes_per_s": 1e9}], )";
  const std::string bad[] = {
      "",
      "{",
      "[]",
      "null",
      "\xff\xfe",
      R"({"machines": 5, "version": 1})",
      R"({"version": 99, "machines": {}})",
      head + "5}}",
      head + "{}}}",
      head + bandwidth + R"("peak": {"fp32": -1}}}})",
      head + bandwidth + R"("peak": {"fp32": 0}}}})",
      head + bandwidth + R"("peak": {"fp32": 1e999}}}})",
      head + bandwidth + R"("peak": {"fp32": "fast"}}}})",
      head + bandwidth + R"("peak": 5}}})",
      head + R"({"bandwidth": [], "peak": {"fp32": 1}}}})",
      head + R"({"bandwidth": "fast", "peak": {"fp32": 1}}}})",
      head + R"({"bandwidth": [{"threads": 1, "bytes_per_s": -1}], "peak": {"fp32": 1}}}})",
  };
  for (const std::string& text : bad) {
    write_file(hardware_cache_file(), text);
    HardwareProfile p = invented();
    EXPECT_FALSE(recall_rates(p)) << text;
    EXPECT_EQ(p.best_bandwidth(), 6.5) << "changed by " << text;
    remember_rates(p);
    EXPECT_TRUE(recall_rates(p)) << "not mended: " << text;
  }
  write_file(hardware_cache_file(), head + bandwidth + R"("peak": {"fp32": 1}}}})");
  HardwareProfile p = invented();
  EXPECT_TRUE(recall_rates(p)) << "the good one of this form";
}

TEST_F(HardwareCache, UnwritableFolderDoesNotFail) {
  std::filesystem::create_directories(folder_.parent_path());
  write_file(folder_, "a file where the folder should be");
  HardwareProfile p = invented();
  EXPECT_NO_THROW(remember_rates(p));
  EXPECT_FALSE(recall_rates(p));
}

TEST_F(HardwareCache, MeasuresOverACorruptOne) {
  make_folder(folder_);
  write_file(hardware_cache_file(), "{");
  EXPECT_GT(measure_hardware().peak.fp32, 1e6);
  EXPECT_NO_THROW(read_json(hardware_cache_file()));
}

TEST(Identity, ChangesWithWhatDecidesTheSpeed) {
  HardwareProfile base;
  base.name = "CPU";
  base.cores = base.threads = 4;
  base.memory_bytes = 16'400'000'000;
  base.caches = {{3, 32 * kMiB, 1}};
  base.instruction_sets = {"avx2"};
  const std::string identity = machine_identity(base);
  const auto changed = [&](auto change) {
    HardwareProfile p = base;
    change(p);
    return machine_identity(p) != identity;
  };
  EXPECT_TRUE(changed([](HardwareProfile& p) { p.name = "CPU2"; }));
  EXPECT_TRUE(changed([](HardwareProfile& p) { p.cores = 2; }));
  EXPECT_TRUE(changed([](HardwareProfile& p) { p.threads = 8; }));
  EXPECT_TRUE(changed([](HardwareProfile& p) { p.memory_bytes *= 2; }));
  EXPECT_TRUE(changed([](HardwareProfile& p) { p.caches[0].bytes *= 2; }));
  EXPECT_TRUE(changed([](HardwareProfile& p) { p.instruction_sets.clear(); }));
  EXPECT_FALSE(changed([](HardwareProfile& p) { p.memory_bytes += 1'000'000; }));
  EXPECT_FALSE(changed([](HardwareProfile& p) { p.free_bytes = 5; }));
  EXPECT_FALSE(changed([](HardwareProfile& p) { p.platform = "another system"; }));
}

}  // namespace
}  // namespace haqa
