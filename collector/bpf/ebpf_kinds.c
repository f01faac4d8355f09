// SPDX-License-Identifier: MIT
//
// Which profiles each kind of sample goes into, and with which values. See ebpf_internal.h.

#include "collector/bpf/ebpf_internal.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <string.h>

enum { NONE = -1, HZ_MAX = 100000, INTERRUPT_BYTES = 32 };

static const struct ebpf_kind kinds[BPF_SAMPLE_KIND_COUNT] = {
    [BPF_SAMPLE_CPU] = {.into = {RECORD_CPU, RECORD_WALL}},
    [BPF_SAMPLE_SITE_BLOCK] = {.into = {RECORD_BLOCK, NONE}},
    [BPF_SAMPLE_SITE_MUTEX] = {.into = {RECORD_MUTEX, NONE}},
    [BPF_SAMPLE_RESIDENT] = {.into = {RECORD_GROWTH, NONE}},
    [BPF_SAMPLE_RETURNED] = {.into = {RECORD_GROWTH, NONE}},
    [BPF_SAMPLE_MAPPED] = {.into = {RECORD_GROWTH, NONE}},
    [BPF_SAMPLE_UNMAPPED] = {.into = {RECORD_GROWTH, NONE}},
    [BPF_SAMPLE_ALLOCATED] = {.into = {RECORD_HEAP, NONE}, .is_kept = true},
    [BPF_SAMPLE_FIBER] = {.into = {RECORD_CUSTOM, NONE}},
    [BPF_SAMPLE_OFFCPU] = {.into = {RECORD_OFFCPU, RECORD_WALL}, .is_wait = true},
    [BPF_SAMPLE_PREEMPTED] = {.into = {RECORD_OFFCPU, RECORD_WALL}, .is_wait = true},
    [BPF_SAMPLE_WAKEUP] = {.into = {RECORD_WAKEUPS, NONE}},
    [BPF_SAMPLE_BLOCK] = {.into = {RECORD_BLOCK, NONE}, .is_contention = true},
    [BPF_SAMPLE_MUTEX] = {.into = {RECORD_MUTEX, NONE}, .is_contention = true},
};

const struct ebpf_kind *ebpf_kind(uint32_t kind)
{
    return &kinds[kind];
}

bool ebpf_kind_is_meant(const struct ebpf *e, uint32_t kind)
{
    switch (kind) {
    case BPF_SAMPLE_RESIDENT:
    case BPF_SAMPLE_RETURNED:
    case BPF_SAMPLE_MAPPED:
    case BPF_SAMPLE_UNMAPPED: return e->probes.grows;
    case BPF_SAMPLE_ALLOCATED: return !e->probes.grows || e->result->builders[RECORD_GROWTH];
    default: return kind < BPF_SAMPLE_KIND_COUNT;
    }
}

// Growth is the heap's profile where there is no other one of the heap.
static struct builder *builder_of(const struct ebpf *e, int kind)
{
    struct builder *const *b = e->result->builders;
    if (kind == RECORD_GROWTH && !b[kind])
        return b[RECORD_HEAP];
    return kind == NONE ? NULL : b[kind];
}

static bool is_known(int record_kind)
{
    for (size_t i = 0; i < BPF_SAMPLE_KIND_COUNT; i++)
        for (size_t j = 0; j < EBPF_INTO_MAX; j++)
            if (kinds[i].into[j] == record_kind)
                return true;
    return false;
}

int ebpf_check_kinds(const struct record_options *o, struct fscope_error *err)
{
    bool is_any = false;
    const char *what = o->trace ? "trace" : NULL;
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++) {
        is_any |= record_wants(o, kind);
        if (!what && record_wants(o, kind) && !is_known(kind))
            what = record_kind_name(kind);
    }
    if (what && (o->whole_machine || o->cgroup))
        return error_set(
            err, -EOPNOTSUPP, 0,
            "%s records no --%s, which is of a program with the agent in it: -p PID, or "
            "`fiberscope record --%s COMMAND`",
            o->cgroup ? "--cgroup" : "-a", what, what);
    if (what)
        return error_set(err, -EOPNOTSUPP, 0,
                         "--method=ebpf records no --%s, which needs the "
                         "agent: --method=inject -p PID, or `fiberscope record --%s COMMAND`",
                         what, what);
    if ((!is_any && !o->fiber_fraction) || o->cpu_hz > HZ_MAX || o->wall_hz > HZ_MAX)
        return error_set(err, -EINVAL, 0, "a rate from 1 to %d Hz is needed", HZ_MAX);
    return 0;
}

// They lie together.
static void find_interrupts(uint64_t *start, uint64_t *end)
{
    char line[512];
    FILE *f = fopen("/proc/kallsyms", "re");
    while (f && fgets(line, sizeof line, f)) {
        unsigned long long address = 0;
        char name[256] = "";
        if (sscanf(line, "%llx %*c %255s", &address, name) != 2 || !address ||
            (strncmp(name, "asm_sysvec_", 11) != 0 && strcmp(name, "asm_common_interrupt") != 0))
            continue;
        *start = *start && *start < address ? *start : address;
        *end = *end > address + INTERRUPT_BYTES ? *end : address + INTERRUPT_BYTES;
    }
    if (f)
        fclose(f);
}

