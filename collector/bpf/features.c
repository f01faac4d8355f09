// SPDX-License-Identifier: MIT
//
// See features.h. Sources: bpf(2), capabilities(7), kernel/bpf/syscall.c (who may load what).

#include "collector/bpf/features.h"

#include "collector/perf_event.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifdef FSCOPE_BPF
#include "collector/bpf/messages.h"
#include "collector/bpf/probe.skel.h"
#endif

enum { CAP_BIT_SYS_ADMIN = 21, CAP_BIT_PERFMON = 38, CAP_BIT_BPF = 39 };
// include/linux/proc_ns.h: the first namespaces have fixed inode numbers.
#define INIT_USER_NS UINT64_C(0xEFFFFFFD)
#define INIT_PID_NS  UINT64_C(0xEFFFFFFC)
#define BTF_FILE     "/sys/kernel/btf/vmlinux"

// --- Settings.

static bool status_of(const char *key, char *text, size_t size)
{
    char line[256];
    size_t n = strlen(key);
    bool is_found = false;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && !is_found && fgets(line, sizeof line, f)) {
        if (strncmp(line, key, n) != 0 || line[n] != ':')
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(text, size, "%s", line + n + 1 + strspn(line + n + 1, " \t"));
        is_found = true;
    }
    if (f)
        fclose(f);
    return is_found;
}

static bool is_inner_namespace(const char *name, uint64_t first)
{
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/self/ns/%s", name);
    return stat(path, &st) == 0 && st.st_ino != first;
}

static bool is_locked_down(void)
{
    char line[128] = "";
    FILE *f = fopen("/sys/kernel/security/lockdown", "re");
    if (f && !fgets(line, sizeof line, f))
        line[0] = '\0';
    if (f)
        fclose(f);
    return strstr(line, "[confidentiality]");
}

static void read_settings(struct bpf_facts *f)
{
    char text[64];
    struct utsname u;
    uint64_t caps = status_of("CapEff", text, sizeof text) ? strtoull(text, NULL, 16) : 0;
    bool is_admin = caps >> CAP_BIT_SYS_ADMIN & 1;
    f->has_bpf = is_admin || (caps >> CAP_BIT_BPF & 1);
    f->has_perfmon = is_admin || (caps >> CAP_BIT_PERFMON & 1);
    if (status_of("Seccomp", text, sizeof text)) {
        f->has_filter = strcmp(text, "0") != 0;
        f->has_no_filter = !f->has_filter;
    }
    f->is_user_namespace = is_inner_namespace("user", INIT_USER_NS);
    f->is_pid_namespace = is_inner_namespace("pid", INIT_PID_NS);
    f->is_locked_down = is_locked_down();
    if (uname(&u) == 0)
        snprintf(f->release, sizeof f->release, "%.64s", u.release);
}

// --- Trials.

static long bpf_call(int command, union bpf_attr *attr)
{
    return syscall(SYS_bpf, command, attr, sizeof *attr);
}

static int error_of(long fd)
{
    if (fd < 0)
        return errno;
    close((int)fd);
    return 0;
}

static int try_map(uint32_t type, uint32_t key_size, uint32_t value_size, uint32_t entries,
                   uint32_t flags)
{
    union bpf_attr attr = {
        .map_type = type,
        .key_size = key_size,
        .value_size = value_size,
        .max_entries = entries,
        .map_flags = flags,
    };
    return error_of(bpf_call(BPF_MAP_CREATE, &attr));
}

// `return 0` as a program of a perf event.
static int try_program(void)
{
    static const struct bpf_insn code[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0},
        {.code = BPF_JMP | BPF_EXIT},
    };
    static const char license[] = "Dual MIT/GPL";
    union bpf_attr attr = {
        .prog_type = BPF_PROG_TYPE_PERF_EVENT,
        .insn_cnt = sizeof code / sizeof *code,
        .insns = (uint64_t)(uintptr_t)code,
        .license = (uint64_t)(uintptr_t)license,
    };
    return error_of(bpf_call(BPF_PROG_LOAD, &attr));
}

// An event on a whole CPU, whoever runs there.
static int try_event(char *text, size_t size)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_SOFTWARE,
        .size = sizeof attr,
        .config = PERF_COUNT_SW_CPU_CLOCK,
        .disabled = 1,
    };
    int fd = perf_event_open_raw(&attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
    text[0] = '\0';
    if (fd >= 0) {
        close(fd);
        return 0;
    }
    perf_event_explain(perf_event_classify(-fd, 0), -fd, 0, text, size);
    return -fd;
}

