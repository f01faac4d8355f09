// SPDX-License-Identifier: MIT
//
// Abbreviations, parsed as far as codes are asked for, each with a plan of how to step over a DIE.

#include "symbols/reader.h"
#include "symbols/reader_forms.h"

#include <dwarf.h>
#include <errno.h>
#include <stdlib.h>

enum { COUNT_MAX = 1 << 24 };

static int slot_of(uint64_t name)
{
    switch (name) {
    case DW_AT_sibling: return SLOT_SIBLING;
    case DW_AT_low_pc: return SLOT_LOW;
    case DW_AT_high_pc: return SLOT_HIGH;
    case DW_AT_ranges: return SLOT_RANGES;
    case DW_AT_name: return SLOT_NAME;
    default: return SLOTS;
    }
}

// How a form's value is stored; the number of bytes for STEP_FIXED.
enum step_kind form_kind(uint64_t form, uint32_t *bytes)
{
    *bytes = 0;
    switch (form) {
    case DW_FORM_flag_present:
    case DW_FORM_implicit_const: return STEP_FIXED;
    case DW_FORM_data1:
    case DW_FORM_ref1:
    case DW_FORM_flag:
    case DW_FORM_strx1:
    case DW_FORM_addrx1: *bytes = 1; return STEP_FIXED;
    case DW_FORM_data2:
    case DW_FORM_ref2:
    case DW_FORM_strx2:
    case DW_FORM_addrx2: *bytes = 2; return STEP_FIXED;
    case DW_FORM_strx3:
    case DW_FORM_addrx3: *bytes = 3; return STEP_FIXED;
    case DW_FORM_data4:
    case DW_FORM_ref4:
    case DW_FORM_strx4:
    case DW_FORM_addrx4:
    case DW_FORM_strp:
    case DW_FORM_line_strp:
    case DW_FORM_sec_offset:
    case DW_FORM_ref_addr:
    case DW_FORM_ref_sup4:
    case DW_FORM_strp_sup:
    case DW_FORM_GNU_ref_alt:
    case DW_FORM_GNU_strp_alt: *bytes = 4; return STEP_FIXED;
    case DW_FORM_addr:
    case DW_FORM_data8:
    case DW_FORM_ref8:
    case DW_FORM_ref_sig8: *bytes = 8; return STEP_FIXED;
    case DW_FORM_data16: *bytes = 16; return STEP_FIXED;
    case DW_FORM_udata:
    case DW_FORM_sdata:
    case DW_FORM_ref_udata:
    case DW_FORM_strx:
    case DW_FORM_addrx:
    case DW_FORM_loclistx:
    case DW_FORM_rnglistx: return STEP_LEB;
    case DW_FORM_string: return STEP_STRING;
    case DW_FORM_block1: return STEP_BLOCK1;
    case DW_FORM_block2: return STEP_BLOCK2;
    case DW_FORM_block4: return STEP_BLOCK4;
    case DW_FORM_block:
    case DW_FORM_exprloc: return STEP_BLOCK;
    default: return STEP_UNKNOWN;
    }
}

// Makes room for one more element.
static int grow(void **array, uint32_t count, uint32_t *capacity, size_t size)
{
    if (count < *capacity)
        return 0;
    uint32_t more = *capacity ? 2 * *capacity : 64;
    void *p = count < COUNT_MAX ? realloc(*array, more * size) : NULL;
    if (!p)
        return -ENOMEM;
    *array = p;
    *capacity = more;
    return 0;
}

static int add_step(struct abbrev_table *t, struct abbrev *a, struct abbrev_step step)
{
    if (a->step_count && step.kind == STEP_FIXED && step.slot == SLOTS) {
        struct abbrev_step *last = &t->steps[t->step_count - 1];
        if (last->kind == STEP_FIXED && last->slot == SLOTS) {
            last->bytes += step.bytes; // 16 each of at most COUNT_MAX: no overflow
            return 0;
        }
    }
    int rc = grow((void **)&t->steps, t->step_count, &t->step_capacity, sizeof step);
    if (rc)
        return rc;
    t->steps[t->step_count++] = step;
    a->step_count++;
    return 0;
}

// One attribute; 1: that was the last.
static int parse_attr(struct abbrev_table *t, struct abbrev *a)
{
    uint64_t name = cursor_uleb(&t->rest), form = cursor_uleb(&t->rest);
    if (!name && !form)
        return 1;
    int64_t constant = form == DW_FORM_implicit_const ? cursor_sleb(&t->rest) : 0;
    struct abbrev_step step = {.form = (uint16_t)form, .slot = (uint8_t)slot_of(name)};
    step.kind = (uint8_t)form_kind(form, &step.bytes);
    if (step.kind == STEP_UNKNOWN || name > UINT16_MAX ||
        (step.slot != SLOTS && form == DW_FORM_implicit_const))
        return -ENOTSUP;
    if (step.slot == SLOT_LOW || step.slot == SLOT_RANGES)
        a->has_pcs = true;
    int rc = grow((void **)&t->attrs, t->attr_count, &t->attr_capacity, sizeof *t->attrs);
    if (rc)
        return rc;
    t->attrs[t->attr_count++] =
        (struct abbrev_attr){.name = (uint16_t)name, .form = (uint16_t)form, .constant = constant};
    a->attr_count++;
    return add_step(t, a, step);
}

// 1: the table's end.
static int parse_one(struct abbrev_table *t)
{
    struct abbrev a = {.code = cursor_uleb(&t->rest)};
    if (!a.code || t->rest.is_failed)
        return 1;
    if (a.code != t->count + 1)
        return -ENOTSUP;
    uint64_t tag = cursor_uleb(&t->rest);
    a.tag = tag > UINT16_MAX ? 0 : (uint16_t)tag;
    a.has_children = cursor_fixed(&t->rest, 1);
    a.is_class = a.tag == DW_TAG_class_type || a.tag == DW_TAG_structure_type ||
                 a.tag == DW_TAG_union_type || a.tag == DW_TAG_interface_type;
    a.attrs = t->attr_count;
    a.steps = t->step_count;
    int rc = 0;
    while (!rc && !t->rest.is_failed)
        rc = parse_attr(t, &a);
    if (rc < 0)
        return rc;
    if (t->rest.is_failed)
        return 1;
    rc = grow((void **)&t->abbrevs, t->count, &t->capacity, sizeof a);
    if (!rc)
        t->abbrevs[t->count++] = a;
    return rc;
}

static int parse_until(struct abbrev_table *t, uint64_t code)
{
    int rc = t->is_refused ? -ENOTSUP : 0;
    while (!rc && !t->is_complete && t->count < code) {
        rc = parse_one(t);
        if (rc == 1) {
            t->is_complete = true;
            rc = 0;
        }
    }
    t->is_refused = rc == -ENOTSUP;
    return rc;
}

const struct abbrev *abbrev_get(struct abbrev_table *t, uint64_t code, int *rc)
{
    *rc = 0;
    if (code > t->count)
        *rc = parse_until(t, code);
    return code && code <= t->count ? &t->abbrevs[code - 1] : NULL;
}

bool abbrev_has_functions(struct abbrev_table *t, int *rc)
{
    *rc = parse_until(t, UINT64_MAX);
    for (uint32_t i = 0; i < t->count; i++)
        if (t->abbrevs[i].tag == DW_TAG_subprogram && t->abbrevs[i].has_pcs)
            return true;
    return false;
}

void abbrev_table_free(struct abbrev_table *t)
{
    free(t->abbrevs);
    free(t->attrs);
    free(t->steps);
    free(t);
}
