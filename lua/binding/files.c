// SPDX-License-Identifier: MIT
// Files of tensors, for the Lua sources that make nb.load, nb.save and data.
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "binding.h"
#include "nablua/events.h"
#include "nablua/printable.h"
#include "nablua/replace.h"
#include "open.h"
#include "row_files.h"

// Pushes `size` zero bytes that are handed to `close` when the function ends, by an error too; by the collector where
// a coroutine has died of that.
static void *new_closed(lua_State *L, size_t size, lua_CFunction close) {
  void *file = lua_newuserdatauv(L, size, 0);
  memset(file, 0, size);
  lua_createtable(L, 0, 3);
  lua_pushcfunction(L, close);
  lua_setfield(L, -2, "__gc");
  lua_pushcfunction(L, close);
  lua_setfield(L, -2, "__close");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_setmetatable(L, -2);
  lua_toclose(L, -1);
  return file;
}

static const char touches_files[] = "it reads or writes files";

static const char *path_at(lua_State *L, int index) {
  nb_tell_unrepeatable(touches_files);
  return nb_check_text(L, index, "the path");
}

static int push_read(lua_State *L, Tensor *(*read)(const char *, Error *)) {
  nb_tell_unrepeatable(touches_files);
  Error err;
  const char *path = path_at(L, 1);
  Tensor **slot = nb_new_tensor(L);
  *slot = read(path, &err);
  if (!*slot) return nb_raise(L, &err);
  nb_feed_collector(*slot);
  return 1;
}

// native.idx_read(path)
static int idx_read(lua_State *L) {
  return push_read(L, nb_idx_read);
}

// native.npy_read(path)
static int npy_read(lua_State *L) {
  return push_read(L, nb_npy_read);
}

// ---- rows ----

static const char row_file[] = "nablua.rows";

static int rows_close(lua_State *L) {
  RowFile **f = luaL_checkudata(L, 1, row_file);
  nb_rows_close(*f);
  *f = NULL;
  return 0;
}

static RowFile *check_rows(lua_State *L) {
  RowFile **f = luaL_checkudata(L, 1, row_file);
  if (!*f) luaL_error(L, "the file is closed");
  return *f;
}

RowFile *nb_rows_at(lua_State *L, int i) {
  RowFile **f = luaL_testudata(L, i, row_file);
  if (f && !*f) luaL_error(L, "the file is closed");
  return f ? *f : NULL;
}

static RowFile **new_rows(lua_State *L) {
  RowFile **f = lua_newuserdatauv(L, sizeof(RowFile *), 0);
  *f = NULL;
  luaL_setmetatable(L, row_file);
  return f;
}

// What opening gives: the file, its dtype and its shape.
static int push_rows(lua_State *L, const RowFile *f) {
  const Layout *l = nb_rows_layout(f);
  lua_pushstring(L, nb_dtype_name(l->dtype));
  lua_createtable(L, l->ndim, 0);
  for (int d = 0; d < l->ndim; d++) {
    lua_pushinteger(L, l->shape[d]);
    lua_rawseti(L, -2, d + 1);
  }
  return 3;
}

// native.rows_open(path): a file of rows, its dtype and its shape.
static int rows_open(lua_State *L) {
  Error err;
  const char *path = path_at(L, 1);
  RowFile **f = new_rows(L);
  if (!(*f = nb_rows_open(path, &err))) return nb_raise(L, &err);
  return push_rows(L, *f);
}

// The strings of the list at a stack index, and how many; the array is pushed, and the list keeps them alive.
static const char **strings_at(lua_State *L, int list, size_t *count) {
  luaL_checktype(L, list, LUA_TTABLE);
  list = lua_absindex(L, list);
  *count = lua_rawlen(L, list);
  const char **strings = lua_newuserdatauv(L, (*count + 1) * sizeof *strings, 0);
  for (size_t i = 0; i < *count; i++) {
    lua_rawgeti(L, list, (lua_Integer)i + 1);
    strings[i] = luaL_checkstring(L, -1);
    lua_pop(L, 1);
  }
  return strings;
}

