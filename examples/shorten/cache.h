// SPDX-License-Identifier: MIT
//
// The links that were asked for last, by code, behind one mutex. A fixed number of places; a new link takes
// the place that was longest unused among four where it may stand.

#ifndef SHORTEN_CACHE_H
#define SHORTEN_CACHE_H

#include <fiberscope/sync.h>

#include <stdbool.h>
#include <stdint.h>

enum { URL_MAX = 2048, CACHE_SETS = 1024, CACHE_WAYS = 4 };

struct cache {
    struct fib_mutex mutex;
    uint64_t clock, hits, misses;
    struct cache_entry {
        int64_t id; // 0: free
        uint64_t used;
        char *url;
    } entries[CACHE_SETS][CACHE_WAYS];
};

// Copies the URL of a link into url, which has room for URL_MAX + 1 bytes. False: not here.
bool cache_get(struct cache *c, int64_t id, char *url);
void cache_put(struct cache *c, int64_t id, const char *url);
void cache_free(struct cache *c);

#endif
