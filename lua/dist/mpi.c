// SPDX-License-Identifier: MIT
// The transport over MPI: nablua/dist.so, the one file of nablua that knows MPI.
//
// It asks for MPI_THREAD_FUNNELED: one thread calls.  Every communicator returns its errors, so that they become
// sentences.
#include <limits.h>
#include <mpi.h>
#include <stdio.h>
#include <string.h>

#include "transport.h"

_Static_assert(sizeof(MPI_Request) <= TRANSPORT_REQUEST, "a request must have room");

static MPI_Comm world = MPI_COMM_NULL, channels[CHANNELS], node = MPI_COMM_NULL;
static MPI_Comm coming[CHANNELS];  // channels that are being made
static bool spawned;               // the world is not that of a launcher
static MPI_Win window = MPI_WIN_NULL;
static TransportPlace joined;
static char library[MPI_MAX_LIBRARY_VERSION_STRING];

static bool succeeded(int code, const char *what, char *why, size_t size) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length;
  if (code == MPI_SUCCESS) return true;
  MPI_Error_string(code, text, &length);
  snprintf(why, size, "MPI failed in %s: %s", what, text);
  return false;
}

// "Open MPI v4.1.4, package: ..." without what follows.
static void name_library(void) {
  int length;
  MPI_Get_library_version(library, &length);
  library[strcspn(library, ",\n")] = '\0';
  for (char *tab = library; (tab = strchr(tab, '\t')); tab++) *tab = ' ';
}

