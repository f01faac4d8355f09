// SPDX-License-Identifier: MIT

#include "formats/trace/order_ranges.h"

static struct trace_text text_of(const struct trace_reader *r, uint32_t id,
                                 const struct held_text *held)
{
    if (held && held->copy)
        return (struct trace_text){held->copy, held->size_bytes};
    return trace_reader_string(r, held ? held->id : id);
}

static bool is_same(const struct trace_reader *r, const struct held_text *held, uint32_t id)
{
    if (!held->copy && !(id & TRACE_ID_TRANSIENT))
        return held->id == id;
    struct trace_text a = text_of(r, 0, held), b = text_of(r, id, NULL);
    return a.size_bytes == b.size_bytes && memcmp(a.bytes, b.bytes, a.size_bytes) == 0;
}

// Keeps a string beyond its generation. 0 or -errno, error set.
static int hold(struct trace_reader *r, const struct cursor *c, struct held_text *h, uint32_t id)
{
    if (!(id & TRACE_ID_TRANSIENT)) {
        *h = (struct held_text){.id = id};
        return 0;
    }
    struct trace_text text = trace_reader_string(r, id);
    int rc = state_hold(&r->state, h, text.bytes, text.size_bytes);
    return rc ? order_no_memory(r, c, rc) : 0;
}

// The id of a kept string in this generation.
static int held_id(struct trace_reader *r, const struct held_text *h, uint32_t *id)
{
    *id = h->id;
    return h->copy ? generation_add_text(r, h->copy, h->size_bytes, id) : 0;
}

// --- Ranges of a Goroutine or a Proc.

static struct state_range *range_find(const struct trace_reader *r, struct state_ranges *ranges,
                                      uint8_t begin, const uint32_t *reason)
{
    for (uint32_t i = 0; i < ranges->count; i++) {
        struct state_range *item = &ranges->items[i];
        if (item->begin == begin && (!reason || is_same(r, &item->reason, *reason)))
            return item;
    }
    return NULL;
}

// What a range event is about.
struct range_of {
    uint8_t which; // enum trace_range
    uint8_t begin; // wire event
    struct state_ranges *ranges;
    int64_t id;
    uint32_t slot;
};

static void range_emit(struct trace_reader *r, struct cursor *c, const struct range_of *of,
                       uint8_t kind, uint32_t reason, uint32_t stack)
{
    struct trace_event *ev = order_emit(r, c, c->thread, kind, of->which);
    ev->stack = stack;
    ev->range.id = of->id;
    ev->range.slot = of->slot;
    ev->range.reason = reason;
    ev->range.swept_bytes = ev->range.reclaimed_bytes = 0;
}

static int range_open(struct trace_reader *r, struct cursor *c, const struct range_of *of,
                      uint32_t reason)
{
    int rc = 0;
    struct state_range *item = state_push_range(&r->state, of->ranges, &rc);
    if (!item)
        return order_no_memory(r, c, rc);
    item->begin = of->begin;
    rc = hold(r, c, &item->reason, reason);
    if (rc)
        of->ranges->count--;
    return rc;
}

// A real one has two or three at a time; each is looked for among all.
enum { RANGES_MAX = 256 };

static int range_begin(struct trace_reader *r, struct cursor *c, const struct range_of *of,
                       uint32_t reason, uint32_t stack)
{
    if (range_find(r, of->ranges, of->begin, &reason))
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_RANGE, "this range has begun already");
    if (of->ranges->count >= RANGES_MAX)
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_RANGE,
                           "one Goroutine or Proc with more than %d open ranges", RANGES_MAX);
    int rc = range_open(r, c, of, reason);
    if (rc)
        return rc;
    range_emit(r, c, of, TRACE_RANGE_BEGIN, reason, stack);
    return 0;
}

