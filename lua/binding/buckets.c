// SPDX-License-Identifier: MIT
// Gradients summed over a group while backward runs.
//
//   backward ──► arrived(leaf) ──► its bucket ──► full: on its way (pieces.h) ... ──► walked: wait, write back
//
// A large gradient is a bucket by itself and is summed where it lies; small ones are copied into one together, and
// back. Buckets stand in the order in which backward was seen to fill them, so that the first is on its way while the
// rest is computed; what is under way moves on when something else arrives.  They begin in the same order on all ranks,
// and where one backward goes through two nets those of one begin after those of the other. The last bucket has a
// number for each parameter: 1 where this rank has a gradient of it.  Their sums say what to do with a parameter that
// not all ranks have used.
#include "buckets.h"

#include <stdio.h>
#include <string.h>

#include "nablua/clock.h"
#include "nablua/compose.h"
#include "nablua/events.h"
#include "nablua/map.h"
#include "nablua/memory.h"
#include "pieces.h"

enum { LARGE_SHARE = 16 };  // of the bytes of a bucket: a gradient above it is one by itself

typedef struct Part {
  Tensor *leaf;  // owned
  char *name;    // owned
  int bucket;
  int64_t at, count;  // its place in the bucket
  bool large;
  bool lent;     // the leaf has zeros for a gradient, so that this rank takes part
  bool arrived;  // in this walk; after it: on any rank
  Tensor *grad;  // of a large one: what is on its way, which the walk or the leaf holds
} Part;

typedef struct Bucket {
  Range range;
  int first, last, count, arrived;  // places in `order`, how many parts it has, and how many have come
  char *memory;                     // NULL: the gradient's own
  size_t bytes;
  double full;
} Bucket;

struct Buckets {
  Listener listener;
  BucketOptions options;
  Part *part;
  int *order;  // of the parts
  int parts;
  Bucket *bucket;     // the last is that of the flags
  int buckets, sent;  // sent: so many are on their way, or wait in their order
  AddressMap place;   // leaf -> part
  Agreement agreement;
  bool walking, ordered, silent;
  bool torn;  // a walk has failed
  int *came;  // the order in which they arrive
  int came_count;
  uint64_t *hashes;
  int64_t exchanges, early, all;
  int64_t since;           // exchanges, the group has begun anew
  int age;                 // of the group
  double begun, begins;    // of the walk whose exchange was the last, and of the last walk
  double walked, done;     // the end of that walk and of its exchange
  struct Buckets *older;   // of all that there are
  struct Buckets *before;  // of those that walk, whose buckets begin first
};

static Buckets *newest, *last_to_walk;
static double weight = 1;

void nb_buckets_weigh(double w) {
  weight = w;
}

static int size_of_group(void) {
  return nb_group()->size;
}

// ---- layout ----

static void free_buckets(Buckets *b) {
  for (int i = 0; b->bucket && i < b->buckets; i++) nb_group_free(b->bucket[i].memory, b->bucket[i].bytes, !b->torn);
  nb_free(b->bucket, ((size_t)b->parts + 1) * sizeof *b->bucket);
  b->bucket = NULL;
  b->buckets = 0;
}

static Bucket *add_bucket(Buckets *b, DType dtype, double factor, int first) {
  Bucket *k = &b->bucket[b->buckets++];
  *k = (Bucket){.range = {.dtype = dtype, .factor = factor, .piece = b->options.bytes}, .first = first};
  return k;
}

// The bucket of the next part.  Of small ones it is that of its dtype until that is full; the first is smaller, so that
// something is on its way soon.
static Bucket *bucket_for(Buckets *b, const Part *p, Bucket **open, int place) {
  DType dtype = p->leaf->layout.dtype;
  double factor = b->options.sum ? 1 : 1.0 / size_of_group();
  if (p->large) return add_bucket(b, dtype, factor, place);
  Bucket **k = &open[dtype == NB_F64];
  int64_t most = *k && (*k)->first == 0 ? b->options.bytes / 4 : b->options.bytes;
  if (!*k || ((*k)->range.count + p->count) * (int64_t)nb_dtype_size(dtype) > most)
    *k = add_bucket(b, dtype, factor, place);
  return *k;
}

