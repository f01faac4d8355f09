// SPDX-License-Identifier: MIT
//
// Execution traces in Go's format v2, read: a file or a stream of bytes becomes events in one total
// order, the one Go's own reader gives (internal/trace), and is validated on the way. Traces in
// format v1 (of Go 1.11 to 1.21) become the same events, as Go's reader converts them.
//
// What always holds for the events that a reader gives:
// - time_ns rises strictly.
// - The first and the last event are TRACE_SYNC; each generation begins with one.
// - Resources change state only as the format allows: from is the state that the last transition of
//   the resource left it in, or UNDETERMINED at its first mention in the first generation. A Proc
//   may come from NOT_EXIST at any time. A thread has at most one Goroutine that is RUNNING or
//   SYSCALL; a Proc is RUNNING on one thread only.
// - RangeEnd, TaskEnd and RegionEnd carry the same names as their begin.
// - Ids of strings and stacks resolve (trace_reader_string, trace_reader_stack).
//
// Of a trace in format v1 only times, Syncs and ids are promised. There is one generation; what was
// there when the trace began is said by statuses (from UNDETERMINED) as it is first heard of. The
// rest is as Go's reader gives it: states need not follow on each other (a system call said to be
// over may end again), a goroutine that starts is its own emitter, ranges may end that have not
// begun, the parent of an ended task is 0 if it had none, and what happens on no P has a proc above
// 1000000, which has no slot. Strings have up to 1000000 bytes, stacks up to 511 frames.
//
// Ids. A string or stack id without TRACE_ID_TRANSIENT is stable: through the whole file it means
// the same, and equal texts and stacks have equal ids. Stable ids are dense, numbered from 1; 0 is
// the empty string, and no stack. Ids with TRACE_ID_TRANSIENT are given to what does not fit into
// intern_bytes_max and to messages of logs; they are valid until the next TRACE_SYNC is returned,
// and two of them may mean the same text or stack.
//
// Slots. Every Goroutine, Proc and thread that exists has a small number, its slot, for tables that
// are indexed by it instead of hashed. A thread and a Proc keep their slot for good; a Goroutine
// keeps it until its transition to NOT_EXIST, after that another one may get it. No slot is above
// the largest number that lived at one time. TRACE_NO_SLOT where there is no resource, or
// (StackSample, ids that nothing else names) none is known.
//
// Memory: what one generation holds (a batch per thread and an index of the rest when the input can
// be read at random, all of it otherwise), live resources, and interned strings and stacks up to
// intern_bytes_max: independent of the file's length. Nothing is allocated per event. Of format v1
// all of the trace instead, with 68 bytes an event, up to generation_bytes_max (v1.h); it is read
// at the first call for an event.
//
// Promise to those who program against this: structs and enums grow at their ends only, and what is
// said here stays true. A reader belongs to one thread at a time.

#ifndef FIBERSCOPE_FORMATS_TRACE_TRACE_H
#define FIBERSCOPE_FORMATS_TRACE_TRACE_H

#include "base/error.h"
#include "formats/trace/notes.h"
#include "formats/trace/spec.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_ID_TRANSIENT 0x80000000u
#define TRACE_NO_SLOT      UINT32_MAX
#define TRACE_NO_TASK      UINT64_MAX

enum { TRACE_NONE = -1 }; // no thread, Proc, Goroutine

enum trace_kind {
    TRACE_SYNC = 1, // a generation begins, or the trace is over
    TRACE_METRIC,
    TRACE_LABEL,
    TRACE_STACK_SAMPLE,
    TRACE_RANGE_BEGIN,
    TRACE_RANGE_ACTIVE, // has begun earlier
    TRACE_RANGE_END,
    TRACE_TASK_BEGIN,
    TRACE_TASK_END,
    TRACE_REGION_BEGIN,
    TRACE_REGION_END,
    TRACE_LOG,
    TRACE_TRANSITION,
    TRACE_EXPERIMENTAL,
};

