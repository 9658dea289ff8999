// SPDX-License-Identifier: MIT
// Threads that make batches ready, and the same work by the pool.
//
// A tensor may be written while threads read it for a batch to come.  Who writes tells so first: then the batch is
// halted, the write waits for the rows that are being made, and the batch is begun again where it is taken.
#include "nablua/feed.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "files_private.h"
#include "nablua/events.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"
#include "nablua/parallel.h"

enum { CHUNK_BYTES = 1 << 14, MAX_THREADS = 256 };

typedef struct Column {
  Tensor *source;  // owned; NULL: a file
  const char *rows;
  int64_t step;  // bytes from row to row
  RowFile *file;
  size_t row_bytes, out_bytes;
  Tensor *out;  // owned until it is taken
} Column;

typedef struct Job {
  struct Job *next;
  Column columns[NB_FEED_COLUMNS];
  int count;
  int64_t n, chunk, claimed, done;
  int64_t *places;
  bool is_planned;
  PicturePlan plan;
  double *numbers;  // what the plan's lists point to
  size_t number_count;
  uint64_t key, first;
  char *scratch;  // `room` bytes for each worker, and as many for the caller
  size_t room, raw;
  int slots;
  bool halted;  // to be begun again by who takes it: a source was written, or an interrupt came
  bool failed;
  Error err;
} Job;

struct Feed {
  pthread_mutex_t lock;
  pthread_cond_t wake, ready;
  pthread_t threads[NB_FEED_WORKERS];
  int running;
  bool quits;
  pid_t owner;  // after a fork there are no threads
  Job *first, *last;
  Listener writes;
};

// ---- pictures ----

// The sizes of a row of this layout as a picture.
static bool picture_sizes(const Layout *l, PictureSizes *s, Error *err) {
  char text[NB_SHAPE_TEXT];
  if (l->ndim != 3 && l->ndim != 4)
    return nb_fail(err, NB_ERROR_ARGUMENT, "takes batch × height × width or batch × channels × height × width, got %s",
                   nb_shape_text(l, text));
  *s = (PictureSizes){l->ndim == 4 ? l->shape[1] : 1, l->shape[l->ndim - 2], l->shape[l->ndim - 1], l->dtype};
  return true;
}

static Layout layout_of(const Layout *from, const PictureSizes *s, int64_t n) {
  Layout l = *from;
  l.dtype = s->dtype;
  l.shape[0] = n;
  l.shape[l.ndim - 2] = s->h, l.shape[l.ndim - 1] = s->w;
  return l;
}

typedef struct Apply {
  const PicturePlan *plan;
  const char *in;
  char *out, *scratch;
  size_t in_bytes, out_bytes;
  uint64_t key;
  atomic_flag busy[MAX_THREADS];
} Apply;

static void apply_body(int64_t begin, int64_t end, void *ctx) {
  Apply *a = ctx;
  int slot = 0;
  while (atomic_flag_test_and_set(&a->busy[slot])) slot++;  // no more of these run than there are threads
  for (int64_t i = begin; i < end; i++)
    nb_pictures_run(a->plan, a->in + (size_t)i * a->in_bytes, a->out + (size_t)i * a->out_bytes, a->key, (uint64_t)i,
                    a->scratch + (size_t)slot * a->plan->room);
  atomic_flag_clear(&a->busy[slot]);
}

Tensor *nb_pictures_apply(const Tensor *x, const PictureStep *steps, int count, uint64_t key, Error *err) {
  PictureSizes sizes;
  PicturePlan plan;
  if (!picture_sizes(&x->layout, &sizes, err) || !nb_pictures_plan(steps, count, sizes, &plan, err)) return NULL;
  int64_t n = x->layout.shape[0];
  Layout l = layout_of(&x->layout, &plan.sizes[count], n);
  Tensor *y = nb_tensor_new(&l, err);
  size_t room = plan.room * (size_t)nb_threads();
  Apply a = {.plan = &plan, .in = nb_tensor_data(x), .key = key};
  if (!y || !(a.scratch = nb_alloc(room, err))) {
    nb_tensor_release(&y);
    return NULL;
  }
  for (int i = 0; i < MAX_THREADS; i++) atomic_flag_clear(&a.busy[i]);
  a.out = nb_tensor_data(y);
  a.in_bytes = (size_t)(sizes.c * sizes.h * sizes.w) * nb_dtype_size(sizes.dtype);
  a.out_bytes = n ? (size_t)(nb_layout_numel(&l) / n) * nb_dtype_size(l.dtype) : 0;
  int64_t grain = CHUNK_BYTES / (int64_t)(a.in_bytes + 1) + 1;
  nb_parallel_for(n, grain, apply_body, &a);
  nb_free(a.scratch, room);
  if (!nb_poll(err)) nb_tensor_release(&y);
  return y;
}

