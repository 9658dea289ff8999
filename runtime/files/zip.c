// SPDX-License-Identifier: MIT
// Writing zip archives: members one after another, their headers completed behind them, the directory at the end.
// Times are zip's zero, so that the same content gives the same bytes.
#include <string.h>
#include <zlib.h>

#include "files_private.h"
#include "nablua/memory.h"

enum { BUFFER = 1 << 16, RECORD = 128, LEVEL = 6, VERSION = 20, VERSION64 = 45, UTF8 = 1 << 11, DATE = 33 };
static const uint64_t LARGE = 4000000000u;  // what is this long gets 64-bit sizes, however well it packs

typedef struct Pack {
  bool deflated;
  z_stream z;
  uint32_t crc;
  uint64_t size, packed;
  unsigned char buffer[BUFFER];
} Pack;

// A record being put together, little-endian.
typedef struct Record {
  unsigned char bytes[RECORD];
  size_t used;
} Record;

static void put(Record *r, int size, uint64_t value) {
  for (int i = 0; i < size; i++) r->bytes[r->used++] = (unsigned char)(value >> 8 * i);
}

// What the local header and the directory's entry share: version to checksum and sizes, lengths of name and extra.
static void put_common(Record *r, const ZipMember *m, size_t extra) {
  bool large = extra > 0;
  put(r, 2, large ? VERSION64 : VERSION);
  put(r, 2, UTF8);
  put(r, 2, m->deflated ? 8 : 0);
  put(r, 2, 0);
  put(r, 2, DATE);
  put(r, 4, m->crc);
  put(r, 4, m->size >= LARGE ? 0xffffffff : m->packed);
  put(r, 4, m->size >= LARGE ? 0xffffffff : m->size);
  put(r, 2, strlen(m->name));
  put(r, 2, extra);
}

static void put_extra(Record *r, size_t extra, const ZipMember *m) {
  if (extra == 0) return;
  put(r, 2, 1);
  put(r, 2, extra - 4);
  if (m->size >= LARGE) {
    put(r, 8, m->size);
    put(r, 8, m->packed);
  }
  if (extra % 16 == 12) put(r, 8, m->local);
}

static Record local_header(const ZipMember *m) {
  Record r = {.used = 0};
  put(&r, 4, 0x04034b50);
  put_common(&r, m, m->size >= LARGE ? 20 : 0);
  return r;
}

// The bytes of the archive, past the filter.
static bool put_bytes(Output *out, const void *data, size_t size, Error *err) {
  return nb_replace_write(&out->file, data, size, err);
}

static bool put_header(Output *out, const Record *r, const char *name, const Record *extra, Error *err) {
  return put_bytes(out, r->bytes, r->used, err) && put_bytes(out, name, strlen(name), err) &&
         put_bytes(out, extra->bytes, extra->used, err);
}

static bool deflate_piece(Output *out, int flush, Error *err) {
  Pack *p = out->state;
  int code = Z_OK;
  do {
    p->z.next_out = p->buffer;
    p->z.avail_out = BUFFER;
    code = deflate(&p->z, flush);
    size_t size = BUFFER - p->z.avail_out;
    p->packed += size;
    if (!put_bytes(out, p->buffer, size, err)) return false;
  } while (flush == Z_FINISH ? code != Z_STREAM_END : p->z.avail_out == 0);
  return true;
}

static bool pack(Output *out, const void *data, size_t size, Error *err) {
  Pack *p = out->state;
  p->crc = (uint32_t)crc32_z(p->crc, data, size);
  p->size += size;
  if (p->deflated) {
    p->z.next_in = (unsigned char *)(uintptr_t)data;
    p->z.avail_in = (unsigned)size;
    return deflate_piece(out, Z_NO_FLUSH, err);
  }
  p->packed += size;
  return put_bytes(out, data, size, err);
}

bool nb_zip_begin(Output *out, ZipMember *m, Error *err) {
  Record extra = {.used = 0};
  Pack *p = nb_alloc(sizeof *p, err);
  if (!p) return false;
  memset(p, 0, sizeof *p - BUFFER);
  p->deflated = m->deflated;
  p->crc = (uint32_t)crc32(0, NULL, 0);
  if (p->deflated && deflateInit2(&p->z, LEVEL, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    nb_free(p, sizeof *p);
    return nb_fail(err, NB_ERROR_MEMORY, "not enough memory to pack %s", out->file.path);
  }
  m->local = out->file.at;
  Record r = local_header(m);
  put_extra(&extra, m->size >= LARGE ? 20 : 0, m);
  out->filter = pack;
  out->state = p;
  return put_header(out, &r, m->name, &extra, err);
}

void nb_zip_abandon(Output *out) {
  Pack *p = out->state;
  if (!p) return;
  if (p->deflated) deflateEnd(&p->z);
  nb_free(p, sizeof *p);
  out->filter = NULL;
  out->state = NULL;
}

bool nb_zip_finish(Output *out, ZipMember *m, Error *err) {
  Pack *p = out->state;
  bool ok = !p->deflated || deflate_piece(out, Z_FINISH, err);
  m->crc = p->crc;
  m->packed = p->packed;
  nb_zip_abandon(out);
  if (!ok) return false;
  Record r = local_header(m), extra = {.used = 0};
  put_extra(&extra, m->size >= LARGE ? 20 : 0, m);
  return nb_replace_patch(&out->file, m->local, r.bytes, r.used, err) &&
         nb_replace_patch(&out->file, m->local + r.used + strlen(m->name), extra.bytes, extra.used, err);
}

static bool write_entry(Output *out, const ZipMember *m, Error *err) {
  bool far = m->local >= LARGE;
  size_t extra = m->size >= LARGE ? (far ? 28 : 20) : far ? 12 : 0;
  Record r = {.used = 0}, more = {.used = 0};
  put(&r, 4, 0x02014b50);
  put(&r, 2, 3 << 8 | VERSION64);  // made under Unix
  put_common(&r, m, extra);
  put(&r, 2, 0);  // comment
  put(&r, 2, 0);  // disk
  put(&r, 2, 0);
  put(&r, 4, (uint64_t)0100644 << 16);
  put(&r, 4, far ? 0xffffffff : m->local);
  put_extra(&more, extra, m);
  return put_header(out, &r, m->name, &more, err);
}

bool nb_zip_directory(Output *out, const ZipMember *members, size_t count, Error *err) {
  uint64_t begin = out->file.at;
  for (size_t i = 0; i < count; i++)
    if (!write_entry(out, &members[i], err)) return false;
  uint64_t end = out->file.at;
  bool large = begin >= LARGE || end - begin >= LARGE || count >= 0xffff;
  Record r = {.used = 0};
  if (large) {
    put(&r, 4, 0x06064b50);
    put(&r, 8, 44);
    put(&r, 2, 3 << 8 | VERSION64);
    put(&r, 2, VERSION64);
    put(&r, 8, 0);
    put(&r, 8, count);
    put(&r, 8, count);
    put(&r, 8, end - begin);
    put(&r, 8, begin);
    put(&r, 4, 0x07064b50);
    put(&r, 4, 0);
    put(&r, 8, end);
    put(&r, 4, 1);
  }
  put(&r, 4, 0x06054b50);
  put(&r, 4, 0);
  put(&r, 2, large ? 0xffff : count);
  put(&r, 2, large ? 0xffff : count);
  put(&r, 4, large ? 0xffffffff : end - begin);
  put(&r, 4, large ? 0xffffffff : begin);
  put(&r, 2, 0);
  return put_bytes(out, r.bytes, r.used, err);
}
