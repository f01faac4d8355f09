// SPDX-License-Identifier: MIT
//
// fiberscope record: runs a command, or watches a process, and writes what it did.
//
// Naming a kind (--cpu, --heap, ...) replaces the default, so `--wall` alone is wall time alone. The
// exit status is the command's.

#include "cli/commands.h"

#include "collector/record.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <stdlib.h>

enum { HZ_DEFAULT = 99, HZ_MAX = 10000, STACK_BYTES_MAX = 65528 };
// The agent's own bounds.
#define HEAP_BYTES_MAX   (UINT64_C(1) << 40)
#define BLOCK_NS_DEFAULT UINT64_C(10000)
#define BLOCK_NS_MAX     UINT64_C(3600000000000)
#define MUTEX_MAX        UINT64_C(1000000000)
#define OFFCPU_MAX       UINT64_C(1000000)
#define TRACE_BYTES_MIN  (UINT64_C(1) << 20)
#define TRACE_BYTES_MAX  (UINT64_C(64) << 30)
#define KERNEL_BYTES_MIN (UINT64_C(64) << 10)
#define KERNEL_BYTES_MAX (UINT64_C(1) << 30)
#define PID_NONE         UINT64_MAX // not given

struct settings {
    uint64_t hz, pid, stack_bytes;
    const char *cpu, *wall, *offcpu, *heap, *block, *mutex, *events; // "" when given without a rate
    const char *output, *go, *method, *cgroup;
    uint64_t trace_bytes, kernel_bytes, unwind_bytes;
    int64_t duration_ns, slow_region, slow_task, slow_latency, slow_stall;
    bool wakeups, all, mmaps, malloc_uprobes, fibers, trace, kernel, flight, no_inherit, no_symbols,
        quiet, all_processes;
};

static const struct settings defaults = {.hz = HZ_DEFAULT,
                                         .trace_bytes = RECORD_TRACE_BYTES_DEFAULT,
                                         .duration_ns = -1,
                                         .slow_region = -1,
                                         .slow_task = -1,
                                         .slow_latency = -1,
                                         .slow_stall = -1,
                                         .pid = PID_NONE};

