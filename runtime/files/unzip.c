// SPDX-License-Identifier: MIT
// Reading zip archives (PKWARE's APPNOTE 6.3; stored and deflated members, zip64), with nothing believed:
//
//   local header, name, data │ ... │ directory: a header for each member │ end record
//
// What directory, local headers and data say must agree, and no two members may share bytes, so that an archive never
// unpacks to more than deflate can pack.  zlib inflates; libzip would also do, but brings OpenSSL into every start.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "files_private.h"
#include "nablua/memory.h"

enum { END = 22, LOCATOR = 20, END64 = 56, ENTRY = 46, LOCAL = 30, COMMENT = 65535, BUFFER = 1 << 16 };
static const uint64_t LARGEST_DIRECTORY = (uint64_t)64 << 20;

// What is needed while a member is read.
typedef struct Unpack {
  const Zip *zip;
  const ZipMember *member;
  z_stream z;
  uint64_t next, left;  // packed bytes: where they go on, and how many there are
  uint32_t crc;
  bool ended;
  unsigned char buffer[BUFFER];
} Unpack;

static uint64_t number(const unsigned char *at, int bytes) {
  uint64_t value = 0;
  for (int i = bytes - 1; i >= 0; i--) value = value << 8 | at[i];
  return value;
}

static bool read_at(const Zip *zip, uint64_t at, void *data, size_t size, Error *err) {
  char *to = data;
  while (size > 0) {
    ssize_t got = pread(zip->in.fd, to, size, (off_t)at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      return nb_fail(err, NB_ERROR_FILE, "cannot read %s after byte %llu: %s", zip->in.path, (unsigned long long)at,
                     strerror(errno));
    if (got == 0)
      return nb_fail(err, NB_ERROR_FILE, "%s is truncated: it ends at byte %llu where %zu more are expected",
                     zip->in.path, (unsigned long long)at, size);
    to += got;
    at += (uint64_t)got;
    size -= (size_t)got;
  }
  return true;
}

static bool broken(const Zip *zip, const char *what, uint64_t at, Error *err) {
  return nb_fail(err, NB_ERROR_FILE, "%s is a broken zip archive: %s at byte %llu", zip->in.path, what,
                 (unsigned long long)at);
}

// ---- the directory ----

typedef struct Directory {
  uint64_t count, size, at, end;  // `end`: where its records must stop
} Directory;

// Of an archive with more members or bytes than the old record can tell.
static bool find_end64(const Zip *zip, uint64_t end, Directory *d, Error *err) {
  unsigned char locator[LOCATOR], record[END64];
  if (end < LOCATOR + END64) return broken(zip, "no room for a zip64 record", end, err);
  if (!read_at(zip, end - LOCATOR, locator, LOCATOR, err)) return false;
  if (number(locator, 4) != 0x07064b50) return broken(zip, "a zip64 locator is missing", end - LOCATOR, err);
  uint64_t at = number(locator + 8, 8);
  if (at > end - LOCATOR - END64) return broken(zip, "a zip64 record that lies outside", at, err);
  if (!read_at(zip, at, record, END64, err)) return false;
  if (number(record, 4) != 0x06064b50) return broken(zip, "a zip64 record is missing", at, err);
  *d = (Directory){number(record + 32, 8), number(record + 40, 8), number(record + 48, 8), at};
  return true;
}

static bool find_directory(const Zip *zip, Directory *d, Error *err) {
  uint64_t tail = zip->in.size < END + COMMENT ? zip->in.size : END + COMMENT, start = zip->in.size - tail;
  unsigned char *bytes = nb_alloc(tail, err);
  bool ok = bytes && read_at(zip, start, bytes, tail, err);
  int64_t i = (int64_t)tail - END;
  while (ok && i >= 0 && !(number(bytes + i, 4) == 0x06054b50 && number(bytes + i + 20, 2) == tail - END - (uint64_t)i))
    i--;
  if (ok && i < 0)
    ok = nb_fail(err, NB_ERROR_FILE, "%s is no zip archive, or is truncated: the record at its end is missing",
                 zip->in.path);
  if (ok) {
    const unsigned char *r = bytes + i;
    uint64_t end = start + (uint64_t)i;
    *d = (Directory){number(r + 10, 2), number(r + 12, 4), number(r + 16, 4), end};
    if (number(r + 4, 2) != 0 && number(r + 4, 2) != 0xffff)
      ok = broken(zip, "it is one of several parts", end, err);
    else if (d->count == 0xffff || d->size == 0xffffffff || d->at == 0xffffffff)
      ok = find_end64(zip, end, d, err);
  }
  nb_free(bytes, tail);
  if (!ok) return false;
  if (d->at > d->end || d->size > d->end - d->at) return broken(zip, "a directory that lies outside", d->at, err);
  if (d->size > LARGEST_DIRECTORY || d->count > d->size / ENTRY)
    return nb_fail(err, NB_ERROR_FILE, "%s is a broken zip archive: %llu members in a directory of %llu bytes",
                   zip->in.path, (unsigned long long)d->count, (unsigned long long)d->size);
  return true;
}

// The 64-bit values that stand in an extra field for those that the entry gives as all ones.
static bool read_extra(const unsigned char *extra, size_t length, ZipMember *m) {
  bool wanted = m->size == 0xffffffff || m->packed == 0xffffffff || m->local == 0xffffffff;
  for (size_t i = 0; wanted && i + 4 <= length;) {
    size_t size = (size_t)number(extra + i + 2, 2), at = i + 4;
    if (size > length - at) return false;
    if (number(extra + i, 2) == 1) {
      uint64_t *fields[] = {&m->size, &m->packed, &m->local};
      for (int k = 0; k < 3; k++) {
        if (*fields[k] != 0xffffffff) continue;
        if (at + 8 > i + 4 + size) return false;
        *fields[k] = number(extra + at, 8);
        at += 8;
      }
      return true;
    }
    i = at + size;
  }
  return true;
}

static bool parse_entry(const Zip *zip, const unsigned char *e, uint64_t place, size_t left, ZipMember *m, char *name,
                        Error *err) {
  size_t name_size = left >= ENTRY ? (size_t)number(e + 28, 2) : 0;
  size_t extra = left >= ENTRY ? (size_t)number(e + 30, 2) : 0, comment = left >= ENTRY ? (size_t)number(e + 32, 2) : 0;
  if (left < ENTRY || number(e, 4) != 0x02014b50 || ENTRY + name_size + extra + comment > left)
    return broken(zip, "a directory entry is expected", place, err);
  memcpy(name, e + ENTRY, name_size);
  name[name_size] = '\0';
  *m = (ZipMember){.name = name,
                   .crc = (uint32_t)number(e + 16, 4),
                   .packed = number(e + 20, 4),
                   .size = number(e + 24, 4),
                   .local = number(e + 42, 4),
                   .entry_size = ENTRY + name_size + extra + comment};
  unsigned method = (unsigned)number(e + 10, 2), flags = (unsigned)number(e + 8, 2);
  if (strlen(name) != name_size) return broken(zip, "a name with a zero byte", place, err);
  if (!read_extra(e + ENTRY + name_size, extra, m)) return broken(zip, "an extra field that does not fit", place, err);
  if (flags & 1) return nb_fail(err, NB_ERROR_FILE, "%s: member \"%.100s\" is encrypted", zip->in.path, name);
  if (method != 0 && method != 8)
    return nb_fail(err, NB_ERROR_FILE,
                   "%s: member \"%.100s\" is packed by method %u; stored (0) and deflated (8) can be "
                   "read",
                   zip->in.path, name, method);
  m->deflated = method == 8;
  if (!m->deflated && m->packed != m->size) return broken(zip, "a stored member of two sizes", place, err);
  return true;
}

// Finds the member's data and demands that its local header agrees.
static bool check_local(const Zip *zip, ZipMember *m, uint64_t directory, Error *err) {
  unsigned char head[LOCAL];
  size_t length = strlen(m->name);
  if (m->local > directory || directory - m->local < LOCAL)
    return broken(zip, "a member that lies outside", m->local, err);
  if (!read_at(zip, m->local, head, LOCAL, err)) return false;
  m->data = m->local + LOCAL + number(head + 26, 2) + number(head + 28, 2);
  if (number(head, 4) != 0x04034b50 || number(head + 26, 2) != length)
    return broken(zip, "a member's header is expected", m->local, err);
  if (m->data > directory || m->packed > directory - m->data)
    return nb_fail(err, NB_ERROR_FILE,
                   "%s is a broken zip archive: member \"%.100s\" should end before byte %llu, where "
                   "the directory begins",
                   zip->in.path, m->name, (unsigned long long)directory);
  char *name = nb_alloc(length + 1, err);
  bool ok = name && read_at(zip, m->local + LOCAL, name, length, err);
  if (ok && memcmp(name, m->name, length) != 0) ok = broken(zip, "a member of two names", m->local, err);
  nb_free(name, length + 1);
  return ok;
}

static int by_place(const void *a, const void *b) {
  const ZipMember *s = a, *t = b;
  return (s->local > t->local) - (s->local < t->local);
}

static bool read_directory(Zip *zip, const Directory *d, Error *err) {
  unsigned char *bytes = nb_alloc(d->size, err);
  // A name and its end take less than its entry.
  zip->names_size = d->size;
  bool ok = bytes && (zip->names = nb_alloc(zip->names_size, err)) &&
            (zip->members = nb_alloc(d->count * sizeof *zip->members, err)) && read_at(zip, d->at, bytes, d->size, err);
  if (zip->members) zip->count = (size_t)d->count;
  char *name = zip->names;
  for (uint64_t i = 0, at = 0; ok && i < d->count; i++) {
    ZipMember *m = &zip->members[i];
    ok = parse_entry(zip, bytes + at, d->at + at, d->size - at, m, name, err) && check_local(zip, m, d->at, err);
    name += ok ? strlen(name) + 1 : 0;
    at += ok ? m->entry_size : 0;
  }
  nb_free(bytes, d->size);
  if (!ok) return false;
  qsort(zip->members, zip->count, sizeof *zip->members, by_place);
  for (size_t i = 1; i < zip->count; i++)
    if (zip->members[i].local < zip->members[i - 1].data + zip->members[i - 1].packed)
      return nb_fail(err, NB_ERROR_FILE, "%s is a broken zip archive: members \"%.100s\" and \"%.100s\" overlap",
                     zip->in.path, zip->members[i - 1].name, zip->members[i].name);
  return true;
}

bool nb_zip_open(Zip *zip, const char *path, Error *err) {
  Directory d;
  *zip = (Zip){.in.fd = -1};
  if (nb_input_open(&zip->in, path, err) && find_directory(zip, &d, err) && read_directory(zip, &d, err)) return true;
  nb_zip_close(zip);
  return false;
}

void nb_zip_close(Zip *zip) {
  nb_input_close(&zip->in);
  nb_free(zip->members, zip->count * sizeof *zip->members);
  nb_free(zip->names, zip->names_size);
  *zip = (Zip){.in.fd = -1};
}

// ---- a member ----

// Fills the buffer with packed bytes.
static bool more_packed(Input *in, Error *err) {
  Unpack *u = in->state;
  size_t size = (size_t)(u->left < BUFFER ? u->left : BUFFER);
  if (!read_at(u->zip, u->next, u->buffer, size, err)) return false;
  u->next += size;
  u->left -= size;
  u->z.next_in = u->buffer;
  u->z.avail_in = (unsigned)size;
  return true;
}

static bool inflate_piece(Input *in, void *data, size_t size, size_t *got, Error *err) {
  Unpack *u = in->state;
  u->z.next_out = data;
  u->z.avail_out = (unsigned)size;
  while (u->z.avail_out > 0 && !u->ended) {
    if (u->z.avail_in == 0 && u->left > 0 && !more_packed(in, err)) return false;
    int code = inflate(&u->z, Z_NO_FLUSH);
    u->ended = code == Z_STREAM_END;
    if (code == Z_BUF_ERROR && u->left == 0)
      return nb_fail(err, NB_ERROR_FILE, "%s is damaged: its packed data has no end", in->path);
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
      return nb_fail(err, NB_ERROR_FILE, "%s is damaged: it cannot be unpacked after byte %llu%s%s", in->path,
                     (unsigned long long)in->at, u->z.msg ? ": " : "", u->z.msg ? u->z.msg : "");
  }
  *got = size - u->z.avail_out;
  return true;
}

static bool member_some(Input *in, void *data, size_t size, size_t *got, Error *err) {
  Unpack *u = in->state;
  if (u->member->deflated) {
    if (!inflate_piece(in, data, size, got, err)) return false;
  } else {
    *got = (size_t)(size < u->left ? size : u->left);
    if (!read_at(u->zip, u->next, data, *got, err)) return false;
    u->next += *got;
    u->left -= *got;
  }
  u->crc = (uint32_t)crc32_z(u->crc, data, *got);
  return true;
}

static void member_close(Input *in) {
  Unpack *u = in->state;
  inflateEnd(&u->z);
  nb_free(u, sizeof *u);
  in->state = NULL;
}

static const InputKind member = {member_some, member_close};

bool nb_zip_enter(Zip *zip, const ZipMember *m, Input *in, Error *err) {
  // Nothing that deflate packs is smaller than this part of it (RFC 1951: 258 bytes in 2 bits).
  if (m->size / 1032 > m->packed)
    return nb_fail(err, NB_ERROR_FILE,
                   "%s: member \"%.100s\" declares %llu bytes, more than its %llu packed ones can "
                   "hold",
                   zip->in.path, m->name, (unsigned long long)m->size, (unsigned long long)m->packed);
  snprintf(zip->title, sizeof zip->title, "%.1000s: member \"%.100s\"", zip->in.path, m->name);
  *in = (Input){.path = zip->title, .fd = -1, .size = m->size};
  Unpack *u = nb_alloc(sizeof *u, err);
  if (!u) return false;
  memset(u, 0, sizeof *u - BUFFER);
  u->zip = zip;
  u->member = m;
  u->next = m->data;
  u->left = m->packed;
  u->crc = (uint32_t)crc32(0, NULL, 0);
  if (inflateInit2(&u->z, -MAX_WBITS) != Z_OK) {
    nb_free(u, sizeof *u);
    return nb_fail(err, NB_ERROR_MEMORY, "not enough memory to unpack %s", zip->in.path);
  }
  in->kind = &member;
  in->state = u;
  return true;
}

bool nb_zip_end(Input *in, Error *err) {
  unsigned char byte;
  size_t got = 0;
  Unpack *u = in->state;
  uint32_t crc = u->crc;
  if (!member_some(in, &byte, 1, &got, err)) return false;
  if (got > 0) return nb_fail(err, NB_ERROR_FILE, "%s has more bytes than it declares", in->path);
  if (crc != u->member->crc)
    return nb_fail(err, NB_ERROR_FILE, "%s is damaged: its checksum should be %08x, it is %08x", in->path,
                   (unsigned)u->member->crc, (unsigned)crc);
  return true;
}
