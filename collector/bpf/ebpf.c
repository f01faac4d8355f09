// SPDX-License-Identifier: MIT
//
// The recording by eBPF: see ebpf.h. What comes in is read each TICK, and sooner while processes begin whose code is not
// known yet, for until then each of their samples carries a copy of the stack.

#include "collector/bpf/ebpf_internal.h"

#include "collector/bpf/features.h"
#include "collector/bpf/privileges.h"
#include "collector/perf_event.h"
#include "collector/perf_target.h"
#include "collector/permission.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { TICK_MS = 100, TICK_BUSY_MS = 10, TICK_FIRST_MS = 2, JUDGED_SAMPLES_MIN = 50 };
enum { WAITING_BYTES_MAX = 4 << 20, PARTS = EBPF_RING_MAX / BPF_POLL_BYTES };
enum { DESCRIPTORS_WANTED = 1 << 20, SUMS_MAX = 65536, WAITS_MAX = 32768 };
// As perf_attach.c's: samples later than that wait.
#define HORIZON_NS UINT64_C(1000000)
#define SUMS_NS    UINT64_C(5000000000)
// By then a program has loaded its libraries and started its fibers.
#define BUSY_NS        UINT64_C(300000000)
#define LOOK_NS        UINT64_C(1000000000)
#define RATE_TOLERATED 0.95

// --- Refusals.

// Whether mappings of it can be read: without them no frame has a name.
static int check_target(const struct record_options *o, char *name, size_t size,
                        struct fscope_error *err)
{
    char path[64], why[256];
    struct perf_target target;
    int rc = perf_target_look(&target, o->pid, err);
    if (rc)
        return rc;
    snprintf(name, size, "%s", target.name);
    snprintf(path, sizeof path, "/proc/%u/maps", o->pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        close(fd);
        return 0;
    }
    rc = -errno;
    permission_explain(o->pid, PERMISSION_READ, why, sizeof why);
    return error_set(err, rc, 0, "process %u (%s) cannot be looked into: %s", o->pid, target.name,
                     why);
}

int record_ebpf_check(const struct record_options *o, struct fscope_error *err)
{
    int rc = ebpf_check_kinds(o, err);
    return rc ? rc : bpf_features_check(err);
}

// --- Beginning.

static int find_scope(struct ebpf *e, struct fscope_error *err)
{
    struct record_result *r = e->result;
    e->filter = e->o->cgroup          ? BPF_FILTER_CGROUP
                : e->o->whole_machine ? BPF_FILTER_ALL
                                      : BPF_FILTER_TARGETS;
    if (e->filter == BPF_FILTER_TARGETS)
        return 0;
    int rc = e->o->cgroup ? control_group_find(&e->group, e->o->cgroup, err) : 0;
    const char *slash = strrchr(e->group.path, '/');
    r->pid = (uint32_t)getpid(); // for the file's name
    snprintf(r->program, sizeof r->program, "%.63s",
             e->o->cgroup && slash && slash[1] ? slash + 1 : "machine");
    return rc;
}

static uint64_t unwind_bytes(const struct ebpf *e)
{
    return e->o->unwind_bytes ? e->o->unwind_bytes : BPF_CODE_BYTES_DEFAULT;
}

static int load(struct ebpf *e, struct fscope_error *err)
{
    e->stack_bytes = e->o->stack_bytes && e->o->stack_bytes < BPF_STACK_COPY_MAX
                         ? (e->o->stack_bytes + 7) & ~7u
                         : BPF_STACK_COPY_MAX;
    struct bpf_programs_options po = {
        .size = sizeof po,
        .config = {.filter = e->filter,
                   .inherit = e->o->inherit,
                   .stack_copy = e->stack_bytes,
                   .kernel_stacks = 1,
                   .cgroup_level = e->group.level,
                   .cgroup_id = e->group.id,
                   .self = (uint32_t)getpid(),
                   .seed = record_now_ns(CLOCK_MONOTONIC) * UINT64_C(0x9e3779b97f4a7c15)},
        .ring_bytes = e->o->ring_bytes,
        .sums_max = SUMS_MAX,
        .waits_max = WAITS_MAX,
    };
    ebpf_choose_programs(e, &po);
    int rc = bpf_programs_new(&e->programs, &po, err);
    if (!rc && (rc = bpf_code_new(&e->code, e->programs, unwind_bytes(e))))
        error_set(err, rc, 0, "out of memory");
    if (!rc)
        rc = sideband_open(&e->sideband, err);
    return rc;
}

