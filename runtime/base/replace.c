// SPDX-License-Identifier: MIT
// Replacing files as a whole, and the seam where tests let each operation on files fail.
#include "nablua/replace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "nablua/clock.h"
#include "nablua/interrupt.h"

// Bytes written between two looks at the interrupt flag.
static const uint64_t CHUNK = (uint64_t)16 << 20;

// ---- operations, each of which tests can let fail ----

static struct {
  uint64_t fail_in;
  int code;
  char log[600];
} seam;

static void note(const char *operation, const char *mark) {
  size_t used = strlen(seam.log), length = strlen(operation);
  bool again = used >= length && strcmp(seam.log + used - length, operation) == 0 &&
               (used == length || seam.log[used - length - 1] == ' ');
  if (again && !*mark) return;
  snprintf(seam.log + used, sizeof seam.log - used, "%s%s%s", used ? " " : "", operation, mark);
}

// Whether a test wants this operation to fail; then errno says how.
static bool fails(const char *operation) {
  if (seam.fail_in == 0) return false;
  bool now = --seam.fail_in == 0;
  note(operation, now ? "!" : "");
  if (now) errno = seam.code;
  return now;
}

void nb_file_fail_at(uint64_t nth, int code) {
  seam.fail_in = nth;
  seam.code = code;
  if (nth) *seam.log = '\0';
}

bool nb_file_failing(void) {
  return seam.fail_in > 0;
}

const char *nb_file_log(void) {
  return seam.log;
}

static DIR *list_folder(const char *path) {
  return fails("list") ? NULL : opendir(path);
}

static int create_file(const char *path, mode_t rights) {
  return fails("create") ? -1 : open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, rights);
}

static int open_to_append(const char *path) {
  return fails("open") ? -1 : open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
}

static int cut_file(int fd, off_t size) {
  return fails("cut") ? -1 : ftruncate(fd, size);
}

static int lock_file(int fd, int how) {
  int result;
  if (fails("lock")) return -1;
  do result = flock(fd, how);
  while (result != 0 && errno == EINTR);
  return result;
}

// write(2), or pwrite(2) where `at` is not negative, except that the limit on file sizes is an error and not the signal
// that ends the process.
static ssize_t write_file(int fd, const void *data, size_t size, off_t at) {
  sigset_t limit, before, pending;
  if (fails("write")) return -1;
  sigemptyset(&limit);
  sigaddset(&limit, SIGXFSZ);
  sigpending(&pending);
  pthread_sigmask(SIG_BLOCK, &limit, &before);
  ssize_t done = at < 0 ? write(fd, data, size) : pwrite(fd, data, size, at);
  int code = errno;
  if (done < 0 && code == EFBIG && !sigismember(&pending, SIGXFSZ))
    sigtimedwait(&limit, NULL, &(struct timespec){0, 0});
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  errno = code;
  return done;
}

static int change_owner(int fd, uid_t owner, gid_t group) {
  return fails("chown") ? -1 : fchown(fd, owner, group);
}

static int change_rights(int fd, mode_t rights) {
  return fails("chmod") ? -1 : fchmod(fd, rights);
}

static int sync_file(int fd) {
  return fails("sync") ? -1 : fsync(fd);
}

static int close_file(int fd) {
  bool failed = fails("close");
  int result = close(fd);  // whatever it says, the descriptor is gone
  if (failed) errno = seam.code;
  return failed ? -1 : result;
}

static int rename_file(const char *from, const char *to) {
  return fails("rename") ? -1 : rename(from, to);
}

// Gives each of two files the other's name, in one step; some file systems cannot.
static int exchange_files(const char *a, const char *b) {
  return fails("exchange") ? -1 : renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
}

static int unlink_file(int folder, const char *path) {
  return fails("unlink") ? -1 : unlinkat(folder, path, 0);
}

static int sync_folder(DIR *folder) {
  return fails("sync-folder") ? -1 : fsync(dirfd(folder));
}

// ---- what killed processes left ----

static bool is_temporary(const char *name) {
  long pid;
  unsigned number;
  int end = 0;
  return sscanf(name, ".nablua-%ld-%u.tmp%n", &pid, &number, &end) == 2 && end > 0 && name[end] == '\0';
}

