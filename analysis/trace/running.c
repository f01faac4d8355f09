// SPDX-License-Identifier: MIT
//
// See running.h.

#include "analysis/trace/running.h"

#include <errno.h>
#include <stdlib.h>

enum {
    USUAL_SAMPLES = 8, // with fewer the period cannot be told
    OWN_SAMPLES = 4,   // with so many a step is divided by its own
    OFF_PERIODS =
        8, // so long that with fewer samples it was mostly off the CPU: 8 were to be expected
};

struct divider {
    const struct running *running;
    const struct trace_spans *spans;
    running_fn *fn;
    void *arg;
    int64_t period_ns;  // of sampling; 0: not known
    bool is_comparable; // both sides have samples
    double pool_ns[RUNNING_SIDES];
    uint64_t pool_samples[RUNNING_SIDES];
};

enum how { POOLED, OWN, OFF };

int running_add(struct running *r, const struct trace_spans *s, const struct trace_step *step,
                const struct trace_kernel_thread *thread, enum running_side side)
{
    uint32_t samples, first;
    int64_t own_ns =
        step->end_ns - step->begin_ns - trace_kernel_taken(thread, step->begin_ns, step->end_ns);
    first = trace_spans_samples(s, step->lane, step->begin_ns, step->end_ns, &samples);
    r->samples[side] += samples;
    if (side != RUNNING_SLOW)
        r->usual_ns += own_ns;
    if (side == RUNNING_REST && !samples)
        return 0;
    if (r->count == r->capacity) {
        size_t capacity = r->capacity ? 2 * r->capacity : 64;
        struct running_step *more = realloc(r->steps, capacity * sizeof *more);
        if (!more)
            return -ENOMEM;
        r->steps = more;
        r->capacity = capacity;
    }
    r->steps[r->count++] = (struct running_step){*step, thread, own_ns, first, samples, side};
    return 0;
}

void running_finish(struct running *r)
{
    free(r->steps);
    *r = (struct running){0};
}

static int ascending(const void *x, const void *y)
{
    int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
    return (a > b) - (a < b);
}

// The period of sampling: the median time between two samples of a step. Where there is never more than one, so much
// of the steps that are not slow as there is to a sample.
static int find_period(struct divider *d)
{
    size_t n = 0;
    uint64_t most = 0;
    for (size_t i = 0; i < RUNNING_SIDES; i++)
        most += d->running->samples[i];
    int64_t *gaps = malloc((most + 1) * sizeof *gaps);
    if (!gaps)
        return -ENOMEM;
    for (size_t i = 0; i < d->running->count; i++) {
        const struct running_step *x = &d->running->steps[i];
        const struct trace_sample *sample = &d->spans->samples[x->first_sample];
        for (uint32_t k = 1; k < x->samples; k++)
            gaps[n++] = sample[k].time_ns - sample[k - 1].time_ns;
    }
    qsort(gaps, n, sizeof *gaps, ascending);
    d->period_ns = n ? gaps[n / 2] : 0;
    uint64_t usual = d->running->samples[RUNNING_TYPICAL] + d->running->samples[RUNNING_REST];
    if (!n && usual >= USUAL_SAMPLES)
        d->period_ns = d->running->usual_ns / (int64_t)usual;
    free(gaps);
    return 0;
}

static enum how how_of(const struct divider *d, const struct running_step *x)
{
    if (x->samples >= OWN_SAMPLES)
        return d->is_comparable ? OWN : POOLED;
    return d->period_ns && x->own_ns / OFF_PERIODS >= d->period_ns ? OFF : POOLED;
}

static int divide_own(const struct divider *d, const struct running_step *x)
{
    const struct trace_sample *sample = &d->spans->samples[x->first_sample];
    int64_t from = x->step.begin_ns;
    int rc = 0;
    for (uint32_t k = 0; k < x->samples && !rc; k++) {
        int64_t to = k + 1 == x->samples
                         ? x->step.end_ns
                         : sample[k].time_ns + (sample[k + 1].time_ns - sample[k].time_ns) / 2;
        int64_t own_ns = to - from - trace_kernel_taken(x->thread, from, to);
        rc = d->fn(d->arg, x->side, x->first_sample + k, (double)own_ns, &x->step);
        from = to;
    }
    return rc;
}

// Its few samples have a period each.
static int divide_off(const struct divider *d, const struct running_step *x)
{
    int64_t left = x->own_ns;
    int rc = 0;
    for (uint32_t k = 0; k < x->samples && d->is_comparable && !rc; k++) {
        rc = d->fn(d->arg, x->side, x->first_sample + k, (double)d->period_ns, &x->step);
        left -= d->period_ns;
    }
    return rc ? rc : d->fn(d->arg, x->side, RUNNING_OFF_CPU, (double)left, &x->step);
}

// The samples of all that is not slow say how short typical steps are divided: there are more.
static int divide_pool(const struct divider *d, const struct running_step *x)
{
    enum running_side side = x->side == RUNNING_SLOW ? RUNNING_SLOW : RUNNING_TYPICAL;
    uint64_t n = d->pool_samples[RUNNING_SLOW];
    if (side == RUNNING_TYPICAL)
        n = d->pool_samples[RUNNING_TYPICAL] + d->pool_samples[RUNNING_REST];
    int rc = 0;
    for (uint32_t k = 0; k < x->samples && !rc; k++)
        rc = d->fn(d->arg, side, x->first_sample + k, d->pool_ns[side] / (double)n, &x->step);
    return rc;
}

static int divide_pools(const struct divider *d)
{
    const uint64_t *n = d->pool_samples;
    bool has_slow = d->is_comparable && n[RUNNING_SLOW];
    bool has_typical = d->is_comparable && n[RUNNING_TYPICAL] + n[RUNNING_REST];
    int rc = 0;
    for (size_t i = 0; i < d->running->count && !rc; i++) {
        const struct running_step *x = &d->running->steps[i];
        if (how_of(d, x) == POOLED && (x->side == RUNNING_SLOW ? has_slow : has_typical))
            rc = divide_pool(d, x);
    }
    if (!rc && !has_slow)
        rc = d->fn(d->arg, RUNNING_SLOW, RUNNING_NO_SAMPLE, d->pool_ns[RUNNING_SLOW], NULL);
    if (!rc && !has_typical)
        rc = d->fn(d->arg, RUNNING_TYPICAL, RUNNING_NO_SAMPLE, d->pool_ns[RUNNING_TYPICAL], NULL);
    return rc;
}

int running_divide(const struct running *r, const struct trace_spans *s, running_fn *fn, void *arg)
{
    struct divider d = {.running = r, .spans = s, .fn = fn, .arg = arg};
    d.is_comparable =
        r->samples[RUNNING_SLOW] && r->samples[RUNNING_TYPICAL] + r->samples[RUNNING_REST];
    int rc = find_period(&d);
    for (size_t i = 0; i < r->count && !rc; i++) {
        const struct running_step *x = &r->steps[i];
        enum how how = how_of(&d, x);
        if (how == POOLED) {
            d.pool_ns[x->side] += (double)x->own_ns;
            d.pool_samples[x->side] += x->samples;
        } else if (x->side != RUNNING_REST) {
            rc = how == OWN ? divide_own(&d, x) : divide_off(&d, x);
        }
    }
    return rc ? rc : divide_pools(&d);
}
