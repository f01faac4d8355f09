// SPDX-License-Identifier: MIT
//
// The pixels of the Procs' lanes. All of them for one window are a shot.
//
// Two threads make a shot where there are many pixels. Without a clock (pictures) it is made at once. In a window a picture has
// only MOVING_NS for it, in all its passes: while no shot of what is shown is whole, the columns of others are drawn where they
// lie in time, and the shot of where the picture goes is made on, lane by lane, from picture to picture. So a picture's cost
// does not grow with the trace, and what stands still is exact.

#include "viewer/views/timeline_internal.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    MANY_COLUMNS = 16384, // from here on a thread is worth its start
    MOVING_NS = 600000,
    ARRIVED_NS = 1600000, // the picture gets sharp where it is
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
    struct timeline_shot s = {.width = t->lanes.w, .pixel_ns = (w.end - w.begin) / t->lanes.w};
    window_ns(t, w, &s.begin_ns, &s.end_ns);
    find_sight(t, &s.first, &s.count);
    return s;
}

static bool same(const struct timeline_shot *a, const struct timeline_shot *b)
{
    return a->begin_ns == b->begin_ns && a->end_ns == b->end_ns && a->pixel_ns == b->pixel_ns &&
           a->width == b->width && a->first == b->first && a->count == b->count;
}

// --- Making a shot.

// Room to work in; false: no memory.
static bool widen(struct timeline_shot *s, int width)
{
    if (width <= s->work_width)
        return true;
    free(s->class_ns);
    free(s->work);
    s->work_width = 0;
    s->class_ns = malloc((size_t)width * 2 * sizeof *s->class_ns);
    s->work = malloc((size_t)width * 2 * sizeof *s->work);
    if (!s->class_ns || !s->work)
        return false;
    s->work_width = width;
    return true;
}

static int begin(struct timeline_shot *s, const struct timeline_shot *what)
{
    size_t need = (size_t)what->width * (what->count + 1);
    s->is_whole = false;
    if (need > s->capacity) {
        free(s->pixels);
        s->capacity = 0;
        s->pixels = malloc(need * sizeof *s->pixels);
        if (!s->pixels)
            return -ENOMEM;
        s->capacity = need;
    }
    if (!widen(s, what->width))
        return -ENOMEM;
    s->begin_ns = what->begin_ns;
    s->end_ns = what->end_ns;
    s->pixel_ns = what->pixel_ns;
    s->width = what->width;
    s->first = what->first;
    s->count = what->count;
    s->made = 0;
    memset(s->class_ns, 0, (size_t)what->width * 2 * sizeof *s->class_ns);
    return 0;
}

static void pack(const struct lod_column *columns, double pixel_ns, int width,
                 struct timeline_pixel *out)
{
    for (int i = 0; i < width; i++) {
        const struct lod_column *c = &columns[i];
        double part = pixel_ns > 0 ? (double)c->busy_ns / pixel_ns : 0;
        if (c->class == TRACE_MODEL_SYSCALL)
            part = part * TIMELINE_CALL_EIGHTHS / 8;
        int height = (int)(255 * (part > 1 ? 1 : part) + 0.5); // it is not below 0
        height = part > 0 && !height ? 1 : height;
        out[i] = (struct timeline_pixel){.longest = c->longest,
                                         .bits = c->bits,
                                         .height = (uint8_t)height,
                                         .class = height ? c->class : (uint8_t)LOD_CLASSES};
    }
}

// One lane; which: of two threads.
static void make_lane(const struct trace_model *m, struct timeline_shot *s, uint32_t lane,
                      int which)
{
    size_t w = (size_t)s->width;
    struct lod_column *columns = s->work + (which ? w : 0);
    lod_add_columns(&m->lanes[lane].lod, s->begin_ns, s->end_ns, (uint32_t)w, columns,
                    s->class_ns + (which ? w : 0));
    if (lane - s->first < s->count)
        pack(columns, s->pixel_ns, s->width, s->pixels + (lane - s->first) * w);
}

// What two threads make of a shot, lane by lane, until it is whole or it is until_ns.
struct job {
    const struct trace_model *model;
    struct timeline_shot *shot;
    _Atomic uint32_t next; // of the model's lanes
    int64_t until_ns;
};

// One lane in any case.
static void make_lanes(struct job *j, int which)
{
    uint32_t lane = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed);
    while (lane < j->model->lane_count) {
        make_lane(j->model, j->shot, lane, which);
        if (ui_clock_ns() >= j->until_ns)
            break;
        lane = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed);
    }
}

static void *make_lanes_there(void *job)
{
    make_lanes(job, 1);
    return NULL;
}

