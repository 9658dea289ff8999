// SPDX-License-Identifier: MIT
// Keyframes by copy on write.
//
// Of each storage that some keyframe holds there is a track, and of each thing that it held a content.  The content of
// the present has no bytes of its own: they are the storage's, until the storage is about to be written.
#include "nablua/keyframes.h"

#include <string.h>

#include "nablua/clock.h"
#include "nablua/events.h"
#include "nablua/map.h"
#include "nablua/memory.h"
#include "nablua/tape.h"

typedef struct Content {
  int refs;     // keyframes that hold it
  bool lost;    // there was no memory for the copy
  char *bytes;  // NULL: the storage still has them
} Content;

typedef struct Track {
  Tensor *view;      // keeps the storage alive
  Content *present;  // what the storage holds now; NULL when no keyframe holds that
  int refs;          // keyframes that have it
  uint64_t last;     // the number of the last one that was given it
} Track;

struct Keyframes {
  Listener listener;
  AddressMap places;  // storage → place of its track
  Track **track;
  size_t count, room, bytes, lost;
  uint64_t taken, writes;
  double seconds;  // that copying has taken
  int refs;        // 1 until it is freed, and 1 for each keyframe
  bool closed;
};

typedef struct Part {
  Track *track;
  Content *content;
  uint32_t version, history;  // of the storage when the keyframe was taken, and
  Site written;               // who had written it last
} Part;

struct Keyframe {
  Keyframes *of;
  uint64_t writes;  // that had been heard of when it was taken
  int count, room;
  Part part[];
};

static Storage *storage_of(const Track *t) {
  return t->view->storage;
}

static void copy(Keyframes *k, Content *c, const Storage *s, Error *err) {
  double began = nb_clock();
  c->bytes = nb_alloc(s->bytes, err);
  c->lost = !c->bytes;
  k->lost += c->lost;
  if (c->lost) return;
  memcpy(c->bytes, s->data, s->bytes);
  k->bytes += s->bytes;
  k->seconds += nb_clock() - began;
}

// The last moment at which the present can be copied.  Without memory it is lost to the keyframes, and what is about
// to happen goes on.
static bool on_overwriting(void *user, Storage *s, Error *err) {
  Keyframes *k = user;
  const int *place = nb_map_get(&k->places, s);
  if (!place) return true;
  Track *t = k->track[*place];
  Content *c = t->present;
  k->writes++;
  if (!c) return true;
  t->present = NULL;
  if (!c->bytes) copy(k, c, s, err);
  return true;
}

bool nb_keyframes_new(Keyframes **k, Error *err) {
  if (!(*k = nb_alloc(sizeof **k, err))) return false;
  **k = (Keyframes){.refs = 1, .listener = {.voice = NB_WRITE, .overwriting = on_overwriting, .user = *k}};
  nb_listen(&(*k)->listener);
  return true;
}

static void release(Keyframes *k) {
  if (--k->refs > 0) return;
  nb_map_close(&k->places);
  nb_free(k->track, k->room * sizeof *k->track);
  nb_free(k, sizeof *k);
}

void nb_keyframes_free(Keyframes *k) {
  if (!k) return;
  nb_unlisten(&k->listener);
  k->closed = true;
  release(k);
}

size_t nb_keyframes_bytes(const Keyframes *k) {
  return k->bytes;
}

double nb_keyframes_seconds(const Keyframes *k) {
  return k->seconds;
}

uint64_t nb_keyframes_writes(const Keyframes *k) {
  return k->writes;
}

size_t nb_keyframes_lost(const Keyframes *k) {
  return k->lost;
}

// ---- tracks ----

// Drops the tracks that no keyframe has any more.
static void sweep(Keyframes *k) {
  Error never;  // no entry is new
  size_t kept = 0;
  for (size_t i = 0; i < k->count; i++) {
    Track *t = k->track[i];
    if (t->refs > 0) {
      k->track[kept++] = t;
      continue;
    }
    nb_tensor_release(&t->view);
    nb_free(t, sizeof *t);
  }
  if (kept == k->count) return;
  k->count = kept;
  nb_map_clear(&k->places);
  for (size_t i = 0; i < kept; i++) nb_map_meet(&k->places, storage_of(k->track[i]), (int)i, &never);
}

// The track of a tensor's storage, made when there is none.
static Track *track_of(Keyframes *k, Tensor *t, Error *err) {
  int *place = nb_map_get(&k->places, t->storage);
  if (place) return k->track[*place];
  if (!nb_grow(&k->track, &k->room, k->count + 1, sizeof *k->track, err)) return NULL;
  Track *fresh = nb_alloc(sizeof *fresh, err);
  if (!fresh) return NULL;
  *fresh = (Track){.view = nb_tensor_alias(t, &t->layout, err)};
  if (!fresh->view || !nb_map_meet(&k->places, t->storage, (int)k->count, err)) {
    nb_tensor_release(&fresh->view);
    nb_free(fresh, sizeof *fresh);
    return NULL;
  }
  k->track[k->count++] = fresh;
  return fresh;
}

static void drop_content(Keyframes *k, Track *t, Content *c) {
  if (--c->refs > 0) return;
  if (t->present == c) t->present = NULL;
  if (c->bytes) {
    k->bytes -= storage_of(t)->bytes;
    nb_free(c->bytes, storage_of(t)->bytes);
  }
  nb_free(c, sizeof *c);
}

