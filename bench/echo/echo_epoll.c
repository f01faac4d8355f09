// SPDX-License-Identifier: MIT
//
// The same echo server as the plainest epoll loop: one thread, level-triggered, one read and one write per
// event. Prints "PORT n".

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static int listen_local(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 4096) ||
        getsockname(fd, (struct sockaddr *)&a, &size)) {
        perror("echo_epoll");
        exit(1);
    }
    printf("PORT %u\n", ntohs(a.sin_port));
    fflush(stdout);
    return fd;
}

static void add(int epoll, int fd)
{
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e)) {
        perror("epoll_ctl");
        exit(1);
    }
}

static void accept_all(int epoll, int listener)
{
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        add(epoll, fd);
    }
}

static void echo(int fd)
{
    char buffer[4096];
    ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    if (n > 0 && send(fd, buffer, (size_t)n, MSG_NOSIGNAL) == n)
        return;
    close(fd);
}

int main(void)
{
    int listener = listen_local(), epoll = epoll_create1(EPOLL_CLOEXEC);
    add(epoll, listener);
    for (;;) {
        struct epoll_event events[128];
        int count = epoll_wait(epoll, events, 128, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener)
                accept_all(epoll, listener);
            else
                echo(events[i].data.fd);
        }
    }
}
