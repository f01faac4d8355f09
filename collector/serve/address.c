// SPDX-License-Identifier: MIT
//
// What to listen on, and who may come.

#include "collector/serve/internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 128 };

static void map_v4(struct in6_addr *out, const struct in_addr *v4)
{
    memset(out, 0, sizeof *out);
    out->s6_addr[10] = out->s6_addr[11] = 0xff;
    memcpy(&out->s6_addr[12], v4, sizeof *v4);
}

bool address_of(const struct sockaddr *from, struct in6_addr *out)
{
    if (from && from->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, from, sizeof in);
        map_v4(out, &in.sin_addr);
        return true;
    }
    if (from && from->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, from, sizeof in6);
        *out = in6.sin6_addr;
        return true;
    }
    memset(out, 0, sizeof *out);
    return false;
}

static bool is_loopback(const struct in6_addr *a)
{
    return IN6_IS_ADDR_LOOPBACK(a) || (IN6_IS_ADDR_V4MAPPED(a) && a->s6_addr[12] == 127);
}

// --- Networks.

int address_parse_network(struct serve_network *out, const char *text, struct fscope_error *err)
{
    char host[INET6_ADDRSTRLEN + 1];
    const char *slash = strchr(text, '/');
    size_t n = slash ? (size_t)(slash - text) : strlen(text);
    struct in_addr v4;
    unsigned most = 128;
    if (n >= sizeof host)
        return error_set(err, -EINVAL, 0, "\"%.60s\" is no IP address or network", text);
    memcpy(host, text, n);
    host[n] = '\0';
    if (inet_pton(AF_INET, host, &v4) == 1) {
        map_v4(&out->address, &v4);
        most = 32;
    } else if (inet_pton(AF_INET6, host, &out->address) != 1) {
        return error_set(
            err, -EINVAL, 0,
            "\"%.60s\" is no IP address or network; one is written 10.0.0.0/8 or fd00::/8", text);
    }
    out->bits = 128;
    if (!slash)
        return 0;
    char *end;
    unsigned long bits = strtoul(slash + 1, &end, 10);
    if (slash[1] < '0' || slash[1] > '9' || *end || bits > most)
        return error_set(err, -EINVAL, 0, "\"%.60s\": the number after / is one from 0 to %u", text,
                         most);
    out->bits = (unsigned)bits + 128 - most;
    return 0;
}

bool address_in(const struct in6_addr *address, const struct serve_network *n)
{
    unsigned whole = n->bits / 8, rest = n->bits % 8;
    if (memcmp(address, &n->address, whole) != 0)
        return false;
    unsigned char mask = (unsigned char)(0xff00 >> rest);
    return !rest || ((address->s6_addr[whole] ^ n->address.s6_addr[whole]) & mask) == 0;
}

// --- Listening.

struct endpoint {
    struct sockaddr_storage address;
    socklen_t size;
};

static int parse_port(const char *text, in_port_t *port)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || n > 65535)
        return -EINVAL;
    *port = htons((in_port_t)n);
    return 0;
}

static int bad_address(const char *text, struct fscope_error *err)
{
    bool is_port = *text && strspn(text, "0123456789") == strlen(text);
    if (is_port || (text[0] == ':' && text[1]))
        return error_set(err, -EINVAL, 0,
                         "\"%.60s\" names no address; 127.0.0.1:%.20s is for this machine alone, "
                         "0.0.0.0:%.20s (with a token) for all",
                         text, text + !is_port, text + !is_port);
    return error_set(err, -EINVAL, 0,
                     "\"%.60s\" is none of 127.0.0.1:PORT, [::1]:PORT, ADDRESS:PORT and unix:PATH",
                     text);
}

static int parse_ip(struct endpoint *out, const char *text, struct fscope_error *err)
{
    const char *colon = strrchr(text, ':');
    char host[INET6_ADDRSTRLEN + 2];
    in_port_t port;
    if (!colon || colon == text || (size_t)(colon - text) >= sizeof host ||
        parse_port(colon + 1, &port))
        return bad_address(text, err);
    size_t n = (size_t)(colon - text);
    memcpy(host, text, n);
    host[n] = '\0';
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = port};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = port};
    if (inet_pton(AF_INET, strcmp(host, "localhost") ? host : "127.0.0.1", &in.sin_addr) == 1) {
        memcpy(&out->address, &in, sizeof in);
        out->size = sizeof in;
        return 0;
    }
    if (host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = '\0';
        if (inet_pton(AF_INET6, host + 1, &in6.sin6_addr) == 1) {
            memcpy(&out->address, &in6, sizeof in6);
            out->size = sizeof in6;
            return 0;
        }
    }
    return bad_address(text, err);
}

