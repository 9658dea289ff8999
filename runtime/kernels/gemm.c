// SPDX-License-Identifier: MIT
// Matrix products C = X·Y by register tiles, packed and blocked for the caches when they are large.
//
//                n ──►                         A thread computes its own rectangle of C, with its
//            ┌─────────────────┐               own buffers: nobody waits, and the parts depend on
//            │      Y          │ k             the shape and the thread count alone.
//            │ ┌──────┐ kc × nc│
//            │ └──────┘ packed │               for each block of nc columns, kc steps
//            └─────────────────┘                 pack Y's block in panels as wide as a tile (level 3)
//   ┌──────┐ ┌─────────────────┐                 for each block of mc rows
//   │ X    │ │ C               │                   pack X's block in panels as high as a tile (level 2)
// m │┌──┐  │ │ ┌──────┐        │                   for each panel of Y (level 1)
//   ││mc│  │ │ │ tiles│        │                     for each panel of X: one tile of C (registers)
//   │└──┘  │ │ └──────┘        │
//   └──────┘ └─────────────────┘               An operand that is small or used few times is read
//     kc                                       where it lies; then there is nothing to allocate.
//
// Y's columns are what the vectors run along.  Where only X's rows could be (both are transposed,
// or there are fewer columns than lanes), the transposed product is computed: C' = Y'·X'.  Where
// both operands run along k and one side is short, C is made of dot products.
#include "gemm.h"

#include <string.h>

#include "cpu.h"
#include "nablua/interrupt.h"
#include "nablua/memory.h"
#include "nablua/parallel.h"

#if defined(__x86_64__)
#define X86 1
#include <immintrin.h>
#else
#define X86 0
#if defined(__aarch64__)
#include <arm_neon.h>
#endif
#endif

// How many multiplications are worth a thread.  What it computes must come to the others' caches, from far where cores
// share none: shared out from fewer than two of these on, an MLP's step of 60 µs took 180 (two cores of a Zen 3).
static const double SHARE = 4e5;

// Y is packed when more rows than PACK_Y use it, X when more columns than PACK_X do; Y sooner when
// it has more than FAR_BYTES, X sooner when it lies in columns and its steps are FAR_ROW bytes apart;
// rows up to NEAR_ROW bytes are read as well where they lie.  Blocks: KC and NC in bytes, MC in rows.
// Buffers up to SMALL bytes are on the stack.  All measured; none is sharp.
enum { PACK_Y = 192, PACK_X = 256, FAR_BYTES = 2 << 20, FAR_ROW = 2048, NEAR_ROW = 3200 };
enum { KC = 1024, MC = 192, NC = 8192, SMALL = 16384, MOST_TINY = 64 };
enum { MAX_ROWS = 12, MAX_TILE_BYTES = 12 * 2 * 64, MAX_WIDTH_BYTES = 512, MAX_WIDTHS = 5 };

// C (rows fixed by the function) = or += X·Y, plus a bias for each row if it is not NULL, over k steps; all strides
// count elements.
typedef void Tile(int64_t k, const void *x, int64_t xr, int64_t xk, const void *y, int64_t yk, const void *bias,
                  void *c, int64_t cr, bool add);
// The same with xr = 1, and row p of Y at[p] after y.
typedef void TileAt(int64_t k, const void *x, int64_t xk, const void *y, const int64_t *at, void *c, int64_t cr,
                    bool add);
typedef void Dot(int64_t k, const void *x, int64_t xr, const void *y, int64_t yr, void *c, int64_t cr, int64_t cc);

typedef void DotAt(int64_t pieces, int64_t k, const void *x, int64_t xr, int64_t xp, const void *y, const int64_t *at,
                   int64_t yp, void *tile);

// Tiles of one width, by their rows.
typedef struct Width {
  int columns;
  Tile *tile[MAX_ROWS + 1];
} Width;

typedef struct WidthAt {
  int columns;
  TileAt *tile[MAX_ROWS + 1];
} WidthAt;

