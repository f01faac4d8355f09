// SPDX-License-Identifier: MIT
//
// What must hold: whatever bytes stand in .eh_frame and .eh_frame_hdr, rows are made, looked up and
// walked by in bounded time without a read outside of the sections.
//
// Input: 4 bytes, the size of .eh_frame_hdr (clipped to what remains); the header; .eh_frame. The
// header's address is 0x1000, that of .eh_frame follows it.

#include "unwind/unwind.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ADDRESS = 0x1000, PCS_MAX = 32, ROWS_MAX = 4096, DEPTH_MAX = 64 };

struct seen {
    uint64_t pcs[PCS_MAX];
    unsigned count, rows;
};

static int see_row(void *arg, uint64_t start, uint64_t end, int status,
                   const struct unwind_row *row)
{
    struct seen *s = arg;
    if (start >= end || (status == UNWIND_OK) != (row->cfa != UNWIND_CFA_NONE))
        abort();
    if (s->count < PCS_MAX)
        s->pcs[s->count++] = start;
    return ++s->rows == ROWS_MAX;
}

// A stack made of the pcs that the tables cover, so that walks go on.
static int read_stack(void *arg, uint64_t address, uint64_t *value)
{
    const struct seen *s = arg;
    *value = address & 8 ? address + 64 : s->pcs[address / 16 % PCS_MAX];
    return address % 1024 == 1016;
}

static int take_tables(void *arg, uint64_t pc, struct unwind_tables *out);

struct walk {
    struct seen seen; // first: read_stack's arg
    struct unwind_tables tables;
};

static int take_tables(void *arg, uint64_t pc, struct unwind_tables *out)
{
    (void)pc;
    *out = ((struct walk *)arg)->tables;
    return 0;
}

// A copy of exactly its size, so that ASan sees one byte too many.
static struct unwind_section copy(const uint8_t *data, size_t size, uint64_t address)
{
    uint8_t *bytes = malloc(size ? size : 1);
    if (!bytes)
        abort();
    memcpy(bytes, data, size);
    return (struct unwind_section){bytes, size, address};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t header;
    if (size < sizeof header)
        return 0;
    memcpy(&header, data, sizeof header);
    data += sizeof header;
    size -= sizeof header;
    if (header > size)
        header = (uint32_t)size;
    struct walk w = {0};
    w.tables.eh_frame_hdr = copy(data, header, ADDRESS);
    w.tables.eh_frame = copy(data + header, size - header, ADDRESS + header);

    unwind_each_row(&w.tables, see_row, &w.seen);
    for (unsigned i = 0; i < w.seen.count; i++) {
        struct unwind_row row;
        unwind_find_row(&w.tables, w.seen.pcs[i], &row);
        uint64_t pcs[DEPTH_MAX];
        enum unwind_end end;
        struct unwind_registers r = {w.seen.pcs[i], 0x7000, 0x7008, {0x7100, 0x7200}, 0xffff};
        struct unwind_remote remote = {.read = read_stack, .tables = take_tables, .arg = &w};
        if (unwind_walk_remote(&remote, &r, pcs, DEPTH_MAX, &end) > DEPTH_MAX)
            abort();
    }
    free((void *)(uintptr_t)w.tables.eh_frame_hdr.data);
    free((void *)(uintptr_t)w.tables.eh_frame.data);
    return 0;
}
