// SPDX-License-Identifier: MIT
//
// What a producer recorded is read exactly once and totals are exact: with threads and nested signal
// handlers, folding, a full state table, thread churn, kills at random moments and a change of
// consumers.

#include "segment/consumer.h"
#include "segment/producer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/skip.h"

enum { THREADS_MAX = 64, SEEN_MAX = 1 << 16 };

static struct seg_options tiny(void)
{
    return (struct seg_options){.size = sizeof(struct seg_options),
                                .threads = THREADS_MAX,
                                .modules = 16,
                                .state = 1024,
                                .stacks = 256,
                                .ring_bytes = 1024,
                                .stack_arena_bytes = 65536,
                                .blob_arena_bytes = 4096};
}

static void make(struct seg *s, const struct seg_options *o)
{
    assert_int_equal(seg_create(s, o), 0);
}

static struct seg_reader *attach(const struct seg *s)
{
    struct fscope_error err = {0};
    struct seg_reader *r = NULL;
    if (seg_reader_open(&r, dup(s->fd), &err))
        fail_msg("%s", err.text);
    return r;
}

// What a consumer saw. Each record's object is a number of its own: bytes of `seen` count it.
struct tally {
    uint64_t count, sum, wrong;
    uint8_t seen[THREADS_MAX][SEEN_MAX];
};

static int see_record(void *arg, const struct seg_record *r)
{
    struct tally *t = arg;
    uint64_t thread = r->object >> 32, n = r->object & 0xffffffff;
    t->count += r->values[0];
    t->sum += r->values[1];
    if (thread >= THREADS_MAX || n >= SEEN_MAX || r->values[1] != n || r->tid != thread + 1)
        t->wrong++;
    else
        t->seen[thread][n]++;
    return 0;
}

static int see_state(void *arg, const struct seg_state *e, uint32_t index)
{
    (void)index;
    struct tally *t = arg;
    t->count += e->values[0];
    t->sum += e->values[1];
    return 0;
}

static struct tally *tally_new(void)
{
    struct tally *t = calloc(1, sizeof *t);
    assert_non_null(t);
    return t;
}

struct worker {
    struct seg *s;
    uint32_t index, rounds;
    int slot;
    volatile uint32_t next; // the number of the next record; bumped before it is used
    _Atomic uint64_t count, sum;
    pthread_t thread;
};

static _Thread_local struct worker *me;

static void put(struct worker *w, enum seg_context context, uint32_t n)
{
    struct seg_record r = {.kind = SEG_KIND_CPU,
                           .tid = w->index + 1,
                           .object = (uint64_t)w->index << 32 | n,
                           .values = {1, n}};
    seg_record_put(w->s, w->slot, context, &r);
    atomic_fetch_add_explicit(&w->count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&w->sum, n, memory_order_relaxed);
}

static void on_signal(int sig)
{
    struct worker *w = me;
    int saved = errno;
    uint32_t n = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED);
    if (n < SEEN_MAX)
        put(w, sig == SIGUSR1 ? SEG_CONTEXT_SIGNAL : SEG_CONTEXT_NORMAL, n);
    if (sig == SIGUSR1 &&
        n % 3 == 0) // a handler inside a handler, in the ring of what it interrupts
        raise(SIGUSR2);
    errno = saved;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    me = w;
    w->slot = seg_thread_enter(w->s, w->index + 1, "worker");
    for (uint32_t i = 0; i < w->rounds && w->slot >= 0; i++) {
        if (i % 5 == 0)
            pthread_kill(pthread_self(), SIGUSR1);
        uint32_t n = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED);
        put(w, SEG_CONTEXT_NORMAL, n);
    }
    return NULL;
}

static void no_records_twice(const struct tally *t)
{
    assert_int_equal(t->wrong, 0);
    for (int i = 0; i < THREADS_MAX; i++)
        for (int n = 0; n < SEEN_MAX; n++)
            if (t->seen[i][n] > 1)
                fail_msg("thread %d record %d delivered %d times", i, n, t->seen[i][n]);
}