// All kernels of one instruction set and element type.
typedef struct Level {
  int rows;                  // of the largest tile
  Width wide;                // for one or two rows
  Width widths[MAX_WIDTHS];  // descending; the last has one column
  WidthAt at[2];             // of two vectors and of one
  Dot *dot[4];               // 1×1, 1×4, 4×1, 2×4
  DotAt *dot_at[2];          // 1×4, 2×4
  void (*pack)(void *to, const void *from, int64_t across, int64_t along, int64_t extent, int64_t k, int64_t width);
  void (*scatter)(const void *tile, int64_t width, int64_t rows, int64_t columns, void *c, int64_t cr, int64_t cc,
                  bool add);
} Level;

#define BITS 32
#include "gemm_kernels.h"
#define BITS 64
#include "gemm_kernels.h"

// One product; after `orient`, vectors run along the columns.  Strides count elements.
typedef struct Product {
  const Level *level;
  int64_t size;  // of an element
  int64_t m, n, k;
  const char *x, *y, *bias;  // bias: what the rows of C begin with, or NULL
  char *c;
  int64_t xr, xk, yk, yc, cr, cc;
  bool turned, dots, pack_x, pack_y;  // turned: C' = Y'·X', x is B
  int64_t panel;                      // columns of a packed panel of Y
  int64_t mc, nc, kc;                 // blocks
  int64_t parts_m, parts_n;           // the grid of rectangles
  char *buffers;                      // one for each rectangle
  size_t x_bytes, part_bytes;         // of a rectangle: X's part, all
} Product;

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static int64_t round_up(int64_t value, int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

// Cuts `total` into equal blocks of at most `most`, multiples of `unit`.
static int64_t even_block(int64_t total, int64_t most, int64_t unit) {
  int64_t blocks = (total + most - 1) / most;
  return round_up((total + blocks - 1) / blocks, unit);
}

// Tiles over rows × columns of C: X and Y packed, or where they lie.
typedef struct Tiles {
  const Product *g;
  int64_t rows, columns, k;
  const char *x, *y;
  int64_t xr, xk, xstep;  // xstep: from a row to the next where tiles begin
  int64_t yk, ystep;
  int64_t before;  // columns of Y that may be read to the left of y; -1 when lanes to the right may be
  const char *bias;
  char *c;
  bool add;
} Tiles;

// The rows of the first of the tiles that cover 1..12 rows best: low tiles keep too few sums in flight.
static const int8_t first[MAX_ROWS + 1] = {0, 1, 2, 3, 4, 4, 6, 4, 8, 6, 6, 8, 12};

// The columns [j, j + columns) with tiles of this width, of which the first `skip` lanes
// are of no use.
static void run_column(const Tiles *r, const Width *w, int64_t j, int64_t skip, int64_t columns) {
  const Product *g = r->g;
  const char *y = r->y + (j * r->ystep - skip) * g->size;
  bool whole = g->cc == 1 && columns == w->columns;
  _Alignas(64) char buffer[MAX_TILE_BYTES], lanes[MAX_WIDTH_BYTES];
  const char *bias = r->bias ? r->bias + j * g->size : NULL;
  if (bias && !whole) {
    memset(lanes, 0, sizeof lanes);
    memcpy(lanes + skip * g->size, bias, (size_t)(columns * g->size));
    bias = lanes;
  }
  int64_t step = g->level->rows;
  if (step == 12 && !g->pack_x && r->rows > 12 && r->rows <= 16) step = 8;  // 8 + 8 keeps more in flight than 12 + 4
  for (int64_t i = 0; i < r->rows; i += step) {
    int64_t end = least(r->rows - i, step);
    for (int64_t in_panel = 0, rows; in_panel < end; in_panel += rows) {
      const char *x = r->x + (i * r->xstep + in_panel * r->xr) * g->size;
      char *c = r->c + ((i + in_panel) * g->cr + j * g->cc) * g->size;
      rows = first[end - in_panel];
      if (whole) {
        w->tile[rows](r->k, x, r->xr, r->xk, y, r->yk, bias, c, g->cr, r->add);
      } else {
        w->tile[rows](r->k, x, r->xr, r->xk, y, r->yk, bias, buffer, w->columns, false);
        g->level->scatter(buffer + skip * g->size, w->columns, rows, columns, c, g->cr, g->cc, r->add);
      }
    }
  }
}

// Picks widths from left to right.  What is narrower than a tile is covered by one that reaches
// back over columns already done, or past the end into a panel's zeros; else by narrower ones.
static void run(const Tiles *r) {
  const Width *widths = r->g->level->widths;
  int64_t j = 0;
  if (r->rows <= 2 && r->before >= 0)
    for (const Width *w = &r->g->level->wide; j + w->columns <= r->columns; j += w->columns)
      run_column(r, w, j, 0, w->columns);
  while (j < r->columns) {
    int64_t left = r->columns - j;
    const Width *w = widths;
    while (w->columns > left) w++;
    if (w->columns < left && w > widths) {
      const Width *larger = w - 1;
      if (r->before < 0)
        w = larger;
      else if (larger->columns - left <= j + r->before)
        w = larger;
    }
    if (w->columns <= left) {
      run_column(r, w, j, 0, w->columns);
      j += w->columns;
    } else {
      run_column(r, w, j, r->before < 0 ? 0 : w->columns - left, left);
      j += left;
    }
  }
}

typedef struct Rectangle {
  int64_t i, rows, j, columns;
} Rectangle;

static Rectangle rectangle_of(const Product *g, int64_t part) {
  int64_t high = g->dots ? 4 : g->level->rows, wide = g->dots ? 4 : g->panel;
  int64_t units_m = (g->m + high - 1) / high, units_n = (g->n + wide - 1) / wide;
  int64_t pm = part % g->parts_m, pn = part / g->parts_m;
  int64_t i = units_m * pm / g->parts_m * high, iend = least(units_m * (pm + 1) / g->parts_m * high, g->m);
  int64_t j = units_n * pn / g->parts_n * wide, jend = least(units_n * (pn + 1) / g->parts_n * wide, g->n);
  return (Rectangle){i, iend - i, j, jend - j};
}

static void tiles(const Product *g, Rectangle at, char *space) {
  char *xs = space, *ys = space + g->x_bytes;
  int64_t size = g->size;
  for (int64_t j = 0; j < at.columns; j += g->nc) {
    int64_t columns = least(g->nc, at.columns - j);
    for (int64_t p = 0; p < g->k; p += g->kc) {
      int64_t steps = least(g->kc, g->k - p);
      const char *y = g->y + ((at.j + j) * g->yc + p * g->yk) * size;
      Tiles r = {.g = g, .columns = columns, .k = steps, .add = p > 0};
      if (g->bias && p == 0) r.bias = g->bias + (at.j + j) * size;
      if (g->pack_y) {
        g->level->pack(ys, y, g->yc, g->yk, columns, steps, g->panel);
        r.y = ys, r.yk = g->panel, r.ystep = steps, r.before = -1;
      } else {
        r.y = y, r.yk = g->yk, r.ystep = 1, r.before = at.j + j;
      }
      for (int64_t i = 0; i < at.rows; i += g->mc) {
        if (nb_interrupted()) return;
        const char *x = g->x + ((at.i + i) * g->xr + p * g->xk) * size;
        r.rows = least(g->mc, at.rows - i);
        r.c = g->c + ((at.i + i) * g->cr + (at.j + j) * g->cc) * size;
        if (g->pack_x) {
          g->level->pack(xs, x, g->xr, g->xk, r.rows, steps, g->level->rows);
          r.x = xs, r.xr = 1, r.xk = g->level->rows, r.xstep = steps;
        } else {
          r.x = x, r.xr = r.xstep = g->xr, r.xk = g->xk;
        }
        run(&r);
      }
    }
  }
}

static void dots(const Product *g, Rectangle at) {
  int64_t size = g->size, j = 0;
  const char *x = g->x + at.i * g->xr * size, *y = g->y + at.j * g->yc * size;
  char *c = g->c + (at.i * g->cr + at.j * g->cc) * size;
  Dot *const *dot = g->level->dot;
  for (; j < at.columns; j += 4) {
    int64_t i = 0, columns = least(4, at.columns - j);
#define DOTS(which, s)                                                               \
  dot[which](g->k, x + i * g->xr * size, g->xr, y + (j + (s)) * g->yc * size, g->yc, \
             c + (i * g->cr + (j + (s)) * g->cc) * size, g->cr, g->cc)
    if (columns == 4) {
      if (j % 64 == 0 && nb_interrupted()) return;
      for (; i + 2 <= at.rows; i += 2) DOTS(3, 0);
      if (i < at.rows) DOTS(1, 0);
      continue;
    }
    for (; i + 4 <= at.rows; i += 4) {
      if (i % 64 == 0 && nb_interrupted()) return;
      for (int64_t s = 0; s < columns; s++) DOTS(2, s);
    }
    for (; i < at.rows; i++)
      for (int64_t s = 0; s < columns; s++) DOTS(0, s);
#undef DOTS
  }
}

static void compute_parts(int64_t begin, int64_t end, void *ctx) {
  const Product *g = ctx;
  for (int64_t part = begin; part < end; part++) {
    Rectangle at = rectangle_of(g, part);
    if (at.rows <= 0 || at.columns <= 0) continue;
    if (g->dots)
      dots(g, at);
    else
      tiles(g, at, g->buffers + (size_t)part * g->part_bytes);
  }
}

// Few rows times a matrix whose rows run along k: packing it would cost more than reading it as X.
static bool is_flat(const Product *g) {
  return g->xk == 1 && g->yk == 1 && g->yc != 1 && g->m >= 16 && g->m <= 32 && g->n >= 2 * g->m && g->k >= 64 &&
         g->k * g->size <= NEAR_ROW;
}

// Chooses which operand the vectors run along, and dot products where they are better.
static void orient(Product *g) {
  bool narrow = g->n < g->level->widths[0].columns && g->m > 2 * g->n;
  if (is_flat(g) || (g->xr == 1 && g->xk != 1 && (g->yc != 1 || narrow))) {
    Product t = *g;
    g->m = t.n, g->x = t.y, g->xr = t.yc, g->xk = t.yk;
    g->n = t.m, g->y = t.x, g->yc = t.xr, g->yk = t.xk;
    g->cr = t.cc, g->cc = t.cr;
    g->turned = true;
  }
  g->dots = g->xk == 1 && g->yk == 1 && (g->n < 4 || (g->yc != 1 && g->m < 12 && g->k >= 32));
}

// The grid with the least work for its largest rectangle: products, and elements to pack.
static void share(Product *g, int64_t threads) {
  double work = (double)g->m * (double)g->n * (double)g->k;
  g->parts_m = g->parts_n = 1;
  if (work < 2 * SHARE || threads < 2) return;
  if ((double)threads > work / SHARE) threads = (int64_t)(work / SHARE);
  double best = 0;
  int64_t best_m = 1;
  for (int64_t pm = 1; pm <= threads; pm++) {
    g->parts_m = pm;
    g->parts_n = threads / pm;
    double rows = 0, columns = 0;
    for (int64_t part = 0; part < pm; part++) {
      Rectangle at = rectangle_of(g, part);
      if ((double)at.rows > rows) rows = (double)at.rows;
    }
    for (int64_t part = 0; part < g->parts_n; part++) {
      Rectangle at = rectangle_of(g, part * pm);
      if ((double)at.columns > columns) columns = (double)at.columns;
    }
    double cost = rows * columns + 10 * (rows + columns);
    if (pm == 1 || cost < best) best = cost, best_m = pm;
  }
  g->parts_m = best_m;
  g->parts_n = threads / best_m;
}

// True when a single wider tile over padded columns is better than two that fit.
static bool is_ragged(const Product *g) {
  const Width *w = g->level->widths;
  return g->n < w[0].columns && (g->n & (g->n - 1)) && g->m >= (g->n > w[1].columns ? 48 : 24);
}

// Blocks, and what to pack.
static void plan(Product *g, int64_t threads) {
  const Level *level = g->level;
  const Width *w = level->widths;
  g->panel = w->columns;
  for (; w->columns >= g->n && w->columns > 1; w++) g->panel = w->columns;
  share(g, threads);
  bool far = (double)g->n * (double)g->k * (double)g->size > (double)FAR_BYTES;
  g->pack_y = g->yc != 1 || g->m > PACK_Y || (far && g->m >= 32) || is_ragged(g);
  bool apart = g->xr == 1 && g->xk * g->size >= FAR_ROW && g->n >= 32;
  g->pack_x = g->n > PACK_X || apart;
  Rectangle at = {0, (g->m + g->parts_m - 1) / g->parts_m, 0, (g->n + g->parts_n - 1) / g->parts_n};
  // C is read and written once for each block of k, Y's block read once for each of rows: where k is long, larger
  // blocks spare more than what they cost by leaving level 2.
  bool deep = g->k * g->size >= 4 * KC;
  g->kc = even_block(g->k, (deep ? 2 : 1) * KC / g->size, 4);
  g->mc = even_block(at.rows, (deep ? 3 : 1) * MC, level->rows);
  g->nc = even_block(at.columns, NC / g->size, g->panel);
  g->x_bytes = g->pack_x ? (size_t)round_up(g->mc * g->kc * g->size, 64) : 0;
  g->part_bytes = g->x_bytes + (g->pack_y ? (size_t)round_up(g->nc * g->kc * g->size, 64) : 0);
}

static bool compute(Product *g, Error *err) {
  int64_t parts = g->parts_m * g->parts_n;
  size_t bytes = (size_t)parts * g->part_bytes;
  _Alignas(64) char local[SMALL];
  g->buffers = local;
  if (bytes > SMALL && !(g->buffers = nb_alloc(bytes, err))) return false;
  if (parts == 1)
    compute_parts(0, 1, g);
  else
    nb_parallel_for(parts, 1, compute_parts, g);
  if (bytes > SMALL) nb_free(g->buffers, bytes);
  return nb_poll(err);
}

// True when a product is best done at once, by one thread, from where the operands lie.
static bool is_small(const Product *g) {
  return g->m <= 64 && g->n <= 64 && g->k <= 256 && (g->dots || (g->yc == 1 && !is_ragged(g)));
}

#define TINY(name, T)                                                                                  \
  static void name(const GemmTiny *g, const T *x, const T *y, const T *bias, T *c, int64_t cr) {       \
    for (int64_t i = 0; i < g->m; i++)                                                                 \
      for (int64_t j = 0; j < g->n; j++) {                                                             \
        T sum = 0;                                                                                     \
        for (int64_t p = 0; p < g->k; p++) sum += x[i * g->xr + p * g->xk] * y[p * g->yk + j * g->yc]; \
        c[i * cr + j] = bias ? sum + bias[j] : sum;                                                    \
      }                                                                                                \
  }
TINY(tiny_f32, float)
TINY(tiny_f64, double)

#if X86
CPU_AVX2_TARGET static inline __m128 load_four(const float *from, int64_t step, int64_t count) {
  if (count == 4 && step == 1) return _mm_loadu_ps(from);
  return _mm_setr_ps(from[0], count > 1 ? from[step] : 0, count > 2 ? from[2 * step] : 0,
                     count > 3 ? from[3 * step] : 0);
}

CPU_AVX2_TARGET static inline void store_four(float *to, __m128 v, int64_t count) {
  if (count == 4) {
    _mm_storeu_ps(to, v);
    return;
  }
  if (count & 2) {
    _mm_storel_pi((__m64 *)to, v);
    v = _mm_movehl_ps(v, v);
    to += 2;
  }
  if (count & 1) _mm_store_ss(to, v);
}

// Four columns at a time.
CPU_AVX2_TARGET static inline __attribute__((always_inline)) void tiny_steps(const GemmTiny *g, const int64_t k,
                                                                             const float *x, const float *y,
                                                                             const float *bias, float *c, int64_t cr) {
  __m128 row[MOST_TINY];
  for (int64_t j = 0; j < g->n; j += 4) {
    int64_t columns = least(4, g->n - j);
    __m128 last = bias ? load_four(bias + j, 1, columns) : _mm_setzero_ps();
    for (int64_t p = 0; p < k; p++) row[p] = load_four(y + j * g->yc + p * g->yk, g->yc, columns);
    for (int64_t i = 0; i < g->m; i++) {
      __m128 sum = _mm_setzero_ps();
      const float *factor = x + i * g->xr;
      for (int64_t p = 0; p < k; p++) sum = _mm_fmadd_ps(_mm_broadcast_ss(factor + p * g->xk), row[p], sum);
      store_four(c + i * cr + j, bias ? _mm_add_ps(sum, last) : sum, columns);
    }
  }
}

// The fewest steps without loops.
CPU_AVX2_TARGET static void tiny_avx2(const GemmTiny *g, const float *x, const float *y, const float *bias, float *c,
                                      int64_t cr) {
  switch (g->k) {
    case 1:
      tiny_steps(g, 1, x, y, bias, c, cr);
      break;
    case 2:
      tiny_steps(g, 2, x, y, bias, c, cr);
      break;
    case 4:
      tiny_steps(g, 4, x, y, bias, c, cr);
      break;
    default:
      tiny_steps(g, g->k, x, y, bias, c, cr);
  }
}
#endif

static void tiny_floats(const GemmTiny *g, const float *x, const float *y, const float *bias, float *c, int64_t cr) {
#if X86
  if (cpu_level() != CPU_PORTABLE) {
    GemmTiny turned = {1, g->m, g->k, 0, g->yk, g->xk, g->xr};
    if (g->n == 1 && cr == 1 && !bias)  // one column: as a row
      tiny_avx2(&turned, y, x, NULL, c, g->m);
    else
      tiny_avx2(g, x, y, bias, c, cr);
    return;
  }
#endif
  tiny_f32(g, x, y, bias, c, cr);
}

void nb_gemm_tiny(const GemmTiny *g, const float *x, const float *y, const float *bias, float *c) {
  tiny_floats(g, x, y, bias, c, g->n);
}

bool nb_gemm_is_tiny(int64_t m, int64_t n, int64_t k) {
  return m <= MOST_TINY && n <= MOST_TINY && m * n <= MOST_TINY && m * n * k <= MOST_TINY;
}

static GemmTiny tiny_of(int64_t m, int64_t n, int64_t k, GemmMatrix a, GemmMatrix b) {
  return (GemmTiny){
      m, n, k, a.transposed ? 1 : a.ld, a.transposed ? a.ld : 1, b.transposed ? 1 : b.ld, b.transposed ? b.ld : 1};
}

static void tiny(DType dtype, const GemmTiny *g, const void *a, const void *b, const void *bias, void *c, int64_t cr) {
  if (dtype == NB_F32)
    tiny_floats(g, a, b, bias, c, cr);
  else
    tiny_f64(g, a, b, bias, c, cr);
}

static const Level *level_of(DType dtype) {
  return (dtype == NB_F32 ? f32_levels : f64_levels) + cpu_level();
}

static void small(const Product *g) {
  if (g->dots)
    dots(g, (Rectangle){0, g->m, 0, g->n});
  else
    run(&(Tiles){g, g->m, g->n, g->k, g->x, g->y, g->xr, g->xk, g->xr, g->yk, 1, 0, g->bias, g->c, false});
}

static Product product_of(DType dtype, int64_t m, int64_t n, int64_t k, GemmMatrix a, GemmMatrix b, void *c,
                          int64_t ldc) {
  Product g = {.level = level_of(dtype), .size = (int64_t)nb_dtype_size(dtype), .m = m, .n = n, .k = k};
  g.x = a.data, g.y = b.data, g.c = c;
  g.xr = a.transposed ? 1 : a.ld, g.xk = a.transposed ? a.ld : 1;
  g.yk = b.transposed ? 1 : b.ld, g.yc = b.transposed ? b.ld : 1;
  g.cr = ldc, g.cc = 1;
  return g;
}

static void add_bias(DType dtype, int64_t m, int64_t n, const void *bias, void *c, int64_t ldc) {
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++)
      if (dtype == NB_F32)
        ((float *)c)[i * ldc + j] += ((const float *)bias)[j];
      else
        ((double *)c)[i * ldc + j] += ((const double *)bias)[j];
}

