// SPDX-License-Identifier: MIT
//
// What must hold: compact unwind tables of CFI that no compiler writes say what a look-up finds, or that it was declined,
// and `partial` says why. tests/conformance/unwind_rows.c has what compilers do write.

#include "symbols/unwind_table.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { HEADER = 0x1000, FRAME = 0x100000, CODE = 0x200000, BYTES_MAX = 1 << 20, FDES_MAX = 4096 };

struct cfi {
    uint8_t frame[BYTES_MAX], header[BYTES_MAX];
    size_t size;
    struct {
        uint64_t start, offset;
    } fdes[FDES_MAX];
    uint32_t fde_count;
};

static void put(struct cfi *c, const void *bytes, size_t n)
{
    assert_true(c->size + n <= sizeof c->frame);
    memcpy(c->frame + c->size, bytes, n);
    c->size += n;
}

static void begin(struct cfi *c)
{
    // zR, addresses of 8 bytes; CFA rsp + 8, the return address at CFA - 8.
    static const uint8_t cie[] = {20, 0,   0,  0, 0, 0,    0, 0, 1,    'z', 'R', 0,
                                  1,  120, 16, 1, 0, 0x0c, 7, 8, 0x90, 1,   0,   0};
    c->size = c->fde_count = 0;
    put(c, cie, sizeof cie);
}

static void add(struct cfi *c, uint64_t start, uint64_t size, const void *program, uint32_t n)
{
    static const uint8_t nops[8];
    uint32_t length = 4 + 16 + 1 + n, pad = (8 - (length + 4) % 8) % 8;
    uint32_t words[] = {length + pad, (uint32_t)c->size + 4};
    c->fdes[c->fde_count].start = start;
    c->fdes[c->fde_count++].offset = c->size;
    put(c, words, sizeof words);
    put(c, &start, 8);
    put(c, &size, 8);
    put(c, nops, 1); // no augmentation data
    put(c, program, n);
    put(c, nops, pad);
}

// With the pairs of .eh_frame_hdr, each FDE `times` over.
static struct unwind_table_source source(struct cfi *c, uint32_t times)
{
    uint8_t *at = c->header;
    uint32_t head[2] = {0x3b03ff01, c->fde_count * times};
    memcpy(at, head, sizeof head);
    at += sizeof head;
    for (uint32_t i = 0; i < c->fde_count * times; i++, at += 8) {
        int32_t pair[2] = {(int32_t)(c->fdes[i / times].start - HEADER),
                           (int32_t)(c->fdes[i / times].offset + FRAME - HEADER)};
        memcpy(at, pair, sizeof pair);
    }
    return (struct unwind_table_source){
        .name = "made up",
        .tables = {.eh_frame_hdr = {c->header, (size_t)(at - c->header), HEADER},
                   .eh_frame = {c->frame, c->size, FRAME}},
        .end = UINT64_MAX,
    };
}

static uint32_t rule_at(const struct unwind_table *t, uint64_t pc)
{
    uint64_t block = (pc - t->start) / UNWIND_BLOCK_BYTES;
    if (pc < t->start || block >= t->blocks)
        return UNWIND_RULE_NOT_COVERED;
    uint32_t word = t->words[block], size = word & UNWIND_WIDE ? 2 : 1, i = 0;
    const uint16_t *halves =
        (const uint16_t *)(const void *)t->words + (word >> UNWIND_PLACE_SHIFT);
    while (i < (word & UNWIND_MORE_ROWS) && (halves[(i + 1) * size] & 255) <= (pc & 255))
        i++;
    return size == 1 ? (uint32_t)halves[i] >> 8
                     : (halves[2 * i] >> 8 | (uint32_t)halves[2 * i + 1] << 8);
}

static uint32_t want(const struct unwind_table_source *s, struct unwind_rules *r, uint64_t pc)
{
    struct unwind_row row;
    struct unwind_rule_row rule;
    uint32_t number = unwind_rule_of(unwind_find_row(&s->tables, pc, &row), &row, &rule);
    return number < UNWIND_RULE_FIRST ? number : unwind_rules_number(r, &rule, false);
}

static struct cfi cfi;

static void entries_end_where_the_next_begins(void **state)
{
    static const uint8_t larger[] = {0x0e, 16}; // CFA rsp + 16
    struct unwind_rules *rules;
    struct unwind_table t;
    (void)state;
    begin(&cfi);
    add(&cfi, CODE, 0x400, "", 0);
    add(&cfi, CODE + 0x180, 0x20, larger, 2); // in the middle of the first one
    add(&cfi, CODE + 0x500, 0x10, larger, 2);
    struct unwind_table_source s = source(&cfi, 1);
    assert_int_equal(unwind_rules_new(&rules, NULL), 0);
    assert_int_equal(unwind_table_make(&t, &s, rules, NULL), 0);
    assert_null(t.partial);
    for (uint64_t pc = CODE - 600; pc < CODE + 0x800; pc++)
        assert_int_equal(rule_at(&t, pc), want(&s, rules, pc));
    assert_int_equal(rule_at(&t, CODE + 0x1a0), UNWIND_RULE_NOT_COVERED); // as a look-up has it
    assert_int_equal(t.text_bytes, 0x180 + 0x20 + 0x10);
    unwind_table_finish(&t);
    unwind_rules_free(rules);
}

