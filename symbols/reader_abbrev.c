// SPDX-License-Identifier: MIT
//
// Abbreviations, parsed as far as codes are asked for, each with a plan of how to step over a DIE.

#include "symbols/reader.h"
#include "symbols/reader_forms.h"

#include <dwarf.h>
#include <errno.h>
#include <stdlib.h>

enum { COUNT_MAX = 1 << 24, FORMS = 64 };

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
static inline int grow(void **array, uint32_t count, uint32_t *capacity, size_t size)
{
    if (count < *capacity)
        return 0;
    uint32_t more = *capacity ? 2 * *capacity : 256;
    void *p = count < COUNT_MAX ? realloc(*array, more * size) : NULL;
    if (!p)
        return -ENOMEM;
    *array = p;
    *capacity = more;
    return 0;
}

static inline int add_step(struct abbrev_scratch *t, struct abbrev *a, struct abbrev_step step)
{
    if (a->step_count && step.kind == STEP_FIXED && step.slot == SLOTS) {
        struct abbrev_step *last = &t->steps[t->step_count - 1];
        if (last->kind == STEP_FIXED && last->slot == SLOTS &&
            last->bytes <= UINT16_MAX - step.bytes) {
            last->bytes = (uint16_t)(last->bytes + step.bytes);
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

// The steps of all forms with small numbers, by form.
static const struct abbrev_step *form_steps(void)
{
    static _Thread_local struct abbrev_step steps[FORMS];
    static _Thread_local bool is_filled;
    for (unsigned int form = 0; !is_filled && form < FORMS; form++) {
        uint32_t bytes;
        steps[form] = (struct abbrev_step){.slot = SLOTS, .form = (uint16_t)form};
        steps[form].kind = (uint8_t)form_kind(form, &bytes);
        steps[form].bytes = (uint16_t)bytes;
    }
    is_filled = true;
    return steps;
}

static int parse_attrs(struct abbrev_scratch *t, struct abbrev *a, struct cursor *c,
                       const struct abbrev_step *steps)
{
    struct abbrev_attr attr;
    while (abbrev_attr_next(c, &attr)) {
        struct abbrev_step step = {.form = attr.form};
        if (attr.form < FORMS) {
            step = steps[attr.form];
        } else {
            uint32_t bytes;
            step.kind = (uint8_t)form_kind(attr.form, &bytes);
            step.bytes = (uint16_t)bytes;
        }
        step.slot = (uint8_t)slot_of(attr.name);
        if (step.kind == STEP_UNKNOWN ||
            (step.slot != SLOTS && attr.form == DW_FORM_implicit_const))
            return -ENOTSUP;
        if (step.slot == SLOT_LOW || step.slot == SLOT_RANGES)
            a->has_pcs = true;
        int rc = add_step(t, a, step);
        if (rc)
            return rc;
    }
    return 0;
}

int abbrev_parse(struct abbrev_scratch *to, struct reader_bytes section, uint32_t offset,
                 uint64_t last)
{
    struct cursor c = {.at = section.at, .end = section.at + section.size};
    cursor_skip(&c, offset);
    const struct abbrev_step *steps = form_steps();
    to->count = to->step_count = 0;
    int rc = 0;
    while (!rc && !c.is_failed && to->count < last) {
        uint64_t code = cursor_uleb(&c), tag = code ? cursor_uleb(&c) : 0;
        if (!code)
            break;
        if (code != to->count + 1u)
            return -ENOTSUP;
        struct abbrev a = {.tag = tag > UINT16_MAX ? 0 : (uint16_t)tag, .steps = to->step_count};
        a.has_children = cursor_fixed(&c, 1);
        a.is_class = a.tag == DW_TAG_class_type || a.tag == DW_TAG_structure_type ||
                     a.tag == DW_TAG_union_type || a.tag == DW_TAG_interface_type;
        a.attrs = (uint32_t)(c.at - section.at);
        rc = parse_attrs(to, &a, &c, steps);
        if (!rc)
            rc = grow((void **)&to->abbrevs, to->count, &to->capacity, sizeof a);
        if (!rc && !c.is_failed)
            to->abbrevs[to->count++] = a;
    }
    return rc;
}
