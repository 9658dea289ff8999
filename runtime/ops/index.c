// SPDX-License-Identifier: MIT
// Operators: parts of a tensor as views, and writing into such parts.
//
// A region of x is a list of entries {start, step, count} with 0-based starts, one for each dimension
// of x in order: count elements, or the single one at start without keeping the dimension when count
// is -1.  An entry with step 0 stands for a new dimension of size 1.  Dimensions without an entry are
// taken whole.  `region` looks at it, `embed` puts it into zeros, `region_put` replaces it.
#include <string.h>

#include "loops.h"
#include "put.h"

enum { ENTRY = 3, MAX_ENTRIES = 2 * NB_MAX_DIMS };

static bool region_layout(const Layout *x, const Value *region, Layout *out, Error *err) {
  int entries = region->ints.count < 0 ? 0 : region->ints.count / ENTRY, d = 0;
  *out = *x;
  out->ndim = 0;
  for (int i = 0; i < entries || d < x->ndim; i++) {
    bool whole = i >= entries;
    const int64_t *e = whole ? (int64_t[]){0, 1, x->shape[d]} : region->ints.items + (ptrdiff_t)i * ENTRY;
    bool fresh = e[1] == 0;
    if (out->ndim == NB_MAX_DIMS && e[2] >= 0)
      return nb_fail(err, NB_ERROR_ARGUMENT, "a tensor has at most %d dimensions", NB_MAX_DIMS);
    if (fresh) {
      out->shape[out->ndim] = 1;
      out->strides[out->ndim++] = d < x->ndim ? x->shape[d] * x->strides[d] : 1;
      continue;
    }
    if (d == x->ndim) return nb_fail(err, NB_ERROR_ARGUMENT, "the region has more than %d dimensions", x->ndim);
    int64_t count = e[2] < 0 ? 1 : e[2], size = x->shape[d];
    if (e[1] < 0 || e[0] < 0 || (count > 0 && (e[0] >= size || count - 1 > (size - 1 - e[0]) / e[1])))
      return nb_fail(err, NB_ERROR_ARGUMENT, "the region leaves dimension %d of size %lld", d + 1, (long long)size);
    if (count > 0) out->offset += e[0] * x->strides[d];
    if (e[2] >= 0) {
      out->shape[out->ndim] = count;
      out->strides[out->ndim++] = count > 1 ? x->strides[d] * e[1] : x->strides[d];
    }
    d++;
  }
  return true;
}

static Tensor *region_of(Scope *s, Tensor *x, const Value *region) {
  return x ? nb_op(s, "region", (Value[]){{.tensor = x}, *region}) : NULL;
}

static Tensor *embed(Scope *s, Tensor *g, const Layout *x, const Value *region) {
  int64_t sizes[NB_MAX_DIMS];
  if (!g) return NULL;
  memcpy(sizes, x->shape, sizeof sizes);
  return nb_op(s, "embed", (Value[]){{.tensor = g}, {.ints = {sizes, x->ndim}}, *region});
}

// ---- region and embed ----

static bool shape_region(Call *c, Error *err) {
  return region_layout(&c->args[0].tensor->layout, &c->args[1], &c->layout[0], err);
}

static bool backward_region(Backward *b) {
  return nb_give(b, 0, embed(b->scope, b->grad[0], &nb_in(b, 0)->layout, nb_arg(b, 1)));
}

static bool shape_embed(Call *c, Error *err) {
  char have[NB_SHAPE_TEXT], want[NB_SHAPE_TEXT];
  const Layout *g = &c->args[0].tensor->layout;
  Layout part, *out = &c->layout[0];
  *out = (Layout){.dtype = g->dtype, .ndim = c->args[1].ints.count};
  if (out->ndim > NB_MAX_DIMS)
    return nb_fail(err, NB_ERROR_ARGUMENT, "a tensor has at most %d dimensions", NB_MAX_DIMS);
  for (int d = 0; d < out->ndim; d++) out->shape[d] = c->args[1].ints.items[d];
  if (!nb_layout_check(out, err)) return false;
  nb_layout_pack(out);
  if (!region_layout(out, &c->args[2], &part, err)) return false;
  bool fits = part.ndim == g->ndim;
  for (int d = 0; fits && d < g->ndim; d++) fits = part.shape[d] == g->shape[d];
  return fits || nb_fail(err, NB_ERROR_ARGUMENT, "shape %s does not fill the region %s", nb_shape_text(g, have),
                         nb_shape_text(&part, want));
}

