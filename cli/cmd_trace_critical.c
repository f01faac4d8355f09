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
    int64_t fiber;
    int64_t begin_ns, end_ns;
    bool is_chosen; // by us, as nothing was asked for
    char title[160];
};

// The longest of those with both ends in the trace; name: NULL, of all.
static const struct trace_task_span *longest_task(const struct trace_spans *s, const char *name,
                                                  bool *by_id)
{
    const struct trace_task_span *best = NULL;
    char *end = NULL;
    uint64_t id = name ? strtoull(name, &end, 10) : 0;
    *by_id = name && *name && !*end;
    for (uint32_t i = 0; i < s->task_count; i++) {
        const struct trace_task_span *t = &s->tasks[i];
        bool match =
            !name || (*by_id ? t->id == id : !strcmp(trace_names_text(&s->names, t->type), name));
        if (match && t->begins && t->ends && t->end_lane != TRACE_NO_LANE &&
            (!best || t->end_ns - t->begin_ns > best->end_ns - best->begin_ns))
            best = t;
    }
    return best;
}

static const struct trace_region_span *longest_region(const struct trace_spans *s, const char *name)
{
    const struct trace_region_span *best = NULL;
    for (uint32_t i = 0; i < s->region_count; i++) {
        const struct trace_region_span *r = &s->regions[i];
        bool match = !name || !strcmp(trace_names_text(&s->names, r->type), name);
        if (match && r->begins && r->ends &&
            (!best || r->end_ns - r->begin_ns > best->end_ns - best->begin_ns))
            best = r;
    }
    return best;
}

static int goal_of_task(const struct trace_spans *s, const struct trace_args *a, struct goal *g)
{
    bool by_id = false;
    const struct trace_task_span *best = longest_task(s, a->task, &by_id);
    if (!best && !a->task)
        return CLI_FAILURE;
    if (!best)
        return cli_fail_at(
            a->path,
            "no task %s with begin and end in it (`fiberscope trace tasks FILE` has "
            "the names, `fiberscope trace events --kind TaskBegin FILE` the numbers)",
            a->task);
    g->fiber = s->lanes[best->end_lane].id;
    g->begin_ns = best->begin_ns;
    g->end_ns = best->end_ns;
    snprintf(g->title, sizeof g->title, "task %" PRIu64 " \"%.100s\"%s", best->id,
             trace_names_text(&s->names, best->type),
             by_id     ? ""
             : a->task ? ", the longest of its name"
                       : ", the longest task");
    return CLI_OK;
}

static int goal_of_region(const struct trace_spans *s, const struct trace_args *a, struct goal *g)
{
    const struct trace_region_span *best = longest_region(s, a->region);
    if (!best && !a->region)
        return CLI_FAILURE;
    if (!best)
        return cli_fail_at(a->path,
                           "no region \"%s\" with begin and end in it (`fiberscope trace regions "
                           "FILE` lists them)",
                           a->region);
    g->fiber = s->lanes[best->lane].id;
    g->begin_ns = best->begin_ns;
    g->end_ns = best->end_ns;
    snprintf(g->title, sizeof g->title, "region \"%.100s\" of fiber %" PRId64 ", the longest %s",
             trace_names_text(&s->names, best->type), s->lanes[best->lane].id,
             a->region ? "of its name" : "region");
    return CLI_OK;
}

// A range ends for the fiber that is asked for, else for the one that ran last.
static int goal_of_range(const struct trace_spans *s, const struct trace_args *a, struct goal *g)
{
    uint32_t lane = TRACE_NO_LANE;
    g->begin_ns = s->begin_ns;
    g->end_ns = s->end_ns;
    if (a->fibers.count) {
        lane = trace_spans_lane(s, TRACE_RESOURCE_GOROUTINE, strtoll(a->fibers.items[0], NULL, 10));
        if (lane == TRACE_NO_LANE)
            return cli_fail_at(
                a->path, "no fiber %s in it (`fiberscope trace fibers --name '' FILE` lists them)",
                a->fibers.items[0]);
        g->end_ns = s->lanes[lane].end_ns < s->end_ns ? s->lanes[lane].end_ns : s->end_ns;
    } else {
        lane = trace_last_to_run(s, s->begin_ns, s->end_ns, &g->end_ns);
    }
    if (lane == TRACE_NO_LANE)
        return cli_fail("%s: no fiber runs in this range", a->path);
    g->fiber = s->lanes[lane].id;
    snprintf(g->title, sizeof g->title, "fiber %" PRId64 "%s", s->lanes[lane].id,
             a->fibers.count ? "" : ", the last that ran");
    return CLI_OK;
}

