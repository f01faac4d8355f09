// SPDX-License-Identifier: MIT
//
// DIEs, the values of their attributes, and address ranges.

#include "symbols/reader.h"
#include "symbols/reader_forms.h"

#include <dwarf.h>
#include <errno.h>

enum { RANGES_MAX = 1 << 16 };

struct cursor reader_cursor(const struct reader_unit *u, uint64_t offset)
{
    const uint8_t *info = u->file->sections[READER_INFO].bytes.at;
    struct cursor c = {.end = info + u->end};
    c.at = offset >= u->first_die && offset <= u->end ? info + offset : c.end;
    return c;
}

static void skip_leb(struct cursor *c)
{
    while (c->at < c->end)
        if (!(*c->at++ & 0x80))
            return;
    cursor_fail(c);
}

static void skip_step(struct cursor *c, const struct abbrev_step *s)
{
    switch ((enum step_kind)s->kind) {
    case STEP_FIXED: cursor_skip(c, s->bytes); break;
    case STEP_LEB: skip_leb(c); break;
    case STEP_STRING: cursor_string(c); break;
    case STEP_BLOCK1: cursor_skip(c, cursor_fixed(c, 1)); break;
    case STEP_BLOCK2: cursor_skip(c, cursor_fixed(c, 2)); break;
    case STEP_BLOCK4: cursor_skip(c, cursor_fixed(c, 4)); break;
    case STEP_BLOCK: cursor_skip(c, cursor_uleb(c)); break;
    case STEP_UNKNOWN: cursor_fail(c); break;
    }
}

static void pick(struct cursor *c, const struct abbrev_step *s, struct outline *o)
{
    const uint8_t *at = c->at;
    if (s->kind == STEP_FIXED && s->bytes <= 8)
        o->values[s->slot] = cursor_fixed(c, s->bytes);
    else if (s->kind == STEP_LEB)
        o->values[s->slot] = cursor_uleb(c);
    else
        skip_step(c, s);
    if (s->form == DW_FORM_flag_present)
        o->values[s->slot] = 1;
    if (s->slot == SLOT_NAME)
        o->name = at;
    o->forms[s->slot] = s->form;
    o->mask |= 1u << s->slot;
}

int outline_read(const struct abbrev_table *t, struct cursor *c, struct outline *o)
{
    o->mask = 0;
    o->code = cursor_uleb(c);
    if (!o->code)
        return c->is_failed ? -ENOEXEC : 0;
    if (o->code > t->count)
        return -ENOEXEC;
    const struct abbrev *a = &t->abbrevs[o->code - 1];
    o->tag = a->tag;
    o->has_children = a->has_children;
    o->is_class = a->is_class;
    for (uint32_t i = 0; i < a->step_count; i++) {
        const struct abbrev_step *s = &t->steps[a->steps + i];
        if (s->slot != SLOTS)
            pick(c, s, o);
        else if (s->kind == STEP_FIXED)
            cursor_skip(c, s->bytes);
        else
            skip_step(c, s);
    }
    return c->is_failed ? -ENOEXEC : 0;
}

void die_value_read(struct cursor *c, const struct abbrev_attr *a, struct die_value *v)
{
    *v = (struct die_value){.form = a->form};
    struct abbrev_step s = {.slot = SLOTS};
    uint32_t bytes;
    s.kind = (uint8_t)form_kind(a->form, &bytes);
    s.bytes = (uint16_t)bytes;
    if (a->form == DW_FORM_implicit_const)
        v->number = (uint64_t)a->constant;
    else if (a->form == DW_FORM_flag_present)
        v->number = 1;
    else if (a->form == DW_FORM_sdata)
        v->number = (uint64_t)cursor_sleb(c);
    else if (s.kind == STEP_LEB)
        v->number = cursor_uleb(c);
    else if (s.kind == STEP_FIXED && s.bytes <= 8)
        v->number = cursor_fixed(c, s.bytes);
    else if (s.kind == STEP_STRING)
        v->text = cursor_string(c);
    else
        skip_step(c, &s);
}

bool die_is_number(uint16_t form)
{
    switch (form) {
    case DW_FORM_data1:
    case DW_FORM_data2:
    case DW_FORM_data4:
    case DW_FORM_data8:
    case DW_FORM_udata:
    case DW_FORM_sdata:
    case DW_FORM_implicit_const:
    case DW_FORM_sec_offset: return true;
    default: return false;
    }
}

