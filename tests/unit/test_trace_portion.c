// SPDX-License-Identifier: MIT
//
// What spans say of a portion of a trace is what the summary says, which reads the events: for any
// trace and any portion.

#include "analysis/trace/instances.h"
#include "analysis/trace/portion.h"
#include "analysis/trace/summary.h"
#include "tests/unit/written_trace.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// --- A program of any kind.

enum { FIBERS = 24, STEPS = 3000, NOBODY_RUNS = 0 };

struct life {
    uint64_t seed, now;
    uint64_t on[2];        // the fiber that a Proc runs
    uint8_t state[FIBERS]; // trace_go_state
    int open[FIBERS];      // regions
    uint64_t born;         // fibers up to here
};

static uint32_t draw(struct life *l, uint32_t n)
{
    l->seed = l->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(l->seed >> 33) % n;
}

// A fiber in that state; 0: none.
static uint64_t any(struct life *l, uint8_t state)
{
    uint64_t first = draw(l, FIBERS);
    for (uint64_t i = 0; i < FIBERS; i++) {
        uint64_t f = (first + i) % FIBERS;
        if (f && l->state[f] == state)
            return f;
    }
    return 0;
}

static void idle_step(struct life *l, struct written *m, int proc)
{
    uint64_t f = any(l, TRACE_GO_RUNNABLE);
    if (!f && (f = any(l, TRACE_GO_WAITING)) != 0) { // the poller
        written_wake(m, proc, l->now, f, 0);
        l->state[f] = TRACE_GO_RUNNABLE;
    } else if (f) {
        written_start(m, proc, l->now, f);
        l->state[f] = TRACE_GO_RUNNING;
        l->on[proc] = f;
    }
}

static void leave(struct life *l, int proc, uint8_t state)
{
    l->state[l->on[proc]] = state;
    l->on[proc] = NOBODY_RUNS;
}

static void create(struct life *l, struct written *m, int proc)
{
    static const char *const names[] = {"worker", "parser", "runtime.bgsweep", "writer"};
    const char *name = names[draw(l, 4)];
    if (l->born + 1 >= FIBERS)
        return;
    uint64_t f = ++l->born;
    written_say(m, proc, TRACE_EV_GO_CREATE, l->now, f, written_stack(m, name, name), 0, 0);
    l->state[f] = TRACE_GO_RUNNABLE;
}

static void busy_step(struct life *l, struct written *m, int proc)
{
    static const char *const reasons[] = {"sync", "chan receive", "sleep", "network"};
    static const char *const types[] = {"request", "parse"};
    uint64_t f = l->on[proc], other = any(l, TRACE_GO_WAITING);
    uint64_t where = written_stack(m, "here", "worker");
    switch (draw(l, 9)) {
    case 0:
    case 1:
        written_block(m, proc, l->now, reasons[draw(l, 4)], where);
        leave(l, proc, TRACE_GO_WAITING);
        break;
    case 2:
        written_say(m, proc, TRACE_EV_GO_STOP, l->now, written_text(m, "preempted"), where, 0, 0);
        leave(l, proc, TRACE_GO_RUNNABLE);
        break;
    case 3: create(l, m, proc); break;
    case 4:
        if (f != 1 && !draw(l, 6)) {
            written_say(m, proc, TRACE_EV_GO_DESTROY, l->now, 0, 0, 0, 0);
            leave(l, proc, TRACE_GO_NOT_EXIST);
        }
        break;
    case 5:
        if (other) {
            written_wake(m, proc, l->now, other, where);
            l->state[other] = TRACE_GO_RUNNABLE;
        }
        break;
    case 6:
        if (l->open[f] < 3) {
            int type = l->open[f]++ % 2;
            written_say(m, proc, TRACE_EV_REGION_BEGIN, l->now, 0, written_text(m, types[type]),
                        where, 0);
        }
        break;
    case 7:
        if (l->open[f]) {
            int type = --l->open[f] % 2;
            written_say(m, proc, TRACE_EV_REGION_END, l->now, 0, written_text(m, types[type]),
                        where, 0);
        }
        break;
    default:
        written_say(m, proc, TRACE_EV_GO_SYSCALL_BEGIN, l->now, ++m->seq[1000 + proc], where, 0, 0);
        l->now += 1 + draw(l, 300);
        written_say(m, proc, TRACE_EV_GO_SYSCALL_END, l->now, 0, 0, 0, 0);
        break;
    }
}