static const struct cli_option options[] = {
    CLI_STRING(struct settings, output, "output", 'o', "FILE", NULL,
               "write to FILE; %e is the program, %p the pid, %k the kind; a folder (made if "
               "it ends in /) gets %e.%p.%k.pb.gz, the default name; %p makes a file per process"),
    CLI_UINT(struct settings, hz, "freq", 'F', "HZ", NULL,
             "samples per second of CPU (or wall) time; 99 by default"),
    CLI_DURATION(struct settings, duration_ns, "duration", 'd', "TIME", NULL,
                 "record for TIME (30s, 500ms, 2m); the command goes on"),
    CLI_UINT(struct settings, pid, "pid", 'p', "PID", NULL,
             "record a running process: by the agent inside it, if there is one that answers, else "
             "from outside, without touching it"),
    CLI_FLAG(struct settings, all_processes, "all-processes", 'a', NULL,
             "record all processes, by eBPF, until -d is over or Ctrl-C"),
    CLI_STRING(struct settings, cgroup, "cgroup", 0, "PATH", NULL,
               "record the processes of a control group of version 2, by eBPF"),
    CLI_OPTIONAL(struct settings, cpu, "cpu", 0, "HZ", "What to record",
                 "time on a CPU, the default"),
    CLI_OPTIONAL(struct settings, wall, "wall", 0, "HZ", "What to record",
                 "all threads by the clock on the wall, also those that wait"),
    CLI_OPTIONAL(struct settings, heap, "heap", 0, "BYTES|exact", "What to record",
                 "allocations, one in BYTES (512KiB by default), or each of them"),
    CLI_OPTIONAL(struct settings, block, "block", 0, "TIME", "What to record",
                 "waiting for locks and other threads; all waits from TIME (10us by default) on, "
                 "shorter ones by chance"),
    CLI_OPTIONAL(struct settings, mutex, "mutex", 0, "N", "What to record",
                 "who makes others wait for locks; one in N contentions (1 by default)"),
    CLI_FLAG(struct settings, all, "all", 0, "What to record",
             "cpu, wall, heap, block and mutex, each at its default where it is not named"),
    CLI_OPTIONAL(
        struct settings, offcpu, "offcpu", 0, "N", "What to record",
        "time that threads do not run, waiting or for want of a processor; one in N waits (1 by "
        "default); by eBPF"),
    CLI_FLAG(struct settings, wakeups, "wakeups", 0, "What to record",
             "who makes waiting threads run again, and how long they had waited; by eBPF"),
    CLI_FLAG(struct settings, mmaps, "mmap", 0, "What to record",
             "with --heap: mmap and munmap count as allocations too"),
    CLI_FLAG(
        struct settings, malloc_uprobes, "malloc", 0, "What to record",
        "with --heap, by eBPF: allocations by uprobes in the process' malloc, without the agent; "
        "each malloc and free then takes microseconds longer"),
    CLI_OPTIONAL(
        struct settings, events, "fiber-events", 0, "N", "What to record",
        "where fibers of libfiberscope-rt are spawned, park, are woken, preempted and so on, "
        "one in N (1 by default), a profile for each; by eBPF"),
    CLI_FLAG(struct settings, trace, "trace", 0, "What to record",
             "an execution trace: what each fiber or thread did, and what it waited for, for "
             "`fiberscope trace` and `go tool trace`; with --cpu, with its samples"),
    CLI_FLAG(
        struct settings, fibers, "fibers", 0, "What to record",
        "at the end a snapshot of all fibers of a program on libfiberscope-rt (pprof's goroutine); "
        "with -p and no other kind, that alone and at once"),
    CLI_FLAG(struct settings, no_inherit, "no-inherit", 0, "What to record",
             "the first process alone, not its children"),
    CLI_FLAG(struct settings, flight, "flight", 0, "With --trace",
             "keep the newest events alone, and write them at each SIGUSR2 to fiberscope and at "
             "the end: to "
             "FILE, FILE.2 and so on"),
    CLI_DURATION(struct settings, slow_region, "slow-region", 0, "TIME", "With --trace",
                 "with --flight, which it implies: write them when a region took longer"),
    CLI_DURATION(struct settings, slow_task, "slow-task", 0, "TIME", "With --trace",
                 "the same for a task"),
    CLI_DURATION(
        struct settings, slow_latency, "slow-latency", 0, "TIME", "With --trace",
        "when a fiber waited longer for a processor (one in 8 is looked at; fiber runtime only)"),
    CLI_DURATION(struct settings, slow_stall, "slow-stall", 0, "TIME", "With --trace",
                 "when a fiber held its processor longer (fiber runtime only)"),
    CLI_SIZE(
        struct settings, trace_bytes, "trace-buffer", 0, "BYTES", "With --trace",
        "room for events in the program, 64MiB by default; a trace is cut, and goes on in another "
        "file, when it is full"),
    CLI_FLAG(
        struct settings, kernel, "kernel", 0, "With --trace",
        "also what the kernel did with the threads (switches, wakeups, system calls, page faults), "
        "as a trace of its own beside it, FILE.kernel.trace, for `fiberscope trace lost`; by eBPF"),
    CLI_SIZE(struct settings, kernel_bytes, "kernel-buffer", 0, "BYTES", "With --trace",
             "room for the kernel's records, 32MiB by default"),
    CLI_STRING(
        struct settings, go, "go", 0, "VERSION", "With --trace",
        "format of the file: 1.23, the default (all of Go's tools since then read it), or 1.26 "
        "(has the time of day)"),
    CLI_FLAG(struct settings, no_symbols, "no-symbols", 0, "Output",
             "write addresses; `fiberscope symbolize` names them later"),
    CLI_FLAG(struct settings, quiet, "quiet", 'q', "Output", "no progress, no closing lines"),
    CLI_CHOICE(
        struct settings, method, "method", 0, "WAY", "How to reach it",
        "agent (inside it, or fail), inject (as agent, which is put in first and taken out of "
        "service at the end), perf (from outside: CPU alone), ebpf (the same by programs in the "
        "kernel, as "
        "root; also of a command) or auto",
        "auto agent inject perf ebpf"),
    CLI_SIZE(struct settings, stack_bytes, "stack-size", 0, "BYTES", "How to reach it",
             "copy so much of the stack with each sample; by default as much as is needed"),
    CLI_SIZE(struct settings, unwind_bytes, "unwind-memory", 0, "BYTES", "How to reach it",
             "by eBPF: unwind tables take at most so much of the kernel's memory; 256MiB"),
};

// "" means the common rate. 0 or CLI_USAGE, after saying why.
static int read_rate(const char *option, const char *text, uint32_t *hz)
{
    char *end = NULL;
    if (!text || !*text)
        return 0;
    unsigned long n = strtoul(text, &end, 10);
    if (end == text || *end || *text == '-' || n < 1 || n > HZ_MAX)
        return cli_usage("--%s=%.40s: a rate from 1 to %d Hz is needed", option, text, HZ_MAX);
    *hz = (uint32_t)n;
    return 0;
}

