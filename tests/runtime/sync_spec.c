// SPDX-License-Identifier: MIT

#include "tests/runtime/sync_spec.h"
#include "tests/runtime/check.h"

#include <string.h>

enum { STARVING_NS = 1000000 };

// --- Queues.

static void insert(struct spec_queue *q, int at, struct spec_waiter w)
{
    CHECK(q->count < SPEC_ACTORS);
    memmove(&q->at[at + 1], &q->at[at], (size_t)(q->count - at) * sizeof w);
    q->at[at] = w;
    q->count++;
}

static void take_out(struct spec_queue *q, int at)
{
    q->count--;
    memmove(&q->at[at], &q->at[at + 1], (size_t)(q->count - at) * sizeof q->at[0]);
}

static int place_of(const struct spec_queue *q, int actor)
{
    for (int i = 0; i < q->count; i++)
        if (q->at[i].actor == actor)
            return i;
    return NOBODY;
}

// The first whose time is not over, taken out with the dead before it; NOBODY.
static struct spec_waiter take_live(struct spec_queue *q, int64_t now)
{
    while (q->count) {
        struct spec_waiter w = q->at[0];
        take_out(q, 0);
        if (w.until_ns > now)
            return w;
    }
    return (struct spec_waiter){.actor = NOBODY};
}

static void list_add(struct spec_list *l, int actor)
{
    CHECK(l->count < SPEC_ACTORS);
    l->at[l->count++] = actor;
}

// One whose limit ended the wait: it must have been over, and nobody may have chosen it.
static void leave(struct spec_queue *q, int actor, int64_t now)
{
    int at = place_of(q, actor);
    if (at == NOBODY)
        return; // passed over by a waker
    CHECK(q->at[at].until_ns <= now, "gave up %lld ns early",
          (long long)(q->at[at].until_ns - now));
    take_out(q, at);
}

// --- Mutex.

void spec_mutex_init(struct spec_mutex *m)
{
    *m = (struct spec_mutex){.holder = NOBODY, .woken = NOBODY};
}

void spec_mutex_park(struct spec_mutex *m, int actor, struct spec_try *t, int64_t now)
{
    CHECK(m->holder != NOBODY, "%d waits for a free mutex", actor);
    CHECK(m->holder != actor);
    bool is_first = !t->since_ns;
    if (is_first)
        t->since_ns = now;
    struct spec_waiter w = {actor, t->since_ns, t->until_ns, 0};
    insert(&m->queue, is_first ? m->queue.count : 0, w); // one that had its turn goes first
    if (now - t->since_ns > STARVING_NS)
        m->is_starving = true;
    if (m->woken == actor)
        m->woken = NOBODY;
}

void spec_mutex_wake(struct spec_mutex *m, int actor)
{
    CHECK(m->holder == actor || m->woken == actor, "%d was woken by nobody", actor);
    CHECK(place_of(&m->queue, actor) == NOBODY);
}

static void calm(struct spec_mutex *m)
{
    if (!m->queue.count)
        m->is_starving = false;
}

void spec_mutex_timeout(struct spec_mutex *m, int actor, const struct spec_try *t, int64_t now)
{
    CHECK(m->holder != actor && m->woken != actor, "%d was chosen and gave up", actor);
    CHECK(t->until_ns <= now, "%d gave up early", actor);
    leave(&m->queue, actor, now);
    calm(m);
}

void spec_mutex_got(struct spec_mutex *m, int actor)
{
    CHECK(m->holder == NOBODY || m->holder == actor, "%d has it, and %d, too", m->holder, actor);
    CHECK(m->holder == actor || !m->is_starving, "%d barged into a starving mutex", actor);
    m->holder = actor;
    if (m->woken == actor)
        m->woken = NOBODY;
}

void spec_mutex_failed(struct spec_mutex *m, int actor, const struct spec_try *t, int64_t now)
{
    CHECK(m->holder != NOBODY && m->holder != actor, "%d did not get a free mutex", actor);
    CHECK(t->until_ns <= now, "%d gave up early", actor);
    if (m->woken == actor)
        m->woken = NOBODY;
    calm(m);
}

void spec_mutex_unlock(struct spec_mutex *m, int actor, int64_t now, struct spec_list *woken)
{
    CHECK(m->holder == actor, "%d unlocks what %d has", actor, m->holder);
    m->holder = NOBODY;
    struct spec_waiter w = {.actor = NOBODY};
    if (m->is_starving || m->woken == NOBODY)
        w = take_live(&m->queue, now);
    if (w.actor != NOBODY) {
        list_add(woken, w.actor);
        if (m->is_starving) {
            m->holder = w.actor;
            m->is_starving = now - w.since_ns > STARVING_NS;
        } else {
            m->woken = w.actor;
        }
    }
    if (m->holder == NOBODY)
        m->is_starving = false;
    calm(m);
}

// --- RWMutex.

void spec_rw_init(struct spec_rw *r)
{
    *r = (struct spec_rw){.writer = NOBODY};
    spec_mutex_init(&r->w);
}

void spec_rw_read_park(struct spec_rw *r, int actor, int64_t now)
{
    CHECK(r->writer != NOBODY, "reader %d waits for no writer", actor);
    insert(&r->queue, r->queue.count, (struct spec_waiter){actor, now, NEVER, 0});
    r->is_admitted[actor] = false;
}

