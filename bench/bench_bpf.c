// SPDX-License-Identifier: MIT
//
// What a sample costs in the kernel: ours (a stack by tables, key, count) against bpf_get_stackid, which goes by frame
// pointers, alternately in one run on the same threads. Ours is measured whole, and so is the peer, as most samplers are
// written: user and kernel stack ids and a count; `alone` is one call of bpf_get_stackid and nothing else.
// Needs the right to load BPF programs. Usage: bench_bpf [ROUNDS [HZ [PROGRAM ARGUMENT...]]]

#include "collector/perf_event.h"
#include "tests/conformance/bpf_fill.h"

#include "collector/bpf/stackid.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS_MAX = 1000, SLOT = 1, CPUS_MAX = 256, ROUND_MS = 500 };

struct peer {
    struct stackid_bpf *skeleton;
    struct bpf_link *links[CPUS_MAX];
    int count;
};

struct cost {
    uint64_t ns, runs;
};

static struct bpf_programs *ours;
static struct fill fill;

static void die(const char *what)
{
    fprintf(stderr, "bench_bpf: %s\n", what);
    exit(2);
}

static void wait_ms(long ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static pid_t start_load(char **argv)
{
    pid_t pid = fork();
    if (pid == 0) {
        execvp(argv[0], argv);
        _exit(127);
    }
    wait_ms(300);
    if (waitpid(pid, NULL, WNOHANG))
        die("the load ended at once");
    return pid;
}

static void watch(pid_t pid)
{
    struct builder *b;
    struct perf_code *code = NULL;
    struct builder_options bo = {.size = sizeof bo, .kind = SEG_KIND_CPU, .period_ns = 1};
    if (builder_new(&b, &bo) || perf_code_new(&code, b))
        die("out of memory");
    fill_init(&fill, ours);
    fill_slot(&fill, SLOT, perf_code_process(code, (uint32_t)pid, 0));
    bpf_programs_target(ours, pid, SLOT);
    fill_finish(&fill);
    perf_code_free(code);
    builder_free(b);
}

static void peer_start(struct peer *p, const struct bpf_program *program, uint32_t hz)
{
    int cpus = libbpf_num_possible_cpus();
    for (int cpu = 0; cpu < cpus && cpu < CPUS_MAX; cpu++) {
        struct perf_event_attr attr = {
            .size = sizeof attr,
            .type = bpf_programs_is_hardware(ours) ? PERF_TYPE_HARDWARE : PERF_TYPE_SOFTWARE,
            .config =
                bpf_programs_is_hardware(ours) ? PERF_COUNT_HW_CPU_CYCLES : PERF_COUNT_SW_CPU_CLOCK,
            .sample_freq = hz,
            .freq = 1,
            .exclude_idle = 1,
        };
        int fd = perf_event_open_raw(&attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
        if (fd >= 0 && !(p->links[p->count++] = bpf_program__attach_perf_event(program, fd)))
            die("cannot attach the peer");
    }
}

static void peer_stop(struct peer *p)
{
    while (p->count)
        bpf_link__destroy(p->links[--p->count]);
}

static struct cost peer_cost(const struct bpf_program *program)
{
    struct bpf_prog_info info = {0};
    uint32_t size = sizeof info;
    if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size))
        die("no statistics");
    return (struct cost){info.run_time_ns, info.run_cnt};
}

static double mean(struct cost before, struct cost after)
{
    if (after.runs - before.runs < 50)
        die("hardly any sample");
    return (double)(after.ns - before.ns) / (double)(after.runs - before.runs);
}

static double round_ours(void)
{
    struct cost before, after;
    struct fscope_error err;
    bpf_programs_cost(ours, &before.ns, &before.runs);
    if (bpf_programs_start(ours, &err))
        die(err.text);
    wait_ms(ROUND_MS);
    bpf_programs_stop(ours);
    bpf_programs_cost(ours, &after.ns, &after.runs);
    return mean(before, after);
}

static double round_peer(struct peer *p, const struct bpf_program *program, uint32_t hz)
{
    struct cost before = peer_cost(program);
    peer_start(p, program, hz);
    wait_ms(ROUND_MS);
    peer_stop(p);
    return mean(before, peer_cost(program));
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const char *name, double *values, int n, const char *unit)
{
    qsort(values, (size_t)n, sizeof *values, by_value);
    printf("%-24s %8.2f %s  [%.2f, %.2f]\n", name, values[n / 2], unit, values[n / 10],
           values[n - 1 - n / 10]);
}

