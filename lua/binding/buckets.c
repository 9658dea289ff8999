// SPDX-License-Identifier: MIT
// Gradients summed over a group while backward runs.
//
//   backward ──► arrived(leaf) ──► its place in a bucket ──► full: MPI_Iallreduce ... ──► walked: wait, write back
//
// Buckets hold parameters in the order in which backward was seen to bring them, so that the first is on its way while
// the rest is computed; MPI moves on when something else arrives.  Every bucket begins in the same order on all ranks.
// Behind its numbers a bucket has one more for each parameter: 1 where this rank has a gradient of it.  Their sum says
// what to do with a parameter that not all ranks have used.
#include "buckets.h"

#include <stdio.h>
#include <string.h>

#include "nablua/compose.h"
#include "nablua/events.h"
#include "nablua/map.h"
#include "nablua/memory.h"

typedef struct Part {
  Tensor *leaf;  // owned
  char *name;    // owned
  int bucket;
  int64_t at, count, flag;  // its place in the bucket, and that of its flag
  bool arrived;             // in this walk
} Part;

typedef struct Bucket {
  DType dtype;
  int first, count;  // of `order`
  int arrived;
  int64_t numbers;  // those of its parameters and the flags
  size_t bytes;
  char *memory;
  Request request;
  bool begun, done;
} Bucket;

struct Buckets {
  Listener listener;
  BucketOptions options;
  Part *part;
  int *order;  // of the parts in the buckets
  int parts;
  Bucket *bucket;
  int buckets, begun, left;  // those that are on their way come first; `left`: of these, how many are not done
  AddressMap place;          // leaf -> part
  Agreement agreement;
  bool walking, ordered, silent;
  int *came;  // the order in which they arrive
  int came_count;
  uint64_t *hashes;
  int64_t exchanges, early, all;
};

static double weight = 1;

void nb_buckets_weigh(double w) {
  weight = w;
}

static int size_of_group(void) {
  return nb_group()->size;
}

// ---- layout ----

// What MPI may still write to after a failure stays.
static void free_buckets(Buckets *b) {
  for (int i = 0; i < b->buckets; i++)
    nb_group_free(b->bucket[i].memory, b->bucket[i].bytes, !b->bucket[i].begun || b->bucket[i].done);
  nb_free(b->bucket, (size_t)b->parts * sizeof *b->bucket);
  b->bucket = NULL;
  b->buckets = 0;
}

// Puts the parts in their order into buckets of one dtype each.
static bool arrange(Buckets *b, Error *err) {
  free_buckets(b);
  if (!(b->bucket = nb_alloc((size_t)b->parts * sizeof *b->bucket, err))) return false;
  for (int k = 0; k < b->parts; k++) {
    Part *p = &b->part[b->order[k]];
    DType dtype = p->leaf->layout.dtype;
    Bucket *last = b->buckets > 0 ? &b->bucket[b->buckets - 1] : NULL;
    int64_t bytes = p->count * (int64_t)nb_dtype_size(dtype);
    // The first is small, so that something is on its way soon.
    int64_t most = b->buckets == 1 ? b->options.bytes / 4 : b->options.bytes;
    if (!last || last->dtype != dtype || last->numbers * (int64_t)nb_dtype_size(dtype) + bytes > most) {
      last = &b->bucket[b->buckets++];
      *last = (Bucket){.dtype = dtype, .first = k};
    }
    p->bucket = (int)(last - b->bucket);
    p->at = last->numbers;
    last->numbers += p->count;
    last->count++;
  }
  for (int i = 0; i < b->buckets; i++) {
    Bucket *k = &b->bucket[i];
    k->numbers += k->count;
    k->bytes = (size_t)k->numbers * nb_dtype_size(k->dtype);
    if (!(k->memory = nb_alloc(k->bytes, err))) return false;
    for (int j = 0; j < k->count; j++) b->part[b->order[k->first + j]].flag = k->numbers - k->count + j;
  }
  return true;
}

static void put_number(Bucket *k, int64_t at, double value) {
  if (k->dtype == NB_F64)
    ((double *)(void *)k->memory)[at] = value;
  else
    ((float *)(void *)k->memory)[at] = (float)value;
}

