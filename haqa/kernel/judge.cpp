#include "haqa/kernel/judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "haqa/base/error.h"

namespace haqa {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kLine = 64;
/// Inputs of the launches of a batch are windows of one stretch: all different, and all in the caches.
constexpr uint64_t kSlack = 64 << 10;
/// Outputs of a batch take turns within so many bytes, as a model's buffers do.
constexpr uint64_t kRing = 512 << 10;
constexpr double kBatchSeconds = 2e-3, kLongestBatch = 25e-3;

uint64_t rounded(uint64_t bytes, uint64_t to = kLine) {
  return (bytes + to - 1) / to * to;
}

/// Drops a stretch of memory from all caches of all cores.
void flush(const std::byte* from, uint64_t bytes) {
#if defined(__x86_64__)
  for (uint64_t i = 0; i < bytes; i += kLine) __builtin_ia32_clflush(from + i);
  __builtin_ia32_mfence();
#elif defined(__aarch64__)
  for (uint64_t i = 0; i < bytes; i += kLine) asm volatile("dc civac, %0" : : "r"(from + i) : "memory");
  asm volatile("dsb sy" : : : "memory");
#endif
}

/// What waking takes: none of the waiting that disturbs.
constexpr double kWakes = 40e-6;
/// How many times the time that was given is waited for rounds that nothing else disturbed.
constexpr double kPatience = 4;

}  // namespace

/// Batches of all contestants on the same inputs.
struct Judge::Round {
  std::vector<double> us;  ///< of a launch
  bool disturbed = false;  ///< threads had to wait for a processor
};

/// Launches, and where what they read and write lies.
struct Judge::Batch {
  std::vector<LaunchPlace> places;
  uint64_t outputs_from = 0, outputs_end = 0;
};

Judge::Judge(const KernelSpec& spec, const KernelProblem& problem, uint64_t seed, double timeout_s)
    : spec_(spec), problem_(problem), shapes_(tensors_of(spec, problem)), random_(seed), timeout_s_(timeout_s) {
  uint64_t sum = 0;
  for (const TensorShape& s : shapes_) sum += static_cast<uint64_t>(s.bytes());
  if (sum > kInputBytes / 4)
    throw UsageError("{} {}: takes {} bytes, more than can be measured here", spec.name, problem.label(), sum);
}

uint64_t Judge::weights_limit(const MachineRates& machine) const {
  if (!spec_.weights()) return 4096;
  const auto bytes = static_cast<uint64_t>(shapes_[0].bytes());
  const uint64_t copies = std::clamp<uint64_t>(2 * machine.last_level_cache / bytes + 1, 2, 64);
  // Packing may pad; held-out shapes are small.
  return copies * rounded(bytes + bytes / 2, 4096) + (64 << 20);
}

void Judge::hand_over(Contestant& contestant, const std::vector<TensorShape>& shapes, uint32_t copies) {
  Control& c = contestant.control();
  c.inputs = static_cast<uint32_t>(spec_.inputs());
  std::copy(shapes.begin(), shapes.end() - 1, c.in);
  c.out = shapes.back();
  c.scalars = static_cast<uint32_t>(spec_.scalars.size());
  for (size_t i = 0; i < spec_.scalars.size(); ++i) c.scalar[i] = spec_.scalars[i].second;
  c.has_weights = spec_.weights() != nullptr;
  c.weights_at = weights_at_;
  c.copies = copies;
  contestant.prepare(timeout_s_);
}

