// SPDX-License-Identifier: MIT
//
// shorten_load: asks a shortener as many clients would, checks every answer, and prints how long they took.
//
//     shorten_load -p PORT [-a ADDRESS] [-c CONNECTIONS] [-n REQUESTS] [-w PERCENT] [-r RATE]
//                                127.0.0.1, 64, 20000, 10 % new links; RATE: of all together a second, else as fast as may be
//
// A fiber per connection makes links of its own and asks for those it made. Status 1: an answer was wrong, or a request
// was not answered. A server that says "Connection: close" is taken to be ending: that connection stops.

#include <fiberscope/fiber.h>
#include <fiberscope/io.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KNOWN = 64, ANSWER_MAX = 8192, TIMEOUT_S = 20 };

static struct load {
    const char *address;
    uint16_t port;
    int connections;
    long requests;
    int write_percent;
    int64_t pause_ns; // from one request of a connection to its next
    _Atomic long created, redirected, wrong, unanswered;
    int64_t *latency_ns; // of each answer
    _Atomic long answers;
} load = {"127.0.0.1", 0, 64, 20000, 10, 0, 0, 0, 0, 0, NULL, 0};

struct link {
    char code[32], url[96];
};

struct client {
    int fd, number;
    uint64_t random;
    long made;
    struct link links[KNOWN];
    char answer[ANSWER_MAX];
    bool is_closing;
};

static uint32_t random_below(struct client *c, uint32_t n)
{
    c->random = c->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((c->random >> 33) % n);
}

// The value of a header, or "".
static void header(const char *answer, const char *name, char *out, size_t room)
{
    const char *at = strstr(answer, name);
    size_t n = at ? strcspn(at + strlen(name), "\r\n") : 0;
    snprintf(out, room, "%.*s", (int)n, at ? at + strlen(name) : "");
}

// Sends a request and reads its answer: the status, or negative: there was none.
static int ask(struct client *c, const char *request)
{
    ssize_t sent = fib_write_full(c->fd, request, strlen(request));
    if (sent < 0)
        return (int)sent;
    size_t used = 0, wanted = 0;
    char *body = NULL;
    while (!body || used < wanted) {
        ssize_t n = fib_read(c->fd, c->answer + used, sizeof c->answer - 1 - used);
        if (n <= 0)
            return n ? (int)n : -EPIPE;
        used += (size_t)n;
        c->answer[used] = '\0';
        if (!body && (body = strstr(c->answer, "\r\n\r\n"))) {
            char length[24];
            header(c->answer, "Content-Length: ", length, sizeof length);
            wanted = (size_t)(body + 4 - c->answer) + strtoul(length, NULL, 10);
        }
    }
    c->is_closing = strstr(c->answer, "\r\nConnection: close\r\n");
    return !strncmp(c->answer, "HTTP/1.1 ", 9) ? atoi(c->answer + 9) : -EPROTO;
}

static int create(struct client *c, bool *ok)
{
    char request[512];
    struct link *l = &c->links[c->made % KNOWN];
    struct link made;
    snprintf(made.url, sizeof made.url, "https://example.com/%d/%ld/%llx", c->number, c->made,
             (unsigned long long)c->random);
    snprintf(request, sizeof request,
             "POST /links HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s", strlen(made.url),
             made.url);
    int status = ask(c, request);
    if (status < 0)
        return status;
    header(c->answer, "Location: ", made.code, sizeof made.code);
    *ok = status == 201 && made.code[0] == '/';
    if (*ok) {
        *l = made;
        c->made++;
        load.created++;
    }
    return status;
}

static int redirect(struct client *c, bool *ok)
{
    char request[256], location[128];
    uint32_t known = c->made < KNOWN ? (uint32_t)c->made : KNOWN;
    struct link *l = &c->links[random_below(c, known)];
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", l->code);
    int status = ask(c, request);
    if (status < 0)
        return status;
    header(c->answer, "Location: ", location, sizeof location);
    *ok = status == 302 && !strcmp(location, l->url);
    if (*ok)
        load.redirected++;
    return status;
}

