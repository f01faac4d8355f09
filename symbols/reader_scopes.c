// SPDX-License-Identifier: MIT
//
// One unit's functions and what is inlined in them. The same tree and the same order of search as
// dwarf_scopes.c builds through libdw.

#include "symbols/reader.h"

#include <dwarf.h>
#include <errno.h>
#include <stdlib.h>

enum { DEPTH_MAX = 128, CHILDREN_MAX = 1 << 20 };

struct walk {
    struct reader *r;
    struct reader_unit *u;
    struct cursor c;
    bool deep; // look for functions inside of functions only
};

static uint32_t offset_of(const struct reader_unit *u, const uint8_t *at)
{
    return (uint32_t)(at - u->file->sections[READER_INFO].bytes.at);
}

// Moves c, which is behind the attributes of o, behind its children.
static int skip_children(struct reader_unit *u, struct cursor *c, const struct outline *o)
{
    struct outline at = *o;
    uint64_t depth = 0;
    do {
        if (!at.code) {
            depth--;
        } else if (at.has_children) {
            struct die_value v = {.form = at.forms[SLOT_SIBLING],
                                  .number = at.values[SLOT_SIBLING]};
            uint64_t offset;
            struct cursor next = {0};
            if ((at.mask & 1u << SLOT_SIBLING) && die_reference(u, &v, &offset) == u)
                next = reader_cursor(u, offset);
            if (next.at > c->at)
                *c = next;
            else
                depth++;
        }
        int rc = depth ? outline_read(u->abbrevs, c, &at) : 0;
        if (rc)
            return rc;
    } while (depth);
    return 0;
}

static int add_function(struct walk *w, uint32_t die, const struct outline *o)
{
    struct reader_unit *u = w->u;
    struct reader_node node = {.die = die, .kind = DWARF_FUNCTION};
    int n = die_ranges(w->r, u, o, &node.low, &node.high, &node.pcs);
    if (n <= 0)
        return n;
    node.pcs_count = (uint32_t)n;
    if (u->function_count == u->function_capacity) {
        size_t capacity = u->function_capacity ? 2 * u->function_capacity : 16;
        struct reader_node *more = realloc(u->functions, capacity * sizeof *more);
        if (!more)
            return -ENOMEM;
        u->functions = more;
        u->function_capacity = capacity;
    }
    uint32_t index = (uint32_t)u->function_count;
    u->functions[u->function_count++] = node;
    if (!node.pcs)
        return range_table_add(&u->by_address, node.low, node.high, index);
    int rc = 0;
    for (int i = 0; i < n && !rc; i++)
        rc = range_table_add(&u->by_address, node.pcs[i].low, node.pcs[i].high, index);
    return rc;
}

static int add_scope(struct walk *w, uint32_t die, const struct outline *o, uint32_t parent,
                     uint32_t *index)
{
    struct reader_unit *u = w->u;
    if (u->scope_count == u->scope_capacity) {
        size_t capacity = u->scope_capacity ? 2 * u->scope_capacity : 64;
        struct reader_scope *more = realloc(u->scopes, capacity * sizeof *more);
        if (!more)
            return -ENOMEM;
        u->scopes = more;
        u->scope_capacity = capacity;
    }
    const char *name = NULL;
    if (o->mask & 1u << SLOT_NAME) {
        struct die_value v = {.form = o->forms[SLOT_NAME], .number = o->values[SLOT_NAME]};
        v.text = (const char *)o->name;
        name = die_text(u, &v);
    }
    if (!name)
        name = o->tag == DW_TAG_namespace ? "(anonymous namespace)" : "(anonymous)";
    *index = (uint32_t)u->scope_count;
    u->scopes[u->scope_count++] =
        (struct reader_scope){.begin = die, .end = UINT32_MAX, .parent = parent, .name = name};
    return 0;
}

static bool is_block(int tag)
{
    return tag == DW_TAG_lexical_block || tag == DW_TAG_try_block || tag == DW_TAG_catch_block ||
           tag == DW_TAG_with_stmt;
}

static bool is_scope(const struct reader_unit *u, const struct outline *o)
{
    return o->tag == DW_TAG_namespace || o->tag == DW_TAG_module || (o->is_class && u->has_classes);
}

static int walk_children(struct walk *w, uint32_t scope, bool in_function, int depth);

// The cursor is behind the attributes of o and ends behind its children.
static int walk_die(struct walk *w, uint32_t die, const struct outline *o, uint32_t scope,
                    bool in_function, int depth)
{
    int rc = 0;
    bool enter = false;
    if (o->tag == DW_TAG_subprogram) {
        if (in_function == w->deep)
            rc = add_function(w, die, o);
        enter = in_function = w->deep;
    } else if (is_scope(w->u, o)) {
        enter = true;
        // Scopes were recorded by the first walk already.
        if (!w->deep) {
            uint32_t mine = scope;
            rc = add_scope(w, die, o, scope, &mine);
            scope = mine;
        }
    } else if (in_function && (is_block(o->tag) || o->tag == DW_TAG_inlined_subroutine)) {
        enter = true;
    }
    if (rc || !o->has_children)
        return rc;
    return enter && depth < DEPTH_MAX ? walk_children(w, scope, in_function, depth + 1)
                                      : skip_children(w->u, &w->c, o);
}

