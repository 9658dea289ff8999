// SPDX-License-Identifier: MIT
// The functions of vector.c, a template for vector shapes.
//
// vector.c includes it for each:
//   BYTES  the size of a vector
//   FUSED  1 for x86 with AVX2 and FMA (AVX-512 when BYTES is 64), 0 for what the compiler assumes
//
// e^x = 2^n · e^r with n = round(x·log2 e) and |r| ≤ ½ ln 2; e^r = 1 + r + r²·P(r).  The polynomials
// have the least largest relative error for their degree, fitted by Lawson's iteration.
#if !FUSED
#define TARGET
#elif BYTES == 64
#define TARGET CPU_AVX512_TARGET
#else
#define TARGET CPU_AVX2_TARGET
#endif
#define INLINE TARGET static inline __attribute__((always_inline))
#define SHAPE_PASTE(fused, bytes, name) v_##fused##_##bytes##_##name
#define SHAPE_OF(fused, bytes, name) SHAPE_PASTE(fused, bytes, name)
#define KERNEL(name) SHAPE_OF(FUSED, BYTES, name)
#define LANES (BYTES / 4)

// Vectors that go side by side: one alone would wait for its own results most of the time.
#define CHAINS 4
#define EACH UNROLL for (int c = 0; c < chains; c++)

typedef float KERNEL(Floats) __attribute__((vector_size(BYTES)));
typedef int32_t KERNEL(Ints) __attribute__((vector_size(BYTES)));
typedef uint32_t KERNEL(Bits) __attribute__((vector_size(BYTES)));
typedef float KERNEL(Loose) __attribute__((vector_size(BYTES), aligned(4), may_alias));
#define FLOATS KERNEL(Floats)
#define INTS KERNEL(Ints)
#define BITS KERNEL(Bits)

// a·b + c; the larger, or the smaller, of a and b: b where that is NaN; a where the sign of m is set, else b; whether
// a sign of m is set.
#if FUSED && BYTES == 64
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define LARGER(a, b) _mm512_max_ps(a, b)
#define SMALLER(a, b) _mm512_min_ps(a, b)
#define CHOOSE(m, a, b) _mm512_mask_blend_ps(_mm512_movepi32_mask((__m512i)(m)), b, a)
#define ANY(m) (_mm512_movepi32_mask((__m512i)(m)) != 0)
#define RECIPROCAL(a) KERNEL(reciprocal)(a)
#elif FUSED
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define LARGER(a, b) _mm256_max_ps(a, b)
#define SMALLER(a, b) _mm256_min_ps(a, b)
#define CHOOSE(m, a, b) _mm256_blendv_ps(b, a, (FLOATS)(m))
#define ANY(m) (_mm256_movemask_ps((FLOATS)(m)) != 0)
#define RECIPROCAL(a) (SPREAD(1) / (a))
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#define LARGER(a, b) CHOOSE((a) > (b), a, b)
#define SMALLER(a, b) CHOOSE((a) < (b), a, b)
#define CHOOSE(m, a, b) ((FLOATS)((((INTS)(m) >> 31) & (INTS)(a)) | (~((INTS)(m) >> 31) & (INTS)(b))))
#define ANY(m) ((((m)[0] | (m)[1]) | ((m)[2] | (m)[3])) < 0)
#define RECIPROCAL(a) (SPREAD(1) / (a))
#endif

INLINE FLOATS KERNEL(spread)(float s) {
  return s - (FLOATS){0};
}
#define SPREAD(s) KERNEL(spread)(s)
#define SIGN ((BITS)SPREAD(-0.0f))

#if FUSED && BYTES == 64
// 1/a of moderate a, within 2 units in the last place: 14 bits, and a step of Newton's.
INLINE FLOATS KERNEL(reciprocal)(FLOATS a) {
  FLOATS r = _mm512_rcp14_ps(a);
  return FMA(FMA(-a, r, SPREAD(1)), r, r);
}
#endif

