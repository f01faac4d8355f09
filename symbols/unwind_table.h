// SPDX-License-Identifier: MIT
//
// Makes compact unwind tables (unwind_layout.h) of CFI.
//
//   rule   a row without its addresses; what says the same to a walk is one rule
//   rules  all that the tables of a collector use, numbered for good
//   table  of one ELF file, by link-time addresses
//
// What always holds
//   - At each pc of an FDE a table says what unwind_find_row does. It says "not covered" where that finds nothing or a
//     malformed entry, but for padding (UNWIND_PADDING_MAX).
//   - A number keeps its rule; a table stays right while its rules live.
//   - CFI is a stranger's: time and memory are bounded by its size, and a table by UNWIND_TABLE_WORDS_MAX. What does not
//     fit counts as declined, and `partial` says so.
//
// One thread at a time for each struct unwind_rules and the tables made with it.

#ifndef FIBERSCOPE_SYMBOLS_UNWIND_TABLE_H
#define FIBERSCOPE_SYMBOLS_UNWIND_TABLE_H

#include "base/error.h"
#include "symbols/unwind_layout.h"
#include "unwind/unwind.h"

// --- Rules.

struct unwind_rules;

// rows [UNWIND_RULES_MAX] is the caller's and outlives *out, for example memory that BPF programs read; NULL: own memory.
// 0 or -ENOMEM. The caller owns *out: unwind_rules_free.
int unwind_rules_new(struct unwind_rules **out, struct unwind_rule_row *rows);
void unwind_rules_free(struct unwind_rules *r); // accepts NULL

const struct unwind_rule_row *unwind_rules_row(const struct unwind_rules *r, uint32_t number);
uint32_t unwind_rules_count(const struct unwind_rules *r);
uint64_t unwind_rules_full(const struct unwind_rules *r); // that found no number

// A number of the rule, a new one if it has none: a narrow one, while there are any, if it is common.
// UNWIND_RULE_DECLINED: there is none left.
uint32_t unwind_rules_number(struct unwind_rules *r, const struct unwind_rule_row *row,
                             bool is_common);

// What unwind_find_row or unwind_each_row gave, as a rule. A number below UNWIND_RULE_FIRST, which needs no *out, or
// UNWIND_RULE_FIRST.
uint32_t unwind_rule_of(int status, const struct unwind_row *row, struct unwind_rule_row *out);

// --- Tables.

struct unwind_table_source {
    const char *name; // what errors call it
    struct unwind_tables tables;
    uint64_t start, end; // of the file's code: rows outside are left out
};

struct unwind_table {
    uint32_t *words; // pages * UNWIND_PAGE_WORDS
    uint32_t pages;
    uint32_t blocks;
    uint64_t start;      // link-time address of the first block
    uint64_t text_bytes; // that FDEs cover
    uint64_t rows;       // before any were shared
    uint32_t wide_blocks, shared_blocks;
    uint64_t declined;   // rows that are UNWIND_RULE_DECLINED
    const char *partial; // NULL, or why code is missing
};

// 0; -ENOENT: the file has no rows; -ENOMEM. The caller owns *out: unwind_table_finish.
int unwind_table_make(struct unwind_table *out, const struct unwind_table_source *source,
                      struct unwind_rules *rules, struct fscope_error *err);
void unwind_table_finish(struct unwind_table *t); // accepts a zeroed one

#endif