static double number_at(const Bucket *k, int64_t at) {
  return k->dtype == NB_F64 ? ((double *)(void *)k->memory)[at] : (double)((float *)(void *)k->memory)[at];
}

// ---- on the way ----

static bool begin_bucket(Buckets *b, Error *err) {
  Bucket *k = &b->bucket[b->begun];
  Exchange x = {.motion = MOTION_ALLREDUCE,
                .channel = CHANNEL_BUCKETS,
                .element = k->dtype == NB_F64 ? ELEMENT_F64 : ELEMENT_F32,
                .to = k->memory,
                .count = k->numbers};
  if (!nb_request_begin(&x, &k->request, err)) return false;
  k->begun = true;
  b->begun++;
  b->left++;
  return true;
}

// Lets what is on its way move on, and begins what is full.
static bool move_on(Buckets *b, Error *err) {
  if (!nb_agree_test(&b->agreement, err)) return false;
  if (!b->agreement.done) return true;
  while (b->begun < b->buckets && b->bucket[b->begun].arrived == b->bucket[b->begun].count)
    if (!begin_bucket(b, err)) return false;
  for (int i = 0; b->left > 0 && i < b->begun; i++) {
    Bucket *k = &b->bucket[i];
    if (k->done) continue;
    if (!nb_request_test(&k->request, &k->done, err)) return false;
    b->left -= k->done;
  }
  return true;
}

// After a failure the buckets are others.
static bool renew(Buckets *b, Error *err) {
  bool whole = true;
  for (int i = 0; i < b->buckets; i++) whole = whole && (!b->bucket[i].begun || b->bucket[i].done);
  return whole || arrange(b, err);
}

static bool begin_walk(Buckets *b, Error *err) {
  Intent intent;
  if (!renew(b, err)) return false;
  nb_intend(&intent, "backward of %d parameters, %s of %s first", b->parts, b->options.sum ? "the sum" : "the mean",
            b->part[b->order[0]].name);
  for (int i = 0; i < b->parts; i++) b->part[i].arrived = false;
  for (int i = 0; i < b->buckets; i++) {
    Bucket *k = &b->bucket[i];
    k->begun = k->done = false;
    k->arrived = 0;
  }
  b->begun = b->left = b->came_count = 0;
  b->walking = true;
  return nb_agree_begin(&b->agreement, &intent, err);
}

// Writes the part's gradient into its bucket: what the leaf had and what has come, either of which may be NULL.
static bool fill(Buckets *b, Part *p, Tensor *had, Tensor *came, Error *err) {
  Bucket *k = &b->bucket[p->bucket];
  size_t each = nb_dtype_size(k->dtype);
  char *to = k->memory + (size_t)p->at * each;
  bool ok = true;
  if (!had && !came) {
    memset(to, 0, (size_t)p->count * each);
  } else {
    Scope s;
    nb_scope_open(&s, err);
    Tensor *sum = had && came ? nb_add(&s, had, came) : had ? had : came;
    if (sum && !nb_layout_contiguous(&sum->layout)) sum = nb_contiguous(&s, sum);
    ok = sum && (sum->layout.dtype == k->dtype ||
                 nb_fail(err, NB_ERROR_STATE,
                         "dist.parallel: the gradient of %s is %s, the parameter was %s; call "
                         "dist.parallel(net) again after net:to(dtype)",
                         p->name, nb_dtype_name(sum->layout.dtype), nb_dtype_name(k->dtype)));
    if (ok) memcpy(to, nb_tensor_data(sum), (size_t)p->count * each);
    nb_scope_close(&s);
  }
  put_number(k, p->flag, had || came);
  p->arrived = true;
  k->arrived++;
  return ok;
}

// Of sums over samples each counts as it is, but where a rank takes part without any.
static bool weigh(const Buckets *b, Tensor **grad, Error *err) {
  double factor = b->options.sum && weight > 0 ? 1 : weight;
  if (factor == 1) return true;
  Scope s;
  nb_scope_open(&s, err);
  Tensor *weighed = nb_muln(&s, *grad, factor);
  if (weighed) {
    nb_tensor_retain(weighed);
    nb_tensor_release(grad);
    *grad = weighed;
  }
  nb_scope_close(&s);
  return weighed != NULL;
}

