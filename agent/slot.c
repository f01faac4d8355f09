// SPDX-License-Identifier: MIT
//
// One slot per thread: what a handler needs and may not allocate. All slots are reserved at once
// without access and opened one by one (so mlockall does not fill them), in memory that a forked
// child finds zeroed.
//
// A thread finds its slot through one initial-exec TLS word. The word is checked against gettid:
// threads made by a bare clone may share their maker's TLS.

#include "agent/agent.h"
#include "agent/capture.h"
#include "agent/heap.h"
#include "agent/held.h"
#include "agent/trace.h"
#include "agent/arch/x86_64.h"
#include "emit/emit.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, SLOT_TRIES = 4 };

static size_t round_page(size_t n)
{
    return (n + PAGE - 1) & ~(size_t)(PAGE - 1);
}

static size_t unwind_offset(void)
{
    return (sizeof(struct agent_slot) + 63) & ~(size_t)63;
}

static size_t hook_unwind_offset(void)
{
    return (unwind_offset() + unwind_thread_size() + 63) & ~(size_t)63;
}

static size_t alt_offset(void)
{
    return round_page(hook_unwind_offset() + unwind_thread_size());
}

struct unwind_thread *slot_unwind(struct agent_slot *s)
{
    return (struct unwind_thread *)(void *)((char *)s + unwind_offset());
}

size_t slot_hook_unwind_at; // hook_unwind_offset(), for those in a hurry

void slot_set_stack(struct agent_slot *s, uint64_t low, uint64_t high)
{
    s->stack_low = low;
    s->stack_high = high;
    unwind_thread_init(slot_unwind(s), low, high);
    unwind_thread_init(slot_hook_unwind(s), low, high);
}

int slot_map(struct agent *a)
{
    slot_hook_unwind_at = hook_unwind_offset();
    size_t stride = alt_offset() + AGENT_ALT_STACK_BYTES;
    int rc = -ENOMEM;
    for (uint32_t count = AGENT_SLOTS_MAX; count >= 64; count /= 4) {
        long at = sys6(SYS_mmap, 0, stride * count, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, (uint64_t)-1, 0);
        if (at < 0 && at > -PAGE) {
            rc = (int)at;
            continue;
        }
        // Without it (kernels before 4.14) the fork hook clears what matters.
        sys3(SYS_madvise, at, stride * count, MADV_WIPEONFORK);
        a->slots = (uint8_t *)at;
        a->slot_stride = (uint32_t)stride;
        a->slot_count = count;
        return 0;
    }
    return rc;
}

// The header page of a slot must be accessible before anybody looks at its tid, so slots are opened
// in order, under the counter that everybody reads.
static bool open_next(uint32_t index)
{
    struct agent_slot *s = slot_at(index);
    // PROT_READ | PROT_WRITE twice by two threads is as good as once.
    return !sys3(SYS_mprotect, s, agent.slot_stride, PROT_READ | PROT_WRITE);
}

static bool is_gone(uint32_t tid)
{
    return sys3(SYS_tgkill, agent.space->pid, tid, 0) == -ESRCH;
}

static void slot_reset(struct agent_slot *s, uint32_t tid)
{
    s->segment_slot = -1;
    s->perf_fd = s->cpu_timer = s->wall_timer = -1;
    s->source = SEG_CPU_NONE;
    s->cpu_period_ns = s->cpu_seen_ns = s->wall_seen_ns = s->wall_cpu_ns = 0;
    s->cpu_due_ns = 0;
    s->exit_rounds = 0;
    s->waits_ended = 0;
    s->order.session = 0;
    s->alt_stack = NULL;
    s->pages.generation = s->hook_pages.generation = 0;
    s->heap = NULL;
    bool is_main = tid == agent.space->pid;
    slot_set_stack(s, is_main ? agent.main_stack_low : 0, is_main ? agent.main_stack_high : 0);
    // release: pairs with the acquire in slot_find
    atomic_store_explicit(&s->ready, 1, memory_order_release);
}

static bool try_claim(struct agent_slot *s, uint32_t old, uint32_t tid)
{
    if (!atomic_compare_exchange_strong_explicit(&s->tid, &old, tid, memory_order_acquire,
                                                 memory_order_relaxed))
        return false;
    if (s->was_used) // who started all threads may have armed it just after its thread left
        source_disarm(s);
    s->was_used = true;
    slot_reset(s, tid);
    return true;
}

