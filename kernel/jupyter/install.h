// SPDX-License-Identifier: MIT
// Making Jupyter find the kernel, and the logo that it then shows.
#ifndef NABLUA_INSTALL_H
#define NABLUA_INSTALL_H

#include <stddef.h>

// The commands install and uninstall; the exit status.
int install(int argc, char **argv);

// The logo as an SVG text, and as a PNG file of so many pixels each way, from malloc; NULL without memory.
extern const char logo_svg[];
unsigned char *logo_png(int pixels, size_t *length);

#endif
