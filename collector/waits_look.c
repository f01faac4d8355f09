// SPDX-License-Identifier: MIT
//
// One look at all threads and fibers; see waits_internal.h.

#include "collector/waits_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void copy_wait(struct look_fiber *to, const struct fiber *f)
{
    *to = (struct look_fiber){.id = f->id,
                              .object = f->object,
                              .owner = f->owner,
                              .switches = f->switches,
                              .waiting_ns = f->waiting_ns,
                              .tid = f->tid,
                              .last_tid = f->last_tid,
                              .is_waiting = f->is_waiting,
                              .is_join = f->is_join,
                              .has_run = f->has_run};
    memcpy(to->name, f->name, sizeof to->name);
    memcpy(to->state, f->state, sizeof to->state);
}

static int add_fiber(void *arg, const struct fiber *f)
{
    struct look *l = arg;
    if (l->fiber_count == l->fiber_capacity) {
        size_t n = l->fiber_capacity * 2 + 64;
        struct look_fiber *grown = reallocarray(l->fibers, n, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        l->fibers = grown;
        l->fiber_capacity = n;
    }
    copy_wait(&l->fibers[l->fiber_count++], f);
    return 0;
}

static int compare_fibers(const void *a, const void *b)
{
    const struct look_fiber *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int add_worker(void *arg, const struct fibers_worker *w)
{
    struct look *l = arg;
    uint32_t i = look_find_thread(l, w->tid);
    if (i == WAITS_NONE)
        return 0;
    struct look_thread *th = &l->threads[i];
    th->is_worker = true;
    th->runs = w->fiber;
    th->is_idle = !w->fiber || (th->sync.futex >= w->start && th->sync.futex < w->end);
    return 0;
}

static int take_fibers(struct look *l, struct fibers *f)
{
    int rc = fibers_each(f, add_fiber, l);
    if (!rc)
        rc = fibers_each_worker(f, add_worker, l);
    if (l->fiber_count)
        qsort(l->fibers, l->fiber_count, sizeof *l->fibers, compare_fibers);
    for (size_t i = 0; !rc && i < l->list.count; i++) {
        struct fiber wait;
        struct look_thread *th = &l->threads[i];
        if (th->sync.kind != SYNC_NONE && fibers_thread_wait(f, th->sync.futex, &wait)) {
            copy_wait(&th->wait, &wait);
            th->is_in_runtime = true;
        }
    }
    return rc;
}

int look_take(struct look *out, struct target *t, struct fibers *f, struct fscope_error *err)
{
    struct thread_state again;
    *out = (struct look){0};
    int rc = thread_list_read(&out->list, t, err);
    if (rc)
        return rc;
    out->threads = calloc(out->list.count + 1, sizeof *out->threads);
    if (!out->threads)
        rc = -ENOMEM;
    for (size_t i = 0; !rc && i < out->list.count; i++)
        sync_recognize(&out->threads[i].sync, t, &out->list, &out->list.threads[i]);
    if (!rc && f)
        rc = take_fibers(out, f);
    if (!rc)
        return 0;
    look_free(out);
    if (!target_is_core(t) && thread_list_look(&again, target_pid(t), target_pid(t)) == -ESRCH)
        return error_set(err, -ESRCH, 0, "process %u (%s) has ended", target_pid(t),
                         target_name(t));
    return error_set(err, rc, 0, "%s: %s", target_name(t), strerror(-rc));
}

void look_free(struct look *l)
{
    thread_list_free(&l->list);
    free(l->threads);
    free(l->fibers);
    *l = (struct look){0};
}

uint32_t look_find_thread(const struct look *l, uint64_t own_tid)
{
    const struct thread_state *s =
        own_tid <= UINT32_MAX ? thread_list_find(&l->list, (uint32_t)own_tid) : NULL;
    return s ? (uint32_t)(s - l->list.threads) : WAITS_NONE;
}

uint32_t look_find_fiber(const struct look *l, uint64_t id)
{
    const struct look_fiber key = {.id = id};
    const struct look_fiber *found =
        l->fiber_count ? bsearch(&key, l->fibers, l->fiber_count, sizeof key, compare_fibers)
                       : NULL;
    return found ? (uint32_t)(found - l->fibers) : WAITS_NONE;
}
