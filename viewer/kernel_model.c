// SPDX-License-Identifier: MIT
//
// See kernel_model.h.

#include "viewer/kernel_model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK_LANES = 4096, LOOK_BACK = 256, LOOK_EACH = 64 };

static const char process_word[] = "process ";

// The file of a thread's outermost frame is its process; NULL: no span of the lane has a stack.
static const char *process_of(const struct trace_spans *s, uint32_t lane)
{
    const struct trace_lane *l = &s->lanes[lane];
    for (uint32_t i = l->first; i < l->first + l->count; i++) {
        const struct trace_stack *stack = trace_stacks_get(&s->stacks, s->stack[i]);
        if (stack->count)
            return trace_names_text(&s->names, stack->frames[stack->count - 1].file);
    }
    return NULL;
}

static bool is_process(const char *file)
{
    return file && !strncmp(file, process_word, sizeof process_word - 1);
}

bool kernel_trace_is(const struct trace_spans *s)
{
    uint32_t fibers = s->kind_first[TRACE_RESOURCE_PROC];
    for (uint32_t lane = 0; lane < fibers && lane < LOOK_LANES; lane++) {
        const char *process = process_of(s, lane);
        if (process)
            return is_process(process);
    }
    return false;
}

const char *kernel_class_name(int class)
{
    static const char *const names[KERNEL_CLASSES] = {"off the CPU", "running", "system call",
                                                      "page fault",  "asleep",  "running"};
    return class >= 0 && class < KERNEL_CLASSES ? names[class] : "";
}

const char *kernel_lost_name(int class)
{
    static const char *const names[KERNEL_CLASSES] = {
        "off the CPU", "", "system calls", "page faults", "asleep in them", ""};
    return class >= 0 && class < KERNEL_CLASSES ? names[class] : "";
}

// --- Which lanes there are.

struct found { // a lane of one file
    int64_t id, order;
    uint32_t part, lane;
};

