// SPDX-License-Identifier: MIT
// Everything that leaves through the io thread, in one order: messages, and what was printed between them.
//
// Standard output and error of the process belong to the outbox: the C streams write into it directly, and what
// libraries and child programs write to the descriptors 1 and 2 comes through pipes.  Before anything is added the
// pipes are emptied, so what a child wrote stands before what came after it.  Text is gathered into few messages.
#ifndef NABLUA_OUTBOX_H
#define NABLUA_OUTBOX_H

#include "connection.h"
#include "wire.h"

typedef struct Outbox Outbox;

// Takes standard output and error over; NULL when the system refuses.
Outbox *outbox_new(Wire *wire);

// A line to the standard error that the process was started with.
__attribute__((format(printf, 1, 2))) void kernel_log(const char *format, ...);

// The descriptor that kernel_log writes to.
int kernel_log_descriptor(void);

// ---- any thread ----

// Adds a message after everything before it; takes the frames over.  Never waits.
void outbox_post(Outbox *o, Channel channel, Frames *frames);

// Publishes on iopub; steals `content`; `parent` may be NULL.
void outbox_publish(Outbox *o, const char *type, zmq_msg_t *parent, json_t *content);

// ---- the thread that evaluates ----

// What is printed from here on answers the message of this header; `quiet`: nobody shall see it.
void outbox_begin(Outbox *o, zmq_msg_t *header, bool quiet);

// From here on other programs may write where this one does, and their order counts.
void outbox_expect_programs(Outbox *o);

// Everything printed so far stands before what is added next.
void outbox_flush(Outbox *o);

// The same, and it is the end of a text: a character that was cut will not be completed.
void outbox_end(Outbox *o);

// ---- the io thread ----

// Declares the calling thread the one that sends: it never waits for itself.
void outbox_attach(Outbox *o);

// Descriptors that become readable when there is something to take, or to collect.
int outbox_event(const Outbox *o);
int outbox_pipe(const Outbox *o, int i);  // 0, 1

// Collects from the pipes, and of lines that are not finished.
void outbox_collect(Outbox *o);

// The next message to send.  False when none is due; `wait_ms` says when one will be, -1 for never.
bool outbox_take(Outbox *o, Channel *channel, Frames *frames, int *wait_ms);

// Nothing that is added from here on is sent, so that the end comes.
void outbox_close(Outbox *o);
bool outbox_is_done(Outbox *o);

#endif
