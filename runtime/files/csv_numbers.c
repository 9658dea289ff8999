// SPDX-License-Identifier: MIT
// Numbers as people write them: 1500.25, 1,500.25, 1.500,25, 1 500,25, 50 %, and with a minus of print.
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "csv_private.h"

enum { LONGEST = 320 };

// The likelier before the others.
static const CsvForm known[CSV_FORMS] = {{'.', ""},
                                         {'.', ","},
                                         {',', ""},
                                         {',', "."},
                                         {'.', " "},
                                         {',', " "},
                                         {'.', "'"},
                                         {',', "'"},
                                         {'.', "\xc2\xa0"},
                                         {',', "\xc2\xa0"},
                                         {'.', "\xe2\x80\xaf"},
                                         {',', "\xe2\x80\xaf"}};

void nb_csv_choose_forms(CsvReader *r) {
  const CsvOptions *o = &r->options;
  r->form_count = 0;
  for (int i = 0; i < CSV_FORMS; i++) {
    if (o->decimal && o->decimal != known[i].decimal) continue;
    if (o->thousands && strcmp(o->thousands, known[i].thousands) != 0) continue;
    r->forms[r->form_count++] = known[i];
  }
  if (r->form_count > 0) return;
  CsvForm *own = &r->forms[r->form_count++];
  *own = (CsvForm){.decimal = o->decimal ? o->decimal : '.'};
  if (o->thousands) strncpy(own->thousands, o->thousands, sizeof own->thousands - 1);
}

// What a plain number consists of: "inf" too, but no hexadecimal one.
static bool is_plain(const char *text) {
  for (const char *c = text; *c; c++)
    if (!(*c >= '0' && *c <= '9') && !strchr("+-.eEinfINFtyTY", *c)) return false;
  return *text;
}

// Whatever the locale.
static bool parse_plain(const char *text, double *value) {
  static locale_t plain;
  char *end;
  if (!is_plain(text)) return false;
  if (!plain && !(plain = newlocale(LC_ALL_MASK, "C", (locale_t)0))) return false;
  *value = strtod_l(text, &end, plain);
  return !*end && !isnan(*value);
}

static const char *after_blanks(const char *s) {
  return s + strspn(s, " \t");
}

// Hyphens, dashes and minus signs of print.
static size_t dash_length(const char *s) {
  static const char dashes[][4] = {"\xe2\x88\x92", "\xe2\x80\x93", "\xe2\x80\x92", "\xe2\x80\x90",
                                   "\xe2\x80\x91", "\xef\xb9\xa3", "\xef\xbc\x8d"};
  for (size_t i = 0; (unsigned char)*s >= 0xe2 && i < sizeof dashes / sizeof *dashes; i++)
    if (strncmp(s, dashes[i], 3) == 0) return 3;
  return 0;
}

static bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// Copies digits and their groups, of three but for the first (of two too where a comma parts them, as in India), up to
// what is no whole number any more.
static const char *copy_whole(const char *s, const CsvForm *f, char *out, size_t *used) {
  size_t length = strlen(f->thousands), group = 0, groups = 0;
  bool zero = *s == '0';
  for (;; s++) {
    if (is_digit(*s)) {
      if (*used >= LONGEST - 8) return NULL;
      out[(*used)++] = *s;
      group++;
    } else if (length && strncmp(s, f->thousands, length) == 0 && is_digit(s[length])) {
      bool fits =
          groups == 0 ? group >= 1 && group <= 3 && !zero : group == 3 || (group == 2 && f->thousands[0] == ',');
      if (!fits) return NULL;
      groups++;
      group = 0;
      s += length - 1;
    } else {
      return groups == 0 || group == 3 ? s : NULL;
    }
  }
}