// ---- batches ----

static void free_job(Job *j) {
  for (int i = 0; i < j->count; i++) {
    nb_tensor_release(&j->columns[i].source);
    nb_tensor_release(&j->columns[i].out);
    nb_rows_close(j->columns[i].file);
  }
  if (j->places) nb_free(j->places, (size_t)(j->n + 1) * sizeof *j->places);
  if (j->numbers) nb_free(j->numbers, (j->number_count + 1) * sizeof *j->numbers);
  if (j->scratch) nb_free(j->scratch, j->room * (size_t)j->slots);
  nb_free(j, sizeof *j);
}

// Row i of a batch, by the thread that has this scratch.
static bool make_row(const Job *j, int64_t i, char *scratch, Error *err) {
  for (int k = 0; k < j->count; k++) {
    const Column *c = &j->columns[k];
    char *out = (char *)nb_tensor_data(c->out) + (size_t)i * c->out_bytes;
    bool changes = j->is_planned && k == 0;
    const char *row = c->rows + (j->places[i] - 1) * c->step;
    if (c->file) {
      char *to = changes ? scratch + j->raw : out;
      if (!nb_rows_read_one(c->file, j->places[i], to, scratch, err)) return false;
      row = to;
    }
    if (changes)
      nb_pictures_run(&j->plan, row, out, j->key, j->first + (uint64_t)i, scratch + j->raw + c->row_bytes);
    else if (!c->file)
      memcpy(out, row, c->row_bytes);
  }
  return true;
}

// Claims rows of the first batch that has some left and makes them; with the lock held, which is let go meanwhile.
// False when there are none.
static bool work(Feed *f, int slot) {
  Job *j = f->first;
  while (j && (j->failed || j->halted || j->claimed >= j->n)) j = j->next;
  if (!j) return false;
  int64_t first = j->claimed, last = first + j->chunk < j->n ? first + j->chunk : j->n;
  j->claimed = last;
  pthread_mutex_unlock(&f->lock);
  Error err;
  bool ok = true;
  for (int64_t i = first; ok && i < last; i++) ok = make_row(j, i, j->scratch + (size_t)slot * j->room, &err);
  pthread_mutex_lock(&f->lock);
  if (!ok && err.kind == NB_ERROR_INTERRUPT) j->halted = true;  // which is for who takes it to answer
  if (!ok && !j->failed && !j->halted) j->failed = true, j->err = err;
  j->done += last - first;
  pthread_cond_broadcast(&f->ready);
  return true;
}

static void *run_worker(void *arg) {
  Feed *f = arg;
  pthread_mutex_lock(&f->lock);
  int slot = f->running++;
  pthread_cond_broadcast(&f->ready);
  while (!f->quits)
    if (!work(f, slot)) pthread_cond_wait(&f->wake, &f->lock);
  pthread_mutex_unlock(&f->lock);
  return NULL;
}

static void start_workers(Feed *f, int count) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are the main thread's
  pthread_mutex_lock(&f->lock);
  for (int i = 0; i < count && pthread_create(&f->threads[i], NULL, run_worker, f) == 0; i++)
    while (f->running <= i) pthread_cond_wait(&f->ready, &f->lock);
  pthread_mutex_unlock(&f->lock);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

// In a process that was forked no thread is there, and what they had begun is begun again.
static void after_fork(Feed *f) {
  if (f->owner == getpid()) return;
  f->owner = getpid();
  f->running = 0;
  pthread_mutex_init(&f->lock, NULL);
  pthread_cond_init(&f->wake, NULL);
  pthread_cond_init(&f->ready, NULL);
  for (Job *j = f->first; j; j = j->next) j->claimed = j->done = 0;
}

