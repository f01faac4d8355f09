// SPDX-License-Identifier: MIT
//
// See stack_report.h. Each stack becomes a sample of a profile, with a number that says whose it is: so the
// profile's symbolizer names them.

#include "collector/stack_report.h"

#include "collector/fibers.h"
#include "collector/record_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MINUTE_NS UINT64_C(60000000000)

struct entry {
    uint64_t id, creator, waiting_ns;
    uint32_t tid; // nonzero: a thread
    char state[FIBERS_TEXT], name[FIBERS_TEXT];
    bool has_stack;
    const struct pprof_sample *stack, *created; // NULL: none
};

struct report {
    struct builder *builder;
    struct builder_process *process;
    struct entry *entries;
    size_t count, capacity;
    struct target *target;
    uint64_t pcs[SEG_STACK_DEPTH_MAX];
};

static struct entry *add_entry(struct report *r)
{
    if (r->count == r->capacity) {
        size_t n = r->capacity * 2 + 64;
        struct entry *grown = reallocarray(r->entries, n, sizeof *grown);
        if (!grown)
            return NULL;
        r->entries = grown;
        r->capacity = n;
    }
    r->entries[r->count] = (struct entry){0};
    return &r->entries[r->count++];
}

// of is the label's key: whose stack it is says its number, an entry's index + 1.
static int add_stack(struct report *r, const char *of, const uint64_t *pcs, uint32_t depth)
{
    const struct builder_label label = {.key = of, .number = (int64_t)r->count};
    const struct builder_sample s = {.user = pcs,
                                     .user_depth = depth,
                                     .count = 1,
                                     .when = 1,
                                     .labels = &label,
                                     .label_count = 1};
    return builder_add(r->process, &s);
}

static int add_fiber(void *arg, const struct fiber *f)
{
    struct report *r = arg;
    struct entry *e = add_entry(r);
    if (!e)
        return -ENOMEM;
    e->id = f->id;
    e->creator = f->creator;
    e->waiting_ns = f->waiting_ns;
    e->has_stack = f->has_stack;
    memcpy(e->state, f->state, sizeof e->state);
    memcpy(e->name, f->name, sizeof e->name);
    int rc = add_stack(r, "stack", f->pcs, f->depth);
    const uint64_t created = f->created_at - 1; // inside of the call
    return rc || !f->created_at ? rc : add_stack(r, "created", &created, 1);
}

static int add_threads(struct report *r)
{
    const struct target_thread *threads;
    size_t n = target_threads(r->target, &threads);
    int rc = 0;
    for (size_t i = 0; !rc && i < n; i++) {
        enum unwind_end end;
        struct entry *e = add_entry(r);
        if (!e)
            return -ENOMEM;
        e->tid = threads[i].tid;
        e->has_stack = true;
        uint32_t depth = target_walk(r->target, &threads[i].registers, true, 0, r->pcs,
                                     SEG_STACK_DEPTH_MAX, &end);
        rc = add_stack(r, "stack", r->pcs, depth);
    }
    return rc;
}

static void find_stacks(struct report *r, const struct pprof_profile *p)
{
    for (size_t i = 0; i < p->sample_count; i++)
        for (uint32_t j = 0; j < p->samples[i]->label_count; j++) {
            const struct pprof_label *l = &p->samples[i]->labels[j];
            if (l->num < 1 || (uint64_t)l->num > r->count)
                continue;
            struct entry *e = &r->entries[l->num - 1];
            if (strcmp(l->key, "stack") == 0)
                e->stack = p->samples[i];
            else if (strcmp(l->key, "created") == 0)
                e->created = p->samples[i];
        }
}

// --- Printing.

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void print_place(const struct pprof_location *l, const struct pprof_line *line, FILE *out)
{
    if (line && line->function->filename[0] && line->line)
        fprintf(out, "\t%s:%" PRId64 "\n", line->function->filename, line->line);
    else if (l->mapping)
        fprintf(out, "\t%s +0x%" PRIx64 "\n", l->mapping->file,
                l->address - l->mapping->start + l->mapping->offset);
    else
        fprintf(out, "\t0x%" PRIx64 "\n", l->address);
}

