// SPDX-License-Identifier: MIT
// What the first lines of a CSV file tell before it is read: what separates cells, whether names come first, whether
// rows have names, how numbers are written.
#include <stdlib.h>
#include <string.h>

#include "csv_private.h"
#include "nablua/characters.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"

enum { RECORDS = 1000, ENOUGH = 16, LARGEST_BLOCK = 1 << 25 };

// What is known of a column: the ways in which all of its values, and the first of them, are numbers.
typedef struct Seen {
  uint32_t all, first;
  int64_t numbers, texts;
  uint32_t heading;                    // the look of the first line's cell,
  bool heading_text, heading_missing;  // which is no number, or nothing
  bool recurs;                         // and which comes again below
  bool fraction;                       // some value is no plain whole number
  bool point;                          // and has a point
} Seen;

typedef struct Sample {
  CsvReader *r;
  uint64_t line;
  // the first line
  char *text;
  size_t text_size;
  size_t *cells;
  size_t first_count;
  uint64_t first_line;
  // those below
  size_t width;  // cells of the second line
  int64_t records, ragged;
  uint64_t width_line;
  Seen *seen;
  CsvLabels *row_names;
} Sample;

// Calls `visit` for the records of the beginning; false on failure.  A line that cannot be read ends it: reading will
// say so.
static bool each_record(Sample *s, int64_t most, bool (*visit)(Sample *, int64_t, Error *), int64_t *count,
                        Error *err) {
  CsvReader *r = s->r;
  bool ok = true, got = true;
  r->sampling = true;
  r->at = 0;
  r->line = s->line;
  *count = 0;
  while (*count < most) {
    r->cut = false;
    if (!nb_poll(err) || !nb_csv_record(r, &got, err)) {
      ok = err->kind == NB_ERROR_FILE;
      break;
    }
    if (!got || r->cut) break;
    if (visit && !(ok = visit(s, *count, err))) break;
    ++*count;
  }
  r->sampling = false;
  r->at = 0;
  r->line = s->line;
  return ok;
}

// ---- what separates cells ----

typedef struct Delimiter {
  Sample base;
  size_t first, width;
  int64_t cells, numbers, ragged;
  uint64_t blank_columns;  // bit by bit, of the first 64: all below the first line are numbers
} Delimiter;

static bool count_cells(Sample *s, int64_t index, Error *err) {
  (void)err;
  Delimiter *d = (Delimiter *)s;
  const CsvReader *r = s->r;
  if (index == 0) d->first = r->count;
  if (index <= 1) d->width = r->count;
  d->ragged += r->count != d->width;
  for (size_t i = 0; i < r->count; i++) {
    bool number = nb_csv_look(r, nb_csv_cell(r, i)) != 0 || nb_csv_missing(r, nb_csv_cell(r, i));
    d->cells++;
    d->numbers += number;
    if (index > 0 && i < 64 && !number) d->blank_columns &= ~((uint64_t)1 << i);
  }
  return true;
}

static bool try_delimiter(Sample *s, char delimiter, int64_t most, Delimiter *d, int64_t *records, Error *err) {
  *d = (Delimiter){.base = *s, .blank_columns = ~(uint64_t)0};
  s->r->options.delimiter = delimiter;
  return each_record(&d->base, most, count_cells, records, err);
}

// Cells between blanks: lines of as many, at least two, of which some column holds numbers; where rows have names,
// another than those.
static bool parted_by_blanks(const Delimiter *d, int64_t records) {
  if (d->width < 2 || d->ragged > 0) return false;
  if (records == 1) return d->numbers == d->cells;
  uint64_t columns = d->width >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << d->width) - 1;
  if (d->first + 1 == d->width) return (d->blank_columns & columns & ~(uint64_t)1) != 0;
  return d->first == d->width && (d->blank_columns & columns) != 0;
}

// Of the delimiters that the first line has: the one that parts all lines alike, and the most numbers.
static bool find_delimiter(Sample *s, Error *err) {
  static const char candidates[] = ",;\t|";
  CsvReader *r = s->r;
  Delimiter best = {0}, d;
  char delimiter = 0, there[sizeof candidates] = "", *next = there;
  int64_t records, most = r->block_size > 1 << 20 ? 8 : 50;
  for (const char *c = candidates; *c; c++)
    if (*c != r->options.decimal && memchr(r->block, *c, r->filled)) *next++ = *c;
  for (const char *c = there; *c; c++) {
    if (!try_delimiter(s, *c, there[1] ? most : 2, &d, &records, err)) return false;
    if (d.first < 2 && d.width < 2) continue;
    double share = (double)d.numbers / (double)(d.cells + 1);
    double before = (double)best.numbers / (double)(best.cells + 1);
    bool better = (d.ragged == 0) != (best.ragged == 0) ? d.ragged == 0
                  : share != before                     ? share > before
                                                        : d.width > best.width;
    if (!delimiter || better) {
      best = d;
      delimiter = *c;
    }
  }
  if (!delimiter) {
    if (!try_delimiter(s, ' ', most, &d, &records, err)) return false;
    delimiter = parted_by_blanks(&d, records) ? ' ' : r->options.decimal == ',' ? ';' : ',';
  }
  r->options.delimiter = delimiter;
  return true;
}

