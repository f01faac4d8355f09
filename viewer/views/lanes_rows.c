// SPDX-License-Identifier: MIT
//
// Which rows there are. See lanes.h.

#include "viewer/views/lanes_filter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPEN_AT_FIRST = 150, // groups are open as long as fewer fibers are shown
    TASKS_AT_FIRST = 6,
    THREADS_AT_FIRST = 12, // with strips below them
    OPEN_FOUND = 20000,    // the same of those that a filter finds: rows are cheap, sorting is not
    REGIONS_DEEP = 4,
};

bool lanes_open_at_first(const struct trace_model *m, uint32_t group, uint32_t *shown)
{
    bool open = *shown + m->groups[group].count <= OPEN_AT_FIRST;
    *shown += open ? m->groups[group].count : 0;
    return open;
}

bool lanes_tasks_at_first(const struct lanes *l)
{
    return l->task_rows <= TASKS_AT_FIRST;
}

int lanes_init(struct lanes *l, const struct trace_model *m)
{
    *l = (struct lanes){.model = m, .is_stale = true};
    l->open = calloc(m->group_count + (size_t)1, sizeof *l->open);
    l->held = calloc(m->spans->lane_count + (size_t)1, sizeof *l->held);
    l->row_of = malloc((m->spans->lane_count + (size_t)1) * sizeof *l->row_of);
    l->group_matching = calloc(m->group_count + (size_t)1, sizeof *l->group_matching);
    l->unfolded = calloc(m->group_count + (size_t)1, sizeof *l->unfolded);
    l->shut = calloc(m->group_count + (size_t)1, sizeof *l->shut);
    l->frames = calloc(m->spans->lane_count + (size_t)1, sizeof *l->frames);
    if (!l->open || !l->held || !l->row_of || !l->group_matching || !l->unfolded || !l->shut ||
        !l->frames || lanes_tasks(l))
        return -ENOMEM;
    l->tasks_open = lanes_tasks_at_first(l);
    for (uint32_t i = 0, shown = 0; i < m->group_count; i++)
        l->open[i] = lanes_open_at_first(m, i, &shown);
    return 0;
}

void lanes_set_kernel(struct lanes *l, const struct kernel_model *k)
{
    const struct trace_spans *s = l->model->spans;
    l->kernel = k;
    l->strips = k;
    if (k && k->known && s->lane_count - s->kind_first[TRACE_RESOURCE_THREAD] <= THREADS_AT_FIRST)
        l->threads_open = true;
    l->is_stale = true;
}

void lanes_finish(struct lanes *l)
{
    for (uint32_t i = 0; i < l->live_count; i++) {
        lod_free(&l->held[l->live[i]]->lod);
        free(l->held[l->live[i]]);
    }
    lanes_filter_free(l);
    free(l->group_matching);
    free(l->unfolded);
    free(l->shut);
    free(l->frames);
    free(l->held);
    free(l->live);
    free(l->open);
    free(l->row_of);
    free(l->tasks);
    free(l->rows);
    *l = (struct lanes){0};
}

// --- Sorting.

struct sorted {
    int64_t key; // the least first
    const char *text;
    uint32_t what; // a fiber, a group
};

static int by_key(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    int order = strcmp(x->text, y->text);
    return order ? order : x->what < y->what ? -1 : x->what > y->what;
}

static struct sorted fiber_key(const struct lanes *l, uint32_t lane)
{
    const struct trace_model *m = l->model;
    const struct trace_spans *s = m->spans;
    struct sorted k = {0, "", lane};
    switch (l->sort) {
    case LANES_BY_ACTIVITY: k.key = -m->ran_ns[lane]; break;
    case LANES_BY_STATE: k.key = lanes_state(l, lane); break;
    case LANES_BY_LABEL: // those without one are last
        k.text = m->labels ? trace_names_text(&s->names, m->labels[lane]) : "";
        k.key = !*k.text;
        break;
    case LANES_BY_DURATION: k.key = -lanes_there_ns(m, lane); break;
    default: break;
    }
    return k;
}

// --- Rows.

static bool is_head(uint8_t kind)
{
    return kind == LANES_TASKS || kind == LANES_THREADS || kind == LANES_FIBERS ||
           kind == LANES_GROUP;
}