// x·log2 e rounded, in the last bits of floats, above `bias`: shifted left by 23 they are the bits of 2^(n + bias −
// 127).  `r` becomes the rest, x − n·ln 2.
INLINE void KERNEL(reduce)(BITS *bits, FLOATS *r, const FLOATS *x, float bias, const int chains) {
  const FLOATS rounder = SPREAD(12582912.0f + bias);  // 1.5·2^23
  FLOATS n[CHAINS];
  EACH n[c] = FMA(x[c], SPREAD(1.44269504088896341f), rounder);
  EACH bits[c] = (BITS)n[c];
  EACH n[c] -= rounder;
  EACH r[c] = FMA(n[c], SPREAD(-0.693359375f), x[c]);
  EACH r[c] = FMA(n[c], SPREAD(2.12194440e-4f), r[c]);
}

// p = P(r)
INLINE void KERNEL(rest)(FLOATS *p, const FLOATS *r, const int chains) {
  EACH p[c] = FMA(SPREAD(1.3882516650483012e-3f), r[c], SPREAD(8.366547524929047e-3f));
  EACH p[c] = FMA(p[c], r[c], SPREAD(4.166720062494278e-2f));
  EACH p[c] = FMA(p[c], r[c], SPREAD(1.666654348373413e-1f));
  EACH p[c] = FMA(p[c], r[c], SPREAD(4.999999701976776e-1f));
}

// p = e^r
INLINE void KERNEL(exp_of_rest)(FLOATS *p, const FLOATS *r, const int chains) {
  KERNEL(rest)(p, r, chains);
  EACH p[c] = FMA(p[c], r[c], SPREAD(1));
  EACH p[c] = FMA(p[c], r[c], SPREAD(1));
}

INLINE void KERNEL(exp_of)(FLOATS *x, const int chains) {
  FLOATS r[CHAINS];
  BITS bits[CHAINS], half[CHAINS];
  EACH x[c] = SMALLER(SPREAD(89), LARGER(SPREAD(-104), x[c]));
  KERNEL(reduce)(bits, r, x, 254, chains);
  KERNEL(exp_of_rest)(x, r, chains);
  // Two factors, so that the result may be infinite or below the smallest normal number.
  EACH half[c] = bits[c] >> 1;
  EACH x[c] = x[c] * (FLOATS)(half[c] << 23) * (FLOATS)((bits[c] - half[c]) << 23);
}

#if FUSED
// With v = (e^2|x| − 1)/2: v/(v + 1), and near 0 v − v·v/(v + 1), which rounds less.
INLINE void KERNEL(tanh_of)(FLOATS *x, const int chains) {
  FLOATS p[CHAINS], r[CHAINS], s[CHAINS];
  BITS bits[CHAINS];
  EACH s[c] = SMALLER(SPREAD(9.1f), (FLOATS)((BITS)x[c] & ~SIGN));
  EACH s[c] += s[c];
  KERNEL(reduce)(bits, r, s, 126, chains);
  KERNEL(rest)(p, r, chains);
  EACH p[c] = FMA(p[c] * r[c], r[c], r[c]);
  EACH s[c] = (FLOATS)(bits[c] << 23);
  EACH p[c] = FMA(p[c], s[c], s[c] - SPREAD(0.5f));
  EACH r[c] = p[c] / (p[c] + SPREAD(1));
  EACH r[c] = CHOOSE(p[c] - SPREAD(0.5f), FMA(-p[c], r[c], p[c]), r[c]);
  EACH x[c] = (FLOATS)((BITS)r[c] | ((BITS)x[c] & SIGN));
}
#else
// 1 − 2/(e^2|x| + 1), and near 0 a polynomial.
INLINE void KERNEL(tanh_of)(FLOATS *x, const int chains) {
  FLOATS a[CHAINS], p[CHAINS], q[CHAINS], r[CHAINS];
  BITS bits[CHAINS];
  EACH a[c] = SMALLER(SPREAD(9.1f), (FLOATS)((BITS)x[c] & ~SIGN));
  EACH p[c] = a[c] + a[c];
  KERNEL(reduce)(bits, r, p, 127, chains);
  KERNEL(exp_of_rest)(p, r, chains);
  EACH p[c] = SPREAD(2) / FMA(p[c], (FLOATS)(bits[c] << 23), SPREAD(1));
  EACH r[c] = x[c] * x[c];
  EACH q[c] = FMA(SPREAD(1.6437580808997154e-2f), r[c], SPREAD(-5.267181247472763e-2f));
  EACH q[c] = FMA(q[c], r[c], SPREAD(1.3320724666118622e-1f));
  EACH q[c] = FMA(q[c], r[c], SPREAD(-3.333294689655304e-1f));
  EACH q[c] = FMA(q[c] * r[c], x[c], x[c]);
  EACH p[c] = (FLOATS)((BITS)(SPREAD(1) - p[c]) | ((BITS)x[c] & SIGN));
  EACH x[c] = CHOOSE(a[c] < SPREAD(0.55f), q[c], p[c]);
}
#endif

