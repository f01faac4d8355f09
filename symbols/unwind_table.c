// SPDX-License-Identifier: MIT
//
// CFI into compact tables: see unwind_table.h. The entries are gone through twice in order of address: the first time
// tells how common each rule is, and how much code there is.

#include "symbols/unwind_table.h"

#include "symbols/unwind_table_writer.h"
#include "unwind/cfi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    ENTRIES_MAX = 1 << 22, // 64 MiB of struct entry; a browser has a tenth
    BLOCKS_MAX = UNWIND_TABLE_WORDS_MAX / 2,
    COMMON_ROWS = 4,        // a common rule has as many rows at least,
    COMMON_FRACTION = 2048, // and of all rows one in so many
    COST_MAX = 2, // bytes of programs that are run, to those of .eh_frame: an entry is run once
    CHEAP = 65536,
};

struct entry {
    uint64_t start, offset; // offset in .eh_frame
};

struct maker {
    const struct unwind_table_source *source;
    struct entry *entries;
    size_t count, capacity;
    uint64_t from, to;           // what the entry at work is for
    uint64_t at;                 // where the last row ended
    uint64_t end;                // of the code that is looked at
    struct unwind_rules *found;  // the file's own numbering
    uint32_t *counts;            // by found number
    uint16_t *numbers;           // found number -> shared number
    struct unwind_rule_row last; // and its found number
    uint32_t last_number;
    uint64_t low, high, rows, text_bytes, declined;
    bool is_survey, is_malformed;
    struct table_writer writer;
    const char *partial;
};

static void note_partial(struct maker *m, const char *why)
{
    if (!m->partial)
        m->partial = why;
}

// --- Entries in order of address.