// A temporary file is locked as long as somebody writes it, in this process or another, on this machine or one that
// shares the disk: what can be locked is left over.  It may have got its name in the meantime, and must not lose it.
static void remove_leftover(int folder, const char *name) {
  struct stat held, named;
  int fd = openat(folder, name, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return;
  if (lock_file(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &held) == 0 && S_ISREG(held.st_mode) &&
      fstatat(folder, name, &named, AT_SYMLINK_NOFOLLOW) == 0 && named.st_ino == held.st_ino &&
      named.st_dev == held.st_dev)
    unlink_file(folder, name);
  close(fd);
}

// The time that this thread has computed, which does not count what it waited for a disk.
static double seconds_of_cpu(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// Looks through a folder that takes long, with thousands of files, a twentieth of the time at most.
static void remove_leftovers(DIR *folder) {
  static const double long_time = 1e-3, share = 20;
  static double until;
  static dev_t device;
  static ino_t number;
  struct stat st;
  if (fstat(dirfd(folder), &st) != 0) return;
  if (st.st_dev == device && st.st_ino == number && nb_clock() < until) return;
  double start = seconds_of_cpu();
  for (struct dirent *entry; (entry = readdir(folder));)
    if (is_temporary(entry->d_name)) remove_leftover(dirfd(folder), entry->d_name);
  double took = seconds_of_cpu() - start;
  device = st.st_dev;
  number = st.st_ino;
  until = took > long_time ? nb_clock() + share * took : 0;
}

// ---- beginning ----

static bool cannot_write(const Replacement *r, int code, Error *err) {
  return nb_fail(err, NB_ERROR_FILE, "cannot write %s: %s", r->path, strerror(code));
}

// The length of a path's folder, with the slash behind it; 0 where it is the working folder.
static int folder_length(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? (int)(slash - path) + 1 : 0;
}

// Replaces a link by what it leads to, which need not be there; false with errno.
static bool follow_links(char target[PATH_MAX]) {
  enum { MOST = 40 };  // as the kernel has it
  char link[PATH_MAX], path[2 * PATH_MAX];
  for (int i = 0; i < MOST; i++) {
    ssize_t length = readlink(target, link, sizeof link - 1);
    if (length < 0) return true;  // no link, or nothing there; whether it can be written shows later
    link[length] = '\0';
    int n = snprintf(path, sizeof path, "%.*s%s", *link == '/' ? 0 : folder_length(target), target, link);
    if (n >= PATH_MAX) {
      errno = ENAMETOOLONG;
      return false;
    }
    memcpy(target, path, (size_t)n + 1);
  }
  errno = ELOOP;
  return false;
}

// Looks at what is there; false with a sentence where it cannot be replaced.
static bool look_at_target(Replacement *r, Error *err) {
  struct stat st;
  if (!follow_links(r->target)) return cannot_write(r, errno, err);
  r->exists = stat(r->target, &st) == 0;
  if (!r->exists) return errno == ENOENT || cannot_write(r, errno, err);
  if (!S_ISREG(st.st_mode))
    return nb_fail(err, NB_ERROR_FILE, "cannot write %s: it is %s, not a file", r->path,
                   S_ISDIR(st.st_mode) ? "a folder" : "a device or a pipe");
  // Renaming would replace a file that its owner protected.
  if (access(r->target, W_OK) != 0) return cannot_write(r, errno, err);
  r->mode = st.st_mode & 07777;
  r->owner = st.st_uid;
  r->group = st.st_gid;
  return true;
}

// Opens the folder and tidies it up; some folders can be written to but not read.
static bool open_folder(Replacement *r) {
  char folder[PATH_MAX];
  int length = folder_length(r->target);
  snprintf(folder, sizeof folder, "%.*s", length ? length : 1, length ? r->target : ".");
  r->folder = list_folder(folder);
  if (!r->folder) return errno == EACCES;
  remove_leftovers(r->folder);
  return true;
}

// Makes an empty file in the target's folder under a name that nobody uses, and locks it.
static bool create_temporary(Replacement *r) {
  static unsigned counter;
  struct stat st;
  mode_t rights = r->exists || r->rights == NB_RIGHTS_PRIVATE ? 0600 : 0666;
  for (int i = 0; i < 100; i++) {
    snprintf(r->temporary, sizeof r->temporary, "%.*s.nablua-%ld-%u.tmp", folder_length(r->target), r->target,
             (long)getpid(), counter++);
    int fd = create_file(r->temporary, rights);
    if (fd < 0 && errno == EEXIST) continue;
    if (fd < 0) return false;
    // Where a file system knows no locks nobody else can lock it either.
    bool locked = lock_file(fd, LOCK_EX) == 0 || errno == ENOLCK || errno == EOPNOTSUPP || errno == ENOSYS;
    if (locked && fstat(fd, &st) == 0 && st.st_nlink > 0) {
      r->fd = fd;
      return true;
    }
    int code = errno;
    if (!locked) unlink_file(AT_FDCWD, r->temporary);
    close(fd);
    errno = code;
    if (!locked) return false;
    // Else another process took it for a leftover before it was locked.
  }
  errno = EEXIST;
  return false;
}

static void close_folder(Replacement *r) {
  if (r->folder) closedir(r->folder);
  r->folder = NULL;
}

bool nb_replace_open(Replacement *r, const char *path, Rights rights, Error *err) {
  size_t length = strlen(path);
  r->path = path;
  r->at = 0;
  r->fd = -1;
  r->folder = NULL;
  r->rights = rights;
  if (length >= sizeof r->target) return cannot_write(r, ENAMETOOLONG, err);
  if (length == 0 || path[length - 1] == '/') return cannot_write(r, length ? EISDIR : ENOENT, err);
  memcpy(r->target, path, length + 1);
  if (!look_at_target(r, err)) return false;
  if (open_folder(r) && create_temporary(r)) return true;
  cannot_write(r, errno, err);
  close_folder(r);
  return false;
}

// ---- writing ----

static bool write_all(const Replacement *r, int64_t at, const void *data, uint64_t size, Error *err) {
  const char *from = data;
  while (size > 0) {
    size_t piece = (size_t)(size < CHUNK ? size : CHUNK);
    if (!nb_poll(err)) return false;
    ssize_t done = write_file(r->fd, from, piece, (off_t)at);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return cannot_write(r, errno, err);
    from += done;
    size -= (uint64_t)done;
    if (at >= 0) at += done;
  }
  return true;
}

bool nb_replace_write(Replacement *r, const void *data, uint64_t size, Error *err) {
  if (!write_all(r, -1, data, size, err)) return false;
  r->at += size;
  return true;
}

bool nb_replace_patch(Replacement *r, uint64_t at, const void *data, uint64_t size, Error *err) {
  return write_all(r, (int64_t)at, data, size, err);
}

// ---- ending ----

// Of a user namespace's foreign owners the system says that they are invalid.
static bool not_permitted(void) {
  return errno == EPERM || errno == EINVAL;
}

// Gives the new file the owner, group and rights of the old one.  The owner first: that takes setuid and setgid away.
static bool keep_rights(Replacement *r) {
  struct stat now;
  mode_t mode = r->mode;
  if (!r->exists) return true;
  if (fstat(r->fd, &now) != 0) return false;
  if (now.st_uid != r->owner || now.st_gid != r->group) {
    if (change_owner(r->fd, r->owner, r->group) != 0 &&
        !(not_permitted() && (change_owner(r->fd, (uid_t)-1, r->group) == 0 || not_permitted())))
      return false;
    if (fstat(r->fd, &now) != 0) return false;
  }
  bool same_group = now.st_gid == r->group;
  if (!same_group || now.st_uid != r->owner) mode &= ~(mode_t)(S_ISUID | S_ISGID);
  if (!same_group) mode = (mode & ~(mode_t)S_IRWXG) | (mode & S_IRWXO) << 3;
  if (r->rights == NB_RIGHTS_PRIVATE) mode = 0600;
  return change_rights(r->fd, mode) == 0 || errno == EPERM;  // some file systems have no rights
}

static bool is_unsupported(int code) {
  return code == EINVAL || code == ENOTSUP || code == ENOSYS;
}

// Gives the new file its name.  The old one is kept under the temporary name, where the file system can do that, until
// nothing can fail any more.
static bool take_name(Replacement *r, bool *old_kept) {
  *old_kept = r->exists && exchange_files(r->temporary, r->target) == 0;
  if (*old_kept) return true;
  if (r->exists && !is_unsupported(errno) && errno != ENOENT) return false;
  return rename_file(r->temporary, r->target) == 0;
}

// The new name survives a power cut once its folder is on disk too; some file systems cannot sync one.
static bool keep_name(Replacement *r) {
  return !r->folder || sync_folder(r->folder) == 0 || is_unsupported(errno) || errno == EBADF;
}

// Takes the name away again, so that a write that failed has changed nothing; false with a sentence.
static bool give_name_back(Replacement *r, bool old_kept, Error *err) {
  int code = errno;
  if (old_kept && exchange_files(r->temporary, r->target) == 0) {
    unlink_file(AT_FDCWD, r->temporary);
    return cannot_write(r, code, err);
  }
  if (!r->exists && unlink_file(AT_FDCWD, r->target) == 0) return cannot_write(r, code, err);
  if (old_kept) unlink_file(AT_FDCWD, r->temporary);
  return nb_fail(err, NB_ERROR_FILE, "%s is %s, but its folder cannot be synced (%s): after a power cut %s", r->path,
                 r->exists ? "replaced" : "written", strerror(code),
                 r->exists ? "the old file may be back" : "it may be missing");
}

bool nb_replace_close(Replacement *r, bool ok, Error *err) {
  if (r->fd < 0) return false;
  // The lock lives until the last descriptor is closed, which must not be before the file has its name.
  int lock = ok ? fcntl(r->fd, F_DUPFD_CLOEXEC, 0) : -1;
  if (ok && (lock < 0 || !keep_rights(r) || sync_file(r->fd) != 0)) ok = cannot_write(r, errno, err);
  if (close_file(r->fd) != 0 && ok) ok = cannot_write(r, errno, err);
  r->fd = -1;
  bool old_kept = false;
  if (ok && !take_name(r, &old_kept)) ok = cannot_write(r, errno, err);
  if (!ok)
    unlink_file(AT_FDCWD, r->temporary);
  else if (!keep_name(r) || (old_kept && unlink_file(AT_FDCWD, r->temporary) != 0 && errno != ENOENT))
    ok = give_name_back(r, old_kept, err);
  if (lock >= 0) close(lock);
  close_folder(r);
  return ok;
}

bool nb_replace_file(const char *path, const void *data, uint64_t size, Rights rights, Error *err) {
  Replacement r;
  if (!nb_replace_open(&r, path, rights, err)) return false;
  return nb_replace_close(&r, nb_replace_write(&r, data, size, err), err);
}

// ---- files that grow ----

// A line that a killed process has begun is ended, so that it spoils no other.
static bool append_whole(const Replacement *r, uint64_t at, const void *data, uint64_t size, Error *err) {
  char last = '\n';
  if (at > 0 && pread(r->fd, &last, 1, (off_t)at - 1) < 0) return cannot_write(r, errno, err);
  return (last == '\n' || write_all(r, -1, "\n", 1, err)) && write_all(r, -1, data, size, err);
}

bool nb_append_line(const char *path, const void *data, uint64_t size, Error *err) {
  Replacement r = {.path = path, .fd = open_to_append(path)};
  struct stat before;
  if (r.fd < 0) return cannot_write(&r, errno, err);
  bool ok = (lock_file(r.fd, LOCK_EX) == 0 && fstat(r.fd, &before) == 0) || cannot_write(&r, errno, err);
  if (ok && !append_whole(&r, (uint64_t)before.st_size, data, size, err)) {
    ok = false;
    cut_file(r.fd, before.st_size);
  }
  if (ok && sync_file(r.fd) != 0 && errno != EINVAL) ok = cannot_write(&r, errno, err);
  if (close_file(r.fd) != 0 && ok) ok = cannot_write(&r, errno, err);
  return ok;
}
