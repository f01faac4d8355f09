// SPDX-License-Identifier: MIT
//
// Stacks below a fiber's lane: a row of boxes for each depth, the outermost function on top.
//
// While a fiber waits, is ready or is in a system call its stack is that of the event that brought it there. While it
// runs a CPU sample's stack stands until the next one; before the first nothing is known. A frame that goes on, under
// the same callers, is one box. What costs time depends on pixels, not on spans: each pixel has the longest span that
// touches it, and spans too narrow for boxes are one strip, as are more boxes than BOXES_MOST.

#include "viewer/views/timeline_internal.h"

#include "viewer/ui/font.h"

#include <math.h>
#include <stdio.h>

enum { BOXES_MOST = 2000 }; // of a lane, in a frame

// --- Which stack.

// The fiber's own in a span; 0: it runs, or nobody knows.
static uint32_t own_stack(const struct trace_spans *s, uint32_t lane, uint32_t span)
{
    switch (trace_span_state(s, span)) {
    case TRACE_GO_WAITING:
    case TRACE_GO_SYSCALL: return trace_span_stack(s, span);
    case TRACE_GO_RUNNABLE: // woken: it still stands where it waited
        return s->kinds[s->kind[span]].woken && span > s->lanes[lane].first
                   ? trace_span_stack(s, span - 1)
                   : trace_span_stack(s, span);
    default: return 0;
    }
}

static uint32_t rows_of(uint32_t frames)
{
    return frames < LANES_FRAMES ? frames : LANES_FRAMES;
}

int lanes_frames(struct lanes *l, uint32_t lane)
{
    const struct trace_spans *s = l->model->spans;
    const struct trace_lane *k = &s->lanes[lane];
    uint32_t most = 0, samples, first;
    if (l->frames[lane])
        return l->frames[lane] - 1;
    for (uint32_t i = k->first; i < k->first + k->count && most < LANES_FRAMES; i++) {
        uint32_t n = trace_stacks_get(&s->stacks, own_stack(s, lane, i))->count;
        most = n > most ? n : most;
    }
    first = trace_spans_samples(s, lane, INT64_MIN, INT64_MAX, &samples);
    for (uint32_t i = first; i < first + samples && most < LANES_FRAMES; i++) {
        uint32_t n = trace_stacks_get(&s->stacks, s->samples[i].stack)->count;
        most = n > most ? n : most;
    }
    l->frames[lane] = (uint8_t)(rows_of(most) + 1);
    return (int)rows_of(most);
}

// --- Pieces: a lane's pixels by their stacks.

struct pieces {
    struct timeline *t;
    uint32_t lane;
    const struct lod *lod;
    struct rect r;
    int least; // pixels; what is narrower is crowded
    int count; // of t->stacked
    int64_t from_ns, to_ns;
};

struct row { // what stands in one row of a piece
    uint32_t function;
    uint32_t hidden; // frames between it and the row above, in the last row
};

// The frame in a row, from the outermost; the last row has the leaf.
static struct row row_at(const struct trace_spans *s, const struct timeline_stacked *p,
                         uint32_t row)
{
    const struct trace_stack *stack = trace_stacks_get(&s->stacks, p->stack);
    uint32_t at = row;
    if (row == LANES_FRAMES - 1)
        at = p->frames - 1;
    return (struct row){stack->frames[stack->count - 1 - at].function, at - row};
}

// How many of the outermost frames two stacks share.
static uint32_t shared(const struct trace_spans *s, uint32_t a, uint32_t b, uint32_t most)
{
    const struct trace_stack *x = trace_stacks_get(&s->stacks, a);
    const struct trace_stack *y = trace_stacks_get(&s->stacks, b);
    uint32_t n = 0;
    while (n < most && n < x->count && n < y->count &&
           x->frames[x->count - 1 - n].function == y->frames[y->count - 1 - n].function)
        n++;
    return n;
}

static void put(struct pieces *p, struct timeline_stacked piece)
{
    struct timeline_stacked *last = p->count ? &p->t->stacked[p->count - 1] : NULL;
    piece.x = last && piece.x < last->end ? last->end : piece.x;
    piece.x = piece.x > p->r.x ? piece.x : p->r.x;
    piece.end = piece.end < p->r.x + p->r.w ? piece.end : p->r.x + p->r.w;
    if (piece.end <= piece.x || p->count == p->t->width)
        return;
    if (last && last->crowded && piece.crowded && last->end == piece.x)
        last->end = piece.end;
    else
        p->t->stacked[p->count++] = piece;
}

