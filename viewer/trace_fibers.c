// SPDX-License-Identifier: MIT
//
// Fibers of a trace as the views want them: groups, states, how many there were. See trace_model.h.

#include "viewer/trace_model_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// --- States.

uint8_t trace_model_wait(const char *reason)
{
    static const struct {
        const char *part;
        uint8_t class;
    } words[] = {
        {"chan ", TRACE_STATE_CHANNEL},   {"select", TRACE_STATE_CHANNEL},
        {"sync", TRACE_STATE_LOCK},       {"semacquire", TRACE_STATE_LOCK},
        {"mutex", TRACE_STATE_LOCK},      {"lock", TRACE_STATE_LOCK},
        {"futex", TRACE_STATE_LOCK},      {"cond", TRACE_STATE_LOCK},
        {"join", TRACE_STATE_LOCK},       {"network", TRACE_STATE_NETWORK},
        {"IO wait", TRACE_STATE_NETWORK}, {"epoll", TRACE_STATE_NETWORK},
        {"sleep", TRACE_STATE_SLEEP},
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strstr(reason, words[i].part))
            return words[i].class;
    return TRACE_STATE_OTHER;
}

static int make_states(struct trace_model *m)
{
    const struct trace_spans *s = m->spans;
    m->state_of = malloc(s->kind_count + (size_t)1);
    if (!m->state_of)
        return -ENOMEM;
    for (uint32_t i = 0; i < s->kind_count; i++) {
        switch (s->kinds[i].state) {
        case TRACE_GO_RUNNING: m->state_of[i] = TRACE_STATE_RUNNING; break;
        case TRACE_GO_RUNNABLE: m->state_of[i] = TRACE_STATE_RUNNABLE; break;
        case TRACE_GO_SYSCALL: m->state_of[i] = TRACE_STATE_SYSCALL; break;
        case TRACE_GO_WAITING:
            m->state_of[i] = trace_model_wait(trace_names_text(&s->names, s->kinds[i].reason));
            break;
        default: m->state_of[i] = LOD_NONE; break; // not there, or not known
        }
    }
    return 0;
}

const char *trace_model_state_name(int state)
{
    static const char *const names[LOD_CLASSES] = {
        "running", "runnable", "system call", "channel", "lock", "network", "sleep", "other wait"};
    return state >= 0 && state < LOD_CLASSES ? names[state] : "not there";
}

// --- Groups.

static int by_ran(const void *a, const void *b)
{
    const struct trace_model_group *x = a, *y = b;
    if (x->ran_ns != y->ran_ns)
        return x->ran_ns < y->ran_ns ? 1 : -1;
    return x->name < y->name ? -1 : x->name > y->name;
}

// Counts the fibers of each name, then deals them out: lanes are in order of id.
static int make_groups(struct trace_model *m)
{
    const struct trace_spans *s = m->spans;
    uint32_t names = s->names.count + 1, fibers = s->kind_first[TRACE_RESOURCE_PROC];
    struct trace_model_group *all = calloc(names, sizeof *all);
    uint32_t *next = calloc(names, sizeof *next);
    m->fibers = malloc((fibers + (size_t)1) * sizeof *m->fibers);
    if (!all || !next || !m->fibers) {
        free(all);
        free(next);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < names; i++)
        all[i].name = i;
    for (uint32_t lane = 0; lane < fibers; lane++) {
        all[s->lanes[lane].name].count++;
        all[s->lanes[lane].name].ran_ns += m->ran_ns[lane];
    }
    qsort(all, names, sizeof *all, by_ran);
    for (uint32_t i = 0, first = 0; i < names; i++) {
        all[i].first = next[all[i].name] = first;
        first += all[i].count;
        if (all[i].count)
            all[m->group_count++] = all[i];
    }
    for (uint32_t lane = 0; lane < fibers; lane++)
        m->fibers[next[s->lanes[lane].name]++] = lane;
    free(next);
    m->groups = all;
    return 0;
}

// --- How many fibers there were.

