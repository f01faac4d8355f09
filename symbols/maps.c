// SPDX-License-Identifier: MIT
//
// Text maps: /tmp/perf-PID.map ("START SIZE NAME", hex, what JITs write) and /proc/kallsyms
// ("ADDRESS TYPE NAME [MODULE]").
//
// A JIT's map is written by the target, whom we do not trust, and perhaps while we read: a line that
// does not parse is left out. Later lines win, because JITs reuse addresses.

#include "symbols/internal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAP_BYTES_MAX = 256 << 20, MAP_LINES_MAX = 1 << 22 };

static int compare_by_address(const void *a, const void *b)
{
    const struct symbol *x = a, *y = b;
    if (x->low != y->low)
        return x->low < y->low ? -1 : 1;
    return 0;
}

static const char *line_text(struct symbols_image *im, const char *begin, const char *end)
{
    while (end > begin && isspace((unsigned char)end[-1]))
        end--;
    if (begin == end || end - begin > 4096)
        return NULL;
    return arena_strndup(&im->owner->arena, begin, (size_t)(end - begin));
}

static int perf_line(struct symbols_image *im, const char *p, const char *end)
{
    char *after;
    errno = 0;
    uint64_t start = strtoull(p, &after, 16);
    if (after == p || after >= end || *after != ' ' || errno)
        return 0;
    p = after;
    uint64_t size = strtoull(p, &after, 16);
    if (after == p || after >= end || *after != ' ' || errno || size > UINT64_MAX - start || !size)
        return 0;
    const char *name = line_text(im, after + 1, end);
    if (!name)
        return 0;
    struct symbol s = {.low = start, .high = start + size, .name = name, .is_sized = true};
    return symtab_add(&im->symtab, &s);
}

static int kernel_line(struct symbols_image *im, const char *p, const char *end)
{
    char *after;
    uint64_t start = strtoull(p, &after, 16);
    if (after == p || end - after < 4 || *after != ' ' || !start)
        return 0;
    char type = after[1];
    if (type != 't' && type != 'T' && type != 'w' && type != 'W')
        return 0;
    const char *name_end = after + 3;
    while (name_end < end && !isspace((unsigned char)*name_end))
        name_end++;
    const char *name = line_text(im, after + 3, name_end);
    if (!name || !strncmp(name, "__pfx_", 6)) // padding before a function, not code
        return 0;
    struct symbol s = {.low = start,
                       .high = start,
                       .name = name,
                       .rank = type == 'T'   ? 3
                               : type == 't' ? 2
                                             : 1};
    return symtab_add(&im->symtab, &s);
}

// The whole file, however its size is reported (0 in /proc); NUL-terminated.
static int read_text(int fd, char **out, size_t *size)
{
    size_t capacity = 1 << 20, used = 0;
    char *text = malloc(capacity + 1);
    if (!text)
        return -ENOMEM;
    for (;;) {
        ssize_t n = read(fd, text + used, capacity - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int rc = -errno;
            free(text);
            return rc;
        }
        used += (size_t)n;
        if (n == 0 || used >= MAP_BYTES_MAX)
            break;
        if (used == capacity) {
            char *more = realloc(text, 2 * capacity + 1);
            if (!more) {
                free(text);
                return -ENOMEM;
            }
            text = more;
            capacity *= 2;
        }
    }
    text[used] = '\0';
    *out = text;
    *size = used;
    return 0;
}

// Overlaps are cut where the next symbol begins; of equal starts the later line stays.
static void settle(struct symtab *t)
{
    if (!t->count)
        return;
    // qsort of glibc 2.36 is a stable merge sort for sizes that fit in memory; where it is not, order
    // among equal starts is lost, which costs a stale name at worst.
    qsort(t->symbols, t->count, sizeof *t->symbols, compare_by_address);
    size_t kept = 0;
    for (size_t i = 0; i < t->count; i++) {
        if (i + 1 < t->count && t->symbols[i + 1].low == t->symbols[i].low)
            continue;
        t->symbols[kept++] = t->symbols[i];
    }
    t->count = kept;
    for (size_t i = 0; i + 1 < kept; i++)
        if (t->symbols[i].high > t->symbols[i + 1].low)
            t->symbols[i].high = t->symbols[i + 1].low;
}

int map_read(struct symbols_image *im, const char *path, bool is_kernel, struct fscope_error *err)
{
    // The target may have put a FIFO there, or a link to something that we may read and it may not.
    int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | (is_kernel ? 0 : O_NOFOLLOW);
    int fd = open(path, flags);
    if (fd < 0)
        return error_set(err, -errno, 0, "%s: %s", path, strerror(errno));
    struct stat st;
    char *text = NULL;
    size_t size = 0;
    int rc = fstat(fd, &st) ? -errno : S_ISREG(st.st_mode) ? 0 : -EINVAL;
    if (!rc)
        rc = read_text(fd, &text, &size);
    close(fd);
    if (rc)
        return error_set(err, rc, 0, "%s: %s", path, strerror(-rc));
    const char *p = text, *end = text + size;
    for (size_t lines = 0; p < end && lines < MAP_LINES_MAX && !rc; lines++) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        if (!eol)
            eol = end;
        rc = is_kernel ? kernel_line(im, p, eol) : perf_line(im, p, eol);
        p = eol + 1;
    }
    free(text);
    if (rc)
        return error_set(err, rc, 0, "%s: out of memory", path);
    if (is_kernel)
        symtab_sort(&im->symtab);
    else
        settle(&im->symtab);
    if (is_kernel && !im->symtab.count)
        return error_set(err, -EACCES, 0,
                         "%s: shows no addresses to this user (set kernel.kptr_restrict to 0, or "
                         "run as root)",
                         path);
    return 0;
}
