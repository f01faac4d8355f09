// SPDX-License-Identifier: MIT
//
// Fibers: Go's scheduler (G, M, P) for C. Any number of fibers run on a few kernel threads, as many at a
// time as there are processors; they are switched in user space, wait without holding a thread, and
// are preempted when they run long. Link with -lfiberscope-rt.
//
//     static void hello(void *arg) { puts(arg); }
//     static void start(void *arg)
//     {
//         struct fib f;
//         if (!fib_go(&f, hello, "hello"))
//             fib_join(f);
//     }
//     int main(void) { return fib_main(start, NULL); }
//
// What always holds
//   - A fiber has one stack of fixed size, with a guard below it. It may go on in another thread after
//     any call that can wait, and after being preempted never: what belongs to the thread (errno, TLS)
//     stays valid between two such calls. See "errno and TLS" in fiberscope-runtime(7).
//   - Signals of the process are handled by threads that are no scheduler's, never on a fiber's stack.
//   - Functions return 0 or a negative errno where nothing else is said, and set no errno.
//   - Bad use (unlocking what one does not hold, sending on a closed channel) aborts, and says which
//     fiber, which call and which rule.
//   - Waiting functions work in plain threads of the process, too, and block the thread there.
//
// Times: durations are nanoseconds; a negative timeout_ns waits without end.

#ifndef FIBERSCOPE_FIBER_H
#define FIBERSCOPE_FIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// --- Starting.

// A fiber, by value: nobody owns it, and nothing has to be released. It names the fiber after its end,
// too: ids are never used again.
struct fib {
    void *g;     // the runtime's
    uint64_t id; // from 1; 0: none
};

typedef void fib_fn(void *arg);

struct fib_options {
    size_t size; // sizeof(struct fib_options)
    uint32_t
        procs; // how many fibers run at a time, at most 256; 0: FIB_MAXPROCS in the environment, else
               // the CPUs this process may use (affinity, cgroup quota rounded up)
    uint32_t threads_max; // threads for fibers, those in blocking calls included; 0: 10000, as Go
    size_t
        stack_bytes; // of a fiber, rounded up to a power of two; 0: FIB_STACK in the environment, else
                     // 256 KiB of address space, of which what is touched takes memory
    size_t main_stack_bytes; // of fib_main's fiber; 0: 8 MiB
    uint64_t
        stall_ns;  // a fiber that holds its processor longer is reported on standard error with its
                   // stack; 0: FIB_DEBUG=stall=MS, else never
    uint64_t seed; // nonzero (or FIB_DEBUG=seed=N): the deterministic scheduler. One processor, no
        // preemption, choices by a generator seeded with it, and a clock that jumps to the
        // next timer when all wait: the same seed gives the same interleaving
};

// Starts the runtime and runs fn in a fiber; returns 0 when fn has returned. Other fibers are then no
// longer waited for, as in Go. The calling thread waits meanwhile and handles the process' signals.
// When all fibers wait for each other, the process ends with status 2 and every fiber's stack on
// standard error. [a plain thread]
int fib_main(fib_fn *fn, void *arg);

// Starts the runtime and returns; for a program or library whose main keeps its own thread. options may
// be NULL. -EALREADY: it runs. -EINVAL: an option out of range. Else what mmap or pthread_create says.
// fib_main after it uses its options. [a plain thread]
int fib_init(const struct fib_options *options);

// Starts a fiber that runs fn(arg) and ends when it returns. out may be NULL. -ENOMEM: no memory for it; a
// stack is taken when it first runs, and if there is none then, it waits until one is free. A plain
// thread may call it when the runtime has been started; -ESRCH before. [any thread or fiber]
int fib_go(struct fib *out, fib_fn *fn, void *arg);

struct fib_go_options {
    size_t size;        // sizeof(struct fib_go_options)
    const char *name;   // shown in place of the start function; kept, not copied
    size_t stack_bytes; // 0: the runtime's; above 128 MiB: -EINVAL
};
int fib_go_with(struct fib *out, const struct fib_go_options *options, fib_fn *fn, void *arg);

