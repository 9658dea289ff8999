// SPDX-License-Identifier: MIT
// The history on a disk that fails: every operation of SQLite on its files in turn.  The session goes on, what was
// kept before is there and whole, and at most one sentence says that no more is.
//
// SQLite writes through a layer of its own, which can be replaced: this one counts, fails, or hands on.
#include <cmocka.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "session.h"

enum { PATH = 512, TEXT = 4000 };

static sqlite3_vfs layer, *system_layer;
static sqlite3_io_methods methods;
static unsigned fail_in;  // 1: the next one
static bool sticky, failed;
static char folder[PATH / 2], path[PATH];

// A file of ours, the system's behind it.
typedef struct File {
  sqlite3_file base;
  sqlite3_file *real;
} File;

static bool fails(void) {
  if (failed && sticky) return true;
  if (fail_in == 0 || --fail_in > 0) return false;
  failed = true;
  return true;
}

static sqlite3_file *real_of(sqlite3_file *f) {
  return ((File *)f)->real;
}

#define REAL(METHOD) real_of(f)->pMethods->METHOD
#define HAND_ON(NAME, METHOD, CODE, PARAMETERS, ARGUMENTS) \
  static int NAME PARAMETERS {                             \
    return fails() ? CODE : REAL(METHOD) ARGUMENTS;        \
  }

HAND_ON(write_bytes, xWrite, SQLITE_FULL, (sqlite3_file * f, const void *data, int size, sqlite3_int64 at),
        (real_of(f), data, size, at))
HAND_ON(truncate_file, xTruncate, SQLITE_IOERR_TRUNCATE, (sqlite3_file * f, sqlite3_int64 size), (real_of(f), size))
HAND_ON(sync_file, xSync, SQLITE_IOERR_FSYNC, (sqlite3_file * f, int flags), (real_of(f), flags))
HAND_ON(map_shared, xShmMap, SQLITE_IOERR_SHMMAP,
        (sqlite3_file * f, int page, int size, int extend, void volatile **out), (real_of(f), page, size, extend, out))

static int read_bytes(sqlite3_file *f, void *data, int size, sqlite3_int64 at) {
  return REAL(xRead)(real_of(f), data, size, at);
}

static int close_file(sqlite3_file *f) {
  int code = REAL(xClose)(real_of(f));
  sqlite3_free(real_of(f));
  return code;
}

static int file_size(sqlite3_file *f, sqlite3_int64 *size) {
  return REAL(xFileSize)(real_of(f), size);
}

static int lock_file(sqlite3_file *f, int level) {
  return REAL(xLock)(real_of(f), level);
}

static int unlock_file(sqlite3_file *f, int level) {
  return REAL(xUnlock)(real_of(f), level);
}

static int check_lock(sqlite3_file *f, int *out) {
  return REAL(xCheckReservedLock)(real_of(f), out);
}

static int control(sqlite3_file *f, int operation, void *argument) {
  return REAL(xFileControl)(real_of(f), operation, argument);
}

static int sector_size(sqlite3_file *f) {
  return REAL(xSectorSize)(real_of(f));
}

static int device(sqlite3_file *f) {
  return REAL(xDeviceCharacteristics)(real_of(f));
}

static int lock_shared(sqlite3_file *f, int offset, int count, int flags) {
  return REAL(xShmLock)(real_of(f), offset, count, flags);
}

static void shared_barrier(sqlite3_file *f) {
  REAL(xShmBarrier)(real_of(f));
}

static int unmap_shared(sqlite3_file *f, int remove_it) {
  return REAL(xShmUnmap)(real_of(f), remove_it);
}

static int open_file(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *f, int flags, int *out) {
  (void)vfs;
  File *file = (File *)f;
  file->base.pMethods = NULL;
  if (fails()) return SQLITE_CANTOPEN;
  if (!(file->real = sqlite3_malloc(system_layer->szOsFile))) return SQLITE_NOMEM;
  memset(file->real, 0, (size_t)system_layer->szOsFile);
  int code = system_layer->xOpen(system_layer, name, file->real, flags, out);
  if (code == SQLITE_OK)
    file->base.pMethods = &methods;
  else
    sqlite3_free(file->real);
  return code;
}

static int delete_file(sqlite3_vfs *vfs, const char *name, int sync) {
  (void)vfs;
  return fails() ? SQLITE_IOERR_DELETE : system_layer->xDelete(system_layer, name, sync);
}