// A bucket stands where its last part does, which makes it full.
static void sort_by_last(Buckets *b) {
  int *now = b->came;  // at the place where the bucket was
  for (int i = 0; i < b->buckets; i++) {
    Bucket k = b->bucket[i];
    int to = i;
    for (; to > 0 && b->bucket[to - 1].last > k.last; to--) b->bucket[to] = b->bucket[to - 1];
    b->bucket[to] = k;
  }
  for (int i = 0; i < b->buckets; i++) now[b->part[b->order[b->bucket[i].last]].bucket] = i;
  for (int i = 0; i < b->parts; i++) b->part[i].bucket = now[b->part[i].bucket];
}

static bool make_room(Bucket *k, Error *err) {
  k->bytes = (size_t)k->range.count * nb_dtype_size(k->range.dtype);
  return (k->range.at = k->memory = nb_group_block(k->bytes, err)) != NULL;
}

// Puts the parts in their order into buckets.
static bool arrange(Buckets *b, Error *err) {
  Bucket *open[2] = {NULL};
  free_buckets(b);
  b->torn = false;
  if (!(b->bucket = nb_alloc(((size_t)b->parts + 1) * sizeof *b->bucket, err))) return false;
  for (int i = 0; i < b->parts; i++) {
    Part *p = &b->part[b->order[i]];
    p->large = p->count * (int64_t)nb_dtype_size(p->leaf->layout.dtype) > b->options.bytes / LARGE_SHARE;
    Bucket *k = bucket_for(b, p, open, i);
    p->bucket = (int)(k - b->bucket);
    p->at = k->range.count;
    k->range.count += p->count;
    k->count++;
    k->last = i;
  }
  sort_by_last(b);
  for (int i = 0; i < b->buckets; i++) {
    bool large = b->part[b->order[b->bucket[i].first]].large;
    if (!large && !make_room(&b->bucket[i], err)) return false;
  }
  Bucket *flags = add_bucket(b, NB_F32, 1, 0);
  flags->range.count = b->parts;
  return make_room(flags, err);
}

static float *flags_of(const Buckets *b) {
  return b->bucket[b->buckets - 1].range.at;
}

static char *place_of(const Buckets *b, const Part *p) {
  const Bucket *k = &b->bucket[p->bucket];
  return k->memory + (size_t)p->at * nb_dtype_size(k->range.dtype);
}

// ---- on the way ----

static bool is_full(const Buckets *b, int i) {
  return i < b->buckets - 1 ? b->bucket[i].arrived == b->bucket[i].count : !b->walking;
}

static bool may_begin(const Buckets *b) {
  return b->agreement.done && (!b->before || b->before->sent == b->before->buckets);
}

// Begins what is full, and lets what is on its way move on.
static bool move_on(Buckets *b, bool *moved, Error *err) {
  if (!nb_agree_test(&b->agreement, err)) return false;
  for (; may_begin(b) && b->sent < b->buckets && is_full(b, b->sent); b->sent++, *moved = true)
    nb_pieces_add(CHANNEL_BUCKETS, &b->bucket[b->sent].range);
  return nb_pieces_move(CHANNEL_BUCKETS, moved, err);
}

// After a failure, which may have met other ranks elsewhere, all begin as at first, and the buckets are others.
static bool renew(Buckets *b, Error *err) {
  if (b->age == nb_group_age() && !b->torn) return true;
  b->age = nb_group_age();
  b->ordered = false;
  b->since = 0;
  for (int i = 0; i < b->parts; i++) b->order[i] = b->parts - 1 - i;
  return arrange(b, err);
}

