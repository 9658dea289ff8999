// SPDX-License-Identifier: MIT
// The steps on one picture in numbers of type T, included once for each.  NAME(x) is x's name for that type.
// NOLINTBEGIN: no guard, on purpose

static void NAME(take_part)(const PictureSizes *from, const PictureSizes *to, int64_t top, int64_t left, const T *x,
                            T *y) {
  for (int64_t c = 0; c < to->c; c++)
    for (int64_t r = 0; r < to->h; r++, y += to->w) {
      int64_t row = r + top;
      for (int64_t k = 0; k < to->w; k++) {
        int64_t column = k + left;
        bool inside = row >= 0 && row < from->h && column >= 0 && column < from->w;
        y[k] = inside ? x[(c * from->h + row) * from->w + column] : 0;
      }
    }
}

static T NAME(as_dtype)(T v, DType dtype) {
  if (dtype != NB_U8) return v;
  v = NAME(rint)(v);
  return v < 0 ? 0 : v > 255 ? 255 : v;
}

// One dimension of `lines` lines of n numbers with a step between them resized to m; other by the triangle filter.
static void NAME(resize_lines)(const T *x, T *y, int64_t n, int64_t m, int64_t step, int64_t lines, int64_t apart_x,
                               int64_t apart_y) {
  double scale = (double)n / (double)m, support = scale > 1 ? scale : 1;
  for (int64_t k = 0; k < m; k++) {
    double centre = ((double)k + 0.5) * scale, sum = 0;
    int64_t first = (int64_t)ceil(centre - support - 0.5), last = (int64_t)floor(centre + support - 0.5);
    if (first < 0) first = 0;
    if (last > n - 1) last = n - 1;
    for (int64_t i = first; i <= last; i++) sum += fmax(1 - fabs((double)i + 0.5 - centre) / support, 0);
    for (int64_t l = 0; l < lines; l++) {
      double total = 0;
      for (int64_t i = first; i <= last; i++)
        total += fmax(1 - fabs((double)i + 0.5 - centre) / support, 0) * (double)x[l * apart_x + i * step];
      y[l * apart_y + k * step] = (T)(total / sum);
    }
  }
}

static void NAME(resize)(const PictureSizes *from, const PictureSizes *to, const T *x, T *y, T *between) {
  for (int64_t c = 0; c < to->c; c++) {
    T *half = between + c * to->h * from->w;
    NAME(resize_lines)(x + c * from->h * from->w, half, from->h, to->h, from->w, from->w, 1, 1);
    NAME(resize_lines)(half, y + c * to->h * to->w, from->w, to->w, 1, to->h, from->w, to->w);
  }
  for (int64_t i = 0; to->dtype == NB_U8 && i < to->c * to->h * to->w; i++) y[i] = NAME(as_dtype)(y[i], to->dtype);
}

static void NAME(flip)(const PictureSizes *s, bool rows, const T *x, T *y) {
  for (int64_t c = 0; c < s->c; c++)
    for (int64_t r = 0; r < s->h; r++, y += s->w) {
      const T *line = x + (c * s->h + (rows ? s->h - 1 - r : r)) * s->w;
      for (int64_t k = 0; k < s->w; k++) y[k] = line[rows ? k : s->w - 1 - k];
    }
}

static void NAME(erase)(const PictureSizes *s, const double *v, const double *u, const T *x, T *y) {
  memcpy(y, x, (size_t)(s->c * s->h * s->w) * sizeof *y);
  if (u[0] >= v[0]) return;
  double area = v[1] + u[1] * (v[2] - v[1]), stretch = sqrt(exp((2 * u[2] - 1) * log(3)));
  double high = fmin(sqrt(area) * stretch, 1) * (double)s->h, wide = fmin(sqrt(area) / stretch, 1) * (double)s->w;
  double top = u[3] * ((double)s->h - high), left = u[4] * ((double)s->w - wide);
  for (int64_t c = 0; c < s->c; c++)
    for (int64_t r = 0; r < s->h; r++)
      for (int64_t k = 0; k < s->w; k++) {
        double at_y = (double)r + 0.5 - top, at_x = (double)k + 0.5 - left;
        if (at_y >= 0 && at_y < high && at_x >= 0 && at_x < wide) y[(c * s->h + r) * s->w + k] = (T)v[3];
      }
}

// The pixel at (row, column) from the middle is that at m·(row, column) + b of the picture before: the mean of the
// four around it, zero outside.
static void NAME(affine)(const PictureSizes *s, const double *v, const double *u, const T *x, T *y) {
  double angle = (2 * u[0] - 1) * v[0] * (PI / 180), factor = v[2] + u[1] * (v[3] - v[2]);
  double down = (2 * u[2] - 1) * v[1] * (double)s->h, right = (2 * u[3] - 1) * v[1] * (double)s->w;
  double cosine = cos(angle) / factor, sine = sin(angle) / factor;
  double by = -(cosine * down + sine * right) + (double)(s->h - 1) / 2;
  double bx = sine * down - cosine * right + (double)(s->w - 1) / 2;
  int64_t plane = s->h * s->w;
  for (int64_t r = 0; r < s->h; r++)
    for (int64_t k = 0; k < s->w; k++) {
      double y0 = (double)r - (double)(s->h - 1) / 2, x0 = (double)k - (double)(s->w - 1) / 2;
      double at_y = cosine * y0 + sine * x0 + by, at_x = -sine * y0 + cosine * x0 + bx;
      double low_y = floor(at_y), low_x = floor(at_x), sum;
      for (int64_t c = 0; c < s->c; c++) {
        sum = 0;
        for (int i = 0; i < 4; i++) {
          double py = low_y + i / 2, px = low_x + i % 2;
          if (py < 0 || py >= (double)s->h || px < 0 || px >= (double)s->w) continue;
          double weight = (1 - fabs(at_y - py)) * (1 - fabs(at_x - px));
          sum += weight * (double)x[c * plane + (int64_t)py * s->w + (int64_t)px];
        }
        y[c * plane + r * s->w + k] = NAME(as_dtype)((T)sum, s->dtype);
      }
    }
}

