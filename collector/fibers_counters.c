// SPDX-License-Identifier: MIT
//
// What fibers, processors and threads of the runtime have counted: see fibers.h.

#include "collector/fibers_internal.h"

bool fibers_counters_are_sound(const struct fib_descriptor *d)
{
    const uint32_t of_live[] = {d->live_cpu_ticks, d->live_started, d->live_runnable_ticks,
                                d->live_wakes, d->live_preempted};
    const uint32_t of_m[] = {d->m_since, d->m_wakes, d->m_parks, d->m_cur, d->m_p, d->m_all_link};
    const uint32_t of_p[] = {d->p_spawns, d->p_exits, d->p_schedules, d->p_steals};
    bool ok = d->m_size <= OBJECT_BYTES_MAX && d->p_size <= OBJECT_BYTES_MAX &&
              d->latency_buckets <= FIBERS_LATENCY_BUCKETS &&
              fits(d->p_latency, 8 * d->latency_buckets, d->p_size);
    for (size_t i = 0; i < sizeof of_live / sizeof *of_live; i++)
        ok = ok && fits(of_live[i], 8, d->live_size);
    for (size_t i = 0; i < sizeof of_m / sizeof *of_m; i++)
        ok = ok && fits(of_m[i], 8, d->m_size);
    for (size_t i = 0; i < sizeof of_p / sizeof *of_p; i++)
        ok = ok && fits(of_p[i], 8, d->p_size);
    return ok;
}

static uint64_t above_zero(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

void fibers_fill_counters(const struct fibers *f, const uint8_t *live, uint64_t m,
                          struct fiber *out)
{
    const struct fib_descriptor *d = &f->d;
    uint64_t started = get64(live + d->live_started), since;
    uint64_t busy = get64(live + d->live_cpu_ticks);
    if (m && !read64(f, m + d->m_since, &since))
        busy += above_zero(f->now_ticks, since);
    out->busy_ns = fibers_ns(f, busy);
    out->runnable_ns = fibers_ns(f, get64(live + d->live_runnable_ticks));
    out->age_ns = started ? fibers_ns(f, above_zero(f->now_ticks, started)) : 0;
    out->wakes = get64(live + d->live_wakes);
    out->preempted = get64(live + d->live_preempted);
    out->self_wakes = above_zero(out->switches, 1);
    out->self_wakes = above_zero(out->self_wakes, out->wakes);
    out->self_wakes = above_zero(out->self_wakes, out->preempted);
}

static void add(uint64_t *sum, const uint8_t *at)
{
    *sum += get64(at);
}

static int add_ps(struct fibers *f, struct fibers_totals *out)
{
    const struct fib_descriptor *d = &f->d;
    uint8_t p[OBJECT_BYTES_MAX];
    uint64_t at;
    int rc = target_read(f->t, d->procs, &out->procs, sizeof out->procs);
    // Ps that were stopped keep what they counted; behind the last one is none.
    for (uint32_t i = 0; !rc && i < PS_MAX; i++) {
        if (read64(f, d->ps + UINT64_C(8) * i, &at) || !at || target_read(f->t, at, p, d->p_size))
            break;
        add(&out->spawns, p + d->p_spawns);
        add(&out->exits, p + d->p_exits);
        out->schedules += get32(p + d->p_schedules);
        add(&out->steals, p + d->p_steals);
        for (uint32_t b = 0; b < d->latency_buckets; b++)
            add(&out->latency[b], p + d->p_latency + UINT32_C(8) * b);
    }
    return rc;
}

static int add_ms(struct fibers *f, struct fibers_totals *out)
{
    const struct fib_descriptor *d = &f->d;
    uint8_t m[OBJECT_BYTES_MAX];
    uint64_t at = 0;
    int rc = read64(f, d->all_ms, &at);
    for (int i = 0; !rc && at && i < MS_MAX; i++) {
        if ((rc = target_read(f->t, at, m, d->m_size)))
            break;
        bool is_there = get32(m + d->m_tid) != 0;
        out->threads += is_there;
        out->threads_idle += is_there && !get64(m + d->m_p) && get64(m + d->m_cur) == at + d->m_g0;
        add(&out->wakes, m + d->m_wakes);
        add(&out->parks, m + d->m_parks);
        at = get64(m + d->m_all_link);
    }
    return rc;
}

int fibers_read_totals(struct fibers *f, struct fibers_totals *out)
{
    *out = (struct fibers_totals){0};
    int rc = read64(f, f->d.spawns_outside, &out->spawns);
    if (!rc)
        rc = add_ps(f, out);
    if (!rc)
        rc = add_ms(f, out);
    return rc;
}
