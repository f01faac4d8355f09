// SPDX-License-Identifier: MIT
//
// fiberscope trace critical: what the end of a task, a region or a range had to wait for.

#include "analysis/trace/critical.h"
#include "cli/trace_report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct goal { // whose end, and from when
    uint32_t lane;
    int64_t begin_ns, end_ns;
    char title[160];
};

static int goal_of_task(const struct trace_spans *s, const struct trace_args *a, struct goal *g)
{
    const struct trace_task_span *best = NULL;
    char *end;
    uint64_t id = strtoull(a->task, &end, 10);
    bool by_id = *a->task && !*end;
    for (uint32_t i = 0; i < s->task_count; i++) {
        const struct trace_task_span *t = &s->tasks[i];
        bool match = by_id ? t->id == id : !strcmp(trace_names_text(&s->names, t->type), a->task);
        if (match && t->begins && t->ends && t->end_lane != TRACE_NO_LANE &&
            (!best || t->end_ns - t->begin_ns > best->end_ns - best->begin_ns))
            best = t;
    }
    if (!best)
        return cli_fail("%s: no task %s with begin and end in it (`fiberscope trace tasks` lists "
                        "them)",
                        a->path, a->task);
    g->lane = best->end_lane;
    g->begin_ns = best->begin_ns;
    g->end_ns = best->end_ns;
    snprintf(g->title, sizeof g->title, "task %" PRIu64 " \"%.100s\"%s", best->id,
             trace_names_text(&s->names, best->type), by_id ? "" : ", the longest of its name");
    return CLI_OK;
}

static int goal_of_region(const struct trace_spans *s, const struct trace_args *a, struct goal *g)
{
    const struct trace_region_span *best = NULL;
    for (uint32_t i = 0; i < s->region_count; i++) {
        const struct trace_region_span *r = &s->regions[i];
        if (r->begins && r->ends && !strcmp(trace_names_text(&s->names, r->type), a->region) &&
            (!best || r->end_ns - r->begin_ns > best->end_ns - best->begin_ns))
            best = r;
    }
    if (!best)
        return cli_fail("%s: no region \"%s\" with begin and end in it (`fiberscope trace regions` "
                        "lists them)",
                        a->path, a->region);
    g->lane = best->lane;
    g->begin_ns = best->begin_ns;
    g->end_ns = best->end_ns;
    snprintf(g->title, sizeof g->title,
             "region \"%.100s\" of fiber %" PRId64 ", the longest of its name", a->region,
             s->lanes[best->lane].id);
    return CLI_OK;
}

// A range ends for the fiber that is asked for, else for the one that ran last.
static int goal_of_range(const struct trace_spans *s, const struct trace_args *a, struct goal *g)
{
    uint32_t lane = TRACE_NO_LANE;
    int64_t last_ns = INT64_MIN;
    if (a->fibers.count) {
        lane = trace_spans_lane(s, TRACE_RESOURCE_GOROUTINE, strtoll(a->fibers.items[0], NULL, 10));
        if (lane == TRACE_NO_LANE)
            return cli_fail("%s: no fiber %s in it", a->path, a->fibers.items[0]);
    }
    for (uint32_t i = 0; i < s->lane_count && !a->fibers.count; i++) {
        const struct trace_lane *l = &s->lanes[i];
        if (l->kind != TRACE_RESOURCE_GOROUTINE || !l->count ||
            trace_name_is_system(trace_names_text(&s->names, l->name)))
            continue;
        uint32_t k = l->first + l->count;
        while (k > l->first && s->state[k - 1] != TRACE_GO_RUNNING)
            k--;
        if (k > l->first && s->span_end_ns[k - 1] > last_ns) {
            last_ns = s->span_end_ns[k - 1];
            lane = i;
        }
    }
    if (lane == TRACE_NO_LANE)
        return cli_fail("%s: no fiber runs in this range", a->path);
    g->lane = lane;
    g->begin_ns = s->begin_ns;
    g->end_ns = s->lanes[lane].end_ns < s->end_ns ? s->lanes[lane].end_ns : s->end_ns;
    snprintf(g->title, sizeof g->title, "fiber %" PRId64 "%s", s->lanes[lane].id,
             a->fibers.count ? "" : ", the last that ran");
    return CLI_OK;
}

