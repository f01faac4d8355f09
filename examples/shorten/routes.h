// SPDX-License-Identifier: MIT
//
// What the service does with a request. Each route sets the label "route" while it runs, so that profiles can be
// cut by it.

#ifndef SHORTEN_ROUTES_H
#define SHORTEN_ROUTES_H

#include "cache.h"
#include "http.h"
#include "store.h"

#include <fiberscope/chan.h>

#include <stdatomic.h>

struct app {
    struct store *store;
    struct cache cache;
    struct fib_chan *visits; // of int64_t ids; closed at the end
    _Atomic uint64_t requests;
    _Atomic uint32_t connections;
    _Atomic bool is_stopping; // answers say that they are the connection's last
    bool marks_regions;       // each request is a region "request" of an execution trace
};

// Answers it: 0 or -errno.
int routes_answer(struct app *app, struct http_connection *c, const struct http_request *r);

// Counts visits as they come over app->visits, and writes them down every second, until it is closed. [a fiber]
void visits_run(void *app);

#endif
