// SPDX-License-Identifier: MIT
//
// User, container, virtual machine, kernel symbols, limits, where symbols come from: see doctor.h.

#include "collector/doctor_internal.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

// include/linux/proc_ns.h: the first namespaces have fixed inode numbers.
#define INIT_PID_NS  UINT64_C(0xEFFFFFFC)
#define INIT_USER_NS UINT64_C(0xEFFFFFFD)

enum { FILES_WANTED = 4096, MAPS_WANTED = 65530 };

static void user_row(struct doctor_report *r)
{
    char caps[64] = "";
    struct utsname u;
    doctor_status("CapEff", caps, sizeof caps);
    struct doctor_row *row = doctor_add(r, "user", DOCTOR_INFO);
    doctor_found(row, "uid %u, effective capabilities %s", (unsigned)geteuid(),
                 strtoull(caps, NULL, 16) ? caps : "none");
    if (uname(&u) == 0) {
        row = doctor_add(r, "kernel", DOCTOR_INFO);
        doctor_found(row, "%s %.64s %.64s, %ld CPUs", u.sysname, u.release, u.machine,
                     sysconf(_SC_NPROCESSORS_ONLN));
    }
}

static uint64_t namespace_of(const char *name)
{
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/self/ns/%s", name);
    return stat(path, &st) ? 0 : st.st_ino;
}

static const char *container_kind(void)
{
    static const struct {
        const char *word, *kind;
    } words[] = {{"docker", "Docker"},
                 {"kubepods", "Kubernetes"},
                 {"containerd", "containerd"},
                 {"libpod", "Podman"},
                 {"lxc", "LXC"},
                 {"machine.slice", "nspawn"}};
    char line[512];
    if (access("/.dockerenv", F_OK) == 0)
        return "Docker";
    if (access("/run/.containerenv", F_OK) == 0)
        return "Podman";
    if (access("/var/run/secrets/kubernetes.io", F_OK) == 0)
        return "Kubernetes";
    if (doctor_line("/proc/1/cgroup", line, sizeof line))
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            if (strstr(line, words[i].word))
                return words[i].kind;
    return NULL;
}

static void container_row(struct doctor_report *r)
{
    uint64_t pid_ns = namespace_of("pid"), user_ns = namespace_of("user");
    bool inner_pid = pid_ns && pid_ns != INIT_PID_NS;
    bool inner_user = user_ns && user_ns != INIT_USER_NS;
    const char *kind = container_kind();
    char quota[64];
    struct doctor_row *row = doctor_add(r, "container", DOCTOR_INFO);
    if (kind || inner_pid || inner_user) {
        row->state = inner_user ? DOCTOR_LIMITED : DOCTOR_INFO;
        doctor_found(row, "%s%s%s", kind ? kind : "namespaces of its own",
                     inner_pid ? "; own process numbers" : "",
                     inner_user ? "; own user namespace" : "");
        if (inner_user) {
            doctor_cost(row, "root here is an ordinary user to the kernel");
            doctor_change(row, "run fiberscope on the host: `record -p` with the host's pid");
        }
    } else {
        doctor_found(row, "none seen");
    }
    if (doctor_line("/sys/fs/cgroup/cpu.max", quota, sizeof quota) && strncmp(quota, "max", 3)) {
        row = doctor_add(r, "CPU quota", DOCTOR_INFO);
        doctor_found(row, "cpu.max is %s us: time without CPU is in no CPU profile", quota);
    }
}

static void machine_row(struct doctor_report *r)
{
    char line[4096], product[128] = "";
    bool is_virtual = false;
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "flags", 5) == 0) {
            is_virtual = strstr(line, " hypervisor");
            break;
        }
    }
    if (f)
        fclose(f);
    doctor_line("/sys/class/dmi/id/product_name", product, sizeof product);
    struct doctor_row *row = doctor_add(r, "virtual machine", DOCTOR_INFO);
    if (is_virtual)
        doctor_found(row, "yes%s%s: time that the host takes away counts as CPU time",
                     product[0] ? ", " : "", product);
    else
        doctor_found(row, "no");
}

static void kernel_symbols_row(struct doctor_report *r)
{
    long long restricted = -1;
    unsigned long long address = 0;
    char line[256];
    doctor_number("/proc/sys/kernel/kptr_restrict", &restricted);
    FILE *f = fopen("/proc/kallsyms", "re");
    bool is_readable = f != NULL;
    for (int i = 0; f && !address && i < 1000 && fgets(line, sizeof line, f); i++)
        address = strtoull(line, NULL, 16);
    if (f)
        fclose(f);
    struct doctor_row *row = doctor_add(r, "kernel symbols", address ? DOCTOR_OK : DOCTOR_LIMITED);
    doctor_found(row, "/proc/kallsyms %s (kptr_restrict %lld)",
                 address       ? "shows addresses"
                 : is_readable ? "shows only zeros"
                               : "cannot be read",
                 restricted);
    if (address)
        return;
    doctor_cost(row, "kernel frames have no names");
    doctor_change(row, "run as root, or `sysctl kernel.kptr_restrict=0`");
}

