// SPDX-License-Identifier: MIT
//
// Our own reader of DWARF 2 to 5, limited to what a lookup needs: unit ranges, functions, inlined
// calls, names and lines. Several times as fast as the same lookups through libdw, because it skips
// uninteresting attributes by plans made once per abbreviation, unpacks only sections it reads, and
// allocates nothing per address.
//
// What it does not know (split units, 64-bit DWARF, type units, forms of the future) it refuses with
// -ENOTSUP, and the file is then read through libdw (dwarf_index.c), which is also its test oracle.
//
// Invariant: every read is checked against the end of the section or unit it is in; positions in a
// walk only grow, so a walk is never longer than its unit.

#ifndef FIBERSCOPE_SYMBOLS_READER_H
#define FIBERSCOPE_SYMBOLS_READER_H

#include "symbols/internal.h"

#include <dwarf.h>
#include <string.h>

// --- Sections. reader_sections.c.

enum reader_section {
    READER_INFO,
    READER_ABBREV,
    READER_LINE,
    READER_STR,
    READER_LINE_STR,
    READER_RNGLISTS,
    READER_RANGES,
    READER_ADDR,
    READER_STR_OFFSETS,
    READER_SECTIONS
};

struct reader_bytes {
    const uint8_t *at;
    size_t size;
};

// The section's bytes, unpacked when first asked for; empty if there is none or it is broken.
struct reader_file;
struct reader_bytes reader_section(struct reader_file *f, enum reader_section which);
// Finds the sections of f->elf. -ENOTSUP: compressed in a way that is not ours to unpack.
int reader_sections_find(struct reader_file *f);
// Unpacks big ones at once, by two threads.
void reader_sections_unpack(struct reader_file *f);
void reader_sections_finish(struct reader_file *f);

// --- A cursor over them. A read beyond the end gives 0 and leaves the cursor failed at the end.

struct cursor {
    const uint8_t *at, *end;
    bool is_failed;
};

static inline uint64_t cursor_fail(struct cursor *c)
{
    c->at = c->end;
    c->is_failed = true;
    return 0;
}

static inline void cursor_skip(struct cursor *c, uint64_t n)
{
    if (n > (uint64_t)(c->end - c->at))
        cursor_fail(c);
    else
        c->at += n;
}

static inline uint64_t cursor_fixed(struct cursor *c, unsigned int n)
{
    uint64_t v = 0;
    if (n > (size_t)(c->end - c->at))
        return cursor_fail(c);
    memcpy(&v, c->at, n);
    c->at += n;
    return v;
}

static inline uint64_t cursor_uleb(struct cursor *c)
{
    uint64_t v = 0;
    if (c->at < c->end && *c->at < 0x80)
        return *c->at++;
    for (unsigned int shift = 0; c->at < c->end; shift += 7) {
        uint8_t byte = *c->at++;
        if (shift < 64)
            v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return v;
    }
    return cursor_fail(c);
}

static inline int64_t cursor_sleb(struct cursor *c)
{
    uint64_t v = 0;
    for (unsigned int shift = 0; c->at < c->end;) {
        uint8_t byte = *c->at++;
        if (shift < 64)
            v |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
        if (!(byte & 0x80))
            return (int64_t)(shift < 64 && (byte & 0x40) ? v | ~0ull << shift : v);
    }
    return (int64_t)cursor_fail(c);
}

static inline const char *cursor_string(struct cursor *c)
{
    const uint8_t *nul = memchr(c->at, '\0', (size_t)(c->end - c->at));
    if (!nul) {
        cursor_fail(c);
        return NULL;
    }
    const char *s = (const char *)c->at;
    c->at = nul + 1;
    return s;
}

// --- Abbreviations. reader_abbrev.c.

// What an outline (one pass over a DIE) picks out.
enum reader_slot { SLOT_SIBLING, SLOT_LOW, SLOT_HIGH, SLOT_RANGES, SLOT_NAME, SLOTS };