// 1/(1 + e^−x), both parts times 2^−64: it may be below the smallest normal number.  2^n is added last to 2^n·(e^r − 1)
// + 1, which keeps the error below 2 ulp.
INLINE void KERNEL(sigmoid_of)(FLOATS *x, const int chains) {
  FLOATS p[CHAINS], r[CHAINS], s[CHAINS];
  BITS bits[CHAINS];
  EACH x[c] = LARGER(SPREAD(-40), SMALLER(SPREAD(104), (FLOATS)((BITS)x[c] ^ SIGN)));
  KERNEL(reduce)(bits, r, x, 127 - 64, chains);
  KERNEL(rest)(p, r, chains);
  EACH p[c] = FMA(p[c] * r[c], r[c], r[c]);
  EACH s[c] = (FLOATS)(bits[c] << 23);
  EACH x[c] = SPREAD(0x1p-64f) / (FMA(p[c], s[c], SPREAD(0x1p-64f)) + s[c]);
}

// e^x − 1, with half of 2^n so that the largest may be infinite.
INLINE void KERNEL(expm1_of)(FLOATS *x, const int chains) {
  FLOATS a[CHAINS], p[CHAINS], r[CHAINS];
  BITS bits[CHAINS];
  EACH a[c] = SMALLER(SPREAD(89), LARGER(SPREAD(-20), x[c]));
  KERNEL(reduce)(bits, r, a, 126, chains);
  KERNEL(rest)(p, r, chains);
  EACH p[c] = FMA(p[c] * r[c], r[c], r[c]);
  EACH p[c] = FMA(p[c], (FLOATS)(bits[c] << 23), (FLOATS)(bits[c] << 23) - SPREAD(0.5f));
  EACH x[c] = CHOOSE((FLOATS)((BITS)x[c] & ~SIGN) < SPREAD(0x1p-25f), x[c], p[c] + p[c]);
}

// log(2^e·(1 + f)) = e·ln 2 + (f − f²/2 + f³·P(f)) for √½ ≤ 1 + f < √2
INLINE void KERNEL(log_of_parts)(FLOATS *y, const FLOATS *e, const FLOATS *f, const int chains) {
  static const float terms[] = {1.2762217223644257e-1f, -1.3159610331058502e-1f, 1.4201579988002777e-1f,
                                -1.66234090924263e-1f,  2.000124156475067e-1f,   -2.500081956386566e-1f,
                                3.333333134651184e-1f};
  FLOATS square[CHAINS];
  EACH square[c] = f[c] * f[c];
  EACH y[c] = SPREAD(-7.6364390552043915e-2f);
  UNROLL for (int i = 0; i < 7; i++) EACH y[c] = FMA(y[c], f[c], SPREAD(terms[i]));
  EACH y[c] = y[c] * f[c] * square[c];
  EACH y[c] = FMA(e[c], SPREAD(-2.12194440e-4f), y[c]);
  EACH y[c] = FMA(SPREAD(-0.5f), square[c], y[c]) + f[c];
  EACH y[c] = FMA(e[c], SPREAD(0.693359375f), y[c]);
}

// x = 2^e·(1 + f)
INLINE void KERNEL(split)(FLOATS *e, FLOATS *f, const FLOATS *x, const int chains) {
  const uint32_t root = 0x3F3504F3u;  // √½
  EACH {
    BITS bits = (BITS)x[c] - root;
    e[c] = __builtin_convertvector((INTS)bits >> 23, FLOATS);
    f[c] = (FLOATS)((bits & 0x7FFFFFu) + root) - SPREAD(1);
  }
}

