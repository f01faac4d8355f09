// SPDX-License-Identifier: MIT
//
// The orderer, for what nearly all events are: a thread with a Proc runs Goroutines, one after the
// other, far from the end of a batch, with small numbers. What a thread needs for that stays in
// registers from one event to the next.
//
// Invariant: this knows no rule of its own. An event is done here if all is as order.c's handler of
// the same name wants it, and then as there; else nothing is changed, and it is left to that one,
// which also says what is wrong. With is_careful of the reader nothing is done here.

#include "formats/trace/order.h"

#include <endian.h>

struct run {
    const unsigned char *event, *at; // as in struct cursor
    const unsigned char *stop;       // where too little of the batch is left
    int64_t time_ns, last_ns;
    struct trace_event *next, *full; // in the ring
    struct state_go *go;             // that the thread has, or none
    struct state_go *none;           // stands for no Goroutine
    const struct state_thread *thread;
    uint64_t generation;
    uint64_t data_to_offset;
    uint32_t batch;
};

// A number of at most four bytes. Five may be read.
TRACE_HOT bool small_number(const unsigned char **at, uint64_t *v)
{
    const unsigned char *p = *at;
    uint32_t x;
    memcpy(&x, p, sizeof x);
    x = le32toh(x);
    if (!(x & 0x80)) {
        *v = x & 0x7f;
        *at = p + 1;
    } else if (!(x & 0x8000)) {
        *v = (x & 0x7f) | (x >> 1 & 0x3f80);
        *at = p + 2;
    } else if (!(x & 0x800000)) {
        *v = (x & 0x7f) | (x >> 1 & 0x3f80) | (x >> 2 & 0x1fc000);
        *at = p + 3;
    } else if (!(x & 0x80000000)) {
        *v = (x & 0x7f) | (x >> 1 & 0x3f80) | (x >> 2 & 0x1fc000) | (x >> 3 & 0xfe00000);
        *at = p + 4;
    } else {
        return false;
    }
    return true;
}

// The number of a stack or of a reason in this generation. false: it is not there, or not yet.
TRACE_HOT bool known_stack(const struct trace_reader *r, uint64_t file_id, uint32_t *id)
{
    *id = id_find(&r->gen.stack_index, file_id);
    return __builtin_expect(*id != 0, 1) || file_id == 0;
}

TRACE_HOT bool known_string(const struct trace_reader *r, uint64_t file_id, uint32_t *id)
{
    uint32_t place = id_find(&r->gen.string_index, file_id);
    *id = place ? r->gen.strings[place - 1].id : 0;
    return __builtin_expect(*id != 0, 1) || file_id == 0;
}

TRACE_HOT bool follows(const struct run *f, const struct state_go *g, uint64_t seq)
{
    return g->seq.generation == f->generation && g->seq.seq + 1 == seq;
}

// The parts of a transition that are copied in one piece each.
struct tail {
    uint32_t stack;
    uint8_t from, to, unused[2];
    int64_t peer;
};

#define AT(field) offsetof(struct trace_event, field)
_Static_assert(AT(transition.reason) - AT(transition.id) == offsetof(struct state_go, no_reason) &&
                   AT(transition.slot) - AT(transition.id) == offsetof(struct state_go, slot),
               "a Goroutine begins as a transition does");
_Static_assert(AT(transition.peer) - AT(transition.stack) == offsetof(struct tail, peer) &&
                   AT(transition.to) - AT(transition.stack) == offsetof(struct tail, to),
               "a transition ends as a tail does");

static const struct tail starts = {
    .from = TRACE_GO_RUNNABLE, .to = TRACE_GO_RUNNING, .peer = TRACE_NONE};
static const struct tail stops = {
    .from = TRACE_GO_RUNNING, .to = TRACE_GO_RUNNABLE, .peer = TRACE_NONE};
static const struct tail blocks = {
    .from = TRACE_GO_RUNNING, .to = TRACE_GO_WAITING, .peer = TRACE_NONE};
static const struct tail unblocks = {
    .from = TRACE_GO_WAITING, .to = TRACE_GO_RUNNABLE, .peer = TRACE_NONE};
static const struct tail is_made = {
    .from = TRACE_GO_NOT_EXIST, .to = TRACE_GO_RUNNABLE, .peer = TRACE_NONE};