static void core_row(struct doctor_report *r)
{
    char pattern[256] = "";
    struct rlimit l = {0};
    getrlimit(RLIMIT_CORE, &l);
    doctor_line("/proc/sys/kernel/core_pattern", pattern, sizeof pattern);
    struct doctor_row *row = doctor_add(r, "core files", DOCTOR_OK);
    bool is_piped = pattern[0] == '|';
    if (is_piped) {
        row->state = DOCTOR_INFO;
        doctor_found(row, "go to a program: %.180s", pattern + 1);
        return;
    }
    if (l.rlim_cur == 0)
        row->state = DOCTOR_INFO;
    doctor_found(row, "%s named \"%.180s\"%s", l.rlim_cur ? "written," : "not written,", pattern,
                 l.rlim_cur ? ""
                            : " (`ulimit -c unlimited` lets `fiberscope finish CORE` read them)");
}

static void limits_rows(struct doctor_report *r)
{
    struct rlimit l = {0};
    long long maps = 0;
    getrlimit(RLIMIT_NOFILE, &l);
    unsigned long long threads =
        (unsigned long long)l.rlim_max / (unsigned long long)sysconf(_SC_NPROCESSORS_ONLN);
    struct doctor_row *row =
        doctor_add(r, "open files", l.rlim_max < FILES_WANTED ? DOCTOR_LIMITED : DOCTOR_OK);
    doctor_found(row, "%llu at most: enough for `record -p` of %llu threads",
                 (unsigned long long)l.rlim_max, threads);
    if (row->state != DOCTOR_OK) {
        doctor_cost(row, "`record -p` needs one per thread and CPU");
        doctor_change(row, "`ulimit -n 65536`, or LimitNOFILE= of the service");
    }
    if (!doctor_number("/proc/sys/vm/max_map_count", &maps))
        return;
    row = doctor_add(r, "memory maps", maps < MAPS_WANTED ? DOCTOR_LIMITED : DOCTOR_OK);
    doctor_found(row, "at most %lld per process (vm.max_map_count)", maps);
    if (row->state != DOCTOR_OK) {
        doctor_cost(row, "programs with many fibers run out of guarded stacks");
        doctor_change(row, "`sysctl vm.max_map_count=1048576`");
    }
}

static unsigned long count_entries(const char *path)
{
    unsigned long n = 0;
    DIR *d = opendir(path);
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n > 2 ? n - 2 : 0; // without . and ..
}

static void symbols_rows(struct doctor_report *r)
{
    const char *urls = getenv("DEBUGINFOD_URLS");
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char path[PATH_MAX];
    bool has_urls = urls && urls[0];
    unsigned long folders = count_entries("/usr/lib/debug/.build-id");
    struct doctor_row *row =
        doctor_add(r, "debug info", has_urls || folders ? DOCTOR_OK : DOCTOR_LIMITED);
    doctor_found(row, "DEBUGINFOD_URLS %s; /usr/lib/debug/.build-id %s",
                 has_urls ? "is set" : "is not set",
                 folders ? "holds installed debug files" : "is empty");
    if (row->state != DOCTOR_OK) {
        doctor_cost(row, "stripped system libraries show exported names only, without lines");
        doctor_change(row, "install NAME-dbgsym or libc6-dbg, or "
                           "`export DEBUGINFOD_URLS=https://debuginfod.debian.net`");
    }
    if (cache && cache[0] == '/')
        snprintf(path, sizeof path, "%s/fiberscope", cache);
    else
        snprintf(path, sizeof path, "%s/.cache/fiberscope", home ? home : "");
    row = doctor_add(r, "symbol cache", DOCTOR_INFO);
    doctor_found(row, "%.200s, %lu entries", path, count_entries(path));
}

static bool find_program(const char *name, char *found, size_t size)
{
    const char *path = getenv("PATH");
    char all[PATH_MAX * 4];
    snprintf(all, sizeof all, "%s:/usr/local/go/bin", path ? path : "/usr/bin");
    for (char *save = NULL, *d = strtok_r(all, ":", &save); d; d = strtok_r(NULL, ":", &save)) {
        int n = snprintf(found, size, "%s/%s", d, name);
        if (n > 0 && (size_t)n < size && access(found, X_OK) == 0)
            return true;
    }
    return false;
}

static void viewers_row(struct doctor_report *r)
{
    char path[PATH_MAX], real[PATH_MAX], version[64] = "";
    struct doctor_row *row = doctor_add(r, "go tool pprof", DOCTOR_INFO);
    if (!find_program("go", path, sizeof path)) {
        doctor_found(row, "no go here; `fiberscope top` and `fiberscope flame` need none");
        return;
    }
    if (realpath(path, real)) { // GOROOT/bin/go, beside GOROOT/VERSION
        char *slash = strrchr(real, '/');
        if (slash) {
            snprintf(slash, sizeof real - (size_t)(slash - real), "/../VERSION");
            doctor_line(real, version, sizeof version);
        }
    }
    doctor_found(row, "%.180s%s%s", path, version[0] ? ", " : "", version);
}

void doctor_system_rows(struct doctor_report *r)
{
    user_row(r);
    container_row(r);
    machine_row(r);
    kernel_symbols_row(r);
    core_row(r);
    limits_rows(r);
    symbols_rows(r);
    viewers_row(r);
}
