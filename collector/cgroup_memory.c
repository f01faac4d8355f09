// SPDX-License-Identifier: MIT
//
// See cgroup_memory.h.

#include "collector/cgroup_memory.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Version 1 writes no "max", but the greatest number of whole pages.
#define V1_UNLIMITED (UINT64_C(1) << 62)

struct place {
    char folder[PATH_MAX];
    size_t root_length; // of the controller's root, where the way up ends
    bool is_v1;
};

static bool read_number(const struct place *p, const char *name, uint64_t *out)
{
    char path[PATH_MAX + 64], text[32], *end;
    snprintf(path, sizeof path, "%s/%s", p->folder, name);
    FILE *f = fopen(path, "re");
    bool ok = f && fgets(text, sizeof text, f) && text[0] >= '0' && text[0] <= '9';
    if (f)
        fclose(f);
    if (ok) // "max" is no number
        *out = strtoull(text, &end, 10);
    return ok;
}

static bool read_pair(const struct place *p, uint64_t *limit, uint64_t *current, bool *has_limit)
{
    *has_limit = read_number(p, p->is_v1 ? "memory.limit_in_bytes" : "memory.max", limit) &&
                 !(p->is_v1 && *limit >= V1_UNLIMITED);
    return read_number(p, p->is_v1 ? "memory.usage_in_bytes" : "memory.current", current);
}

static bool set_place(struct place *p, const char *root, const char *below, const char *path,
                      size_t size, bool is_v1)
{
    // A group that lies outside of our namespace is told as /../x: of it only the root can be seen.
    if (size == 1 || memmem(path, size, "/..", 3))
        size = 0;
    int n = snprintf(p->folder, sizeof p->folder, "%s%s", root, below);
    if (n < 0 || (size_t)n + size >= sizeof p->folder)
        return false;
    p->root_length = (size_t)n;
    p->is_v1 = is_v1;
    memcpy(p->folder + n, path, size);
    p->folder[(size_t)n + size] = '\0';
    return true;
}

// Whether the list of controllers, which ends at a colon, has "memory".
static bool has_memory(const char *list, size_t size)
{
    for (size_t n; size; list += n, size -= n) {
        const char *comma = memchr(list, ',', size);
        n = comma ? (size_t)(comma - list) : size;
        if (n == 6 && memcmp(list, "memory", 6) == 0)
            return true;
        n += comma != NULL;
    }
    return false;
}

// A line is "ID:CONTROLLERS:PATH"; of version 2 "0::PATH". Where both are, version 1 has the controller.
static bool find(struct place *p, const char *memberships, const char *root)
{
    bool is_found = false;
    for (const char *line = memberships; *line; line += line[strcspn(line, "\n")] != '\0') {
        size_t size = strcspn(line, "\n");
        const char *list = memchr(line, ':', size);
        const char *path = list ? memchr(list + 1, ':', size - (size_t)(list + 1 - line)) : NULL;
        size_t length = path ? size - (size_t)(path + 1 - line) : 0;
        if (path && has_memory(list + 1, (size_t)(path - list - 1)))
            return set_place(p, root, "/memory", path + 1, length, true);
        if (path && path == list + 1 && list == line + 1 && *line == '0')
            is_found = set_place(p, root, "", path + 1, length, false);
        line += size;
    }
    return is_found;
}

void cgroup_memory_read(struct cgroup_memory *out, const char *memberships, const char *root)
{
    struct place p;
    *out = (struct cgroup_memory){0};
    if (!find(&p, memberships, root))
        return;
    bool is_own = true;
    for (;;) {
        uint64_t limit = 0, current = 0;
        bool has_limit;
        bool ok = read_pair(&p, &limit, &current, &has_limit);
        if (ok && is_own) {
            out->has_current = true;
            out->current = current;
        }
        uint64_t left = limit > current ? limit - current : 0;
        if (ok && has_limit && (!out->has_limit || left < out->headroom)) {
            out->has_limit = true;
            out->limit = limit;
            out->headroom = left;
        }
        is_own = false;
        char *slash = strrchr(p.folder + p.root_length, '/');
        if (!slash)
            return;
        *slash = '\0';
    }
}
