// SPDX-License-Identifier: MIT
// A table from addresses to whole numbers, which grows; and the hash of a text, for tables of names.
#ifndef NABLUA_MAP_H
#define NABLUA_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nablua/error.h"

// Filled with zeros it is empty and holds no memory.  Keys are borrowed, never followed, and not NULL.
typedef struct AddressMap {
  const void **key;
  int *value;
  size_t count, size;  // of the entries, and of the places: a power of 2
} AddressMap;

// Makes `m` an empty map in which that many entries find room without growing.
bool nb_map_open(AddressMap *m, int entries, Error *err);

void nb_map_close(AddressMap *m);

// Forgets all entries, and keeps the room.
void nb_map_clear(AddressMap *m);

// The number of a key, NULL when it is not there.  The pointer lasts until the next new key.
int *nb_map_get(const AddressMap *m, const void *key);

// The number of a key, which is added with `value` when it is new; NULL without memory, and nothing has changed.
int *nb_map_meet(AddressMap *m, const void *key, int value, Error *err);

// FNV-1a in 64 bits (Fowler, Noll, Vo; RFC 9923).
uint64_t nb_hash_text(const char *text);

#endif
