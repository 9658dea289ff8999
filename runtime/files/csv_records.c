// SPDX-License-Identifier: MIT
// CSV as records (RFC 4180, and what is met in its name): one pass over the bytes, a record at a time.
#include <string.h>

#include "csv_private.h"
#include "nablua/memory.h"

enum { FIRST_BLOCK = 1 << 18, END = -1, FAILED = -2 };

// ---- bytes ----

static bool refill(CsvReader *r, Error *err) {
  if (r->ended) return true;
  if (r->sampling) {
    r->cut = true;
    return true;
  }
  r->at = 0;
  return nb_input_some(&r->in, r->block, r->block_size, &r->filled, err);
}

// The byte to come, END or FAILED.
static int peek(CsvReader *r, Error *err) {
  if (r->at == r->filled && !refill(r, err)) return FAILED;
  return r->at < r->filled ? r->block[r->at] : END;
}

// Passes over a line end: \n, \r\n or \r.
static bool take_line_end(CsvReader *r, Error *err) {
  bool carriage = r->block[r->at++] == '\r';
  r->line++;
  if (!carriage) return true;
  int c = peek(r, err);
  if (c == '\n') r->at++;
  return c != FAILED;
}

static bool is_line_end(int c) {
  return c == '\n' || c == '\r';
}

static bool is_blank(int c) {
  return c == ' ' || c == '\t';
}

static bool add_byte(CsvReader *r, int c, Error *err) {
  if (c == 0)
    return nb_fail(err, NB_ERROR_FILE, "%s:%llu: text is expected, this line has a zero byte", r->path,
                   (unsigned long long)r->line);
  void *text = r->text;
  bool ok = nb_grow(&text, &r->text_size, r->used + 1, 1, err);
  r->text = text;
  if (ok) r->text[r->used++] = (char)c;
  return ok;
}

// ---- records ----

static bool begin_cell(CsvReader *r, Error *err) {
  void *cells = r->cells;
  bool ok = nb_grow(&cells, &r->cells_size, r->count + 1, sizeof *r->cells, err);
  r->cells = cells;
  if (ok) r->cells[r->count++] = r->used;
  return ok;
}

static bool end_cell(CsvReader *r, Error *err) {
  void *text = r->text;
  bool ok = nb_grow(&text, &r->text_size, r->used + 1, 1, err);
  r->text = text;
  if (ok) r->text[r->used++] = '\0';
  return ok;
}

static bool is_delimiter(const CsvReader *r, int c) {
  return r->options.delimiter == ' ' ? is_blank(c) : c == r->options.delimiter;
}

static bool skip_blanks(CsvReader *r, Error *err) {
  int c;
  while (is_blank(c = peek(r, err)) && c != r->options.delimiter) r->at++;
  return c != FAILED;
}

static bool read_quoted(CsvReader *r, Error *err) {
  uint64_t begin = r->line;
  r->at++;
  for (;;) {
    int c = peek(r, err);
    if (c == FAILED) return false;
    if (c == END)
      return nb_fail(err, NB_ERROR_FILE, "%s:%llu: the quoted field that begins here has no closing %c", r->path,
                     (unsigned long long)begin, r->options.quote);
    if (is_line_end(c)) {
      if (!take_line_end(r, err) || !add_byte(r, '\n', err)) return false;
      continue;
    }
    r->at++;
    if (c == r->options.quote) {
      if ((c = peek(r, err)) == FAILED) return false;
      if (c != r->options.quote) break;
      r->at++;
    }
    if (!add_byte(r, c, err)) return false;
  }
  if (!skip_blanks(r, err)) return false;
  int c = peek(r, err);
  if (c == END || is_line_end(c) || is_delimiter(r, c)) return true;
  return c != FAILED && nb_fail(err, NB_ERROR_FILE,
                                "%s:%llu: column %zu goes on after its closing %c; a quote inside "
                                "a quoted field is written twice",
                                r->path, (unsigned long long)r->line, r->count, r->options.quote);
}

static bool read_plain(CsvReader *r, Error *err) {
  size_t begin = r->used;
  int c;
  while ((c = peek(r, err)) >= 0 && !is_line_end(c) && !is_delimiter(r, c)) {
    r->at++;
    if (!add_byte(r, c, err)) return false;
  }
  while (r->used > begin && is_blank(r->text[r->used - 1])) r->used--;
  return c != FAILED;
}

bool nb_csv_record(CsvReader *r, bool *got, Error *err) {
  int c;
  r->used = r->count = 0;
  while (is_line_end(c = peek(r, err)) || (r->options.delimiter != '\t' && is_blank(c))) {
    if (!is_line_end(c))
      r->at++;
    else if (!take_line_end(r, err))
      return false;
  }
  *got = c >= 0;
  r->record_line = r->line;
  if (c < 0) return c == END;
  bool blanks = r->options.delimiter == ' ';
  for (;;) {
    if (!begin_cell(r, err) || !skip_blanks(r, err)) return false;
    c = peek(r, err);
    if (!(c >= 0 && r->options.quote && c == (unsigned char)r->options.quote ? read_quoted(r, err)
                                                                             : read_plain(r, err)) ||
        !end_cell(r, err))
      return false;
    while (blanks && is_blank(c = peek(r, err))) r->at++;
    if ((c = peek(r, err)) == FAILED) return false;
    if (c == END) return true;
    if (is_line_end(c)) return take_line_end(r, err);
    if (!blanks) r->at++;  // the delimiter
  }
}

// Fills the block, whose bytes from r->at on are kept.
static bool fill(CsvReader *r, Error *err) {
  if (r->at > 0) memmove(r->block, r->block + r->at, r->filled - r->at);
  r->filled -= r->at;
  r->at = 0;
  while (!r->ended && r->filled < r->block_size) {
    size_t got = 0;
    if (!nb_input_some(&r->in, r->block + r->filled, r->block_size - r->filled, &got, err)) return false;
    r->filled += got;
    r->ended = got == 0;
  }
  return true;
}

bool nb_csv_more(CsvReader *r, Error *err) {
  if (!r->ended && r->filled - r->at == r->block_size) {
    void *block = r->block;
    if (!nb_grow(&block, &r->block_size, r->block_size + 1, 1, err)) return false;
    r->block = block;
  }
  return fill(r, err);
}

// A text of other encodings has zero bytes where this one has letters of ASCII.
static bool is_utf16(const CsvReader *r) {
  const unsigned char *b = r->block;
  if (r->filled < 2) return false;
  if ((b[0] == 0xff && b[1] == 0xfe) || (b[0] == 0xfe && b[1] == 0xff)) return true;
  return r->filled >= 4 && ((b[0] && !b[1] && b[2] && !b[3]) || (!b[0] && b[1] && !b[2] && b[3]));
}

bool nb_csv_start(CsvReader *r, Error *err) {
  if (!(r->block = nb_alloc(FIRST_BLOCK, err))) return false;
  r->block_size = FIRST_BLOCK;
  if (!fill(r, err)) return false;
  if (is_utf16(r))
    return nb_fail(err, NB_ERROR_FILE, "%s is UTF-16; convert it, such as with iconv -f utf-16 -t utf-8", r->path);
  if (r->filled >= 3 && memcmp(r->block, "\xef\xbb\xbf", 3) == 0) r->at = 3;  // UTF-8's mark
  int c = 0;
  for (uint64_t n = 0; c != FAILED && n < r->options.skip; n++) {
    while ((c = peek(r, err)) >= 0 && !is_line_end(c)) r->at++;
    if (c >= 0 && !take_line_end(r, err)) return false;
  }
  return c != FAILED && fill(r, err);
}
