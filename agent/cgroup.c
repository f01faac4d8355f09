// SPDX-License-Identifier: MIT
//
// See cgroup.h.

#include "agent/cgroup.h"

#include "agent/arch/x86_64.h"

#include <fcntl.h>
#include <string.h>

// Version 1 writes no "max", but the greatest number of whole pages.
#define V1_UNLIMITED (UINT64_C(1) << 62)

void cgroup_read_text(const char *path, char *text, size_t size)
{
    long n = -1, fd = sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd >= 0) {
        n = sys3(SYS_read, fd, text, size - 1);
        sys1(SYS_close, fd);
    }
    text[n > 0 ? n : 0] = '\0';
}

static bool set_folder(struct cgroup *g, const char *root, const char *controller, const char *path)
{
    size_t r = strlen(root), c = strlen(controller), n = strcspn(path, "\n");
    if (n == 1)
        n = 0; // the root itself
    if (r + c + n > sizeof g->folder - 32)
        return false; // no room for the names of its files
    memcpy(g->folder, root, r);
    memcpy(g->folder + r, controller, c);
    memcpy(g->folder + r + c, path, n);
    g->folder[r + c + n] = '\0';
    g->root_length = r + c;
    return true;
}

// Whether the list of controllers, which ends at a colon, has "memory".
static bool has_memory(const char *list)
{
    for (size_t n; *list && *list != ':' && *list != '\n'; list += n + (list[n] == ',')) {
        n = strcspn(list, ",:\n");
        if (n == 6 && !memcmp(list, "memory", 6))
            return true;
    }
    return false;
}

void cgroup_find(struct cgroup *g, const char *memberships, const char *root)
{
    *g = (struct cgroup){.folder = ""};
    // A line is "ID:CONTROLLERS:PATH"; of version 2 "0::PATH". Where both are, version 1 has the controller.
    for (const char *line = memberships; *line;) {
        const char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
        if (!path)
            return;
        if (has_memory(list + 1))
            g->is_v1 = set_folder(g, root, "/memory", path + 1);
        else if (!memcmp(line, "0::", 3) && !g->is_v1)
            set_folder(g, root, "", path + 1);
        line = path + strcspn(path, "\n");
        line += *line == '\n';
    }
}

static bool read_number(const char *folder, size_t length, const char *name, uint64_t *out)
{
    char path[CGROUP_PATH_BYTES + 32], text[32];
    memcpy(path, folder, length);
    memcpy(path + length, name, strlen(name) + 1);
    cgroup_read_text(path, text, sizeof text);
    uint64_t n = 0;
    if (text[0] < '0' || text[0] > '9')
        return false; // "max" is no number
    for (const char *p = text; *p >= '0' && *p <= '9'; p++)
        n = n * 10 + (uint64_t)(*p - '0');
    *out = n;
    return true;
}

bool cgroup_headroom(const struct cgroup *g, uint64_t *bytes)
{
    bool is_limited = false;
    size_t n = strlen(g->folder);
    while (n && n >= g->root_length) {
        uint64_t limit, used;
        if (read_number(g->folder, n, g->is_v1 ? "/memory.limit_in_bytes" : "/memory.max",
                        &limit) &&
            !(g->is_v1 && limit >= V1_UNLIMITED) &&
            read_number(g->folder, n, g->is_v1 ? "/memory.usage_in_bytes" : "/memory.current",
                        &used)) {
            uint64_t left = limit > used ? limit - used : 0;
            *bytes = is_limited && *bytes < left ? *bytes : left;
            is_limited = true;
        }
        if (n == g->root_length)
            break;
        while (n > g->root_length && g->folder[--n] != '/')
            ;
    }
    return is_limited;
}
