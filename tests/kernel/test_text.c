// SPDX-License-Identifier: MIT
// Text that grows: whole whatever it grew by, and empty-handed without memory; the folders that paths are made of.
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folders.h"
#include "text.h"

static void test_a_text_is_what_was_added(void **state) {
  Text t = {0};
  size_t total = 0;
  (void)state;
  text_add(&t, NULL, 0);
  assert_string_equal(t.data, "");
  for (size_t piece = 0; piece < 300; piece++) {  // each byte tells its place
    char data[300];
    for (size_t i = 0; i < piece; i++) data[i] = (char)((total + i) % 251);
    text_add(&t, data, piece);
    total += piece;
    assert_int_equal(t.length, total);
    assert_true(t.capacity > total);
    assert_int_equal(t.data[total], '\0');
  }
  assert_false(t.failed);
  for (size_t i = 0; i < total; i++) assert_int_equal(t.data[i], (char)(i % 251));
  text_free(&t);
  assert_null(t.data);
  text_put(&t, "∇ ");
  text_put(&t, "Lua");
  assert_string_equal(t.data, "∇ Lua");
  text_free(&t);
}

static void test_without_memory_it_stays_as_it_was(void **state) {
  Text t = {0};
  volatile size_t too_much = (size_t)1 << 60;
  (void)state;
  text_put(&t, "kept");
  text_add(&t, "", too_much);
  assert_true(t.failed);
  text_put(&t, " lost");
  assert_string_equal(t.data, "kept");
  text_free(&t);
  assert_false(t.failed);
}

static void test_folders_are_where_the_variables_say(void **state) {
  char path[64];
  (void)state;
  setenv("HOME", "/home/me", 1);
  setenv("XDG_STATE_HOME", "/var/mine", 1);
  assert_true(folder_path(path, sizeof path, "XDG_STATE_HOME", ".local/state", "nablua/a"));
  assert_string_equal(path, "/var/mine/nablua/a");
  setenv("XDG_STATE_HOME", "", 1);
  assert_true(folder_path(path, sizeof path, "XDG_STATE_HOME", ".local/state", "nablua/a"));
  assert_string_equal(path, "/home/me/.local/state/nablua/a");
  unsetenv("XDG_STATE_HOME");
  assert_true(folder_path(path, sizeof path, "XDG_STATE_HOME", ".local/state", "nablua/a"));
  assert_false(
      folder_path(path, sizeof "/home/me/.local/state/nablua/a" - 1, "XDG_STATE_HOME", ".local/state", "nablua/a"));
  unsetenv("HOME");
  assert_false(folder_path(path, sizeof path, "XDG_STATE_HOME", ".local/state", "nablua/a"));
}

static void test_folders_are_made_with_their_rights(void **state) {
  char root[] = "/tmp/nablua-folders-XXXXXX", path[64];
  struct stat s;
  (void)state;
  assert_non_null(mkdtemp(root));
  snprintf(path, sizeof path, "%s/a/b/file", root);
  assert_true(folder_make(path, 0700));
  assert_true(folder_make(path, 0700));  // they are there
  assert_int_equal(stat(path, &s), -1);  // what is behind the last '/' is not theirs
  snprintf(path, sizeof path, "%s/a/b", root);
  assert_int_equal(stat(path, &s), 0);
  assert_int_equal(s.st_mode, S_IFDIR | 0700);
  snprintf(path, sizeof path, "%s/a/b/file/c/d", root);
  char file[64];
  snprintf(file, sizeof file, "%s/a/b/file", root);
  FILE *f = fopen(file, "w");
  assert_non_null(f);
  fclose(f);
  errno = 0;
  assert_false(folder_make(path, 0700));
  assert_int_equal(errno, ENOTDIR);
  unlink(file);
  for (int depth = 2; depth >= 0; depth--) {
    static const char *const below[] = {"", "/a", "/a/b"};
    snprintf(path, sizeof path, "%s%s", root, below[depth]);
    assert_int_equal(rmdir(path), 0);
  }
}

int main(void) {
  static const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_text_is_what_was_added),
      cmocka_unit_test(test_without_memory_it_stays_as_it_was),
      cmocka_unit_test(test_folders_are_where_the_variables_say),
      cmocka_unit_test(test_folders_are_made_with_their_rights),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
