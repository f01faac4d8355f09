// SPDX-License-Identifier: MIT
//
// Names through our own reader, by the rules of dwarf_names.c. What a function is called is read once
// per declaration, however many times it was inlined.

#include "symbols/reader.h"

#include <dwarf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { NESTING_MAX = 32, ORIGINS_MAX = 16, DECLARATIONS_MAX = 8, QUALIFIED_BYTES = 1024 };

struct function_name {
    const uint8_t *die; // where the DIE is: the key
    const char *name, *system_name;
    uint32_t start_line;
    bool is_plain, is_linkage;
    bool for_mangled; // of a unit that has_mangled_names
};

// What a chain of references says, the first word on each counting.
struct naming {
    struct die_value name, linkage, old_linkage, line;
    struct reader_unit *name_unit, *linkage_unit, *old_linkage_unit;
    bool has_line;
};

struct die {
    struct reader_unit *u;
    uint64_t offset;
};

struct call_site {
    struct die_value file, line, column;
};

static void take(struct die_value *to, struct reader_unit **unit, const struct die_value *v,
                 struct reader_unit *u)
{
    if (*unit)
        return;
    *to = *v;
    *unit = u;
}

// Reads the DIE's own attributes. *next: what it refers to, by its origin before its specification;
// its unit NULL if nothing. call may be NULL.
static int read_die(struct reader *r, struct die at, struct naming *n, struct die *next,
                    struct call_site *call)
{
    struct cursor c = reader_cursor(at.u, at.offset);
    struct die_value origin = {0}, specification = {0};
    *next = (struct die){0};
    int rc = reader_abbrevs(r, at.u);
    uint64_t code = rc ? 0 : cursor_uleb(&c);
    if (!code || code > at.u->abbrevs->count)
        return rc;
    struct reader_bytes section = at.u->file->abbrev;
    struct cursor list = {.at = section.at, .end = section.at + section.size};
    cursor_skip(&list, at.u->abbrevs->abbrevs[code - 1].attrs);
    struct abbrev_attr attr;
    while (abbrev_attr_next(&list, &attr) && !c.is_failed) {
        struct die_value v;
        die_value_read(&c, &attr, &v);
        switch (attr.name) {
        case DW_AT_name: take(&n->name, &n->name_unit, &v, at.u); break;
        case DW_AT_linkage_name: take(&n->linkage, &n->linkage_unit, &v, at.u); break;
        case DW_AT_MIPS_linkage_name: take(&n->old_linkage, &n->old_linkage_unit, &v, at.u); break;
        case DW_AT_abstract_origin: origin = v; break;
        case DW_AT_specification: specification = v; break;
        case DW_AT_decl_line:
            if (!n->has_line)
                n->line = v;
            n->has_line = true;
            break;
        case DW_AT_call_file: call->file = v; break;
        case DW_AT_call_line: call->line = v; break;
        case DW_AT_call_column: call->column = v; break;
        default: break;
        }
    }
    const struct die_value *v = origin.form ? &origin : &specification;
    next->u = v->form ? die_reference(at.u, v, &next->offset) : NULL;
    return 0;
}

static uint32_t number(const struct die_value *v)
{
    return die_is_number(v->form) && v->number <= INT32_MAX ? (uint32_t)v->number : 0;
}

// --- Qualified names.

// The innermost scope around offset, UINT32_MAX if none.
static uint32_t scope_of(const struct reader_unit *u, uint64_t offset)
{
    size_t low = 0, high = u->scope_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (u->scopes[middle].begin < offset)
            low = middle + 1;
        else
            high = middle;
    }
    uint32_t at = low ? (uint32_t)low - 1 : UINT32_MAX;
    while (at != UINT32_MAX && u->scopes[at].end <= offset)
        at = u->scopes[at].parent;
    return at;
}

static int qualify(struct reader *r, const struct reader_unit *u, struct die at, const char *name,
                   char out[QUALIFIED_BYTES])
{
    const char *parts[NESTING_MAX];
    size_t n = 0, used = 0;
    for (int i = 0; i < DECLARATIONS_MAX; i++) {
        struct naming ignored = {0};
        struct call_site call;
        struct die next;
        int rc = read_die(r, at, &ignored, &next, &call);
        if (rc)
            return rc;
        if (!next.u)
            break;
        at = next;
    }
    if (at.u == u)
        for (uint32_t i = scope_of(u, at.offset); i != UINT32_MAX && n < NESTING_MAX;
             i = u->scopes[i].parent)
            parts[n++] = u->scopes[i].name;
    out[0] = '\0';
    while (n-- > 0 && used < QUALIFIED_BYTES) {
        int k = snprintf(out + used, QUALIFIED_BYTES - used, "%s::", parts[n]);
        used += k > 0 ? (size_t)k : 0;
    }
    if (used < QUALIFIED_BYTES)
        snprintf(out + used, QUALIFIED_BYTES - used, "%s", name);
    return 0;
}

// --- The table of names.

