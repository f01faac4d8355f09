// SPDX-License-Identifier: MIT
//
// A load for echo servers: N connections, each sends 64 bytes, waits until they are back, and sends
// again. Usage: echo_load PORT PID SECONDS CONNECTIONS. After half a second of warming up prints what happened in
// SECONDS, as JSON: requests, wall time, CPU time of process PID, latencies.
//
// Invariant: a connection has exactly one request under way; what comes back is compared.

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST = 64, BUCKETS = 20000, BUCKET_NS = 5000, WARM_NS = 500000000 };

struct connection {
    int fd;
    uint32_t got;
    int64_t sent_at;
};

static struct {
    int epoll;
    struct connection *connections;
    uint64_t requests, latencies[BUCKETS]; // in the measured time
    char bytes[REQUEST];
} load;

static void die(const char *what)
{
    fprintf(stderr, "echo_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    if (clock_gettime(clock, &t))
        die("clock_gettime");
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void request(struct connection *c, int64_t now)
{
    c->got = 0;
    c->sent_at = now;
    if (send(c->fd, load.bytes, REQUEST, MSG_NOSIGNAL) != REQUEST)
        die("send");
}

static void answer(struct connection *c)
{
    char buffer[REQUEST];
    ssize_t n = recv(c->fd, buffer, REQUEST - c->got, 0);
    if (n <= 0 || memcmp(buffer, load.bytes + c->got, (size_t)n)) {
        if (n < 0 && errno == EAGAIN)
            return;
        die("the answer is not what was sent");
    }
    c->got += (uint32_t)n;
    if (c->got < REQUEST)
        return;
    int64_t now = clock_ns(CLOCK_MONOTONIC);
    int64_t bucket = (now - c->sent_at) / BUCKET_NS;
    load.latencies[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    load.requests++;
    request(c, now);
}

static void connect_all(uint16_t port, long count)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    load.connections = calloc((size_t)count, sizeof *load.connections);
    if (!load.connections)
        die("calloc");
    for (int i = 0; i < REQUEST; i++)
        load.bytes[i] = (char)('!' + i);
    for (long i = 0; i < count; i++) {
        int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to))
            die("connect");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        load.connections[i].fd = fd;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &load.connections[i]};
        if (epoll_ctl(load.epoll, EPOLL_CTL_ADD, fd, &e))
            die("epoll_ctl");
    }
    for (long i = 0; i < count; i++)
        request(&load.connections[i], clock_ns(CLOCK_MONOTONIC));
}

// Returns when it is over: the time then.
static int64_t run_until(int64_t end)
{
    for (;;) {
        struct epoll_event events[128];
        int count = epoll_wait(load.epoll, events, 128, 1000);
        if (count == 0)
            die("no answer for a second");
        for (int i = 0; i < count; i++)
            answer(events[i].data.ptr);
        int64_t now = clock_ns(CLOCK_MONOTONIC);
        if (now >= end)
            return now;
    }
}

static double quantile_us(double q)
{
    uint64_t sum = 0, want = (uint64_t)(q * (double)load.requests);
    int i = 0;
    while (i < BUCKETS - 1 && (sum += load.latencies[i]) <= want)
        i++;
    return (i + 0.5) * BUCKET_NS / 1000;
}

int main(int argc, char **argv)
{
    clockid_t cpu;
    if (argc != 5)
        return 2;
    if (clock_getcpuclockid((pid_t)atoi(argv[2]), &cpu))
        die("clock_getcpuclockid");
    connect_all((uint16_t)atoi(argv[1]), atol(argv[4]));
    run_until(clock_ns(CLOCK_MONOTONIC) + WARM_NS);
    load.requests = 0;
    memset(load.latencies, 0, sizeof load.latencies);
    int64_t begin = clock_ns(CLOCK_MONOTONIC), cpu_begin = clock_ns(cpu);
    int64_t end = run_until(begin + (int64_t)(atof(argv[3]) * 1e9));
    printf("{\"requests\": %llu, \"wall_ns\": %lld, \"cpu_ns\": %lld, \"p50_us\": %.1f, "
           "\"p99_us\": %.1f}\n",
           (unsigned long long)load.requests, (long long)(end - begin),
           (long long)(clock_ns(cpu) - cpu_begin), quantile_us(0.5), quantile_us(0.99));
    return 0;
}
