// SPDX-License-Identifier: MIT
//
// What the BPF programs and the collector have in common: maps' values and the records of the ring. Included by both:
// fixed-width words only, no functions. The tables of code are in symbols/unwind_layout.h.
//
// How a stack is found (walk.bpf.h)
//   targets    thread group id -> slot. A child gets its parent's slot at fork, in BPF; an exec gets slot 0.
//   slots      what is mapped in a process: mappings sorted by address, in chunks. Written by the collector through
//              mmap under a sequence lock; slot 0 has no mappings ("not known yet").
//   chunks     BPF_CHUNK_MAPPINGS mappings each, owned by one slot
//   slabs      pages of compact unwind tables. A table is a run of pages, table_first[file] the first of them; a file is
//              shared by all processes that map it (by build id, device and inode), and evicted when no slot names it and
//              room is needed. Slabs have one size and are made when they are needed. (A map for each table would do; but
//              then the kernel looks pages up by a call, and where each return is slowed down against Spectre, calls are
//              most of what a walk costs.)
//   rules      the rows without addresses, of all tables
// A walk that comes to code which its slot does not know sends the registers and a copy of the stack instead; the
// collector walks that as it does with perf's samples (perf_code.h), so nothing is lost while tables are made.
//
// How samples are counted
//   A sample's key is a hash of all that the profile tells apart: kind, process, thread, fiber, labels, generation of
//   the slot, and the pcs. sums[key] has the values. The first sample of a key also sends a record with what the key
//   stands for. So an equal stack costs neither the ring nor the collector anything. The collector empties sums from
//   time to time; a key that comes again is sent again. A record may come twice, and what it told of holds for the sums of
//   the same call of bpf_programs_sums and of the next one.
//   A wait's stack is told of when it begins, and its sum comes when it has ended, in any later call: such a record (kinds
//   BPF_SAMPLE_OFFCPU and BPF_SAMPLE_PREEMPTED, also as a copy) holds as long as bpf_programs_waits says so, and for one
//   call longer, as one does whose sum has come.
//
// A further kind of sample is: a program that fills struct sample and calls take (profile.bpf.c), a row in enum
// bpf_sample_kind and in ebpf_kinds.c, and where it has an end of its own, a map of what has not ended
// (bpf_programs_waits).
//
// What always holds
//   - BPF programs write nothing into a target, and read user memory only by bpf_probe_read_user.
//   - Records are read by the collector as a stranger's: their lengths are checked.
//   - What could not be counted is counted in bpf_losses, and told.

#ifndef FIBERSCOPE_COLLECTOR_BPF_LAYOUT_H
#define FIBERSCOPE_COLLECTOR_BPF_LAYOUT_H

#include "collector/bpf/futex_layout.h"

#ifdef __bpf__
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef int int32_t;
typedef unsigned long long uint64_t;
typedef long long int64_t;
#else
#include <stdint.h>
#endif

enum {
    BPF_DEPTH_MAX = 512,        // user frames, as SEG_STACK_DEPTH_MAX
    BPF_KERNEL_DEPTH_MAX = 127, // the kernel's own limit (kernel.perf_event_max_stack)
    BPF_CHUNK_MAPPINGS = 64,    // in a chunk
    BPF_SLOT_CHUNKS = 32,       // chunks of a slot: 2048 executable mappings
    BPF_SLOTS_MAX = 4096,       // processes with tables at a time
    BPF_FILES_MAX = 8192,       // executables with tables at a time
    BPF_SLAB_PAGES = 64,        // of UNWIND_PAGE_BYTES
    BPF_SLABS_MAX = 1024,       // 256 MiB of tables
    BPF_STACK_COPY_MAX = 16384, // bytes of a copied stack
    BPF_LABEL_BYTES_MAX = 2048, // of a fiber's label set
    BPF_CHUNKS = 4096,          // of all slots together
    BPF_SITE_SPECS_MAX = 4096,  // different places of USDT sites, by their arguments, in all files
};

// Files that are none.
enum {
    BPF_FILE_NONE = 0,           // code without a table (JIT, a broken file): by frame pointer
    BPF_FILE_NO_CODE = 1u << 31, // known to be no code: a pc there is no reason to send a copy
};

// --- Code.

struct bpf_mapping {
    uint64_t start, end;  // run-time addresses of executable memory, half open
    uint64_t table_start; // run-time address that the table's first block stands for
    uint32_t file;        // index in table_first, or BPF_FILE_NONE, BPF_FILE_NO_CODE
    uint32_t blocks;      // of the table
};

struct bpf_chunk {
    struct bpf_mapping mappings[BPF_CHUNK_MAPPINGS];
};

