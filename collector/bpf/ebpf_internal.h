// SPDX-License-Identifier: MIT
//
// What ebpf.c (the recording), ebpf_processes.c (who is watched), ebpf_samples.c (records into samples) and ebpf_kinds.c
// (samples into profiles) share.
//
// What always holds
//   - Records of the BPF programs wait in a queue until they are older than HORIZON, and are handed on after what the
//     sideband has up to their time: so a sample is resolved with the mappings that held when it was taken.
//   - A sum is added when its key is known: sums are taken first, then the ring is emptied.

#ifndef FIBERSCOPE_COLLECTOR_BPF_EBPF_INTERNAL_H
#define FIBERSCOPE_COLLECTOR_BPF_EBPF_INTERNAL_H

#include "collector/bpf/code.h"
#include "collector/bpf/control_group.h"
#include "collector/bpf/ebpf.h"
#include "collector/bpf/futex_calls.h"
#include "collector/bpf/programs.h"
#include "collector/bpf/sideband.h"
#include "collector/perf_code.h"
#include "collector/record_internal.h"

enum {
    EBPF_BUCKETS = 1024,
    EBPF_KEY_BUCKETS = 1 << 14,
    EBPF_LABELS_MAX = 17,
    EBPF_INTO_MAX = 2, // profiles of one kind of sample
    EBPF_RING_MAX = 32 << 20,
};
#define EBPF_SECOND_NS UINT64_C(1000000000)

struct ebpf_kind {              // enum bpf_sample_kind
    int8_t into[EBPF_INTO_MAX]; // enum record_kind; -1: none
    bool is_kept;               // its sums may come at any time, under its key and BPF_KEY_FREED
    bool is_wait; // its stack is told of when it begins, its sum comes when it has ended
    bool is_contention;
};

// Where the samples of one key go.
struct ebpf_sink {
    const struct ebpf_kind *kind;
    struct builder_process *in[EBPF_INTO_MAX]; // NULL: nowhere
    uint64_t rest_ns;                          // of wall time that is less than a sample
    struct bpf_sum cut[EBPF_INTO_MAX];         // what does not count of the next sum there
    struct futex_call call;                    // of contention
};

// What of the runtime's descriptor (runtime/descriptor.h) a sample's fiber needs.
struct ebpf_fibers {
    bool is_there;
    uint64_t root, root_end, text, text_end;
    uint32_t label_pairs, label_size;
};

struct ebpf_process {
    struct ebpf_process *next;
    uint32_t pid;
    bool is_target; // of BPF_FILTER_TARGETS
    bool is_told;   // has a slot of its own
    bool is_dirty;  // is to be told of
    bool is_unsure; // stacks came as copies though it was: maps are read again
    uint64_t told_ns;
    uint64_t cpu_first_ns, cpu_ns; // when first and last looked at
    bool has_cpu;
};

// A key's first sample, until its sums have come.
struct ebpf_key {
    struct ebpf_key *next;
    uint64_t key;
    uint32_t round; // of sums
    struct ebpf_sink sink;
    struct ebpf_fibers fibers;
    struct bpf_stack *stack;
};

struct ebpf_sum {
    uint64_t key;
    struct bpf_sum sum;
    uint32_t round;
};

struct ebpf_sums {
    struct ebpf_sum *items;
    size_t count, capacity;
};

struct ebpf_told {      // what of a process sites tell
    uint32_t pid, what; // enum bpf_told
};

// What probes there are beyond CPU samples and waits, and room for what their samples say.
struct ebpf_probes {
    struct probe_files *files;
    uint32_t sites;         // bits of enum bpf_site
    struct ebpf_told *told; // as it was at the start
    size_t told_count;
    bool grows; // --heap is of growth, of those whose agent does not tell of allocations
    char part[32], reason[64];
};

struct ebpf_values {
    struct builder_heap heap;
    struct builder_growth growth;
};