INLINE void KERNEL(log_of)(FLOATS *x, const int chains) {
  FLOATS y[CHAINS], e[CHAINS], f[CHAINS];
  // Below the smallest normal number, of 2^23·x.
  EACH y[c] = CHOOSE(x[c] < SPREAD(0x1p-126f), x[c] * SPREAD(0x1p23f), x[c]);
  KERNEL(split)(e, f, y, chains);
  EACH e[c] -= (FLOATS)((x[c] < SPREAD(0x1p-126f)) & (INTS)SPREAD(23));
  KERNEL(log_of_parts)(y, e, f, chains);
  EACH y[c] = CHOOSE(x[c] < SPREAD(INFINITY), y[c], x[c]);
  EACH y[c] = CHOOSE(x[c], SPREAD(NAN), y[c]);
  EACH x[c] = CHOOSE(x[c] == SPREAD(0), SPREAD(-INFINITY), y[c]);
}

// Of 1 + x, rounded, with what was rounded off added to f.
INLINE void KERNEL(log1p_of)(FLOATS *x, const int chains) {
  FLOATS y[CHAINS], e[CHAINS], f[CHAINS], off[CHAINS];
  EACH y[c] = x[c] + SPREAD(1);
  KERNEL(split)(e, f, y, chains);
  EACH off[c] = CHOOSE(y[c] < SPREAD(2), x[c] - (y[c] - SPREAD(1)), SPREAD(1) - (y[c] - x[c]));
  // 2^−e in two factors: e may be 128.
  EACH off[c] = off[c] * (FLOATS)((129 - __builtin_convertvector(e[c], INTS)) << 23) * SPREAD(0.25f);
  EACH f[c] += off[c];
  KERNEL(log_of_parts)(off, e, f, chains);
  EACH off[c] = CHOOSE(x[c] < SPREAD(INFINITY), (FLOATS)((BITS)off[c] | ((BITS)x[c] & SIGN)), x[c]);
  EACH off[c] = CHOOSE(y[c], SPREAD(NAN), off[c]);
  EACH x[c] = CHOOSE(y[c] == SPREAD(0), SPREAD(-INFINITY), off[c]);
}

// The results of libm in the lanes whose numbers are too large for the reduction of angles.
INLINE void KERNEL(beyond)(FLOATS *y, const FLOATS *x, float (*function)(float), const int chains) {
  INTS large = (INTS){0};
  EACH large |= (FLOATS)((BITS)x[c] & ~SIGN) > SPREAD(LARGEST_ANGLE);
  if (__builtin_expect(!ANY(large), 1)) return;
  float in[CHAINS * LANES], out[CHAINS * LANES];
  EACH *(KERNEL(Loose) *)(in + c * LANES) = x[c];
  EACH *(KERNEL(Loose) *)(out + c * LANES) = y[c];
  for (int i = 0; i < chains * LANES; i++)
    if (fabsf(in[i]) > LARGEST_ANGLE) out[i] = function(in[i]);
  EACH y[c] = *(KERNEL(Loose) *)(out + c * LANES);
}

// The sine `quarters` of a turn later.  x = n·π/2 + r with n rounded, in the last bits of `turn`, π/2 being in parts
// (Cody and Waite 1980), so short where products are rounded that these are exact; then sin r or cos r, whose sign
// changes after two quarters.
INLINE void KERNEL(sin_later)(FLOATS *x, uint32_t quarters, float (*libm)(float), const int chains) {
  const FLOATS rounder = SPREAD(12582912.0f);
  FLOATS n[CHAINS], r[CHAINS], z[CHAINS], s[CHAINS], co[CHAINS];
  BITS turn[CHAINS];
  EACH n[c] = FMA(x[c], SPREAD(0.636619772367581343f), rounder);
  EACH turn[c] = (BITS)n[c] + quarters;
  EACH n[c] = rounder - n[c];
#if FUSED
  EACH r[c] = FMA(n[c], SPREAD(0x1.921fb6p0f), x[c]);
  EACH r[c] = FMA(n[c], SPREAD(-0x1.777a5cp-25f), r[c]);
  EACH r[c] = FMA(n[c], SPREAD(-0x1.ee59dap-50f), r[c]);
#else
  // The first two sums are exact; what the third rounds off goes to the rest.
  EACH z[c] = x[c] + n[c] * SPREAD(0x1.92p0f) + n[c] * SPREAD(0x1.fb4p-12f);
  EACH s[c] = n[c] * SPREAD(0x1.444p-24f);
  EACH r[c] = z[c] + s[c];
  EACH r[c] += s[c] - (r[c] - z[c]) + (n[c] * SPREAD(0x1.68cp-39f) + n[c] * SPREAD(0x1.1a6264p-54f));
#endif
  EACH z[c] = r[c] * r[c];
  EACH s[c] = FMA(SPREAD(-1.9518291810527444e-4f), z[c], SPREAD(8.332189172506332e-3f));
  EACH co[c] = FMA(SPREAD(2.4432327336398885e-5f), z[c], SPREAD(-1.3887309469282627e-3f));
  EACH s[c] = FMA(s[c], z[c], SPREAD(-1.6666655242443085e-1f));
  EACH co[c] = FMA(co[c], z[c], SPREAD(4.166664555668831e-2f));
  EACH s[c] = FMA(s[c] * z[c], r[c], r[c]);
  EACH co[c] = FMA(co[c] * z[c], z[c], FMA(SPREAD(-0.5f), z[c], SPREAD(1)));
  EACH s[c] = (FLOATS)((BITS)CHOOSE(turn[c] << 31, co[c], s[c]) ^ (turn[c] << 30 & SIGN));
  KERNEL(beyond)(s, x, libm, chains);
  EACH x[c] = s[c];
}