static bool forward_embed(Call *c, Error *err) {
  Tensor part = *c->out[0];
  nb_zero(c->out[0]);
  if (!region_layout(&c->out[0]->layout, &c->args[2], &part.layout, err)) return false;
  nb_copy(&part, c->args[0].tensor);
  return true;
}

static bool backward_embed(Backward *b) {
  return nb_give(b, 0, region_of(b->scope, b->grad[0], nb_arg(b, 2)));
}

// ---- select, slice, narrow: regions of one dimension in the user's counting ----

static bool no_index(int64_t index, int d, const Layout *x, Error *err) {
  return nb_fail(err, NB_ERROR_ARGUMENT,
                 "index %lld is out of range in dimension %d of size %lld (count from 1, or from -1 at the end)",
                 (long long)index, d + 1, (long long)x->shape[d]);
}

// The entry that the row's arguments mean.
static bool select_entry(const Value *args, const Layout *x, int *d, int64_t e[ENTRY], Error *err) {
  int64_t index = args[2].integer;
  if (!nb_dim(args[1].integer, x->ndim, d, err)) return false;
  int64_t size = x->shape[*d];
  if (index == 0 || index > size || index < -size) return no_index(index, *d, x, err);
  e[0] = index < 0 ? index + size : index - 1;
  e[1] = 1;
  e[2] = -1;
  return true;
}

static bool slice_entry(const Value *args, const Layout *x, int *d, int64_t e[ENTRY], Error *err) {
  int64_t first = args[2].integer, last = args[3].integer, step = args[4].integer;
  if (!nb_dim(args[1].integer, x->ndim, d, err)) return false;
  int64_t size = x->shape[*d];
  if (step < 1) return nb_fail(err, NB_ERROR_ARGUMENT, "the step must be 1 or more, got %lld", (long long)step);
  if (first == 0 || first > size + 1 || first < -size) return no_index(first, *d, x, err);
  if (last > size || last < -size) return no_index(last, *d, x, err);
  if (first < 0) first += size + 1;
  if (last < 0) last += size + 1;
  if (last < first - 1)
    return nb_fail(err, NB_ERROR_ARGUMENT, "the slice of dimension %d ends at %lld, before it starts at %lld", *d + 1,
                   (long long)last, (long long)first);
  e[0] = first - 1;
  e[1] = step;
  e[2] = last < first ? 0 : (last - first) / step + 1;
  return true;
}

static bool narrow_entry(const Value *args, const Layout *x, int *d, int64_t e[ENTRY], Error *err) {
  int64_t start = args[2].integer, length = args[3].integer;
  if (!nb_dim(args[1].integer, x->ndim, d, err)) return false;
  int64_t size = x->shape[*d];
  if (start == 0 || start > size + 1 || start < -size) return no_index(start, *d, x, err);
  if (start < 0) start += size + 1;
  if (length < 0 || length > size - start + 1)
    return nb_fail(err, NB_ERROR_ARGUMENT,
                   "there are %lld elements from %lld on in dimension %d of size %lld, not %lld",
                   (long long)(size - start + 1), (long long)start, *d + 1, (long long)size, (long long)length);
  e[0] = start - 1;
  e[1] = 1;
  e[2] = length;
  return true;
}

typedef bool EntryOf(const Value *args, const Layout *x, int *d, int64_t e[ENTRY], Error *err);

