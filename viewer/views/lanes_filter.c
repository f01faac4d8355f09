// SPDX-License-Identifier: MIT
//
// Which fibers a filter lets through. See lanes.h.
//
// A new text is made ready at once, which costs what there are names, stacks, regions and logs;
// then fibers are looked at, a slice in each frame, and until that is done the rows are those before.

#include "viewer/views/lanes_filter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FOREVER_NS = -1 };

int64_t lanes_there_ns(const struct trace_model *m, uint32_t lane)
{
    const struct trace_spans *s = m->spans;
    uint32_t i = s->lanes[lane].first, end = i + s->lanes[lane].count;
    while (i < end && m->state_of[s->kind[i]] == LOD_NONE)
        i++;
    while (end > i && m->state_of[s->kind[end - 1]] == LOD_NONE)
        end--;
    return i < end ? trace_span_end_ns(s, lane, end - 1) - trace_span_begin_ns(s, i) : 0;
}

uint8_t lanes_state(const struct lanes *l, uint32_t lane)
{
    const struct trace_spans *s = l->model->spans;
    uint32_t span = trace_spans_before(s, lane, l->sort_at_ns + 1);
    return span == TRACE_NO_SPAN ? LOD_NONE : l->model->state_of[s->kind[span]];
}

// --- Words made ready.

// "1.5ms" in ns; a number alone is in ns. Below 0: it is not whole yet. False: it is no time.
static bool time_of(const char *text, double *ns)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"", 1},   {"n", FOREVER_NS}, {"u", FOREVER_NS}, {"m", FOREVER_NS},
                 {"ns", 1}, {"us", 1e3},       {"ms", 1e6},       {"s", 1e9}};
    char *end;
    double value = strtod(text, &end);
    *ns = FOREVER_NS;
    if (!*text)
        return true;
    for (size_t i = 0; end > text && value >= 0 && i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(end, units[i].name) != 0)
            continue;
        *ns = units[i].ns < 0 ? FOREVER_NS : value * units[i].ns;
        return true;
    }
    return false;
}

// What a lane shows of a state: what it waits for, or the state's own name.
static bool state_has(const struct trace_model *m, uint32_t kind, const char *text)
{
    const struct trace_spans *s = m->spans;
    uint8_t state = m->state_of[kind];
    if (state == LOD_NONE)
        return false;
    bool waits = s->kinds[kind].state == TRACE_GO_WAITING;
    const char *reason = waits ? trace_names_text(&s->names, s->kinds[kind].reason) : "";
    return strcasestr(trace_model_state_name(state), text) || strcasestr(reason, text);
}

static int ready_state(struct lanes *l, struct lanes_filter *f, struct lanes_word *w)
{
    const struct trace_spans *s = l->model->spans;
    bool any = false;
    w->kinds = calloc(s->kind_count + (size_t)1, 1);
    if (!w->kinds)
        return -ENOMEM;
    for (uint32_t i = 0; i < s->kind_count; i++)
        w->kinds[i] = state_has(l->model, i, w->text);
    for (uint32_t i = 0; i < s->kind_count; i++)
        any |= w->kinds[i];
    for (int i = 0; i < LOD_CLASSES; i++)
        any |= strcasestr(trace_model_state_name(i), w->text) != NULL;
    if (!any)
        snprintf(f->error, sizeof f->error, "no state \"%.40s\"", w->text);
    return 0;
}

// Names that have the text; whether any has.
static bool mark_names(const struct trace_spans *s, struct lanes_word *w)
{
    bool any = false;
    for (uint32_t i = 0; i < s->names.count; i++) {
        w->names[i] = strcasestr(trace_names_text(&s->names, i), w->text) != NULL;
        any |= w->names[i];
    }
    return any;
}

static void mark_stacks(const struct trace_spans *s, struct lanes_word *w)
{
    for (uint32_t i = 0; i < s->stacks.count; i++) {
        const struct trace_stack *k = trace_stacks_get(&s->stacks, i);
        for (uint32_t f = 0; f + 1 < k->count && !w->stacks[i]; f++)
            w->stacks[i] = w->names[k->frames[f].function];
    }
}

static void mark_lane(const struct trace_spans *s, struct lanes_word *w, uint32_t lane)
{
    if (lane < s->kind_first[TRACE_RESOURCE_PROC])
        w->marked[lane] = 1;
}

// Regions, tasks and logs; whether a log has the text.
static bool mark_marks(const struct trace_spans *s, struct lanes_word *w)
{
    bool any = false;
    for (uint32_t i = 0; i < s->region_count; i++)
        if (w->names[s->regions[i].type])
            mark_lane(s, w, s->regions[i].lane);
    for (uint32_t i = 0; i < s->task_count; i++)
        if (w->names[s->tasks[i].type])
            mark_lane(s, w, s->tasks[i].begin_lane);
    for (uint32_t i = 0; i < s->log_count; i++) {
        const struct trace_log_mark *g = &s->logs[i];
        w->logs[i] = w->names[g->category] || (g->message && strcasestr(g->message, w->text));
        if (w->logs[i])
            mark_lane(s, w, g->lane);
        any |= w->logs[i];
    }
    return any;
}

