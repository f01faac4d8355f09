// SPDX-License-Identifier: MIT
//
// fiberscope trace fibers, fiber N: by start function, one by one, or one alone.

#include "cli/trace_report.h"
#include "cli/trace_tables.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

// The heaviest fibers of a name: a heap whose root is the lightest of those kept.
struct kept {
    const struct trace_args *args;
    struct trace_summary *summary; // whose names they have
    struct trace_fiber *fibers;    // [count], own copies of waits
    uint32_t count, capacity, rows;
    uint64_t seen;
    bool one; // only fiber `id`
    int64_t id;
    int rc;
};

static int64_t weight(const char *sort, const struct trace_times *t)
{
    switch (sort ? sort[0] : 'r') {
    case 't': return t->total_ns;
    case 'b': return t->blocked_ns;
    case 's': return t->syscall_ns + t->syscall_blocked_ns;
    default: return sort && !strcmp(sort, "runnable") ? t->runnable_ns : t->running_ns;
    }
}

static bool lighter(const struct kept *k, uint32_t a, uint32_t b)
{
    return weight(k->args->sort, &k->fibers[a].times) < weight(k->args->sort, &k->fibers[b].times);
}

static void swap(struct kept *k, uint32_t a, uint32_t b)
{
    struct trace_fiber f = k->fibers[a];
    k->fibers[a] = k->fibers[b];
    k->fibers[b] = f;
}

static void sift_down(struct kept *k, uint32_t i)
{
    for (;;) {
        uint32_t least = i, left = 2 * i + 1;
        if (left < k->count && lighter(k, left, least))
            least = left;
        if (left + 1 < k->count && lighter(k, left + 1, least))
            least = left + 1;
        if (least == i)
            return;
        swap(k, i, least);
        i = least;
    }
}

static int store(struct kept *k, uint32_t at, const struct trace_fiber *f)
{
    struct trace_times times = k->fibers[at].times;
    k->fibers[at] = *f;
    k->fibers[at].times = times;
    return trace_times_copy(&k->fibers[at].times, &f->times);
}

static void keep(void *context, const struct trace_fiber *f)
{
    struct kept *k = context;
    bool wanted =
        k->one ? f->id == k->id
               : trace_name_matches(trace_names_text(&k->summary->names, f->name), k->args->name);
    if (!wanted || k->rc)
        return;
    k->seen++;
    if (k->count == k->rows) {
        if (weight(k->args->sort, &f->times) <= weight(k->args->sort, &k->fibers[0].times))
            return;
        k->rc = store(k, 0, f);
        sift_down(k, 0);
        return;
    }
    if (k->count == k->capacity) {
        uint32_t capacity = k->capacity ? 2 * k->capacity : 32;
        struct trace_fiber *more = realloc(k->fibers, capacity * sizeof *more);
        if (!more) {
            k->rc = -ENOMEM;
            return;
        }
        memset(more + k->capacity, 0, (capacity - k->capacity) * sizeof *more);
        k->fibers = more;
        k->capacity = capacity;
    }
    k->rc = store(k, k->count, f);
    for (uint32_t i = k->count++; i && lighter(k, i, (i - 1) / 2); i = (i - 1) / 2)
        swap(k, i, (i - 1) / 2);
}

static void free_kept(struct kept *k)
{
    for (uint32_t i = 0; i < k->capacity; i++)
        trace_times_finish(&k->fibers[i].times);
    free(k->fibers);
}

// Heaviest first: takes the lightest off the heap, from the end.
static void order(struct kept *k)
{
    uint32_t all = k->count;
    while (k->count > 1) {
        swap(k, 0, --k->count);
        sift_down(k, 0);
    }
    k->count = all;
}