static const char *text_in(struct reader_file *f, enum reader_section which, uint64_t offset)
{
    struct reader_bytes b = f ? reader_section(f, which) : (struct reader_bytes){0};
    if (offset >= b.size || !memchr(b.at + offset, '\0', b.size - offset))
        return NULL;
    return (const char *)b.at + offset;
}

const char *die_text(const struct reader_unit *u, const struct die_value *v)
{
    switch (v->form) {
    case DW_FORM_string: return v->text;
    case DW_FORM_strp: return text_in(u->file, READER_STR, v->number);
    case DW_FORM_line_strp: return text_in(u->file, READER_LINE_STR, v->number);
    case DW_FORM_strp_sup:
    case DW_FORM_GNU_strp_alt: return text_in(u->file->alt, READER_STR, v->number);
    case DW_FORM_strx:
    case DW_FORM_strx1:
    case DW_FORM_strx2:
    case DW_FORM_strx3:
    case DW_FORM_strx4: break;
    default: return NULL;
    }
    struct reader_bytes b = reader_section(u->file, READER_STR_OFFSETS);
    uint32_t offset;
    if (u->str_offsets_base > b.size || v->number >= (b.size - u->str_offsets_base) / 4)
        return NULL;
    memcpy(&offset, b.at + u->str_offsets_base + 4 * v->number, sizeof offset);
    return text_in(u->file, READER_STR, offset);
}

bool die_address(const struct reader_unit *u, uint16_t form, uint64_t number, uint64_t *address)
{
    *address = number;
    if (form == DW_FORM_addr)
        return true;
    if (form != DW_FORM_addrx && form != DW_FORM_addrx1 && form != DW_FORM_addrx2 &&
        form != DW_FORM_addrx3 && form != DW_FORM_addrx4)
        return false;
    struct reader_bytes b = reader_section(u->file, READER_ADDR);
    if (u->addr_base > b.size || number >= (b.size - u->addr_base) / 8)
        return false;
    memcpy(address, b.at + u->addr_base + 8 * number, 8);
    return true;
}

struct reader_unit *die_reference(struct reader_unit *u, const struct die_value *v,
                                  uint64_t *offset)
{
    struct reader_file *f = u->file;
    *offset = v->number;
    switch (v->form) {
    case DW_FORM_ref1:
    case DW_FORM_ref2:
    case DW_FORM_ref4:
    case DW_FORM_ref8:
    case DW_FORM_ref_udata:
        if (v->number >= u->end - u->offset)
            return NULL;
        *offset += u->offset;
        return u;
    case DW_FORM_ref_addr: break;
    case DW_FORM_ref_sup4:
    case DW_FORM_GNU_ref_alt: f = f->alt; break;
    default: return NULL;
    }
    if (f == u->file && *offset >= u->offset && *offset < u->end)
        return u;
    return f ? reader_unit_at(f, *offset) : NULL;
}

// --- Ranges.

struct range_list {
    struct reader *r;
    struct reader_unit *u;
    struct cursor c;
    uint64_t base;
};

// The next entry; 0: there is one, 1: another base or nothing to show, -1: the end.
static int next_old(struct range_list *l, uint64_t *low, uint64_t *high)
{
    *low = cursor_fixed(&l->c, 8);
    *high = cursor_fixed(&l->c, 8);
    if (l->c.is_failed || (!*low && !*high))
        return -1;
    if (*low == UINT64_MAX) {
        l->base = *high;
        return 1;
    }
    *low += l->base;
    *high += l->base;
    return 0;
}

static bool indexed(struct range_list *l, uint64_t *address)
{
    return die_address(l->u, DW_FORM_addrx, cursor_uleb(&l->c), address);
}

