#include "haqa/vision/kernels.h"

#include <bit>
#include <type_traits>

#include "haqa/quantization/bf16.h"

namespace haqa {
namespace {

__attribute__((always_inline)) inline float load(float value) {
  return value;
}
__attribute__((always_inline)) inline float load(uint16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}
__attribute__((always_inline)) inline void store(float value, float& to) {
  to = value;
}
__attribute__((always_inline)) inline void store(float value, uint16_t& to) {
  to = to_bf16(value);
}

/// Of a number from 0 to 2^23; what is no number stays so.
__attribute__((always_inline)) inline float rounded(float value) {
  constexpr float kMagic = 8388608;  // 2^23: floats from there on have no fractions
  return (value + kMagic) - kMagic;
}

/// How a gradient of the result becomes one of z, where it flows.
__attribute__((always_inline)) inline float gain(const ActivationRule& rule) {
  return rule.steps > 0 && rule.codes ? rule.steps : 1;
}

// ---- bodies that the compiler vectorizes for each instruction set ----
//
// The innermost loops run over kLanes channels, which is one vector or a few. What a layer has or has not is known to
// the compiler, so that no branch stands in them; pointers are copies, which no store can change.

template <typename T, bool kShortcut>
struct Layer {
  const T* const values;
  const float* const factor;
  const float* const offset;
  const T* const shortcut;
  const float shortcut_scale;

  __attribute__((always_inline)) explicit Layer(const NormalizedRows<T>& of)
      : values(of.values),
        factor(of.factor),
        offset(of.offset),
        shortcut(of.shortcut),
        shortcut_scale(of.shortcut_scale) {}

  __attribute__((always_inline)) float z(int64_t at, int64_t channel) const {
    float sum = load(values[at]) * factor[channel] + offset[channel];
    if constexpr (kShortcut) sum += load(shortcut[at]) * shortcut_scale;
    return sum;
  }
};

template <typename T, bool kSecond>
struct Gradients {
  const T* const first;
  const T* const second;
  const float scale, from, to;

  __attribute__((always_inline)) Gradients(const ReadersGradients<T>& readers, const ActivationRule& rule)
      : first(readers.first ? readers.first : readers.second),
        second(readers.second),
        scale(gain(rule)),
        from(rule.from),
        to(rule.to) {}

  /// Of z, were there no bounds.
  __attribute__((always_inline)) float unbound(int64_t at) const {
    float sum = load(first[at]);
    if constexpr (kSecond) sum += load(second[at]);
    return sum * scale;
  }
  __attribute__((always_inline)) float bound(float z, float gradient) const {
    return z >= from && z <= to ? gradient : 0.0f;
  }
};

/// Calls work with whether there is a shortcut and whether both readers gave a gradient, known to the compiler.
template <typename T, typename Work>
__attribute__((always_inline)) inline void by_parts(bool shortcut, const ReadersGradients<T>& readers,
                                                    const Work& work) {
  const bool both = readers.first && readers.second;
  if (shortcut)
    both ? work(std::true_type(), std::true_type()) : work(std::true_type(), std::false_type());
  else
    both ? work(std::false_type(), std::true_type()) : work(std::false_type(), std::false_type());
}

struct Bodies {
  template <typename T>
  __attribute__((always_inline)) static void channel_sums(int64_t rows, int64_t channels, const T* values,
                                                          const float* center, float* sums) {
    for (int64_t c = 0; c < channels; c += kLanes) {
      float sum[kLanes] = {}, square[kLanes] = {};
      const auto add = [&](int64_t row, auto count) __attribute__((always_inline)) {
        const T* const at = values + row * channels + c;
        for (int64_t i = 0; i < kLanes; ++i) {
          float part = 0, squares = 0;
          for (int64_t j = 0; j < count; ++j) {
            const float value = load(at[j * channels + i]) - center[c + i];
            part += value;
            squares += value * value;
          }
          sum[i] += part;
          square[i] += squares;
        }
      };
      // Four rows for each time that the sums are fetched and put back, which takes longer than the additions.
      int64_t row = 0;
      for (; row + 4 <= rows; row += 4) add(row, std::integral_constant<int64_t, 4>());
      for (; row < rows; ++row) add(row, std::integral_constant<int64_t, 1>());
      for (int64_t i = 0; i < kLanes; ++i) {
        sums[c + i] = sum[i];
        sums[channels + c + i] = square[i];
      }
    }
  }