static const GemmLibrary *library;

void nb_gemm_offer(const GemmLibrary *l) {
  library = l;
}

bool nb_gemm_bias(DType dtype, int64_t m, int64_t n, int64_t k, GemmMatrix a, GemmMatrix b, const void *bias, void *c,
                  int64_t ldc, Error *err) {
  if (m <= 0 || n <= 0) return true;
  if (k > 0 && nb_gemm_is_tiny(m, n, k)) {
    GemmTiny t = tiny_of(m, n, k, a, b);
    tiny(dtype, &t, a.data, b.data, bias, c, ldc);
    return true;
  }
  if (k <= 0) {
    int64_t size = (int64_t)nb_dtype_size(dtype);
    for (int64_t i = 0; i < m; i++) memset((char *)c + i * ldc * size, 0, (size_t)(n * size));
    if (bias) add_bias(dtype, m, n, bias, c, ldc);
    return true;
  }
  if (library && library->serves(m, n, k, a, b, ldc)) {
    if (!library->gemm(dtype, m, n, k, a, b, c, ldc, err)) return false;
    if (bias) add_bias(dtype, m, n, bias, c, ldc);
    return true;
  }
  Product g = product_of(dtype, m, n, k, a, b, c, ldc);
  g.bias = bias;
  orient(&g);
  bool after = bias && (g.turned || g.dots), ok = true;  // the bias runs along other rows, or there are no tiles
  if (after) g.bias = NULL;
  if (is_small(&g)) {
    small(&g);
    ok = !g.dots || nb_poll(err);
  } else {
    plan(&g, nb_threads());
    ok = compute(&g, err);
  }
  if (ok && after) add_bias(dtype, m, n, bias, c, ldc);
  return ok;
}

