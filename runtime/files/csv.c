// SPDX-License-Identifier: MIT
// CSV as columns: the records' cells become numbers and labels.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "csv_private.h"
#include "nablua/characters.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"
#include "nablua/printable.h"

enum { MANY_TEXTS = 16 };  // after which a column holds labels, even if one looks like a number

// ---- values ----

// "column 3 (age)"; names of rows, which have no heading, count for none.
static const char *column_text(const CsvReader *r, size_t column, char buffer[CSV_CELL_TEXT + 40]) {
  char name[CSV_CELL_TEXT];
  const char *given = r->file->columns[column].name;
  size_t rows = r->file->row_names;
  if (column < rows) return "the column of row names";
  int n = snprintf(buffer, CSV_CELL_TEXT + 40, "column %zu", column + 1 - rows);
  if (given) snprintf(buffer + n, CSV_CELL_TEXT + 40 - (size_t)n, " (%s)", nb_printable(given, name, sizeof name));
  return buffer;
}

static bool wrong_kind(const CsvReader *r, size_t column, const char *expected, Error *err) {
  char name[CSV_CELL_TEXT + 40], text[CSV_CELL_TEXT];
  const CsvColumn *c = &r->file->columns[column];
  nb_fail(err, NB_ERROR_FILE, "%s:%llu: %s should have %s", r->path, (unsigned long long)r->record_line,
          column_text(r, column, name), expected);
  if (c->first_value != r->record_line) nb_fail_more(err, " as in line %llu", (unsigned long long)c->first_value);
  nb_fail_more(err, ", it has \"%s\"", nb_printable(nb_csv_cell(r, column), text, sizeof text));
  uint32_t look = nb_csv_look(r, nb_csv_cell(r, column));
  if (c->labels || !look) return nb_fail_more(err, "; if its values are labels, name it in categories");
  if (!c->percent != !(look >> CSV_PERCENT))
    return nb_fail_more(err, "; a column has a percent sign everywhere or nowhere, unless categories names it");
  return nb_fail_more(err, "; thousands= and decimal= tell how numbers are written, such as thousands=\",\"");
}

static bool unknown_label(const CsvReader *r, size_t column, Error *err) {
  char name[CSV_CELL_TEXT + 40], text[CSV_CELL_TEXT];
  const CsvFile *f = r->file;
  nb_fail(err, NB_ERROR_FILE, "%s:%llu: %s has the label \"%s\", which ", r->path, (unsigned long long)r->record_line,
          column_text(r, column, name), nb_printable(nb_csv_cell(r, column), text, sizeof text));
  if (f->columns[column].given) return nb_fail_more(err, "is not among those given");
  return nb_fail_more(err,
                      "no line up to %llu has; scan=true looks for all labels first, and categories= with a list of "
                      "them needs no look",
                      (unsigned long long)f->known_to);
}

static bool label_value(CsvReader *r, size_t column, const char *text, double *value, Error *err) {
  char name[CSV_CELL_TEXT + 40];
  CsvColumn *c = &r->file->columns[column];
  if (!nb_utf8_valid(text, strlen(text)))
    return nb_fail(err, NB_ERROR_FILE,
                   "%s:%llu: %s is not UTF-8; convert the file, such as with iconv -f latin1 -t utf-8", r->path,
                   (unsigned long long)r->record_line, column_text(r, column, name));
  if (!c->labels && !nb_csv_labels_new(&c->labels, err)) return false;
  c->texts++;
  if (c->closed) {
    *value = nb_csv_label_find(c->labels, text);
    return *value > 0 || unknown_label(r, column, err);
  }
  *value = nb_csv_label_number(c->labels, text, err);
  return *value > 0;
}

static bool number_value(CsvReader *r, size_t column, double *value, Error *err) {
  CsvColumn *c = &r->file->columns[column];
  const char *text = nb_csv_cell(r, column);
  bool percent, typographic;
  if (!nb_csv_number(text, &c->form, value, &percent, &typographic) || percent != c->percent)
    return wrong_kind(r, column, "a number", err);
  c->typographic += typographic;
  return true;
}

// The kind of a column, by its first value; among many labels one may look like a number.
static bool decide_kind(CsvReader *r, size_t column, Error *err) {
  CsvColumn *c = &r->file->columns[column];
  const char *text = nb_csv_cell(r, column);
  uint32_t look = c->form_known ? 0 : nb_csv_look(r, text);
  if (!c->labels && look) {
    nb_csv_take_form(r, c, look);
    c->doubtful = !(look & 1) && nb_csv_doubtful(r, c, look, text);
  }
  if (!c->labels && c->form_known) c->kind = NB_CSV_NUMBER;
  if (!c->labels || !look) return true;
  if (c->texts < MANY_TEXTS) return wrong_kind(r, column, "text", err);
  if (!c->numeric++) c->first_numeric = r->record_line;
  return true;
}

static bool cell_value(CsvReader *r, size_t column, double *value, Error *err) {
  CsvColumn *c = &r->file->columns[column];
  const char *text = nb_csv_cell(r, column);
  bool names_row = r->file->row_names && column == 0,
       dash = c->form_known && (c->kind == NB_CSV_AUTO || c->kind == NB_CSV_NUMBER) && nb_csv_dash(text);
  if (dash || (!names_row && nb_csv_missing(r, text))) {
    if (!c->first_missing) c->first_missing = r->record_line;
    c->missing++;
    c->dashes += dash;
    *value = NAN;
    return true;
  }
  if (!c->first_value) c->first_value = r->record_line;
  if (c->kind == NB_CSV_AUTO && !decide_kind(r, column, err)) return false;
  if (c->kind == NB_CSV_NUMBER && !c->form_known) nb_csv_take_form(r, c, nb_csv_look(r, text));
  return c->kind == NB_CSV_NUMBER ? number_value(r, column, value, err) : label_value(r, column, text, value, err);
}