static bool is_of_runtime(const struct trace_spans *s, const struct trace_step *step)
{
    if (step->part != TRACE_PART_SYSCALL || step->span == TRACE_NO_SPAN)
        return false;
    const struct trace_stack *stack = trace_stacks_get(&s->stacks, trace_span_stack(s, step->span));
    return stack->count &&
           trace_name_is_system(trace_names_text(&s->names, stack->frames[0].function));
}

// A step of which a reader would not want a line: shorter than a hundredth of the path, or a system call that the
// runtime makes on its own account.
static bool is_short(const struct trace_spans *s, const struct trace_step *step, int64_t path_ns)
{
    return step->end_ns - step->begin_ns < path_ns / 100 || is_of_runtime(s, step);
}

// How many steps from the first on are one row.
static int row_of(const struct trace_spans *s, const struct trace_step *steps, int count,
                  int64_t path_ns)
{
    enum { FEW = 3 };
    int n = 0;
    while (n < count && is_short(s, &steps[n], path_ns))
        n++;
    return n > FEW ? n : 1;
}

// "12 short steps of 2 fibers: 3.2ms running, 12us runnable"
static void print_joined(FILE *out, const struct trace_input *in, const struct trace_step *steps,
                         int count)
{
    int64_t sums[TRACE_PARTS] = {0};
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX];
    bool is_one = true;
    for (int i = 0; i < count; i++) {
        sums[steps[i].part] += steps[i].end_ns - steps[i].begin_ns;
        is_one &= steps[i].lane == steps[0].lane;
    }
    fprintf(out, "%12s %10s  %d short steps of ", trace_at(a, in, steps->begin_ns),
            trace_ns(b, steps[count - 1].end_ns - steps->begin_ns), count);
    fputs(is_one ? "one fiber" : "several fibers", out);
    for (int p = 0, said = 0; p < TRACE_PARTS; p++)
        if (sums[p])
            fprintf(out, "%s %s %s", said++ ? "," : ":", trace_ns(a, sums[p]),
                    trace_part_name((enum trace_part)p));
    fputc('\n', out);
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
        const struct trace_stack *stack =
            trace_stacks_get(&s->stacks, trace_span_stack(s, step->span));
        const char *reason = trace_names_text(&s->names, trace_span_reason(s, step->span));
        if (*reason) {
            fputs(", ", out);
            trace_name_print(out, t, reason);
        }
        if (stack->count) {
            fputs(" in ", out);
            trace_name_print(out, t, trace_names_text(&s->names, stack->frames[0].function));
        }
    }
    if (step->part == TRACE_PART_UNKNOWN && l->count &&
        step->end_ns <= trace_span_begin_ns(s, l->first))
        fputs(": before its first event", out);
    else if (step->part == TRACE_PART_UNKNOWN)
        fputs(": the trace does not say", out);
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
    if (g->is_chosen)
        fputs(
            "(Chosen, as nothing was asked for: --task, --region, --fiber, --from and --to do.)\n",
            out);
    print_sums(out, steps, count);
    fprintf(out, "\n%12s %10s\n", "from", "for");
    bool is_whole = in->args->rows == 0;
    int64_t path_ns = g->end_ns - g->begin_ns;
    int total = 0, row = 0, hidden = 0;
    for (int i = 0; i < count; total++)
        i += is_whole ? 1 : row_of(s, &steps[i], count - i, path_ns);
    int first = total > rows ? total - rows : 0; // the end is what is asked about
    if (first)
        fprintf(out, "%12s %d row%s before these (-n 0: all)\n", "...", first,
                cli_s((uint64_t)first));
    for (int i = 0, n; i < count; i += n, row++) {
        n = is_whole ? 1 : row_of(s, &steps[i], count - i, path_ns);
        if (row >= first && n > 1)
            print_joined(out, in, &steps[i], n);
        else if (row >= first)
            print_step(out, &t, in, s, &steps[i]);
        hidden += n > 1;
    }
    if (hidden)
        fputs("\nShort is less than a hundredth of the path, or the runtime's own; -n 0 shows each "
              "step.\n",
              out);
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
            json_string(&j, "reason",
                        trace_names_text(&s->names, trace_span_reason(s, step->span)));
            trace_json_stack(&j, "stack", &s->names,
                             trace_stacks_get(&s->stacks, trace_span_stack(s, step->span)));
        }
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
}

