// SPDX-License-Identifier: MIT
// The inputs of all sessions, in an SQLite file that front ends share.
//
// SQLite writes it, and not replace.c: it changes in place, under a journal that makes each input whole or not there
// whatever is killed or fails, and several processes write it at a time.
#include "history.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "folders.h"
#include "nablua/printable.h"
#include "state.h"
#include "unicode.h"

// How long another process that holds the file is waited for, at first and after it was waited for in vain.
enum { PATIENCE_MS = 5000, IMPATIENCE_MS = 50 };

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS sessions (session INTEGER PRIMARY KEY AUTOINCREMENT, start TEXT NOT NULL);"
    "CREATE TABLE IF NOT EXISTS history (session INTEGER NOT NULL, line INTEGER NOT NULL, source TEXT NOT NULL,"
    " PRIMARY KEY (session, line));"
    "CREATE TABLE IF NOT EXISTS outputs (session INTEGER NOT NULL, line INTEGER NOT NULL, text TEXT NOT NULL,"
    " PRIMARY KEY (session, line));";

// Where the history is kept unless somebody says otherwise; makes the folders.
static bool default_path(char *path, size_t size) {
  if (!folder_path(path, size, "XDG_STATE_HOME", ".local/state", "nablua/history.sqlite") || *path != '/') return false;
  folder_make(path, 0700);  // where that fails, SQLite says what is wrong
  return true;
}

// Inputs may hold what is nobody else's business, whatever rights others would have by the umask: the file is made
// first, and taken from others where an older version made it.  SQLite gives its journals the file's rights.
static void make_private(const char *path) {
  static const char *const endings[] = {"", "-wal", "-shm"};
  char name[PATH_MAX];
  struct stat st;
  for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
    if (snprintf(name, sizeof name, "%s%s", path, endings[i]) >= (int)sizeof name) return;
    if (stat(name, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 077)) chmod(name, st.st_mode & 0700);
  }
  // Only where there is none: closing a descriptor would take SQLite's locks away from this process.
  int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd >= 0) close(fd);
}

// Runs a statement that is done at once; `text` and the numbers are its parameters.  Returns SQLite's code.
static int run(sqlite3 *db, const char *sql, int64_t session, int64_t line, const char *text, size_t length) {
  sqlite3_stmt *statement = NULL;
  if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK) {
    int count = sqlite3_bind_parameter_count(statement);
    if (count > 1) sqlite3_bind_int64(statement, 1, session);
    if (count > 2) sqlite3_bind_int64(statement, 2, line);
    if (count > 0) sqlite3_bind_text64(statement, count, text, length, SQLITE_TRANSIENT, SQLITE_UTF8);
    sqlite3_step(statement);
  }
  sqlite3_finalize(statement);
  int code = sqlite3_errcode(db);
  return code == SQLITE_DONE ? SQLITE_OK : code;
}