bool nb_csv_number(const char *text, const CsvForm *form, double *value, bool *percent, bool *typographic) {
  char plain[LONGEST];
  size_t used = 0;
  *percent = *typographic = false;
  if (form->decimal == '.' && parse_plain(text, value)) return true;
  const char *s = after_blanks(text);
  size_t dash = dash_length(s);
  *typographic = dash > 0;
  if (dash || *s == '-' || *s == '+') {
    plain[used++] = dash ? '-' : *s;
    s += dash ? dash : 1;
  }
  if (!(s = copy_whole(s, form, plain, &used))) return false;
  if (*s == form->decimal) {
    plain[used++] = '.';
    for (s++; is_digit(*s) && used < LONGEST - 8; s++) plain[used++] = *s;
  }
  while (*s && *s != '%' && *s != ' ' && *s != '\t' && used < LONGEST - 8) {  // an exponent, inf
    if (*s == '.' || *s == ',') return false;
    plain[used++] = *s++;
  }
  s = after_blanks(s);
  *percent = *s == '%';
  if (*percent) s = after_blanks(s + 1);
  plain[used] = '\0';
  if (*s || !parse_plain(plain, value)) return false;
  if (*percent) *value /= 100;
  return true;
}

// Text that begins like no number needs no closer look.
static bool may_be_number(const char *text) {
  const char *s = after_blanks(text);
  size_t dash = dash_length(s);
  s += dash ? dash : (size_t)(*s == '-' || *s == '+');
  return is_digit(*s) || ((*s == '.' || *s == ',') && is_digit(s[1])) || *s == 'i' || *s == 'I';
}

// A plain number is one with all decimal points, unless another form takes its point for something else.
static uint32_t plain_look(const CsvReader *r, const char *text) {
  double value;
  bool percent, typographic, point = strchr(text, '.');
  uint32_t look = 0;
  for (unsigned i = 0; i < r->form_count; i++) {
    const CsvForm *f = &r->forms[i];
    if (f->decimal == '.' || !point ||
        (f->thousands[0] == '.' && nb_csv_number(text, f, &value, &percent, &typographic)))
      look |= 1u << i;
  }
  return look;
}

uint32_t nb_csv_look(const CsvReader *r, const char *text) {
  double value;
  bool percent, typographic;
  uint32_t look = 0;
  if (!may_be_number(text)) return 0;
  if (parse_plain(text, &value)) return plain_look(r, text);
  for (unsigned i = 0; i < r->form_count; i++)
    if (nb_csv_number(text, &r->forms[i], &value, &percent, &typographic))
      look |= 1u << (i + (percent ? CSV_PERCENT : 0));
  return look;
}

void nb_csv_take_form(const CsvReader *r, CsvColumn *c, uint32_t look) {
  uint32_t low = look & ((1u << CSV_PERCENT) - 1);
  c->percent = !low;
  if (!low) low = look >> CSV_PERCENT;
  unsigned best = 0;
  while (low && !(low >> best & 1)) best++;
  // "1,500": where commas part cells one that is kept between quotes hardly parts a fraction; elsewhere it may well.
  if (r->file->delimiter != ',' && r->forms[best].decimal == '.' && r->forms[best].thousands[0] == ',')
    for (unsigned i = best + 1; i < r->form_count; i++)
      if (low >> i & 1 && r->forms[i].decimal == ',') {
        best = i;
        break;
      }
  c->form = r->forms[best];
  c->form_known = true;
}

bool nb_csv_doubtful(const CsvReader *r, const CsvColumn *c, uint32_t look, const char *text) {
  double mine, other;
  bool percent, typographic;
  look = c->percent ? look >> CSV_PERCENT : look & ((1u << CSV_PERCENT) - 1);
  if (!nb_csv_number(text, &c->form, &mine, &percent, &typographic)) return false;
  for (unsigned i = 0; i < r->form_count; i++)
    if (look >> i & 1 && nb_csv_number(text, &r->forms[i], &other, &percent, &typographic) && other != mine)
      return true;
  return false;
}

bool nb_csv_missing(const CsvReader *r, const char *text) {
  for (size_t i = 0; i < r->options.missing_count; i++)
    if (*r->options.missing[i] == *text && strcmp(r->options.missing[i], text) == 0) return true;
  return false;
}

bool nb_csv_dash(const char *text) {
  static const char *const dashes[] = {"-", "--", ".", "..", "None", "none", "n.a.", "\xe2\x80\x93", "\xe2\x80\x94"};
  for (size_t i = 0; i < sizeof dashes / sizeof *dashes; i++)
    if (strcmp(dashes[i], text) == 0) return true;
  return false;
}
