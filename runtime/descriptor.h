// SPDX-License-Identifier: MIT
//
// What outsiders (the agent, BPF, gdb, readers of core files) need to find every fiber, without debug info: one
// exported object, fib_descriptor. docs/descriptor.md explains it to them.
//
// Invariants
//   - Fields are only appended, with `size` growing; a change of meaning raises `version`.
//   - `is_ready` is written last, when the runtime starts; before, addresses are 0.
//   - All that is reached from here stays mapped for ever.
//   - Offsets are in bytes, from the start of the struct that their name begins with.
//   - What a thread runs (m_cur) is of one moment if m_seq was even and the same before and after.

#ifndef FIBERSCOPE_RUNTIME_DESCRIPTOR_H
#define FIBERSCOPE_RUNTIME_DESCRIPTOR_H

#include <stdint.h>

enum {
    DESCRIPTOR_VERSION = 1,
    DESCRIPTOR_REGISTERS = 7,
    DESCRIPTOR_TEXT = 32, // bytes of each text, terminated
    DESCRIPTOR_STATUSES = 6,
    DESCRIPTOR_REASONS = 24,
};

// The numbers of g_status and g_flags that readers need.
enum {
    DESCRIPTOR_DEAD = 0,
    DESCRIPTOR_RUNNABLE = 1,
    DESCRIPTOR_WAITING = 4,
    DESCRIPTOR_PREEMPTED = 5,
    DESCRIPTOR_IS_THREAD = 1, // stands for a plain thread
    DESCRIPTOR_IS_SYSTEM = 2, // a scheduler's own
};

struct fib_descriptor {
    char magic[8]; // "FIBRT"
    uint32_t version, size;
    uint32_t is_ready;
    uint32_t reserved;

    // --- Addresses.
    uint64_t slabs;       // uint64_t[]: address of each slab of Gs
    uint64_t g_count;     // of a uint32_t: Gs that ever were; G i is in slab i / slab_gs
    uint64_t all_ms;      // of a uint64_t: the first M; linked by m_all_link
    uint64_t ps;          // uint64_t[]: address of each P
    uint64_t procs;       // of a uint32_t: Ps with a smaller index may run
    uint64_t labels;      // the label sets
    uint64_t root;        // start of the root function's code, the caller of each start function
    uint64_t root_end;    // its end
    uint64_t ns_per_tick; // of a uint64_t: ns of a tick times 2^32
    int64_t tls_offset; // of the thread's {m, g}, two addresses, from the thread pointer (fs base)

    // --- Sizes.
    uint32_t slab_gs, g_size, live_size, m_size, p_size;
    uint32_t label_set_size, label_sets, label_pairs, label_size;
    uint32_t status_count, reason_count;

    // --- struct g.
    uint32_t g_status;  // uint8_t
    uint32_t g_flags;   // uint8_t: enum g_flag
    uint32_t g_labels;  // int32_t: index of a label set; 0: none
    uint32_t g_id;      // uint64_t; 0: free
    uint32_t g_live;    // address of struct live; 0: has not run
    uint32_t g_fn;      // address of the start function
    uint32_t g_arg;     // its argument
    uint32_t g_creator; // uint64_t: id; 0: a plain thread
    uint32_t g_site;    // address of a struct site: its first word is the pc behind fib_go
    uint32_t g_name;    // address of the name given at creation; 0: none

    // --- struct live.
    uint32_t live_sp;          // uint64_t: where the saved registers lie, when it is parked
    uint32_t live_g;           // address
    uint32_t live_wait_reason; // uint32_t
    uint32_t live_wait_object; // address
    uint32_t
        live_wait_owner; // address of a uint64_t: the owner's id but for bits 60 to 62; 0: none
    uint32_t live_wait_since; // uint64_t: ticks
    uint32_t live_low;        // uint64_t: the stack, guard page included
    uint32_t live_high;       // uint64_t
    uint32_t live_cpu_ticks;  // uint64_t
    uint32_t live_switches;   // uint64_t: changes with each run
    uint32_t live_bound_m;    // address: the M that holds a preempted fiber
    uint32_t live_name;       // char[32]