static struct agent_slot *slot_find(uint32_t tid)
{
    uint32_t used = atomic_load_explicit(&agent.space->slots_used, memory_order_acquire);
    for (uint32_t i = 0; i < used; i++) {
        struct agent_slot *s = slot_at(i);
        if (atomic_load_explicit(&s->tid, memory_order_relaxed) == tid &&
            atomic_load_explicit(&s->ready, memory_order_acquire))
            return s;
    }
    return NULL;
}

static struct agent_slot *slot_claim(uint32_t tid)
{
    struct agent_space *space = agent.space;
    for (uint32_t i = 0; i < atomic_load_explicit(&space->slots_used, memory_order_acquire); i++)
        if (!atomic_load_explicit(&slot_at(i)->tid, memory_order_relaxed) &&
            try_claim(slot_at(i), 0, tid))
            return slot_at(i);
    for (;;) {
        uint32_t used = atomic_load_explicit(&space->slots_used, memory_order_acquire);
        if (used >= agent.slot_count)
            break;
        if (!open_next(used))
            break;
        uint32_t expected = used;
        // release: pairs with the acquires above; the slot's pages are open. A thread that lost the
        // race has opened the same slot, and may still claim it.
        atomic_compare_exchange_strong_explicit(&space->slots_used, &expected, used + 1,
                                                memory_order_release, memory_order_relaxed);
        if (try_claim(slot_at(used), 0, tid))
            return slot_at(used);
    }
    // Full: threads that ended without passing our exit hook may hold some.
    for (uint32_t i = 0, tried = 0; i < agent.slot_count && tried < SLOT_TRIES; i++) {
        uint32_t old = atomic_load_explicit(&slot_at(i)->tid, memory_order_relaxed);
        if (!is_gone(old))
            continue;
        tried++;
        source_disarm(slot_at(i));
        if (try_claim(slot_at(i), old, tid))
            return slot_at(i);
    }
    atomic_fetch_add_explicit(&space->seg.header->losses.threads_full, 1, memory_order_relaxed);
    return NULL;
}

struct agent_slot *slot_for(uint32_t tid)
{
    struct agent_slot *s = slot_find(tid);
    return s ? s : slot_claim(tid);
}

struct agent_slot *slot_self(void)
{
    uint32_t tid = (uint32_t)sys0(SYS_gettid);
    struct agent_slot *s = agent_tls.slot;
    if (s && atomic_load_explicit(&s->tid, memory_order_relaxed) == tid)
        return s;
    if (agent_tls.left == tid)
        return NULL;
    s = slot_for(tid);
    agent_tls.slot = s;
    return s;
}

// A handler needs more stack than the smallest threads have: the kernel's signal frame alone is up
// to 12 KiB. They get an alternate stack, unless they have one.
void slot_alt_stack(struct agent_slot *s)
{
    stack_t old = {0}, ours = {0};
    if (sys2(SYS_sigaltstack, NULL, &old) || !(old.ss_flags & SS_DISABLE))
        return;
    ours.ss_sp = (char *)s + alt_offset();
    ours.ss_size = AGENT_ALT_STACK_BYTES;
    if (!sys2(SYS_sigaltstack, &ours, NULL))
        s->alt_stack = ours.ss_sp;
}

static void drop_alt_stack(struct agent_slot *s)
{
    stack_t now = {0}, none = {.ss_flags = SS_DISABLE};
    if (s->alt_stack && !sys2(SYS_sigaltstack, NULL, &now) && now.ss_sp == s->alt_stack)
        sys2(SYS_sigaltstack, &none, NULL);
    s->alt_stack = NULL;
}

void slot_leave(void)
{
    struct agent_slot *s = agent_tls.slot;
    uint32_t tid = (uint32_t)sys0(SYS_gettid);
    trace_signal((const void *)(uintptr_t)pthread_self(), true); // who joins it
    emit_self_end();
    agent_tls.left = tid; // first: from here on the handler does nothing in this thread
    agent_tls.slot = NULL;
    atomic_signal_fence(memory_order_seq_cst);
    held_thread_leaves(tid);
    if (!s || atomic_load_explicit(&s->tid, memory_order_relaxed) != tid)
        s = slot_find(tid);
    if (!s)
        return;
    source_disarm(s);
    heap_thread_leave(s);
    drop_alt_stack(s);
    if (s->segment_slot >= 0)
        seg_thread_exit(&agent.space->seg, s->segment_slot, source_thread_cpu_ns(0));
    s->segment_slot = -1;
    atomic_store_explicit(&s->ready, 0, memory_order_relaxed);
    // release: pairs with the acquire in try_claim
    atomic_store_explicit(&s->tid, 0, memory_order_release);
}
