// SPDX-License-Identifier: MIT
//
// One unit's functions and what is inlined in them.

#include "symbols/dwarf_index.h"

#include <dwarf.h>
#include <errno.h>
#include <stdlib.h>

enum { DEPTH_MAX = 128, RANGES_MAX = 1 << 16, CHILDREN_MAX = 1 << 20 };

struct walk {
    struct dwarf_index *d;
    struct dwarf_unit *u;
    uint64_t last; // the offset visited last; only greater ones are visited
    bool deep;     // look for functions inside of functions only
};

static bool step(uint64_t *last, Dwarf_Die *die)
{
    uint64_t offset = dwarf_dieoffset(die);
    if (offset == (uint64_t)-1 || offset <= *last)
        return false;
    *last = offset;
    return true;
}

// The address ranges of die into the arena; their number or -ENOMEM.
static int read_pcs(struct dwarf_index *d, Dwarf_Die *die, struct dwarf_pcs **out)
{
    struct dwarf_pcs few[8], *pcs = few;
    size_t n = 0, capacity = sizeof few / sizeof few[0];
    Dwarf_Addr base, low, high;
    ptrdiff_t at = 0;
    int rc = 0;
    while (n < RANGES_MAX && (at = dwarf_ranges(die, at, &base, &low, &high)) > 0) {
        if (low >= high || low == 0)
            continue;
        if (n == capacity) {
            struct dwarf_pcs *more = arena_array(&d->arena, 4 * capacity, sizeof *more);
            if (!more)
                return -ENOMEM;
            for (size_t i = 0; i < n; i++)
                more[i] = pcs[i];
            pcs = more;
            capacity *= 4;
        }
        pcs[n++] = (struct dwarf_pcs){low, high};
    }
    if (n && pcs == few) {
        pcs = arena_array(&d->arena, n, sizeof *pcs);
        if (!pcs)
            return -ENOMEM;
        for (size_t i = 0; i < n; i++)
            pcs[i] = few[i];
    }
    *out = n ? pcs : NULL;
    return rc ? rc : (int)n;
}

static int add_function(struct walk *w, Dwarf_Die *die)
{
    struct dwarf_unit *u = w->u;
    struct dwarf_node node = {.die = *die, .kind = DWARF_FUNCTION};
    int n = read_pcs(w->d, die, &node.pcs);
    if (n <= 0)
        return n;
    node.pcs_count = (uint32_t)n;
    if (u->function_count == u->function_capacity) {
        size_t capacity = u->function_capacity ? 2 * u->function_capacity : 64;
        struct dwarf_node *more = realloc(u->functions, capacity * sizeof *more);
        if (!more)
            return -ENOMEM;
        u->functions = more;
        u->function_capacity = capacity;
    }
    uint32_t index = (uint32_t)u->function_count;
    u->functions[u->function_count++] = node;
    for (int i = 0; i < n; i++) {
        int rc = range_table_add(&u->by_address, node.pcs[i].low, node.pcs[i].high, index);
        if (rc)
            return rc;
    }
    return 0;
}

static int add_namespace(struct walk *w, Dwarf_Die *die, uint32_t parent, uint32_t *index)
{
    struct dwarf_unit *u = w->u;
    if (u->namespace_count == u->namespace_capacity) {
        size_t capacity = u->namespace_capacity ? 2 * u->namespace_capacity : 64;
        struct dwarf_scope *more = realloc(u->namespaces, capacity * sizeof *more);
        if (!more)
            return -ENOMEM;
        u->namespaces = more;
        u->namespace_capacity = capacity;
    }
    Dwarf_Attribute attr;
    const char *name = dwarf_formstring(dwarf_attr(die, DW_AT_name, &attr));
    if (!name)
        name = dwarf_tag(die) == DW_TAG_namespace ? "(anonymous namespace)" : "(anonymous)";
    *index = (uint32_t)u->namespace_count;
    u->namespaces[u->namespace_count++] = (struct dwarf_scope){
        .begin = dwarf_dieoffset(die), .end = UINT64_MAX, .parent = parent, .name = name};
    return 0;
}

static bool is_namespace(int tag)
{
    return tag == DW_TAG_namespace || tag == DW_TAG_class_type || tag == DW_TAG_structure_type ||
           tag == DW_TAG_union_type || tag == DW_TAG_interface_type || tag == DW_TAG_module;
}

static bool is_block(int tag)
{
    return tag == DW_TAG_lexical_block || tag == DW_TAG_try_block || tag == DW_TAG_catch_block ||
           tag == DW_TAG_with_stmt;
}

static int walk_children(struct walk *w, Dwarf_Die *parent, uint32_t scope, bool in_function,
                         int depth);

static int walk_die(struct walk *w, Dwarf_Die *die, uint32_t scope, bool in_function, int depth)
{
    int tag = dwarf_tag(die), rc = 0;
    if (tag == DW_TAG_subprogram) {
        if (in_function == w->deep)
            rc = add_function(w, die);
        if (!rc && w->deep)
            rc = walk_children(w, die, scope, true, depth + 1);
        return rc;
    }
    if (is_namespace(tag)) {
        uint32_t mine = scope;
        // Namespaces were recorded by the first walk already.
        if (!w->deep)
            rc = add_namespace(w, die, scope, &mine);
        return rc ? rc : walk_children(w, die, mine, in_function, depth + 1);
    }
    if (in_function && (is_block(tag) || tag == DW_TAG_inlined_subroutine))
        return walk_children(w, die, scope, true, depth + 1);
    return 0;
}