INLINE void KERNEL(sin_of)(FLOATS *x, const int chains) {
  FLOATS y[CHAINS];
  EACH y[c] = x[c];
  KERNEL(sin_later)(y, 0, sinf, chains);
  EACH x[c] = CHOOSE(x[c] == SPREAD(0), x[c], y[c]);  // −0 too
}

INLINE void KERNEL(cos_of)(FLOATS *x, const int chains) {
  KERNEL(sin_later)(x, 1, cosf, chains);
}

// 1 − e^P(|x|), P being a polynomial for log erfc |x|, and near 0 another: x + x·Q(x²).
INLINE void KERNEL(erf_of)(FLOATS *x, const int chains) {
  static const float far[] = {-3.117874264717102e-3f, 2.2519150748848915e-2f, -1.0452611744403839e-1f,
                              -6.365187764167786e-1f, -1.128061056137085f,    -1.045233293552883e-4f},
                     near[] = {5.0577037036418915e-3f, -2.6807287707924843e-2f, 1.1282864958047867e-1f,
                               -3.7612590193748474e-1f, 1.2837916612625122e-1f};
  FLOATS a[CHAINS], p[CHAINS], q[CHAINS], r[CHAINS];
  BITS bits[CHAINS];
  EACH a[c] = SMALLER(SPREAD(4), (FLOATS)((BITS)x[c] & ~SIGN));
  EACH p[c] = SPREAD(2.0367771503515542e-4f);
  UNROLL for (int i = 0; i < 6; i++) EACH p[c] = FMA(p[c], a[c], SPREAD(far[i]));
  KERNEL(reduce)(bits, r, p, 127, chains);
  KERNEL(exp_of_rest)(p, r, chains);
  EACH p[c] = SPREAD(1) - p[c] * (FLOATS)(bits[c] << 23);
  EACH p[c] = (FLOATS)((BITS)p[c] | ((BITS)x[c] & SIGN));
  EACH r[c] = a[c] * a[c];
  EACH q[c] = SPREAD(-6.348518654704094e-4f);
  UNROLL for (int i = 0; i < 5; i++) EACH q[c] = FMA(q[c], r[c], SPREAD(near[i]));
  EACH q[c] = FMA(q[c], x[c], x[c]);
  EACH x[c] = CHOOSE(a[c] < SPREAD(0.85f), q[c], p[c]);
}

// max(x, 0) + log(1 + e^−|x|), the logarithm as a polynomial.
INLINE void KERNEL(softplus_of)(FLOATS *x, const int chains) {
  static const float terms[] = {-2.950519323348999e-2f, 7.822588086128235e-2f,  -1.3663239777088165e-1f,
                                1.9106003642082214e-1f, -2.484298199415207e-1f, 3.331909775733948e-1f,
                                -4.999949336051941e-1f, 9.999999403953552e-1f};
  FLOATS e[CHAINS], p[CHAINS], r[CHAINS];
  BITS bits[CHAINS];
  EACH e[c] = LARGER(SPREAD(-104), (FLOATS)((BITS)x[c] | SIGN));
  KERNEL(reduce)(bits, r, e, 127 + 64, chains);
  KERNEL(exp_of_rest)(e, r, chains);
  EACH e[c] = e[c] * (FLOATS)(bits[c] << 23) * SPREAD(0x1p-64f);
  EACH p[c] = SPREAD(5.232682917267084e-3f);
  UNROLL for (int i = 0; i < 8; i++) EACH p[c] = FMA(p[c], e[c], SPREAD(terms[i]));
  EACH x[c] = FMA(p[c], e[c], LARGER(SPREAD(0), x[c]));
}

