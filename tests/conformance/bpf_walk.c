// SPDX-License-Identifier: MIT
//
// Runs a program and samples it by the BPF programs in their comparing mode: of each sample comes the stack that was
// walked in the kernel, and the registers with a copy of the stack, which perf_code_walk walks. Prints how they agree:
//   samples N equal N longer N complete N unwalked N copies N torn N busy N ring N
// longer: the copy ended early (16 KiB, or another stack below a signal frame) and the BPF walk went on from there.
// complete: the BPF walk reached a root. unwalked: BPF saw code that its slot did not know, so there is only the copy.
// With FSCOPE_BPF_TABLES in the environment the tables are the collector's (bpf/code.h), else those of bpf_fill.h.
// Each difference is a line `differs ...`. Samples by the fiber's labels and name, of processes with a runtime:
//   fiber LABELS|NAME samples N ends N      ends: the stack ends at the start function, below the runtime's root Usage: bpf_walk HZ SAMPLES PROGRAM [ARGUMENT]...
// Ends the program after so many samples, or half a minute.

#include "runtime/labels.h"
#include "collector/bpf/code.h"
#include "tests/conformance/bpf_fill.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    THREADS_MAX = 4096,
    SLOT = 1,
    SHOWN_MAX = 10,
    GROUPS_MAX = 64,
    START_BYTES = 256,
    SECONDS_MAX = 30,
    CANNOT = 77
};

struct pending { // the copy of a thread's sample, until its stack comes
    uint32_t tid;
    struct bpf_copy *copy;
};

struct group { // of samples with the same labels and name
    char what[160];
    uint64_t samples, ends;
};

struct run {
    struct bpf_programs *programs;
    struct perf_code *code;
    struct fill fill;
    struct bpf_code *tables; // NULL: fill
    pid_t pid;
    bool has_executed, wants_fill;
    struct pending pending[THREADS_MAX];
    struct group groups[GROUPS_MAX];
    uint64_t samples, equal, longer, complete, unwalked, differ, with_kernel;
};

static void die(const char *what)
{
    fprintf(stderr, "bpf_walk: %s\n", what);
    exit(2);
}

static struct pending *pending_of(struct run *r, uint32_t tid)
{
    uint32_t i = 0;
    while (i < THREADS_MAX - 1 && r->pending[i].tid && r->pending[i].tid != tid)
        i++;
    r->pending[i].tid = tid;
    return &r->pending[i];
}

static void refill(struct run *r)
{
    struct perf_process *p = perf_code_process(r->code, (uint32_t)r->pid, 0);
    if (!p || perf_code_rescan(r->code, 0))
        die("out of memory");
    r->wants_fill = false;
    if (r->tables) {
        if (bpf_code_tell(r->tables, p))
            die("out of memory");
        return;
    }
    fill_slot(&r->fill, SLOT, p);
    bpf_programs_target(r->programs, r->pid, SLOT);
    fill_fibers(&r->fill, SLOT, (uint32_t)r->pid);
}

static void walk_copy(struct run *r, const struct bpf_copy *c, struct perf_walk *walk)
{
    struct perf_sample s = {
        .registers = {.rip = c->rip, .rbp = c->rbp, .rsp = c->rsp, .valid = c->valid},
        .stack = (const uint8_t *)(c->pcs + c->kernel_depth),
        .stack_bytes = c->stack_bytes,
        .stack_asked = BPF_STACK_COPY_MAX,
    };
    memcpy(s.registers.other, c->registers, sizeof s.registers.other);
    perf_code_walk(r->code, perf_code_process(r->code, (uint32_t)r->pid, 0), &s, walk);
}

static void show(const struct run *r, const struct bpf_stack *s, const struct perf_walk *walk)
{
    if (r->differ > SHOWN_MAX)
        return;
    uint32_t n = s->user_depth > walk->depth ? s->user_depth : walk->depth;
    printf("differs in thread %u: BPF %u frames, end %u; copy %u frames, end %d\n", s->head.tid,
           s->user_depth, s->end, walk->depth, (int)walk->end);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t a = i < s->user_depth ? s->pcs[i] : 0, b = i < walk->depth ? walk->pcs[i] : 0;
        printf("  %3u %16llx %16llx%s\n", i, (unsigned long long)a, (unsigned long long)b,
               a == b ? "" : " *");
    }
}

static void compare(struct run *r, const struct bpf_stack *s, const struct bpf_copy *c)
{
    static struct perf_walk walk;
    walk_copy(r, c, &walk);
    uint32_t common = s->user_depth < walk.depth ? s->user_depth : walk.depth;
    bool prefix = memcmp(s->pcs, walk.pcs, common * sizeof(uint64_t)) == 0;
    r->samples++;
    r->complete += s->end == BPF_END_ROOT;
    r->with_kernel += s->kernel_depth > 0;
    if (prefix && s->user_depth == walk.depth && s->end == (uint32_t)walk.end)
        r->equal++;
    else if (prefix && walk.end == UNWIND_END_BAD_MEMORY && s->user_depth > walk.depth)
        r->longer++;
    else {
        r->differ++;
        show(r, s, &walk);
    }
}

// The first pair of a label set, which is two texts of a given size.
static void describe(const struct bpf_stack *s, char *out, size_t size)
{
    const char *labels = (const char *)(s->pcs + s->user_depth + s->kernel_depth);
    snprintf(out, size, "%s|%s", s->fiber.label_bytes ? labels : "", s->fiber.name);
    if (s->fiber.label_bytes > 2 * LABEL_SIZE)
        snprintf(out, size, "%.48s=%.48s|%.32s", labels, labels + LABEL_SIZE, s->fiber.name);
}