void Judge::verify_once(Contestant& contestant, const KernelProblem& problem, Distribution distribution,
                        int64_t padding, const CheckEffort& effort) {
  const std::vector<TensorShape> shapes = tensors_of(spec_, problem, padding);
  const bool aligned = padding == 0;
  LaunchPlace place;
  std::vector<const std::byte*> inputs;
  uint64_t at = 4096;
  for (size_t i = 0; i < spec_.inputs(); ++i) {
    const bool is_weights = i == 0 && spec_.weights();
    place.in[i] = at + (aligned || is_weights ? 0 : 4 * (1 + random_.below(15)));
    if (is_weights) weights_at_ = place.in[i];
    std::byte* to = contest_.inputs.data() + place.in[i];
    draw(spec_.arguments[i], shapes[i], distribution, random_, to);
    inputs.push_back(to);
    at = rounded(place.in[i] + static_cast<uint64_t>(shapes[i].bytes()) + 4096, 4096);
  }
  place.out = kOutputsAt + 4096 + (aligned ? 0 : 4 * (1 + random_.below(15)));
  poison(contestant.outputs() + place.out - kMargin, static_cast<uint64_t>(shapes.back().bytes()) + 2 * kMargin);
  hand_over(contestant, shapes, 1);
  contestant.run({&place, 1}, timeout_s_);
  const std::string where = fmt::format("{} with {}{}", problem.label(), to_string(distribution),
                                        aligned ? "" : ", unaligned and with gaps between rows");
  check_launch(spec_, {shapes, inputs, contestant.outputs() + place.out, where}, effort, random_);
}

void Judge::verify(Contestant& contestant, bool quick) {
  const CheckEffort all, some{1 << 15, 1 << 20};
  for (const Shape& shape : spec_.held_out)
    for (const Distribution d : {Distribution::normal, Distribution::outliers, Distribution::tiny})
      for (const int64_t padding : {0, 20}) verify_once(contestant, {problem_.type, shape}, d, padding, all);
  for (const Distribution d : {Distribution::normal, Distribution::outliers, Distribution::tiny})
    verify_once(contestant, problem_, d, 0, quick ? some : all);
  if (!quick) verify_once(contestant, problem_, Distribution::normal, 36, some);
}

Judge::Batch Judge::make_batch(size_t launches, bool cold) {
  const bool spread = cold && !spec_.weights();  // each launch in memory of its own
  Batch batch;
  batch.places.resize(launches);
  uint64_t at = free_from_;
  for (size_t i = spec_.weights() ? 1 : 0; i < spec_.inputs(); ++i) {
    const auto bytes = static_cast<uint64_t>(shapes_[i].bytes());
    const uint64_t stretch = spread ? launches * rounded(bytes) : rounded(bytes + kSlack);
    TensorShape whole = shapes_[i];
    whole.ne[0] = static_cast<int64_t>(stretch / 4);
    whole.ne[1] = whole.ne[2] = 1;
    whole.row = static_cast<int64_t>(stretch);
    draw(spec_.arguments[i], whole, Distribution::normal, random_, contest_.inputs.data() + at);
    for (size_t l = 0; l < launches; ++l)
      batch.places[l].in[i] = at + (spread ? l * rounded(bytes) : kLine * random_.below((stretch - bytes) / kLine + 1));
    if (spread) flush(contest_.inputs.data() + at, stretch);
    at = rounded(at + stretch, 4096);
  }
  const auto out = static_cast<uint64_t>(shapes_.back().bytes());
  const uint64_t slot = rounded(out + 2 * kMargin);
  const uint64_t slots = spread ? launches : std::clamp<uint64_t>(kRing / slot, 2, 64);
  batch.outputs_from = kOutputsAt + 4096;
  batch.outputs_end = batch.outputs_from + slots * slot;
  for (size_t l = 0; l < launches; ++l) {
    batch.places[l].out = batch.outputs_from + kMargin + l % slots * slot;
    batch.places[l].copy = static_cast<uint32_t>(l % copies_);
  }
  return batch;
}

double Judge::timed(Contestant& contestant, const Batch& batch) {
  std::byte* outputs = contestant.outputs();
  poison(outputs + batch.outputs_from, batch.outputs_end - batch.outputs_from);
  return contestant.run(batch.places, timeout_s_);
}

