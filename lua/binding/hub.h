// SPDX-License-Identifier: MIT
// What boards of several machines tell each other: datagrams between one process of each machine and rank 1, which
// tells all of all.  Who comes between hears sentences about a training and cannot make them: each carries a number
// that only the group knows.
#ifndef NABLUA_HUB_H
#define NABLUA_HUB_H

#include <stdbool.h>
#include <stdint.h>

enum { BOARD_TEXT = 240, BOARD_HOST = 32, HUB_ADDRESSES = 8, HUB_ADDRESS = 48 };

// What is told of one process.
typedef struct HubNews {
  int32_t rank, pid, state, dead, renewed, ends;
  uint64_t number, beat, work, bytes;
  char text[BOARD_TEXT], host[BOARD_HOST];
} HubNews;

// Where rank 1 is found: the same on all ranks.
typedef struct HubPlace {
  uint64_t secret;
  int32_t port, count;
  char address[HUB_ADDRESSES][HUB_ADDRESS];
} HubPlace;

// The addresses of this machine by which others may reach it; how many.
int nb_hub_addresses(char address[HUB_ADDRESSES][HUB_ADDRESS]);

// Opens a place in the middle of all; one without a port where there is no network.
HubPlace nb_hub_found(void);

// Opens our end of it; in the process that founded it does nothing.  False where there is none.
bool nb_hub_open(const HubPlace *place);

bool nb_hub_is_center(void);

// What was told, piece by piece; false when there is nothing more now.
bool nb_hub_receive(HubNews *news);

// Whether it is time to tell, of a group of so many.
bool nb_hub_time(double now, int size);

// Tells of a process: to rank 1, or from there to all machines.
void nb_hub_send(const HubNews *news);

void nb_hub_close(void);

#endif
