// SPDX-License-Identifier: MIT
//
// The model: channels as plain lists, one event after the other. It knows Go's rules and nothing of how the
// runtime does it: first come, first served; a value goes to a waiting receiver, else into the buffer; a
// waiting sender's value moves into a buffer that gets room; close serves all who wait.

#include "tests/runtime/chan_model.h"

#include <string.h>

enum { QUEUE_MAX = ACTORS_MAX * CASES_MAX, UNTOUCHED = 0xa5 };

enum actor_state { RUNS, WAITS, SERVED };

struct actor {
    uint8_t state;
    uint8_t op;
    int64_t deadline_ns; // INT64_MAX: none
    // SERVED: by which channel and direction, and what was received.
    int8_t chan;
    bool is_send, ok;
    uint32_t id;
    bool has_left;
};

struct queue {
    uint32_t count;
    uint32_t items[QUEUE_MAX]; // actors, or ids of values
};

struct model {
    const struct program *p;
    struct actor actors[ACTORS_MAX];
    struct {
        struct queue buffer, waiting[2]; // [is_send]: actors
        bool is_closed;
    } chans[CHANS_MAX];
    int64_t now_ns;
};

static void push(struct queue *q, uint32_t item)
{
    q->items[q->count++] = item;
}

static uint32_t pop(struct queue *q)
{
    uint32_t item = q->items[0];
    memmove(q->items, q->items + 1, --q->count * sizeof *q->items);
    return item;
}

static void drop(struct queue *q, uint32_t item)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < q->count; i++)
        if (q->items[i] != item)
            q->items[kept++] = q->items[i];
    q->count = kept;
}

static void leave_all(struct model *m, uint32_t actor)
{
    for (uint32_t c = 0; c < m->p->chans; c++) {
        drop(&m->chans[c].waiting[0], actor);
        drop(&m->chans[c].waiting[1], actor);
    }
}

// The first that waits for it and whose time is not over; -1: none.
static int first_waiting(const struct model *m, int chan, bool is_send)
{
    const struct queue *q = &m->chans[chan].waiting[is_send];
    for (uint32_t i = 0; i < q->count; i++)
        if (m->actors[q->items[i]].deadline_ns > m->now_ns)
            return (int)q->items[i];
    return -1;
}

static void serve(struct model *m, int actor, int chan, bool is_send, uint32_t id, bool ok)
{
    struct actor *a = &m->actors[actor];
    a->state = SERVED;
    a->chan = (int8_t)chan;
    a->is_send = is_send;
    a->id = id;
    a->ok = ok;
    leave_all(m, (uint32_t)actor);
}

static uint32_t sent_by(const struct model *m, int actor, int chan)
{
    return value_id((uint32_t)actor, m->actors[actor].op, (uint32_t)chan);
}

static bool is_ready(const struct model *m, struct model_case k)
{
    if (k.chan < 0)
        return false;
    if (first_waiting(m, k.chan, !k.is_send) >= 0 || m->chans[k.chan].is_closed)
        return true;
    uint32_t count = m->chans[k.chan].buffer.count;
    return k.is_send ? count < m->p->chan[k.chan].capacity : count > 0;
}

static const char *do_send(struct model *m, int actor, int chan)
{
    if (m->chans[chan].is_closed)
        return "sent on a closed channel";
    int other = first_waiting(m, chan, false);
    uint32_t id = sent_by(m, actor, chan);
    if (other >= 0)
        serve(m, other, chan, false, id, true);
    else if (m->chans[chan].buffer.count < m->p->chan[chan].capacity)
        push(&m->chans[chan].buffer, id);
    else
        return "sent without room and without a receiver";
    return NULL;
}

static const char *do_recv(struct model *m, int chan, uint32_t *id, bool *ok)
{
    struct queue *buffer = &m->chans[chan].buffer;
    int other = first_waiting(m, chan, true);
    *ok = true;
    if (buffer->count) {
        *id = pop(buffer);
        if (other >= 0) {
            push(buffer, sent_by(m, other, chan));
            serve(m, other, chan, true, 0, true);
        }
    } else if (other >= 0) {
        *id = sent_by(m, other, chan);
        serve(m, other, chan, true, 0, true);
    } else if (m->chans[chan].is_closed) {
        *ok = false;
    } else {
        return "received from nobody";
    }
    return NULL;
}

static const char *do_close(struct model *m, int chan)
{
    if (m->chans[chan].is_closed)
        return "closed twice";
    m->chans[chan].is_closed = true;
    int other;
    while ((other = first_waiting(m, chan, false)) >= 0)
        serve(m, other, chan, false, 0, false);
    return first_waiting(m, chan, true) >= 0 ? "closed under a waiting sender" : NULL;
}

static uint64_t hash_of(const struct model *m, int chan, uint32_t id, bool ok)
{
    static unsigned char bytes[1 << 16];
    size_t size = m->p->chan[chan].elem_bytes;
    if (ok)
        value_fill(bytes, size, id);
    else
        memset(bytes, 0, size);
    return value_hash(bytes, size);
}

static const char *check_received(const struct model *m, const struct event *e, int chan,
                                  uint32_t id, bool ok)
{
    if (e->ok != ok)
        return ok ? "received, but says closed" : "closed, but says received";
    return e->value == hash_of(m, chan, id, ok) ? NULL : "received another value";
}

