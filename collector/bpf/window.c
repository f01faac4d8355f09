// SPDX-License-Identifier: MIT
//
// When the programs count: programs.h.

#include "collector/bpf/probes.h"
#include "collector/bpf/profile.skel.h"
#include "collector/bpf/programs.h"

#include <time.h>

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void bpf_programs_hold(struct bpf_programs *p)
{
    struct profile_bpf *k = bpf_programs_skeleton(p);
    __atomic_store_n(&k->bss->counted_since_ns, UINT64_MAX, __ATOMIC_RELEASE);
}

uint64_t bpf_programs_count_from_now(struct bpf_programs *p)
{
    struct profile_bpf *k = bpf_programs_skeleton(p);
    uint64_t now = now_ns();
    __atomic_store_n(&k->bss->counted_since_ns, now, __ATOMIC_RELEASE);
    return now;
}

uint64_t bpf_programs_count_no_more(struct bpf_programs *p)
{
    struct profile_bpf *k = bpf_programs_skeleton(p);
    uint64_t now = now_ns();
    __atomic_store_n(&k->bss->counted_until_ns, now, __ATOMIC_RELEASE);
    return now;
}

// As counted_ns of profile.bpf.c. Times are read on other processors: one may be a little later there.
uint64_t bpf_programs_counted_ns(const struct bpf_programs *p, uint64_t from, uint64_t to)
{
    const struct profile_bpf *k = bpf_programs_skeleton(p);
    uint64_t since = k->bss->counted_since_ns, until = k->bss->counted_until_ns;
    from = from > since ? from : since;
    to = until && to > until ? until : to;
    return to > from ? to - from : 0;
}
