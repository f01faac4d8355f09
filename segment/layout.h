// SPDX-License-Identifier: MIT
//
// The segment: shared memory that a target writes and a consumer outside reads. This header is the
// wire format; docs/segment.md has the same as byte tables. Target and consumer may be of different
// builds, so a change here is a new SEG_VERSION.
//
// Glossary
//   segment   one file (a sealed memfd, or a named file: the black box), one per address space
//   area      a part of the segment with its own offset and size, listed in the header
//   thread    a slot in the thread area: a kernel thread that has recorded something
//   ring      single-producer queue of records; two per thread, for normal and for signal context
//   record    64 bytes: one sample or event of a stream
//   table     interned byte strings (stacks, label sets, strings); an id is a slot index + 1
//   state     counters keyed by {kind, stack, labels, object}: what must never be dropped
//   site      what exact heap recording knows of a state entry beyond its four counters
//   module    a mapped file with the epochs between which it was mapped
//   epoch     counts unloads of modules; part of a stack's identity
//   order     which lock was taken while which others were held
//
// What always holds
//   - The segment is sparse: an untouched ring or slot costs no memory. Nothing is ever moved.
//   - The file never shrinks (F_SEAL_SHRINK on a memfd), so a mapping of it never faults.
//   - Producers never wait, allocate or lock. What does not fit is counted, never silent.
//   - A record is visible only when whole: it is written, then `head` is released past it.
//   - The consumer trusts nothing but its own copy of the header, taken once and validated.

#ifndef FIBERSCOPE_SEGMENT_LAYOUT_H
#define FIBERSCOPE_SEGMENT_LAYOUT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define SEG_MAGIC      UINT64_C(0x3147455345424946) // "FIBESEG1" in file order
#define SEG_DUMP_MAGIC UINT64_C(0x31504d5544424946) // "FIBDUMP1"

enum {
    SEG_VERSION = 5,
    SEG_RECORD_BYTES = 64,
    SEG_STACK_DEPTH_MAX = 512, // frames of one stack; deeper ones keep their leaf end
    SEG_THREAD_NAME_BYTES = 16,
    SEG_BUILD_ID_BYTES = 20,
    SEG_KINDS_MAX = 16, // room for enum seg_kind in the header
    SEG_LIFETIMES = 16, // buckets of seg_site.lifetimes
    SEG_TRACE_CLOCKS = 16,
};

enum seg_area_kind {
    SEG_AREA_THREADS, // struct seg_thread[thread_count]
    SEG_AREA_RINGS,   // two rings of ring_bytes per thread slot: [slot][context]
    SEG_AREA_STACKS,  // a table: user and kernel stacks (arrays of uint64_t pc, leaf first)
    SEG_AREA_BLOBS,   // a table: strings and label sets
    SEG_AREA_STATE,   // struct seg_state[state_count]
    SEG_AREA_MODULES, // struct seg_module[module_count]
    SEG_AREA_TRACE,   // struct seg_trace and its buffers; size 0 unless asked for
    SEG_AREA_SITES, // struct seg_site[state_count], by index of the state entry; size 0 unless asked for
    SEG_AREA_ORDER, // struct seg_order and its tables; size 0: not here, or of an older build
    SEG_AREA_COUNT = 16,
};