// The region that has this entry in its dimension and takes the others whole.
static bool one_entry(EntryOf *entry, const Value *args, const Layout *x, int64_t list[MAX_ENTRIES * ENTRY],
                      Value *region, Error *err) {
  int d;
  int64_t e[ENTRY];
  if (!entry(args, x, &d, e, err)) return false;
  for (int i = 0; i < d; i++) {
    list[i * ENTRY] = 0;
    list[i * ENTRY + 1] = 1;
    list[i * ENTRY + 2] = x->shape[i];
  }
  memcpy(list + d * ENTRY, e, sizeof e);
  *region = (Value){.ints = {list, (d + 1) * ENTRY}};
  return true;
}

static bool shape_entry(Call *c, EntryOf *entry, Error *err) {
  int64_t list[MAX_ENTRIES * ENTRY];
  Value region;
  const Layout *x = &c->args[0].tensor->layout;
  return one_entry(entry, c->args, x, list, &region, err) && region_layout(x, &region, &c->layout[0], err);
}

static bool backward_entry(Backward *b, EntryOf *entry) {
  int64_t list[MAX_ENTRIES * ENTRY];
  Value region;
  const Layout *x = &nb_in(b, 0)->layout;
  return one_entry(entry, nb_arg(b, 0), x, list, &region, b->scope->err) &&
         nb_give(b, 0, embed(b->scope, b->grad[0], x, &region));
}

#define ENTRY_ROW(name)                           \
  static bool shape_##name(Call *c, Error *err) { \
    return shape_entry(c, name##_entry, err);     \
  }                                               \
  static bool backward_##name(Backward *b) {      \
    return backward_entry(b, name##_entry);       \
  }
ENTRY_ROW(select)
ENTRY_ROW(slice)
ENTRY_ROW(narrow)

// ---- region_put ----

static bool shape_region_put(Call *c, Error *err) {
  char have[NB_SHAPE_TEXT], want[NB_SHAPE_TEXT];
  Layout part;
  c->layout[0] = c->args[0].tensor->layout;
  if (!region_layout(&c->layout[0], &c->args[2], &part, err)) return false;
  const Layout *v = &c->args[1].tensor->layout;
  return nb_fits(v, &part) ||
         nb_fail(err, NB_ERROR_ARGUMENT, "shape %s does not broadcast into the region, which has shape %s",
                 nb_shape_text(v, have), nb_shape_text(&part, want));
}

static bool forward_region_put(Call *c, Error *err) {
  Tensor part = *c->out[0], value = *c->args[1].tensor;
  if (!nb_check_whole(&value, part.layout.dtype, err)) return false;
  if (c->out[0] != c->args[0].tensor) nb_copy(c->out[0], c->args[0].tensor);
  if (!region_layout(&c->out[0]->layout, &c->args[2], &part.layout, err)) return false;
  nb_strip(&value.layout, part.layout.ndim);
  nb_copy(&part, &value);
  return true;
}

static bool backward_region_put(Backward *b) {
  Scope *s = b->scope;
  Tensor *g = b->grad[0];
  if (nb_wants(b, 0)) {
    Tensor *zero = nb_number(s, 0, g->layout.dtype);
    if (!zero || !nb_give(b, 0, nb_op(s, "region_put", (Value[]){{.tensor = g}, {.tensor = zero}, *nb_arg(b, 2)})))
      return false;
  }
  return !nb_wants(b, 1) || nb_give(b, 1, nb_lead(s, region_of(s, g, nb_arg(b, 2)), nb_in(b, 1)->layout.ndim));
}

