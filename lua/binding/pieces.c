// SPDX-License-Identifier: MIT
// Sums over the group, piece by piece.
//
// A few pieces are under way at a time, each in a slot.  All ranks begin the same pieces in the same order, and a rank
// has a slot for the oldest that is not done: so something always moves.
#include "pieces.h"

#include "nablua/addup.h"
#include "nablua/clock.h"
#include "nablua/memory.h"

enum { SLOTS = 4, SHORT = 4096 /* bytes: below MPI adds up */, ALIGN = 16 /* numbers */, TAGS = 8192 };

typedef struct Slot {
  Range *range;  // NULL: free
  char *at;
  int64_t count;
  int tag, requests;
  bool here;   // each rank adds up a part
  bool gives;  // the sums are on their way, not the parts
  // One block: two requests for each other rank, what each rank has of our part, whether the requests are done, and
  // the others' parts.
  Request *request;
  const void **term;
  bool *done;
  char *parts;
  size_t bytes;
} Slot;

static struct Line {
  Range *first, *last;  // those that are not wholly on their way
  int tag, age;         // of the group, in which tags are counted
  Slot slot[SLOTS];
} lines[CHANNELS];

// ---- one piece ----

static int64_t part_begin(const Slot *k, int rank) {
  int size = nb_group()->size;
  return rank == size ? k->count : k->count * rank / size / ALIGN * ALIGN;
}

static int64_t part_count(const Slot *k, int rank) {
  return part_begin(k, rank + 1) - part_begin(k, rank);
}

static char *part_at(const Slot *k, int rank) {
  return k->at + part_begin(k, rank) * (int64_t)nb_dtype_size(k->range->dtype);
}

// What another rank has of our part.
static char *received(const Slot *k, int rank) {
  int own = nb_group()->rank, place = rank < own ? rank : rank - 1;
  return k->parts + place * part_count(k, own) * (int64_t)nb_dtype_size(k->range->dtype);
}

static bool open_slot(Slot *k, Error *err) {
  size_t others = (size_t)nb_group()->size - 1, head = 2 * others * sizeof *k->request;
  size_t terms = (others + 1) * sizeof *k->term, done = 2 * others * sizeof *k->done;
  size_t each = k->here ? (size_t)part_count(k, nb_group()->rank) * nb_dtype_size(k->range->dtype) : 0;
  size_t ahead = (head + terms + done + 63) / 64 * 64;
  k->bytes = ahead + others * each;
  if (!(k->request = nb_group_block(k->bytes, err))) return false;
  k->term = (const void **)(void *)((char *)k->request + head);
  k->done = (bool *)((char *)k->term + terms);
  k->parts = (char *)k->request + ahead;
  return true;
}

static bool begin(Slot *k, Channel channel, Motion motion, void *at, int64_t count, int peer, Error *err) {
  Exchange x = {.motion = motion,
                .channel = channel,
                .element = k->range->dtype == NB_F64 ? ELEMENT_F64 : ELEMENT_F32,
                .from = motion == MOTION_SEND ? at : NULL,
                .to = motion == MOTION_SEND ? NULL : at,
                .count = count,
                .peer = peer,
                .tag = 2 * k->tag + k->gives};
  if (count == 0) return true;
  k->done[k->requests] = false;
  return nb_request_begin(&x, &k->request[k->requests++], err);
}

static bool begin_phase(Slot *k, Channel channel, Error *err) {
  int own = nb_group()->rank, size = nb_group()->size;
  bool ok = true;
  k->requests = 0;
  if (!k->here) return begin(k, channel, MOTION_ALLREDUCE, k->at, k->count, 0, err);
  for (int q = 0; ok && q < size; q++) {
    if (q == own) continue;
    ok = k->gives ? begin(k, channel, MOTION_RECEIVE, part_at(k, q), part_count(k, q), q, err)
                  : begin(k, channel, MOTION_RECEIVE, received(k, q), part_count(k, own), q, err);
  }
  for (int q = 0; ok && q < size; q++) {
    int whose = k->gives ? own : q;
    if (q != own) ok = begin(k, channel, MOTION_SEND, part_at(k, whose), part_count(k, whose), q, err);
  }
  return ok;
}