static const struct tail ends = {
    .from = TRACE_GO_RUNNING, .to = TRACE_GO_NOT_EXIST, .peer = TRACE_NONE};
static const struct tail calls = {
    .from = TRACE_GO_RUNNING, .to = TRACE_GO_SYSCALL, .peer = TRACE_NONE};
static const struct tail returns = {
    .from = TRACE_GO_SYSCALL, .to = TRACE_GO_RUNNING, .peer = TRACE_NONE};

TRACE_HOT struct trace_event *emit(struct run *f, uint8_t wire, const struct state_go *of,
                                   const struct tail *tail, uint32_t stack)
{
    struct trace_event *ev = f->next;
    int64_t time_ns = f->last_ns + 1;
    f->last_ns = ev->time_ns = f->time_ns > time_ns ? f->time_ns : time_ns;
    memcpy(&ev->thread, &f->thread->id, 2 * sizeof ev->thread);
    ev->goroutine = f->go->id;
    ev->offset = f->data_to_offset + (uintptr_t)f->event;
    ev->batch = f->batch;
    ev->stack = stack;
    memcpy(&ev->thread_slot, &f->thread->slot, 2 * sizeof ev->thread_slot);
    ev->goroutine_slot = f->go->slot;
    ev->kind = TRACE_TRANSITION;
    ev->what = TRACE_RESOURCE_GOROUTINE;
    ev->wire = wire;
    ev->flags = 0;
    memcpy(&ev->transition.id, of, 16);
    memcpy(&ev->transition.stack, tail, sizeof *tail);
    return ev;
}

TRACE_HOT bool go_start(struct trace_reader *r, struct run *f)
{
    const unsigned char *at = f->at;
    uint64_t id, seq;
    if (!small_number(&at, &id) || !small_number(&at, &seq) || f->go != f->none)
        return false;
    struct state_go *g = state_recent_go(&r->state, id);
    if (g->id != (int64_t)id || g->status != TRACE_GO_STATUS_RUNNABLE || !follows(f, g, seq))
        return false;
    g->status = TRACE_GO_STATUS_RUNNING;
    g->seq.seq = seq;
    emit(f, TRACE_EV_GO_START, g, &starts, 0);
    f->go = g;
    f->at = at;
    return true;
}

// GoStop and GoBlock.
TRACE_HOT bool go_stop(struct trace_reader *r, struct run *f, uint8_t wire, uint8_t status,
                       const struct tail *tail)
{
    const unsigned char *at = f->at;
    uint64_t file_reason, file_stack;
    uint32_t reason, stack;
    if (!small_number(&at, &file_reason) || !small_number(&at, &file_stack) ||
        f->go->status != TRACE_GO_STATUS_RUNNING || !known_string(r, file_reason, &reason) ||
        !known_stack(r, file_stack, &stack))
        return false;
    f->go->status = status;
    struct trace_event *ev = emit(f, wire, f->go, tail, stack);
    ev->transition.stack = stack;
    ev->transition.reason = reason;
    f->go = f->none;
    f->at = at;
    return true;
}

TRACE_HOT bool go_unblock(struct trace_reader *r, struct run *f)
{
    const unsigned char *at = f->at;
    uint64_t id, seq, file_stack;
    uint32_t stack;
    if (!small_number(&at, &id) || !small_number(&at, &seq) || !small_number(&at, &file_stack))
        return false;
    struct state_go *g = state_recent_go(&r->state, id);
    if (g->id != (int64_t)id || g->status != TRACE_GO_STATUS_WAITING || !follows(f, g, seq) ||
        !known_stack(r, file_stack, &stack))
        return false;
    g->status = TRACE_GO_STATUS_RUNNABLE;
    g->seq.seq = seq;
    emit(f, TRACE_EV_GO_UNBLOCK, g, &unblocks, stack);
    f->at = at;
    return true;
}