static int counter_add(struct trace_counter *c, int64_t time_ns, int64_t value)
{
    if (c->count == c->capacity) {
        uint32_t n = c->capacity ? c->capacity * 2 : 64;
        int64_t *times = reallocarray(c->time_ns, n, sizeof *times);
        c->time_ns = times ? times : c->time_ns;
        int64_t *values = reallocarray(c->value, n, sizeof *values);
        c->value = values ? values : c->value;
        if (!times || !values || n < c->capacity)
            return -ENOMEM;
        c->capacity = n;
    }
    if (c->count && c->time_ns[c->count - 1] >= time_ns) { // of one moment the last
        c->value[c->count - 1] = value;
    } else {
        c->time_ns[c->count] = time_ns;
        c->value[c->count++] = value;
    }
    c->most = value > c->most ? value : c->most;
    return 0;
}

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

// A fiber is there from its first span that says so to its last, which may be the trace's end.
static int count_fibers(struct trace_model *m)
{
    const struct trace_spans *s = m->spans;
    uint32_t fibers = s->kind_first[TRACE_RESOURCE_PROC], n = 0;
    int64_t *begins = malloc((fibers + (size_t)1) * sizeof *begins);
    int64_t *ends = malloc((fibers + (size_t)1) * sizeof *ends), alive = 0;
    int rc = begins && ends ? 0 : -ENOMEM;
    for (uint32_t lane = 0; !rc && lane < fibers; lane++) {
        const struct trace_lane *l = &s->lanes[lane];
        uint32_t i = l->first, last = l->first + l->count;
        while (i < last && m->state_of[s->kind[i]] == LOD_NONE)
            i++;
        while (last > i && m->state_of[s->kind[last - 1]] == LOD_NONE)
            last--;
        if (i == last)
            continue;
        begins[n] = trace_span_begin_ns(s, i);
        ends[n++] = trace_span_end_ns(s, lane, last - 1);
    }
    if (!rc && n) {
        qsort(begins, n, sizeof *begins, by_number);
        qsort(ends, n, sizeof *ends, by_number);
    }
    for (uint32_t b = 0, e = 0; !rc && (b < n || (e < n && ends[e] < s->end_ns));) {
        bool born = b < n && begins[b] <= ends[e];
        alive += born ? 1 : -1;
        rc = counter_add(&m->counters[TRACE_COUNTER_FIBERS], born ? begins[b] : ends[e], alive);
        b += born;
        e += !born;
    }
    free(begins);
    free(ends);
    return rc;
}

int trace_fibers_make(struct trace_model *m)
{
    const struct trace_spans *s = m->spans;
    uint32_t fibers = s->kind_first[TRACE_RESOURCE_PROC];
    m->ran_ns = calloc(fibers + (size_t)1, sizeof *m->ran_ns);
    if (!m->ran_ns)
        return -ENOMEM;
    for (uint32_t lane = 0; lane < fibers; lane++) {
        const struct trace_lane *l = &s->lanes[lane];
        for (uint32_t i = l->first; i < l->first + l->count; i++)
            if (trace_span_state(s, i) == TRACE_GO_RUNNING)
                m->ran_ns[lane] += trace_span_end_ns(s, lane, i) - trace_span_begin_ns(s, i);
    }
    int rc = make_states(m);
    if (!rc)
        rc = make_groups(m);
    return rc ? rc : count_fibers(m);
}

void trace_fibers_free(struct trace_model *m)
{
    for (int i = 0; i < TRACE_COUNTERS; i++) {
        free(m->counters[i].time_ns);
        free(m->counters[i].value);
    }
    free(m->state_of);
    free(m->groups);
    free(m->fibers);
    free(m->ran_ns);
    free(m->labels);
}