enum seg_kind { // of a record or a state entry
    SEG_KIND_NONE,
    SEG_KIND_CPU,  // stream; values: count, ns of CPU time
    SEG_KIND_WALL, // stream; values: count, ns of wall time
    // State; values: alloc objects, alloc bytes, freed objects, freed bytes, of the samples alone. object:
    // the lower bound of the allocations' size class where they are sampled, so that a reader
    // can unsample per (stack, size) as Go does; 0 where every allocation is counted.
    SEG_KIND_HEAP,
    SEG_KIND_BLOCK,  // state; values: contentions, delay ns; already unbiased. object: the lock
    SEG_KIND_MUTEX,  // state; values: contentions, delay ns; already unbiased. object: the lock
    SEG_KIND_CUSTOM, // state; values: added, removed. object: blob id of the profile's name
    // State: what is known of a lock that is some entry's object. values: enum seg_lock_type, offset in
    // the allocation that holds it (0 if that is not known). user_stack: where it, or that allocation, was
    // made; 0: unknown. object: its address.
    SEG_KIND_LOCK,
    // Stream: the heap as it was at time_ns. values: live objects, live bytes; object: bytes
    // allocated so far. One that finds its ring full is counted and not folded.
    SEG_KIND_SERIES,
    // State; values: ended regions, ns that they took, how many had an error. object: blob id of the name (0: of one
    // too many), and from bit 32 on k of the 2^k to 2^(k+1) ns that they took.
    SEG_KIND_REGION,
    SEG_KIND_COUNT,
};

enum seg_lock_type { // values[0] of SEG_KIND_LOCK
    SEG_LOCK_UNKNOWN,
    SEG_LOCK_MUTEX,
    SEG_LOCK_RWLOCK,
    SEG_LOCK_COND,
    SEG_LOCK_SEM,
    SEG_LOCK_BARRIER,
    SEG_LOCK_JOIN,
    SEG_LOCK_FUTEX,
};

enum seg_context { SEG_CONTEXT_NORMAL, SEG_CONTEXT_SIGNAL, SEG_CONTEXT_COUNT };

enum seg_record_flag {
    SEG_FLAG_TRUNCATED = 1, // the stack was cut at SEG_STACK_DEPTH_MAX
    SEG_FLAG_BROKEN = 2,    // the unwinder stopped before the thread's or fiber's start
    SEG_FLAG_IDLE = 4,      // wall: the thread was not on a CPU
};

struct seg_area {
    uint64_t offset, size; // bytes from the start of the segment; page aligned
};

// What to record. Written by the consumer or by the target itself, read by hooks as they pass.
// All relaxed: a hook that is one change late is one sample late.
struct seg_control {
    _Atomic uint64_t cpu_period_ns; // 0: off. The period in force, also the value of one sample
    _Atomic uint64_t wall_period_ns;
    _Atomic uint64_t heap_rate_bytes; // mean bytes per sample; 0 off, 1 every allocation
    _Atomic uint64_t
        block_rate_ns; // waits this long are always kept, shorter ones by chance; 0 off
    _Atomic uint64_t mutex_fraction;   // 1 in so many contended unlocks; 0 off
    _Atomic uint64_t trace_generation; // 0: off
    _Atomic uint32_t cpu_source;       // enum seg_cpu_source
    uint32_t reserved0;
    _Atomic uint32_t wake;          // futex word: bumped after a change that threads must see
    _Atomic uint32_t target_exited; // the target's last word: 1 when it left by exit()
    _Atomic uint64_t consumer_pid;  // who holds the lock, in its own pid namespace; a hint
    _Atomic uint64_t cpu_flags;     // enum seg_cpu_flag, of the collector's events
    // CLOCK_MONOTONIC when the target left by exit(); in a dump, when that was made. 0: it lives, or
    // was killed.
    _Atomic uint64_t end_ns;
    // A wish of a collector that came while the program ran (agent/call.h). It writes asked_what and what belongs
    // to it, then raises `asked` (release); the target does it and stores `answered` = asked (release) after `answer`.
    // One at a time: under the lock of SEG_LOCK_WISHES.
    _Atomic uint32_t asked, answered;
    _Atomic uint32_t asked_what; // enum seg_asked
    _Atomic int32_t answer;      // 0, or -errno of the first that could not be done
    _Atomic uint64_t asked_heap_bytes;
    _Atomic uint64_t region_times; // 1: regions are counted and timed, traced or not; 0 off
    // With SEG_ASK_ARM, _BLOCK and _MUTEX: what the words of that name above shall be.
    _Atomic uint64_t asked_cpu_period_ns, asked_wall_period_ns, asked_block_ns;
    _Atomic uint64_t asked_mutex_fraction;
    _Atomic uint32_t asked_cpu_source, asked_cpu_flags;
    _Atomic uint32_t asked_off; // 1 << enum seg_held: held ones that nobody holds; done first
    // 1 << enum seg_held: what is on because a collector asked for it, and goes off with the last who holds it. What
    // the program wished itself is not in it. Written by the target alone.
    _Atomic uint32_t held;
    _Atomic uint32_t heap_off; // 1: heap_rate_bytes is of what was recorded; nothing is added
    uint32_t reserved1;
};

