// SPDX-License-Identifier: MIT
// The connection file and the sockets.
#include "connection.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include "session.h"

enum { KEY = 40, LINGER_MS = 1000, BIND_TRIES = 50, HANDSHAKE_MS = 10000 };

static const char *const port_names[CHANNELS] = {[SHELL] = "shell_port",
                                                 [IOPUB] = "iopub_port",
                                                 [STDIN] = "stdin_port",
                                                 [CONTROL] = "control_port",
                                                 [HEARTBEAT] = "hb_port"};

static bool fail(char *reason, size_t size, const char *what, const char *detail) {
  snprintf(reason, size, "%s%s%s", what, *detail ? ": " : "", detail);
  return false;
}

// ---- the file ----

static bool read_text(json_t *file, const char *name, const char *otherwise, char **out, char *reason, size_t size) {
  json_t *value = json_object_get(file, name);
  const char *text = json_string_value(value);
  if (value && !json_is_null(value) && !text) return fail(reason, size, "the connection file needs a string at", name);
  if (!text) text = otherwise;
  *out = text ? strdup(text) : NULL;
  return !text || *out || fail(reason, size, "out of memory", "");
}

static bool read_port(json_t *file, const char *name, int *out, char *reason, size_t size) {
  json_t *value = json_object_get(file, name);
  json_int_t port = json_integer_value(value);
  if ((value && !json_is_integer(value)) || port < 0 || port > 65535)
    return fail(reason, size, "the connection file needs a port number at", name);
  *out = (int)port;
  return true;
}

static bool read_file(Connection *c, json_t *file, char *reason, size_t size) {
  char *scheme = NULL;
  bool ok = read_text(file, "key", "", &c->key, reason, size) &&
            read_text(file, "transport", "tcp", &c->transport, reason, size) &&
            read_text(file, "ip", "127.0.0.1", &c->ip, reason, size) &&
            read_text(file, "signature_scheme", "hmac-sha256", &scheme, reason, size) &&
            read_text(file, "curve_publickey", NULL, &c->curve_public, reason, size) &&
            read_text(file, "curve_secretkey", NULL, &c->curve_secret, reason, size) &&
            read_port(file, "registration_port", &c->registration_port, reason, size);
  for (int i = 0; ok && i < CHANNELS; i++) ok = read_port(file, port_names[i], &c->ports[i], reason, size);
  if (ok && *c->key && strcmp(scheme, "hmac-sha256") != 0)
    ok = fail(reason, size, "messages can be signed with hmac-sha256 only; the connection file asks for", scheme);
  if (ok && strcmp(c->transport, "tcp") != 0 && strcmp(c->transport, "ipc") != 0)
    ok = fail(reason, size, "the transport can be tcp or ipc; the connection file asks for", c->transport);
  if (ok && (!c->curve_public != !c->curve_secret ||
             (c->curve_public && (strlen(c->curve_public) != KEY || strlen(c->curve_secret) != KEY))))
    ok = fail(reason, size, "the connection file needs both CURVE keys, of 40 characters each", "");
  if (ok && strcmp(c->ip, "localhost") == 0 && strcmp(c->transport, "tcp") == 0) {
    // ZeroMQ takes names of interfaces here, not of hosts.
    free(c->ip);
    c->ip = strdup("127.0.0.1");
  }
  free(scheme);
  return ok;
}

// Writes the ports chosen into the file, for the user's eyes only.
static bool rewrite_file(const Connection *c, json_t *file, char *reason, size_t size) {
  char *text = json_dumps(file, JSON_INDENT(2));
  bool ok = text ? session_replace_file(c->path, text, strlen(text), true, reason, size)
                 : fail(reason, size, "out of memory", "");
  free(text);
  return ok;
}

json_t *connection_ports(const Connection *c) {
  json_t *ports = json_object();
  for (int i = 0; i < CHANNELS; i++) json_object_set_new(ports, port_names[i], json_integer(c->ports[i]));
  return ports;
}

// ---- sockets ----

static void set(void *socket, int option, int value) {
  zmq_setsockopt(socket, option, &value, sizeof value);
}

static void *open_socket(const Connection *c, Channel channel) {
  void *s = zmq_socket(c->context, channel == IOPUB ? ZMQ_XPUB : ZMQ_ROUTER);
  if (!s) return NULL;
  set(s, ZMQ_LINGER, LINGER_MS);
  set(s, ZMQ_IPV6, strchr(c->ip, ':') != NULL);
  // Nothing is ever dropped for want of room, least of all the last message that says idle.
  set(s, ZMQ_SNDHWM, 0);
  set(s, ZMQ_RCVHWM, 0);
  if (channel == IOPUB) {
    set(s, ZMQ_XPUB_MANUAL, 1);  // subscriptions hold once we have seen them
    // A client that stopped reading keeps its messages in our memory; one that stopped answering is let go.
    set(s, ZMQ_HEARTBEAT_IVL, 3000);
    set(s, ZMQ_HEARTBEAT_TIMEOUT, 12000);
  } else {
    set(s, ZMQ_ROUTER_HANDOVER, 1);  // a client that comes again under its name is heard
  }
  if (c->curve_public) {
    set(s, ZMQ_CURVE_SERVER, 1);
    zmq_setsockopt(s, ZMQ_CURVE_PUBLICKEY, c->curve_public, KEY + 1);
    zmq_setsockopt(s, ZMQ_CURVE_SECRETKEY, c->curve_secret, KEY + 1);
  }
  if (channel == STDIN) set(s, ZMQ_ROUTER_MANDATORY, 1);
  return s;
}