// ---- what the columns hold ----

static bool keep_first(Sample *s, Error *err) {
  const CsvReader *r = s->r;
  s->first_count = s->width = r->count;
  s->first_line = s->width_line = r->record_line;
  if (!(s->text = nb_alloc(r->used, err))) return false;
  s->text_size = r->used;
  if (!(s->cells = nb_alloc(r->count * sizeof *s->cells, err))) return false;
  memcpy(s->text, r->text, r->used);
  memcpy(s->cells, r->cells, r->count * sizeof *s->cells);
  return true;
}

static bool make_seen(Sample *s, Error *err) {
  size_t bytes = s->width * sizeof *s->seen;
  if (!(s->seen = nb_alloc(bytes, err))) return false;
  memset(s->seen, 0, bytes);
  for (size_t i = 0; i < s->width; i++) {
    Seen *c = &s->seen[i];
    const char *text = i < s->first_count ? s->text + s->cells[i] : "";
    c->all = ~(uint32_t)0;
    c->heading = nb_csv_look(s->r, text);
    c->heading_missing = nb_csv_missing(s->r, text);
    c->heading_text = !c->heading && !c->heading_missing;
  }
  return true;
}

static void see(const CsvReader *r, Seen *c, const char *text) {
  if (nb_csv_missing(r, text)) return;
  uint32_t look = nb_csv_look(r, text);
  if (!look && nb_csv_dash(text)) return;
  if (c->numbers + c->texts == 0) c->first = look;
  c->all &= look;
  c->numbers += look != 0;
  c->texts += look == 0;
  c->fraction = c->fraction || (look && text[strspn(text, "0123456789+-")]);
  c->point = c->point || (look && strchr(text, '.'));
}

static bool look_at_record(Sample *s, int64_t index, Error *err) {
  const CsvReader *r = s->r;
  if (index == 0) return keep_first(s, err);
  if (index == 1) {
    s->width = r->count;
    s->width_line = r->record_line;
    if (!make_seen(s, err)) return false;
  }
  s->records++;
  s->ragged += r->count != s->width;
  for (size_t i = 0; i < s->width && i < r->count; i++) {
    const char *text = nb_csv_cell(r, i);
    see(r, &s->seen[i], text);
    s->seen[i].recurs = s->seen[i].recurs || (i < s->first_count && strcmp(text, s->text + s->cells[i]) == 0);
  }
  return !s->row_names || r->count == 0 || nb_csv_label_number(s->row_names, nb_csv_cell(r, 0), err) > 0;
}

// ---- the heading ----

static bool is_whole(const char *text) {
  return *text && !text[strspn(text, "0123456789")];
}

// "150,4,setosa,versicolor,virginica" above rows of 4 numbers and a class.
static bool is_counts(const Sample *s) {
  if (s->records == 0 || s->first_count < 2) return false;
  for (size_t i = 0; i < 2; i++)
    if (!is_whole(s->text + s->cells[i])) return false;
  for (size_t i = 2; i < s->first_count; i++)
    if (nb_csv_look(s->r, s->text + s->cells[i]) || !s->text[s->cells[i]]) return false;
  size_t features = strtoull(s->text + s->cells[1], NULL, 10);
  return s->width == features + 1 && s->width > 2 && (s->first_count != s->width || s->first_count > 2);
}

// How the first line's numbers follow each other.
typedef struct Steps {
  bool rising;  // from cell to cell, as years and quantiles that are names do
  bool years;   // each by 1, or all of them years
} Steps;

static Steps steps_of(const Sample *s) {
  double before = 0;
  size_t count = 0;
  bool rising = true, by_one = true, years = true, shares = true;
  for (size_t i = 0; i < s->first_count && i < s->width; i++) {
    if (!s->seen[i].heading) continue;
    double value = strtod(s->text + s->cells[i], NULL);
    rising = rising && (count == 0 || value > before);
    by_one = by_one && (count == 0 || value == before + 1);
    years = years && value >= 1500 && value <= 2100;
    shares = shares && value > 0 && value < 1;
    before = value;
    count++;
  }
  years = rising && count > 0 && (years || (by_one && count > 1));
  return (Steps){years || (rising && count > 0 && (count > 2 || shares)), years};
}

