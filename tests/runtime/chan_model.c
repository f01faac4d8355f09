// SPDX-License-Identifier: MIT
//
// Random channel programs under the deterministic scheduler do what the model allows; the same seed gives the
// same log, byte for byte, and other seeds others.
//
//     chan_model [SEEDS [FIRST]]       each seed in a process of its own, as a runtime starts once
//     chan_model -v SEED               prints that one's log
//
// Linked with --wrap for g_park and g_park_for, so that the log has the moment at which an operation waits.

#include "fiberscope/chan.h"
#include "runtime/sched.h"
#include "tests/runtime/chan_model.h"
#include "tests/runtime/check.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { UNTOUCHED = 0xa5, HOUR_S = 3600, ELEM_MAX = 3000 };

static struct program program;
static struct run_log *run_log; // shared with the child
static struct fib_chan *chans[CHANS_MAX];
static uint32_t senders_left[CHANS_MAX];

struct actor {
    uint32_t index, op;
    bool is_in_op, has_waited;
};
static struct actor actors[ACTORS_MAX];

static struct event *log_event(enum event_kind kind, uint32_t actor)
{
    CHECK(run_log->count < EVENTS_MAX);
    struct event *e = &run_log->events[run_log->count++];
    *e = (struct event){.kind = (uint8_t)kind, .actor = (uint8_t)actor, .now_ns = fib_now_ns()};
    return e;
}

// --- The moment at which an operation waits.

void __real_g_park(enum wait_reason reason, const void *object, park_after_fn *after, void *arg);
bool __real_g_park_for(enum wait_reason reason, const void *object, park_after_fn *after, void *arg,
                       int64_t timeout_ns);
void __wrap_g_park(enum wait_reason reason, const void *object, park_after_fn *after, void *arg);
bool __wrap_g_park_for(enum wait_reason reason, const void *object, park_after_fn *after, void *arg,
                       int64_t timeout_ns);

static void note_wait(void)
{
    struct g *g = this_g();
    struct actor *a = g->arg;
    if (a < actors || a >= actors + ACTORS_MAX || !a->is_in_op || a->has_waited)
        return;
    a->has_waited = true;
    log_event(EV_WAITS, a->index)->op = (uint8_t)a->op;
}

void __wrap_g_park(enum wait_reason reason, const void *object, park_after_fn *after, void *arg)
{
    note_wait();
    __real_g_park(reason, object, after, arg);
}

bool __wrap_g_park_for(enum wait_reason reason, const void *object, park_after_fn *after, void *arg,
                       int64_t timeout_ns)
{
    note_wait();
    return __real_g_park_for(reason, object, after, arg, timeout_ns);
}

// --- Running.

static struct fib_chan *chan_at(int8_t index)
{
    return index < 0 ? NULL : chans[index];
}

static size_t size_at(int8_t index)
{
    return index < 0 ? 8 : program.chan[index].elem_bytes;
}

static int run_single(const struct model_op *op, unsigned char *elem, bool *ok)
{
    struct fib_chan *c = chan_at(op->cases[0].chan);
    int rc;
    *ok = true;
    if (op->timeout_ns < 0 && op->kind == OP_SEND) {
        fib_chan_send(c, elem);
        rc = 0;
    } else if (op->timeout_ns < 0) {
        rc = fib_chan_recv(c, elem) ? 0 : -EPIPE;
    } else if (op->kind == OP_SEND) {
        rc = fib_chan_send_for(c, elem, op->timeout_ns);
    } else {
        rc = fib_chan_recv_for(c, elem, op->timeout_ns);
    }
    *ok = rc != -EPIPE;
    return rc == -ETIMEDOUT ? -1 : 0;
}

static int run_select(const struct model_op *op, unsigned char (*elems)[ELEM_MAX], bool *ok)
{
    struct fib_case k[CASES_MAX];
    for (uint32_t i = 0; i < op->count; i++)
        k[i] = (struct fib_case){chan_at(op->cases[i].chan), elems[i], elems[i],
                                 op->cases[i].is_send, true};
    int chosen = fib_select_for(k, op->count, op->timeout_ns);
    *ok = chosen < 0 || k[chosen].ok;
    return chosen;
}

