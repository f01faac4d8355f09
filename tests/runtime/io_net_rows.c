// SPDX-License-Identifier: MIT
//
// What differs by kind of file: datagrams, packets, passed descriptors, urgent bytes; listening and
// dialing; regular files and devices; and standard input, which stays as it is.

#include "tests/runtime/io_ends.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>

static int udp_socket(struct sockaddr_in *a)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t size = sizeof *a;
    *a = (struct sockaddr_in){.sin_family = AF_INET};
    a->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(fd >= 0 && !bind(fd, (struct sockaddr *)a, size));
    CHECK(!getsockname(fd, (struct sockaddr *)a, &size));
    return fd;
}

// A short read of a datagram says nothing about the next one.
static void datagrams(int kind)
{
    (void)kind;
    struct sockaddr_in a, b;
    int r = udp_socket(&a), w = udp_socket(&b);
    CHECK(!fib_connect(w, (struct sockaddr *)&a, sizeof a));
    for (int i = 0; i < 50; i++) {
        struct io_op op;
        op_read(&op, r, 64);
        until_waiting(op.f, "IO wait");
        put(w, "one");
        put(w, "two");
        CHECK(op_result(&op) == 3);
        expect(r, "two");
    }
    char small[2], large[32];
    put(w, "truncated");
    put(w, "next");
    CHECK(fib_read(r, small, 2) == 2);
    struct iovec v = {large, sizeof large};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_name = &b, .msg_namelen = sizeof b};
    struct sockaddr_in from = b;
    CHECK(fib_recvmsg(r, &m, 0) == 4 && m.msg_namelen == sizeof b && from.sin_port == b.sin_port);
    m.msg_iov->iov_len = 5;
    CHECK(fib_sendmsg(r, &m, 0) == 5); // back to whom it came from
    CHECK(fib_read(w, large, 32) == 5);
    CHECK(!fib_set_deadline(r, FIB_READ, fib_now_ns() + MS));
    CHECK(fib_read(r, large, 32) == -ETIMEDOUT); // Go: TestReadFromTimeout
    fib_close(r);
    fib_close(w);
}

struct sender {
    int fd;
    struct sockaddr_un to;
    int count;
};

static void run_sends(void *arg)
{
    struct sender *s = arg;
    struct iovec v = {"datagram", 8};
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_name = &s->to, .msg_namelen = sizeof s->to};
    for (int i = 0; i < s->count; i++)
        CHECK(fib_sendmsg(s->fd, &m, 0) == 8);
}

// The kernel tells a sender that is not connected nothing when the queue has room again.
static void a_full_unix_queue(int kind)
{
    (void)kind;
    struct sender s = {.to = {.sun_family = AF_UNIX}, .count = 200};
    snprintf(s.to.sun_path + 1, 90, "fiberscope-io-%d", getpid());
    int r = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    s.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(!bind(r, (struct sockaddr *)&s.to, sizeof s.to));
    struct fib f = go(run_sends, &s);
    until_waiting(f, "IO wait");
    for (int i = 0; i < s.count; i++)
        expect(r, "datagram");
    fib_join(f);
    fib_close(r);
    fib_close(s.fd);
}

static void packets_in_a_pipe(int kind)
{
    (void)kind;
    int fds[2];
    CHECK(!pipe2(fds, O_DIRECT | O_CLOEXEC));
    for (int i = 0; i < 10; i++) {
        put(fds[1], "first");
        put(fds[1], "2nd");
        expect(fds[0], "first");
        expect(fds[0], "2nd");
    }
    fib_close(fds[0]);
    fib_close(fds[1]);
}

static void send_with_fd(int fd, int passed, const char *text)
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec v = {(char *)(uintptr_t)text, strlen(text)};
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &passed, sizeof passed);
    CHECK(fib_sendmsg(fd, &m, 0) == (ssize_t)strlen(text));
}

// Where descriptors were sent along, a read of the stream ends, though more is there.
static void passed_descriptors(int kind)
{
    struct ends e = ends_of(UNIX);
    char b[64];
    for (int i = 0; i < 10; i++) {
        send_with_fd(e.w, e.w, "with");
        put(e.w, "without");
        if (kind == 0) { // the descriptor is dropped
            expect(e.r, "with");
        } else if (kind == 1) {
            CHECK(fib_readv(e.r, &(struct iovec){b, 64}, 1) == 4);
        } else {
            char control[64];
            struct iovec v = {b, 64};
            struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
            m.msg_control = control;
            m.msg_controllen = sizeof control;
            CHECK(fib_recvmsg(e.r, &m, 0) == 4 && m.msg_controllen > 0);
            int got;
            memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof got);
            CHECK(!fib_close(got));
        }
        expect(e.r, "without");
    }
    ends_close(&e);
}