static void note_fiber(struct run *r, const struct bpf_stack *s)
{
    char what[sizeof r->groups[0].what] = "none";
    struct group *g = r->groups;
    if (s->fiber.id)
        describe(s, what, sizeof what);
    while (g->what[0] && strcmp(g->what, what) != 0 && g < &r->groups[GROUPS_MAX - 1])
        g++;
    snprintf(g->what, sizeof g->what, "%s", what);
    g->samples++;
    g->ends += s->fiber.id && s->end == BPF_END_ROOT && s->user_depth >= 2 &&
               s->pcs[s->user_depth - 2] - s->fiber.fn < START_BYTES;
}

static void on_copy(struct run *r, const struct bpf_copy *c)
{
    struct pending *p = pending_of(r, c->head.tid);
    if (p->copy) {
        r->unwalked++; // no stack came for it: code that the slot does not know
        r->wants_fill = true;
    }
    free(p->copy);
    p->copy = malloc(c->head.size);
    if (!p->copy)
        die("out of memory");
    memcpy(p->copy, c, c->head.size);
}

static int on_record(void *arg, const struct bpf_head *head)
{
    struct run *r = arg;
    if (head->pid != (uint32_t)r->pid)
        return 0;
    if (head->type == BPF_RECORD_EXEC) {
        r->has_executed = r->wants_fill = true;
    } else if (head->type == BPF_RECORD_COPY && r->has_executed) {
        on_copy(r, (const struct bpf_copy *)head);
    } else if (head->type == BPF_RECORD_STACK) {
        struct pending *p = pending_of(r, head->tid);
        if (p->copy)
            compare(r, (const struct bpf_stack *)head, p->copy);
        note_fiber(r, (const struct bpf_stack *)head);
        free(p->copy);
        p->copy = NULL;
    }
    return 0;
}

static pid_t start(char **argv, int *go)
{
    int fds[2];
    if (pipe(fds))
        die("pipe");
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        close(fds[1]);
        if (read(fds[0], &c, 1) != 1)
            _exit(2);
        dup2(STDERR_FILENO, STDOUT_FILENO);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(fds[0]);
    *go = fds[1];
    return pid;
}

static void watch(struct run *r, uint64_t samples)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    time_t until = t.tv_sec + SECONDS_MAX;
    int status;
    while (t.tv_sec < until && r->samples < samples && waitpid(r->pid, &status, WNOHANG) == 0) {
        bpf_programs_poll(r->programs, 20, -1, on_record, r);
        if (r->tables)
            bpf_code_look_again(r->tables);
        if (r->wants_fill)
            refill(r);
        clock_gettime(CLOCK_MONOTONIC, &t);
    }
    bpf_programs_stop(r->programs);
    while (bpf_programs_poll(r->programs, 0, -1, on_record, r) > 0) {
    }
    kill(r->pid, SIGKILL);
    waitpid(r->pid, &status, 0);
}

static void report(struct run *r)
{
    for (const struct group *g = r->groups;
         bpf_programs_slots(r->programs)[SLOT].fibers.is_there && g->what[0]; g++)
        printf("fiber %s samples %llu ends %llu\n", g->what, (unsigned long long)g->samples,
               (unsigned long long)g->ends);
    struct bpf_losses l;
    bpf_programs_losses(r->programs, &l);
    printf(
        "samples %llu equal %llu longer %llu complete %llu unwalked %llu kernel %llu copies %llu "
        "torn %llu busy %llu ring %llu\n",
        (unsigned long long)r->samples, (unsigned long long)r->equal, (unsigned long long)r->longer,
        (unsigned long long)r->complete, (unsigned long long)r->unwalked,
        (unsigned long long)r->with_kernel, (unsigned long long)l.copies,
        (unsigned long long)l.torn, (unsigned long long)l.busy, (unsigned long long)l.ring);
}

int main(int argc, char **argv)
{
    static struct run r;
    struct fscope_error err;
    int go;
    if (argc < 4)
        die("usage: bpf_walk HZ SAMPLES PROGRAM [ARGUMENT]...");
    struct bpf_programs_options opts = {
        .size = sizeof opts,
        .cpu_hz = (uint32_t)atoi(argv[1]),
        .ring_bytes = 64 << 20,
        .config = {.filter = BPF_FILTER_TARGETS,
                   .stack_copy = BPF_STACK_COPY_MAX,
                   .kernel_stacks = 1,
                   .compare = 1},
    };
    int rc = bpf_programs_new(&r.programs, &opts, &err);
    if (rc) {
        printf("SKIP: %s\n", err.text);
        return rc == -EPERM || rc == -ENOTSUP ? CANNOT : 2;
    }
    struct builder *b;
    struct builder_options bo = {.size = sizeof bo, .kind = SEG_KIND_CPU, .period_ns = 1};
    if (builder_new(&b, &bo) || perf_code_new(&r.code, b))
        die("out of memory");
    fill_init(&r.fill, r.programs);
    if (getenv("FSCOPE_BPF_TABLES") && bpf_code_new(&r.tables, r.programs, BPF_CODE_BYTES_DEFAULT))
        die("out of memory");
    r.pid = start(argv + 3, &go);
    bpf_programs_target(r.programs, r.pid, 0);
    if (bpf_programs_start(r.programs, &err))
        die(err.text);
    if (write(go, "g", 1) != 1)
        die("the program is gone");
    watch(&r, strtoull(argv[2], NULL, 10));
    report(&r);
    fill_finish(&r.fill);
    bpf_code_free(r.tables);
    perf_code_free(r.code);
    builder_free(b);
    bpf_programs_free(r.programs);
    return 0;
}