static bool may_write(void *arg)
{
    const struct ebpf *e = arg;
    char path[4096];
    snprintf(path, sizeof path, "%s", record_profiles(e->o) ? record_profiles(e->o) : ".");
    if (strcmp(path, "-") == 0)
        return true;
    if (!record_path_is_folder(path)) {
        char *slash = strrchr(path, '/');
        snprintf(slash ? slash + (slash == path) : path, 2, "%s", slash ? "" : ".");
    }
    return faccessat(AT_FDCWD, path, W_OK | X_OK, AT_EACCESS) == 0;
}

// Who is recorded by name is known, with its code, before the first sample.
static int watch_first(struct ebpf *e, bool is_held, struct fscope_error *err)
{
    if (e->filter != BPF_FILTER_TARGETS)
        return 0;
    uint32_t pid = e->o->pid;
    struct ebpf_process *p = ebpf_process_put(e, pid);
    int rc = p ? bpf_programs_target(e->programs, (pid_t)pid, 0) : -ENOMEM;
    e->held_pid = is_held ? pid : 0;
    if (!rc && is_held)
        rc = perf_code_blank(e->processes, pid, e->start_ns) ? 0 : -ENOMEM;
    if (!rc && !is_held) {
        p->is_dirty = true;
        rc = ebpf_tell(e);
    }
    if (p)
        p->is_target = true;
    return rc ? error_set(err, rc, 0, "process %u cannot be watched: %s", pid, strerror(-rc)) : 0;
}

// Of a control group the processes are named for that, once.
static int watch_group(void *arg, uint32_t pid)
{
    const struct ebpf *e = arg;
    uint32_t slot;
    if (bpf_programs_slot_of(e->programs, (pid_t)pid, &slot))
        bpf_programs_target(e->programs, (pid_t)pid, 0);
    return 0;
}

// Each comes with a copy of its stack: the queue is not to hold those of all threads of the machine.
static int on_waiting_thread(void *arg, const struct bpf_head *head)
{
    struct ebpf *e = arg;
    int rc = ebpf_on_record(e, head);
    return !rc && e->queued >= WAITING_BYTES_MAX ? ebpf_settle(e) : rc;
}

int ebpf_take_waiting(struct ebpf *e, struct fscope_error *err)
{
    if (e->filter == BPF_FILTER_CGROUP)
        control_group_each_pid(&e->group, watch_group, e);
    int rc = bpf_programs_waiting(e->programs, on_waiting_thread, e);
    return rc ? error_set(err, rc, 0, "looking at threads that wait already: %s", strerror(-rc))
              : 0;
}

// All is attached, and who waits is known: from now on it counts, and the time goes on.
static void begin_counting(struct ebpf *e)
{
    uint64_t real_ns = record_now_ns(CLOCK_REALTIME);
    e->start_ns = e->summed_ns = bpf_programs_count_from_now(e->programs);
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++)
        if (e->result->builders[kind])
            builder_set_start(e->result->builders[kind], real_ns);
    if (e->filter != BPF_FILTER_TARGETS)
        e->busy_ns = ebpf_busy_ns(e);
    ebpf_look_at_cpu(e);
    e->rate_limit = ebpf_rate_limit();
}