TRACE_HOT bool go_create(struct trace_reader *r, struct run *f)
{
    const unsigned char *at = f->at;
    uint64_t id, file_start, file_stack;
    uint32_t start, stack;
    struct state_go *g;
    if (!small_number(&at, &id) || !small_number(&at, &file_start) ||
        !small_number(&at, &file_stack) || !known_stack(r, file_start, &start) ||
        !known_stack(r, file_stack, &stack) ||
        (f->go != f->none && f->go->status != TRACE_GO_STATUS_RUNNING) ||
        state_find_go(&r->state, id) || state_add_go(&r->state, id, TRACE_GO_STATUS_RUNNABLE, &g))
        return false;
    g->seq.generation = f->generation;
    struct trace_event *ev = emit(f, TRACE_EV_GO_CREATE, g, &is_made, stack);
    ev->transition.stack = start;
    f->at = at;
    return true;
}

TRACE_HOT bool go_destroy(struct trace_reader *r, struct run *f)
{
    struct state_go *g = f->go;
    if (g->status != TRACE_GO_STATUS_RUNNING)
        return false;
    emit(f, TRACE_EV_GO_DESTROY, g, &ends, 0);
    state_remove_go(&r->state, g);
    f->go = f->none;
    return true;
}

TRACE_HOT bool go_syscall_begin(struct trace_reader *r, struct run *f)
{
    const unsigned char *at = f->at;
    uint64_t seq, file_stack;
    uint32_t stack;
    struct state_proc *p = f->thread->proc;
    if (!small_number(&at, &seq) || !small_number(&at, &file_stack) ||
        f->go->status != TRACE_GO_STATUS_RUNNING || p->seq.generation != f->generation ||
        p->seq.seq + 1 != seq || !known_stack(r, file_stack, &stack))
        return false;
    f->go->status = TRACE_GO_STATUS_SYSCALL;
    p->status = TRACE_PROC_STATUS_SYSCALL;
    p->seq.seq = seq;
    struct trace_event *ev = emit(f, TRACE_EV_GO_SYSCALL_BEGIN, f->go, &calls, stack);
    ev->transition.stack = stack;
    f->at = at;
    return true;
}

TRACE_HOT bool go_syscall_end(struct run *f)
{
    struct state_proc *p = f->thread->proc;
    if (f->go->status != TRACE_GO_STATUS_SYSCALL || p->status != TRACE_PROC_STATUS_SYSCALL)
        return false;
    f->go->status = TRACE_GO_STATUS_RUNNING;
    p->status = TRACE_PROC_STATUS_RUNNING;
    emit(f, TRACE_EV_GO_SYSCALL_END, f->go, &returns, 0);
    return true;
}

// Makes the next event pending, if it is near.
TRACE_HOT bool next(const struct trace_reader *r, struct run *f)
{
    const unsigned char *event = f->at, *at = event + 1;
    uint64_t ticks;
    if (event > f->stop || !small_number(&at, &ticks))
        return false;
    f->event = event;
    f->at = at;
    f->time_ns = (int64_t)((uint64_t)f->time_ns + ticks * r->gen.ns_integer);
    return true;
}

// Takes back what next did.
static void back(const struct trace_reader *r, struct run *f)
{
    const unsigned char *at = f->event + 1;
    uint64_t ticks = 0;
    small_number(&at, &ticks);
    f->time_ns = (int64_t)((uint64_t)f->time_ns - ticks * r->gen.ns_integer);
    f->at = f->event;
}

static void run_begin(struct trace_reader *r, struct run *f)
{
    *f = (struct run){
        .last_ns = r->last_ns,
        .next = r->ring + r->ring_count,
        .full = r->ring + (RING_EVENTS - EVENTS_PER_STEP),
        .none = &r->state.no_go,
        .generation = r->gen.number,
    };
}

static void run_end(struct trace_reader *r, const struct run *f)
{
    uint32_t count = (uint32_t)(f->next - r->ring);
    r->fast_count += count - r->ring_count;
    r->ring_count = count;
    r->last_ns = f->last_ns;
}

// Takes the head's place over. false: all of it is for the others.
TRACE_HOT bool head_begin(struct trace_reader *r, const struct cursor *c, struct run *f)
{
    struct state_thread *t = c->thread;
    if (c->end - c->event < CURSOR_SLACK_BYTES || t->slot == TRACE_NO_SLOT ||
        !(t->has & STATE_HAS_PROC))
        return false;
    if (!(t->has & STATE_HAS_GO) && t->go) // of the number TRACE_NONE, then
        return false;
    f->go = t->has & STATE_HAS_GO ? state_go_of(&r->state, t) : f->none;
    if (!f->go)
        return false;
    t->is_seen = true;
    f->thread = t;
    f->event = c->event;
    f->at = c->at;
    f->stop = c->end - CURSOR_SLACK_BYTES;
    f->time_ns = c->time_ns;
    f->data_to_offset = c->data_to_offset;
    f->batch = c->batch;
    return true;
}

