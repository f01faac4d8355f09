// SPDX-License-Identifier: MIT
//
// Shared by the files behind record.h.

#ifndef FIBERSCOPE_COLLECTOR_RECORD_INTERNAL_H
#define FIBERSCOPE_COLLECTOR_RECORD_INTERNAL_H

#include "collector/ingest.h"
#include "collector/record.h"
#include "collector/record_signals.h"

uint64_t record_now_ns(int clock);

// One builder per kind that is asked for; 0 or -ENOMEM.
int record_new_builders(const struct record_options *o, struct record_result *result,
                        struct fscope_error *err);

// Progress on a terminal: elapsed time and samples, at most once a second. _end clears the line.
struct record_progress {
    FILE *out; // NULL: no terminal
    bool has_trace;
    uint64_t start_ns, shown_ns;
};
void record_progress_begin(struct record_progress *p, const struct record_options *o);
bool record_progress_is_due(const struct record_progress *p);
void record_progress_show(struct record_progress *p, const struct record_result *result);
void record_progress_end(struct record_progress *p);

// The time between a recording's beginning and its end: buffers are emptied, messages answered.
struct record_loop {
    const struct record_options *o;
    struct record_result *result;
    struct record_signals signals;
    struct record_progress progress;
    struct ingest *ingest;
    int pidfd;                  // readable when the target has ended; -1: nobody's
    bool (*is_over)(void *arg); // asked at each tick; NULL: the signals and the time alone end it
    void *arg;
    uint64_t start_ns, stop_ns;      // stop_ns: when the first signal was seen
    bool has_said_grace, has_looked; // has_looked: for the fiber runtime
    int snapshots;                   // wishes for one that were passed on
};

// bpf/ebpf.h, or that this fiberscope has no eBPF.
int record_from_kernel(const struct record_options *o, int go_fd, const volatile int *stop,
                       struct record_result *result, struct fscope_error *err);
int record_check_kernel(const struct record_options *o, struct fscope_error *err);

// record_agent.c: records the process that `call` was opened on, through its agent. is_over may be NULL. Leaves the
// builders' data in *result. Any thread: takes no signals. 0 or -errno.
struct call;
int record_by_agent(const struct record_options *o, struct call *call, struct record_loop *loop,
                    struct fscope_error *err);

bool record_needs_agent(const struct record_options *o); // nothing outside can do it

// What the ingest is to take, for o and into result.
void record_ingest_options(const struct record_options *o, struct record_result *result,
                           struct ingest_options *io);

// record_fibers.c: says so if conditions of a flight recorder were given that only the fiber runtime can meet, and the
// program has not loaded it.
void record_say_conditions(const struct record_options *o, struct record_result *result);
// At the end: of each condition whether it was met.
void record_say_met(const struct record_options *o, const struct record_result *result);
// Whether a process has the fiber runtime; true where nobody may look.
bool record_has_runtime(uint32_t pid);

// The pattern of profiles.
static inline const char *record_profiles(const struct record_options *o)
{
    return o->profiles ? o->profiles : o->output;
}

// Until the target has ended (1), or the time is over or a second signal came (0). -errno.
int record_loop_run(struct record_loop *l);

// A comment in each of the profiles.
void record_comment(struct record_result *result, const char *text);

// Adds a line to result->warning. What does not fit is left out as a whole.
void record_warn(struct record_result *result, const char *format, ...) FSCOPE_PRINTF(2, 3);

// What was delivered, and why not more: fills delivered_hz, rate_note and warning.
void record_judge_rates(struct record_result *result, const struct ingest_stats *stats);

// One line in words on what lost its stack, thread, moment or name, "" for nothing. `all` includes what
// is usual at high rates (a few periods in a hundred merged), for a profile's comments.
void record_losses_text(enum record_kind kind, const struct builder_stats *st, bool all, char *text,
                        size_t size);

// What one written file is, for its closing lines.
struct record_written {
    enum record_kind kind;
    const char *part; // "" or the part of the builder
    const char *path;
    uint32_t files; // under this pattern
    const char *without_symbols;
};
void record_say_closing(const struct record_options *o, const struct record_result *result,
                        const struct record_written *w);
void record_say_series(const struct record_options *o, const struct record_result *result,
                       const char *path);

// Whether the pattern names a folder, in which files have their default names.
bool record_path_is_folder(const char *pattern);

// "12,345" and "1.2 MiB".
void record_say_count(FILE *out, uint64_t n);
void record_say_bytes(FILE *out, uint64_t bytes);

// The path of a file that comes beside the one of `main_kind`: as record_path, but where the pattern
// gives both one name, the kind is put into it ("p.pb.gz" becomes "p.lifetime.pb.gz"). "" where
// there is no beside (standard output, a device).
int record_path_beside(char *path, size_t size, const char *pattern,
                       const struct record_result *result, const char *kind, const char *main_kind,
                       struct fscope_error *err);

// Gives p, of builder b, its names, in place; summary gets one line on what has none.
void record_symbolize(struct builder *b, struct pprof_profile *p, uint32_t pid, char *summary,
                      size_t size);

// The finished and symbolized profile of one kind (part NULL: its main one). 0 or -errno.
int record_make_profile(struct record_result *result, enum record_kind kind, const char *part,
                        struct pprof_profile **out, struct fscope_error *err);

#endif
