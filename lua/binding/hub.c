// SPDX-License-Identifier: MIT
// The datagrams between the boards of several machines.
#include "hub.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

static const double OFTEN = 0.5;      // seconds between two tellings, at least
static const double MOST_NEWS = 2e3;  // pieces of news a second that rank 1 sends to each machine, about
static const double GONE = 10;        // seconds after which a machine that was not heard is told nothing more

typedef struct Packet {
  uint64_t secret;
  HubNews news;
} Packet;

// Who has spoken: where from, and when last.
typedef struct Peer {
  struct sockaddr_in6 at;
  double heard;
} Peer;

enum { MOST_PEERS = 1024 };

static struct {
  int fd;
  bool open, center;
  uint64_t secret;
  double told, now;
  Peer peer[MOST_PEERS];  // of the center: the machines; elsewhere the addresses of the center
  int peers;
  bool found;  // elsewhere: the first peer has answered and is the only one
} hub;

int nb_hub_addresses(char address[HUB_ADDRESSES][HUB_ADDRESS]) {
  struct ifaddrs *list, *each;
  int n = 0;
  if (getifaddrs(&list) != 0) return 0;
  for (each = list; each && n < HUB_ADDRESSES; each = each->ifa_next) {
    if (!each->ifa_addr || !(each->ifa_flags & IFF_UP) || (each->ifa_flags & IFF_LOOPBACK)) continue;
    char text[INET6_ADDRSTRLEN];
    const void *from;
    union {
      struct sockaddr *any;
      struct sockaddr_in *v4;
      struct sockaddr_in6 *v6;
    } a = {each->ifa_addr};
    if (a.any->sa_family == AF_INET)
      from = &a.v4->sin_addr;
    else if (a.any->sa_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&a.v6->sin6_addr))
      from = &a.v6->sin6_addr;
    else
      continue;
    if (inet_ntop(a.any->sa_family, from, text, sizeof text)) snprintf(address[n++], HUB_ADDRESS, "%s", text);
  }
  freeifaddrs(list);
  return n;
}

static int open_socket(void) {
  int no = 0, fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd >= 0) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);  // version 4, too
  return fd;
}

HubPlace nb_hub_found(void) {
  HubPlace place = {0};
  struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
  socklen_t size = sizeof at;
  int fd = open_socket();
  if (fd < 0) return place;
  union {
    struct sockaddr_in6 *v6;
    struct sockaddr *any;
  } a = {&at};
  place.count = nb_hub_addresses(place.address);
  if (place.count == 0 || getrandom(&place.secret, sizeof place.secret, 0) != sizeof place.secret ||
      bind(fd, a.any, size) != 0 || getsockname(fd, a.any, &size) != 0) {
    close(fd);
    return (HubPlace){0};
  }
  place.port = ntohs(at.sin6_port);
  hub.fd = fd, hub.open = hub.center = true, hub.secret = place.secret;
  hub.peers = 0, hub.told = 0;
  return place;
}

bool nb_hub_open(const HubPlace *place) {
  if (place->port == 0) return false;
  if (hub.open) return true;
  if ((hub.fd = open_socket()) < 0) return false;
  hub.open = true, hub.center = hub.found = false, hub.secret = place->secret;
  hub.peers = 0, hub.told = 0;
  for (int i = 0; i < place->count && i < HUB_ADDRESSES; i++) {
    char text[HUB_ADDRESS + 8];
    bool v4 = !strchr(place->address[i], ':');
    Peer *p = &hub.peer[hub.peers];
    *p = (Peer){.at = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)place->port)}};
    snprintf(text, sizeof text, "%s%.*s", v4 ? "::ffff:" : "", HUB_ADDRESS - 1, place->address[i]);
    if (inet_pton(AF_INET6, text, &p->at.sin6_addr) == 1) hub.peers++;
  }
  return true;
}

bool nb_hub_is_center(void) {
  return hub.center;
}

static bool same(const struct sockaddr_in6 *a, const struct sockaddr_in6 *b) {
  return a->sin6_port == b->sin6_port && memcmp(&a->sin6_addr, &b->sin6_addr, sizeof a->sin6_addr) == 0;
}

static void heard_from(const struct sockaddr_in6 *at) {
  if (!hub.center) {
    if (!hub.found) hub.peer[0].at = *at, hub.peers = 1, hub.found = true;
    return;
  }
  for (int i = 0; i < hub.peers; i++)
    if (same(&hub.peer[i].at, at)) {
      hub.peer[i].heard = hub.now;
      return;
    }
  if (hub.peers < MOST_PEERS) hub.peer[hub.peers++] = (Peer){*at, hub.now};
}

bool nb_hub_receive(HubNews *news) {
  Packet p;
  struct sockaddr_in6 at;
  union {
    struct sockaddr_in6 *v6;
    struct sockaddr *any;
  } a = {&at};
  for (;;) {
    socklen_t size = sizeof at;
    ssize_t n = recvfrom(hub.fd, &p, sizeof p, 0, a.any, &size);
    if (n < 0) return false;
    if (n != sizeof p || p.secret != hub.secret || size != sizeof at) continue;  // a stranger's
    heard_from(&at);
    *news = p.news;
    return true;
  }
}

bool nb_hub_time(double now, int size) {
  double apart = size / MOST_NEWS;
  hub.now = now;
  if (now - hub.told < (apart > OFTEN ? apart : OFTEN)) return false;
  hub.told = now;
  return true;
}

void nb_hub_send(const HubNews *news) {
  Packet p;
  memset(&p, 0, sizeof p);
  p.secret = hub.secret, p.news = *news;
  for (int i = 0; i < hub.peers; i++) {
    union {
      struct sockaddr_in6 *v6;
      struct sockaddr *any;
    } a = {&hub.peer[i].at};
    if (hub.center && hub.now - hub.peer[i].heard > GONE) continue;
    if (sendto(hub.fd, &p, sizeof p, 0, a.any, sizeof hub.peer[i].at) < 0) continue;  // it comes again soon
  }
}

void nb_hub_close(void) {
  if (hub.open) close(hub.fd);
  hub.open = hub.center = hub.found = false;
}
