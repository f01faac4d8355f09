// SPDX-License-Identifier: MIT
//
// shorten: a URL shortener. A fiber per connection, SQLite behind them, a cache between.
//
//     shorten [-a ADDRESS] [-p PORT] [-d FILE]     127.0.0.1, 8080 (0: any), shorten.db
//             [-r] [--delay=KIND:EVERY:DURATION] ... [--account=FILE]
//
//     curl -d https://example.com/ localhost:8080/links     -> 201, the code
//     curl -i localhost:8080/1                              -> 302
//     curl localhost:8080/1/visits; curl localhost:8080/stats
//
// What it shows: code that waits as if it had a thread of its own, on sockets, locks, channels and a library that
// blocks, and runs ten thousand connections on two threads. SIGTERM and SIGINT end it gracefully: nobody is
// accepted any more, idle connections are closed after a moment, requests under way are answered and
// told that they are the last, visits are written down; status 0.
//
// -r (--regions) marks each request as a region in an execution trace. --delay, which implies it, makes every EVERYth
// redirect slow in a known way (delay.h), for trying out what is to find that; --account writes at the end what it did.

#include "delay.h"
#include "routes.h"

#include <fiberscope/fiber.h>
#include <fiberscope/io.h>
#include <fiberscope/sync.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const int64_t SECOND = 1000000000;
enum { CONNECTIONS_MAX = 10000, IDLE_S = 30, DRAIN_S = 10 };
static const int64_t LAST_WORDS_NS = 500 * 1000000; // for requests that are on their way at the end

struct options {
    const char *address, *file, *account;
    uint16_t port;
};

struct connection {
    struct http_connection http;
    struct connection *next, *prev;
};

static struct server {
    struct app app;
    struct options options;
    int listener;
    int signals[2];         // the handler writes there, a fiber reads
    struct fib_mutex mutex; // of the list
    struct connection *all;
    struct fib_semaphore room;
    struct fib_waitgroup open;
    int result;
} server;

// --- Connections.

static void connection_list(struct connection *c)
{
    fib_mutex_lock(&server.mutex);
    c->next = server.all;
    if (c->next)
        c->next->prev = c;
    server.all = c;
    fib_mutex_unlock(&server.mutex);
}

static void connection_unlist(struct connection *c)
{
    fib_mutex_lock(&server.mutex);
    if (c->next)
        c->next->prev = c->prev;
    if (c->prev)
        c->prev->next = c->next;
    else
        server.all = c->next;
    fib_mutex_unlock(&server.mutex);
}

// How long to wait for the next request. Under the list's lock, so that the end, which cuts all limits, comes before
// or after.
static void connection_limit(struct connection *c)
{
    fib_mutex_lock(&server.mutex);
    int64_t ns = server.app.is_stopping ? LAST_WORDS_NS : IDLE_S * SECOND;
    fib_set_deadline(c->http.fd, FIB_READ, fib_now_ns() + ns);
    fib_mutex_unlock(&server.mutex);
}

// After an error the client may still be sending: what is unread when a socket is closed takes the answer with it.
static void connection_linger(struct connection *c)
{
    shutdown(c->http.fd, SHUT_WR);
    fib_set_deadline(c->http.fd, FIB_READ, fib_now_ns() + SECOND);
    for (int i = 0; i < 16; i++)
        if (fib_read(c->http.fd, c->http.buffer, sizeof c->http.buffer) <= 0)
            break;
}

static void connection_run(void *arg)
{
    struct connection c = {.http.fd = (int)(intptr_t)arg};
    struct http_request r;
    server.app.connections++;
    connection_list(&c);
    for (;;) {
        connection_limit(&c);
        int rc = http_read(&c.http, &r);
        if (rc <= -400 && !http_answer(&c.http, -rc, NULL, NULL, true))
            connection_linger(&c);
        if (rc <= 0)
            break;
        bool is_last = r.is_last || server.app.is_stopping;
        if (routes_answer(&server.app, &c.http, &r) || is_last)
            break;
    }
    connection_unlist(&c);
    fib_close(c.http.fd);
    server.app.connections--;
    fib_semaphore_release(&server.room, 1);
    fib_waitgroup_done(&server.open);
}

static void accept_run(void *arg)
{
    (void)arg;
    static const struct fib_go_options options = {.size = sizeof options, .name = "connection"};
    fib_set_name("accept");
    for (;;) {
        fib_semaphore_acquire(&server.room, 1);
        int fd = fib_accept(server.listener, NULL, NULL);
        if (fd == -ECANCELED)
            return; // closed: the end
        fib_waitgroup_add(&server.open, 1);
        if (fd >= 0 && !fib_go_with(NULL, &options, connection_run, (void *)(intptr_t)fd))
            continue;
        if (fd >= 0)
            fib_close(fd);
        fib_waitgroup_done(&server.open);
        fib_semaphore_release(&server.room, 1);
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd >= 0)
            fib_sleep(SECOND / 100); // until some are closed
    }
}

// --- Beginning and end.

static void on_signal(int number)
{
    int saved = errno;
    char byte = (char)number;
    ssize_t ignored = write(server.signals[1], &byte, 1);
    (void)ignored; // full: it was told before
    errno = saved;
}

