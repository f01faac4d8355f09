// SPDX-License-Identifier: MIT
//
// Profiles that a program takes of itself, labels for its threads, and budgets for unit tests. Link
// with -lfiberscope; no LD_PRELOAD is needed.
//
//     fscope_cpu_start(NULL);
//     fscope_heap_start(0);
//     work();
//     fscope_save("work.fscope");        // then: fiberscope finish work.fscope
//
// The program only records; names, lines and the pprof format are made by the fiberscope command.
// What is recorded is kept in memory of a fixed size: where single samples no longer fit, their stacks
// and times are still added up. All threads are recorded, also those that exist already. A forked
// child goes on with a recording of its own, which begins empty.
//
// Functions return 0 or a negative errno where nothing else is said, and set no errno.
//
// Heap profiles, budgets and allocation counts see what goes through malloc, free and their family, and
// operator new and delete, of whatever shared library these are. An allocator that is linked into the
// program statically, or loaded before us, passes by unseen: -ENOTSUP.

#ifndef FIBERSCOPE_PROFILE_H
#define FIBERSCOPE_PROFILE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// --- CPU and wall time.

struct fscope_cpu_options {
    size_t size;      // sizeof(struct fscope_cpu_options)
    uint32_t cpu_hz;  // samples per second of CPU time and thread, at most 10000; 0: 99
    uint32_t wall_hz; // samples per second of wall time and thread; 0: none
};

// Starts sampling; options may be NULL. -EALREADY: sampling is on (perhaps by FIBERSCOPE in the
// environment). -EINVAL: a rate out of range. -EAGAIN: too many timers (RLIMIT_SIGPENDING); nothing
// is sampled then. Else what mmap or memfd_create says. [any thread] [not async-signal-safe]
int fscope_cpu_start(const struct fscope_cpu_options *options);

// Stops sampling, and nothing else; what was recorded is kept, and start continues it. -EINVAL: it
// is not on.
// [any thread] [not async-signal-safe]
int fscope_cpu_stop(void);

// --- Heap, block and mutex profiles, and the order of locks. 0 takes the default rate. Errors are those of mmap or memfd_create
// where nothing else is said. stop keeps what was recorded, and start continues it; -EINVAL: it is not on.
// [any thread] [not async-signal-safe]

// Samples allocations, one per rate_bytes allocated on average (default 524288, as Go's MemProfileRate);
// 1 counts every one. What was allocated before is unknown: its frees count nowhere. Threads that have
// allocated already join in within their next MiB. -EBUSY: a recording has one rate, and this is another;
// or it began with something else, so that it has no room for counting every one. -ENOTSUP: the
// allocator cannot be seen.
int fscope_heap_start(uint64_t rate_bytes);
int fscope_heap_stop(void);

// Records where threads wait for mutexes, rwlocks, conditions, semaphores, barriers and joins: waits of
// rate_ns and longer always, shorter ones in proportion (default 10000 ns; 1: all). May be called again
// to change the rate, as may the next.
int fscope_block_start(uint64_t rate_ns);
int fscope_block_stop(void);

// Records whose unlock ends others' waits: one in `fraction` (default 1: all).
int fscope_mutex_start(uint64_t fraction);
int fscope_mutex_stop(void);

// Watches the order in which locks are taken: `fiberscope waits PID` (or a file of fscope_save) then tells of orders that
// contradict each other, which is a deadlock that has not happened yet. Locks that are held already are not
// known as held. Another start after a stop keeps what was seen. -EBUSY: a recording into a black box
// (FIBERSCOPE's segment=) began without it, so that it has no room.
int fscope_order_start(void);
int fscope_order_stop(void);

// --- Writing. Everything recorded since the program began to record, of all kinds, in the raw form that
// `fiberscope finish` turns into one file per kind. Recording may go on meanwhile. -ENODATA: nothing
// was ever started.

int fscope_write(int fd); // [any thread] [async-signal-safe]
// To a file, which appears whole or not at all and is replaced if it exists.
int fscope_save(const char *path); // [any thread] [not async-signal-safe]

int fscope_cpu_write(int fd);          // the same as fscope_write
int fscope_cpu_save(const char *path); // the same as fscope_save

// --- Serving. Starts `fiberscope serve` beside this process, which answers at "127.0.0.1:6060", "[::1]:PORT",
// "unix:/run/app.sock" or, with a token in FIBERSCOPE_TOKEN, at any address, what net/http/pprof answers in Go programs, as
// FIBERSCOPE_SERVE=ADDRESS in the environment does from the start. It is no child of the program, and ends with it; after it
// was killed, another call brings it back. What it cannot do (the port is taken) it says on stderr. -ENOENT: the
// fiberscope command is neither beside this library nor in PATH. Else as fscope_cpu_start.
// [any thread] [not async-signal-safe]
int fscope_serve(const char *address);

