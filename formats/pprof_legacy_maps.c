// SPDX-License-Identifier: MIT
//
// Mappings from the lines of /proc/PID/maps that end an older profile, and what google/pprof does
// to them: pieces of one file are joined, the main binary goes first, and code outside of any
// mapping gets a made-up one.

#include "formats/pprof_legacy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool legacy_is_maps_heading(struct span line)
{
    return span_contains(line, "MAPPED_LIBRARIES:") || span_contains(line, "--- Memory map: ---");
}

// START-END PERM OFFSET MAJOR:MINOR INODE [FILE]
struct map_line {
    uint64_t start, limit, offset;
    bool executable;
    struct span file;
};

static bool parse_line(struct span s, struct map_line *m)
{
    uint64_t ignored;
    *m = (struct map_line){0};
    take_spaces(&s);
    take_text(&s, "0x");
    if (!take_hex(&s, &m->start) || !take_char(&s, '-'))
        return false;
    take_text(&s, "0x");
    if (!take_hex(&s, &m->limit))
        return false;
    take_char(&s, ':');
    take_spaces(&s);
    size_t n = 0;
    for (; n < s.n && memchr("-rwxsp", s.s[n], 6); n++)
        m->executable |= s.s[n] == 'x';
    // Short forms without permissions list code only.
    m->executable |= n == 0;
    s.s += n;
    s.n -= n;
    take_spaces(&s);
    struct span rest = s;
    if (take_hex(&rest, &m->offset) && rest.n && rest.s[0] == ' ') {
        take_spaces(&rest);
        if (take_hex(&rest, &ignored) && take_char(&rest, ':') && take_hex(&rest, &ignored)) {
            take_spaces(&rest);
            if (take_decimal(&rest, &ignored))
                s = rest;
        }
    }
    m->file = span_trim(s);
    static const char deleted[] = " (deleted)";
    size_t d = sizeof deleted - 1;
    if (m->file.n > d && memcmp(m->file.s + m->file.n - d, deleted, d) == 0)
        m->file.n -= d;
    return true;
}

static bool differ(const char *a, const char *b)
{
    return a[0] && b[0] && strcmp(a, b) != 0;
}

// Whether b goes on where a ends, in the file as in memory.
static bool adjacent(const struct pprof_mapping *a, const struct pprof_mapping *b)
{
    if (differ(a->file, b->file) || a->limit != b->start)
        return false;
    return !a->offset || !b->offset || a->offset + (a->limit - a->start) == b->offset;
}

static int read_lines(struct legacy *g)
{
    struct pprof_profile *p = g->p;
    while (text_next(&g->text)) {
        struct map_line line;
        if (!parse_line(g->text.line, &line) || !line.executable)
            continue;
        const char *file = pprof_stringn(p, line.file.s, line.file.n);
        if (!file)
            return legacy_no_memory(g);
        struct pprof_mapping m = {
            .start = line.start, .limit = line.limit, .offset = line.offset, .file = file};
        struct pprof_mapping *before = p->mapping_count ? p->mappings[p->mapping_count - 1] : NULL;
        if (before && adjacent(before, &m)) {
            before->limit = m.limit;
            before->file = file[0] ? file : before->file;
        } else if (!pprof_add_mapping(p, m.start, m.limit, m.offset, file, "")) {
            return legacy_no_memory(g);
        }
    }
    return 0;
}

// "x.so", "x.so.1", "x.so_1"
static bool is_library(const char *file)
{
    for (const char *so = strstr(file, ".so"); so; so = strstr(so + 1, ".so")) {
        if (so[3] == '\0')
            return true;
        if ((so[3] == '.' || so[3] == '_') && so[4] >= '0' && so[4] <= '9')
            return true;
    }
    return false;
}

static void main_binary_first(struct pprof_profile *p)
{
    for (size_t i = 0; i < p->mapping_count; i++) {
        struct pprof_mapping *m = p->mappings[i];
        if (!m->file[0] || m->file[0] == '[' || is_library(m->file))
            continue;
        p->mappings[i] = p->mappings[0];
        p->mappings[0] = m;
        break;
    }
    if (p->mapping_count > 1 && strncmp(p->mappings[0]->file, "/anon_hugepage", 14) == 0 &&
        p->mappings[0]->limit == p->mappings[1]->start) {
        p->mapping_count--;
        memmove(p->mappings, p->mappings + 1, p->mapping_count * sizeof(struct pprof_mapping *));
    }
    const uint64_t usual_start = 0x400000;
    if (p->mapping_count && p->mappings[0]->start - p->mappings[0]->offset == usual_start) {
        p->mappings[0]->start = usual_start;
        p->mappings[0]->offset = 0;
    }
}

static int by_start(const void *x, const void *y)
{
    const struct pprof_mapping *a = *(struct pprof_mapping *const *)x;
    const struct pprof_mapping *b = *(struct pprof_mapping *const *)y;
    return (a->start > b->start) - (a->start < b->start);
}

static struct pprof_mapping *find(struct pprof_mapping **sorted, size_t n, uint64_t address)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (sorted[middle]->start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low && address < sorted[low - 1]->limit)
        return sorted[low - 1];
    // Some writers leave out the first part of a split mapping.
    if (low < n && sorted[low]->offset && sorted[low]->offset <= sorted[low]->start &&
        sorted[low]->start - sorted[low]->offset <= address) {
        sorted[low]->start -= sorted[low]->offset;
        sorted[low]->offset = 0;
        return sorted[low];
    }
    return NULL;
}

static int assign(struct pprof_profile *p)
{
    size_t n = p->mapping_count;
    struct pprof_mapping *made_up = NULL;
    struct pprof_mapping **sorted = calloc(n + 1, sizeof(struct pprof_mapping *));
    if (!sorted)
        return -ENOMEM;
    if (n)
        memcpy(sorted, p->mappings, n * sizeof(struct pprof_mapping *));
    qsort(sorted, n, sizeof(struct pprof_mapping *), by_start);
    int rc = 0;
    for (size_t i = 0; i < p->location_count && !rc; i++) {
        struct pprof_location *l = p->locations[i];
        if (l->mapping || l->address == 0)
            continue;
        l->mapping = find(sorted, n, l->address);
        if (l->mapping)
            continue;
        if (!made_up)
            made_up = pprof_add_mapping(p, 0, UINT64_MAX, 0, "", "");
        l->mapping = made_up;
        rc = made_up ? 0 : -ENOMEM;
    }
    free(sorted);
    return rc;
}

// Locations in the order in which samples use them; those that none uses any more go.
static int order_locations(struct pprof_profile *p)
{
    struct pprof_location **table =
        arena_array(&p->arena, p->location_count + 1, sizeof(struct pprof_location *));
    if (!table)
        return -ENOMEM;
    for (size_t i = 0; i < p->location_count; i++)
        p->locations[i]->id = 0;
    size_t n = 0;
    for (size_t i = 0; i < p->sample_count; i++)
        for (uint32_t j = 0; j < p->samples[i]->location_count; j++) {
            struct pprof_location *l = p->samples[i]->locations[j];
            if (l->id)
                continue;
            table[n++] = l;
            l->id = n;
        }
    p->location_capacity = p->location_count + 1;
    p->locations = table;
    p->location_count = n;
    return 0;
}

int legacy_maps(struct legacy *g)
{
    int rc = read_lines(g);
    if (rc)
        return rc;
    main_binary_first(g->p);
    rc = order_locations(g->p);
    if (!rc)
        rc = assign(g->p);
    pprof_reindex(g->p);
    return rc ? legacy_no_memory(g) : 0;
}
