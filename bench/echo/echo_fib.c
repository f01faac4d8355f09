// SPDX-License-Identifier: MIT
//
// An echo server on fibers, one per connection. Prints "PORT n".

#include <fiberscope/fiber.h>
#include <fiberscope/io.h>

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char buffer[4096];
    ssize_t n;
    while ((n = fib_read(fd, buffer, sizeof buffer)) > 0)
        if (fib_write_full(fd, buffer, (size_t)n) != n)
            break;
    fib_close(fd);
}

static void start(void *arg)
{
    (void)arg;
    int listener = fib_listen("127.0.0.1", 0, 4096);
    struct sockaddr_in a;
    socklen_t size = sizeof a;
    if (listener < 0 || getsockname(listener, (struct sockaddr *)&a, &size)) {
        fprintf(stderr, "echo_fib: %s\n", strerror(-listener));
        exit(1);
    }
    printf("PORT %u\n", ntohs(a.sin_port));
    fflush(stdout);
    for (;;) {
        int fd = fib_accept(listener, NULL, NULL), on = 1;
        if (fd < 0)
            exit(1);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); // as Go does
        if (fib_go(NULL, serve, (void *)(intptr_t)fd))
            fib_close(fd);
    }
}

int main(void)
{
    return fib_main(start, NULL);
}