  template <typename T>
  __attribute__((always_inline)) static void activate(const NormalizedRows<T>& of, T* out) {
    const ActivationRule rule = of.rule;
    const auto with = [&](auto shortcut, auto finish) __attribute__((always_inline)) {
      const Layer<T, decltype(shortcut)::value> layer(of);
      const int64_t rows = of.rows, channels = of.channels;
      T* __restrict const to = out;
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t c = 0; c < channels; c += kLanes) {
          const int64_t at = row * channels + c;
#pragma GCC ivdep
          for (int64_t i = 0; i < kLanes; ++i) {
            float z = layer.z(at + i, c + i);
            z = z < rule.floor ? rule.floor : z;  // this way about, what is no number stays so
            z = z > rule.cap ? rule.cap : z;
            store(finish(z), to[at + i]);
          }
        }
    };
    const auto by_shortcut = [&](auto finish) __attribute__((always_inline)) {
      of.shortcut ? with(std::true_type(), finish) : with(std::false_type(), finish);
    };
    const float steps = rule.steps;
    if (!(steps > 0))
      by_shortcut([](float z) __attribute__((always_inline)) { return z; });
    else if (rule.codes)
      by_shortcut([steps](float z) __attribute__((always_inline)) { return rounded(z * steps); });
    else
      by_shortcut([steps](float z) __attribute__((always_inline)) { return rounded(z * steps) / steps; });
  }

  template <typename T>
  __attribute__((always_inline)) static void gradient_sums(const NormalizedRows<T>& of,
                                                           const ReadersGradients<T>& readers, const float* center,
                                                           T* to_shortcut, float* sums) {
    const float cap = of.rule.cap;
    by_parts(
        of.shortcut, readers, [&](auto shortcut, auto second) __attribute__((always_inline)) {
          const Layer<T, decltype(shortcut)::value> layer(of);
          const Gradients<T, decltype(second)::value> gradients(readers, of.rule);
          const int64_t rows = of.rows, channels = of.channels;
          T* __restrict const to = to_shortcut;
          for (int64_t c = 0; c < channels; c += kLanes) {
            float sum[kLanes] = {}, product[kLanes] = {}, beyond[kLanes] = {};
            const auto add = [&](int64_t row, auto count) __attribute__((always_inline)) {
#pragma GCC ivdep
              for (int64_t i = 0; i < kLanes; ++i) {
                float part = 0, products = 0, past = 0;
                for (int64_t j = 0; j < count; ++j) {
                  const int64_t at = (row + j) * channels + c + i;
                  const float z = layer.z(at, c + i), g = gradients.unbound(at);
                  const float dz = gradients.bound(z, g);
                  part += dz;
                  products += dz * (load(layer.values[at]) - center[c + i]);
                  past += z >= cap ? g : 0.0f;
                  if constexpr (decltype(shortcut)::value) store(dz * layer.shortcut_scale, to[at]);
                }
                sum[i] += part;
                product[i] += products;
                beyond[i] += past;
              }
            };
            int64_t row = 0;  // two at a time, as in channel_sums()
            for (; row + 2 <= rows; row += 2) add(row, std::integral_constant<int64_t, 2>());
            for (; row < rows; ++row) add(row, std::integral_constant<int64_t, 1>());
            for (int64_t i = 0; i < kLanes; ++i) {
              sums[c + i] = sum[i];
              sums[channels + c + i] = product[i];
              sums[2 * channels + c + i] = beyond[i];
            }
          }
        });
  }

  template <typename T>
  __attribute__((always_inline)) static void gradient_of_values(const NormalizedRows<T>& of,
                                                                const ReadersGradients<T>& readers,
                                                                const InputGradient& by, T* out) {
    const InputGradient factors = by;
    by_parts(
        of.shortcut, readers, [&](auto shortcut, auto second) __attribute__((always_inline)) {
          const Layer<T, decltype(shortcut)::value> layer(of);
          const Gradients<T, decltype(second)::value> gradients(readers, of.rule);
          const int64_t rows = of.rows, channels = of.channels;
          T* __restrict const to = out;
          for (int64_t row = 0; row < rows; ++row)
            for (int64_t c = 0; c < channels; c += kLanes) {
              const int64_t at = row * channels + c;
#pragma GCC ivdep
              for (int64_t i = 0; i < kLanes; ++i) {
                const float dz = gradients.bound(layer.z(at + i, c + i), gradients.unbound(at + i));
                store(dz * factors.by_z[c + i] + load(layer.values[at + i]) * factors.by_value[c + i] +
                          factors.constant[c + i],
                      to[at + i]);
              }
            }
        });
  }

  template <typename T>
  __attribute__((always_inline)) static void quantize_weights(const float* t, int64_t n, const WeightRule& rule,
                                                              T* out) {
    const float divisor = rule.divisor, levels = rule.levels, outer = rule.outer;
    T* __restrict const to = out;
    if (rule.codes)
      for (int64_t i = 0; i < n; ++i) store(2 * rounded((t[i] / divisor + 0.5f) * levels) - levels, to[i]);
    else
      for (int64_t i = 0; i < n; ++i)
        store((2 * (rounded((t[i] / divisor + 0.5f) * levels) / levels) - 1) * outer, to[i]);
  }

