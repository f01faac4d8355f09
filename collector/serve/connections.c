// SPDX-License-Identifier: MIT
//
// Who is connected, and for how long already. A connection is cut off by shutdown(2): libmicrohttpd's thread then sees
// its end and closes it, so that nobody closes a descriptor under another.
//
// Invariant: `first` is sorted by since_ns; a connection is in the list from its notification of being accepted to the
// one of being closed, between which its descriptor is open.

#include "collector/serve/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SLOW_BYTES_PER_S = 64 * 1024 }; // a client that takes less of a long reply is too slow
#define SECOND_NS UINT64_C(1000000000)

uint64_t serve_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static void unlink_one(struct connections *c, struct connection *one)
{
    if (one->prev)
        one->prev->next = one->next;
    else
        c->first = one->next;
    if (one->next)
        one->next->prev = one->prev;
}

static void append(struct connections *c, struct connection *one)
{
    struct connection *last = c->first;
    while (last && last->next)
        last = last->next;
    one->prev = last;
    one->next = NULL;
    if (last)
        last->next = one;
    else
        c->first = one;
}

static void cut(struct connection *one)
{
    one->is_cut = true;
    shutdown(one->fd, SHUT_RDWR);
}

static void *reap(void *arg)
{
    struct connections *c = arg;
    pthread_mutex_lock(&c->lock);
    while (!c->is_over) {
        uint64_t now = serve_now_ns(), next = UINT64_MAX;
        for (struct connection *one = c->first; one; one = one->next) {
            if (one->is_cut || !one->deadline_ns)
                continue;
            if (one->deadline_ns <= now)
                cut(one);
            else if (one->deadline_ns < next)
                next = one->deadline_ns;
        }
        c->looks_ns = next;
        if (next == UINT64_MAX) {
            pthread_cond_wait(&c->changed, &c->lock);
        } else {
            struct timespec until = {.tv_sec = (time_t)(next / SECOND_NS),
                                     .tv_nsec = (long)(next % SECOND_NS)};
            pthread_cond_timedwait(&c->changed, &c->lock, &until);
        }
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

int connections_start(struct connections *c)
{
    pthread_condattr_t attr;
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &attr);
    pthread_condattr_destroy(&attr);
    int rc = pthread_create(&c->reaper, NULL, reap, c);
    c->has_reaper = rc == 0;
    return -rc;
}

void connections_stop(struct connections *c)
{
    pthread_mutex_lock(&c->lock);
    c->is_over = true;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
    if (c->has_reaper)
        pthread_join(c->reaper, NULL);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
}

// Counts those that will stay, all or of one address, and finds which of them has asked nothing for longest.
static uint32_t count(const struct connections *c, const struct in6_addr *ip,
                      struct connection **idlest)
{
    uint32_t n = 0;
    *idlest = NULL;
    for (struct connection *one = c->first; one; one = one->next) {
        if (one->is_cut || (ip && (!one->has_ip || memcmp(&one->ip, ip, sizeof *ip) != 0)))
            continue;
        n++;
        if (!*idlest && one->phase == CONNECTION_ASKS)
            *idlest = one;
    }
    return n;
}

static bool make_room(struct connections *c, const struct in6_addr *ip, uint32_t max)
{
    struct connection *idlest;
    if (count(c, ip, &idlest) < max)
        return true;
    if (idlest)
        cut(idlest);
    return idlest != NULL;
}

bool connections_admit(struct connections *c, const struct sockaddr *from)
{
    struct in6_addr ip;
    bool has_ip = address_of(from, &ip);
    pthread_mutex_lock(&c->lock);
    bool ok = (!has_ip || make_room(c, &ip, c->per_ip_max)) && make_room(c, NULL, c->max);
    pthread_mutex_unlock(&c->lock);
    return ok;
}

static void enter(struct connections *c, struct connection *one, enum connection_phase phase,
                  uint64_t time_ns)
{
    one->phase = phase;
    one->since_ns = serve_now_ns();
    one->deadline_ns = time_ns ? one->since_ns + time_ns : 0;
    append(c, one);
    // Nearly always the reaper wakes in time anyway, and to wake it costs more than all else that is done here.
    if (one->deadline_ns && one->deadline_ns < c->looks_ns)
        pthread_cond_signal(&c->changed);
}

struct connection *connections_add(struct connections *c, int fd, const struct sockaddr *from)
{
    struct connection *one = calloc(1, sizeof *one);
    if (!one)
        return NULL;
    one->fd = fd;
    one->has_ip = address_of(from, &one->ip);
    pthread_mutex_lock(&c->lock);
    enter(c, one, CONNECTION_ASKS, c->ask_ns);
    pthread_mutex_unlock(&c->lock);
    return one;
}

void connections_remove(struct connections *c, struct connection *one)
{
    if (!one)
        return;
    pthread_mutex_lock(&c->lock);
    unlink_one(c, one);
    pthread_mutex_unlock(&c->lock);
    free(one);
}

static void move(struct connections *c, struct connection *one, enum connection_phase phase,
                 uint64_t time_ns)
{
    if (!one)
        return;
    pthread_mutex_lock(&c->lock);
    unlink_one(c, one);
    enter(c, one, phase, time_ns);
    pthread_mutex_unlock(&c->lock);
}

void connections_asked(struct connections *c, struct connection *one)
{
    move(c, one, CONNECTION_WORKED_ON, 0);
}

void connections_replied(struct connections *c, struct connection *one, uint64_t bytes)
{
    move(c, one, CONNECTION_READS, c->read_ns + bytes / SLOW_BYTES_PER_S * SECOND_NS);
}

void connections_finished(struct connections *c, struct connection *one)
{
    move(c, one, CONNECTION_ASKS, c->idle_ns);
}
