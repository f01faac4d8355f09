// SPDX-License-Identifier: MIT
//
// One order out of the batches of all Ps. The next event of a P goes into a heap, the frontier, as
// soon as the Goroutine it is about is in the state and at the number that it needs; the earliest
// of the heap comes next. So sequence numbers decide, and times where those leave a choice.
//
// Events of equal time come in the order that the heap and the list of waiting Ps give, so both
// have the shape of Go's, for Ps taken in the order of their numbers (Go's reader takes them in a
// random one). Where Go looks through all waiting Ps after each event, we keep those whose turn may
// have come: each is looked at once for each change that it waits for.

#include "formats/ptrtab.h"
#include "formats/trace/v1.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define UNORDERED UINT64_MAX       // no Goroutine
#define GARBAGE   (UINT64_MAX - 1) // instead of one: the GC's cycles
#define ANY       UINT64_MAX       // as a number: whatever it is
#define ONE_MORE  (UINT64_MAX - 1)

struct step {
    uint64_t g, need_seq, next_seq;
    enum v1_state need, next;
};

static struct step step_of(const struct v1_event *ev)
{
    uint64_t a = ev->args[0], seq = ev->args[1];
    switch (ev->type) {
    case V1_GO_CREATE: return (struct step){a, 0, 1, V1_DEAD, V1_RUNNABLE};
    case V1_GO_WAITING:
    case V1_GO_IN_SYSCALL: return (struct step){ev->g, 1, 2, V1_RUNNABLE, V1_WAITING};
    case V1_GO_START:
    case V1_GO_START_LABEL: return (struct step){ev->g, seq, seq + 1, V1_RUNNABLE, V1_RUNNING};
    case V1_GO_START_LOCAL: return (struct step){ev->g, ANY, ONE_MORE, V1_RUNNABLE, V1_RUNNING};
    case V1_GO_BLOCK:
    case V1_GO_BLOCK_SEND:
    case V1_GO_BLOCK_RECV:
    case V1_GO_BLOCK_SELECT:
    case V1_GO_BLOCK_SYNC:
    case V1_GO_BLOCK_COND:
    case V1_GO_BLOCK_NET:
    case V1_GO_BLOCK_GC:
    case V1_GO_SLEEP:
    case V1_GO_SYS_BLOCK: return (struct step){ev->g, ANY, ANY, V1_RUNNING, V1_WAITING};
    case V1_GO_SCHED:
    case V1_GO_PREEMPT: return (struct step){ev->g, ANY, ANY, V1_RUNNING, V1_RUNNABLE};
    case V1_GO_UNBLOCK:
    case V1_GO_SYS_EXIT: return (struct step){a, seq, seq + 1, V1_WAITING, V1_RUNNABLE};
    case V1_GO_UNBLOCK_LOCAL:
    case V1_GO_SYS_EXIT_LOCAL: return (struct step){a, ANY, ONE_MORE, V1_WAITING, V1_RUNNABLE};
    case V1_GC_START: return (struct step){GARBAGE, a, a + 1, V1_DEAD, V1_DEAD};
    default: return (struct step){.g = UNORDERED};
    }
}

struct head { // of the frontier
    int64_t time;
    uint32_t event, proc;
};

struct merge {
    struct trace_reader *r;
    struct trace_v1 *v;
    struct head *frontier; // a heap by time
    uint32_t frontier_count;
    uint32_t *available; // Ps without an event in the frontier
    uint32_t available_count;
    uint32_t *candidates; // a heap of places in available that are to be looked at
    uint32_t candidate_count;
    uint32_t *waiting; // [mask + 1] 1 + P, by what it waits for
    uint64_t mask;
};

// --- Heaps.

static void frontier_push(struct merge *m, struct head h)
{
    uint32_t i = m->frontier_count++;
    for (; i > 0 && h.time < m->frontier[(i - 1) / 2].time; i = (i - 1) / 2)
        m->frontier[i] = m->frontier[(i - 1) / 2];
    m->frontier[i] = h;
}

static struct head frontier_pop(struct merge *m)
{
    struct head *f = m->frontier, top = f[0], last = f[--m->frontier_count];
    uint32_t i = 0, n = m->frontier_count;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= n)
            break;
        if (child + 1 < n && f[child + 1].time < f[child].time)
            child++;
        if (f[child].time >= last.time)
            break;
        f[i] = f[child];
        i = child;
    }
    f[i] = last;
    return top;
}

static void candidate_push(struct merge *m, uint32_t place)
{
    uint32_t *c = m->candidates, i = m->candidate_count++;
    for (; i > 0 && place < c[(i - 1) / 2]; i = (i - 1) / 2)
        c[i] = c[(i - 1) / 2];
    c[i] = place;
}

static uint32_t candidate_pop(struct merge *m)
{
    uint32_t *c = m->candidates, top = c[0], last = c[--m->candidate_count], i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= m->candidate_count)
            break;
        if (child + 1 < m->candidate_count && c[child + 1] < c[child])
            child++;
        if (c[child] >= last)
            break;
        c[i] = c[child];
        i = child;
    }
    c[i] = last;
    return top;
}