// What collectors hold. Who holds one has an open file lock, of its own opening of the file, on byte seg_held_byte of
// it, which the kernel takes away when it dies: of samples and the trace the exclusive one of who consumes them, of what
// is state a shared one.
enum seg_held {
    SEG_HELD_SAMPLES, // CPU and wall
    SEG_HELD_TRACE,
    SEG_HELD_HEAP,
    SEG_HELD_BLOCK,
    SEG_HELD_MUTEX,
    SEG_HELD_REGIONS,
    SEG_HELD_COUNT,
};

enum { SEG_LOCK_RINGS, SEG_LOCK_TRACE, SEG_LOCK_WISHES }; // bytes of the file

static inline uint32_t seg_held_byte(uint32_t kind)
{
    return kind <= SEG_HELD_TRACE ? kind : kind + 1;
}

enum seg_asked {
    SEG_ASK_HEAP = 1,    // begin to record the heap, at asked_heap_bytes; -EALREADY: it is
    SEG_ASK_ARM = 2,     // sample, as asked_cpu_* and asked_wall_period_ns say
    SEG_ASK_BLOCK = 4,   // waits, by asked_block_ns, unless they are recorded already
    SEG_ASK_TRACE = 8,   // begin an execution trace; -EALREADY: there is one
    SEG_ASK_FLIGHT = 16, // with SEG_ASK_TRACE: a flight recorder
    SEG_ASK_LOOK = 32,   // at the word of the lock order, and at the trace's request
    SEG_ASK_MUTEX =
        64, // contended unlocks, by asked_mutex_fraction, unless they are recorded already
    SEG_ASK_REGIONS = 128,
};

enum seg_cpu_flag {        // 0 of older collectors
    SEG_CPU_USER_ONLY = 1, // the events do not count kernel time: CPU timers are wanted beside them
};

enum seg_cpu_source { // who makes the CPU sampling signal
    SEG_CPU_NONE,
    SEG_CPU_COLLECTOR_PERF, // perf events that the collector opened on our threads
    SEG_CPU_AGENT_PERF,     // perf events that the agent opened
    SEG_CPU_TIMER,          // timer_create on each thread's CPU clock (capped at CONFIG_HZ)
};

// Losses, all counted by producers (relaxed; they are only ever summed).
struct seg_losses {
    _Atomic uint64_t ring_full[SEG_KINDS_MAX]; // stream records folded into state instead
    _Atomic uint64_t stacks_full;              // stacks recorded as id 0
    _Atomic uint64_t blobs_full;
    _Atomic uint64_t
        state_full; // additions that went to the kind's overflow entry: no stack, total exact
    _Atomic uint64_t threads_full;
    _Atomic uint64_t modules_full;
    _Atomic uint64_t untracked; // live allocations that the pointer table could not hold
    _Atomic uint64_t reentered; // hooks that found themselves already running
    // CPU periods without a sample of their own (the signal was blocked, or the thread in a kernel
    // that the event may not count); charged to the thread's next sample, so no time is lost.
    _Atomic uint64_t collapsed;
    // Frees of pointers whose allocation was not seen: from before the recording, or of a parent.
    _Atomic uint64_t unknown_frees;
    _Atomic uint64_t locks_full; // waits for a lock that found no place: missing from mutex alone
    uint64_t reserved[5];
};