static void end_counting(struct ebpf *e)
{
    e->result->duration_ns = bpf_programs_count_no_more(e->programs) - e->start_ns;
    if (e->filter != BPF_FILTER_TARGETS)
        e->busy_end_ns = ebpf_busy_ns(e);
    ebpf_look_at_cpu(e);
}

int ebpf_begin(struct ebpf *e, bool is_held, struct fscope_error *err)
{
    perf_raise_descriptor_limit(DESCRIPTORS_WANTED);
    int rc = ebpf_kinds_begin(e);
    if (rc)
        return error_set(err, rc, 0, "out of memory");
    perf_code_be_lazy(e->processes);
    rc = load(e, err);
    e->start_ns = record_now_ns(CLOCK_MONOTONIC);
    // Maps are read after the sideband began to tell of new ones: none is missed.
    if (!rc)
        rc = watch_first(e, is_held, err);
    if (!rc)
        ebpf_probes_begin(e);
    if (!rc) {
        bpf_programs_hold(e->programs);
        rc = bpf_programs_start(e->programs, err);
    }
    if (!rc)
        rc = ebpf_take_waiting(e, err);
    if (!rc)
        begin_counting(e);
    return rc;
}

static int start(struct ebpf *e, int go_fd, struct fscope_error *err)
{
    int rc = ebpf_begin(e, go_fd >= 0, err);
    if (!rc)
        rc = privileges_drop(may_write, e, go_fd < 0 ? 0 : UINT64_C(1) << CAP_KILL, err);
    if (!rc && go_fd >= 0 && write(go_fd, "g", 1) != 1)
        rc = error_set(err, -errno, 0, "the command could not be started: %s", strerror(errno));
    return rc;
}

// --- The recording.

// Below 0, or how many bytes have been taken.
static int64_t pump_part(struct ebpf *e)
{
    size_t before = e->queued;
    int64_t rc = bpf_programs_poll(e->programs, 0, -1, ebpf_on_record, e);
    int64_t taken = (int64_t)(e->queued - before);
    if (rc == -EINTR)
        rc = 0;
    if (rc >= 0)
        rc = ebpf_run_queue(e, record_now_ns(CLOCK_MONOTONIC) - HORIZON_NS);
    if (rc >= 0)
        rc = ebpf_tell(e);
    return rc < 0 ? rc : taken;
}

// In parts: what the first tell of new code spares it further copies, and the queue stays as small. All together at most what
// the largest ring holds: what comes meanwhile may keep it full for as long as it lasts.
int ebpf_pump(struct ebpf *e)
{
    int64_t taken = BPF_POLL_BYTES / 2;
    for (int i = 0; taken >= BPF_POLL_BYTES / 2 && i < PARTS; i++)
        taken = pump_part(e);
    return taken < 0 ? (int)taken : 0;
}

int ebpf_next_tick_ms(struct ebpf *e, uint64_t now)
{
    uint64_t tick = (now - e->start_ns) / 8000000 + TICK_FIRST_MS;
    uint64_t most = now < e->busy_since_ns + BUSY_NS ? TICK_BUSY_MS : TICK_MS;
    if (tick > most)
        tick = most;
    if (e->o->duration_ns) {
        uint64_t left = (e->start_ns + e->o->duration_ns - now) / 1000000 + 1;
        tick = left < tick ? left : tick;
    }
    return (int)tick;
}

bool ebpf_has_ended(const struct ebpf *e)
{
    struct perf_target t;
    struct pollfd fd = {.fd = e->pidfd, .events = POLLIN};
    if (e->filter != BPF_FILTER_TARGETS)
        return false;
    return e->pidfd < 0 ? perf_target_look(&t, e->o->pid, NULL) == -ESRCH : poll(&fd, 1, 0) > 0;
}

