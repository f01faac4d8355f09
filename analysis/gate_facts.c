// SPDX-License-Identifier: MIT
//
// See gate_facts.h.

#include "analysis/gate_facts.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char prefix[] = "fiberscope.";

static bool read_line(char *out, size_t size, const char *root, const char *path)
{
    char name[512];
    out[0] = 0;
    snprintf(name, sizeof name, "%s%s", root, path);
    FILE *f = fopen(name, "re");
    if (!f)
        return false;
    bool ok = fgets(out, (int)size, f) != NULL;
    fclose(f);
    out[strcspn(out, "\n")] = 0;
    return ok;
}

static void read_cpuinfo(struct gate_facts *f, const char *root)
{
    char name[512], line[4096];
    snprintf(name, sizeof name, "%s/proc/cpuinfo", root);
    FILE *in = fopen(name, "re");
    f->vm = in ? 0 : -1;
    f->cpus = 0;
    while (in && fgets(line, sizeof line, in)) {
        char *value = strstr(line, ": ");
        if (!strncmp(line, "processor\t", 10))
            f->cpus++;
        if (value && !strncmp(line, "model name", 10) && !f->cpu[0]) {
            value[strcspn(value, "\n")] = 0;
            snprintf(f->cpu, sizeof f->cpu, "%.90s", value + 2);
        }
        if (!strncmp(line, "flags", 5) && strstr(line, " hypervisor"))
            f->vm = 1;
    }
    if (in)
        fclose(in);
}

void gate_facts_read(struct gate_facts *f, const char *root)
{
    char line[256];
    *f = (struct gate_facts){.turbo = -1, .load = -1};
    read_cpuinfo(f, root);
    read_line(f->kernel, sizeof f->kernel, root, "/proc/sys/kernel/osrelease");
    if (!confstr(_CS_GNU_LIBC_VERSION, f->libc, sizeof f->libc))
        f->libc[0] = 0;
    read_line(f->governor, sizeof f->governor, root,
              "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    if (read_line(line, sizeof line, root, "/sys/devices/system/cpu/intel_pstate/no_turbo"))
        f->turbo = line[0] == '0';
    else if (read_line(line, sizeof line, root, "/sys/devices/system/cpu/cpufreq/boost"))
        f->turbo = line[0] == '1';
    if (read_line(line, sizeof line, root, "/proc/loadavg"))
        f->load = strtod(line, NULL);
}

static int add(struct pprof_profile *p, const char *key, const char *value)
{
    char text[256];
    snprintf(text, sizeof text, "%s%s: %.180s", prefix, key, value);
    return value[0] ? pprof_add_comment(p, text) : 0;
}

int gate_facts_to_profile(const struct gate_facts *f, struct pprof_profile *p)
{
    char cpus[32], load[32];
    snprintf(cpus, sizeof cpus, "%ld", f->cpus);
    snprintf(load, sizeof load, "%.2f", f->load);
    if (add(p, "cpu", f->cpu) || add(p, "cpus", f->cpus > 0 ? cpus : "") ||
        add(p, "kernel", f->kernel) || add(p, "libc", f->libc) || add(p, "governor", f->governor) ||
        add(p, "turbo",
            f->turbo < 0 ? ""
            : f->turbo   ? "on"
                         : "off") ||
        add(p, "vm",
            f->vm < 0 ? ""
            : f->vm   ? "yes"
                      : "no") ||
        add(p, "load", f->load < 0 ? "" : load))
        return -ENOMEM;
    return 0;
}

static const char *value_of(const char *comment, const char *key)
{
    size_t n = sizeof prefix - 1, k = strlen(key);
    if (strncmp(comment, prefix, n) != 0 || strncmp(comment + n, key, k) != 0 ||
        strncmp(comment + n + k, ": ", 2) != 0)
        return NULL;
    return comment + n + k + 2;
}

bool gate_facts_from_profile(struct gate_facts *f, const struct pprof_profile *p)
{
    bool any = false;
    *f = (struct gate_facts){.turbo = -1, .vm = -1, .load = -1};
    for (size_t i = 0; i < p->comment_count; i++) {
        const char *c = p->comments[i], *v;
        any |= !strncmp(c, prefix, sizeof prefix - 1);
        if ((v = value_of(c, "cpu")))
            snprintf(f->cpu, sizeof f->cpu, "%s", v);
        else if ((v = value_of(c, "cpus")))
            f->cpus = strtol(v, NULL, 10);
        else if ((v = value_of(c, "kernel")))
            snprintf(f->kernel, sizeof f->kernel, "%s", v);
        else if ((v = value_of(c, "libc")))
            snprintf(f->libc, sizeof f->libc, "%s", v);
        else if ((v = value_of(c, "governor")))
            snprintf(f->governor, sizeof f->governor, "%s", v);
        else if ((v = value_of(c, "turbo")))
            f->turbo = !strcmp(v, "on");
        else if ((v = value_of(c, "vm")))
            f->vm = !strcmp(v, "yes");
        else if ((v = value_of(c, "load")))
            f->load = strtod(v, NULL);
    }
    return any;
}

struct sayer {
    void (*say)(void *arg, const char *text);
    void *arg;
};

__attribute__((format(printf, 2, 3))) static void say(const struct sayer *s, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    s->say(s->arg, text);
}

static bool differ(const char *a, const char *b)
{
    return a[0] && b[0] && strcmp(a, b) != 0;
}

static void compare(const struct sayer *s, const struct gate_facts *a, const struct gate_facts *b,
                    bool timing)
{
    if (differ(a->libc, b->libc))
        say(s,
            "the baseline was recorded with %s, this with %s: the C library's own allocations "
            "may differ",
            a->libc, b->libc);
    if (!timing)
        return;
    if (differ(a->cpu, b->cpu))
        say(s, "different machines: the baseline is of a %s, this of a %s", a->cpu, b->cpu);
    if (a->cpus > 0 && b->cpus > 0 && a->cpus != b->cpus)
        say(s, "different machines: the baseline had %ld CPUs, this one has %ld", a->cpus, b->cpus);
    if (differ(a->kernel, b->kernel))
        say(s, "different kernels: %s and %s", a->kernel, b->kernel);
    if (differ(a->governor, b->governor))
        say(s, "different CPU governors: %s and %s", a->governor, b->governor);
    if (a->vm >= 0 && b->vm >= 0 && a->vm != b->vm)
        say(s, "the baseline was recorded %s a virtual machine, this %s",
            a->vm ? "in" : "outside of", b->vm ? "in one" : "outside");
}

void gate_facts_doubts(const struct gate_facts *base, const struct gate_facts *now, bool timing,
                       void (*sayer)(void *arg, const char *text), void *arg)
{
    const struct sayer s = {sayer, arg};
    if (base)
        compare(&s, base, now, timing);
    if (!timing)
        return;
    if (now->governor[0] && strcmp(now->governor, "performance") != 0)
        say(&s,
            "the CPU governor is %s, so the clock changes with the load (cpupower "
            "frequency-set -g performance)",
            now->governor);
    if (now->turbo == 1)
        say(&s, "turbo is on, so the clock depends on temperature and on what else runs");
    if (now->load >= 0 && now->cpus > 0 && now->load > 0.5 * (double)now->cpus)
        say(&s, "the machine is busy: load %.2f on %ld CPUs", now->load, now->cpus);
    if (now->vm == 1)
        say(&s, "this is a virtual machine: its neighbours can take time that is charged here");
}