static void finish(struct timeline_shot *s)
{
    for (size_t i = 0, w = (size_t)s->width; i < w; i++)
        for (int k = 0; k < LOD_CLASSES; k++)
            s->class_ns[i][k] += s->class_ns[w + i][k];
    s->is_whole = true;
}

static void make_until(const struct trace_model *m, struct timeline_shot *s, int64_t until_ns)
{
    struct job job = {.model = m, .shot = s, .next = s->made, .until_ns = until_ns};
    pthread_t thread;
    bool two = (size_t)s->width * (m->lane_count - s->made) >= MANY_COLUMNS &&
               !pthread_create(&thread, NULL, make_lanes_there, &job);
    make_lanes(&job, 0);
    if (two)
        pthread_join(thread, NULL);
    uint32_t next = atomic_load_explicit(&job.next, memory_order_relaxed);
    s->made = next < m->lane_count ? next : m->lane_count;
    if (s->made == m->lane_count)
        finish(s);
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

static bool make_room(struct timeline_pixels *p, int width)
{
    if (width <= p->from_width)
        return true;
    int *from = reallocarray(p->from, (size_t)width, sizeof *from);
    if (!from)
        return false;
    p->from = from;
    p->from_width = width;
    return true;
}

// Whose moments are the same shot's are one piece: shots begin and end at two moments each, so there are few.
static void put_piece(struct timeline_pixels *p, int i, uint8_t shot)
{
    struct timeline_piece *last = p->piece_count ? &p->pieces[p->piece_count - 1] : NULL;
    if (!last || (last->shot != shot && p->piece_count < TIMELINE_PIECES)) {
        last = &p->pieces[p->piece_count++];
        last->shot = shot;
    }
    last->end = i + 1;
}

// What each class has of each pixel, as long as its shot says.
static void map_classes(struct timeline *t, double pixel_ns)
{
    const struct timeline_pixels *p = &t->pixels;
    for (int k = 0, i = 0; k < p->piece_count; k++) {
        const struct timeline_piece *piece = &p->pieces[k];
        if (piece->shot == NO_SHOT) {
            memset(t->class_ns + i, 0, (size_t)(piece->end - i) * sizeof *t->class_ns);
            i = piece->end;
            continue;
        }
        const struct timeline_shot *s = &p->shots[piece->shot];
        double ratio = pixel_ns / s->pixel_ns;
        for (; i < piece->end; i++)
            for (int c = 0; c < LOD_CLASSES; c++)
                t->class_ns[i][c] = (int64_t)((double)s->class_ns[p->from[i]][c] * ratio);
    }
}

static int map(struct timeline *t, const struct timeline_shot *what)
{
    struct timeline_pixels *p = &t->pixels;
    double pixel_ns = length_of(what) / what->width, off[TIMELINE_SHOTS] = {0};
    if (!make_room(p, what->width))
        return -ENOMEM;
    p->piece_count = 0;
    for (int i = 0; i < TIMELINE_SHOTS; i++)
        if (p->shots[i].is_whole)
            off[i] = fabs(log(pixel_ns / p->shots[i].pixel_ns));
    for (int i = 0; i < what->width; i++) {
        double at_ns = (double)what->begin_ns + (i + 0.5) * pixel_ns;
        uint8_t shot = nearest(p, at_ns, off);
        const struct timeline_shot *s = &p->shots[shot == NO_SHOT ? 0 : shot];
        int column = shot == NO_SHOT ? 0 : (int)((at_ns - (double)s->begin_ns) / s->pixel_ns);
        p->from[i] = column < s->width ? column : s->width - 1;
        put_piece(p, i, shot);
    }
    map_classes(t, pixel_ns);
    return 0;
}

static int show_whole(struct timeline *t, const struct timeline_shot *s)
{
    memcpy(t->class_ns, s->class_ns, (size_t)s->width * sizeof *t->class_ns);
    t->pixels.now = s;
    return 0;
}

// A part of a picture's time for it; several passes make one picture.
static void make_a_part(struct timeline *t, struct ui *u, int64_t budget_ns)
{
    struct timeline_pixels *p = &t->pixels;
    int64_t began_ns = ui_clock_ns();
    if (p->spent_ms != u->now_ms)
        p->spent_ns = 0;
    p->spent_ms = u->now_ms;
    if (p->spent_ns >= budget_ns)
        return;
    make_until(t->model, &p->making, began_ns + budget_ns - p->spent_ns);
    p->spent_ns += ui_clock_ns() - began_ns;
}

// Makes a shot on if none is of what is shown.
static int make_on(struct timeline *t, struct ui *u, const struct timeline_shot *shown)
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
        make_a_part(t, u, same(&what, shown) ? ARRIVED_NS : MOVING_NS);
    if (!rc && p->making.is_whole)
        keep(p);
    return rc;
}