int ebpf_look(struct ebpf *e, uint64_t now)
{
    int rc = 0;
    if (now - e->looked_ns >= LOOK_NS) {
        e->looked_ns = now;
        ebpf_look_at_cpu(e);
    }
    // Who is shown the progress sees what was taken up to now.
    if (now - e->summed_ns >= SUMS_NS || e->new_keys > SUMS_MAX / 2 ||
        record_progress_is_due(&e->progress)) {
        e->summed_ns = now;
        rc = ebpf_take_sums(e, false);
    }
    record_progress_show(&e->progress, e->result);
    return rc;
}

// Serves until the process has ended, the time is over or we are asked to stop.
static int serve(struct ebpf *e, const volatile int *stop)
{
    for (;;) {
        uint64_t now = record_now_ns(CLOCK_MONOTONIC);
        if (*stop || (e->o->duration_ns && now - e->start_ns >= e->o->duration_ns))
            return 0;
        if (e->o->is_over) { // who asks looks at the builder
            int rc = ebpf_take_sums(e, false);
            if (rc || e->o->is_over(e->o->arg))
                return rc;
        }
        int ended = sideband_wait(e->sideband, e->pidfd, ebpf_next_tick_ms(e, now));
        if (ended < 0 && ended != -EINTR)
            return ended;
        int rc = ebpf_pump(e);
        if (!rc)
            rc = ebpf_look(e, now);
        if (rc)
            return rc;
        if (ended > 0 || ebpf_has_ended(e)) {
            e->result->target_ended = true;
            return 0;
        }
    }
}

// --- The end.

// Why fewer samples came than CPU time passed.
const char *ebpf_shortfall(const struct bpf_losses *l, uint32_t limit_before, uint32_t limit_after)
{
    if (l->ring)
        return "the ring overflowed; lower -F, or give fiberscope more CPU";
    if (l->busy)
        return "samples met another one of the same CPU at work; lower -F";
    if (limit_after < limit_before)
        return "the kernel throttles events, as they took it too long: it has lowered "
               "kernel.perf_event_max_sample_rate (kernel.perf_cpu_time_max_percent says from when "
               "on)";
    return "the reason is not known: none was lost, and the kernel has lowered no rate. It counts "
           "CPU time in ticks, and the host of a virtual machine may have had its processors";
}

static void judge(struct ebpf *e, const struct bpf_losses *l)
{
    struct record_result *r = e->result;
    struct bpf_code_stats code;
    uint64_t cpu_ns = ebpf_cpu_ns(e);
    uint32_t asked = e->hz;
    bpf_code_get_stats(e->code, &code);
    if (cpu_ns && e->samples >= JUDGED_SAMPLES_MIN)
        r->delivered_hz[RECORD_CPU] = (double)e->samples * 1e9 / (double)cpu_ns;
    double hz = r->delivered_hz[RECORD_CPU];
    if (hz > 0 && hz < RATE_TOLERATED * asked)
        snprintf(r->rate_note, sizeof r->rate_note, "%.0f Hz instead of %u: %s", hz, asked,
                 ebpf_shortfall(l, e->rate_limit, ebpf_rate_limit()));
    const struct ebpf_lacks lacks = {.losses = *l,
                                     .code = code,
                                     .unwind_bytes = unwind_bytes(e),
                                     .unread_files = perf_code_no_room(e->processes),
                                     .cut = e->cut,
                                     .stack_bytes = e->stack_bytes,
                                     .waits_max = WAITS_MAX,
                                     .sums_max = SUMS_MAX,
                                     .sums_seconds = (uint32_t)(SUMS_NS / EBPF_SECOND_NS)};
    ebpf_tell_lacks(r, &lacks);
    r->damaged = e->damaged + sideband_damaged(e->sideband);
}

