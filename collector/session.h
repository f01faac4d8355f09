// SPDX-License-Identifier: MIT
//
// A running process that is looked at for as long as it lives, by who serves it (serve.h) or shows it (`fiberscope
// top`): profiles on demand, by the agent inside if there is one (call.h), else from outside.
//
// What always holds
//   - The process is never stopped and never waits for us.
//   - What is state in the segment (heap, locks, custom profiles) is read as it is, by any number of readers; it is
//     never reset. A stream (CPU, wall, trace) has one consumer: a second one gets -EBUSY.
//   - What session_open switched on is on until session_close, and off after it, unless somebody else had it on.
//   - A profile comes symbolized, with inlined frames.
//
// Any thread may call anything but session_close at any time; calls that last do not hold others up. Nothing here prints.

#ifndef FIBERSCOPE_COLLECTOR_SESSION_H
#define FIBERSCOPE_COLLECTOR_SESSION_H

#include "base/error.h"
#include "formats/pprof.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct session;

enum session_way {
    SESSION_AGENT, // libfiberscope.so is in it
    // Perf rings and reading its memory: no wall time, heap, block, mutex, custom profiles, no trace. Or BPF programs
    // (SESSION_ONLY_KERNEL): as these, but with wall and off-CPU time, block and mutex.
    SESSION_OUTSIDE,
};

enum session_method { SESSION_AUTO, SESSION_ONLY_AGENT, SESSION_ONLY_OUTSIDE, SESSION_ONLY_KERNEL };

struct session_options {
    size_t size; // sizeof(struct session_options)
    uint32_t pid;
    enum session_method method;
    // Switched on where the agent is in and has them off; 0: left as they are.
    uint64_t heap_bytes, block_ns, mutex_fraction;
};

// -ESRCH, -EPERM, -EOPNOTSUPP (the method cannot be had; err says why, and what to do), -ENOMEM. The caller owns
// *out: session_close, after which the process runs on.
int session_open(struct session **out, const struct session_options *o, struct fscope_error *err);
void session_close(struct session *s); // accepts NULL

// All that needs privilege is open: of a session by eBPF the rest is given up, for good, and its work begins. Before the
// caller makes threads, which would keep what it has. 0 or -errno.
int session_begin(struct session *s, struct fscope_error *err);
bool session_is_by_kernel(const struct session *s);

enum session_way session_way(const struct session *s);
const char *session_why(const struct session *s); // why not by the agent, in words; "" if it is
const char *session_cpu_why(
    const struct session *s); // why no CPU time from outside; "" if it can be had
uint32_t session_pid(const struct session *s);
const char *session_program(const struct session *s); // base name
// Another number once the process has executed another program; 0: not to be had.
uint64_t session_image(const struct session *s);
int session_fd(
    const struct session *s); // a pidfd, the session's: readable once the process has ended

// --- State.

// A profile as it is now: "heap", "allocs" (the same data, another default), "block", "mutex", "goroutine" (every
// fiber, where there is the runtime; else every thread), "threadcreate" (every thread, by the function that it was
// made for), "threads" (every thread, by stack and state), or the name of a custom profile. Cumulative since the recording of it
// began; goroutine, threadcreate and threads are of now. -ENOENT: there is no profile of this name. -EOPNOTSUPP: it is
// not recorded, err says what to do. -ESRCH: the process has ended (what it left can still be read). The caller
// owns *out (pprof_free).
int session_profile(struct session *s, const char *name, struct pprof_profile **out,
                    struct fscope_error *err);

// Calls fn with each profile that there is, sorted by name, and how many entries it has (stacks, fibers, threads; as
// the index page of Go counts). Stops where fn returns nonzero, and returns that. 0 or -errno.
int session_each_profile(struct session *s, int (*fn)(void *arg, const char *name, uint64_t count),
                         void *arg);

// --- Streams.

// What has come up to now, for who watches a recording while it goes on.
struct session_window {
    struct pprof_profile *profile; // since the beginning, symbolized; the callee's (pprof_free)
    uint64_t duration_ns;          // since the beginning
    uint64_t lost;                 // samples that had to be dropped
};

struct session_stream {
    size_t size;          // sizeof(struct session_stream)
    bool wall, offcpu;    // else CPU time; offcpu: of threads that do not run, SESSION_ONLY_KERNEL
    uint32_t hz;          // 0: 100, as Go's
    uint64_t duration_ns; // 0: until the process ends
    // Asked ten times a second; true ends it early (a client that has gone). NULL: nobody is asked.
    bool (*is_over)(void *arg);
    void *arg;
    // session_sample: called each window_ns on its own thread, between two samples; the recording goes on meanwhile,
    // in rings that are emptied when fn returns. NULL: nobody is told.
    void (*window)(void *arg, const struct session_window *w);
    uint64_t window_ns;
};

// Samples for so long. -EBUSY: somebody else does already. -EOPNOTSUPP: not to be had, err says what to do.
int session_sample(struct session *s, const struct session_stream *o, struct pprof_profile **out,
                   struct fscope_error *err);

