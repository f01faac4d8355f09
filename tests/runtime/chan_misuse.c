// SPDX-License-Identifier: MIT
//
// Bad use of channels aborts, and says which call, which rule, and for a closed channel who closed it.

#include "fiberscope/chan.h"
#include "tests/runtime/misuse.h"

#include <errno.h>
#include <string.h>

enum { MS = 1000000 }; // ns

static struct fib_chan *make(size_t capacity)
{
    struct fib_chan *c = fib_chan_new(sizeof(int64_t), capacity);
    CHECK(c);
    return c;
}

static const int64_t one = 1;

// Frames that must be told: not inlined, and no tail calls.
static __attribute__((noinline)) void close_inner(struct fib_chan *c)
{
    fib_chan_close(c);
    __asm__ volatile("");
}

static __attribute__((noinline)) void close_outer(struct fib_chan *c)
{
    close_inner(c);
    __asm__ volatile("");
}

static void run_close(void *c)
{
    close_outer(c);
    __asm__ volatile("");
}

static struct fib_chan *closed(size_t capacity)
{
    struct fib_chan *c = make(capacity);
    struct fib f;
    CHECK(!fib_go(&f, run_close, c));
    fib_join(f);
    return c;
}

static void send_unbuffered(void *arg)
{
    (void)arg;
    fib_chan_send(closed(0), &one);
}

static void send_buffered(void *arg)
{
    (void)arg;
    fib_chan_send(closed(4), &one); // room does not help
}

static void send_poll(void *arg)
{
    (void)arg;
    fib_chan_send_for(closed(0), &one, 0);
}

static void send_limited(void *arg)
{
    (void)arg;
    fib_chan_send_for(closed(0), &one, MS);
}

static void select_send(void *arg)
{
    (void)arg;
    struct fib_case k[] = {FIB_RECV(make(0), NULL), FIB_SEND(closed(0), &one)};
    fib_select(k, 2);
}

static void select_send_poll(void *arg)
{
    (void)arg;
    struct fib_case k[] = {FIB_SEND(closed(0), &one)};
    fib_select_for(k, 1, 0);
}

static void run_close_later(void *c)
{
    fib_sleep(5 * MS);
    run_close(c);
    __asm__ volatile("");
}

static void closed_while_sending(void *arg)
{
    (void)arg;
    struct fib_chan *c = make(0);
    CHECK(!fib_go(NULL, run_close_later, c));
    fib_chan_send(c, &one);
}

static void closed_while_selecting(void *arg)
{
    (void)arg;
    struct fib_chan *c = make(0);
    struct fib_case k[] = {FIB_RECV(make(0), NULL), FIB_SEND(c, &one)};
    CHECK(!fib_go(NULL, run_close_later, c));
    fib_select(k, 2);
}

static void close_twice(void *arg)
{
    (void)arg;
    fib_chan_close(closed(0));
}

static void close_null(void *arg)
{
    (void)arg;
    fib_chan_close(NULL);
}

static void run_recv(void *c)
{
    fib_chan_recv(c, NULL);
}

static void free_waited(void *arg)
{
    (void)arg;
    struct fib_chan *c = make(0);
    CHECK(!fib_go(NULL, run_recv, c));
    fib_sleep(5 * MS);
    fib_chan_free(c);
}

#ifndef CHECK_IS_SANITIZED
static void free_twice(void *arg)
{
    (void)arg;
    struct fib_chan *c = make(0);
    fib_chan_free(c);
    fib_chan_free(c); // NOLINT
}

static void send_on_freed(void *arg)
{
    (void)arg;
    struct fib_chan *c = make(1);
    fib_chan_free(c);
    fib_chan_send(c, &one); // NOLINT
}
#endif

static void too_many_cases(void *arg)
{
    (void)arg;
    struct fib_case k[1] = {FIB_RECV(NULL, NULL)};
    fib_select(k, FIB_SELECT_MAX + 1);
}

// More closes than notes are kept of: the place is still told.
static void closed_long_ago(void *arg)
{
    (void)arg;
    struct fib_chan *c = closed(0);
    for (int i = 0; i < 1000; i++)
        fib_chan_free(closed(0));
    fib_chan_send(c, &one);
}

// Lines of the closer's stack, at least one a frame; -1: there is none.
static int closer_lines(const char *err)
{
    static const char head[] = " had closed the channel:\n";
    const char *at = strstr(err, head);
    if (!at)
        return -1;
    int lines = 0;
    for (at += strlen(head); *at && *at != '\n'; at = strchr(at, '\n') + 1)
        lines++;
    return lines;
}

static void told(const char *err)
{
    CHECK(closer_lines(err) >= 4 && strstr(err, "close_outer"), "%s", err);
}

// The last notes are kept: of an older close the pc.
static void told_in_short(const char *err)
{
    CHECK(closer_lines(err) >= 1, "%s", err);
}

static void untold(const char *err)
{
    CHECK(closer_lines(err) < 0, "%s", err);
}

static const struct misuse rows[] = {
    // Go's select3.go, TestChan, closechan
    {"send on closed", send_unbuffered, "fib_chan_send", "send on closed channel", .check = told},
    {"send on closed with room", send_buffered, "fib_chan_send", "send on closed channel",
     .check = told},
    {"polling send on closed", send_poll, "fib_chan_send_for", "send on closed channel",
     .check = told},
    {"limited send on closed", send_limited, "fib_chan_send_for", "send on closed channel",
     .check = told},
    {"select that sends on closed", select_send, "fib_select", "send on closed channel",
     .check = told},
    {"polling select that sends on closed", select_send_poll, "fib_select",
     "send on closed channel", .check = told},
    {"close wakes a sender", closed_while_sending, "fib_chan_send", "closed while this send waited",
     .check = told},
    {"close wakes a select that sends", closed_while_selecting, "fib_select",
     "closed while this select waited to send", .check = told},
    {"close of closed", close_twice, "fib_chan_close", "close of closed channel", .check = told},
    {"close of NULL", close_null, "fib_chan_close", "close of NULL channel", .check = untold},
    {"closed long ago", closed_long_ago, "fib_chan_send", "send on closed channel",
     .check = told_in_short},
    // chan.h
    {"free under a waiter", free_waited, "fib_chan_free", "fibers wait on channel",
     .check = untold},
#ifndef CHECK_IS_SANITIZED // which say it themselves
    {"free twice", free_twice, "lock", "the object at", .check = untold},
    {"send on a freed one", send_on_freed, "lock", "the object at", .check = untold},
#endif
    {"too many cases", too_many_cases, "fib_select", "65537 cases; 65536 is the most",
     .check = untold},
};

int main(int argc, char **argv)
{
    return misuse_run(rows, sizeof rows / sizeof *rows, argc, argv);
}