static bool on_arrived(void *user, Tensor *leaf, Tensor **grad, Error *err) {
  Buckets *b = user;
  const int *place = nb_map_get(&b->place, leaf);
  if (!place) return true;
  Part *p = &b->part[*place];
  if (!weigh(b, grad, err)) return false;
  if (b->silent) return true;
  if (!b->walking && !begin_walk(b, err)) return false;
  if (p->arrived)
    return nb_fail(err, NB_ERROR_STATE, "dist.parallel: a backward within a backward brings %s twice", p->name);
  b->came[b->came_count++] = *place;
  return fill(b, p, leaf->grad, *grad, err) && move_on(b, err);
}

// ---- the end of a walk ----

static const char *waits_for(const Buckets *b) {
  for (int i = 0; i < b->begun; i++)
    if (!b->bucket[i].done) return b->part[b->order[b->bucket[i].first]].name;
  return b->part[b->order[0]].name;
}

static bool wait_for_all(Buckets *b, Error *err) {
  char text[INTENT_TEXT + 100];
  bool ok = move_on(b, err);
  if (ok && b->begun == b->buckets && b->left == 0) return true;
  snprintf(text, sizeof text, "the gradient of %s: %s", waits_for(b), b->agreement.intent.text);
  Wait w = nb_wait_begin(text);
  while (ok && (b->begun < b->buckets || b->left > 0)) ok = nb_pause(&w, err) && move_on(b, err);
  nb_wait_end();
  return ok;
}

#define SCALE(T)                                                    \
  do {                                                              \
    const T *in = (const T *)(const void *)from;                    \
    T *out = (T *)to;                                               \
    for (int64_t i = 0; i < count; i++) out[i] = in[i] * (T)factor; \
  } while (0)

static void scale(DType dtype, const char *from, void *to, int64_t count, double factor) {
  if (dtype == NB_F64)
    SCALE(double);
  else
    SCALE(float);
}

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

static bool write_back(Buckets *b, Error *err) {
  double factor = b->options.sum ? 1 : 1.0 / size_of_group();
  for (int i = 0; i < b->parts; i++) {
    Part *p = &b->part[i];
    Bucket *k = &b->bucket[p->bucket];
    p->arrived = number_at(k, p->flag) > 0;  // on any rank
    if (!p->arrived) continue;
    if (!own_gradient(p->leaf, err)) return false;
    scale(k->dtype, k->memory + (size_t)p->at * nb_dtype_size(k->dtype), nb_tensor_data(p->leaf->grad), p->count,
          factor);
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

static bool on_walked(void *user, bool whole, Error *err) {
  Buckets *b = user;
  if (!b->walking) return true;
  b->walking = false;
  if (!whole) {  // the others wait for what will not come
    nb_group_break("a backward has failed in the middle of an exchange");
    return true;
  }
  b->early += b->begun;
  b->all += b->buckets;
  bool ok = true;
  for (int i = 0; ok && i < b->parts; i++)
    if (!b->part[i].arrived) ok = fill(b, &b->part[i], b->part[i].leaf->grad, NULL, err);
  ok = ok && wait_for_all(b, err) && write_back(b, err);
  b->exchanges += ok;
  if (ok && b->exchanges == 1) tell_unused(b);
  if (ok && b->options.drift > 0 && b->exchanges % b->options.drift == 0) ok = compare_parameters(b, err);
  if (ok && !b->ordered) ok = learn_order(b, err);
  if (!ok) nb_group_break(err->kind == NB_ERROR_CALLBACK ? "an exchange of gradients has failed" : err->message);
  return ok;
}

// ---- making ----

Buckets *nb_buckets_new(Tensor *const *leaves, const char *const *names, int count, BucketOptions o, Error *err) {
  Buckets *b = nb_alloc(sizeof *b, err);
  if (!b) return NULL;
  *b = (Buckets){.options = o, .parts = count};
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
  b->listener = (Listener){.voice = NB_INNER, .arrived = on_arrived, .walked = on_walked, .user = b};
  nb_listen(&b->listener);
  return b;
}

void nb_buckets_free(Buckets *b) {
  if (!b) return;
  nb_unlisten(&b->listener);
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
