// SPDX-License-Identifier: MIT
// The board of a group: what each process of this machine does, in memory that they share, so that whoever waits can
// say for whom.
//
// Waiting ranks cannot learn through MPI who has not come.  So each writes on the board what it waits in, and a thread
// of its own adds a heartbeat and the time that the computing thread has used: who computes for long is told from who
// hangs.  When nobody of the machine goes on for NABLUA_STALL seconds, one of them says who waits where and who has
// not come; at the second time all are ended.
#ifndef NABLUA_BOARD_H
#define NABLUA_BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nablua/error.h"

enum { BOARD_TEXT = 240 };

typedef enum BoardState { BOARD_COMPUTES, BOARD_WAITS, BOARD_LEFT, BOARD_FAILED } BoardState;

size_t nb_board_slot_bytes(void);

// Takes the slots of this machine's processes over, one after the other at `slots`, of which ours is number `mine`;
// `rank` is ours in the group.  `alone_on_machines`: whether all of the group is on this machine.  `abandon` ends all.
bool nb_board_open(void *slots, int count, int mine, int rank, bool all_here, void (*abandon)(int), Error *err);

// We wait in exchange `number`, of which the text says what and where.
void nb_board_wait(uint64_t number, const char *text);

// The wait has ended; `number` exchanges are behind us.
void nb_board_go(uint64_t number);

// Whether we are to end all: the first of this machine that wants to, and who has waited for that in vain.  False where
// the end has come meanwhile, as a signal.
bool nb_board_may_abandon(void);

// We have left; the thread ends.
void nb_board_leave(void);

// What we run has failed: who waits for us is told, until nb_board_go.
void nb_board_fail(const char *message);

// What a process of this machine does, `i` counted in the order of the slots; false past the last.
typedef struct BoardRow {
  int rank, pid;
  BoardState state;
  uint64_t number;
  double seconds;  // that its computing thread has used
  bool dead;
  char text[BOARD_TEXT];
} BoardRow;
bool nb_board_row(int i, BoardRow *row);

// The sentence about somebody who has left, failed or died while we wait in exchange `number`; false when there is
// nobody.
bool nb_board_missing(uint64_t number, char *text, size_t size);

// A line at the standard error, with the rank in front.
void nb_board_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