static void print_fibers(FILE *out, const struct trace_input *in, const struct kept *k)
{
    struct terminal t = terminal_of(out);
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX], c[TRACE_NS_MAX], d[TRACE_NS_MAX], e[TRACE_NS_MAX];
    fprintf(out, "%10s %12s %10s %10s %10s %10s %10s\n", "fiber", "begins", "lives", "running",
            "runnable", "blocked", "syscall");
    for (uint32_t i = 0; i < k->count; i++) {
        const struct trace_fiber *f = &k->fibers[i];
        const struct trace_times *x = &f->times;
        fprintf(out, "%10" PRId64 " %12s ", f->id, trace_at(a, in, f->created_ns));
        fprintf(out, "%10s %10s %10s %10s %10s  ", trace_ns(a, x->total_ns),
                trace_ns(b, x->running_ns), trace_ns(c, x->runnable_ns), trace_ns(d, x->blocked_ns),
                trace_ns(e, x->syscall_ns + x->syscall_blocked_ns));
        trace_name_print(out, &t, trace_names_text(&k->summary->names, f->name));
        fputc('\n', out);
    }
    if (k->seen > k->count)
        fprintf(out, "%10s %" PRIu64 " more (-n 0: all)\n", "...", k->seen - k->count);
}

static void json_fiber(struct json *j, const struct trace_input *in, const struct trace_summary *s,
                       const struct trace_fiber *f)
{
    json_int(j, "fiber", f->id);
    json_string(j, "function", trace_names_text(&s->names, f->name));
    json_int(j, "created_ns", f->created_ns - in->base_ns);
    json_int(j, "creator", f->creator);
    if (f->first_run_ns != INT64_MIN)
        json_int(j, "first_run_ns", f->first_run_ns - in->base_ns);
    if (f->ended_ns != INT64_MIN)
        json_int(j, "ended_ns", f->ended_ns - in->base_ns);
    trace_json_times(j, s, &f->times);
    trace_json_moments(j, &f->moments);
    json_int(j, "longest_run_ns", f->run.ns);
    json_int(j, "longest_runnable_ns", f->wait.ns);
}

// s->functions in the order of --sort.
static const char *sort_word;

static int by_weight(const void *x, const void *y)
{
    const struct trace_function *a = *(const struct trace_function *const *)x;
    const struct trace_function *b = *(const struct trace_function *const *)y;
    int64_t p = weight(sort_word, &a->times), q = weight(sort_word, &b->times);
    return p != q ? (p < q ? 1 : -1) : (a->name > b->name) - (a->name < b->name);
}

static void print(FILE *out, const struct trace_input *in, struct kept *k)
{
    const struct trace_args *a = in->args;
    struct trace_summary *s = k->summary;
    struct json j = {.out = out};
    order(k);
    sort_word = a->sort;
    if (s->function_count)
        qsort(s->functions, s->function_count, sizeof *s->functions, by_weight);
    if (a->json) {
        json_open(&j, NULL, '{');
        if (a->name) {
            json_open(&j, "fibers", '[');
            for (uint32_t i = 0; i < k->count; i++) {
                json_open(&j, NULL, '{');
                json_fiber(&j, in, s, &k->fibers[i]);
                json_close(&j, '}');
            }
            json_close(&j, ']');
        } else {
            trace_json_functions(&j, s);
        }
        json_close(&j, '}');
    } else if (a->name) {
        print_fibers(out, in, k);
    } else {
        trace_print_functions(out, s, s->functions, s->function_count,
                              a->rows > 0 ? (uint32_t)a->rows : UINT32_MAX);
    }
}