// Where an urgent byte was, a read ends, though more is there.
static void urgent_bytes(int kind)
{
    struct ends e = ends_of(kind);
    for (int i = 0; i < 20; i++) {
        struct io_op op;
        op_read(&op, e.r, 64);
        until_waiting(op.f, "IO wait");
        struct iovec v = {"!", 1};
        struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
        put(e.w, "before");
        CHECK(fib_sendmsg(e.w, &m, MSG_OOB) == 1);
        put(e.w, "after");
        ssize_t got = op_result(&op);
        char b[64];
        while (got < 11) {
            ssize_t n = fib_read(e.r, b, 64);
            CHECK(n > 0, "%zd after %zd", n, got);
            got += n;
        }
    }
    ends_close(&e);
}

static void peeking_takes_nothing(int kind)
{
    struct ends e = ends_of(kind);
    char b[8];
    struct iovec v = {b, 8};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    put(e.w, "peek");
    CHECK(fib_recvmsg(e.r, &m, MSG_PEEK) == 4 && fib_recvmsg(e.r, &m, MSG_PEEK) == 4);
    expect(e.r, "peek");
    ends_close(&e);
}

static void polling(int kind)
{
    struct ends e = ends_of(kind);
    int64_t begin = fib_now_ns();
    CHECK(fib_poll(e.r, FIB_READ, 0) == 0 && fib_poll(e.r, FIB_READ, 3 * MS) == 0);
    CHECK(fib_now_ns() - begin >= 3 * MS);
    CHECK(fib_poll(e.w, FIB_WRITE, -1) == FIB_WRITE);
    CHECK(fib_poll(e.r, FIB_READ | 8, 0) == -EINVAL && fib_poll(e.r, 0, 0) == -EINVAL);
    struct io_op op, both;
    for (int i = 0; i < 5; i++) {
        op_poll(&op, e.r, FIB_READ);
        until_waiting(op.f, "IO wait");
        put(e.w, "p");
        CHECK(op_result(&op) == FIB_READ);
        CHECK(fib_poll(e.r, FIB_READ, -1) == FIB_READ); // it took nothing
        expect(e.r, "p");
        CHECK(fib_poll(e.r, FIB_READ, 0) == 0);
    }
    size_t full = fill(e.w);
    CHECK(fib_poll(e.w, FIB_WRITE, MS) == 0);
    op_poll(&both, e.w, kind == PIPE ? FIB_WRITE : FIB_READ | FIB_WRITE);
    until_waiting(both.f, "IO wait");
    char *b = malloc(full);
    CHECK(fib_read_full(e.r, b, full) == (ssize_t)full);
    free(b);
    CHECK(op_result(&both) == FIB_WRITE);
    op_poll(&op, e.r, FIB_READ);
    CHECK(!fib_close(e.w));
    CHECK(op_result(&op) == FIB_READ); // the end, too
    e.w = -1;
    ends_close(&e);
}

// --- Connections.

static void refused(int kind)
{
    (void)kind;
    uint16_t port;
    fib_close(tcp_listener(&port));
    CHECK(fib_dial("127.0.0.1", port, -1) == -ECONNREFUSED);
    CHECK(fib_dial("localhost", port, 1000LL * MS) == -ECONNREFUSED); // each of its addresses
    CHECK(fib_dial("unix:/nonexistent/socket", 0, -1) == -ENOENT);
    CHECK(fib_dial("no such host", 1, -1) < 0);
    CHECK(fib_dial("unix:", 0, -1) == -EINVAL);
    char path[200] = "unix:/";
    memset(path + 6, 'x', 150);
    CHECK(fib_dial(path, 0, -1) == -ENAMETOOLONG);
}