static int walk_children(struct walk *w, Dwarf_Die *parent, uint32_t scope, bool in_function,
                         int depth)
{
    Dwarf_Die die;
    if (depth > DEPTH_MAX || dwarf_child(parent, &die))
        return 0;
    do {
        if (!step(&w->last, &die))
            return 0;
        size_t first = w->u->namespace_count;
        int rc = walk_die(w, &die, scope, in_function, depth);
        if (rc)
            return rc;
        Dwarf_Die next;
        if (dwarf_siblingof(&die, &next))
            return 0;
        if (w->u->namespace_count > first) // die was a namespace: it ends where the next DIE is
            w->u->namespaces[first].end = dwarf_dieoffset(&next);
        die = next;
    } while (true);
}

static int load(struct dwarf_index *d, struct dwarf_unit *u, bool deep)
{
    struct walk w = {.d = d, .u = u, .deep = deep};
    w.last = dwarf_dieoffset(&u->scopes);
    int rc = walk_children(&w, &u->scopes, UINT32_MAX, false, 0);
    range_table_sort(&u->by_address);
    return rc;
}

int dwarf_unit_load(struct dwarf_index *d, struct dwarf_unit *u)
{
    if (u->is_loaded)
        return 0;
    u->is_loaded = true;
    u->scopes = u->die;
    uint8_t unit_type = 0;
    Dwarf_Die die, split;
    // Opens the .dwo file of a skeleton; without it its lines are still good.
    if (!dwarf_cu_info(u->die.cu, NULL, &unit_type, &die, &split, NULL, NULL, NULL) &&
        unit_type == DW_UT_skeleton && dwarf_dieoffset(&split) != (uint64_t)-1 && split.addr)
        u->scopes = split;
    int language = dwarf_srclang(&u->scopes);
    u->has_mangled_names = language == DW_LANG_C_plus_plus || language == DW_LANG_Rust ||
                           language == DW_LANG_C_plus_plus_03 ||
                           language == DW_LANG_C_plus_plus_11 ||
                           language == DW_LANG_C_plus_plus_14 || language == DW_LANG_D;
    if (dwarf_getsrclines(&u->die, &u->lines, &u->line_count))
        u->line_count = 0;
    size_t ignored;
    if (dwarf_getsrcfiles(&u->die, &u->files, &ignored))
        u->files = NULL;
    return load(d, u, false);
}

int dwarf_unit_load_deep(struct dwarf_index *d, struct dwarf_unit *u)
{
    if (u->is_deep)
        return 0;
    u->is_deep = true;
    return load(d, u, true);
}

void dwarf_unit_finish(struct dwarf_unit *u)
{
    range_table_finish(&u->by_address);
    free(u->functions);
    free(u->namespaces);
}

static int expand(struct dwarf_index *d, struct dwarf_node *n)
{
    if (n->is_expanded)
        return 0;
    n->is_expanded = true;
    struct dwarf_node *found = NULL;
    size_t count = 0, capacity = 0;
    uint64_t last = dwarf_dieoffset(&n->die);
    int rc = 0;
    Dwarf_Die die;
    if (dwarf_child(&n->die, &die))
        return 0;
    do {
        if (!step(&last, &die))
            break;
        int tag = dwarf_tag(&die);
        struct dwarf_node child = {.die = die};
        if (tag == DW_TAG_inlined_subroutine)
            child.kind = DWARF_INLINED;
        else if (tag == DW_TAG_subprogram)
            child.kind = DWARF_FUNCTION;
        else if (is_block(tag))
            child.kind = DWARF_BLOCK;
        else
            continue;
        rc = read_pcs(d, &die, &child.pcs);
        if (rc <= 0)
            continue;
        child.pcs_count = (uint32_t)rc;
        if (count == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            struct dwarf_node *more = realloc(found, capacity * sizeof *more);
            if (!more) {
                rc = -ENOMEM;
                break;
            }
            found = more;
        }
        found[count++] = child;
    } while (rc >= 0 && count < CHILDREN_MAX && !dwarf_siblingof(&die, &die));
    if (rc >= 0 && count) {
        n->children = arena_array(&d->arena, count, sizeof *n->children);
        if (n->children)
            for (size_t i = 0; i < count; i++)
                n->children[n->child_count++] = found[i];
        rc = n->children ? 0 : -ENOMEM;
    }
    free(found);
    return rc < 0 ? rc : 0;
}

static bool holds(const struct dwarf_node *n, uint64_t address)
{
    for (uint32_t i = 0; i < n->pcs_count; i++)
        if (address >= n->pcs[i].low && address < n->pcs[i].high)
            return true;
    return false;
}

static struct dwarf_node *child_at(struct dwarf_index *d, struct dwarf_node *n, uint64_t address)
{
    if (expand(d, n))
        return NULL;
    for (uint32_t i = 0; i < n->child_count; i++)
        if (holds(&n->children[i], address))
            return &n->children[i];
    return NULL;
}

uint32_t dwarf_unit_chain(struct dwarf_index *d, struct dwarf_unit *u, uint64_t address,
                          struct dwarf_node **chain, uint32_t max)
{
    uint32_t index = range_table_find(&u->by_address, address);
    if (index == UINT32_MAX && !u->is_deep) {
        // A member of a class local to a function, a nested function: inside that function's DIE.
        if (dwarf_unit_load_deep(d, u))
            return 0;
        index = range_table_find(&u->by_address, address);
    }
    if (index == UINT32_MAX)
        return 0;
    uint32_t n = 0;
    struct dwarf_node *node = &u->functions[index];
    for (int depth = 0; node && depth < DEPTH_MAX && n < max; depth++) {
        if (node->kind == DWARF_FUNCTION)
            n = 0; // a function nested in another: the chain starts anew
        if (node->kind != DWARF_BLOCK)
            chain[n++] = node;
        node = child_at(d, node, address);
    }
    return n;
}