struct ebpf {
    const struct record_options *o;
    struct record_result *result;
    struct bpf_programs *programs;
    struct bpf_code *code;
    struct perf_code *processes;
    struct sideband *sideband;
    struct control_group group;
    struct futex_calls *futexes;
    struct perf_walk walk;
    struct record_progress progress;
    int pidfd;
    uint32_t held_pid;    // a command that has not been executed yet: what it does is ours; 0: none
    uint32_t filter;      // enum bpf_filter
    uint32_t stack_bytes; // of a copy, at most
    uint32_t hz;          // of CPU samples; 0: none
    uint64_t start_ns, wall_period_ns;
    uint32_t rate_limit;           // kernel.perf_event_max_sample_rate at the start
    uint64_t busy_ns, busy_end_ns; // CPU time of the machine or the group at the start and the end
    uint64_t ended_cpu_ns;         // of processes that have ended
    uint64_t summed_ns, looked_ns; // when sums were taken, CPU times were read
    // The queue of the ring's records.
    uint8_t *queue;
    size_t queued, queue_capacity;
    // Keys and sums that wait for each other.
    struct ebpf_key *keys[EBPF_KEY_BUCKETS];
    size_t new_keys; // of this round
    struct ebpf_sums sums;
    struct ebpf_sums unended; // of waits, when ebpf_cut was last called
    uint32_t round;
    uint32_t locks_max;    // in a profile: what comes beyond has no address; 0: no bound
    uint32_t unwanted;     // bits of enum record_kind: samples do not go there
    uint32_t ended_rounds; // in which allocations of processes that have ended are looked for
    struct ebpf_process *known[EBPF_BUCKETS];
    struct builder_label labels[EBPF_LABELS_MAX + 2];
    char label_text[EBPF_LABELS_MAX + 2][2][256];
    struct ebpf_probes probes;
    uint64_t caller_pcs[BPF_DEPTH_MAX]; // of a sample without its first frames
    uint64_t samples;                   // of CPU time
    uint64_t copies, lost, cut, damaged;
    uint64_t busy_since_ns; // when a process began, or a stack came as a copy
    bool rescan;
};

// --- ebpf.c: a recording, in its parts. Zero or -errno.

struct ebpf *ebpf_new(const struct record_options *o,
                      struct record_result *result); // NULL: no memory
void ebpf_free(struct ebpf *e);                      // accepts NULL
// All that refuses, before anything is started; makes builders. is_held: of a command that waits to be executed.
int ebpf_prepare(struct ebpf *e, bool is_held, struct fscope_error *err);
int ebpf_begin(struct ebpf *e, bool is_held, struct fscope_error *err); // loads, attaches
int ebpf_next_tick_ms(struct ebpf *e, uint64_t now);                    // until there is to be read
int ebpf_pump(struct ebpf *e);                                          // reads what has come
int ebpf_look(struct ebpf *e, uint64_t now);                            // takes sums, if it is time
// Why fewer samples came than CPU time passed.
const char *ebpf_shortfall(const struct bpf_losses *l, uint32_t limit_before, uint32_t limit_after);
bool ebpf_has_ended(const struct ebpf *e);                       // the one process
int ebpf_take_waiting(struct ebpf *e, struct fscope_error *err); // who waits already

// --- ebpf_processes.c

struct ebpf_process *ebpf_process(struct ebpf *e, uint32_t pid);     // NULL: not known
struct ebpf_process *ebpf_process_put(struct ebpf *e, uint32_t pid); // NULL: out of memory
void ebpf_process_drop(struct ebpf *e, uint32_t pid);
void ebpf_processes_free(struct ebpf *e);

int ebpf_on_sideband(void *arg, const struct perf_record *r); // perf_record_fn
int ebpf_on_task(struct ebpf *e, const struct bpf_task_event *t);
int ebpf_tell(struct ebpf *e); // bpf_code_tell of those that are dirty; 0 or -ENOMEM

// CPU time that the watched ones have used from the start to the end, as far as it was seen; 0: unknown.
uint64_t ebpf_cpu_ns(struct ebpf *e);
void ebpf_look_at_cpu(struct ebpf *e);
uint32_t ebpf_rate_limit(void);              // kernel.perf_event_max_sample_rate; 0: unknown
uint64_t ebpf_busy_ns(const struct ebpf *e); // of the machine or the group, since ever

struct ebpf_fibers ebpf_fibers(const struct ebpf *e, uint32_t pid);

// --- ebpf_kinds.c