static int range_active(struct trace_reader *r, struct cursor *c, const struct range_of *of)
{
    uint32_t none = 0;
    bool is_first = r->gen.number == r->generation_first;
    bool is_open = range_find(r, of->ranges, of->begin, &none) != NULL;
    if (is_open == is_first)
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_RANGE,
                           is_first ? "this range of the first generation is active already"
                                    : "this range has not begun");
    int rc = is_first ? range_open(r, c, of, 0) : 0;
    if (rc)
        return rc;
    range_emit(r, c, of, TRACE_RANGE_ACTIVE, 0, 0);
    return 0;
}

static int range_end(struct trace_reader *r, struct cursor *c, const struct range_of *of)
{
    uint32_t reason;
    struct state_range *item = range_find(r, of->ranges, of->begin, NULL);
    if (!item)
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_RANGE, "a range that has not begun ends");
    int rc = held_id(r, &item->reason, &reason);
    if (rc)
        return rc;
    state_release(&r->state, &item->reason);
    *item = of->ranges->items[--of->ranges->count];
    range_emit(r, c, of, TRACE_RANGE_END, reason, 0);
    return 0;
}

// STW and mark assists: of the thread's Goroutine.
static int go_range(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at = c->at;
    bool is_stw = c->wire == TRACE_EV_STW_BEGIN || c->wire == TRACE_EV_STW_END;
    bool begins = c->wire == TRACE_EV_STW_BEGIN || c->wire == TRACE_EV_GC_ASSIST_BEGIN;
    uint64_t v[2] = {0};
    uint32_t reason = 0, stack = 0;
    if (begins && !cursor_args(c, &at, is_stw ? v : v + 1, is_stw ? 2 : 1))
        return order_bad_args(r, c);
    int rc = order_need(r, c, STATE_HAS_ALL, 0);
    struct state_go *g = rc ? NULL : state_go_of(&r->state, c->thread);
    if (!rc && !g)
        rc = order_bad_status(r, c, g, "");
    if (!rc && begins)
        rc = order_string(r, c, v[0], &reason);
    if (!rc && begins)
        rc = order_stack(r, c, v[1], &stack);
    if (rc)
        return rc;
    struct range_of of = {
        .which = is_stw ? TRACE_RANGE_STW : TRACE_RANGE_GC_ASSIST,
        .begin = is_stw ? TRACE_EV_STW_BEGIN : TRACE_EV_GC_ASSIST_BEGIN,
        .ranges = &g->ranges,
        .id = g->id,
        .slot = g->slot,
    };
    rc = begins ? range_begin(r, c, &of, reason, stack) : range_end(r, c, &of);
    return rc ? rc : order_done(c, at);
}

static int assist_active(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at;
    uint64_t v[1];
    if (!cursor_args(c, &at, v, 1))
        return order_bad_args(r, c);
    struct state_go *g = state_find_go(&r->state, v[0]);
    if (!g)
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_EXISTS, "Goroutine %lld does not exist",
                           (long long)v[0]);
    struct range_of of = {TRACE_RANGE_GC_ASSIST, TRACE_EV_GC_ASSIST_BEGIN, &g->ranges, g->id,
                          g->slot};
    int rc = range_active(r, c, &of);
    return rc ? rc : order_done(c, at);
}

// Sweeping: of a Proc.
static int sweep(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at;
    uint64_t v[2];
    uint32_t stack;
    bool is_active = c->wire == TRACE_EV_GC_SWEEP_ACTIVE;
    if (!cursor_args(c, &at, v, c->wire == TRACE_EV_GC_SWEEP_END ? 2 : 1))
        return order_bad_args(r, c);
    int rc = is_active ? 0 : order_need(r, c, STATE_HAS_THREAD | STATE_HAS_PROC, 0);
    if (rc)
        return rc;
    struct state_proc *p = is_active ? state_find_proc(&r->state, v[0]) : c->thread->proc;
    if (!p)
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_EXISTS, "Proc %lld does not exist",
                           (long long)v[0]);
    struct range_of of = {TRACE_RANGE_GC_SWEEP, TRACE_EV_GC_SWEEP_BEGIN, &p->ranges, p->id,
                          p->slot};
    if (is_active) {
        rc = range_active(r, c, &of);
    } else if (c->wire == TRACE_EV_GC_SWEEP_BEGIN) {
        rc = order_stack(r, c, v[0], &stack);
        if (!rc)
            rc = range_begin(r, c, &of, 0, stack);
    } else {
        rc = range_end(r, c, &of);
        if (!rc) {
            struct trace_event *ev = &r->ring[r->ring_count - 1];
            ev->range.swept_bytes = v[0];
            ev->range.reclaimed_bytes = v[1];
        }
    }
    return rc ? rc : order_done(c, at);
}