static void run_threads(uint32_t threads, uint32_t rounds, uint32_t state)
{
    struct seg s;
    struct seg_options o = tiny();
    o.state = state;
    make(&s, &o);
    struct sigaction sa = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &sa, NULL);
    sigaction(SIGUSR2, &sa, NULL);
    struct seg_reader *r = attach(&s);
    struct tally *t = tally_new();
    struct worker *w = calloc(threads, sizeof *w);
    uint64_t damaged = 0, count = 0, sum = 0, folded = 0;
    for (uint32_t i = 0; i < threads; i++) {
        w[i].s = &s;
        w[i].index = i;
        w[i].rounds = rounds;
        assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
        seg_reader_drain(r, see_record, t, &damaged);
    }
    for (int k = 0; k < 1000; k++) {
        assert_true(seg_reader_drain(r, see_record, t, &damaged) >= 0);
        for (uint32_t i = 0; i < threads; i++) // interrupts appends in the very ring it records to
            if (__atomic_load_n(&w[i].next, __ATOMIC_RELAXED) > 0)
                pthread_kill(w[i].thread, SIGUSR2);
    }
    for (uint32_t i = 0; i < threads; i++) {
        pthread_join(w[i].thread, NULL);
        assert_true(w[i].slot >= 0);
        count += atomic_load(&w[i].count);
        sum += atomic_load(&w[i].sum);
    }
    seg_reader_drain(r, see_record, t, &damaged);
    uint64_t streamed = t->count;
    seg_reader_states(r, see_state, t);
    struct seg_losses l;
    seg_reader_losses(r, &l);
    folded = atomic_load(&l.ring_full[SEG_KIND_CPU]);
    no_records_twice(t);
    assert_int_equal(damaged, 0);
    assert_int_equal(streamed + folded, count);
    assert_int_equal(t->count, count);
    assert_int_equal(t->sum, sum);
    free(w);
    free(t);
    seg_reader_close(r);
    seg_close(&s);
}

static void threads_and_handlers_lose_nothing(void **state)
{
    (void)state;
    run_threads(1, 20000, 32768);
    run_threads(4, 10000, 32768);
    run_threads(64, 2000, 32768);
}

static void full_state_table_keeps_totals(void **state)
{
    (void)state;
    run_threads(2, 5000, 16);
}

// Windows grow in each other, so the first ones fill up; the table has room.
static void full_windows_lose_nothing(void **state)
{
    (void)state;
    enum { STATES = 16384, KEYS = 1024 };
    struct seg_options o = {.size = sizeof o, .state = STATES};
    struct seg s = {0};
    static uint8_t used[STATES];
    assert_int_equal(seg_create(&s, &o), 0);
    for (uint32_t i = 0; i < KEYS; i++) {
        struct seg_state_place place = {0, 64};
        while (place.window / 2 < i)
            place.window *= 2;
        uint32_t at = seg_state_find_in(&s, place, SEG_KIND_HEAP, i + 1, 0, 0, 0);
        assert_true(at < STATES);
        assert_int_equal(used[at], 0);
        used[at] = 1;
        assert_int_equal(seg_state_at(&s, at)->user_stack, i + 1);
        // And one window that never grows.
        at = seg_state_find_in(&s, (struct seg_state_place){1, 64}, SEG_KIND_HEAP, 2 * KEYS + i, 0,
                               0, 0);
        assert_int_equal(seg_state_at(&s, at)->user_stack, 2 * KEYS + i);
    }
    assert_int_equal(atomic_load(&s.header->losses.state_full), 0);
    seg_close(&s);
}

static struct worker *stepped;

static void on_step(int sig)
{
    (void)sig;
    uint32_t n = stepped->next++;
    if (n < SEEN_MAX)
        put(stepped, SEG_CONTEXT_SIGNAL, n);
}

// The processor's trap flag: SIGTRAP after each instruction. The red zone is stepped over.
static void step(bool on)
{
    if (on)
        __asm__ volatile(
            "lea -128(%%rsp), %%rsp; pushf; orq $0x100, (%%rsp); popf; lea 128(%%rsp), %%rsp" ::
                : "memory", "cc");
    else
        __asm__ volatile(
            "lea -128(%%rsp), %%rsp; pushf; andq $~0x100, (%%rsp); popf; lea 128(%%rsp), %%rsp" ::
                : "memory", "cc");
}

