// SPDX-License-Identifier: MIT
//
// See waits.h.

#include "collector/waits_internal.h"

#include "collector/thread_stacks.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 6, AGAIN_NS = 20000000 };

struct telling {
    struct waits *w;
    struct target *target;
    struct fibers *fibers; // NULL: none
    const struct look *look;
    uint64_t named; // the object whose name this is
    char name[WAITS_TEXT];
};

// --- Looking until it is sure.

static void pause_for(int64_t ns)
{
    nanosleep(&(struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000}, NULL);
}

static int look_and_think(struct look *l, struct graph *g, struct target *t, struct fibers *f,
                          struct fscope_error *err)
{
    int rc = look_take(l, t, f, err);
    if (rc)
        return rc;
    rc = graph_make(g, l);
    if (rc) {
        look_free(l);
        error_set(err, rc, 0, "out of memory");
    }
    return rc;
}

// A circle whose threads are disturbed in their sleep, by signals, shows in one of several rounds.
static int look_until_sure(struct look *l, struct graph *g, struct target *t, struct fibers *f,
                           int64_t pause_ns, struct fscope_error *err)
{
    int rc = look_and_think(l, g, t, f, err);
    size_t doubtful = rc || target_is_core(t) ? 0 : g->circle_count;
    for (int i = 0; !rc && doubtful && i < ROUNDS; i++) {
        struct look before = *l, after;
        graph_free(g);
        pause_for(i && pause_ns > AGAIN_NS ? AGAIN_NS : pause_ns);
        rc = look_and_think(l, g, t, f, err);
        if (!rc && (rc = look_take(&after, t, f, err))) {
            look_free(l);
            graph_free(g);
        }
        if (!rc) {
            doubtful = graph_believe(g, l, &before, &after);
            look_free(&after);
        }
        look_free(&before);
    }
    return rc;
}

// --- Words.

static const char *name_of(struct telling *k, uint64_t object)
{
    if (object != k->named) {
        k->named = object;
        target_variable_at(k->target, object, k->name, sizeof k->name);
    }
    return k->name;
}

// "mutex g_lock", or with its address.
static void say_object(struct telling *k, struct waits_node *n, const char *kind, uint64_t object)
{
    n->object = object;
    if (!object) {
        snprintf(n->what, sizeof n->what, "%s", kind);
        return;
    }
    snprintf(n->lock, sizeof n->lock, "%s", name_of(k, object));
    if (n->lock[0])
        snprintf(n->what, sizeof n->what, "%.60s %.190s", kind, n->lock);
    else
        snprintf(n->what, sizeof n->what, "%.60s 0x%" PRIx64, kind, object);
}

static void say_call(const struct telling *k, struct waits_node *n, const struct target_call *c)
{
    char text[32], path[64], file[128] = "";
    bool takes_fd;
    const char *name = thread_list_call_name(c->number, text, sizeof text, &takes_fd);
    int used = snprintf(n->what, sizeof n->what, "%s", name);
    if (!takes_fd)
        return;
    snprintf(path, sizeof path, "/proc/%u/fd/%d", target_pid(k->target), (int)c->args[0]);
    ssize_t length = target_is_core(k->target) ? -1 : readlink(path, file, sizeof file - 1);
    for (ssize_t i = 0; i < length; i++)
        if ((unsigned char)file[i] < ' ' || file[i] == 127)
            file[i] = '?';
    snprintf(n->what + used, sizeof n->what - (size_t)used, " on fd %d%s%s%s", (int)c->args[0],
             length > 0 ? " (" : "", file, length > 0 ? ")" : "");
}

static void say_sync(struct telling *k, struct waits_node *n, const struct sync_wait *s)
{
    char kind[64];
    snprintf(kind, sizeof kind, "%s%s%s", s->detail, s->detail[0] ? " " : "",
             sync_kind_text(s->kind));
    say_object(k, n, kind, s->object);
    n->is_join = s->kind == SYNC_JOIN;
    n->is_lock = s->kind >= SYNC_MUTEX && s->kind <= SYNC_JOIN;
    n->has_limit = s->has_limit;
    n->readers = s->readers;
    n->is_waiting = true;
}

