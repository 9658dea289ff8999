// SPDX-License-Identifier: MIT
// Which name was meant.
#ifndef NABLUA_NEAREST_H
#define NABLUA_NEAREST_H

// Of the strings in a NULL-ended list, the one nearest to `name`, or NULL when none is near.
const char *nb_nearest(const char *name, const char *const *list);

#endif