static bool begin_walk(Buckets *b, Error *err) {
  Intent intent;
  if (!renew(b, err)) return false;
  nb_intend(&intent, "backward of %d parameters, %s of %s first", b->parts, b->options.sum ? "the sum" : "the mean",
            b->part[b->order[0]].name);
  for (int i = 0; i < b->parts; i++) b->part[i].arrived = b->part[i].lent = false;
  for (int i = 0; i < b->buckets; i++) b->bucket[i].arrived = 0;
  b->sent = b->came_count = 0;
  b->walking = true;
  b->before = last_to_walk;
  last_to_walk = b;
  b->begun = b->begins;
  return nb_agree_begin(&b->agreement, &intent, err);
}

// No others' buckets wait for these any more.
static void leave_walk(Buckets *b) {
  for (Buckets *w = last_to_walk; w; w = w->before)
    if (w->before == b) w->before = b->before;
  if (last_to_walk == b) last_to_walk = b->before;
  b->before = NULL;
}

static bool has_dtype(const Part *p, const Tensor *grad, DType dtype, Error *err) {
  return grad->layout.dtype == dtype ||
         nb_fail(err, NB_ERROR_STATE,
                 "dist.parallel: the gradient of %s is %s, the parameter was %s; call dist.parallel(net) again after "
                 "net:to(dtype)",
                 p->name, nb_dtype_name(grad->layout.dtype), nb_dtype_name(dtype));
}

static void count_part(Buckets *b, Part *p, bool has) {
  Bucket *k = &b->bucket[p->bucket];
  flags_of(b)[p - b->part] = has;
  p->arrived = true;
  if (++k->arrived == k->count) k->full = nb_clock();
  if (p->large) k->range.at = nb_tensor_data(p->grad);
}

// Puts a new tensor, which may be NULL after a failure, into the place of another.
static bool replace(Tensor **slot, Tensor *by) {
  if (!by) return false;
  nb_tensor_retain(by);
  nb_tensor_release(slot);
  *slot = by;
  return true;
}

// Writes the part's gradient into its bucket: what the leaf had and what has come, either of which may be NULL.
static bool fill(Buckets *b, Part *p, Tensor *had, Tensor *came, Error *err) {
  DType dtype = b->bucket[p->bucket].range.dtype;
  bool ok = true;
  if (!had && !came) {
    memset(place_of(b, p), 0, (size_t)p->count * nb_dtype_size(dtype));
  } else {
    Scope s;
    nb_scope_open(&s, err);
    Tensor *sum = had && came ? nb_add(&s, had, came) : had ? had : came;
    if (sum && !nb_layout_contiguous(&sum->layout)) sum = nb_contiguous(&s, sum);
    ok = sum && has_dtype(p, sum, dtype, err);
    if (ok) memcpy(place_of(b, p), nb_tensor_data(sum), (size_t)p->count * nb_dtype_size(dtype));
    nb_scope_close(&s);
  }
  count_part(b, p, had || came);
  return ok;
}

static bool is_own(const Tensor *t) {
  return t->refs == 1 && t->storage->refs == 1 && nb_layout_contiguous(&t->layout) && !t->node && !t->requires_grad;
}

// What has come for a large part, and what the leaf had before, become one tensor that nobody else holds.  The walk
// leaves it to the leaf.
static bool lend(Buckets *b, Part *p, Tensor **came, Error *err) {
  Scope s;
  bool ok = true;
  nb_scope_open(&s, err);
  if (p->leaf->grad) ok = replace(came, nb_add(&s, p->leaf->grad, *came));
  nb_scope_close(&s);
  if (ok) nb_tensor_release(&p->leaf->grad);
  nb_scope_open(&s, err);
  if (ok && !is_own(*came)) ok = replace(came, nb_unary(&s, "clone", *came));
  nb_scope_close(&s);
  ok = ok && has_dtype(p, *came, b->bucket[p->bucket].range.dtype, err) &&
       nb_storage_write((*came)->storage, nb_site_now(), err);
  if (!ok) return false;
  p->grad = *came;
  count_part(b, p, true);
  return true;
}