static bool reads(const Job *j, const Storage *s) {
  for (int k = 0; k < j->count; k++)
    if (j->columns[k].source && j->columns[k].source->storage == s) return true;
  return false;
}

// Bytes are about to change: no thread reads them from here on.
static bool on_overwriting(void *user, Storage *s, Error *err) {
  (void)err;
  Feed *f = user;
  if (!f->first) return true;
  after_fork(f);
  pthread_mutex_lock(&f->lock);
  for (Job *j = f->first; j; j = j->next) {
    if (!reads(j, s)) continue;
    j->halted = true;
    while (j->done < j->claimed) pthread_cond_wait(&f->ready, &f->lock);
  }
  pthread_mutex_unlock(&f->lock);
  return true;
}

Feed *nb_feed_open(int workers, Error *err) {
  if (workers < 0 || workers > NB_FEED_WORKERS) {
    nb_fail(err, NB_ERROR_ARGUMENT, "there may be 0 to %d threads, got %d", NB_FEED_WORKERS, workers);
    return NULL;
  }
  Feed *f = nb_alloc(sizeof *f, err);
  if (!f) return NULL;
  *f = (Feed){.owner = getpid(), .writes = {.voice = NB_WRITE, .overwriting = on_overwriting, .user = f}};
  pthread_mutex_init(&f->lock, NULL);
  pthread_cond_init(&f->wake, NULL);
  pthread_cond_init(&f->ready, NULL);
  start_workers(f, workers);
  return f;
}

void nb_feed_close(Feed *f) {
  if (!f) return;
  nb_unlisten(&f->writes);
  after_fork(f);
  pthread_mutex_lock(&f->lock);
  f->quits = true;
  pthread_cond_broadcast(&f->wake);
  pthread_mutex_unlock(&f->lock);
  for (int i = 0; i < f->running; i++) pthread_join(f->threads[i], NULL);
  while (f->first) {
    Job *j = f->first;
    f->first = j->next;
    free_job(j);
  }
  pthread_cond_destroy(&f->wake);
  pthread_cond_destroy(&f->ready);
  pthread_mutex_destroy(&f->lock);
  nb_free(f, sizeof *f);
}

// ---- submitting ----

static bool copy_lists(Job *j, Error *err) {
  PicturePlan *p = &j->plan;
  for (int i = 0; i < p->count; i++) j->number_count += (size_t)(p->steps[i].means + p->steps[i].stds);
  if (!(j->numbers = nb_alloc((j->number_count + 1) * sizeof *j->numbers, err))) return false;
  double *to = j->numbers;
  for (int i = 0; i < p->count; i++) {
    PictureStep *s = &p->steps[i];
    if (s->means) s->mean = memcpy(to, s->mean, (size_t)s->means * sizeof *to);
    to += s->means;
    if (s->stds) s->std = memcpy(to, s->std, (size_t)s->stds * sizeof *to);
    to += s->stds;
  }
  return true;
}

static bool add_column(Job *j, const FeedColumn *given, const FeedBatch *batch, Error *err) {
  int k = j->count;
  Column *c = &j->columns[k];
  const Layout *l = given->file ? nb_rows_layout(given->file) : &given->tensor->layout;
  Layout out = *l;
  out.shape[0] = batch->n;
  for (int64_t i = 0; i < batch->n; i++)
    if (batch->places[i] < 1 || batch->places[i] > l->shape[0])
      return nb_fail(err, NB_ERROR_ARGUMENT, "there is no sample %lld, samples count from 1 to %lld",
                     (long long)batch->places[i], (long long)l->shape[0]);
  int64_t numel = 1;
  for (int d = 1; d < l->ndim; d++) numel *= l->shape[d];
  c->row_bytes = (size_t)numel * nb_dtype_size(l->dtype);
  if (k == 0 && batch->step_count > 0) {
    PictureSizes sizes;
    if (!picture_sizes(l, &sizes, err) || !nb_pictures_plan(batch->steps, batch->step_count, sizes, &j->plan, err) ||
        !copy_lists(j, err))
      return false;
    j->is_planned = true;
    out = layout_of(l, &j->plan.sizes[batch->step_count], batch->n);
  }
  if (!(c->out = nb_tensor_new(&out, err))) return false;
  j->count++;
  c->out_bytes = batch->n ? (size_t)(nb_layout_numel(&out) / batch->n) * nb_dtype_size(out.dtype) : 0;
  if (given->file) {
    c->file = nb_rows_retain(given->file);
    size_t raw = nb_rows_bytes(c->file);
    if (raw > j->raw) j->raw = raw;
    return true;
  }
  c->source = nb_tensor_retain(given->tensor);
  c->rows = nb_tensor_data(given->tensor);
  c->step = l->strides[0] * (int64_t)nb_dtype_size(l->dtype);
  return true;
}

