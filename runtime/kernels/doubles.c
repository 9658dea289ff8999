// SPDX-License-Identifier: MIT
// Functions for f32 in double arithmetic, whose errors (below 1e-10) vanish when the result is rounded: at most 0.51
// ulp.  There are no calls and no branches in their loops, so that compilers make vectors of them, for each level of
// instructions; where the machine can, products and sums are fused.
//
// The polynomials have the least largest relative error for their degree, found by Remez's exchange.
#include "doubles.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "cpu.h"
#include "vector.h"

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define EACH_ELEMENT for (int64_t i = 0; i < n; i++)
#else
#define EACH_ELEMENT _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++)
#endif

// c[0] + c[1]·q + ...
INLINE double polynomial(const double *c, int terms, double q) {
  double y = c[terms - 1];
  UNROLL for (int k = terms - 2; k >= 0; k--) y = y * q + c[k];
  return y;
}

// 2^n·e^r, where n is in the last bits of t, and |r| ≤ ½ log 2: 1 + r + r²·P(r).
INLINE double scaled_exp(double t, double r) {
  static const double terms[] = {0.499999999995159957,    0.166666667872919959,   0.0416666670563350813,
                                 0.00833328107901130765,  0.00138887960839779692, 0.000199093689755516212,
                                 0.0000248877687973481119};
  return double_of(bits_of(1 + (r + r * r * polynomial(terms, 7, r))) + (bits_of(t) << 52));
}

// e^x of |x| ≤ 100, and what lies beyond as e^±100.
INLINE double exp_of(double x) {
  double a = x > 100 ? 100 : x < -100 ? -100 : x, t = a * 1.44269504088896341 + DOUBLES_ROUNDER;
  double y = scaled_exp(t, a - (t - DOUBLES_ROUNDER) * 0.693147180559945309);
  return x == x ? y : x;
}

INLINE double sinh_of(double x) {
  double a = fabs(x), e = exp_of(a), large = 0.5 * (e - 1 / e), z = x * x;
  double small = 1 + z * (1.0 / 6 + z * (1.0 / 120 + z * (1.0 / 5040 + z * (1.0 / 362880))));
  return a < 0.3 ? x * small : x < 0 ? -large : large;
}

INLINE double cosh_of(double x) {
  double e = exp_of(fabs(x));
  return 0.5 * (e + 1 / e);
}

// |x| ≤ 2^17: π/2 in two parts, the first of which has 33 bits, so that its multiples are exact.
INLINE double tan_of(double x) {
  static const double sines[] = {-0.166666666415269705, 0.00833332937413101146, -0.000198393309992305879,
                                 2.7182744900578812e-6},
                      cosines[] = {-0.499999999995428564, 0.0416666665616663316, -0.00138888810556855809,
                                   0.0000247990360343569395, -2.71797306105750055e-7};
  double t = x * 0.636619772367581343 + DOUBLES_ROUNDER, n = t - DOUBLES_ROUNDER;
  double r = (x - n * 1.57079632673412561417) - n * 6.07710050650619224932e-11, z = r * r;
  double sine = r + r * z * polynomial(sines, 4, z), cosine = 1 + z * polynomial(cosines, 5, z);
  bool odd = bits_of(t) & 1;
  double above = odd ? -cosine : sine, below = odd ? sine : cosine;
  return x == 0 ? x : above / below;
}

// |x| ≤ 1
INLINE double near_atan(double x) {
  static const double terms[] = {-0.333333321334325238,  0.199999272306456448,    -0.14284167040284878,
                                 0.110945022394074764,   -0.0898543284545723527,  0.0725942107497473743,
                                 -0.0545156675237616777, 0.0344755371820003938,   -0.0162992122261450297,
                                 0.00492626133795800168, -0.000697940680610003397};
  double q = x * x;
  return x + x * q * polynomial(terms, 11, q);
}

// Of above/below, both of which are positive, or one is 0.
INLINE double atan_of_quotient(double above, double below) {
  bool far = above > below;
  double y = near_atan(far ? below / above : above / below);
  return far ? 1.57079632679489662 - y : y;
}

INLINE double atan_of(double x) {
  double y = atan_of_quotient(fabs(x), 1);
  return x < 0 ? -y : x > 0 ? y : x;
}

INLINE double asin_of(double x) {
  return x == 0 ? x : 2 * near_atan(x / (1 + sqrt((1 - x) * (1 + x))));
}

INLINE double acos_of(double x) {
  return 2 * atan_of_quotient(sqrt(1 - x), sqrt(1 + x));
}