// What was not received into, or was sent, is as it was.
static void check_others(const struct actor *a, const struct model_op *op, int chosen,
                         unsigned char (*elems)[ELEM_MAX])
{
    unsigned char want[ELEM_MAX];
    for (uint32_t i = 0; i < op->count; i++) {
        struct model_case k = op->cases[i];
        size_t bytes = size_at(k.chan);
        if (!k.is_send && (int)i == chosen)
            continue;
        memset(want, UNTOUCHED, bytes);
        if (k.is_send)
            value_fill(want, bytes, value_id(a->index, a->op, (uint32_t)k.chan));
        CHECK(!memcmp(want, elems[i], bytes), "actor %u, op %u, case %u", a->index, a->op, i);
    }
}

static void run_chan_op(struct actor *a, const struct model_op *op)
{
    unsigned char(*elems)[ELEM_MAX] = malloc(CASES_MAX * sizeof *elems);
    for (uint32_t i = 0; i < op->count; i++) {
        struct model_case k = op->cases[i];
        memset(elems[i], UNTOUCHED, ELEM_MAX);
        if (k.is_send)
            value_fill(elems[i], size_at(k.chan), value_id(a->index, a->op, (uint32_t)k.chan));
    }
    bool ok;
    a->is_in_op = true;
    a->has_waited = false;
    int chosen = op->kind == OP_SELECT ? run_select(op, elems, &ok) : run_single(op, elems[0], &ok);
    a->is_in_op = false;
    struct event *e = log_event(EV_ENDED, a->index);
    e->op = (uint8_t)a->op;
    e->chosen = chosen;
    if (chosen >= 0 && !op->cases[chosen].is_send) {
        e->ok = ok;
        e->value = value_hash(elems[chosen], size_at(op->cases[chosen].chan));
    }
    check_others(a, op, chosen, elems);
    free(elems);
}

static void run_other_op(struct actor *a, const struct model_op *op)
{
    uint64_t value = 0;
    switch (op->kind) {
    case OP_CLOSE: fib_chan_close(chan_at(op->cases[0].chan)); break;
    case OP_LEN: value = fib_chan_len(chan_at(op->cases[0].chan)); break;
    case OP_YIELD: fib_yield(); break;
    default: fib_sleep(op->timeout_ns); break;
    }
    struct event *e = log_event(EV_ENDED, a->index);
    e->op = (uint8_t)a->op;
    e->value = value;
}

static void run_actor(void *arg)
{
    struct actor *a = arg;
    for (a->op = 0; a->op < program.actor[a->index].count; a->op++) {
        const struct model_op *op = &program.actor[a->index].ops[a->op];
        if (op->kind <= OP_SELECT)
            run_chan_op(a, op);
        else
            run_other_op(a, op);
    }
    for (uint32_t c = 0; c < program.chans; c++) {
        if (!program.actor[a->index].sends_on[c] || --senders_left[c] ||
            !program.chan[c].is_closable)
            continue;
        fib_chan_close(chans[c]);
        log_event(EV_CLOSED_AT_END, a->index)->chosen = (int32_t)c;
    }
    log_event(EV_LEFT, a->index);
}

static void run_program(void *arg)
{
    (void)arg;
    for (uint32_t c = 0; c < program.chans; c++) {
        chans[c] = fib_chan_new(program.chan[c].elem_bytes, program.chan[c].capacity);
        for (uint32_t a = 0; a < program.actors; a++)
            senders_left[c] += program.actor[a].sends_on[c];
    }
    for (uint32_t a = 0; a < program.actors; a++) {
        actors[a].index = a;
        CHECK(!fib_go(NULL, run_actor, &actors[a]));
    }
    fib_sleep((int64_t)HOUR_S * 1000000000); // of the deterministic clock: until nobody can go on
    for (uint32_t c = 0; c < program.chans; c++)
        log_event(EV_FINAL_LEN, c)->value = fib_chan_len(chans[c]);
    run_log->is_over = true;
}