// The heap as a whole, where every allocation is counted. A thread adds what it has done since its
// last visit once that exceeds a bound (see `slack_bytes`), so with several threads live_* may lag by
// that much per thread; alloc and free counts in the state entries never do.
struct seg_heap {
    _Atomic uint64_t live_objects, live_bytes; // modulo 2^64: a reader clamps what went below 0
    _Atomic uint64_t alloc_objects, alloc_bytes;
    _Atomic uint64_t peak_bytes;   // the highest live_bytes seen
    _Atomic uint64_t peak_time_ns; // CLOCK_MONOTONIC
    // Counts the peaks. A state entry whose site has another peak_number has not changed since the
    // latest one, so its live counts are its counts at the peak; else site.peak_* are.
    _Atomic uint64_t peak_number;
    _Atomic uint64_t slack_bytes; // that one thread may hold back; 0: one thread, all exact
    // Operations that fscope_bench_run has run, of all benchmarks, whatever is recorded: what counts and
    // times are per.
    _Atomic uint64_t bench_ops;
    uint64_t reserved[7];
};

struct seg_header {
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes; // sizeof(struct seg_header)
    uint64_t total_bytes;
    uint32_t pid;        // in the target's pid namespace
    uint32_t parent;     // of a forked child: the parent's pid, else 0
    uint64_t mono_ns;    // CLOCK_MONOTONIC at creation
    uint64_t real_ns;    // CLOCK_REALTIME at the same moment
    uint64_t boot_ticks; // field 22 of /proc/self/stat: tells a reused pid from this process
    uint32_t thread_count, module_count; // slots in the areas
    uint32_t state_count, reserved0;
    uint64_t ring_bytes; // one ring, header included; a power of two
    struct seg_area areas[SEG_AREA_COUNT];

    _Atomic uint32_t ready;       // release, last of creation: the fields above are valid
    _Atomic uint32_t epoch;       // counts unloads; release after unload_epoch was set
    _Atomic uint32_t thread_used; // slots ever claimed (high-water mark)
    _Atomic uint32_t module_used;
    struct seg_control control;
    struct seg_losses losses;
    struct seg_heap heap;
    char program[64]; // base name, NUL-terminated
};

struct seg_thread {
    // The kernel thread. The slot is claimed through `state`; the rings of a thread that has left
    // are inherited with what is still in them (a record says its own tid), drained ones first.
    _Atomic uint32_t tid;
    _Atomic uint32_t state; // enum seg_thread_state
    _Atomic uint64_t fiber; // id of the fiber it runs, 0 outside the fiber runtime
    uint32_t reserved0;
    uint32_t generation;     // counts the uses of this slot
    uint64_t start_ns;       // CLOCK_MONOTONIC
    _Atomic uint64_t cpu_ns; // CPU time at exit, 0 before
    char name[SEG_THREAD_NAME_BYTES];
    uint64_t reserved[9];
};

enum seg_thread_state { SEG_THREAD_FREE, SEG_THREAD_LIVE, SEG_THREAD_EXITED, SEG_THREAD_CLAIMED };

struct seg_ring { // head and tail count records since the ring's first use; they never wrap
    _Atomic uint64_t head; // producer; release pairs with the consumer's acquire
    // Producer: 1 while it appends. Code that interrupts it in the same context folds instead.
    _Atomic uint64_t busy;
    uint64_t pad0[6];
    _Atomic uint64_t tail; // consumer; release pairs with the producer's acquire
    uint64_t pad1[7];
    // records follow: (ring_bytes - sizeof(struct seg_ring)) / SEG_RECORD_BYTES, rounded down
};

struct seg_record {
    uint8_t kind;   // enum seg_kind
    uint8_t flags;  // enum seg_record_flag
    uint16_t check; // low bits of the record's index ^ kind: tells a stale record from a new one
    uint32_t tid;
    uint64_t time_ns;                  // CLOCK_MONOTONIC
    uint64_t fiber;                    // 0: none
    uint32_t user_stack, kernel_stack; // ids in SEG_AREA_STACKS, 0: none
    uint32_t labels;                   // id in SEG_AREA_BLOBS, 0: none
    uint32_t epoch;                    // header.epoch when sampled
    uint64_t object;                   // address of the lock or allocation, 0: none
    uint64_t values[2];
};

