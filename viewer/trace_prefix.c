// SPDX-License-Identifier: MIT
//
// Models of what has been read so far. See trace_model.h.
//
// The reader's thread copies what is small (trace_spans_prefix), a thread of its own makes columns and lanes of it while
// reading goes on. One is made at a time.

#include "viewer/trace_model_internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct trace_prefix {
    const struct trace_model_watch *watch;
    pthread_t thread;
    bool has_thread;
    atomic_bool is_done;
    struct trace_model *model; // the thread's
    struct trace_extras *extras;
};

int trace_prefix_new(struct trace_prefix **out, const struct trace_model_watch *w)
{
    *out = NULL;
    if (!w || !w->due)
        return 0;
    struct trace_prefix *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->watch = w;
    *out = p;
    return 0;
}

static void *make(void *context)
{
    struct trace_prefix *p = context;
    int rc = trace_spans_finish(p->model->spans), late = trace_extras_finish(p->extras);
    rc = rc ? rc : late;
    if (!rc)
        rc = trace_model_make(p->model, NULL);
    if (rc)
        trace_model_free(p->model); // the next one may go better
    else
        p->watch->show(p->watch->context, p->model);
    p->model = NULL;
    // release: pairs with the acquire in trace_prefix_look
    atomic_store_explicit(&p->is_done, true, memory_order_release);
    return NULL;
}

static void join(struct trace_prefix *p)
{
    if (p->has_thread)
        pthread_join(p->thread, NULL);
    p->has_thread = false;
}

static int begin(struct trace_prefix *p, const struct trace_model *m, const struct trace_extras *x)
{
    struct trace_model *copy = calloc(1, sizeof *copy);
    if (!copy)
        return -ENOMEM;
    int rc = trace_spans_prefix(&copy->spans, m->spans);
    p->extras = rc ? NULL : trace_extras_copy(x, copy);
    if (!rc && !p->extras)
        rc = -ENOMEM;
    p->model = copy;
    atomic_store_explicit(&p->is_done, false, memory_order_relaxed);
    if (!rc)
        rc = -pthread_create(&p->thread, NULL, make, p);
    p->has_thread = !rc;
    if (rc) {
        trace_extras_finish(p->extras);
        trace_model_free(copy);
    }
    return rc;
}

void trace_prefix_look(struct trace_prefix *p, const struct trace_model *m,
                       const struct trace_extras *x, uint64_t offset)
{
    if (!p || !p->watch->due(p->watch->context, offset))
        return;
    bool is_busy = p->has_thread && !atomic_load_explicit(&p->is_done, memory_order_acquire);
    if (is_busy || m->spans->end_ns <= m->spans->begin_ns)
        return;
    join(p);
    begin(p, m, x); // if there is no memory for it, nothing is shown until all is there
}

void trace_prefix_finish(struct trace_prefix *p)
{
    if (p)
        join(p);
    free(p);
}