// The first of the counter's moments after time_ns.
static uint32_t counter_after(const struct trace_counter *c, int64_t time_ns)
{
    uint32_t low = 0, high = c->count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (c->time_ns[mid] <= time_ns)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

int64_t trace_counter_at(const struct trace_counter *c, int64_t time_ns)
{
    uint32_t i = counter_after(c, time_ns);
    return i ? c->value[i - 1] : 0;
}

void trace_counter_bounds(const struct trace_counter *c, int64_t begin_ns, int64_t end_ns,
                          int64_t *least, int64_t *most)
{
    uint32_t i = counter_after(c, begin_ns);
    *least = *most = i ? c->value[i - 1] : 0;
    for (; i < c->count && c->time_ns[i] < end_ns; i++) {
        *least = c->value[i] < *least ? c->value[i] : *least;
        *most = c->value[i] > *most ? c->value[i] : *most;
    }
}

// --- Metrics and labels.

struct label {
    int64_t fiber;
    uint32_t name;
};

struct trace_extras {
    struct trace_model *model;
    struct label *labels;
    size_t count, capacity;
};

struct trace_extras *trace_extras_new(struct trace_model *m)
{
    struct trace_extras *x = calloc(1, sizeof *x);
    if (x)
        x->model = m;
    return x;
}

int trace_extras_event(struct trace_extras *x, const struct trace_reader *r,
                       const struct trace_event *ev)
{
    struct trace_model *m = x->model;
    if (ev->kind == TRACE_METRIC) {
        int which = ev->what == TRACE_METRIC_HEAP_BYTES        ? TRACE_COUNTER_HEAP
                    : ev->what == TRACE_METRIC_HEAP_GOAL_BYTES ? TRACE_COUNTER_GOAL
                                                               : TRACE_COUNTERS;
        uint64_t value = ev->metric.value < INT64_MAX ? ev->metric.value : INT64_MAX;
        return which == TRACE_COUNTERS
                   ? 0
                   : counter_add(&m->counters[which], ev->time_ns, (int64_t)value);
    }
    if (x->count == x->capacity) {
        size_t n = x->capacity ? x->capacity * 2 : 64;
        struct label *more = reallocarray(x->labels, n, sizeof *more);
        if (!more)
            return -ENOMEM;
        x->labels = more;
        x->capacity = n;
    }
    x->labels[x->count++] =
        (struct label){ev->goroutine, trace_names_of(&m->spans->names, r, ev->label.text)};
    return m->spans->names.failed ? -ENOMEM : 0;
}

static bool counter_copy(struct trace_counter *to, const struct trace_counter *from)
{
    *to = (struct trace_counter){.most = from->most};
    if (!from->count)
        return true;
    to->time_ns = malloc(from->count * sizeof *to->time_ns);
    to->value = malloc(from->count * sizeof *to->value);
    if (!to->time_ns || !to->value)
        return false; // they are the model's to free
    memcpy(to->time_ns, from->time_ns, from->count * sizeof *to->time_ns);
    memcpy(to->value, from->value, from->count * sizeof *to->value);
    to->count = to->capacity = from->count;
    return true;
}

struct trace_extras *trace_extras_copy(const struct trace_extras *x, struct trace_model *m)
{
    struct trace_extras *copy = trace_extras_new(m);
    if (!copy)
        return NULL;
    bool whole = true;
    for (int i = 0; i < TRACE_COUNTERS; i++)
        whole &= counter_copy(&m->counters[i], &x->model->counters[i]);
    copy->labels = whole ? malloc((x->count + 1) * sizeof *copy->labels) : NULL;
    if (!copy->labels) {
        free(copy);
        return NULL;
    }
    if (x->count)
        memcpy(copy->labels, x->labels, x->count * sizeof *copy->labels);
    copy->count = copy->capacity = x->count;
    return copy;
}

int trace_extras_finish(struct trace_extras *x)
{
    if (!x)
        return 0;
    struct trace_model *m = x->model;
    uint32_t fibers = m->spans->kind_first[TRACE_RESOURCE_PROC];
    int rc = 0;
    if (x->count && fibers) {
        m->labels = calloc(fibers, sizeof *m->labels);
        rc = m->labels ? 0 : -ENOMEM;
    }
    for (size_t i = 0; m->labels && i < x->count; i++) {
        uint32_t lane = trace_spans_lane(m->spans, TRACE_RESOURCE_GOROUTINE, x->labels[i].fiber);
        if (lane != TRACE_NO_LANE)
            m->labels[lane] = x->labels[i].name;
    }
    free(x->labels);
    free(x);
    return rc;
}
