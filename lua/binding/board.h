// SPDX-License-Identifier: MIT
// The board of a group: what each process does, in memory that those of a machine share, so that whoever waits can say
// for whom.  Machines tell each other of theirs by datagrams (hub.h).
//
// Waiting ranks cannot learn through MPI who has not come.  So each writes on the board what it waits in, and a thread
// of its own adds a heartbeat and the time that the computing thread has used: who computes for long is told from who
// hangs.  When nobody goes on for NABLUA_STALL seconds, one of them says who waits where and who has
// not come; at the second time all are ended.
#ifndef NABLUA_BOARD_H
#define NABLUA_BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hub.h"
#include "nablua/error.h"

enum { BOARD_NAME = 100 };

typedef enum BoardState { BOARD_COMPUTES, BOARD_WAITS, BOARD_LEFT, BOARD_FAILED } BoardState;

// The bytes of the board of so many processes.
size_t nb_board_bytes(int size);

// Takes the slots of the group's processes over, one after the other at `slots`, filled with zeros; `rank` is ours.
// `abandon` ends all.
bool nb_board_open(void *slots, int size, int rank, void (*abandon)(int), Error *err);

// From now on the machines tell each other; false where there is no network.
bool nb_board_link(const HubPlace *place);

// We wait in exchange `number`, of which the text says what and where.
void nb_board_wait(uint64_t number, const char *text);

// The wait has ended; `number` exchanges are behind us.
void nb_board_go(uint64_t number);

// Whether we are to end all: the first of this machine that wants to, and who has waited for that in vain.  False where
// the end has come meanwhile, as a signal.
bool nb_board_may_abandon(void);

// We have left; the thread ends.
void nb_board_leave(void);

// The group begins anew: no exchange is behind us, and what has failed is over.
void nb_board_renew(void);

// What we run has failed: who waits for us is told, until nb_board_go.
void nb_board_fail(const char *message);

// What a process does, by its rank from 0; false past the last.  Of one that was not heard of yet `pid` is 0.
typedef struct BoardRow {
  int rank, pid;
  BoardState state;
  uint64_t number, bytes;  // exchanges, memory
  double seconds;          // that its computing thread has used
  bool here, dead;         // of this machine
  char text[BOARD_TEXT], host[BOARD_HOST];
} BoardRow;
bool nb_board_row(int i, BoardRow *row);

// The sentence about somebody who has left, failed or died while we wait in exchange `number`; false when there is
// nobody.
bool nb_board_missing(uint64_t number, char *text, size_t size);

// Whether a process of this machine has ended, also where nobody has waited for it yet.
bool nb_process_is_gone(int pid);

// A line at the standard error, with the rank in front.
void nb_board_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