// --- The mark phase: one for the whole program, numbered through begins, ends and actives.

static int mark_checks(struct trace_reader *r, struct cursor *c, uint64_t seq)
{
    bool begins = c->wire == TRACE_EV_GC_BEGIN;
    bool is_first = c->wire == TRACE_EV_GC_ACTIVE && r->gen.number == r->generation_first;
    if (is_first && r->gc != GC_UNDETERMINED)
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_GC,
                           "is not the first event about the GC in the first generation");
    if (is_first || (begins && r->gc == GC_UNDETERMINED))
        return 1;
    if (seq != r->gc_seq + 1)
        return 0;
    if (begins ? r->gc == GC_RUNNING : r->gc != GC_RUNNING)
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_GC,
                           begins ? "the GC is marking already" : "the GC is not marking");
    int rc = order_need(r, c, STATE_HAS_ALL, 0);
    return rc ? rc : 1;
}

static int mark(struct trace_reader *r, struct cursor *c)
{
    static const uint8_t kinds[] = {TRACE_RANGE_ACTIVE, TRACE_RANGE_BEGIN, TRACE_RANGE_END};
    const unsigned char *at;
    uint64_t v[2] = {0}; // seq, stack
    uint32_t stack;
    if (!cursor_args(c, &at, v, c->wire == TRACE_EV_GC_BEGIN ? 2 : 1))
        return order_bad_args(r, c);
    int rc = mark_checks(r, c, v[0]);
    if (rc <= 0)
        return rc;
    rc = order_stack(r, c, v[1], &stack);
    if (rc)
        return rc;
    r->gc_seq = v[0];
    r->gc = c->wire == TRACE_EV_GC_END ? GC_NOT_RUNNING : GC_RUNNING;
    struct range_of of = {.which = TRACE_RANGE_GC_MARK, .id = TRACE_NONE, .slot = TRACE_NO_SLOT};
    range_emit(r, c, &of, kinds[c->wire - TRACE_EV_GC_ACTIVE], 0, stack);
    return order_done(c, at);
}

// --- Tasks and regions.

static int task_begin(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at;
    uint64_t v[4]; // task, parent, type, stack
    uint32_t type, stack;
    struct state_task *task;
    if (!cursor_args(c, &at, v, 4))
        return order_bad_args(r, c);
    if (state_find_task(&r->state, v[0]))
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_TASK, "task %llu has begun already",
                           (unsigned long long)v[0]);
    int rc = order_need(r, c, STATE_HAS_ALL, 0);
    if (!rc)
        rc = order_string(r, c, v[2], &type);
    if (!rc)
        rc = order_stack(r, c, v[3], &stack);
    if (rc)
        return rc;
    rc = state_add_task(&r->state, v[0], &task);
    if (rc)
        return order_no_memory(r, c, rc);
    task->parent = v[1] ? v[1] : TRACE_NO_TASK; // 0 on the wire: none, not the background task
    rc = hold(r, c, &task->type, type);
    if (rc)
        return rc;
    struct trace_event *ev = order_emit(r, c, c->thread, TRACE_TASK_BEGIN, 0);
    ev->stack = stack;
    ev->task.id = v[0];
    ev->task.parent = task->parent;
    ev->task.type = type;
    return order_done(c, at);
}