static bool try_bind(Connection *c, Channel channel, void *s) {
  char address[512];
  bool ipc = strcmp(c->transport, "ipc") == 0, v6 = strchr(c->ip, ':') && !strchr(c->ip, '[');
  int port = c->ports[channel];
  if (ipc && port == 0) {  // the first that no file has
    do snprintf(address, sizeof address, "%s-%d", c->ip, ++port);
    while (access(address, F_OK) == 0);
  }
  if (ipc)
    snprintf(address, sizeof address, "ipc://%s-%d", c->ip, port);
  else if (port == 0)
    snprintf(address, sizeof address, v6 ? "tcp://[%s]:*" : "tcp://%s:*", c->ip);
  else
    snprintf(address, sizeof address, v6 ? "tcp://[%s]:%d" : "tcp://%s:%d", c->ip, port);
  if (zmq_bind(s, address) != 0) return false;
  if (port == 0) {
    size_t length = sizeof address;
    if (zmq_getsockopt(s, ZMQ_LAST_ENDPOINT, address, &length) != 0) return false;
    const char *colon = strrchr(address, ':');
    port = colon ? atoi(colon + 1) : 0;
  }
  c->ports[channel] = port;
  return true;
}

static bool bind_all(Connection *c, char *reason, size_t size) {
  char what[300];
  for (int i = 0; i < CHANNELS; i++) {
    bool bound = false;
    if (!(c->sockets[i] = open_socket(c, (Channel)i)))
      return fail(reason, size, "no socket", zmq_strerror(zmq_errno()));
    // A port may be held by what is just ending.
    for (int tries = 0; !bound && tries < BIND_TRIES; tries++) {
      bound = try_bind(c, (Channel)i, c->sockets[i]);
      if (!bound && zmq_errno() != EADDRINUSE) break;
      if (!bound) nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    if (!bound) {
      snprintf(what, sizeof what, "cannot bind %s://%s, %s %d", c->transport, c->ip, port_names[i], c->ports[i]);
      return fail(reason, size, what, zmq_strerror(zmq_errno()));
    }
  }
  return true;
}

bool connection_open(Connection *c, const char *path, char *reason, size_t size) {
  json_error_t error;
  *c = (Connection){.path = strdup(path)};
  json_t *file = json_load_file(path, 0, &error);
  if (!json_is_object(file)) {
    char what[700];
    snprintf(what, sizeof what, "cannot read the connection file %s", path);
    fail(reason, size, what, file ? "it is no JSON object" : error.text);
    json_decref(file);
    return false;
  }
  bool ok = read_file(c, file, reason, size);
  if (ok && !(c->context = zmq_ctx_new())) ok = fail(reason, size, "no ZeroMQ context", zmq_strerror(zmq_errno()));
  ok = ok && bind_all(c, reason, size);
  bool changed = false;
  for (int i = 0; ok && i < CHANNELS; i++) {
    json_int_t before = json_integer_value(json_object_get(file, port_names[i]));
    if (before == c->ports[i]) continue;
    changed = true;
    json_object_set_new(file, port_names[i], json_integer(c->ports[i]));
  }
  // Who waits for a handshake is told the ports; everybody else looks into the file.
  if (ok && changed && !c->registration_port) ok = rewrite_file(c, file, reason, size);
  json_decref(file);
  return ok;
}

void connection_remove_files(const Connection *c) {
  char path[512];
  if (strcmp(c->transport, "ipc") != 0) return;
  for (int i = 0; i < CHANNELS; i++)
    if (snprintf(path, sizeof path, "%s-%d", c->ip, c->ports[i]) < (int)sizeof path) unlink(path);
}

bool connection_register(Connection *c, Wire *wire, char *reason, size_t size) {
  char address[512];
  Frames out = {0}, in;
  void *s = zmq_socket(c->context, ZMQ_DEALER);
  if (!s) return fail(reason, size, "no socket", zmq_strerror(zmq_errno()));
  set(s, ZMQ_LINGER, LINGER_MS);
  snprintf(address, sizeof address, strcmp(c->transport, "ipc") == 0 ? "ipc://%s-%d" : "tcp://%s:%d", c->ip,
           c->registration_port);
  frames_add(&out);  // the empty frame that a REP socket wants to see
  bool ok = zmq_connect(s, address) == 0 && wire_write(wire, &out, "handshake_request", NULL, connection_ports(c)) &&
            frames_send(&out, s);
  zmq_pollitem_t item = {s, 0, ZMQ_POLLIN, 0};
  Message m;
  const char *why = "nobody answered";
  ok = ok && zmq_poll(&item, 1, HANDSHAKE_MS) == 1 && frames_receive(&in, s);
  if (ok && (ok = message_read(&m, wire, &in, &why))) {
    const char *status = json_string_value(json_object_get(m.content, "status"));
    ok = strcmp(m.type, "handshake_reply") == 0 && (!status || strcmp(status, "ok") == 0);
    if (!ok) why = "the answer was not ok";
    message_free(&m);
  }
  if (!ok) {
    frames_free(&out);
    fail(reason, size, "the handshake at the registration port failed", why);
  }
  zmq_close(s);
  return ok;
}
