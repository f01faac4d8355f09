// SPDX-License-Identifier: MIT
//
// Recording: what the command line asks for, and what came of it. record_command launches a program
// under the agent; record_attach (perf_attach.c) watches a running process from outside. Both fill
// builders, and record_write turns these into files.
//
// Invariant: whatever ends a recording (the target's exit or crash, Ctrl-C, the duration), what was
// recorded up to then is written, or the caller is told why not; no file is ever half-written.

#ifndef FIBERSCOPE_COLLECTOR_RECORD_H
#define FIBERSCOPE_COLLECTOR_RECORD_H

#include "base/error.h"
#include "collector/builder.h"
#include "collector/series.h"

#include <stdbool.h>
#include <stdio.h>

enum record_method {
    RECORD_AUTO, // the agent inside, if it answers and what is asked for needs it or it is the better way; else outside
    RECORD_AGENT, // call.h
    RECORD_INJECT, // the same, put in first if it is not there, and then taken out of service at the end (inject.h)
    RECORD_PERF, // from outside, the process untouched
    RECORD_EBPF, // from outside by BPF programs (bpf/ebpf.h): needs privilege
};

struct record_options {
    size_t size;         // sizeof(struct record_options)
    uint32_t cpu_hz;     // 0: no CPU profile
    uint32_t wall_hz;    // 0: no wall profile
    uint64_t heap_bytes; // mean bytes per sampled allocation; 1: every one; 0: no heap profile
    uint64_t block_ns;   // waits this long are kept, shorter ones by chance; 0: no block profile
    uint64_t mutex_fraction;   // 1 in so many contended unlocks; 0: no mutex profile
    uint64_t offcpu_fraction;  // RECORD_EBPF: 1 in so many waits of threads; 0: no off-CPU profile
    uint64_t fiber_fraction;   // RECORD_EBPF: 1 in so many of what happens to fibers; 0: none
    bool wakeups;              // RECORD_EBPF: who ends them
    bool malloc_uprobes;       // RECORD_EBPF: heap_bytes by uprobes in malloc
    bool mmaps;                // mmap and munmap count as allocations too
    bool fibers;               // at the end a snapshot of all fibers
    bool trace;                // record_command: an execution trace
    uint64_t trace_slow_ns[4]; // limits of regions, tasks, scheduling latency, stalls; 0: none
    bool kernel; // with it a trace of what the kernel did with its threads (record_kernel.h)
    uint64_t kernel_ring_bytes; // for that; a power of two; 0: 32 MiB
    bool trace_flight;          // of which a snapshot is written at the end, and at SIGUSR2
    uint64_t trace_bytes;       // room for its events in the target
    uint32_t trace_version;     // of the file: 23 or 26; 0: 23
    uint64_t duration_ns;       // 0: until the target ends or Ctrl-C
    const char *output;   // NULL: the default pattern; a file, a folder, or a pattern (%e %p %k)
    const char *profiles; // of profiles, where output is the trace's; NULL: output
    bool inherit;         // follow children and exec
    bool quiet;           // no progress, no closing line
    bool symbolize;       // at write time
    uint32_t pid;         // record_process: whom
    enum record_method
        method;            // record_process: by which way; record_command: RECORD_EBPF or any other
    bool whole_machine;    // record_process, RECORD_EBPF: all processes, instead of pid
    const char *cgroup;    // the same: those of a control group
    uint32_t stack_bytes;  // record_attach: copied with each sample; 0: as needed
    uint64_t unwind_bytes; // RECORD_EBPF: bound of unwind tables; 0: BPF_CODE_BYTES_DEFAULT
    uint64_t ring_bytes;   // record_attach: per CPU, a power of two; 0: as much as is allowed
    char *const *command;  // record_command: argv, NULL-terminated
    const char *agent_path; // libfiberscope.so; NULL: looked for
    FILE *messages;         // where progress and the closing line go (stderr)
    // record_attach: asked on its thread ten times a second or oftener, with all that came in the builders; true
    // ends it. NULL: nobody is.
    bool (*is_over)(void *arg);
    void *arg;
};

#define RECORD_HEAP_BYTES_DEFAULT  UINT64_C(524288) // as of Go, and of the agent
#define RECORD_TRACE_BYTES_DEFAULT (UINT64_C(64) << 20)
#define RECORD_TRACE_NAME          "trace" // what a trace is called among the kinds of profiles

enum { RECORD_TRACES_OPEN = 64 };

enum record_kind {
    RECORD_CPU,
    RECORD_WALL,
    RECORD_STREAM_COUNT, // the kinds before this one come as streams of records, the others as state
    RECORD_HEAP = RECORD_STREAM_COUNT,
    RECORD_BLOCK,
    RECORD_MUTEX,
    RECORD_OFFCPU, // RECORD_EBPF alone, as the next one
    RECORD_WAKEUPS,
    RECORD_GROWTH, // RECORD_EBPF: beside a heap of those with an agent, how the others grow
    RECORD_CUSTOM, // all of them; a file for each name
    RECORD_KIND_COUNT,
};

// What a profile of one file is called: "cpu", "wall", "heap", "block", "mutex", "offcpu", "wakeups", "growth", "custom".
const char *record_kind_name(int kind);
unsigned record_seg_kind(int kind); // enum seg_kind or builder_kind