// Threads that had a CPU and are none of the trace's own, whose fibers are found.
static bool mark_threads(const struct kernel_model *k, struct lanes_word *w)
{
    bool any = false;
    for (uint32_t i = k->cpu_count; i < k->lane_count; i++) {
        w->threads[i] = k->lanes[i].trace_lane == TRACE_NO_LANE &&
                        strcasestr(kernel_thread_name(k, i), w->text) != NULL;
        any |= w->threads[i];
    }
    return any;
}

static int ready_text(struct lanes *l, struct lanes_filter *f, struct lanes_word *w)
{
    const struct trace_spans *s = l->model->spans;
    char *end;
    long long id = strtoll(w->text, &end, 10);
    bool is_number = end > w->text && !*end;
    w->lane = is_number ? trace_spans_lane(s, TRACE_RESOURCE_GOROUTINE, id) : TRACE_NO_LANE;
    w->names = calloc(s->names.count + (size_t)1, 1);
    if (!w->names)
        return -ENOMEM;
    bool any = mark_names(s, w) || w->lane != TRACE_NO_LANE;
    if (w->kind == LANES_TEXT) {
        w->stacks = calloc(s->stacks.count + (size_t)1, 1);
        w->logs = calloc(s->log_count + (size_t)1, 1);
        w->marked = calloc(s->kind_first[TRACE_RESOURCE_PROC] + (size_t)1, 1);
        if (!w->stacks || !w->logs || !w->marked)
            return -ENOMEM;
        mark_stacks(s, w);
        any |= mark_marks(s, w);
    }
    if (w->kind == LANES_TEXT && l->kernel) {
        w->threads = calloc(l->kernel->lane_count + (size_t)1, 1);
        if (!w->threads)
            return -ENOMEM;
        any |= mark_threads(l->kernel, w);
    }
    if (!any && *w->text)
        snprintf(f->error, sizeof f->error, "nothing has \"%.40s\"", w->text);
    return 0;
}

static int ready_word(struct lanes *l, struct lanes_filter *f, const char *text)
{
    static const struct {
        const char *prefix;
        uint8_t kind;
    } kinds[] = {{"state:", LANES_STATE},
                 {"ran>", LANES_RAN},
                 {"there>", LANES_THERE},
                 {"name:", LANES_NAME},
                 {"", LANES_TEXT}};
    struct lanes_word *w = &f->words[f->count];
    size_t k = 0;
    while (strncmp(text, kinds[k].prefix, strlen(kinds[k].prefix)) != 0)
        k++;
    *w = (struct lanes_word){.kind = kinds[k].kind, .text = text + strlen(kinds[k].prefix)};
    if (!*w->text) // being typed: hides nothing
        return 0;
    f->count++;
    if (w->kind == LANES_STATE)
        return ready_state(l, f, w);
    if (w->kind == LANES_TEXT || w->kind == LANES_NAME)
        return ready_text(l, f, w);
    if (!time_of(w->text, &w->ns))
        snprintf(f->error, sizeof f->error, "\"%.40s\" is no time", w->text);
    return 0;
}

static void forget(struct lanes_filter *f)
{
    for (int i = 0; f && i < f->count; i++) {
        free(f->words[i].names);
        free(f->words[i].kinds);
        free(f->words[i].stacks);
        free(f->words[i].logs);
        free(f->words[i].marked);
        free(f->words[i].threads);
    }
    if (f)
        free(f->match);
    free(f);
}

void lanes_filter_free(struct lanes *l)
{
    forget(l->made);
    forget(l->making);
    l->made = l->making = NULL;
}

// Words of the text; they stay in f->text, cut apart.
static int ready(struct lanes *l)
{
    struct lanes_filter *f = l->making = calloc(1, sizeof *f);
    char *words, *word;
    int rc = 0;
    if (!f)
        return -ENOMEM;
    memcpy(f->text, l->filter, sizeof f->text);
    f->at_ns = l->sort_at_ns;
    f->match = calloc(l->model->spans->kind_first[TRACE_RESOURCE_PROC] + (size_t)1, 1);
    words = f->cut;
    memcpy(f->cut, l->filter, sizeof f->cut);
    while (f->match && !rc && (word = strsep(&words, " ")))
        if (*word && f->count < LANES_WORDS)
            rc = ready_word(l, f, word);
    return f->match ? rc : -ENOMEM;
}

// --- Fibers.

bool lanes_word_names(const struct lanes *l, const struct lanes_word *w, uint32_t lane)
{
    const struct trace_model *m = l->model;
    return lane == w->lane || w->names[m->spans->lanes[lane].name] ||
           (m->labels && w->names[m->labels[lane]]);
}

