// SPDX-License-Identifier: MIT
//
// What fibers synchronize with, and how they are structured: Go's sync, context, errgroup, singleflight.
//
// What always holds
//   - All zero is a ready object, but for those with a _new. None may be copied or moved while in use.
//   - All work in fibers and plain threads, and between the two.
//   - Bad use (unlocking what is not locked, a negative counter) aborts with the fiber, the call and the rule.
//   - A mutex, wait group, condition or semaphore may be freed by whoever is the last to need it, as soon as its
//     call has returned, though another's unlock, done, signal or release has not.
//   - What is waited for, and who owns it, is seen by dumps, profiles and the deadlock finder.

#ifndef FIBERSCOPE_SYNC_H
#define FIBERSCOPE_SYNC_H

#include <fiberscope/fiber.h>

#ifdef __cplusplus
extern "C" {
#endif

// --- Mutex. Running ones barge in; one that has waited for more than 1 ms turns it into starvation mode, in which
// it is handed over in order, until the last waiter or one that waited less (Go's sync.Mutex). Unlike
// Go's, it has an owner: only the fiber (or plain thread) that locked it may unlock it.
struct fib_mutex {
    uint64_t
        owner; // 0: free; a fiber's id, or a thread's with the top bit set; bits 60 to 62: flags
    uint64_t reserved;
};
void fib_mutex_lock(struct fib_mutex *m); // locking what one holds aborts: it would never return
bool fib_mutex_trylock(struct fib_mutex *m);
int fib_mutex_lock_for(struct fib_mutex *m, int64_t timeout_ns); // 0, -ETIMEDOUT
void fib_mutex_unlock(struct fib_mutex *m);

// Free ones are taken and given back inline: one compare-and-swap each. FIB_NO_INLINE leaves that out.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(FIB_NO_INLINE)
extern __thread struct fib_thread_ {
    void *m, *g;
    uint64_t owner; // who runs; 0: not known here
} fib_thread_self_ __asm__("fib_tls") __attribute__((tls_model("initial-exec")));

static inline __attribute__((always_inline)) void fib_mutex_lock_(struct fib_mutex *m)
{
    uint64_t none = 0, self = fib_thread_self_.owner;
    if (!self ||
        !__atomic_compare_exchange_n(&m->owner, &none, self, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        fib_mutex_lock(m);
}
static inline __attribute__((always_inline)) void fib_mutex_unlock_(struct fib_mutex *m)
{
    uint64_t self = fib_thread_self_.owner;
    if (!self ||
        !__atomic_compare_exchange_n(&m->owner, &self, 0, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        fib_mutex_unlock(m);
}
#define fib_mutex_lock(m)   fib_mutex_lock_(m)
#define fib_mutex_unlock(m) fib_mutex_unlock_(m)
#endif

// --- RWMutex. A waiting writer stops new readers, and goes before them; after a writer all readers that came
// meanwhile go first (Go's sync.RWMutex).
struct fib_rwmutex {
    struct fib_mutex w;
    uint64_t opaque[4];
};
void fib_rwmutex_lock(struct fib_rwmutex *m);
bool fib_rwmutex_trylock(struct fib_rwmutex *m);
void fib_rwmutex_unlock(struct fib_rwmutex *m);
void fib_rwmutex_rlock(struct fib_rwmutex *m);
bool fib_rwmutex_tryrlock(struct fib_rwmutex *m);
void fib_rwmutex_runlock(struct fib_rwmutex *m);

// --- WaitGroup.
struct fib_waitgroup {
    uint64_t state;
    uint64_t opaque;
};
void fib_waitgroup_add(struct fib_waitgroup *w, int32_t n); // below 0 aborts
void fib_waitgroup_done(struct fib_waitgroup *w);
void fib_waitgroup_wait(struct fib_waitgroup *w);
int fib_waitgroup_wait_for(struct fib_waitgroup *w, int64_t timeout_ns); // 0, -ETIMEDOUT
// add(1), a fiber that runs fn(arg), done: Go's WaitGroup.Go. -errno of fib_go: nothing was added.
int fib_waitgroup_go(struct fib_waitgroup *w, fib_fn *fn, void *arg);

// --- Once: fn(arg) by the first; all return after its end.
struct fib_once {
    uint32_t done;
    uint32_t reserved;
    struct fib_mutex m;
};
void fib_once(struct fib_once *o, fib_fn *fn, void *arg);

// --- Cond, with a mutex that is held. Wakes in the order of waiting; no spurious wakes.
struct fib_cond {
    uint64_t opaque[4];
};
void fib_cond_wait(struct fib_cond *c, struct fib_mutex *m);
int fib_cond_wait_for(struct fib_cond *c, struct fib_mutex *m,
                      int64_t timeout_ns); // holds m after -ETIMEDOUT, too
void fib_cond_signal(struct fib_cond *c);
void fib_cond_broadcast(struct fib_cond *c);

// --- Semaphore, weighted, first come, first served (golang.org/x/sync/semaphore).
struct fib_semaphore {
    uint64_t opaque[6];
};
void fib_semaphore_init(struct fib_semaphore *s, int64_t count); // count >= 0
void fib_semaphore_acquire(struct fib_semaphore *s, int64_t n);  // more than count aborts
bool fib_semaphore_try(struct fib_semaphore *s, int64_t n);
int fib_semaphore_acquire_for(struct fib_semaphore *s, int64_t n,
                              int64_t timeout_ns); // 0, -ETIMEDOUT
void fib_semaphore_release(struct fib_semaphore *s, int64_t n);

// --- Pool of things that are costly to make. What lies in it unused for two calls of fib_pool_age is freed; the
// runtime calls it for all pools every 2 s at most, while fibers run.
struct fib_pool;
struct fib_pool *fib_pool_new(void *(*make)(void *arg), void (*destroy)(void *arg, void *item),
                              void *arg); // NULL: out of memory
void *fib_pool_get(struct fib_pool *p);   // one that was put, else make(arg)
void fib_pool_put(struct fib_pool *p, void *item);
void fib_pool_age(struct fib_pool *p);
void fib_pool_free(struct fib_pool *p); // destroys what is in it

// --- Context: cancellation, deadline and values, passed down (Go's context). Counted references: each function that
// returns one gives the caller one reference; a child holds its parent.
struct fib_ctx;
struct fib_chan;

struct fib_ctx *fib_ctx_background(void); // never cancelled; not counted
// NULL: out of memory. All three are cancelled when their parent is. A deadline needs a runtime that has been
// started: aborts.
struct fib_ctx *fib_ctx_with_cancel(struct fib_ctx *parent);
struct fib_ctx *fib_ctx_with_deadline(struct fib_ctx *parent, int64_t deadline_ns); // by fib_now_ns
struct fib_ctx *fib_ctx_with_timeout(struct fib_ctx *parent, int64_t timeout_ns);
struct fib_ctx *fib_ctx_with_value(struct fib_ctx *parent, const void *key, void *value);
struct fib_ctx *fib_ctx_ref(struct fib_ctx *c);
// NULL is allowed. The last reference of callers to one that can be cancelled cancels it and all below, as Go's
// `defer cancel()` does, so that no timer stays behind; one with a value ends nothing.
void fib_ctx_unref(struct fib_ctx *c);

// Cancels it and all below, which is done when it returns. cause: a negative errno (0: -ECANCELED). Only the first
// counts. The background and contexts with a value cannot be cancelled: aborts.
void fib_ctx_cancel(struct fib_ctx *c, int cause);
// Closed when it is cancelled, for select; NULL if it never will be. Lives as long as c.
struct fib_chan *fib_ctx_done(struct fib_ctx *c);
int fib_ctx_error(struct fib_ctx *c); // 0; -ECANCELED; -ETIMEDOUT: its deadline
int fib_ctx_cause(struct fib_ctx *c); // 0; what cancel was given, of the ancestor where it began
bool fib_ctx_deadline(struct fib_ctx *c, int64_t *deadline_ns); // false: none
void *fib_ctx_value(struct fib_ctx *c, const void *key);        // NULL: none
int fib_ctx_sleep(struct fib_ctx *c, int64_t ns);               // 0, or fib_ctx_error's

// --- Task group: fibers with one end, first error, and cancellation of the others (errgroup).
struct fib_group;
typedef int fib_task_fn(void *arg, struct fib_ctx *ctx);
// limit: how many run at a time, 0: all. ctx NULL: the background. NULL: out of memory.
struct fib_group *fib_group_new(struct fib_ctx *ctx, uint32_t limit);
int fib_group_go(struct fib_group *g, fib_task_fn *fn,
                 void *arg); // waits while the limit is reached
int fib_group_try(struct fib_group *g, fib_task_fn *fn, void *arg); // -EAGAIN instead
int fib_group_wait(struct fib_group *g); // all have ended: the first nonzero result, else 0
struct fib_ctx *fib_group_ctx(
    struct fib_group *g); // cancelled by the first error and after wait; the group's
void fib_group_free(struct fib_group *g); // waits first

// --- Single-flight: callers with the same key at the same time share one call.
struct fib_flight;
struct fib_flight *fib_flight_new(void);
// Runs fn(arg) unless a call for the key runs, and waits for it then; *result is what fn returned. *is_shared
// (may be NULL): others got it, too. 0, -ENOMEM. If the fiber that runs fn ends in it (fib_exit), another runs its own.
int fib_flight_do(struct fib_flight *f, const char *key, void *(*fn)(void *arg), void *arg,
                  void **result, bool *is_shared);
void fib_flight_forget(struct fib_flight *f, const char *key); // the next call runs anew
void fib_flight_free(struct fib_flight *f);

// --- Worker pool: a fixed number of fibers with a bounded queue.
struct fib_workers;
enum fib_overflow { FIB_BLOCK, FIB_DROP_OLDEST, FIB_REJECT };
struct fib_workers_options {
    size_t size;             // sizeof(struct fib_workers_options)
    uint32_t workers, queue; // 0: fib_procs, 1024
    enum fib_overflow overflow;
    int64_t task_timeout_ns; // a task's ctx is cancelled after it; 0: none
};
struct fib_workers_counts {
    uint64_t submitted, done, failed, dropped, rejected, timed_out, queued, running;
};
// o NULL: all by default. NULL: out of memory, or the runtime has not been started.
struct fib_workers *fib_workers_new(struct fib_ctx *ctx, const struct fib_workers_options *o);
// 0; -EAGAIN: rejected; -ESHUTDOWN: draining. A dropped task is run by the caller with a cancelled ctx, so that it can
// clean up.
int fib_workers_submit(struct fib_workers *w, fib_task_fn *fn, void *arg);
void fib_workers_counts(struct fib_workers *w, struct fib_workers_counts *out);
void fib_workers_drain(struct fib_workers *w); // no more submits; all queued tasks have ended
void fib_workers_free(struct fib_workers *w);  // drains first

#ifdef __cplusplus
} // extern "C"
#endif

#endif
