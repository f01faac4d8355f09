// SPDX-License-Identifier: MIT
//
// Without memory or mappings fib_go says so, the fibers that are there go on, and when some have ended it works again.
//
//     memory space|mappings|init PROCS
//
// space: address space is limited. mappings: the process has all that the kernel allows. init: the same at the
// start, where fib_init says so and may be called again.

#include "fiberscope/chan.h"
#include "fiberscope/fiber.h"
#include "tests/runtime/check.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { FIBERS = 100000, PAGE = 4096, MS = 1000000, MAPPINGS = 200000, SECONDS = 20 };

static const int64_t limit_ns = SECONDS * (int64_t)1000 * MS;
static struct fib fibers[FIBERS];
static uint32_t count; // of them
static _Atomic uint32_t started, ended;
static struct fib_chan *ask, *answer;
static bool is_by_mappings;

static uint64_t reserved_bytes(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    CHECK(f && fscanf(f, "%lu", &pages) == 1);
    fclose(f);
    return (uint64_t)pages * PAGE;
}

static void limit_space(uint64_t more)
{
    struct rlimit l;
    CHECK(!getrlimit(RLIMIT_AS, &l));
    l.rlim_cur = more ? reserved_bytes() + more : l.rlim_max;
    CHECK(!setrlimit(RLIMIT_AS, &l));
}

// Every other page of a region is protected, so that each is a mapping of its own.
static void use_up_mappings(void)
{
    char *at = mmap(NULL, (size_t)MAPPINGS * PAGE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(at != MAP_FAILED);
    for (size_t i = 1; i < MAPPINGS; i += 2) {
        if (!mprotect(at + i * PAGE, PAGE, PROT_NONE))
            continue;
        CHECK(errno == ENOMEM);
        break;
    }
    // What is left, by pages that do not join their neighbours.
    for (int i = 0; mmap(NULL, PAGE, i % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                         0) != MAP_FAILED;
         i++)
        CHECK(i < MAPPINGS, "the kernel allows more mappings than this test takes");
}

static void echo(void *arg)
{
    (void)arg;
    int32_t n;
    started++;
    while (fib_chan_recv(ask, &n) && n >= 0) {
        n = 2 * n + 1;
        fib_chan_send(answer, &n);
    }
    ended++;
}

static void note(void *arg)
{
    ++*(_Atomic uint32_t *)arg;
}

static uint32_t until_none(void)
{
    for (;;) {
        CHECK(count < FIBERS, "no end of memory");
        int rc = fib_go(&fibers[count], echo, NULL);
        if (rc) {
            CHECK(rc == -ENOMEM, "%s", strerror(-rc));
            return count;
        }
        if (++count % 8 == 0)
            fib_yield();
    }
}

static void they_answer(void)
{
    for (int32_t i = 0; i < 1000; i++) {
        int32_t n = i;
        fib_chan_send(ask, &n);
        CHECK(fib_chan_recv(answer, &n) && n == 2 * i + 1);
    }
}

static void until(_Atomic uint32_t *n, uint32_t value, const char *what)
{
    int64_t end = fib_now_ns() + limit_ns;
    while (*n < value) {
        CHECK(fib_now_ns() < end, "%s: %u of %u", what, *n, value);
        fib_sleep(MS);
    }
}

// A fiber that starts now also runs.
static void it_works_again(void)
{
    _Atomic uint32_t ran = 0;
    int64_t end = fib_now_ns() + limit_ns;
    for (uint32_t i = 0; i < 100; i++) {
        struct fib f;
        int rc;
        while ((rc = fib_go(&f, note, &ran)) != 0) {
            CHECK(rc == -ENOMEM && fib_now_ns() < end, "%s", strerror(-rc));
            fib_sleep(MS);
        }
        CHECK(!fib_join_for(f, limit_ns) && ran == i + 1, "%u of %u", ran, i + 1);
    }
}

static void run(void *arg)
{
    (void)arg;
    ask = fib_chan_new(sizeof(int32_t), 0);
    answer = fib_chan_new(sizeof(int32_t), 0);
    CHECK(ask && answer);
    // Some are there before.
    for (; count < 8; count++)
        CHECK(!fib_go(&fibers[count], echo, NULL));
    until(&started, count, "fibers");
    uint32_t before = count;
    if (is_by_mappings)
        use_up_mappings();
    else
        limit_space(48 << 20);
    for (int round = 0; round < 3; round++) {
        uint32_t all = until_none();
        CHECK(all - before >= 4, "%u more fibers", all - before);
        they_answer();
        // Those that wait for a stack have one as soon as others have ended.
        uint32_t half = (all - ended) / 2;
        uint32_t waiting = all - started;
        uint32_t enough = half > waiting ? half : waiting;
        for (uint32_t i = 0; i < enough; i++)
            fib_chan_send(ask, &(int32_t){-1});
        until(&started, all, "fibers without a stack");
        they_answer();
        it_works_again();
        printf("%u more fibers fit, %u waited for a stack\n", all - before, waiting);
        before = all;
    }
    fib_chan_close(ask);
    for (uint32_t i = 0; i < count; i++)
        CHECK(!fib_join_for(fibers[i], limit_ns));
    CHECK(ended == count);
}

// --- At the start.

static void start_with(uint64_t bytes, uint32_t procs)
{
    struct fib_options o = {.size = sizeof o, .procs = procs};
    _Atomic uint32_t ran = 0;
    limit_space(bytes);
    int rc = fib_init(&o);
    CHECK(rc == 0 || rc == -ENOMEM || rc == -EAGAIN, "%s", strerror(-rc));
    if (rc)
        CHECK(fib_go(NULL, note, &ran) == -ESRCH);
    limit_space(0);
    if (rc)
        CHECK(!fib_init(&o));
    CHECK(!fib_main(note, &ran) && ran == 1);
    _exit(rc ? 10 : 0);
}

static int start_short(uint32_t procs)
{
    int refused = 0, begun = 0;
    for (uint64_t bytes = PAGE; bytes <= 16 << 20; bytes *= 2) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (!pid) {
            alarm(20);
            start_with(bytes, procs);
        }
        int status;
        CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "%d KiB: %#x",
              (int)(bytes >> 10), (unsigned)status);
        CHECK(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 10, "%d KiB: %d",
              (int)(bytes >> 10), WEXITSTATUS(status));
        refused += WEXITSTATUS(status) == 10;
        begun += WEXITSTATUS(status) == 0;
    }
    printf("%d starts refused, %d not\n", refused, begun);
    CHECK(refused && begun);
    return 0;
}

int main(int argc, char **argv)
{
    CHECK(argc == 3, "memory space|mappings|init PROCS");
    uint32_t procs = (uint32_t)strtoul(argv[2], NULL, 10);
    if (!strcmp(argv[1], "init"))
        return start_short(procs);
    is_by_mappings = !strcmp(argv[1], "mappings");
    struct fib_options o = {.size = sizeof o, .procs = procs, .stack_bytes = 64 << 10};
    CHECK(!fib_init(&o));
    return fib_main(run, NULL);
}
