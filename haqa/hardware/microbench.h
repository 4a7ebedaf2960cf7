#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "haqa/hardware/profile.h"

namespace haqa {

/// Bytes to read through so that caches do not help: four times the last-level caches together, 256 MiB at least, but
/// no more than a quarter of the free memory; 0 where that is less than twice the caches and measuring would mislead.
uint64_t bandwidth_buffer_bytes(const HardwareProfile& profile);

/// 1, 2, 4, ... below `threads`, then `cores` and `threads` themselves; rising, each once.
std::vector<int> bandwidth_thread_counts(int cores, int threads);

/// Read bandwidth for each of `thread_counts`: the best of a dozen rounds, which share `seconds`. All threads together
/// walk round one buffer, so that each word is read again only after all others. Empty where buffer_bytes is 0 or
/// cannot be had. Throws Error where threads cannot be started.
std::vector<Bandwidth> measure_bandwidth(const std::vector<int>& thread_counts, uint64_t buffer_bytes, bool avx2,
                                         double seconds);

/// Bytes per second at which data of so many bytes, shared out among the threads, are read again and again: from the
/// cache that holds them. The best of a few rounds. 0 where memory cannot be had.
double measure_read_rate(uint64_t bytes, int threads, bool avx2, double seconds);

/// The best kernel of each type (peak_kernels.h) that `instruction_sets` allow, on `threads` threads: the best of
/// a dozen rounds. 0 where there is no kernel, and always for int4: no CPU computes with it. Throws Error where threads
/// cannot be started.
PeakRates measure_peak(int threads, const std::vector<std::string>& instruction_sets, double seconds);

/// Fills bandwidth and peak of a detected profile; takes about two seconds. The best of several rounds is kept, for
/// they serve as ceilings: other programs on the machine only ever make a round slower.
void measure_rates(HardwareProfile& profile);

}  // namespace haqa
