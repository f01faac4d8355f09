// SPDX-License-Identifier: MIT
//
// See tree.h.

#include "viewer/views/tree.h"

#include "analysis/graph.h"
#include "analysis/units.h"
#include "viewer/bindings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct table_column columns[TREE_COLUMNS] = {
    {"total", 11, false, false},
    {"total%", 8, false, false},
    {"self", 11, false, false},
    {"call", 0, true, false},
};

static bool has_room(struct tree *t, uint32_t more)
{
    if (t->row_count + more <= t->row_capacity)
        return true;
    uint32_t capacity = 2 * (t->row_count + more);
    uint32_t *rows = realloc(t->rows, capacity * sizeof *rows);
    if (!rows) {
        t->failed = true;
        return false;
    }
    t->rows = rows;
    t->row_capacity = capacity;
    return true;
}

static int by_total(const void *x, const void *y, void *nodes)
{
    const struct stacks_node *a = (const struct stacks_node *)nodes + *(const uint32_t *)x;
    const struct stacks_node *b = (const struct stacks_node *)nodes + *(const uint32_t *)y;
    if (a->total != b->total)
        return a->total > b->total ? -1 : 1;
    return *(const uint32_t *)x < *(const uint32_t *)y ? -1 : 1;
}

// Writes a node's children, lightest first, behind the n items of a stack.
static uint32_t push_children(const struct tree *t, uint32_t node, uint32_t *stack, uint32_t n)
{
    const struct stacks_node *nodes = t->model->stacks.nodes;
    uint32_t from = n;
    for (uint32_t c = nodes[node].first_child; c; c = nodes[c].next)
        stack[n++] = c;
    qsort_r(stack + from, n - from, sizeof *stack, by_total, t->model->stacks.nodes);
    for (uint32_t i = from, k = n; i + 1 < k; i++) {
        uint32_t light = stack[--k];
        stack[k] = stack[i];
        stack[i] = light;
    }
    return n;
}

// Each node is on the stack once at most, so that it never needs more room than there are nodes.
static void make_rows(struct tree *t)
{
    uint32_t *stack = calloc(t->model->stacks.count, sizeof *stack), n = 0;
    t->row_count = 0;
    if (!stack) {
        t->failed = true;
        return;
    }
    n = push_children(t, 0, stack, n);
    while (n && has_room(t, 1)) {
        uint32_t node = stack[--n];
        t->rows[t->row_count++] = node;
        if (t->open[node])
            n = push_children(t, node, stack, n);
    }
    free(stack);
}

int tree_init(struct tree *t, const struct profile_model *m)
{
    const struct stacks_node *nodes = m->stacks.nodes;
    *t = (struct tree){.model = m, .table = {.name = "tree", .sort = -1}};
    t->open = calloc(m->stacks.count, 1);
    if (!t->open)
        return -ENOMEM;
    // Open as far as there is one heavy path to follow.
    for (uint32_t at = 0;;) {
        uint32_t heaviest = 0;
        for (uint32_t c = nodes[at].first_child; c; c = nodes[c].next)
            heaviest = !heaviest || nodes[c].total > nodes[heaviest].total ? c : heaviest;
        if (!heaviest || nodes[heaviest].total < nodes[at].total / 2 + 1)
            break;
        t->open[heaviest] = nodes[heaviest].first_child != 0;
        at = heaviest;
    }
    make_rows(t);
    return t->failed ? -ENOMEM : 0;
}

void tree_finish(struct tree *t)
{
    free(t->open);
    free(t->rows);
    *t = (struct tree){0};
}

static uint32_t chosen_node(const struct tree *t)
{
    return t->table.chosen < t->row_count ? t->rows[t->table.chosen] : 0;
}

const char *tree_chosen(const struct tree *t)
{
    uint32_t node = chosen_node(t);
    return node ? t->model->stacks.nodes[node].name : NULL;
}

static void show_node(struct tree *t, uint32_t node)
{
    for (uint32_t i = 0; i < t->row_count; i++)
        if (t->rows[i] == node) {
            t->table.chosen = i;
            table_show(&t->table, i, -1);
            return;
        }
}