// ---- rows of Y anywhere ----

int64_t nb_gemm_lanes(DType dtype) {
  return level_of(dtype)->at[1].columns;
}

size_t nb_gemm_x_bytes(DType dtype, int64_t m, int64_t k) {
  return (size_t)(round_up(m, level_of(dtype)->rows) * k) * nb_dtype_size(dtype);
}

void nb_gemm_pack_x(DType dtype, int64_t m, int64_t k, const void *x, void *to) {
  const Level *level = level_of(dtype);
  level->pack(to, x, k, 1, m, k, level->rows);
}

void nb_gemm_at(DType dtype, int64_t m, int64_t n, int64_t k, const void *x, const void *y, const int64_t *at, void *c,
                int64_t ldc) {
  const Level *level = level_of(dtype);
  int64_t size = (int64_t)nb_dtype_size(dtype), high = level->rows, kc = even_block(k, KC / size, 4);
  for (int64_t p = 0; p < k; p += kc) {
    int64_t steps = least(kc, k - p);
    for (int64_t j = 0, width; j < n; j += width) {
      const WidthAt *w = level->at + (n - j < level->at->columns);
      width = w->columns;
      for (int64_t i = 0, rows; i < m; i += rows) {
        rows = first[least(m - i, high - i % high)];
        w->tile[rows](steps, (const char *)x + (i / high * high * k + p * high + i % high) * size, high,
                      (const char *)y + j * size, at + p, (char *)c + (i * ldc + j) * size, ldc, p > 0);
      }
    }
  }
}

