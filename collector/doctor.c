// SPDX-License-Identifier: MIT
//
// Events, rates, rings, BPF and tracing: see doctor.h.

#include "collector/doctor_internal.h"

#include "collector/bpf/code.h"
#include "collector/bpf/features.h"
#include "collector/builder.h"
#include "collector/launch.h"
#include "collector/perf_event.h"
#include "collector/perf_watch.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CAP_BIT_SYS_PTRACE = 19 };
enum { PROBE_HZ = 999, PROBE_SPIN_NS = 150000000 };

// --- Rows.

struct doctor_row *doctor_add(struct doctor_report *r, const char *topic, enum doctor_state state)
{
    if (r->count == DOCTOR_ROWS_MAX)
        r->count--;
    struct doctor_row *row = &r->rows[r->count++];
    *row = (struct doctor_row){.topic = topic, .state = state};
    return row;
}

#define DOCTOR_PRINT(field)                                                                        \
    do {                                                                                           \
        va_list ap;                                                                                \
        va_start(ap, fmt);                                                                         \
        vsnprintf(row->field, sizeof row->field, fmt, ap);                                         \
        va_end(ap);                                                                                \
    } while (0)

void doctor_found(struct doctor_row *row, const char *fmt, ...)
{
    DOCTOR_PRINT(found);
}

void doctor_cost(struct doctor_row *row, const char *fmt, ...)
{
    DOCTOR_PRINT(cost);
}

void doctor_change(struct doctor_row *row, const char *fmt, ...)
{
    DOCTOR_PRINT(change);
}

const char *doctor_state_name(enum doctor_state state)
{
    static const char *const names[] = {"ok", "info", "limited", "no"};
    return names[state];
}

bool doctor_line(const char *path, char *text, size_t size)
{
    FILE *f = fopen(path, "re");
    bool ok = f && fgets(text, (int)size, f);
    if (f)
        fclose(f);
    if (ok)
        text[strcspn(text, "\n")] = '\0';
    else
        text[0] = '\0';
    return ok;
}

bool doctor_number(const char *path, long long *value)
{
    char text[64], *end;
    if (!doctor_line(path, text, sizeof text))
        return false;
    *value = strtoll(text, &end, 10);
    return end != text;
}

bool doctor_status(const char *key, char *text, size_t size)
{
    char line[256];
    size_t n = strlen(key);
    bool ok = false;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && !ok && fgets(line, sizeof line, f)) {
        if (strncmp(line, key, n) != 0 || line[n] != ':')
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(text, size, "%s", line + n + 1 + strspn(line + n + 1, " \t"));
        ok = true;
    }
    if (f)
        fclose(f);
    return ok;
}

bool doctor_capability(unsigned bit)
{
    char text[64];
    return doctor_status("CapEff", text, sizeof text) && (strtoull(text, NULL, 16) >> bit & 1);
}

// --- CPU events.

static void perf_row(struct doctor_report *r, const struct perf_rights *p)
{
    char why[320];
    struct doctor_row *row = doctor_add(r, "perf events", DOCTOR_OK);
    char paranoid[32] = "paranoid unknown";
    if (p->paranoid != INT_MIN)
        snprintf(paranoid, sizeof paranoid, "paranoid %d", p->paranoid);
    if (p->kernel) {
        doctor_found(row, "a CPU clock opens, with kernel time (%s%s)", paranoid,
                     p->has_perfmon ? ", CAP_PERFMON" : "");
        return;
    }
    if (p->user) {
        row->state = DOCTOR_LIMITED;
        perf_event_explain(p->kernel_why, p->kernel_error, 0, why, sizeof why);
        doctor_found(row, "a CPU clock opens, for user time only (%s)", paranoid);
        doctor_cost(row, "time inside the kernel is not counted by `record -p`: a program that "
                         "lives in system calls looks idle; other users' processes are closed");
        doctor_change(row, "%s", why);
        return;
    }
    row->state = DOCTOR_NO;
    perf_event_explain(p->user_why, p->user_error, 0, why, sizeof why);
    doctor_found(row, "perf_event_open is refused: %s (%s)", strerror(p->user_error), paranoid);
    doctor_cost(row, "no `record -p`; `record COMMAND` falls back to timers, at CONFIG_HZ");
    doctor_change(row, "%s", why);
}

