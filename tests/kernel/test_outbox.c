// SPDX-License-Identifier: MIT
// What leaves the kernel keeps its order, whoever adds it: prints, messages of several threads, what programs write.
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "outbox.h"

// An outbox with the process's own streams put aside: they are cmocka's.
typedef struct Fixture {
  Outbox *outbox;
  FILE *out, *err;
  int descriptors[2];
  FILE *printing, *complaining;  // the outbox's
} Fixture;

static Fixture fixture;
static Outbox *all[16];  // an outbox lives as long as the process: it is no leak
static int count;

static void put_back(Fixture *f) {
  fflush(stdout);
  stdout = f->out;
  stderr = f->err;
  dup2(f->descriptors[0], STDOUT_FILENO);
  dup2(f->descriptors[1], STDERR_FILENO);
}

static void add_header(zmq_msg_t *header, const char *text) {
  zmq_msg_init_size(header, strlen(text));
  memcpy(zmq_msg_data(header), text, strlen(text));
}

static int open_outbox(void **state) {
  Fixture *f = *state = &fixture;
  zmq_msg_t header;
  fflush(stdout);
  *f = (Fixture){.out = stdout, .err = stderr, .descriptors = {dup(STDOUT_FILENO), dup(STDERR_FILENO)}};
  f->outbox = outbox_new(wire_new(""));
  if (!f->outbox) return -1;
  all[count++] = f->outbox;
  f->printing = stdout;
  f->complaining = stderr;
  add_header(&header, "{\"msg_id\":\"1\"}");
  outbox_begin(f->outbox, &header, false);
  zmq_msg_close(&header);
  stdout = f->out;
  stderr = f->err;
  return 0;
}

static int close_outbox(void **state) {
  put_back(*state);
  return 0;
}

// What was sent, in order: texts joined, each message by its number.
typedef struct Sent {
  char *text;
  size_t length, room;
} Sent;

static void add_sent(Sent *s, const char *data, size_t length) {
  if (s->length + length + 1 > s->room) {
    s->room = 2 * (s->length + length + 1);
    s->text = realloc(s->text, s->room);
    assert_non_null(s->text);
  }
  memcpy(s->text + s->length, data, length);
  s->length += length;
  s->text[s->length] = '\0';
}

static void note(Sent *s, Frames *f) {
  zmq_msg_t *last = &f->items[f->count - 1];
  json_t *content = json_loadb(zmq_msg_data(last), zmq_msg_size(last), JSON_ALLOW_NUL, NULL);
  const char *text = json_string_value(json_object_get(content, "text"));
  if (text)
    add_sent(s, text, json_string_length(json_object_get(content, "text")));
  else
    add_sent(s, json_string_value(json_object_get(content, "mark")),
             json_string_length(json_object_get(content, "mark")));
  json_decref(content);
  frames_free(f);
}

// Takes until nothing more will be due.
static void take_all(Outbox *o, Sent *s) {
  Channel channel;
  Frames f;
  int wait;
  for (;;) {
    while (outbox_take(o, &channel, &f, &wait)) note(s, &f);
    if (wait < 0) return;
    usleep((unsigned)wait * 1000);
  }
}

static void mark(Outbox *o, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void mark(Outbox *o, const char *format, ...) {
  char text[40];
  va_list ap;
  va_start(ap, format);
  vsnprintf(text, sizeof text, format, ap);
  va_end(ap);
  outbox_publish(o, "display_data", NULL, json_pack("{s:s}", "mark", text));
}

static void test_prints_and_messages_keep_their_order(void **state) {
  Fixture *f = *state;
  Sent sent = {0};
  char expected[600] = "";
  for (int i = 0; i < 20; i++) {
    fprintf(f->printing, "p%d ", i);
    fflush(f->printing);
    mark(f->outbox, "m%d ", i);
    fprintf(f->complaining, "e%d ", i);
    snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "p%d m%d e%d ", i, i, i);
  }
  take_all(f->outbox, &sent);
  assert_string_equal(sent.text, expected);
  free(sent.text);
}

static void test_what_a_program_writes_stands_before_what_comes_after(void **state) {
  Fixture *f = *state;
  Sent sent = {0};
  outbox_expect_programs(f->outbox);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(write(STDOUT_FILENO, "program ", 8), 8);
    mark(f->outbox, "m%d ", i);
  }
  take_all(f->outbox, &sent);
  assert_string_equal(sent.text, "program m0 program m1 program m2 ");
  free(sent.text);
}

static void test_what_is_quiet_is_seen_by_nobody(void **state) {
  Fixture *f = *state;
  Sent sent = {0};
  zmq_msg_t header;
  add_header(&header, "{}");
  outbox_begin(f->outbox, &header, true);
  fprintf(f->printing, "hidden");
  fflush(f->printing);
  outbox_end(f->outbox);
  outbox_begin(f->outbox, &header, false);
  fprintf(f->printing, "seen");
  fflush(f->printing);
  outbox_end(f->outbox);
  zmq_msg_close(&header);
  take_all(f->outbox, &sent);
  assert_string_equal(sent.text, "seen");
  free(sent.text);
}