static void interrupted_at_every_instruction(void **state)
{
    const char *sanitizer = getenv("FSCOPE_SANITIZE");
    if (sanitizer && strstr(sanitizer, "thread"))
        SKIP_CASE("TSan's own code cannot be stepped");
    (void)state;
    struct seg s;
    struct seg_options o = tiny();
    o.state = 1 << 16;
    o.ring_bytes = 1 << 22;
    o.threads = 1;
    make(&s, &o);
    struct worker w = {.s = &s, .slot = seg_thread_enter(&s, 1, "stepped")};
    struct tally *t = tally_new();
    struct sigaction sa = {.sa_handler = on_step}, old;
    stepped = &w;
    sigaction(SIGTRAP, &sa, &old);
    for (int i = 0; i < 20; i++) {
        uint32_t n = w.next++;
        struct seg_record r = {.kind = SEG_KIND_CPU, .tid = 1, .object = n, .values = {1, n}};
        step(true);
        seg_record_put(&s, w.slot, SEG_CONTEXT_SIGNAL, &r);
        step(false);
        w.count++;
        w.sum += n;
    }
    sigaction(SIGTRAP, &old, NULL);
    struct seg_reader *r = attach(&s);
    uint64_t damaged = 0;
    assert_true(w.next > 500); // it was stepped
    seg_reader_drain(r, see_record, t, &damaged);
    uint64_t streamed = t->count;
    seg_reader_states(r, see_state, t);
    struct seg_losses l;
    seg_reader_losses(r, &l);
    assert_int_equal(damaged, 0);
    no_records_twice(t);
    assert_true(l.ring_full[SEG_KIND_CPU] > 0); // some were folded, as they came in between
    assert_int_equal(streamed + l.ring_full[SEG_KIND_CPU], w.count);
    assert_int_equal(t->count, w.count);
    assert_int_equal(t->sum, w.sum);
    free(t);
    seg_reader_close(r);
    seg_close(&s);
}

static void slots_are_inherited(void **state)
{
    (void)state;
    struct seg s;
    struct seg_options o = tiny();
    o.threads = 2;
    make(&s, &o);
    int slot = 0;
    for (uint32_t i = 0; i < 5; i++) { // nobody drains
        slot = seg_thread_enter(&s, (uint32_t)getpid(), "x");
        assert_true(slot >= 0);
        struct seg_record rec = {
            .kind = SEG_KIND_WALL, .tid = i + 1, .object = (uint64_t)i << 32, .values = {1, 0}};
        seg_record_put(&s, slot, SEG_CONTEXT_SIGNAL, &rec);
        seg_thread_exit(&s, slot, 1);
    }
    assert_true(seg_thread_enter(&s, (uint32_t)getpid(), "a") >= 0);
    assert_true(seg_thread_enter(&s, (uint32_t)getpid(), "b") >= 0);
    assert_int_equal(seg_thread_enter(&s, (uint32_t)getpid(), "c"), -ENOSPC);
    struct seg_reader *r = attach(&s);
    struct tally *t = tally_new();
    assert_int_equal(seg_reader_drain(r, see_record, t, NULL), 5);
    assert_int_equal(t->wrong, 0);
    free(t);
    seg_reader_close(r);
    seg_close(&s);
}

// The child records until it is killed and says in a shared word what it had begun and finished.
struct progress {
    _Atomic uint64_t begun, done;
};

