// SPDX-License-Identifier: MIT
//
// A program that knows what pages.py has to find: its fibers, what each did, its tasks and regions. Does what it is
// told on standard input.

#include "fiberscope/chan.h"
#include "fiberscope/fiber.h"
#include "fiberscope/sync.h"
#include "fiberscope/trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { RECEIVERS = 40, LOCKERS = 7, YIELDS = 100, NAMES = 80 };

struct fib_mutex g_lock;
static struct fib_chan *g_never;

static void receiver(void *arg)
{
    int n;
    (void)arg;
    fib_chan_recv(g_never, &n);
}

static void holder(void *arg)
{
    (void)arg;
    fib_mutex_lock(&g_lock);
    receiver(NULL);
}

static void locker(void *arg)
{
    (void)arg;
    fib_mutex_lock(&g_lock);
    fib_mutex_unlock(&g_lock);
}

static void yielder(void *arg)
{
    (void)arg;
    fib_set_name("<b>\"y'&\xff");
    for (int i = 0; i < YIELDS; i++)
        fib_yield();
    receiver(NULL);
}

static void one_task(const char *name, int64_t sleep_ns, const char *error)
{
    uint64_t task = fscope_task_begin(name, 0);
    struct fscope_region r = fscope_region_begin(task, "parse");
    fscope_log(task, "note", "</td><script>alert(1)</script>");
    if (error)
        fscope_region_error(&r, error);
    fscope_region_end(&r);
    if (sleep_ns)
        fib_sleep(sleep_ns);
    fscope_task_end(task);
}

static void tasks(void)
{
    char name[32];
    for (int i = 0; i < 30; i++)
        one_task("fast", 0, NULL);
    for (int i = 0; i < 5; i++)
        one_task("slow", 12000000, NULL);
    for (int i = 0; i < 3; i++)
        one_task("a\"b\\<i>\n\xfe", 0, "no \"such\" <thing>");
    fscope_task_begin("stays", 0);
    for (int i = 0; i < NAMES; i++) {
        snprintf(name, sizeof name, "made up %d", i);
        struct fscope_region r = fscope_region_begin(0, name);
        fscope_region_end(&r);
    }
}

static int tell(void *arg, struct fib f)
{
    struct fib_info i = {.size = sizeof i};
    (void)arg;
    if (!fib_info_read(f, &i))
        printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", i.id, i.switches,
               i.wakes, i.cpu_ns, i.owner);
    return 0;
}

static void start(void *arg)
{
    char line[64];
    (void)arg;
    g_never = fib_chan_new(sizeof(int), 0);
    for (int i = 0; i < RECEIVERS; i++)
        fib_go(NULL, receiver, NULL);
    fib_go(NULL, holder, NULL);
    fib_sleep(10000000);
    for (int i = 0; i < LOCKERS; i++)
        fib_go(NULL, locker, NULL);
    fib_go(NULL, yielder, NULL);
    fib_sleep(50000000);
    puts("ready");
    fflush(stdout);
    for (;;) {
        fib_blocking_enter();
        bool ok = fgets(line, sizeof line, stdin) != NULL;
        fib_blocking_exit();
        if (!ok)
            return;
        if (!strcmp(line, "tasks\n"))
            tasks();
        else if (!strcmp(line, "fibers\n"))
            fib_each(tell, NULL);
        puts("done");
        fflush(stdout);
    }
}

int main(void)
{
    return fib_main(start, NULL);
}