// How many spans and samples of the fiber have the word in their stack.
static uint64_t stacks_with(const struct lanes *l, const struct lanes_word *w, uint32_t lane)
{
    const struct trace_spans *s = l->model->spans;
    const struct trace_lane *k = &s->lanes[lane];
    uint32_t samples, first = trace_spans_samples(s, lane, INT64_MIN, INT64_MAX, &samples);
    uint64_t n = 0;
    for (uint32_t i = k->first; i < k->first + k->count; i++)
        n += w->stacks[trace_span_stack(s, i)];
    for (uint32_t i = first; i < first + samples; i++)
        n += w->stacks[s->samples[i].stack];
    return n;
}

static bool has_word(struct lanes *l, struct lanes_filter *f, const struct lanes_word *w,
                     uint32_t lane)
{
    const struct trace_spans *s = l->model->spans;
    switch (w->kind) {
    case LANES_RAN: return (double)l->model->ran_ns[lane] > w->ns;
    case LANES_THERE: return (double)lanes_there_ns(l->model, lane) > w->ns;
    case LANES_NAME: return lanes_word_names(l, w, lane);
    case LANES_STATE: {
        bool is_over = s->lanes[lane].end_ns < f->at_ns;
        uint32_t span = is_over ? TRACE_NO_SPAN : trace_spans_before(s, lane, f->at_ns + 1);
        return span != TRACE_NO_SPAN && w->kinds[s->kind[span]];
    }
    default: break;
    }
    bool named = lanes_word_names(l, w, lane);
    uint64_t n = stacks_with(l, w, lane);
    f->found += n + named;
    return named || n || w->marked[lane];
}

// Marks are few, and found of fibers that match.
static uint64_t marks_found(const struct lanes *l, const struct lanes_filter *f)
{
    const struct trace_spans *s = l->model->spans;
    uint32_t fibers = s->kind_first[TRACE_RESOURCE_PROC];
    uint64_t n = 0;
    for (int w = 0; w < f->count; w++) {
        const struct lanes_word *word = &f->words[w];
        if (word->kind != LANES_TEXT)
            continue;
        for (uint32_t i = 0; i < s->region_count; i++)
            n += word->names[s->regions[i].type] && f->match[s->regions[i].lane];
        for (uint32_t i = 0; i < s->task_count; i++)
            n += word->names[s->tasks[i].type] && s->tasks[i].begin_lane < fibers &&
                 f->match[s->tasks[i].begin_lane];
        for (uint32_t i = 0; i < s->log_count; i++)
            n += word->logs[i] && s->logs[i].lane < fibers && f->match[s->logs[i].lane];
    }
    return n;
}

// Goes on with the fibers. True: all are done.
static bool look(struct lanes *l, struct lanes_filter *f)
{
    const struct trace_spans *s = l->model->spans;
    uint32_t fibers = s->kind_first[TRACE_RESOURCE_PROC];
    for (uint64_t done = 0; f->next < fibers; f->next++) {
        uint64_t found = f->found;
        bool match = true;
        for (int i = 0; i < f->count && match; i++)
            match = has_word(l, f, &f->words[i], f->next);
        f->match[f->next] = match;
        f->found = match ? f->found : found;
        done += 4 + s->lanes[f->next].count;
        if (l->slice && done > l->slice)
            break;
    }
    if (f->next < fibers)
        return false;
    f->found += marks_found(l, f) + lanes_found_on_cpus(l, f);
    return true;
}

static bool is_of(const struct lanes *l, const struct lanes_filter *f)
{
    bool asks_state = false;
    for (int i = 0; f && i < f->count; i++)
        asks_state |= f->words[i].kind == LANES_STATE;
    return f && !strcmp(f->text, l->filter) && (!asks_state || f->at_ns == l->sort_at_ns);
}

int lanes_filter_make(struct lanes *l)
{
    if (!*l->filter) {
        l->is_stale |= l->made != NULL;
        lanes_filter_free(l);
        memset(l->shut, 0, l->model->group_count * sizeof *l->shut);
        return 0;
    }
    if (is_of(l, l->made)) {
        forget(l->making); // what was typed is taken back
        l->making = NULL;
        return 0;
    }
    if (!is_of(l, l->making)) {
        forget(l->making);
        int rc = ready(l);
        if (rc)
            return rc;
    }
    if (!look(l, l->making))
        return 0;
    forget(l->made);
    l->made = l->making;
    l->making = NULL;
    l->is_stale = true;
    return 0;
}

bool lanes_match(const struct lanes *l, uint32_t lane)
{
    return !l->made || l->made->match[lane];
}

const char *lanes_filter_error(const struct lanes *l)
{
    return l->making ? l->making->error : l->made ? l->made->error : "";
}
