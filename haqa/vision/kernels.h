#pragma once
#include <cstdint>

#include "haqa/quantization/simd.h"

namespace haqa {

/// How an activation ends: numbers are cut to floor..cap and, where `steps` is above 0, rounded to the nearest multiple
/// of 1 / steps, ties to even.
struct ActivationRule {
  float floor = 0, cap = 1;
  float from = 0, to = 1;  ///< a gradient flows where the number lies within them
  float steps = 0;
  bool codes = true;  ///< the result is how many steps it has, a whole number, and not their sum
};

/// Numbers in rows of `channels`, a multiple of kLanes: images with their channels last. T is float, or uint16_t for
/// bfloat16; what is summed up is so in float.
inline constexpr int64_t kLanes = 16;

/// What a normalized activation is made of: z = value * factor + offset, by channel, + shortcut * shortcut_scale.
template <typename T>
struct NormalizedRows {
  int64_t rows = 0, channels = 0;
  const T* values = nullptr;
  const float* factor = nullptr;
  const float* offset = nullptr;
  const T* shortcut = nullptr;  ///< or none
  float shortcut_scale = 0;
  ActivationRule rule;
};

/// Gradients of what the activation gave, of its first and its second reader; each may be missing.
template <typename T>
struct ReadersGradients {
  const T* first = nullptr;
  const T* second = nullptr;
};

/// sums [2 * channels]: of value - center and of its square, by channel.
template <typename T>
void channel_sums(Simd simd, int64_t rows, int64_t channels, const T* values, const float* center, float* sums);

template <typename T>
void activate(Simd simd, const NormalizedRows<T>& of, T* out);

/// sums [3 * channels], by channel: of the gradient of z, of that times value - center, and of what z beyond the cap
/// got, which is the gradient of the cap. to_shortcut gets the gradient of the shortcut, where there is one.
template <typename T>
void gradient_sums(Simd simd, const NormalizedRows<T>& of, const ReadersGradients<T>& gradients, const float* center,
                   T* to_shortcut, float* sums);

/// The gradient of the values: that of z * by_z + value * by_value + constant, by channel.
struct InputGradient {
  const float* by_z = nullptr;
  const float* by_value = nullptr;
  const float* constant = nullptr;
};
template <typename T>
void gradient_of_values(Simd simd, const NormalizedRows<T>& of, const ReadersGradients<T>& gradients,
                        const InputGradient& factors, T* out);

/// Weights of k bits: round((t / divisor + 1/2) * levels), as the codes 2 * that - levels or as the numbers
/// (2 * that / levels - 1) * outer.
struct WeightRule {
  float divisor = 1, levels = 1, outer = 1;
  bool codes = true;
};
template <typename T>
void quantize_weights(Simd simd, const float* t, int64_t n, const WeightRule& rule, T* out);

/// out = gradient * factor * (1 - t²), and returns the sum of gradient * t.
template <typename T>
double weight_gradient(Simd simd, const T* gradient, const float* t, int64_t n, float factor, float* out);

}  // namespace haqa