// has_few: at times one Proc is told of and two run fibers, as plain threads do on one CPU.
static void live(struct written *m, uint64_t seed, bool has_few)
{
    struct life l = {.seed = seed, .now = WRITTEN_START_NS + 50, .on = {1, 0}, .born = 2};
    written_begin(m);
    l.state[1] = TRACE_GO_RUNNING;
    l.state[2] = TRACE_GO_WAITING;
    for (int i = 0; i < STEPS; i++) {
        int proc = (int)draw(&l, 2);
        l.now += 1 + draw(&l, 200);
        if (has_few && i % 10 == 2 && l.on[proc])
            written_say(m, proc, TRACE_EV_PROCS_CHANGE, l.now, 1 + (uint64_t)i / 50 % 2, 0, 0, 0);
        else if (l.on[proc])
            busy_step(&l, m, proc);
        else
            idle_step(&l, m, proc);
    }
}

// --- Both ways.

static struct trace_summary *summary_of(struct written *m, int64_t from_ns, int64_t to_ns)
{
    const struct trace_summary_options o = {.size = sizeof o, .from_ns = from_ns, .to_ns = to_ns};
    struct trace_reader *r = written_end(m);
    struct trace_summary *s;
    const struct trace_event *ev;
    int rc;
    assert_int_equal(trace_summary_new(&s, &o), 0);
    while ((rc = trace_reader_next(r, &ev)) > 0)
        assert_int_equal(trace_summary_event(s, r, ev), 0);
    if (rc < 0)
        fail_msg("%s", trace_reader_error(r)->text);
    assert_int_equal(trace_summary_finish(s), 0);
    trace_reader_close(r);
    return s;
}

static void same_times(const struct trace_spans *x, const struct trace_times *a,
                       const struct trace_summary *y, const struct trace_times *b)
{
    assert_int_equal(a->total_ns, b->total_ns);
    assert_int_equal(a->running_ns, b->running_ns);
    assert_int_equal(a->runnable_ns, b->runnable_ns);
    assert_int_equal(a->syscall_ns, b->syscall_ns);
    assert_int_equal(a->syscall_blocked_ns, b->syscall_blocked_ns);
    assert_int_equal(a->blocked_ns, b->blocked_ns);
    for (uint32_t i = 0; i < b->wait_count; i++) {
        const struct trace_wait *w = &b->waits[i], *v = NULL;
        const char *reason = trace_names_text(&y->names, w->reason);
        for (uint32_t k = 0; k < a->wait_count && !v; k++)
            if (!strcmp(trace_names_text(&x->names, a->waits[k].reason), reason))
                v = &a->waits[k];
        assert_true(v || !w->ns);
        if (!v)
            continue;
        assert_int_equal(v->ns, w->ns);
        assert_int_equal(v->count, w->count);
        assert_int_equal(v->max_ns, w->max_ns);
        assert_int_equal(v->open_ns, w->open_ns);
    }
}

static void same_functions(const struct trace_spans *s, const struct trace_portion *p,
                           const struct trace_summary *y)
{
    assert_int_equal(p->function_count, y->function_count);
    for (uint32_t i = 0; i < y->function_count; i++) {
        const struct trace_function *f = y->functions[i];
        const struct trace_portion_function *g = NULL;
        for (uint32_t k = 0; k < p->function_count && !g; k++)
            if (!strcmp(trace_names_text(&s->names, p->functions[k].name),
                        trace_names_text(&y->names, f->name)))
                g = &p->functions[k];
        assert_non_null(g);
        assert_int_equal(g->fibers, f->fibers);
        assert_int_equal(g->alive, f->alive);
        assert_int_equal(p->functions[i].times.running_ns, f->times.running_ns); // the order
        same_times(s, &g->times, y, &f->times);
    }
}

static void same_portion(struct written *m, const struct trace_spans *s, int64_t from_ns,
                         int64_t to_ns)
{
    struct trace_summary *y = summary_of(m, from_ns, to_ns);
    struct trace_portion p;
    int rc;
    assert_int_equal(trace_portion_begin(&p, s, from_ns, to_ns ? to_ns : INT64_MAX), 0);
    while ((rc = trace_portion_step(&p, 10)) > 0)
        ;
    assert_int_equal(rc, 0);
    assert_int_equal(p.fibers, y->totals.fibers);
    assert_int_equal(p.alive, y->totals.alive);
    assert_int_equal(p.procs, y->totals.gomaxprocs);
    // What ran at the beginning is said a nanosecond or two later.
    double length = (double)(p.end_ns - p.begin_ns), off = 3 / length;
    assert_true(fabs(trace_portion_utilisation(&p) - y->totals.running_share) <= off);
    same_times(s, &p.totals, y, &y->totals.times);
    same_functions(s, &p, y);
    for (uint32_t i = 1; i < p.running_count; i++)
        assert_true(p.running[i - 1].ns >= p.running[i].ns);
    trace_portion_free(&p);
    trace_summary_free(y);
}