int trace_report_fibers(const struct trace_args *a)
{
    struct kept k = {.args = a,
                     .rows = a->rows < 0 ? 50
                             : a->rows   ? (uint32_t)a->rows
                                         : UINT32_MAX};
    struct trace_summary_options opts = {.context = &k, .fiber = a->name ? keep : NULL};
    struct profile_output o;
    struct trace_input in;
    char there[TRACE_THERE_MAX];
    int status = trace_input_open(&in, a);
    if (!status)
        status = trace_input_summary(&in, &opts, &k.summary);
    if (!status && k.rc)
        status = cli_fail("%s", strerror(-k.rc));
    if (!status && a->name && !k.count)
        status =
            cli_fail_at(a->path,
                        "no fiber's start function has \"%s\" in its name; %s (`fiberscope trace "
                        "fibers FILE` lists the functions)",
                        a->name, trace_there(there, &in));
    if (!status && !(status = profile_output_open(&o, a->output))) {
        print(o.out, &in, &k);
        status = profile_output_close(&o, true);
    }
    free_kept(&k);
    trace_summary_free(k.summary);
    trace_input_close(&in);
    return status;
}

// --- One fiber.

struct one {
    const struct trace_fiber *fiber; // NULL: it is not in the trace
    const struct trace_summary *summary;
    const struct trace_spans *spans;
    uint32_t *longest; // [count] of its spans, without running ones, longest first
    uint32_t count, lane;
};

// Where the span begins inside the range; it ends there anyway.
static int64_t begin_of(const struct one *f, uint32_t span)
{
    int64_t begin_ns = trace_span_begin_ns(f->spans, span);
    return begin_ns > f->spans->begin_ns ? begin_ns : f->spans->begin_ns;
}

static int64_t length_of(const struct one *f, uint32_t span)
{
    return trace_span_end_ns(f->spans, f->lane, span) - begin_of(f, span);
}

// No end of it is seen: the fiber's last span, and the fiber lives on.
static bool is_open(const struct one *f, uint32_t span)
{
    const struct trace_lane *l = &f->spans->lanes[f->lane];
    return span + 1 == l->first + l->count && f->fiber->ended_ns == INT64_MIN;
}

static int by_length(const void *x, const void *y, void *one)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    int64_t p = length_of(one, a), q = length_of(one, b);
    return p != q ? (p < q ? 1 : -1) : (a > b) - (a < b);
}

static int find_longest(struct one *f, int64_t id, uint32_t rows)
{
    const struct trace_spans *s = f->spans;
    f->lane = trace_spans_lane(s, TRACE_RESOURCE_GOROUTINE, id);
    const struct trace_lane *l = f->lane == TRACE_NO_LANE ? NULL : &s->lanes[f->lane];
    f->longest = calloc((l ? l->count : 0) + 1ull, sizeof *f->longest);
    if (!f->longest)
        return -ENOMEM;
    for (uint32_t i = 0; l && i < l->count; i++) {
        if (trace_span_state(s, l->first + i) != TRACE_GO_RUNNING)
            f->longest[f->count++] = l->first + i;
    }
    qsort_r(f->longest, f->count, sizeof *f->longest, by_length, f);
    f->count = f->count < rows ? f->count : rows;
    return 0;
}

// Who ended the span, or made the fiber runnable; NULL: not a fiber.
static const struct trace_lane *other_of(const struct one *f, uint32_t span)
{
    uint32_t peer = trace_span_peer(f->spans, f->lane, span);
    bool fiber =
        peer != TRACE_NO_LANE && trace_spans_lane_kind(f->spans, peer) == TRACE_RESOURCE_GOROUTINE;
    return fiber ? &f->spans->lanes[peer] : NULL;
}

