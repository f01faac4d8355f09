// SPDX-License-Identifier: MIT
//
// See descriptor.h.

#include "runtime/descriptor.h"
#include "runtime/core.h"
#include "runtime/labels.h"

#include <string.h>

extern const char fib_root_end_[] __attribute__((visibility("hidden")));

_Static_assert((int)DESCRIPTOR_DEAD == G_DEAD && (int)DESCRIPTOR_RUNNABLE == G_RUNNABLE &&
                   (int)DESCRIPTOR_WAITING == G_WAITING &&
                   (int)DESCRIPTOR_PREEMPTED == G_PREEMPTED &&
                   (int)DESCRIPTOR_IS_THREAD == G_IS_THREAD &&
                   (int)DESCRIPTOR_IS_SYSTEM == G_IS_SYSTEM,
               "the same numbers");
_Static_assert((int)WAIT_REASONS <= (int)DESCRIPTOR_REASONS, "each has a text");
_Static_assert(offsetof(struct fib_descriptor, slabs) == 24, "the head never moves");
_Static_assert(offsetof(struct fib_descriptor, slab_gs) == 104, "addresses are appended elsewhere");
_Static_assert(offsetof(struct live, sp) == 0, "switch.S writes it");
_Static_assert(offsetof(struct site, pc) == 0, "readers take the first word");
_Static_assert(offsetof(struct fib_tls, g) == 8, "{m, g}");
_Static_assert(sizeof(((struct g *)0)->id) == 8 && sizeof(((struct g *)0)->status) == 1 &&
                   sizeof(((struct m *)0)->seq) == 4 && sizeof(((struct m *)0)->tid) == 4 &&
                   sizeof(((struct live *)0)->wait_reason) == 4 &&
                   sizeof(((struct live *)0)->name) == 32,
               "as docs/descriptor.md says");

struct fib_descriptor fib_descriptor = {
    .magic = "FIBRT",
    .version = DESCRIPTOR_VERSION,
    .size = sizeof(struct fib_descriptor),
    .g_size = sizeof(struct g),
    .live_size = sizeof(struct live),
    .m_size = sizeof(struct m),
    .p_size = sizeof(struct p),
    .label_set_size = sizeof(struct label_set),
    .label_sets = LABEL_SETS,
    .label_pairs = LABEL_PAIRS,
    .label_size = LABEL_SIZE,
    .status_count = DESCRIPTOR_STATUSES,
    .reason_count = WAIT_REASONS,
    .g_status = offsetof(struct g, status),
    .g_flags = offsetof(struct g, flags),
    .g_labels = offsetof(struct g, labels),
    .g_id = offsetof(struct g, id),
    .g_live = offsetof(struct g, live),
    .g_fn = offsetof(struct g, fn),
    .g_arg = offsetof(struct g, arg),
    .g_creator = offsetof(struct g, creator),
    .g_site = offsetof(struct g, site),
    .g_name = offsetof(struct g, name),
    .live_sp = offsetof(struct live, sp),
    .live_g = offsetof(struct live, g),
    .live_wait_reason = offsetof(struct live, wait_reason),
    .live_wait_object = offsetof(struct live, wait_object),
    .live_wait_owner = offsetof(struct live, wait_owner),
    .live_wait_since = offsetof(struct live, wait_since_ticks),
    .live_low = offsetof(struct live, low),
    .live_high = offsetof(struct live, high),
    .live_cpu_ticks = offsetof(struct live, cpu_ticks),
    .live_switches = offsetof(struct live, switches),
    .live_bound_m = offsetof(struct live, bound_m),
    .live_name = offsetof(struct live, name),
    .live_last_m = offsetof(struct live, last_m),
    .live_futex = offsetof(struct live, futex),
    .live_started = offsetof(struct live, started_ticks),
    .live_runnable_ticks = offsetof(struct live, runnable_ticks),
    .live_wakes = offsetof(struct live, wakes),
    .live_preempted = offsetof(struct live, preempted),
    .m_since = offsetof(struct m, since_ticks),
    .m_wakes = offsetof(struct m, wakes_issued),
    .m_parks = offsetof(struct m, parks),
    .p_spawns = offsetof(struct p, spawns),
    .p_exits = offsetof(struct p, exits),
    .p_schedules = offsetof(struct p, schedules),
    .p_steals = offsetof(struct p, steals),
    .p_latency = offsetof(struct p, latency),
    .latency_buckets = sizeof((struct p *)0)->latency / sizeof(uint64_t),
    .m_seq = offsetof(struct m, seq),
    .m_cur = offsetof(struct m, cur),
    .m_p = offsetof(struct m, p),
    .m_g0 = offsetof(struct m, g0),
    .m_all_link = offsetof(struct m, all_link),
    .m_tid = offsetof(struct m, tid),
    .m_id = offsetof(struct m, id),
    .m_context = offsetof(struct m, context),
    .context_registers = 40, // offsetof(ucontext_t, uc_mcontext.gregs): the kernel's, fixed
    .p_status = offsetof(struct p, status),
    .p_id = offsetof(struct p, id),
    .p_m = offsetof(struct p, m),
    .slow_locks = &sched_slow_locks,
    .saved = {15, 14, 13, 12, 3, 6, 16}, // switch.S
    .status_text = {"dead", "runnable", "running", "syscall", "waiting", "preempted"},
};

void descriptor_init(void)
{
    struct fib_descriptor *d = &fib_descriptor;
    struct g_table t = g_table();
    d->slabs = (uintptr_t)t.slabs;
    d->g_count = (uintptr_t)t.count;
    d->slab_gs = t.slab_gs;
    d->all_ms = (uintptr_t)&sched.all_ms;
    d->ps = (uintptr_t)sched.ps;
    d->procs = (uintptr_t)&sched.procs;
    d->spawns_outside = (uintptr_t)&sched.spawns_outside;
    d->labels = (uintptr_t)&fib_label_table;
    d->root = (uintptr_t)fib_root_;
    d->root_end = (uintptr_t)fib_root_end_;
    d->ns_per_tick = (uintptr_t)ticks_scale();
    d->tls_offset = (int64_t)((uintptr_t)&fib_tls - (uintptr_t)__builtin_thread_pointer());
    for (int i = 0; i < WAIT_REASONS; i++)
        strncpy(d->reason_text[i], wait_reason_text((enum wait_reason)i), DESCRIPTOR_TEXT - 1);
    __atomic_store_n(&d->is_ready, 1, __ATOMIC_RELEASE); // what was written before is complete
}