static int by_id(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    if (x->part != y->part)
        return x->part < y->part ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

// Those of one kind in all files, by id; a thread's is the lower half of its fiber's.
static int find_lanes(const struct kernel_model *k, uint8_t kind, struct found **out,
                      uint32_t *count)
{
    size_t all = 1, n = 0;
    for (uint32_t p = 0; p < k->part_count; p++) {
        const struct trace_spans *s = k->parts[p]->spans;
        all += s->kind_first[kind + 1] - s->kind_first[kind];
    }
    struct found *f = malloc(all * sizeof *f);
    *out = f;
    if (!f)
        return -ENOMEM;
    for (uint32_t p = 0; p < k->part_count; p++) {
        const struct trace_spans *s = k->parts[p]->spans;
        for (uint32_t lane = s->kind_first[kind]; lane < s->kind_first[kind + 1]; lane++) {
            int64_t id = s->lanes[lane].id;
            f[n++] = (struct found){kind == TRACE_RESOURCE_GOROUTINE ? id & UINT32_MAX : id, id, p,
                                    lane};
        }
    }
    qsort(f, n, sizeof *f, by_id);
    *count = (uint32_t)n;
    return 0;
}

static int add_lanes(struct kernel_model *k, const struct found *f, uint32_t count)
{
    uint32_t ids = 0;
    for (uint32_t i = 0; i < count; i++)
        ids += !i || f[i].id != f[i - 1].id;
    struct kernel_lane *more =
        reallocarray(k->lanes, k->lane_count + ids + (size_t)1, sizeof *more);
    if (!more)
        return -ENOMEM;
    k->lanes = more;
    for (uint32_t i = 0, n; i < count; i += n) {
        struct kernel_lane *l = &k->lanes[k->lane_count++];
        for (n = 1; i + n < count && f[i + n].id == f[i].id; n++)
            ;
        *l = (struct kernel_lane){.id = f[i].id, .trace_lane = TRACE_NO_LANE};
        l->sources = calloc(n, sizeof *l->sources);
        if (!l->sources)
            return -ENOMEM;
        for (; l->source_count < n; l->source_count++)
            l->sources[l->source_count] =
                (struct kernel_source){f[i + l->source_count].part, f[i + l->source_count].lane, 0};
    }
    return 0;
}

static int make_lanes(struct kernel_model *k)
{
    struct found *cpus = NULL, *threads = NULL;
    uint32_t cpu_count, thread_count;
    int rc = find_lanes(k, TRACE_RESOURCE_PROC, &cpus, &cpu_count);
    rc = rc ? rc : add_lanes(k, cpus, cpu_count);
    k->cpu_count = k->lane_count;
    rc = rc ? rc : find_lanes(k, TRACE_RESOURCE_GOROUTINE, &threads, &thread_count);
    rc = rc ? rc : add_lanes(k, threads, thread_count);
    free(cpus);
    free(threads);
    return rc;
}

// --- Threads of both.

static struct kernel_lane *thread_of(const struct kernel_model *k, int64_t id)
{
    uint32_t low = k->cpu_count, high = k->lane_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (k->lanes[mid].id < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low < k->lane_count && k->lanes[low].id == id ? &k->lanes[low] : NULL;
}

static const char *process_of_thread(const struct kernel_model *k, const struct kernel_lane *l)
{
    const char *process = NULL;
    for (uint32_t i = 0; !process && i < l->source_count; i++)
        process = process_of(k->parts[l->sources[i].part]->spans, l->sources[i].lane);
    return is_process(process) ? process : "";
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool goes_on(const struct kernel_model_watch *w, uint32_t done)
{
    return !w || done % LOOK_EACH || w->goes_on(w->context);
}

// programs: [k->known] processes of the threads that both have.
static int mark_programs(struct kernel_model *k, const char **programs,
                         const struct kernel_model_watch *w)
{
    uint32_t n = 0;
    for (uint32_t t = k->cpu_count; t < k->lane_count; t++)
        if (k->lanes[t].trace_lane != TRACE_NO_LANE)
            programs[n++] = process_of_thread(k, &k->lanes[t]);
    qsort(programs, n, sizeof *programs, by_text);
    for (uint32_t t = k->cpu_count; t < k->lane_count; t++) {
        struct kernel_lane *l = &k->lanes[t];
        const char *its = process_of_thread(k, l);
        l->is_program = l->trace_lane != TRACE_NO_LANE ||
                        (*its && bsearch(&its, programs, n, sizeof *programs, by_text));
        if (!goes_on(w, t))
            return -ECANCELED;
    }
    return 0;
}

static int match_threads(struct kernel_model *k, const struct kernel_model_watch *w)
{
    const struct trace_spans *s = k->trace->spans;
    uint32_t first = s->kind_first[TRACE_RESOURCE_THREAD], n = s->lane_count - first;
    k->lane_of = malloc((n + (size_t)1) * sizeof *k->lane_of);
    const char **programs = malloc((k->lane_count + (size_t)1) * sizeof *programs);
    if (!k->lane_of || !programs) {
        free(programs);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct kernel_lane *l = thread_of(k, s->lanes[first + i].id);
        k->lane_of[i] = l ? (uint32_t)(l - k->lanes) : KERNEL_NO_LANE;
        if (!l)
            continue;
        k->known++;
        l->trace_lane = first + i;
    }
    int rc = mark_programs(k, programs, w);
    free(programs);
    return rc;
}

uint32_t kernel_lane_of(const struct kernel_model *k, uint32_t trace_lane)
{
    const struct trace_spans *s = k->trace->spans;
    uint32_t first = s->kind_first[TRACE_RESOURCE_THREAD];
    return trace_lane >= first && trace_lane < s->lane_count ? k->lane_of[trace_lane - first]
                                                             : KERNEL_NO_LANE;
}

// --- Level of detail.

// The name of page faults in a file's texts; UINT32_MAX: it has none.
static uint32_t fault_of(const struct trace_spans *s)
{
    for (uint32_t i = 0; i < s->names.count; i++)
        if (!strcmp(trace_names_text(&s->names, i), "page fault"))
            return i;
    return UINT32_MAX;
}

// The frame before the outermost is the call. As trace lost has it: of an event without a stack it is that of the one before.
static bool is_fault(const struct trace_spans *s, uint32_t first, uint32_t span, uint32_t fault)
{
    for (uint32_t i = span, n = 0; i + 1 > first && n < LOOK_BACK; i--, n++) {
        const struct trace_stack *stack = trace_stacks_get(&s->stacks, s->stack[i]);
        if (stack->count &&
            trace_span_state(s, i) != TRACE_GO_RUNNABLE) // else it may be the waker's
            return stack->count > 1 && stack->frames[stack->count - 2].function == fault;
    }
    return false;
}

// until_ns: when the next thread of this number begins.
static int add_thread(struct kernel_lane *l, const struct trace_spans *s, uint32_t lane,
                      int64_t until_ns, uint32_t fault)
{
    const struct trace_lane *t = &s->lanes[lane];
    int rc = 0;
    for (uint32_t i = t->first; !rc && i < t->first + t->count; i++) {
        int64_t begin_ns = trace_span_begin_ns(s, i), end_ns = trace_span_end_ns(s, lane, i);
        uint8_t class = KERNEL_RUNNING;
        switch (trace_span_state(s, i)) {
        case TRACE_GO_RUNNING: break;
        case TRACE_GO_RUNNABLE: class = KERNEL_DELAYED; break;
        case TRACE_GO_SYSCALL:
            class = is_fault(s, t->first, i, fault) ? KERNEL_IN_FAULT : KERNEL_IN_CALL;
            break;
        case TRACE_GO_WAITING:
            class = is_fault(s, t->first, i, fault) ? KERNEL_IN_FAULT : KERNEL_ASLEEP;
            break;
        default: end_ns = begin_ns; break; // it was not there: counted and never seen
        }
        begin_ns = begin_ns < until_ns ? begin_ns : until_ns;
        end_ns = end_ns < until_ns ? end_ns : until_ns;
        rc = lod_add(&l->lod, begin_ns, end_ns, class);
    }
    return rc;
}

static int add_stretch(struct kernel_model *k, struct kernel_lane *l, const struct trace_spans *s,
                       uint32_t span, int64_t begin_ns, int64_t end_ns)
{
    const struct kernel_lane *thread =
        thread_of(k, s->lanes[trace_spans_fiber(s, span)].id & UINT32_MAX);
    uint8_t class = !thread || !thread->is_program        ? KERNEL_DELAYED
                    : thread->trace_lane != TRACE_NO_LANE ? KERNEL_RUNNING
                                                          : KERNEL_PROGRAM;
    uint32_t at = l->lod.count;
    if (at == l->spans_capacity) {
        uint32_t n = at ? at * 2 : 64;
        uint32_t *more = reallocarray(l->spans, n, sizeof *more);
        if (!more)
            return -ENOMEM;
        l->spans = more;
        l->spans_capacity = n;
    }
    l->spans[at] = span;
    return lod_add(&l->lod, begin_ns, end_ns, class);
}

// Runs of one thread that follow each other, such as before and in a system call, are one stretch.
static int add_cpu(struct kernel_model *k, struct kernel_lane *l, const struct trace_spans *s,
                   uint32_t lane)
{
    const struct trace_lane *c = &s->lanes[lane];
    int64_t begin_ns = 0, end_ns = 0;
    uint32_t fiber = TRACE_NO_LANE, span = 0;
    int rc = 0;
    for (uint32_t i = c->first; !rc && i < c->first + c->count; i++) {
        uint32_t next = s->runs[i], its = trace_spans_fiber(s, next);
        int64_t its_begin_ns = trace_span_begin_ns(s, next);
        if (its != fiber || its_begin_ns != end_ns) {
            if (fiber != TRACE_NO_LANE)
                rc = add_stretch(k, l, s, span, begin_ns, end_ns);
            fiber = its;
            span = next;
            begin_ns = its_begin_ns;
        }
        end_ns = trace_spans_run_end_ns(s, lane, i);
    }
    return rc || fiber == TRACE_NO_LANE ? rc : add_stretch(k, l, s, span, begin_ns, end_ns);
}

static int64_t begin_of(const struct kernel_model *k, const struct kernel_lane *l, uint32_t source)
{
    if (source >= l->source_count)
        return INT64_MAX;
    const struct trace_spans *s = k->parts[l->sources[source].part]->spans;
    const struct trace_lane *t = &s->lanes[l->sources[source].lane];
    return t->count ? trace_span_begin_ns(s, t->first) : t->end_ns;
}

static int make_lods(struct kernel_model *k, const struct kernel_model_watch *w)
{
    uint32_t *faults = calloc(k->part_count, sizeof *faults);
    int rc = faults ? 0 : -ENOMEM;
    for (uint32_t p = 0; !rc && p < k->part_count; p++)
        faults[p] = fault_of(k->parts[p]->spans);
    for (uint32_t i = 0; !rc && i < k->lane_count; i++) {
        struct kernel_lane *l = &k->lanes[i];
        for (uint32_t j = 0; !rc && j < l->source_count; j++) {
            struct kernel_source *from = &l->sources[j];
            from->first = l->lod.count;
            rc = i < k->cpu_count ? add_cpu(k, l, k->parts[from->part]->spans, from->lane)
                                  : add_thread(l, k->parts[from->part]->spans, from->lane,
                                               begin_of(k, l, j + 1), faults[from->part]);
        }
        rc = rc ? rc : lod_finish(&l->lod);
        if (!rc && !goes_on(w, i))
            rc = -ECANCELED;
    }
    free(faults);
    return rc;
}

// --- All of it.

static int check(const struct kernel_model *k, struct fscope_error *err)
{
    const struct trace_model *m = k->trace;
    if (!kernel_trace_is(k->parts[0]->spans))
        return error_set(err, -ENODATA, 0, "it is no kernel trace");
    if (k->begin_ns < m->end_ns && k->end_ns > m->begin_ns)
        return 0;
    bool later = k->begin_ns >= m->end_ns;
    double ns = (double)(later ? k->begin_ns - m->end_ns : m->begin_ns - k->end_ns);
    return error_set(err, -ENODATA, 0, "it is of another time: by the clock it %s %.6gs %s",
                     later ? "begins" : "ends", ns / 1e9,
                     later ? "after this trace ends" : "before this trace begins");
}

int kernel_model_new(struct kernel_model **out, struct trace_model *trace,
                     struct trace_model **parts, uint32_t count, const struct kernel_model_watch *w,
                     struct fscope_error *err)
{
    struct kernel_model *k = calloc(1, sizeof *k);
    struct trace_model **own = calloc(count + (size_t)1, sizeof *own);
    *out = NULL;
    if (!k || !own) {
        for (uint32_t i = 0; i < count; i++)
            trace_model_free(parts[i]);
        free(k);
        free(own);
        return error_set(err, -ENOMEM, 0, "out of memory");
    }
    memcpy(own, parts, count * sizeof *own);
    trace_model_hold(k->trace = trace);
    k->parts = own;
    k->part_count = count;
    k->begin_ns = parts[0]->begin_ns;
    k->end_ns = parts[count - 1]->end_ns;
    int rc = check(k, err);
    if (!rc && ((rc = make_lanes(k)) || (rc = match_threads(k, w)) || (rc = make_lods(k, w))))
        error_set(err, rc, 0, "%s", strerror(-rc));
    if (rc)
        kernel_model_free(k);
    else
        *out = k;
    return rc;
}

void kernel_model_hold(struct kernel_model *k)
{
    atomic_fetch_add_explicit(&k->holders, 1, memory_order_relaxed);
}

void kernel_model_free(struct kernel_model *k)
{
    // acq_rel: what one has read of it is read before the other frees it.
    if (!k || atomic_fetch_sub_explicit(&k->holders, 1, memory_order_acq_rel) > 0)
        return;
    for (uint32_t i = 0; i < k->lane_count; i++) {
        lod_free(&k->lanes[i].lod);
        free(k->lanes[i].sources);
        free(k->lanes[i].spans);
    }
    for (uint32_t i = 0; i < k->part_count; i++)
        trace_model_free(k->parts[i]);
    free(k->parts);
    free(k->lanes);
    free(k->lane_of);
    trace_model_free(k->trace);
    free(k);
}
