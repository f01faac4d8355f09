// SPDX-License-Identifier: MIT
//
// Contention by futex as samples of the block and the mutex profile: see ebpf_internal.h, and futex_calls.h for what a stack
// says.

#include "collector/bpf/ebpf_internal.h"

#include <string.h>

void ebpf_contention_sink(const struct ebpf *e, const struct bpf_stack *r,
                          const struct perf_process *p, struct ebpf_sink *out)
{
    futex_calls_look(e->futexes, p, r, &out->call);
    // Who signals a condition, posts a semaphore or comes last to a barrier held nothing that the others waited for.
    if (r->kind == BPF_SAMPLE_MUTEX && !out->call.is_lock)
        out->in[0] = NULL;
}

// Of a profile that goes on for ever locks are told apart up to a bound.
static bool is_full(const struct ebpf *e, const struct ebpf_sink *to)
{
    return e->locks_max && to->in[0] && builder_process_lock_count(to->in[0]) >= e->locks_max &&
           !builder_has_lock(to->in[0], to->call.object);
}

void ebpf_contention_shape(struct ebpf *e, struct ebpf_sink *to, struct builder_sample *s)
{
    uint32_t skip = to->call.skip < s->user_depth ? to->call.skip : 0;
    if (is_full(e, to))
        to->call.object = 0;
    s->object = to->call.object;
    // The agent's sums are the process', and a fiber's number never comes again.
    s->tid = 0;
    s->thread = NULL;
    if (s->label_count && !s->labels[s->label_count - 1].value)
        s->label_count--;
    if (!skip)
        return;
    s->user_depth -= skip;
    memcpy(e->caller_pcs, s->user + skip, s->user_depth * sizeof *e->caller_pcs);
    e->caller_pcs[0]--; // a return address; the first one is taken for exact
    s->user = e->caller_pcs;
}

int ebpf_contention_tell(const struct ebpf_sink *to, struct builder_process *in,
                         const struct builder_sample *s)
{
    const struct builder_lock lock = {
        .object = to->call.object, .type = to->call.type, .when = s->when};
    return lock.object ? builder_lock(in, &lock) : 0;
}

void ebpf_contention_judge(struct record_result *r, const struct bpf_losses *l)
{
    if (l->locks)
        record_warn(r,
                    "%llu waits found no room among the %d locks that are followed at a time: who "
                    "released these is not in the mutex profile",
                    (unsigned long long)l->locks, BPF_FUTEX_LOCKS_MAX);
}
