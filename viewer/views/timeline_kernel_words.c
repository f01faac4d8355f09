// SPDX-License-Identifier: MIT
//
// What is said of a piece of a kernel trace, and of what a span of a fiber lost.

#include "viewer/views/timeline_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { NAMED_MOST = 3 };

// "M4711 shorten  thread 4711 of process 4710"
static void who_of(const struct timeline *t, const struct kernel_piece *p, char text[256])
{
    const struct kernel_model *k = t->kernel.model;
    const struct kernel_lane *l = p->thread == KERNEL_NO_LANE ? NULL : &k->lanes[p->thread];
    char m[32] = "", thread[48] = "";
    if (l && l->trace_lane != TRACE_NO_LANE)
        snprintf(m, sizeof m, "M%" PRId64 " ", l->id);
    if (l)
        snprintf(thread, sizeof thread, "  thread %" PRId64, l->id);
    snprintf(text, 256, "%s%.80s%s%s%.60s", m, *p->name ? p->name : "(unknown)", thread,
             *p->process ? " of " : "", p->process);
}

static void what_of(const struct timeline *t, uint32_t lane, const struct kernel_piece *p,
                    char text[256])
{
    char ns[TIMELINE_NS_MAX], at[TIMELINE_NS_MAX], cpu[40] = "", what[120];
    bool is_cpu = lane < t->kernel.model->cpu_count, is_off = !is_cpu && p->class == KERNEL_DELAYED;
    if (p->cpu >= 0)
        snprintf(cpu, sizeof cpu, is_off ? ", then on CPU %" PRId64 : " on CPU %" PRId64, p->cpu);
    snprintf(what, sizeof what, "%s", is_cpu ? "running" : kernel_class_name(p->class));
    if (*p->why && (p->class == KERNEL_IN_CALL || p->class == KERNEL_ASLEEP))
        snprintf(what, sizeof what, "%s %.60s%s", p->class == KERNEL_ASLEEP ? "asleep in" : "in",
                 p->why, p->on_disk ? ", for a disk" : "");
    snprintf(text, 256, "%s %s%s, at %s", what, timeline_ns(ns, (double)(p->end_ns - p->begin_ns)),
             cpu, timeline_at(at, (double)(p->begin_ns - t->model->begin_ns), 1000));
}

// ", " between; as many as there are names for.
static void add_by(const struct kernel_times *times, uint32_t most, char *text, size_t size)
{
    size_t n = strlen(text);
    for (uint32_t i = 0; i < times->by_count && i < most && n < size; i++) {
        char ns[TIMELINE_NS_MAX];
        n += (size_t)snprintf(text + n, size - n, "%s%.40s %s", i ? ", " : "", times->by[i].name,
                              timeline_ns(ns, (double)times->by[i].ns));
    }
    if (times->by_count > most && n < size)
        snprintf(text + n, size - n, ", %u more", times->by_count - most);
}

// Whose threads of the program waited for the CPU while the piece was on it.
static void waiting_for(const struct timeline *t, const struct kernel_piece *p, char text[256])
{
    const struct kernel_model *k = t->kernel.model;
    int named = 0;
    size_t n = 0;
    text[0] = 0;
    for (uint32_t lane = k->cpu_count; lane < k->lane_count && named < NAMED_MOST && n < 200;
         lane++) {
        uint32_t i = k->lanes[lane].trace_lane == TRACE_NO_LANE
                         ? UINT32_MAX
                         : kernel_piece_at(k, lane, p->end_ns - 1);
        struct kernel_piece its;
        char ns[TIMELINE_NS_MAX];
        if (i == UINT32_MAX)
            continue;
        kernel_piece_get(k, lane, i, &its);
        if (its.class != KERNEL_DELAYED || its.cpu != p->cpu)
            continue;
        n += (size_t)snprintf(text + n, 256 - n, "%sM%" PRId64 " for %s",
                              named++ ? ", " : "meanwhile waited for it: ", k->lanes[lane].id,
                              timeline_ns(ns, (double)(its.end_ns - its.begin_ns)));
    }
}