static const struct model_op *op_of(const struct model *m, const struct event *e)
{
    return &m->p->actor[e->actor].ops[e->op];
}

static const char *on_waits(struct model *m, const struct event *e)
{
    struct actor *a = &m->actors[e->actor];
    const struct model_op *op = op_of(m, e);
    if (a->state != RUNS || e->op != a->op)
        return "waits, but not in its turn";
    if (op->timeout_ns == 0)
        return "waits, and may not";
    for (uint32_t i = 0; i < op->count; i++)
        if (is_ready(m, op->cases[i]))
            return "waits, and a case was ready";
    a->state = WAITS;
    a->deadline_ns = op->timeout_ns < 0 ? INT64_MAX : e->now_ns + op->timeout_ns;
    for (uint32_t i = 0; i < op->count; i++)
        if (op->cases[i].chan >= 0)
            push(&m->chans[op->cases[i].chan].waiting[op->cases[i].is_send], e->actor);
    return NULL;
}

// It never waited: it took effect now.
static const char *ended_at_once(struct model *m, const struct event *e, const struct model_op *op)
{
    if (e->chosen < 0) {
        if (op->timeout_ns)
            return "gave up without waiting";
        for (uint32_t i = 0; i < op->count; i++)
            if (is_ready(m, op->cases[i]))
                return "none chosen, and a case was ready";
        return NULL;
    }
    struct model_case k = op->cases[e->chosen];
    if (k.chan < 0)
        return "chose a case without a channel";
    if (k.is_send)
        return do_send(m, e->actor, k.chan);
    uint32_t id = 0;
    bool ok;
    const char *why = do_recv(m, k.chan, &id, &ok);
    return why ? why : check_received(m, e, k.chan, id, ok);
}

static const char *ended_after_wait(struct model *m, const struct event *e,
                                    const struct model_op *op)
{
    struct actor *a = &m->actors[e->actor];
    if (a->state == WAITS) {
        leave_all(m, e->actor);
        if (e->chosen >= 0)
            return "goes on, and nobody served it";
        return a->deadline_ns <= e->now_ns ? NULL : "gave up before its time was over";
    }
    if (e->chosen < 0)
        return "gave up, and was served";
    struct model_case k = op->cases[e->chosen];
    if (k.chan != a->chan || k.is_send != a->is_send)
        return "chose another case than the one that was served";
    return k.is_send ? NULL : check_received(m, e, k.chan, a->id, a->ok);
}

static const char *on_ended(struct model *m, const struct event *e)
{
    struct actor *a = &m->actors[e->actor];
    const struct model_op *op = op_of(m, e);
    if (e->op != a->op)
        return "ended, but not in its turn";
    const char *why = NULL;
    switch (op->kind) {
    case OP_CLOSE: why = do_close(m, op->cases[0].chan); break;
    case OP_LEN:
        if (op->cases[0].chan >= 0 && e->value != m->chans[op->cases[0].chan].buffer.count)
            why = "another length";
        break;
    case OP_SEND:
    case OP_RECV:
    case OP_SELECT:
        why = a->state == RUNS ? ended_at_once(m, e, op) : ended_after_wait(m, e, op);
        break;
    default: break;
    }
    a->state = RUNS;
    a->op++;
    return why;
}

static const char *check_end(struct model *m)
{
    for (uint32_t i = 0; i < m->p->actors; i++) {
        const struct actor *a = &m->actors[i];
        if (a->has_left)
            continue;
        if (a->state != WAITS || a->deadline_ns != INT64_MAX)
            return "a fiber hangs that was served or whose time was over";
        const struct model_op *op = &m->p->actor[i].ops[a->op];
        leave_all(m, i); // it cannot serve itself
        for (uint32_t k = 0; k < op->count; k++)
            if (is_ready(m, op->cases[k]))
                return "a fiber hangs and could go on";
        for (uint32_t k = 0; k < op->count; k++)
            if (op->cases[k].chan >= 0)
                push(&m->chans[op->cases[k].chan].waiting[op->cases[k].is_send], i);
    }
    return NULL;
}

const char *model_check(const struct program *p, const struct run_log *log, uint32_t *at)
{
    static struct model m;
    memset(&m, 0, sizeof m);
    m.p = p;
    const char *why = NULL;
    for (*at = 0; !why && *at < log->count; ++*at) {
        const struct event *e = &log->events[*at];
        if (e->now_ns < m.now_ns)
            return "the clock went back";
        m.now_ns = e->now_ns;
        switch (e->kind) {
        case EV_WAITS: why = on_waits(&m, e); break;
        case EV_ENDED: why = on_ended(&m, e); break;
        case EV_CLOSED_AT_END: why = do_close(&m, e->chosen); break;
        case EV_LEFT:
            m.actors[e->actor].has_left = true;
            why = m.actors[e->actor].op == p->actor[e->actor].count ? NULL : "left early";
            break;
        case EV_FINAL_LEN:
            why = e->value == m.chans[e->actor].buffer.count ? NULL : "another length at the end";
            break;
        }
        if (why)
            return why;
    }
    return log->is_over ? check_end(&m) : "did not come to its end";
}