// --- Who waits for what.

static uint32_t *waiters(struct merge *m, uint64_t g, uint64_t seq, enum v1_state state)
{
    uint64_t h = ptrtab_mix(ptrtab_mix(m->r->intern.seed, g), seq ^ (uint64_t)state << 62);
    return &m->waiting[h & m->mask];
}

static void wait_for(struct merge *m, struct v1_proc *p, const struct step *s)
{
    uint32_t *list = waiters(m, s->g, s->need_seq, s->need);
    p->wait_g = s->g;
    p->wait_seq = s->need_seq;
    p->wait_state = (uint8_t)s->need;
    p->next_waiter = *list;
    *list = (uint32_t)(p - m->v->procs) + 1;
}

static void wake(struct merge *m, uint64_t g, uint64_t seq, enum v1_state state)
{
    uint32_t *at = waiters(m, g, seq, state);
    while (*at) {
        struct v1_proc *p = &m->v->procs[*at - 1];
        if (p->wait_g != g || p->wait_seq != seq || p->wait_state != (uint8_t)state) {
            at = &p->next_waiter;
            continue;
        }
        *at = p->next_waiter;
        p->is_candidate = true;
        candidate_push(m, p->place);
    }
}

static bool is_ready(const struct merge *m, const struct step *s)
{
    if (s->g == UNORDERED)
        return true;
    const struct v1_go *g = v1_go_look(m->r, s->g);
    uint64_t seq = g ? g->seq : 0;
    return (s->need_seq == ANY || s->need_seq == seq) && s->need == (g ? g->order_state : V1_DEAD);
}

static int take_step(struct merge *m, const struct v1_event *ev)
{
    struct step s = step_of(ev);
    if (s.g == UNORDERED)
        return 0;
    if (!is_ready(m, &s))
        return v1_fail(m->r, ev, TRACE_RULE_SEQUENCE,
                       "cannot come here: another P's event has changed Goroutine %llu",
                       (unsigned long long)s.g);
    struct v1_go *g = v1_go_of(m->r, s.g);
    if (!g)
        return m->r->error.code;
    if (s.next_seq != ANY)
        g->seq = s.next_seq == ONE_MORE ? g->seq + 1 : s.next_seq;
    g->order_state = s.next;
    uint64_t seq = g->seq;
    wake(m, s.g, seq, s.next);
    if (seq != ANY)
        wake(m, s.g, ANY, s.next);
    return 0;
}

// --- The list of Ps without an event in the frontier.

static void available_add(struct merge *m, uint32_t proc)
{
    struct v1_proc *p = &m->v->procs[proc];
    p->place = m->available_count++;
    m->available[p->place] = proc;
    p->is_candidate = true;
    candidate_push(m, p->place);
}

// The last one takes its place.
static void available_remove(struct merge *m, uint32_t place)
{
    uint32_t last = m->available[--m->available_count];
    m->available[place] = last;
    m->v->procs[last].place = place;
    if (place < m->available_count && m->v->procs[last].is_candidate)
        candidate_push(m, place);
}

// Puts the P's next event into the frontier, if it may be there.
static int look_at(struct merge *m, uint32_t place)
{
    struct trace_v1 *v = m->v;
    uint32_t proc = m->available[place];
    struct v1_proc *p = &v->procs[proc];
    p->is_candidate = false;
    while (p->at == p->end) {
        int rc = v1_load_batch(m->r, proc);
        if (rc < 0)
            return rc;
        if (rc == 0) {
            available_remove(m, place);
            return 0;
        }
    }
    uint32_t event = proc < v->proc_count ? p->at : v->sample_order[p->at];
    const struct v1_event *ev = v1_event_at(v, event);
    struct step s = step_of(ev);
    if (!is_ready(m, &s)) {
        wait_for(m, p, &s);
        return 0;
    }
    p->at++;
    available_remove(m, place);
    frontier_push(m, (struct head){ev->time, event, proc});
    return 0;
}

static int run(struct merge *m)
{
    struct trace_v1 *v = m->v;
    for (uint32_t i = 0; i <= v->proc_count; i++)
        available_add(m, i);
    for (;;) {
        while (m->candidate_count) {
            uint32_t place = candidate_pop(m);
            if (place >= m->available_count || !v->procs[m->available[place]].is_candidate)
                continue; // it has moved
            int rc = look_at(m, place);
            if (rc)
                return rc;
        }
        if (!m->frontier_count)
            break;
        struct head h = frontier_pop(m);
        struct v1_event *ev = v1_event_at(v, h.event);
        int rc = take_step(m, ev);
        if (rc)
            return rc;
        // The short forms differ in how they are ordered, not in what they say.
        if (ev->type == V1_GO_START_LOCAL)
            ev->type = V1_GO_START;
        else if (ev->type == V1_GO_UNBLOCK_LOCAL)
            ev->type = V1_GO_UNBLOCK;
        else if (ev->type == V1_GO_SYS_EXIT_LOCAL)
            ev->type = V1_GO_SYS_EXIT;
        v->order[v->order_count++] = h.event;
        available_add(m, h.proc);
    }
    if (!m->available_count)
        return 0;
    const struct v1_proc *p = &v->procs[m->available[0]];
    return v1_fail(m->r, v1_event_at(v, p->at), TRACE_RULE_SEQUENCE,
                   "of P %d cannot come, nor can any other of %u Ps go on: a number is missing or "
                   "twice, or what it names does not exist",
                   p->pid, m->available_count);
}

