// SPDX-License-Identifier: MIT
//
// The bytes of a compact unwind table, written in order of address: see unwind_layout.h.
//
// Invariant: the open block's rows hold what is in force up to where the last rule began; its first row has low byte 0.

#ifndef FIBERSCOPE_SYMBOLS_UNWIND_TABLE_WRITER_H
#define FIBERSCOPE_SYMBOLS_UNWIND_TABLE_WRITER_H

#include "symbols/unwind_layout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table_row {
    uint8_t low;
    uint16_t rule;
};

struct table_writer {
    uint32_t *words; // zeroed where nothing was written yet
    size_t capacity; // words
    uint32_t halves; // where the next row goes
    uint64_t start;
    uint32_t blocks, block; // all; the open one
    struct table_row rows[UNWIND_BLOCK_ROWS_MAX];
    uint32_t count;   // of them
    uint16_t rule;    // in force
    uint32_t *places; // hash of rows -> an index word with them; 0: empty
    uint32_t places_mask;
    uint32_t declined;  // index word of a row UNWIND_RULE_DECLINED
    uint64_t row_count; // of all blocks, shared ones too
    uint32_t wide_blocks, shared_blocks;
    bool is_full,
        is_crowded; // blocks became declined for want of room; parts of blocks with too many rows
    bool no_memory;
};

// For blocks (at least 1) from start on, a multiple of UNWIND_BLOCK_BYTES. 0 or -ENOMEM. table_writer_finish in any case.
int table_writer_begin(struct table_writer *w, uint64_t start, uint32_t blocks);

// From address on, which is not below the last one and inside the blocks, the rule holds.
void table_writer_rule(struct table_writer *w, uint64_t address, uint16_t rule);

// Ends the last block. 0 and *pages, or -ENOMEM. The words are the caller's.
int table_writer_end(struct table_writer *w, uint32_t **words, uint32_t *pages);
void table_writer_finish(struct table_writer *w);

#endif