// The grey of a pixel (ITU-R BT.601); of what has no three channels the channel itself.
static double NAME(grey)(const PictureSizes *s, const T *x, int64_t c, int64_t i) {
  int64_t n = s->h * s->w;
  if (s->c != 3) return (double)x[c * n + i];
  return 0.299 * (double)x[i] + 0.587 * (double)x[n + i] + 0.114 * (double)x[2 * n + i];
}

static T NAME(within_one)(double v) {
  return (T)(v < 0 ? 0 : v > 1 ? 1 : v);
}

static void NAME(jitter)(const PictureSizes *s, const double *v, const double *u, const T *x, T *y) {
  int64_t n = s->h * s->w;
  memcpy(y, x, (size_t)(s->c * n) * sizeof *y);
  double factor[3];
  for (int i = 0; i < 3; i++) factor[i] = 1 - v[i] + u[i] * 2 * v[i];
  for (int64_t i = 0; v[0] > 0 && i < s->c * n; i++) y[i] = NAME(within_one)((double)y[i] * factor[0]);
  if (v[1] > 0) {
    double mean = 0;
    int64_t planes = s->c == 3 ? 1 : s->c;
    for (int64_t c = 0; c < planes; c++)
      for (int64_t i = 0; i < n; i++) mean += NAME(grey)(s, y, c, i);
    mean /= (double)(planes * n);
    for (int64_t i = 0; i < s->c * n; i++) y[i] = NAME(within_one)(mean + ((double)y[i] - mean) * factor[1]);
  }
  for (int64_t i = 0; v[2] > 0 && s->c == 3 && i < n; i++) {
    double plain = NAME(grey)(s, y, 0, i);
    for (int64_t c = 0; c < 3; c++) {
      T *at = &y[c * n + i];
      *at = NAME(within_one)(plain + ((double)*at - plain) * factor[2]);
    }
  }
}

static void NAME(normalize)(const PictureSizes *s, const PictureStep *step, const T *x, T *y) {
  int64_t n = s->h * s->w;
  for (int64_t c = 0; c < s->c; c++) {
    double mean = step->mean[step->means == 1 ? 0 : c], std = step->std[step->stds == 1 ? 0 : c];
    for (int64_t i = 0; i < n; i++) y[c * n + i] = (T)(((double)x[c * n + i] - mean) / std);
  }
}

static void NAME(step)(const PictureStep *step, const PictureSizes *from, const PictureSizes *to, const double *u,
                       const T *x, T *y, T *between) {
  size_t bytes = (size_t)(from->c * from->h * from->w) * sizeof *x;
  int64_t padding = (int64_t)step->v[2];
  switch (step->kind) {
    case NB_PICTURE_TO_FLOAT:
      if (from->dtype != NB_U8) memcpy(y, x, bytes);
      for (int64_t i = 0; from->dtype == NB_U8 && i < from->c * from->h * from->w; i++) y[i] = x[i] / 255;
      return;
    case NB_PICTURE_NORMALIZE:
      NAME(normalize)(from, step, x, y);
      return;
    case NB_PICTURE_CENTER_CROP:
      NAME(take_part)(from, to, (from->h - to->h) / 2, (from->w - to->w) / 2, x, y);
      return;
    case NB_PICTURE_RANDOM_CROP:
      NAME(take_part)
      (from, to, (int64_t)(u[0] * (double)(from->h + 2 * padding - to->h + 1)) - padding,
       (int64_t)(u[1] * (double)(from->w + 2 * padding - to->w + 1)) - padding, x, y);
      return;
    case NB_PICTURE_RESIZE:
      if (from->h == to->h && from->w == to->w)
        memcpy(y, x, bytes);
      else
        NAME(resize)(from, to, x, y, between);
      return;
    case NB_PICTURE_FLIP_COLUMNS:
    case NB_PICTURE_FLIP_ROWS:
      if (u[0] < step->v[0])
        NAME(flip)(from, step->kind == NB_PICTURE_FLIP_ROWS, x, y);
      else
        memcpy(y, x, bytes);
      return;
    case NB_PICTURE_ERASE:
      NAME(erase)(from, step->v, u, x, y);
      return;
    case NB_PICTURE_AFFINE:
      NAME(affine)(from, step->v, u, x, y);
      return;
    case NB_PICTURE_JITTER:
      NAME(jitter)(from, step->v, u, x, y);
      return;
  }
}

static void NAME(run)(const PicturePlan *p, const void *in, void *out, uint64_t key, uint64_t number, void *scratch) {
  T *parts[3];
  size_t most = p->room / sizeof(T) / 3;
  for (int i = 0; i < 3; i++) parts[i] = (T *)scratch + (size_t)i * most;
  NAME(load)(in, p->sizes[0].dtype, p->sizes[0].c * p->sizes[0].h * p->sizes[0].w, parts[0]);
  for (int i = 0; i < p->count; i++) {
    double u[8];
    draw(key, number, i, u);
    NAME(step)(&p->steps[i], &p->sizes[i], &p->sizes[i + 1], u, parts[i % 2], parts[1 - i % 2], parts[2]);
  }
  const PictureSizes *last = &p->sizes[p->count];
  NAME(store)(parts[p->count % 2], last->dtype, last->c * last->h * last->w, out);
}
// NOLINTEND