// "" means the default.
static int read_heap(const char *text, uint64_t *bytes)
{
    *bytes = RECORD_HEAP_BYTES_DEFAULT;
    if (!*text)
        return 0;
    if (strcmp(text, "exact") == 0)
        *bytes = 1;
    else if (cli_parse_size(text, bytes) || *bytes < 1 || *bytes > HEAP_BYTES_MAX)
        return cli_usage(
            "--heap=%.40s: bytes per sample (512KiB; at most 1TiB) or `exact` is needed", text);
    return 0;
}

// A number alone is nanoseconds, as in Go.
static int read_block(const char *text, uint64_t *ns)
{
    int64_t parsed = BLOCK_NS_DEFAULT;
    char *end = NULL;
    bool is_number = *text >= '0' && *text <= '9';
    unsigned long long n = is_number ? strtoull(text, &end, 10) : 0;
    if (is_number && !*end)
        parsed = n <= BLOCK_NS_MAX ? (int64_t)n : 0;
    else if (*text && (!is_number || cli_parse_duration(text, &parsed)))
        parsed = 0;
    if (parsed < 1 || (uint64_t)parsed > BLOCK_NS_MAX)
        return cli_usage("--block=%.40s: a time (10us; nanoseconds without a unit; at most 1h) is "
                         "needed",
                         text);
    *ns = (uint64_t)parsed;
    return 0;
}

// One in so many. 0 or CLI_USAGE.
static int read_fraction(const char *option, const char *of, const char *text, uint64_t most,
                         uint64_t *fraction)
{
    char *end = NULL;
    *fraction = 1;
    if (!*text)
        return 0;
    unsigned long long n = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    if (n < 1 || n > most || *end)
        return cli_usage("--%s=%.40s: one in how many %s (a number from 1 to %llu) is needed",
                         option, text, of, (unsigned long long)most);
    *fraction = n;
    return 0;
}

static int read_trace(const struct settings *s, struct record_options *o)
{
    if (s->trace_bytes < TRACE_BYTES_MIN || s->trace_bytes > TRACE_BYTES_MAX)
        return cli_usage("--trace-buffer: from 1MiB to 64GiB");
    o->trace = true;
    static const char *const names[] = {"region", "task", "latency", "stall"};
    const int64_t slow[] = {s->slow_region, s->slow_task, s->slow_latency, s->slow_stall};
    o->trace_flight = s->flight;
    for (int i = 0; i < 4; i++) {
        if (!slow[i])
            return cli_usage("--slow-%s=0: a time is needed; without it there is no such condition",
                             names[i]);
        o->trace_slow_ns[i] = slow[i] > 0 ? (uint64_t)slow[i] : 0;
        o->trace_flight |= slow[i] > 0;
    }
    if (s->kernel_bytes && !s->kernel)
        return cli_usage("--kernel-buffer is about a kernel trace: it needs --kernel");
    if (s->kernel_bytes > KERNEL_BYTES_MAX)
        return cli_usage("--kernel-buffer: at most 1GiB");
    o->kernel = s->kernel;
    o->kernel_ring_bytes = s->kernel_bytes ? KERNEL_BYTES_MIN : 0;
    while (o->kernel_ring_bytes < s->kernel_bytes) // it has to be a power of two
        o->kernel_ring_bytes *= 2;
    o->trace_bytes = s->trace_bytes;
    return cli_parse_trace_version(s->go, &o->trace_version)
               ? cli_usage("--go=%.40s: the versions are 1.23 and 1.26", s->go)
               : 0;
}

static bool is_tracing(const struct settings *s)
{
    return s->trace || s->flight || s->slow_region >= 0 || s->slow_task >= 0 ||
           s->slow_latency >= 0 || s->slow_stall >= 0;
}

