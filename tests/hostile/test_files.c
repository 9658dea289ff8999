// SPDX-License-Identifier: MIT
// Fails every operation on files in turn, for all that writes one: the old file stays as it was to the byte, with its
// rights, one sentence names it, and nothing is left beside it.  What a good run does is looked at too: without a sync,
// or the rights, no failure would show that they are missing.
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "connection.h"
#include "install.h"
#include "kernel.h"
#include "nablua/replace.h"
#include "session.h"

enum { PATH = 512, TEXT = 2000, LARGEST = 1 << 20, OWNER = 4711, GROUP = 4712 };

// Something that writes a file.
typedef struct Writer {
  const char *name;
  char path[PATH];
  const char *code, *before;  // Lua that writes, and that makes the old file where plain bytes would not do
  bool (*write)(const struct Writer *w, char *message);  // instead of Lua
  bool only_replaces, is_private;
} Writer;

typedef struct Content {
  size_t size;  // LARGEST + 1: there is no file
  mode_t mode;
  uid_t owner;
  char bytes[LARGEST];
} Content;

static Session *session;
static char folder[PATH / 2], said[TEXT];
static Content old, now;

// ---- a session that keeps what it is told ----

static void see_value(void *user, int number, const Bundle *value) {
  (void)user, (void)number, (void)value;
}

static void see_error(void *user, const Problem *problem) {
  (void)user;
  snprintf(said, sizeof said, "%s", problem->message);
}

static bool run_lua(const char *code, char *message) {
  *said = '\0';
  bool ok = session_eval(session, code, strlen(code)) == SESSION_OK;
  snprintf(message, TEXT, "%s", said);
  return ok;
}

// Runs code in which %s stands for the path, once or more often.
static bool run_on(const char *code, const char *path, char *message) {
  char text[TEXT];
  snprintf(text, sizeof text, "local path = [[%s]]\n%s", path, code);
  if (*code == '%') snprintf(text, sizeof text, "%s %s", code, path);
  return run_lua(text, message);
}

// ---- files ----

static void read_content(const char *path, Content *c) {
  struct stat st;
  c->size = LARGEST + 1;
  FILE *f = fopen(path, "rb");
  if (!f) return;
  c->size = fread(c->bytes, 1, LARGEST, f);
  assert_int_equal(fstat(fileno(f), &st), 0);
  c->mode = st.st_mode & 07777;
  c->owner = st.st_uid;
  fclose(f);
}

static bool same(const Content *a, const Content *b) {
  if (a->size != b->size) return false;
  return a->size > LARGEST || (memcmp(a->bytes, b->bytes, a->size) == 0 && a->mode == b->mode && a->owner == b->owner);
}

// Puts what `old` says at a path: a file of another's rights, or none.
static void put_old(const char *path) {
  unlink(path);
  if (old.size > LARGEST) return;
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(old.bytes, 1, old.size, f), old.size);
  fclose(f);
  if (geteuid() == 0) assert_int_equal(chown(path, OWNER, GROUP), 0);
  assert_int_equal(chmod(path, 0640), 0);
  read_content(path, &old);
}

static int count_temporaries(const char *place) {
  int count = 0;
  DIR *d = opendir(place);
  assert_non_null(d);
  for (struct dirent *e; (e = readdir(d));) count += strncmp(e->d_name, ".nablua-", 8) == 0;
  closedir(d);
  return count;
}

static void leave_temporary(void) {
  char path[PATH + 40];
  snprintf(path, sizeof path, "%s/.nablua-1-1.tmp", folder);
  int fd = open(path, O_WRONLY | O_CREAT, 0600);
  assert_true(fd >= 0);
  close(fd);
}

static void remove_temporary(void) {
  char path[PATH + 40];
  snprintf(path, sizeof path, "%s/.nablua-1-1.tmp", folder);
  unlink(path);
}

// What is written to standard output and the standard error goes into a file meanwhile.
static FILE *captured;
static int kept[3];

static void begin_capture(void) {
  fflush(stdout);
  if (!captured) captured = tmpfile();
  assert_non_null(captured);
  assert_int_equal(ftruncate(fileno(captured), 0), 0);
  rewind(captured);
  for (int fd = 1; fd <= 2; fd++) {
    kept[fd] = dup(fd);
    dup2(fileno(captured), fd);
  }
}

static void end_capture(char *message) {
  fflush(stdout);
  for (int fd = 1; fd <= 2; fd++) {
    dup2(kept[fd], fd);
    close(kept[fd]);
  }
  rewind(captured);
  message[fread(message, 1, TEXT - 1, captured)] = '\0';
}

// ---- each operation in turn ----

static bool call(const Writer *w, char *message) {
  return w->write ? w->write(w, message) : run_on(w->code, w->path, message);
}