static bool initialize(char *why, size_t size) {
  int provided, initialized;
  if (!succeeded(MPI_Initialized(&initialized), "MPI_Initialized", why, size)) return false;
  if (initialized) return true;
  if (!succeeded(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread", why, size))
    return false;
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
  name_library();
  if (provided >= MPI_THREAD_FUNNELED) return true;
  snprintf(why, size, "this MPI knows no threads (MPI_THREAD_FUNNELED)");
  return false;
}

// Finds the place in a world.
static bool settle(MPI_Comm in, char *why, size_t size) {
  world = in;
  MPI_Comm_set_errhandler(world, MPI_ERRORS_RETURN);
  for (int i = 0; i < CHANNELS; i++)
    if (!succeeded(MPI_Comm_dup(world, &channels[i]), "MPI_Comm_dup", why, size)) return false;
  MPI_Comm_rank(world, &joined.rank);
  MPI_Comm_size(world, &joined.size);
  if (!succeeded(MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, joined.rank, MPI_INFO_NULL, &node),
                 "MPI_Comm_split_type", why, size))
    return false;
  MPI_Comm_rank(node, &joined.node_rank);
  MPI_Comm_size(node, &joined.node_size);
  joined.was_spawned = spawned;
  joined.library = library;
  return true;
}

static bool join(char *why, size_t size) {
  MPI_Comm parent = MPI_COMM_NULL, merged;
  if (!initialize(why, size)) return false;
  MPI_Comm_get_parent(&parent);
  if (parent == MPI_COMM_NULL) return settle(MPI_COMM_WORLD, why, size);
  spawned = true;
  MPI_Comm_set_errhandler(parent, MPI_ERRORS_RETURN);
  return succeeded(MPI_Intercomm_merge(parent, 1, &merged), "MPI_Intercomm_merge", why, size) &&
         settle(merged, why, size);
}

static bool transport_open(TransportPlace *place, char *why, size_t size) {
  if (!joined.library && !join(why, size)) return false;
  *place = joined;
  return true;
}

enum { MOST_SPAWNED = 256 };

static bool transport_spawn(const char *const *commands, int count, TransportPlace *place, char *why, size_t size) {
  static char shell[] = "/bin/sh", option[] = "-c";
  char *programs[MOST_SPAWNED], *words[MOST_SPAWNED][3], **arguments[MOST_SPAWNED];
  int counts[MOST_SPAWNED];
  MPI_Info infos[MOST_SPAWNED];
  MPI_Comm between, merged;
  if (count > MOST_SPAWNED) {
    snprintf(why, size, "at most %d processes can be started, got %d", MOST_SPAWNED, count);
    return false;
  }
  for (int i = 0; i < count; i++) {
    programs[i] = shell;
    words[i][0] = option;
    words[i][1] = (char *)(uintptr_t)commands[i];
    words[i][2] = NULL;
    arguments[i] = words[i];
    counts[i] = 1;
    infos[i] = MPI_INFO_NULL;
  }
  if (!initialize(why, size)) return false;
  if (!succeeded(MPI_Comm_spawn_multiple(count, programs, arguments, counts, infos, 0, MPI_COMM_SELF, &between,
                                         MPI_ERRCODES_IGNORE),
                 "MPI_Comm_spawn_multiple", why, size))
    return false;
  spawned = true;
  MPI_Comm_set_errhandler(between, MPI_ERRORS_RETURN);
  if (!succeeded(MPI_Intercomm_merge(between, 0, &merged), "MPI_Intercomm_merge", why, size) ||
      !settle(merged, why, size))
    return false;
  *place = joined;
  return true;
}

// What MPI has begun to duplicate one after the other is done when the last is.
static bool transport_renew(Request *r, char *why, size_t size) {
  MPI_Request requests[CHANNELS];
  for (int i = 0; i < CHANNELS; i++)
    if (!succeeded(MPI_Comm_idup(world, &coming[i], &requests[i]), "MPI_Comm_idup", why, size)) return false;
  for (int i = 0; i + 1 < CHANNELS; i++) MPI_Request_free(&requests[i]);
  memcpy(r->bytes, &requests[CHANNELS - 1], sizeof *requests);
  return true;
}

static void transport_renewed(void) {
  memcpy(channels, coming, sizeof channels);
}

static void transport_forget(void) {
  world = MPI_COMM_NULL;
  node = MPI_COMM_NULL;
  window = MPI_WIN_NULL;
  joined.library = NULL;
}

static void *transport_shared(size_t bytes, char *why, size_t size) {
  void *mine, *base;
  MPI_Aint length;
  int unit;
  if (!succeeded(MPI_Win_allocate_shared((MPI_Aint)bytes, 1, MPI_INFO_NULL, node, &mine, &window),
                 "MPI_Win_allocate_shared", why, size) ||
      !succeeded(MPI_Win_shared_query(window, 0, &length, &unit, &base), "MPI_Win_shared_query", why, size))
    return NULL;
  memset(mine, 0, bytes);
  MPI_Barrier(node);
  return base;
}

static MPI_Datatype type_of(Element e) {
  switch (e) {
    case ELEMENT_I64:
      return MPI_INT64_T;
    case ELEMENT_U64:
      return MPI_UINT64_T;
    case ELEMENT_F32:
      return MPI_FLOAT;
    case ELEMENT_F64:
      return MPI_DOUBLE;
    default:
      return MPI_UINT8_T;
  }
}

static MPI_Op op_of(Reduction r) {
  return r == REDUCTION_MAX ? MPI_MAX : r == REDUCTION_MIN ? MPI_MIN : MPI_SUM;
}

// What MPI calls the address that says that the elements lie at `to`.
static const void *source(const Exchange *x) {
  return x->from ? x->from : MPI_IN_PLACE;
}

static int begin(const Exchange *x, MPI_Request *r) {
  MPI_Comm on = channels[x->channel];
  MPI_Datatype type = type_of(x->element);
  int n = (int)x->count;
  bool root = x->peer == joined.rank;
  switch (x->motion) {
    case MOTION_BARRIER:
      return MPI_Ibarrier(on, r);
    case MOTION_ALLREDUCE:
      return MPI_Iallreduce(source(x), x->to, n, type, op_of(x->reduction), on, r);
    case MOTION_REDUCE:
      return MPI_Ireduce(root      ? source(x)
                         : x->from ? x->from
                                   : x->to,
                         root ? x->to : NULL, n, type, op_of(x->reduction), x->peer, on, r);
    case MOTION_BROADCAST:
      return MPI_Ibcast(x->to, n, type, x->peer, on, r);
    case MOTION_ALLGATHER:
      return MPI_Iallgather(x->from, n, type, x->to, n, type, on, r);
    case MOTION_GATHER:
      return MPI_Igather(x->from, n, type, x->to, n, type, x->peer, on, r);
    case MOTION_SCATTER:
      return MPI_Iscatter(x->from, n, type, x->to, n, type, x->peer, on, r);
    case MOTION_SEND:
      return MPI_Isend(x->from, n, type, x->peer, 0, on, r);
    case MOTION_RECEIVE:
      return MPI_Irecv(x->to, n, type, x->peer, 0, on, r);
  }
  return MPI_ERR_OTHER;
}

static bool transport_start(const Exchange *x, Request *r, char *why, size_t size) {
  MPI_Request request;
  if (x->count > INT_MAX) {
    snprintf(why, size, "one exchange has at most %d elements, got %lld", INT_MAX, (long long)x->count);
    return false;
  }
  if (!succeeded(begin(x, &request), "an exchange", why, size)) return false;
  memcpy(r->bytes, &request, sizeof request);
  return true;
}

static bool transport_test(Request *r, bool *done, char *why, size_t size) {
  MPI_Request request;
  int flag = 0;
  memcpy(&request, r->bytes, sizeof request);
  bool ok = succeeded(MPI_Test(&request, &flag, MPI_STATUS_IGNORE), "an exchange", why, size);
  memcpy(r->bytes, &request, sizeof request);
  *done = flag;
  return ok;
}

static void transport_close(void) {
  int finalized;
  MPI_Finalized(&finalized);
  if (finalized || spawned) return;
  if (window != MPI_WIN_NULL) MPI_Win_free(&window);
  MPI_Finalize();
}

static void transport_abandon(int status) {
  MPI_Abort(spawned ? MPI_COMM_SELF : MPI_COMM_WORLD, status);
}

__attribute__((visibility("default"))) const Transport *nablua_transport(void) {
  static const Transport transport = {.version = TRANSPORT_VERSION,
                                      .open = transport_open,
                                      .shared = transport_shared,
                                      .start = transport_start,
                                      .test = transport_test,
                                      .spawn = transport_spawn,
                                      .renew = transport_renew,
                                      .renewed = transport_renewed,
                                      .forget = transport_forget,
                                      .close = transport_close,
                                      .abandon = transport_abandon};
  return &transport;
}