void nb_gemm_dots_at(DType dtype, int64_t m, int64_t pieces, int64_t k, const void *x, int64_t xr, int64_t xp,
                     const void *y, const int64_t at[4], int64_t yp, void *c) {
  const Level *level = level_of(dtype);
  int64_t size = (int64_t)nb_dtype_size(dtype);
  for (int64_t i = 0; i < m; i += 2)
    level->dot_at[m - i > 1](pieces, k, (const char *)x + i * xr * size, xr, xp, y, at, yp, (char *)c + i * 4 * size);
}

// ---- batches ----

typedef struct Batch {
  DType dtype;
  Product g;
  GemmTiny t;
  bool tiny, small;
  int64_t count, parts;
  GemmPlace *place;
  void *ctx;
} Batch;

static void batch_body(int64_t begin, int64_t end, void *ctx) {
  const Batch *w = ctx;
  for (int64_t part = begin; part < end; part++) {
    Product g = w->g;
    if (g.part_bytes) g.buffers += (size_t)part * g.part_bytes;
    for (int64_t i = w->count * part / w->parts; i < w->count * (part + 1) / w->parts && !nb_interrupted(); i++) {
      const void *a, *b;
      void *c;
      w->place(w->ctx, i, &a, &b, &c);
      g.x = g.turned ? b : a, g.y = g.turned ? a : b, g.c = c;
      if (w->tiny)
        tiny(w->dtype, &w->t, a, b, NULL, c, g.n);
      else if (w->small)
        small(&g);
      else
        compute_parts(0, 1, &g);
    }
  }
}