static const Op ops[] = {
    {.name = "select",
     .doc = "The part of x at one index of dimension dim, without that dimension; a view.",
     .example = "nb.tensor{{1, 2}, {3, 4}}:select(2, -1)  --> {2, 4}",
     .derivative = "∂/∂x = 1 at the index",
     .sample = {.args = "f(2,3,4), 1, 2; f(2,3,4), -1, -1; f(3), 1, 3"},
     .role = NB_ROLE_PART,
     .params = {TENSOR("x"), DIM("dim"), INT("index")},
     .view = true,
     .shape = shape_select,
     .backward = backward_select},
    {.name = "slice",
     .doc = "The part of x from first to last, both included, along dimension dim; a view.",
     .example = "nb.tensor{1, 2, 3, 4, 5}:slice(1, 2, -1, 2)  --> {2, 4}",
     .derivative = "∂/∂x = 1 in the slice",
     .sample = {.args = "f(5,3), 1, 2, 4; f(5,3), 1, 1, -1, 2; f(5,3), -1, -2, -1; f(5,3), 2, 2, 1"},
     .role = NB_ROLE_PART,
     .params = {TENSOR("x"),
                DIM("dim"),
                INT("first"),
                INT("last"),
                {.name = "step", .kind = NB_PARAM_INT, .optional = true, .fallback = 1}},
     .view = true,
     .shape = shape_slice,
     .backward = backward_slice},
    {.name = "narrow",
     .doc = "The part of x that has `length` elements from `start` on along dimension dim; a view.",
     .example = "nb.tensor{1, 2, 3, 4}:narrow(1, 2, 2)  --> {2, 3}",
     .derivative = "∂/∂x = 1 in the part",
     .sample = {.args = "f(5,3), 1, 2, 3; f(5,3), 2, -1, 1; f(5,3), 1, 3, 0"},
     .role = NB_ROLE_PART,
     .params = {TENSOR("x"), DIM("dim"), INT("start"), INT("length")},
     .view = true,
     .shape = shape_narrow,
     .backward = backward_narrow},
    {.name = "region",
     .doc = "A part of x given by entries {start, step, count}, counted from 0; a view.",
     .example = "nb.tensor{{1, 2}, {3, 4}}[1]  --> {1, 2}",
     .derivative = "∂/∂x = 1 in the region",
     .sample = {.args = "f(3,4), {1,1,2, 0,2,2}; f(3,4), {2,1,-1, 0,0,1, 1,1,3}; f(3,4), {0,2,2}"},
     .role = NB_ROLE_PART,
     .symbol = "part",
     .params = {TENSOR("x"), INTS("region")},
     .internal = true,
     .view = true,
     .shape = shape_region,
     .backward = backward_region},
    {.name = "embed",
     .doc = "Zeros of the given sizes with x in the region {start, step, count}, counted from 0.",
     .example = "nb.pad(nb.tensor{1, 2}, {1, 0})  --> {0, 1, 2}",
     .derivative = "∂/∂x = the region of δ",
     .sample = {.args = "f(2,2), {3,4}, {1,1,2, 0,2,2}; f(1,3), {3,4}, {2,1,-1, 0,0,1, 1,1,3}"},
     .role = NB_ROLE_PART,
     .symbol = "embed",
     .params = {TENSOR("x"), INTS("sizes"), INTS("region")},
     .internal = true,
     .shape = shape_embed,
     .forward = forward_embed,
     .backward = backward_embed},
    {.name = "region_put",
     .doc = "x with the region {start, step, count}, counted from 0, replaced by value: what t[...] = value records.",
     .example = "local t = nb.zeros(3); t[2] = 5; return t  --> {0, 5, 0}",
     .derivative = "∂/∂x = 1 outside the region, ∂/∂value = 1",
     .sample = {.args =
                    "f(3,4), f(2,2), {1,1,2, 0,2,2}; f(3,4), f(3), {2,1,-1, 0,0,1, 1,1,3}; f(3,4), f(1,1,4), {0,2,2}; "
                    "f(3,4), 2, {0,1,1}"},
     .role = NB_ROLE_PART,
     .symbol = "put",
     .params = {TENSOR("x"), OPERAND("value"), INTS("region")},
     .internal = true,
     .inplace = true,
     .shape = shape_region_put,
     .forward = forward_region_put,
     .backward = backward_region_put},
};
const OpFamily ops_index = {"Indexing", ops, COUNT(ops)};
