// SPDX-License-Identifier: MIT
//
// What code is mapped in the processes that are watched from outside, and walking the stacks that
// perf samples carry.
//
//   file     an ELF file (or the vdso) with its unwind tables, shared by all processes that map it
//   map      an executable mapping of a process; anonymous ones (JIT code) have no file
//   process  a pid between two execs, with its maps as of the last record that was handed in
//
// What always holds
//   - Records are handed in in order of time, so a sample is walked with the maps that held when it
//     was taken; builder modules are given the same moments (CLOCK_MONOTONIC ns).
//   - Files are the target's: what is read of them is copied and checked (perf_elf.h), and a file is
//     used only if it is the one that was mapped (mapped_file.h).
//   - Tables are read when the first sample needs them.
//
// One thread at a time.

#ifndef FIBERSCOPE_COLLECTOR_PERF_CODE_H
#define FIBERSCOPE_COLLECTOR_PERF_CODE_H

#include "collector/builder.h"
#include "collector/perf_ring.h"

struct perf_code;
struct perf_elf;
struct perf_process;

// b receives the processes, modules and thread names; it outlives *out. 0 or -ENOMEM.
int perf_code_new(struct perf_code **out, struct builder *b);
void perf_code_free(struct perf_code *c); // accepts NULL

// A further one, at most PERF_BUILDERS_MAX with the first; before the first process is known. It is told of processes as
// they are asked for in it, as with perf_code_be_lazy. 0 or -ENOSPC.
enum { PERF_BUILDERS_MAX = 16 };
int perf_code_add_builder(struct perf_code *c, struct builder *b);

// Another one in the place of `old`, which is told of nothing more; with perf_code_be_lazy.
void perf_code_replace_builder(struct perf_code *c, const struct builder *old, struct builder *b);

// From now on b is told of a process at the first perf_process_builder alone, not of names of threads until then, and one
// that has ended is forgotten: for many processes most of which are never sampled.
void perf_code_be_lazy(struct perf_code *c);

// The process with this pid; one not seen before is read from /proc (maps, name, thread names). NULL:
// out of memory. A process that has ended meanwhile has no maps.
struct perf_process *perf_code_process(struct perf_code *c, uint32_t pid, uint64_t when);

// A process that will exec and has nothing to show until then (started by us, held before its exec).
struct perf_process *perf_code_blank(struct perf_code *c, uint32_t pid, uint64_t when);

// The records. 0 or -ENOMEM.
int perf_code_fork(struct perf_code *c, const struct perf_record *r);
int perf_code_comm(struct perf_code *c, const struct perf_record *r);
int perf_code_mmap(struct perf_code *c, const struct perf_record *r);

// Reads /proc/PID/maps of all processes again: records were lost. 0 or -ENOMEM.
int perf_code_rescan(struct perf_code *c, uint64_t when);
int perf_code_look_again(struct perf_code *c, struct perf_process *p, uint64_t when); // of one

struct builder_process *perf_process_builder(
    struct perf_process *p); // NULL: out of memory (if lazy)

// The same in one of the builders.
struct builder_process *perf_process_in(struct perf_process *p, const struct builder *b);

// Calls fn for each pid that has not been seen to end.
void perf_code_each_pid(const struct perf_code *c, void (*fn)(void *arg, uint32_t pid), void *arg);
void perf_code_exit(struct perf_code *c, const struct perf_record *r);

struct perf_walk {
    uint64_t pcs[SEG_STACK_DEPTH_MAX]; // leaf first, as struct builder_sample wants them
    uint32_t depth;
    uint32_t flags;      // enum seg_record_flag
    bool wants_more;     // the copy of the stack ended too early
    enum unwind_end end; // why it stopped
};

// Walks the user stack of a sample with 64-bit registers.
void perf_code_walk(struct perf_code *c, struct perf_process *p, const struct perf_sample *s,
                    struct perf_walk *walk);

// --- For tables of code (bpf/code.h).

struct
    code_file; // numbered from 1 on in the order in which they were first mapped; kept until perf_code_free

struct perf_map {
    uint64_t start, end;    // as it is mapped
    uint64_t bias;          // what was added to link-time addresses
    struct code_file *file; // NULL: it has no unwind tables (JIT, a broken file)
};

uint32_t perf_process_pid(const struct perf_process *p);
// Never 0. It changes with the mappings; two processes with the same one have the same mappings.
uint64_t perf_process_generation(const struct perf_process *p);
size_t perf_process_map_count(const struct perf_process *p);
// The maps are sorted by address. Reads the file's tables, if nobody has yet.
void perf_process_map(const struct perf_process *p, size_t index, struct perf_map *out);

uint32_t perf_file_number(const struct code_file *f);
const char *perf_file_path(const struct code_file *f);
bool perf_file_is(const struct code_file *f, uint64_t device, uint64_t inode); // as stat has them
uint32_t perf_code_no_room(
    const struct perf_code *c); // files whose tables were too large: 1 GiB for all, 256 MiB for one
int perf_file_fd(const struct code_file *f);                     // -1: it cannot be had
const struct perf_elf *perf_file_elf(const struct code_file *f); // collector/perf_elf.h

#endif