static int add_entry(struct maker *m, uint64_t start, uint64_t offset)
{
    if (m->count == ENTRIES_MAX) {
        note_partial(m, "it has too many entries");
        return 0;
    }
    if (m->count == m->capacity) {
        size_t capacity = 2 * m->capacity + 64;
        struct entry *grown = reallocarray(m->entries, capacity, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        m->entries = grown;
        m->capacity = capacity;
    }
    m->entries[m->count++] = (struct entry){start, offset};
    return 0;
}

static int list_by_header(struct maker *m, const uint8_t *pairs, uint64_t count)
{
    const struct unwind_tables *t = &m->source->tables;
    int rc = 0;
    for (uint64_t i = 0; i < count && !rc && m->count < ENTRIES_MAX; i++) {
        int32_t pair[2];
        memcpy(pair, pairs + 8 * i, sizeof pair);
        uint64_t start = t->eh_frame_hdr.address + (uint64_t)(int64_t)pair[0];
        uint64_t fde = t->eh_frame_hdr.address + (uint64_t)(int64_t)pair[1];
        rc = add_entry(m, start, fde - t->eh_frame.address);
    }
    if (count > ENTRIES_MAX)
        note_partial(m, "it has too many entries");
    return rc;
}

static int list_by_reading(struct maker *m)
{
    int rc = 0;
    for (uint64_t offset = 0, next; !rc; offset = next) {
        struct cfi_fde fde;
        int kind = cfi_read_entry(&m->source->tables, offset, &fde, &next);
        if (kind == CFI_ENTRY_END || m->count == ENTRIES_MAX)
            break;
        if (kind < 0) {
            note_partial(m, "an entry is malformed");
            break;
        }
        if (kind == 1)
            rc = add_entry(m, fde.start, offset);
    }
    return rc;
}

static int by_start(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static int list_entries(struct maker *m)
{
    const uint8_t *pairs;
    uint64_t count;
    bool is_sorted = true;
    int rc = cfi_header_pairs(&m->source->tables, &pairs, &count) ? list_by_header(m, pairs, count)
                                                                  : list_by_reading(m);
    for (size_t i = 1; i < m->count && is_sorted; i++)
        is_sorted = m->entries[i - 1].start <= m->entries[i].start;
    if (!is_sorted)
        qsort(m->entries, m->count, sizeof *m->entries, by_start);
    return rc;
}

// --- Rows.

// The rule of a row in the file's own numbering.
static uint32_t found_number(struct maker *m, int status, const struct unwind_row *row)
{
    struct unwind_rule_row rule;
    uint32_t number = unwind_rule_of(status, row, &rule);
    if (number != UNWIND_RULE_FIRST)
        return number;
    if (m->last_number && memcmp(&rule, &m->last, sizeof rule) == 0)
        return m->last_number;
    m->last = rule;
    m->last_number = unwind_rules_number(m->found, &rule, true);
    return m->last_number;
}

static void survey_row(struct maker *m, uint64_t start, uint64_t end, uint32_t number)
{
    m->counts[number]++;
    m->rows++;
    if (start < m->low)
        m->low = start;
    m->high = end;
}

static void write_row(struct maker *m, uint64_t start, uint64_t end, uint32_t number)
{
    if (start - m->at > UNWIND_PADDING_MAX)
        table_writer_rule(&m->writer, m->at, UNWIND_RULE_NOT_COVERED);
    table_writer_rule(&m->writer, start, m->numbers[number]);
    m->text_bytes += end - start;
    m->declined += m->numbers[number] == UNWIND_RULE_DECLINED;
}

static int take_row(void *arg, uint64_t start, uint64_t end, int status,
                    const struct unwind_row *row)
{
    struct maker *m = arg;
    if (start >= m->to)
        return 1;
    start = start > m->from ? start : m->from;
    end = end < m->to ? end : m->to;
    if (start >= end)
        return 0;
    uint32_t number = found_number(m, status, row);
    if (m->is_survey)
        survey_row(m, start, end, number);
    else
        write_row(m, start, end, number);
    m->at = end;
    return 0;
}

static uint64_t program_bytes(const struct cfi_fde *fde)
{
    return (uint64_t)(fde->cie_program.end - fde->cie_program.at) +
           (uint64_t)(fde->fde_program.end - fde->fde_program.at);
}

// Hands each entry's rows to take_row, for as much of it as a look-up finds there: up to the next entry.
static void run_entries(struct maker *m, bool is_survey)
{
    const struct unwind_tables *t = &m->source->tables;
    uint64_t cost = 0;
    m->is_survey = is_survey;
    for (size_t i = 0; i < m->count; i++) {
        struct cfi_fde fde;
        uint64_t next, to = i + 1 < m->count ? m->entries[i + 1].start : UINT64_MAX;
        uint64_t from = m->entries[i].start;
        from = from > m->source->start ? from : m->source->start;
        m->to = to < m->end ? to : m->end;
        if (from >= m->to)
            continue;
        if (cfi_read_entry(t, m->entries[i].offset, &fde, &next) != 1) {
            m->is_malformed = true;
            continue;
        }
        m->from = from > fde.start ? from : fde.start;
        cost += program_bytes(&fde);
        if (cost > COST_MAX * (uint64_t)t->eh_frame.size + CHEAP) {
            note_partial(m, "its entries are used again and again");
            return;
        }
        if (cfi_run(&fde, take_row, m) < 0)
            m->is_malformed = true;
    }
}

// --- The table.

struct rule_use {
    uint32_t count, number;
};

static int by_use(const void *a, const void *b)
{
    const struct rule_use *x = a, *y = b;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return (x->number > y->number) - (x->number < y->number);
}

// The commonest first, as they take the narrow numbers that are left.
static int number_rules(struct maker *m, struct unwind_rules *rules)
{
    uint32_t n = unwind_rules_count(m->found);
    struct rule_use *uses = calloc(n, sizeof *uses);
    if (!uses)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        uses[i] = (struct rule_use){m->counts[i], i};
    qsort(uses, n, sizeof *uses, by_use);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t found = uses[i].number;
        bool is_common =
            uses[i].count >= COMMON_ROWS && (uint64_t)uses[i].count * COMMON_FRACTION >= m->rows;
        m->numbers[found] = found < UNWIND_RULE_FIRST
                                ? (uint16_t)found
                                : (uint16_t)unwind_rules_number(
                                      rules, unwind_rules_row(m->found, found), is_common);
    }
    free(uses);
    return 0;
}

static int begin_survey(struct maker *m)
{
    m->counts = calloc(UNWIND_RULES_MAX, sizeof *m->counts);
    m->numbers = calloc(UNWIND_RULES_MAX, sizeof *m->numbers);
    if (!m->counts || !m->numbers || unwind_rules_new(&m->found, NULL))
        return -ENOMEM;
    m->low = UINT64_MAX;
    m->end = m->source->end;
    return list_entries(m);
}

static int write_table(struct maker *m, struct unwind_table *out)
{
    struct table_writer *w = &m->writer;
    uint64_t start = m->low - m->low % UNWIND_BLOCK_BYTES;
    uint64_t blocks = (m->high - 1 - start) / UNWIND_BLOCK_BYTES + 1;
    if (blocks > BLOCKS_MAX) {
        note_partial(m, "its code is too long");
        blocks = BLOCKS_MAX;
        m->end = start + blocks * UNWIND_BLOCK_BYTES;
    }
    int rc = table_writer_begin(w, start, (uint32_t)blocks);
    if (rc)
        return rc;
    m->at = start;
    run_entries(m, false);
    if (m->at < start + blocks * UNWIND_BLOCK_BYTES) // no padding: nothing comes behind it
        table_writer_rule(w, m->at, UNWIND_RULE_NOT_COVERED);
    if (w->is_crowded || w->is_full)
        note_partial(m,
                     w->is_full ? "there is not room for all rows" : "some code has too many rows");
    out->start = start;
    out->blocks = (uint32_t)blocks;
    return table_writer_end(w, &out->words, &out->pages);
}

static void finish_maker(struct maker *m)
{
    table_writer_finish(&m->writer);
    unwind_rules_free(m->found);
    free(m->numbers);
    free(m->counts);
    free(m->entries);
}

int unwind_table_make(struct unwind_table *out, const struct unwind_table_source *source,
                      struct unwind_rules *rules, struct fscope_error *err)
{
    struct maker m = {.source = source};
    *out = (struct unwind_table){0};
    int rc = begin_survey(&m);
    if (!rc)
        run_entries(&m, true);
    if (!rc && m.rows == 0)
        rc = -ENOENT;
    if (!rc)
        rc = number_rules(&m, rules);
    if (!rc)
        rc = write_table(&m, out);
    if (m.is_malformed)
        note_partial(&m, "an entry is malformed");
    out->text_bytes = m.text_bytes;
    out->rows = m.writer.row_count;
    out->wide_blocks = m.writer.wide_blocks;
    out->shared_blocks = m.writer.shared_blocks;
    out->declined = m.declined;
    out->partial = m.partial;
    finish_maker(&m);
    if (rc == -ENOENT)
        return error_set(err, rc, 0, "%s: .eh_frame: no entry covers code%s%s", source->name,
                         m.partial ? ": " : "", m.partial ? m.partial : "");
    return rc ? error_set(err, rc, 0, "%s: out of memory", source->name) : 0;
}

void unwind_table_finish(struct unwind_table *t)
{
    free(t->words);
    *t = (struct unwind_table){0};
}
