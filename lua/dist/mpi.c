// SPDX-License-Identifier: MIT
// The transport over MPI: nablua/dist.so, the one file of nablua that knows MPI.
//
// It asks for MPI_THREAD_FUNNELED: one thread calls.  Every communicator returns its errors, so that they become
// sentences.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mpi.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "transport.h"

_Static_assert(sizeof(MPI_Request) <= TRANSPORT_REQUEST, "a request must have room");

static MPI_Comm world = MPI_COMM_NULL, channels[CHANNELS], node = MPI_COMM_NULL;
static MPI_Comm coming[CHANNELS];  // channels that are being made
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

// "Open MPI v4.1.4, package: ..." without what follows, and "MPICH Version:      4.2.1\n..." with one blank.
static void name_library(void) {
  int length;
  char *to = library;
  MPI_Get_library_version(library, &length);
  library[strcspn(library, ",\n")] = '\0';
  for (const char *from = library; *from; from++) {
    bool blank = *from == ' ' || *from == '\t';
    if (!blank || (to > library && to[-1] != ' ')) *to++ = blank ? ' ' : *from;
  }
  *to = '\0';
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
  int first = joined.node_rank == 0;
  if (!succeeded(MPI_Allreduce(&first, &joined.machines, 1, MPI_INT, MPI_SUM, world), "MPI_Allreduce", why, size))
    return false;
  joined.library = library;
  return true;
}

static bool join(char *why, size_t size) {
  return initialize(why, size) && settle(MPI_COMM_WORLD, why, size);
}

static bool transport_open(TransportPlace *place, char *why, size_t size) {
  if (!joined.library && !join(why, size)) return false;
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

// The first of the machine makes the memory, the others find it by its process.
static int transport_shared(size_t bytes, char *why, size_t size) {
  int from[2] = {0, -1}, fd = -1;
  char path[64];
  if (joined.node_rank == 0) {
    fd = memfd_create("nablua-board", MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) != 0) close(fd), fd = -1;
    from[0] = getpid(), from[1] = fd;
  }
  if (!succeeded(MPI_Bcast(from, 2, MPI_INT, 0, node), "MPI_Bcast", why, size)) return -1;
  snprintf(path, sizeof path, "/proc/%d/fd/%d", from[0], from[1]);
  if (joined.node_rank > 0 && from[1] >= 0) fd = open(path, O_RDWR | O_CLOEXEC);
  int ok = fd >= 0, all;
  if (!ok) snprintf(why, size, "%s: %s", path, strerror(errno));
  // All know whether all have it, and the first keeps it open until then.
  if (MPI_Allreduce(&ok, &all, 1, MPI_INT, MPI_MIN, node) == MPI_SUCCESS && all) return fd;
  if (ok) snprintf(why, size, "another rank cannot open it");
  return -1;
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
      return MPI_Isend(x->from, n, type, x->peer, x->tag, on, r);
    case MOTION_RECEIVE:
      return MPI_Irecv(x->to, n, type, x->peer, x->tag, on, r);
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
  if (!finalized) MPI_Finalize();
}

static void transport_abandon(int status) {
  MPI_Abort(MPI_COMM_WORLD, status);
}

__attribute__((visibility("default"))) const Transport *nablua_transport(void) {
#ifdef OPEN_MPI
  static const char *const launchers[] = {"mpirun.openmpi", "mpirun", "mpiexec", NULL};
#else
  static const char *const launchers[] = {"mpirun.mpich", "mpiexec.hydra", "mpirun", "mpiexec", NULL};
#endif
  static const Transport transport = {.version = TRANSPORT_VERSION,
                                      .launchers = launchers,
                                      .open = transport_open,
                                      .shared = transport_shared,
                                      .start = transport_start,
                                      .test = transport_test,
                                      .renew = transport_renew,
                                      .renewed = transport_renewed,
                                      .close = transport_close,
                                      .abandon = transport_abandon};
  return &transport;
}
