// SPDX-License-Identifier: MIT
//
// The numbers of rules: see unwind_table.h. Numbers below UNWIND_NARROW_RULES are given to common rules, the others from
// there upwards; when those are used up, what is left of the first ones serves for all. A rule that was rare in one file
// and is common in another has a number of each kind.

#include "symbols/unwind_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 2 * UNWIND_RULES_MAX };

struct unwind_rules {
    struct unwind_rule_row *rows, *own;
    uint32_t narrow, wide; // the next number of each kind
    uint64_t full;
    uint16_t buckets[BUCKETS]; // numbers; 0: empty
};
_Static_assert(UNWIND_RULES_MAX <= UINT16_MAX + 1, "numbers fit in a bucket");
_Static_assert(sizeof(struct unwind_rule_row) == 28, "no padding: rows are compared as bytes");

int unwind_rules_new(struct unwind_rules **out, struct unwind_rule_row *rows)
{
    struct unwind_rules *r = calloc(1, sizeof *r);
    *out = NULL;
    if (r && !rows)
        rows = r->own = calloc(UNWIND_RULES_MAX, sizeof *rows);
    if (!r || !rows) {
        free(r);
        return -ENOMEM;
    }
    r->rows = rows;
    r->narrow = UNWIND_RULE_FIRST;
    r->wide = UNWIND_NARROW_RULES;
    memset(rows, 0, UNWIND_RULE_FIRST * sizeof *rows);
    rows[UNWIND_RULE_ROOT].cfa = UNWIND_CFA_END;
    *out = r;
    return 0;
}

void unwind_rules_free(struct unwind_rules *r)
{
    if (!r)
        return;
    free(r->own);
    free(r);
}

const struct unwind_rule_row *unwind_rules_row(const struct unwind_rules *r, uint32_t number)
{
    return &r->rows[number];
}

uint32_t unwind_rules_count(const struct unwind_rules *r)
{
    return r->narrow + r->wide - UNWIND_NARROW_RULES;
}

uint64_t unwind_rules_full(const struct unwind_rules *r)
{
    return r->full;
}

static uint32_t bucket_of(const struct unwind_rule_row *row)
{
    uint32_t words[7];
    uint64_t h = 0;
    memcpy(words, row, sizeof words);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        h = (h ^ words[i]) * UINT64_C(0x9e3779b97f4a7c15) ^ h >> 29;
    return (uint32_t)(h >> 32) % BUCKETS;
}

uint32_t unwind_rules_number(struct unwind_rules *r, const struct unwind_rule_row *row,
                             bool is_common)
{
    uint32_t b = bucket_of(row), number;
    while (r->buckets[b] && memcmp(&r->rows[r->buckets[b]], row, sizeof *row) != 0)
        b = (b + 1) % BUCKETS; // there are twice as many as numbers
    bool can_be_narrow = r->narrow < UNWIND_NARROW_RULES;
    if (r->buckets[b] >= UNWIND_NARROW_RULES && is_common && can_be_narrow)
        number = r->narrow++; // rare so far: its first number stays, for the tables that have it
    else if (r->buckets[b])
        return r->buckets[b];
    else if (can_be_narrow && (is_common || r->wide == UNWIND_RULES_MAX))
        number = r->narrow++;
    else if (r->wide < UNWIND_RULES_MAX)
        number = r->wide++;
    else
        number = UNWIND_RULE_DECLINED;
    if (number == UNWIND_RULE_DECLINED) {
        r->full++;
        return number;
    }
    r->rows[number] = *row;
    r->buckets[b] = (uint16_t)number;
    return number;
}

// --- Rows as rules.

// What a walk does with a register's rule; ra that cannot be had was declined.
static unsigned char register_rule(uint8_t rule, int32_t offset, int *out)
{
    if (rule == UNWIND_UNSUPPORTED)
        rule = UNWIND_UNDEFINED;
    *out = rule == UNWIND_SAME || rule == UNWIND_UNDEFINED ? 0 : offset;
    return rule;
}

static bool is_deref(uint8_t cfa)
{
    return cfa == UNWIND_CFA_SIGNAL || cfa == UNWIND_CFA_RSP_DEREF || cfa == UNWIND_CFA_RBP_DEREF;
}

uint32_t unwind_rule_of(int status, const struct unwind_row *row, struct unwind_rule_row *out)
{
    if (status == UNWIND_DECLINED)
        return UNWIND_RULE_DECLINED;
    if (status != UNWIND_OK)
        return UNWIND_RULE_NOT_COVERED;
    if (row->cfa == UNWIND_CFA_END)
        return UNWIND_RULE_ROOT;
    *out = (struct unwind_rule_row){
        .cfa = row->cfa,
        .cfa_register = row->cfa == UNWIND_CFA_REG ? row->cfa_register : 0,
        .is_signal_frame = row->is_signal_frame,
        .cfa_offset = row->cfa_offset,
        .cfa_add = is_deref(row->cfa) ? row->cfa_add : 0,
    };
    out->ra = register_rule(row->ra, row->ra_offset, &out->ra_offset);
    out->rbp = register_rule(row->rbp, row->rbp_offset, &out->rbp_offset);
    // rbx is followed through memory alone, and a signal's context has it (unwind/step.h).
    out->rbx = row->rbx < UNWIND_UNDEFINED ? row->rbx : UNWIND_UNDEFINED;
    if (row->is_signal_frame && row->cfa == UNWIND_CFA_SIGNAL)
        out->rbx = UNWIND_SAME;
    out->rbx = register_rule(out->rbx, row->rbx_offset, &out->rbx_offset);
    return UNWIND_RULE_FIRST;
}
