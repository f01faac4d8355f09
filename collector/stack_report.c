// SPDX-License-Identifier: MIT
//
// See stack_report.h.

#include "collector/stack_report.h"

#include "collector/fibers.h"
#include "collector/stack_table.h"
#include "collector/thread_stacks.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MINUTE_NS UINT64_C(60000000000)

struct entry {
    uint64_t id, creator, waiting_ns;
    uint32_t tid; // nonzero: a thread
    char state[FIBERS_TEXT], name[THREAD_NAME_BYTES];
    bool has_stack;
    enum thread_stack_how how; // of a thread
    int64_t stack, created;    // in the table; 0: none
};

struct report {
    struct stack_table *stacks;
    struct entry *entries;
    size_t count, capacity;
    struct target *target;
    struct fibers *fibers; // NULL: none
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
    memcpy(e->name, f->name, sizeof f->name);
    e->stack = stack_table_add(r->stacks, f->pcs, f->depth);
    const uint64_t created = f->created_at - 1; // inside of the call
    if (f->created_at)
        e->created = stack_table_add(r->stacks, &created, 1);
    return e->stack < 0 || e->created < 0 ? -ENOMEM : 0;
}

// --- Threads.

static void describe_thread(struct entry *e, const struct thread_state *s)
{
    char text[FIBERS_TEXT];
    bool takes_fd;
    if (s->call.is_in)
        snprintf(e->state, sizeof e->state, "%s",
                 thread_list_call_name(s->call.number, text, sizeof text, &takes_fd));
    else if (s->state)
        snprintf(e->state, sizeof e->state, "%s",
                 s->state == 'D'                      ? "waiting in the kernel"
                 : s->state == 'T' || s->state == 't' ? "stopped"
                                                      : "running");
}

static int add_thread(struct report *r, const struct thread_state *s, const struct thread_stack *k)
{
    struct entry *e = add_entry(r);
    if (!e)
        return -ENOMEM;
    e->tid = s->tid;
    e->how = k->how;
    e->has_stack = k->depth;
    snprintf(e->name, sizeof e->name, "%s", s->name);
    describe_thread(e, s);
    if (k->depth)
        e->stack = stack_table_add(r->stacks, k->pcs, k->depth);
    return e->stack < 0 ? -ENOMEM : 0;
}

// Which fiber a thread runs.
static int note_worker(void *arg, const struct fibers_worker *w)
{
    struct report *r = arg;
    for (size_t i = 0; w->fiber && i < r->count; i++)
        if (r->entries[i].tid == w->tid)
            r->entries[i].id = w->fiber;
    return 0;
}

static int add_threads(struct report *r, struct fscope_error *err)
{
    struct thread_list list;
    struct thread_stacks stacks;
    int rc = thread_list_read(&list, r->target, err);
    if (rc)
        return rc;
    rc = thread_stacks_take(&stacks, r->target, &list, NULL);
    for (size_t i = 0; !rc && i < list.count; i++)
        rc = add_thread(r, &list.threads[i], &stacks.stacks[i]);
    thread_stacks_free(&stacks);
    thread_list_free(&list);
    if (!rc && r->fibers)
        rc = fibers_each_worker(r->fibers, note_worker, r);
    return rc ? error_set(err, rc, 0, "%s: %s", target_name(r->target), strerror(-rc)) : 0;
}

// --- Printing.

static void print_location(const struct pprof_location *l, FILE *out)
{
    char function[1024], place[1024];
    for (uint32_t i = 0; stack_table_text(l, i, function, place, sizeof place); i++)
        fprintf(out, "%s(...)\n\t%s\n", function, place);
}

static void print_creator(const struct report *r, const struct entry *e, FILE *out)
{
    const struct pprof_sample *s = stack_table_get(r->stacks, (uint64_t)e->created);
    char function[1024], place[1024];
    if (!s || !s->location_count)
        return;
    const struct pprof_location *l = s->locations[0];
    // Of functions inlined there the outermost is the one that people know.
    stack_table_text(l, l->line_count ? l->line_count - 1 : 0, function, place, sizeof place);
    fprintf(out, "created by %s", function);
    if (e->creator)
        fprintf(out, " in goroutine %" PRIu64, e->creator);
    fprintf(out, "\n\t%s\n", place);
}

static void print_thread(const struct entry *e, FILE *out)
{
    fprintf(out, "thread %u", e->tid);
    if (e->name[0])
        fprintf(out, " \"%s\"", e->name);
    if (e->state[0])
        fprintf(out, " [%s", e->state);
    if (e->id)
        fprintf(out, "%sgoroutine %" PRIu64, e->state[0] ? ", " : " [", e->id);
    fprintf(out, "%s:\n", e->state[0] || e->id ? "]" : "");
    if (e->how == THREAD_STACK_NONE)
        fputs("\tstack unavailable: another program traces it, or it has ended\n", out);
}

static void print_fiber(const struct entry *e, FILE *out)
{
    fprintf(out, "goroutine %" PRIu64 " [%s", e->id, e->state);
    if (e->waiting_ns >= MINUTE_NS)
        fprintf(out, ", %" PRIu64 " minutes", e->waiting_ns / MINUTE_NS);
    if (e->name[0])
        fprintf(out, ", \"%s\"", e->name);
    fputs("]:\n", out);
    if (!e->has_stack && strcmp(e->state, "runnable") != 0) // that one has not run yet
        fputs(strcmp(e->state, "running")
                  ? "\tstack unavailable\n"
                  : "\tgoroutine running on other thread; stack unavailable\n",
              out);
}

static void print_entry(const struct report *r, const struct entry *e, FILE *out)
{
    const struct pprof_sample *s = stack_table_get(r->stacks, (uint64_t)e->stack);
    if (e->tid)
        print_thread(e, out);
    else
        print_fiber(e, out);
    for (uint32_t i = 0; s && i < s->location_count; i++)
        print_location(s->locations[i], out);
    if (e->how == THREAD_STACK_PARTIAL)
        fputs("\tand its callers: not to be had without disturbing its system call\n", out);
    print_creator(r, e, out);
    fputc('\n', out);
}

static int collect(struct report *r, const struct stack_options *o, struct fscope_error *err)
{
    int rc = fibers_open(&r->fibers, r->target, err);
    bool has_fibers = !rc;
    if (rc && rc != -ENOENT)
        return rc;
    rc = has_fibers ? fibers_each(r->fibers, add_fiber, r) : 0;
    if (rc)
        return error_set(err, rc, 0, "%s: %s", target_name(r->target), strerror(-rc));
    return o->threads || !has_fibers ? add_threads(r, err) : 0;
}

int stack_report(struct target *t, const struct stack_options *o, FILE *out, size_t *count,
                 struct fscope_error *err)
{
    struct report *r = calloc(1, sizeof *r);
    if (!r)
        return error_set(err, -ENOMEM, 0, "out of memory");
    r->target = t;
    int rc = stack_table_new(&r->stacks, t);
    if (rc)
        error_set(err, rc, 0, "out of memory");
    if (!rc)
        rc = collect(r, o, err);
    if (!rc && (rc = stack_table_finish(r->stacks, o->symbolize)))
        error_set(err, rc, 0, "out of memory");
    for (size_t i = 0; !rc && i < r->count; i++)
        print_entry(r, &r->entries[i], out);
    if (count)
        *count = r->count;
    fibers_close(r->fibers);
    stack_table_free(r->stacks);
    free(r->entries);
    free(r);
    return rc;
}
