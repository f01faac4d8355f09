// SPDX-License-Identifier: MIT
//
// The unwind tables of one ELF file, read for walking stacks from outside.
//
// Only what a walk needs is read, into memory of our own: a file that shrinks under us costs a failed
// read and never a SIGBUS. The file belongs to the target, so nothing in it is believed: every offset
// is checked against the size of what it points into, and sizes are bounded.
//
// Source: System V gABI chapter 5, LSB 5.0 section 10.6 (.eh_frame_hdr).

#ifndef FIBERSCOPE_COLLECTOR_PERF_ELF_H
#define FIBERSCOPE_COLLECTOR_PERF_ELF_H

#include "unwind/unwind.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PERF_ELF_LOADS_MAX = 64 };

struct perf_elf {
    struct {
        uint64_t offset, address, size; // in the file; link-time; of the file's part
        bool is_code;
    } loads[PERF_ELF_LOADS_MAX];
    uint32_t load_count;
    struct unwind_tables tables; // link-time addresses; sizes 0: the file has none
    uint8_t *header_bytes, *frame_bytes;
    bool had_no_room; // it has tables, but larger ones than may be read
};

// Where an ELF file is read from: a descriptor, or memory (the vdso).
struct perf_elf_source {
    int fd;            // -1: memory
    const void *bytes; // [size]
    size_t size;
    uint64_t tables_max; // bytes; 0: 256 MiB, which is never exceeded
};

// 0; -ENOEXEC: not a 64-bit x86-64 ELF file, or broken; -ENOMEM, -EIO. A file without unwind tables
// is fine. The caller owns *out: perf_elf_finish.
int perf_elf_load(struct perf_elf *out, const struct perf_elf_source *source);
void perf_elf_finish(struct perf_elf *e); // accepts a zeroed one

// What to add to link-time addresses when the file's `offset` is mapped at `start` as code (lld has the end of one segment
// and the start of the next on one page of the file, which is then mapped twice). 0, or -ENOENT where no loadable segment
// holds that offset.
int perf_elf_bias(const struct perf_elf *e, uint64_t start, uint64_t offset, uint64_t *bias);

// The build id of an ELF file as bytes (at most max); its length, 0 if it has none or is no ELF file.
size_t perf_elf_build_id(const struct perf_elf_source *source, uint8_t *id, size_t max);

#endif