static int put(struct lanes *l, uint8_t kind, uint32_t what, int height)
{
    if (l->count == l->capacity) {
        uint32_t n = l->capacity ? l->capacity * 2 : 64;
        struct lanes_row *rows = reallocarray(l->rows, n, sizeof *rows);
        if (!rows)
            return -ENOMEM;
        l->rows = rows;
        l->capacity = n;
    }
    if (is_head(kind))
        l->head = l->count;
    l->rows[l->count++] = (struct lanes_row){
        .what = what, .head = l->head, .y = l->content, .height = (uint16_t)height, .kind = kind};
    l->content += height;
    uint32_t lane = lanes_of_row(l, &l->rows[l->count - 1]);
    if (lane != TRACE_NO_LANE)
        l->row_of[lane] = l->count - 1;
    return 0;
}

// How deep a fiber's regions are nested.
static int regions_deep(const struct trace_spans *s, uint32_t lane)
{
    int64_t ends[REGIONS_DEEP];
    int depth = 0, most = 0;
    uint32_t count, first = trace_spans_regions(s, lane, &count);
    for (uint32_t i = first; i < first + count && most < REGIONS_DEEP; i++) {
        while (depth && ends[depth - 1] <= s->regions[i].begin_ns)
            depth--;
        if (depth < REGIONS_DEEP)
            ends[depth++] = s->regions[i].end_ns;
        most = depth > most ? depth : most;
    }
    return most;
}

static int put_fibers(struct lanes *l, const struct sorted *fibers, uint32_t count)
{
    int rc = 0;
    for (uint32_t i = 0; !rc && i < count; i++) {
        int depth = regions_deep(l->model->spans, fibers[i].what);
        int frames = l->stacks ? lanes_frames(l, fibers[i].what) : 0;
        rc = put(l, LANES_FIBER, fibers[i].what,
                 l->sizes.lane + depth * l->sizes.region + frames * l->sizes.frame);
        if (rc)
            break;
        l->rows[l->count - 1].depth = (uint8_t)depth;
        l->rows[l->count - 1].frames = (uint8_t)frames;
    }
    return rc;
}

// A group's head and, if it is open, its fibers; nothing if the filter leaves none.
static int put_group(struct lanes *l, uint32_t group, struct sorted *room)
{
    const struct trace_model_group *g = &l->model->groups[group];
    uint32_t n = l->made ? 0 : g->count;
    for (uint32_t i = g->first; l->made && i < g->first + g->count; i++)
        n += lanes_match(l, l->model->fibers[i]);
    l->group_matching[group] = n;
    if (!n)
        return 0;
    l->matching += n;
    int rc = put(l, LANES_GROUP, group, l->sizes.head);
    bool fits = l->made && l->opened + n <= OPEN_FOUND;
    l->unfolded[group] = (l->open[group] || fits) && !(l->made && l->shut[group]);
    if (rc || !l->unfolded[group])
        return rc;
    n = 0;
    for (uint32_t i = g->first; i < g->first + g->count; i++)
        if (lanes_match(l, l->model->fibers[i]))
            room[n++] = fiber_key(l, l->model->fibers[i]);
    l->opened += n;
    qsort(room, n, sizeof *room, by_key);
    return put_fibers(l, room, n);
}

static int put_groups(struct lanes *l)
{
    const struct trace_model *m = l->model;
    uint32_t fibers = m->spans->kind_first[TRACE_RESOURCE_PROC];
    struct sorted *groups = calloc(m->group_count + (size_t)1, sizeof *groups);
    struct sorted *room = calloc(fibers + (size_t)1, sizeof *room);
    int rc = groups && room ? put(l, LANES_FIBERS, 0, l->sizes.head) : -ENOMEM;
    for (uint32_t i = 0; !rc && i < m->group_count; i++) {
        bool named = l->sort == LANES_BY_NAME;
        groups[i] = (struct sorted){
            0, named ? trace_names_text(&m->spans->names, m->groups[i].name) : "", i};
    }
    if (!rc) // they are in order of activity
        qsort(groups, m->group_count, sizeof *groups, by_key);
    for (uint32_t i = 0; !rc && i < m->group_count; i++)
        rc = put_group(l, groups[i].what, room);
    free(groups);
    free(room);
    return rc;
}

static int put_tasks(struct lanes *l)
{
    int rc = l->task_rows ? put(l, LANES_TASKS, 0, l->sizes.head) : 0;
    for (uint32_t i = 0; !rc && l->tasks_open && i < l->task_rows; i++)
        rc = put(l, LANES_TASK, i, l->sizes.region + 2);
    return rc;
}

static bool has_strip(const struct lanes *l, uint32_t lane)
{
    return l->strips && kernel_lane_of(l->kernel, lane) != KERNEL_NO_LANE;
}

int lanes_strip(const struct lanes *l, const struct lanes_row *row)
{
    uint32_t lane =
        row->kind == LANES_PROC || row->kind == LANES_THREAD ? lanes_of_row(l, row) : TRACE_NO_LANE;
    return lane != TRACE_NO_LANE && has_strip(l, lane) ? l->sizes.strip : 0;
}