bool nb_gemm_batch(DType dtype, int64_t m, int64_t n, int64_t k, GemmMatrix a, GemmMatrix b, int64_t count,
                   GemmPlace *place, void *ctx, Error *err) {
  Batch w = {.dtype = dtype, .g = product_of(dtype, m, n, k, a, b, NULL, n), .t = tiny_of(m, n, k, a, b)};
  w.count = count, w.place = place, w.ctx = ctx;
  double work = (double)count * (double)m * (double)n * (double)k;
  w.parts = work < 2 * SHARE ? 1 : least(nb_threads(), count);
  w.tiny = nb_gemm_is_tiny(m, n, k);
  if (!w.tiny) orient(&w.g);
  w.small = !w.tiny && is_small(&w.g);
  if (!w.tiny && !w.small) plan(&w.g, 1);
  size_t bytes = (size_t)w.parts * w.g.part_bytes;
  if (bytes && !(w.g.buffers = nb_alloc(bytes, err))) return false;
  nb_parallel_for(w.parts, 1, batch_body, &w);
  if (bytes) nb_free(w.g.buffers, bytes);
  return nb_poll(err);
}

// ---- packed operands ----

// The width of tile that suits: the wide one for few rows, else the narrowest that holds all columns.
static const Width *width_for(const Level *level, int64_t m, int64_t n) {
  const Width *w = level->widths;
  if (m <= 2 && n >= level->wide.columns) return &level->wide;
  while (w->columns > 1 && w[1].columns >= n) w++;
  return w;
}