    // --- struct m.
    uint32_t m_seq;             // uint32_t: odd inside a transition
    uint32_t m_cur;             // address of a struct g
    uint32_t m_p;               // address; 0: none
    uint32_t m_g0;              // the scheduler's own G, here
    uint32_t m_all_link;        // address
    uint32_t m_tid;             // int32_t
    uint32_t m_id;              // uint32_t
    uint32_t m_context;         // address of the ucontext_t of what was preempted; 0: nothing is
    uint32_t context_registers; // of gregs in an ucontext_t

    // --- struct p.
    uint32_t p_status; // uint32_t
    uint32_t p_id;     // uint32_t
    uint32_t p_m;      // address; 0: none

    // --- What lies at live_sp, in words of 8 bytes upwards, by DWARF register number; 16: return address.
    uint8_t saved[DESCRIPTOR_REGISTERS];
    uint8_t reserved2;

    char status_text[DESCRIPTOR_STATUSES][DESCRIPTOR_TEXT];
    char reason_text[DESCRIPTOR_REASONS][DESCRIPTOR_TEXT];

    // --- For a profiler of waits in the process. Set by it at any time, to NULL too; called in fibers, on their
    // stacks, with no lock held; what is called may not wait, and stays for ever.
    uint64_t text, text_end; // the runtime's code, where it is a library of its own; else 0
    // A wait is over that another fiber or thread ended: not sleep, input or output. ns: until it runs again.
    void (*on_wait)(const void *object, uint64_t ns);
    // An unlock of a mutex has woken one that had been parked for ns.
    void (*on_unlock)(const void *object, uint64_t ns);

    // --- More of struct live.
    uint32_t live_last_m; // address: the M that it ran on when it began to wait for a lock
    uint32_t live_futex;  // uint32_t: where the plain thread waits that this stands for

    // --- Counters; docs/descriptor.md says what they count.
    uint64_t spawns_outside;      // address of a uint64_t: fibers made by plain threads
    uint32_t live_started;        // uint64_t: ticks; 0: not yet
    uint32_t live_runnable_ticks; // uint64_t
    uint32_t live_wakes;          // uint64_t
    uint32_t live_preempted;      // uint64_t
    uint32_t m_since;             // uint64_t: ticks
    uint32_t m_wakes;             // uint64_t
    uint32_t m_parks;             // uint64_t
    uint32_t p_spawns;            // uint64_t
    uint32_t p_exits;             // uint64_t
    uint32_t p_schedules;         // uint32_t
    uint32_t p_steals;            // uint64_t
    uint32_t p_latency;           // uint64_t[latency_buckets]
    uint32_t latency_buckets;
    uint32_t reserved3;

    // --- For one who wants to know the order of locks. on_lock as on_wait, but in plain threads, too; what: enum
    // descriptor_lock. It is told of what was taken or is released while DESCRIPTOR_LOCKS_WATCHED is set in *slow_locks,
    // by a thread from its next switch of fibers on.
    void (*on_lock)(const void *object, uint32_t what);
    uint32_t *slow_locks;
};

enum descriptor_lock {
    DESCRIPTOR_LOCK_WANTED = 1, // and not to be had at once
    DESCRIPTOR_LOCK_TAKEN = 2,
    DESCRIPTOR_LOCK_RELEASED = 3, // will be
    DESCRIPTOR_LOCK_EVENT = 3,    // mask of the above
    DESCRIPTOR_LOCK_WAITS = 4,    // without limit, if need be
    DESCRIPTOR_LOCK_READS = 8,
    DESCRIPTOR_LOCK_RW = 16, // of an RWMutex
};

enum { DESCRIPTOR_LOCKS_SEEDED = 1, DESCRIPTOR_LOCKS_WATCHED = 2 }; // of *slow_locks

extern struct fib_descriptor fib_descriptor __attribute__((visibility("default")));
void descriptor_init(void); // [fib_init]

#endif