static void print_step(FILE *out, const struct terminal *t, const struct trace_input *in,
                       const struct trace_spans *s, const struct trace_step *step)
{
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX];
    const struct trace_lane *l = &s->lanes[step->lane];
    fprintf(out, "%12s %10s  %-9s fiber %" PRId64 " ", trace_at(a, in, step->begin_ns),
            trace_ns(b, step->end_ns - step->begin_ns), trace_part_name(step->part), l->id);
    trace_name_print(out, t, trace_names_text(&s->names, l->name));
    if (step->span != TRACE_NO_SPAN && step->part != TRACE_PART_RUNNING) {
        const struct trace_stack *stack = trace_stacks_get(&s->stacks, s->stack[step->span]);
        const char *reason = trace_names_text(&s->names, s->reason[step->span]);
        if (*reason) {
            fputs(", ", out);
            terminal_print(out, t, reason, 0);
        }
        if (stack->count) {
            fputs(" in ", out);
            trace_name_print(out, t, trace_names_text(&s->names, stack->frames[0].function));
        }
    }
    fputc('\n', out);
}

static void print_sums(FILE *out, const struct trace_step *steps, int count)
{
    int64_t sums[TRACE_PARTS] = {0}, whole = 0;
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX];
    for (int i = 0; i < count; i++) {
        sums[steps[i].part] += steps[i].end_ns - steps[i].begin_ns;
        whole += steps[i].end_ns - steps[i].begin_ns;
    }
    for (int p = 0; p < TRACE_PARTS; p++) {
        if (sums[p])
            fprintf(out, "%12s %10s  %s\n", trace_ns(a, sums[p]),
                    trace_share(b, (double)sums[p], (double)whole),
                    trace_part_name((enum trace_part)p));
    }
}

static void print(FILE *out, const struct trace_input *in, const struct trace_spans *s,
                  const struct goal *g, const struct trace_step *steps, int count)
{
    struct terminal t = terminal_of(out);
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX];
    int rows = in->args->rows < 0 ? 60 : in->args->rows ? (int)in->args->rows : count;
    fputs("Critical path to the end of ", out);
    terminal_print(out, &t, g->title, 0);
    fprintf(out, ": %s from %s on\n", trace_ns(a, g->end_ns - g->begin_ns),
            trace_at(b, in, g->begin_ns));
    print_sums(out, steps, count);
    fprintf(out, "\n%12s %10s\n", "from", "for");
    int first = count > rows ? count - rows : 0; // the end is what is asked about
    if (first)
        fprintf(out, "%12s %d steps before these (-n 0: all)\n", "...", first);
    for (int i = first; i < count; i++)
        print_step(out, &t, in, s, &steps[i]);
}

static void print_json(FILE *out, const struct trace_input *in, const struct trace_spans *s,
                       const struct goal *g, const struct trace_step *steps, int count)
{
    struct json j = {.out = out};
    json_open(&j, NULL, '{');
    json_string(&j, "of", g->title);
    json_int(&j, "begin_ns", g->begin_ns - in->base_ns);
    json_int(&j, "ns", g->end_ns - g->begin_ns);
    json_open(&j, "steps", '[');
    for (int i = 0; i < count; i++) {
        const struct trace_step *step = &steps[i];
        json_open(&j, NULL, '{');
        json_int(&j, "at_ns", step->begin_ns - in->base_ns);
        json_int(&j, "ns", step->end_ns - step->begin_ns);
        json_string(&j, "part", trace_part_name(step->part));
        json_int(&j, "fiber", s->lanes[step->lane].id);
        json_string(&j, "function", trace_names_text(&s->names, s->lanes[step->lane].name));
        if (step->span != TRACE_NO_SPAN) {
            json_string(&j, "reason", trace_names_text(&s->names, s->reason[step->span]));
            trace_json_stack(&j, "stack", &s->names,
                             trace_stacks_get(&s->stacks, s->stack[step->span]));
        }
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
}

static int find_goal(const struct trace_spans *s, const struct trace_args *a, struct goal *g)
{
    if (a->task)
        return goal_of_task(s, a, g);
    return a->region ? goal_of_region(s, a, g) : goal_of_range(s, a, g);
}

int trace_report_critical(const struct trace_args *a)
{
    struct trace_spans *s = NULL;
    struct trace_step *steps = NULL;
    struct profile_output o;
    struct trace_input in;
    struct goal g;
    int count = 0;
    if (!!a->task + !!a->region + (a->fibers.count > 0) > 1 || a->fibers.count > 1)
        return cli_usage("critical: one of --task, --region, --fiber");
    int status = trace_input_open(&in, a);
    if (!status)
        status = trace_input_spans(&in, &s);
    if (!status)
        status = find_goal(s, a, &g);
    if (!status) {
        count = trace_critical(s, g.lane, g.begin_ns, g.end_ns, 0, &steps);
        if (count < 0)
            status = cli_fail("%s", strerror(-count));
    }
    if (!status && !(status = profile_output_open(&o, a->output))) {
        if (a->json)
            print_json(o.out, &in, s, &g, steps, count);
        else
            print(o.out, &in, s, &g, steps, count);
        status = profile_output_close(&o, true);
    }
    free(steps);
    trace_spans_free(s);
    trace_input_close(&in);
    return status;
}
