// SPDX-License-Identifier: MIT
//
// What a function is called, where it starts and where it was inlined.
//
// A linkage name wins, because it alone tells overloads apart. C++ and Rust functions without one
// (internal linkage) get the namespaces and classes that their declaration lies in.

#include "symbols/dwarf_index.h"

#include <dwarf.h>
#include <stdio.h>
#include <string.h>

enum { NESTING_MAX = 32, ORIGINS_MAX = 8, QUALIFIED_BYTES = 1024, FILE_BYTES = 8192 };

static const char *linkage_name(Dwarf_Die *die)
{
    Dwarf_Attribute attr;
    const char *name = dwarf_formstring(dwarf_attr_integrate(die, DW_AT_linkage_name, &attr));
    if (!name)
        name = dwarf_formstring(dwarf_attr_integrate(die, DW_AT_MIPS_linkage_name, &attr));
    return name;
}

// The DIE that stands inside of the class or namespace.
static Dwarf_Die declaration(Dwarf_Die die)
{
    for (int i = 0; i < ORIGINS_MAX; i++) {
        Dwarf_Attribute attr;
        Dwarf_Die next;
        if (!dwarf_formref_die(dwarf_attr(&die, DW_AT_abstract_origin, &attr), &next) &&
            !dwarf_formref_die(dwarf_attr(&die, DW_AT_specification, &attr), &next))
            break;
        die = next;
    }
    return die;
}

// The innermost namespace around offset, UINT32_MAX if none.
static uint32_t namespace_of(const struct dwarf_unit *u, uint64_t offset)
{
    size_t low = 0, high = u->namespace_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (u->namespaces[middle].begin < offset)
            low = middle + 1;
        else
            high = middle;
    }
    uint32_t at = low ? (uint32_t)low - 1 : UINT32_MAX;
    // An ancestor that ended before offset ends everything below it too; the last child's own end is
    // unknown (UINT64_MAX), so all ancestors are looked at.
    uint32_t found = at;
    for (uint32_t i = at; i != UINT32_MAX; i = u->namespaces[i].parent)
        if (u->namespaces[i].end <= offset)
            found = u->namespaces[i].parent;
    return found;
}

static void qualify(const struct dwarf_unit *u, Dwarf_Die *die, const char *name, char *out,
                    size_t size)
{
    const char *parts[NESTING_MAX];
    size_t n = 0, used = 0;
    Dwarf_Die decl = declaration(*die);
    if (decl.cu == u->scopes.cu)
        for (uint32_t i = namespace_of(u, dwarf_dieoffset(&decl));
             i != UINT32_MAX && n < NESTING_MAX; i = u->namespaces[i].parent)
            parts[n++] = u->namespaces[i].name;
    out[0] = '\0';
    while (n-- > 0 && used < size) {
        int k = snprintf(out + used, size - used, "%s::", parts[n]);
        used += k > 0 ? (size_t)k : 0;
    }
    if (used < size)
        snprintf(out + used, size - used, "%s", name);
}

static uint32_t small(Dwarf_Word v)
{
    return v <= INT32_MAX ? (uint32_t)v : 0;
}

static uint32_t number(Dwarf_Die *die, unsigned int name)
{
    Dwarf_Attribute attr;
    Dwarf_Word v;
    return dwarf_formudata(dwarf_attr(die, name, &attr), &v) ? 0 : small(v);
}

// A file name as the DWARF reader of addr2line gives it: below the unit's directory if relative. Debian
// maps that directory to one like "./posix"; the doubled part is the truth as written down.
const char *dwarf_unit_file(struct dwarf_index *d, struct dwarf_unit *u, const char *file)
{
    if (!file)
        return "";
    Dwarf_Attribute attr;
    const char *dir = NULL;
    if (file[0] != '/')
        dir = dwarf_formstring(dwarf_attr(&u->die, DW_AT_comp_dir, &attr));
    if (!dir) {
        const char *text = symbols_text(d->owner, file);
        return text ? text : "";
    }
    char path[FILE_BYTES];
    int n = snprintf(path, sizeof path, "%s/%s", dir, file);
    const char *text = n > 0 && n < FILE_BYTES ? symbols_text(d->owner, path) : NULL;
    return text ? text : "";
}

static void read_call_site(struct dwarf_index *d, struct dwarf_unit *u, struct dwarf_node *n)
{
    Dwarf_Attribute attr;
    Dwarf_Word index;
    n->names.call_line = number(&n->die, DW_AT_call_line);
    n->names.call_column = number(&n->die, DW_AT_call_column);
    if (!u->files || dwarf_formudata(dwarf_attr(&n->die, DW_AT_call_file, &attr), &index))
        return;
    n->names.call_file = dwarf_unit_file(d, u, dwarf_filesrc(u->files, index, NULL, NULL));
}

void dwarf_node_name(struct dwarf_index *d, struct dwarf_unit *u, struct dwarf_node *n)
{
    if (n->is_named)
        return;
    n->is_named = true;
    n->names.name = n->names.system_name = n->names.call_file = "";
    Dwarf_Attribute attr;
    Dwarf_Word line;
    if (!dwarf_formudata(dwarf_attr_integrate(&n->die, DW_AT_decl_line, &attr), &line))
        n->names.start_line = small(line);
    const char *linkage = linkage_name(&n->die);
    const char *plain = linkage ? NULL : dwarf_diename(&n->die);
    char qualified[QUALIFIED_BYTES];
    if (linkage) {
        n->names.system_name = symbols_text(d->owner, linkage);
        n->names.name = n->names.system_name;
        if (n->names.name && !d->owner->opts.no_demangle)
            n->names.name = symbols_demangled(d->owner, n->names.name);
    } else if (plain) {
        n->names.system_name = n->names.name = symbols_text(d->owner, plain);
        if (u->has_mangled_names) {
            n->names.is_plain = true;
            qualify(u, &n->die, plain, qualified, sizeof qualified);
            n->names.name = symbols_text(d->owner, qualified);
        }
    }
    if (!n->names.name || !n->names.system_name)
        n->names.name = n->names.system_name = "";
    n->names.is_inlined = n->kind == DWARF_INLINED;
    if (n->names.is_inlined)
        read_call_site(d, u, n);
}

int frames_fill(struct symbols_frame *frames, uint32_t max, const struct frame_names *const *chain,
                uint32_t n, struct symbols_frame at)
{
    // From the innermost outwards; `at` is where the frame at hand is. If they do not all fit, it is
    // the innermost that are left out: the caller of what is shown stays true.
    int filled = 0;
    for (uint32_t i = n; i-- > 0;) {
        const struct frame_names *names = chain[i];
        if (i < max) {
            at.name = names->name;
            at.system_name = names->system_name;
            at.start_line = names->start_line;
            at.is_inlined = names->is_inlined;
            frames[filled++] = at;
        }
        at = (struct symbols_frame){
            .file = names->call_file, .line = names->call_line, .column = names->call_column};
    }
    return filled;
}
