// SPDX-License-Identifier: MIT
//
// The table of views (view.h), and those views that are older than it.

#include "viewer/bindings.h"
#include "viewer/document.h"
#include "viewer/view.h"
#include "viewer/views/flame.h"
#include "viewer/views/timeline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// --- The timeline.

static int open_timeline(void **state, struct document *d)
{
    struct timeline *t = calloc(1, sizeof *t);
    if (!t)
        return -ENOMEM;
    timeline_init(t, d->trace);
    if (d->shown.end_ns > d->shown.begin_ns)
        timeline_show(t, d->shown.begin_ns, d->shown.end_ns);
    *state = t;
    return 0;
}

static void frame_timeline(void *state, struct document *d, struct ui *u, struct rect r)
{
    struct timeline *t = state;
    struct timeline_window before = {d->range.begin_ns, d->range.end_ns};
    t->range = before;
    timeline_frame(t, u, r);
    d->range.begin_ns = t->range.begin;
    d->range.end_ns = t->range.end;
    d->failed |= t->failed;
}

static void close_timeline(void *state)
{
    if (state)
        timeline_finish(state);
    free(state);
}

static const struct view view_timeline = {
    .id = "timeline",
    .name = "Timeline",
    .digit = 1,
    .shows = VIEW_TRACE,
    .contexts = CONTEXT_TIMELINE,
    .open = open_timeline,
    .frame = frame_timeline,
    .close = close_timeline,
};

// --- The flame graph; with the root at the bottom it is called so, else an icicle.

static int open_icicle(void **state, struct document *d)
{
    struct flame *f = calloc(1, sizeof *f);
    if (!f || flame_init(f, d->profile)) {
        free(f);
        return -ENOMEM;
    }
    if (d->search)
        flame_find(f, d->search);
    *state = f;
    return 0;
}

static int open_flame(void **state, struct document *d)
{
    int rc = open_icicle(state, d);
    if (!rc)
        ((struct flame *)*state)->upward = true;
    return rc;
}

static void frame_flame(void *state, struct document *d, struct ui *u, struct rect r)
{
    (void)d;
    flame_frame(state, u, r);
}

static void close_flame(void *state)
{
    if (state)
        flame_finish(state);
    free(state);
}

static const struct view view_icicle = {
    .id = "icicle",
    .name = "Flame graph",
    .digit = 2,
    .shows = VIEW_PROFILE,
    .contexts = CONTEXT_FLAME | CONTEXT_PROFILE,
    .open = open_icicle,
    .frame = frame_flame,
    .close = close_flame,
};

static const struct view view_flame = {
    .id = "flame",
    .shows = VIEW_PROFILE,
    .contexts = CONTEXT_FLAME | CONTEXT_PROFILE,
    .open = open_flame,
    .frame = frame_flame,
    .close = close_flame,
};

// --- All of them: in the order of tabs. The first that shows a document is how it opens.

const struct view *const views[] = {
    &view_timeline,
    &view_icicle,
    &view_flame,
    NULL,
};

int view_find(const char *id)
{
    for (int i = 0; views[i]; i++)
        if (!strcmp(views[i]->id, id))
            return i;
    return -1;
}