// --- Labels: what the calling thread is doing. Its samples and events carry them from now on, as string
// labels of the profile: `fiberscope top -tagfocus request=/login`. At most 16 per thread; keys and
// values up to 255 bytes, longer ones are cut. New threads, forked children and new images begin
// without. Values are to be of a kind that repeats (a route, not a request's number): a recording has
// room for some 16,000 different strings and sets; what does not fit is left out and counted. Setting one
// costs some 80 ns. In a fiber of libfiberscope-rt they are the fiber's own (fib_label_set: 8, up to 47 bytes):
// they move with it, and fibers that it starts inherit them.
// [any thread, for itself] [not async-signal-safe]

// Sets one label (value NULL: takes it away). What is returned stands for the labels as they were before,
// for fscope_labels_restore. Without a recording nothing happens, and 0 is returned: no labels.
uint32_t fscope_label_set(const char *key, const char *value);
void fscope_labels_restore(uint32_t before);

// FSCOPE_LABEL(key, value): a label for the rest of the block; at the end of this header.

// --- Custom profiles: things that the program counts by where they were made, as Go's pprof.NewProfile.
// A profile's value is what was added and not yet removed.

struct fscope_profile; // lives as long as the program

// The profile of that name, made if need be. NULL: the name is empty, longer than 63 bytes or one of ours
// (cpu, wall, heap, allocs, lifetime, block, mutex, custom), or there are 64 profiles.
// [any thread] [not async-signal-safe]
struct fscope_profile *fscope_profile_get(const char *name);

// Adds object, a pointer or number of the program's own choice, at the caller's stack. -EEXIST: it is in.
// -ENOSPC: 65536 objects are. Begins a recording if there is none. In a forked child profiles begin
// empty. remove may come from another thread than add. [any thread] [not async-signal-safe]
int fscope_profile_add(struct fscope_profile *p, const void *object);
int fscope_profile_remove(struct fscope_profile *p, const void *object); // -ENOENT: it is not in
uint64_t fscope_profile_count(const struct fscope_profile *p);

// --- Counting allocations, for tests. No recording is needed.

struct fscope_allocs {
    // Asked for, not rounded up; realloc counts as an allocation, and a malloc that fails may.
    uint64_t objects, bytes;
};

// What the calling thread has allocated since *since (NULL: ever). -ENOTSUP: see above, and *out is 0.
// [any thread] [async-signal-safe but for the process' first call, which looks at the allocator]
//
//     struct fscope_allocs mark, n;
//     fscope_thread_allocs(NULL, &mark);
//     parse(input);
//     fscope_thread_allocs(&mark, &n);
//     assert(n.objects == 0);
int fscope_thread_allocs(const struct fscope_allocs *since, struct fscope_allocs *out);

// --- Budgets: what the calling thread must not do now.

enum {
    FSCOPE_ALLOC = 1, // malloc, calloc, realloc, operator new and all of their family; not free
    // Waiting for a mutex or rwlock that is held, for a condition, semaphore, barrier or thread. A lock
    // that is free may be taken. Waits that libc does inside itself, and those of read, poll or sleep,
    // are not seen.
    FSCOPE_BLOCK = 2,
};

// What is done instead of printing and aborting; it may allocate and lock. what: FSCOPE_ALLOC or
// FSCOPE_BLOCK. bytes: asked for, 0 for a block. stack: pcs of the offending call, leaf first; it is
// valid until the function returns. depth 0: FSCOPE_ALLOC is forbidden, but the allocator cannot be seen.
// It may not throw or longjmp; when it returns, the call goes on. What it writes is to be volatile or atomic:
// compilers know malloc, and that it changes no variable of the program's.
typedef void fscope_forbidden_fn(void *arg, uint32_t what, size_t bytes, const uintptr_t *stack,
                                 uint32_t depth);

// Adds `what` to what is forbidden; returns what was forbidden before, for fscope_allow. A budget that
// cannot be watched must not pass: where allocations cannot be seen, forbidding them is itself a violation.
// [any thread, for itself] [async-signal-safe but for the process' first call]
uint32_t fscope_forbid(uint32_t what);
void fscope_allow(uint32_t before);

// Who is told, for all threads; NULL: what was done is printed with its stack, then abort().
// [not while anything is forbidden in another thread]
void fscope_on_forbidden(fscope_forbidden_fn *fn, void *arg);

