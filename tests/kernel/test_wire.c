// SPDX-License-Identifier: MIT
// Messages of Jupyter: the signature is compared to its last digit, and what is malformed is refused with a sentence.
#include <cmocka.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "wire.h"

enum { DIGITS = 64 };

// The parts from the delimiter on, as text; no further ones after NULL.
static Frames frames_of(const char *const *parts) {
  Frames f = {0};
  frames_add_bytes(&f, "client", 6);
  for (int i = 0; parts[i]; i++) frames_add_bytes(&f, parts[i], strlen(parts[i]));
  return f;
}

// Why a message is refused; "" when it is not.
static const char *refusal(Wire *w, Frames *f) {
  Message m;
  const char *why;
  if (!message_read(&m, w, f, &why)) return why;
  message_free(&m);
  return "";
}

static const char *refusal_of(Wire *w, const char *signature, const char *header, const char *parent,
                              const char *metadata, const char *content) {
  Frames f = frames_of((const char *[]){"<IDS|MSG>", signature, header, parent, metadata, content, NULL});
  return refusal(w, &f);
}

// RFC 4231, test case 2; its text is no JSON, which is looked at after the signature.
static void test_the_signature_is_that_of_the_standard(void **state) {
  static const char digest[] = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
  (void)state;
  Wire *w = wire_new("Jefe");
  assert_string_equal(refusal_of(w, digest, "what do ya ", "want ", "for ", "nothing?"),
                      "its header is no JSON object");
  wire_free(w);
}

static void test_one_wrong_digit_anywhere_is_refused(void **state) {
  static const char digest[] = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
  (void)state;
  Wire *w = wire_new("Jefe");
  for (int i = 0; i < DIGITS; i++) {
    char wrong[DIGITS + 1];
    memcpy(wrong, digest, sizeof wrong);
    wrong[i] = wrong[i] == '0' ? '1' : '0';
    const char *why = refusal_of(w, wrong, "what do ya ", "want ", "for ", "nothing?");
    if (strcmp(why, "its signature is wrong") != 0) fail_msg("digit %d: \"%s\"", i + 1, why);
  }
  wire_free(w);
}

static void test_every_signed_part_counts(void **state) {
  (void)state;
  Wire *w = wire_new("secret");
  for (size_t part = 2; part < 6; part++) {
    Frames f = {0};
    const char *why;
    Message m;
    frames_add_bytes(&f, "client", 6);
    assert_true(wire_write(w, &f, "execute_request", NULL, json_pack("{s:s}", "code", "1")));
    zmq_msg_t *frame = &f.items[1 + part];
    ((char *)zmq_msg_data(frame))[zmq_msg_size(frame) - 1] = ' ';
    assert_false(message_read(&m, w, &f, &why));
    assert_string_equal(why, "its signature is wrong");
  }
  wire_free(w);
}

static void test_another_key_is_refused(void **state) {
  (void)state;
  Wire *w = wire_new("secret"), *other = wire_new("secreu");
  Frames f = {0};
  assert_true(wire_write(other, &f, "status", NULL, json_object()));
  assert_string_equal(refusal(w, &f), "its signature is wrong");
  wire_free(w);
  wire_free(other);
}

static void test_what_is_written_is_read_as_it_was(void **state) {
  (void)state;
  Wire *w = wire_new("secret"), *reader = wire_new("secret");
  Frames f = {0};
  const char *why;
  Message m;
  frames_add_bytes(&f, "client", 6);
  assert_true(wire_write(w, &f, "execute_request", NULL, json_pack("{s:s}", "code", "x = \"ü\"\n")));
  frames_add_bytes(&f, "\0\1", 2);  // a buffer
  assert_true(message_read(&m, reader, &f, &why));
  assert_string_equal(m.type, "execute_request");
  assert_string_equal(json_string_value(json_object_get(m.content, "code")), "x = \"ü\"\n");
  assert_int_equal(m.delimiter, 1);
  assert_int_equal(message_buffer_count(&m), 1);
  assert_int_equal(zmq_msg_size(message_buffer(&m, 0)), 2);
  message_free(&m);
  wire_free(w);
  wire_free(reader);
}

