// SPDX-License-Identifier: MIT
//
// The pixels of the Procs' lanes. All of them for one window are a shot.
//
// Without a clock (pictures) a shot is made at once, by two threads where there are many pixels. In a window a frame has only
// DRAFT_NS for it: while no shot of what is shown is whole, the columns of others are drawn where they lie in time, and the
// shot of where the picture goes is made on, lane by lane, from frame to frame. So a frame's cost does not grow with the trace,
// and what stands still is exact.

#include "viewer/views/timeline_internal.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    MANY_COLUMNS = 16384, // from here on a thread is worth its start
    DRAFT_NS = 2500000,
    NO_SHOT = 255,
};

static void window_ns(const struct timeline *t, struct timeline_window w, int64_t *begin_ns,
                      int64_t *end_ns)
{
    int64_t base = t->model->begin_ns;
    *begin_ns = base + llround(w.begin);
    *end_ns = base + llround(w.end);
    *end_ns = *end_ns > *begin_ns ? *end_ns : *begin_ns + 1;
}

// Which of the Procs' lanes are in sight. They are the first rows.
static void find_sight(const struct timeline *t, uint32_t *first, uint32_t *count)
{
    uint32_t lanes = t->model->lane_count, end = lanes_at(&t->rows, t->scroll + t->lanes.h - 1);
    *first = lanes_at(&t->rows, t->scroll);
    *first = *first < lanes ? *first : lanes;
    end = end < lanes ? end + 1 : lanes;
    *count = end > *first ? end - *first : 0;
}

// What a shot of that window is of, without its pixels.
static struct timeline_shot describe(const struct timeline *t, struct timeline_window w)
{
    struct timeline_shot s = {.width = t->lanes.w};
    window_ns(t, w, &s.begin_ns, &s.end_ns);
    find_sight(t, &s.first, &s.count);
    return s;
}

static bool same(const struct timeline_shot *a, const struct timeline_shot *b)
{
    return a->begin_ns == b->begin_ns && a->end_ns == b->end_ns && a->width == b->width &&
           a->first == b->first && a->count == b->count;
}

// --- Making a shot.

static int begin(struct timeline_shot *s, const struct timeline_shot *what)
{
    size_t need = (size_t)what->width * (what->count + 2); // and a scratch for each thread
    s->is_whole = false;
    if (need > s->capacity) {
        free(s->columns);
        s->capacity = 0;
        s->columns = malloc(need * sizeof *s->columns);
        if (!s->columns)
            return -ENOMEM;
        s->capacity = need;
    }
    if (what->width > s->class_width) {
        free(s->class_ns);
        s->class_width = 0;
        s->class_ns =
            malloc((size_t)what->width * 2 * sizeof *s->class_ns); // and the other thread's
        if (!s->class_ns)
            return -ENOMEM;
        s->class_width = what->width;
    }
    s->begin_ns = what->begin_ns;
    s->end_ns = what->end_ns;
    s->width = what->width;
    s->first = what->first;
    s->count = what->count;
    s->made = 0;
    memset(s->class_ns, 0, (size_t)what->width * 2 * sizeof *s->class_ns);
    return 0;
}

// One lane; which: of two threads.
static void make_lane(const struct trace_model *m, struct timeline_shot *s, uint32_t lane,
                      int which)
{
    size_t w = (size_t)s->width;
    bool in_sight = lane - s->first < s->count;
    size_t at = in_sight ? lane - s->first : s->count + (size_t)which;
    lod_add_columns(&m->lanes[lane].lod, s->begin_ns, s->end_ns, (uint32_t)w, s->columns + at * w,
                    s->class_ns + (which ? w : 0));
}

struct job { // every second lane
    const struct trace_model *model;
    struct timeline_shot *shot;
    uint32_t first, step;
};

static void *make_lanes(void *context)
{
    const struct job *j = context;
    for (uint32_t i = j->first; i < j->model->lane_count; i += j->step)
        make_lane(j->model, j->shot, i, (int)j->first);
    return NULL;
}

