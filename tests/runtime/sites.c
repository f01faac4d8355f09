// SPDX-License-Identifier: MIT
//
// The high-water mark of a place's stacks is what its fibers have used: of those that ended, of those that live, and
// not of those that had the same stack before.

#include "fiberscope/chan.h"
#include "fiberscope/fiber.h"
#include "tests/runtime/check.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

enum { KIB = 1024, PAGE = 4 * KIB, MS = 1000000, EVERY = 1025, SLACK = 2 * PAGE };

struct job {
    size_t bytes;
    struct fib_chan *gate; // waits here afterwards; NULL: ends
    const void *created_at;
};

// Touches each page of a frame of so many bytes.
static __attribute__((noinline)) void use(size_t bytes)
{
    volatile char *frame = __builtin_alloca(bytes);
    for (size_t i = 0; i < bytes; i += PAGE / 4)
        frame[i] = 1;
    frame[bytes - 1] = 1;
}

static void work(void *arg)
{
    struct job *j = arg;
    struct fib_info info = {.size = sizeof info};
    use(j->bytes);
    CHECK(!fib_info_read(fib_self(), &info));
    j->created_at = info.created_at;
    if (j->gate)
        fib_chan_recv(j->gate, NULL);
}

// Places of their own. All fibers have the same class of stacks, so one place's are used again by the next.
#define PLACE(name)                                                                                \
    static __attribute__((noinline)) struct fib name(struct job *j)                                \
    {                                                                                              \
        struct fib f;                                                                              \
        int rc = fib_go(&f, work, j);                                                              \
        CHECK(!rc, "%s", strerror(-rc));                                                           \
        return f;                                                                                  \
    }
PLACE(deep)
PLACE(flat)
PLACE(mixed)
PLACE(living)
PLACE(unfinished)

static int take(void *arg, const struct fib_site *s)
{
    struct fib_site *out = arg;
    if (s->created_at != out->created_at)
        return 0;
    *out = *s;
    return 7;
}

static struct fib_site site_of(const struct job *j)
{
    struct fib_site s = {.created_at = j->created_at};
    CHECK(j->created_at && fib_each_site(take, &s) == 7, "%p", j->created_at);
    return s;
}

static void check_used(const struct fib_site *s, size_t bytes, uint64_t measured)
{
    CHECK(s->stack_used_max_bytes >= bytes && s->stack_used_max_bytes <= bytes + SLACK &&
              s->stack_used_max_bytes % PAGE == 0,
          "%d KiB, not %d", (int)s->stack_used_max_bytes / KIB, (int)bytes / KIB);
    CHECK(s->measured == measured, "%d, not %d", (int)s->measured, (int)measured);
}

static void ended(void)
{
    struct job d = {.bytes = 100 * KIB}, f = {.bytes = 100};
    fib_join(deep(&d));
    fib_yield(); // its stack is given back after its joiners are woken
    fib_join(flat(&f));
    fib_yield();
    struct fib_site s = site_of(&d);
    check_used(&s, 100 * KIB, 1);
    s = site_of(&f);
    check_used(&s, 100, 1); // though the stack was the deep one's
}

// Only the first and then one in so many are measured.
static void one_in_many(void)
{
    struct job j = {.bytes = 12 * KIB}, others = {.bytes = 60 * KIB};
    fib_join(mixed(&j));
    for (int i = 1; i < EVERY; i++)
        fib_join(mixed(&others));
    fib_yield();
    struct fib_site s = site_of(&j);
    check_used(&s, 12 * KIB, 1);
    fib_join(mixed(&others));
    fib_yield();
    s = site_of(&j);
    check_used(&s, 60 * KIB, 2);
    fib_join(mixed(&j)); // it only rises
    s = site_of(&j);
    check_used(&s, 60 * KIB, 2);
}

static void leaks_show_it(void)
{
    int fds[2];
    static char text[1 << 16];
    CHECK(!pipe(fds) && fib_leakcheck(fds[1]) == 1);
    ssize_t n = read(fds[0], text, sizeof text - 1);
    CHECK(n > 0);
    const char *words = strstr(text, "\nof its stacks at most ");
    CHECK(words && strstr(text, "1 created at living"), "%s", text);
    long kib = strtol(words + strlen("\nof its stacks at most "), NULL, 10);
    CHECK(kib >= 40 && kib <= 40 + SLACK / KIB && strstr(words, " KiB were used\n"), "%s", text);
    close(fds[0]);
    close(fds[1]);
}

static void alive(void)
{
    struct fib_chan *gate = fib_chan_new(0, 0);
    struct job j = {.bytes = 40 * KIB, .gate = gate};
    struct fib f = living(&j);
    while (fib_join_for(f, MS) != -ETIMEDOUT || !j.created_at)
        ;
    struct fib_site s = site_of(&j);
    check_used(&s, 40 * KIB, 0);
    leaks_show_it();
    fib_chan_close(gate);
    fib_join(f);
    fib_yield();
    s = site_of(&j);
    check_used(&s, 40 * KIB, 1);
    fib_chan_free(gate);
}

static int note_unused(void *arg, const struct fib_site *s)
{
    *(int *)arg += s->created_at && !s->stack_used_max_bytes && !s->measured;
    return 0;
}

// One that has not run yet has used nothing.
static void not_yet(void)
{
    struct job j = {.bytes = 10};
    int count = 0;
    struct fib f = unfinished(&j);
    CHECK(!fib_each_site(note_unused, &count) && count == 1, "%d", count);
    fib_join(f);
}

static void run(void *arg)
{
    (void)arg;
    ended();
    one_in_many();
    alive();
    not_yet();
}

int main(void)
{
    struct fib_options o = {.size = sizeof o, .procs = 1};
    CHECK(!fib_init(&o));
    return fib_main(run, NULL);
}