static void say_wait(struct telling *k, struct waits_node *n, const struct look_fiber *f)
{
    say_object(k, n, f->state, f->is_join ? 0 : f->object);
    n->is_waiting = f->is_waiting;
    n->is_join = f->is_join;
    n->is_lock = f->is_waiting && f->owner;
    n->waiting_ns = f->waiting_ns;
}

static const char *word_of_state(char state)
{
    return state == 'D'                   ? "waiting in the kernel"
           : state == 'T' || state == 't' ? "stopped"
           : state                        ? "running"
                                          : "running or waiting in the kernel";
}

static void tell_thread(struct telling *k, size_t i)
{
    const struct look_thread *th = &k->look->threads[i];
    const struct thread_state *s = &k->look->list.threads[i];
    struct waits_node *n = &k->w->nodes[i];
    n->id = s->tid;
    memcpy(n->name, s->name, sizeof n->name);
    n->runs = th->runs;
    if (th->is_in_runtime)
        say_wait(k, n, &th->wait);
    else if (th->is_idle && s->sp)
        snprintf(n->what, sizeof n->what, "goroutines to run");
    else if (th->sync.kind != SYNC_NONE)
        say_sync(k, n, &th->sync);
    else if (s->call.is_in)
        say_call(k, n, &s->call);
    else
        snprintf(n->what, sizeof n->what, "%s", word_of_state(s->state));
    n->is_waiting = n->is_waiting || s->call.is_in;
}

static void tell_fiber(struct telling *k, size_t i)
{
    const struct look_fiber *f = &k->look->fibers[i];
    struct waits_node *n = &k->w->nodes[k->w->thread_count + i];
    n->is_fiber = true;
    n->id = f->id;
    memcpy(n->name, f->name, sizeof f->name);
    memcpy(n->reason, f->state, sizeof n->reason);
    say_wait(k, n, f);
    if (f->is_waiting || !f->tid)
        return;
    n->runs_on = look_find_thread(k->look, f->tid);
    if (n->runs_on != WAITS_NONE)
        snprintf(n->what, sizeof n->what, "%s on thread %" PRIu64, f->state,
                 k->w->nodes[n->runs_on].id);
}

// --- The graph.

static void take_edges(struct telling *k, struct graph *g)
{
    struct waits *w = k->w;
    for (size_t i = 0; i < w->count; i++) {
        struct waits_node *n = &w->nodes[i];
        const struct waits_edge *e = &g->edges[i];
        n->holder = e->holder;
        n->to = e->to;
        n->next = e->next;
        n->holder_id = e->holder_id;
        n->holder_is_fiber = e->holder_is_fiber;
        if (n->to != WAITS_NONE)
            w->nodes[n->to].waiters++;
    }
    for (int is_possible = 0; is_possible < 2; is_possible++)
        for (size_t c = 0; c < g->circle_count; c++) {
            const struct waits_deadlock *d = &g->circles[c];
            if (d->is_possible != is_possible)
                continue;
            w->deadlocks[w->deadlock_count++] = *d;
            w->certain_count += !is_possible;
            uint32_t i = d->first;
            for (uint32_t m = 0; m < d->count; m++, i = w->nodes[i].next)
                w->nodes[i].deadlock = (uint32_t)w->deadlock_count;
        }
}

static int tell(struct telling *k, struct graph *g)
{
    struct waits *w = k->w;
    w->count = g->count;
    w->thread_count = g->threads;
    w->nodes = calloc(w->count + 1, sizeof *w->nodes);
    w->deadlocks = calloc(g->circle_count + 1, sizeof *w->deadlocks);
    if (!w->nodes || !w->deadlocks)
        return -ENOMEM;
    for (size_t i = 0; i < w->count; i++)
        w->nodes[i].runs_on = WAITS_NONE;
    for (size_t i = 0; i < g->threads; i++)
        tell_thread(k, i);
    for (size_t i = 0; i < k->look->fiber_count; i++)
        tell_fiber(k, i);
    take_edges(k, g);
    return 0;
}

// --- Stacks.