// A table starts with this, then slot_count slots, then a bump-allocated arena of bytes.
struct seg_table {
    uint32_t slot_count; // a power of two
    uint32_t reserved0;
    uint64_t arena_offset, arena_size; // from the table's start
    _Atomic uint64_t arena_used;
    _Atomic uint64_t slots_used;
    uint64_t reserved[3];
};

// key: 0 free; SEG_SLOT_CLAIMED | hash while its owner writes (which may be for ever: the owner
// may have died); SEG_SLOT_READY | hash when the bytes are published. Nobody waits on a claimed
// slot: probe on. So one byte string may have several ids; readers must not compare ids for
// equality of stacks.
struct seg_slot {
    _Atomic uint64_t key;
    uint64_t offset; // of the bytes, from the table's start
    uint32_t size;   // bytes
    uint32_t epoch;  // stacks: module epoch; else 0
    uint32_t kind;   // stacks: 0 user, 1 kernel; blobs: 0 string, 1 label set
    uint32_t flags;  // stacks: enum seg_record_flag
};

// A dump, as seg_dump writes it: this, then chunks {offset, size} each followed by size bytes of the
// segment, then a chunk {~0, 0}. A dump without that last chunk was cut.
struct seg_dump_header {
    uint64_t magic; // SEG_DUMP_MAGIC
    uint32_t version;
    uint32_t reserved0;
    uint64_t total_bytes; // of the segment
};

struct seg_dump_chunk {
    uint64_t offset, size;
};

#define SEG_SLOT_CLAIMED (UINT64_C(1) << 62)
#define SEG_SLOT_READY   (UINT64_C(1) << 63)

// State entry. Sharded: a writer starts probing at a place that depends on its thread too, so two
// threads seldom share a line; readers add entries with equal keys. Entry i < SEG_KIND_COUNT is kind
// i's overflow entry {kind i, no stack}, published at creation: it takes what finds no slot.
struct seg_state {
    _Atomic uint64_t key; // as seg_slot.key
    uint32_t kind;        // enum seg_kind
    uint32_t user_stack;
    uint32_t labels;
    uint32_t epoch;
    uint64_t object;
    _Atomic uint64_t values[4]; // meaning by kind, see enum seg_kind
};

// Beside state entry i, where every allocation is counted. All relaxed, only ever summed.
struct seg_site {
    _Atomic uint64_t
        temporary_objects;        // freed by the thread that made it, as its next heap operation
    _Atomic uint64_t peak_number; // of seg_heap, at the first change after that peak
    _Atomic uint64_t peak_objects, peak_bytes; // live in this entry just before that change
    // Freed objects by how long they lived: bucket 0 below 1 us, bucket k below 4^k us, the last
    // without bound.
    _Atomic uint64_t lifetimes[SEG_LIFETIMES];
    // Not in values[2] and values[3] of the entry, and not in lifetimes: what other threads have freed than
    // the entry's own, which counts without a bus lock. To be added.
    _Atomic uint64_t elsewhere_objects, elsewhere_bytes;
    uint64_t reserved[2];
    _Atomic uint64_t elsewhere_lifetimes[SEG_LIFETIMES];
};

struct seg_module {
    uint64_t start, end; // addresses, half open
    uint64_t offset;     // file offset of start
    uint64_t device, inode;
    uint32_t path;                 // blob id of the path as the target sees it
    uint32_t load_epoch;           // first epoch in which it was mapped
    _Atomic uint32_t unload_epoch; // first epoch in which it no longer was; 0 while mapped
    uint32_t build_id_size;
    uint8_t build_id[SEG_BUILD_ID_BYTES];
    _Atomic uint32_t ready; // release: the fields above are valid
};

