// SPDX-License-Identifier: MIT
//
// DWARF as tables: units by address, each unit's functions by address, and below each function a
// tree of inlined functions that is read level by level as lookups descend.
//
// libdw decodes; its own searches (dwarf_getscopes, dwarf_addrdie) read a whole unit for every
// address, these read each piece once. A lookup gives what dwarf_getscopes gives: the first child
// whose ranges hold the address, and nothing below a block that does not hold it.
//
// Invariant: DIEs are visited in strictly rising offsets within a walk, so a hostile DW_AT_sibling
// cannot make a walk longer than its unit.

#ifndef FIBERSCOPE_SYMBOLS_DWARF_INDEX_H
#define FIBERSCOPE_SYMBOLS_DWARF_INDEX_H

#include "symbols/internal.h"

struct dwarf_node {
    Dwarf_Die die;
    enum dwarf_kind kind;
    uint32_t pcs_count, child_count;
    struct dwarf_pcs *pcs;       // [pcs_count]
    struct dwarf_node *children; // [child_count] once is_expanded
    bool is_expanded, is_named;
    struct frame_names names; // once is_named
};

struct dwarf_scope { // a namespace or class: qualifies names of what lies in [begin, end)
    uint64_t begin, end;
    uint32_t parent; // UINT32_MAX: the unit itself
    const char *name;
};

struct dwarf_unit {
    Dwarf_Die die;    // lines and files
    Dwarf_Die scopes; // functions: die's split unit if it has one, else die
    bool is_loaded, is_deep;

    bool has_mangled_names; // C++, Rust: a DW_AT_name alone is not the whole name
    struct dwarf_node *functions;
    size_t function_count, function_capacity;
    struct range_table by_address; // into functions
    struct dwarf_scope *namespaces;
    size_t namespace_count, namespace_capacity;
    Dwarf_Lines *lines;
    size_t line_count;
    Dwarf_Files *files;
};

struct dwarf_index {
    struct symbols *owner;
    struct arena arena;
    Dwarf *dwarf;
    Dwarf *alt;
    struct elf_file *alt_file;
    struct dwarf_unit *units;
    size_t unit_count, unit_capacity;
    struct range_table by_address; // into units
};

// Reads the unit's functions; again with deep to find functions nested in functions. -ENOMEM.
int dwarf_unit_load(struct dwarf_index *d, struct dwarf_unit *u);
int dwarf_unit_load_deep(struct dwarf_index *d, struct dwarf_unit *u);
void dwarf_unit_finish(struct dwarf_unit *u);

// The chain of functions at address: chain[0] holds the code, the last is innermost. Its length.
uint32_t dwarf_unit_chain(struct dwarf_index *d, struct dwarf_unit *u, uint64_t address,
                          struct dwarf_node **chain, uint32_t max);

// Fills name, system_name, start_line and the call site of a node, once. dwarf_names.c.
void dwarf_node_name(struct dwarf_index *d, struct dwarf_unit *u, struct dwarf_node *n);
const char *dwarf_unit_file(struct dwarf_index *d, struct dwarf_unit *u, const char *file);

#endif
