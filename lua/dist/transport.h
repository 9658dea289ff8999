// SPDX-License-Identifier: MIT
// How bytes get from one process of a group to the others: what nablua/dist.so offers, and all of MPI that the rest of
// nablua knows.
//
// The module is opened at run time, by a group of more than one process alone.  Ranks are counted from 0 here.  All
// functions are the computing thread's, but for `abandon`.
#ifndef NABLUA_TRANSPORT_H
#define NABLUA_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TRANSPORT_VERSION = 4, TRANSPORT_REQUEST = 16 /* bytes */ };

typedef enum Element { ELEMENT_U8, ELEMENT_I64, ELEMENT_U64, ELEMENT_F32, ELEMENT_F64, ELEMENTS } Element;

typedef enum Motion {
  MOTION_BARRIER,
  MOTION_ALLREDUCE,
  MOTION_REDUCE,
  MOTION_BROADCAST,
  MOTION_ALLGATHER,
  MOTION_GATHER,
  MOTION_SCATTER,
  MOTION_SEND,
  MOTION_RECEIVE
} Motion;

typedef enum Reduction { REDUCTION_SUM, REDUCTION_MAX, REDUCTION_MIN } Reduction;

// What is in order on one channel may come at any time between what is on another.
typedef enum Channel { CHANNEL_CONTROL, CHANNEL_DATA, CHANNEL_BUCKETS, CHANNELS } Channel;

// One exchange.  `count` elements go from each process (of a broadcast: to each); where `from` is NULL the elements are
// those at `to`.
typedef struct Exchange {
  Motion motion;
  Channel channel;
  Element element;
  Reduction reduction;
  const void *from;
  void *to;
  int64_t count;
  int peer;  // the root, or the other end
  int tag;   // below 32768: of sends and receives those of one tag meet, in their order
} Exchange;

typedef struct Request {
  _Alignas(8) char bytes[TRANSPORT_REQUEST];
} Request;

typedef struct TransportPlace {
  int rank, size;            // in the group
  int node_rank, node_size;  // among the processes of this machine
  int machines;
  const char *library;  // "Open MPI v4.1.4"
} TransportPlace;

typedef struct Transport {
  int version;
  // The launcher's names, the likeliest first, NULL at the end.
  const char *const *launchers;
  // Joins the group of the launcher; false with a sentence.  What was joined already is only told again.
  bool (*open)(TransportPlace *place, char *why, size_t size);
  // A descriptor of memory that the processes of this machine share, so many bytes of zeros; -1 with a sentence.
  int (*shared)(size_t bytes, char *why, size_t size);
  // Begins an exchange, whose memory stays until it is done; false with a sentence.
  bool (*start)(const Exchange *x, Request *r, char *why, size_t size);
  bool (*test)(Request *r, bool *done, char *why, size_t size);
  // Begins to make new channels on all ranks: what is under way on the old ones stays there.  `test` says when they are
  // made, and then `renewed` is to be called.
  bool (*renew)(Request *r, char *why, size_t size);
  void (*renewed)(void);
  // Waits for the others and leaves the group.
  void (*close)(void);
  // Ends all processes of the group.
  void (*abandon)(int status);
} Transport;

typedef const Transport *(*TransportFunction)(void);
#define TRANSPORT_FUNCTION "nablua_transport"

#endif