static const char *lacking_map(void)
{
    long page = sysconf(_SC_PAGESIZE);
    if (try_map(BPF_MAP_TYPE_ARRAY, 4, 8, 1, BPF_F_MMAPABLE) == EINVAL)
        return "arrays that can be mapped (Linux 5.5)";
    if (try_map(BPF_MAP_TYPE_RINGBUF, 0, 0, (uint32_t)page, 0) == EINVAL)
        return "ring buffers (Linux 5.8)";
    return NULL;
}

#ifdef FSCOPE_BPF
// That libbpf finds the kernel's types and the kernel takes a program that goes by them.
static int try_tracing(void)
{
    struct probe_bpf *probe = probe_bpf__open();
    int error = probe ? -probe_bpf__load(probe) : errno;
    probe_bpf__destroy(probe);
    return error;
}

static void try_library(struct bpf_facts *f)
{
    bpf_messages_begin();
    if (!f->lacks && libbpf_probe_bpf_helper(BPF_PROG_TYPE_PERF_EVENT, BPF_FUNC_loop, NULL) == 0)
        f->lacks = "bpf_loop (Linux 5.17)";
    // That has no trial of its own, but came with that helper.
    if (!f->lacks && libbpf_probe_bpf_helper(BPF_PROG_TYPE_PERF_EVENT,
                                             BPF_FUNC_ringbuf_reserve_dynptr, NULL) == 0)
        f->lacks = "use of BPF maps without privilege (Linux " BPF_KERNEL_MIN ")";
    if (!f->lacks)
        f->tracing_error = try_tracing();
    // A lockdown takes this helper away; without it libbpf calls one that is as forbidden for every read.
    f->is_kernel_hidden =
        libbpf_probe_bpf_helper(BPF_PROG_TYPE_PERF_EVENT, BPF_FUNC_probe_read_kernel, NULL) == 0;
    bpf_messages_end();
}
#endif

void bpf_facts_find(struct bpf_facts *out)
{
    *out = (struct bpf_facts){0};
    read_settings(out);
    out->map_error = try_map(BPF_MAP_TYPE_ARRAY, 4, 8, 1, 0);
    out->program_error = try_program();
    out->event_error = try_event(out->event_text, sizeof out->event_text);
    out->btf_error = access(BTF_FILE, R_OK) ? errno : 0;
#ifdef FSCOPE_BPF
    out->is_built = true;
    if (!out->map_error && !out->program_error) {
        out->lacks = lacking_map();
        try_library(out);
    }
#else
    (void)lacking_map;
#endif
}

// --- The verdict.

const char *bpf_facts_missing(const struct bpf_facts *f)
{
    if (!f->has_bpf && !f->has_perfmon)
        return "CAP_BPF and CAP_PERFMON";
    return !f->has_bpf ? "CAP_BPF" : !f->has_perfmon ? "CAP_PERFMON" : "none";
}

#define SAY(...)  snprintf(v->cause, sizeof v->cause, __VA_ARGS__)
#define DO(...)   snprintf(v->remedy, sizeof v->remedy, __VA_ARGS__)
#define REFUSE(w) (v->why = BPF_REFUSED_##w)

static void explain_lockdown(struct bpf_verdict *v)
{
    REFUSE(LOCKDOWN);
    SAY("the kernel is locked down (confidentiality): no program may read its memory");
    DO("boot with lockdown=integrity, or without");
}

// The kernel says EPERM and no more.
static void explain_eperm(const struct bpf_facts *f, const char *call, struct bpf_verdict *v)
{
    bool is_complete = f->has_bpf && f->has_perfmon;
    if (f->is_user_namespace) {
        REFUSE(USER_NAMESPACE);
        SAY("this is a user namespace, whose capabilities do not count for BPF");
        DO("run as root of the host, outside of the container");
    } else if (!is_complete) {
        REFUSE(CAPABILITY);
        SAY("%s %s missing", bpf_facts_missing(f), f->has_bpf || f->has_perfmon ? "is" : "are");
        DO("run as root, or with both (AmbientCapabilities= of a service; in a container --cap-add "
           "BPF "
           "--cap-add PERFMON)");
    } else if (f->has_filter) {
        REFUSE(FILTER);
        SAY("a seccomp filter refuses %s", call);
        DO("in a container: --security-opt seccomp=FILE, or --cap-add BPF --cap-add PERFMON, which "
           "lets it through");
    } else if (f->is_locked_down) {
        explain_lockdown(v);
    } else {
        REFUSE(POLICY);
        SAY("%s is refused (%s) by a security module", call, strerror(v->error));
        DO("allow it there (SELinux: class bpf; AppArmor: capability bpf, perfmon)");
    }
}