static void print_location(const struct pprof_location *l, FILE *out)
{
    for (uint32_t i = 0; i < l->line_count; i++) {
        fprintf(out, "%s(...)\n", l->lines[i].function->name);
        print_place(l, &l->lines[i], out);
    }
    if (!l->line_count) {
        fprintf(out, "0x%" PRIx64 "%s%s(...)\n", l->address, l->mapping ? " in " : "",
                l->mapping ? base_name(l->mapping->file) : "");
        print_place(l, NULL, out);
    }
}

static void print_creator(const struct entry *e, FILE *out)
{
    if (!e->created || !e->created->location_count)
        return;
    const struct pprof_location *l = e->created->locations[0];
    // Of functions inlined there the outermost is the one that people know.
    const struct pprof_line *line = l->line_count ? &l->lines[l->line_count - 1] : NULL;
    fprintf(out, "created by ");
    if (line)
        fprintf(out, "%s", line->function->name);
    else
        fprintf(out, "0x%" PRIx64, l->address);
    if (e->creator)
        fprintf(out, " in goroutine %" PRIu64, e->creator);
    fputc('\n', out);
    print_place(l, line, out);
}

static void print_entry(const struct entry *e, FILE *out)
{
    if (e->tid) {
        fprintf(out, "thread %u:\n", e->tid);
    } else {
        fprintf(out, "goroutine %" PRIu64 " [%s", e->id, e->state);
        if (e->waiting_ns >= MINUTE_NS)
            fprintf(out, ", %" PRIu64 " minutes", e->waiting_ns / MINUTE_NS);
        if (e->name[0])
            fprintf(out, ", \"%s\"", e->name);
        fputs("]:\n", out);
    }
    if (!e->has_stack && strcmp(e->state, "runnable") != 0) // that one has not run yet
        fputs(strcmp(e->state, "running")
                  ? "\tstack unavailable\n"
                  : "\tgoroutine running on other thread; stack unavailable\n",
              out);
    for (uint32_t i = 0; e->stack && i < e->stack->location_count; i++)
        print_location(e->stack->locations[i], out);
    print_creator(e, out);
    fputc('\n', out);
}

static int print_all(struct report *r, const struct stack_options *o, FILE *out)
{
    char summary[512];
    struct pprof_profile *p = NULL;
    int rc = builder_finish(r->builder, 0, &p);
    if (rc)
        return rc;
    if (o->symbolize)
        record_symbolize(r->builder, p, target_is_core(r->target) ? 0 : target_pid(r->target),
                         summary, sizeof summary);
    find_stacks(r, p);
    for (size_t i = 0; i < r->count; i++)
        print_entry(&r->entries[i], out);
    pprof_free(p);
    return 0;
}

static int collect(struct report *r, const struct stack_options *o, struct fscope_error *err)
{
    struct fibers *f = NULL;
    int rc = fibers_open(&f, r->target, err);
    bool has_fibers = !rc;
    if (rc && !(rc == -ENOENT && target_is_core(r->target)))
        return rc;
    rc = has_fibers ? fibers_each(f, add_fiber, r) : 0;
    fibers_close(f);
    if (!rc && (o->threads || !has_fibers))
        rc = add_threads(r);
    return rc ? error_set(err, rc, 0, "%s: %s", target_name(r->target), strerror(-rc)) : 0;
}

int stack_report(struct target *t, const struct stack_options *o, FILE *out, size_t *count,
                 struct fscope_error *err)
{
    struct report *r = calloc(1, sizeof *r);
    const struct builder_options bo = {.size = sizeof bo, .kind = SEG_KIND_CUSTOM};
    if (!r)
        return error_set(err, -ENOMEM, 0, "out of memory");
    r->target = t;
    int rc = builder_new(&r->builder, &bo);
    if (!rc) {
        r->process = builder_process(r->builder, target_pid(t), 0, target_name(t));
        rc = r->process ? target_tell_builder(t, r->process) : -ENOMEM;
    }
    if (rc)
        error_set(err, rc, 0, "out of memory");
    if (!rc)
        rc = collect(r, o, err);
    if (!rc && (rc = print_all(r, o, out)))
        error_set(err, rc, 0, "out of memory");
    if (count)
        *count = r->count;
    builder_free(r->builder);
    free(r->entries);
    free(r);
    return rc;
}