static void make_whole(const struct trace_model *m, struct timeline_shot *s)
{
    struct job here = {m, s, 0, 1}, there = {m, s, 1, 2};
    size_t w = (size_t)s->width;
    pthread_t thread;
    bool two = w * m->lane_count >= MANY_COLUMNS;
    here.step = two ? 2 : 1;
    two = two && !pthread_create(&thread, NULL, make_lanes, &there);
    if (!two)
        here.step = 1;
    make_lanes(&here);
    if (two) {
        pthread_join(thread, NULL);
        for (size_t i = 0; i < w; i++)
            for (int k = 0; k < LOD_CLASSES; k++)
                s->class_ns[i][k] += s->class_ns[w + i][k];
    }
    s->is_whole = true;
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// As many lanes as there is time for, and one in any case.
static void make_some(const struct trace_model *m, struct timeline_shot *s)
{
    int64_t until_ns = now_ns() + DRAFT_NS;
    for (bool more = true; more && s->made < m->lane_count; more = now_ns() < until_ns)
        make_lane(m, s, s->made++, 0);
    s->is_whole = s->made == m->lane_count;
}

// --- Which shots are kept.

static double length_of(const struct timeline_shot *s)
{
    return (double)(s->end_ns - s->begin_ns);
}

// What is made takes its place: the widest stays, of others the last two.
static void keep(struct timeline_pixels *p)
{
    struct timeline_shot done = p->making, *s = p->shots;
    if (!s[0].is_whole || length_of(&done) >= length_of(&s[0])) {
        p->making = s[0];
        s[0] = done;
    } else {
        p->making = s[2];
        s[2] = s[1];
        s[1] = done;
    }
    p->making.is_whole = p->is_making = false;
}

static const struct timeline_shot *find(const struct timeline_pixels *p,
                                        const struct timeline_shot *what)
{
    for (int i = 0; i < TIMELINE_SHOTS; i++)
        if (p->shots[i].is_whole && same(&p->shots[i], what))
            return &p->shots[i];
    return NULL;
}

// --- A draft.

// The shot that has that moment, of those the one whose pixels are nearest in size.
static uint8_t nearest(const struct timeline_pixels *p, double at_ns, const double off[])
{
    uint8_t best = NO_SHOT;
    for (int i = 0; i < TIMELINE_SHOTS; i++) {
        const struct timeline_shot *s = &p->shots[i];
        if (s->is_whole && at_ns >= (double)s->begin_ns && at_ns < (double)s->end_ns &&
            (best == NO_SHOT || off[i] < off[best]))
            best = (uint8_t)i;
    }
    return best;
}

static int map(struct timeline *t, const struct timeline_shot *what)
{
    struct timeline_pixels *p = &t->pixels;
    double pixel_ns = length_of(what) / what->width, off[TIMELINE_SHOTS] = {0};
    if (what->width > p->map_width) {
        struct timeline_from *m = reallocarray(p->map, (size_t)what->width, sizeof *m);
        if (!m)
            return -ENOMEM;
        p->map = m;
        p->map_width = what->width;
    }
    for (int i = 0; i < TIMELINE_SHOTS; i++)
        if (p->shots[i].is_whole) {
            p->ratio[i] = pixel_ns * p->shots[i].width / length_of(&p->shots[i]);
            off[i] = fabs(log(p->ratio[i]));
        }
    for (int i = 0; i < what->width; i++) {
        double at_ns = (double)what->begin_ns + (i + 0.5) * pixel_ns;
        uint8_t shot = nearest(p, at_ns, off);
        const struct timeline_shot *s = &p->shots[shot == NO_SHOT ? 0 : shot];
        double part = shot == NO_SHOT ? 0 : (at_ns - (double)s->begin_ns) / length_of(s);
        int column = (int)(part * s->width);
        p->map[i] = (struct timeline_from){column < s->width ? column : s->width - 1, shot};
        for (int k = 0; k < LOD_CLASSES; k++)
            t->class_ns[i][k] =
                shot == NO_SHOT
                    ? 0
                    : (int64_t)((double)s->class_ns[p->map[i].column][k] * p->ratio[shot]);
    }
    return 0;
}

static int show_whole(struct timeline *t, const struct timeline_shot *s)
{
    memcpy(t->class_ns, s->class_ns, (size_t)s->width * sizeof *t->class_ns);
    t->pixels.now = s;
    return 0;
}

// Makes a shot on if none is of what is shown; true: it is there now.
static int make_on(struct timeline *t)
{
    struct timeline_pixels *p = &t->pixels;
    struct timeline_window goal = t->goal.end > t->goal.begin ? t->goal : t->shown;
    struct timeline_shot what = describe(t, goal);
    int rc = 0;
    if (!p->is_making) {
        if (find(p, &what)) // where the picture goes is known already
            return 0;
        rc = begin(&p->making, &what);
        p->is_making = !rc;
    }
    if (!rc)
        make_some(t->model, &p->making);
    if (!rc && p->making.is_whole)
        keep(p);
    return rc;
}

int timeline_pixels_make(struct timeline *t, struct ui *u)
{
    struct timeline_pixels *p = &t->pixels;
    const struct timeline_shot what = describe(t, t->shown), *there = find(p, &what);
    bool any = p->shots[0].is_whole;
    int rc = 0;
    p->now = NULL;
    if (there)
        return show_whole(t, there);
    if (!any || !u->now_ms || u->at_once) {
        rc = begin(&p->making, &what);
        if (rc)
            return rc;
        make_whole(t->model, &p->making);
        keep(p);
    } else if (!t->is_unseen) {
        rc = make_on(t);
        if (rc)
            return rc;
    }
    there = find(p, &what);
    if (there)
        return show_whole(t, there);
    u->moves = true;
    return map(t, &what);
}

void timeline_pixels_free(struct timeline_pixels *p)
{
    for (int i = 0; i <= TIMELINE_SHOTS; i++) {
        struct timeline_shot *s = i < TIMELINE_SHOTS ? &p->shots[i] : &p->making;
        free(s->columns);
        free(s->class_ns);
    }
    free(p->map);
    *p = (struct timeline_pixels){0};
}

// --- A lane's columns.

static struct lod_column scaled(const struct lod_column *c, double ratio)
{
    struct lod_column to = *c;
    to.busy_ns = (int64_t)((double)c->busy_ns * ratio);
    to.class_ns = (int64_t)((double)c->class_ns * ratio);
    to.first_ns = (int64_t)((double)c->first_ns * ratio);
    return to;
}

// Of other shots; false: one of them does not have the lane.
static bool draft(struct timeline *t, uint32_t lane)
{
    const struct timeline_pixels *p = &t->pixels;
    for (int i = 0; i < t->lanes.w; i++) {
        struct timeline_from f = p->map[i];
        const struct timeline_shot *s = &p->shots[f.shot == NO_SHOT ? 0 : f.shot];
        if (f.shot == NO_SHOT)
            t->columns[i] = (struct lod_column){.longest = UINT32_MAX};
        else if (lane - s->first < s->count)
            t->columns[i] =
                scaled(&s->columns[(lane - s->first) * (size_t)s->width + (size_t)f.column],
                       p->ratio[f.shot]);
        else
            return false;
    }
    return true;
}

const struct lod_column *timeline_columns(struct timeline *t, const struct lod *l)
{
    const struct timeline_pixels *p = &t->pixels;
    const struct trace_model_lane *lanes = t->model->lanes;
    uint32_t lane = 0;
    while (lane < t->model->lane_count && &lanes[lane].lod != l)
        lane++;
    bool is_lane = lane < t->model->lane_count;
    if (is_lane && p->now && lane - p->now->first < p->now->count)
        return p->now->columns + (lane - p->now->first) * (size_t)p->now->width;
    if (is_lane && !p->now && draft(t, lane))
        return t->columns;
    int64_t begin_ns, end_ns;
    window_ns(t, t->shown, &begin_ns, &end_ns);
    lod_columns(l, begin_ns, end_ns, (uint32_t)t->lanes.w, t->columns);
    return t->columns;
}

uint32_t timeline_longest_at(const struct timeline *t, const struct lod *l, int x)
{
    int64_t begin_ns, end_ns;
    window_ns(t, t->shown, &begin_ns, &end_ns);
    // As lod_columns has the edges: no product is too large, as a window has 2^48 ns at most and few pixels.
    int64_t length_ns = end_ns - begin_ns;
    int64_t from_ns = begin_ns + x * length_ns / t->lanes.w;
    int64_t to_ns = begin_ns + (x + 1) * length_ns / t->lanes.w;
    if (!l->count || from_ns == to_ns)
        return UINT32_MAX;
    struct lod_column c;
    lod_columns(l, from_ns, to_ns, 1, &c);
    return c.longest;
}
