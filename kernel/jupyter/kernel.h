// SPDX-License-Identifier: MIT
// The kernel as its threads share it.
//
//   evaluator (main)   the session and the queue of requests; no socket
//   io                 the sockets shell, stdin and iopub, and what the process prints
//   control            the socket control, which is answered while the evaluator works; ends the process
//   heartbeat          the socket hb
//
// Requests go from io to the evaluator through the queue of jobs, everything back through the outbox.
#ifndef NABLUA_KERNEL_H
#define NABLUA_KERNEL_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>

#include "connection.h"
#include "outbox.h"
#include "session.h"
#include "wire.h"

// A prompt beside the main one; see subshells.c.
typedef struct Subshell {
  struct Subshell *next;
  char id[40];
  int place;                         // from 1, for people
  int count;                         // inputs so far
  int jobs;                          // that hold it
  atomic_bool deleted;               // what it has queued is dropped
  unsigned long long abort_through;  // as the kernel's
  unsigned mark;                     // of queue.c
} Subshell;

// A request as it came, of which only the header was looked at, unchecked.
typedef struct Job {
  struct Job *next;
  Frames frames;
  unsigned long long number;  // from 1
  Channel channel;
  bool queued;               // it is the evaluator that answers
  SessionLevel level;        // what it is as a visitor; SESSION_INPUT: it is none
  bool is_comm, is_lost;     // a message of a comm; its subshell is unknown
  Subshell *subshell;        // NULL: the main shell
  char comm[64];             // whose message it is, if a short one
  bool more;                 // another for the same comm waits
  unsigned long long after;  // opens a comm, whose target this cell may be about to make; 0: none
} Job;

// What a request that is answered knows of itself: set aside while a visitor is.
typedef struct Answering {
  Message *request;
  Subshell *subshell;
  bool visits, silent, more;
  json_t *payload;  // of the reply to the cell
  json_t *problem;  // of the cell that failed: ename, evalue, traceback
} Answering;

// What the evaluator answers to a request on control, whose socket is another thread's.
typedef struct Reply {
  struct Reply *next;
  Frames frames;
} Reply;

typedef struct Kernel {
  Connection connection;
  Wire *wire;
  Outbox *outbox;
  pthread_t evaluator, io, heartbeat;
  pid_t parent;  // whose end is ours, 0: nobody's
  int quit;      // an event: it is time to end
  atomic_bool stopping, evaluating;

  pthread_mutex_t lock;  // of what follows
  pthread_cond_t changed;
  Job *first, *last;
  unsigned long long jobs;                                  // that came so far
  unsigned long long inputs;                                // of these, cells of the main shell
  unsigned long long last_input, begun_input, ended_input;  // their numbers
  atomic_int visitors;                                      // those that wait and need not wait for a cell's end
  unsigned picks;
  Subshell *subshells;
  int subshells_made;
  bool closed;   // the session is
  bool asking;   // input() waits
  char *answer;  // to it
  size_t answer_length;
  int answered;    // an event
  Reply *replies;  // on control, in their order
  int replied;     // an event
  bool pausing;    // it is a paused prompt that asks

  // The evaluator's own.
  Session *volatile session;
  Answering now;  // the request that is being answered
  bool has_history;
  unsigned long long abort_through;  // cells up to this job came before a cell failed
  char *given;                       // the answer that is read as standard input, its line's end included, or NULL
  size_t given_length, given_at;
} Kernel;

// ---- kernel.c ----

// Runs the kernel of a connection file until its end; the exit status when it could not start.
int kernel_run(const char *connection_file);

// ---- end.c ----

// Asks what is evaluated to stop; from any thread.
void kernel_interrupt(Kernel *k);

// Asks the kernel to end; from any thread.
void kernel_stop(Kernel *k);

// Takes the session away from who ends the kernel, to be closed; none is there from then on.
Session *kernel_take_session(Kernel *k);

// Notes that the session is closed: who ends the kernel need not wait for it.
void kernel_note_closed(Kernel *k);

// Ends the process, on the thread control: stops what runs, lets the session close and everything said go out, each
// within its time.
_Noreturn void kernel_end(Kernel *k);

// Sends a signal (0: none) to the other processes below a launcher that called setsid for this one: what cells started,
// and what that left behind.  How many there are; none where others run there too.  Safe in a signal handler.
int kernel_signal_programs(int number);

// ---- queue.c ----

// Adds a request that came, whose type tells `level` what it is as a visitor; takes the frames over.
void queue_add(Kernel *k, Frames *frames, SessionLevel (*level)(const char *type, bool is_beside));

// The same of one on control, where it is for the evaluator; otherwise false, and nothing.
bool queue_add_control(Kernel *k, Frames *frames);

// Waits a moment, or until a request comes.
void queue_wait(Kernel *k);

// Gives thread control what it is to send; and, there, what that is, false when there is nothing.
void queue_reply(Kernel *k, Frames *frames);
bool queue_take_reply(Kernel *k, Frames *frames);

// Waits for the next request, which the caller gives back to job_free; NULL when the kernel ends.
Job *queue_next(Kernel *k);

// The first request that may be answered while something runs that only what is below `level` may visit; NULL when
// there is none.
Job *queue_visitor(Kernel *k, SessionLevel level);

void job_free(Kernel *k, Job *job);

// Calls the evaluator's attention to visitors that wait; from any thread.
void queue_attend(Kernel *k);

// How many requests came so far, once no cell has come for a moment: what a client sent in one go is then here.
unsigned long long queue_settle(Kernel *k);

// ---- subshells.c ----

// What the three requests answer with.
json_t *subshell_create(Kernel *k);
json_t *subshell_delete(Kernel *k, const char *id);
json_t *subshell_list(Kernel *k);

// The one of that name, which a job holds from here on; NULL when there is none.  Under the lock.
Subshell *subshell_hold(Kernel *k, const char *id);
void subshell_let_go(Subshell *s);

// ---- requests.c ----

// Reads a request that came on `channel`, answers it, and says busy and idle around it.
void request_handle(Kernel *k, Channel channel, Job *job);

// The same of one from the queue, which ends with it.  False when it could not be a visitor.
bool request_evaluate(Kernel *k, Job *job);

// The sink's `visit`.
bool request_visit(void *kernel, SessionLevel level);

// What a request of this type is as a visitor.
SessionLevel request_level(const char *type, bool is_beside);

// The requests that there are, from 0; NULL behind the last.  For tests.
const char *request_name(size_t i);

// ---- threads.c ----

void *io_thread(void *kernel);
void *heartbeat_thread(void *kernel);
void *control_thread(void *kernel);

// ---- trace.c ----

// Tells of a message that comes ("in") or goes ("out"), where the trace is to tell of messages; from any thread.
void trace_frames(const char *way, Channel channel, const Frames *f);

// ---- question.c ----

// Asks the client for a line and waits for it; see Sink.
char *kernel_ask(void *kernel, const char *prompt, bool hidden, size_t *length);

// The sink's `paused`.
bool kernel_paused(void *kernel, const char *prompt, char **input, size_t *length);

// Makes standard input the client: each line that is read asks for one.  False when there is no memory.
bool kernel_open_input(Kernel *k);

// What is left of the answers to the cell before is not read by the next.
void kernel_drop_input(Kernel *k);

// ---- sink.c ----

// What the session tells becomes messages.
Sink kernel_sink(Kernel *k);

// A value as a client wants it: {"text/plain": ...}.
json_t *bundle_json(const Bundle *b);

// {"ename", "evalue", "traceback"}
json_t *problem_json(const Problem *p);

#endif