static int64_t packed_steps(const GemmPacked *b) {
  return even_block(b->k, KC / (int64_t)nb_dtype_size(b->dtype), 4);
}

size_t nb_gemm_packed_bytes(DType dtype, int64_t m, int64_t n, int64_t k) {
  return (size_t)(round_up(n, width_for(level_of(dtype), m, n)->columns) * k) * nb_dtype_size(dtype);
}

GemmPacked nb_gemm_pack_at(DType dtype, int64_t m, int64_t n, int64_t k, GemmMatrix b, void *data) {
  const Level *level = level_of(dtype);
  int64_t size = (int64_t)nb_dtype_size(dtype), along = b.transposed ? 1 : b.ld, across = b.transposed ? b.ld : 1;
  GemmPacked to = {.dtype = dtype, .n = n, .k = k, .panel = width_for(level, m, n)->columns, .data = data};
  int64_t columns = round_up(n, to.panel), kc = packed_steps(&to);
  to.bytes = (size_t)(columns * k * size);
  for (int64_t p = 0; p < k; p += kc)
    level->pack((char *)data + p * columns * size, (const char *)b.data + p * along * size, across, along, n,
                least(kc, k - p), to.panel);
  return to;
}

bool nb_gemm_pack(DType dtype, int64_t m, int64_t n, int64_t k, GemmMatrix b, GemmPacked *to, Error *err) {
  void *data = nb_alloc(nb_gemm_packed_bytes(dtype, m, n, k), err);
  *to = data ? nb_gemm_pack_at(dtype, m, n, k, b, data) : (GemmPacked){.dtype = dtype};
  return data;
}