static bool add_part(Keyframe *f, Tensor *tensor, Error *err) {
  Track *t = track_of(f->of, tensor, err);
  if (!t) return false;
  if (t->last == f->of->taken) return true;
  if (!t->present) {
    if (!(t->present = nb_alloc(sizeof *t->present, err))) return false;
    *t->present = (Content){0};
  }
  t->last = f->of->taken;
  t->refs++;
  t->present->refs++;
  const Storage *s = storage_of(t);
  f->part[f->count++] = (Part){t, t->present, s->version, s->history, s->written};
  return true;
}

// ---- keyframes ----

static size_t bytes_of(int room) {
  return sizeof(Keyframe) + (size_t)room * sizeof(Part);
}

bool nb_keyframe_take(Keyframes *k, Tensor *const *list, int count, Keyframe **out, Error *err) {
  Keyframe *f = *out = nb_alloc(bytes_of(count), err);
  if (!f) return false;
  *f = (Keyframe){.of = k, .writes = k->writes, .room = count};
  k->taken++;
  k->refs++;
  bool ok = true;
  for (int i = 0; ok && i < count; i++) ok = !list[i]->storage || add_part(f, list[i], err);
  if (ok) return true;
  nb_keyframe_free(f);
  *out = NULL;
  return false;
}

void nb_keyframe_free(Keyframe *f) {
  if (!f) return;
  for (int i = 0; i < f->count; i++) {
    drop_content(f->of, f->part[i].track, f->part[i].content);
    f->part[i].track->refs--;
  }
  sweep(f->of);
  release(f->of);
  nb_free(f, bytes_of(f->room));
}

bool nb_keyframe_whole(const Keyframe *f) {
  for (int i = 0; i < f->count; i++)
    if (f->part[i].content->lost) return false;
  return true;
}

bool nb_keyframe_holds(const Keyframe *f, const Storage *s) {
  for (int i = 0; i < f->count; i++)
    if (storage_of(f->part[i].track) == s) return true;
  return false;
}

// Whether the tensor holds something else now.
static bool is_other(const Part *p) {
  return p->track->present != p->content;
}

bool nb_keyframe_restore(Keyframe *f, Error *err) {
  if (f->of->closed) return nb_fail(err, NB_ERROR_STATE, "nobody has heard of writes since the keyframes were closed");
  if (!nb_keyframe_whole(f))
    return nb_fail(err, NB_ERROR_STATE, "there was no memory to keep what the tensors held then");
  for (int i = 0; i < f->count; i++)
    if (is_other(&f->part[i]) && !nb_tell_overwriting(storage_of(f->part[i].track), err)) return false;
  for (int i = 0; i < f->count; i++) {
    Track *t = f->part[i].track;
    Storage *s = storage_of(t);
    if (!is_other(&f->part[i])) continue;
    nb_storage_change(s, nb_site_now());
    memcpy(s->data, f->part[i].content->bytes, s->bytes);
    t->present = f->part[i].content;
  }
  return true;
}

// ---- taking back ----

typedef struct Write {
  Tensor *view;
  char *bytes;
} Write;

struct Withdrawn {
  int count, room;
  Write write[];
};

static size_t bytes_of_withdrawn(int room) {
  return sizeof(Withdrawn) + (size_t)room * sizeof(Write);
}

void nb_withdrawn_free(Withdrawn *w) {
  if (!w) return;
  for (int i = 0; i < w->count; i++) {
    nb_free(w->write[i].bytes, w->write[i].view->storage->bytes);
    nb_tensor_release(&w->write[i].view);
  }
  nb_free(w, bytes_of_withdrawn(w->room));
}

static bool keep_write(Withdrawn *w, const Track *t, Error *err) {
  const Storage *s = storage_of(t);
  char *bytes = nb_alloc(s->bytes, err);
  if (!bytes) return false;
  memcpy(bytes, s->data, s->bytes);
  w->write[w->count++] = (Write){nb_tensor_retain(t->view), bytes};
  return true;
}

static bool keep_writes(const Keyframe *f, int others, Withdrawn **out, Error *err) {
  Withdrawn *w = *out = nb_alloc(bytes_of_withdrawn(others), err);
  if (!w) return false;
  *w = (Withdrawn){.room = others};
  bool ok = true;
  for (int i = 0; ok && i < f->count; i++)
    if (is_other(&f->part[i])) ok = keep_write(w, f->part[i].track, err);
  if (ok) return true;
  nb_withdrawn_free(w);
  *out = NULL;
  return false;
}

bool nb_keyframe_withdraw(Keyframe *f, Withdrawn **out, Error *err) {
  int others = 0;
  *out = NULL;
  for (int i = 0; i < f->count; i++) others += is_other(&f->part[i]);
  if (others == 0) return true;
  if (!keep_writes(f, others, out, err)) return false;
  if (!nb_keyframe_restore(f, err)) {
    nb_withdrawn_free(*out);
    *out = NULL;
    return false;
  }
  for (int i = 0; i < f->count; i++) {
    Storage *s = storage_of(f->part[i].track);
    s->version = f->part[i].version;
    s->history = f->part[i].history;
    s->written = f->part[i].written;
  }
  f->of->writes = f->writes;
  return true;
}

bool nb_withdrawn_write(const Withdrawn *w, Error *err) {
  for (int i = 0; i < w->count; i++)
    if (!nb_tell_overwriting(w->write[i].view->storage, err)) return false;
  for (int i = 0; i < w->count; i++) {
    Storage *s = w->write[i].view->storage;
    nb_storage_change(s, nb_site_now());
    memcpy(s->data, w->write[i].bytes, s->bytes);
  }
  return true;
}
