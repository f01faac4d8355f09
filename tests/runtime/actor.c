// SPDX-License-Identifier: MIT

#include "tests/runtime/actor.h"

#include <string.h>
#include <unistd.h>

enum actors { FIBERS, THREADS, MIXED };
static enum actors actors;

static void *thread_main(void *arg)
{
    struct actor *a = arg;
    a->tid = gettid();
    a->fn(a->arg);
    a->is_done = true;
    return NULL;
}

static void fiber_main(void *arg)
{
    struct actor *a = arg;
    a->fn(a->arg);
    a->is_done = true;
}

void actor_start(struct actor *a, fib_fn *fn, void *arg)
{
    static _Atomic unsigned number;
    *a = (struct actor){.fn = fn, .arg = arg};
    a->is_thread = actors == THREADS || (actors == MIXED && number++ % 2);
    if (!a->is_thread) {
        a->f = go(fiber_main, a);
        return;
    }
    CHECK(!pthread_create(&a->t, NULL, thread_main, a));
}

void actor_end(struct actor *a)
{
    if (!a->is_thread) {
        fib_join(a->f);
        CHECK(a->is_done);
        return;
    }
    while (!a->is_done) // a fiber must not block in pthread_join
        fib_sleep(MS / 20);
    pthread_join(a->t, NULL);
}

static char thread_state(pid_t tid)
{
    char path[64], line[256] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)tid);
    FILE *f = fopen(path, "re");
    CHECK(f, "%s", path);
    size_t n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    line[n] = 0;
    const char *end = strrchr(line, ')');
    return end ? end[2] : 0;
}

void actor_until_waiting(struct actor *a, const char *reason)
{
    if (!a->is_thread) {
        until_waiting(a->f, reason);
        return;
    }
    for (int seen = 0, i = 0; seen < 3; i++) {
        CHECK(i < 100000, "a thread is to wait for %s", reason);
        CHECK(!a->is_done, "a thread is to wait for %s, and has ended", reason);
        seen = a->tid && thread_state(a->tid) == 'S' ? seen + 1 : 0;
        fib_sleep(MS / 10);
    }
}

void until(_Atomic int *value, int wanted)
{
    for (int i = 0; *value < wanted; i++) {
        CHECK(i < 100000, "%d, to become %d", *value, wanted);
        fib_sleep(MS / 10);
    }
}

void let_run(void)
{
    for (int i = 0; i < 10; i++)
        fib_yield();
    fib_sleep((rows_are_slow ? 30 : 1) * (int64_t)MS);
}

int actor_rounds(int n)
{
    return (int)check_rounds((unsigned)n);
}

int sync_rows_run(const struct row *rows, size_t count, int argc, char **argv)
{
    int kept = 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--actors")) {
            argv[kept++] = argv[i];
            continue;
        }
        CHECK(++i < argc);
        actors = !strcmp(argv[i], "threads") ? THREADS : !strcmp(argv[i], "mixed") ? MIXED : FIBERS;
    }
    argv[kept] = NULL;
    rows_are_in_thread = actors == THREADS;
    rows_are_outside_main =
        actors == MIXED; // threads are there that nobody knows whether they wait
    return rows_run(rows, count, kept, argv);
}