static void rate_row(struct doctor_report *r, const struct perf_rights *p)
{
    double timer = perf_delivered_rate(false, PROBE_HZ, PROBE_SPIN_NS);
    double event = p->user ? perf_delivered_rate(true, PROBE_HZ, PROBE_SPIN_NS) : 0;
    struct doctor_row *row = doctor_add(r, "sampling rate", DOCTOR_OK);
    if (event > 0) {
        doctor_found(row, "%.0f of %d Hz arrive by perf events, %.0f by timers", event, PROBE_HZ,
                     timer > 0 ? timer : 0);
        if (event < 0.9 * PROBE_HZ) {
            row->state = DOCTOR_LIMITED;
            doctor_cost(row, "profiles have fewer samples than asked for (they say how many)");
            doctor_change(row,
                          "kernel.perf_event_max_sample_rate is %llu; a busy host or a "
                          "throttled virtual CPU delays clocks, too",
                          (unsigned long long)p->rate_max);
        }
        return;
    }
    row->state = timer > 0 ? DOCTOR_LIMITED : DOCTOR_NO;
    doctor_found(row, "%.0f of %d Hz arrive by timers; there are no perf events",
                 timer > 0 ? timer : 0, PROBE_HZ);
    doctor_cost(row, "rates above %.0f Hz are not reached: timers tick with the kernel's CONFIG_HZ",
                timer > 0 ? timer : 0);
    doctor_change(row, "see perf events");
}

static void ring_row(struct doctor_report *r, const struct perf_rights *p)
{
    struct rlimit l = {0};
    getrlimit(RLIMIT_MEMLOCK, &l);
    char limit[32] = "unlimited";
    if (l.rlim_cur != RLIM_INFINITY)
        snprintf(limit, sizeof limit, "%llu KiB", (unsigned long long)l.rlim_cur / 1024);
    struct doctor_row *row = doctor_add(r, "perf rings", DOCTOR_OK);
    struct perf_watch_options wo = {.size = sizeof wo, .hz = PROBE_HZ, .stack_bytes = 8192};
    struct perf_watch *w = NULL;
    struct fscope_error err = {0};
    if (!p->user) {
        row->state = DOCTOR_NO;
        doctor_found(row, "none without perf events");
        doctor_cost(row, "no `record -p`");
        doctor_change(row, "see perf events");
        return;
    }
    if (perf_watch_new(&w, &wo, &err)) {
        row->state = DOCTOR_NO;
        doctor_found(row, "no ring can be mapped: %s", err.text);
        doctor_cost(row, "no `record -p`");
    } else {
        unsigned long long kib = perf_watch_ring_bytes(w) / 1024;
        doctor_found(row, "%llu KiB per CPU can be mapped (mlock_kb %llu, locked memory %s)", kib,
                     (unsigned long long)p->mlock_kb, limit);
        if (kib < 512) {
            row->state = DOCTOR_LIMITED;
            doctor_cost(row, "deep stacks are copied less far, and bursts may lose samples");
        }
        perf_watch_free(w);
    }
    if (row->state != DOCTOR_OK)
        doctor_change(row, "`sysctl kernel.perf_event_mlock_kb=4096`, or `ulimit -l 8192`");
}

static void counters_row(struct doctor_report *r, const struct perf_rights *p)
{
    struct doctor_row *row = doctor_add(r, "hardware counters", DOCTOR_INFO);
    doctor_found(row, p->hardware
                          ? "a cycles event opens"
                          : "none (usual in virtual machines); CPU clocks do not need them");
}

// --- BPF and tracing.

#ifdef FSCOPE_BPF
// What the unwind tables of our own process, which is at hand, would take.
static struct bpf_code_stats own_tables(void)
{
    struct builder_options o = {.size = sizeof o, .kind = SEG_KIND_CPU, .period_ns = 1};
    struct bpf_code_stats stats = {0};
    struct builder *b = NULL;
    struct perf_code *c = NULL;
    struct perf_process *p = NULL;
    if (!builder_new(&b, &o) && !perf_code_new(&c, b))
        p = perf_code_process(c, (uint32_t)getpid(), 0);
    if (p)
        bpf_code_estimate(&stats, p);
    perf_code_free(c);
    builder_free(b);
    return stats;
}

// Loads the programs of a profile, and runs nothing. text: what it takes, or what is wrong.
static bool try_profile(char *text, size_t size)
{
    struct bpf_programs_options o = {.size = sizeof o, .cpu_hz = 99, .config.kernel_stacks = 1};
    struct bpf_programs *p = NULL;
    struct fscope_error err = {0};
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    int rc = bpf_programs_new(&p, &o, &err);
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (rc) {
        snprintf(text, size, "%.240s", err.text);
        return false;
    }
    bpf_programs_free(p);
    double ms =
        (double)(end.tv_sec - begin.tv_sec) * 1e3 + (double)(end.tv_nsec - begin.tv_nsec) / 1e6;
    struct bpf_code_stats own = own_tables();
    snprintf(text, size,
             "the programs of `record --method=ebpf` load, in %.0f ms; their unwind tables take "
             "at most %llu MiB, of this program (%llu KiB of code) %llu KiB",
             ms, (unsigned long long)(BPF_CODE_BYTES_DEFAULT >> 20),
             (unsigned long long)own.text_bytes >> 10, (unsigned long long)own.table_bytes >> 10);
    return true;
}
#else
static bool try_profile(char *text, size_t size)
{
    snprintf(text, size, "this fiberscope was made without libbpf");
    return false;
}
#endif