// Where to find the current fiber (runtime/descriptor.h); offsets are those of the descriptor.
struct bpf_fibers {
    int64_t tls_offset; // of {m, g} from fs base
    uint64_t labels;    // address of the label sets
    uint32_t is_there;  // else there is no fiber runtime
    uint32_t m_g0, g_id, g_fn, g_labels, g_flags, g_live, g_name, live_name;
    uint32_t label_set_size, label_sets, reserved;
};

struct bpf_slot {
    uint32_t seq;        // odd while the collector writes
    uint32_t generation; // changes with each change of the mappings; never used twice
    uint32_t count;      // of mappings
    uint32_t reserved;
    struct bpf_fibers fibers;
    uint64_t first[BPF_SLOT_CHUNKS]; // start of each chunk's first mapping; unused ones: all bits
    uint32_t chunk[BPF_SLOT_CHUNKS]; // index in `chunks`
};

// --- What is to be done, in .rodata, set before loading.

enum bpf_filter {
    BPF_FILTER_TARGETS, // processes in `targets`, which children join
    BPF_FILTER_ALL,
    BPF_FILTER_CGROUP, // tasks below a control group of version 2
};

struct bpf_config {
    uint32_t filter;     // enum bpf_filter
    uint32_t inherit;    // children of targets are targets
    uint32_t stack_copy; // bytes, at most BPF_STACK_COPY_MAX
    uint32_t kernel_stacks;
    uint32_t self;         // our own thread group, which is never sampled
    uint32_t cgroup_level; // BPF_FILTER_CGROUP: its ancestor on this level is cgroup_id
    uint32_t compare;      // tests: each stack for itself (key 0), and a copy beside it
    uint32_t offcpu;       // 1 in so many waits; 0: none. bpf_programs_new sets it
    uint32_t wakeups;      // who ends them; the same
    uint32_t reserved;
    uint64_t cgroup_id;
    uint64_t interrupts, interrupts_end; // where the kernel's code for them begins; 0: unknown
    uint64_t seed;                       // of the keys
    uint64_t fiber_fraction;             // 1 in so many of what happens to fibers
    uint64_t heap_bytes;                 // mean bytes of a sampled allocation; 1: each
    uint64_t cpu_ns;                     // what a CPU sample stands for; bpf_programs_new sets it
    // Contention (futex_layout.h, sites.bpf.h): waits from so long on, one in so many contentions; 0: none.
    uint64_t block_ns;
    uint32_t mutex_fraction;
    uint32_t futex_locks;   // words waited for at a time, a power of two; 0: BPF_FUTEX_LOCKS_MAX
    uint32_t futex_threads; // 0: BPF_FUTEX_THREADS_MAX
    uint32_t has_sites;     // some are attached; bpf_programs_new sets it
};

// --- What comes back.

enum bpf_sample_kind {
    BPF_SAMPLE_CPU,
    BPF_SAMPLE_OFFCPU,    // a thread waited: count waits, ns together, until it ran again
    BPF_SAMPLE_PREEMPTED, // the same of a thread that could have run
    BPF_SAMPLE_WAKEUP, // a task made a thread runnable: ns is what that had waited, object its thread id. Of an interrupt:
    // process and thread 0
    // Told apart by process and object, not by thread and fiber: all from here on.
    BPF_SAMPLE_BLOCK, // a wait in futex(2) or of a fiber, which is over: count contentions, ns together
    BPF_SAMPLE_MUTEX,      // a wake there: what the others had waited
    BPF_SAMPLE_SITE_BLOCK, // the same by USDT sites (sites.bpf.h)
    BPF_SAMPLE_SITE_MUTEX,
    // Memory (memory.bpf.h): ns are bytes, count the times.
    BPF_SAMPLE_RESIDENT, // became resident
    BPF_SAMPLE_RETURNED, // was given back
    BPF_SAMPLE_MAPPED,   // address space
    BPF_SAMPLE_UNMAPPED,
    BPF_SAMPLE_ALLOCATED, // one object of so many bytes; what is freed has BPF_KEY_FREED; object: its size class
    BPF_SAMPLE_FIBER, // what happened to fibers; object: enum bpf_site, and above it a reason
    BPF_SAMPLE_KIND_COUNT,
};

// A sum under an allocation's key and this is of what was freed of it.
#define BPF_KEY_FREED 0x5bd1e995c3b2ae35ULL

enum bpf_allocator { // cookies of the uprobes
    BPF_MALLOC,
    BPF_CALLOC,
    BPF_REALLOC,
    BPF_ALIGNED, // aligned_alloc, memalign
    BPF_POSIX_MEMALIGN,
};

// The USDT sites (docs/usdt.md), and their cookies.
enum bpf_site {
    BPF_SITE_BLOCK,
    BPF_SITE_MUTEX,
    BPF_SITE_THREAD_BLOCK, // the agent's
    BPF_SITE_THREAD_MUTEX,
    BPF_SITE_HEAP_ALLOC,
    BPF_SITE_HEAP_FREE,
    BPF_SITE_SPAWN,
    BPF_SITE_PARK,
    BPF_SITE_UNPARK,
    BPF_SITE_YIELD,
    BPF_SITE_PREEMPT,
    BPF_SITE_CALL, // syscall_enter
    BPF_SITE_STEAL,
    BPF_SITE_HANDOFF,
    BPF_SITE_EXIT,
    BPF_SITES,
};

