// SPDX-License-Identifier: MIT
// The labels of a column of text: distinct texts by number, in a hash table.
#include <string.h>

#include "csv_private.h"
#include "nablua/map.h"
#include "nablua/memory.h"

// `buckets`, the size of the table, is a power of two.
struct CsvLabels {
  size_t count, starts_size, buckets, used, text_size;
  char *text;
  size_t *starts;   // in `text`
  uint32_t *table;  // number + 1; 0 is free
};

// Where the text stands in the table, or the free place where it would.
static size_t place_of(const CsvLabels *l, const char *text) {
  size_t i = (size_t)nb_hash_text(text) & (l->buckets - 1);
  while (l->table[i] && strcmp(l->text + l->starts[l->table[i] - 1], text) != 0) i = (i + 1) & (l->buckets - 1);
  return i;
}

static bool more_buckets(CsvLabels *l, Error *err) {
  size_t before = l->buckets;
  uint32_t *old = l->table, *fresh = nb_alloc((before ? before * 2 : 64) * sizeof *fresh, err);
  if (!fresh) return false;
  l->buckets = before ? before * 2 : 64;
  l->table = fresh;
  memset(fresh, 0, l->buckets * sizeof *fresh);
  for (size_t k = 0; k < l->count; k++) fresh[place_of(l, l->text + l->starts[k])] = (uint32_t)k + 1;
  nb_free(old, before * sizeof *old);
  return true;
}

uint32_t nb_csv_label_number(CsvLabels *l, const char *text, Error *err) {
  size_t length = strlen(text) + 1;
  if (l->count + 1 > l->buckets / 2 && !more_buckets(l, err)) return 0;
  size_t place = place_of(l, text);
  if (l->table[place]) return l->table[place];
  void *starts = l->starts, *bytes = l->text;
  bool ok = nb_grow(&starts, &l->starts_size, l->count + 1, sizeof *l->starts, err);
  l->starts = starts;
  ok = ok && nb_grow(&bytes, &l->text_size, l->used + length, 1, err);
  l->text = bytes;
  if (!ok) return 0;
  memcpy(l->text + l->used, text, length);
  l->starts[l->count++] = l->used;
  l->used += length;
  return l->table[place] = (uint32_t)l->count;
}

uint32_t nb_csv_label_find(const CsvLabels *l, const char *text) {
  return l->buckets ? l->table[place_of(l, text)] : 0;
}

bool nb_csv_give_labels(CsvColumn *c, const char *const *labels, size_t count, Error *err) {
  if (!c->labels && !nb_csv_labels_new(&c->labels, err)) return false;
  for (size_t i = 0; i < count; i++)
    if (!nb_csv_label_number(c->labels, labels[i], err)) return false;
  c->kind = NB_CSV_TEXT;
  c->closed = c->given = true;
  return true;
}

size_t nb_csv_label_count(const CsvLabels *labels) {
  return labels->count;
}

const char *nb_csv_label(const CsvLabels *labels, size_t index) {
  return labels->text + labels->starts[index];
}

void nb_csv_labels_free(CsvLabels *l) {
  if (!l) return;
  nb_free(l->text, l->text_size);
  nb_free(l->starts, l->starts_size * sizeof *l->starts);
  nb_free(l->table, l->buckets * sizeof *l->table);
  nb_free(l, sizeof *l);
}

bool nb_csv_labels_new(CsvLabels **l, Error *err) {
  if (!(*l = nb_alloc(sizeof **l, err))) return false;
  memset(*l, 0, sizeof **l);
  return true;
}