static int put_threads(struct lanes *l)
{
    const struct trace_spans *s = l->model->spans;
    uint32_t first = s->kind_first[TRACE_RESOURCE_THREAD], end = s->lane_count;
    if (l->model->are_threads || first == end)
        return 0; // they stand where Procs do
    int rc = put(l, LANES_THREADS, 0, l->sizes.head);
    for (uint32_t i = first; !rc && l->threads_open && i < end; i++)
        rc = put(l, LANES_THREAD, i, l->sizes.lane + (has_strip(l, i) ? l->sizes.strip : 0));
    return rc;
}

int lanes_arrange(struct lanes *l, const struct lanes_sizes *sizes)
{
    int rc = l->is_stale || l->making ? lanes_filter_make(l) : 0;
    if (rc || (!l->is_stale && !memcmp(&l->sizes, sizes, sizeof *sizes)))
        return rc;
    l->sizes = *sizes;
    l->count = l->matching = l->opened = 0;
    l->head = (uint32_t)LANES_NO_HEAD;
    l->content = 0;
    memset(l->unfolded, 0, l->model->group_count * sizeof *l->unfolded);
    memset(l->row_of, 0xff, l->model->spans->lane_count * sizeof *l->row_of);
    for (uint32_t i = 0; !rc && i < l->model->lane_count; i++)
        rc = put(l, LANES_PROC, i,
                 sizes->proc + (has_strip(l, l->model->lanes[i].lane) ? sizes->strip : 0));
    for (uint32_t i = 0; !rc && i < TRACE_COUNTER_GOAL; i++) // the goal is drawn over the heap
        if (l->model->counters[i].most > 0)
            rc = put(l, LANES_COUNTER, i, sizes->counter);
    rc = rc ? rc : put_tasks(l);
    rc = rc ? rc : put_threads(l);
    rc = rc ? rc : put_groups(l);
    l->is_stale = rc != 0;
    return rc;
}

static void set_open(struct lanes *l, uint32_t group, bool open)
{
    if (l->made)
        l->shut[group] = !open;
    l->open[group] = l->made && !open ? l->open[group] : open; // without the filter it is as it was
    l->is_stale = true;
}

void lanes_toggle(struct lanes *l, uint32_t group)
{
    set_open(l, group, !l->unfolded[group]);
}

bool lanes_any_open(const struct lanes *l)
{
    bool any = false;
    for (uint32_t i = 0; i < l->model->group_count; i++)
        any |= l->unfolded[i];
    return any;
}

void lanes_toggle_all(struct lanes *l)
{
    bool any = lanes_any_open(l);
    for (uint32_t i = 0; i < l->model->group_count; i++)
        set_open(l, i, !any);
}

uint32_t lanes_of_row(const struct lanes *l, const struct lanes_row *row)
{
    switch (row->kind) {
    case LANES_PROC: return l->model->lanes[row->what].lane;
    case LANES_THREAD:
    case LANES_FIBER: return row->what;
    default: return TRACE_NO_LANE;
    }
}

const struct lanes_row *lanes_find(const struct lanes *l, uint32_t lane)
{
    uint32_t row = lane < l->model->spans->lane_count ? l->row_of[lane] : UINT32_MAX;
    return row < l->count ? &l->rows[row] : NULL;
}

const struct lanes_row *lanes_reveal(struct lanes *l, uint32_t lane)
{
    const struct trace_model *m = l->model;
    const struct lanes_row *row = l->is_stale ? NULL : lanes_find(l, lane);
    if (row)
        return row;
    uint8_t kind = trace_spans_lane_kind(m->spans, lane);
    if (kind == TRACE_RESOURCE_THREAD)
        l->threads_open = true;
    for (uint32_t i = 0; kind == TRACE_RESOURCE_GOROUTINE && i < m->group_count; i++)
        if (m->groups[i].name == m->spans->lanes[lane].name)
            set_open(l, i, true);
    l->is_stale = true;
    struct lanes_sizes sizes = l->sizes;
    return lanes_arrange(l, &sizes) ? NULL : lanes_find(l, lane);
}

uint32_t lanes_at(const struct lanes *l, int y)
{
    uint32_t low = 0, high = l->count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (l->rows[mid].y + l->rows[mid].height <= y)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

const char *lanes_sort_name(uint8_t sort)
{
    static const char *const names[LANES_SORTS] = {"activity", "name", "state", "label",
                                                   "duration"};
    return names[sort < LANES_SORTS ? sort : 0];
}