// Of sums over samples each counts as it is, but where a rank takes part without any.
static bool weigh(const Buckets *b, Tensor **grad, Error *err) {
  double factor = b->options.sum && weight > 0 ? 1 : weight;
  if (factor == 1) return true;
  Scope s;
  nb_scope_open(&s, err);
  bool ok = replace(grad, nb_muln(&s, *grad, factor));
  nb_scope_close(&s);
  return ok;
}

// A leaf of several parallel nets is that of the newest.
static bool is_of_newer(const Buckets *b, const Tensor *leaf) {
  for (Buckets *n = newest; n != b; n = n->older)
    if (nb_map_get(&n->place, leaf)) return true;
  return false;
}

static bool on_arrived(void *user, Tensor *leaf, Tensor **grad, Error *err) {
  Buckets *b = user;
  bool moved = false;
  const int *place = nb_map_get(&b->place, leaf);
  if (!place || is_of_newer(b, leaf)) return true;
  Part *p = &b->part[*place];
  if (!weigh(b, grad, err)) return false;
  if (b->silent) return true;
  if (!b->walking && !begin_walk(b, err)) return false;
  if (p->arrived)
    return nb_fail(err, NB_ERROR_STATE, "dist.parallel: a backward within a backward brings %s twice", p->name);
  b->came[b->came_count++] = *place;
  bool ok = p->large ? lend(b, p, grad, err) : fill(b, p, leaf->grad, *grad, err);
  return ok && move_on(b, &moved, err);
}

// ---- the end of a walk ----

// A gradient of the leaf's own that may be written to as a whole.
static bool own_gradient(Tensor *leaf, Error *err) {
  Tensor *g = leaf->grad;
  if (g && nb_layout_contiguous(&g->layout) && g->layout.dtype == leaf->layout.dtype && !g->node)
    return nb_storage_write(g->storage, nb_site_now(), err);
  Tensor *fresh = nb_tensor_new(&leaf->layout, err);
  if (!fresh) return false;
  nb_tensor_release(&leaf->grad);
  leaf->grad = fresh;
  return true;
}

// What has not come takes part with what the leaf had, or zeros.
static bool fill_rest(Buckets *b, Part *p, Error *err) {
  Tensor **had = is_of_newer(b, p->leaf) ? NULL : &p->leaf->grad;
  if (had && !*had) had = NULL;
  if (!p->large) return fill(b, p, had ? *had : NULL, NULL, err);
  if (had && (!nb_layout_contiguous(&(*had)->layout) || (*had)->node)) {
    Scope s;
    nb_scope_open(&s, err);
    bool ok = replace(had, nb_unary(&s, "clone", *had));
    nb_scope_close(&s);
    if (!ok) return false;
  }
  if (had) {
    p->grad = *had;
    if (!has_dtype(p, *had, b->bucket[p->bucket].range.dtype, err) ||
        !nb_storage_write((*had)->storage, nb_site_now(), err))
      return false;
  } else {
    if (!(p->grad = nb_tensor_new(&p->leaf->layout, err))) return false;
    p->lent = true;
    memset(nb_tensor_data(p->grad), 0, (size_t)p->count * nb_dtype_size(p->grad->layout.dtype));
  }
  count_part(b, p, had != NULL);
  return true;
}

static const char *waits_for(const Buckets *b) {
  for (int i = 0; i < b->buckets - 1; i++)
    if (i >= b->sent || b->bucket[i].range.left > 0) return b->part[b->order[b->bucket[i].first]].name;
  return b->part[b->order[0]].name;
}

static bool is_done(const Buckets *b) {
  for (int i = 0; i < b->sent; i++)
    if (b->bucket[i].range.left > 0) return false;
  return b->sent == b->buckets;
}

static bool wait_for_all(Buckets *b, Error *err) {
  char text[INTENT_TEXT + 100];
  bool moved = false, ok = move_on(b, &moved, err);
  if (ok && is_done(b)) return true;
  snprintf(text, sizeof text, "the gradient of %s: %s", waits_for(b), b->agreement.intent.text);
  Wait w = nb_wait_begin(text);
  while (ok && !is_done(b)) {
    moved = false;
    ok = move_on(b, &moved, err) && nb_pause(&w, moved, err);
  }
  nb_wait_end();
  return ok;
}

