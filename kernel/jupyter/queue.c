// SPDX-License-Identifier: MIT
// The queue of requests: io adds what came, the evaluator takes one after the other; while a cell runs, those that need
// not wait for it.
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "event.h"
#include "kernel.h"
#include "lenient.h"

// ---- adding ----

static json_t *read_part(const Frames *f, size_t place) {
  enum { LONGEST = 1 << 16 };
  for (size_t i = 0; i + place < f->count; i++) {
    if (zmq_msg_size(&f->items[i]) != 9 || memcmp(zmq_msg_data(&f->items[i]), "<IDS|MSG>", 9) != 0) continue;
    zmq_msg_t *part = &f->items[i + place];
    return zmq_msg_size(part) > LONGEST ? NULL : json_lenient(zmq_msg_data(part), zmq_msg_size(part));
  }
  return NULL;
}

// Looks at what decides when it is answered.  What cannot be read is found out then.
static void classify(Kernel *k, Job *job, SessionLevel (*level)(const char *type, bool is_beside)) {
  enum { HEADER = 2, CONTENT = 5 };
  json_t *header = read_part(&job->frames, HEADER);
  const char *type = json_string_value(json_object_get(header, "msg_type"));
  const char *id = json_string_value(json_object_get(header, "subshell_id"));
  if (id) {
    job->subshell = subshell_hold(k, id);
    job->is_lost = !job->subshell;
  }
  job->level = job->is_lost || !type ? SESSION_LOOK : level(type, id != NULL);
  job->is_comm = job->level == SESSION_HANDLE;
  if (job->is_comm && !id && strcmp(type, "comm_open") == 0 && k->last_input > k->begun_input)
    job->after = k->last_input;
  if (job->is_comm && strcmp(type, "comm_msg") == 0) {
    json_t *content = read_part(&job->frames, CONTENT);
    const char *comm = json_string_value(json_object_get(content, "comm_id"));
    if (comm && strlen(comm) < sizeof job->comm) strcpy(job->comm, comm);
    json_decref(content);
  }
  json_decref(header);
}

static void append(Kernel *k, Job *job) {
  if (k->last)
    k->last->next = job;
  else
    k->first = job;
  k->last = job;
  pthread_cond_broadcast(&k->changed);
}

void queue_add(Kernel *k, Frames *frames, SessionLevel (*level)(const char *type, bool is_beside)) {
  Job *job = calloc(1, sizeof *job);
  if (!job) {
    kernel_log("out of memory; a request is lost");
    frames_free(frames);
    return;
  }
  job->frames = *frames;
  job->channel = SHELL;
  job->queued = true;
  pthread_mutex_lock(&k->lock);
  job->number = ++k->jobs;
  classify(k, job, level);
  if (job->level < SESSION_INPUT) {
    atomic_fetch_add(&k->visitors, 1);
  } else {
    k->inputs++;
    k->last_input = job->number;
  }
  append(k, job);
  pthread_mutex_unlock(&k->lock);
}

bool queue_add_control(Kernel *k, Frames *frames) {
  json_t *header = read_part(frames, 2);
  const char *type = json_string_value(json_object_get(header, "msg_type"));
  Job *job = type && strcmp(type, "debug_request") == 0 ? calloc(1, sizeof *job) : NULL;
  json_decref(header);
  if (!job) return false;
  *job = (Job){.frames = *frames, .channel = CONTROL, .queued = true, .level = SESSION_LOOK};
  pthread_mutex_lock(&k->lock);
  job->number = ++k->jobs;
  atomic_fetch_add(&k->visitors, 1);
  append(k, job);
  pthread_mutex_unlock(&k->lock);
  queue_attend(k);
  return true;
}

void queue_reply(Kernel *k, Frames *frames) {
  Reply *reply = malloc(sizeof *reply);
  if (!reply) {
    kernel_log("out of memory; a reply is lost");
    frames_free(frames);
    return;
  }
  *reply = (Reply){NULL, *frames};
  pthread_mutex_lock(&k->lock);
  Reply **end = &k->replies;
  while (*end) end = &(*end)->next;
  *end = reply;
  pthread_mutex_unlock(&k->lock);
  event_set(k->replied);
}

bool queue_take_reply(Kernel *k, Frames *frames) {
  pthread_mutex_lock(&k->lock);
  Reply *reply = k->replies;
  if (reply) k->replies = reply->next;
  pthread_mutex_unlock(&k->lock);
  if (reply) *frames = reply->frames;
  free(reply);
  return reply != NULL;
}

