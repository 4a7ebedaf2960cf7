#include "haqa/hardware/microbench.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>

#include "haqa/base/error.h"
#include "haqa/hardware/peak_kernels.h"

namespace haqa {
namespace {

using Clock = std::chrono::steady_clock;
/// Many short rounds rather than a few long ones: on a busy machine, some then fall between two time slices of others.
constexpr int kRounds = 12;
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr size_t kChunkBytes = kMiB, kChunkWords = kChunkBytes / sizeof(uint64_t);

/// Starts n threads, lets them go together once all are there, and joins them.
class ThreadTeam {
 public:
  void run(int n, const std::function<void(int)>& work) {
    std::vector<std::jthread> threads;
    try {
      for (int i = 0; i < n; ++i) threads.emplace_back([this, i, &work] { wait_and(work, i); });
    } catch (const std::system_error&) {
      signal_.store(kAbort);
      signal_.notify_all();
      throw Error("cannot start {} threads to measure this machine; raise the limit on processes (ulimit -u)", n);
    }
    while (ready_.load() < n) std::this_thread::yield();  // not counted: starting takes longer than a short round
    signal_.store(kGo);
    signal_.notify_all();
  }

 private:
  void wait_and(const std::function<void(int)>& work, int index) {
    ready_.fetch_add(1);
    signal_.wait(kWait);
    if (signal_.load() == kGo) work(index);
  }