static bool is_stack_wanted(const struct waits_node *n)
{
    return n->is_lock || n->waiters || n->deadlock;
}

static bool wants_fiber(void *arg, uint64_t id)
{
    const struct telling *k = arg;
    uint32_t i = look_find_fiber(k->look, id);
    return i != WAITS_NONE && is_stack_wanted(&k->w->nodes[k->w->thread_count + i]);
}

static int add_fiber_stack(void *arg, const struct fiber *f)
{
    struct telling *k = arg;
    uint32_t i = look_find_fiber(k->look, f->id);
    if (i == WAITS_NONE || !wants_fiber(k, f->id))
        return 0;
    struct waits_node *n = &k->w->nodes[k->w->thread_count + i];
    n->is_partial = !f->has_stack;
    n->stack = stack_table_add(k->w->stacks, f->pcs, f->depth);
    return n->stack < 0 ? -ENOMEM : 0;
}

static int add_thread_stacks(struct telling *k)
{
    struct waits *w = k->w;
    struct thread_stacks s;
    bool *wanted = calloc(w->thread_count + 1, sizeof *wanted);
    if (!wanted)
        return -ENOMEM;
    for (size_t i = 0; i < w->thread_count; i++)
        wanted[i] = is_stack_wanted(&w->nodes[i]);
    // A fiber that runs has its stack where its thread has one.
    for (size_t i = w->thread_count; i < w->count; i++)
        if (w->nodes[i].runs_on != WAITS_NONE && is_stack_wanted(&w->nodes[i]))
            wanted[w->nodes[i].runs_on] = true;
    int rc = thread_stacks_take(&s, k->target, &k->look->list, wanted);
    for (size_t i = 0, at = 0; !rc && i < w->thread_count; i++) {
        if (!wanted[i])
            continue;
        const struct thread_stack *one = &s.stacks[at++];
        if (one->depth)
            w->nodes[i].stack = stack_table_add(w->stacks, one->pcs, one->depth);
        w->nodes[i].is_partial = one->how == THREAD_STACK_PARTIAL;
        rc = w->nodes[i].stack < 0 ? -ENOMEM : 0;
    }
    w->stopped_ns = s.stopped_ns;
    thread_stacks_free(&s);
    free(wanted);
    return rc;
}

static int take_stacks(struct telling *k, const struct waits_options *o)
{
    int rc = stack_table_new(&k->w->stacks, k->target);
    if (!rc)
        rc = add_thread_stacks(k);
    if (!rc && k->fibers) {
        fibers_want_stacks(k->fibers, wants_fiber, k);
        rc = fibers_each(k->fibers, add_fiber_stack, k);
        fibers_want_stacks(k->fibers, NULL, NULL);
    }
    return rc ? rc : stack_table_finish(k->w->stacks, o->symbolize);
}

static bool no_stacks(void *arg, uint64_t id)
{
    (void)arg;
    (void)id;
    return false;
}

int waits_look(struct waits **out, struct target *t, const struct waits_options *o,
               struct fscope_error *err)
{
    struct telling k = {.target = t};
    struct look look;
    struct graph graph;
    *out = NULL;
    int rc = fibers_open(&k.fibers, t, err);
    if (rc && rc != -ENOENT)
        return rc;
    if (k.fibers)
        fibers_want_stacks(k.fibers, no_stacks, NULL);
    rc = look_until_sure(&look, &graph, t, k.fibers, o->pause_ns, err);
    if (rc) {
        fibers_close(k.fibers);
        return rc;
    }
    k.look = &look;
    k.w = calloc(1, sizeof *k.w);
    rc = k.w ? tell(&k, &graph) : -ENOMEM;
    if (!rc && o->stacks)
        rc = take_stacks(&k, o);
    graph_free(&graph);
    look_free(&look);
    fibers_close(k.fibers);
    if (rc) {
        waits_free(k.w);
        return error_set(err, rc, 0, "%s: %s", target_name(t), strerror(-rc));
    }
    *out = k.w;
    return 0;
}

void waits_free(struct waits *w)
{
    if (!w)
        return;
    stack_table_free(w->stacks);
    free(w->nodes);
    free(w->deadlocks);
    free(w);
}