void ebpf_choose_programs(const struct ebpf *e, struct bpf_programs_options *po)
{
    po->cpu_hz = e->hz;
    po->offcpu = (uint32_t)e->o->offcpu_fraction;
    if (e->o->wall_hz && !po->offcpu)
        po->offcpu = 1;
    po->wakeups = e->o->wakeups;
    if (po->wakeups)
        find_interrupts(&po->config.interrupts, &po->config.interrupts_end);
    if (po->wakeups && !po->offcpu)
        po->offcpu = 1;
    ebpf_probes_choose(e, po);
}

int ebpf_kinds_begin(struct ebpf *e)
{
    struct record_result *r = e->result;
    const struct record_options *o = e->o;
    int rc = futex_calls_new(&e->futexes);
    // One event for both: the CPU profile may have more samples than were asked for, and says so by its period.
    e->hz = o->cpu_hz > o->wall_hz ? o->cpu_hz : o->wall_hz;
    e->wall_period_ns = o->wall_hz ? EBPF_SECOND_NS / o->wall_hz : 1;
    if (e->hz && r->builders[RECORD_CPU]) {
        r->asked_hz[RECORD_CPU] = e->hz;
        builder_set_period(r->builders[RECORD_CPU], EBPF_SECOND_NS / e->hz);
    }
    for (int kind = 0; !rc && kind < RECORD_KIND_COUNT; kind++) {
        if (!r->builders[kind] || (kind == RECORD_CUSTOM && !o->fiber_fraction))
            continue;
        if (e->processes)
            rc = perf_code_add_builder(e->processes, r->builders[kind]);
        else
            rc = perf_code_new(&e->processes, r->builders[kind]);
    }
    struct builder *wakeups = r->builders[RECORD_WAKEUPS];
    if (!rc && wakeups &&
        (!perf_code_blank(e->processes, 0, 0) || !builder_process(wakeups, 0, 0, "[interrupt]")))
        rc = -ENOMEM;
    return rc;
}

int ebpf_sink(const struct ebpf *e, const struct bpf_stack *r, struct perf_process *p,
              struct ebpf_sink *out)
{
    const struct ebpf_kind *k = ebpf_kind(r->kind);
    *out = (struct ebpf_sink){.kind = k, .rest_ns = e->wall_period_ns / 2};
    for (size_t i = 0; i < EBPF_INTO_MAX; i++) {
        bool is_wanted = k->into[i] != NONE && !(e->unwanted >> k->into[i] & 1);
        struct builder *b = is_wanted ? builder_of(e, k->into[i]) : NULL;
        if (b && !(out->in[i] = perf_process_in(p, b)))
            return -ENOMEM;
    }
    if (k->is_contention)
        ebpf_contention_sink(e, r, p, out);
    return 0;
}

// As many as the agent would have taken: one for each period. What is left of one counts with what comes next.
static void fill_wall(const struct ebpf *e, struct ebpf_sink *to, struct builder_sample *s)
{
    uint64_t ns = s->ns + to->rest_ns;
    s->count = ns / e->wall_period_ns;
    to->rest_ns = ns % e->wall_period_ns;
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

int ebpf_add(struct ebpf *e, struct ebpf_sink *to, struct builder_sample *s,
             const struct bpf_sum *sum)
{
    int rc = 0;
    if (!sum->count && !sum->ns)
        return 0; // a wait that has begun
    if (to->kind->is_contention)
        ebpf_contention_shape(e, to, s);
    for (size_t i = 0; !rc && i < EBPF_INTO_MAX; i++) {
        if (!to->in[i])
            continue;
        s->count = sum->count;
        s->ns = less(sum->ns, to->cut[i].ns);
        s->runnable_ns = less(sum->runnable_ns, to->cut[i].runnable_ns);
        to->cut[i] = (struct bpf_sum){0};
        if (to->kind->into[i] == RECORD_WALL)
            fill_wall(e, to, s);
        if (to->kind->into[i] == RECORD_CPU)
            e->samples += sum->count;
        if (to->call.is_relock && to->kind->into[i] == RECORD_BLOCK)
            s->count = 0; // the wait for the condition was counted
        rc = builder_add(to->in[i], s);
        if (!rc && to->kind->is_contention)
            rc = ebpf_contention_tell(to, to->in[i], s);
    }
    return rc;
}

void ebpf_lost(const struct ebpf *e)
{
    // Of which kind it was is not known.
    for (int kind = 0; kind < RECORD_CUSTOM; kind++)
        if (e->result->builders[kind])
            builder_lost(e->result->builders[kind], e->lost);
}

int ebpf_renew_builder(struct ebpf *e, int kind)
{
    struct builder *made, *old = e->result->builders[kind];
    const struct builder_options bo = {
        .size = sizeof bo,
        .kind = record_seg_kind(kind),
        .period_ns = kind == RECORD_CPU && e->hz ? EBPF_SECOND_NS / e->hz
                     : kind == RECORD_WALL       ? e->wall_period_ns
                                                 : 0,
        .real_ns = record_now_ns(CLOCK_REALTIME),
    };
    int rc = builder_new(&made, &bo);
    if (rc)
        return rc;
    perf_code_replace_builder(e->processes, old, made);
    e->result->builders[kind] = made;
    ebpf_keys_again(e);
    return 0;
}