enum trace_resource {
    TRACE_RESOURCE_NONE, // the whole program
    TRACE_RESOURCE_GOROUTINE,
    TRACE_RESOURCE_PROC,
    TRACE_RESOURCE_THREAD,
};

enum trace_go_state {
    TRACE_GO_UNDETERMINED,
    TRACE_GO_NOT_EXIST,
    TRACE_GO_RUNNABLE,
    TRACE_GO_RUNNING,
    TRACE_GO_WAITING,
    TRACE_GO_SYSCALL,
};

enum trace_proc_state {
    TRACE_PROC_UNDETERMINED,
    TRACE_PROC_NOT_EXIST,
    TRACE_PROC_RUNNING, // also while its thread is in a system call
    TRACE_PROC_IDLE,
};

enum trace_range {         // scope
    TRACE_RANGE_STW = 1,   // Goroutine; has a reason
    TRACE_RANGE_GC_MARK,   // none
    TRACE_RANGE_GC_SWEEP,  // Proc
    TRACE_RANGE_GC_ASSIST, // Goroutine
};

enum trace_metric {
    TRACE_METRIC_GOMAXPROCS = 1,
    TRACE_METRIC_HEAP_BYTES,
    TRACE_METRIC_HEAP_GOAL_BYTES,
};

enum {                      // flags of an event
    TRACE_FLAG_DERIVED = 1, // follows from the event before or after it, has no bytes of its own
    TRACE_FLAG_SYSCALL = 2, // status of a Proc: RUNNING, but in a system call; or IDLE, because it
                            // is lost to one and will be stolen
};

struct trace_event {
    int64_t time_ns;

    // Who emitted it, as it was before the event; TRACE_NONE where there is none. A goroutine that
    // blocks or ends is its own emitter; one that starts is not, and a Proc neither.
    int64_t thread, proc, goroutine;

    uint64_t offset; // of its first byte in the file; of a Sync: of its generation
    uint32_t batch;  // number of its batch in the file, from 0
    uint32_t stack;  // stack of who emitted it, 0: none
    uint32_t thread_slot, proc_slot, goroutine_slot;

    uint8_t kind;  // enum trace_kind
    uint8_t what;  // enum trace_resource of a transition, trace_range of a range, trace_metric
    uint8_t wire;  // enum trace_wire it was read as; 0: Sync
    uint8_t flags; // TRACE_FLAG_

    union { // by kind
        struct {
            int64_t id;       // of the resource that changes
            uint32_t slot;    // its slot, also in the transition to NOT_EXIST
            uint32_t reason;  // string
            uint32_t stack;   // of the resource: where it blocks, where a new one will start
            uint8_t from, to; // trace_go_state or trace_proc_state
            int64_t peer;     // thread a Proc is stolen from, or a Goroutine's status names;
                              // TRACE_NONE otherwise
        } transition;
        struct {
            int64_t id; // of the resource that the range belongs to, by its scope
            uint32_t slot;
            uint32_t reason;                       // string, of a STW range
            uint64_t swept_bytes, reclaimed_bytes; // end of a GC_SWEEP range
        } range;
        struct {
            uint64_t value;
        } metric;
        struct {
            uint32_t text; // string; of the event's goroutine
        } label;
        struct {
            uint64_t id, parent; // parent: TRACE_NO_TASK if none, or unknown
            uint32_t type;       // string; 0 at an end whose begin is not in the trace
        } task;
        struct {
            uint64_t task; // 0: the background task
            uint32_t type; // string
        } region;
        struct {
            uint64_t task;
            uint32_t category; // string
            uint32_t message;  // string, always transient unless empty
        } log;
        struct {
            uint64_t generation;         // 0: the trace is over
            uint32_t number;             // from 1
            uint32_t experimental_count; // trace_reader_experimental
        } sync;
        struct {
            uint64_t args[TRACE_ARGS_MAX];
        } experimental;
    };
};

// --- Reading.