static void names(int kind)
{
    (void)kind;
    int l = fib_listen(NULL, 0, 0);
    struct sockaddr_storage a;
    socklen_t size = sizeof a;
    CHECK(l >= 0 && !getsockname(l, (struct sockaddr *)&a, &size));
    uint16_t port = ntohs(((struct sockaddr_in *)&a)->sin_port); // at the same place in both
    int c = fib_dial("localhost", port, 5000LL * MS);
    CHECK(c >= 0, "%s", strerror(-c));
    size = sizeof a;
    int s = fib_accept(l, (struct sockaddr *)&a, &size);
    CHECK(s >= 0 && size > 0 && size <= sizeof a);
    CHECK(fcntl(s, F_GETFL) & O_NONBLOCK && fcntl(s, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(c, F_GETFL) & O_NONBLOCK && fcntl(c, F_GETFD) & FD_CLOEXEC);
    put(s, "hi");
    expect(c, "hi");
    CHECK(fib_listen("127.0.0.1", port, 1) == -EADDRINUSE);
    fib_close(s);
    fib_close(c);
    fib_close(l);
}

static void unix_paths(int kind)
{
    char path[64], name[80];
    snprintf(path, sizeof path, kind ? "@fiberscope-io-%d" : "./io-%d.socket", getpid());
    snprintf(name, sizeof name, "unix:%s", path);
    int l = fib_listen(name, 0, 16);
    CHECK(l >= 0, "%s: %s", name, strerror(-l));
    int c = fib_dial(name, 0, -1), s = fib_accept(l, NULL, NULL);
    CHECK(c >= 0 && s >= 0);
    put(c, "path");
    expect(s, "path");
    fib_close(s);
    fib_close(c);
    fib_close(l);
    if (!kind)
        CHECK(!fib_unlink(path));
}

struct storm {
    int listener;
    uint16_t port;
    char name[80];
    _Atomic int accepted, dialed;
};

static void run_acceptor(void *arg)
{
    struct storm *s = arg;
    int fd;
    while ((fd = fib_accept(s->listener, NULL, NULL)) >= 0) {
        char b;
        s->accepted++;
        CHECK(fib_read(fd, &b, 1) == 1 && fib_write(fd, &b, 1) == 1);
        CHECK(!fib_close(fd));
    }
    CHECK(fd == -ECANCELED || fd == -EBADF, "%d", fd); // closed while it waited, or between
}

static void run_dialer(void *arg)
{
    struct storm *s = arg;
    char b = 'd';
    for (int i = 0; i < 10; i++) {
        int fd = fib_dial(s->port ? "127.0.0.1" : s->name, s->port, 20000LL * MS);
        CHECK(fd >= 0, "%s", strerror(-fd));
        CHECK(fib_write(fd, &b, 1) == 1 && fib_read(fd, &b, 1) == 1 && fib_read(fd, &b, 1) == 0);
        CHECK(!fib_close(fd));
        s->dialed++;
    }
}

// Many dial, several accept from one listener, whose queue is short: who finds it full comes again.
static void storms(int kind)
{
    enum { ACCEPTORS = 8, DIALERS = 60 };
    struct storm s = {0};
    snprintf(s.name, sizeof s.name, "unix:@fiberscope-storm-%d", getpid());
    s.listener = kind == TCP ? tcp_listener(&s.port) : fib_listen(s.name, 0, 2);
    CHECK(s.listener >= 0);
    struct fib a[ACCEPTORS], d[DIALERS];
    for (int i = 0; i < ACCEPTORS; i++)
        a[i] = go(run_acceptor, &s);
    for (int i = 0; i < DIALERS; i++)
        d[i] = go(run_dialer, &s);
    for (int i = 0; i < DIALERS; i++)
        fib_join(d[i]);
    CHECK(s.dialed == DIALERS * 10 && s.accepted == DIALERS * 10);
    CHECK(!fib_close(s.listener));
    for (int i = 0; i < ACCEPTORS; i++)
        fib_join(a[i]);
}

// --- Files.

static void regular_files(int kind)
{
    (void)kind;
    char path[] = "./io-XXXXXX", b[16], to[32];
    int fd = mkstemp(path);
    CHECK(fd >= 0 && !close(fd));
    fd = fib_open(path, O_RDWR | O_CLOEXEC, 0);
    CHECK(fd >= 0 && fib_write_full(fd, "0123456789", 10) == 10);
    CHECK(fib_pwrite(fd, "ab", 2, 4) == 2 && fib_pread(fd, b, 16, 2) == 8);
    CHECK(!memcmp(b, "23ab6789", 8));
    CHECK(lseek(fd, 8, SEEK_SET) == 8 && fib_read_full(fd, b, 16) == 2 && fib_read(fd, b, 16) == 0);
    CHECK(fib_poll(fd, FIB_READ | FIB_WRITE, 0) == (FIB_READ | FIB_WRITE));
    CHECK(!fib_fsync(fd) && !fib_close(fd));
    struct stat st;
    snprintf(to, sizeof to, "%s.new", path);
    CHECK(!fib_stat(path, &st) && st.st_size == 10 && !fib_rename(path, to) && !fib_unlink(to));
    CHECK(fib_stat(to, &st) == -ENOENT && fib_unlink(to) == -ENOENT);
    CHECK(fib_open(path, O_RDONLY, 0) == -ENOENT && fib_rename(path, to) == -ENOENT);
    CHECK(fib_pread(-1, b, 1, 0) == -EBADF && fib_fsync(-1) == -EBADF);
    fd = fib_open("/dev/null", O_RDWR | O_CLOEXEC, 0);
    CHECK(fib_write(fd, b, 16) == 16 && fib_read(fd, b, 16) == 0 && !fib_close(fd));
}

static void counters(int kind)
{
    uint64_t n = 0;
    int fd = kind ? timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC) : eventfd(0, EFD_CLOEXEC);
    for (int i = 0; i < 5; i++) {
        struct io_op op;
        struct itimerspec t = {.it_value.tv_nsec = 2 * MS};
        op_read(&op, fd, 8);
        until_waiting(op.f, "IO wait");
        if (kind)
            CHECK(!timerfd_settime(fd, 0, &t, NULL));
        else
            CHECK(fib_write(fd, &(uint64_t){7}, 8) == 8);
        CHECK(op_result(&op) == 8);
        memcpy(&n, op.bytes, 8);
        CHECK(n == (kind ? 1 : 7));
    }
    CHECK(!fib_close(fd));
}