// native.pictures_open(paths, channels, height, width): the same of pictures.
static int pictures_open(lua_State *L) {
  nb_tell_unrepeatable(touches_files);
  Error err;
  size_t count;
  const char **paths = strings_at(L, 1, &count);
  lua_Integer channels = luaL_checkinteger(L, 2);
  lua_Integer height = luaL_checkinteger(L, 3), width = luaL_checkinteger(L, 4);
  luaL_argcheck(L, count > 0, 1, "at least one");
  luaL_argcheck(L, channels >= 0 && channels <= 4, 2, "0 to 4");
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, 1, (lua_Integer)i + 1);
    nb_check_text(L, -1, "the path");
    lua_pop(L, 1);
  }
  RowFile **f = new_rows(L);
  if (!(*f = nb_rows_of_pictures(paths, (int64_t)count, (int)channels, height, width, &err))) return nb_raise(L, &err);
  return push_rows(L, *f);
}

// native.rows_read(file, places): the rows at the places, a contiguous vector of i64.
static int rows_read(lua_State *L) {
  nb_tell_unrepeatable(touches_files);
  Error err;
  RowFile *f = check_rows(L);
  const Tensor *places = nb_check_tensor(L, 2);
  luaL_argcheck(L, places->layout.dtype == NB_I64 && places->layout.ndim == 1 && nb_layout_contiguous(&places->layout),
                2, "a contiguous vector of i64");
  Tensor **slot = nb_new_tensor(L);
  *slot = nb_rows_read(f, nb_tensor_data(places), places->layout.shape[0], &err);
  if (!*slot) return nb_raise(L, &err);
  nb_feed_collector(*slot);
  return 1;
}

// native.image_read(path, channels)
static int image_read(lua_State *L) {
  Error err;
  const char *path = path_at(L, 1);
  int channels = (int)luaL_checkinteger(L, 2);
  luaL_argcheck(L, channels >= 0 && channels <= 4, 2, "0 to 4");
  Tensor **slot = nb_new_tensor(L);
  if (!(*slot = nb_image_read(path, channels, &err))) return nb_raise(L, &err);
  nb_feed_collector(*slot);
  return 1;
}

// native.exists(path): whether there is a file or folder that this path, followed, leads to.
static int exists(lua_State *L) {
  struct stat st;
  lua_pushboolean(L, stat(path_at(L, 1), &st) == 0);
  return 1;
}

static int close_folder(lua_State *L) {
  DIR **folder = nb_collected_by(L, 1, close_folder);
  if (!folder) return 0;
  if (*folder) closedir(*folder);
  *folder = NULL;
  return 0;
}

// native.folder(path): the names in a folder but for hidden ones, in no order, and whether each is a folder.
static int folder(lua_State *L) {
  const char *path = path_at(L, 1);
  DIR **dir = new_closed(L, sizeof *dir, close_folder);
  if (!(*dir = opendir(path))) return nb_raisef(L, "cannot open the folder %s: %s", path, strerror(errno));
  lua_newtable(L);
  for (struct dirent *entry; (entry = readdir(*dir));) {
    struct stat st;
    if (entry->d_name[0] == '.') continue;
    lua_pushboolean(L, fstatat(dirfd(*dir), entry->d_name, &st, 0) == 0 && S_ISDIR(st.st_mode));
    lua_setfield(L, -2, entry->d_name);
  }
  return 1;
}

// native.npy_write(path, t)
static int npy_write(lua_State *L) {
  nb_tell_unrepeatable(touches_files);
  Error err;
  const char *path = path_at(L, 1);
  const Tensor *t = nb_check_tensor(L, 2);
  bool ok = nb_npy_write(path, t, &err) || (nb_stop_is_put_off(L, &err) && nb_npy_write(path, t, &err));
  return ok ? 0 : nb_raise(L, &err);
}