// x^y of 0 < x, a normal f32, and y that is finite: 2^(y·log2 x) with x = 2^e·m and √½ ≤ m < √2; log m is 2·artanh f
// with f = (m − 1)/(m + 1).
INLINE double pow_of(float x, double y) {
  static const double terms[] = {0.333333333379232841, 0.19999997802308002, 0.142860555748606484, 0.110880495155357977,
                                 0.0979276466642411905};
  const uint32_t root = 0x3F3504F3u;  // √½
  uint32_t bits;
  float m;
  memcpy(&bits, &x, sizeof bits);
  bits -= root;
  uint32_t rest = (bits & 0x7FFFFFu) + root;
  memcpy(&m, &rest, sizeof m);
  double f = ((double)m - 1) / ((double)m + 1), q = f * f;
  double log2 = (double)((int32_t)bits >> 23) + 2.88539008177792681 * (f + f * q * polynomial(terms, 5, q));
  double a = y * log2;
  a = a > 200 ? 200 : a < -200 ? -200 : a;
  double t = a + DOUBLES_ROUNDER;
  return scaled_exp(t, (a - (t - DOUBLES_ROUNDER)) * 0.693147180559945309);
}

// A map in each level's form.
#if defined(__x86_64__)
#define LEVELS(name, params, args, body)                                                          \
  static void name##_portable params body CPU_AVX2_TARGET static void name##_avx2 params body     \
      CPU_AVX512_TARGET static void name##_avx512 params body static void name##_near params {    \
    static void(*const forms[CPU_LEVELS]) params = {name##_portable, name##_avx2, name##_avx512}; \
    forms[cpu_level()] args;                                                                      \
  }
#else
#define LEVELS(name, params, args, body) static void name##_near params body
#endif
#define MAP(name)                                                    \
  LEVELS(name, (int64_t n, float *out, const float *x), (n, out, x), \
         { EACH_ELEMENT out[i] = (float)name##_of((double)x[i]); })
#define PUBLIC_MAP(name)                                      \
  MAP(name)                                                   \
  void vector_##name(int64_t n, float *out, const float *x) { \
    name##_near(n, out, x);                                   \
  }
PUBLIC_MAP(sinh)
PUBLIC_MAP(cosh)
PUBLIC_MAP(atan)
PUBLIC_MAP(asin)
PUBLIC_MAP(acos)
MAP(tan)

enum { ROW = 256 };

// Where angles have more turns than tan_of can count, it goes the long way.
void vector_tan(int64_t n, float *out, const float *x) {
  for (int64_t i = 0; i < n; i += ROW) {
    int64_t m = n - i < ROW ? n - i : ROW;
    int far = 0;
    for (int64_t k = i; k < i + m; k++) far |= !(fabsf(x[k]) <= 0x1p17f);
    if (!far)
      tan_near(m, out + i, x + i);
    else
      for (int64_t k = i; k < i + m; k++) out[k] = (float)tan((double)x[k]);
  }
}

LEVELS(pow, (int64_t n, float *out, const float *x, const float *y), (n, out, x, y),
       { EACH_ELEMENT out[i] = (float)pow_of(x[i], (double)y[i]); })
LEVELS(pow_same, (int64_t n, float *out, const float *x, double y), (n, out, x, y),
       { EACH_ELEMENT out[i] = (float)pow_of(x[i], y); })

// Zeros, negative numbers, infinities and NaN are libm's, as are numbers below the least normal one.
void vector_pow(int64_t n, float *out, const float *x, const float *y, bool same) {
  float row[ROW];
  for (int64_t i = 0; i < n; i += ROW) {
    int64_t m = n - i < ROW ? n - i : ROW;
    const float *power = same ? y : y + i;
    int odd = 0;
    for (int64_t k = 0; k < m; k++) {
      float p = same ? *power : power[k];
      odd |= !(x[i + k] >= 0x1p-126f && x[i + k] < INFINITY) | !(fabsf(p) < INFINITY);
    }
    float *to = odd ? row : out + i;
    if (same)
      pow_same_near(m, to, x + i, (double)*power);
    else
      pow_near(m, to, x + i, power);
    for (int64_t k = 0; odd && k < m; k++) {
      float p = same ? *power : power[k];
      bool plain = x[i + k] >= 0x1p-126f && x[i + k] < INFINITY && fabsf(p) < INFINITY;
      out[i + k] = plain ? row[k] : powf(x[i + k], p);
    }
  }
}
