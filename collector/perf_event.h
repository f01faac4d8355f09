// SPDX-License-Identifier: MIT
//
// Opening perf events: what the kernel allows, and the CPU clock that signals a target's threads.
//
// Two users. The launcher puts a task-clock event on each thread of a target that has an agent: the
// kernel sends that very thread SIGPROF each `period` of its CPU time, and no descriptor is left in
// the target. `doctor` asks what would be allowed, and why not.
//
// What always holds
//   - Events are enabled by PERF_EVENT_IOC_ENABLE alone. PERF_EVENT_IOC_REFRESH hangs kernels 6.16
//     and 6.17.
//   - Every event is CLOEXEC here and, with a signal, remove_on_exec there: a SIGPROF that a new
//     image does not expect would kill it. That is not enough by itself: a signal that arrives inside
//     execve is pending when the new image starts (at 5000 Hz 51 of 60 died), so the target ignores
//     SIGPROF before it execs (agent/images.c).
//   - Kernel time is included wherever the kernel allows it; who asks is told when it was not.
//
// Not thread-safe; nothing here prints. Source: perf_event_open(2), linux/perf_event.h.

#ifndef FIBERSCOPE_COLLECTOR_PERF_EVENT_H
#define FIBERSCOPE_COLLECTOR_PERF_EVENT_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct perf_event_attr;

// --- Why an event was refused.

enum perf_refusal {
    PERF_ALLOWED,
    PERF_REFUSED_PARANOID,    // EACCES: kernel.perf_event_paranoid
    PERF_REFUSED_OWNER,       // EACCES: another user's process, or one that is not dumpable
    PERF_REFUSED_SECCOMP,     // EPERM (ENOSYS) although the sysctl allows it: a filter or a policy
    PERF_REFUSED_NO_TARGET,   // ESRCH: no such thread any more
    PERF_REFUSED_NO_EVENT,    // ENOENT, ENOSYS, EOPNOTSUPP, E2BIG: the kernel has no such event
    PERF_REFUSED_DESCRIPTORS, // EMFILE, ENFILE: RLIMIT_NOFILE
    PERF_REFUSED_MEMORY,      // ENOMEM, and EPERM of mmap: perf_event_mlock_kb
    PERF_REFUSED_OTHER,
};

// perf_event_open(2); the descriptor or -errno.
int perf_event_open_raw(struct perf_event_attr *attr, pid_t tid, int cpu, int group,
                        uint64_t flags);

// What error (an errno of perf_event_open) means for a thread of process pid (0: our own). May try
// to open an event on ourselves to tell the cases apart.
enum perf_refusal perf_event_classify(int error, pid_t pid);

// One line that says why and what to do: "perf_event_open: kernel.perf_event_paranoid is 4 and this
// user has no CAP_PERFMON: run as root, or sysctl kernel.perf_event_paranoid=2". Returns the length
// as snprintf does.
int perf_event_explain(enum perf_refusal why, int error, pid_t pid, char *text, size_t size);

// Whether the process's CPU time can be sampled from outside: 0, or -errno and why in one line.
int perf_event_try(pid_t pid, char *why, size_t size);

// --- What this machine and this user may do.

struct perf_rights {
    int paranoid;      // kernel.perf_event_paranoid; INT_MIN if it cannot be read
    bool has_perfmon;  // CAP_PERFMON or CAP_SYS_ADMIN is effective
    bool user, kernel; // a task-clock event on ourselves opened, without and with kernel time
    bool hardware;     // a cycles event opened: there is a PMU
    int user_error;    // errno of the refusals, 0
    int kernel_error;
    enum perf_refusal user_why, kernel_why;
    uint64_t mlock_kb; // kernel.perf_event_mlock_kb, per CPU and user
    uint64_t rate_max; // kernel.perf_event_max_sample_rate
    long cpu_count;
};

// Really opens (and closes) events.
void perf_rights_probe(struct perf_rights *r);

// The rate at which signals arrive on a busy thread: spins for spin_ns of CPU time at the asked rate.
// by_event: a perf event, else timer_create on the thread's CPU clock. Signals per CPU second, or a
// negative -errno. Takes over SIGPROF of the calling thread meanwhile.
double perf_delivered_rate(bool by_event, uint32_t hz, uint64_t spin_ns);

// Raises RLIMIT_NOFILE's soft limit to the hard one, at most to want. Returns the new soft limit.
uint64_t perf_raise_descriptor_limit(uint64_t want);

// --- The CPU clock of a target's threads.

struct perf_clocks; // one event per thread

struct perf_clocks_options {
    size_t size; // sizeof(struct perf_clocks_options)
    pid_t pid;   // the target, in our pid namespace
    uint32_t hz; // signals per second of CPU time
    int signal;  // 0: SIGPROF
};

// Nothing is opened yet. 0 or -ENOMEM. The caller owns *out.
int perf_clocks_new(struct perf_clocks **out, const struct perf_clocks_options *opts);

// Stops all signals (what is already pending still arrives) and closes. Accepts NULL.
void perf_clocks_free(struct perf_clocks *c);

// Starts the clock of one thread, whose handler is in place (without one the signal kills it). 0
// (also if it runs already), -EACCES, -EPERM, -ESRCH, -EMFILE...: err says why and what to do.
// -EMFILE leaves the others running. An exec ends all clocks of the old image; the new image's
// threads are added anew once its handler is in place.
int perf_clocks_add(struct perf_clocks *c, pid_t tid, struct fscope_error *err);

// Adds all threads of the process there are now, drops those that are gone. The number of threads
// that have a clock, or -errno when the first one was refused. [err as perf_clocks_add]
int perf_clocks_sync(struct perf_clocks *c, struct fscope_error *err);

// The thread has ended: closes its event. Unknown tids are fine.
void perf_clocks_remove(struct perf_clocks *c, pid_t tid);

// Another rate from now on; 0 pauses. 0 or -errno.
int perf_clocks_set_rate(struct perf_clocks *c, uint32_t hz);

// Whether samples taken inside the kernel are included (known after the first add). Where they are
// not, why_not (may be NULL) gets one line with reason and remedy.
bool perf_clocks_kernel(const struct perf_clocks *c, char *why_not, size_t size);

// CPU time in ns that the threads have used while their events ran, also threads already removed:
// signals * 1e9 / this is the delivered rate.
uint64_t perf_clocks_cpu_ns(struct perf_clocks *c);

size_t perf_clocks_count(const struct perf_clocks *c);

#endif