// e = e^(−x²/2)·2^64, below = Φ(−|x|)·2^64 as e·u·Q(1 − u) with u = 1/(1 + 0.3|x|).
INLINE void KERNEL(normal)(FLOATS *e, FLOATS *below, const FLOATS *x, const int chains) {
  static const float terms[] = {-7.264859974384308e-2f, 7.030860334634781e-2f,   1.0893045924603939e-2f,
                                2.294781431555748e-2f,  -1.3959738612174988e-1f, -8.104562759399414e-2f,
                                6.181478500366211e-1f,  -8.298072814941406e-1f,  0.5f};
  FLOATS a[CHAINS], high[CHAINS], rest[CHAINS], y[CHAINS], r[CHAINS];
  BITS bits[CHAINS];
  // The square in two parts: its rounding would be the exponential's relative error.
  EACH a[c] = SMALLER(SPREAD(14.5f), (FLOATS)((BITS)x[c] & ~SIGN));
#if FUSED
  EACH high[c] = SPREAD(-0.5f) * a[c];
  EACH y[c] = high[c] * a[c];
  EACH rest[c] = FMA(high[c], a[c], -y[c]);
  KERNEL(reduce)(bits, r, y, 127 + 64, chains);
  EACH r[c] += rest[c];
#else
  EACH high[c] = (FLOATS)((BITS)a[c] & 0xFFFFF000u);
  EACH rest[c] = SPREAD(0.5f) * (a[c] + high[c]) * (a[c] - high[c]);
  EACH high[c] = SPREAD(-0.5f) * high[c] * high[c];
  EACH y[c] = high[c] - rest[c];
  KERNEL(reduce)(bits, r, y, 127 + 64, chains);
  EACH r[c] += (high[c] - y[c]) - rest[c];
#endif
  KERNEL(exp_of_rest)(e, r, chains);
  EACH e[c] *= (FLOATS)(bits[c] << 23);
  EACH a[c] *= SPREAD(0.3f);
  EACH rest[c] = RECIPROCAL(a[c] + SPREAD(1));
  EACH a[c] *= rest[c];
  EACH y[c] = SPREAD(2.0488059148192406e-2f);
  UNROLL for (int i = 0; i < 9; i++) EACH y[c] = FMA(y[c], a[c], SPREAD(terms[i]));
  EACH below[c] = e[c] * (y[c] * rest[c]);
}

// x·Φ(x)
INLINE void KERNEL(gelu_of)(FLOATS *x, const int chains) {
  FLOATS e[CHAINS], q[CHAINS];
  KERNEL(normal)(e, q, x, chains);
  EACH e[c] = x[c] * (SPREAD(1) - q[c] * SPREAD(0x1p-64f));
  EACH x[c] = CHOOSE(x[c], LARGER(SPREAD(-20), x[c]) * q[c] * SPREAD(0x1p-64f), e[c]);
}

// Its derivative, Φ(x) + x·φ(x).
INLINE void KERNEL(gelu_slope_of)(FLOATS *x, const int chains) {
  FLOATS e[CHAINS], q[CHAINS];
  KERNEL(normal)(e, q, x, chains);
  EACH q[c] = CHOOSE(x[c], q[c], SPREAD(0x1p64f) - q[c]);
  EACH x[c] = SMALLER(SPREAD(20), LARGER(SPREAD(-20), x[c]));
  EACH x[c] = FMA(x[c] * SPREAD(0.3989422804f), e[c], q[c]) * SPREAD(0x1p-64f);
}

