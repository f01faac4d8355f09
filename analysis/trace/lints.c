// SPDX-License-Identifier: MIT
//
// See lints.h.

#include "analysis/trace/lints.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SPINS_MIN = 100, STUCK_WAITS_MIN = 10, STUCK_TIMES = 10, LINTS_EACH = 5 };

static bool wakes_by_hand(const char *reason)
{
    return strstr(reason, "chan") || strstr(reason, "sync") || strstr(reason, "select");
}

static bool stuck(const struct trace_summary *s, const struct trace_function *f,
                  struct trace_lint *lint)
{
    if (f->stuck.ns < s->limits.stuck_ns ||
        !wakes_by_hand(trace_names_text(&s->names, f->stuck_reason)))
        return false;
    for (uint32_t i = 0; i < f->times.wait_count; i++) {
        const struct trace_wait *w = &f->times.waits[i];
        // One of the counted waits is the one that goes on.
        if (w->reason != f->stuck_reason || w->count <= STUCK_WAITS_MIN || !w->max_ns ||
            f->stuck.ns / STUCK_TIMES < w->max_ns)
            continue;
        *lint = (struct trace_lint){.kind = TRACE_LINT_STUCK,
                                    .reason = w->reason,
                                    .fibers = f->waiting > 1 ? f->waiting : 1,
                                    .fiber = f->stuck.fiber,
                                    .ns = f->stuck.ns,
                                    .at_ns = f->stuck.at_ns,
                                    .place = f->stuck.place,
                                    .count = w->count - 1};
        return true;
    }
    return false;
}

static size_t of_function(const struct trace_summary *s, const struct trace_function *f,
                          struct trace_lint *lints)
{
    size_t n = 0;
    const struct trace_moments *m = &f->moments;
    uint64_t woken = m->blocks + m->yields;
    if (f->hogs)
        lints[n++] = (struct trace_lint){.kind = TRACE_LINT_HOGS,
                                         .fibers = f->hogs,
                                         .fiber = f->run.fiber,
                                         .ns = f->run.ns,
                                         .at_ns = f->run.at_ns,
                                         .place = f->run.place,
                                         .limit_ns = s->limits.run_ns};
    if (m->yields > SPINS_MIN && m->yields > woken / 2)
        lints[n++] = (struct trace_lint){.kind = TRACE_LINT_SPINS,
                                         .fibers = f->fibers,
                                         .fiber = f->yields_fiber,
                                         .ns = f->times.running_ns,
                                         .place = f->yields_in,
                                         .count = m->yields,
                                         .of = woken};
    if (f->starved)
        lints[n++] = (struct trace_lint){.kind = TRACE_LINT_STARVED,
                                         .fibers = f->starved,
                                         .fiber = f->wait.fiber,
                                         .ns = f->wait.ns,
                                         .at_ns = f->wait.at_ns,
                                         .place = f->wait.place,
                                         .limit_ns = s->limits.runnable_ns};
    if (stuck(s, f, &lints[n]))
        n++;
    else if (f->waiting && !s->deadlocked)
        lints[n++] = (struct trace_lint){.kind = TRACE_LINT_WAITS,
                                         .reason = f->waiting_reason,
                                         .in = f->waiting_in,
                                         .fibers = f->waiting,
                                         .fiber = f->longest_waiting.fiber,
                                         .ns = f->longest_waiting.ns,
                                         .at_ns = f->longest_waiting.at_ns,
                                         .place = f->longest_waiting.place};
    for (size_t i = 0; i < n; i++) {
        lints[i].function = f->name;
        lints[i].fibers_all = f->fibers;
    }
    return n;
}

static int by_kind(const void *x, const void *y)
{
    const struct trace_lint *a = x, *b = y;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    return (a->ns < b->ns) - (a->ns > b->ns);
}

int trace_lints(const struct trace_summary *s, struct trace_lint **out)
{
    size_t n = 0;
    *out = calloc(LINTS_EACH * (size_t)s->function_count + 2, sizeof **out);
    if (!*out)
        return -ENOMEM;
    if (s->deadlocked)
        (*out)[n++] = (struct trace_lint){.kind = TRACE_LINT_DEADLOCK,
                                          .fibers = s->deadlocked,
                                          .fibers_all = s->deadlocked,
                                          .fiber = s->waiters[0].fiber,
                                          .ns = s->waiters[0].ns,
                                          .at_ns = s->waiters[0].at_ns,
                                          .reason = s->waiters[0].reason,
                                          .in = s->waiters[0].in,
                                          .place = s->waiters[0].place};
    for (uint32_t i = 0; i < s->function_count; i++) {
        const struct trace_function *f = s->functions[i];
        if (!trace_name_is_system(trace_names_text(&s->names, f->name)))
            n += of_function(s, f, *out + n);
    }
    qsort(*out, n, sizeof **out, by_kind);
    return (int)n;
}

const char *trace_lint_name(enum trace_lint_kind kind)
{
    static const char *const names[] = {"deadlock", "hogs", "spins", "starved", "stuck", "waits"};
    return (size_t)kind < sizeof names / sizeof names[0] ? names[kind] : "?";
}