static int parse_unix(struct endpoint *out, const char *path, struct fscope_error *err)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    if (*path == '@')
        return error_set(err, -EINVAL, 0,
                         "unix:%.60s: everybody may connect to an abstract socket; give a path",
                         path);
    if (!*path || strlen(path) >= sizeof un.sun_path)
        return error_set(err, -EINVAL, 0, "unix:%.60s: a path of 1 to %zu bytes is needed", path,
                         sizeof un.sun_path - 1);
    strcpy(un.sun_path, path);
    memcpy(&out->address, &un, sizeof un);
    out->size = sizeof un;
    return 0;
}

// A socket that was left behind is in the way; one that answers is somebody's.
static void remove_stale(const struct endpoint *e, const char *path)
{
    struct stat st;
    if (lstat(path, &st) || !S_ISSOCK(st.st_mode))
        return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)&e->address, e->size) && errno == ECONNREFUSED)
        unlink(path);
    close(fd);
}

static int open_socket(struct serve_listener *l, const struct endpoint *e, const char *text,
                       struct fscope_error *err)
{
    int on = 1, rc = 0;
    l->fd = socket(e->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0)
        return error_set(err, -errno, 0, "%s: %s", text, strerror(errno));
    if (!l->is_unix)
        setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    // Nobody but we may connect: the mode must be there before the name is.
    mode_t mask = l->is_unix ? umask(0177) : 0;
    rc = bind(l->fd, (const struct sockaddr *)&e->address, e->size) ? -errno : 0;
    if (l->is_unix)
        umask(mask);
    if (rc == -EADDRINUSE && l->is_unix)
        return error_set(err, rc, 0,
                         "%s: in use, or another file is there: take another path, or remove it",
                         text);
    if (rc == -EADDRINUSE)
        return error_set(err, rc, 0,
                         "%s: somebody else listens there; port 0 takes one that is free", text);
    if (!rc && listen(l->fd, BACKLOG))
        rc = -errno;
    return rc ? error_set(err, rc, 0, "%s: %s", text, strerror(-rc)) : 0;
}

static int tell_address(struct serve_listener *l, struct fscope_error *err)
{
    struct sockaddr_storage chosen;
    socklen_t size = sizeof chosen;
    char host[INET6_ADDRSTRLEN];
    if (getsockname(l->fd, (struct sockaddr *)&chosen, &size))
        return error_set(err, -errno, 0, "getsockname: %s", strerror(errno));
    bool is_v6 = chosen.ss_family == AF_INET6;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    memcpy(&in, &chosen, sizeof in);
    memcpy(&in6, &chosen, sizeof in6);
    const void *ip = is_v6 ? (const void *)&in6.sin6_addr : (const void *)&in.sin_addr;
    inet_ntop(chosen.ss_family, ip, host, sizeof host);
    snprintf(l->text, sizeof l->text, is_v6 ? "[%s]:%u" : "%s:%u", host,
             ntohs(is_v6 ? in6.sin6_port : in.sin_port));
    return 0;
}

int address_listen(struct serve_listener *out, const char *text, bool has_token,
                   struct fscope_error *err)
{
    struct endpoint e = {.size = 0};
    *out = (struct serve_listener){.fd = -1};
    out->is_unix = strncmp(text, "unix:", 5) == 0;
    int rc = out->is_unix ? parse_unix(&e, text + 5, err) : parse_ip(&e, text, err);
    if (rc)
        return rc;
    struct in6_addr ip;
    out->is_loopback = address_of((const struct sockaddr *)&e.address, &ip) && is_loopback(&ip);
    if (!out->is_unix && !out->is_loopback && !has_token)
        return error_set(
            err, -EACCES, 0,
            "%s: others can reach this address, and whoever does reads what the program "
            "does; give a token, or listen on 127.0.0.1",
            text);
    if (out->is_unix)
        remove_stale(&e, text + 5);
    rc = open_socket(out, &e, text, err);
    if (!rc && out->is_unix)
        snprintf(out->text, sizeof out->text, "%s", text);
    else if (!rc)
        rc = tell_address(out, err);
    if (rc) {
        if (out->fd >= 0)
            close(out->fd);
        out->fd = -1;
    }
    return rc;
}

void address_close(struct serve_listener *l)
{
    if (l->is_unix && l->text[0])
        unlink(l->text + 5);
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
}
