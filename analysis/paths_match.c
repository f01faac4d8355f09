// SPDX-License-Identifier: MIT
//
// Matching what shrank with what grew: renames first, as they are certain, then lost frames.
//
// Invariant: work is bounded whatever the profiles hold: at most LEFT_MAX paths of each side are
// looked at (the heaviest changes), pairs are dismissed by cheap looks first, and at most
// ALIGN_CELLS cells of alignment tables are filled in all. What stays unmatched is reported as it
// is, never silently dropped.

#include "analysis/paths_internal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEFT_MAX = 4096, ALIGN_DEPTH_MAX = 256, ROUNDS = 4, RENAMES_MAX = 1024 };
static const uint64_t ALIGN_CELLS = 50000000;

struct matcher {
    struct paths *p;
    struct paths_path **shrunk, **grown; // the heaviest change first
    size_t shrunk_count, grown_count;
    struct ptrtab base_names, new_names; // keys that occur in each build
    uint64_t cells;
    struct paths_path **near;
};

static uint32_t root_of(struct paths *p, uint32_t i)
{
    while (p->paths[i]->parent != i) {
        p->paths[i]->parent = p->paths[p->paths[i]->parent]->parent;
        i = p->paths[i]->parent;
    }
    return i;
}

static double change(const struct paths_path *x)
{
    return fabs(x->now - x->base);
}

static int by_change(const void *a, const void *b)
{
    const struct paths_path *x = *(struct paths_path *const *)a,
                            *y = *(struct paths_path *const *)b;
    if (change(x) != change(y))
        return change(x) < change(y) ? 1 : -1;
    return (x->group > y->group) - (x->group < y->group); // first come: the same in every run
}

static bool equal_pointer(const void *item, const void *key)
{
    return item == key;
}

static bool has_name(const struct ptrtab *t, const char *key)
{
    return ptrtab_find(t, ptrtab_mix(5, (uintptr_t)key), equal_pointer, key) != NULL;
}

static int note_names(struct ptrtab *t, const struct paths_path *x)
{
    for (uint32_t i = 0; i < x->depth; i++) {
        if (!has_name(t, x->keys[i]) &&
            ptrtab_add(t, ptrtab_mix(5, (uintptr_t)x->keys[i]), x->keys[i]))
            return -ENOMEM;
    }
    return 0;
}

static bool known_rename(const struct paths *p, const char *was, const char *now)
{
    for (size_t i = 0; i < p->rename_count; i++) {
        if (p->renames[i].was == was && p->renames[i].now == now)
            return true;
    }
    return false;
}

// Whether the two paths are one but for names: all known renames and at most one more, which *was
// and *now then say (NULL: none).
static bool differs_by_name(const struct paths *p, const struct paths_path *a,
                            const struct paths_path *b, const char **was, const char **now)
{
    *was = *now = NULL;
    if (a->depth != b->depth)
        return false;
    for (uint32_t i = 0; i < a->depth; i++) {
        const char *x = a->keys[i], *y = b->keys[i];
        if (x == y || (x == *was && y == *now) || known_rename(p, x, y))
            continue;
        if (*was || x[0] == '[' || y[0] == '[')
            return false;
        *was = x;
        *now = y;
    }
    return true;
}

static void unite(struct matcher *m, struct paths_path *a, struct paths_path *b)
{
    struct paths *p = m->p;
    uint32_t x = root_of(p, a->group), y = root_of(p, b->group);
    if (x != y)
        p->paths[y]->parent = x;
}

// A removed and an added path of one value whose callers and callees are the same, or, whatever the
// values, one that a rename seen elsewhere explains.
static void match_renames(struct matcher *m, bool by_known)
{
    struct paths *p = m->p;
    for (size_t i = 0; i < m->shrunk_count; i++) {
        struct paths_path *a = m->shrunk[i];
        for (size_t j = 0; a && a->now == 0 && j < m->grown_count; j++) {
            struct paths_path *b = m->grown[j];
            const char *was, *now;
            if (!b || b->base != 0 || b->depth != a->depth || (!by_known && b->now != a->base) ||
                !differs_by_name(p, a, b, &was, &now) || (by_known && was))
                continue;
            if (was && p->rename_count < RENAMES_MAX)
                p->renames[p->rename_count++] = (struct paths_rename){was, now};
            unite(m, a, b);
            m->shrunk[i] = m->grown[j] = a = NULL;
        }
    }
}

static bool is_subsequence(const struct paths_path *small, const struct paths_path *large)
{
    uint32_t at = 0;
    if (small->mark & ~large->mark)
        return false;
    for (uint32_t i = 0; i < large->depth && at < small->depth; i++)
        at += large->keys[i] == small->keys[at];
    return at == small->depth;
}