void job_free(Kernel *k, Job *job) {
  frames_free(&job->frames);
  pthread_mutex_lock(&k->lock);
  if (job->subshell) subshell_let_go(job->subshell);
  if (job->level == SESSION_INPUT) k->ended_input = job->number;
  pthread_mutex_unlock(&k->lock);
  free(job);
}

void queue_attend(Kernel *k) {
  if (atomic_load(&k->evaluating)) pthread_kill(k->evaluator, SIGURG);
}

// ---- taking ----

// Whether another message for the comm of this job waits, and nothing that must come between them.
static bool is_followed(const Job *job) {
  enum { FAR = 64 };
  if (!*job->comm) return false;
  const Job *other = job->next;
  for (int i = 0; other && i < FAR; i++, other = other->next) {
    if (other->level == SESSION_INPUT) return false;
    if (other->subshell == job->subshell && strcmp(other->comm, job->comm) == 0) return true;
  }
  return false;
}

static void take_out(Kernel *k, Job *job, Job *before) {
  job->more = is_followed(job);
  if (before)
    before->next = job->next;
  else
    k->first = job->next;
  if (k->last == job) k->last = before;
  if (job->level < SESSION_INPUT)
    atomic_fetch_sub(&k->visitors, 1);
  else
    k->begun_input = job->number;
}

static struct timespec in_seconds(double seconds) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  long long ns = t.tv_nsec + (long long)((seconds < 1e6 ? seconds : 1e6) * 1e9);
  return (struct timespec){t.tv_sec + ns / 1000000000, ns % 1000000000};
}

void queue_wait(Kernel *k) {
  pthread_mutex_lock(&k->lock);
  struct timespec until = in_seconds(0.02);
  if (!atomic_load(&k->stopping)) pthread_cond_timedwait(&k->changed, &k->lock, &until);
  pthread_mutex_unlock(&k->lock);
}

Job *queue_next(Kernel *k) {
  pthread_mutex_lock(&k->lock);
  while (!k->first && !atomic_load(&k->stopping)) {
    double due = session_due(k->session);
    if (due < 0) {
      pthread_cond_wait(&k->changed, &k->lock);
      continue;
    }
    struct timespec until = in_seconds(due);
    if (due > 0) pthread_cond_timedwait(&k->changed, &k->lock, &until);
    pthread_mutex_unlock(&k->lock);
    session_tick(k->session);
    pthread_mutex_lock(&k->lock);
  }
  Job *job = atomic_load(&k->stopping) ? NULL : k->first;
  if (job) take_out(k, job, NULL);
  pthread_mutex_unlock(&k->lock);
  return job;
}

// Whether a job may come before those that it finds in the queue: what a subshell asks for keeps its order, and so do
// comms, which may be of a target that a cell before them is to make.
static bool may_pass(const Kernel *k, const Job *job, SessionLevel level, bool behind) {
  const Subshell *s = job->subshell;
  if (s && s->deleted) return true;
  if (job->level >= level || (s && s->mark == k->picks)) return false;
  return !job->is_comm || s || (!behind && job->after <= k->ended_input);
}

Job *queue_visitor(Kernel *k, SessionLevel level) {
  pthread_mutex_lock(&k->lock);
  k->picks++;
  bool behind = false;  // a cell, or a comm that waits for one
  Job *job = k->first, *before = NULL;
  for (; job && !may_pass(k, job, level, behind); before = job, job = job->next) {
    behind = behind || job->level == SESSION_INPUT || job->after > k->ended_input;
    if (job->subshell) job->subshell->mark = k->picks;
  }
  if (job) take_out(k, job, before);
  if (job && job->subshell && job->subshell->deleted) job->level = SESSION_LOOK;
  pthread_mutex_unlock(&k->lock);
  return job;
}

unsigned long long queue_settle(Kernel *k) {
  enum { ROUNDS = 25 };  // who goes on sending cells for so long did not send them in one go
  unsigned long long before, after = 0, jobs = 0;
  for (int i = 0; i < ROUNDS; i++) {
    pthread_mutex_lock(&k->lock);
    before = k->inputs;
    pthread_mutex_unlock(&k->lock);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    pthread_mutex_lock(&k->lock);
    after = k->inputs;
    jobs = k->jobs;
    pthread_mutex_unlock(&k->lock);
    if (before == after) break;
  }
  return jobs;
}