static void rows_at_every_byte_are_declined_where_they_are_too_many(void **state)
{
    uint8_t program[4 * 300];
    struct unwind_rules *rules;
    struct unwind_table t;
    (void)state;
    for (uint32_t i = 0; i < 300; i++) {
        const uint8_t step[] = {0x41, 0x0e, (uint8_t)(8 * (i % 2) + 16), 0};
        memcpy(program + (size_t)4 * i, step, sizeof step);
    }
    begin(&cfi);
    add(&cfi, CODE, 512, program, sizeof program);
    struct unwind_table_source s = source(&cfi, 1);
    assert_int_equal(unwind_rules_new(&rules, NULL), 0);
    assert_int_equal(unwind_table_make(&t, &s, rules, NULL), 0);
    assert_non_null(t.partial);
    for (uint64_t pc = CODE; pc < CODE + 512; pc++) {
        bool is_crowded = pc >= CODE + UNWIND_BLOCK_ROWS_MAX - 1 && pc < CODE + UNWIND_BLOCK_BYTES;
        assert_int_equal(rule_at(&t, pc), is_crowded ? UNWIND_RULE_DECLINED : want(&s, rules, pc));
    }
    unwind_table_finish(&t);
    unwind_rules_free(rules);
}

static void what_is_too_long_is_cut(void **state)
{
    struct unwind_rules *rules;
    struct unwind_table t;
    (void)state;
    begin(&cfi);
    add(&cfi, CODE, 256, "", 0);
    add(&cfi, CODE + (UINT64_C(2000) << 20), 256, "", 0);
    struct unwind_table_source s = source(&cfi, 1);
    assert_int_equal(unwind_rules_new(&rules, NULL), 0);
    assert_int_equal(unwind_table_make(&t, &s, rules, NULL), 0);
    assert_non_null(t.partial);
    assert_true(t.pages <= UNWIND_TABLE_WORDS_MAX / UNWIND_PAGE_WORDS);
    assert_int_equal(rule_at(&t, CODE), want(&s, rules, CODE));
    unwind_table_finish(&t);
    s.end = CODE + 4096; // of the file's code
    assert_int_equal(unwind_table_make(&t, &s, rules, NULL), 0);
    assert_true(!t.partial && t.pages == 1 && t.blocks == 1);
    unwind_table_finish(&t);
    s.start = CODE + 4096;
    assert_int_equal(unwind_table_make(&t, &s, rules, NULL), -ENOENT);
    unwind_rules_free(rules);
}

// One program of many rows, named by each of many entries: work as the product of both.
static void an_entry_is_not_run_again_and_again(void **state)
{
    static uint8_t program[16384];
    struct unwind_rules *rules;
    struct unwind_table t;
    (void)state;
    begin(&cfi);
    add(&cfi, CODE, 256, program, sizeof program);
    for (uint32_t i = 0; i < 2000; i++) {
        cfi.fdes[i] = cfi.fdes[0];
        cfi.fdes[i].start = CODE + i;
    }
    cfi.fde_count = 200;
    struct unwind_table_source s = source(&cfi, 1);
    assert_int_equal(unwind_rules_new(&rules, NULL), 0);
    assert_int_equal(unwind_table_make(&t, &s, rules, NULL), 0);
    assert_non_null(t.partial);
    unwind_table_finish(&t);
    unwind_rules_free(rules);
}

static struct unwind_rule_row rule(int offset)
{
    return (struct unwind_rule_row){.cfa = UNWIND_CFA_RSP, .cfa_offset = offset};
}

static void rules_keep_their_numbers_until_there_are_none(void **state)
{
    static struct unwind_rule_row rows[UNWIND_RULES_MAX];
    struct unwind_rules *r;
    struct unwind_rule_row first = rule(1);
    (void)state;
    assert_int_equal(unwind_rules_new(&r, rows), 0);
    uint32_t wide = unwind_rules_number(r, &first, false);
    assert_true(wide >= UNWIND_NARROW_RULES);
    uint32_t narrow = unwind_rules_number(r, &first, true); // it has become common
    assert_true(narrow < UNWIND_NARROW_RULES && narrow >= UNWIND_RULE_FIRST);
    assert_int_equal(unwind_rules_number(r, &first, false), narrow);
    assert_memory_equal(&rows[wide], &first, sizeof first);
    for (int i = 2; unwind_rules_count(r) < UNWIND_RULES_MAX; i++) {
        struct unwind_rule_row row = rule(i);
        uint32_t number = unwind_rules_number(r, &row, false);
        assert_true(number >= UNWIND_RULE_FIRST && number < UNWIND_RULES_MAX);
        assert_memory_equal(&rows[number], &row, sizeof row);
    }
    assert_int_equal(unwind_rules_full(r), 0);
    struct unwind_rule_row late = rule(-1);
    assert_int_equal(unwind_rules_number(r, &late, true), UNWIND_RULE_DECLINED);
    assert_int_equal(unwind_rules_full(r), 1);
    assert_int_equal(unwind_rules_number(r, &first, true), narrow);
    unwind_rules_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_end_where_the_next_begins),
        cmocka_unit_test(rows_at_every_byte_are_declined_where_they_are_too_many),
        cmocka_unit_test(what_is_too_long_is_cut),
        cmocka_unit_test(an_entry_is_not_run_again_and_again),
        cmocka_unit_test(rules_keep_their_numbers_until_there_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
