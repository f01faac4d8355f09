// SPDX-License-Identifier: MIT
//
// Whatever stands in the ring of the BPF programs, in whatever order sums and records come: they are read within their
// bounds, the profiles are whole (pprof_check), and what fits to nothing that is recorded is counted as damaged.
//
// Input: a byte of choices (bit 0: growth, else allocations; 1: sites; 2: a fiber runtime; 3: a command that is held),
// a byte of its label size, and then: 'R', 16 bits of size, a record; 'S', a key and a sum that comes next; 'W', a key
// whose wait lasts; 'T': sums are taken; 'Q', a time up to which records are handed on.
//
// No kernel: what asks for one is wrapped by the linker.

#include "collector/bpf/ebpf_internal.h"
#include "runtime/descriptor.h"

#include <stdlib.h>
#include <string.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size)   ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { GROWS = 1, SITES = 2, FIBERS = 4, HELD = 8, SUMS_MAX = 64 };
enum { PID_BASE = 0x70000000, PIDS = 4 }; // no process has such a number

struct input {
    const uint8_t *at;
    size_t left;
};

static struct ebpf_sum sums[SUMS_MAX];
static uint64_t waits[SUMS_MAX];
static size_t sum_count, wait_count;
static struct fib_descriptor descriptor;
static bool has_fibers, has_strangers;

// --- In place of the kernel.

int64_t __wrap_sideband_drain(struct sideband *s, uint64_t horizon_ns, perf_record_fn *fn,
                              void *arg);
int64_t __wrap_sideband_drain(struct sideband *s, uint64_t horizon_ns, perf_record_fn *fn,
                              void *arg)
{
    (void)s, (void)horizon_ns, (void)fn, (void)arg;
    return 0;
}

int __wrap_bpf_programs_sums(struct bpf_programs *p, bpf_record_fn *record, bpf_sum_fn *fn,
                             void *arg);
int __wrap_bpf_programs_sums(struct bpf_programs *p, bpf_record_fn *record, bpf_sum_fn *fn,
                             void *arg)
{
    int rc = 0;
    (void)p, (void)record;
    for (size_t i = 0; !rc && i < sum_count; i++)
        rc = fn(arg, sums[i].key, &sums[i].sum);
    sum_count = 0;
    return rc;
}

int __wrap_bpf_programs_waits(struct bpf_programs *p, bpf_sum_fn *fn, void *arg);
int __wrap_bpf_programs_waits(struct bpf_programs *p, bpf_sum_fn *fn, void *arg)
{
    const struct bpf_sum sum = {1, 2, 1};
    int rc = 0;
    (void)p;
    for (size_t i = 0; !rc && i < wait_count; i++)
        rc = fn(arg, waits[i], &sum);
    wait_count = 0;
    return rc;
}

const struct fib_descriptor *__wrap_bpf_code_fibers(const struct bpf_code *c, uint32_t pid);
const struct fib_descriptor *__wrap_bpf_code_fibers(const struct bpf_code *c, uint32_t pid)
{
    (void)c;
    return has_fibers && pid % 2 ? &descriptor : NULL;
}

void __wrap_bpf_code_touch(struct bpf_code *c, uint32_t pid);
void __wrap_bpf_code_touch(struct bpf_code *c, uint32_t pid)
{
    (void)c, (void)pid;
}

void __wrap_bpf_code_executed(struct bpf_code *c, uint32_t pid);
void __wrap_bpf_code_executed(struct bpf_code *c, uint32_t pid)
{
    (void)c, (void)pid;
}

void __wrap_bpf_code_ended(struct bpf_code *c, uint32_t pid);
void __wrap_bpf_code_ended(struct bpf_code *c, uint32_t pid)
{
    (void)c, (void)pid;
}

int __wrap_usleep(useconds_t us);
int __wrap_usleep(useconds_t us)
{
    (void)us;
    return 0;
}

// --- Input.

static bool take(struct input *in, void *to, size_t size)
{
    if (in->left < size)
        return false;
    memcpy(to, in->at, size);
    in->at += size;
    in->left -= size;
    return true;
}

// A sample that nothing which is recorded takes.
static bool is_strange(const struct ebpf *e, const struct bpf_stack *r)
{
    bool grows = r->kind >= BPF_SAMPLE_RESIDENT && r->kind <= BPF_SAMPLE_UNMAPPED;
    return r->kind > BPF_SAMPLE_FIBER || (grows && !e->probes.grows) ||
           (r->kind == BPF_SAMPLE_ALLOCATED && e->probes.grows);
}

// As programs.c takes them from the ring; a copy of exactly its size lets ASan see a read of one byte too many.
static void take_record(struct ebpf *e, struct input *in)
{
    uint16_t size;
    if (!take(in, &size, sizeof size) || in->left < size)
        return;
    uint8_t *bytes = malloc(size ? size : 1);
    if (!bytes)
        abort();
    take(in, bytes, size);
    if (size >= sizeof(struct bpf_head)) {
        struct bpf_head *h = (void *)bytes;
        h->pid = PID_BASE + h->pid % PIDS;
    }
    const struct bpf_head *head = bpf_record_of(bytes, size);
    if (head && ebpf_on_record(e, head))
        abort();
    if (head && head->type == BPF_RECORD_STACK && head->size >= sizeof(struct bpf_stack))
        has_strangers |= is_strange(e, (const void *)bytes);
    free(bytes);
}