// --- The order of locks.
//
// At the start of SEG_AREA_ORDER; then struct seg_order_lock[lock_count], struct seg_order_edge[edge_count].
//
// A lock has an entry once it was taken with another one held, or held then. Its `number` changes when the lock is
// destroyed: entries that name it by an older number are of a lock that is no more, and count for nothing; so one
// store forgets all that is known of a lock. An entry's place may go to another lock then.
//
// An edge is: `to` was being taken by one who held `from`, and `guards` besides. Each set of guards is an edge of its
// own, for two orders that always happen under a common lock cannot meet.
struct seg_order {
    uint32_t lock_count, edge_count; // powers of two
    _Atomic uint32_t wanted;         // 1: to be recorded; written by the consumer or the target
    _Atomic uint32_t reserved0;
    _Atomic uint64_t since_ns;   // CLOCK_MONOTONIC, when it was last switched on; 0: never
    _Atomic uint64_t locks_full; // orders that are missing: their lock found no place
    _Atomic uint64_t edges_full; // ... or they themselves
    _Atomic uint64_t held_full;  // locks that are not known as held: their holder holds too many
    _Atomic uint64_t forgotten;  // locks with edges that were destroyed
    uint64_t reserved;
};

struct seg_order_lock {
    _Atomic uint64_t address; // 0: free; SEG_ORDER_DEAD is set in one that was destroyed
    _Atomic uint32_t number;
    _Atomic uint32_t type; // enum seg_lock_type; release: after number
};

#define SEG_ORDER_DEAD UINT64_C(1)

enum { SEG_ORDER_GUARDS = 6 };

enum seg_order_flag {
    SEG_ORDER_FROM_READ = 1,  // held for reading
    SEG_ORDER_TO_READ = 2,    // wanted for reading
    SEG_ORDER_TO_QUEUES = 4,  // ... where a waiting writer stops new readers
    SEG_ORDER_GUARDS_CUT = 8, // more guards than there is room for
};

struct seg_order_name { // of a lock, at one time
    uint32_t index, number;
};

#define SEG_ORDER_FIBER  (UINT64_C(1) << 63)
#define SEG_ORDER_SHARED (UINT32_C(1) << 31) // of a guard's index: held for reading

struct seg_order_edge {
    _Atomic uint64_t key; // as seg_slot.key: a hash of from, to, guards and flags
    struct seg_order_name from, to;
    uint32_t from_stack, to_stack; // where they were taken, the first time
    uint32_t flags;                // enum seg_order_flag
    uint32_t guard_count;
    struct seg_order_name guards[SEG_ORDER_GUARDS];
    _Atomic uint64_t count;
    uint64_t first_ns; // CLOCK_MONOTONIC
    // Who did it: the first two. SEG_ORDER_FIBER and a fiber's id; or a number that no other thread has in
    // bits 62..32, and the tid. 0: nobody yet.
    _Atomic uint64_t who[2];
    _Atomic uint64_t others; // 1: and more
};