// Has the tables there, in a journal that readers and a writer share; one that another process holds open otherwise
// may stay as it is.
static bool prepare(sqlite3 *db) {
  sqlite3_busy_timeout(db, PATIENCE_MS);
  int code = sqlite3_exec(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;", NULL, NULL, NULL);
  return (code == SQLITE_OK || code == SQLITE_BUSY) && sqlite3_exec(db, schema, NULL, NULL, NULL) == SQLITE_OK;
}

bool session_history_open(Session *s, const char *path, char *reason, size_t size) {
  char chosen[1024];
  session_history_close(s);
  if (!path && !default_path(chosen, sizeof chosen)) {
    snprintf(reason, size, "there is no home folder for it");
    return false;
  }
  if (!path) path = chosen;
  make_private(path);
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  if (sqlite3_open_v2(path, &s->history, flags, NULL) == SQLITE_OK && prepare(s->history)) return true;
  snprintf(reason, size, "%s: %s", path, s->history ? sqlite3_errmsg(s->history) : "not enough memory");
  session_history_close(s);
  return false;
}

void session_history_close(Session *s) {
  sqlite3_close(s->history);
  s->history = NULL;
  s->history_session = 0;
  s->history_held = false;
}

// Notes the session, with its first input.
static int begin_session(Session *s) {
  char now[32];
  time_t t = time(NULL);
  struct tm tm;
  if (s->history_session) return SQLITE_OK;
  strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
  int code = run(s->history, "INSERT INTO sessions (start) VALUES (?)", 0, 0, now, strlen(now));
  if (code == SQLITE_OK) s->history_session = sqlite3_last_insert_rowid(s->history);
  return code;
}

static void tell(Session *s, const char *what) {
  char path[1024];
  const char *file = sqlite3_db_filename(s->history, "main");
  fprintf(stderr, "nablua: the history is not kept %s: %s: %s\n", what,
          nb_printable(file ? file : "", path, sizeof path), sqlite3_errmsg(s->history));
}

void remember_input(Session *s, const char *code, size_t length) {
  enum { LONGEST = 1 << 20 };  // bytes: nobody wants to see more again
  if (!s->history || length > LONGEST) return;
  int result = begin_session(s);
  if (result == SQLITE_OK)
    result =
        run(s->history, "INSERT OR REPLACE INTO history VALUES (?, ?, ?)", s->history_session, s->number, code, length);
  if (result == SQLITE_OK && s->history_held) sqlite3_busy_timeout(s->history, PATIENCE_MS);
  if (result == SQLITE_BUSY && !s->history_held) {
    tell(s, "while another process holds it");
    sqlite3_busy_timeout(s->history, IMPATIENCE_MS);
  }
  s->history_held = result == SQLITE_BUSY;
  if (result == SQLITE_OK || result == SQLITE_BUSY) return;
  tell(s, "from here on");  // a full disk, say: the session goes on without
  session_history_close(s);
}

void remember_output(Session *s, const char *text, size_t length) {
  enum { MOST = 10000 };  // bytes: a history is to read, not to keep data
  if (length > MOST) length = unicode_cut(text, MOST);
  if (s->history && s->history_session)
    run(s->history, "INSERT OR REPLACE INTO outputs VALUES (?, ?, ?)", s->history_session, s->number, text, length);
}

// What follows SELECT in the query that finds the rows, newest first; its parameters are named.
static const char *condition(const HistoryQuery *q) {
  switch (q->kind) {
    case HISTORY_RANGE:
      return "h.session = :session AND h.line >= :first AND (:stop <= 0 OR h.line < :stop)";
    case HISTORY_SEARCH:
      return q->unique ? "h.rowid IN (SELECT max(rowid) FROM history WHERE source GLOB :pattern GROUP BY source)"
                       : "h.source GLOB :pattern";
    default:
      return "1";
  }
}

// The row of a session counted from this one, which is 0; there may be none.
static long long session_row(const Session *s, long long session) {
  if (session > 0) return session;
  long long current = s->history_session;
  if (!current) {  // before its first input it would be the next
    sqlite3_stmt *last = NULL;
    if (sqlite3_prepare_v2(s->history, "SELECT ifnull(max(session), 0) + 1 FROM sessions", -1, &last, NULL) ==
            SQLITE_OK &&
        sqlite3_step(last) == SQLITE_ROW)
      current = sqlite3_column_int64(last, 0);
    sqlite3_finalize(last);
  }
  return current + session;
}

void session_history(Session *s, const HistoryQuery *q, void (*see)(void *user, const HistoryEntry *entry),
                     void *user) {
  sqlite3_stmt *statement = NULL;
  char sql[600];
  if (!s->history) return;
  snprintf(sql, sizeof sql,
           "SELECT * FROM (SELECT h.session, h.line, h.source, o.text FROM history h LEFT JOIN outputs o"
           " ON o.session = h.session AND o.line = h.line WHERE %s ORDER BY h.session DESC, h.line DESC LIMIT :count)"
           " ORDER BY 1, 2",
           condition(q));
  if (sqlite3_prepare_v2(s->history, sql, -1, &statement, NULL) != SQLITE_OK) return;
  const struct {
    const char *name;
    int64_t value;
  } numbers[] = {{":session", session_row(s, q->session)},
                 {":first", q->first},
                 {":stop", q->stop},
                 {":count", q->count > 0 ? q->count : -1}};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    int at = sqlite3_bind_parameter_index(statement, numbers[i].name);
    if (at) sqlite3_bind_int64(statement, at, numbers[i].value);
  }
  int at = sqlite3_bind_parameter_index(statement, ":pattern");
  if (at) sqlite3_bind_text(statement, at, q->pattern ? q->pattern : "*", -1, SQLITE_TRANSIENT);
  while (sqlite3_step(statement) == SQLITE_ROW) {
    HistoryEntry e = {sqlite3_column_int64(statement, 0), sqlite3_column_int(statement, 1),
                      (const char *)sqlite3_column_text(statement, 2), (const char *)sqlite3_column_text(statement, 3)};
    if (e.input) see(user, &e);
  }
  sqlite3_finalize(statement);
}