// What a good run must have done, in this order.
static void check_good_run(const Writer *w, bool leftover) {
  char want[TEXT];
  bool exists = old.size <= LARGEST;
  // A member of an archive is completed behind its data, which shows as nothing else than writing.
  snprintf(want, sizeof want, "list%s create lock write%s%s sync close %s", leftover ? " lock unlink" : "",
           exists && geteuid() == 0 ? " chown" : "", exists ? " chmod" : "",
           exists ? "exchange sync-folder unlink" : "rename sync-folder");
  if (strcmp(nb_file_log(), want) != 0)
    fail_msg("%s: what was done is \"%s\", and should be \"%s\"", w->name, nb_file_log(), want);
  read_content(w->path, &now);
  assert_true(now.size <= LARGEST);
  if (exists && same(&now, &old)) fail_msg("%s: the file was not written", w->name);
  if (exists && now.mode != (w->is_private ? 0600 : old.mode)) fail_msg("%s: the rights are %o", w->name, now.mode);
  if (exists && now.owner != old.owner) fail_msg("%s: the owner is %u", w->name, now.owner);
}

static void check_failure(const Writer *w, uint64_t n, const char *message) {
  const char *log = nb_file_log();
  if (!strstr(message, w->path)) fail_msg("%s, %s: \"%s\" does not name the file", w->name, log, message);
  if (strchr(message, '\n')) fail_msg("%s, %s: more than a sentence: %s", w->name, log, message);
  read_content(w->path, &now);
  if (!same(&now, &old)) fail_msg("%s, operation %d, %s: the old file is not as it was", w->name, (int)n, log);
}

static void fail_each(const Writer *w, int code, bool leftover) {
  char message[TEXT];
  for (uint64_t n = 1; n < 200; n++) {
    put_old(w->path);
    remove_temporary();
    if (leftover) leave_temporary();
    nb_file_fail_at(n, code);
    bool ok = call(w, message), reached_all = nb_file_failing();
    nb_file_fail_at(0, 0);
    // A leftover that cannot be looked at or removed stays, and the file is written.
    bool tidying = leftover && (n == 2 || n == 3);
    if (ok != (reached_all || tidying)) fail_msg("%s, %s: %s", w->name, nb_file_log(), ok ? "no failure" : message);
    if (!ok) check_failure(w, n, message);
    int left = count_temporaries(folder), expected = leftover && (n == 1 || tidying);
    if (left != expected) fail_msg("%s, %s: %d temporary files are there", w->name, nb_file_log(), left);
    if (!reached_all) continue;
    check_good_run(w, leftover);
    unlink(w->path);
    return;
  }
  fail_msg("%s: no end", w->name);
}

static void torture(const Writer *w) {
  char message[TEXT];
  for (int again = 0; again < 2; again++) {  // replaced, and made
    if (again && w->only_replaces) break;
    old.size = LARGEST + 1;
    if (!again && w->before) {
      unlink(w->path);
      if (!run_on(w->before, w->path, message)) fail_msg("%s: %s", w->name, message);
      read_content(w->path, &old);
    } else if (!again) {
      old.size = (size_t)snprintf(old.bytes, sizeof old.bytes, "the old file\n");
    }
    fail_each(w, EIO, false);
    fail_each(w, ENOSPC, true);
  }
  print_message("%s: each operation failed in turn\n", w->name);
}

// ---- the writers ----

// The endings that a sentence offers: ".svg, .png or .txt".
static int endings(const char *code, const char *mark, char out[][16]) {
  char message[TEXT];
  int count = 0;
  assert_false(run_lua(code, message));
  char *at = strstr(message, mark);
  assert_non_null(at);
  for (at = strchr(at, '.'); at && count < 10; at = strchr(at, '.')) {
    size_t length = strspn(at + 1, "abcdefghijklmnopqrstuvwxyz") + 1;
    snprintf(out[count++], 16, "%.*s", (int)length, at);
    at += length;
    if (!strchr(", ", *at) || strncmp(at, ", got", 5) == 0) break;
  }
  return count;
}

static void torture_each(const char *code, char found[][16], int count, int least) {
  assert_true(count >= least);
  for (int i = 0; i < count; i++) {
    Writer w = {.name = found[i], .code = code};
    snprintf(w.path, sizeof w.path, "%s/file%s", folder, found[i]);
    torture(&w);
  }
}

static void test_models(void **state) {
  (void)state;
  char found[10][16];
  int count = endings("nb.save('x.none', {})", "one of", found);
  torture_each("nb.save(path, nb.arange(50))", found, count, 3);
  Writer packed = {.name = "packed npz",
                   .code = "nb.save(path, { a = nb.ones(3), b = nb.zeros(9) }, { compress = true })"};
  snprintf(packed.path, sizeof packed.path, "%s/packed.npz", folder);
  torture(&packed);
}