typedef struct Votes {
  size_t names, data, numbers, texts, missing, recurring, fractions;
} Votes;

static Votes count_votes(const Sample *s) {
  Votes v = {0};
  for (size_t i = 0; i < s->width; i++) {
    const Seen *c = &s->seen[i];
    bool numeric = c->numbers > 0 && c->texts == 0;
    v.numbers += c->heading != 0;
    v.texts += c->heading_text;
    v.missing += c->heading_missing;
    v.names += c->heading_text && numeric && !nb_csv_dash(s->text + s->cells[i]);
    v.data += c->heading != 0 && numeric;
    v.recurring += c->heading_text && c->recurs;
    v.fractions += c->heading != 0 && !is_whole(s->text + s->cells[i]);
  }
  return v;
}

// Names or data, where the first line is as long as the others.
static CsvHeading heading_of(const Sample *s, bool *doubtful) {
  Steps steps = steps_of(s);
  Votes v = count_votes(s);
  if (v.texts == 0) {
    // ",0,1,2": pandas' numbers of columns above numbers of rows.
    bool numbered = v.missing == 1 && !s->text[s->cells[0]] && steps.years && v.numbers > 1 &&
                    is_whole(s->text + s->cells[1]) && s->seen[0].numbers > 0 && !s->seen[0].fraction;
    *doubtful = numbered || (steps.rising && v.numbers > 2 && v.fractions == 0);
    return numbered ? NB_CSV_NAMES : NB_CSV_DATA;
  }
  if (v.names > 0) {
    bool data = v.data > v.names && !steps.rising;
    *doubtful = v.data > 0 && !steps.years && (data || v.fractions > 0);
    return data ? NB_CSV_DATA : NB_CSV_NAMES;
  }
  if (v.data > 0) {
    *doubtful = !steps.years && v.recurring == 0 && v.fractions == 0;
    return steps.years && v.recurring == 0 ? NB_CSV_NAMES : NB_CSV_DATA;
  }
  *doubtful = v.recurring > 0;
  return v.recurring > 0 && v.recurring * 2 >= v.texts ? NB_CSV_DATA : NB_CSV_NAMES;
}

static void decide_heading(Sample *s) {
  CsvReader *r = s->r;
  CsvFile *f = r->file;
  f->heading = r->options.heading;
  bool names = s->records > 0 && s->first_count > 0;
  for (size_t i = 0; i < s->first_count; i++) names = names && !nb_csv_look(r, s->text + s->cells[i]);
  if (f->heading != NB_CSV_GUESS) {
    f->doubtful = false;
  } else if (is_counts(s)) {
    f->heading = NB_CSV_COUNTS;
    f->announced = strtoll(s->text + s->cells[0], NULL, 10);
  } else if (s->first_count == s->width) {
    f->heading = heading_of(s, &f->doubtful);
  } else {
    f->heading = names ? NB_CSV_NAMES : NB_CSV_DATA;
  }
  if (f->heading != NB_CSV_NAMES || s->records == 0) return;
  bool empty = s->seen[s->width - 1].numbers + s->seen[s->width - 1].texts == 0;
  if (s->first_count + 1 == s->width) {
    f->trailing = empty;
    f->row_names = !empty;
  } else if (s->first_count == s->width && s->width > 1 && !s->text[s->cells[0]]) {
    f->row_names = !s->seen[0].fraction && s->ragged == 0 && s->row_names &&
                   nb_csv_label_count(s->row_names) == (size_t)s->records;
  }
}

// ---- the columns ----

static bool make_columns(Sample *s, Error *err) {
  CsvReader *r = s->r;
  CsvFile *f = r->file;
  bool wide = f->heading == NB_CSV_COUNTS || f->row_names;
  size_t count = wide ? s->width : s->first_count, unnamed = f->row_names && s->first_count + 1 == s->width;
  r->width_line = wide ? s->width_line : 0;
  f->columns = nb_alloc(count * sizeof *f->columns, err);
  if (!f->columns) return false;
  memset(f->columns, 0, count * sizeof *f->columns);
  f->count = count;
  for (size_t i = unnamed; f->heading == NB_CSV_NAMES && i < count; i++) {
    const char *given = s->text + s->cells[i - unnamed];
    if (!nb_utf8_valid(given, strlen(given)))
      return nb_fail(err, NB_ERROR_FILE,
                     "%s:%llu: the name of column %zu is not UTF-8; convert the file, such as with "
                     "iconv -f latin1 -t utf-8",
                     r->path, (unsigned long long)s->first_line, i + 1);
    char *name = nb_alloc(strlen(given) + 1, err);
    if (!name) return false;
    memcpy(name, given, strlen(given) + 1);
    f->columns[i].name = name;
  }
  if (f->row_names) f->columns[0].kind = NB_CSV_TEXT;
  return true;
}