const struct ebpf_kind *ebpf_kind(uint32_t kind); // of a sample that is meant
// Whether the builders have values for such a sample: the heap's are of one kind of it.
bool ebpf_kind_is_meant(const struct ebpf *e, uint32_t kind);
int ebpf_check_kinds(const struct record_options *o, struct fscope_error *err);
int ebpf_kinds_begin(struct ebpf *e); // makes e->processes, once there are builders; 0 or -ENOMEM
void ebpf_choose_programs(const struct ebpf *e, struct bpf_programs_options *po);
int ebpf_sink(const struct ebpf *e, const struct bpf_stack *r, struct perf_process *p,
              struct ebpf_sink *out); // 0 or -ENOMEM
// Adds what s and sum say; sets s's values. 0 or -ENOMEM.
int ebpf_add(struct ebpf *e, struct ebpf_sink *to, struct builder_sample *s,
             const struct bpf_sum *sum);
void ebpf_lost(const struct ebpf *e); // tells the profiles
// From now on there is an empty one of this kind, in place of the old one, which becomes the caller's. 0 or -ENOMEM.
int ebpf_renew_builder(struct ebpf *e, int kind);

// --- ebpf_contention.c: what struct futex_call says.

void ebpf_contention_sink(const struct ebpf *e, const struct bpf_stack *r,
                          const struct perf_process *p, struct ebpf_sink *out);
// Makes of s what the agent would have taken. What is not to be counted: another wait did.
void ebpf_contention_shape(struct ebpf *e, struct ebpf_sink *to, struct builder_sample *s);
int ebpf_contention_tell(const struct ebpf_sink *to, struct builder_process *in,
                         const struct builder_sample *s); // what the lock is, after s; 0 or -ENOMEM
void ebpf_contention_judge(struct record_result *r, const struct bpf_losses *l);

// --- ebpf_probes.c

// What there is to probe, and what --heap means there: before the builders are told of. 0 or -errno.
int ebpf_probes_look(struct ebpf *e, bool is_held, struct fscope_error *err);
void ebpf_probes_choose(const struct ebpf *e, struct bpf_programs_options *po);
void ebpf_probes_begin(struct ebpf *e); // between loading and starting
// A process has mapped code: may be a file whose sites tell of it. Whoever is followed.
void ebpf_probes_mapped(const struct ebpf *e, const struct perf_record *r);
// Values, and more of what s says, of such a sample; v has room for them.
void ebpf_probes_fill(struct ebpf *e, const struct bpf_stack *r, const struct bpf_sum *sum,
                      bool is_freed, struct builder_process *process, struct builder_sample *s,
                      struct ebpf_values *v);
// Takes frames of ours, and the thread, from such a sample.
void ebpf_probes_strip(struct ebpf *e, struct builder_process *process, const struct ebpf_fibers *f,
                       const struct bpf_stack *r, struct builder_sample *s);
void ebpf_probes_forget(const struct ebpf *e); // what processes had that have ended
void ebpf_probes_finish(struct ebpf *e);
void ebpf_probes_free(struct ebpf *e);

// --- ebpf_lacks.c: what a recording lacks, in words.

struct ebpf_lacks {
    struct bpf_losses losses;
    struct bpf_code_stats code;
    uint64_t unwind_bytes; // the bound
    uint32_t unread_files; // whose unwind tables are too large
    uint64_t cut;          // stacks that were copied in part
    uint32_t stack_bytes;  // of a copy
    uint32_t waits_max, sums_max, sums_seconds;
};

void ebpf_tell_lacks(struct record_result *r, const struct ebpf_lacks *l); // a warning for each

// --- ebpf_samples.c

int ebpf_on_record(void *arg, const struct bpf_head *head); // bpf_record_fn: queues
int ebpf_run_queue(struct ebpf *e, uint64_t horizon_ns);    // 0 or -errno
int ebpf_take_sums(struct ebpf *e, bool is_last);           // empties the ring, too
// Of the keys that are known, the samples go where they would go now.
void ebpf_keys_again(struct ebpf *e);

// One profile of waits begins or ends while another one goes on. As ebpf_take_sums: all up to one moment, *when, is added.
int ebpf_cut(struct ebpf *e, uint64_t *when);
// After it: of the waits that lasted then, `kind` counts what comes after that moment; or has counted what came before.
void ebpf_waits_begin(struct ebpf *e, int kind);
int ebpf_waits_end(struct ebpf *e, int kind); // 0 or -ENOMEM
int ebpf_settle(struct ebpf *e);              // empties the queue; 0 or -errno
void ebpf_samples_free(struct ebpf *e);

#endif
