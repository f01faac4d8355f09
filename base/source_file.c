// SPDX-License-Identifier: MIT
//
// See source_file.h.

#include "base/source_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SOURCE_BYTES_MAX = 64 << 20 };

// A file, NUL behind it. 0 or -errno.
static int read_whole(const char *path, char **content, size_t *size)
{
    struct stat st;
    int rc = 0, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st))
        rc = -errno;
    else if (!S_ISREG(st.st_mode) || st.st_size > SOURCE_BYTES_MAX)
        rc = -EINVAL;
    char *text = rc ? NULL : malloc((size_t)st.st_size + 1);
    size_t n = 0;
    if (!rc && !text)
        rc = -ENOMEM;
    while (!rc && n < (size_t)st.st_size) {
        ssize_t got = read(fd, text + n, (size_t)st.st_size - n);
        if (got < 0)
            rc = -errno;
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    close(fd);
    if (rc) {
        free(text);
        return rc;
    }
    text[n] = 0;
    *content = text;
    *size = n;
    return 0;
}

// Its ends in one folder, the longest first.
static int read_end(const char *folder, int folder_length, const char *path, char **content,
                    size_t *size)
{
    char full[PATH_MAX];
    for (const char *end = path; end; end = strchr(end, '/')) {
        end += *end == '/';
        if (snprintf(full, sizeof full, "%.*s/%s", folder_length, folder, end) >= PATH_MAX)
            continue;
        int rc = read_whole(full, content, size);
        if (!rc || rc == -ENOMEM)
            return rc;
    }
    return -ENOENT;
}

static int find(const char *path, const char *search, char **content, size_t *size)
{
    int rc = read_whole(path, content, size);
    for (const char *folder = search; rc && rc != -ENOMEM && *folder;) {
        size_t n = strcspn(folder, ":");
        if (n && n < PATH_MAX)
            rc = read_end(folder, (int)n, path, content, size);
        folder += n + (folder[n] == ':');
    }
    return rc;
}

static int split(char *content, size_t size, char ***lines, uint32_t *count)
{
    uint32_t n = 0;
    for (size_t i = 0; i < size; i++)
        n += content[i] == '\n';
    n += size && content[size - 1] != '\n';
    char **all = calloc((size_t)n + 1, sizeof *all);
    if (!all)
        return -ENOMEM;
    char *at = content;
    for (uint32_t i = 0; i < n; i++) {
        char *end = memchr(at, '\n', size - (size_t)(at - content));
        all[i] = at;
        if (!end)
            break;
        *end = 0;
        if (end > at && end[-1] == '\r')
            end[-1] = 0;
        at = end + 1;
    }
    *lines = all;
    *count = n;
    return 0;
}

int source_read(const char *path, const char *search, char **content, char ***lines,
                uint32_t *count, char *missing, size_t missing_size)
{
    size_t size = 0;
    *content = NULL;
    *lines = NULL;
    *count = 0;
    *missing = 0;
    if (!*path) {
        snprintf(missing, missing_size, "the profile names no file for it");
        return -ENOENT;
    }
    int rc = find(path, search, content, &size);
    if (!rc)
        rc = split(*content, size, lines, count);
    if (!rc)
        return 0;
    free(*content);
    *content = NULL;
    if (rc == -ENOMEM)
        return rc;
    snprintf(missing, missing_size, "no source: looked for %.400s%s%.120s", path,
             *search ? ", and for ends of that path in " : "", search);
    return -ENOENT;
}
