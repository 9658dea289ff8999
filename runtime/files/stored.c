// SPDX-License-Identifier: MIT
// Elements as files store them, and their way into ours.  Hosts are little-endian, as most formats are.
#include <string.h>

#include "files_private.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "file formats are read as little-endian without a swap");

#define WIDEN(name, type)                                           \
  static void name(void *out, const unsigned char *in, int64_t n) { \
    int64_t *to = out;                                              \
    for (int64_t i = 0; i < n; i++) {                               \
      type value;                                                   \
      memcpy(&value, in + (size_t)i * sizeof value, sizeof value);  \
      to[i] = (int64_t)value;                                       \
    }                                                               \
  }
WIDEN(from_i8, int8_t)
WIDEN(from_i16, int16_t)
WIDEN(from_i32, int32_t)
WIDEN(from_u16, uint16_t)
WIDEN(from_u32, uint32_t)

static float bits_to_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits.
static float half_to_float(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = half >> 10 & 31u, fraction = half & 0x3ffu;
  if (exponent == 31) return bits_to_float(sign | 0x7f800000u | fraction << 13);
  if (exponent > 0) return bits_to_float(sign | (exponent + 112) << 23 | fraction << 13);
  float small = (float)fraction * 0x1p-24f;
  return sign ? -small : small;
}

static void from_f16(void *out, const unsigned char *in, int64_t n) {
  float *to = out;
  for (int64_t i = 0; i < n; i++) to[i] = half_to_float((uint16_t)(in[2 * i] | in[2 * i + 1] << 8));
}

// bfloat16 is the upper half of a float.
static void from_bf16(void *out, const unsigned char *in, int64_t n) {
  float *to = out;
  for (int64_t i = 0; i < n; i++) to[i] = bits_to_float((uint32_t)in[2 * i] << 16 | (uint32_t)in[2 * i + 1] << 24);
}

// Any byte but 0 is true; ours are 0 and 1.
static void from_bool(void *out, const unsigned char *in, int64_t n) {
  unsigned char *to = out;
  for (int64_t i = 0; i < n; i++) to[i] = in[i] != 0;
}

const Stored nb_stored_types[] = {
    {"F32", "f4", 0x0d, 4, NB_F32, NULL},     {"F64", "f8", 0x0e, 8, NB_F64, NULL},
    {"I64", "i8", 0, 8, NB_I64, NULL},        {"U8", "u1", 0x08, 1, NB_U8, NULL},
    {"BOOL", "b1", 0, 1, NB_BOOL, from_bool}, {"F16", "f2", 0, 2, NB_F32, from_f16},
    {"BF16", "", 0, 2, NB_F32, from_bf16},    {"I8", "i1", 0x09, 1, NB_I64, from_i8},
    {"I16", "i2", 0x0b, 2, NB_I64, from_i16}, {"I32", "i4", 0x0c, 4, NB_I64, from_i32},
    {"U16", "u2", 0, 2, NB_I64, from_u16},    {"U32", "u4", 0, 4, NB_I64, from_u32},
};
const int nb_stored_count = (int)(sizeof nb_stored_types / sizeof nb_stored_types[0]);

const Stored *nb_stored_as(DType dtype) {
  const Stored *w = nb_stored_types;
  while (w->dtype != dtype) w++;
  return w;
}

bool nb_stored_bytes(const Stored *w, const Layout *l, uint64_t *bytes) {
  uint64_t product = w->size;
  bool empty = false;
  for (int d = 0; d < l->ndim; d++) {
    if (l->shape[d] == 0)
      empty = true;
    else if (l->shape[d] < 0 || __builtin_mul_overflow(product, (uint64_t)l->shape[d], &product))
      return false;
  }
  *bytes = empty ? 0 : product;
  return product <= (uint64_t)1 << 62;
}
