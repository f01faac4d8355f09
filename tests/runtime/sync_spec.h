// SPDX-License-Identifier: MIT
//
// What locks do, as a specification that runs beside them: told of each effect of an operation at the moment at which it
// happens (one processor, no preemption), it says who has to be woken by it, and aborts when the effect is not
// allowed. Independent of the implementation: plain lists of who waits.
//
// Times are those of the deterministic clock: a waiter whose time is over is dead from that moment on; it still
// stands in its queue until it has run, or a waker has passed it over.

#ifndef FIBERSCOPE_TESTS_RUNTIME_SYNC_SPEC_H
#define FIBERSCOPE_TESTS_RUNTIME_SYNC_SPEC_H

#include <stdbool.h>
#include <stdint.h>

enum { SPEC_ACTORS = 8, NOBODY = -1 };
#define NEVER INT64_MAX

struct spec_waiter {
    int actor;
    int64_t since_ns, until_ns, weight;
};

struct spec_queue {
    struct spec_waiter at[SPEC_ACTORS];
    int count;
};

struct spec_list { // of actors, in order
    int at[SPEC_ACTORS];
    int count;
};

struct spec_mutex {
    int holder; // NOBODY: free
    int woken;  // who was woken and will try; NOBODY
    bool is_starving;
    struct spec_queue queue;
};

// One who tries: kept over the waits of one operation.
struct spec_try {
    int64_t since_ns, until_ns; // since 0: has not waited
};

void spec_mutex_init(struct spec_mutex *m);
void spec_mutex_park(struct spec_mutex *m, int actor, struct spec_try *t, int64_t now);
void spec_mutex_wake(struct spec_mutex *m, int actor); // it was woken, or has it
void spec_mutex_timeout(struct spec_mutex *m, int actor, const struct spec_try *t, int64_t now);
void spec_mutex_got(struct spec_mutex *m, int actor);
void spec_mutex_failed(struct spec_mutex *m, int actor, const struct spec_try *t, int64_t now);
void spec_mutex_unlock(struct spec_mutex *m, int actor, int64_t now, struct spec_list *woken);

struct spec_rw {
    struct spec_mutex w;
    int writer;      // has it, or waits for readers to leave
    bool is_waiting; // the latter
    int readers;     // in
    struct spec_queue queue;
    bool is_admitted[SPEC_ACTORS];
};

void spec_rw_init(struct spec_rw *r);
void spec_rw_read_park(struct spec_rw *r, int actor, int64_t now);
void spec_rw_read_got(struct spec_rw *r, int actor, bool has_waited);
void spec_rw_read_failed(const struct spec_rw *r);
void spec_rw_read_unlock(struct spec_rw *r, struct spec_list *woken);
void spec_rw_write_park(struct spec_rw *r, int actor, struct spec_try *t, int64_t now);
void spec_rw_write_wake(struct spec_rw *r, int actor);
void spec_rw_write_got(struct spec_rw *r, int actor);
void spec_rw_write_failed(const struct spec_rw *r);
void spec_rw_write_unlock(struct spec_rw *r, int actor, int64_t now, struct spec_list *woken);

struct spec_sem {
    int64_t count, taken;
    struct spec_queue queue;
    bool is_given[SPEC_ACTORS];
};

void spec_sem_park(struct spec_sem *s, int actor, int64_t n, int64_t now, int64_t until);
void spec_sem_timeout(struct spec_sem *s, int actor, int64_t now, struct spec_list *woken);
void spec_sem_got(struct spec_sem *s, int actor, int64_t n, bool has_waited);
void spec_sem_failed(const struct spec_sem *s, int64_t n);
void spec_sem_release(struct spec_sem *s, int64_t n, int64_t now, struct spec_list *woken);

struct spec_cond {
    struct spec_queue queue;
    bool is_signalled[SPEC_ACTORS];
};

void spec_cond_park(struct spec_cond *c, int actor, int64_t now, int64_t until);
void spec_cond_wake(struct spec_cond *c, int actor);
void spec_cond_timeout(struct spec_cond *c, int actor, int64_t now);
void spec_cond_signal(struct spec_cond *c, int64_t now, bool all, struct spec_list *woken);

#endif
