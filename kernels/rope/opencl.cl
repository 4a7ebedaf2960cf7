// Turns neighbouring pairs (a, b) of a head to (a cos t - b sin t, a sin t + b cos t), t = position * theta_base^(-2
// pair / head size). Positions may be large and t must be exact to 1e-9, so it is counted in turns, of which only the
// fraction matters: in double precision, or in 64 bits behind the point, where multiplication drops whole turns.
#define angles_double 0
#define angles_integers 1
#define trigonometry_exact 0
#define trigonometry_native 1

#define PAIRS HAQA_JOIN(float, pairs_per_item)
#if pairs_per_item == 1
#undef PAIRS
#define PAIRS float
#define FLOATS 2
#elif pairs_per_item == 2
#define FLOATS 4
#elif pairs_per_item == 4
#define FLOATS 8
#else
#define FLOATS 16
#endif

#if HAQA_CHOICE(angles_, angles) == angles_double && defined(cl_khr_fp64)
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
typedef double frequency;
static inline frequency base_of(float theta, int pairs) { return theta; }
static inline frequency frequency_of(frequency base, int pair, int pairs) {
  return pow(base, -(double)pair / pairs) * 0.15915494309189533577;
}
/// The quarter turn that is nearest, in `quarter`, and what is left in radians.
static inline float reduced(int position, frequency f, int* quarter) {
  const double turns = position * f, quarters = 4 * (turns - floor(turns)), nearest = rint(quarters);
  *quarter = (int)nearest;
  return (float)((quarters - nearest) * 1.57079632679489661923);
}
#else
typedef ulong frequency;  // of 2^64
static inline ulong power(ulong base, uint n) {
  ulong product = ~0ul;
  for (; n > 0; n /= 2, base = mul_hi(base, base))
    if (n % 2 == 1) product = mul_hi(product, base);
  return product;
}
/// theta^(-1 / pairs) by Newton's method from what floats know of it.
static inline frequency base_of(float theta, int pairs) {
  const float whole = floor(theta);
  ulong base = convert_ulong_sat_rtz(exp2(-log2(theta) / pairs) * 18446744073709551616.0f);
  for (int i = 0; i < 3; ++i) {
    const ulong reached = power(base, pairs);
    // base^pairs * theta - 1: the whole 1 falls out of 64 bits.
    const long over = (long)(reached * (ulong)whole + mul_hi(reached, (ulong)((theta - whole) * 18446744073709551616.0f)));
    base -= (long)((float)over * ((float)base * 5.42101086242752217e-20f) / pairs);
  }
  return base;
}
static inline frequency frequency_of(frequency base, int pair, int pairs) {
  const ulong radian = 2935890503282001226ul;
  return pair == 0 ? radian : mul_hi(power(base, pair), radian);
}
static inline float reduced(int position, frequency f, int* quarter) {
  const ulong turns = (ulong)(long)position * f, nearest = (turns + (1ul << 61)) >> 62;
  *quarter = (int)nearest;
  return (float)(long)(turns - (nearest << 62)) * 3.40612158008655459e-19f;
}
#endif

static inline float2 cos_sin(int position, frequency f) {
  int quarter;
  const float rest = reduced(position, f, &quarter);
#if HAQA_CHOICE(trigonometry_, trigonometry) == trigonometry_native
  const float c = native_cos(rest), s = native_sin(rest);
#else
  const float c = cos(rest), s = sin(rest);
#endif
  const float2 turned = (quarter & 1) ? (float2)(-s, c) : (float2)(c, s);
  return (quarter & 2) ? -turned : turned;
}

static inline void turn(__global const float* x, __global float* y, PAIRS c, PAIRS s) {
  const HAQA_JOIN(float, FLOATS) v = HAQA_JOIN(vload, FLOATS)(0, x);
  HAQA_JOIN(float, FLOATS) turned;
  turned.even = v.even * c - v.odd * s;
  turned.odd = v.even * s + v.odd * c;
  HAQA_JOIN(vstore, FLOATS)(turned, 0, y);
}

__kernel void haqa_kernel(__global const float* in0, __global const int* in1, __global float* out, const haqa_shape s,
                          const float theta_base) {
  const int pairs = s.out.ne[0] / 2, first = (int)get_global_id(0) * pairs_per_item;
  const int head = (int)get_global_id(1) * heads_per_item, token = (int)get_global_id(2) * tokens_per_item;
  if (first >= pairs) return;
  const int here = min(pairs_per_item, pairs - first);
  const int heads = min(s.out.ne[1], head + heads_per_item), tokens = min(s.out.ne[2], token + tokens_per_item);
  __global const int* positions = (__global const int*)haqa_bytes(in1, s.in[1], 0, 0);
  const frequency base = base_of(theta_base, pairs);
  frequency frequencies[pairs_per_item];
  for (int i = 0; i < pairs_per_item; ++i) frequencies[i] = frequency_of(base, first + i, pairs);
  for (int i2 = token; i2 < tokens; ++i2) {
    union {
      PAIRS vector;
      float one[pairs_per_item];
    } c, sine;
    for (int i = 0; i < pairs_per_item; ++i) {
      const float2 turned = cos_sin(positions[i2], frequencies[i]);
      c.one[i] = turned.x;
      sine.one[i] = turned.y;
    }
    for (int i1 = head; i1 < heads; ++i1) {
      __global const float* x = haqa_row(in0, s.in[0], i1, i2) + 2 * first;
      __global float* y = haqa_out_row(out, s.out, i1, i2) + 2 * first;
      if (here == pairs_per_item) {
        turn(x, y, c.vector, sine.vector);
      } else {
        for (int i = 0; i < here; ++i) {
          const float a = x[2 * i], b = x[2 * i + 1];
          y[2 * i] = a * c.one[i] - b * sine.one[i];
          y[2 * i + 1] = a * sine.one[i] + b * c.one[i];
        }
      }
    }
  }
}
