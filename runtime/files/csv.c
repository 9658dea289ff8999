// SPDX-License-Identifier: MIT
// CSV (RFC 4180, and what is met in its name): one pass over the bytes, a record at a time, into columns that grow.
//
//   5.1,3.5,setosa        text   5.1 \0 3.5 \0 setosa \0        the record's cells, one behind another
//                         cells  0      4      8                where each begins
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files_private.h"
#include "nablua/characters.h"
#include "nablua/memory.h"

enum { BLOCK = 1 << 18, CELL_TEXT = 60, END = -1, FAILED = -2 };

// Distinct texts by number, with a hash table of the numbers; `buckets` is a power of two.
struct CsvLabels {
  size_t count, starts_size, buckets, used, text_size;
  char *text;
  size_t *starts;   // in `text`
  uint32_t *table;  // number + 1; 0 is free
};

typedef struct CsvReader {
  Input in;
  CsvOptions options;
  CsvFile *file;
  unsigned char *block;
  size_t at, filled;
  uint64_t line;  // of the byte to come
  // the record
  uint64_t record_line;
  char *text;
  size_t text_size, used;
  size_t *cells;
  size_t cells_size, count;
  bool pending;      // the record is data that was read while opening
  int64_t capacity;  // rows that the columns have room for
} CsvReader;

// ---- bytes ----

static bool refill(CsvReader *r, Error *err) {
  r->at = 0;
  return nb_input_some(&r->in, r->block, BLOCK, &r->filled, err);
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
    return nb_fail(err, NB_ERROR_FILE, "%s:%llu: text is expected, this line has a zero byte", r->in.path,
                   (unsigned long long)r->line);
  if (r->used == r->text_size && !nb_grow(&r->text, &r->text_size, r->used + 1, 1, err)) return false;
  r->text[r->used++] = (char)c;
  return true;
}

// ---- records ----

static bool begin_cell(CsvReader *r, Error *err) {
  if (!nb_grow(&r->cells, &r->cells_size, r->count + 1, sizeof *r->cells, err)) return false;
  r->cells[r->count++] = r->used;
  return true;
}