static void print_span(FILE *out, const struct trace_input *in, const struct one *f, uint32_t i)
{
    const struct trace_spans *s = f->spans;
    struct terminal t = terminal_of(out);
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX];
    fprintf(out, "\n%12s %s from %s", trace_ns(a, length_of(f, i)),
            trace_go_state_name(trace_span_state(s, i)), trace_at(b, in, begin_of(f, i)));
    if (trace_span_begin_ns(s, i) < begin_of(f, i))
        fprintf(out, " (begun at %s)", trace_at(b, in, trace_span_begin_ns(s, i)));
    if (is_open(f, i))
        fputs(" to the end", out);
    const char *reason = trace_names_text(&s->names, trace_span_reason(s, i));
    if (*reason) {
        fputs(", ", out);
        terminal_print(out, &t, reason, 0);
    }
    bool waits = trace_span_state(s, i) == TRACE_GO_WAITING;
    const struct trace_lane *other = other_of(f, i);
    uint32_t end_stack = trace_span_end_stack(s, f->lane, i);
    if (other) {
        fprintf(out, "; %s by fiber %" PRId64 " ", waits ? "ended" : "made so", other->id);
        trace_name_print(out, &t, trace_names_text(&s->names, other->name));
    }
    fputc('\n', out);
    trace_stack_print(out, &t, &s->names, trace_stacks_get(&s->stacks, trace_span_stack(s, i)), 16,
                      8);
    if (waits && end_stack) {
        fprintf(out, "%14s\n", "woken in");
        trace_stack_print(out, &t, &s->names, trace_stacks_get(&s->stacks, end_stack), 16, 8);
    }
}

static void print_one(FILE *out, const struct trace_input *in, const struct one *f)
{
    const struct trace_fiber *x = f->fiber;
    const struct trace_moments *m = &x->moments;
    struct terminal t = terminal_of(out);
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX];
    fprintf(out, "fiber %" PRId64 " ", x->id);
    trace_name_print(out, &t, trace_names_text(&f->summary->names, x->name));
    if (x->creator == TRACE_NONE)
        fprintf(out, "\n  there when the trace begins");
    else
        fprintf(out, "\n  started by fiber %" PRId64 " at %s", x->creator,
                trace_at(a, in, x->created_ns));
    if (x->ended_ns == INT64_MIN)
        fprintf(out, ", alive at the end (%s for %s)\n", trace_go_state_name(x->state),
                trace_ns(b, x->state_ns));
    else
        fprintf(out, ", ended at %s\n", trace_at(b, in, x->ended_ns));
    const struct {
        const char *word;
        int64_t ns;
    } rows[] = {{"in the trace", x->times.total_ns},
                {"running", x->times.running_ns},
                {"runnable", x->times.runnable_ns},
                {"in system calls", x->times.syscall_ns},
                {"the same, without a Proc", x->times.syscall_blocked_ns}};
    for (size_t i = 0; i < CLI_COUNT(rows); i++)
        fprintf(out, "%12s %7s  %s\n", trace_ns(a, rows[i].ns),
                trace_share(b, (double)rows[i].ns, (double)x->times.total_ns), rows[i].word);
    for (uint32_t i = 0; i < x->times.wait_count; i++) {
        const struct trace_wait *w = &x->times.waits[i];
        if (!w->count && !w->ns) // it only went out of such a wait as the range began
            continue;
        fprintf(out, "%12s %7s  blocked: ", trace_ns(a, w->ns),
                trace_share(b, (double)w->ns, (double)x->times.total_ns));
        trace_wait_print(out, &t, &f->summary->names, w);
        fputc('\n', out);
    }
    fprintf(out,
            "  ran %" PRIu64 " time%s (at most %s), yielded %" PRIu64 ", preempted %" PRIu64
            ", woke others %" PRIu64 ", started %" PRIu64 "\n",
            m->runs, cli_s(m->runs), trace_ns(a, x->run.ns), m->yields, m->preemptions, m->wakes,
            m->creates);
    for (uint32_t i = 0; i < f->count; i++)
        print_span(out, in, f, f->longest[i]);
}

