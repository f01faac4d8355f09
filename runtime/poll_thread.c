// SPDX-License-Identifier: MIT
//
// How a plain thread waits for a descriptor: in poll(2), together with an eventfd by which closing
// and a changed deadline reach it. It needs no netpoller, so it works before the runtime is started.

#include "runtime/poll.h"
#include "runtime/sys.h"

#include <sys/eventfd.h>

struct poll_thread {                  // on the waiter's stack
    struct poll_thread *_Atomic next; // as poll_desc.threads
    int wake;                         // the eventfd; -1: none could be had
};

// Eventfds between waits.
enum { SPARE_MAX = 64, UNREACHABLE_NS = 10000000 };
static struct {
    struct rt_lock lock;
    uint32_t count;
    int fds[SPARE_MAX];
} spare;

static int wake_take(void)
{
    int fd = -1;
    rt_lock(&spare.lock);
    if (spare.count)
        fd = spare.fds[--spare.count];
    rt_unlock(&spare.lock);
    return fd >= 0 ? fd : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static void wake_give(int fd)
{
    if (fd < 0)
        return;
    uint64_t count;
    sys_read(fd, &count, sizeof count);
    rt_lock(&spare.lock);
    bool is_kept = spare.count < SPARE_MAX;
    if (is_kept)
        spare.fds[spare.count++] = fd;
    rt_unlock(&spare.lock);
    if (!is_kept)
        sys_close(fd);
}

void poll_thread_wake(struct poll_desc *d)
{
    uint64_t one = 1;
    for (struct poll_thread *t = d->threads; t; t = t->next)
        if (t->wake >= 0)
            sys_write(t->wake, &one, sizeof one);
}

static int64_t time_left(struct poll_desc *d, uint32_t mask, int64_t end)
{
    int64_t left = end < 0 ? -1 : end - clock_now();
    if (end >= 0 && left < 0)
        left = 0;
    for (int i = 0; i < POLL_SIDES; i++) {
        int64_t when = mask & (1u << i) ? atomic_load(&d->sides[i].deadline) : 0;
        int64_t l = when ? when - clock_now() : -1;
        if (when && l < 0)
            l = 0;
        if (when && (left < 0 || l < left))
            left = l;
    }
    return left;
}

static int check(struct poll_desc *d, uint32_t mask)
{
    for (int i = 0; i < POLL_SIDES; i++) {
        int rc = mask & (1u << i) ? poll_check(d, i) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

static short events_of(uint32_t mask)
{
    return (short)((mask & (1u << POLL_READ) ? POLLIN | POLLRDHUP : 0) |
                   (mask & (1u << POLL_WRITE) ? POLLOUT : 0));
}

// One poll(2). > 0: something came.
static ssize_t poll_once(struct poll_desc *d, int fd, uint32_t mask, int64_t end, int wake)
{
    struct pollfd p[2] = {{fd, events_of(mask), 0}, {wake, POLLIN, 0}};
    int64_t left = time_left(d, mask, end);
    if (wake < 0 && (left < 0 || left > UNREACHABLE_NS))
        left = UNREACHABLE_NS;
    struct timespec t = {left / 1000000000, left % 1000000000};
    ssize_t n = sys_poll(p, wake < 0 ? 1 : 2, left < 0 ? NULL : &t);
    if (n > 0 && p[1].revents) {
        uint64_t count;
        sys_read(wake, &count, sizeof count);
    }
    return n > 0 && p[0].revents ? 1 : 0;
}

static void unlink_thread(struct poll_desc *d, struct poll_thread *t)
{
    rt_lock(&d->lock);
    struct poll_thread *_Atomic *at = &d->threads;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    rt_unlock(&d->lock);
}

int poll_thread_wait(struct poll_desc *d, int fd, uint32_t mask, int64_t timeout_ns)
{
    int64_t end = timeout_ns < 0 ? -1 : clock_now() + timeout_ns;
    struct poll_thread self = {.wake = wake_take()};
    rt_lock(&d->lock);
    self.next = d->threads;
    d->threads = &self; // seq_cst: before the deadline is looked at; pairs with poll_set_deadline
    rt_unlock(&d->lock);
    int rc;
    // Enlisted, it looks at closing and the deadline: pairs with who sets them and then looks at the list.
    while (!(rc = check(d, mask)) && poll_once(d, fd, mask, end, self.wake) == 0 &&
           (end < 0 || clock_now() < end))
        ;
    unlink_thread(d, &self);
    wake_give(self.wake);
    return rc;
}