void tree_choose(struct tree *t, const char *label)
{
    const struct stacks *s = &t->model->stacks;
    uint32_t best = 0;
    if (!label || (chosen_node(t) && !strcmp(tree_chosen(t), label)))
        return;
    for (uint32_t i = 1; i < s->count; i++)
        if (!strcmp(s->nodes[i].name, label) && (!best || s->nodes[i].total > s->nodes[best].total))
            best = i;
    if (!best)
        return;
    for (uint32_t at = s->nodes[best].parent; at; at = s->nodes[at].parent)
        t->open[at] = true;
    make_rows(t);
    show_node(t, best);
}

static void cell(void *view, const struct ui *u, uint32_t row, int column, struct table_cell *out)
{
    const struct tree *t = view;
    const struct report *r = &t->model->report;
    uint32_t id = t->rows[row];
    const struct stacks_node *n = &t->model->stacks.nodes[id];
    bool compared = t->model->stacks.values == STACKS_COMPARED;
    int64_t total = t->model->stacks.nodes[0].total;
    switch (column) {
    case TREE_TOTAL: report_label(r, out->text, sizeof out->text, n->total); break;
    case TREE_SELF:
        report_label(r, out->text, sizeof out->text, n->self);
        out->color = n->self ? 0 : u->theme.dim;
        break;
    case TREE_TOTAL_SHARE:
        units_percent(out->text, sizeof out->text, n->total, total);
        memmove(out->text, out->text + strspn(out->text, " "), strlen(out->text) + 1);
        out->bar = total ? (double)n->total / (double)total : 0;
        out->bar_color =
            theme_mix(u->theme.ground,
                      compared ? theme_change(&u->theme, (int)stacks_step(n) - STACKS_SAME)
                               : u->theme.series[1],
                      0.35);
        break;
    default:
        snprintf(out->text, sizeof out->text, "%.490s%s", n->name, n->is_inline ? " (inline)" : "");
        out->indent = (int)n->depth - 1;
        out->fold = !n->first_child ? 0 : t->open[id] ? 1 : -1;
    }
}

static void toggle(struct tree *t, uint32_t node, bool open)
{
    if (!node || t->open[node] == open || (open && !t->model->stacks.nodes[node].first_child))
        return;
    t->open[node] = open;
    make_rows(t);
    show_node(t, node);
}

// Opens the heaviest path beneath a node.
static void descend(struct tree *t, uint32_t node)
{
    const struct stacks_node *nodes = t->model->stacks.nodes;
    while (node && nodes[node].first_child) {
        uint32_t heaviest = 0;
        t->open[node] = true;
        for (uint32_t c = nodes[node].first_child; c; c = nodes[c].next)
            heaviest = !heaviest || nodes[c].total > nodes[heaviest].total ? c : heaviest;
        node = heaviest;
    }
    make_rows(t);
    show_node(t, node);
}

unsigned tree_frame(struct tree *t, struct ui *u, struct rect r)
{
    uint32_t node = chosen_node(t), was = node;
    if (command_given(u, COMMAND_TREE_OPEN)) {
        if (node && t->open[node])
            table_show(&t->table, ++t->table.chosen, -1);
        else
            toggle(t, node, true);
        u->again = true;
    } else if (command_given(u, COMMAND_TREE_CLOSE)) {
        if (node && t->open[node])
            toggle(t, node, false);
        else if (node && t->model->stacks.nodes[node].parent)
            show_node(t, t->model->stacks.nodes[node].parent);
        u->again = true;
    } else if (command_given(u, COMMAND_TREE_PATH)) {
        descend(t, node);
        u->again = true;
    }
    unsigned did = table_frame(&t->table, u, r, columns, TREE_COLUMNS, t->row_count, cell, t);
    if (did & TABLE_OPENED) { // a double click, Enter
        node = chosen_node(t);
        toggle(t, node, node && !t->open[node]);
        u->again = true;
    }
    return did | (chosen_node(t) != was ? TABLE_CHOSE : 0);
}