static int walk_children(struct walk *w, uint32_t scope, bool in_function, int depth)
{
    while (w->c.at < w->c.end) {
        uint32_t die = offset_of(w->u, w->c.at);
        struct outline o;
        int rc = outline_read(w->u->abbrevs, &w->c, &o);
        if (rc || !o.code)
            return rc;
        size_t first = w->u->scope_count;
        rc = walk_die(w, die, &o, scope, in_function, depth);
        if (rc)
            return rc;
        if (w->u->scope_count > first) // the DIE was a scope
            w->u->scopes[first].end = offset_of(w->u, w->c.at);
    }
    return 0;
}

static int load(struct reader *r, struct reader_unit *u, bool deep)
{
    struct walk w = {.r = r, .u = u, .deep = deep};
    int rc = 0;
    if (u->children) {
        w.c = reader_cursor(u, u->children);
        rc = walk_children(&w, UINT32_MAX, false, 0);
    }
    range_table_sort(&u->by_address);
    return rc == -ENOEXEC ? 0 : rc; // what was found before it broke is good
}

int reader_unit_load(struct reader *r, struct reader_unit *u)
{
    if (u->is_loaded)
        return 0;
    u->is_loaded = true;
    int rc = reader_abbrevs(r, u);
    return rc ? rc : load(r, u, false);
}

void reader_unit_finish(struct reader_unit *u)
{
    range_table_finish(&u->by_address);
    free(u->functions);
    free(u->scopes);
}

// --- Below a function.

struct found {
    struct reader_node *nodes;
    size_t count, capacity;
    struct reader_node few[32];
};

static int add_child(struct reader *r, struct reader_unit *u, uint32_t die, const struct outline *o,
                     struct found *found)
{
    struct reader_node child = {.die = die, .kind = DWARF_BLOCK};
    if (o->tag == DW_TAG_inlined_subroutine)
        child.kind = DWARF_INLINED;
    else if (o->tag == DW_TAG_subprogram)
        child.kind = DWARF_FUNCTION;
    else if (!is_block(o->tag))
        return 0;
    int n = die_ranges(r, u, o, &child.low, &child.high, &child.pcs);
    if (n <= 0)
        return n;
    child.pcs_count = (uint32_t)n;
    if (found->count == found->capacity) {
        size_t capacity = 2 * found->capacity;
        bool first = found->nodes == found->few;
        struct reader_node *more = realloc(first ? NULL : found->nodes, capacity * sizeof *more);
        if (!more)
            return -ENOMEM;
        if (first)
            memcpy(more, found->few, sizeof found->few);
        found->nodes = more;
        found->capacity = capacity;
    }
    found->nodes[found->count++] = child;
    return 0;
}

static int find_children(struct reader *r, struct reader_unit *u, struct reader_node *n,
                         struct found *found)
{
    struct cursor c = reader_cursor(u, n->die);
    struct outline o;
    int rc = outline_read(u->abbrevs, &c, &o);
    if (rc || !o.has_children)
        return rc;
    while (c.at < c.end && found->count < CHILDREN_MAX) {
        uint32_t die = offset_of(u, c.at);
        rc = outline_read(u->abbrevs, &c, &o);
        if (rc || !o.code)
            return rc;
        rc = add_child(r, u, die, &o, found);
        if (!rc && o.has_children)
            rc = skip_children(u, &c, &o);
        if (rc)
            return rc;
    }
    return 0;
}

static int expand(struct reader *r, struct reader_unit *u, struct reader_node *n)
{
    struct found found;
    found.nodes = found.few;
    found.count = 0;
    found.capacity = sizeof found.few / sizeof found.few[0];
    n->is_expanded = true;
    int rc = find_children(r, u, n, &found);
    if (rc == -ENOEXEC)
        rc = 0;
    if (!rc && found.count) {
        n->children = arena_array(&r->arena, found.count, sizeof *n->children);
        if (n->children) {
            memcpy(n->children, found.nodes, found.count * sizeof *n->children);
            n->child_count = (uint32_t)found.count;
        } else {
            rc = -ENOMEM;
        }
    }
    if (found.nodes != found.few)
        free(found.nodes);
    return rc;
}

static bool holds(const struct reader_node *n, uint64_t address)
{
    if (address < n->low || address >= n->high)
        return false;
    for (uint32_t i = 0; n->pcs && i < n->pcs_count; i++)
        if (address >= n->pcs[i].low && address < n->pcs[i].high)
            return true;
    return !n->pcs;
}

static int child_at(struct reader *r, struct reader_unit *u, struct reader_node **n,
                    uint64_t address)
{
    struct reader_node *parent = *n;
    *n = NULL;
    int rc = parent->is_expanded ? 0 : expand(r, u, parent);
    for (uint32_t i = 0; i < parent->child_count && !*n; i++)
        if (holds(&parent->children[i], address))
            *n = &parent->children[i];
    return rc;
}

int reader_chain(struct reader *r, struct reader_unit *u, uint64_t address,
                 struct reader_node **chain, uint32_t max)
{
    uint32_t index = range_table_find(&u->by_address, address);
    if (index == UINT32_MAX && !u->is_deep) {
        // A member of a class local to a function, a nested function: inside that function's DIE.
        u->is_deep = true;
        int rc = load(r, u, true);
        if (rc)
            return rc;
        index = range_table_find(&u->by_address, address);
    }
    if (index == UINT32_MAX)
        return 0;
    uint32_t n = 0;
    struct reader_node *node = &u->functions[index];
    for (int depth = 0; node && depth < DEPTH_MAX && n < max; depth++) {
        if (node->kind == DWARF_FUNCTION)
            n = 0; // a function nested in another: the chain starts anew
        if (node->kind != DWARF_BLOCK)
            chain[n++] = node;
        int rc = child_at(r, u, &node, address);
        if (rc)
            return rc;
    }
    return (int)n;
}