static int task_end(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at;
    uint64_t v[2]; // task, stack
    uint32_t type = 0, stack;
    if (!cursor_args(c, &at, v, 2))
        return order_bad_args(r, c);
    int rc = order_need(r, c, STATE_HAS_ALL, 0);
    if (!rc)
        rc = order_stack(r, c, v[1], &stack);
    if (rc)
        return rc;
    struct state_task *task = state_find_task(&r->state, v[0]);
    uint64_t parent = task ? task->parent : TRACE_NO_TASK;
    if (task) {
        rc = held_id(r, &task->type, &type);
        if (rc)
            return rc;
        state_remove_task(&r->state, task);
    }
    struct trace_event *ev = order_emit(r, c, c->thread, TRACE_TASK_END, 0);
    ev->stack = stack;
    ev->task.id = v[0];
    ev->task.parent = parent;
    ev->task.type = type;
    return order_done(c, at);
}

static int region_end(struct trace_reader *r, const struct cursor *c, struct state_go *g,
                      uint64_t task, uint32_t type)
{
    if (g->region_count == 0)
        return 0; // begun before the trace
    struct state_region *last = &g->regions[g->region_count - 1];
    if (last->task != task || !is_same(r, &last->type, type)) {
        struct trace_text open = text_of(r, 0, &last->type), closed = text_of(r, type, NULL);
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_REGION,
                           "Goroutine %lld ends region %.*s of task %llu, the innermost is %.*s of "
                           "task %llu",
                           (long long)g->id, (int)(closed.size_bytes < 64 ? closed.size_bytes : 64),
                           closed.bytes, (unsigned long long)task,
                           (int)(open.size_bytes < 64 ? open.size_bytes : 64), open.bytes,
                           (unsigned long long)last->task);
    }
    state_release(&r->state, &last->type);
    g->region_count--;
    return 0;
}

static int region(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at;
    uint64_t v[3]; // task, type, stack
    uint32_t type, stack;
    bool begins = c->wire == TRACE_EV_REGION_BEGIN;
    if (!cursor_args(c, &at, v, 3))
        return order_bad_args(r, c);
    int rc = order_need(r, c, STATE_HAS_ALL, 0);
    struct state_go *g = rc ? NULL : state_go_of(&r->state, c->thread);
    if (!rc && !g)
        rc = order_bad_status(r, c, g, "");
    if (!rc)
        rc = order_string(r, c, v[1], &type);
    if (!rc)
        rc = order_stack(r, c, v[2], &stack);
    if (rc)
        return rc;
    if (begins) {
        struct state_region *item = state_push_region(&r->state, g, &rc);
        if (!item)
            return order_no_memory(r, c, rc);
        item->task = v[0];
        rc = hold(r, c, &item->type, type);
    } else {
        rc = region_end(r, c, g, v[0], type);
    }
    if (rc)
        return rc;
    struct trace_event *ev =
        order_emit(r, c, c->thread, begins ? TRACE_REGION_BEGIN : TRACE_REGION_END, 0);
    ev->stack = stack;
    ev->region.task = v[0];
    ev->region.type = type;
    return order_done(c, at);
}

int order_ranges(struct trace_reader *r, struct cursor *c)
{
    switch (c->wire) {
    case TRACE_EV_STW_BEGIN:
    case TRACE_EV_STW_END:
    case TRACE_EV_GC_ASSIST_BEGIN:
    case TRACE_EV_GC_ASSIST_END: return go_range(r, c);
    case TRACE_EV_GC_ASSIST_ACTIVE: return assist_active(r, c);
    case TRACE_EV_GC_SWEEP_ACTIVE:
    case TRACE_EV_GC_SWEEP_BEGIN:
    case TRACE_EV_GC_SWEEP_END: return sweep(r, c);
    case TRACE_EV_GC_ACTIVE:
    case TRACE_EV_GC_BEGIN:
    case TRACE_EV_GC_END: return mark(r, c);
    case TRACE_EV_TASK_BEGIN: return task_begin(r, c);
    case TRACE_EV_TASK_END: return task_end(r, c);
    case TRACE_EV_REGION_BEGIN:
    case TRACE_EV_REGION_END: return region(r, c);
    default:
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_EVENT,
                           "this event does not stand among others");
    }
}