struct trace_reader_options {
    size_t size; // sizeof(struct trace_reader_options)

    // A damaged file gives the generations before the damage that are whole and valid, then its
    // last Sync and the end; trace_reader_damage tells. It is read twice. Input that can be read
    // only once is copied to an unlinked temporary file (TMPDIR) first. A file with no whole
    // generation is an error all the same, and so is every damaged one in format v1.
    bool salvage;

    uint64_t intern_bytes_max;     // stable strings (a 16th of it) and stacks; 0: 64 MiB
    uint64_t generation_bytes_max; // memory for one generation; 0: 2 GiB. Beyond: -EFBIG
                                   // (format v1: for the whole trace)
    uint64_t state_bytes_max;      // live resources, tasks, regions; 0: 4 GiB. Beyond: -EFBIG

    // Only what Go's reader enforces; else also that two threads do not have one Proc.
    bool lenient;

    // What there is of a generation that ends too early is given in go 1.26, too, and what its events name of strings and
    // stacks that were lost is nothing. The error comes behind it.
    bool rest;

    // Asked now and then while salvage looks for the damage; true: opening ends with -ECANCELED. NULL: never.
    bool (*stopped)(void *stopped_context);
    void *stopped_context;
};

// Which rule an error breaks. trace_rule_name gives the word for it, "status", "sequence", ...
enum trace_rule {
    TRACE_RULE_NONE,
    TRACE_RULE_SYSTEM,     // not the trace's fault: I/O, memory, a limit
    TRACE_RULE_HEADER,     // not a trace, or an unknown version
    TRACE_RULE_TRUNCATED,  // the bytes end inside something
    TRACE_RULE_BATCH,      // header or size of a batch; what stands where
    TRACE_RULE_GENERATION, // numbers of generations, end marks, what a generation must have
    TRACE_RULE_EVENT,      // event type or argument cannot be decoded
    TRACE_RULE_TABLE,      // strings, stacks, samples, clock: malformed or twice
    TRACE_RULE_ID,         // string or stack id that is not there
    TRACE_RULE_CONTEXT,    // needs a thread, Proc or Goroutine that the thread does not have
    TRACE_RULE_STATUS,     // a resource is not in the state that the event needs or says
    TRACE_RULE_EXISTS,     // created twice, or announced too late, or never
    TRACE_RULE_SEQUENCE,   // nobody can go on: a number is missing or twice
    TRACE_RULE_RANGE,      // a range ends that has not begun, or begins twice
    TRACE_RULE_REGION,     // regions are not nested
    TRACE_RULE_TASK,       // a task begins twice
    TRACE_RULE_GC,         // order of the GC's cycles
    TRACE_RULE_PROC_TWICE, // two threads with one Proc (Go's reader does not look)
};

struct trace_error {
    int code; // -errno: -EINVAL, -ENODATA truncated, -EFBIG, -ENOMEM, -EIO, ...
    enum trace_rule rule;
    uint64_t generation; // 0: none yet
    uint64_t batch;      // number in the file, from 0
    uint64_t offset;     // byte in the file
    int64_t thread;      // TRACE_NONE: none
    uint8_t wire;        // the event, 0: none
    char text[320];      // all of it as one line: where, which event, what is wrong
};

struct trace_reader;

// The three ways in. opts may be NULL. The header is read at once; 0, or -errno with err filled and
// *out NULL. The caller owns *out (trace_reader_close) and keeps fd open, data in place until then.
// fd need not be seekable; reading begins at its current offset, which moves or not.
// `read` gives up to n bytes: their number, 0 at the end, -errno.
int trace_reader_open_fd(struct trace_reader **out, int fd, const struct trace_reader_options *opts,
                         struct fscope_error *err);
int trace_reader_open_memory(struct trace_reader **out, const void *data, size_t size,
                             const struct trace_reader_options *opts, struct fscope_error *err);