// Waits for its end; at once if it has ended. Any number may join. -EDEADLK: it is the caller.
int fib_join(struct fib f);
int fib_join_for(struct fib f, int64_t timeout_ns); // -ETIMEDOUT

// Ends the calling fiber as returning from its function does; nothing is unwound. In a plain thread: aborts.
__attribute__((noreturn)) void fib_exit(void);

// --- The calling fiber.

struct fib fib_self(void); // id 0 in a plain thread

// Lets others that are ready run first. In a plain thread: sched_yield.
void fib_yield(void);

// Waits at least ns nanoseconds; ns <= 0 yields.
void fib_sleep(int64_t ns);

// The runtime's clock: CLOCK_MONOTONIC in ns, or the deterministic scheduler's.
int64_t fib_now_ns(void);

// Its name, copied, at most 31 bytes; in place of the start function's.
void fib_set_name(const char *name);

// Labels, at most 8 a fiber, keys and values up to 47 bytes (longer ones are cut). Fibers started from now on
// inherit them. value NULL takes it away; a ninth is left out. Returned is what stands for the labels
// before, for fib_labels_restore. The runtime has room for 4095 different sets, which stay; -ENOSPC
// beyond. -EINVAL: no key.
int32_t fib_label_set(const char *key, const char *value);
void fib_labels_restore(int32_t before);

// Values of a fiber, with a destructor that is called in the fiber when it ends with a value other than
// NULL, as pthread_key_create has it. At most 64 keys in a process. -EAGAIN: no more.
typedef uint32_t fib_key;
int fib_key_create(fib_key *key, void (*destructor)(void *value));
void *fib_local_get(fib_key key);
int fib_local_set(fib_key key, void *value); // -ENOMEM, -EINVAL: no such key

// --- Threads and preemption.

// What may block in the kernel is put between these two, so that others can use the processor meanwhile.
// Between them the fiber stays in its thread and must not wait by this library's means (aborts).
// They nest.
void fib_blocking_enter(void);
void fib_blocking_exit(void);

// Wires the fiber to its thread, which from now on runs nothing else, until as many unlocks. A fiber that
// ends locked takes the thread with it.
void fib_lock_thread(void);
void fib_unlock_thread(void);

// The fiber will go on in this same thread after each wait, but the thread runs others meanwhile: cheap,
// for code with state in TLS. They nest, at most 255 deep. While another fiber has locked that thread,
// this one waits.
void fib_pin(void);
void fib_unpin(void);

// No preemption between them: for spin locks and the like. They nest.
void fib_preempt_disable(void);
void fib_preempt_enable(void);

// How many fibers run at a time; procs 0 only asks. Returned is what it was before. Takes effect as
// the processors come to their next switch.
uint32_t fib_procs(uint32_t procs);

// --- Timers. A struct fib_timer belongs to the caller and must stay where it is until it is stopped or has
// fired; all zero is a stopped timer. One that is neither all zero nor was started aborts, and so does starting
// one before the runtime; one that runs and was moved or written over does so when that is noticed.

struct fib_timer {
    uint64_t opaque[10];
};

// Starts it (or starts it anew): after ns, fn(arg) runs in a fiber of its own, as Go's time.AfterFunc.
// period_ns > 0: and then every period_ns. True if it was running before.
bool fib_timer_start(struct fib_timer *t, int64_t ns, int64_t period_ns, fib_fn *fn, void *arg);
// True if it was running and will now not fire; false if it was not, or has fired (fn may still run).
bool fib_timer_stop(struct fib_timer *t);
// The same fn after ns from now. True if it was running. One that was never started aborts.
bool fib_timer_reset(struct fib_timer *t, int64_t ns);

// --- Looking at fibers.