// Whether the options ask for it. Custom profiles are never asked for: they come if there are any.
bool record_wants(const struct record_options *o, int kind);

// One recording: a builder per kind, and what the closing line says.
struct record_result {
    struct builder *builders[RECORD_KIND_COUNT]; // NULL: not asked for
    struct series series;                        // of the heap; may be empty
    char program[64];                            // base name of the program, for %e
    uint32_t pid;                                // of the first process, for %p
    uint64_t duration_ns;                        // wall time
    uint32_t asked_hz[RECORD_STREAM_COUNT];
    double delivered_hz[RECORD_STREAM_COUNT]; // 0: as asked
    char rate_note[512];          // why less was delivered, and what to do; "" if it was not
    char warning[2048];           // what else the user should know, in lines; "" if nothing
    char earlier[192];            // what its sums hold from before the beginning; "" if nothing
    uint64_t damaged;             // records that made no sense; counted as lost too
    struct record_kernel *kernel; // record_kernel.h; NULL: none
    struct record_trace *traces;  // files of execution traces (record_trace.h)
    size_t trace_count;
    const char *trace_open[RECORD_TRACES_OPEN]; // names of files that are being written
    uint32_t trace_pid;                         // whose is on standard output; 0: nobody's yet
    bool has_trace;                             // finish_read: there is one in the file
    uint32_t
        recorder_pid; // finish_traces: who has taken from the file, while that was written; 0: nobody
    uint64_t trace_events, trace_bytes; // so far
    uint64_t trace_lost_generations;    // of a flight recorder
    uint64_t trace_hits[4];             // of conditions, see seg_trace
    bool has_runtime;         // a process had the fiber runtime; seen where a condition is about it
    bool has_said_conditions; // that it has not
    bool was_too_early;       // a signal ended all before a process had reported in
    int seccomp; // mode of the command as it ended, see seccomp(2), 3: killed by it; 0: none
    char trace_error[384]; // what else went wrong; "" if nothing
    int exit_status;       // of the command: 0..255, 128 + signal
    int killed_by;         // the signal that ended the command, 0: none
    bool by_ebpf;          // nothing comes from the target itself
    bool target_ended;     // else the recording ended before it, and record_wait waits for it
    int child;             // the command's pid while it is ours to wait for, else 0
};

// Sets size, 99 Hz CPU, inherit, symbolize, messages = stderr.
void record_options_init(struct record_options *o);

// Runs o->command under the agent until it ends, the duration is over or a signal asks to stop; falls
// back to the perf ring on the child where the agent cannot go (static binaries), and says so.
// SIGINT, SIGTERM, SIGHUP and SIGQUIT end the recording; those that a process sent us (and not the
// terminal, which has sent it to the command as well) are passed on to the command. 0 or -errno;
// exit_status is 126 or 127, as of a shell, when the command cannot be run. *result is to be freed
// in any case.
int record_command(const struct record_options *o, struct record_result *result,
                   struct fscope_error *err);

// Waits for a command that goes on after its recording ended, and sets exit_status. A further signal
// leaves it running.
void record_wait(const struct record_options *o, struct record_result *result);

// Where output is the name of a trace, and profiles are wanted as well, these lie beside it: of "k.trace" as
// "k.KIND.pb.gz". Sets profiles, into text. 0 or -ENAMETOOLONG.
int record_name_profiles(struct record_options *o, char *text, size_t size,
                         struct fscope_error *err);

// Before anything is started: whether the output can be written there. 0 or -errno.
int record_check_output(const struct record_options *o, struct fscope_error *err);

// Watches the running process o->pid (or all, or a control group's) until it ends, the duration is over or a signal asks to
// stop, and says which way it took. 0 or -errno. *result is to be freed in any case.
int record_process(const struct record_options *o, struct record_result *result,
                   struct fscope_error *err);

// Watches o->pid from outside (perf ring), or the stopped child `child` with go_fd: one byte written
// to go_fd lets it exec (go_fd -1: nothing to start). Returns when the duration is over, the process
// ended or *stop became nonzero (set by a signal handler). In collector/perf_attach.c.
int record_attach(const struct record_options *o, int go_fd, const volatile int *stop,
                  struct record_result *result, struct fscope_error *err);

#define RECORD_FIBERS_PART "goroutine" // as Go's profile is called

// With o->fibers: adds a snapshot of all fibers of the first process, which must still be there, as the custom
// profile "goroutine". One that has ended, or has no fiber runtime, is told in result->warning. 0 or -errno.
int record_fibers(const struct record_options *o, struct record_result *result,
                  struct fscope_error *err);

// Symbolizes and writes each builder's profile to its file and prints the closing lines on
// o->messages. 0 or -errno; nothing half-written is left.
int record_write(const struct record_options *o, struct record_result *result,
                 struct fscope_error *err);

void record_result_free(struct record_result *result); // frees the builders; accepts a zeroed one

// The path for one kind: `pattern` with %e (program) %p (pid) %k (kind, a name) %% replaced, or NULL
// for the default "%e.%p.%k.pb.gz" (a trace: "%e.%p.trace"); a folder (it exists, or ends in a slash) gets the default name
// inside. 0, -ENAMETOOLONG, -EINVAL (an unknown %).
int record_path(char *path, size_t size, const char *pattern, const struct record_result *result,
                const char *kind, struct fscope_error *err);

#endif
