#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "haqa/kernel/contestant.h"
#include "haqa/kernel/inputs.h"
#include "haqa/kernel/kernel_spec.h"

namespace haqa {

/// What stands in outputs before a launch, and around them after it as well: a NaN that no arithmetic makes.
inline constexpr uint32_t kPoison = 0x7fe5a5a5;
/// Bytes of it before and behind each output.
inline constexpr uint64_t kMargin = 512;

/// Fills a stretch of memory, which begins at a multiple of 4 bytes.
void poison(std::byte* from, uint64_t bytes);

/// An output with its inputs, as they lie in the judge's memory.
struct CheckedLaunch {
  std::span<const TensorShape> shapes;  ///< inputs, then the output
  std::span<const std::byte* const> inputs;
  const std::byte* output;          ///< between two margins
  std::string where;                ///< "[33,3,2] with outliers": for the message
  std::optional<double> norm = {};  ///< in place of the specification's (Tolerance::norm)
};

/// How much of an output is compared with the reference: all that is written is looked at in any case.
struct CheckEffort {
  int64_t elements = int64_t{1} << 21;  ///< at most
  int64_t products = int64_t{1} << 23;  ///< multiply-adds of products, at most
};

/// Compares with the reference by the specification's tolerance; rows and columns that are too many are chosen at
/// random. Throws KernelFault: not_written, out_of_bounds, wrong_result with the worst elements.
void check_launch(const KernelSpec& spec, const CheckedLaunch& launch, const CheckEffort& effort, FastRandom& random);

}  // namespace haqa