// What is told of a process by sites, so that it is not counted otherwise as well.
enum bpf_told {
    BPF_TOLD_BLOCK = 1,
    BPF_TOLD_MUTEX = 2,
    BPF_TOLD_HEAP = 4,
    BPF_TOLD_AFTER_EXEC = 8, // of the image that it is about to execute
};

struct bpf_sum {
    uint64_t count, ns;
    uint64_t runnable_ns; // of a wait: how much of it could have run
};

enum bpf_record_type {
    BPF_RECORD_STACK = 1, // struct bpf_stack: a key's first sample
    BPF_RECORD_COPY = 2,  // struct bpf_copy: a sample whose stack the collector walks; not in sums
    BPF_RECORD_EXEC = 3,  // struct bpf_task_event
    BPF_RECORD_FORK = 4,  // struct bpf_task_event; of a new process, not of a thread
    BPF_RECORD_EXIT = 5,  // struct bpf_task_event; of a whole process
    BPF_RECORD_WAITING = 6, // struct bpf_copy: a thread that waited when recording began
};

enum bpf_walk_end { // as enum unwind_end
    BPF_END_ROOT,
    BPF_END_DEPTH,
    BPF_END_NO_ROW,
    BPF_END_BAD_MEMORY,
    BPF_END_LOOP,
    BPF_END_UNKNOWN_CODE, // no mapping of the slot: a copy is sent
};

struct bpf_head {
    uint32_t type; // enum bpf_record_type
    uint32_t size; // of the whole record
    uint32_t pid;  // thread group id, as the initial pid namespace has it
    uint32_t tid;
    uint64_t time_ns; // CLOCK_MONOTONIC
};

struct bpf_fiber { // zero: none
    uint64_t id, fn;
    uint32_t label_bytes; // of the label set, behind the pcs
    uint32_t reserved;
    char name[32];
};

struct bpf_peer { // who was woken; zero: nobody
    uint32_t pid, tid;
    char comm[16];
};

struct bpf_stack {
    struct bpf_head head;
    uint64_t key;       // 0: the sample stands for itself, and is not in sums
    struct bpf_sum sum; // if key is 0
    uint64_t
        object; // what it is about, as struct builder_sample has it, or as the kind says; 0: none
    uint32_t kind; // enum bpf_sample_kind
    uint32_t end;  // enum bpf_walk_end
    uint32_t user_depth, kernel_depth;
    char comm[16];
    struct bpf_peer peer;
    struct bpf_fiber fiber;
    uint32_t hint, // BLOCK, MUTEX, of which the object is a futex word: enum bpf_futex_hint.
        // ALLOCATED, by a site: the agent's rate
        reserved;
    uint64_t pcs
        []; // user's, then the kernel's, each leaf first, as struct builder_sample wants them; then the labels
};

struct bpf_copy {
    struct bpf_head head;
    uint64_t key; // 0: the sample stands for itself; else of a wait, as in struct bpf_stack
    struct bpf_sum sum;
    uint64_t object;
    uint32_t kind, kernel_depth;
    uint32_t stack_bytes; // copied from rsp upwards
    uint32_t valid;       // registers by DWARF number, as struct unwind_registers
    char comm[16];
    struct bpf_peer peer;
    struct bpf_fiber fiber; // label_bytes 0
    uint32_t hint, reserved;
    uint64_t rip, rbp, rsp;
    uint64_t registers[17];
    uint64_t pcs[]; // the kernel's, then the stack's bytes
};

struct bpf_task_event {
    struct bpf_head head;
    uint32_t parent; // FORK: thread group id
    uint32_t reserved;
};

struct bpf_losses { // one per CPU
    uint64_t ring;  // samples that found the ring full
    uint64_t
        events; // forks, execs and exits that did, or found `targets` full: what is known of processes may be wrong
    uint64_t sums;   // samples that were sent for themselves: sums was full
    uint64_t torn;   // walks during which the slot was written: sent as copies
    uint64_t copies; // samples sent as copies, for any reason
    uint64_t waits;  // waits that found no room while they lasted, or when they ended
    uint64_t calls;  // allocations, frees and calls of malloc that found none
    uint64_t
        locks; // waits for a futex that found no room in its table: not in the charges of who wakes
    uint64_t busy;  // samples that met another one of the same CPU at work
    uint64_t lives; // allocations that were not followed until they are freed: no room
    uint64_t resident_bytes, mapped_bytes; // of the samples that were lost
};

#endif
