// SPDX-License-Identifier: MIT

#include "symbols/reader.h"

#include <dwarf.h>
#include <errno.h>
#include <stdlib.h>

enum { CHAIN_MAX = 256, UNITS_MAX = 1 << 24, LIST_COST_MAX = 16 };

// --- Units.

static int unit_add(struct reader_file *f, const struct reader_unit *u)
{
    if (f->unit_count == f->unit_capacity) {
        size_t capacity = f->unit_capacity ? 2 * f->unit_capacity : 64;
        struct reader_unit *more =
            f->unit_count < UNITS_MAX ? realloc(f->units, capacity * sizeof *more) : NULL;
        if (!more)
            return -ENOMEM;
        f->units = more;
        f->unit_capacity = capacity;
    }
    f->units[f->unit_count++] = *u;
    return 0;
}

// One header; the cursor goes to the next. 1: nothing more that makes sense.
static int read_header(struct reader_file *f, const uint8_t *info, struct cursor *c)
{
    struct reader_unit u = {.file = f, .offset = (uint32_t)(c->at - info)};
    uint64_t length = cursor_fixed(c, 4);
    if (length == UINT32_MAX)
        return -ENOTSUP; // 64-bit DWARF
    if (c->is_failed || length > (uint64_t)(c->end - c->at))
        return 1;
    struct cursor in = {.at = c->at, .end = c->at + length};
    c->at = in.end;
    u.end = (uint32_t)(in.end - info);
    u.version = (uint8_t)cursor_fixed(&in, 2);
    if (u.version < 2 || u.version > 5)
        return in.is_failed ? 1 : -ENOTSUP;
    uint64_t type = u.version == 5 ? cursor_fixed(&in, 1) : DW_UT_compile;
    uint64_t address_bytes = u.version == 5 ? cursor_fixed(&in, 1) : 8;
    u.abbrev_offset = (uint32_t)cursor_fixed(&in, 4);
    if (u.version < 5)
        address_bytes = cursor_fixed(&in, 1);
    if (in.is_failed)
        return 1;
    if (address_bytes != 8 || (type != DW_UT_compile && type != DW_UT_partial))
        return -ENOTSUP; // type units, split units
    u.is_compile = type == DW_UT_compile;
    u.first_die = (uint32_t)(in.at - info);
    return unit_add(f, &u);
}

static int read_headers(struct reader_file *f)
{
    struct reader_bytes info = reader_section(f, READER_INFO);
    f->abbrev = reader_section(f, READER_ABBREV);
    if (info.size >= UINT32_MAX || f->abbrev.size >= UINT32_MAX)
        return -ENOTSUP;
    struct cursor c = {.at = info.at, .end = info.at + info.size};
    int rc = 0;
    while (c.at < c.end && !rc)
        rc = read_header(f, info.at, &c);
    return rc == 1 ? 0 : rc;
}

