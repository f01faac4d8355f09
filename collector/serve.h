// SPDX-License-Identifier: MIT
//
// /debug/pprof over HTTP: what Go's net/http/pprof serves of its own process, for a process that a session looks at
// (session.h); and wall, threads and flight beside it.
//
// What always holds
//   - Nobody but this machine gets in, unless there is a token: every address but a loopback one or a unix socket is
//     refused without. A browser that was led here by a foreign name (DNS rebinding) or a foreign page is refused.
//   - A client costs what the limits allow and no more: who is slow to ask is cut off when the time is up, or at once
//     when others need the place; who is slow to read, when the time is up. One who asks at once is answered.
//   - Requests that last (profile, trace, seconds=) end early when their client goes away, and when serve_stop is called.
//   - The target is touched by the session alone.
//
// Paths, parameters, headers, statuses and error texts are those of Go 1.26; docs/serve.md has the table.

#ifndef FIBERSCOPE_COLLECTOR_SERVE_H
#define FIBERSCOPE_COLLECTOR_SERVE_H

#include "base/error.h"
#include "collector/session.h"

#include <stddef.h>
#include <stdint.h>

#define SERVE_LISTEN_DEFAULT "127.0.0.1:6060"

enum {
    SERVE_TOKEN_MIN = 16, // bytes
    SERVE_TOKEN_MAX = 256,
    SERVE_ALLOW_MAX = 64,
};

struct serve;

struct serve_options {
    size_t size;             // sizeof(struct serve_options)
    struct session *session; // outlives the server
    // "127.0.0.1:PORT", "[::1]:PORT", "localhost:PORT", "ADDRESS:PORT" (needs a token), "unix:PATH"; port 0: one that is
    // free. A socket that nobody listens to any more is replaced. NULL: SERVE_LISTEN_DEFAULT.
    const char *listen;
    // What a client must show (Authorization: Bearer TOKEN, or Basic with it as the password). NULL: nothing.
    const char *token;
    const char *const *allow; // [allow_count] "10.0.0.0/8", "fd00::/8", "192.0.2.7"; none: all
    size_t allow_count;
    // Limits; 0: the default, in brackets.
    uint32_t connections_max;        // [128]
    uint32_t connections_per_ip_max; // [64]; of a unix socket there is no IP
    uint32_t requests_max;           // that are worked on at once [16]; the others get 503
    uint32_t header_bytes_max;       // [32 KiB]
    uint32_t body_bytes_max;         // [1 MiB]
    uint64_t ask_ns;                 // from the connection to the whole request [10 s]
    uint64_t idle_ns;                // from one request to the next, whole [60 s]
    uint64_t read_ns;         // for the client to take the reply [60 s, and 1 s for each 64 KiB]
    uint64_t duration_ns_max; // of seconds= [1 h]
};

// Listens, and answers in threads of its own from now on. 0; -EINVAL (address, token or allow list), -EACCES (an
// address that needs a token), -EADDRINUSE and what else the system says, -ENOMEM. The caller owns *out: serve_stop.
int serve_start(struct serve **out, const struct serve_options *o, struct fscope_error *err);

// Whether serve_start with these options would be able to listen; o->session is not needed for that. 0 or as it.
int serve_check(const struct serve_options *o, struct fscope_error *err);

// Ends what is being worked on early, lets the replies go (for a second at most), closes all connections and waits for
// that. Accepts NULL.
void serve_stop(struct serve *s);

// What it listens on, with the port that was chosen: "127.0.0.1:41233" or "unix:/run/app.sock".
const char *serve_address(const struct serve *s);

#endif