static int next_new(struct range_list *l, uint64_t *low, uint64_t *high)
{
    bool is_good = true;
    switch (cursor_fixed(&l->c, 1)) {
    case DW_RLE_base_addressx: return indexed(l, &l->base) ? 1 : -1;
    case DW_RLE_base_address: l->base = cursor_fixed(&l->c, 8); return 1;
    case DW_RLE_startx_endx:
        is_good = indexed(l, low);
        is_good = indexed(l, high) && is_good;
        break;
    case DW_RLE_startx_length:
        is_good = indexed(l, low);
        *high = *low + cursor_uleb(&l->c);
        break;
    case DW_RLE_offset_pair:
        *low = l->base + cursor_uleb(&l->c);
        *high = l->base + cursor_uleb(&l->c);
        break;
    case DW_RLE_start_end:
        *low = cursor_fixed(&l->c, 8);
        *high = cursor_fixed(&l->c, 8);
        break;
    case DW_RLE_start_length:
        *low = cursor_fixed(&l->c, 8);
        *high = *low + cursor_uleb(&l->c);
        break;
    default: return -1;
    }
    return is_good && !l->c.is_failed ? 0 : -1;
}

static bool find_list(struct range_list *l, const struct outline *o)
{
    uint64_t offset = o->values[SLOT_RANGES];
    struct reader_bytes b =
        reader_section(l->u->file, l->u->version < 5 ? READER_RANGES : READER_RNGLISTS);
    if (o->forms[SLOT_RANGES] == DW_FORM_rnglistx) {
        uint32_t at;
        if (l->u->rnglists_base > b.size || offset >= (b.size - l->u->rnglists_base) / 4)
            return false;
        memcpy(&at, b.at + l->u->rnglists_base + 4 * offset, sizeof at);
        offset = l->u->rnglists_base + at;
    } else if (!die_is_number(o->forms[SLOT_RANGES])) {
        return false;
    }
    if (offset >= b.size)
        return false;
    l->c = (struct cursor){.at = b.at + offset, .end = b.at + b.size};
    return true;
}

static int keep_pcs(struct reader *r, const struct dwarf_pcs *pcs, size_t n,
                    const struct dwarf_pcs **out)
{
    struct dwarf_pcs *kept = arena_array(&r->arena, n, sizeof *kept);
    if (!kept)
        return -ENOMEM;
    memcpy(kept, pcs, n * sizeof *kept);
    *out = kept;
    return 0;
}

static int read_list(struct range_list *l, uint64_t *low, uint64_t *high,
                     const struct dwarf_pcs **out)
{
    struct dwarf_pcs few[32], *pcs = few;
    size_t n = 0, capacity = sizeof few / sizeof few[0];
    *low = UINT64_MAX;
    *high = 0;
    while (n < RANGES_MAX && l->r->ranges_left) {
        uint64_t from = 0, to = 0;
        int rc = l->u->version < 5 ? next_old(l, &from, &to) : next_new(l, &from, &to);
        l->r->ranges_left--;
        if (rc < 0)
            break;
        if (rc || from >= to || from == 0)
            continue;
        if (n == capacity) {
            struct dwarf_pcs *more = arena_array(&l->r->arena, 4 * capacity, sizeof *more);
            if (!more)
                return -ENOMEM;
            memcpy(more, pcs, n * sizeof *more);
            pcs = more;
            capacity *= 4;
        }
        pcs[n++] = (struct dwarf_pcs){from, to};
        *low = from < *low ? from : *low;
        *high = to > *high ? to : *high;
    }
    *out = NULL;
    if (n < 2)
        return (int)n;
    if (pcs != few)
        *out = pcs;
    int rc = *out ? 0 : keep_pcs(l->r, pcs, n, out);
    return rc ? rc : (int)n;
}

int die_ranges(struct reader *r, struct reader_unit *u, const struct outline *o, uint64_t *low,
               uint64_t *high, const struct dwarf_pcs **pcs)
{
    *pcs = NULL;
    if ((o->mask & 1u << SLOT_LOW) && (o->mask & 1u << SLOT_HIGH) &&
        die_address(u, o->forms[SLOT_LOW], o->values[SLOT_LOW], low)) {
        bool is_good = die_address(u, o->forms[SLOT_HIGH], o->values[SLOT_HIGH], high);
        if (!is_good && die_is_number(o->forms[SLOT_HIGH])) {
            *high += *low;
            is_good = true;
        }
        if (is_good)
            return *low && *low < *high;
    }
    struct range_list l = {.r = r, .u = u, .base = u->base};
    return (o->mask & 1u << SLOT_RANGES) && find_list(&l, o) ? read_list(&l, low, high, pcs) : 0;
}
