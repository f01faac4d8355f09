// SPDX-License-Identifier: MIT
//
// What a recording lacks, in words: see ebpf_internal.h. Each that there is has its line, as one may hide behind another: a
// stack that was cut is usual where a command begins, and an allocation that counts as freed is never expected.

#include "collector/bpf/ebpf_internal.h"

typedef unsigned long long ull; // for %llu

static void tell_of_heap(struct record_result *r, const struct ebpf_lacks *l)
{
    if (l->losses.calls)
        record_warn(
            r,
            "%llu allocations, frees or calls of malloc are not in the profile: they found no "
            "room, as too many threads were in malloc, or there were too many stacks in %u s; "
            "sample fewer (--heap=BYTES)",
            (ull)l->losses.calls, l->sums_seconds);
    if (l->losses.lives)
        record_warn(
            r,
            "%llu allocations found no room in the table of live ones, and count as freed at "
            "once: sample fewer (--heap=BYTES)",
            (ull)l->losses.lives);
    if (l->losses.resident_bytes || l->losses.mapped_bytes)
        record_warn(r,
                    "%llu KiB that became resident and %llu KiB that were mapped are not in the "
                    "profile, as the ring was full",
                    (ull)l->losses.resident_bytes >> 10, (ull)l->losses.mapped_bytes >> 10);
}

static void tell_of_tables(struct record_result *r, const struct ebpf_lacks *l)
{
    const struct bpf_code_stats *c = &l->code;
    if (c->no_room || c->rules_full || c->no_slot || c->displaced)
        record_warn(r,
                    "unwind tables found no room (%llu files, %llu processes, %llu gave way to "
                    "others; the bound is %llu KiB; --unwind-memory): stacks there were walked by "
                    "frame pointer, or from copies",
                    (ull)c->no_room + (c->rules_full != 0), (ull)c->no_slot, (ull)c->displaced,
                    (ull)l->unwind_bytes >> 10);
    if (l->unread_files)
        record_warn(r,
                    "the unwind tables of %u files are too large together to be read: stacks there "
                    "were walked by frame pointer",
                    l->unread_files);
    if (l->cut)
        record_warn(
            r,
            "%llu stacks were longer than the %u bytes that were copied while their code was "
            "not known yet, and lack their outermost frames",
            (ull)l->cut, l->stack_bytes);
}

static void tell_of_samples(struct record_result *r, const struct ebpf_lacks *l)
{
    if (l->losses.events)
        record_warn(r,
                    "%llu beginnings and ends of processes were not noticed, as the ring or the "
                    "table of processes was full: what they started may be missing",
                    (ull)l->losses.events);
    if (l->losses.waits)
        record_warn(
            r,
            "%llu waits are not in the profile: they found no room, as more than %u threads "
            "had waited, or in too many ways in %u s",
            (ull)l->losses.waits, l->waits_max, l->sums_seconds);
    if (l->losses.sums)
        record_warn(r, "%llu samples were sent one by one: more than %u different ones in %u s",
                    (ull)l->losses.sums, l->sums_max, l->sums_seconds);
}

void ebpf_tell_lacks(struct record_result *r, const struct ebpf_lacks *l)
{
    tell_of_heap(r, l);
    tell_of_samples(r, l);
    ebpf_contention_judge(r, &l->losses);
    tell_of_tables(r, l);
}