struct abbrev_attr {
    uint16_t name, form;
    int64_t constant; // DW_FORM_implicit_const
};

// A step of the plan: a value to pick, or bytes to skip.
struct abbrev_step {
    uint8_t kind;   // enum step_kind
    uint8_t slot;   // SLOTS: none
    uint16_t bytes; // of fixed-size values, runs of them merged
    uint16_t form;
};

struct abbrev {
    uint32_t attrs; // where its attributes begin in .debug_abbrev
    uint32_t steps, step_count;
    uint16_t tag;
    bool has_children;
    bool has_pcs : 1;
    bool is_class : 1; // a scope that only C++ and the like have code in
};

struct abbrev_table {
    uint32_t offset, count;
    struct abbrev *abbrevs; // codes 1, 2, 3, ...
    struct abbrev_step *steps;
};

// Tables are built here and kept in exactly as much memory as they need: there are thousands.
struct abbrev_scratch {
    struct abbrev *abbrevs;
    struct abbrev_step *steps;
    uint32_t count, capacity, step_count, step_capacity;
};

// Parses the table at offset, up to the abbreviation `last`. -ENOTSUP: not numbered 1, 2, 3, ..., or
// of unknown forms.
int abbrev_parse(struct abbrev_scratch *to, struct reader_bytes section, uint32_t offset,
                 uint64_t last);
// The next attribute of a list; false: there is no more.
static inline bool abbrev_attr_next(struct cursor *c, struct abbrev_attr *a)
{
    uint64_t name = cursor_uleb(c), form = cursor_uleb(c);
    a->name = name <= UINT16_MAX ? (uint16_t)name : UINT16_MAX;
    a->form = form <= UINT16_MAX ? (uint16_t)form : UINT16_MAX;
    a->constant = form == DW_FORM_implicit_const ? cursor_sleb(c) : 0;
    return (name || form) && !c->is_failed;
}

struct outline {
    uint64_t code; // 0: the end of a list of children
    uint16_t tag;
    bool has_children, is_class;
    uint64_t values[SLOTS];
    const uint8_t *name; // of SLOT_NAME where its form is DW_FORM_string
    uint16_t forms[SLOTS];
    uint32_t mask; // 1 << slot
};

// --- Units. reader.c.

struct line_table;

struct reader_node {
    uint64_t low, high;          // around all of pcs
    const struct dwarf_pcs *pcs; // NULL: low to high is all of it
    struct reader_node *children;
    struct frame_names *names; // NULL: not read yet
    uint32_t pcs_count, child_count;
    uint32_t die; // its offset in .debug_info
    uint8_t kind; // enum dwarf_kind
    bool is_expanded;
};

struct reader_scope { // a namespace or class: qualifies names of what lies in (begin, end)
    uint32_t begin, end, parent;
    const char *name;
};

struct reader_unit {
    struct reader_file *file;
    uint32_t offset, end, first_die; // in .debug_info
    uint32_t abbrev_offset;
    uint8_t version;
    bool is_compile; // neither partial nor for types
    bool is_loaded, is_deep, are_lines_read;
    bool has_mangled_names; // C++, Rust: a DW_AT_name alone is not the whole name
    bool has_classes;       // of a language where classes hold functions
    struct abbrev_table *abbrevs;

    // Of the unit's own DIE.
    uint64_t base; // of its range lists
    uint64_t addr_base, str_offsets_base, rnglists_base, line_offset;
    bool has_lines;
    const char *directory;
    uint32_t children; // where they begin, 0: none

    struct reader_node *functions;
    size_t function_count, function_capacity;
    struct range_table by_address; // into functions
    struct reader_scope *scopes;
    size_t scope_count, scope_capacity;
    struct line_table *lines;
};