static bool write_back(Buckets *b, Error *err) {
  for (int i = 0; i < b->parts; i++) {
    Part *p = &b->part[i];
    p->arrived = flags_of(b)[i] > 0;  // on any rank
    if (p->large && p->arrived && p->leaf->grad != p->grad) replace(&p->leaf->grad, p->grad);
    if (p->large && p->lent) nb_tensor_release(&p->grad);
    p->grad = NULL;
    if (p->large || !p->arrived) continue;
    if (!own_gradient(p->leaf, err)) return false;
    memcpy(nb_tensor_data(p->leaf->grad), place_of(b, p), (size_t)p->count * nb_dtype_size(p->leaf->layout.dtype));
  }
  return true;
}

// From the first walk on the buckets are in the order in which gradients come on rank 1.
static bool learn_order(Buckets *b, Error *err) {
  size_t bytes = (size_t)b->parts * sizeof(int64_t);
  int64_t *order = nb_group_block(bytes, err);
  if (!order) return false;
  int n = 0;
  for (; n < b->came_count; n++) order[n] = b->came[n];
  for (int k = 0; k < b->parts; k++) {
    bool came = false;
    for (int i = 0; i < b->came_count && !came; i++) came = b->came[i] == b->order[k];
    if (!came) order[n++] = b->order[k];
  }
  bool ok = nb_exchange(&(Exchange){.motion = MOTION_BROADCAST,
                                    .channel = CHANNEL_BUCKETS,
                                    .element = ELEMENT_I64,
                                    .to = order,
                                    .count = b->parts},
                        "the order of the buckets", err);
  for (int k = 0; ok && k < b->parts; k++) b->order[k] = (int)order[k];
  nb_group_free(order, bytes, ok);
  b->ordered = true;
  return ok && arrange(b, err);
}

// ---- drift ----

static uint64_t hash_of(const Tensor *t) {
  const unsigned char *at = nb_tensor_data(t);
  size_t bytes = (size_t)nb_layout_numel(&t->layout) * nb_dtype_size(t->layout.dtype), i = 0;
  uint64_t h = 0x9E3779B97F4A7C15u, word;
  for (; i + 8 <= bytes; i += 8) {
    memcpy(&word, at + i, 8);
    h = (h ^ word) * 0xD6E8FEB86659FD93u;
    h ^= h >> 32;
  }
  for (; i < bytes; i++) h = (h ^ at[i]) * 0x100000001B3u;
  return h;
}

// All ranks have all hashes, those of a rank one after the other: who is not with the most is named.
static bool tell_drift(const Buckets *b, const uint64_t *all, Error *err) {
  int size = size_of_group();
  for (int i = 0; i < b->parts; i++) {
    int best = 0, most = 0;
    for (int r = 0; r < size; r++) {
      int same = 0;
      for (int q = 0; q < size; q++) same += all[q * b->parts + i] == all[r * b->parts + i];
      if (same > most) most = same, best = r;
    }
    if (most == size) continue;
    char ranks[200];
    size_t used = 0;
    int named = 0;
    for (int r = 0; r < size && used < sizeof ranks - 16; r++)
      if (all[r * b->parts + i] != all[best * b->parts + i])
        used += (size_t)snprintf(ranks + used, sizeof ranks - used, "%s%d", named++ ? ", " : "", r + 1);
    return nb_fail(err, NB_ERROR_STATE,
                   "dist.parallel: the ranks have drifted apart: %s is another on rank %s than on rank %d (compared "
                   "after %lld exchanges); every rank must change the parameters in the same way",
                   b->part[i].name, ranks, best + 1, (long long)b->exchanges);
  }
  return true;
}