static void json_one(FILE *out, const struct trace_input *in, const struct one *f)
{
    const struct trace_spans *s = f->spans;
    struct json j = {.out = out};
    json_open(&j, NULL, '{');
    json_fiber(&j, in, f->summary, f->fiber);
    json_open(&j, "longest", '[');
    for (uint32_t k = 0; k < f->count; k++) {
        uint32_t i = f->longest[k];
        const struct trace_lane *other = other_of(f, i);
        json_open(&j, NULL, '{');
        json_int(&j, "ns", length_of(f, i));
        json_int(&j, "at_ns", begin_of(f, i) - in->base_ns);
        json_int(&j, "begun_ns", trace_span_begin_ns(s, i) - in->base_ns);
        json_bool(&j, "ended", !is_open(f, i));
        json_string(&j, "state", trace_go_state_name(trace_span_state(s, i)));
        json_string(&j, "reason", trace_names_text(&s->names, trace_span_reason(s, i)));
        if (other)
            json_int(&j, "by", other->id);
        trace_json_stack(&j, "stack", &s->names,
                         trace_stacks_get(&s->stacks, trace_span_stack(s, i)));
        trace_json_stack(&j, "end_stack", &s->names,
                         trace_stacks_get(&s->stacks, trace_span_end_stack(s, f->lane, i)));
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
}

// Its figures and its spans, in one reading.
static int read_both(struct trace_input *in, struct kept *k, struct trace_spans **spans)
{
    struct trace_summary_options opts = {.size = sizeof opts,
                                         .from_ns = in->from_ns,
                                         .to_ns = in->to_ns,
                                         .context = k,
                                         .fiber = keep,
                                         .bytes_max = in->args->memory_bytes};
    const struct trace_interval its = {INT64_MIN, INT64_MAX, k->id};
    const struct trace_spans_options so = {.size = sizeof so,
                                           .from_ns = in->from_ns,
                                           .to_ns = in->to_ns,
                                           .keep = TRACE_KEEP_SPANS,
                                           .intervals = &its,
                                           .interval_count = 1};
    const struct trace_event *ev;
    int got = 0, rc = trace_summary_new(&k->summary, &opts);
    if (!rc)
        rc = trace_spans_new(spans, &so);
    while (!rc && (got = trace_input_next(in, &ev)) > 0) {
        rc = trace_summary_event(k->summary, in->reader, ev);
        rc = rc ? rc : trace_spans_event(*spans, in->reader, ev);
    }
    if (got < 0)
        return CLI_FAILURE;
    rc = rc ? rc : trace_summary_finish(k->summary);
    if (rc == -EFBIG)
        return trace_input_fail_summary(in, k->summary, rc);
    rc = rc ? rc : trace_spans_finish(*spans);
    rc = rc ? rc : k->rc;
    return rc ? cli_fail("%s: %s", in->args->path, strerror(-rc)) : CLI_OK;
}

int trace_report_fiber(const struct trace_args *a)
{
    struct kept k = {.args = a, .rows = 1, .one = true};
    struct trace_spans *spans = NULL;
    struct profile_output o;
    struct trace_input in;
    char there[TRACE_THERE_MAX];
    struct one f = {0};
    if (trace_number(a->operand, "a fiber's number", &k.id))
        return CLI_USAGE;
    int status = trace_input_open(&in, a);
    if (!status)
        status = read_both(&in, &k, &spans);
    if (!status && !k.count)
        status =
            cli_fail_at(a->path,
                        "no fiber %" PRId64 " in it; %s (`fiberscope trace fibers --name '' FILE` "
                        "lists them)",
                        k.id, trace_there(there, &in));
    f = (struct one){.fiber = k.fibers, .summary = k.summary, .spans = spans};
    uint32_t rows = a->rows < 0 ? 8 : a->rows ? (uint32_t)a->rows : UINT32_MAX;
    if (!status && find_longest(&f, k.id, rows))
        status = cli_fail("out of memory");
    if (!status && !(status = profile_output_open(&o, a->output))) {
        if (a->json)
            json_one(o.out, &in, &f);
        else
            print_one(o.out, &in, &f);
        status = profile_output_close(&o, true);
    }
    free(f.longest);
    free_kept(&k);
    trace_spans_free(spans);
    trace_summary_free(k.summary);
    trace_input_close(&in);
    return status;
}