// In a child, as the runtime starts once in a process.
static void run_seed(uint64_t program_seed, uint64_t schedule_seed)
{
    memset(run_log, 0, sizeof *run_log);
    program_make(&program, program_seed);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (!pid) {
        alarm(60);
        struct fib_options options = {.size = sizeof options, .seed = schedule_seed};
        int rc = fib_init(&options);
        CHECK(!rc, "fib_init: %d", rc);
        _exit(fib_main(run_program, NULL) ? 1 : 0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(status == 0, "program %llu, schedule %llu: status %#x after %u events",
          (unsigned long long)program_seed, (unsigned long long)schedule_seed, (unsigned)status,
          run_log->count);
}

static void print_log(uint32_t count)
{
    static const char *const ops[] = {"send", "recv", "select", "close", "len", "yield", "sleep"};
    static const char *const kinds[] = {"waits", "ended", "closed at end", "left", "final len"};
    for (uint32_t i = 0; i < count; i++) {
        const struct event *e = &run_log->events[i];
        const struct model_op *op = &program.actor[e->actor].ops[e->op];
        fprintf(stderr, "%3u %8lld ns, %u: op %u (%s, %lld ns", i,
                (long long)(e->now_ns - run_log->events[0].now_ns), e->actor, e->op, ops[op->kind],
                (long long)op->timeout_ns);
        for (uint32_t k = 0; k < op->count && op->kind != OP_YIELD; k++)
            fprintf(stderr, ", %s %d/%u", op->cases[k].is_send ? "send" : "recv", op->cases[k].chan,
                    op->cases[k].chan < 0 ? 0 : program.chan[op->cases[k].chan].capacity);
        fprintf(stderr, ") %s: %d, ok %d, value %llx\n", kinds[e->kind], e->chosen, e->ok,
                (unsigned long long)e->value);
    }
}

static void check_seed(uint64_t seed)
{
    static struct run_log first;
    uint32_t at;
    run_seed(seed, seed);
    const char *why = model_check(&program, run_log, &at);
    if (why) {
        print_log(at < run_log->count ? at + 1 : run_log->count);
        CHECK(false, "program %llu, event %u: %s", (unsigned long long)seed, at, why);
    }
    memcpy(&first, run_log, sizeof first);
    run_seed(seed, seed);
    CHECK(!memcmp(&first, run_log, sizeof first), "program %llu: two runs differ",
          (unsigned long long)seed);
}

// One program with many schedules: nearly all interleavings differ.
static void check_schedules(void)
{
    enum { SCHEDULES = 40 };
    uint64_t seen[SCHEDULES];
    uint32_t at;
    int different = 0;
    for (int s = 0; s < SCHEDULES; s++) {
        run_seed(7, 1000 + (uint64_t)s);
        const char *why = model_check(&program, run_log, &at);
        CHECK(!why, "schedule %d, event %u: %s", s, at, why);
        seen[s] = value_hash(run_log, sizeof *run_log);
        bool is_new = true;
        for (int i = 0; i < s; i++)
            is_new &= seen[i] != seen[s];
        different += is_new;
    }
    printf("%d of %d schedules of one program differ\n", different, SCHEDULES);
    CHECK(different > SCHEDULES / 2);
}

int main(int argc, char **argv)
{
    run_log =
        mmap(NULL, sizeof *run_log, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(run_log != MAP_FAILED);
    if (argc > 2 && !strcmp(argv[1], "-v")) {
        uint64_t seed = strtoull(argv[2], NULL, 10);
        uint32_t at;
        run_seed(seed, seed);
        print_log(run_log->count);
        const char *why = model_check(&program, run_log, &at);
        fprintf(stderr, "%s\n", why ? why : "as the model has it");
        return why != NULL;
    }
    uint64_t count = check_rounds(argc > 1 ? strtoull(argv[1], NULL, 10) : 2000);
    uint64_t from = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    uint64_t events = 0, waits = 0, blocked = 0, closed = 0;
    for (uint64_t seed = from; seed < from + count; seed++) {
        check_seed(seed);
        uint32_t left = 0;
        for (uint32_t i = 0; i < run_log->count; i++) {
            waits += run_log->events[i].kind == EV_WAITS;
            left += run_log->events[i].kind == EV_LEFT;
            closed += run_log->events[i].kind == EV_CLOSED_AT_END;
        }
        events += run_log->count;
        blocked += program.actors - left;
    }
    printf("%llu programs, %llu events, %llu waits, %llu closed at an end, %llu fibers blocked at "
           "the end\n",
           (unsigned long long)count, (unsigned long long)events, (unsigned long long)waits,
           (unsigned long long)closed, (unsigned long long)blocked);
    CHECK(waits > count && blocked > count / 10 && closed > count / 10,
          "the programs test too little");
    check_schedules();
    return 0;
}
