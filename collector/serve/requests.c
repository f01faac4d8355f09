// SPDX-License-Identifier: MIT
//
// See requests.h: the store, and what an event does to it.

#include "collector/serve/requests.h"

#include "formats/trace/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const uint64_t requests_bounds_ns[REQUESTS_BUCKETS] = {0,         100000,     1000000,    10000000,
                                                       100000000, 1000000000, 10000000000};

struct requests *requests_new(void)
{
    struct requests *q = calloc(1, sizeof *q);
    if (!q)
        return NULL;
    pthread_mutex_init(&q->lock, NULL);
    q->family_count = 1;
    return q;
}

static void release(struct task *t)
{
    if (!t || --t->owners)
        return;
    free(t->events);
    free(t);
}

static void forget_active(struct requests *q)
{
    for (uint32_t i = 0; i < REQUESTS_ACTIVE; i++) {
        release(q->active[i]);
        q->active[i] = NULL;
    }
    q->active_count = 0;
    for (uint32_t i = 0; i < q->family_count; i++)
        q->families[i].active = 0;
}

void requests_clear(struct requests *q)
{
    forget_active(q);
    for (uint32_t i = 0; i < q->family_count; i++)
        for (int b = 0; b <= REQUESTS_ERRORS; b++)
            for (uint32_t k = 0; k < q->families[i].recent[b].count; k++)
                release(q->families[i].recent[b].tasks[k]);
    memset(q->families, 0, sizeof q->families);
    q->family_count = 1;
    q->seen_until = q->seen_from = 0;
    q->unfollowed = q->forgotten = 0;
}