static void test_a_message_is_taken_once(void **state) {
  enum { MANY = 70000 };
  (void)state;
  Wire *w = wire_new("secret"), *reader = wire_new("secret");
  Frames first = {0}, copy = {0};
  assert_true(wire_write(w, &first, "status", NULL, json_object()));
  for (int round = 0; round < 3; round++) {
    for (size_t i = 0; i < first.count; i++) frames_add_shared(&copy, &first.items[i]);
    // More in between than are remembered: then, and not before, it is as new.
    assert_string_equal(refusal(reader, &copy), round == 1 ? "it came before" : "");
    for (int i = 0; i < MANY && round == 1; i++) {
      Frames f = {0};
      assert_true(wire_write(w, &f, "status", NULL, json_object()));
      assert_string_equal(refusal(reader, &f), "");
    }
  }
  frames_free(&first);
  wire_free(w);
  wire_free(reader);
}

static void test_malformed_messages_are_refused_with_the_reason(void **state) {
  static const char good[] = "{\"msg_type\":\"a\",\"msg_id\":\"1\"}";
  (void)state;
  Wire *w = wire_new(""), *signing = wire_new("secret");
  assert_string_equal(refusal_of(w, "", good, "{}", "{}", "{}"), "");
  assert_string_equal(refusal_of(w, "whatever", good, "{}", "{}", "{}"), "");  // no key: nothing is checked
  assert_string_equal(refusal_of(w, "", "", "{}", "{}", "{}"), "its header is no JSON object");
  assert_string_equal(refusal_of(w, "", "[]", "{}", "{}", "{}"), "its header is no JSON object");
  assert_string_equal(refusal_of(w, "", "{", "{}", "{}", "{}"), "its header is no JSON object");
  assert_string_equal(refusal_of(w, "", "{}", "{}", "{}", "{}"), "its header has no msg_type");
  assert_string_equal(refusal_of(w, "", "{\"msg_type\":1}", "{}", "{}", "{}"), "its header has no msg_type");
  assert_string_equal(refusal_of(w, "", good, "null", "{}", "{}"), "its parent header or metadata is no JSON object");
  assert_string_equal(refusal_of(w, "", good, "{}", "3", "{}"), "its parent header or metadata is no JSON object");
  assert_string_equal(refusal_of(w, "", good, "{}", "{}", "\"x\""), "its content is no JSON object");
  assert_string_equal(refusal_of(w, "", good, "{}", "{}", "{\"a\":\"\xff\"}"), "its content is no JSON object");
  assert_string_equal(refusal_of(signing, "", good, "{}", "{}", "{}"), "its signature has the wrong length");
  assert_string_equal(refusal_of(signing, "00", good, "{}", "{}", "{}"), "its signature has the wrong length");
  Frames none = {0}, few = frames_of((const char *[]){"<IDS|MSG>", "", good, "{}", "{}", NULL}),
         undelimited = frames_of((const char *[]){"<IDS|MSG", "", good, "{}", "{}", "{}", NULL});
  assert_string_equal(refusal(w, &none), "it has no delimiter <IDS|MSG>");
  assert_string_equal(refusal(w, &few), "frames are missing");
  assert_string_equal(refusal(w, &undelimited), "it has no delimiter <IDS|MSG>");
  wire_free(w);
  wire_free(signing);
}

static void *read_many(void *wire) {
  Wire *w = wire;
  for (int i = 0; i < 300; i++) {
    Frames f = {0};
    if (!wire_write(w, &f, "status", NULL, json_object()) || *refusal(w, &f)) return "a fresh message was refused";
  }
  return NULL;
}

static void test_several_threads_may_write_and_read(void **state) {
  enum { THREADS = 4 };
  pthread_t threads[THREADS];
  (void)state;
  Wire *w = wire_new("secret");
  for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&threads[i], NULL, read_many, w), 0);
  for (int i = 0; i < THREADS; i++) {
    void *problem;
    pthread_join(threads[i], &problem);
    assert_null(problem);
  }
  wire_free(w);
}

static int set_up(void **state) {
  (void)state;
  json_object_seed(0);
  return sodium_init() < 0 ? -1 : 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_the_signature_is_that_of_the_standard),
      cmocka_unit_test(test_one_wrong_digit_anywhere_is_refused),
      cmocka_unit_test(test_every_signed_part_counts),
      cmocka_unit_test(test_another_key_is_refused),
      cmocka_unit_test(test_what_is_written_is_read_as_it_was),
      cmocka_unit_test(test_a_message_is_taken_once),
      cmocka_unit_test(test_malformed_messages_are_refused_with_the_reason),
      cmocka_unit_test(test_several_threads_may_write_and_read),
  };
  return cmocka_run_group_tests(tests, set_up, NULL);
}
