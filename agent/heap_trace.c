// SPDX-License-Identifier: MIT
//
// FIBERSCOPE=heaptrace=MS: one line per period on stderr; see docs/agent.md for its fields. Nobody waits
// for the period to end: a hook that passes after it writes the line, so a program that does not
// allocate is silent. Where every allocation counts the figures are exact, else estimates from the
// samples, which the line marks with ~.

#include "agent/heap.h"

#include "agent/cgroup.h"
#include "agent/heap_math.h"
#include "agent/say.h"

#include <string.h>
#include <time.h>

enum { TEXT_BYTES = 1024, PAGE = 4096 };

static struct cgroup cgroup;
static uint64_t begin_ns;

static uint64_t coarse_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool read_number(const char **p, uint64_t *out)
{
    uint64_t n = 0;
    while (**p == ' ')
        ++*p;
    if (**p < '0' || **p > '9')
        return false;
    for (; **p >= '0' && **p <= '9'; ++*p)
        n = n * 10 + (uint64_t)(**p - '0');
    *out = n;
    return true;
}

void heap_trace_begin(void)
{
    if (!agent.env.heaptrace_ms)
        return;
    char text[TEXT_BYTES];
    begin_ns = coarse_ns();
    cgroup_read_text("/proc/self/cgroup", text, sizeof text);
    cgroup_find(&cgroup, text, "/sys/fs/cgroup");
}

void heap_trace_sampled(_Atomic uint64_t *total, uint64_t size)
{
    double rate = (double)heap.rate_bytes, p = 1 - heap_exp_minus((double)size / rate);
    uint64_t bytes = size ? (uint64_t)((double)size / p) : 0;
    atomic_fetch_add_explicit(total, bytes, memory_order_relaxed);
}

static void say_bytes_of(struct say *line, const char *before, uint64_t bytes, const char *after)
{
    say_text(say_number(say_text(line, before), bytes), after);
}

static void write_line(uint64_t now, uint64_t passed_ns)
{
    struct heap_shared *h = heap.shared;
    struct seg_heap *exact = &agent.space->seg.header->heap;
    struct say line;
    char text[TEXT_BYTES];
    const char *mark = heap.is_exact ? "" : "~", *p = text;
    uint64_t pages = 0, resident = 0, shared = 0, headroom;
    uint64_t allocated = atomic_load_explicit(
        heap.is_exact ? &exact->alloc_bytes : &h->allocated_bytes, memory_order_relaxed);
    uint64_t freed = atomic_load_explicit(&h->freed_bytes, memory_order_relaxed);
    if (heap.is_exact)
        freed = allocated - atomic_load_explicit(&exact->live_bytes, memory_order_relaxed);
    double per_s = 1e9 / (double)(passed_ns ? passed_ns : 1);
    cgroup_read_text("/proc/self/statm", text, sizeof text);
    if (read_number(&p, &pages) && read_number(&p, &resident))
        read_number(&p, &shared);
    say_bytes_of(say_begin(&line), "heap ", (now - begin_ns) / 1000000, " ms: ");
    say_bytes_of(say_text(say_text(&line, "live "), mark), "", allocated - freed, " B, ");
    say_bytes_of(say_text(say_text(&line, "allocated "), mark), "",
                 (uint64_t)((double)(allocated - h->said_allocated) * per_s), " B/s, ");
    say_bytes_of(say_text(say_text(&line, "freed "), mark), "",
                 (uint64_t)((double)(freed - h->said_freed) * per_s), " B/s, ");
    say_bytes_of(&line, "rss ", resident * PAGE, " B, ");
    say_bytes_of(&line, "held ", (resident - shared) * PAGE, " B, headroom ");
    if (cgroup_headroom(&cgroup, &headroom))
        say_bytes_of(&line, "", headroom, " B");
    else
        say_text(&line, "unlimited");
    h->said_allocated = allocated;
    h->said_freed = freed;
    say_end(&line);
}

void heap_trace_look(void)
{
    struct heap_shared *h = heap.shared;
    uint64_t now = coarse_ns();
    uint64_t due = atomic_load_explicit(&h->trace_due_ns, memory_order_relaxed);
    uint64_t next = now + agent.env.heaptrace_ms * UINT64_C(1000000);
    // The first to see that it is due starts the period, and each after that writes a line.
    if (now < due || !atomic_compare_exchange_strong_explicit(
                         &h->trace_due_ns, &due, next, memory_order_acquire, memory_order_relaxed))
        return;
    uint64_t last = atomic_exchange_explicit(&h->trace_last_ns, now, memory_order_relaxed);
    if (last)
        write_line(now, now - last);
}