static void children(int kind)
{
    (void)kind;
    int status = 0;
    pid_t pid = fork();
    if (!pid)
        _exit(3);
    CHECK(fib_waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 3);
    CHECK(fib_waitpid(pid, &status, 0) == -ECHILD);
    struct addrinfo *list, hints = {.ai_flags = AI_NUMERICHOST};
    CHECK(!fib_getaddrinfo("127.0.0.1", "80", &hints, &list));
    freeaddrinfo(list);
    CHECK(fib_getaddrinfo("not a number", "80", &hints, &list) == EAI_NONAME);
}

// Others may have it, too, and not expect it to be non-blocking.
static void standard_input_stays_blocking(int kind)
{
    int fds[2], before = dup(0);
    struct ends e = ends_of(kind);
    CHECK(!pipe2(fds, O_CLOEXEC) && dup2(fds[0], 0) == 0 && !close(fds[0]));
    struct io_op op;
    op_read(&op, 0, 8);
    until_waiting(op.f, "IO wait");
    put(e.w, "others run");
    expect(e.r, "others run");
    put(fds[1], "in");
    CHECK(op_result(&op) == 2);
    CHECK(!(fcntl(0, F_GETFL) & O_NONBLOCK));
    CHECK(!fib_set_deadline(0, FIB_READ, fib_now_ns() + 2 * MS));
    CHECK(fib_read(0, op.bytes, 8) == -ETIMEDOUT);
    CHECK(!fib_set_deadline(0, FIB_READ, 0));
    put(fds[1], "ab");
    CHECK(fib_read(0, op.bytes, 1) == 1 && fib_read(0, op.bytes, 8) == 1);
    CHECK(!fib_close(fds[1]));
    CHECK(fib_read(0, op.bytes, 8) == 0);
    CHECK(!fib_close(0));
    CHECK(dup2(before, 0) == 0 && !close(before));
    ends_close(&e);
}

static const struct row rows[] = {
    {"datagrams", "net: TestUDPConnSpecificMethods; epoll drains", datagrams, NULL},
    {"a full unix queue", "unix(7)", a_full_unix_queue, NULL},
    {"packets in a pipe", "pipe(2): O_DIRECT", packets_in_a_pipe, NULL},
    {"passed descriptors", "unix(7): SCM_RIGHTS", passed_descriptors, (const int[]){0, 1, 2, -1}},
    {"urgent bytes", "tcp(7), unix(7): MSG_OOB", urgent_bytes, socket_kinds},
    {"peeking takes nothing", "recv(2)", peeking_takes_nothing, socket_kinds},
    {"polling", "io.h", polling, all_kinds},
    {"refused", "net: TestDialError", refused, NULL},
    {"names", "net: TestDialerLocal, TestListen", names, NULL},
    {"unix paths", "net: TestUnixConn", unix_paths, (const int[]){0, 1, -1}},
    {"storms", "net: TestTCPConcurrentAccept", storms, socket_kinds},
    {"regular files", "os: TestReadAt, TestWriteAt", regular_files, NULL},
    {"counters", "eventfd(2), timerfd_create(2)", counters, (const int[]){0, 1, -1}},
    {"children", "os: Wait", children, NULL},
    {"standard input stays blocking", "os: TestStdPipe; io.h", standard_input_stays_blocking,
     all_kinds},
};

int main(int argc, char **argv)
{
    return rows_run(rows, sizeof rows / sizeof *rows, argc, argv);
}
