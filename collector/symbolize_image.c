// SPDX-License-Identifier: MIT
//
// See symbolize_image.h.

#include "collector/symbolize_image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096 };

// Addresses from here on are the kernel's on every x86-64 Linux.
static const uint64_t KERNEL_START = 0xffff800000000000u;

bool symbolize_is_anonymous(const char *file)
{
    return !*file || !strncmp(file, "//anon", 6) || !strncmp(file, "[anon", 5) ||
           !strncmp(file, "/memfd:", 7) || !strncmp(file, "/dev/zero", 9) ||
           !strcmp(file, "[heap]") || !strncmp(file, "[stack", 6);
}

static bool is_build_id(const char *id)
{
    size_t n = strlen(id);
    return n >= 8 && n <= 128 && n % 2 == 0 && strspn(id, "0123456789abcdef") == n;
}

// The pid that the target knows itself by: the last of NSpid. A JIT names its map by that.
static long inner_pid(pid_t pid)
{
    char path[64], line[256];
    long inner = pid;
    snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return inner;
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, "NSpid:", 6)) {
            const char *last = strrchr(line, '\t');
            if (last)
                inner = strtol(last + 1, NULL, 10);
            break;
        }
    fclose(f);
    return inner;
}

static int open_perf_map(struct symbols *s, const struct symbolize_source *m,
                         struct symbols_image **out, struct fscope_error *err)
{
    char path[PATH_BYTES];
    if (m->perf_map)
        return symbols_open_perf_map(s, out, m->perf_map, err);
    if (!m->pid)
        return error_set(err, -ENOENT, 0, "no file");
    snprintf(path, sizeof path, "/proc/%ld/root/tmp/perf-%ld.map", (long)m->pid, inner_pid(m->pid));
    if (!symbols_open_perf_map(s, out, path, err))
        return 0;
    snprintf(path, sizeof path, "%s/tmp/perf-%ld.map", m->root, (long)m->pid);
    return symbols_open_perf_map(s, out, path, err);
}

static int open_file(struct symbols *s, const struct symbolize_source *m,
                     struct symbols_image **out, struct fscope_error *err)
{
    static const char deleted[] = " (deleted)";
    const char *id = is_build_id(m->build_id) ? m->build_id : "";
    if (m->fd >= 0 && !symbols_open_fd(s, out, m->fd, m->file, id, err))
        return 0;
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s", m->file);
    size_t n = strlen(path);
    bool was_deleted = n > sizeof deleted - 1 && !strcmp(path + n - (sizeof deleted - 1), deleted);
    if (was_deleted)
        path[n - (sizeof deleted - 1)] = '\0';
    int rc;
    if (was_deleted && !*id)
        rc = error_set(err, -ESTALE, 0, "%s: was deleted, and its build id is not known", path);
    else
        rc = symbols_open_path(s, out, path, id, err);
    if (rc && *id && !symbols_open_build_id(s, out, id, NULL))
        rc = 0;
    return rc;
}

int symbolize_open_image(struct symbols *s, const struct symbolize_source *m,
                         struct symbols_image **out, bool *is_absolute, struct fscope_error *err)
{
    const char *file = m->file;
    int rc;
    *out = NULL;
    *is_absolute = false;
    if (!strncmp(file, "[kernel", 7) || !strncmp(file, "[guest.kernel", 13) ||
        m->start >= KERNEL_START) {
        *is_absolute = true;
        rc = symbols_open_kernel(s, out, NULL, err);
    } else if (!strcmp(file, "[vdso]") || !strncmp(file, "linux-vdso", 10)) {
        rc = symbols_open_vdso(s, out, is_build_id(m->build_id) ? m->build_id : "", err);
    } else if (symbolize_is_anonymous(file)) {
        // JIT code; a memfd may also hold a whole library.
        rc = file[0] == '/' ? open_file(s, m, out, err) : -ENOENT;
        if (rc) {
            *is_absolute = true;
            rc = open_perf_map(s, m, out, err);
        }
    } else {
        rc = open_file(s, m, out, err);
    }
    if (rc)
        *out = NULL;
    return rc;
}
