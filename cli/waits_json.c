// SPDX-License-Identifier: MIT
//
// fiberscope waits --json.

#include "cli/json.h"
#include "cli/waits_report.h"

#include <string.h>

static void write_who(struct json *j, const char *key, bool is_fiber, uint64_t id)
{
    json_open(j, key, '{');
    json_string(j, "kind", is_fiber ? "goroutine" : "thread");
    json_int(j, "id", (int64_t)id);
    json_close(j, '}');
}

static void write_holder(struct json *j, const struct waits *w, const struct waits_node *n)
{
    static const char *const how[] = {
        [WAITS_HELD_UNKNOWN] = "unknown",
        [WAITS_HELD] = "holder",
        [WAITS_HELD_BY_FIBER] = "a goroutine that ran on this thread",
        [WAITS_HELD_OUTSIDE] = "another process",
        [WAITS_HELD_BY_DEAD] = "ended",
    };
    json_string(j, "held", how[n->holder]);
    if (n->to != WAITS_NONE)
        write_who(j, "held_by", w->nodes[n->to].is_fiber, w->nodes[n->to].id);
    else if (n->holder != WAITS_HELD_UNKNOWN)
        write_who(j, "held_by", n->holder_is_fiber, n->holder_id);
    if (n->readers)
        json_int(j, "readers", n->readers);
}

void waits_write_frames(struct json *j, const char *key, const struct pprof_sample *s)
{
    char function[1024], place[1024];
    json_open(j, key, '[');
    for (uint32_t i = 0; i < s->location_count; i++)
        for (uint32_t k = 0; stack_table_text(s->locations[i], k, function, place, sizeof place);
             k++) {
            json_open(j, NULL, '{');
            json_string(j, "function", function);
            json_string(j, "place", place);
            json_close(j, '}');
        }
    json_close(j, ']');
}

static void write_stack(struct json *j, const struct waits *w, const struct waits_node *n)
{
    const struct pprof_sample *s =
        w->stacks ? stack_table_get(w->stacks, (uint64_t)n->stack) : NULL;
    if (!s)
        return;
    json_bool(j, "stack_is_whole", !n->is_partial);
    waits_write_frames(j, "stack", s);
}

static void write_node(struct json *j, const struct waits *w, const struct waits_node *n)
{
    json_open(j, NULL, '{');
    json_int(j, "id", (int64_t)n->id);
    json_string(j, "name", n->name);
    json_string(j, "what", n->what);
    json_bool(j, "waits", n->is_waiting);
    if (n->waiting_ns)
        json_int(j, "waiting_ns", (int64_t)n->waiting_ns);
    if (n->object)
        json_hex(j, "object", n->object);
    if (n->lock[0])
        json_string(j, "lock", n->lock);
    if (n->is_lock)
        write_holder(j, w, n);
    if (n->has_limit)
        json_bool(j, "has_time_limit", true);
    if (n->runs)
        json_int(j, "runs_goroutine", (int64_t)n->runs);
    if (n->runs_on != WAITS_NONE)
        json_int(j, "runs_on_thread", (int64_t)w->nodes[n->runs_on].id);
    if (n->deadlock)
        json_int(j, "deadlock", n->deadlock);
    write_stack(j, w, n);
    json_close(j, '}');
}

static void write_nodes(struct json *j, const char *key, const struct waits *w, size_t from,
                        size_t to)
{
    json_open(j, key, '[');
    for (size_t i = from; i < to; i++)
        write_node(j, w, &w->nodes[i]);
    json_close(j, ']');
}

void waits_print_json(const struct waits_report *r, FILE *out)
{
    const struct waits *w = r->waits;
    struct json j = {.out = out};
    json_open(&j, NULL, '{');
    json_int(&j, "pid", target_pid(r->target));
    json_string(&j, "program", target_name(r->target));
    json_bool(&j, "is_core", target_is_core(r->target));
    json_open(&j, "deadlocks", '[');
    for (size_t i = 0; i < w->deadlock_count; i++) {
        const struct waits_deadlock *d = &w->deadlocks[i];
        json_open(&j, NULL, '{');
        json_bool(&j, "is_certain", !d->is_possible);
        json_open(&j, "circle", '[');
        uint32_t at = d->first;
        for (uint32_t n = 0; n < d->count; n++, at = w->nodes[at].next)
            write_who(&j, NULL, w->nodes[at].is_fiber, w->nodes[at].id);
        json_close(&j, ']');
        json_close(&j, '}');
    }
    json_close(&j, ']');
    write_nodes(&j, "threads", w, 0, w->thread_count);
    write_nodes(&j, "goroutines", w, w->thread_count, w->count);
    if (r->order)
        waits_write_order(&j, r->order);
    json_int(&j, "stopped_ns", (int64_t)w->stopped_ns);
    json_close(&j, '}');
}
