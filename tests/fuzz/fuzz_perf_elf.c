// SPDX-License-Identifier: MIT
//
// Arbitrary bytes as a mapped ELF file: what is found in it lies in it, and what is made of a Go program's table is no more
// than its rows can be.

#include "collector/perf_elf.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MADE_MAX = 1200, LOOKED_UP = 64 }; // 16 rows of at most 64 bytes for each byte, and a little

static volatile uint64_t sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct perf_elf_source source = {.fd = -1, .bytes = data, .size = size};
    struct perf_elf e;
    uint8_t id[20];
    uint64_t bias;
    size_t n = perf_elf_build_id(&source, id, sizeof id);
    if (n > sizeof id)
        abort();
    if (perf_elf_load(&e, &source))
        return 0;
    if (e.tables.eh_frame.size > MADE_MAX * size || e.tables.eh_frame_hdr.size > MADE_MAX * size)
        abort();
    for (size_t i = 0; i < e.tables.eh_frame.size; i++)
        sink += e.tables.eh_frame.data[i];
    for (size_t i = 0; i < e.tables.eh_frame_hdr.size; i++)
        sink += e.tables.eh_frame_hdr.data[i];
    for (uint64_t i = 0; i < LOOKED_UP && e.load_count && e.tables.eh_frame.size; i++) {
        struct unwind_row row;
        sink += (uint64_t)unwind_find_row(&e.tables, e.loads[0].address + 8 * i, &row);
    }
    for (uint64_t offset = 0; offset < size; offset += 4096)
        sink += (uint64_t)perf_elf_bias(&e, 0x7f0000000000, offset, &bias);
    perf_elf_finish(&e);
    return 0;
}
