// SPDX-License-Identifier: MIT
// A group of processes that compute together: joining it, agreeing on what is exchanged, exchanging, leaving.
//
// Every exchange begins with an agreement: the ranks compare a hash of what each is about to do, and where they differ
// all of them fail with the same sentence, before a byte of data has moved.  What has failed leaves the group broken:
// nothing more is exchanged.  Ranks are counted from 0 here and from 1 in sentences.
#ifndef NABLUA_GROUP_H
#define NABLUA_GROUP_H

#include "nablua/error.h"
#include "transport.h"

enum { INTENT_TEXT = 240, AGREEMENT_BYTES = 4 * sizeof(uint64_t) };

// What a rank is about to do.
typedef struct Intent {
  char text[INTENT_TEXT];  // "allreduce_ (sum) of f32 2×3 at train.lua:7"
  uint64_t hash;           // of what must be equal
} Intent;

// An agreement under way.
typedef struct Agreement {
  Intent intent;
  uint64_t *words;  // a hash and its complement, ours and then the largest of all: MPI's while it is under way
  uint64_t number;  // of the exchange
  Request request;
  bool done;
} Agreement;

// How many processes the launcher's environment says that there are; 0 when this was not launched so.
int nb_group_launched(void);

// Joins the group through the module at `path`.
bool nb_group_open(const char *path, Error *err);

// The place in it; NULL while it is not open.
const TransportPlace *nb_group(void);

// Fills an intent: `what` with its words, and the place in the user's code.
void nb_intend(Intent *intent, const char *format, ...) __attribute__((format(printf, 2, 3)));

bool nb_agree_begin(Agreement *a, const Intent *intent, Error *err);
bool nb_agree_test(Agreement *a, Error *err);  // moves on; a->done when all agree
bool nb_agree(const Intent *intent, Error *err);

// One exchange, to its end.  `text` says what waits.
bool nb_exchange(const Exchange *x, const char *text, Error *err);

bool nb_request_begin(const Exchange *x, Request *r, Error *err);
bool nb_request_test(Request *r, bool *done, Error *err);

// A wait: nb_pause between two tests of something, with whether that has moved; false when it cannot end well.
typedef struct Wait {
  double begun, looked;
  int turns;
} Wait;
Wait nb_wait_begin(const char *text);
bool nb_pause(Wait *w, bool moved, Error *err);
void nb_wait_end(void);

// Nothing more is exchanged from now on; `why` is said to whoever tries.
void nb_group_break(const char *why);

// The names of the launcher of the MPI at `path`, NULL at the end.
const char *const *nb_group_launchers(const char *path, Error *err);

// Starts the launcher of the MPI at `path`, whose name goes to arguments[0]; its first process is a carrier (relay.h)
// of this one.  Until nb_group_drop what it starts is the group, of which this process is the first.
bool nb_group_spawn(const char *path, char **arguments, Error *err);

// Serves the prompt `pid` as its carrier, until that is gone.
bool nb_group_carry(const char *path, int pid, int fd, Error *err);

// Before it is joined: the group is a prompt's, which this process serves.
void nb_group_serve_prompt(void);

// Whether the group is a prompt's, of this process or another.
bool nb_group_is_spawned(void);

// On all ranks, after something has failed on any: the group is whole again, and what was under way is forgotten.
bool nb_group_renew(Error *err);

// How often that was: what ranks count together begins anew with it, since a failure meets each elsewhere.
int nb_group_age(void);

// This process is alone again; the others are ended.
void nb_group_drop(void);

// Memory that MPI may still write to after a failure: freed where all went well.
void *nb_group_block(size_t bytes, Error *err);
void nb_group_free(void *block, size_t bytes, bool done);

// Leaves the group, once all do; ends all processes of it.
void nb_group_leave(void);
void nb_group_abandon(int status);

#endif