static bool is_asked(const struct trace_args *a)
{
    return a->task || a->region || a->fibers.count || a->from_ns >= 0 || a->to_ns >= 0;
}

// The task or region; where nothing is asked for the longest task, else the longest region. Not found: the range is meant.
static int find_mark(const struct trace_spans *s, const struct trace_args *a, struct goal *g,
                     bool *is_found)
{
    *is_found = true;
    if (a->task)
        return goal_of_task(s, a, g);
    if (a->region)
        return goal_of_region(s, a, g);
    if (is_asked(a) || (goal_of_task(s, a, g) && goal_of_region(s, a, g)))
        *is_found = false;
    return CLI_OK;
}

// The goal and the spans up to it: of a task or region, it is found in a first reading, where the
// input can be read twice.
static int read_spans(struct trace_input *in, struct goal *g, struct trace_spans **s)
{
    const struct trace_args *a = in->args;
    unsigned marks = a->task        ? TRACE_KEEP_TASKS
                     : a->region    ? TRACE_KEEP_REGIONS
                     : !is_asked(a) ? TRACE_KEEP_TASKS | TRACE_KEEP_REGIONS
                                    : 0;
    bool twice = marks && in->repeats, is_found = false;
    struct trace_spans_options so = {.keep = twice ? marks : marks | TRACE_KEEP_SPANS,
                                     .type = a->region};
    g->is_chosen = !is_asked(a);
    int status = trace_input_spans(in, &so, s);
    if (!status)
        status = find_mark(*s, a, g, &is_found);
    if (!status && twice) {
        trace_spans_free(*s);
        *s = NULL;
        status = trace_input_again(in);
        in->from_ns = is_found ? g->begin_ns : in->from_ns;
        in->to_ns = is_found ? g->end_ns : in->to_ns;
        so = (struct trace_spans_options){.keep = TRACE_KEEP_SPANS};
        status = status ? status : trace_input_spans(in, &so, s);
    }
    return status || is_found ? status : goal_of_range(*s, a, g);
}

// The last of the goal's number, which may come again, that was there before the end.
static uint32_t lane_of(const struct trace_spans *s, const struct goal *g)
{
    uint32_t lane = trace_spans_lane(s, TRACE_RESOURCE_GOROUTINE, g->fiber);
    for (uint32_t next = lane + 1;
         next < s->kind_first[TRACE_RESOURCE_PROC] && s->lanes[next].id == g->fiber &&
         trace_spans_before(s, next, g->end_ns) != TRACE_NO_SPAN;
         next++)
        lane = next;
    return lane;
}

int trace_report_critical(const struct trace_args *a)
{
    struct trace_spans *s = NULL;
    struct trace_step *steps = NULL;
    struct profile_output o;
    struct trace_input in;
    struct goal g = {0};
    int count = 0;
    if (!!a->task + !!a->region + (a->fibers.count > 0) > 1 || a->fibers.count > 1)
        return cli_usage("critical: one of --task, --region, --fiber");
    int status = trace_input_open(&in, a);
    if (!status)
        status = read_spans(&in, &g, &s);
    if (!status) {
        count = trace_critical(s, lane_of(s, &g), g.begin_ns, g.end_ns, 0, &steps);
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