static void portions_are_those_of_the_summary(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct written m;
        struct life l = {.seed = seed};
        live(&m, seed, seed % 2);
        struct trace_spans *s = written_spans(&m, NULL);
        uint32_t length = (uint32_t)(s->end_ns - s->begin_ns);
        same_portion(&m, s, 0, 0);
        for (int i = 0; i < 12; i++) {
            int64_t from = s->begin_ns + draw(&l, length), more = 1 + draw(&l, length);
            same_portion(&m, s, from, from + (i % 3 ? more : more % 50 + 1));
        }
        trace_spans_free(s);
        written_free(&m);
    }
}

// --- Instances.

struct sums {
    uint64_t count[2];
    int64_t running_ns[2], runnable_ns[2], blocked_ns[2], syscall_ns[2];
};

static void sum_up(const struct trace_instance_span *list, int count, int which, struct sums *x)
{
    x->count[which] = (uint64_t)count;
    for (int i = 0; i < count; i++) {
        x->running_ns[which] += list[i].running_ns;
        x->runnable_ns[which] += list[i].runnable_ns;
        x->blocked_ns[which] += list[i].blocked_ns;
        x->syscall_ns[which] += list[i].syscall_ns;
    }
}

static void same_type(const struct trace_spans *s, const struct trace_instance_name *n,
                      const struct trace_summary *y, int64_t from_ns, int64_t to_ns)
{
    struct trace_instance_span *list;
    struct trace_hist hist = {0};
    struct sums x = {0};
    const struct trace_type *t = NULL;
    for (uint32_t i = 0; i < y->region_type_count && !t; i++)
        if (!strcmp(trace_names_text(&y->names, y->region_types[i]->name),
                    trace_names_text(&s->names, n->name)))
            t = y->region_types[i];
    assert_non_null(t);
    assert_int_equal(n->count, t->count);
    assert_int_equal(n->complete, t->complete);
    assert_int_equal(n->sum_ns, t->latency.sum_ns);
    assert_int_equal(n->max_ns, t->latency.max_ns);
    int count = trace_instances(s, n->name, false, from_ns, to_ns, &list);
    assert_int_equal(count, t->count);
    for (int i = 0; i < count; i++)
        if (list[i].complete)
            trace_hist_add(&hist, list[i].end_ns - list[i].begin_ns);
    assert_memory_equal(&hist, &t->latency, sizeof hist);
    sum_up(list, count, 0, &x);
    assert_int_equal(x.running_ns[0], t->times.running_ns);
    assert_int_equal(x.runnable_ns[0], t->times.runnable_ns);
    assert_int_equal(x.blocked_ns[0], t->times.blocked_ns);
    assert_int_equal(x.syscall_ns[0], t->times.syscall_ns + t->times.syscall_blocked_ns);
    free(list);
}

static void instances_are_those_of_the_summary(void **state)
{
    (void)state;
    uint64_t seen = 0;
    for (uint64_t seed = 20; seed <= 30; seed++) {
        struct written m;
        struct life l = {.seed = seed};
        live(&m, seed, seed % 2);
        struct trace_spans *s = written_spans(&m, NULL);
        for (int i = 0; i < 8; i++) {
            uint32_t length = (uint32_t)(s->end_ns - s->begin_ns);
            int64_t from = i ? s->begin_ns + draw(&l, length) : s->begin_ns;
            int64_t to = i ? from + 1 + draw(&l, length) : s->end_ns;
            struct trace_summary *y = summary_of(&m, from, to);
            struct trace_instance_name *names;
            int count = trace_instance_names(s, from, to, &names);
            assert_int_equal(count, y->region_type_count);
            for (int k = 0; k < count; k++) {
                same_type(s, &names[k], y, from, to);
                seen += names[k].complete;
            }
            free(names);
            trace_summary_free(y);
        }
        trace_spans_free(s);
        written_free(&m);
    }
    assert_true(seen > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(portions_are_those_of_the_summary),
        cmocka_unit_test(instances_are_those_of_the_summary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