static bool signals_catch(void)
{
    struct sigaction on = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    signal(SIGPIPE, SIG_IGN);
    return !pipe2(server.signals, O_CLOEXEC | O_NONBLOCK) && !sigaction(SIGTERM, &on, NULL) &&
           !sigaction(SIGINT, &on, NULL);
}

static int port_of(int fd)
{
    struct sockaddr_storage a;
    socklen_t size = sizeof a;
    if (getsockname(fd, (struct sockaddr *)&a, &size))
        return -1;
    return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
                                         : ((struct sockaddr_in *)&a)->sin_port);
}

static void drain(struct fib accepting)
{
    fib_close(server.listener);
    fib_join(accepting);
    fib_mutex_lock(&server.mutex);
    server.app.is_stopping = true;
    for (struct connection *c = server.all; c; c = c->next)
        fib_set_deadline(c->http.fd, FIB_READ, fib_now_ns() + LAST_WORDS_NS);
    fib_mutex_unlock(&server.mutex);
    if (fib_waitgroup_wait_for(&server.open, DRAIN_S * SECOND)) {
        fprintf(stderr, "shorten: %u connections did not end in %d s\n", server.app.connections,
                DRAIN_S);
        server.result = 1;
    }
}

static int serve(void)
{
    struct fib accepting, counting;
    server.listener = fib_listen(server.options.address, server.options.port, 1024);
    if (server.listener < 0) {
        fprintf(stderr, "shorten: %s: %s\n", server.options.address, strerror(-server.listener));
        return 1;
    }
    server.app.visits = fib_chan_new(sizeof(int64_t), 1024);
    if (!server.app.visits || fib_go(&counting, visits_run, &server.app) ||
        fib_go(&accepting, accept_run, NULL))
        return 1;
    printf("listening on %s:%d\n", server.options.address, port_of(server.listener));
    fflush(stdout);

    char number;
    fib_read(server.signals[0], &number, 1);
    drain(accepting);
    if (server.result)
        return 1; // some still use what would be closed now
    fib_chan_close(server.app.visits);
    fib_join(counting);
    printf("served %llu requests\n", (unsigned long long)server.app.requests);
    return 0;
}

static void start(void *arg)
{
    (void)arg;
    char why[256];
    fib_semaphore_init(&server.room, CONNECTIONS_MAX);
    server.app.store = store_open(server.options.file, why);
    if (!server.app.store) {
        fprintf(stderr, "shorten: %s: %s\n", server.options.file, why);
        server.result = 1;
        return;
    }
    server.result = serve();
    if (!server.result) {
        store_close(server.app.store);
        cache_free(&server.app.cache);
        fib_chan_free(server.app.visits);
    }
}

static int usage(void)
{
    fprintf(stderr, "usage: shorten [-a ADDRESS] [-p PORT] [-d FILE] [-r]\n"
                    "               [--delay=KIND:EVERY:DURATION] ... [--account=FILE]\n"
                    "  -r, --regions   each request is a region \"request\" in an execution trace\n"
                    "  --delay         every EVERYth redirect is slow, say lock:100:20ms. Kinds:");
    for (int i = 0; i < DELAY_KINDS; i++)
        fprintf(stderr, " %s", delay_names[i]);
    fprintf(stderr, "\n  --account       a line for each request: when it began, how long it took, "
                    "and how long\n"
                    "                  the delays held it up, in us; written at the end\n");
    return 2;
}

static bool account_write(const char *path)
{
    FILE *file = fopen(path, "w");
    bool is_written = file && !delay_account_write(file);
    if (!file || fclose(file) || !is_written)
        fprintf(stderr, "shorten: %s: cannot be written\n", path);
    return is_written;
}

// An exit status, or -1: go on.
static int options_read(int argc, char **argv)
{
    enum { DELAY = 256, ACCOUNT };
    static const struct option names[] = {{"regions", no_argument, NULL, 'r'},
                                          {"delay", required_argument, NULL, DELAY},
                                          {"account", required_argument, NULL, ACCOUNT},
                                          {NULL, 0, NULL, 0}};
    server.options = (struct options){"127.0.0.1", "shorten.db", NULL, 8080};
    for (int o; (o = getopt_long(argc, argv, "a:p:d:r", names, NULL)) != -1;)
        switch (o) {
        case 'a': server.options.address = optarg; break;
        case 'p': server.options.port = (uint16_t)strtoul(optarg, NULL, 10); break;
        case 'd': server.options.file = optarg; break;
        case ACCOUNT: server.options.account = optarg; break;
        case DELAY:
            if (delay_add(optarg)) {
                fprintf(stderr, "shorten: --delay=%s: not KIND:EVERY:DURATION, or the ninth\n",
                        optarg);
                return usage();
            }
            server.app.marks_regions = true;
            break;
        case 'r': server.app.marks_regions = true; break;
        default: return usage();
        }
    return optind < argc ? usage() : -1;
}

int main(int argc, char **argv)
{
    int status = options_read(argc, argv);
    if (status >= 0)
        return status;
    if (!signals_catch() || (server.options.account && delay_account()))
        return 1;
    status = fib_main(start, NULL) || server.result ? 1 : 0;
    if (server.options.account && !account_write(server.options.account))
        return 1;
    return status;
}