struct depths {
    uint64_t frames, stacks, complete;
};

static int on_record(void *arg, const struct bpf_head *head)
{
    struct depths *d = arg;
    if (head->type == BPF_RECORD_STACK) {
        const struct bpf_stack *s = (const struct bpf_stack *)head;
        d->frames += s->user_depth;
        d->stacks++;
        d->complete += s->end == BPF_END_ROOT;
    }
    return 0;
}

static int on_sum(void *arg, uint64_t key, const struct bpf_sum *sum)
{
    (void)arg;
    (void)key;
    (void)sum;
    return 0;
}

static void empty_ring(struct depths *d)
{
    while (bpf_programs_poll(ours, 0, -1, on_record, d) > 0) {
    }
}

static void measure(struct peer *peer, int rounds, uint32_t hz)
{
    static double mine[ROUNDS_MAX], theirs[ROUNDS_MAX], alone[ROUNDS_MAX], ratio[ROUNDS_MAX],
        ratio_alone[ROUNDS_MAX];
    struct depths d = {0};
    round_ours(); // once for nothing: first sends and first stacks
    round_peer(peer, peer->skeleton->progs.sample_stackid, hz);
    empty_ring(&d);
    for (int i = 0; i < rounds; i++) {
        mine[i] = round_ours();
        theirs[i] = round_peer(peer, peer->skeleton->progs.sample_stackid, hz);
        alone[i] = round_peer(peer, peer->skeleton->progs.sample_stackid_alone, hz);
        ratio[i] = mine[i] / theirs[i];
        ratio_alone[i] = mine[i] / alone[i];
        empty_ring(&d);
    }
    printf("%llu stacks of %.1f frames, %llu complete; medians of %d rounds [10 %%, 90 %%]\n",
           (unsigned long long)d.stacks, (double)d.frames / (double)d.stacks,
           (unsigned long long)d.complete, rounds);
    print("a sample of ours", mine, rounds, "ns");
    print("bpf_get_stackid, whole", theirs, rounds, "ns");
    print("bpf_get_stackid, alone", alone, rounds, "ns");
    print("ours / whole", ratio, rounds, "  ");
    print("ours / alone", ratio_alone, rounds, "  ");
    struct bpf_losses l;
    bpf_programs_losses(ours, &l);
    bpf_programs_sums(ours, on_record, on_sum, &d);
    printf("copies %llu torn %llu ring %llu\n", (unsigned long long)l.copies,
           (unsigned long long)l.torn, (unsigned long long)l.ring);
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 11;
    uint32_t hz = argc > 2 ? (uint32_t)atoi(argv[2]) : 999;
    char load[] = BENCH_FOLDER "/cpu_load", many[] = "1000000", threads[] = "2";
    char *usual[] = {load, many, threads, NULL};
    struct fscope_error err;
    struct peer peer = {0};
    struct bpf_programs_options opts = {
        .size = sizeof opts,
        .cpu_hz = hz,
        .config = {.filter = BPF_FILTER_TARGETS, .kernel_stacks = 1},
    };
    if (rounds < 1 || rounds > ROUNDS_MAX)
        die("rounds: 1 to 1000");
    if (bpf_programs_new(&ours, &opts, &err))
        die(err.text);
    pid_t pid = start_load(argc > 3 ? argv + 3 : usual);
    watch(pid);
    peer.skeleton = stackid_bpf__open();
    if (!peer.skeleton)
        die("cannot open the peer");
    *(unsigned *)(uintptr_t)&peer.skeleton->rodata->target = (unsigned)pid;
    if (stackid_bpf__load(peer.skeleton))
        die("cannot load the peer");
    int statistics = bpf_enable_stats(BPF_STATS_RUN_TIME);
    if (statistics < 0)
        die("cannot enable statistics");
    measure(&peer, rounds, hz);
    close(statistics);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    stackid_bpf__destroy(peer.skeleton);
    bpf_programs_free(ours);
    return 0;
}
