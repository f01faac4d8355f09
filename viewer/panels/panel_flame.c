// SPDX-License-Identifier: MIT
//
// See panel_flame.h.

#include "viewer/panels/panel_flame.h"

#include "analysis/trace/wall.h"
#include "viewer/ui/font.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {"CPU samples", "blocked", "all time"};

void panel_flame_init(struct panel_flame *x, const struct trace_model *m)
{
    *x = (struct panel_flame){.kind =
                                  m->spans->sample_count ? PANEL_FLAME_CPU : PANEL_FLAME_BLOCKED};
}

void panel_flame_finish(struct panel_flame *x)
{
    flame_finish(&x->flame);
    profile_model_free(x->profile);
    *x = (struct panel_flame){0};
}

bool panel_flame_due(const struct panel_flame *x, const struct panel_context *c)
{
    return !x->has || x->of != x->kind || x->begin_ns != c->begin_ns || x->end_ns != c->end_ns;
}

static int profile_of(const struct panel_flame *x, const struct panel_context *c,
                      struct pprof_profile **p)
{
    const struct trace_spans *s = c->model->spans;
    unsigned parts = x->kind == PANEL_FLAME_BLOCKED ? TRACE_WALL_BLOCKED : TRACE_WALL_ALL;
    if (x->kind == PANEL_FLAME_CPU)
        return trace_sample_profile(s, c->begin_ns, c->end_ns, p);
    return trace_wall_parts(s, c->begin_ns, c->end_ns, parts, p);
}

int panel_flame_work(struct panel_flame *x, const struct panel_context *c)
{
    struct fscope_error err = {0};
    struct pprof_profile *p = NULL;
    bool upward = x->flame.upward;
    char search[sizeof x->flame.search];
    memcpy(search, x->flame.search, sizeof search);
    flame_finish(&x->flame);
    profile_model_free(x->profile);
    x->profile = NULL;
    x->has = false;
    int rc = profile_of(x, c, &p);
    if (!rc)
        rc = profile_model_of(&x->profile, p, names[x->kind],
                              x->kind == PANEL_FLAME_CPU ? "samples" : "time", false, &err);
    if (!rc)
        rc = flame_init(&x->flame, x->profile);
    if (!rc) { // what the user wanted of the last one
        x->flame.upward = upward;
        flame_find(&x->flame, search);
    }
    x->of = x->kind;
    x->begin_ns = c->begin_ns;
    x->end_ns = c->end_ns;
    x->has = !rc || rc == -ENODATA; // it is known that there is nothing
    return rc == -ENODATA ? 0 : rc;
}

static const char *nothing(const struct panel_flame *x, const struct panel_context *c)
{
    if (!x->has)
        return "adding up";
    if (x->kind == PANEL_FLAME_CPU && !c->model->spans->sample_count)
        return "the trace has no CPU samples: record --trace --cpu takes them";
    return x->kind == PANEL_FLAME_CPU ? "no CPU samples in this range"
                                      : "no fiber was blocked in this range";
}

void panel_flame_frame(struct panel_flame *x, const struct panel_context *c, struct ui *u,
                       struct rect r)
{
    int height = u->line, width;
    struct rect top = {r.x, r.y, r.w, height < r.h ? height : r.h};
    struct rect body = {r.x, r.y + top.h, r.w, r.h - top.h};
    struct ui_event key = {0};
    draw_rect(u->list, top, u->theme.panel);
    int kind = ui_tabs(u, ui_id("flame kinds", 0), top, names, PANEL_FLAME_KINDS, x->kind, &width);
    if (c->has_keys && ui_key(u, 'k', 0))
        kind = (kind + 1) % PANEL_FLAME_KINDS;
    u->again |= kind != x->kind;
    x->kind = (uint8_t)kind;
    if (!x->profile || x->of != x->kind) {
        ui_label(u, rect_make(body.x + u->pad, body.y, body.w, panel_row_height(u)), u->theme.dim,
                 nothing(x, c));
        return;
    }
    // Without the keys it sees none: they are the timeline's.
    if (!c->has_keys && !u->focus && u->event.kind == UI_KEY) {
        key = u->event;
        u->event.kind = UI_NONE;
    }
    if (body.h > 0)
        flame_frame(&x->flame, u, body);
    if (key.kind)
        u->event = key;
}