// --- Times.

// Sorts indexes of events by time, those of equal time stay as they are.
static int sort_by_time(struct trace_reader *r, uint32_t *items, uint32_t n)
{
    const struct trace_v1 *v = r->v1;
    uint32_t *to = v1_alloc(r, n, sizeof *to), *from = items;
    if (!to)
        return r->error.code;
    for (uint64_t width = 1; width < n; width *= 2) {
        for (uint64_t low = 0; low < n; low += 2 * width) {
            uint64_t a = low, mid = low + width < n ? low + width : n, b = mid;
            uint64_t high = mid + width < n ? mid + width : n;
            for (uint64_t k = low; k < high; k++) {
                bool left = a < mid && (b == high || v1_event_at(v, from[a])->time <=
                                                         v1_event_at(v, from[b])->time);
                to[k] = left ? from[a++] : from[b++];
            }
        }
        uint32_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != items)
        memcpy(items, from, n * sizeof *items);
    v1_free(r, from == items ? to : from, n, sizeof *items);
    return 0;
}

// The end of a system call was taken down later than it happened; until here it stood where it was
// taken down. Now all are in order, it may have its true time.
static int true_times(struct trace_reader *r)
{
    struct trace_v1 *v = r->v1;
    bool is_sorted = true;
    for (uint32_t i = 0; i < v->order_count; i++) {
        struct v1_event *ev = v1_event_at(v, v->order[i]);
        if (i && ev->time < v1_event_at(v, v->order[i - 1])->time)
            return v1_fail(r, ev, TRACE_RULE_SEQUENCE,
                           "is before an event that it must come after: time stamps out of order");
    }
    for (uint32_t i = 0; i < v->order_count; i++) {
        struct v1_event *ev = v1_event_at(v, v->order[i]);
        bool begins = ev->type == V1_GO_SYS_BLOCK || ev->type == V1_GO_IN_SYSCALL;
        if (!begins && ev->type != V1_GO_SYS_EXIT)
            continue;
        struct v1_go *g = v1_go_of(r, ev->g);
        if (!g)
            return r->error.code;
        if (begins) {
            g->blocked = ev->time;
            continue;
        }
        int64_t time = (int64_t)ev->args[2];
        if (time == 0)
            continue;
        if (g->blocked == 0)
            return v1_fail(r, ev, TRACE_RULE_STATUS,
                           "of Goroutine %lld, whose system call did not block", (long long)ev->g);
        if (time < g->blocked)
            return v1_fail(r, ev, TRACE_RULE_SEQUENCE, "is before its system call has blocked");
        is_sorted &= time == ev->time;
        ev->time = time;
    }
    return is_sorted ? 0 : sort_by_time(r, v->order, v->order_count);
}

static int merge_all(struct trace_reader *r)
{
    struct trace_v1 *v = r->v1;
    struct merge m = {.r = r, .v = v};
    uint64_t n = v->proc_count + 1ull, slots = 64;
    while (slots < 2 * n)
        slots *= 2;
    m.mask = slots - 1;
    m.frontier = v1_alloc(r, n, sizeof *m.frontier);
    m.available = v1_alloc(r, n, sizeof *m.available);
    m.candidates = v1_alloc(r, 2 * n, sizeof *m.candidates);
    m.waiting = v1_alloc(r, slots, sizeof *m.waiting);
    int rc = r->error.code ? r->error.code : run(&m);
    v1_free(r, m.waiting, slots, sizeof *m.waiting);
    v1_free(r, m.candidates, 2 * n, sizeof *m.candidates);
    v1_free(r, m.available, n, sizeof *m.available);
    v1_free(r, m.frontier, n, sizeof *m.frontier);
    return rc;
}

int v1_order(struct trace_reader *r)
{
    struct trace_v1 *v = r->v1;
    v->sample_order = v1_alloc(r, v->sample_count, sizeof *v->sample_order);
    v->order = v1_alloc(r, v->timed_count + v->sample_count, sizeof *v->order);
    if (!v->sample_order || !v->order)
        return r->error.code;
    for (uint32_t i = 0; i < v->sample_count; i++)
        v->sample_order[i] = (uint32_t)v->timed_count + i;
    int rc = sort_by_time(r, v->sample_order, v->sample_count);
    if (!rc)
        rc = merge_all(r);
    return rc ? rc : true_times(r);
}
