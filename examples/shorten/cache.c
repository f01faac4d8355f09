// SPDX-License-Identifier: MIT

#include "cache.h"

#include <stdlib.h>
#include <string.h>

static struct cache_entry *find(struct cache *c, int64_t id)
{
    struct cache_entry *set = c->entries[(uint64_t)id % CACHE_SETS];
    for (int i = 0; i < CACHE_WAYS; i++)
        if (set[i].id == id)
            return &set[i];
    return NULL;
}

bool cache_get(struct cache *c, int64_t id, char *url)
{
    fib_mutex_lock(&c->mutex);
    struct cache_entry *e = find(c, id);
    if (e) {
        e->used = ++c->clock;
        c->hits++;
        strcpy(url, e->url); // at most URL_MAX: see cache_put
    } else {
        c->misses++;
    }
    fib_mutex_unlock(&c->mutex);
    return e;
}

void cache_put(struct cache *c, int64_t id, const char *url)
{
    if (strlen(url) > URL_MAX)
        return;
    char *copy = strdup(url), *old = copy; // outside of the lock
    if (!copy)
        return;
    fib_mutex_lock(&c->mutex);
    if (!find(c, id)) {
        struct cache_entry *set = c->entries[(uint64_t)id % CACHE_SETS], *e = set;
        for (int i = 1; i < CACHE_WAYS; i++)
            if (set[i].used < e->used)
                e = &set[i];
        old = e->url;
        *e = (struct cache_entry){id, ++c->clock, copy};
    }
    fib_mutex_unlock(&c->mutex);
    free(old);
}

void cache_free(struct cache *c)
{
    for (int i = 0; i < CACHE_SETS; i++)
        for (int j = 0; j < CACHE_WAYS; j++)
            free(c->entries[i][j].url);
}
