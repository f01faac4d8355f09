// SPDX-License-Identifier: MIT
//
// See control_group.h. Source: cgroups(7); bpf_get_current_ancestor_cgroup_id counts levels from the root of the only
// hierarchy of version 2.

#include "collector/bpf/control_group.h"

#include <errno.h>
#include <fts.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define INIT_CGROUP_NS UINT64_C(0xEFFFFFFB) // include/linux/proc_ns.h

// Where version 2 is mounted whole.
static bool find_mount(char *point, size_t size)
{
    char *line = NULL;
    size_t room = 0;
    bool is_found = false;
    FILE *f = fopen("/proc/self/mountinfo", "re");
    while (f && !is_found && getline(&line, &room, f) > 0) {
        char root[PATH_MAX], where[PATH_MAX];
        const char *kind = strstr(line, " - ");
        if (!kind || strncmp(kind, " - cgroup2 ", 11) != 0 ||
            sscanf(line, "%*s %*s %*s %4095s %4095s", root, where) != 2 || strcmp(root, "/") != 0)
            continue;
        snprintf(point, size, "%s", where);
        is_found = true;
    }
    free(line);
    if (f)
        fclose(f);
    return is_found;
}

static uint32_t level_below(const char *mount, const char *path)
{
    uint32_t level = 0;
    for (const char *p = path + strlen(mount); *p; p++)
        level += *p == '/' && p[1] && p[1] != '/';
    return level;
}

static int refuse_version_1(const char *path, const char *mount, struct fscope_error *err)
{
    return error_set(err, -ENOTSUP, 0,
                     "--cgroup %s is of control groups' version 1; BPF knows version 2 alone: name "
                     "a folder below %s%s",
                     path, mount[0] ? mount : "its mount",
                     mount[0] ? ""
                              : " (there is none: boot with systemd.unified_cgroup_hierarchy=1)");
}

// The folder that is meant: as it is, or below the mount.
static int resolve(struct control_group *g, const char *path, const char *mount)
{
    char below[2 * PATH_MAX];
    if (realpath(path, g->path))
        return 0;
    int rc = -errno;
    snprintf(below, sizeof below, "%s/%s", mount, path);
    return mount[0] && realpath(below, g->path) ? 0 : rc;
}

int control_group_find(struct control_group *g, const char *path, struct fscope_error *err)
{
    char mount[PATH_MAX] = "";
    struct statfs fs;
    struct stat st;
    *g = (struct control_group){0};
    find_mount(mount, sizeof mount);
    int rc = resolve(g, path, mount);
    if (rc)
        return error_set(err, rc, 0, "--cgroup %s: %s%s%s; see /proc/PID/cgroup, behind \"0::\"",
                         path, strerror(-rc), mount[0] ? ", also below " : "", mount);
    if (statfs(g->path, &fs) || stat(g->path, &st))
        return error_set(err, -errno, 0, "--cgroup %s: %s", path, strerror(errno));
    if (fs.f_type == CGROUP_SUPER_MAGIC)
        return refuse_version_1(path, mount, err);
    size_t n = strlen(mount);
    if (fs.f_type != CGROUP2_SUPER_MAGIC || !n || strncmp(g->path, mount, n) != 0)
        return error_set(err, -ENOTSUP, 0,
                         "--cgroup %s is no control group: name a folder below %s", path,
                         n ? mount : "/sys/fs/cgroup");
    if (stat("/proc/self/ns/cgroup", &st) == 0 && st.st_ino != INIT_CGROUP_NS)
        return error_set(err, -ENOTSUP, 0,
                         "--cgroup: this is a control group namespace of a container, which does "
                         "not see where it lies: run on the host");
    if (stat(g->path, &st))
        return error_set(err, -errno, 0, "--cgroup %s: %s", path, strerror(errno));
    g->id = st.st_ino; // on 64-bit kernels
    g->level = level_below(mount, g->path);
    return 0;
}

uint64_t control_group_cpu_ns(const struct control_group *g)
{
    char path[PATH_MAX + 16], line[128];
    unsigned long long us = 0;
    snprintf(path, sizeof path, "%s/cpu.stat", g->path);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "usage_usec %llu", &us) == 1)
            break;
    if (f)
        fclose(f);
    return us * 1000;
}

static int each_pid_of(const char *folder, int (*fn)(void *arg, uint32_t pid), void *arg)
{
    char path[PATH_MAX + 16];
    unsigned pid;
    int rc = 0;
    snprintf(path, sizeof path, "%s/cgroup.procs", folder);
    FILE *f = fopen(path, "re");
    while (f && !rc && fscanf(f, "%u", &pid) == 1)
        rc = fn(arg, pid);
    if (f)
        fclose(f);
    return rc;
}

int control_group_each_pid(const struct control_group *g, int (*fn)(void *arg, uint32_t pid),
                           void *arg)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", g->path);
    char *roots[] = {path, NULL};
    int rc = 0;
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    for (FTSENT *e; tree && !rc && (e = fts_read(tree));)
        if (e->fts_info == FTS_D)
            rc = each_pid_of(e->fts_path, fn, arg);
    if (tree)
        fts_close(tree);
    return rc;
}