// native.replace(where, path, bytes): replaces a file as a whole; for all that is written from Lua.  Errors begin with
// `where`.
static int replace(lua_State *L) {
  nb_tell_unrepeatable(touches_files);
  Error err;
  size_t length;
  const char *where = luaL_checkstring(L, 1), *path = path_at(L, 2), *bytes = luaL_checklstring(L, 3, &length);
  if (nb_replace_file(path, bytes, length, NB_RIGHTS_KEPT, &err)) return 0;
  return err.kind == NB_ERROR_FILE ? nb_raisef(L, "%s: %s", where, err.message) : nb_raise(L, &err);
}

// native.append(where, path, bytes): adds a line, with its line feed, to a file.
static int append(lua_State *L) {
  nb_tell_unrepeatable(touches_files);
  Error err;
  size_t length;
  const char *where = luaL_checkstring(L, 1), *path = path_at(L, 2), *bytes = luaL_checklstring(L, 3, &length);
  if (nb_append_line(path, bytes, length, &err)) return 0;
  return err.kind == NB_ERROR_FILE ? nb_raisef(L, "%s: %s", where, err.message) : nb_raise(L, &err);
}

static int close_file(lua_State *L) {
  TensorFile *file = nb_collected_by(L, 1, close_file);
  if (file) nb_tensor_file_close(file);
  return 0;
}