void spec_rw_read_got(struct spec_rw *r, int actor, bool has_waited)
{
    if (has_waited) { // already counted by the writer that let it in
        CHECK(r->is_admitted[actor], "reader %d came in by itself", actor);
        r->is_admitted[actor] = false;
        return;
    }
    CHECK(r->writer == NOBODY, "reader %d beside writer %d", actor, r->writer);
    r->readers++;
}

void spec_rw_read_failed(const struct spec_rw *r)
{
    CHECK(r->writer != NOBODY);
}

void spec_rw_read_unlock(struct spec_rw *r, struct spec_list *woken)
{
    CHECK(r->readers > 0);
    r->readers--;
    if (r->readers || r->writer == NOBODY)
        return;
    CHECK(r->is_waiting);
    r->is_waiting = false;
    list_add(woken, r->writer);
}

void spec_rw_write_park(struct spec_rw *r, int actor, struct spec_try *t, int64_t now)
{
    if (r->w.holder != NOBODY && r->w.holder != actor) { // for the other writers
        spec_mutex_park(&r->w, actor, t, now);
        return;
    }
    spec_mutex_got(&r->w, actor);
    CHECK(r->readers > 0, "writer %d waits for nobody", actor);
    CHECK(r->writer == NOBODY);
    r->writer = actor;
    r->is_waiting = true;
}

void spec_rw_write_wake(struct spec_rw *r, int actor)
{
    if (r->writer == actor)
        CHECK(!r->is_waiting && !r->readers, "writer %d beside %d readers", actor, r->readers);
    else
        spec_mutex_wake(&r->w, actor);
}

void spec_rw_write_got(struct spec_rw *r, int actor)
{
    if (r->writer != actor) {
        spec_mutex_got(&r->w, actor);
        CHECK(r->writer == NOBODY);
        r->writer = actor;
    }
    CHECK(!r->is_waiting && !r->readers, "writer %d beside %d readers", actor, r->readers);
}

void spec_rw_write_failed(const struct spec_rw *r)
{
    CHECK(r->w.holder != NOBODY || r->readers);
}

void spec_rw_write_unlock(struct spec_rw *r, int actor, int64_t now, struct spec_list *woken)
{
    CHECK(r->writer == actor);
    r->writer = NOBODY;
    for (int i = 0; i < r->queue.count; i++) {
        list_add(woken, r->queue.at[i].actor);
        r->is_admitted[r->queue.at[i].actor] = true;
        r->readers++;
    }
    r->queue.count = 0;
    spec_mutex_unlock(&r->w, actor, now, woken);
}

// --- Semaphore.

void spec_sem_park(struct spec_sem *s, int actor, int64_t n, int64_t now, int64_t until)
{
    CHECK(s->queue.count || n > s->count - s->taken, "%d waits for what is there", actor);
    insert(&s->queue, s->queue.count, (struct spec_waiter){actor, now, until, n});
    s->is_given[actor] = false;
}

static void sem_serve(struct spec_sem *s, int64_t now, struct spec_list *woken)
{
    while (s->queue.count && s->queue.at[0].weight <= s->count - s->taken) {
        struct spec_waiter w = s->queue.at[0];
        take_out(&s->queue, 0);
        if (w.until_ns <= now)
            continue;
        s->taken += w.weight;
        s->is_given[w.actor] = true;
        list_add(woken, w.actor);
    }
}

void spec_sem_timeout(struct spec_sem *s, int actor, int64_t now, struct spec_list *woken)
{
    CHECK(!s->is_given[actor], "%d was served and gave up", actor);
    leave(&s->queue, actor, now);
    sem_serve(s, now, woken);
}

void spec_sem_got(struct spec_sem *s, int actor, int64_t n, bool has_waited)
{
    if (has_waited) {
        CHECK(s->is_given[actor], "%d was served by nobody", actor);
        s->is_given[actor] = false;
        return;
    }
    CHECK(!s->queue.count && n <= s->count - s->taken, "%d overtook", actor);
    s->taken += n;
}

void spec_sem_failed(const struct spec_sem *s, int64_t n)
{
    CHECK(s->queue.count || n > s->count - s->taken);
}

void spec_sem_release(struct spec_sem *s, int64_t n, int64_t now, struct spec_list *woken)
{
    CHECK(n <= s->taken);
    s->taken -= n;
    sem_serve(s, now, woken);
}

// --- Cond.

void spec_cond_park(struct spec_cond *c, int actor, int64_t now, int64_t until)
{
    insert(&c->queue, c->queue.count, (struct spec_waiter){actor, now, until, 0});
    c->is_signalled[actor] = false;
}

void spec_cond_wake(struct spec_cond *c, int actor)
{
    CHECK(c->is_signalled[actor], "%d woke without a signal", actor);
}

void spec_cond_timeout(struct spec_cond *c, int actor, int64_t now)
{
    CHECK(!c->is_signalled[actor], "%d took a signal and gave up", actor);
    leave(&c->queue, actor, now);
}

void spec_cond_signal(struct spec_cond *c, int64_t now, bool all, struct spec_list *woken)
{
    do {
        struct spec_waiter w = take_live(&c->queue, now);
        if (w.actor == NOBODY)
            return;
        c->is_signalled[w.actor] = true;
        list_add(woken, w.actor);
    } while (all);
}