static void child_records(struct seg *s, struct progress *p)
{
    int slot = seg_thread_enter(s, 1, "child");
    uint64_t pcs[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    for (uint32_t n = 0; n < SEEN_MAX; n++) {
        pcs[0] = n / 16;
        struct seg_record r = {.kind = SEG_KIND_CPU, .tid = 1, .object = n, .values = {1, n}};
        atomic_store(&p->begun, n + 1);
        r.user_stack = seg_stack(s, pcs, 8, 0, 0);
        seg_record_put(s, slot, SEG_CONTEXT_SIGNAL, &r);
        atomic_store(&p->done, n + 1);
    }
    for (;;)
        pause();
}

static void kill_once(struct progress *p, struct tally *t, unsigned i)
{
    struct seg s;
    struct seg_options o = tiny();
    o.state = 1 << 17;
    o.ring_bytes = i % 2 ? 1 << 16 : 1 << 23;
    o.threads = 2;
    make(&s, &o);
    memset(p, 0, sizeof *p);
    memset(t, 0, sizeof *t);
    pid_t pid = fork();
    if (pid == 0)
        child_records(&s, p);
    struct timespec wait = {0, (long)(i * 7919u % 1000u) * 3000};
    nanosleep(&wait, NULL);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    struct seg_reader *r = attach(&s);
    uint64_t damaged = 0;
    seg_reader_drain(r, see_record, t, &damaged);
    seg_reader_states(r, see_state, t);
    uint64_t begun = atomic_load(&p->begun), done = atomic_load(&p->done);
    assert_int_equal(damaged, 0);
    assert_int_equal(t->wrong, 0);
    assert_true(t->count == done || t->count == begun);
    for (uint64_t n = 0; o.ring_bytes > 1 << 16 && n < done; n++)
        assert_int_equal(t->seen[0][n], 1);
    seg_reader_close(r);
    seg_close(&s);
}

static void killed_producer_leaves_whole_records(void **state)
{
    (void)state;
    struct progress *p =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct tally *t = tally_new();
    for (unsigned i = 0; i < 200; i++)
        kill_once(p, t, i);
    free(t);
    munmap(p, 4096);
}

static void consumer_is_replaced_when_killed(void **state)
{
    (void)state;
    struct seg s;
    struct seg_options o = tiny();
    int ready[2];
    make(&s, &o);
    assert_int_equal(pipe(ready), 0);
    int slot = seg_thread_enter(&s, 1, "p");
    for (uint32_t n = 0; n < 5; n++) {
        struct seg_record r = {.kind = SEG_KIND_CPU, .tid = 1, .object = n, .values = {1, n}};
        seg_record_put(&s, slot, SEG_CONTEXT_SIGNAL, &r);
    }
    struct tally *t = tally_new();
    pid_t pid = fork();
    if (pid == 0) {
        struct seg_reader *mine = NULL;
        char ok = (char)(seg_reader_open(&mine, dup(s.fd), NULL) == 0 &&
                         seg_reader_drain(mine, see_record, t, NULL) == 5);
        if (write(ready[1], &ok, 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    char ok = 0;
    assert_int_equal(read(ready[0], &ok, 1), 1);
    assert_int_equal(ok, 1);
    struct seg_reader *r = NULL;
    struct fscope_error err = {0};
    char name[32];
    snprintf(name, sizeof name, "pid %d", (int)pid);
    assert_int_equal(seg_reader_open(&r, dup(s.fd), &err), -EBUSY);
    assert_non_null(strstr(err.text, name));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    struct seg_record rec = {.kind = SEG_KIND_CPU, .tid = 1, .object = 5, .values = {1, 5}};
    seg_record_put(&s, slot, SEG_CONTEXT_SIGNAL, &rec);
    r = attach(&s);
    assert_int_equal(seg_reader_drain(r, see_record, t, NULL), 1);
    assert_int_equal(t->seen[0][5], 1);
    free(t);
    seg_reader_close(r);
    seg_close(&s);
    close(ready[0]);
    close(ready[1]);
}

static bool is_in_cores(const void *at)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    char line[512];
    uint64_t start = 0, end = 0, address = (uint64_t)at;
    bool found = false, kept = false;
    assert_non_null(f);
    while (!found && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) == 2 || address < start ||
            address >= end)
            continue;
        found = strncmp(line, "VmFlags:", 8) == 0;
        kept = found && !strstr(line, " dd");
    }
    fclose(f);
    assert_true(found);
    return kept;
}

// What is used is in a core file; what is not would make it 200 MiB.
static void unused_parts_stay_out_of_cores(void **state)
{
    (void)state;
    struct seg s;
    assert_int_equal(seg_create(&s, NULL), 0);
    char *base = (char *)s.header, *rings = base + s.header->areas[SEG_AREA_RINGS].offset;
    assert_false(is_in_cores(rings));
    assert_int_equal(seg_thread_enter(&s, (uint32_t)getpid(), "x"), 0);
    assert_true(is_in_cores(rings));
    assert_true(is_in_cores(rings + 2 * s.header->ring_bytes - 1));
    assert_false(is_in_cores(rings + 2 * s.header->ring_bytes));
    struct seg_table *t = (struct seg_table *)(base + s.header->areas[SEG_AREA_STACKS].offset);
    char *arena = (char *)t + t->arena_offset;
    uint64_t pcs[300] = {0};
    for (uint64_t n = 0; n < 2000; n++) { // 4.6 MiB
        pcs[0] = n;
        assert_true(seg_stack(&s, pcs, 300, 0, 0) != 0);
        uint64_t used = atomic_load(&t->arena_used);
        if (n % 50 == 0 || used % (1 << 20) < sizeof pcs)
            assert_true(is_in_cores(arena + used - 1));
    }
    assert_false(is_in_cores(arena + (6 << 20)));
    seg_close(&s);
}

static int see_index(void *arg, const struct seg_state *e, uint32_t index)
{
    uint32_t *by_object = arg;
    assert_in_range(e->object, 1, 8);
    by_object[e->object] = index + 1;
    return 0;
}

// Looking for entries must not fill the table: 4 MiB for each process recorded.
static void reading_states_fills_no_holes(void **state)
{
    (void)state;
    struct seg s;
    struct stat before, after;
    uint32_t all[9] = {0}, again[9] = {0};
    make(&s, NULL);
    struct seg_reader *r = attach(&s);
    for (uint64_t object = 1; object <= 8; object++)
        seg_state_add(&s, SEG_KIND_CPU, 0, 0, object, (const uint64_t[4]){1, object, 0, 0});
    assert_int_equal(fstat(s.fd, &before), 0);
    assert_int_equal(seg_reader_states(r, see_index, all), 8);
    assert_int_equal(fstat(s.fd, &after), 0);
    assert_int_equal(before.st_blocks, after.st_blocks);
    // The same entries under the same numbers as by looking at each.
    const struct seg_area *a = &s.header->areas[SEG_AREA_STATE];
    const struct seg_state *table = (const void *)((const char *)s.header + a->offset);
    for (uint32_t i = 0; i < s.header->state_count; i++)
        if (table[i].object)
            again[table[i].object] = i + 1;
    assert_memory_equal(all, again, sizeof all);
    seg_reader_close(r);
    seg_close(&s);
}

// Also when the near slots have filled up meanwhile, which 20,000 entries see to.
static void equal_stacks_have_one_id(void **state)
{
    enum { COUNT = 20000, DEPTH = 3 };
    (void)state;
    struct seg s;
    struct stat empty, few;
    static uint32_t ids[COUNT];
    make(&s, NULL);
    struct seg_reader *r = attach(&s);
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < COUNT; i++) {
            const uint64_t pcs[DEPTH] = {0x401000 + i, 0x402000 + i % 7, 0x403000};
            if (round == 0 && i == 0)
                assert_int_equal(fstat(s.fd, &empty), 0);
            if (round == 0 && i == 1000)
                assert_int_equal(fstat(s.fd, &few), 0);
            uint32_t id = seg_stack(&s, pcs, DEPTH, 0, 0);
            assert_int_not_equal(id, 0);
            if (round)
                assert_int_equal(id, ids[i]);
            ids[i] = id;
        }
    for (uint32_t i = 0; i < COUNT; i++) {
        uint64_t pcs[DEPTH];
        assert_int_equal(seg_reader_stack(r, ids[i], pcs, DEPTH, NULL, NULL, NULL), DEPTH);
        assert_int_equal(pcs[0], 0x401000 + i);
    }
    // 1,000 small stacks: 32 pages of slots and 6 of bytes. A page each would be 400.
    assert_in_range(few.st_blocks - empty.st_blocks, 1, UINT64_C(60) * 4096 / 512);
    seg_reader_close(r);
    seg_close(&s);
}

static void file_size_limit_shrinks(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) { // the limit stays in the child, and so would SIGXFSZ
        struct seg s;
        struct rlimit small = {4 << 20, 4 << 20}, none = {4096, 4096};
        setrlimit(RLIMIT_FSIZE, &small);
        int bad = seg_create(&s, NULL) != 0 || s.bytes > small.rlim_cur;
        seg_close(&s);
        setrlimit(RLIMIT_FSIZE, &none);
        _exit(bad || seg_create(&s, NULL) != -EFBIG);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_and_handlers_lose_nothing),
        cmocka_unit_test(full_state_table_keeps_totals),
        cmocka_unit_test(full_windows_lose_nothing),
        cmocka_unit_test(interrupted_at_every_instruction),
        cmocka_unit_test(slots_are_inherited),
        cmocka_unit_test(killed_producer_leaves_whole_records),
        cmocka_unit_test(consumer_is_replaced_when_killed),
        cmocka_unit_test(unused_parts_stay_out_of_cores),
        cmocka_unit_test(reading_states_fills_no_holes),
        cmocka_unit_test(equal_stacks_have_one_id),
        cmocka_unit_test(file_size_limit_shrinks),
    };
    return skip_status(cmocka_run_group_tests(tests, NULL, NULL));
}
