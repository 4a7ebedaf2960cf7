#include "haqa/quantization/adamw_8bit.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "haqa/base/error.h"
#include "haqa/quantization/dynamic_map.h"
#include "haqa/quantization/int8_kernels.h"

namespace haqa {
namespace {

/// What one step multiplies with, computed in double precision once.
struct Factors {
  float beta1, one_minus_beta1, beta2, one_minus_beta2, correction2, epsilon, decay, step_size;

  Factors(const AdamW8Bit& h, int64_t step)
      : beta1(static_cast<float>(h.beta1)),
        one_minus_beta1(static_cast<float>(1 - h.beta1)),
        beta2(static_cast<float>(h.beta2)),
        one_minus_beta2(static_cast<float>(1 - h.beta2)),
        correction2(static_cast<float>(std::sqrt(1 - std::pow(h.beta2, static_cast<double>(step))))),
        epsilon(static_cast<float>(h.epsilon)),
        decay(static_cast<float>(1 - h.learning_rate * h.weight_decay)),
        step_size(static_cast<float>(-h.learning_rate / (1 - std::pow(h.beta1, static_cast<double>(step))))) {}
};

/// Of one parameter, at one block.
struct Block {
  int64_t count;
  float* weights;
  const float* gradient;
  uint8_t* m_codes;
  float* m_absmax;
  uint8_t* v_codes;
  float* v_absmax;
};

/// Each loop is a plain one, so that the compiler vectorizes it for each instruction set.
__attribute__((always_inline)) inline void step_body(const Block& block, const Factors& f, const DynamicMap& m_map,
                                                     const DynamicMap& v_map) {
  float m[kBlock8Bit];
  float v[kBlock8Bit];
  const int64_t count = block.count;
  for (int64_t i = 0; i < count; ++i) m[i] = m_map[block.m_codes[i]] * *block.m_absmax;
  for (int64_t i = 0; i < count; ++i) v[i] = v_map[block.v_codes[i]] * *block.v_absmax;
  for (int64_t i = 0; i < count; ++i) {
    const float gradient = block.gradient[i];
    m[i] = m[i] * f.beta1 + gradient * f.one_minus_beta1;
    v[i] = v[i] * f.beta2 + f.one_minus_beta2 * gradient * gradient;
    const float size = std::sqrt(v[i]) / f.correction2 + f.epsilon;
    block.weights[i] = block.weights[i] * f.decay + f.step_size * m[i] / size;
  }
  uint32_t m_largest = 0;  // sizes of finite floats are ordered as their bits
  uint32_t v_largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    m_largest = std::max(m_largest, std::bit_cast<uint32_t>(m[i]) & 0x7fffffff);
    v_largest = std::max(v_largest, std::bit_cast<uint32_t>(v[i]) & 0x7fffffff);
  }
  *block.m_absmax = std::bit_cast<float>(m_largest);
  *block.v_absmax = std::bit_cast<float>(v_largest);
  const float m_scale = 1 / std::max(*block.m_absmax, 1e-38f);
  const float v_scale = 1 / std::max(*block.v_absmax, 1e-38f);
  for (int64_t i = 0; i < count; ++i) {
    block.m_codes[i] = m_map.code(m[i] * m_scale);
    // Code 0 is zero.
    block.v_codes[i] = std::max(v_map.code(v[i] * v_scale), static_cast<uint8_t>(v[i] > 0));
  }
}

using Step = void(const Block&, const Factors&, const DynamicMap&, const DynamicMap&);

void step_portable(const Block& block, const Factors& f, const DynamicMap& m_map, const DynamicMap& v_map) {
  step_body(block, f, m_map, v_map);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void step_avx2(const Block& block, const Factors& f, const DynamicMap& m_map,
                                               const DynamicMap& v_map) {
  step_body(block, f, m_map, v_map);
}

__attribute__((target("avx512f,avx512bw,avx512vl"))) void step_avx512(const Block& block, const Factors& f,
                                                                      const DynamicMap& m_map,
                                                                      const DynamicMap& v_map) {
  step_body(block, f, m_map, v_map);
}
#endif

Step* step_of([[maybe_unused]] Simd simd) {
#if defined(__x86_64__)
  if (simd >= Simd::avx512) return step_avx512;
  if (simd >= Simd::avx2) return step_avx2;
#endif
  return step_portable;
}

void check_sizes(size_t weights, size_t gradient, const AdamW8BitState& state, int64_t step) {
  const size_t blocks = (weights + kBlock8Bit - 1) / kBlock8Bit;
  if (gradient != weights || state.m_codes.size() != weights || state.v_codes.size() != weights ||
      state.m_absmax.size() != blocks || state.v_absmax.size() != blocks || step < 1)
    throw Error("step {} of 8-bit AdamW on {} weights: gradients {}, codes {} and {}, absmax {} and {} do not fit",
                step, weights, gradient, state.m_codes.size(), state.v_codes.size(), state.m_absmax.size(),
                state.v_absmax.size());
}

}  // namespace

void adamw_8bit_step(std::span<float> weights, std::span<const float> gradient, const AdamW8BitState& state,
                     const AdamW8Bit& hyperparameters, int64_t step, const Loop& loop, Simd simd) {
  check_sizes(weights.size(), gradient.size(), state, step);
  const auto count = static_cast<int64_t>(weights.size());
  const float largest = absmax_of(simd, gradient.data(), count);
  if (!(largest < 1e19f))
    throw Error("a gradient has size {}, of which no step can be made; the loss has run away: lower the learning rate",
                largest);
  const Factors factors(hyperparameters, step);
  const DynamicMap& m_map = signed_dynamic_map();
  const DynamicMap& v_map = unsigned_dynamic_map();
  Step* const step_block = step_of(simd);
  constexpr int64_t kGrain = 256;  // blocks
  loop((count + kBlock8Bit - 1) / kBlock8Bit, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t at = block * kBlock8Bit;
      step_block(
          {std::min(kBlock8Bit, count - at), weights.data() + at, gradient.data() + at, state.m_codes.data() + at,
           state.m_absmax.data() + block, state.v_codes.data() + at, state.v_absmax.data() + block},
          factors, m_map, v_map);
    }
  });
}

}  // namespace haqa