// Samples nearer than p->least pixels are one piece: of what all of them share.
static void put_samples(struct pieces *p, int64_t begin_ns, int64_t end_ns)
{
    const struct trace_spans *s = p->t->model->spans;
    uint32_t count,
        first = trace_spans_samples(s, p->lane, begin_ns > p->from_ns ? begin_ns : p->from_ns,
                                    end_ns < p->to_ns ? end_ns : p->to_ns, &count);
    uint32_t i = first, end = first + count;
    if (i && s->samples[i - 1].lane == p->lane && s->samples[i - 1].time_ns >= begin_ns)
        i--; // it goes on into what is shown
    while (i < end) {
        int64_t at_ns = s->samples[i].time_ns;
        int x = timeline_x_of(p->t, at_ns);
        struct timeline_stacked piece = {
            .x = x, .begin_ns = at_ns, .stack = s->samples[i].stack, .sampled = true};
        piece.frames = trace_stacks_get(&s->stacks, piece.stack)->count;
        for (i++; i < end && timeline_x_of(p->t, s->samples[i].time_ns) < x + p->least; i++)
            piece.frames = shared(s, piece.stack, s->samples[i].stack, piece.frames);
        piece.end_ns = i < end ? s->samples[i].time_ns : end_ns;
        piece.end = timeline_x_of(p->t, piece.end_ns);
        put(p, piece);
    }
}

static void put_span(struct pieces *p, uint32_t at, int x, int end)
{
    const struct trace_spans *s = p->t->model->spans;
    int64_t begin_ns = lod_begin_ns(p->lod, at), end_ns = lod_end_ns(p->lod, at);
    double pixel_ns = (p->t->shown.end - p->t->shown.begin) / p->r.w;
    uint32_t span = lanes_span(s, p->lane, at), stack = own_stack(s, p->lane, span);
    if ((double)(end_ns - begin_ns) < p->least * pixel_ns)
        put(p, (struct timeline_stacked){.x = x, .end = end, .crowded = true});
    else if (trace_span_state(s, span) == TRACE_GO_RUNNING)
        put_samples(p, begin_ns, end_ns);
    else if (stack)
        put(p, (struct timeline_stacked){.x = timeline_x_of(p->t, begin_ns),
                                         .end = timeline_x_of(p->t, end_ns),
                                         .stack = stack,
                                         .frames = trace_stacks_get(&s->stacks, stack)->count,
                                         .begin_ns = begin_ns,
                                         .end_ns = end_ns});
}

// How many of a piece's rows go on what stands left of it.
static uint32_t going_on(const struct pieces *p, int i)
{
    const struct trace_spans *s = p->t->model->spans;
    const struct timeline_stacked *a = &p->t->stacked[i - 1], *b = a + 1;
    uint32_t n = 0, most = rows_of(a->frames < b->frames ? a->frames : b->frames);
    if (b->x > a->end + 1) // a pixel is a span too narrow to be the longest of one
        return 0;
    while (n < most) {
        struct row x = row_at(s, a, n), y = row_at(s, b, n);
        if (x.function != y.function || x.hidden != y.hidden)
            break;
        n++;
    }
    return n;
}

// As fine as the boxes are few enough.
static void make_pieces(struct pieces *p, const struct lod_column *columns)
{
    uint32_t boxes = BOXES_MOST + 1;
    for (p->least = 1; boxes > BOXES_MOST; p->least *= 2) {
        boxes = 0;
        p->count = 0;
        for (int i = 0, k = 0; i < p->r.w; i = k) {
            for (k = i + 1; k < p->r.w && columns[k].longest == columns[i].longest;)
                k++;
            if (columns[i].longest != UINT32_MAX)
                put_span(p, columns[i].longest, p->r.x + i, p->r.x + k);
        }
        for (int i = 0; i < p->count; i++)
            boxes += rows_of(p->t->stacked[i].frames) - (i ? going_on(p, i) : 0);
    }
}

// --- Boxes.