// Prints a stack that fscope_forbidden_fn got on fd, one line a frame: function, file and offset.
// [any thread] [not async-signal-safe]
void fscope_print_stack(int fd, const uintptr_t *stack, uint32_t depth);

// FSCOPE_FORBID(what): for the rest of the block; at the end of this header.

// --- Benchmarks, with the lines that Go's testing package prints and benchstat reads:
//
//     BenchmarkParse-2    1000000    1042 ns/op    16 B/op    1 allocs/op
//
// As there, allocations per operation are rounded down; the result has the sums.

struct fscope_bench {
    uint64_t n;         // how often the function is to do the thing that is measured
    uint64_t set_bytes; // the function may set it: bytes worked on per operation, for MB/s
    struct fscope_bench_state *state;
};

typedef void fscope_bench_fn(struct fscope_bench *b, void *arg);

struct fscope_bench_options {
    size_t size;         // sizeof(struct fscope_bench_options)
    uint64_t time_ns;    // of a run, about; 0: one second
    uint64_t iterations; // nonzero: exactly so many instead
    uint32_t count;      // how many runs, a line each; 0: one
    int fd;              // where to; 0: standard output
};

struct fscope_bench_result { // of the last run
    uint64_t n, ns, alloc_objects, alloc_bytes;
};

// Runs fn with n = 1, then with what the last run predicts to take a fifth longer than time_ns (at most a
// hundred times the last n, and 1e9), until a run takes time_ns; prints its line: Benchmark, name, and
// -N on N > 1 processors. In name, blanks become _ and its first letter a capital. options and
// result may be NULL. Allocations are the calling thread's; where they cannot be seen, their columns
// are missing and the result has 0. -EINVAL: no name. Else what write(2) says.
// [any thread] [not async-signal-safe]
int fscope_bench_run(const char *name, fscope_bench_fn *fn, void *arg,
                     const struct fscope_bench_options *options,
                     struct fscope_bench_result *result);

// In the function, for its timer and allocation counts: leaves out what was done up to here; stops; goes
// on. Stopping a stopped one, or starting a running one, changes nothing.
void fscope_bench_reset(struct fscope_bench *b);
void fscope_bench_stop(struct fscope_bench *b);
void fscope_bench_start(struct fscope_bench *b);

#ifdef __cplusplus
} // extern "C"

namespace fscope
{

// A label for the rest of the scope.
class label
{
  public:
    label(const char *key, const char *value) : before_(fscope_label_set(key, value))
    {
    }
    ~label()
    {
        fscope_labels_restore(before_);
    }
    label(const label &) = delete;
    label &operator=(const label &) = delete;

  private:
    uint32_t before_;
};

// What must not happen for the rest of the scope.
class forbid
{
  public:
    explicit forbid(uint32_t what) : before_(fscope_forbid(what))
    {
    }
    ~forbid()
    {
        fscope_allow(before_);
    }
    forbid(const forbid &) = delete;
    forbid &operator=(const forbid &) = delete;

  private:
    uint32_t before_;
};

} // namespace fscope
#endif

// --- The rest of the block, in C with gcc or clang, and in C++:
//
//     FSCOPE_LABEL("request", path);
//     FSCOPE_FORBID(FSCOPE_ALLOC | FSCOPE_BLOCK);

#define FSCOPE_JOIN2_(a, b) a##b
#define FSCOPE_JOIN_(a, b)  FSCOPE_JOIN2_(a, b)

#ifdef __cplusplus
#define FSCOPE_LABEL(key, value)                                                                   \
    const ::fscope::label FSCOPE_JOIN_(fscope_label_, __COUNTER__)((key), (value))
#define FSCOPE_FORBID(what) const ::fscope::forbid FSCOPE_JOIN_(fscope_forbid_, __COUNTER__)(what)
#elif defined(__GNUC__)
static inline void fscope_label_end_(const uint32_t *before)
{
    fscope_labels_restore(*before);
}
static inline void fscope_forbid_end_(const uint32_t *before)
{
    fscope_allow(*before);
}
#define FSCOPE_LABEL(key, value)                                                                   \
    __attribute__((cleanup(fscope_label_end_), unused)) const uint32_t FSCOPE_JOIN_(               \
        fscope_label_, __COUNTER__) = fscope_label_set((key), (value))
#define FSCOPE_FORBID(what)                                                                        \
    __attribute__((cleanup(fscope_forbid_end_), unused)) const uint32_t FSCOPE_JOIN_(              \
        fscope_forbid_, __COUNTER__) = fscope_forbid(what)
#endif

#endif