// Names in order, tensors in the same order, notes by key.
static int push_file(lua_State *L, bool (*read)(const char *, TensorFile *, Error *)) {
  nb_tell_unrepeatable(touches_files);
  Error err;
  const char *path = path_at(L, 1);
  TensorFile *file = new_closed(L, sizeof *file, close_file);
  if (!read(path, file, &err)) return nb_raise(L, &err);
  lua_newtable(L);  // names
  lua_newtable(L);  // tensors
  for (size_t i = 0; i < file->count; i++) {
    lua_pushstring(L, file->tensors[i].name);
    lua_rawseti(L, -3, (lua_Integer)i + 1);
    Tensor **slot = nb_new_tensor(L);
    *slot = file->tensors[i].tensor;
    file->tensors[i].tensor = NULL;
    nb_feed_collector(*slot);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_newtable(L);  // notes
  for (size_t i = 0; i < file->note_count; i++) {
    lua_pushstring(L, file->notes[i].key);
    lua_pushlstring(L, file->notes[i].value, file->notes[i].length);
    lua_rawset(L, -3);
  }
  return 3;
}

// native.safetensors_read(path)
static int safetensors_read(lua_State *L) {
  return push_file(L, nb_safetensors_read);
}

// native.npz_read(path)
static int npz_read(lua_State *L) {
  return push_file(L, nb_npz_read);
}

// The names and tensors of the lists at 2 and 3, which keep them alive.
static NamedTensor *named_tensors(lua_State *L, size_t *count) {
  luaL_checktype(L, 2, LUA_TTABLE);
  luaL_checktype(L, 3, LUA_TTABLE);
  *count = lua_rawlen(L, 2);
  NamedTensor *tensors = lua_newuserdatauv(L, (*count + 1) * sizeof *tensors, 0);
  for (size_t i = 0; i < *count; i++) {
    lua_rawgeti(L, 2, (lua_Integer)i + 1);
    lua_rawgeti(L, 3, (lua_Integer)i + 1);
    tensors[i] = (NamedTensor){nb_check_text(L, -2, "a tensor's name"), nb_check_tensor(L, -1)};
    lua_pop(L, 2);
  }
  return tensors;
}

// native.npz_write(path, names, tensors, compress)
static int npz_write(lua_State *L) {
  nb_tell_unrepeatable(touches_files);
  Error err;
  size_t count;
  const char *path = path_at(L, 1);
  const NamedTensor *tensors = named_tensors(L, &count);
  bool compress = lua_toboolean(L, 4), ok = nb_npz_write(path, tensors, count, compress, &err);
  if (!ok && nb_stop_is_put_off(L, &err)) ok = nb_npz_write(path, tensors, count, compress, &err);
  return ok ? 0 : nb_raise(L, &err);
}

// native.safetensors_write(path, names, tensors, note keys, note values)
static int safetensors_write(lua_State *L) {
  nb_tell_unrepeatable(touches_files);
  Error err;
  size_t count;
  const char *path = path_at(L, 1);
  luaL_checktype(L, 4, LUA_TTABLE);
  luaL_checktype(L, 5, LUA_TTABLE);
  const NamedTensor *tensors = named_tensors(L, &count);
  size_t notes = lua_rawlen(L, 4);
  Note *note = lua_newuserdatauv(L, (notes + 1) * sizeof *note, 0);
  for (size_t i = 0; i < notes; i++) {
    lua_rawgeti(L, 4, (lua_Integer)i + 1);
    lua_rawgeti(L, 5, (lua_Integer)i + 1);
    note[i].key = nb_check_text(L, -2, "a note's name");
    note[i].value = luaL_checklstring(L, -1, &note[i].length);
    lua_pop(L, 2);
  }
  bool ok = nb_safetensors_write(path, tensors, count, note, notes, &err);
  if (!ok && nb_stop_is_put_off(L, &err)) ok = nb_safetensors_write(path, tensors, count, note, notes, &err);
  return ok ? 0 : nb_raise(L, &err);
}

// ---- CSV ----

static int close_csv(lua_State *L) {
  CsvFile *file = nb_collected_by(L, 1, close_csv);
  if (file) nb_csv_close(file);
  return 0;
}

// Pushes a text that may be NULL.
static void push_text(lua_State *L, const char *text) {
  if (text)
    lua_pushstring(L, text);
  else
    lua_pushboolean(L, false);
}

static void set_count(lua_State *L, const char *name, int64_t count) {
  lua_pushinteger(L, (lua_Integer)count);
  lua_setfield(L, -2, name);
}

static void set_flag(lua_State *L, const char *name, bool value) {
  lua_pushboolean(L, value);
  lua_setfield(L, -2, name);
}

// Gives column `column` the list of labels on top, if it is one; pops it.
static void give_labels(lua_State *L, CsvColumn *column) {
  Error err;
  if (!lua_istable(L, -1)) {
    lua_pop(L, 1);
    return;
  }
  size_t count;
  const char **labels = strings_at(L, -1, &count);
  if (!nb_csv_give_labels(column, labels, count, &err)) nb_raise(L, &err);
  lua_pop(L, 2);
}

// Calls choose(names, found), which returns a list of kinds, a number of CsvKind for each column, whether the first
// column does name rows, whether a first line of values is to be passed over, and perhaps lists of labels by column.
static void choose_kinds(lua_State *L, int choose, CsvFile *file) {
  static const char *const headings[] = {"", "names", "data", "counts"};
  lua_pushvalue(L, choose);
  lua_createtable(L, (int)file->count, 0);
  for (size_t i = 0; i < file->count; i++) {
    push_text(L, file->columns[i].name);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_createtable(L, 0, 7);
  set_count(L, "count", (int64_t)file->count);
  set_count(L, "announced", file->announced);
  set_flag(L, "doubtful", file->doubtful);
  set_flag(L, "row_names", file->row_names);
  set_flag(L, "trailing", file->trailing);
  lua_pushlstring(L, &file->delimiter, 1);
  lua_setfield(L, -2, "delimiter");
  lua_pushstring(L, headings[file->heading]);
  lua_setfield(L, -2, "heading");
  lua_call(L, 2, 4);
  if (lua_toboolean(L, -2)) file->heading = NB_CSV_NAMES;
  file->row_names = file->row_names && lua_toboolean(L, -3);
  for (size_t i = 0; lua_istable(L, -1) && i < file->count; i++) {
    lua_rawgeti(L, -1, (lua_Integer)i + 1);
    give_labels(L, &file->columns[i]);
  }
  lua_pop(L, 3);
  luaL_checktype(L, -1, LUA_TTABLE);
  for (size_t i = 0; i < file->count; i++) {
    lua_rawgeti(L, -1, (lua_Integer)i + 1);
    lua_Integer kind = lua_tointeger(L, -1);
    if (kind >= NB_CSV_AUTO && kind <= NB_CSV_SKIP && !file->columns[i].given) file->columns[i].kind = (CsvKind)kind;
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

// How the numbers of a column are written, where that is not plain: { decimal=, thousands=, percent=, doubtful= }.
static void push_form(lua_State *L, const CsvColumn *c) {
  if (c->form.decimal == '.' && !c->form.thousands[0] && !c->percent) return;
  lua_createtable(L, 0, 4);
  lua_pushlstring(L, &c->form.decimal, 1);
  lua_setfield(L, -2, "decimal");
  lua_pushstring(L, c->form.thousands);
  lua_setfield(L, -2, "thousands");
  set_flag(L, "percent", c->percent);
  set_flag(L, "doubtful", c->doubtful);
  lua_setfield(L, -2, "form");
}

static void push_labels(lua_State *L, const CsvColumn *c) {
  size_t count = c->labels ? nb_csv_label_count(c->labels) : 0;
  lua_createtable(L, (int)count, 0);
  for (size_t k = 0; k < count; k++) {
    lua_pushstring(L, nb_csv_label(c->labels, k));
    lua_rawseti(L, -2, (lua_Integer)k + 1);
  }
}

// A table of CsvColumn's fields; labels only for a column of text, form and the like only for one of numbers.
static void push_column(lua_State *L, CsvColumn *c, bool with_labels) {
  lua_createtable(L, 0, 8);
  Tensor **slot = nb_new_tensor(L);
  *slot = c->values;
  c->values = NULL;
  nb_feed_collector(*slot);
  lua_setfield(L, -2, "values");
  set_count(L, "first_missing", (int64_t)c->first_missing);
  set_count(L, "missing", c->missing);
  if (c->kind != NB_CSV_TEXT) {
    set_count(L, "dashes", c->dashes);
    set_count(L, "typographic", c->typographic);
    if (c->form_known) push_form(L, c);
    return;
  }
  set_count(L, "numeric", c->numeric);
  set_count(L, "first_numeric", (int64_t)c->first_numeric);
  if (!with_labels || c->given) return;  // who gave them knows them
  push_labels(L, c);
  lua_setfield(L, -2, "labels");
}

// The text of a field of the options at 1; NULL where it has none.
static const char *option_text(lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  const char *text = lua_tostring(L, -1);  // kept alive by the table
  lua_pop(L, 1);
  return text;
}

static CsvOptions csv_options(lua_State *L) {
  const char *delimiter = option_text(L, "delimiter"), *quote = option_text(L, "quote");
  const char *decimal = option_text(L, "decimal");
  CsvOptions o = {.delimiter = delimiter ? *delimiter : '\0',
                  .quote = quote ? *quote : '\0',
                  .decimal = decimal ? *decimal : '\0',
                  .thousands = option_text(L, "thousands")};
  if (lua_getfield(L, 1, "header") == LUA_TBOOLEAN) o.heading = lua_toboolean(L, -1) ? NB_CSV_NAMES : NB_CSV_DATA;
  lua_getfield(L, 1, "skip");
  o.skip = (uint64_t)lua_tointeger(L, -1);
  lua_pop(L, 2);
  return o;
}

// Opens the file of the options at 1, with the function `choose` at 2, as `file`; what its reader points to stays on
// the stack at 3.
static void open_csv(lua_State *L, CsvFile *file) {
  Error err;
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_getfield(L, 1, "path");
  const char *path = path_at(L, -1);  // kept alive by the table
  lua_pop(L, 1);
  CsvOptions o = csv_options(L);
  lua_getfield(L, 1, "na");
  o.missing = strings_at(L, -1, &o.missing_count);
  lua_replace(L, 3);
  lua_pop(L, 1);
  if (!nb_csv_open(path, &o, file, &err)) nb_raise(L, &err);
  choose_kinds(L, 2, file);
}

// A list of columns, false for one that is not read.
static int push_columns(lua_State *L, CsvFile *file, bool with_labels) {
  lua_createtable(L, (int)file->count, 0);
  for (size_t i = 0; i < file->count; i++) {
    if (file->columns[i].values)
      push_column(L, &file->columns[i], with_labels);
    else
      lua_pushboolean(L, false);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

// native.csv_read(options, choose): a list of columns.  The options are data.csv's.
static int csv_read(lua_State *L) {
  Error err;
  lua_settop(L, 3);
  CsvFile *file = new_closed(L, sizeof *file, close_csv);
  open_csv(L, file);
  if (!nb_csv_read(file, &err)) return nb_raise(L, &err);
  return push_columns(L, file, true);
}

static const char csv_file[] = "nablua.csv";

static int csv_close(lua_State *L) {
  nb_csv_close(luaL_checkudata(L, 1, csv_file));
  return 0;
}

// native.csv_open(options, choose): the same file, to be read in pieces.
static int csv_open(lua_State *L) {
  lua_settop(L, 3);
  CsvFile *file = lua_newuserdatauv(L, sizeof *file, 2);
  *file = (CsvFile){0};
  luaL_setmetatable(L, csv_file);
  open_csv(L, file);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, 4, 1);
  lua_pushvalue(L, 3);
  lua_setiuservalue(L, 4, 2);
  return 1;
}

// native.csv_some(file, most, closes): the columns of at most so many rows; nil at the end.  Where it does not close
// labels they come at the end, after the nil, as lists by column.
static int csv_some(lua_State *L) {
  nb_tell_unrepeatable(touches_files);
  Error err;
  CsvFile *file = luaL_checkudata(L, 1, csv_file);
  luaL_argcheck(L, file->reader, 1, "it is closed");
  bool closes = lua_toboolean(L, 3);
  if (!nb_csv_read_some(file, luaL_checkinteger(L, 2), closes, &err)) return nb_raise(L, &err);
  if (file->rows > 0) return push_columns(L, file, closes);
  lua_pushnil(L);
  lua_newtable(L);
  for (size_t i = 0; !closes && i < file->count; i++) {
    if (file->columns[i].kind != NB_CSV_TEXT || file->columns[i].given) continue;
    push_labels(L, &file->columns[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 2;
}

// native.text_shown(text [, most]): one line of at most so many bytes that a terminal may have, whatever the text.
static int text_shown(lua_State *L) {
  char buffer[1024];
  lua_Integer most = luaL_optinteger(L, 2, sizeof buffer);
  size_t size = most >= 16 && most < (lua_Integer)sizeof buffer ? (size_t)most : sizeof buffer;
  lua_pushstring(L, nb_printable(luaL_checkstring(L, 1), buffer, size));
  return 1;
}

void nb_open_files(lua_State *L) {
  static const luaL_Reg functions[] = {{"csv_close", csv_close},
                                       {"csv_open", csv_open},
                                       {"csv_read", csv_read},
                                       {"csv_some", csv_some},
                                       {"exists", exists},
                                       {"folder", folder},
                                       {"idx_read", idx_read},
                                       {"image_read", image_read},
                                       {"npy_read", npy_read},
                                       {"npy_write", npy_write},
                                       {"npz_read", npz_read},
                                       {"npz_write", npz_write},
                                       {"pictures_open", pictures_open},
                                       {"replace", replace},
                                       {"append", append},
                                       {"rows_close", rows_close},
                                       {"rows_open", rows_open},
                                       {"rows_read", rows_read},
                                       {"safetensors_read", safetensors_read},
                                       {"safetensors_write", safetensors_write},
                                       {"text_shown", text_shown},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  nb_make_class(L, row_file, rows_close, NULL);
  nb_make_class(L, csv_file, csv_close, NULL);
}