// Which kinds, at which rates. 0 or CLI_USAGE.
static int read_kinds(const struct settings *s, struct record_options *o)
{
    const char *heap = s->all && !s->heap ? "" : s->heap;
    const char *block = s->all && !s->block ? "" : s->block;
    const char *mutex = s->all && !s->mutex ? "" : s->mutex;
    bool is_default = !s->wall && !s->offcpu && !s->wakeups && !heap && !block && !mutex &&
                      !s->events && !is_tracing(s);
    o->cpu_hz = s->cpu || s->all || is_default ? (uint32_t)s->hz : 0;
    o->wall_hz = s->wall || s->all ? (uint32_t)s->hz : 0;
    o->mmaps = s->mmaps;
    o->fibers = s->fibers;
    if (s->fibers && s->pid && is_default && !s->cpu && !s->all)
        o->cpu_hz = 0;
    int rc = read_rate("cpu", s->cpu, &o->cpu_hz);
    if (!rc)
        rc = read_rate("wall", s->wall, &o->wall_hz);
    if (!rc && heap)
        rc = read_heap(heap, &o->heap_bytes);
    if (!rc && block)
        rc = read_block(block, &o->block_ns);
    if (!rc && mutex)
        rc = read_fraction("mutex", "contentions", mutex, MUTEX_MAX, &o->mutex_fraction);
    o->wakeups = s->wakeups;
    if (!rc && s->offcpu)
        rc = read_fraction("offcpu", "waits", s->offcpu, OFFCPU_MAX, &o->offcpu_fraction);
    if (!rc && s->events)
        rc = read_fraction("fiber-events", "events", s->events, MUTEX_MAX, &o->fiber_fraction);
    o->malloc_uprobes = s->malloc_uprobes;
    if (!rc && s->malloc_uprobes && !heap)
        rc = cli_usage("--malloc is a way to see allocations: it needs --heap");
    if (!rc && is_tracing(s))
        rc = read_trace(s, o);
    else if (!rc && (s->kernel || s->kernel_bytes))
        rc = cli_usage("--kernel goes beside a trace: it needs --trace");
    else if (!rc && (s->go || s->trace_bytes != defaults.trace_bytes))
        rc = cli_usage("--go and --trace-buffer are about a trace: they need --trace");
    if (!rc && s->mmaps && !heap)
        rc = cli_usage("--mmap counts allocations: it needs --heap");
    return rc;
}

// 0 or CLI_USAGE.
static int read_whom(const struct settings *s, int argc, char **argv, struct record_options *o)
{
    bool is_many = s->all_processes || s->cgroup,
         by_kernel = is_many || s->offcpu || s->wakeups || s->malloc_uprobes || s->events;
    const char *many = s->cgroup ? "--cgroup" : "-a";
    if (s->pid > INT32_MAX)
        return cli_usage("-p %llu: there is no such process id", (unsigned long long)s->pid);
    if (s->pid && argc)
        return cli_usage("either -p %llu or a command (%.60s), not both",
                         (unsigned long long)s->pid, argv[0]);
    if (is_many && (s->pid || argc || (s->all_processes && s->cgroup)))
        return cli_usage("%s is instead of a command, -p PID%s", many,
                         s->cgroup ? " and -a" : " and --cgroup");
    if (is_many && (s->fibers || s->no_inherit))
        return cli_usage("%s: --fibers and --no-inherit are of one process", many);
    if (!s->pid && !argc && !is_many)
        return cli_usage("what to record is missing: a command with its arguments, or -p PID");
    o->method = !s->method || !strcmp(s->method, "auto") ? RECORD_AUTO
                : !strcmp(s->method, "agent")            ? RECORD_AGENT
                : !strcmp(s->method, "inject")           ? RECORD_INJECT
                : !strcmp(s->method, "ebpf")             ? RECORD_EBPF
                                                         : RECORD_PERF;
    if (by_kernel && o->method != RECORD_AUTO && o->method != RECORD_EBPF)
        return cli_usage("%s is recorded by eBPF alone, not with --method=%s",
                         is_many      ? many
                         : s->offcpu  ? "--offcpu"
                         : s->wakeups ? "--wakeups"
                         : s->events  ? "--fiber-events"
                                      : "--malloc",
                         s->method);
    if (s->method && !s->pid && !by_kernel && o->method != RECORD_EBPF)
        return cli_usage("--method says how to reach a running process: it needs -p PID");
    if (by_kernel)
        o->method = RECORD_EBPF;
    o->whole_machine = s->all_processes;
    o->cgroup = s->cgroup;
    o->pid = (uint32_t)s->pid;
    return 0;
}

static int read_settings(const struct settings *s, int argc, char **argv, struct record_options *o)
{
    record_options_init(o);
    if (s->hz < 1 || s->hz > HZ_MAX)
        return cli_usage("-F %llu: a rate from 1 to %d Hz is needed", (unsigned long long)s->hz,
                         HZ_MAX);
    int rc = read_whom(s, argc, argv, o);
    if (rc)
        return rc;
    if (s->stack_bytes > STACK_BYTES_MAX)
        return cli_usage("--stack-size: at most %d bytes can be copied", STACK_BYTES_MAX);
    if (s->output && !*s->output)
        return cli_usage("-o: an empty name");
    if (!s->duration_ns)
        return cli_usage("-d 0: nothing would be recorded; without -d there is no limit");
    o->duration_ns = s->duration_ns > 0 ? (uint64_t)s->duration_ns : 0;
    o->output = s->output;
    o->inherit = !s->no_inherit;
    o->symbolize = !s->no_symbols;
    o->quiet = s->quiet;
    o->stack_bytes = (uint32_t)s->stack_bytes;
    o->unwind_bytes = s->unwind_bytes;
    if (s->mmaps && s->pid)
        return cli_usage("--mmap needs a command: a running program's mappings are not followed");
    o->command = argv;
    return read_kinds(s, o);
}

