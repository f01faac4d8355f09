// SPDX-License-Identifier: MIT
//
// The order of locks out of arbitrary bytes: as a file of any kind, and as a list of edges. It must not crash or hang, and
// what is told are circles: each edge leads from the lock where the one before it ends, through different locks, and
// none waits for a reader by reading.

#include "collector/order.h"
#include "segment/consumer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LOCKS = 12, EDGES_MAX = 48, EDGE_BYTES = 8 };

static void require(bool is)
{
    if (!is)
        abort();
}

static bool is_guarded(const struct order_edge *x, const struct order_edge *y)
{
    for (uint32_t i = 0; i < x->guard_count; i++)
        for (uint32_t k = 0; k < y->guard_count; k++)
            if (x->guards[i].lock == y->guards[k].lock &&
                !(x->guards[i].is_read && y->guards[k].is_read))
                return true;
    return false;
}

static void check_circle(const struct order_circle *c, const struct order_edge *edges, size_t count)
{
    require(c->count >= 2 && c->count <= ORDER_CIRCLE_MAX && c->kind < ORDER_KIND_COUNT);
    for (uint32_t i = 0; i < c->count; i++) {
        require(c->edges[i] < count);
        const struct order_edge *e = &edges[c->edges[i]];
        const struct order_edge *next = &edges[c->edges[(i + 1) % c->count]];
        require(e->to == next->from);
        require(!(e->flags & SEG_ORDER_TO_READ) || e->flags & SEG_ORDER_TO_QUEUES ||
                !(next->flags & SEG_ORDER_FROM_READ));
        for (uint32_t k = 0; k < i; k++) {
            const struct order_edge *other = &edges[c->edges[k]];
            require(other->from != e->from);
            require(c->kind == ORDER_GUARDED || !is_guarded(other, e));
        }
    }
}

static void check_circles(const struct order_circles *all, const struct order_edge *edges,
                          size_t count)
{
    require(all->count <= ORDER_CIRCLES_MAX);
    for (size_t i = 0; i < all->count; i++) {
        check_circle(&all->list[i], edges, count);
        require(!i || all->list[i - 1].kind <= all->list[i].kind);
    }
}

static void as_file(const uint8_t *data, size_t size)
{
    char path[64];
    struct order *o;
    struct fscope_error err;
    const struct order_options options = {.stacks = true};
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (order_read_file(&o, path, &options, &err) == 0) {
        for (size_t i = 0; i < o->edge_count; i++)
            require(o->edges[i].from < o->lock_count && o->edges[i].to < o->lock_count);
        check_circles(&o->circles, o->edges, o->edge_count);
        order_free(o);
    }
    close(fd);
}

static struct order_edge edge_of(const uint8_t *p)
{
    struct order_edge e = {.from = p[0] % LOCKS,
                           .to = p[1] % LOCKS,
                           .flags = p[2] & 7,
                           .guard_count = p[2] >> 6,
                           .who = {p[3] & 7, p[3] >> 3 & 7},
                           .others = p[3] >> 7,
                           .count = 1};
    for (uint32_t i = 0; i < e.guard_count; i++)
        e.guards[i] = (struct order_guard){p[4 + i] % LOCKS, p[4 + i] >> 7};
    return e;
}

static void as_edges(const uint8_t *data, size_t size)
{
    static struct order_edge edges[EDGES_MAX];
    struct order_circles circles;
    size_t count = 0;
    for (; count < EDGES_MAX && size >= EDGE_BYTES; data += EDGE_BYTES, size -= EDGE_BYTES) {
        edges[count] = edge_of(data);
        count += edges[count].from != edges[count].to;
    }
    if (order_circles_find(edges, &count, LOCKS, &circles))
        return;
    check_circles(&circles, edges, count);
    free(circles.list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    as_file(data, size);
    as_edges(data, size);
    return 0;
}