// --- Execution traces.
//
// At the start of SEG_AREA_TRACE; then struct seg_trace_buffer[buffer_count]; from data_offset on their
// data, buffer_bytes each. A buffer holds events of one thread and one generation in Go's format (types,
// varints), without the batch header: who reads it makes that. Strings and stacks are named by blob and stack
// ids. `used` is released after each event, before what the event tells becomes visible to other
// threads: whatever is committed at one moment is a causal cut, also after SIGKILL.
//
// Generations are numbered through all sessions; a session is what goes into one file, which counts from 1.
// Buffers of one thread and generation are in the order of `order`.
struct seg_trace {
    uint32_t buffer_count, buffer_bytes;
    uint64_t units_per_second;   // of all times: units of CLOCK_MONOTONIC
    uint64_t data_offset;        // from the area's start
    _Atomic uint64_t session;    // counts starts; 0: none yet
    _Atomic uint64_t first;      // generation of this session
    _Atomic uint64_t generation; // being written, 0: off
    _Atomic uint64_t last;       // generation that was written when tracing ended
    _Atomic uint64_t complete;   // no generation up to this is written any more
    _Atomic uint32_t end;        // enum seg_trace_end: of the session before
    _Atomic uint32_t request;    // enum seg_trace_request, by the consumer
    _Atomic uint32_t is_flight;  // the oldest generations give way
    // Somebody copies: no sealed buffer is reused by a producer until then, in ms of CLOCK_MONOTONIC; 0: nobody. hold.h
    _Atomic uint32_t hold;
    _Atomic uint64_t oldest;        // flight: generations below this have given way
    _Atomic uint64_t snapshots;     // counts the conditions that were met; a consumer takes a copy
    _Atomic uint64_t cuts;          // sessions that ended for want of a buffer
    _Atomic uint64_t stopped_units; // when tracing ended
    _Atomic uint64_t
        asked_slow_ns[4]; // with SEG_ASK_TRACE: limits of regions, tasks, latency, stalls; 0: none
    _Atomic uint64_t cut; // generation in which the last cut was; 0: none. Stored at the cut itself
    // The condition that was met last: 1 a region, 2 a task, 3 latency, 4 a stall, and << 8 the string of its name; 0: none
    _Atomic uint64_t met;
    _Atomic uint64_t met_ns; // how long that had lasted
    // How often each condition was met since this recording began, in the order of asked_slow_ns; no more than 65535.
    _Atomic uint16_t hits[4];
    struct
        seg_trace_clock { // of generation g at [g % SEG_TRACE_CLOCKS]; valid where generation says g
        _Atomic uint64_t generation;      // release
        uint64_t units, mono_ns, real_ns; // its start
    } clocks[SEG_TRACE_CLOCKS];
};

// In a stack of a start function alone, as the address that is called: main of the program.
#define SEG_TRACE_MAIN UINT64_C(1)

enum seg_trace_end { SEG_TRACE_STOPPED, SEG_TRACE_FULL };
enum seg_trace_request { SEG_TRACE_NO_REQUEST, SEG_TRACE_STOP, SEG_TRACE_ADVANCE };

enum seg_trace_buffer_state {
    SEG_TRACE_FREE,
    SEG_TRACE_CLAIMED, // its owner fills in the header
    SEG_TRACE_WRITING,
    SEG_TRACE_SEALED, // until the consumer, or a flight recorder's producer, frees it
};

struct seg_trace_buffer {
    _Atomic uint32_t state; // enum seg_trace_buffer_state; release
    uint32_t tid;           // ~0: no thread
    uint64_t session, generation;
    uint64_t order;        // within its thread
    uint64_t start_units;  // base of the first event's time
    _Atomic uint64_t used; // bytes, committed
    uint64_t reserved[2];
};

_Static_assert(sizeof(struct seg_trace) == 688, "wire format");
_Static_assert(sizeof(struct seg_trace_buffer) == 64, "wire format");
_Static_assert(sizeof(struct seg_record) == SEG_RECORD_BYTES, "wire format");
_Static_assert(sizeof(struct seg_slot) == 32, "wire format");
_Static_assert(sizeof(struct seg_state) == 64, "wire format");
_Static_assert(sizeof(struct seg_ring) == 128, "wire format");
_Static_assert(sizeof(struct seg_thread) == 128, "wire format");
_Static_assert(sizeof(struct seg_module) == 80, "wire format");
_Static_assert(sizeof(struct seg_table) == 64, "wire format");
_Static_assert(sizeof(struct seg_site) == 320, "wire format");
_Static_assert(sizeof(struct seg_order) == 64, "wire format");
_Static_assert(sizeof(struct seg_order_lock) == 16, "wire format");
_Static_assert(sizeof(struct seg_order_edge) == 128, "wire format");
_Static_assert((int)SEG_KIND_COUNT <= (int)SEG_KINDS_MAX, "wire format");

#endif