// What became of the command where that is no news by its status alone.
static void say_command(const struct record_options *o, const struct record_result *result, int rc)
{
    if (o->quiet || o->pid || o->whole_machine || o->cgroup)
        return;
    // One's own Ctrl-C is no news.
    if (result->killed_by && result->killed_by != SIGINT)
        cli_note(
            "the command was killed by signal %d (%s); what was written holds what came before",
            result->killed_by, strsignal(result->killed_by));
    if (result->killed_by && result->seccomp)
        cli_note("it was in seccomp's mode %s, which may have killed it for a system call of the "
                 "agent inside it: start it without fiberscope and watch it from outside, by "
                 "`fiberscope record --method=perf -p PID` (CPU time alone)",
                 result->seccomp == 2 ? "of filters" : "that is strict");
    if (rc && rc != -ENODATA && result->target_ended && !result->killed_by)
        cli_note("the command itself ended with status %d; it has to be run again to be recorded: "
                 "-o names another place",
                 result->exit_status);
}

static int run(void *p, int argc, char **argv)
{
    struct settings *s = p;
    struct record_options o;
    struct record_result result = {0};
    struct fscope_error err = {0};
    char profiles[PATH_MAX];
    if (!s->pid)
        return cli_usage("-p 0: there is no such process");
    s->pid = s->pid == PID_NONE ? 0 : s->pid;
    int status = read_settings(s, argc, argv, &o);
    if (status)
        return status;
    if (record_name_profiles(&o, profiles, sizeof profiles, &err) || record_check_output(&o, &err))
        return cli_fail("%s", err.text);
    bool is_running = o.pid || o.whole_machine || o.cgroup;
    int rc = is_running ? record_process(&o, &result, &err) : record_command(&o, &result, &err);
    status = result.exit_status;
    if (!rc)
        rc = record_fibers(&o, &result, &err);
    if (rc) {
        cli_fail("%s", err.text);
        status = status ? status : CLI_FAILURE;
    } else if ((rc = record_write(&o, &result, &err))) {
        cli_fail("%s", err.text);
        record_wait(&o, &result);
        // A command that came to nothing is why there is nothing; a moment of a process may have none, beside the rest.
        bool is_rest = o.pid && (o.cpu_hz || o.wall_hz || o.heap_bytes || o.block_ns ||
                                 o.offcpu_fraction || o.wakeups || o.fiber_fraction);
        if (rc != -ENODATA || (!status && !is_rest))
            status = CLI_FAILURE;
    } else {
        record_wait(&o, &result);
        status = result.exit_status;
    }
    say_command(&o, &result, rc);
    record_result_free(&result);
    return status;
}

const struct cli_command cmd_record = {
    .name = "record",
    .summary = "record a profile of a command or of a running process",
    .operands = "COMMAND [ARGUMENT...] | -p PID | -a | --cgroup PATH",
    .details =
        "Runs COMMAND and writes a pprof profile of it and of the processes that it starts when\n"
        "it ends, a file for each kind that is named (--cpu where none is). The exit status is\n"
        "the command's. With --trace also an execution trace, a file for each process.\n"
        "Ctrl-C ends the recording, not the data.",
    .examples = "  fiberscope record make -j2\n"
                "  fiberscope record -F 999 -o p.pb.gz xz -9 FILE\n"
                "  fiberscope record --heap=exact -o heap.pb.gz ./server --selftest\n"
                "  fiberscope record --cpu --block --mutex -o profiles/ ./server\n"
                "  fiberscope record --trace -o t.trace ./server\n"
                "  fiberscope record -p $(pidof postgres) --duration 30s\n"
                "  fiberscope record -p $(pidof shorten) --cpu --heap --trace -d 10s -o shorten/\n"
                "  fiberscope record --fibers -p $(pidof shorten)\n"
                "  fiberscope record -a -d 30s -o machine.pb.gz",
    .flags = CLI_STOP_AT_OPERAND,
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
