// Kernels whose output may be their input, by two threads of which the second comes as late as it can: once the first
// has ended, or waits for it.
#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <cmath>
#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "haqa/base/file.h"
#include "haqa/kernel/compiler.h"
#include "haqa/kernel/kernel_library.h"
#include "haqa/kernel/kernel_spec.h"

namespace haqa {
namespace {

struct Case {
  const char* kernel;
  Configuration parameters;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.kernel << " " << c.parameters.dump();
}

/// Of the two threads of a launch; one launch at a time.
struct Turns {
  std::barrier<> all{2};
  std::atomic<bool> first_is_done_or_waits{false};
  static inline Turns* now = nullptr;
  static void wait(haqa_team*) {
    now->first_is_done_or_waits = true;
    now->all.arrive_and_wait();
  }
};

void run_in_turn(const KernelFunctions& kernel, haqa_launch launch) {
  Turns turns;
  Turns::now = &turns;
  launch.barrier = Turns::wait;
  launch.threads = 2;
  std::thread second([&, mine = launch]() mutable {
    while (!turns.first_is_done_or_waits) std::this_thread::yield();
    mine.thread = 1;
    kernel.compute(&mine);
  });
  kernel.compute(&launch);
  turns.first_is_done_or_waits = true;
  second.join();
}

haqa_tensor row_of(std::vector<float>& values) {
  const auto n = static_cast<int64_t>(values.size());
  return {values.data(), {n, 1, 1}, {4, 4 * n, 4 * n}};
}

class InPlace : public testing::TestWithParam<Case> {};

TEST_P(InPlace, NobodyWritesWhatAnotherStillReads) {
  if (installed_compilers().empty()) GTEST_SKIP() << "no compiler";
  const KernelSpec spec = read_kernel_spec(kernels_folder() / GetParam().kernel);
  ASSERT_TRUE(spec.is_in_place);
  const KernelEngine& engine = spec.engines.at("cpu");
  std::string why;
  const KernelFunctions kernel = open_kernel(
      compile({read_file(engine.source), GetParam().parameters, {"HAQA_WEIGHTS=0"}, engine.options}).library, why);
  ASSERT_TRUE(kernel) << why;
  std::vector<float> x(4096), weights(x.size()), wanted(x.size());
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = std::sin(static_cast<float>(i)), weights[i] = 1 + std::cos(static_cast<float>(i));
    sum += double(x[i]) * x[i];
  }
  const float epsilon = 1e-5f;
  for (size_t i = 0; i < x.size(); ++i) {
    const double normal = x[i] / std::sqrt(sum / static_cast<double>(x.size()) + epsilon);
    wanted[i] = static_cast<float>(spec.name == "silu"       ? x[i] / (1 + std::exp(-double(x[i])))
                                   : spec.name == "rms_norm" ? normal
                                                             : normal * weights[i]);
  }
  const auto shared = std::make_unique<std::byte[]>(1 << 20);
  haqa_launch launch = {};
  launch.in[0] = launch.out = row_of(x);
  launch.in[1] = row_of(weights);
  launch.scalars = &epsilon;
  launch.shared_scratch = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(shared.get()) + 63) / 64 * 64);
  run_in_turn(kernel, launch);
  for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], wanted[i], 1e-5 * std::abs(wanted[i]) + 1e-6) << i;
}

INSTANTIATE_TEST_SUITE_P(
    All, InPlace,
    testing::Values(Case{"rms_norm", {{"split", "none"}}}, Case{"rms_norm", {{"split", "barrier"}, {"split_from", 0}}},
                    Case{"rms_norm", {{"split", "twice"}, {"split_from", 0}}},
                    Case{"rms_norm_mul", {{"split", "twice"}, {"split_from", 2048}}},
                    Case{"rms_norm_mul", {{"split", "barrier"}, {"split_from", 0}, {"nontemporal", 8}}},
                    Case{"silu", Json::object()}),
    [](const auto& tested) { return tested.param.kernel + std::string("_") + std::to_string(tested.index); });

}  // namespace
}  // namespace haqa