void nb_gemm_unpack(GemmPacked *b) {
  if (b->data) nb_free(b->data, b->bytes);
  b->data = NULL;
}

void nb_gemm_packed(int64_t m, GemmMatrix a, const GemmPacked *b, void *c, int64_t ldc, bool add) {
  const Level *level = level_of(b->dtype);
  const Width *w = b->panel == level->wide.columns ? &level->wide : level->widths;
  while (w->columns != b->panel) w++;
  int64_t kc = packed_steps(b), columns = round_up(b->n, b->panel);
  Product g = {.level = level, .size = (int64_t)nb_dtype_size(b->dtype), .cr = ldc, .cc = 1};
  int64_t high = w == &level->wide ? 2 : m;  // the wide tiles are low
  int64_t xr = a.transposed ? 1 : a.ld, xk = a.transposed ? a.ld : 1;
  for (int64_t p = 0; p < b->k; p += kc) {
    Tiles r = {.g = &g, .columns = b->n, .k = least(kc, b->k - p), .xr = xr, .xk = xk, .xstep = xr, .before = -1};
    r.y = (const char *)b->data + p * columns * g.size, r.yk = b->panel, r.ystep = r.k, r.add = add || p > 0;
    for (int64_t j = 0; j < b->n && !nb_interrupted(); j += b->panel)
      for (int64_t i = 0; i < m; i += high) {
        r.rows = least(high, m - i);
        r.x = (const char *)a.data + (i * xr + p * xk) * g.size;
        r.c = (char *)c + i * ldc * g.size;
        run_column(&r, w, j, 0, least(b->panel, b->n - j));
      }
  }
}