// Records an execution trace for so long (o->wall and o->hz: unused) into the file at path, which is made anew; *bytes
// is its size. -EBUSY, -EOPNOTSUPP (there is no agent).
int session_trace(struct session *s, const struct session_stream *o, const char *path,
                  uint64_t *bytes, struct fscope_error *err);

// What the flight recorder holds, if the process has one on (-ENODATA: it has not).
int session_flight(struct session *s, const char *path, uint64_t *bytes, struct fscope_error *err);

// --- Tables, of now.

enum { SESSION_TEXT = 64, SESSION_ON_TEXT = 96 };

// A fiber or a thread. What it did counts since it first ran, age_ns ago (0: unknown); the rest of that it waited.
// NOLINTNEXTLINE(*Padding): by what belongs together
struct session_row {
    uint64_t id; // of a thread: its number
    char name[SESSION_TEXT];
    char state[SESSION_TEXT / 2]; // "running", or what it waits for: "chan receive"
    bool is_waiting;
    uint64_t start,
        created_at;    // addresses: of its start function, behind the call that made it; 0: unknown
    uint64_t since_ns; // that it has waited; 0: unknown
    uint64_t age_ns, busy_ns, runnable_ns; // of a fiber, runnable is an estimate
    uint64_t switches, wakes, self_wakes, preempted;
    uint32_t tid; // that runs it; 0: none
    char on
        [SESSION_ON_TEXT]; // what it waits for: "g_lock", "0x7f..", "epoll_wait on fd 4"; "": nothing
    uint64_t holder;       // who has that, or whose end it waits for; 0: nobody, or it is unknown
    bool is_held_by_thread;
    char labels[SESSION_TEXT]; // "route=/a, user=7", cut
};

// Calls fn with each fiber, or thread, until it returns nonzero, and returns that; else 0. -ENOENT: there is no fiber
// runtime in it. -ESRCH, -EPERM (it may not be looked into; threads are had all the same), -ENOMEM.
int session_each_fiber(struct session *s, int (*fn)(void *arg, const struct session_row *row),
                       void *arg, struct fscope_error *err);
int session_each_thread(struct session *s, int (*fn)(void *arg, const struct session_row *row),
                        void *arg, struct fscope_error *err);

enum { SESSION_BUCKETS = 64 };

struct session_fibers { // since the runtime's start
    uint64_t procs, spawns, switches, steals, threads, threads_idle, thread_wakes, thread_parks;
    // Waits of runnable fibers for a processor of 2^i up to 2^(i+1) ns, the first also shorter ones; by one in 8.
    uint64_t latency[SESSION_BUCKETS];
};
// -ENOENT: there is no fiber runtime in it.
int session_fibers(struct session *s, struct session_fibers *out, struct fscope_error *err);

// --- What is counted.

struct session_counts { // since the process began to record; all modulo nothing: they only grow
    uint64_t ring_full, stacks_full, state_full, threads_full, modules_full, untracked; // losses
    uint64_t heap_alloc_objects, heap_alloc_bytes, heap_live_objects,
        heap_live_bytes; // exact ones only
    bool is_exact;
};
// -EOPNOTSUPP: no agent.
int session_counts(struct session *s, struct session_counts *out);

enum { SESSION_REGIONS_MAX = 64, SESSION_NAME = 128 };

struct session_region {      // all regions of a name that have ended since they are counted
    char name[SESSION_NAME]; // "": of those whose names are too many
    uint64_t count, errors, ns;
    uint64_t
        buckets[SESSION_BUCKETS]; // [i]: took 2^i up to 2^(i+1) ns, the first also shorter ones
    uint64_t unmeasured;          // of count: in no bucket
};

// NOLINTNEXTLINE(*Padding): by what belongs together
struct session_metrics {
    // By the kernel.
    bool has_process;
    double cpu_s, start_s; // start_s: since 1970
    uint64_t rss_bytes, virtual_bytes, threads;
    bool has_fds, has_fds_max, has_virtual_max;
    uint64_t fds, fds_max, virtual_max_bytes;
    bool has_cgroup, has_cgroup_limit;
    uint64_t cgroup_bytes, cgroup_limit_bytes, cgroup_headroom_bytes; // of the nearest limit
    // By the agent.
    bool has_counts;
    struct session_counts counts;
    bool has_heap; // what is sampled stands for what is not, as in the profile
    double heap_alloc_objects, heap_alloc_bytes, heap_live_objects, heap_live_bytes;
    bool has_mutex, has_block;
    double mutex_wait_s, block_wait_s;
    uint64_t mutex_contentions, block_contentions;
    bool has_regions;
    size_t region_count;
    struct session_region regions[SESSION_REGIONS_MAX + 1];
};

// What there is to be had. From the first call on, the program counts and times its regions, until session_close. 0;
// -ESRCH: the process has ended.
int session_metrics(struct session *s, struct session_metrics *out);

#endif