static bool end_cell(CsvReader *r, Error *err) {
  if (!nb_grow(&r->text, &r->text_size, r->used + 1, 1, err)) return false;
  r->text[r->used++] = '\0';
  return true;
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
      return nb_fail(err, NB_ERROR_FILE, "%s:%llu: the quoted field that begins here has no closing %c", r->in.path,
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
                                r->in.path, (unsigned long long)r->line, r->count, r->options.quote);
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

// The next line that is not empty; *got tells whether there is one.
static bool next_record(CsvReader *r, bool *got, Error *err) {
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

static const char *cell(const CsvReader *r, size_t column) {
  return r->text + r->cells[column];
}

// ---- labels ----

static uint64_t hash_of(const char *text) {
  uint64_t h = 14695981039346656037u;  // FNV-1a
  for (; *text; text++) h = (h ^ (unsigned char)*text) * 1099511628211u;
  return h;
}

// Where the text stands in the table, or the free place where it would.
static size_t place_of(const CsvLabels *l, const char *text) {
  size_t i = (size_t)hash_of(text) & (l->buckets - 1);
  while (l->table[i] && strcmp(l->text + l->starts[l->table[i] - 1], text) != 0) i = (i + 1) & (l->buckets - 1);
  return i;
}

static bool more_buckets(CsvLabels *l, Error *err) {
  size_t before = l->buckets;
  uint32_t *old = l->table, *fresh = nb_alloc((before ? before * 2 : 64) * sizeof *fresh, err);
  if (!fresh) return false;
  l->buckets = before ? before * 2 : 64;
  l->table = fresh;
  memset(fresh, 0, l->buckets * sizeof *fresh);
  for (size_t k = 0; k < l->count; k++) fresh[place_of(l, l->text + l->starts[k])] = (uint32_t)k + 1;
  nb_free(old, before * sizeof *old);
  return true;
}

// The number of a label, from 1; 0 on failure.
static uint32_t label_number(CsvLabels *l, const char *text, Error *err) {
  size_t length = strlen(text) + 1;
  if (l->count + 1 > l->buckets / 2 && !more_buckets(l, err)) return 0;
  size_t place = place_of(l, text);
  if (l->table[place]) return l->table[place];
  if (!nb_grow(&l->starts, &l->starts_size, l->count + 1, sizeof *l->starts, err) ||
      !nb_grow(&l->text, &l->text_size, l->used + length, 1, err))
    return 0;
  memcpy(l->text + l->used, text, length);
  l->starts[l->count++] = l->used;
  l->used += length;
  return l->table[place] = (uint32_t)l->count;
}

size_t nb_csv_label_count(const CsvLabels *labels) {
  return labels->count;
}

const char *nb_csv_label(const CsvLabels *labels, size_t index) {
  return labels->text + labels->starts[index];
}

static void free_labels(CsvLabels *l) {
  if (!l) return;
  nb_free(l->text, l->text_size);
  nb_free(l->starts, l->starts_size * sizeof *l->starts);
  nb_free(l->table, l->buckets * sizeof *l->table);
  nb_free(l, sizeof *l);
}

// ---- values ----

// A text as messages may show it: shortened, without control characters.
static const char *shown(const char *text, char buffer[CELL_TEXT]) {
  int n = snprintf(buffer, CELL_TEXT, "%s", text);
  if (n >= CELL_TEXT) memcpy(buffer + CELL_TEXT - 4, "...", 4);
  for (char *c = buffer; *c; c++)
    if ((unsigned char)*c < 32 || *c == 127) *c = ' ';
  return buffer;
}

// A decimal number, whatever the locale; "inf" too, but no hexadecimal one.
static bool parse_number(const char *text, double *value) {
  static locale_t plain;
  char *end;
  if (!*text || text[strspn(text, "0123456789+-.eEinfINFtyTY")]) return false;
  if (!plain && !(plain = newlocale(LC_ALL_MASK, "C", (locale_t)0))) return false;
  *value = strtod_l(text, &end, plain);
  return !*end && !isnan(*value);
}

static bool is_missing(const CsvReader *r, const char *text) {
  for (size_t i = 0; i < r->options.missing_count; i++)
    if (strcmp(r->options.missing[i], text) == 0) return true;
  return false;
}

// "column 3 (age)"
static const char *column_text(const CsvReader *r, size_t column, char buffer[CELL_TEXT + 40]) {
  char name[CELL_TEXT];
  const char *given = r->file->columns[column].name;
  int n = snprintf(buffer, CELL_TEXT + 40, "column %zu", column + 1);
  if (given) snprintf(buffer + n, CELL_TEXT + 40 - (size_t)n, " (%s)", shown(given, name));
  return buffer;
}

static bool wrong_kind(const CsvReader *r, size_t column, const char *expected, Error *err) {
  char name[CELL_TEXT + 40], text[CELL_TEXT];
  uint64_t first = r->file->columns[column].first_value;
  nb_fail(err, NB_ERROR_FILE, "%s:%llu: %s should have %s", r->in.path, (unsigned long long)r->record_line,
          column_text(r, column, name), expected);
  if (first != r->record_line) nb_fail_more(err, " as in line %llu", (unsigned long long)first);
  return nb_fail_more(err, ", it has \"%s\"; if its values are labels, name it in categories",
                      shown(cell(r, column), text));
}

static bool label_value(CsvReader *r, size_t column, const char *text, double *value, Error *err) {
  char name[CELL_TEXT + 40];
  CsvColumn *c = &r->file->columns[column];
  if (!nb_utf8_valid(text, strlen(text)))
    return nb_fail(err, NB_ERROR_FILE,
                   "%s:%llu: %s is not UTF-8; convert the file, such as with iconv -f latin1 -t utf-8", r->in.path,
                   (unsigned long long)r->record_line, column_text(r, column, name));
  if (!c->labels) {
    if (!(c->labels = nb_alloc(sizeof *c->labels, err))) return false;
    memset(c->labels, 0, sizeof *c->labels);
  }
  *value = label_number(c->labels, text, err);
  return *value > 0;
}

// The value of a cell of the record; decides the kind of a column that has none.
static bool cell_value(CsvReader *r, size_t column, double *value, Error *err) {
  CsvColumn *c = &r->file->columns[column];
  const char *text = cell(r, column);
  if (is_missing(r, text)) {
    if (!c->first_missing) c->first_missing = r->record_line;
    *value = NAN;
    return true;
  }
  if (!c->first_value) c->first_value = r->record_line;
  bool number = c->kind != NB_CSV_TEXT && parse_number(text, value);
  if (c->kind == NB_CSV_NUMBER && !number) return wrong_kind(r, column, "a number", err);
  if (c->kind == NB_CSV_AUTO && c->labels && number) return wrong_kind(r, column, "text", err);
  if (number) c->kind = NB_CSV_NUMBER;
  if (number) return true;
  return label_value(r, column, text, value, err);
}

// ---- the table ----

static bool more_rows(CsvReader *r, Error *err) {
  CsvFile *f = r->file;
  int64_t capacity = r->capacity ? r->capacity * 2 : 256;
  Layout l = {.dtype = NB_F64, .ndim = 1, .shape = {capacity}};
  for (size_t i = 0; i < f->count; i++) {
    CsvColumn *c = &f->columns[i];
    if (c->kind == NB_CSV_SKIP) continue;
    Tensor *fresh = nb_tensor_new(&l, err);
    if (!fresh) return false;
    if (c->values) memcpy(nb_tensor_data(fresh), nb_tensor_data(c->values), (size_t)f->rows * sizeof(double));
    nb_tensor_release(&c->values);
    c->values = fresh;
  }
  r->capacity = capacity;
  return true;
}

static bool add_row(CsvReader *r, Error *err) {
  CsvFile *f = r->file;
  if (r->count != f->count) {
    nb_fail(err, NB_ERROR_FILE, "%s:%llu: a row should have %zu values, as the first line has; this one has %zu",
            r->in.path, (unsigned long long)r->record_line, f->count, r->count);
    return f->rows == 0 && r->options.header && nb_fail_more(err, "; a first line that holds no names can be skipped");
  }
  if (f->rows == r->capacity && !more_rows(r, err)) return false;
  for (size_t i = 0; i < f->count; i++) {
    CsvColumn *c = &f->columns[i];
    if (c->kind != NB_CSV_SKIP && !cell_value(r, i, (double *)nb_tensor_data(c->values) + f->rows, err)) return false;
  }
  f->rows++;
  return true;
}

// Of the delimiters that may be meant, the one that the first line has most of, outside quotes.
static bool find_delimiter(CsvReader *r, Error *err) {
  static const char candidates[] = ",;\t";
  size_t counts[3] = {0}, best = 0;
  bool quoted = false;
  if (peek(r, err) == FAILED) return false;
  for (size_t i = r->at; i < r->filled && (quoted || !is_line_end(r->block[i])); i++) {
    if (r->options.quote && r->block[i] == (unsigned char)r->options.quote) quoted = !quoted;
    for (size_t k = 0; !quoted && k < 3; k++) counts[k] += r->block[i] == (unsigned char)candidates[k];
  }
  for (size_t k = 1; k < 3; k++)
    if (counts[k] > counts[best]) best = k;
  r->options.delimiter = candidates[best];
  return true;
}

static bool skip_start(CsvReader *r, Error *err) {
  int c = peek(r, err);
  if (c == 0xef && r->filled >= 3 && memcmp(r->block, "\xef\xbb\xbf", 3) == 0) r->at = 3;  // UTF-8's mark
  if ((c == 0xff || c == 0xfe) && r->filled >= 2 && (r->block[1] == 0xfe || r->block[1] == 0xff))
    return nb_fail(err, NB_ERROR_FILE, "%s is UTF-16; convert it, such as with iconv -f utf-16 -t utf-8", r->in.path);
  for (uint64_t n = 0; c != FAILED && n < r->options.skip; n++) {
    while ((c = peek(r, err)) >= 0 && !is_line_end(c)) r->at++;
    if (c >= 0 && !take_line_end(r, err)) return false;
  }
  return c != FAILED;
}

// The columns, from the record that was read.
static bool make_columns(CsvReader *r, CsvFile *file, Error *err) {
  if (!(file->columns = nb_alloc(r->count * sizeof *file->columns, err))) return false;
  memset(file->columns, 0, r->count * sizeof *file->columns);
  file->count = r->count;
  for (size_t i = 0; r->options.header && i < r->count; i++) {
    size_t length = strlen(cell(r, i)) + 1;
    if (!nb_utf8_valid(cell(r, i), strlen(cell(r, i))))
      return nb_fail(err, NB_ERROR_FILE,
                     "%s:%llu: the name of column %zu is not UTF-8; convert the file, such as with "
                     "iconv -f latin1 -t utf-8",
                     r->in.path, (unsigned long long)r->record_line, i + 1);
    char *name = nb_alloc(length, err);
    if (!name) return false;
    memcpy(name, cell(r, i), length);
    file->columns[i].name = name;
  }
  r->pending = !r->options.header;
  return true;
}

bool nb_csv_open(const char *path, const CsvOptions *options, CsvFile *file, Error *err) {
  bool got = false;
  *file = (CsvFile){0};
  CsvReader *r = nb_alloc(sizeof *r, err);
  if (!r) return false;
  *r = (CsvReader){.options = *options, .file = file, .line = 1, .in.fd = -1};
  file->reader = r;
  bool ok = nb_input_open(&r->in, path, err) && nb_input_unpack(&r->in, err) && (r->block = nb_alloc(BLOCK, err)) &&
            skip_start(r, err) && (r->options.delimiter || find_delimiter(r, err)) && next_record(r, &got, err);
  if (ok && !got)
    ok = nb_fail(err, NB_ERROR_FILE, "%s should have a line of %s, it is empty%s", path,
                 options->header ? "column names" : "values", options->skip ? " after the lines that are skipped" : "");
  ok = ok && make_columns(r, file, err);
  if (!ok) nb_csv_close(file);
  return ok;
}

bool nb_csv_read(CsvFile *file, Error *err) {
  CsvReader *r = file->reader;
  bool got = true;
  while (got) {
    if (!r->pending && !next_record(r, &got, err)) return false;
    r->pending = false;
    if (got && !add_row(r, err)) return false;
  }
  if (!r->capacity && !more_rows(r, err)) return false;
  for (size_t i = 0; i < file->count; i++) {
    CsvColumn *c = &file->columns[i];
    if (c->values) c->values->layout.shape[0] = file->rows;
    if (c->kind == NB_CSV_AUTO) c->kind = c->labels ? NB_CSV_TEXT : NB_CSV_NUMBER;
  }
  return true;
}

void nb_csv_close(CsvFile *file) {
  CsvReader *r = file->reader;
  for (size_t i = 0; i < file->count; i++) {
    CsvColumn *c = &file->columns[i];
    if (c->name) nb_free((void *)(uintptr_t)c->name, strlen(c->name) + 1);
    nb_tensor_release(&c->values);
    free_labels(c->labels);
  }
  nb_free(file->columns, file->count * sizeof *file->columns);
  if (r) {
    nb_input_close(&r->in);
    nb_free(r->block, BLOCK);
    nb_free(r->text, r->text_size);
    nb_free(r->cells, r->cells_size * sizeof *r->cells);
    nb_free(r, sizeof *r);
  }
  *file = (CsvFile){0};
}