// Gathers all ranks' hashes and names who differs.
static bool find_drift(Buckets *b, Error *err) {
  size_t own = (size_t)b->parts * sizeof(uint64_t), bytes = own * ((size_t)size_of_group() + 1);
  uint64_t *gathered = nb_group_block(bytes, err);
  if (!gathered) return false;
  uint64_t *mine = gathered + (size_t)size_of_group() * (size_t)b->parts;
  memcpy(mine, b->hashes, own);
  Exchange x = {.motion = MOTION_ALLGATHER,
                .channel = CHANNEL_BUCKETS,
                .element = ELEMENT_U64,
                .from = mine,
                .to = gathered,
                .count = b->parts};
  bool moved = nb_exchange(&x, "the comparison of parameters", err), ok = moved && tell_drift(b, gathered, err);
  nb_group_free(gathered, bytes, moved);
  return ok;
}

static bool compare_parameters(Buckets *b, Error *err) {
  uint64_t sum = 0, *words = nb_group_block(AGREEMENT_BYTES, err);
  if (!words) return false;
  for (int i = 0; i < b->parts; i++) {
    const Tensor *t = b->part[i].leaf;
    b->hashes[i] = nb_layout_contiguous(&t->layout) ? hash_of(t) : 0;
    sum = (sum ^ b->hashes[i]) * 0x100000001B3u;
  }
  words[0] = sum, words[1] = ~sum;
  Exchange x = {.motion = MOTION_ALLREDUCE,
                .channel = CHANNEL_BUCKETS,
                .element = ELEMENT_U64,
                .reduction = REDUCTION_MAX,
                .from = words,
                .to = words + 2,
                .count = 2};
  bool moved = nb_exchange(&x, "the comparison of parameters", err);
  bool same = moved && words[2] == words[0] && words[3] == words[1];
  nb_group_free(words, AGREEMENT_BYTES, moved);
  return moved && (same || find_drift(b, err));
}

// Of the first exchange: a net of which nobody uses a part was meant otherwise, as a rule.
static void tell_unused(const Buckets *b) {
  char text[400];
  size_t used = 0;
  int unused = 0;
  for (int i = 0; i < b->parts; i++) {
    if (b->part[i].arrived) continue;
    if (++unused <= 8 && used < sizeof text)
      used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", unused > 1 ? ", " : "", b->part[i].name);
  }
  if (unused > 0 && nb_group()->rank == 0)
    nb_notice("dist.parallel: %d of %d parameters had no gradient on any rank, and keep none: %s%s", unused, b->parts,
              text, unused > 8 ? ", ..." : "");
}

// What MPI may still write to stays.
static void tear(Buckets *b) {
  b->torn = true;
  for (int i = 0; i < b->parts; i++) {
    Part *p = &b->part[i];
    if (!p->grad) continue;
    bool under_way = p->bucket < b->sent && b->bucket[p->bucket].range.left > 0;
    if (under_way && !p->lent) nb_tensor_retain(p->grad);
    if (!under_way && p->lent) nb_tensor_release(&p->grad);
    p->grad = NULL;
  }
  nb_pieces_forget(CHANNEL_BUCKETS);
}

static bool exchange_rest(Buckets *b, Error *err) {
  bool ok = true;
  for (int i = 0; ok && i < b->parts; i++)
    if (!b->part[i].arrived) ok = fill_rest(b, &b->part[i], err);
  b->walking = false;
  ok = ok && wait_for_all(b, err) && write_back(b, err);
  b->done = nb_clock();
  b->exchanges += ok, b->since += ok;
  if (ok && b->exchanges == 1) tell_unused(b);
  if (ok && b->options.drift > 0 && b->since % b->options.drift == 0) ok = compare_parameters(b, err);
  if (ok && !b->ordered) ok = learn_order(b, err);
  return ok;
}

static bool on_walked(void *user, bool whole, Error *err) {
  Buckets *b = user;
  if (!b->walking) return true;
  bool ok = !b->before || on_walked(b->before, whole, err);
  b->walked = nb_clock();
  for (int i = 0; i < b->sent; i++) b->early += b->bucket[i].range.begun > 0;
  b->all += b->buckets - 1;
  if (whole && ok) ok = exchange_rest(b, err);
  leave_walk(b);
  b->walking = false;
  if (whole && ok) return true;
  tear(b);
  // The others wait for what will not come.
  nb_group_break(whole && err->kind != NB_ERROR_CALLBACK ? err->message
                 : whole                                 ? "an exchange of gradients has failed"
                                                         : "a backward has failed in the middle of an exchange");
  return ok;
}

