// SPDX-License-Identifier: MIT
// Making Jupyter find the kernel: a folder with kernel.json and the logos.
#include "install.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "folders.h"
#include "session.h"

enum { PATH = 4096, REASON = PATH + 200, EXIT_USAGE = 2 };

static const char *const files[] = {"kernel.json", "logo-svg.svg", "logo-32x32.png", "logo-64x64.png"};

typedef struct Place {
  char folder[PATH];
  const char *name;
  const char *program;  // what Jupyter is to run; NULL: this very file
} Place;

static int complain(const char *what, const char *detail) {
  fprintf(stderr, "nablua-kernel: %s%s%s\n", what, *detail ? ": " : "", detail);
  return EXIT_USAGE;
}

static bool is_name(const char *name) {
  static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  return *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && name[strspn(name, letters)] == '\0';
}

// Jupyter's data folder of this user, or below a prefix.
static bool data_folder(char *out, const char *prefix) {
  const char *own = getenv("JUPYTER_DATA_DIR");
  if (!prefix && !(own && *own)) return folder_path(out, PATH, "XDG_DATA_HOME", ".local/share", "jupyter");
  int n = prefix ? snprintf(out, PATH, "%s/share/jupyter", prefix) : snprintf(out, PATH, "%s", own);
  return n > 0 && n < PATH;
}

// 0, or the exit status.
static int read_options(int argc, char **argv, Place *place) {
  const char *prefix = NULL;
  char data[PATH];
  place->name = "nablua";
  place->program = NULL;
  for (int i = 1; i < argc; i++) {
    const char *a = argv[i];
    if (strcmp(a, "--user") == 0) {
      prefix = NULL;
    } else if (strcmp(a, "--sys-prefix") == 0) {
      prefix = getenv("VIRTUAL_ENV") ? getenv("VIRTUAL_ENV") : getenv("CONDA_PREFIX");
      if (!prefix)
        return complain("--sys-prefix needs an active environment, venv or conda; else use --prefix DIR", "");
    } else if (strcmp(a, "--prefix") == 0 && i + 1 < argc) {
      prefix = argv[++i];
    } else if (strcmp(a, "--name") == 0 && i + 1 < argc) {
      place->name = argv[++i];
    } else if (strcmp(a, "--program") == 0 && i + 1 < argc) {
      place->program = argv[++i];
    } else {
      return complain("there is no such option, or what belongs to it is missing", a);
    }
  }
  if (!is_name(place->name))
    return complain("a kernel's name is made of letters, digits, '.', '_' and '-', not", place->name);
  if (!data_folder(data, prefix) || snprintf(place->folder, PATH, "%s/kernels/%s", data, place->name) >= PATH)
    return complain("there is no home folder to install in, or its path is too long; use --prefix DIR", "");
  return 0;
}

static bool make_folders(const char *folder) {
  char path[PATH + 2];
  snprintf(path, sizeof path, "%s/", folder);
  return folder_make(path, 0755);
}

static bool out_of_memory(char *reason) {
  snprintf(reason, REASON, "out of memory");
  return false;
}

static bool write_file(const Place *place, const char *name, const void *data, size_t length, char *reason) {
  char path[PATH + 32];
  snprintf(path, sizeof path, "%s/%s", place->folder, name);
  return data ? session_replace_file(path, data, length, false, reason, REASON) : out_of_memory(reason);
}

// The path of this program, in `self`, or what is to be run in its place; NULL where there is none.
static const char *program_of(const Place *place, char *self, char *reason) {
  if (place->program) return place->program;
  ssize_t n = readlink("/proc/self/exe", self, PATH - 1);
  if (n < 0) {
    snprintf(reason, REASON, "cannot find the kernel's own path: %s", strerror(errno));
    return NULL;
  }
  self[n] = '\0';
  return self;
}

static bool write_spec(const Place *place, char *reason) {
  char self[PATH];
  const char *program = program_of(place, self, reason);
  if (!program) return false;
  const char *title = strcmp(place->name, "nablua") == 0 ? "" : place->name;
  json_t *spec =
      json_pack("{s:[s, s, s], s:o, s:s, s:s, s:{s:b, s:s}}", "argv", program, "-f", "{connection_file}",
                "display_name", json_sprintf("Lua (nablua%s%s)", *title ? ", " : "", title), "language", "lua",
                "interrupt_mode", "message", "metadata", "debugger", 1, "supported_encryption", "curve");
  char *text = json_dumps(spec, JSON_INDENT(2));
  bool ok = write_file(place, "kernel.json", text, text ? strlen(text) : 0, reason);
  free(text);
  json_decref(spec);
  return ok;
}

static bool write_logo(const Place *place, const char *name, int pixels, char *reason) {
  size_t length = 0;
  unsigned char *png = logo_png(pixels, &length);
  bool ok = write_file(place, name, png, length, reason);
  free(png);
  return ok;
}

// The logos first: a kernel that Jupyter finds is complete.
static bool write_all(const Place *place, char *reason) {
  if (!make_folders(place->folder)) {
    snprintf(reason, REASON, "cannot write into %s: %s", place->folder, strerror(errno));
    return false;
  }
  return write_file(place, files[1], logo_svg, strlen(logo_svg), reason) && write_logo(place, files[2], 32, reason) &&
         write_logo(place, files[3], 64, reason) && write_spec(place, reason);
}

static int remove_all(const Place *place) {
  char path[PATH + 32];
  if (access(place->folder, F_OK) != 0) {
    fprintf(stderr, "nablua-kernel: nothing is installed in %s\n", place->folder);
    return 1;
  }
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    snprintf(path, sizeof path, "%s/%s", place->folder, files[i]);
    unlink(path);
  }
  if (rmdir(place->folder) != 0) {
    fprintf(stderr, "nablua-kernel: cannot remove %s: %s\n", place->folder, strerror(errno));
    return 1;
  }
  printf("removed %s\n", place->folder);
  return 0;
}

int install(int argc, char **argv) {
  Place place;
  char reason[REASON];
  int status = read_options(argc, argv, &place);
  if (status) return status;
  if (strcmp(argv[0], "uninstall") == 0) return remove_all(&place);
  if (!write_all(&place, reason)) {
    fprintf(stderr, "nablua-kernel: %s\n", reason);
    return 1;
  }
  printf("installed in %s\n", place.folder);
  return 0;
}
