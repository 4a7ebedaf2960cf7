#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "haqa/base/json.h"
#include "haqa/kernel/checks.h"
#include "haqa/kernel/contestant.h"
#include "haqa/kernel/rotation.h"

namespace haqa {

/// What a machine can do at best, for what is impossible.
struct MachineRates {
  int cores = 1;
  double fp32 = 0, int8 = 0;      ///< operations per second of all cores; 0: unknown
  double bandwidth = 0;           ///< bytes per second from main memory; 0: unknown
  uint64_t last_level_cache = 0;  ///< bytes
  uint64_t copies = 0;            ///< bytes that the memory has for copies of weights; 0: as many as are wanted
};

struct TimingOptions : StopRule {
  bool cold = false;  ///< weights, or else all data, out of the caches before each launch
};

/// Verifies and times implementations of one kernel on one problem. All see the same inputs, drawn anew for every
/// batch, in memory that they cannot write; each writes to memory of its own, poisoned before.
class Judge {
 public:
  /// timeout_s: of what is asked of a contestant at once.
  Judge(const KernelSpec& spec, const KernelProblem& problem, uint64_t seed, double timeout_s = 20);

  Contest& contest() { return contest_; }
  /// Bytes for the copies of the weights, with room for packing.
  uint64_t weights_limit(const MachineRates& machine) const;
  /// Whether all copies of the weights that there can be fit into the caches, so that cold is not quite so.
  bool is_partly_cold(const MachineRates& machine) const;

  /// One launch of each: the problem and the held-out shapes, each distribution, aligned and not, with and without gaps
  /// between rows; in place where the specification says so. `quick`, for what was verified before: one distribution of
  /// each, held-out shapes in one of the two ways, and large problems by their timed launches alone. Throws
  /// KernelFault.
  void verify(Contestant& contestant, bool quick);

  /// Contestants in rotating order, batch by batch, all of each round on the same inputs; what each batch of strange
  /// code leaves is checked, and before what one launch of the others gives, by their own tolerance. The first is what
  /// the others are compared with. Throws KernelFault; Error where a baseline is wrong.
  std::vector<Paired> time(const std::vector<Contestant*>& contestants, const MachineRates& machine,
                           const TimingOptions& options, const std::function<void(double)>& progress = {});

 private:
  struct Batch;
  void verify_on(Contestant& contestant, const KernelSpec& spec, const Shape& shape, int64_t padding,
                 const CheckEffort& effort, std::span<const Distribution> distributions, bool in_place = false);
  void verify_in_place(Contestant& contestant, bool quick);
  KernelSpec with_other_scalars();
  size_t copies_for(const MachineRates& machine) const;
  void hand_over(Contestant& contestant, const KernelSpec& spec, const std::vector<TensorShape>& shapes);
  void draw_weights(const MachineRates& machine, bool cold);
  void sprinkle(const KernelArgument& argument, std::byte* stretch, uint64_t bytes);
  void place_outputs(Batch& batch, bool spread);
  Batch make_batch(size_t launches, bool cold, bool may_be_whole = true);
  double timed(Contestant& contestant, const Batch& batch);
  void check_batch(Contestant& contestant, const Batch& batch);
  void check_launches(Contestant& contestant, const Batch& batch, const CheckEffort& effort,
                      std::optional<double> norm);
  std::optional<double> norm_for(bool whole) const;
  void check_baseline(Contestant& contestant, bool cold);
  double overhead(Contestant& contestant);
  void begin_timing(const std::vector<Contestant*>& contestants, const MachineRates& machine, bool cold);
  size_t most_launches(bool cold) const;
  size_t batch_size(const std::vector<Contestant*>& contestants, const TimingOptions& options);
  Round time_round(const std::vector<Contestant*>& contestants, size_t number, size_t most,
                   const TimingOptions& options);

  const KernelSpec& spec_;
  const KernelProblem problem_;
  const bool tries_whole_;                 ///< Distribution::whole
  const std::vector<TensorShape> shapes_;  ///< without gaps: as they are timed
  FastRandom random_;                      ///< of the inputs
  FastRandom choices_;                     ///< of what is looked at, which must not follow from the inputs
  const double timeout_s_;
  Contest contest_;
  std::vector<double> overheads_;           ///< of each contestant's empty batches, in seconds
  std::vector<uint32_t> first_rows_ = {0};  ///< of each copy of the weights (protocol.h)
  size_t next_copy_ = 0;
  uint64_t weights_at_ = 0, free_from_ = 0;  ///< in the inputs
  std::vector<std::byte> weights_;           ///< those that are timed, twice; the contestants have their copies alone
};

/// The least time that a launch can take on this machine, generously reckoned, in seconds.
double impossible_below(const KernelSpec& spec, const KernelProblem& problem, const MachineRates& machine, bool cold);

}  // namespace haqa