// Who had the CPU instead, or who was kept waiting; "": nobody.
static void why_of(const struct timeline *t, uint32_t lane, const struct kernel_piece *p,
                   char text[256])
{
    const struct kernel_model *k = t->kernel.model;
    text[0] = 0;
    if (lane < k->cpu_count) {
        waiting_for(t, p, text);
        return;
    }
    if (p->class != KERNEL_DELAYED)
        return;
    struct kernel_times times = {0};
    kernel_times_piece(&times, k, p);
    kernel_times_finish(&times);
    if (times.by_count) {
        snprintf(text, 256, "who ran instead: ");
        add_by(&times, NAMED_MOST, text, 256);
    } else {
        snprintf(text, 256, "nobody in the kernel trace had the CPU meanwhile");
    }
}

void timeline_piece_lines(const struct timeline *t, uint32_t lane, uint32_t index, char who[256],
                          char what[256], char why[256])
{
    struct kernel_piece p;
    kernel_piece_get(t->kernel.model, lane, index, &p);
    who_of(t, &p, who);
    what_of(t, lane, &p, what);
    why_of(t, lane, &p, why);
}

void timeline_piece_tip(const struct timeline *t, struct ui *u, uint32_t lane, uint32_t index)
{
    const struct kernel_model *k = t->kernel.model;
    char who[256], what[256], why[256], fiber[300] = "", all[1100];
    struct kernel_piece p;
    kernel_piece_get(k, lane, index, &p);
    timeline_piece_lines(t, lane, index, who, what, why);
    uint32_t trace_lane =
        p.thread == KERNEL_NO_LANE ? TRACE_NO_LANE : k->lanes[p.thread].trace_lane;
    uint32_t span = trace_lane == TRACE_NO_LANE
                        ? TRACE_NO_SPAN
                        : kernel_span_at(t->model->spans, trace_lane, p.begin_ns);
    if (span != TRACE_NO_SPAN)
        timeline_fiber_name(t, trace_spans_fiber(t->model->spans, span), fiber, sizeof fiber);
    snprintf(all, sizeof all, "%s\n%s%s%s%s%s", who, what, *why ? "\n" : "", why,
             *fiber ? "\nit had " : "", fiber);
    ui_tip(u, all);
}

// What the chosen span lost, once for a choice: it may be long.
static const struct kernel_times *times_of(struct timeline *t)
{
    struct timeline_kernel *k = &t->kernel;
    uint32_t thread = t->links.thread;
    if (k->span == t->span)
        return &k->times;
    k->span = t->span;
    k->times = (struct kernel_times){0};
    if (thread != TRACE_NO_LANE)
        kernel_times_span(&k->times, k->model, thread, t->span, INT64_MIN, INT64_MAX);
    kernel_times_finish(&k->times);
    return &k->times;
}

bool timeline_lost_line(struct timeline *t, char text[400])
{
    if (!t->kernel.model || t->span == TRACE_NO_SPAN)
        return false;
    const struct kernel_times *times = times_of(t);
    char ns[TIMELINE_NS_MAX];
    size_t n = 0;
    for (int i = 0; i < KERNEL_CLASSES && n < 300; i++) {
        if (!times->ns[i])
            continue;
        n += (size_t)snprintf(text + n, 400 - n, "%s%s %s",
                              n ? ", " : "the kernel took: ", kernel_lost_name(i),
                              timeline_ns(ns, (double)times->ns[i]));
        if (i != KERNEL_DELAYED || !times->by_count)
            continue;
        snprintf(text + n, 400 - n, " (");
        add_by(times, 1, text, 300);
        n = strlen(text);
        n += (size_t)snprintf(text + n, 400 - n, ")");
    }
    return n;
}
