// SPDX-License-Identifier: MIT
// What the parts of the CSV reader share: records, labels, ways of writing numbers, the sample that is looked at first.
//
//   5.1,3.5,setosa        text   5.1 \0 3.5 \0 setosa \0        the record's cells, one behind another
//                         cells  0      4      8                where each begins
#ifndef NABLUA_CSV_PRIVATE_H
#define NABLUA_CSV_PRIVATE_H

#include "files_private.h"

enum { CSV_FORMS = 12, CSV_PERCENT = 16, CSV_CELL_TEXT = 80 };

typedef struct CsvReader {
  Input in;
  CsvOptions options;
  CsvFile *file;
  char *path;  // as messages show it
  size_t path_size;
  CsvForm forms[CSV_FORMS];  // the ways of writing numbers that are looked for
  unsigned form_count;
  unsigned char *block;
  size_t block_size, at, filled;
  uint64_t line;  // of the byte to come
  // while the beginning is looked at, nothing more is read
  bool sampling, ended, cut;
  // the record
  uint64_t record_line;
  char *text;
  size_t text_size, used;
  size_t *cells;
  size_t cells_size, count;
  bool begun;           // something was read
  bool pending;         // the record is data that was read while opening
  uint64_t width_line;  // of the record that tells the number of cells
  int64_t capacity;     // rows that the columns have room for
} CsvReader;

// ---- records ----

// Passes over the mark of UTF-8 and the lines to skip; other encodings are refused.
bool nb_csv_start(CsvReader *r, Error *err);

// Reads on without forgetting what was read: twice the bytes from the beginning.
bool nb_csv_more(CsvReader *r, Error *err);

// The next line that is not empty; *got tells whether there is one.
bool nb_csv_record(CsvReader *r, bool *got, Error *err);

static inline const char *nb_csv_cell(const CsvReader *r, size_t column) {
  return r->text + r->cells[column];
}

// ---- numbers ----

// Chooses the ways of writing numbers that the options leave open.
void nb_csv_choose_forms(CsvReader *r);

// Reads a number written in this way; *percent tells whether a percent sign followed (50 % is 0.5), *typographic
// whether its sign is a dash of print.
bool nb_csv_number(const char *text, const CsvForm *form, double *value, bool *percent, bool *typographic);

// The ways in which a text is a number, bit by bit; with a percent sign CSV_PERCENT higher.  0: it is none.
uint32_t nb_csv_look(const CsvReader *r, const char *text);

// Takes for a column the likeliest of such ways.
void nb_csv_take_form(const CsvReader *r, CsvColumn *c, uint32_t look);

// Whether another of these ways than the column's reads another number from the text.
bool nb_csv_doubtful(const CsvReader *r, const CsvColumn *c, uint32_t look, const char *text);

// How missing values are written, as the options have it; and in other places, among numbers.
bool nb_csv_missing(const CsvReader *r, const char *text);
bool nb_csv_dash(const char *text);

// ---- labels ----

// The number of a label, from 1; 0 on failure.
uint32_t nb_csv_label_number(CsvLabels *l, const char *text, Error *err);
uint32_t nb_csv_label_find(const CsvLabels *l, const char *text);  // the same of one that is there; 0: it is not
void nb_csv_labels_free(CsvLabels *l);
bool nb_csv_labels_new(CsvLabels **l, Error *err);

// ---- the sample ----

// Looks at the first lines: what separates cells, whether names come first, how numbers are written.  Makes the file's
// columns and stands before the first line afterwards.
bool nb_csv_guess(CsvReader *r, Error *err);

#endif