// ---- the table ----

static bool more_rows(CsvReader *r, Error *err) {
  CsvFile *f = r->file;
  int64_t capacity = r->capacity ? r->capacity * 2 : 16;
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
  bool trails = f->trailing && r->count == f->count + 1 && !*nb_csv_cell(r, f->count);
  if (r->count != f->count && !trails) {
    nb_fail(err, NB_ERROR_FILE, "%s:%llu: a row should have %zu values, as ", r->path,
            (unsigned long long)r->record_line, f->count);
    if (r->width_line)
      nb_fail_more(err, "line %llu has; this one has %zu", (unsigned long long)r->width_line, r->count);
    else
      nb_fail_more(err, "the first line has; this one has %zu", r->count);
    return f->rows <= (f->heading == NB_CSV_DATA) &&
           nb_fail_more(err, "; first lines that hold neither names nor values can be skipped: skip=1");
  }
  if (f->rows == r->capacity && !more_rows(r, err)) return false;
  for (size_t i = 0; i < f->count; i++) {
    CsvColumn *c = &f->columns[i];
    if (c->kind != NB_CSV_SKIP && !cell_value(r, i, (double *)nb_tensor_data(c->values) + f->rows, err)) return false;
  }
  f->rows++;
  return true;
}

// The path as messages show it.
static bool keep_path(CsvReader *r, const char *path, Error *err) {
  r->path_size = 10 * strlen(path) + 8;  // the longest escape has ten characters
  if (!(r->path = nb_alloc(r->path_size, err))) return false;
  nb_printable(path, r->path, r->path_size);
  return true;
}

// Reads the heading, or the first line of values.
static bool first_record(CsvReader *r, Error *err) {
  bool got = false;
  if (!nb_csv_record(r, &got, err)) return false;
  if (got) return true;
  return nb_fail(err, NB_ERROR_FILE, "%s should have a line of %s, it is empty%s", r->path,
                 r->options.heading == NB_CSV_DATA ? "values" : "column names",
                 r->options.skip ? " after the lines that are skipped" : "");
}

bool nb_csv_open(const char *path, const CsvOptions *options, CsvFile *file, Error *err) {
  *file = (CsvFile){0};
  CsvReader *r = nb_alloc(sizeof *r, err);
  if (!r) return false;
  *r = (CsvReader){.options = *options, .file = file, .line = 1, .in.fd = -1};
  file->reader = r;
  bool ok = keep_path(r, path, err) && nb_input_open(&r->in, path, err);
  if (ok) r->in.path = r->path;
  ok = ok && nb_input_unpack(&r->in, err) && nb_csv_start(r, err) && nb_csv_guess(r, err) && first_record(r, err);
  if (!ok) nb_csv_close(file);
  return ok;
}

// A piece has values of its own, and what is counted of them; rows' names are forgotten.
static void begin_piece(CsvFile *f) {
  CsvReader *r = f->reader;
  f->rows = r->capacity = 0;
  for (size_t i = 0; i < f->count; i++) {
    CsvColumn *c = &f->columns[i];
    nb_tensor_release(&c->values);
    c->missing = 0;
    c->first_missing = 0;
  }
  if (f->row_names) {
    nb_csv_labels_free(f->columns[0].labels);
    f->columns[0].labels = NULL;
  }
  r->pending = !r->begun && f->heading == NB_CSV_DATA;
}

// What was seen of the columns holds from here on.
static void end_piece(CsvFile *f, bool closes) {
  CsvReader *r = f->reader;
  if (!r->begun) f->known_to = r->record_line;
  r->begun = true;
  for (size_t i = 0; i < f->count; i++) {
    CsvColumn *c = &f->columns[i];
    if (c->values) c->values->layout.shape[0] = f->rows;
    if (c->kind == NB_CSV_AUTO) c->kind = c->labels ? NB_CSV_TEXT : NB_CSV_NUMBER;
    if (closes && c->labels && !(f->row_names && i == 0)) c->closed = true;
  }
}

bool nb_csv_read_some(CsvFile *file, int64_t most, bool closes, Error *err) {
  CsvReader *r = file->reader;
  bool got = true;
  begin_piece(file);
  while (got && file->rows < most) {
    if (!nb_poll(err) || (!r->pending && !nb_csv_record(r, &got, err))) return false;
    r->pending = false;
    if (got && !add_row(r, err)) return false;
  }
  if (!r->capacity && !more_rows(r, err)) return false;
  end_piece(file, closes);
  return true;
}

bool nb_csv_read(CsvFile *file, Error *err) {
  return nb_csv_read_some(file, INT64_MAX, false, err);
}

void nb_csv_close(CsvFile *file) {
  CsvReader *r = file->reader;
  for (size_t i = 0; i < file->count; i++) {
    CsvColumn *c = &file->columns[i];
    if (c->name) nb_free((void *)(uintptr_t)c->name, strlen(c->name) + 1);
    nb_tensor_release(&c->values);
    nb_csv_labels_free(c->labels);
  }
  nb_free(file->columns, file->count * sizeof *file->columns);
  if (r) {
    nb_input_close(&r->in);
    nb_free(r->block, r->block_size);
    nb_free(r->text, r->text_size);
    nb_free(r->cells, r->cells_size * sizeof *r->cells);
    nb_free(r->path, r->path_size);
    nb_free(r, sizeof *r);
  }
  *file = (CsvFile){0};
}