static bool fill_job(Job *j, const FeedBatch *batch, int slots, Error *err) {
  size_t widest = 0;
  j->n = batch->n, j->key = batch->key, j->first = batch->first, j->slots = slots;
  if (!(j->places = nb_alloc((size_t)(j->n + 1) * sizeof *j->places, err))) return false;
  memcpy(j->places, batch->places, (size_t)j->n * sizeof *j->places);
  for (int i = 0; i < batch->count; i++) {
    if (!add_column(j, &batch->columns[i], batch, err)) return false;
    widest += j->columns[i].row_bytes;
  }
  j->raw = (j->raw + 63) / 64 * 64;
  size_t row = (j->columns[0].row_bytes + 63) / 64 * 64;
  if (j->is_planned) j->columns[0].row_bytes = row;  // where a row of a file lies before its steps
  j->room = (j->raw + row + j->plan.room + 127) / 64 * 64;
  j->chunk = (int64_t)(CHUNK_BYTES / (widest + 1)) + 1;
  return (j->scratch = nb_alloc(j->room * (size_t)slots, err));
}

bool nb_feed_submit(Feed *f, const FeedBatch *batch, Error *err) {
  after_fork(f);
  if (batch->count < 1 || batch->count > NB_FEED_COLUMNS)
    return nb_fail(err, NB_ERROR_ARGUMENT, "a batch may have 1 to %d tensors, got %d", NB_FEED_COLUMNS, batch->count);
  Job *j = nb_alloc(sizeof *j, err);
  if (!j) return false;
  *j = (Job){.next = NULL};
  if (!fill_job(j, batch, f->running + 1, err)) {
    free_job(j);
    return false;
  }
  for (int k = 0; k < j->count; k++)
    if (j->columns[k].source) nb_listen(&f->writes);
  pthread_mutex_lock(&f->lock);
  if (f->first)
    f->last->next = j;
  else
    f->first = j;
  f->last = j;
  pthread_cond_broadcast(&f->wake);
  pthread_mutex_unlock(&f->lock);
  return true;
}

// ---- taking ----

int nb_feed_columns(const Feed *f) {
  return f->first ? f->first->count : 0;
}

// Waits until all rows are made, with the lock held; takes part in it.
static bool finish(Feed *f, Job *j, Error *err) {
  while (j->halted || j->done < j->claimed || (!j->failed && j->claimed < j->n)) {
    if (!nb_poll(err)) return false;
    if (j->halted && j->done == j->claimed) {
      j->halted = j->failed = false;
      j->claimed = j->done = 0;
    }
    if (!j->failed && !j->halted && j->claimed < j->n) {
      work(f, f->running);
      continue;
    }
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 20000000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    pthread_cond_timedwait(&f->ready, &f->lock, &until);
  }
  return true;
}

bool nb_feed_take(Feed *f, Tensor **out, Error *err) {
  after_fork(f);
  Job *j = f->first;
  if (!j) return nb_fail(err, NB_ERROR_STATE, "there is no batch to take");
  pthread_mutex_lock(&f->lock);
  bool ok = finish(f, j, err);
  if (ok) {
    f->first = j->next;
    if (!f->first) f->last = NULL;
  }
  pthread_mutex_unlock(&f->lock);
  if (!ok) return false;
  if (j->failed) {
    *err = j->err;
  } else {
    for (int k = 0; k < j->count; k++) {
      out[k] = j->columns[k].out;
      j->columns[k].out = NULL;
    }
  }
  ok = !j->failed;
  free_job(j);
  return ok;
}