static void explain_enosys(const struct bpf_facts *f, struct bpf_verdict *v)
{
    if (f->has_filter) {
        explain_eperm(&(struct bpf_facts){.has_bpf = true, .has_perfmon = true, .has_filter = true},
                      "bpf(2)", v);
        return;
    }
    REFUSE(NO_BPF);
    SAY("this kernel (%s) has no bpf(2)", f->release);
    DO("use a kernel with CONFIG_BPF_SYSCALL; `--method=perf` needs none");
}

static void judge_load(const struct bpf_facts *f, int error, const char *what,
                       struct bpf_verdict *v)
{
    v->error = error;
    if (error == EPERM || error == EACCES)
        explain_eperm(f, "bpf(2)", v);
    else if (error == ENOSYS)
        explain_enosys(f, v);
    else if (error == ENOMEM) {
        REFUSE(MEMORY);
        SAY("no memory for BPF maps (the control group's limit)");
        DO("raise memory.max of the control group");
    } else {
        REFUSE(OTHER);
        SAY("%s is refused by this kernel (%s): %s", what, f->release, strerror(error));
        DO("use --method=perf, and report this");
    }
}

static void judge_rest(const struct bpf_facts *f, struct bpf_verdict *v)
{
    if (f->is_pid_namespace) {
        REFUSE(PID_NAMESPACE);
        SAY("this is a pid namespace of a container: the kernel's samples have the host's process "
            "numbers");
        DO("run on the host, or in a container with --pid=host");
    } else if (f->is_locked_down && f->is_kernel_hidden) {
        explain_lockdown(v);
    } else if (f->lacks) {
        REFUSE(KERNEL);
        SAY("this kernel (%s) has no %s", f->release, f->lacks);
        DO("Linux " BPF_KERNEL_MIN " is needed; use --method=perf here");
    } else if (f->btf_error) {
        REFUSE(BTF);
        v->error = f->btf_error;
        SAY(BTF_FILE ": %s: the kernel's types are not described", strerror(f->btf_error));
        DO("mount /sys (in a container), or use a kernel with CONFIG_DEBUG_INFO_BTF");
    } else if (f->event_error) {
        REFUSE(PERF);
        v->error = f->event_error;
        SAY("no perf event on a whole CPU (%s)", strerror(f->event_error));
        DO("%.300s", f->event_text);
    } else if (f->tracing_error) {
        judge_load(f, f->tracing_error, "a program at sched_switch", v);
    }
}

void bpf_facts_judge(const struct bpf_facts *f, struct bpf_verdict *v)
{
    *v = (struct bpf_verdict){0};
    if (!f->is_built) {
        REFUSE(BUILD);
        SAY("this fiberscope was made without libbpf");
        DO("build it with clang, bpftool and libbpf 1.1 or newer installed");
    } else if (f->map_error) {
        judge_load(f, f->map_error, "a map", v);
    } else if (f->program_error) {
        judge_load(f, f->program_error, "a program of a perf event", v);
    } else {
        judge_rest(f, v);
    }
}

int bpf_features_check(struct fscope_error *err)
{
    struct bpf_facts f;
    struct bpf_verdict v;
    bpf_facts_find(&f);
    bpf_facts_judge(&f, &v);
    switch (v.why) {
    case BPF_ALLOWED: return 0;
    case BPF_REFUSED_BUILD:
    case BPF_REFUSED_NO_BPF:
    case BPF_REFUSED_KERNEL:
    case BPF_REFUSED_BTF:
    case BPF_REFUSED_OTHER: return error_set(err, -ENOTSUP, 0, "eBPF: %s: %s", v.cause, v.remedy);
    case BPF_REFUSED_MEMORY: return error_set(err, -ENOMEM, 0, "eBPF: %s: %s", v.cause, v.remedy);
    default: return error_set(err, -EPERM, 0, "eBPF: %s: %s", v.cause, v.remedy);
    }
}
