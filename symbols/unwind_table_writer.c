// SPDX-License-Identifier: MIT
//
// See unwind_table_writer.h.

#include "symbols/unwind_table_writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

// Makes room for rows up to `halves`; the new words are zero. False: there is none (no_memory or is_full).
static bool reserve(struct table_writer *w, uint64_t halves)
{
    uint64_t want = round_up((halves + 1) / 2, UNWIND_PAGE_WORDS);
    if (want <= w->capacity)
        return true;
    if (want > UNWIND_TABLE_WORDS_MAX) {
        w->is_full = true;
        return false;
    }
    uint64_t capacity = w->capacity + w->capacity / 2;
    capacity = round_up(capacity > want ? capacity : want, UNWIND_PAGE_WORDS);
    if (capacity > UNWIND_TABLE_WORDS_MAX)
        capacity = UNWIND_TABLE_WORDS_MAX;
    uint32_t *grown = reallocarray(w->words, capacity, sizeof *grown);
    if (!grown) {
        w->no_memory = true;
        return false;
    }
    memset(grown + w->capacity, 0, (capacity - w->capacity) * sizeof *grown);
    w->words = grown;
    w->capacity = capacity;
    return true;
}

// --- Rows of a block.

struct encoded {
    uint32_t words[UNWIND_BLOCK_ROWS_MAX]; // wide rows, or twice as many narrow ones
    uint32_t halves;
    uint32_t flags; // of the index word
};

static void encode(const struct table_writer *w, struct encoded *e)
{
    uint16_t narrow[UNWIND_BLOCK_ROWS_MAX];
    uint32_t top = 0;
    for (uint32_t i = 0; i < w->count; i++) {
        uint32_t row = (uint32_t)w->rows[i].rule << 8 | w->rows[i].low;
        top = w->rows[i].rule > top ? w->rows[i].rule : top;
        e->words[i] = row;
        narrow[i] = (uint16_t)row;
    }
    bool is_wide = top >= UNWIND_NARROW_RULES;
    e->flags = (w->count - 1) | (is_wide ? UNWIND_WIDE : 0);
    e->halves = w->count * (is_wide ? 2 : 1);
    if (!is_wide)
        memcpy(e->words, narrow, w->count * sizeof *narrow);
}

static uint32_t hash_of(const struct encoded *e)
{
    const uint8_t *bytes = (const uint8_t *)e->words;
    uint64_t h = e->flags;
    for (uint32_t i = 0; i < e->halves; i++)
        h = (h ^ bytes[2 * i] ^ (uint64_t)bytes[2 * i + 1] << 8) * UINT64_C(0x9e3779b97f4a7c15) ^
            h >> 31;
    return (uint32_t)(h >> 32);
}

static const uint16_t *halves_at(const struct table_writer *w, uint32_t index_word)
{
    return (const uint16_t *)(const void *)w->words + (index_word >> UNWIND_PLACE_SHIFT);
}

static bool is_at(const struct table_writer *w, uint32_t index_word, const struct encoded *e)
{
    return (index_word & (UNWIND_MORE_ROWS | UNWIND_WIDE)) == e->flags &&
           memcmp(halves_at(w, index_word), e->words, e->halves * sizeof(uint16_t)) == 0;
}

// The index word of these rows, which are written unless they are there.
static uint32_t place(struct table_writer *w, const struct encoded *e)
{
    uint32_t at = hash_of(e) & w->places_mask;
    for (; w->places[at]; at = (at + 1) & w->places_mask)
        if (is_at(w, w->places[at], e)) {
            w->shared_blocks++;
            return w->places[at];
        }
    uint32_t begin = w->halves;
    if (e->flags & UNWIND_WIDE)
        begin = (uint32_t)round_up(begin, 2);
    if (begin % UNWIND_PAGE_HALVES + e->halves > UNWIND_PAGE_HALVES)
        begin = (uint32_t)round_up(begin, UNWIND_PAGE_HALVES);
    if (!reserve(w, (uint64_t)begin + e->halves))
        return w->declined;
    memcpy((uint16_t *)(void *)w->words + begin, e->words, e->halves * sizeof(uint16_t));
    w->halves = begin + e->halves;
    w->places[at] = begin << UNWIND_PLACE_SHIFT | e->flags;
    return w->places[at];
}

static void open_block(struct table_writer *w)
{
    w->rows[0] = (struct table_row){0, w->rule};
    w->count = 1;
}

static void end_block(struct table_writer *w)
{
    struct encoded e;
    encode(w, &e);
    uint32_t word = place(w, &e); // may move the words
    w->words[w->block++] = word;
    w->row_count += w->count;
    w->wide_blocks += (e.flags & UNWIND_WIDE) != 0;
    open_block(w);
}

static void add_row(struct table_writer *w, uint8_t low, uint16_t rule)
{
    struct table_row *last = &w->rows[w->count - 1];
    if (last->low == low) {
        last->rule = rule;
        if (w->count > 1 && last[-1].rule == rule)
            w->count--;
    } else if (w->count < UNWIND_BLOCK_ROWS_MAX - 1) {
        w->rows[w->count++] = (struct table_row){low, rule};
    } else {
        // One place is left: from here to the block's end.
        w->is_crowded = true;
        if (w->count < UNWIND_BLOCK_ROWS_MAX)
            w->rows[w->count++] = (struct table_row){low, UNWIND_RULE_DECLINED};
    }
}

void table_writer_rule(struct table_writer *w, uint64_t address, uint16_t rule)
{
    if (rule == w->rule)
        return;
    uint32_t block = (uint32_t)((address - w->start) / UNWIND_BLOCK_BYTES);
    while (w->block < block)
        end_block(w);
    w->rule = rule;
    add_row(w, (uint8_t)(address - w->start), rule);
}

// --- The table.

int table_writer_begin(struct table_writer *w, uint64_t start, uint32_t blocks)
{
    *w = (struct table_writer){.start = start, .blocks = blocks, .halves = 2 * blocks};
    uint32_t places = 64;
    while (places < 2 * (uint64_t)blocks)
        places *= 2;
    w->places = calloc(places, sizeof *w->places);
    w->places_mask = places - 1;
    if (!w->places || !reserve(w, 2 * (uint64_t)blocks + 1))
        return -ENOMEM;
    struct encoded e;
    w->rule = UNWIND_RULE_DECLINED;
    open_block(w);
    encode(w, &e);
    w->declined = place(w, &e);
    w->rule = UNWIND_RULE_NOT_COVERED;
    open_block(w);
    return 0;
}

int table_writer_end(struct table_writer *w, uint32_t **words, uint32_t *pages)
{
    while (w->block < w->blocks)
        end_block(w);
    if (w->no_memory)
        return -ENOMEM;
    uint64_t size = round_up((w->halves + UINT64_C(1)) / 2, UNWIND_PAGE_WORDS);
    uint32_t *fitted = reallocarray(w->words, size, sizeof *fitted);
    *words = fitted ? fitted : w->words;
    *pages = (uint32_t)(size / UNWIND_PAGE_WORDS);
    w->words = NULL;
    return 0;
}

void table_writer_finish(struct table_writer *w)
{
    free(w->words);
    free(w->places);
}