static bool is_plain(const CsvReader *r, const CsvColumn *c) {
  return memcmp(&c->form, &r->forms[0], sizeof c->form) == 0;
}

// Whether a number of the record is another one when written otherwise.
static bool look_for_doubt(Sample *s, int64_t index, Error *err) {
  (void)err;
  const CsvReader *r = s->r;
  CsvFile *f = r->file;
  if ((index == 0 && f->heading != NB_CSV_DATA) || r->count != f->count) return true;
  for (size_t i = 0; i < f->count && i < s->width; i++) {
    CsvColumn *c = &f->columns[i];
    if (c->form_known && !c->doubtful && !is_plain(r, c))
      c->doubtful = nb_csv_doubtful(r, c, s->seen[i].all, nb_csv_cell(r, i));
  }
  return true;
}

// The way of writing that some column shows beyond doubt, other than the plain one; NULL when there is none.
static const CsvForm *certain_form(const CsvReader *r) {
  for (size_t i = 0; i < r->file->count; i++) {
    const CsvColumn *c = &r->file->columns[i];
    if (c->form_known && !c->doubtful && !is_plain(r, c)) return &c->form;
  }
  return NULL;
}

// Among columns that may be written in several ways the file's other columns decide.  Of a plain "1.500" there is a
// doubt only where others have decimal commas.
static void settle_doubts(Sample *s) {
  const CsvReader *r = s->r;
  const CsvForm *sure = certain_form(r);
  for (size_t i = 0; sure && i < r->file->count && i < s->width; i++) {
    CsvColumn *c = &r->file->columns[i];
    const Seen *seen = &s->seen[i];
    if (!c->form_known || (is_plain(r, c) ? sure->decimal == '.' || !seen->point : !c->doubtful)) continue;
    uint32_t look = c->percent ? seen->all >> CSV_PERCENT : seen->all;
    for (unsigned k = 0; k < r->form_count; k++) {
      if (!(look >> k & 1) || r->forms[k].decimal != sure->decimal) continue;
      c->doubtful = is_plain(r, c);
      c->form = r->forms[k];
      break;
    }
  }
}

static bool decide_forms(Sample *s, Error *err) {
  CsvReader *r = s->r;
  CsvFile *f = r->file;
  int64_t count;
  bool several = false;
  for (size_t i = 0; i < f->count && i < s->width; i++) {
    Seen *c = &s->seen[i];
    if (f->heading == NB_CSV_DATA && i < s->first_count) {
      see(r, c, s->text + s->cells[i]);
      if (!c->heading_missing && !nb_csv_dash(s->text + s->cells[i])) c->first = c->heading;
    }
    if (c->numbers == 0 || !c->first) continue;
    nb_csv_take_form(r, &f->columns[i], c->all ? c->all : c->first);
    several = several || !is_plain(r, &f->columns[i]);
  }
  if (r->form_count < 2 || !several) return true;
  if (!each_record(s, RECORDS, look_for_doubt, &count, err)) return false;
  settle_doubts(s);
  return true;
}

static void end_sample(Sample *s) {
  if (s->text) nb_free(s->text, s->text_size);
  if (s->cells) nb_free(s->cells, s->first_count * sizeof *s->cells);
  if (s->seen) nb_free(s->seen, s->width * sizeof *s->seen);
  nb_csv_labels_free(s->row_names);
}

bool nb_csv_guess(CsvReader *r, Error *err) {
  Sample s = {.r = r, .line = r->line};
  int64_t count = 0;
  bool found = r->options.delimiter != 0;
  if (!found) r->options.delimiter = ',';
  do {
    if (!nb_csv_more(r, err) || !each_record(&s, ENOUGH, NULL, &count, err)) return false;
  } while (!r->ended && r->cut && count < ENOUGH && (count == 0 || r->block_size < LARGEST_BLOCK));
  nb_csv_choose_forms(r);
  bool ok = (found || find_delimiter(&s, err)) && nb_csv_labels_new(&s.row_names, err);
  r->file->delimiter = r->options.delimiter;
  ok = ok && each_record(&s, RECORDS, look_at_record, &count, err);
  if (ok && count == 1) ok = make_seen(&s, err);
  if (ok && count > 0) {
    decide_heading(&s);
    ok = make_columns(&s, err) && decide_forms(&s, err);
  }
  end_sample(&s);
  return ok;
}