#define MAP(name)                                                          \
  TARGET static void KERNEL(name)(int64_t n, float *out, const float *x) { \
    FLOATS v[CHAINS];                                                      \
    int64_t i = 0;                                                         \
    for (; i + CHAINS * LANES <= n; i += CHAINS * LANES) {                 \
      const int chains = CHAINS;                                           \
      EACH v[c] = *(const KERNEL(Loose) *)(x + i + c * LANES);             \
      KERNEL(name##_of)(v, chains);                                        \
      EACH *(KERNEL(Loose) *)(out + i + c * LANES) = v[c];                 \
    }                                                                      \
    for (; i + LANES <= n; i += LANES) {                                   \
      *v = *(const KERNEL(Loose) *)(x + i);                                \
      KERNEL(name##_of)(v, 1);                                             \
      *(KERNEL(Loose) *)(out + i) = *v;                                    \
    }                                                                      \
    if (i == n) return;                                                    \
    *v = (FLOATS){0};                                                      \
    memcpy(v, x + i, (size_t)(n - i) * sizeof *x);                         \
    KERNEL(name##_of)(v, 1);                                               \
    memcpy(out + i, v, (size_t)(n - i) * sizeof *x);                       \
  }
MAP(exp)
MAP(tanh)
MAP(sigmoid)
MAP(expm1)
MAP(log)
MAP(log1p)
MAP(sin)
MAP(cos)
MAP(erf)
MAP(softplus)
MAP(gelu)
MAP(gelu_slope)
#undef MAP

// ---- rows of a softmax ----

INLINE float KERNEL(across)(const FLOATS v) {
  float sum = 0;
  for (int i = 0; i < LANES; i++) sum += v[i];
  return sum;
}

TARGET static float KERNEL(exp_less)(int64_t n, float *out, const float *x, float less) {
  FLOATS v[CHAINS], sum[CHAINS];
  const int chains = CHAINS;
  int64_t i = 0;
  EACH sum[c] = (FLOATS){0};
  for (; i + CHAINS * LANES <= n; i += CHAINS * LANES) {
    EACH v[c] = *(const KERNEL(Loose) *)(x + i + c * LANES) - SPREAD(less);
    KERNEL(exp_of)(v, chains);
    EACH *(KERNEL(Loose) *)(out + i + c * LANES) = v[c];
    EACH sum[c] += v[c];
  }
  for (; i + LANES <= n; i += LANES) {
    *v = *(const KERNEL(Loose) *)(x + i) - SPREAD(less);
    KERNEL(exp_of)(v, 1);
    *(KERNEL(Loose) *)(out + i) = *v;
    *sum += *v;
  }
  for (int c = 1; c < CHAINS; c++) sum[0] += sum[c];
  float total = KERNEL(across)(sum[0]);
  if (i == n) return total;
  *v = (FLOATS){0};
  memcpy(v, x + i, (size_t)(n - i) * sizeof *x);
  *v -= SPREAD(less);
  KERNEL(exp_of)(v, 1);
  memcpy(out + i, v, (size_t)(n - i) * sizeof *x);
  for (int64_t k = 0; k < n - i; k++) total += v[0][k];
  return total;
}

TARGET static float KERNEL(largest)(int64_t n, const float *x) {
  FLOATS most[CHAINS];
  const int chains = CHAINS;
  int64_t i = 0;
  EACH most[c] = SPREAD(-INFINITY);
  for (; i + CHAINS * LANES <= n; i += CHAINS * LANES)
    EACH most[c] = LARGER(*(const KERNEL(Loose) *)(x + i + c * LANES), most[c]);
  for (; i + LANES <= n; i += LANES) *most = LARGER(*(const KERNEL(Loose) *)(x + i), *most);
  for (int c = 1; c < CHAINS; c++) most[0] = LARGER(most[0], most[c]);
  float largest = most[0][0];
  for (int k = 1; k < LANES; k++) largest = most[0][k] > largest ? most[0][k] : largest;
  for (; i < n; i++) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

#undef TARGET
#undef INLINE
#undef SHAPE_PASTE
#undef SHAPE_OF
#undef KERNEL
#undef LANES
#undef CHAINS
#undef EACH
#undef FLOATS
#undef INTS
#undef BITS
#undef FMA
#undef LARGER
#undef SMALLER
#undef CHOOSE
#undef ANY
#undef RECIPROCAL
#undef SPREAD
#undef SIGN
#undef BYTES
#undef FUSED