// How many frames a longest common subsequence has; in_a and in_b mark them.
static uint32_t align(const struct paths_path *a, const struct paths_path *b, bool *in_a,
                      bool *in_b)
{
    static _Thread_local uint16_t table[ALIGN_DEPTH_MAX + 1][ALIGN_DEPTH_MAX + 1];
    for (uint32_t i = 0; i <= a->depth; i++) {
        for (uint32_t j = 0; j <= b->depth; j++) {
            if (!i || !j)
                table[i][j] = 0;
            else if (a->keys[i - 1] == b->keys[j - 1])
                table[i][j] = (uint16_t)(table[i - 1][j - 1] + 1);
            else
                table[i][j] = table[i - 1][j] > table[i][j - 1] ? table[i - 1][j] : table[i][j - 1];
        }
    }
    memset(in_a, 0, a->depth);
    memset(in_b, 0, b->depth);
    for (uint32_t i = a->depth, j = b->depth; i && j;) {
        if (a->keys[i - 1] == b->keys[j - 1])
            in_a[--i] = in_b[--j] = true;
        else if (table[i - 1][j] >= table[i][j - 1])
            i--;
        else
            j--;
    }
    return table[a->depth][b->depth];
}

// Whether frames of x that are not common can be explained by the other build not knowing them: it
// has no name for the code, or the function occurs nowhere in it.
static bool are_lost(const struct paths_path *x, const bool *common, const struct ptrtab *other,
                     bool *any_named)
{
    for (uint32_t i = 0; i < x->depth; i++) {
        if (common[i] || x->keys[i][0] == '[')
            continue;
        *any_named = true;
        if (has_name(other, x->keys[i]))
            return false;
    }
    return true;
}

// Whether a (base) and b (new) can be one path of which a build lost frames.
static bool are_alike(struct matcher *m, const struct paths_path *a, const struct paths_path *b)
{
    const struct paths_path *small = a->depth < b->depth ? a : b, *large = small == a ? b : a;
    bool in_a[ALIGN_DEPTH_MAX], in_b[ALIGN_DEPTH_MAX], lost_a = false, lost_b = false;
    if (!small->depth || 2 * small->depth < large->depth)
        return false;
    if (is_subsequence(small, large))
        return true;
    // What is not common must be lost, on both sides.
    if (!a->unknown || !b->unknown || large->depth > ALIGN_DEPTH_MAX ||
        m->cells < (uint64_t)a->depth * b->depth)
        return false;
    m->cells -= (uint64_t)a->depth * b->depth;
    uint32_t common = align(a, b, in_a, in_b);
    // Named frames that only one side has are inlined away in the other; on both sides they would
    // be different code.
    return 3 * common >= 2 * small->depth && are_lost(a, in_a, &m->new_names, &lost_a) &&
           are_lost(b, in_b, &m->base_names, &lost_b) && !(lost_a && lost_b);
}

// Unites x with those of others[0..count) that are alike, if together they changed by about as much
// in the other direction; else with the one of them that did.
static void match_lost_frames(struct matcher *m, struct paths_path **x, struct paths_path **others,
                              size_t count, bool x_is_base)
{
    double sum = 0, want = change(*x);
    size_t found = 0, single = SIZE_MAX;
    for (size_t i = 0; i < count; i++) {
        struct paths_path *o = others[i];
        m->near[i] = NULL;
        if (!o || !are_alike(m, x_is_base ? *x : o, x_is_base ? o : *x))
            continue;
        m->near[i] = o;
        sum += change(o);
        found++;
        if (single == SIZE_MAX || fabs(change(o) - want) < fabs(change(others[single]) - want))
            single = i;
    }
    if (!found)
        return;
    bool all = sum >= want / 2 && sum <= 2 * want;
    double one = change(others[single]);
    if (!all && !(one >= want / 2 && one <= 2 * want))
        return;
    for (size_t i = 0; i < count; i++) {
        if (!m->near[i] || (!all && i != single))
            continue;
        unite(m, *x, others[i]);
        others[i] = NULL;
    }
    *x = NULL;
}

static uint32_t count_unknown(const struct paths_path *x, const struct ptrtab *other)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < x->depth; i++)
        n += x->keys[i][0] == '[' || !has_name(other, x->keys[i]);
    return n;
}

