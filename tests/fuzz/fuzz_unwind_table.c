// SPDX-License-Identifier: MIT
//
// What must hold: whatever bytes stand in .eh_frame and .eh_frame_hdr, a compact table is made in bounded time and memory,
// is as unwind_layout.h says, and names no rule that there is not.
//
// Input: as of fuzz_cfi.c. 4 bytes, the size of .eh_frame_hdr; the header; .eh_frame.

#include "symbols/unwind_table.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ADDRESS = 0x1000, CODE_MAX = 16 << 20 };

// A copy of exactly its size, so that ASan sees one byte too many.
static struct unwind_section copy(const uint8_t *data, size_t size, uint64_t address)
{
    uint8_t *bytes = malloc(size ? size : 1);
    if (!bytes)
        abort();
    memcpy(bytes, data, size);
    return (struct unwind_section){bytes, size, address};
}

static void require(bool holds)
{
    if (!holds)
        abort();
}

static uint32_t rule_in(const uint16_t *row, uint32_t halves)
{
    return halves == 1 ? (uint32_t)row[0] >> 8 : (row[0] >> 8 | (uint32_t)row[1] << 8);
}

static bool is_known(const struct unwind_rules *rules, uint32_t rule)
{
    return rule < UNWIND_RULES_MAX &&
           (rule <= UNWIND_RULE_ROOT || unwind_rules_row(rules, rule)->cfa != UNWIND_CFA_NONE);
}

static void check_block(const struct unwind_table *t, const struct unwind_rules *rules,
                        uint32_t word)
{
    uint32_t place = word >> UNWIND_PLACE_SHIFT, rows = (word & UNWIND_MORE_ROWS) + 1;
    uint32_t halves = word & UNWIND_WIDE ? 2 : 1, end = place + rows * halves;
    const uint16_t *row = (const uint16_t *)(const void *)t->words + place;
    require(place >= 2 * t->blocks && place % halves == 0);
    require(end <= t->pages * (uint64_t)UNWIND_PAGE_HALVES);
    require(place / UNWIND_PAGE_HALVES == (end - 1) / UNWIND_PAGE_HALVES);
    require((row[0] & 255) == 0 && is_known(rules, rule_in(row, halves)));
    for (uint32_t i = 1; i < rows; i++) {
        const uint16_t *before = row;
        row += halves;
        require((row[0] & 255) > (before[0] & 255));
        require(rule_in(row, halves) != rule_in(before, halves));
        require(is_known(rules, rule_in(row, halves)));
    }
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
    struct unwind_table_source s = {.name = "fuzz", .end = CODE_MAX};
    struct unwind_table t;
    struct unwind_rules *rules;
    s.tables.eh_frame_hdr = copy(data, header, ADDRESS);
    s.tables.eh_frame = copy(data + header, size - header, ADDRESS + header);
    require(unwind_rules_new(&rules, NULL) == 0);
    if (unwind_table_make(&t, &s, rules, NULL) == 0) {
        require(t.pages && t.pages <= UNWIND_TABLE_WORDS_MAX / UNWIND_PAGE_WORDS && t.blocks);
        require(t.start % UNWIND_BLOCK_BYTES == 0 && t.start < CODE_MAX);
        require(t.blocks <= (CODE_MAX - t.start) / UNWIND_BLOCK_BYTES);
        // Rows come of bytes of programs: one for two of them at most, and one for each block.
        require(t.rows <= t.blocks + 8 * (uint64_t)size + UNWIND_BLOCK_ROWS_MAX);
        for (uint32_t b = 0; b < t.blocks; b++)
            check_block(&t, rules, t.words[b]);
    }
    unwind_table_finish(&t);
    unwind_rules_free(rules);
    free((void *)(uintptr_t)s.tables.eh_frame_hdr.data);
    free((void *)(uintptr_t)s.tables.eh_frame.data);
    return 0;
}
