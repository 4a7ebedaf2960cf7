#include "haqa/kernel/judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <set>

#include "haqa/base/error.h"

namespace haqa {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kLine = 64;
/// Inputs of the launches of a batch are windows of one stretch: all different, and all in the caches.
constexpr uint64_t kSlack = 64 << 10;
/// Outputs of a batch take turns within so many bytes, as a model's buffers do.
constexpr uint64_t kRing = 512 << 10;
constexpr size_t kLookedAt = 3;
/// Of a batch whose launches have memory of their own each, about.
constexpr uint64_t kColdBytes = 256 << 20;
/// What waking and answering takes at most: who spins in an empty batch gains no more by it than this of a full one.
constexpr double kMostOverhead = 60e-6;
/// Long beside what waking takes, longer where every contestant goes to main memory.
constexpr double kBatchSeconds = 4e-3, kColdBatchSeconds = 10e-3, kLongestBatch = 50e-3;

uint64_t rounded(uint64_t bytes, uint64_t to = kLine) {
  return (bytes + to - 1) / to * to;
}

/// Windows begin at lines, and where blocks do.
uint64_t window_unit(ElementType type) {
  return std::lcm(kLine, static_cast<uint64_t>(row_bytes(type, block_length(type))));
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

/// Without what lies between them.
void copy_rows(const TensorShape& shape, const std::byte* from, std::byte* to) {
  for (int64_t r = 0; r < shape.rows(); ++r) {
    const int64_t at = shape.offset_of(r);
    std::memcpy(to + at, from + at, static_cast<size_t>(shape.row));
  }
}

/// What waking takes: none of the waiting that disturbs.
constexpr double kWakes = 40e-6;
/// Seconds of a launch, of what a batch of them took.
double launch_seconds(double taken, double overhead, size_t launches) {
  return std::max(taken - overhead, taken / 10) / static_cast<double>(launches);
}

int suspicions_of(const std::vector<Contestant*>& contestants) {
  int sum = 0;
  for (const Contestant* c : contestants) sum += c->suspicions();
  return sum;
}

/// Of the threads, by two readings; those of a team stay the same.
double longest_wait(const std::vector<double>& before, const std::vector<double>& after) {
  double longest = 0;
  for (size_t i = 0; i < after.size(); ++i)
    longest = std::max(longest, after[i] - (i < before.size() ? before[i] : after[i]));
  return longest;
}

}  // namespace

/// Launches, and where what they read and write lies.
struct Judge::Batch {
  std::vector<LaunchPlace> places;
  std::vector<size_t> looked_at;  ///< launches whose outputs stay
  bool is_whole = false;          ///< activations are Distribution::whole
  uint64_t outputs_from = 0, outputs_end = 0;
};

Judge::Judge(const KernelSpec& spec, const KernelProblem& problem, uint64_t seed, double timeout_s)
    : spec_(spec),
      problem_(problem),
      tries_whole_(spec.whole_norm > 0 && block_length(problem.type) > 1),
      shapes_(tensors_of(spec, problem)),
      random_(seed),
      choices_(uint64_t{std::random_device()()} << 32 | std::random_device()()),
      timeout_s_(timeout_s) {
  if (spec.held_out.empty())
    throw UsageError("{}: HeldOutShapes is empty; name shapes that are not tuned for", spec.name);
}

/// So many that the weights come from main memory when they come round again, as far as there is room.
size_t Judge::copies_for(const MachineRates& machine) const {
  uint64_t wanted = machine.last_level_cache * 5 / 4;
  if (machine.copies > 0) wanted = std::min(wanted, machine.copies);
  return std::clamp<uint64_t>(wanted / static_cast<uint64_t>(shapes_[0].bytes()) + 1, 2, kMostCopies);
}

bool Judge::is_partly_cold(const MachineRates& machine) const {
  return spec_.weights() && copies_for(machine) * static_cast<uint64_t>(shapes_[0].bytes()) < machine.last_level_cache;
}

uint64_t Judge::weights_limit(const MachineRates& machine) const {
  if (!spec_.weights()) return 4096;
  const auto bytes = static_cast<uint64_t>(shapes_[0].bytes());
  // Packing may pad; held-out shapes are small.
  return copies_for(machine) * rounded(bytes + bytes / 2, 4096) + (64 << 20);
}

void Judge::hand_over(Contestant& contestant, const KernelSpec& spec, const std::vector<TensorShape>& shapes) {
  Control& c = contestant.control();
  c.inputs = static_cast<uint32_t>(spec.inputs());
  std::copy(shapes.begin(), shapes.end() - 1, c.in);
  c.out = shapes.back();
  c.scalars = static_cast<uint32_t>(spec.scalars.size());
  for (size_t i = 0; i < spec.scalars.size(); ++i) c.scalar[i] = spec.scalars[i].second;
  c.has_weights = spec.weights() != nullptr;
  c.weights_at = weights_at_;
  c.copies = static_cast<uint32_t>(first_rows_.size());
  std::copy(first_rows_.begin(), first_rows_.end(), c.first_rows);
  contestant.prepare(timeout_s_);
  // Bits of random weights cannot be left out: who keeps fewer reads others, or is right for these alone.
  const auto least = static_cast<uint64_t>(shapes[0].bytes()) / 16 * 15;
  if (c.has_weights && contestant.is_confined() && !contestant.is_on_device() && c.packed_bytes < least)
    throw KernelFault(KernelFaultKind::wrong_result, fmt::format("packed weights take {} bytes of the {} that they are",
                                                                 c.packed_bytes, shapes[0].bytes()));
}

/// What is verified on other shapes is so with other scalars too.
KernelSpec Judge::with_other_scalars() {
  KernelSpec spec = spec_;
  for (auto& [name, value] : spec.scalars) value *= static_cast<float>(0.5 + random_.uniform());
  return spec;
}

void Judge::verify_on(Contestant& contestant, const KernelSpec& spec, const Shape& shape, int64_t padding,
                      const CheckEffort& effort, std::span<const Distribution> distributions, bool in_place) {
  const KernelProblem problem = {problem_.type, shape};
  const std::vector<TensorShape> shapes = tensors_of(spec, problem, padding);
  const bool aligned = padding == 0;
  LaunchPlace place;
  place.in_place = in_place;
  std::vector<const std::byte*> inputs;
  uint64_t at = 4096;
  for (size_t i = 0; i < spec_.inputs(); ++i) {
    const bool is_weights = i == 0 && spec_.weights();
    place.in[i] = at + (aligned || is_weights ? 0 : 4 * (1 + random_.below(15)));
    inputs.push_back(contest_.inputs.data() + place.in[i]);
    at = rounded(place.in[i] + static_cast<uint64_t>(shapes[i].bytes()) + 4096, 4096);
  }
  place.out = kOutputsAt + 4096 + (aligned ? 0 : 4 * (1 + random_.below(15)));
  if (spec_.weights()) weights_at_ = place.in[0];
  first_rows_ = {0};
  const bool has_blocks = spec_.weights() && shapes[0].type != ElementType::f32;  // the same by any distribution
  for (const Distribution distribution : distributions) {
    const bool is_first = distribution == distributions.front();
    for (size_t i = 0; i < spec_.inputs(); ++i)
      if (i > 0 || is_first || !has_blocks)
        draw(spec_.arguments[i], shapes[i], distribution, random_, contest_.inputs.data() + place.in[i]);
    if (is_first || !has_blocks) hand_over(contestant, spec, shapes);
    poison(contestant.outputs() + place.out - kMargin, static_cast<uint64_t>(shapes.back().bytes()) + 2 * kMargin);
    if (in_place) copy_rows(shapes[0], inputs[0], contestant.outputs() + place.out);
    const std::string where =
        fmt::format("{} with {}{}{}", problem.label(), to_string(distribution),
                    aligned ? "" : ", unaligned and with gaps between rows", in_place ? ", in place" : "");
    try {
      contestant.run({&place, 1}, timeout_s_);
    } catch (const KernelFault& fault) {
      throw KernelFault(fault.kind, fmt::format("{}: {}", where, fault.what()));
    }
    check_launch(
        spec, {shapes, inputs, contestant.outputs() + place.out, where, norm_for(distribution == Distribution::whole)},
        effort, choices_);
  }
}

std::optional<double> Judge::norm_for(bool whole) const {
  return whole ? std::optional(spec_.whole_norm) : std::nullopt;
}

void Judge::verify(Contestant& contestant, bool quick) {
  constexpr std::array kKinds = {Distribution::normal, Distribution::outliers, Distribution::tiny, Distribution::whole};
  const std::span kinds(kKinds.data(), tries_whole_ ? 4 : 3);
  constexpr double kLarge = 8 << 20;  // bytes, which take long to draw and to pack
  const CheckEffort all, some{1 << 15, 1 << 20};
  const auto distributions = [&] { return quick ? kinds.subspan(choices_.below(kinds.size()), 1) : kinds; };
  constexpr std::array<int64_t, 2> kPaddings = {0, 20};
  for (const Shape& shape : held_out_shapes(spec_, problem_.type))
    for (const int64_t padding :
         quick ? std::span(kPaddings).subspan(choices_.below(kPaddings.size()), 1) : std::span(kPaddings))
      verify_on(contestant, with_other_scalars(), shape, padding, all, distributions());
  if (spec_.is_in_place && !contestant.is_on_device()) verify_in_place(contestant, quick);
  double bytes = 0;
  for (const TensorShape& s : shapes_) bytes += static_cast<double>(s.bytes());
  if (!quick || bytes < kLarge) verify_on(contestant, spec_, problem_.shape, 0, quick ? some : all, distributions());
  if (!quick) verify_on(contestant, spec_, problem_.shape, 36, some, kinds.first(1));
}

/// By numbers of one kind: what goes wrong is that they are overwritten, of rows that several threads share above all.
void Judge::verify_in_place(Contestant& contestant, bool quick) {
  constexpr std::array kNormal = {Distribution::normal};
  std::vector<Shape> shapes = held_out_shapes(spec_, problem_.type);
  if (quick) shapes = {*std::max_element(shapes.begin(), shapes.end())};  // the longest row
  for (const Shape& shape : shapes) verify_on(contestant, with_other_scalars(), shape, 20, {}, kNormal, true);
  if (!quick) verify_on(contestant, spec_, problem_.shape, 0, {1 << 15, 1 << 20}, kNormal, true);
}

/// One in many values of a timed stretch is what the kernel must bear as well.
void Judge::sprinkle(const KernelArgument& argument, std::byte* stretch, uint64_t bytes) {
  if (argument.is_weights || argument.type != ElementType::f32) return;
  constexpr uint64_t kEvery = 4096;  // floats
  for (uint64_t i = random_.below(kEvery); i < bytes / 4; i += 1 + random_.below(2 * kEvery)) {
    const bool masked = argument.is_masked && random_.below(2) == 0;
    const float x = masked ? -HUGE_VALF : static_cast<float>((2 * random_.uniform() - 1) * argument.outlier);
    std::memcpy(stretch + 4 * i, &x, sizeof x);
  }
}

/// Where the launches' outputs go: in turn to a few places, as a model's buffers do. The output of one that is looked
/// at stays: who comes to its place later goes to another one. Places lie in any order, so that no address tells which
/// is which.
void Judge::place_outputs(Batch& batch, bool spread) {
  const size_t launches = batch.places.size();
  const uint64_t slot = rounded(static_cast<uint64_t>(shapes_.back().bytes()) + 2 * kMargin);
  const uint64_t room = (kOutputBytes - kOutputsAt - 4096) / slot;
  const uint64_t in_turn = spread ? launches : std::clamp<uint64_t>(kRing / slot, 2, 64);
  const uint64_t others = spread ? 0 : std::min<uint64_t>(kLookedAt, room - std::min(room, in_turn));
  if (in_turn + others > room) throw Error("{} outputs of {} bytes do not fit", in_turn, slot);
  std::set<size_t> looked_at;
  for (size_t i = 0; i < (spread ? kLookedAt : others) && launches > 0; ++i) looked_at.insert(choices_.below(launches));
  std::vector<uint64_t> slots(in_turn + others);
  std::iota(slots.begin(), slots.end(), 0);
  for (size_t i = slots.size(); i > 1; --i) std::swap(slots[i - 1], slots[choices_.below(i)]);
  batch.outputs_from = kOutputsAt + 4096;
  batch.outputs_end = batch.outputs_from + slots.size() * slot;
  uint64_t next = in_turn;
  for (size_t l = 0; l < launches; ++l) {
    uint64_t& own = slots[l % in_turn];
    batch.places[l].out = batch.outputs_from + kMargin + own * slot;
    if (!spread && looked_at.contains(l)) own = slots[next++];
  }
  batch.looked_at.assign(looked_at.begin(), looked_at.end());
}

Judge::Batch Judge::make_batch(size_t launches, bool cold, bool may_be_whole) {
  const bool spread = cold && !spec_.weights();  // each launch in memory of its own
  Batch batch;
  batch.is_whole = may_be_whole && tries_whole_ && choices_.below(2) == 0;
  batch.places.resize(launches);
  uint64_t at = free_from_;
  for (size_t i = spec_.weights() ? 1 : 0; i < spec_.inputs(); ++i) {
    const auto bytes = static_cast<uint64_t>(shapes_[i].bytes());
    const uint64_t unit = window_unit(shapes_[i].type);
    const bool is_common = spec_.arguments[i].is_mask;  // one for all launches, as for a model's layers
    const uint64_t stretch = is_common ? bytes
                             : spread  ? launches * rounded(bytes, unit)
                                       : rounded(bytes + kSlack, unit);
    TensorShape drawn = shapes_[i];
    if (!is_common) {
      drawn.ne[0] = static_cast<int64_t>(stretch / 4);
      drawn.ne[1] = drawn.ne[2] = 1;
      drawn.row = static_cast<int64_t>(stretch);
    }
    if (at + stretch > kInputBytes) throw Error("the inputs of {} launches do not fit", launches);
    draw(spec_.arguments[i], drawn, batch.is_whole ? Distribution::whole : Distribution::normal, random_,
         contest_.inputs.data() + at);
    if (!batch.is_whole) sprinkle(spec_.arguments[i], contest_.inputs.data() + at, stretch);
    for (size_t l = 0; l < launches; ++l)
      batch.places[l].in[i] = at + (is_common ? 0
                                    : spread  ? l * rounded(bytes, unit)
                                              : unit * random_.below((stretch - bytes) / unit + 1));
    if (spread) flush(contest_.inputs.data() + at, stretch);
    at = rounded(at + stretch, 4096);
  }
  for (LaunchPlace& place : batch.places) place.copy = static_cast<uint32_t>(next_copy_++ % first_rows_.size());
  place_outputs(batch, spread);
  return batch;
}

double Judge::timed(Contestant& contestant, const Batch& batch) {
  std::byte* outputs = contestant.outputs();
  poison(outputs + batch.outputs_from, batch.outputs_end - batch.outputs_from);
  return contestant.run(batch.places, timeout_s_);
}

/// Of strange code some of the launches, chosen at random, and the last one.
void Judge::check_batch(Contestant& contestant, const Batch& batch) {
  if (contestant.is_confined()) check_launches(contestant, batch, {1 << 13, 1 << 17}, norm_for(batch.is_whole));
}

void Judge::check_launches(Contestant& contestant, const Batch& batch, const CheckEffort& effort,
                           std::optional<double> norm) {
  if (batch.places.empty()) return;
  std::vector<size_t> looked_at = batch.looked_at;
  looked_at.push_back(batch.places.size() - 1);
  for (const size_t launch : looked_at) {
    const LaunchPlace& place = batch.places[launch];
    std::vector<const std::byte*> inputs;
    for (size_t k = 0; k < spec_.inputs(); ++k) {
      const bool is_weights = k == 0 && spec_.weights();
      const uint64_t first = is_weights ? first_rows_[place.copy] * static_cast<uint64_t>(shapes_[0].nb[1]) : 0;
      inputs.push_back(is_weights ? weights_.data() + first : contest_.inputs.data() + place.in[k]);
    }
    check_launch(spec_,
                 {shapes_, inputs, contestant.outputs() + place.out, problem_.label() + " in a timed launch", norm},
                 effort, choices_);
  }
}

/// A speed-up over what is wrong would be none. llama.cpp's and a library's tolerances are their own.
void Judge::check_baseline(Contestant& contestant, bool cold) {
  if (contestant.is_confined() || !contestant.is_checked()) return;
  std::optional<double> norm;
  if (spec_.baseline_norm > 0) {
    const auto own = spec_.norm_of.find(problem_.type);
    norm = own == spec_.norm_of.end() ? spec_.baseline_norm : std::max(8 * own->second, spec_.baseline_norm);
  }
  const Batch batch = make_batch(1, cold, /*may_be_whole=*/false);  // which would hide how it rounds
  timed(contestant, batch);
  try {
    check_launches(contestant, batch, {1 << 15, 1 << 20}, norm);
  } catch (const KernelFault& fault) {
    throw Error("{} itself is wrong here ({}): {}", contestant.name(), to_string(fault.kind), fault.what());
  }
}

double Judge::overhead(Contestant& contestant) {
  std::vector<double> samples;
  for (int i = 0; i < 9; ++i) {
    contestant.wait_until_idle();
    samples.push_back(contestant.run({}, timeout_s_));
  }
  const double least = *std::min_element(samples.begin(), samples.end());  // a busy machine only ever adds
  return contestant.is_confined() ? std::min(least, kMostOverhead) : least;
}

/// Of a batch, so that what it reads and writes has room.
size_t Judge::most_launches(bool cold) const {
  if (!cold || spec_.weights()) return kMostLaunches;
  uint64_t each = 0;
  for (const TensorShape& s : shapes_) each += rounded(static_cast<uint64_t>(s.bytes()) + 2 * kMargin);
  return std::clamp<uint64_t>(kColdBytes / each, 1, kMostLaunches);
}

size_t Judge::batch_size(const std::vector<Contestant*>& contestants, const TimingOptions& options) {
  const size_t most = most_launches(options.cold);
  double fastest = HUGE_VAL, slowest = 0;
  for (size_t i = 0; i < contestants.size(); ++i) {
    double one = 0;
    for (size_t launches = 1; launches <= most; launches *= 4) {
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
  const double batch_seconds = first_rows_.size() > 1 ? kColdBatchSeconds : kBatchSeconds;
  const double wanted = std::min(batch_seconds / fastest, std::max(1.0, kLongestBatch / slowest));
  size_t launches = std::clamp<size_t>(static_cast<size_t>(wanted), 1, most);
  if (first_rows_.size() > 1) launches = std::max<size_t>(launches, std::min<size_t>(most, 2));
  return launches;
}

/// Copies are windows of one stretch, the weights twice.
void Judge::draw_weights(const MachineRates& machine, bool cold) {
  const auto bytes = static_cast<uint64_t>(shapes_[0].bytes());
  std::byte* weights = contest_.inputs.data() + weights_at_;
  draw(spec_.arguments[0], shapes_[0], Distribution::normal, random_, weights);
  std::memcpy(weights + bytes, weights, bytes);
  weights_.assign(weights, weights + 2 * bytes);
  free_from_ = rounded(weights_at_ + 2 * bytes + 4096, 4096);
  if (cold) first_rows_.resize(copies_for(machine));
  for (uint32_t& row : first_rows_) row = static_cast<uint32_t>(random_.below(static_cast<uint64_t>(shapes_[0].ne[1])));
}

void Judge::begin_timing(const std::vector<Contestant*>& contestants, const MachineRates& machine, bool cold) {
  first_rows_ = {0};
  weights_at_ = 4096;
  free_from_ = 4096;
  if (spec_.weights()) draw_weights(machine, cold);
  for (Contestant* c : contestants) hand_over(*c, spec_, shapes_);
  // From now on who wants to read weights must read its copies, which are out of the caches.
  if (spec_.weights()) std::memset(contest_.inputs.data() + weights_at_, 0, weights_.size());
  overheads_.clear();
  for (Contestant* c : contestants) {
    check_baseline(*c, cold);
    // Once round: what was only just written reads more slowly.
    for (size_t left = first_rows_.size(); first_rows_.size() > 1 && left > 0;) {
      const size_t some = std::min<size_t>(left, 256);  // each within the time for an answer
      timed(*c, make_batch(some, cold));
      left -= some;
    }
    overheads_.push_back(overhead(*c));
  }
}

/// One batch of each, in an order that rotates from round to round; how many launches it has nobody can know before.
Round Judge::time_round(const std::vector<Contestant*>& contestants, size_t number, size_t most,
                        const TimingOptions& options) {
  const bool cold = options.cold;
  const size_t launches = most - choices_.below(most / 4 + 1);
  Round round{number % contestants.size(), std::vector<double>(contestants.size())};
  Batch batch = make_batch(launches, cold);
  for (size_t turn = 0; turn < contestants.size(); ++turn) {
    const size_t i = (turn + round.first) % contestants.size();
    Contestant& c = *contestants[i];
    if (cold && !spec_.weights() && turn > 0) batch = make_batch(launches, true);
    const std::vector<double> waited = c.waited_seconds();
    const double taken = timed(c, batch);
    // A thread that waits for a processor holds up all the others at their barrier.
    round.disturbed = round.disturbed || longest_wait(waited, c.waited_seconds()) > std::max(kWakes, 0.03 * taken);
    round.us[i] = launch_seconds(taken, overheads_[i], launches) * 1e6;
    check_batch(c, batch);
    c.wait_until_idle();
    for (Contestant* other : contestants) other->check_rest();
  }
  return round;
}

std::vector<Paired> Judge::time(const std::vector<Contestant*>& contestants, const MachineRates& machine,
                                const TimingOptions& options, const std::function<void(double)>& progress) {
  begin_timing(contestants, machine, options.cold);
  const size_t launches = batch_size(contestants, options);
  std::vector<Round> rounds;
  const auto start = Clock::now();
  for (;;) {
    for (size_t i = 0; i < contestants.size();) {
      const int before = suspicions_of(contestants);
      Round round = time_round(contestants, rounds.size(), launches, options);
      if (suspicions_of(contestants) > before) continue;
      rounds.push_back(std::move(round));
      ++i;
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (progress) progress(std::min(1.0, seconds / options.seconds));
    if (auto results = enough(rounds, options, seconds)) return *std::move(results);
  }
}

double impossible_below(const KernelSpec& spec, const KernelProblem& problem, const MachineRates& machine, bool cold) {
  const double operations = operations_of(spec, problem), bytes = bytes_of(spec, problem);
  const double peak = std::max(machine.fp32, problem.type != ElementType::f32 ? 8 * machine.int8 : 0.0);
  // Twice what was measured (matrix units of integers are not), and four loads of 64 bytes a cycle at 6 GHz from the
  // nearest cache.
  double least = bytes / (machine.cores * 4 * 64 * 6e9);
  if (peak > 0) least = std::max(least, operations / (2 * peak));
  if (cold && machine.bandwidth > 0) least = std::max(least, bytes / (4 * machine.bandwidth));
  return least;
}

}  // namespace haqa