struct reader_unit *reader_unit_at(struct reader_file *f, uint64_t offset)
{
    size_t low = 0, high = f->unit_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (f->units[middle].offset <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low && offset < f->units[low - 1].end ? &f->units[low - 1] : NULL;
}

// --- Abbreviation tables, one for each offset.

static size_t table_slot(const struct reader_file *f, uint64_t offset)
{
    size_t mask = f->abbrev_capacity - 1, at = (size_t)(offset * 0x9e3779b97f4a7c15u >> 32) & mask;
    while (f->abbrevs[at] && f->abbrevs[at]->offset != offset)
        at = (at + 1) & mask;
    return at;
}

static int grow_tables(struct reader_file *f)
{
    struct abbrev_table **old = f->abbrevs;
    size_t old_capacity = f->abbrev_capacity, capacity = old_capacity ? 2 * old_capacity : 64;
    struct abbrev_table **more = calloc(capacity, sizeof(struct abbrev_table *));
    if (!more)
        return -ENOMEM;
    f->abbrevs = more;
    f->abbrev_capacity = capacity;
    for (size_t i = 0; i < old_capacity; i++)
        if (old[i])
            f->abbrevs[table_slot(f, old[i]->offset)] = old[i];
    free(old);
    return 0;
}

static struct abbrev_table *table_new(struct reader *r, struct reader_file *f, uint32_t offset,
                                      int *rc)
{
    struct abbrev_scratch *from = &r->abbrev_scratch;
    *rc = abbrev_parse(from, f->abbrev, offset, UINT64_MAX);
    if (*rc)
        return NULL;
    size_t abbrev_bytes = from->count * sizeof *from->abbrevs;
    size_t step_bytes = from->step_count * sizeof *from->steps;
    struct abbrev_table *t = arena_alloc(&r->arena, sizeof *t + abbrev_bytes + step_bytes);
    if (!t) {
        *rc = -ENOMEM;
        return NULL;
    }
    *t = (struct abbrev_table){.offset = offset, .count = from->count};
    t->abbrevs = (struct abbrev *)(t + 1);
    t->steps = (struct abbrev_step *)(t->abbrevs + from->count);
    if (abbrev_bytes)
        memcpy(t->abbrevs, from->abbrevs, abbrev_bytes);
    if (step_bytes)
        memcpy(t->steps, from->steps, step_bytes);
    return t;
}

int reader_abbrevs(struct reader *r, struct reader_unit *u)
{
    struct reader_file *f = u->file;
    if (u->abbrevs)
        return 0;
    if (2 * f->abbrev_count >= f->abbrev_capacity && grow_tables(f))
        return -ENOMEM;
    size_t slot = table_slot(f, u->abbrev_offset);
    if (!f->abbrevs[slot]) {
        int rc;
        f->abbrevs[slot] = table_new(r, f, u->abbrev_offset, &rc);
        if (rc)
            return rc;
        f->abbrev_count++;
    }
    u->abbrevs = f->abbrevs[slot];
    return 0;
}

// --- The unit's own DIE.

static bool is_c(uint64_t language)
{
    return language == DW_LANG_C89 || language == DW_LANG_C || language == DW_LANG_C99 ||
           language == DW_LANG_C11 || language == DW_LANG_Mips_Assembler;
}

static bool is_mangled(uint64_t language)
{
    return language == DW_LANG_C_plus_plus || language == DW_LANG_Rust ||
           language == DW_LANG_C_plus_plus_03 || language == DW_LANG_C_plus_plus_11 ||
           language == DW_LANG_C_plus_plus_14 || language == DW_LANG_D;
}

static int root_attribute(struct reader_unit *u, const struct abbrev_attr *a,
                          const struct die_value *v, struct die_value *directory)
{
    switch (a->name) {
    case DW_AT_stmt_list:
        u->has_lines = die_is_number(a->form);
        u->line_offset = v->number;
        break;
    case DW_AT_comp_dir: *directory = *v; break;
    case DW_AT_addr_base: u->addr_base = v->number; break;
    case DW_AT_str_offsets_base: u->str_offsets_base = v->number; break;
    case DW_AT_rnglists_base: u->rnglists_base = v->number; break;
    case DW_AT_language:
        u->has_mangled_names = is_mangled(v->number);
        u->has_classes = !is_c(v->number);
        break;
    case DW_AT_dwo_name:
    case DW_AT_GNU_dwo_name: return -ENOTSUP;
    default: break;
    }
    return 0;
}

// Reads the unit's own DIE. Its table of abbreviations is read only so far: many units are opened of
// which few are asked for.
static int read_root(struct reader *r, struct reader_unit *u, struct outline *root)
{
    struct abbrev_scratch *from = &r->abbrev_scratch;
    struct cursor c = reader_cursor(u, u->first_die), again = c;
    u->has_classes = true;
    u->addr_base = u->str_offsets_base = 8; // behind the header of a section with one table
    u->rnglists_base = 12;
    uint64_t code = cursor_uleb(&again);
    int rc = abbrev_parse(from, u->file->abbrev, u->abbrev_offset, code);
    struct abbrev_table t = {.count = from->count, .abbrevs = from->abbrevs, .steps = from->steps};
    if (!rc)
        rc = outline_read(&t, &c, root);
    if (rc || !root->code) {
        *root = (struct outline){0};
        return rc == -ENOEXEC ? 0 : rc;
    }
    if (root->has_children)
        u->children = (uint32_t)(c.at - u->file->sections[READER_INFO].bytes.at);
    if (u->version < 5 && root->tag == DW_TAG_partial_unit)
        u->is_compile = false;
    struct die_value v, directory = {0};
    struct abbrev_attr attr;
    struct cursor list = {.at = u->file->abbrev.at,
                          .end = u->file->abbrev.at + u->file->abbrev.size};
    cursor_skip(&list, t.abbrevs[code - 1].attrs);
    while (!rc && abbrev_attr_next(&list, &attr)) {
        die_value_read(&again, &attr, &v);
        rc = root_attribute(u, &attr, &v, &directory);
    }
    if (rc)
        return rc;
    u->directory = die_text(u, &directory);
    if (!(root->mask & 1u << SLOT_LOW) ||
        !die_address(u, root->forms[SLOT_LOW], root->values[SLOT_LOW], &u->base))
        u->base = 0;
    return 0;
}

static bool has_functions(const struct abbrev_table *t)
{
    for (uint32_t i = 0; i < t->count; i++)
        if (t->abbrevs[i].tag == DW_TAG_subprogram && t->abbrevs[i].has_pcs)
            return true;
    return false;
}

// --- Opening.

static int add_range(struct reader *r, uint32_t index, uint64_t low, uint64_t high)
{
    return range_table_add(&r->by_address, low, high, index);
}

static int add_unit_ranges(struct reader *r, uint32_t index)
{
    struct reader_unit *u = &r->main.units[index];
    struct outline root;
    int rc = read_root(r, u, &root);
    if (rc || !u->is_compile)
        return rc;
    uint64_t low, high;
    const struct dwarf_pcs *pcs;
    int n = die_ranges(r, u, &root, &low, &high, &pcs);
    if (n < 0)
        return n;
    if (n && !pcs)
        return add_range(r, index, low, high);
    for (int i = 0; i < n && !rc; i++)
        rc = add_range(r, index, pcs[i].low, pcs[i].high);
    if (n || rc || root.tag != DW_TAG_compile_unit || !u->children)
        return rc;
    // A producer that gives units no ranges: its functions have them. Units of -flto that hold only
    // declarations have neither, which their abbreviations tell.
    rc = reader_abbrevs(r, u);
    if (rc || !has_functions(u->abbrevs))
        return rc;
    rc = reader_unit_load(r, u);
    for (size_t i = 0; i < u->by_address.count && !rc; i++)
        rc = add_range(r, index, u->by_address.ranges[i].low, u->by_address.ranges[i].high);
    return rc;
}

static int open_files(struct reader *r)
{
    int rc = reader_sections_find(&r->main);
    if (!rc)
        reader_sections_unpack(&r->main);
    if (!rc && r->alt_elf) {
        r->alt.elf = r->alt_elf;
        rc = reader_sections_find(&r->alt);
        if (!rc)
            rc = read_headers(&r->alt);
        r->main.alt = &r->alt;
    }
    if (!rc)
        rc = read_headers(&r->main);
    r->ranges_left = LIST_COST_MAX * r->main.elf->size + (1 << 20);
    r->lines_left = LIST_COST_MAX * reader_section(&r->main, READER_LINE).size;
    for (size_t i = 0; i < r->main.unit_count && !rc; i++)
        rc = add_unit_ranges(r, (uint32_t)i);
    range_table_sort(&r->by_address);
    return rc;
}

int reader_open(struct reader **out, struct symbols *s, const struct elf_file *f,
                struct elf_file *alt_elf)
{
    *out = NULL;
    struct reader *r = calloc(1, sizeof *r);
    if (!r) {
        elf_file_close(alt_elf);
        return -ENOMEM;
    }
    r->owner = s;
    r->alt_elf = alt_elf;
    r->main.elf = f;
    int rc = open_files(r);
    if (rc) {
        reader_close(r);
        return rc;
    }
    *out = r;
    return 0;
}

static void file_finish(struct reader_file *f)
{
    for (size_t i = 0; i < f->unit_count; i++)
        reader_unit_finish(&f->units[i]);
    free(f->units);
    free(f->abbrevs);
    reader_sections_finish(f);
}

void reader_close(struct reader *r)
{
    if (!r)
        return;
    file_finish(&r->main);
    file_finish(&r->alt);
    range_table_finish(&r->by_address);
    free(r->abbrev_scratch.abbrevs);
    free(r->abbrev_scratch.steps);
    reader_names_finish(r);
    reader_lines_finish(r);
    elf_file_close(r->alt_elf);
    arena_finish(&r->arena);
    free(r);
}

// --- Asking.

int reader_lookup(struct reader *r, uint64_t address, struct symbols_frame *frames, uint32_t max,
                  bool *is_plain)
{
    *is_plain = false;
    uint32_t index = range_table_find(&r->by_address, address);
    if (index == UINT32_MAX || !max)
        return 0;
    struct reader_unit *u = &r->main.units[index];
    struct symbols_frame at = {.name = "", .system_name = "", .file = ""};
    struct reader_node *chain[CHAIN_MAX];
    const struct frame_names *names[CHAIN_MAX];
    int rc = reader_unit_load(r, u);
    int n = rc ? rc : reader_chain(r, u, address, chain, CHAIN_MAX);
    if (n >= 0)
        rc = reader_line(r, u, address, &at);
    for (int i = 0; i < n && !rc; i++) {
        rc = reader_name(r, u, chain[i]);
        names[i] = chain[i]->names;
    }
    if (n < 0 || rc)
        return n < 0 ? n : rc;
    if (!n) {
        frames[0] = at;
        return at.line || *at.file ? 1 : 0;
    }
    *is_plain = names[0]->is_plain;
    return frames_fill(frames, max, names, (uint32_t)n, at);
}