struct reader_file {
    const struct elf_file *elf;
    struct reader_file *alt; // dwz's
    struct reader_section_state {
        struct reader_bytes bytes;
        void *unpacked; // owned
        uint64_t unpacked_size;
        bool is_read;
    } sections[READER_SECTIONS];
    struct reader_unit *units; // by offset
    size_t unit_count, unit_capacity;
    struct abbrev_table **abbrevs; // open addressing by offset
    size_t abbrev_count, abbrev_capacity;
    struct reader_bytes abbrev; // the section
};

struct reader {
    struct symbols *owner;
    struct arena arena;
    struct reader_file main, alt;
    struct elf_file *alt_elf;
    struct range_table by_address; // into main.units
    struct abbrev_scratch abbrev_scratch;
    struct line_row *row_scratch; // reader_lines.c
    size_t row_scratch_capacity;
    struct function_name **names; // open addressing by DIE; reader_names.c
    size_t name_count, name_capacity;
    struct line_table **line_tables; // as many as read; reader_lines.c
    size_t line_table_count, line_table_capacity;
    uint64_t ranges_left, lines_left; // what hostile lists may still cost
};

// alt_elf: the dwz file or NULL; taken in any case. -ENOTSUP: to be read through libdw.
int reader_open(struct reader **out, struct symbols *s, const struct elf_file *f,
                struct elf_file *alt_elf);
void reader_close(struct reader *r); // accepts NULL
// As dwarf_index_lookup, and -ENOTSUP at any time.
int reader_lookup(struct reader *r, uint64_t address, struct symbols_frame *frames, uint32_t max,
                  bool *is_plain);

// The unit that holds offset; NULL: none, or broken.
struct reader_unit *reader_unit_at(struct reader_file *f, uint64_t offset);
int reader_abbrevs(struct reader *r, struct reader_unit *u);

// --- DIEs and values. reader_die.c.

// Reads the DIE at c. -ENOTSUP, or -ENOEXEC when it is broken.
int outline_read(const struct abbrev_table *t, struct cursor *c, struct outline *o);
struct cursor reader_cursor(const struct reader_unit *u, uint64_t offset);

struct die_value {
    uint64_t number;  // or, of strings and blocks, nothing
    const char *text; // DW_FORM_string
    uint16_t form;
};
// Reads one attribute at c.
void die_value_read(struct cursor *c, const struct abbrev_attr *a, struct die_value *v);
// NULL: not a string, or outside of its section.
const char *die_text(const struct reader_unit *u, const struct die_value *v);
// Whether v is an address, or an index of one.
bool die_address(const struct reader_unit *u, uint16_t form, uint64_t number, uint64_t *address);
// The DIE that v refers to; its unit or NULL.
struct reader_unit *die_reference(struct reader_unit *u, const struct die_value *v,
                                  uint64_t *offset);
bool die_is_number(uint16_t form);

// The address ranges of o: their number; *pcs is NULL where *low to *high is all.
int die_ranges(struct reader *r, struct reader_unit *u, const struct outline *o, uint64_t *low,
               uint64_t *high, const struct dwarf_pcs **pcs);

// --- Functions. reader_scopes.c.

int reader_unit_load(struct reader *r, struct reader_unit *u);
void reader_unit_finish(struct reader_unit *u);
// As dwarf_unit_chain; -errno.
int reader_chain(struct reader *r, struct reader_unit *u, uint64_t address,
                 struct reader_node **chain, uint32_t max);

// --- Lines. reader_lines.c.

// The row that covers the address into frame. -ENOMEM.
int reader_line(struct reader *r, struct reader_unit *u, uint64_t address,
                struct symbols_frame *frame);
const char *reader_line_file(struct reader *r, struct reader_unit *u, uint64_t index);
void reader_lines_finish(struct reader *r);

// --- Names. reader_names.c.

int reader_name(struct reader *r, struct reader_unit *u, struct reader_node *n);
void reader_names_finish(struct reader *r);

#endif
