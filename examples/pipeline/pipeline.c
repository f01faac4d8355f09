// SPDX-License-Identifier: MIT
//
// Pipeline: cksum(1) of all files below a folder, in stages that channels connect.
//
//     walk --paths--> digest (as many as processors, times 4) --sums--> collect, sort, print
//
// What it shows: stages run beside each other and are as fast as the slowest; channels with little room keep memory
// bounded, whatever the folder holds. Reading a file blocks the thread, and the others get its processor
// meanwhile (fiberscope/io.h). The stages are tasks of one group: the first error cancels its context,
// and each stage that waits on a channel waits for that, too, so that none is left behind.
//
//     pipeline FOLDER

#include "crc.h"

#include <fiberscope/chan.h>
#include <fiberscope/fiber.h>
#include <fiberscope/io.h>
#include <fiberscope/sync.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROOM = 16 };

struct sum {
    char *path;
    uint64_t size;
    uint32_t crc;
};

struct pipeline {
    const char *root;
    struct fib_chan *paths; // of char *, owned by who received it
    struct fib_chan *sums;  // of struct sum
    _Atomic int digesters;  // that still run; the last one closes sums
    struct sum *all;        // the collector's
    size_t count;
    int result;
};

// Passes it on unless the group is cancelled: then what the cancellation says.
static int pass(struct fib_chan *c, const void *value, struct fib_ctx *ctx)
{
    struct fib_case cases[] = {FIB_SEND(c, value), FIB_RECV(fib_ctx_done(ctx), NULL)};
    return fib_select(cases, 2) == 0 ? 0 : fib_ctx_error(ctx);
}

// Takes the next: 1; 0 at the end; negative: cancelled.
static int take(struct fib_chan *c, void *value, struct fib_ctx *ctx)
{
    struct fib_case cases[] = {FIB_RECV(c, value), FIB_RECV(fib_ctx_done(ctx), NULL)};
    return fib_select(cases, 2) == 0 ? cases[0].ok : fib_ctx_error(ctx);
}

static int complain(const char *path, int rc)
{
    fprintf(stderr, "pipeline: %s: %s\n", path, strerror(-rc));
    return rc;
}

// --- Walk.

// The entries of a folder, read in one blocking call; NULL-terminated.
static int folder_read(const char *path, struct dirent ***entries)
{
    fib_blocking_enter();
    int n = scandir(path, entries, NULL, alphasort);
    int rc = n < 0 ? -errno : n;
    fib_blocking_exit();
    return rc;
}

static int walk_folder(struct pipeline *p, const char *path, struct fib_ctx *ctx);

static int walk_entry(struct pipeline *p, char *path, unsigned char type, struct fib_ctx *ctx)
{
    if (type == DT_DIR) {
        int rc = walk_folder(p, path, ctx);
        free(path);
        return rc;
    }
    int rc = type == DT_REG ? pass(p->paths, &path, ctx) : 1;
    if (rc)
        free(path); // else it is the digester's
    return rc < 0 ? rc : 0;
}

static int walk_folder(struct pipeline *p, const char *path, struct fib_ctx *ctx)
{
    struct dirent **entries;
    int n = folder_read(path, &entries), rc = n < 0 ? complain(path, n) : 0;
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        char *below;
        if (!rc && strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
            rc = asprintf(&below, "%s/%s", path, name) < 0
                     ? -ENOMEM
                     : walk_entry(p, below, entries[i]->d_type, ctx);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return rc;
}

static int walk(void *arg, struct fib_ctx *ctx)
{
    struct pipeline *p = arg;
    int rc = walk_folder(p, p->root, ctx);
    fib_chan_close(p->paths);
    return rc;
}

// --- Digest.

static int digest_file(const char *path, struct sum *out)
{
    char buffer[16384]; // a fiber's stack is 256 KiB by default
    int fd = fib_open(path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    ssize_t n;
    while ((n = fib_read(fd, buffer, sizeof buffer)) > 0) {
        out->crc = crc_add(out->crc, buffer, (size_t)n);
        out->size += (uint64_t)n;
    }
    out->crc = crc_end(out->crc, out->size);
    fib_close(fd);
    return (int)n;
}

static int digest(void *arg, struct fib_ctx *ctx)
{
    struct pipeline *p = arg;
    char *path;
    int rc;
    while ((rc = take(p->paths, &path, ctx)) > 0) {
        struct sum s = {.path = path};
        rc = digest_file(path, &s);
        if (rc)
            complain(path, rc);
        else
            rc = pass(p->sums, &s, ctx);
        if (rc) {
            free(path);
            break;
        }
    }
    if (--p->digesters == 0)
        fib_chan_close(p->sums);
    return rc;
}

// --- Collect.

static int collect(void *arg, struct fib_ctx *ctx)
{
    struct pipeline *p = arg;
    size_t capacity = 0;
    struct sum s;
    int rc;
    while ((rc = take(p->sums, &s, ctx)) > 0) {
        if (p->count == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            struct sum *grown = realloc(p->all, capacity * sizeof *grown);
            if (!grown) {
                free(s.path);
                return -ENOMEM;
            }
            p->all = grown;
        }
        p->all[p->count++] = s;
    }
    return rc;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct sum *)a)->path, ((const struct sum *)b)->path);
}

static void start(void *arg)
{
    struct pipeline *p = arg;
    struct fib_group *g = fib_group_new(NULL, 0);
    p->paths = fib_chan_new(sizeof(char *), ROOM);
    p->sums = fib_chan_new(sizeof(struct sum), ROOM);
    p->digesters = (int)fib_procs(0) * 4;
    if (!g || !p->paths || !p->sums)
        abort();
    int n = p->digesters;
    p->result = fib_group_go(g, walk, p);
    for (int i = 0; i < n && !p->result; i++)
        p->result = fib_group_go(g, digest, p);
    if (!p->result)
        p->result = fib_group_go(g, collect, p);
    int rc = fib_group_wait(g);
    p->result = p->result ? p->result : rc;
    char *path;
    while (!fib_chan_recv_for(p->paths, &path, 0)) // cancelled before they were digested
        free(path);
    struct sum s;
    while (!fib_chan_recv_for(p->sums, &s, 0))
        free(s.path);
    if (p->count)
        qsort(p->all, p->count, sizeof *p->all, by_path);
    for (size_t i = 0; i < p->count; i++) {
        if (!p->result)
            printf("%u %llu %s\n", p->all[i].crc, (unsigned long long)p->all[i].size,
                   p->all[i].path);
        free(p->all[i].path);
    }
    free(p->all);
    fib_group_free(g);
    fib_chan_free(p->paths);
    fib_chan_free(p->sums);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: pipeline FOLDER\n");
        return 2;
    }
    struct pipeline p = {.root = argv[1]};
    return fib_main(start, &p) || p.result ? 1 : 0;
}