static void test_pictures(void **state) {
  (void)state;
  char found[10][16], message[TEXT];
  int count = endings("plot.curve({1, 2}):save('x.none')", "end in", found);
  if (!run_lua("do local _ = plot.curve({1, 2}):__display{rich = true}['image/svg+xml']:len() end", message)) {
    print_message("without gnuplot only .txt: %s\n", message);
    for (int i = 0; i < count; i++)
      if (strcmp(found[i], ".txt") == 0) torture_each("do plot.curve({1, 2, 3}):save(path) end", &found[i], 1, 1);
    return;
  }
  torture_each("do plot.curve({1, 2, 3}):save(path) end", found, count, 3);
}

static void test_checkpoints(void **state) {
  (void)state;
#define FIT(EPOCHS)                                                                                   \
  "do nb.seed(1) local net = nn.Linear(2, 1) nn.fit(net, nn.MSELoss(), optim.Adam(net:parameters())," \
  " { nb.ones(4, 2), nb.ones(4, 1) }, { epochs = " #EPOCHS ", checkpoint = path, progress = false }) end"
  Writer w = {.name = "checkpoint", .before = FIT(1), .code = FIT(2), .only_replaces = true};
  snprintf(w.path, sizeof w.path, "%s/run.safetensors", folder);
  torture(&w);
}

static bool save_inputs(const Writer *w, char *message) {
  char shown[TEXT];
  begin_capture();
  bool ok = run_on("%save -f", w->path, message);
  end_capture(shown);
  return ok;
}

static void test_inputs(void **state) {
  (void)state;
  char message[TEXT];
  assert_true(run_lua("x = 1", message));
  Writer w = {.name = "%save", .write = save_inputs};
  snprintf(w.path, sizeof w.path, "%s/inputs.lua", folder);
  torture(&w);
}

static bool write_ports(const Writer *w, char *message) {
  Connection c;
  bool ok = connection_open(&c, w->path, message, TEXT);
  for (int i = 0; i < CHANNELS; i++)
    if (c.sockets[i]) zmq_close(c.sockets[i]);
  if (c.context) zmq_ctx_term(c.context);
  char *texts[] = {c.path, c.key, c.transport, c.ip, c.curve_public, c.curve_secret};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) free(texts[i]);
  return ok;
}

static void test_connection_file(void **state) {
  (void)state;
  Writer w = {.name = "connection file",
              .before = "local f = io.open(path, 'w') f:write('{\"key\": \"\"}') f:close()",
              .write = write_ports,
              .only_replaces = true,
              .is_private = true};
  snprintf(w.path, sizeof w.path, "%s/kernel.json", folder);
  torture(&w);
}

// The kernelspec is four files: each is whole at any time.
static const char *const spec_files[] = {"kernel.json", "logo-svg.svg", "logo-32x32.png", "logo-64x64.png"};
enum { SPEC_FILES = 4 };

static bool install_kernelspec(const char *command, char *message) {
  char *arguments[] = {(char *)(uintptr_t)command, "--prefix", folder, NULL};
  begin_capture();
  bool ok = install(3, arguments) == 0;
  end_capture(message);
  return ok;
}

static const char *spec_path(int i) {
  static char path[PATH];
  snprintf(path, sizeof path, "%s/share/jupyter/kernels/nablua/%s", folder, spec_files[i]);
  return path;
}

static void check_kernelspec(const Content *good, bool ok, const char *message) {
  int named = 0;
  for (int i = 0; i < SPEC_FILES; i++) {
    read_content(spec_path(i), &now);
    bool is_new = now.size == good[i].size && memcmp(now.bytes, good[i].bytes, now.size) == 0;
    if (ok ? !is_new : !is_new && !same(&now, &old)) fail_msg("%s, %s: neither", spec_path(i), nb_file_log());
    named += strstr(message, spec_path(i)) != NULL;
  }
  const char *end = strchr(message, '\n');
  if (!ok && (named != 1 || !end || end[1])) fail_msg("%s: \"%s\"", nb_file_log(), message);
}