/// The last launch that wrote to each of some outputs.
void Judge::check_batch(Contestant& contestant, const Batch& batch) {
  const CheckEffort glance{1 << 13, 1 << 17};
  const size_t launches = batch.places.size();
  if (launches == 0 || !contestant.is_confined()) return;  // llama.cpp's own tolerances are its own
  const auto slot = rounded(static_cast<uint64_t>(shapes_.back().bytes()) + 2 * kMargin);
  const size_t slots = std::min<size_t>((batch.outputs_end - batch.outputs_from) / slot, launches);
  const size_t looked_at = std::min<size_t>(slots, 3);
  for (size_t i = 0; i < looked_at; ++i) {
    const size_t launch = launches - 1 - (i == 0 ? 0 : random_.below(slots));
    const LaunchPlace& place = batch.places[launch];
    std::vector<const std::byte*> inputs;
    for (size_t k = 0; k < spec_.inputs(); ++k)
      inputs.push_back(contest_.inputs.data() + (k == 0 && spec_.weights() ? weights_at_ : place.in[k]));
    check_launch(spec_, {shapes_, inputs, contestant.outputs() + place.out, problem_.label() + " in a timed launch"},
                 glance, random_);
  }
}

double Judge::overhead(Contestant& contestant) {
  std::vector<double> samples;
  for (int i = 0; i < 9; ++i) {
    contestant.wait_until_idle();
    samples.push_back(contestant.run({}, timeout_s_));
  }
  return *std::min_element(samples.begin(), samples.end());  // a busy machine only ever adds
}

/// Seconds of a launch, of what a batch of them took.
double launch_seconds(double taken, double overhead, size_t launches) {
  return std::max(taken - overhead, taken / 10) / static_cast<double>(launches);
}

/// Of the rounds that nothing disturbed, where there are enough of them; else of all.
std::vector<Paired> Judge::summarized(const std::vector<Round>& rounds, size_t contestants, int least) {
  const auto quiet = std::count_if(rounds.begin(), rounds.end(), [](const Round& r) { return !r.disturbed; });
  std::vector<Paired> results(contestants);
  for (size_t i = 0; i < contestants; ++i) {
    std::vector<double> ratios;
    for (const Round& r : rounds) {
      if (r.disturbed && quiet >= least) continue;
      results[i].samples_us.push_back(r.us[i]);
      ratios.push_back(r.us[0] / r.us[i]);
    }
    results[i].ratio = estimate_median(ratios);
    results[i].microseconds = median(results[i].samples_us);
    results[i].disturbed = 1 - static_cast<double>(quiet) / static_cast<double>(rounds.size());
  }
  return results;
}

size_t Judge::batch_size(const std::vector<Contestant*>& contestants, const TimingOptions& options) {
  double fastest = HUGE_VAL, slowest = 0;
  for (size_t i = 0; i < contestants.size(); ++i) {
    double one = 0;
    for (size_t launches = 1; launches <= kMostLaunches; launches *= 4) {
      const Batch batch = make_batch(launches, options.cold);
      double taken = timed(*contestants[i], batch);
      check_batch(*contestants[i], batch);
      contestants[i]->wait_until_idle();
      taken = std::min(taken, timed(*contestants[i], batch));  // the first one warms up
      contestants[i]->wait_until_idle();
      one = launch_seconds(taken, overheads_[i], launches);
      if (taken > kBatchSeconds / 4) break;
    }
    fastest = std::min(fastest, one);
    slowest = std::max(slowest, one);
  }
  const double wanted = std::min(kBatchSeconds / fastest, std::max(1.0, kLongestBatch / slowest));
  size_t most = kMostLaunches;
  if (options.cold && !spec_.weights())
    most = std::max<size_t>(1, (256 << 20) / static_cast<size_t>(shapes_.back().bytes() + shapes_[0].bytes()));
  size_t launches = std::clamp<size_t>(static_cast<size_t>(wanted), 1, most);
  if (copies_ > 1) launches = std::max<size_t>(launches, std::min<size_t>(most, 2));
  return launches;
}

