// SPDX-License-Identifier: MIT
//
// The pixels of the Procs' lanes: made once for a window, by two threads where there are many, and kept while it stays.

#include "viewer/views/timeline_internal.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MANY_COLUMNS = 16384 }; // from here on a thread is worth its start

static void window_of(const struct timeline *t, int64_t *begin_ns, int64_t *end_ns)
{
    int64_t base = t->model->begin_ns;
    *begin_ns = base + llround(t->shown.begin);
    *end_ns = base + llround(t->shown.end);
    *end_ns = *end_ns > *begin_ns ? *end_ns : *begin_ns + 1;
}

struct job { // every second lane
    const struct trace_model *model;
    struct timeline_pixels *pixels;
    uint32_t first, step;
    struct lod_column *scratch;       // of lanes that are not in sight
    int64_t (*class_ns)[LOD_CLASSES]; // of what it made
};

static void *make(void *context)
{
    const struct job *j = context;
    const struct timeline_pixels *p = j->pixels;
    size_t w = (size_t)p->width;
    memset(j->class_ns, 0, w * sizeof *j->class_ns);
    for (uint32_t i = j->first; i < j->model->lane_count; i += j->step) {
        bool in_sight = i - p->first < p->count;
        struct lod_column *to = in_sight ? p->columns + (i - p->first) * w : j->scratch;
        lod_add_columns(&j->model->lanes[i].lod, p->begin_ns, p->end_ns, (uint32_t)w, to,
                        j->class_ns);
    }
    return NULL;
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

static int reserve(struct timeline_pixels *p)
{
    size_t need = (size_t)p->width * (p->count + 2); // and a scratch for each thread
    if (need > p->capacity) {
        free(p->columns);
        p->capacity = 0;
        p->columns = malloc(need * sizeof *p->columns);
        if (!p->columns)
            return -ENOMEM;
        p->capacity = need;
    }
    if (p->width > p->class_width) {
        free(p->more_ns);
        p->class_width = 0;
        p->more_ns = malloc((size_t)p->width * sizeof *p->more_ns);
        if (!p->more_ns)
            return -ENOMEM;
        p->class_width = p->width;
    }
    return 0;
}

int timeline_pixels_make(struct timeline *t)
{
    struct timeline_pixels *p = &t->pixels;
    int64_t begin_ns, end_ns;
    uint32_t first, count;
    window_of(t, &begin_ns, &end_ns);
    find_sight(t, &first, &count);
    if (p->is_made && p->begin_ns == begin_ns && p->end_ns == end_ns && p->width == t->lanes.w &&
        p->first == first && p->count == count)
        return 0;
    p->is_made = false;
    p->begin_ns = begin_ns;
    p->end_ns = end_ns;
    p->width = t->lanes.w;
    p->first = first;
    p->count = count;
    int rc = reserve(p);
    if (rc)
        return rc;
    size_t w = (size_t)p->width, sight = w * count;
    struct job here = {t->model, p, 0, 1, p->columns + sight, t->class_ns};
    struct job there = {t->model, p, 1, 2, p->columns + sight + w, p->more_ns};
    pthread_t thread;
    bool two = w * t->model->lane_count >= MANY_COLUMNS;
    here.step = two ? 2 : 1;
    two = two && !pthread_create(&thread, NULL, make, &there);
    if (!two)
        here.step = 1;
    make(&here);
    if (two) {
        pthread_join(thread, NULL);
        for (size_t i = 0; i < w; i++)
            for (int k = 0; k < LOD_CLASSES; k++)
                t->class_ns[i][k] += p->more_ns[i][k];
    }
    p->is_made = true;
    return 0;
}

void timeline_pixels_free(struct timeline_pixels *p)
{
    free(p->columns);
    free(p->more_ns);
    *p = (struct timeline_pixels){0};
}

const struct lod_column *timeline_columns(struct timeline *t, const struct lod *l)
{
    const struct timeline_pixels *p = &t->pixels;
    const struct trace_model_lane *lanes = t->model->lanes;
    for (uint32_t i = p->first; i < p->first + p->count; i++)
        if (&lanes[i].lod == l)
            return p->columns + (i - p->first) * (size_t)p->width;
    int64_t begin_ns, end_ns;
    window_of(t, &begin_ns, &end_ns);
    lod_columns(l, begin_ns, end_ns, (uint32_t)t->lanes.w, t->columns);
    return t->columns;
}