static int prepare(struct matcher *m)
{
    struct paths *p = m->p;
    size_t n = p->path_count;
    m->shrunk = calloc(n + 1, sizeof(struct paths_path *));
    m->grown = calloc(n + 1, sizeof(struct paths_path *));
    m->near = calloc(n + 1, sizeof(struct paths_path *));
    p->renames = arena_array(&p->arena, RENAMES_MAX, sizeof *p->renames);
    if (!m->shrunk || !m->grown || !m->near || !p->renames)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        struct paths_path *x = p->paths[i];
        x->group = (uint32_t)i;
        if (x->now < x->base)
            m->shrunk[m->shrunk_count++] = x;
        else if (x->now > x->base)
            m->grown[m->grown_count++] = x;
        if ((x->base != 0 && note_names(&m->base_names, x)) ||
            (x->now != 0 && note_names(&m->new_names, x)))
            return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        struct paths_path *x = p->paths[i];
        for (uint32_t k = 0; k < x->depth; k++)
            x->mark |= UINT64_C(1) << (ptrtab_mix(7, (uintptr_t)x->keys[k]) & 63);
        x->unknown = count_unknown(x, x->now < x->base ? &m->new_names : &m->base_names);
    }
    qsort(m->shrunk, m->shrunk_count, sizeof(struct paths_path *), by_change);
    qsort(m->grown, m->grown_count, sizeof(struct paths_path *), by_change);
    m->shrunk_count = m->shrunk_count < LEFT_MAX ? m->shrunk_count : LEFT_MAX;
    m->grown_count = m->grown_count < LEFT_MAX ? m->grown_count : LEFT_MAX;
    m->cells = ALIGN_CELLS;
    return 0;
}

// What a group of several paths came from: a rename if all of its members have one depth.
static void describe_group(struct paths *p, struct paths_group *g)
{
    const struct paths_path *a = g->before, *b = g->path;
    g->state = PATHS_MOVED;
    if (!a || a->depth != b->depth)
        return;
    for (uint32_t i = 0; i < a->depth; i++) {
        if (a->keys[i] == b->keys[i])
            continue;
        if (!known_rename(p, a->keys[i], b->keys[i]))
            return;
        g->was = a->keys[i];
        g->now = b->keys[i];
    }
    g->state = PATHS_RENAMED;
}

static void add_to_group(struct paths *p, struct paths_group *g, struct paths_path *x,
                         size_t *members)
{
    for (size_t r = 0; r < p->runs; r++) {
        if (__builtin_add_overflow(g->values[r], x->values[r], &g->values[r]))
            g->values[r] = x->values[r] < 0 ? INT64_MIN : INT64_MAX;
    }
    bool better = !g->path || (x->now != 0) > (g->path->now != 0) ||
                  ((x->now != 0) == (g->path->now != 0) && change(x) > change(g->path));
    if (better)
        g->path = x;
    if (x->base != 0 && (!g->before || change(x) > change(g->before)))
        g->before = x;
    ++*members;
}

static int make_groups(struct paths *p)
{
    size_t n = p->path_count;
    size_t *members = calloc(n + 1, sizeof *members);
    uint32_t *index = calloc(n + 1, sizeof *index);
    p->groups = arena_array(&p->arena, n + 1, sizeof *p->groups);
    int rc = members && index && p->groups ? 0 : -ENOMEM;
    for (size_t i = 0; i < n && !rc; i++) {
        uint32_t root = root_of(p, (uint32_t)i);
        if (!index[root])
            index[root] = (uint32_t)++p->group_count;
        struct paths_group *g = &p->groups[index[root] - 1];
        if (!g->values)
            g->values = arena_array(&p->arena, p->runs + 1, sizeof *g->values);
        if (!g->values)
            rc = -ENOMEM;
        else
            add_to_group(p, g, p->paths[i], &members[index[root] - 1]);
    }
    for (size_t i = 0; i < n && !rc; i++)
        p->paths[i]->group = index[root_of(p, (uint32_t)i)] - 1;
    for (size_t i = 0; i < p->group_count && !rc; i++) {
        struct paths_group *g = &p->groups[i];
        if (members[i] > 1)
            describe_group(p, g);
        else
            g->state = (g->path->base == 0) == (g->path->now == 0) ? PATHS_SAME
                       : g->path->base == 0                        ? PATHS_NEW
                                                                   : PATHS_GONE;
    }
    free(index);
    free(members);
    return rc;
}

int paths_match(struct paths *p)
{
    struct matcher m = {.p = p};
    int rc = prepare(&m);
    for (int round = 0; round < ROUNDS && !rc; round++) {
        size_t before = p->rename_count;
        match_renames(&m, false);
        match_renames(&m, true);
        if (p->rename_count == before)
            break;
    }
    for (size_t i = 0; i < m.grown_count && !rc; i++) {
        if (m.grown[i])
            match_lost_frames(&m, &m.grown[i], m.shrunk, m.shrunk_count, false);
    }
    for (size_t i = 0; i < m.shrunk_count && !rc; i++) {
        if (m.shrunk[i])
            match_lost_frames(&m, &m.shrunk[i], m.grown, m.grown_count, true);
    }
    if (!rc)
        rc = make_groups(p);
    ptrtab_finish(&m.base_names);
    ptrtab_finish(&m.new_names);
    free(m.shrunk);
    free(m.grown);
    free(m.near);
    return rc;
}