typedef int64_t trace_read_fn(void *context, void *bytes, size_t n);
int trace_reader_open_callback(struct trace_reader **out, trace_read_fn *read, void *context,
                               const struct trace_reader_options *opts, struct fscope_error *err);
void trace_reader_close(struct trace_reader *r); // accepts NULL

// The next event: 1 with *event, valid until the next call; 0 at the end; -errno, now and on later
// calls, with trace_reader_error filled. Events before an error are given first.
int trace_reader_next(struct trace_reader *r, const struct trace_event **event);

// The same for columns: at least one and at most a few hundred events of one generation, valid
// until the next call. Their number; 0 at the end; -errno. The two may be mixed.
int trace_reader_next_many(struct trace_reader *r, const struct trace_event **events);

const struct trace_error *trace_reader_error(const struct trace_reader *r);  // NULL: none
const struct trace_error *trace_reader_damage(const struct trace_reader *r); // salvage; NULL: whole

// How many generations before the error are whole, and whether what there is of the next one was
// given too (before go 1.26 a trace may end anywhere). Salvage gives these and no more.
uint32_t trace_reader_whole(const struct trace_reader *r, bool *rest);

// Puts an error into the form that a command prints. Returns its code.
int trace_error_to(const struct trace_error *e, struct fscope_error *err);

// --- What events refer to. Valid for the events that were last returned.

struct trace_text {
    const char *bytes; // not terminated, may hold any byte
    uint32_t size_bytes;
};

struct trace_frame {
    uint64_t pc;
    uint32_t function, file; // strings
    uint64_t line;
};

struct trace_text trace_reader_string(const struct trace_reader *r, uint32_t id);

// The frames of a stack, leaf first; their number, 0 for id 0. A stable stack's frames have stable
// strings and stay valid until trace_reader_close; so do the bytes of stable strings.
uint32_t trace_reader_stack(const struct trace_reader *r, uint32_t id,
                            const struct trace_frame **frames);

// How many stable ids there are: they are 1..n. Grows while reading.
uint32_t trace_reader_string_count(const struct trace_reader *r);
uint32_t trace_reader_stack_count(const struct trace_reader *r);

// --- What holds for the generation of the events last returned.

struct trace_clock {
    bool is_known;    // 1.25 and later
    int64_t trace_ns; // this moment as time_ns,
    uint64_t mono_ns; // by CLOCK_MONOTONIC,
    int64_t wall_s;   // and by the wall clock, since 1970
    int64_t wall_ns;  // 0..999999999
};

struct trace_experimental_batch {
    uint8_t experiment; // 1: AllocFree
    int64_t thread;
    const void *data;
    uint32_t size_bytes;
};

uint32_t trace_reader_version(const struct trace_reader *r); // 23: header "go 1.23 trace"
uint64_t trace_reader_generation(
    const struct trace_reader *r); // 0: before the first, after the last
struct trace_clock trace_reader_clock(const struct trace_reader *r);
double trace_reader_ns_per_tick(const struct trace_reader *r);
uint64_t trace_reader_offset(const struct trace_reader *r); // bytes of the file dealt with so far

// The experimental batches of the generation: i < sync.experimental_count. false: no such.
bool trace_reader_experimental(const struct trace_reader *r, uint32_t i,
                               struct trace_experimental_batch *batch);

// What the file says is missing in it, as far as it was read: notes stand at its end. Theirs until
// trace_reader_close.
const struct trace_note *trace_reader_notes(const struct trace_reader *r, uint32_t *count);

// --- Names, as Go prints them; "?" for numbers that do not exist. [any thread]

const char *trace_kind_name(uint8_t kind);         // "StateTransition"
const char *trace_go_state_name(uint8_t state);    // "Runnable"
const char *trace_proc_state_name(uint8_t state);  // "Idle"
const char *trace_range_name(uint8_t range);       // "GC mark assist", "stop-the-world"
const char *trace_metric_name(uint8_t metric);     // "/sched/gomaxprocs:threads"
const char *trace_rule_name(enum trace_rule rule); // "sequence"

#endif
