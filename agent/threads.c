// SPDX-License-Identifier: MIT
//
// Threads made while we record, and libraries they unload. The wrapped start routine is entered by
// a tail call, so stacks look as they do without us; the thread's exit shows through the destructor
// of a pthread key, which also runs on pthread_exit and cancellation.
//
// What start routine and argument are travels in a node of a fixed pool: no malloc, and the maker
// does not wait. Without a free node the thread is started plainly and claims its slot at its first
// sample, which only the collector's events can bring about.

#include "agent/agent.h"
#include "agent/hooks_got.h"
#include "agent/arch/x86_64.h"
#include "agent/trace.h"
#include "emit/emit.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <string.h>
#include <threads.h>

#define INTERPOSED __attribute__((visibility("default")))

enum { NODES = 1024 };

struct node {
    _Atomic uint32_t taken;
    size_t stack_bytes; // 0: the default
    struct emit_thread *trace;
    uint64_t start_pc; // of the function that the thread is named after
    union {
        void *(*posix)(void *);
        int (*c11)(void *);
    } start;
    void *arg;
};

static struct node nodes[NODES];
static _Atomic uint32_t next_node;

static struct node *node_take(void)
{
    uint32_t at = atomic_fetch_add_explicit(&next_node, 1, memory_order_relaxed);
    for (uint32_t i = 0; i < NODES; i++) {
        struct node *n = &nodes[(at + i) % NODES];
        uint32_t no = 0;
        if (!atomic_load_explicit(&n->taken, memory_order_relaxed) &&
            atomic_compare_exchange_strong_explicit(&n->taken, &no, 1, memory_order_acquire,
                                                    memory_order_relaxed))
            return n;
    }
    return NULL;
}

static void node_give(struct node *n)
{
    // release: pairs with the acquire in node_take
    atomic_store_explicit(&n->taken, 0, memory_order_release);
}

enum { SIGPROF_BYTES = 8 }; // of the kernel's signal mask

static const uint64_t sigprof_mask = UINT64_C(1) << (SIGPROF - 1);

// The new thread's own source starts here unless the collector's events are in force; then the
// collector is told, and if nobody listens any more, nobody asks.
static void thread_claimed(struct agent_slot *s, size_t stack_bytes)
{
    if (agent.has_key)
        pthread_setspecific(agent.key, s);
    // Above its frames a thread's stack holds its TLS and its descriptor, at pthread_self().
    uint64_t high = (uint64_t)pthread_self();
    slot_set_stack(s, high - (stack_bytes ? stack_bytes : agent.thread_stack_bytes), high);
    if (stack_bytes && stack_bytes < AGENT_SMALL_STACK_BYTES)
        slot_alt_stack(s);
    source_arm(s);
    // A full backlog: this thread gets a timer of its own. A dead collector: nobody asks any more.
    if (s->source == SEG_CPU_COLLECTOR_PERF &&
        hello_thread(&agent, atomic_load_explicit(&s->tid, memory_order_relaxed)) == -EAGAIN)
        source_fall_back(s);
}

// In the new thread, before the target's code.
static void thread_begin(size_t stack_bytes)
{
    uint64_t old = 0;
    // The collector may have found this thread already: a signal must not meet a half-claimed slot.
    sys4(SYS_rt_sigprocmask, SIG_BLOCK, &sigprof_mask, &old, SIGPROF_BYTES);
    struct agent_slot *s = slot_self();
    if (s)
        thread_claimed(s, stack_bytes);
    // Daemons often block all signals before they make threads, and handle them in one place.
    // SIGPROF comes to us alone, so it may pass; not where the target uses it.
    if (s && agent.env.unblock && !signals_target_uses())
        old &= ~sigprof_mask;
    sys4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, SIGPROF_BYTES);
}

static void *posix_begin(void *arg)
{
    struct node *n = arg;
    struct node copy;
    copy.start.posix = n->start.posix;
    copy.arg = n->arg;
    copy.stack_bytes = n->stack_bytes;
    copy.trace = n->trace;
    copy.start_pc = n->start_pc;
    node_give(n);
    if (agent_live() && atomic_load_explicit(&agent.space->running, memory_order_relaxed))
        thread_begin(copy.stack_bytes);
    emit_self_begin(copy.trace, copy.start_pc);
    return copy.start.posix(copy.arg); // a tail call: no frame of ours in the thread's stacks
}

static int c11_begin(void *arg)
{
    struct node *n = arg;
    int (*start)(void *) = n->start.c11;
    void *argument = n->arg;
    struct emit_thread *trace = n->trace;
    node_give(n);
    if (agent_live() && atomic_load_explicit(&agent.space->running, memory_order_relaxed))
        thread_begin(0);
    emit_self_begin(trace, (uint64_t)(uintptr_t)start);
    return start(argument);
}

static size_t stack_size(const pthread_attr_t *attr)
{
    size_t size = 0;
    return attr && !pthread_attr_getstacksize(attr, &size) ? size : 0;
}

// Whether that is libstdc++'s start of a std::thread. No lock is taken: a thread may be created while another is in dlopen
// and waits for it.
static bool is_std_thread(void *(*start)(void *))
{
    struct dl_find_object found;
    return !_dl_find_object((void *)(uintptr_t)start, &found) && found.dlfo_link_map &&
           strstr(found.dlfo_link_map->l_name, "/libstdc++.so");
}

// Of a std::thread the virtual _M_run of its _State, by the C++ ABI the third of its functions, behind two destructors:
// its type says what the thread calls.
static uint64_t named_start(void *(*start)(void *), void *arg)
{
    if (!arg || !is_std_thread(start))
        return (uint64_t)(uintptr_t)start;
    const uint64_t *const *object = arg;
    return (*object)[2];
}

INTERPOSED int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
                              void *arg)
{
    hooks_got_look();
    if (trace_is_due())
        trace_begin_due();
    struct node *n = agent_live() ? node_take() : NULL;
    if (!n)
        return agent_real()->pthread_create(thread, attr, start, arg);
    n->start.posix = start;
    n->arg = arg;
    n->stack_bytes = stack_size(attr);
    n->start_pc = named_start(start, arg);
    n->trace = emit_self_create(n->start_pc);
    struct emit_thread *trace = n->trace;
    int rc = agent_real()->pthread_create(thread, attr, posix_begin, n);
    if (rc) {
        emit_self_drop(trace);
        node_give(n);
    }
    return rc;
}

INTERPOSED int thrd_create(thrd_t *thread, thrd_start_t start, void *arg)
{
    if (trace_is_due())
        trace_begin_due();
    struct node *n = agent_live() ? node_take() : NULL;
    if (!n)
        return agent_real()->thrd_create(thread, start, arg);
    n->start.c11 = start;
    n->arg = arg;
    struct emit_thread *trace = n->trace = emit_self_create((uint64_t)(uintptr_t)start);
    int rc = agent_real()->thrd_create(thread, c11_begin, n);
    if (rc != thrd_success) {
        emit_self_drop(trace);
        node_give(n);
    }
    return rc;
}

INTERPOSED int dlclose(void *handle)
{
    struct link_map *map = NULL;
    if (agent_live() && agent_owns() && !dlinfo(handle, RTLD_DI_LINKMAP, &map) && map &&
        map->l_ld) {
        // Where the image starts: l_addr is 0 for the executable itself, which stays anyway.
        if (map->l_addr)
            unload_begin(map->l_addr);
        hooks_got_forget();
    }
    return agent_real()->dlclose(handle);
}