void requests_free(struct requests *q)
{
    if (!q)
        return;
    requests_clear(q);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

// --- Active ones: open addressing; a removal moves back what follows.

static uint32_t home_of(uint64_t id)
{
    return (uint32_t)((id * UINT64_C(0x9e3779b97f4a7c15)) >> 40) % REQUESTS_ACTIVE;
}

static uint32_t place_of(const struct requests *q, uint64_t id)
{
    uint32_t at = home_of(id);
    while (q->active[at] && q->active[at]->id != id)
        at = (at + 1) % REQUESTS_ACTIVE;
    return at;
}

static void take_out(struct requests *q, uint32_t at)
{
    q->active[at] = NULL;
    q->active_count--;
    for (uint32_t k = (at + 1) % REQUESTS_ACTIVE; q->active[k]; k = (k + 1) % REQUESTS_ACTIVE) {
        struct task *t = q->active[k];
        q->active[k] = NULL;
        q->active[place_of(q, t->id)] = t;
    }
}

static void copy_text(const struct trace_reader *reader, uint32_t id, char *out, size_t size)
{
    struct trace_text text = trace_reader_string(reader, id);
    size_t n = text.size_bytes < size - 1 ? text.size_bytes : size - 1;
    if (n)
        memcpy(out, text.bytes, n);
    out[n] = '\0';
}

static uint32_t family_of(struct requests *q, const struct trace_reader *reader, uint32_t type)
{
    char name[REQUESTS_NAME];
    copy_text(reader, type, name, sizeof name);
    for (uint32_t i = 0; i < q->family_count; i++)
        if (strcmp(q->families[i].name, name) == 0)
            return i;
    if (q->family_count > REQUESTS_FAMILIES)
        return 0;
    memcpy(q->families[q->family_count].name, name, sizeof name);
    return q->family_count++;
}

static int begin(struct requests *q, const struct trace_reader *reader, const struct trace_event *e)
{
    uint32_t at = q->active_count ? place_of(q, e->task.id) : home_of(e->task.id);
    if (q->active[at])
        return 0; // known already
    if (q->active_count >= REQUESTS_ACTIVE - 1) {
        q->unfollowed++;
        return 0;
    }
    struct task *t = calloc(1, sizeof *t);
    if (!t)
        return -ENOMEM;
    t->id = e->task.id;
    t->parent = e->task.parent == TRACE_NO_TASK ? 0 : e->task.parent;
    t->begin_ns = e->time_ns;
    t->family = family_of(q, reader, e->task.type);
    t->owners = 1;
    q->active[at] = t;
    q->active_count++;
    q->families[t->family].active++;
    return 0;
}

static void put_in(struct task_list *l, struct task *t)
{
    if (l->count == REQUESTS_RECENT) {
        release(l->tasks[0]);
        memmove(l->tasks, l->tasks + 1, sizeof l->tasks - sizeof l->tasks[0]);
        l->count--;
    }
    l->tasks[l->count++] = t;
    t->owners++;
}

static void end(struct requests *q, const struct trace_event *e)
{
    uint32_t at = place_of(q, e->task.id);
    struct task *t = q->active[at];
    if (!t)
        return; // nobody saw it begin
    take_out(q, at);
    struct task_family *f = &q->families[t->family];
    uint64_t ns = e->time_ns > t->begin_ns ? (uint64_t)(e->time_ns - t->begin_ns) : 0;
    int bucket = REQUESTS_BUCKETS - 1;
    while (ns < requests_bounds_ns[bucket])
        bucket--;
    t->end_ns = e->time_ns;
    f->active--;
    f->count++;
    f->errors += t->has_error;
    f->buckets[bucket]++;
    f->powers[ns ? 63 - __builtin_clzll(ns) : 0]++;
    put_in(&f->recent[bucket], t);
    if (t->has_error)
        put_in(&f->recent[REQUESTS_ERRORS], t);
    release(t);
}

// NULL: the task is not followed, has had enough, or there is no memory.
static struct task_event *new_event(struct task *t, const struct trace_event *e)
{
    if (t->event_count == REQUESTS_EVENTS) {
        t->events_lost++;
        return NULL;
    }
    if (t->event_count % 4 == 0) {
        struct task_event *grown = reallocarray(t->events, t->event_count + 4, sizeof *t->events);
        if (!grown)
            return NULL;
        t->events = grown;
    }
    struct task_event *event = &t->events[t->event_count++];
    *event = (struct task_event){.at_ns = e->time_ns, .took_ns = -1};
    return event;
}

static void log_text(struct requests *q, const struct trace_reader *reader,
                     const struct trace_event *e)
{
    char category[64];
    struct task *t = q->active[place_of(q, e->log.task)];
    if (!t)
        return;
    copy_text(reader, e->log.category, category, sizeof category);
    bool is_error = strcmp(category, "error") == 0;
    t->has_error |= is_error;
    struct task_event *event = new_event(t, e);
    if (!event)
        return;
    event->kind = is_error ? TASK_ERROR : TASK_LOG;
    int n = snprintf(event->text, sizeof event->text, "%s%s", category, *category ? ": " : "");
    if (n >= 0 && (size_t)n < sizeof event->text)
        copy_text(reader, e->log.message, event->text + n, sizeof event->text - (size_t)n);
}

static void region(struct requests *q, const struct trace_reader *reader,
                   const struct trace_event *e)
{
    struct task *t = e->region.task ? q->active[place_of(q, e->region.task)] : NULL;
    char name[REQUESTS_TEXT];
    if (!t)
        return;
    copy_text(reader, e->region.type, name, sizeof name);
    if (e->kind == TRACE_REGION_BEGIN) {
        struct task_event *event = new_event(t, e);
        if (!event)
            return;
        event->kind = TASK_REGION;
        memcpy(event->text, name, sizeof name);
        return;
    }
    for (uint32_t i = t->event_count; i-- > 0;) {
        struct task_event *event = &t->events[i];
        if (event->kind != TASK_REGION || event->took_ns >= 0 || strcmp(event->text, name) != 0)
            continue;
        event->took_ns = e->time_ns - event->at_ns;
        return;
    }
}

static int take(struct requests *q, const struct trace_reader *reader, const struct trace_event *e)
{
    switch (e->kind) {
    case TRACE_TASK_BEGIN: return begin(q, reader, e);
    case TRACE_TASK_END: end(q, e); return 0;
    case TRACE_LOG: log_text(q, reader, e); return 0;
    case TRACE_REGION_BEGIN:
    case TRACE_REGION_END: region(q, reader, e); return 0;
    default: return 0;
    }
}

int requests_read(struct requests *q, struct trace_reader *reader)
{
    const struct trace_event *e;
    int64_t until = q->seen_until;
    bool is_first = true;
    int rc, ours = 0;
    while ((rc = trace_reader_next(reader, &e)) > 0) {
        if (is_first && (!until || e->time_ns > until)) {
            q->forgotten += q->active_count;
            forget_active(q);
            q->seen_from = e->time_ns;
        }
        is_first = false;
        if (until && e->time_ns <= until)
            continue;
        q->seen_until = e->time_ns;
        if (!ours)
            ours = take(q, reader, e);
    }
    return rc < 0 ? rc : ours;
}

uint64_t requests_quantile_ns(const struct task_family *f, double fraction)
{
    return powers_quantile_ns(f->powers, fraction);
}
