// SPDX-License-Identifier: MIT
//
// Reading perf rings: the kernel's ring buffer, and the records in it.
//
// What always holds
//   - A record is looked at in place (or in the ring's scratch memory where it wraps) and given back
//     to the kernel only when the caller is done with it, so pointers in a struct perf_record are
//     valid until the next call on its ring.
//   - No byte outside of the record is read, whatever the record says: every field is bounded by what
//     remains. Stack bytes in it were written by the target.
//
// All events that write to one set of rings share one sample format (perf_format_fill).
// One thread at a time. Source: perf_event_open(2), linux/perf_event.h, asm/perf_regs.h.

#ifndef FIBERSCOPE_COLLECTOR_PERF_RING_H
#define FIBERSCOPE_COLLECTOR_PERF_RING_H

#include "unwind/unwind.h"

#include <linux/perf_event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PERF_STACK_MAX = 65528 }; // what the kernel accepts as sample_stack_user

// Sets what one sample carries: identifier, ip, pid and tid, CLOCK_MONOTONIC time, the kernel's call
// chain if `kernel`, the user registers and stack_bytes (a multiple of 8) of the user stack; and that
// other records carry pid, tid, time and identifier too.
void perf_format_fill(struct perf_event_attr *attr, bool kernel, uint32_t stack_bytes);
void perf_format_no_copies(struct perf_event_attr *attr); // neither registers nor the stack

// A software event (PERF_COUNT_SW_) that also tells of mappings, names, forks, execs and exits; readers are woken when half
// of a ring of this size is full.
void perf_format_processes(struct perf_event_attr *attr, uint64_t config, uint64_t ring_bytes);

enum perf_abi { PERF_ABI_NONE, PERF_ABI_32, PERF_ABI_64 }; // of the user registers

struct perf_sample {
    uint64_t ip;
    const uint8_t *chain; // chain_count kernel addresses with context markers: perf_chain_copy
    uint64_t chain_count;
    enum perf_abi abi;
    struct unwind_registers registers; // if abi is PERF_ABI_64
    const uint8_t *stack;              // from registers.rsp upwards
    uint64_t stack_bytes;              // that could be read
    uint64_t stack_asked;              // that were asked for: equal means there may be more
    bool is_entry;                     // ip is a function's first instruction
};

struct perf_mmap {
    uint64_t start, size, offset; // offset: of the file, bytes
    uint64_t device, inode;       // 0 where the record has a build id instead
    const uint8_t *build_id;      // build_id_size bytes; NULL: none
    uint32_t build_id_size;
    uint32_t protection; // PROT_*
    const char *path;    // "" never: "//anon", "[vdso]", a path
};

struct perf_record {
    uint32_t type; // PERF_RECORD_*; one that is not parsed has none of the fields below
    uint32_t size; // bytes in the ring
    uint16_t misc;
    uint32_t pid, tid;
    uint64_t time_ns; // CLOCK_MONOTONIC
    uint64_t id;      // of the event that was opened, also for those that inherited it
    union {
        struct perf_sample sample; // PERF_RECORD_SAMPLE
        struct perf_mmap mmap;     // PERF_RECORD_MMAP2
        struct {
            const char *name;
            bool is_exec;
        } comm; // PERF_RECORD_COMM
        struct {
            uint32_t pid, parent_pid, tid, parent_tid;
        } task; // PERF_RECORD_FORK, PERF_RECORD_EXIT
        struct {
            uint64_t count;
        } lost; // PERF_RECORD_LOST, PERF_RECORD_LOST_SAMPLES
    };
};

// Parses one record of `size` bytes, 8-aligned. 0, or -EINVAL if it does not hold together.
int perf_record_parse(struct perf_record *out, const void *bytes, size_t size,
                      const struct perf_event_attr *attr);

// Copies the kernel's addresses without the context markers, leaf first; their number.
uint32_t perf_chain_copy(const struct perf_sample *s, uint64_t *pcs, uint32_t max);

// --- One ring.

struct perf_ring {
    struct perf_event_mmap_page *page; // NULL: a ring in plain memory (tests)
    const uint8_t *data;
    uint64_t size; // of data, bytes, a power of two
    uint64_t head, tail;
    uint8_t *scratch;          // a record that wraps
    struct perf_record record; // the next one, if has_record
    bool has_record;
    uint64_t damaged; // records that did not parse
};

// Maps the ring of the event fd; size is a power of two. 0 or -errno (-EPERM: over the locked-memory
// limit). The caller owns it: perf_ring_close. The descriptor stays the caller's.
int perf_ring_open(struct perf_ring *r, int fd, uint64_t size);
void perf_ring_close(struct perf_ring *r); // accepts a zeroed one

// Calls fn for the records of all rings in order of time, up to horizon_ns, and gives them back to
// the kernel. The number delivered, or fn's value when that is negative (the record counts as done).
// A record written at time t on one CPU is visible at t plus a little: the horizon lies that much
// in the past, so that no later call delivers an earlier record.
typedef int perf_record_fn(void *arg, const struct perf_record *r);
int64_t perf_rings_drain(struct perf_ring *rings, size_t count, const struct perf_event_attr *attr,
                         uint64_t horizon_ns, perf_record_fn *fn, void *arg);

#endif
