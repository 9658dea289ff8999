// SPDX-License-Identifier: MIT
// The executable `nablua-kernel`: its command line.
#include <stdio.h>
#include <string.h>

#include "install.h"
#include "kernel.h"

enum { EXIT_USAGE = 2 };

static const char usage[] =
    "nablua-kernel install [--user | --sys-prefix | --prefix DIR] [--name N]     makes Jupyter find this kernel\n"
    "nablua-kernel install ... --program PATH                                    makes it run PATH, not this file\n"
    "nablua-kernel uninstall [--user | --sys-prefix | --prefix DIR] [--name N]   takes it away again\n"
    "nablua-kernel -f CONNECTION_FILE                                            runs it, which Jupyter does\n"
    "nablua-kernel --version | --help\n";

int main(int argc, char **argv) {
  const char *command = argc > 1 ? argv[1] : "";
  if (strcmp(command, "-f") == 0 && argc == 3) return kernel_run(argv[2]);
  if (strcmp(command, "install") == 0 || strcmp(command, "uninstall") == 0) return install(argc - 1, argv + 1);
  if (strcmp(command, "--version") == 0) {
    puts("nablua-kernel " NABLUA_VERSION);
    return 0;
  }
  bool help = strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0;
  fputs(usage, help ? stdout : stderr);
  return help ? 0 : EXIT_USAGE;
}