static void test_kernelspec(void **state) {
  (void)state;
  static Content good[SPEC_FILES];
  char place[PATH], message[TEXT];
  snprintf(place, sizeof place, "%s/share/jupyter/kernels/nablua", folder);
  assert_true(install_kernelspec("install", message));
  for (int i = 0; i < SPEC_FILES; i++) {
    read_content(spec_path(i), &good[i]);
    assert_true(good[i].size <= LARGEST);
  }
  bool reached_all = false;
  for (uint64_t n = 1; !reached_all; n++) {
    old.size = (size_t)snprintf(old.bytes, sizeof old.bytes, "the old file\n");
    for (int i = 0; i < SPEC_FILES; i++) put_old(spec_path(i));
    nb_file_fail_at(n, EIO);
    bool ok = install_kernelspec("install", message);
    reached_all = nb_file_failing();
    nb_file_fail_at(0, 0);
    assert_int_equal(ok, reached_all);
    assert_int_equal(count_temporaries(place), 0);
    check_kernelspec(good, ok, message);
  }
  assert_true(install_kernelspec("uninstall", message));
}

// Where the owner cannot be kept, nobody runs the file as him any more; where the group cannot, it is as others.
static void test_rights_without_their_owner(void **state) {
  (void)state;
  Error err;
  char path[PATH];
  if (geteuid() != 0) skip();
  snprintf(path, sizeof path, "%s/owned", folder);
  for (uint64_t n = 1; n < 10; n++) {
    old.size = (size_t)snprintf(old.bytes, sizeof old.bytes, "the old file\n");
    put_old(path);
    assert_int_equal(chmod(path, 06751), 0);
    nb_file_fail_at(n, EPERM);
    bool ok = nb_replace_file(path, "new", 3, NB_RIGHTS_KEPT, &err);
    nb_file_fail_at(0, 0);
    if (!strstr(nb_file_log(), "chown!")) continue;
    read_content(path, &now);
    assert_true(ok);
    assert_int_equal(now.owner, 0);
    assert_int_equal(now.mode, 0751);
    unlink(path);
    return;
  }
  fail_msg("no owner was changed: %s", nb_file_log());
}

// What others have locked is being written: it stays.
static void test_temporaries_of_others_stay(void **state) {
  (void)state;
  Replacement r;
  Error err;
  char path[PATH + 20], message[TEXT];
  snprintf(path, sizeof path, "%s/slow.npy", folder);
  assert_true(nb_replace_open(&r, path, NB_RIGHTS_KEPT, &err));
  leave_temporary();
  assert_int_equal(count_temporaries(folder), 2);
  assert_true(run_on("nb.save(path .. '.npy', nb.ones(1))", path, message));
  assert_int_equal(count_temporaries(folder), 1);
  assert_true(nb_replace_close(&r, nb_replace_write(&r, "x", 1, &err), &err));
  read_content(path, &now);
  assert_int_equal(now.size, 1);
}

// A line that is added is there as a whole or not at all, whatever fails; one that was left unfinished is ended first.
static void test_lines_that_are_added(void **state) {
  static const char *const contents[] = {"one\n", "one\nhal"};
  (void)state;
  char path[PATH], whole[TEXT];
  snprintf(path, sizeof path, "%s/lines", folder);
  for (int i = 0; i < 2; i++) {
    bool all = false;
    for (uint64_t n = 1; !all; n++) {
      Error err;
      assert_true(n < 20);
      old.size = (size_t)snprintf(old.bytes, sizeof old.bytes, "%s", contents[i]);
      put_old(path);
      nb_file_fail_at(n, ENOSPC);
      bool ok = nb_append_line(path, "two\n", 4, &err);
      all = nb_file_failing();
      nb_file_fail_at(0, 0);
      read_content(path, &now);
      snprintf(whole, sizeof whole, "%s%stwo\n", contents[i], i ? "\n" : "");
      bool is_old = now.size == old.size && memcmp(now.bytes, old.bytes, now.size) == 0;
      assert_true(is_old || (now.size == strlen(whole) && memcmp(now.bytes, whole, now.size) == 0));
      assert_int_equal(ok, all);
      if (!ok) assert_non_null(strstr(err.message, "cannot write"));
    }
  }
  unlink(path);
}

static int setup(void **state) {
  (void)state;
  char reason[256];
  Sink sink = {.value = see_value, .error = see_error};
  snprintf(folder, sizeof folder, "%s/nablua-files-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
  return mkdtemp(folder) && (session = session_new(&sink, reason, sizeof reason)) ? 0 : 1;
}

static int teardown(void **state) {
  (void)state;
  char command[PATH + 20];
  session_free(session);
  snprintf(command, sizeof command, "rm -r '%s'", folder);
  return system(command);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_models),
                                     cmocka_unit_test(test_pictures),
                                     cmocka_unit_test(test_checkpoints),
                                     cmocka_unit_test(test_connection_file),
                                     cmocka_unit_test(test_kernelspec),
                                     cmocka_unit_test(test_temporaries_of_others_stay),
                                     cmocka_unit_test(test_lines_that_are_added),
                                     cmocka_unit_test(test_inputs),
                                     cmocka_unit_test(test_rights_without_their_owner)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