// Behind the last record there is nothing to be read.
static int run_fenced(struct ebpf *e, uint64_t horizon_ns, bool takes, bool is_last)
{
    uint8_t *end = e->queue ? e->queue + e->queued : NULL;
    size_t room = e->queue_capacity - e->queued;
    ASAN_POISON_MEMORY_REGION(end, room);
    int rc = takes ? ebpf_take_sums(e, is_last) : ebpf_run_queue(e, horizon_ns);
    ASAN_UNPOISON_MEMORY_REGION(end, room);
    return rc;
}

static void take_items(struct ebpf *e, struct input *in)
{
    uint8_t what;
    uint64_t time_ns;
    while (take(in, &what, 1))
        switch (what) {
        case 'R': take_record(e, in); break;
        case 'S':
            if (sum_count < SUMS_MAX && take(in, &sums[sum_count].key, 8) &&
                take(in, &sums[sum_count].sum, sizeof sums->sum))
                sum_count++;
            break;
        case 'W': wait_count += wait_count < SUMS_MAX && take(in, &waits[wait_count], 8); break;
        case 'T':
            if (run_fenced(e, 0, true, false))
                abort();
            break;
        case 'Q':
            if (take(in, &time_ns, sizeof time_ns) && run_fenced(e, time_ns, false, false))
                abort();
            break;
        default: break;
        }
}

// --- The recording.

static void begin(struct ebpf *e, struct record_options *o, uint8_t choices, uint8_t label_size)
{
    static const unsigned kinds[RECORD_KIND_COUNT] = {
        [RECORD_CPU] = SEG_KIND_CPU,
        [RECORD_WALL] = SEG_KIND_WALL,
        [RECORD_HEAP] = SEG_KIND_HEAP,
        [RECORD_BLOCK] = SEG_KIND_BLOCK,
        [RECORD_MUTEX] = SEG_KIND_MUTEX,
        [RECORD_OFFCPU] = BUILDER_KIND_OFFCPU,
        [RECORD_WAKEUPS] = BUILDER_KIND_WAKEUPS,
        [RECORD_CUSTOM] = SEG_KIND_CUSTOM,
    };
    *o = (struct record_options){.size = sizeof *o, .cpu_hz = 99, .wall_hz = 10};
    o->fiber_fraction = 1;
    e->o = o;
    e->pidfd = -1;
    e->stack_bytes = 8192;
    e->probes.grows = choices & GROWS;
    e->probes.sites = choices & SITES ? ~0u : 0;
    e->held_pid = choices & HELD ? PID_BASE + 1 : 0;
    has_fibers = choices & FIBERS;
    descriptor = (struct fib_descriptor){.root = 0x1000,
                                         .root_end = 0x2000,
                                         .text = 0x1000,
                                         .text_end = 0x4000,
                                         .label_pairs = 16,
                                         .label_size = label_size,
                                         .reason_count = 4};
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++) {
        struct builder_options bo = {.size = sizeof bo, .kind = kinds[kind], .period_ns = 1};
        if (kind == RECORD_GROWTH) // there is none beside the heap's
            continue;
        if (kind == RECORD_HEAP && e->probes.grows)
            bo.kind = BUILDER_KIND_GROWTH;
        if (builder_new(&e->result->builders[kind], &bo))
            abort();
    }
    if (ebpf_kinds_begin(e))
        abort();
    perf_code_be_lazy(e->processes);
}

static int finish_part(void *arg, const char *part)
{
    struct pprof_profile *p = NULL;
    const struct builder_view view = {.part = part};
    if (builder_finish_view(arg, &view, 1, &p) || pprof_check(p, NULL))
        abort();
    pprof_free(p);
    return 0;
}

static void finish(struct ebpf *e)
{
    if (run_fenced(e, 0, true, true) || e->queued || e->sums.count ||
        (has_strangers && !e->damaged))
        abort();
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++) {
        if (!e->result->builders[kind])
            continue;
        finish_part(e->result->builders[kind], "");
        builder_each_part(e->result->builders[kind], finish_part, e->result->builders[kind]);
    }
    ebpf_samples_free(e);
    ebpf_processes_free(e);
    futex_calls_free(e->futexes);
    perf_code_free(e->processes);
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++)
        builder_free(e->result->builders[kind]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct record_options o;
    struct record_result result = {0};
    uint8_t first[2];
    struct ebpf *e = calloc(1, sizeof *e);
    if (!e)
        abort();
    e->result = &result;
    sum_count = wait_count = 0;
    has_strangers = false;
    if (take(&in, first, sizeof first)) {
        begin(e, &o, first[0], first[1]);
        take_items(e, &in);
        finish(e);
    }
    free(e);
    return 0;
}