enum fib_status {
    FIB_DEAD,
    FIB_RUNNABLE, // waits for a processor
    FIB_RUNNING,
    FIB_SYSCALL,   // in a blocking call
    FIB_WAITING,   // for what `reason` says
    FIB_PREEMPTED, // runnable, bound to the thread whose signal handler holds it
};

struct fib_info {
    size_t size;          // sizeof(struct fib_info), set by the caller
    uint64_t id, creator; // creator 0: a plain thread
    enum fib_status status;
    char name[32];          // "" if it has none
    fib_fn *start;          // its function
    const void *created_at; // the pc behind the fib_go that made it
    const char *reason;     // of the wait, in Go's words: "chan receive"; "" if it does not wait
    const void *object;     // waited for
    uint64_t owner;         // of the lock waited for: a fiber's id; 0: none
    uint64_t waiting_ns;    // since when
    uint64_t cpu_ns;        // time that it ran
    uint64_t
        runnable_ns; // time that it waited for a processor: estimated from one in 8 waits, as Go does
    uint64_t switches;       // how often it was switched to
    uint64_t wakes;          // how often it was made runnable
    uint64_t preempted;      // how often it was preempted
    size_t stack_bytes;      // of address space; 0: has not run yet
    size_t stack_used_bytes; // pages touched so far, in bytes
};
int fib_info_read(struct fib f, struct fib_info *out); // -ESRCH: has ended

// Calls fn for each living fiber, until it returns nonzero, which is returned. Those that start or end
// meanwhile may be missed. fn must not wait.
int fib_each(int (*fn)(void *arg, struct fib f), void *arg);

// The stack of a fiber that does not run: pcs leaf first, at most max; the depth, or -EBUSY: it runs;
// -ESRCH.
int fib_stack(struct fib f, uintptr_t *pcs, uint32_t max);

// Prints all fibers as Go prints goroutines ("goroutine 7 [chan receive, 3 minutes]:") on fd. FIB_DEBUG=
// sigquit=0 leaves SIGQUIT alone, which otherwise prints this and exits with status 2.
// [any thread or fiber] [async-signal-safe]
void fib_dump(int fd);

// Prints on fd the fibers alive now, but for the caller, by the place that created them, with what is used of
// their stacks; returned is their number. For the end of main, and of tests.
uint32_t fib_leakcheck(int fd);

// A place that creates fibers.
struct fib_site {
    const void *created_at; // the pc behind the fib_go; NULL: all places beyond the first 4096
    uint64_t
        stack_used_max_bytes; // the high-water mark of the stacks of its measured fibers, in whole
                              // pages: the first one, and then one in 1025. 0: none has run
    uint64_t measured;        // how many of these have ended
};
// Calls fn for each place that has created fibers, until it returns nonzero, which is returned. For choosing
// stack_bytes: the rarest and deepest path may have been one that was not measured.
int fib_each_site(int (*fn)(void *arg, const struct fib_site *site), void *arg);

// Metrics, with the names of Go's runtime/metrics where they mean the same: "/sched/goroutines:goroutines".
struct fib_metric {
    const char *name;
    uint64_t value;          // a count, ns or bytes, as the name's unit says
    const uint64_t *buckets; // of a histogram, bucket_count of them; else NULL
    const double *bounds;    // bucket_count + 1 of them, ascending, in the name's unit
    uint32_t bucket_count;
    const char *description;
};
// Calls fn for each.
void fib_metrics_read(void (*fn)(void *arg, const struct fib_metric *m), void *arg);

#ifdef __cplusplus
} // extern "C"
#endif

// errno in code whose compiler keeps its address over a switch (all do): define FIB_ERRNO before including
// this, after <errno.h>, or compile with -D__const__=__unused__.
#ifdef FIB_ERRNO
#undef errno
#define errno (*fib_errno_location())
#endif
#ifdef __cplusplus
extern "C"
#endif
    int *
    fib_errno_location(void);

#endif
