// SPDX-License-Identifier: MIT
// The queue of requests: io adds what came, the evaluator takes one after the other.
#include <stdlib.h>
#include <time.h>

#include "kernel.h"

void queue_add(Kernel *k, Frames *frames) {
  Job *job = calloc(1, sizeof *job);
  if (!job) {
    kernel_log("out of memory; a request is lost");
    frames_free(frames);
    return;
  }
  job->frames = *frames;
  pthread_mutex_lock(&k->lock);
  job->number = ++k->jobs;
  if (k->last)
    k->last->next = job;
  else
    k->first = job;
  k->last = job;
  pthread_cond_broadcast(&k->changed);
  pthread_mutex_unlock(&k->lock);
}

Job *queue_next(Kernel *k) {
  pthread_mutex_lock(&k->lock);
  while (!k->first && !atomic_load(&k->stopping)) pthread_cond_wait(&k->changed, &k->lock);
  Job *job = atomic_load(&k->stopping) ? NULL : k->first;
  if (job && !(k->first = job->next)) k->last = NULL;
  pthread_mutex_unlock(&k->lock);
  return job;
}

unsigned long long queue_settle(Kernel *k) {
  unsigned long long before, after = 0;
  do {
    pthread_mutex_lock(&k->lock);
    before = k->jobs;
    pthread_mutex_unlock(&k->lock);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    pthread_mutex_lock(&k->lock);
    after = k->jobs;
    pthread_mutex_unlock(&k->lock);
  } while (before != after);
  return after;
}