static void client_run(void *arg)
{
    struct client *c = arg;
    long n = load.requests / load.connections;
    c->fd = fib_dial(load.address, load.port, TIMEOUT_S * 1000000000LL);
    if (c->fd < 0) {
        load.unanswered++;
        return;
    }
    int64_t due = fib_now_ns() + c->number * load.pause_ns / load.connections;
    for (long i = 0; i < n && !c->is_closing; i++, due += load.pause_ns) {
        bool ok = false;
        int64_t early = load.pause_ns ? due - fib_now_ns() : 0;
        if (early > 0)
            fib_sleep(early);
        int64_t before = fib_now_ns();
        fib_set_deadline(c->fd, FIB_READ | FIB_WRITE, before + TIMEOUT_S * 1000000000LL);
        bool is_write = !c->made || random_below(c, 100) < (uint32_t)load.write_percent;
        int status = is_write ? create(c, &ok) : redirect(c, &ok);
        if (status < 0) {
            load.unanswered++;
            break;
        }
        if (!ok && !load.wrong++)
            fprintf(stderr, "shorten_load: wrong: %s\n", c->answer);
        load.latency_ns[load.answers++] = fib_now_ns() - before;
    }
    fib_close(c->fd);
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void report(int64_t ns)
{
    long n = load.answers;
    qsort(load.latency_ns, (size_t)n, sizeof *load.latency_ns, ascending);
    printf("%ld answers: %ld created, %ld redirected, %ld wrong; %ld unanswered\n", n,
           (long)load.created, (long)load.redirected, (long)load.wrong, (long)load.unanswered);
    long middle = n / 2, late = n * 99 / 100;
    if (n)
        printf("%.0f a second; us: median %.0f, 99 %% %.0f, most %.0f\n",
               (double)n * 1e9 / (double)ns, (double)load.latency_ns[middle] / 1e3,
               (double)load.latency_ns[late] / 1e3, (double)load.latency_ns[n - 1] / 1e3);
}

static void start(void *arg)
{
    (void)arg;
    size_t count = (size_t)load.connections;
    struct fib *f = calloc(count, sizeof *f);
    struct client *clients = calloc(count, sizeof *clients);
    load.latency_ns = calloc((size_t)load.requests, sizeof *load.latency_ns);
    if (!f || !clients || !load.latency_ns)
        abort();
    int64_t before = fib_now_ns();
    for (int i = 0; i < load.connections; i++) {
        clients[i].number = i;
        clients[i].random = (uint64_t)fib_now_ns() + (uint64_t)i;
        if (fib_go(&f[i], client_run, &clients[i]))
            abort();
    }
    for (int i = 0; i < load.connections; i++)
        fib_join(f[i]);
    report(fib_now_ns() - before);
    free(load.latency_ns);
    free(clients);
    free(f);
}

int main(int argc, char **argv)
{
    long rate = 0;
    for (int o; (o = getopt(argc, argv, "a:p:c:n:w:r:")) != -1;)
        switch (o) {
        case 'a': load.address = optarg; break;
        case 'p': load.port = (uint16_t)strtoul(optarg, NULL, 10); break;
        case 'c': load.connections = atoi(optarg); break;
        case 'n': load.requests = strtol(optarg, NULL, 10); break;
        case 'w': load.write_percent = atoi(optarg); break;
        case 'r': rate = strtol(optarg, NULL, 10); break;
        default: optind = argc + 1;
        }
    if (!load.port || load.connections < 1 || load.requests < load.connections) {
        fprintf(stderr, "usage: shorten_load -p PORT [-a ADDRESS] [-c CONNECTIONS] [-n REQUESTS]"
                        " [-w PERCENT] [-r RATE]\n");
        return 2;
    }
    load.pause_ns = rate > 0 ? 1000000000LL * load.connections / rate : 0;
    return fib_main(start, NULL) || load.wrong || load.unanswered ? 1 : 0;
}