static void test_a_character_is_not_cut_between_messages(void **state) {
  Fixture *f = *state;
  Sent sent = {0};
  fwrite("a\xE2\x88", 1, 3, f->printing);
  fflush(f->printing);
  Channel channel;
  Frames frames;
  int wait;
  while (!outbox_take(f->outbox, &channel, &frames, &wait) && wait >= 0) usleep((unsigned)wait * 1000);
  note(&sent, &frames);
  assert_string_equal(sent.text, "a");
  fwrite(
      "\x87"
      "b\xE2",
      1, 3, f->printing);
  fflush(f->printing);
  outbox_end(f->outbox);  // the last one will not be completed
  take_all(f->outbox, &sent);
  assert_string_equal(sent.text, "a∇b\uFFFD");
  free(sent.text);
}

static void test_nothing_is_sent_after_the_end(void **state) {
  Fixture *f = *state;
  Sent sent = {0};
  mark(f->outbox, "before ");
  assert_false(outbox_is_done(f->outbox));
  outbox_close(f->outbox);
  mark(f->outbox, "after ");
  fprintf(f->printing, "after");
  fflush(f->printing);
  assert_false(outbox_is_done(f->outbox));
  take_all(f->outbox, &sent);
  assert_string_equal(sent.text, "before ");
  assert_true(outbox_is_done(f->outbox));
  free(sent.text);
}

// ---- threads ----

enum { THREADS = 3, MESSAGES = 400, LINES = 3000 };

typedef struct Poster {
  Fixture *f;
  int number;
} Poster;

static void *post_many(void *user) {
  Poster *p = user;
  for (int i = 0; i < MESSAGES; i++) {
    mark(p->f->outbox, "<%d.%d>", p->number, i);
    if (i % 50 == 0) outbox_flush(p->f->outbox);
  }
  return NULL;
}

static void *print_many(void *user) {
  Fixture *f = user;
  for (int i = 0; i < LINES; i++) {
    fprintf(f->printing, "[%d]", i);
    if (i % 7 == 0) fflush(f->printing);
  }
  fflush(f->printing);
  return NULL;
}

typedef struct Sender {
  Fixture *f;
  Sent sent;
} Sender;

static void *send_all(void *user) {
  Sender *s = user;
  outbox_attach(s->f->outbox);
  while (!outbox_is_done(s->f->outbox)) {
    take_all(s->f->outbox, &s->sent);
    outbox_collect(s->f->outbox);
  }
  return NULL;
}

// The numbers between these signs come one after the other, and each does.
static void expect_rising(const char *text, const char *begin, int messages) {
  int next = 0;
  size_t length = strlen(begin);
  for (const char *at = text; (at = strstr(at, begin)); at += length, next++)
    if (atoi(at + length) != next) fail_msg("%s%d comes where %d should", begin, atoi(at + length), next);
  assert_int_equal(next, messages);
}

static void test_several_threads_keep_their_order_and_lose_nothing(void **state) {
  Fixture *f = *state;
  pthread_t threads[THREADS], printer, sender;
  Poster posters[THREADS];
  Sender s = {.f = f};
  pthread_create(&sender, NULL, send_all, &s);
  pthread_create(&printer, NULL, print_many, f);
  for (int i = 0; i < THREADS; i++) {
    posters[i] = (Poster){f, i};
    pthread_create(&threads[i], NULL, post_many, &posters[i]);
  }
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  pthread_join(printer, NULL);
  outbox_close(f->outbox);
  pthread_join(sender, NULL);
  expect_rising(s.sent.text, "[", LINES);
  for (int i = 0; i < THREADS; i++) {
    char begin[16];
    snprintf(begin, sizeof begin, "<%d.", i);
    expect_rising(s.sent.text, begin, MESSAGES);
  }
  free(s.sent.text);
}

static void *print_much(void *user) {
  Fixture *f = user;
  static char block[1 << 16];
  memset(block, 'x', sizeof block);
  for (int i = 0; i < 400; i++) fwrite(block, 1, sizeof block, f->printing);
  fflush(f->printing);
  return NULL;
}

// Who prints more than the backlog may hold waits for the sender, and goes on.
static void test_who_prints_much_waits_and_loses_nothing(void **state) {
  Fixture *f = *state;
  pthread_t printer;
  Sent sent = {0};
  pthread_create(&printer, NULL, print_much, f);
  while (sent.length < (size_t)400 << 16) take_all(f->outbox, &sent);
  pthread_join(printer, NULL);
  assert_int_equal(sent.length, (size_t)400 << 16);
  free(sent.text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_outbox, close_outbox)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_prints_and_messages_keep_their_order),
      TEST(test_what_a_program_writes_stands_before_what_comes_after),
      TEST(test_what_is_quiet_is_seen_by_nobody),
      TEST(test_a_character_is_not_cut_between_messages),
      TEST(test_nothing_is_sent_after_the_end),
      TEST(test_several_threads_keep_their_order_and_lose_nothing),
      TEST(test_who_prints_much_waits_and_loses_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