static int make(struct timeline *t, struct ui *u)
{
    struct timeline_pixels *p = &t->pixels;
    const struct timeline_shot what = describe(t, t->shown), *there = find(p, &what);
    bool any = p->shots[0].is_whole;
    int rc = 0;
    p->now = NULL;
    if (t->is_unseen && any) // no lane is drawn
        return 0;
    if (there)
        return show_whole(t, there);
    if (!any || !u->now_ms || u->at_once) {
        rc = begin(&p->making, &what);
        if (rc)
            return rc;
        make_until(t->model, &p->making, INT64_MAX);
        keep(p);
    } else {
        rc = make_on(t, u, &what);
        if (rc)
            return rc;
    }
    there = find(p, &what);
    if (there)
        return show_whole(t, there);
    u->moves = true;
    return map(t, &what);
}

int timeline_pixels_make(struct timeline *t, struct ui *u)
{
    int64_t began_ns = ui_clock_ns();
    int rc = make(t, u);
    u->lod_ns += ui_clock_ns() - began_ns;
    return rc;
}

bool timeline_pixels_busy(const struct timeline *t, int width, int64_t *busy_ns)
{
    const struct timeline_shot *whole = NULL;
    for (int i = 0; i < TIMELINE_SHOTS; i++) {
        const struct timeline_shot *s = &t->pixels.shots[i];
        if (s->is_whole && s->width == width && s->begin_ns == t->model->begin_ns &&
            s->end_ns == t->model->end_ns)
            whole = s;
    }
    for (int x = 0; whole && x < width; x++) {
        busy_ns[x] = 0;
        for (int k = 0; k < LOD_CLASSES; k++)
            busy_ns[x] += whole->class_ns[x][k];
    }
    return whole;
}

void timeline_pixels_free(struct timeline_pixels *p)
{
    for (int i = 0; i <= TIMELINE_SHOTS; i++) {
        struct timeline_shot *s = i < TIMELINE_SHOTS ? &p->shots[i] : &p->making;
        free(s->pixels);
        free(s->class_ns);
        free(s->work);
    }
    free(p->from);
    *p = (struct timeline_pixels){0};
}

// --- A lane's pixels.

// Of other shots, as high as they are there; false: one of them does not have the lane.
static bool draft(struct timeline *t, uint32_t lane)
{
    const struct timeline_pixels *p = &t->pixels;
    for (int k = 0; k < p->piece_count; k++)
        if (p->pieces[k].shot != NO_SHOT &&
            lane - p->shots[p->pieces[k].shot].first >= p->shots[p->pieces[k].shot].count)
            return false;
    for (int k = 0, i = 0; k < p->piece_count; k++) {
        const struct timeline_piece *piece = &p->pieces[k];
        for (; i < piece->end && piece->shot == NO_SHOT; i++)
            t->pixel_row[i] = (struct timeline_pixel){.longest = UINT32_MAX, .class = LOD_CLASSES};
        if (i == piece->end)
            continue;
        const struct timeline_shot *s = &p->shots[piece->shot];
        const struct timeline_pixel *row = s->pixels + (lane - s->first) * (size_t)s->width;
        for (; i < piece->end; i++)
            t->pixel_row[i] = row[p->from[i]];
    }
    return true;
}

const struct lod_column *timeline_columns(struct timeline *t, const struct lod *l)
{
    int64_t begin_ns, end_ns;
    window_ns(t, t->shown, &begin_ns, &end_ns);
    lod_columns(l, begin_ns, end_ns, (uint32_t)t->lanes.w, t->columns);
    return t->columns;
}

const struct timeline_pixel *timeline_lane_pixels(struct timeline *t, const struct lod *l)
{
    const struct timeline_pixels *p = &t->pixels;
    const struct trace_model_lane *lanes = t->model->lanes;
    uint32_t lane = 0;
    while (lane < t->model->lane_count && &lanes[lane].lod != l)
        lane++;
    bool is_lane = lane < t->model->lane_count;
    if (is_lane && p->now && lane - p->now->first < p->now->count)
        return p->now->pixels + (lane - p->now->first) * (size_t)p->now->width;
    if (is_lane && !p->now && draft(t, lane))
        return t->pixel_row;
    pack(timeline_columns(t, l), (t->shown.end - t->shown.begin) / t->lanes.w, t->lanes.w,
         t->pixel_row);
    return t->pixel_row;
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