static size_t slot_for(const struct reader *r, const uint8_t *die)
{
    size_t mask = r->name_capacity - 1;
    size_t at = (size_t)(((uintptr_t)die * 0x9e3779b97f4a7c15u) >> 20) & mask;
    while (r->names[at] && r->names[at]->die != die)
        at = (at + 1) & mask;
    return at;
}

static int grow(struct reader *r)
{
    size_t old_capacity = r->name_capacity;
    struct function_name **old = r->names;
    size_t capacity = old_capacity ? 2 * old_capacity : 1024;
    r->names = calloc(capacity, sizeof *r->names);
    if (!r->names) {
        r->names = old;
        return -ENOMEM;
    }
    r->name_capacity = capacity;
    for (size_t i = 0; i < old_capacity; i++)
        if (old[i])
            r->names[slot_for(r, old[i]->die)] = old[i];
    free(old);
    return 0;
}

void reader_names_finish(struct reader *r)
{
    free(r->names);
}

static int name_new(struct reader *r, struct reader_unit *u, struct die at,
                    const struct naming *naming, struct function_name *f)
{
    const char *linkage =
        naming->linkage_unit ? die_text(naming->linkage_unit, &naming->linkage) : NULL;
    if (!linkage && naming->old_linkage_unit)
        linkage = die_text(naming->old_linkage_unit, &naming->old_linkage);
    const char *plain =
        !linkage && naming->name_unit ? die_text(naming->name_unit, &naming->name) : NULL;
    *f = (struct function_name){.start_line = number(&naming->line),
                                .is_linkage = linkage != NULL,
                                .for_mangled = u->has_mangled_names};
    char qualified[QUALIFIED_BYTES];
    int rc = 0;
    if (linkage) {
        f->system_name = symbols_text(r->owner, linkage);
        f->name = f->system_name;
        if (f->name && !r->owner->opts.no_demangle)
            f->name = symbols_demangled(r->owner, f->name);
    } else if (plain) {
        f->system_name = f->name = symbols_text(r->owner, plain);
        f->is_plain = u->has_mangled_names;
        if (f->is_plain) {
            rc = qualify(r, u, at, plain, qualified);
            f->name = symbols_text(r->owner, qualified);
        }
    }
    if (!f->name || !f->system_name)
        f->name = f->system_name = "";
    return rc;
}

// Follows the references of a DIE whose own attributes are in naming.
static int follow(struct reader *r, struct reader_unit *u, struct die at, struct naming *naming,
                  struct die next, struct function_name *f)
{
    struct call_site ignored;
    for (int i = 0; i < ORIGINS_MAX && next.u; i++) {
        int rc = read_die(r, next, naming, &next, &ignored);
        if (rc)
            return rc;
    }
    return name_new(r, u, at, naming, f);
}

// What u calls the function of a DIE in whatever unit. A name that has to be qualified depends on the
// unit that asks, one with a linkage name does not.
static int origin_name(struct reader *r, struct reader_unit *u, struct die origin,
                       struct function_name *out)
{
    bool is_own = !u->has_mangled_names || origin.u == u;
    const uint8_t *key = origin.u->file->sections[READER_INFO].bytes.at + origin.offset;
    if (2 * r->name_count >= r->name_capacity && grow(r))
        return -ENOMEM;
    size_t slot = slot_for(r, key);
    const struct function_name *kept = r->names[slot];
    if (kept && (kept->is_linkage || (is_own && kept->for_mangled == u->has_mangled_names))) {
        *out = *kept;
        return 0;
    }
    struct naming naming = {0};
    int rc = follow(r, u, origin, &naming, origin, out);
    if (rc || kept || !(out->is_linkage || is_own))
        return rc;
    r->names[slot] = arena_alloc(&r->arena, sizeof *out);
    if (!r->names[slot])
        return -ENOMEM;
    *r->names[slot] = *out;
    r->names[slot]->die = key;
    r->name_count++;
    return 0;
}

int reader_name(struct reader *r, struct reader_unit *u, struct reader_node *n)
{
    if (n->names)
        return 0;
    struct naming naming = {0};
    struct call_site call = {0};
    struct function_name f;
    struct die at = {u, n->die}, next;
    int rc = read_die(r, at, &naming, &next, &call);
    bool is_silent =
        !naming.name_unit && !naming.linkage_unit && !naming.old_linkage_unit && !naming.has_line;
    if (!rc)
        rc =
            is_silent && next.u ? origin_name(r, u, next, &f) : follow(r, u, at, &naming, next, &f);
    struct frame_names *names = rc ? NULL : arena_alloc(&r->arena, sizeof *names);
    if (!names)
        return rc ? rc : -ENOMEM;
    *names = (struct frame_names){.name = f.name,
                                  .system_name = f.system_name,
                                  .start_line = f.start_line,
                                  .is_plain = f.is_plain,
                                  .is_inlined = n->kind == DWARF_INLINED,
                                  .call_file = ""};
    if (names->is_inlined) {
        names->call_line = number(&call.line);
        names->call_column = number(&call.column);
        if (die_is_number(call.file.form))
            names->call_file = reader_line_file(r, u, call.file.number);
    }
    n->names = names;
    return 0;
}