static void put_layer(void) {
  system_layer = sqlite3_vfs_find(NULL);
  layer = *system_layer;
  layer.zName = "failing";
  layer.szOsFile = sizeof(File);
  layer.pNext = NULL;
  layer.xOpen = open_file;
  layer.xDelete = delete_file;
  methods = (sqlite3_io_methods){.iVersion = 2,
                                 .xClose = close_file,
                                 .xRead = read_bytes,
                                 .xWrite = write_bytes,
                                 .xTruncate = truncate_file,
                                 .xSync = sync_file,
                                 .xFileSize = file_size,
                                 .xLock = lock_file,
                                 .xUnlock = unlock_file,
                                 .xCheckReservedLock = check_lock,
                                 .xFileControl = control,
                                 .xSectorSize = sector_size,
                                 .xDeviceCharacteristics = device,
                                 .xShmMap = map_shared,
                                 .xShmLock = lock_shared,
                                 .xShmBarrier = shared_barrier,
                                 .xShmUnmap = unmap_shared};
  sqlite3_vfs_register(&layer, 1);
}

// ---- sessions ----

static int values;

static void see_value(void *user, int number, const Bundle *value) {
  (void)user, (void)number, (void)value;
  values++;
}

static void see_error(void *user, const Problem *problem) {
  (void)user;
  fail_msg("%s", problem->message);
}

static void see_input(void *user, const HistoryEntry *entry) {
  if (strcmp(entry->input, "'kept before'") == 0) ++*(int *)user;
}

// A session that keeps an input, or tries to; all its inputs must run.
static void run_session(const char *code) {
  char reason[512];
  Sink sink = {.value = see_value, .error = see_error};
  Session *s = session_new(&sink, reason, sizeof reason);
  assert_non_null(s);
  if (!session_history_open(s, path, reason, sizeof reason)) {
    assert_true(failed);
    if (!strstr(reason, path)) fail_msg("\"%s\" does not name the file", reason);
  }
  values = 0;
  for (int i = 0; i < 3; i++) assert_int_equal(session_eval(s, code, strlen(code)), SESSION_OK);
  assert_int_equal(values, 3);
  session_free(s);
}

// Runs a session while the nth operation fails; returns what it said on the standard error.
static void run_failing(unsigned n, char *message) {
  FILE *f = tmpfile();
  int err = dup(2);
  assert_non_null(f);
  dup2(fileno(f), 2);
  fail_in = n;
  failed = false;
  run_session("'kept or not'");
  fail_in = 0;
  dup2(err, 2);
  close(err);
  rewind(f);
  message[fread(message, 1, TEXT - 1, f)] = '\0';
  fclose(f);
}

// What was kept before the failure is there, and the file is sound.
static void check_file(unsigned n) {
  char reason[512];
  int found = 0;
  sqlite3 *db;
  sqlite3_stmt *statement;
  failed = false;
  assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, "unix"), SQLITE_OK);
  assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &statement, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
  assert_string_equal((const char *)sqlite3_column_text(statement, 0), "ok");
  sqlite3_finalize(statement);
  sqlite3_close(db);
  Sink sink = {.value = see_value, .error = see_error};
  Session *s = session_new(&sink, reason, sizeof reason);
  if (!session_history_open(s, path, reason, sizeof reason)) fail_msg("after operation %u: %s", n, reason);
  session_history(s, &(HistoryQuery){.kind = HISTORY_TAIL}, see_input, &found);
  session_free(s);
  if (found != 3) fail_msg("after operation %u failed %d inputs are left of 3", n, found);
}

static void test_each_operation(void **state) {
  (void)state;
  char message[TEXT];
  for (int again = 0; again < 2; again++) {
    unsigned n = 0;
    sticky = again;  // from then on the disk is gone
    do {
      unlink(path);
      run_session("'kept before'");
      run_failing(++n, message);
      const char *end = strchr(message, '\n');
      if (*message && (!strstr(message, path) || !end || end[1])) fail_msg("operation %u: %s", n, message);
      bool reached_all = !failed;
      check_file(n);
      if (reached_all) break;
    } while (n < 500);
    print_message("%u operations failed in turn%s\n", n - 1, sticky ? ", and all after" : "");
    assert_in_range(n, 10, 499);
  }
}

static int setup(void **state) {
  (void)state;
  snprintf(folder, sizeof folder, "%s/nablua-history-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
  if (!mkdtemp(folder)) return 1;
  snprintf(path, sizeof path, "%s/history.sqlite", folder);
  put_layer();
  return 0;
}

static int teardown(void **state) {
  (void)state;
  char command[PATH];
  snprintf(command, sizeof command, "rm -r '%s'", folder);
  return system(command);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_operation)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
