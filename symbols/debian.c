// SPDX-License-Identifier: MIT
//
// Which Debian package holds a file's debug info, by dpkg's file lists; no command is run.

#include "symbols/symbols.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char INFO_DIR[] = "/var/lib/dpkg/info";

// Packages that ship debug info in the main archive; all others have NAME-dbgsym in debian-debug.
static const char *const known[][2] = {
    {"libc6", "libc6-dbg"},
    {"libc-bin", "libc6-dbg"},
    {"perl-base", "perl-debug"},
    {"libperl5.36", "perl-debug"},
    {"python3.11-minimal", "python3.11-dbg"},
    {"libpython3.11", "python3.11-dbg"},
    {"libpython3.11-stdlib", "python3.11-dbg"},
    {"libpython3.11-minimal", "python3.11-dbg"},
};

static bool has_line(const char *list, const char *path, const char *alias)
{
    FILE *f = fopen(list, "re");
    if (!f)
        return false;
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    bool found = false;
    while (!found && (n = getline(&line, &capacity, f)) > 0) {
        if (line[n - 1] == '\n')
            line[n - 1] = '\0';
        found = !strcmp(line, path) || !strcmp(line, alias);
    }
    free(line);
    fclose(f);
    return found;
}

// Fills name with the package that owns path: INFO_DIR/NAME[:ARCH].list has it as a line.
static int owner(const char *path, char *name, size_t size)
{
    // With a merged /usr a list may say /lib/x where the kernel says /usr/lib/x, and the other way.
    char alias[4096];
    if (!strncmp(path, "/usr/", 5))
        snprintf(alias, sizeof alias, "%s", path + 4);
    else
        snprintf(alias, sizeof alias, "/usr%s", path);
    DIR *dir = opendir(INFO_DIR);
    if (!dir)
        return -ENOENT;
    int rc = -ENOENT;
    struct dirent *e;
    while (rc && (e = readdir(dir))) {
        size_t n = strlen(e->d_name);
        if (n < 6 || strcmp(e->d_name + n - 5, ".list"))
            continue;
        char list[sizeof INFO_DIR + 300];
        snprintf(list, sizeof list, "%s/%s", INFO_DIR, e->d_name);
        if (!has_line(list, path, alias))
            continue;
        size_t length = strcspn(e->d_name, ":");
        if (length == n)
            length = n - 5;
        rc = snprintf(name, size, "%.*s", (int)length, e->d_name) < (int)size ? 0 : -ENOSPC;
    }
    closedir(dir);
    return rc;
}

// Advice to install what is there would send the reader in a circle.
static bool is_installed(const char *package)
{
    char list[sizeof INFO_DIR + 300];
    snprintf(list, sizeof list, "%s/%s.list", INFO_DIR, package);
    if (access(list, F_OK) == 0)
        return true;
    snprintf(list, sizeof list, "%s/%s:amd64.list", INFO_DIR, package);
    return access(list, F_OK) == 0;
}

static int answer(const char *package, char *name, size_t size)
{
    if (is_installed(package))
        return -ENOENT;
    return snprintf(name, size, "%s", package) < (int)size ? 0 : -ENOSPC;
}

int symbols_debian_package(const char *path, char *name, size_t size, bool *from_debug_archive)
{
    char package[200];
    int rc = path[0] == '/' ? owner(path, package, sizeof package) : -ENOENT;
    if (rc)
        return rc;
    if (from_debug_archive)
        *from_debug_archive = false;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strcmp(known[i][0], package))
            return answer(known[i][1], name, size);
    if (from_debug_archive)
        *from_debug_archive = true;
    char dbgsym[sizeof package + 8];
    snprintf(dbgsym, sizeof dbgsym, "%s-dbgsym", package);
    return answer(dbgsym, name, size);
}