static void comment_costs(struct ebpf *e, const struct bpf_losses *l)
{
    char text[320];
    struct bpf_code_stats s;
    bpf_code_get_stats(e->code, &s);
    snprintf(text, sizeof text,
             "ebpf: %u tables of %llu KiB for %llu KiB of code, %u rules, %u processes; %llu "
             "evicted; %llu samples by copy, %llu torn",
             s.tables, (unsigned long long)s.table_bytes >> 10,
             (unsigned long long)s.text_bytes >> 10, s.rules, s.slots,
             (unsigned long long)s.evicted, (unsigned long long)e->copies,
             (unsigned long long)l->torn);
    record_comment(e->result, text);
}

static int finish(struct ebpf *e, int rc)
{
    struct bpf_losses losses = {0};
    end_counting(e);
    bpf_programs_end(e->programs);
    int rc2 = ebpf_take_sums(e, true);
    bpf_programs_losses(e->programs, &losses);
    e->lost += losses.ring + losses.busy;
    ebpf_lost(e);
    ebpf_probes_finish(e);
    judge(e, &losses);
    comment_costs(e, &losses);
    return rc ? rc : rc2;
}

static int run(struct ebpf *e, int go_fd, const volatile int *stop, struct fscope_error *err)
{
    int rc = start(e, go_fd, err);
    if (rc)
        return rc;
    rc = finish(e, serve(e, stop));
    if (rc) // what there is is the user's
        record_warn(e->result,
                    "the recording ended early: %s; what was recorded up to then is here",
                    strerror(-rc));
    return 0;
}

void ebpf_free(struct ebpf *e)
{
    if (!e)
        return;
    ebpf_samples_free(e);
    ebpf_probes_free(e);
    ebpf_processes_free(e);
    futex_calls_free(e->futexes);
    bpf_code_free(e->code);
    bpf_programs_free(e->programs);
    sideband_close(e->sideband);
    perf_code_free(e->processes);
    if (e->pidfd >= 0)
        close(e->pidfd);
    free(e);
}

static int open_pid(struct ebpf *e, struct fscope_error *err)
{
    e->result->pid = e->o->pid;
    e->pidfd = (int)syscall(SYS_pidfd_open, e->o->pid, 0);
    return e->pidfd < 0 && errno == ESRCH
               ? error_set(err, -ESRCH, 0, "process %u has ended", e->o->pid)
               : 0;
}

int ebpf_prepare(struct ebpf *e, bool is_held, struct fscope_error *err)
{
    const struct record_options *o = e->o;
    char name[64] = "";
    e->result->by_ebpf = true;
    int rc = ebpf_check_kinds(o, err);
    if (!rc && o->pid && !is_held)
        rc = check_target(o, name, sizeof name, err);
    if (!rc)
        rc = bpf_features_check(err);
    if (!rc && !e->result->builders[RECORD_CUSTOM])
        rc = record_new_builders(o, e->result, err);
    if (!rc)
        rc = find_scope(e, err);
    if (!rc && o->pid)
        rc = open_pid(e, err);
    if (!rc)
        rc = ebpf_probes_look(e, is_held, err);
    if (!rc && !e->result->program[0])
        snprintf(e->result->program, sizeof e->result->program, "%s", name);
    return rc;
}

struct ebpf *ebpf_new(const struct record_options *o, struct record_result *result)
{
    struct ebpf *e = calloc(1, sizeof *e);
    if (e)
        *e = (struct ebpf){.o = o, .result = result, .pidfd = -1};
    return e;
}

int record_ebpf(const struct record_options *o, int go_fd, const volatile int *stop,
                struct record_result *result, struct fscope_error *err)
{
    struct ebpf *e = ebpf_new(o, result);
    int rc = e ? ebpf_prepare(e, go_fd >= 0, err) : error_set(err, -ENOMEM, 0, "out of memory");
    if (!rc) {
        record_progress_begin(&e->progress, o);
        rc = run(e, go_fd, stop, err);
        record_progress_end(&e->progress);
    }
    ebpf_free(e);
    if (go_fd >= 0)
        close(go_fd); // unwritten: the child ends without exec
    return rc;
}