// Of our part; where MPI adds up the factor is left.
static void add_up(Slot *k) {
  int own = nb_group()->rank, size = nb_group()->size;
  DType dtype = k->range->dtype;
  double factor = k->range->factor;
  if (k->here) {
    for (int q = 0; q < size; q++) k->term[q] = q == own ? part_at(k, q) : received(k, q);
    nb_add_up(dtype, k->term, size, factor, part_at(k, own), part_count(k, own));
  } else if (factor != 1) {
    k->term[0] = k->at;
    nb_add_up(dtype, k->term, 1, factor, k->at, k->count);
  }
}

// The next piece of what waits goes into the slot.
static bool begin_piece(struct Line *line, Slot *k, Channel channel, Error *err) {
  Range *r = line->first;
  int64_t each = (int64_t)nb_dtype_size(r->dtype), most = r->piece > SHORT ? r->piece / each : SHORT / each;
  *k = (Slot){.range = r, .at = (char *)r->at + r->next * each, .count = r->count - r->next};
  if (k->count > most) k->count = most;
  k->here = nb_group()->machines == 1 && k->count * each > SHORT;
  k->tag = line->tag = (line->tag + 1) % TAGS;
  if (!open_slot(k, err)) return false;
  if (r->next == 0) r->begun = nb_clock();
  r->next += k->count;
  if (r->next == r->count) line->first = r->after;
  return begin_phase(k, channel, err);
}

static bool test_piece(Slot *k, Channel channel, bool *moved, Error *err) {
  bool all = true;
  for (int i = 0; i < k->requests; i++) {
    if (!k->done[i] && !nb_request_test(&k->request[i], &k->done[i], err)) return false;
    all = all && k->done[i];
  }
  if (!all) return true;
  *moved = true;
  if (!k->gives) add_up(k);
  if (!k->gives && k->here) {
    k->gives = true;
    return begin_phase(k, channel, err);
  }
  k->range->left -= k->count;
  if (k->range->left == 0) k->range->ended = nb_clock();
  k->range = NULL;
  nb_group_free(k->request, k->bytes, true);
  return true;
}

// ---- all of them ----

void nb_pieces_add(Channel channel, Range *r) {
  struct Line *line = &lines[channel];
  if (line->age != nb_group_age()) *line = (struct Line){.age = nb_group_age()};
  r->left = r->count, r->next = 0, r->after = NULL;
  r->begun = r->ended = r->count > 0 ? 0 : nb_clock();
  if (r->count == 0) return;
  if (line->first)
    line->last->after = r;
  else
    line->first = r;
  line->last = r;
}

bool nb_pieces_move(Channel channel, bool *moved, Error *err) {
  struct Line *line = &lines[channel];
  for (int i = 0; i < SLOTS; i++)
    if (line->slot[i].range && !test_piece(&line->slot[i], channel, moved, err)) return false;
  for (int i = 0; line->first && i < SLOTS; i++) {
    if (line->slot[i].range) continue;
    *moved = true;
    if (!begin_piece(line, &line->slot[i], channel, err)) return false;
  }
  return true;
}

void nb_pieces_forget(Channel channel) {
  for (int i = 0; i < SLOTS; i++) lines[channel].slot[i].range = NULL;
  lines[channel].first = NULL;
}

bool nb_pieces_whole(Channel channel, Range *r, const char *text, Error *err) {
  nb_pieces_add(channel, r);
  bool moved = true, ok = nb_pieces_move(channel, &moved, err);
  if (ok && r->left == 0) return true;
  Wait w = nb_wait_begin(text);
  for (; ok && r->left > 0; moved = false) ok = nb_pieces_move(channel, &moved, err) && nb_pause(&w, moved, err);
  nb_wait_end();
  if (!ok) nb_pieces_forget(channel);
  return ok;
}