  template <typename T>
  __attribute__((always_inline)) static void weight_gradient(const T* gradient, const float* t, int64_t n, float factor,
                                                             float* out, double* sum) {
    float products[kLanes] = {};
    float* __restrict const to = out;
    const auto one = [&](int64_t i, int64_t lane) __attribute__((always_inline)) {
      const float g = load(gradient[i]);
      products[lane] += g * t[i];
      to[i] = g * factor * (1 - t[i] * t[i]);
    };
    const int64_t whole = n / kLanes * kLanes;
    for (int64_t first = 0; first < whole; first += kLanes)
      for (int64_t lane = 0; lane < kLanes; ++lane) one(first + lane, lane);
    for (int64_t i = whole; i < n; ++i) one(i, i - whole);
    for (const float product : products) *sum += static_cast<double>(product);
  }
};

// ---- the same for each instruction set ----

enum class Body { channel_sums, activate, gradient_sums, gradient_of_values, quantize_weights, weight_gradient };

template <Body body, typename... Args>
__attribute__((always_inline)) inline void run_body(const Args&... args) {
  if constexpr (body == Body::channel_sums) Bodies::channel_sums(args...);
  if constexpr (body == Body::activate) Bodies::activate(args...);
  if constexpr (body == Body::gradient_sums) Bodies::gradient_sums(args...);
  if constexpr (body == Body::gradient_of_values) Bodies::gradient_of_values(args...);
  if constexpr (body == Body::quantize_weights) Bodies::quantize_weights(args...);
  if constexpr (body == Body::weight_gradient) Bodies::weight_gradient(args...);
}

#if defined(__x86_64__)
template <Body body, typename... Args>
__attribute__((target("avx2"))) void run_avx2(const Args&... args) {
  run_body<body>(args...);
}
template <Body body, typename... Args>
__attribute__((target("avx512f,avx512bw,avx512vl"))) void run_avx512(const Args&... args) {
  run_body<body>(args...);
}
#endif

template <Body body, typename... Args>
void run(Simd simd, const Args&... args) {
#if defined(__x86_64__)
  if (simd >= Simd::avx512) return run_avx512<body>(args...);
  if (simd >= Simd::avx2) return run_avx2<body>(args...);
#endif
  run_body<body>(args...);
}

}  // namespace

template <typename T>
void channel_sums(Simd simd, int64_t rows, int64_t channels, const T* values, const float* center, float* sums) {
  run<Body::channel_sums>(simd, rows, channels, values, center, sums);
}

template <typename T>
void activate(Simd simd, const NormalizedRows<T>& of, T* out) {
  run<Body::activate>(simd, of, out);
}

template <typename T>
void gradient_sums(Simd simd, const NormalizedRows<T>& of, const ReadersGradients<T>& gradients, const float* center,
                   T* to_shortcut, float* sums) {
  run<Body::gradient_sums>(simd, of, gradients, center, to_shortcut, sums);
}

template <typename T>
void gradient_of_values(Simd simd, const NormalizedRows<T>& of, const ReadersGradients<T>& gradients,
                        const InputGradient& factors, T* out) {
  run<Body::gradient_of_values>(simd, of, gradients, factors, out);
}

template <typename T>
void quantize_weights(Simd simd, const float* t, int64_t n, const WeightRule& rule, T* out) {
  run<Body::quantize_weights>(simd, t, n, rule, out);
}

template <typename T>
double weight_gradient(Simd simd, const T* gradient, const float* t, int64_t n, float factor, float* out) {
  double sum = 0;
  run<Body::weight_gradient>(simd, gradient, t, n, factor, out, &sum);
  return sum;
}

template void channel_sums(Simd, int64_t, int64_t, const float*, const float*, float*);
template void activate(Simd, const NormalizedRows<float>&, float*);
template void gradient_sums(Simd, const NormalizedRows<float>&, const ReadersGradients<float>&, const float*, float*,
                            float*);
template void gradient_of_values(Simd, const NormalizedRows<float>&, const ReadersGradients<float>&,
                                 const InputGradient&, float*);
template void quantize_weights(Simd, const float*, int64_t, const WeightRule&, float*);
template double weight_gradient(Simd, const float*, const float*, int64_t, float, float*);

template void channel_sums(Simd, int64_t, int64_t, const uint16_t*, const float*, float*);
template void activate(Simd, const NormalizedRows<uint16_t>&, uint16_t*);
template void gradient_sums(Simd, const NormalizedRows<uint16_t>&, const ReadersGradients<uint16_t>&, const float*,
                            uint16_t*, float*);
template void gradient_of_values(Simd, const NormalizedRows<uint16_t>&, const ReadersGradients<uint16_t>&,
                                 const InputGradient&, uint16_t*);
template void quantize_weights(Simd, const float*, int64_t, const WeightRule&, uint16_t*);
template double weight_gradient(Simd, const uint16_t*, const float*, int64_t, float, float*);

}  // namespace haqa
