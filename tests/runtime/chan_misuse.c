// SPDX-License-Identifier: MIT
//
// Bad use of channels aborts, and says which call, which rule, and for a closed channel who closed it. Each
// row in a process of its own.

#include "fiberscope/chan.h"
#include "fiberscope/fiber.h"
#include "tests/runtime/check.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

enum { MS = 1000000, TEXT_MAX = 1 << 16 };

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

static const struct row {
    const char *behaviour, *source;
    fib_fn *fn;
    const char *call, *rule;
    bool is_closed; // who closed it is told
} rows[] = {
    {"send on closed", "chan/select3.go", send_unbuffered, "fib_chan_send",
     "send on closed channel", true},
    {"send on closed with room", "TestChan", send_buffered, "fib_chan_send",
     "send on closed channel", true},
    {"polling send on closed", "chan/select3.go", send_poll, "fib_chan_send_for",
     "send on closed channel", true},
    {"limited send on closed", "chan.h", send_limited, "fib_chan_send_for",
     "send on closed channel", true},
    {"select that sends on closed", "chan/select3.go", select_send, "fib_select",
     "send on closed channel", true},
    {"polling select that sends on closed", "chan/select3.go", select_send_poll, "fib_select",
     "send on closed channel", true},
    {"close wakes a sender", "closechan", closed_while_sending, "fib_chan_send",
     "closed while this send waited", true},
    {"close wakes a select that sends", "closechan", closed_while_selecting, "fib_select",
     "closed while this select waited to send", true},
    {"close of closed", "closechan", close_twice, "fib_chan_close", "close of closed channel",
     true},
    {"close of NULL", "closechan", close_null, "fib_chan_close", "close of NULL channel", false},
    {"free under a waiter", "chan.h", free_waited, "fib_chan_free", "fibers wait on channel",
     false},
    {"too many cases", "chan.h", too_many_cases, "fib_select", "65537 cases; 65536 is the most",
     false},
    {"closed long ago", "chan.h", closed_long_ago, "fib_chan_send", "send on closed channel", true},
};

static char text[TEXT_MAX];

static int run_child(const struct row *r)
{
    int fds[2];
    CHECK(!pipe(fds));
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (!pid) {
        alarm(30);
        dup2(fds[1], 2);
        close(fds[0]);
        _exit(fib_main(r->fn, NULL) ? 2 : 0);
    }
    close(fds[1]);
    size_t used = 0;
    ssize_t n;
    while ((n = read(fds[0], text + used, sizeof text - 1 - used)) > 0)
        used += (size_t)n;
    text[used] = 0;
    close(fds[0]);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

// Lines of the closer's stack, at least one a frame; -1: there is none.
static int closer_lines(void)
{
    static const char head[] = " had closed the channel:\n";
    const char *at = strstr(text, head);
    if (!at)
        return -1;
    int lines = 0;
    for (at += strlen(head); *at && *at != '\n'; at = strchr(at, '\n') + 1)
        lines++;
    return lines;
}

int main(void)
{
    char want[256];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *r = &rows[i];
        int status = run_child(r);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s: status %#x: %s",
              r->behaviour, (unsigned)status, text);
        snprintf(want, sizeof want, "fiberscope-rt: %s: %s", r->call, r->rule);
        CHECK(strstr(text, want), "%s: '%s' is not in: %s", r->behaviour, want, text);
        // The last notes are kept: of an older close the pc.
        int lines = !r->is_closed ? -1 : r->fn == closed_long_ago ? 1 : 4;
        CHECK(lines < 0 ? closer_lines() < 0 : closer_lines() >= lines, "%s: %s", r->behaviour,
              text);
        CHECK(lines < 4 || strstr(text, "close_outer"), "%s: %s", r->behaviour, text);
        printf("ok: %s (%s)\n", r->behaviour, r->source);
        if (getenv("VERBOSE"))
            fputs(text, stdout);
    }
    return 0;
}
