// SPDX-License-Identifier: MIT
//
// Runs a table of behaviours: see rows.h.

#include "tests/runtime/rows.h"

#include <errno.h>
#include <string.h>

bool rows_are_seeded;
bool rows_are_in_thread, rows_are_outside_main;
bool rows_are_slow = CHECK_SLOWNESS > 1;

struct fib go(fib_fn *fn, void *arg)
{
    struct fib f;
    int rc = fib_go(&f, fn, arg);
    CHECK(!rc, "fib_go: %s", strerror(-rc));
    return f;
}

void until_waiting(struct fib f, const char *reason)
{
    struct fib_info info = {.size = sizeof info};
    for (int i = 0; i < 100000; i++) {
        int rc = fib_info_read(f, &info);
        CHECK(!rc, "fiber %llu is to wait for %s: %s", (unsigned long long)f.id, reason,
              strerror(-rc));
        if (info.status == FIB_WAITING && !strcmp(info.reason, reason))
            return;
        fib_sleep(MS / 10);
    }
    CHECK(false, "fiber %llu waits for '%s' instead of '%s'", (unsigned long long)f.id, info.reason,
          reason);
}

struct fib_chan *chan_of(int cap)
{
    struct fib_chan *c = fib_chan_new(sizeof(int64_t), (size_t)cap);
    CHECK(c, "a channel with room for %d", cap);
    return c;
}

void send(struct fib_chan *c, int64_t value)
{
    fib_chan_send(c, &value);
}

int64_t recv(struct fib_chan *c)
{
    int64_t value = -1;
    CHECK(fib_chan_recv(c, &value), "closed");
    return value;
}

bool try_recv(struct fib_chan *c, int64_t *value)
{
    int rc = fib_chan_recv_for(c, value, 0);
    CHECK(rc == 0 || rc == -ETIMEDOUT, "%d", rc);
    return !rc;
}

bool try_send(struct fib_chan *c, int64_t value)
{
    int rc = fib_chan_send_for(c, &value, 0);
    CHECK(rc == 0 || rc == -ETIMEDOUT, "%d", rc);
    return !rc;
}

static void run_send(void *arg)
{
    struct op *op = arg;
    fib_chan_send(op->c, &op->value);
    op->is_done = true;
}

static void run_recv(void *arg)
{
    struct op *op = arg;
    op->ok = fib_chan_recv(op->c, &op->value);
    op->is_done = true;
}

void op_send(struct op *op, struct fib_chan *c, int64_t value)
{
    *op = (struct op){.c = c, .value = value};
    op->f = go(run_send, op);
}

void op_recv(struct op *op, struct fib_chan *c)
{
    *op = (struct op){.c = c, .value = -1};
    op->f = go(run_recv, op);
}

void op_end(struct op *op)
{
    fib_join(op->f);
    CHECK(op->is_done);
}

static struct {
    const struct row *rows;
    size_t count;
    char **names; // NULL-ended; none: all
} run;

static bool is_named(const char *name)
{
    for (char **n = run.names; *n; n++)
        if (!strcmp(*n, name))
            return true;
    return !run.names[0];
}

static void run_all(void *arg)
{
    static const int once[] = {0, -1};
    (void)arg;
    for (size_t i = 0; i < run.count; i++) {
        const struct row *r = &run.rows[i];
        if (!is_named(r->behaviour))
            continue;
        int64_t begin = fib_now_ns();
        for (const int *cap = r->caps ? r->caps : once; *cap >= 0; cap++)
            r->check(*cap);
        printf("ok: %s (%s), %lld ms\n", r->behaviour, r->source,
               (long long)(fib_now_ns() - begin) / MS);
        fflush(stdout);
    }
}

int rows_run(const struct row *rows, size_t count, int argc, char **argv)
{
    struct fib_options options = {.size = sizeof options};
    int i = 1;
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        unsigned long n = strtoul(argv[i + 1], NULL, 10);
        if (!strcmp(argv[i], "--procs"))
            options.procs = (uint32_t)n;
        else if (!strcmp(argv[i], "--seed"))
            options.seed = n;
        else
            CHECK(false, "%s", argv[i]);
    }
    rows_are_seeded = options.seed;
    run.rows = rows;
    run.count = count;
    run.names = argv + i;
    int rc = fib_init(&options);
    CHECK(!rc, "fib_init: %s", strerror(-rc));
    if (rows_are_in_thread) {
        run_all(NULL);
        return 0;
    }
    if (rows_are_outside_main) {
        fib_join(go(run_all, NULL));
        return 0;
    }
    rc = fib_main(run_all, NULL);
    CHECK(!rc, "fib_main: %s", strerror(-rc));
    return 0;
}