static void on_walks(void *user) {
  Buckets *b = user;
  b->begins = nb_clock();
}

// ---- making ----

Buckets *nb_buckets_new(Tensor *const *leaves, const char *const *names, int count, BucketOptions o, Error *err) {
  Buckets *b = nb_alloc(sizeof *b, err);
  if (!b) return NULL;
  *b = (Buckets){.options = o, .parts = count, .age = nb_group_age(), .older = newest};
  newest = b;
  b->part = nb_alloc((size_t)count * sizeof *b->part, err);
  if (b->part) memset(b->part, 0, (size_t)count * sizeof *b->part);
  bool ok = b->part && (b->order = nb_alloc((size_t)count * sizeof *b->order, err)) &&
            (b->came = nb_alloc((size_t)count * sizeof *b->came, err)) &&
            (b->hashes = nb_alloc((size_t)count * sizeof *b->hashes, err)) && nb_map_open(&b->place, count, err);
  for (int i = 0; ok && i < count; i++) {
    Part *p = &b->part[i];
    p->leaf = nb_tensor_retain(leaves[i]);
    p->count = nb_layout_numel(&leaves[i]->layout);
    b->order[i] = count - 1 - i;
    size_t length = strlen(names[i]) + 1;
    ok = (p->name = nb_alloc(length, err)) && nb_map_meet(&b->place, leaves[i], i, err);
    if (p->name) memcpy(p->name, names[i], length);
  }
  if (!ok || !arrange(b, err)) {
    nb_buckets_free(b);
    return NULL;
  }
  b->listener = (Listener){.voice = NB_INNER, .walks = on_walks, .arrived = on_arrived, .walked = on_walked, .user = b};
  nb_listen(&b->listener);
  return b;
}

static void leave_list(Buckets *b) {
  Buckets **at = &newest;
  while (*at && *at != b) at = &(*at)->older;
  if (*at) *at = b->older;
}

void nb_buckets_free(Buckets *b) {
  if (!b) return;
  nb_unlisten(&b->listener);
  if (b->walking) tear(b);
  leave_walk(b);
  leave_list(b);
  free_buckets(b);
  for (int i = 0; b->part && i < b->parts; i++) {
    nb_tensor_release(&b->part[i].leaf);
    if (b->part[i].name) nb_free(b->part[i].name, strlen(b->part[i].name) + 1);
  }
  nb_free(b->part, (size_t)b->parts * sizeof *b->part);
  nb_free(b->order, (size_t)b->parts * sizeof *b->order);
  nb_free(b->came, (size_t)b->parts * sizeof *b->came);
  nb_free(b->hashes, (size_t)b->parts * sizeof *b->hashes);
  nb_map_close(&b->place);
  nb_free(b, sizeof *b);
}

void nb_buckets_sync(Buckets *b, bool on) {
  b->silent = !on;
}

int nb_buckets_unused(const Buckets *b, int i) {
  for (int k = 0; k < b->parts; k++)
    if (!b->part[k].arrived && i-- == 0) return k;
  return -1;
}

void nb_buckets_count(const Buckets *b, int64_t *exchanges, int64_t *early, int64_t *all) {
  *exchanges = b->exchanges, *early = b->early, *all = b->all;
}

WalkTimes nb_buckets_walk(const Buckets *b) {
  return (WalkTimes){b->begun, b->walked, b->done, b->buckets - 1};
}

BucketTimes nb_buckets_times(const Buckets *b, int i) {
  const Bucket *k = &b->bucket[i];
  return (BucketTimes){.first = b->order[k->first],
                       .count = k->count,
                       .bytes = k->range.count * (int64_t)nb_dtype_size(k->range.dtype),
                       .full = k->full,
                       .begun = k->range.begun,
                       .ended = k->range.ended};
}