static void tell(const struct pieces *p, struct ui *u, int first, int last, struct row row,
                 const char *name)
{
    const struct timeline_stacked *all = p->t->stacked;
    int64_t begin_ns = all[first].begin_ns, end_ns = all[last].end_ns;
    bool more = begin_ns < p->from_ns || end_ns > p->to_ns, sampled = false;
    char text[400], hidden[64] = "", ns[TIMELINE_NS_MAX], at[TIMELINE_NS_MAX];
    for (int i = first; i <= last; i++)
        sampled |= all[i].sampled;
    if (row.hidden)
        snprintf(hidden, sizeof hidden, "\n%u frames above it are left out", row.hidden);
    snprintf(text, sizeof text, "%.200s\n%s%s on the stack%s, at %s%s", name,
             timeline_ns(ns, (double)(end_ns - begin_ns)), more ? " or more" : "",
             sampled ? " by CPU samples" : "",
             timeline_at(at, (double)(begin_ns - p->t->model->begin_ns), 1000), hidden);
    ui_tip(u, text);
}

// Of the pieces from first to last, in one row.
static void draw_frame_box(const struct pieces *p, struct ui *u, int first, int last,
                           uint32_t depth)
{
    struct timeline *t = p->t;
    const struct trace_spans *s = t->model->spans;
    int height = t->rows.sizes.frame, x = t->stacked[first].x;
    struct rect box = {x, p->r.y + (int)depth * height, t->stacked[last].end - x, height - 1};
    struct row row = row_at(s, &t->stacked[first], depth);
    const char *name = trace_names_text(&s->names, row.function);
    char text[256];
    name = *name ? name : "(unknown)";
    bool hot = ui_inside(u, box);
    if (hot) {
        uint32_t at = t->columns[u->mouse_x - p->r.x].longest;
        t->under_lane = at == UINT32_MAX ? TRACE_NO_LANE : p->lane;
        t->under_span = at == UINT32_MAX ? TRACE_NO_SPAN : lanes_span(s, p->lane, at);
        tell(p, u, first, last, row, name);
    }
    if (t->is_unseen)
        return;
    snprintf(text, sizeof text, row.hidden ? "+%2$u  %1$.200s" : "%.200s", name, row.hidden);
    timeline_frame_box(t, u, box, name, text, hot);
}

// All boxes of a row of depths end where no piece goes on with them.
static void draw_boxes(const struct pieces *p, struct ui *u)
{
    int first[LANES_FRAMES];
    uint32_t open = 0;
    for (int i = 0; i <= p->count; i++) {
        uint32_t stay = i && i < p->count ? going_on(p, i) : 0;
        for (; open > stay; open--)
            draw_frame_box(p, u, first[open - 1], i - 1, open - 1);
        uint32_t rows = i < p->count ? rows_of(p->t->stacked[i].frames) : 0;
        while (open < rows)
            first[open++] = i;
    }
}

static void draw_crowds(const struct pieces *p, struct ui *u)
{
    uint32_t color = theme_mix(u->theme.ground, u->theme.others, 0.2);
    int height = p->t->rows.sizes.frame;
    for (int i = 0; i < p->count && !p->t->is_unseen; i++) {
        const struct timeline_stacked *k = &p->t->stacked[i];
        if (k->crowded)
            draw_rect(u->list, rect_make(k->x, p->r.y, k->end - k->x, height - 1), color);
    }
}

void timeline_stacks(struct timeline *t, struct ui *u, uint32_t lane, struct rect r)
{
    struct pieces p = {.t = t, .lane = lane, .lod = lanes_lod(&t->rows, lane), .r = r};
    if (!p.lod || (t->is_unseen && !ui_inside(u, r)))
        return;
    p.from_ns = t->model->begin_ns + llround(t->shown.begin);
    p.to_ns = t->model->begin_ns + llround(t->shown.end);
    // Those of the lane that was drawn just now are still there.
    make_pieces(&p, t->is_unseen ? timeline_columns(t, p.lod) : t->columns);
    draw_crowds(&p, u);
    draw_boxes(&p, u);
}

// --- On and off.

void timeline_toggle_stacks(struct timeline *t)
{
    struct lanes *l = &t->rows;
    struct lanes_sizes sizes = l->sizes;
    const struct lanes_row *chosen = t->span == TRACE_NO_SPAN ? NULL : lanes_find(l, t->lane);
    uint32_t row = chosen ? (uint32_t)(chosen - l->rows) : lanes_at(l, t->scroll + t->sticky);
    int y = row < l->count ? l->rows[row].y - t->scroll : 0;
    l->stacks = !l->stacks;
    l->is_stale = true;
    t->failed |= lanes_arrange(l, &sizes) != 0;
    if (row < l->count && !l->is_stale) // it stays where it is; the bar keeps that within
        t->scroll = l->rows[row].y - y > 0 ? l->rows[row].y - y : 0;
}