TRACE_HOT void head_end(struct cursor *c, const struct run *f)
{
    c->event = f->event;
    c->at = f->at;
    c->wire = *f->event;
    c->time_ns = f->time_ns;
    state_bind_go(c->thread, f->go == f->none ? NULL : f->go);
}

// Until when the head may go on before anything else comes.
TRACE_HOT int64_t head_limit(const struct trace_reader *r)
{
    int64_t limit_ns = INT64_MAX - RING_EVENTS; // so that last_ns + 1 is always a time
    if (r->sample_ns < limit_ns)
        limit_ns = r->sample_ns;
    for (uint32_t i = 1; i < 3 && i < r->frontier_count; i++)
        if (r->frontier[i].time_ns < limit_ns)
            limit_ns = r->frontier[i].time_ns;
    return limit_ns;
}

// The time 0 means more to cursor_next, and one that has wrapped around is not before a limit.
TRACE_HOT bool is_before(int64_t time_ns, int64_t limit_ns)
{
    return (uint64_t)time_ns - 1 < (uint64_t)limit_ns;
}

enum head_stop {
    HEAD_LEFT,  // the pending event is for the others, or the ring is full
    HEAD_LATER, // another thread's event comes first, or a sample
    HEAD_DONE,  // the next event is not yet pending
};

TRACE_HOT bool one(struct trace_reader *r, struct run *f)
{
    switch (*f->event) {
    case TRACE_EV_GO_CREATE: return go_create(r, f);
    case TRACE_EV_GO_START: return go_start(r, f);
    case TRACE_EV_GO_DESTROY: return go_destroy(r, f);
    case TRACE_EV_GO_STOP: return go_stop(r, f, TRACE_EV_GO_STOP, TRACE_GO_STATUS_RUNNABLE, &stops);
    case TRACE_EV_GO_BLOCK:
        return go_stop(r, f, TRACE_EV_GO_BLOCK, TRACE_GO_STATUS_WAITING, &blocks);
    case TRACE_EV_GO_UNBLOCK: return go_unblock(r, f);
    case TRACE_EV_GO_SYSCALL_BEGIN: return go_syscall_begin(r, f);
    case TRACE_EV_GO_SYSCALL_END: return go_syscall_end(f);
    default: return false;
    }
}

// The head as far as it goes.
TRACE_HOT enum head_stop head_run(struct trace_reader *r, struct run *f, int64_t limit_ns)
{
    while (one(r, f)) {
        f->next++;
        if (!next(r, f))
            return HEAD_DONE;
        if (f->next > f->full || !is_before(f->time_ns, limit_ns)) {
            if (r->permits[*f->event])
                return f->next > f->full ? HEAD_LEFT : HEAD_LATER;
            break;
        }
    }
    if (r->permits[*f->event])
        return HEAD_LEFT;
    back(r, f); // cursor_next says what is wrong with it
    return HEAD_DONE;
}

bool order_fast(struct trace_reader *r)
{
    struct run f;
    if (r->is_careful || !r->gen.ns_integer)
        return true;
    run_begin(r, &f);
    enum head_stop stop = HEAD_LATER;
    do {
        struct cursor *c = r->frontier[0].cursor;
        int64_t limit_ns = head_limit(r);
        if (limit_ns <= 0 || !is_before(c->time_ns, limit_ns) || !head_begin(r, c, &f)) {
            stop = HEAD_LEFT;
            break;
        }
        stop = head_run(r, &f, limit_ns);
        head_end(c, &f);
        struct frontier_item item = {f.time_ns, c};
        if (stop == HEAD_LATER || !is_before(f.time_ns, limit_ns))
            frontier_sink(r->frontier, r->frontier_count, item);
        else
            r->frontier[0] = item;
    } while (stop == HEAD_LATER && r->frontier[0].time_ns <= r->sample_ns);
    run_end(r, &f);
    return stop != HEAD_DONE;
}
