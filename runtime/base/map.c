// SPDX-License-Identifier: MIT
// Tables from addresses to numbers, and the hash of a text.
#include "nablua/map.h"

#include <string.h>

#include "nablua/memory.h"

// Where a key stands, or would; at least one place is free.
static size_t place_of(const AddressMap *m, const void *key) {
  // Fibonacci hashing (Knuth, TAOCP 3, 6.4): the high bits of the product depend on all bits of the address.
  size_t at = (size_t)((uint64_t)(uintptr_t)key * 0x9E3779B97F4A7C15u >> 32) & (m->size - 1);
  while (m->key[at] && m->key[at] != key) at = (at + 1) & (m->size - 1);
  return at;
}

static size_t bytes_of(size_t size) {
  return size * (sizeof(void *) + sizeof(int));
}

static bool make(AddressMap *m, size_t size, Error *err) {
  const void **key = nb_alloc(bytes_of(size), err);
  if (!key) return false;
  memset(key, 0, bytes_of(size));
  *m = (AddressMap){.key = key, .value = (int *)(key + size), .size = size};
  return true;
}

bool nb_map_open(AddressMap *m, int entries, Error *err) {
  size_t size = 64;
  while (size < 2 * (size_t)entries) size *= 2;
  return make(m, size, err);
}

void nb_map_close(AddressMap *m) {
  if (m->key) nb_free(m->key, bytes_of(m->size));
  *m = (AddressMap){0};
}

void nb_map_clear(AddressMap *m) {
  if (m->key) memset(m->key, 0, bytes_of(m->size));
  m->count = 0;
}

static void add(AddressMap *m, size_t at, const void *key, int value) {
  m->key[at] = key;
  m->value[at] = value;
  m->count++;
}

static bool grow(AddressMap *m, Error *err) {
  AddressMap bigger;
  if (!make(&bigger, m->size ? 2 * m->size : 64, err)) return false;
  for (size_t i = 0; i < m->size; i++)
    if (m->key[i]) add(&bigger, place_of(&bigger, m->key[i]), m->key[i], m->value[i]);
  nb_map_close(m);
  *m = bigger;
  return true;
}

int *nb_map_get(const AddressMap *m, const void *key) {
  if (!m->size) return NULL;
  size_t at = place_of(m, key);
  return m->key[at] ? &m->value[at] : NULL;
}

int *nb_map_meet(AddressMap *m, const void *key, int value, Error *err) {
  int *found = nb_map_get(m, key);
  if (found) return found;
  if (2 * (m->count + 1) > m->size && !grow(m, err)) return NULL;
  size_t at = place_of(m, key);
  add(m, at, key, value);
  return &m->value[at];
}

uint64_t nb_hash_text(const char *text) {
  uint64_t h = 14695981039346656037u;
  for (; *text; text++) h = (h ^ (unsigned char)*text) * 1099511628211u;
  return h;
}