static void bpf_row(struct doctor_report *r)
{
    struct bpf_facts facts;
    struct bpf_verdict verdict;
    char said[256];
    bpf_facts_find(&facts);
    bpf_facts_judge(&facts, &verdict);
    if (verdict.why == BPF_ALLOWED && !try_profile(said, sizeof said)) {
        verdict.why = BPF_REFUSED_OTHER;
        snprintf(verdict.cause, sizeof verdict.cause, "%s", said);
        snprintf(verdict.remedy, sizeof verdict.remedy, "use --method=perf, and report this");
    }
    bool ok = verdict.why == BPF_ALLOWED;
    struct doctor_row *row = doctor_add(r, "BPF", ok ? DOCTOR_OK : DOCTOR_LIMITED);
    if (ok) {
        doctor_found(row, "%s", said);
        return;
    }
    doctor_found(row, "%.250s", verdict.cause);
    doctor_cost(row, "no `record --method=ebpf`, `-a` and `--cgroup`; `record -p` does without");
    doctor_change(row, "%.310s", verdict.remedy);
}

// Traces a child of our own: 0 or the errno.
static int try_ptrace(void)
{
    int error = 0, status;
    pid_t pid = fork();
    if (pid < 0)
        return errno;
    if (pid == 0) {
        for (;;)
            pause();
    }
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL))
        error = errno;
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return error;
}

static void ptrace_row(struct doctor_report *r)
{
    static const char *const scopes[] = {
        "own processes",
        "own children only, or with CAP_SYS_PTRACE",
        "only with CAP_SYS_PTRACE",
        "nobody until the next boot",
    };
    int error = try_ptrace();
    bool may = doctor_capability(CAP_BIT_SYS_PTRACE);
    long long scope = -1;
    bool has_yama = doctor_number("/proc/sys/kernel/yama/ptrace_scope", &scope);
    bool free_scope = !has_yama || scope == 0 || (may && scope < 3);
    struct doctor_row *row = doctor_add(r, "ptrace",
                                        error        ? DOCTOR_NO
                                        : free_scope ? DOCTOR_OK
                                                     : DOCTOR_LIMITED);
    if (has_yama)
        doctor_found(row, "%s; Yama scope %lld: %s%s", error ? strerror(error) : "works", scope,
                     scopes[scope < 0 || scope > 3 ? 3 : scope], may ? " (you have it)" : "");
    else
        doctor_found(row, "%s; no Yama%s", error ? strerror(error) : "works",
                     may ? "; CAP_SYS_PTRACE" : "");
    if (row->state == DOCTOR_OK)
        return;
    doctor_cost(row, "nothing for `record`; the agent cannot be put into a running process");
    doctor_change(row, error ? "allow ptrace in the seccomp profile (--cap-add SYS_PTRACE)"
                             : "run as root, or `sysctl kernel.yama.ptrace_scope=0`");
}

static void tracer_row(struct doctor_report *r)
{
    char pid[32];
    if (!doctor_status("TracerPid", pid, sizeof pid) || strcmp(pid, "0") == 0)
        return;
    struct doctor_row *row = doctor_add(r, "being traced", DOCTOR_LIMITED);
    doctor_found(row, "process %s traces this one (strace, gdb)", pid);
    doctor_cost(row, "children started here may be traced too: slow, and their signals stop them");
    doctor_change(row, "start fiberscope outside of the tracer");
}

static void seccomp_row(struct doctor_report *r)
{
    char mode[32] = "", no_new[32] = "";
    doctor_status("Seccomp", mode, sizeof mode);
    doctor_status("NoNewPrivs", no_new, sizeof no_new);
    bool filtered = mode[0] && strcmp(mode, "0") != 0;
    struct doctor_row *row = doctor_add(r, "seccomp", DOCTOR_INFO);
    doctor_found(row, "%s%s", filtered ? "a filter is in force" : "no filter",
                 strcmp(no_new, "1") == 0 ? "; no new privileges" : "");
}

static void agent_row(struct doctor_report *r)
{
    char path[4096];
    struct fscope_error err = {0};
    int rc = launch_find_agent(path, sizeof path, &err);
    struct doctor_row *row = doctor_add(r, "agent", rc ? DOCTOR_LIMITED : DOCTOR_OK);
    if (!rc) {
        doctor_found(row, "%s", path);
        return;
    }
    doctor_found(row, "libfiberscope.so is not there: %s", err.text);
    doctor_cost(row, "`record COMMAND` cannot enter programs; `record -p` does not need it");
    doctor_change(row, "install it beside fiberscope, or set FIBERSCOPE_LIBDIR");
}

void doctor_examine(struct doctor_report *out)
{
    struct perf_rights p;
    out->count = 0;
    perf_rights_probe(&p);
    perf_row(out, &p);
    rate_row(out, &p);
    ring_row(out, &p);
    counters_row(out, &p);
    bpf_row(out);
    ptrace_row(out);
    tracer_row(out);
    seccomp_row(out);
    agent_row(out);
    doctor_system_rows(out);
}