void Judge::begin_timing(const std::vector<Contestant*>& contestants, const MachineRates& machine, bool cold) {
  copies_ = 1;
  weights_at_ = 4096;
  free_from_ = 4096;
  if (spec_.weights()) {
    const auto bytes = static_cast<uint64_t>(shapes_[0].bytes());
    draw(spec_.arguments[0], shapes_[0], Distribution::normal, random_, contest_.inputs.data() + weights_at_);
    free_from_ = rounded(weights_at_ + bytes + 4096, 4096);
    if (cold) copies_ = static_cast<uint32_t>(std::clamp<uint64_t>(2 * machine.last_level_cache / bytes + 1, 2, 64));
  }
  overheads_.clear();
  for (Contestant* c : contestants) {
    hand_over(*c, shapes_, copies_);
    overheads_.push_back(overhead(*c));
  }
}

/// One batch of each, in an order that rotates from round to round.
Judge::Round Judge::time_round(const std::vector<Contestant*>& contestants, size_t number, size_t launches, bool cold) {
  Round round;
  round.us.resize(contestants.size());
  Batch batch = make_batch(launches, cold);
  for (LaunchPlace& place : batch.places) place.copy = next_copy_++ % copies_;
  for (size_t turn = 0; turn < contestants.size(); ++turn) {
    const size_t i = (turn + number) % contestants.size();
    Contestant& c = *contestants[i];
    if (cold && !spec_.weights() && turn > 0) batch = make_batch(launches, true);
    const double waited = c.waited_seconds();
    const double taken = timed(c, batch);
    // A thread that waits for a processor holds up all the others at their barrier.
    round.disturbed = round.disturbed || c.waited_seconds() - waited > std::max(kWakes, 0.03 * taken);
    round.us[i] = launch_seconds(taken, overheads_[i], launches) * 1e6;
    check_batch(c, batch);
    c.wait_until_idle();
  }
  return round;
}

std::vector<Paired> Judge::time(const std::vector<Contestant*>& contestants, const MachineRates& machine,
                                const TimingOptions& options, const std::function<void(double)>& progress) {
  begin_timing(contestants, machine, options.cold);
  const size_t launches = batch_size(contestants, options);
  std::vector<Round> rounds;
  std::vector<Paired> results;
  const auto start = Clock::now();
  for (int undisturbed = 0; undisturbed < options.most_pairs;) {
    rounds.push_back(time_round(contestants, rounds.size(), launches, options.cold));
    undisturbed += !rounds.back().disturbed;
    const double share = std::chrono::duration<double>(Clock::now() - start).count() / options.seconds;
    if (progress) progress(std::min(1.0, share));
    if (undisturbed < options.least_pairs && share < kPatience) continue;
    if (static_cast<int>(rounds.size()) < options.least_pairs) continue;
    results = summarized(rounds, contestants.size(), options.least_pairs);
    const bool tight = std::all_of(results.begin(), results.end(),
                                   [&](const Paired& r) { return r.ratio.high / r.ratio.low - 1 < options.tight; });
    if (tight || share > 1) break;
  }
  return results;
}

double impossible_below(const KernelSpec& spec, const KernelProblem& problem, const MachineRates& machine, bool cold) {
  const double operations = operations_of(spec, problem), bytes = bytes_of(spec, problem);
  const double peak =
      std::max(machine.fp32, spec.weights() && problem.type != ElementType::f32 ? 8 * machine.int8 : 0.0);
  // Twice what was measured (matrix units of integers are not), and four loads of 64 bytes a cycle at 6 GHz from the
  // nearest cache.
  double least = bytes / (machine.cores * 4 * 64 * 6e9);
  if (peak > 0) least = std::max(least, operations / (2 * peak));
  if (cold && machine.bandwidth > 0) least = std::max(least, bytes / (4 * machine.bandwidth));
  return least;
}

}  // namespace haqa