  static constexpr int kWait = 0, kGo = 1, kAbort = 2;
  std::atomic<int> ready_{0}, signal_{kWait};
};

/// Calls work() over and over on `threads` threads for `seconds`; it returns how much it did. Returns the sum a second.
double rate(int threads, double seconds, const std::function<double()>& work) {
  const auto duration = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  std::mutex mutex;
  double done = 0;
  Clock::time_point first = Clock::time_point::max(), last = Clock::time_point::min();
  ThreadTeam().run(threads, [&](int) {
    const Clock::time_point start = Clock::now();
    Clock::time_point now = start;
    double mine = 0;
    while (now - start < duration) {
      mine += work();
      now = Clock::now();
    }
    const std::lock_guard lock(mutex);
    done += mine;
    first = std::min(first, start);
    last = std::max(last, now);
  });
  const double elapsed = std::chrono::duration<double>(last - first).count();
  return elapsed > 0 ? done / elapsed : 0;
}

/// Memory straight from the system, in large pages where it has them: with small ones, page faults and TLB misses
/// would take a good part of the measurement.
class Buffer {
 public:
  explicit Buffer(size_t bytes) : bytes_(bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    madvise(memory, bytes, MADV_HUGEPAGE);
    words_ = static_cast<uint64_t*>(memory);
  }
  ~Buffer() {
    if (words_ != nullptr) munmap(words_, bytes_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  bool valid() const { return words_ != nullptr; }
  size_t chunks() const { return bytes_ / kChunkBytes; }
  std::span<uint64_t> chunk(size_t index) { return {words_ + index * kChunkWords, kChunkWords}; }

 private:
  size_t bytes_;
  uint64_t* words_ = nullptr;
};

/// Untouched pages all map to one page of zeros, which stays in the cache. Touched by all threads in turn, they also
/// spread over the NUMA nodes as a model's weights do.
void touch(Buffer& buffer, int threads) {
  std::atomic<size_t> next{0};
  ThreadTeam().run(threads, [&](int) {
    for (size_t i = next++; i < buffer.chunks(); i = next++) std::ranges::fill(buffer.chunk(i), 1);
  });
}

double best_peak(const std::vector<PeakKernel>& kernels, int threads, const std::vector<std::string>& sets,
                 double seconds) {
  const auto runs = [&](const PeakKernel& kernel) {
    return kernel.needs.empty() || std::find(sets.begin(), sets.end(), kernel.needs) != sets.end();
  };
  const auto kernel = std::find_if(kernels.begin(), kernels.end(), runs);
  if (kernel == kernels.end()) return 0;
  constexpr int64_t kIterations = 10'000;  // some 20 microseconds: the clock is read rarely, and the end is not missed
  double best = 0;
  for (int round = 0; round < kRounds; ++round)
    best = std::max(best, rate(threads, seconds / kRounds, [&] {
                      const double counted = kernel->run(kIterations);
                      asm volatile("" : : "m"(counted));  // otherwise nothing would need the result
                      return kernel->operations * static_cast<double>(kIterations);
                    }));
  return best;
}

}  // namespace

uint64_t bandwidth_buffer_bytes(const HardwareProfile& profile) {
  int last_level = 0;
  uint64_t cache_bytes = 0;
  for (const Cache& cache : profile.caches) last_level = std::max(last_level, cache.level);
  for (const Cache& cache : profile.caches)
    if (cache.level == last_level) cache_bytes += cache.bytes * static_cast<uint64_t>(std::max(0, cache.count));
  const uint64_t wanted = std::max(4 * cache_bytes, 256 * kMiB);
  const uint64_t bytes = std::min(wanted, profile.free_bytes / 4) / kMiB * kMiB;
  return bytes >= std::max(2 * cache_bytes, 16 * kMiB) ? bytes : 0;
}

std::vector<int> bandwidth_thread_counts(int cores, int threads) {
  threads = std::max(1, threads);
  std::set<int> counts{std::clamp(cores, 1, threads), threads};
  for (int n = 1; n < threads; n *= 2) counts.insert(n);
  return {counts.begin(), counts.end()};
}

std::vector<Bandwidth> measure_bandwidth(const std::vector<int>& thread_counts, uint64_t buffer_bytes, bool avx2,
                                         double seconds) {
  Buffer buffer(buffer_bytes);
  if (thread_counts.empty() || !buffer.valid() || buffer.chunks() == 0) return {};
  touch(buffer, *std::max_element(thread_counts.begin(), thread_counts.end()));
  const SumWords sum_words = best_sum_words(avx2);
  const double round_seconds = seconds / (kRounds * static_cast<double>(thread_counts.size()));
  std::atomic<size_t> next{0};  // goes on over rounds and thread counts: what was read last is never read next
  std::vector<Bandwidth> measured;
  for (const int threads : thread_counts) {
    Bandwidth entry{threads, 0};
    for (int round = 0; round < kRounds; ++round)
      entry.bytes_per_s = std::max(entry.bytes_per_s, rate(threads, round_seconds, [&] {
                                     const uint64_t sum = sum_words(buffer.chunk(next++ % buffer.chunks()));
                                     asm volatile("" : : "m"(sum));
                                     return static_cast<double>(kChunkBytes);
                                   }));
    measured.push_back(entry);
  }
  return measured;
}

double measure_read_rate(uint64_t bytes, int threads, bool avx2, double seconds) {
  constexpr uint64_t kUnit = 512;  // what the loops read at least
  const uint64_t share = std::max<uint64_t>(kUnit, bytes / static_cast<uint64_t>(threads) / kUnit * kUnit);
  const SumWords sum_words = best_sum_words(avx2);
  const uint64_t repetitions = std::max<uint64_t>(1, (64 << 10) / share);  // the clock is read rarely
  Buffer buffer((share * static_cast<uint64_t>(threads) / kChunkBytes + 1) * kChunkBytes);
  if (!buffer.valid()) return 0;
  touch(buffer, threads);
  uint64_t* words = buffer.chunk(0).data();
  double best = 0;
  for (int round = 0; round < 4; ++round) {
    std::atomic<uint64_t> next{0};
    best = std::max(best, rate(threads, seconds / 4, [&] {
                      thread_local uint64_t mine = 0;
                      if (mine == 0) mine = next++ % static_cast<uint64_t>(threads) + 1;
                      const std::span<const uint64_t> part(words + (mine - 1) * (share / 8), share / 8);
                      for (uint64_t i = 0; i < repetitions; ++i) {
                        const uint64_t sum = sum_words(part);
                        asm volatile("" : : "m"(sum));
                      }
                      return static_cast<double>(share * repetitions);
                    }));
  }
  return best;
}

PeakRates measure_peak(int threads, const std::vector<std::string>& instruction_sets, double seconds) {
  PeakRates peak;
  peak.fp32 = best_peak(fp32_kernels(), threads, instruction_sets, seconds / 3);
  peak.fp16 = best_peak(fp16_kernels(), threads, instruction_sets, seconds / 3);
  peak.int8 = best_peak(int8_kernels(), threads, instruction_sets, seconds / 3);
  return peak;
}

void measure_rates(HardwareProfile& profile) {
  const std::vector<int> counts = bandwidth_thread_counts(profile.cores, profile.threads);
  profile.bandwidth = measure_bandwidth(counts, bandwidth_buffer_bytes(profile), profile.has("avx2"), 1.0);
  profile.peak = measure_peak(profile.threads, profile.instruction_sets, 0.6);
}

}  // namespace haqa
