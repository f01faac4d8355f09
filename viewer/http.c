// SPDX-License-Identifier: MIT
//
// See http.h.

#include "viewer/http.h"

#include "base/utf8.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SLICE_MS = 50, HEAD_MAX = 65536, PIECE = 65536, WORDS_MAX = 200, WORDS_MS = 2000 };

struct get {
    const struct http_limits *limits;
    http_progress_fn *progress;
    void *context;
    struct fscope_error *err;
    char host[256], port[16];
    const char *url, *path;
    int fd;

    char *bytes; // all that came
    size_t size, capacity;
    size_t head;    // bytes of the head, with its empty line
    int64_t length; // of the body; -1: until the end
    size_t chunk;   // where the next chunk's head begins, of the body
    bool chunked, ended;
    int status;
};

bool http_is_url(const char *text)
{
    return !strncasecmp(text, "http://", 7) || !strncasecmp(text, "https://", 8);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int fail(const struct get *g, int rc, const char *why)
{
    return error_set(g->err, rc, 0, "%.200s: %s", g->url, why);
}

// scheme://host[:port]/path; the host of an address of IPv6 stands in brackets.
static int split(struct get *g)
{
    const char *at = g->url + 7, *end = at + strcspn(at, "/?#"), *host = at, *host_end;
    if (!strncasecmp(g->url, "https://", 8))
        return fail(g, -EPROTONOSUPPORT, "https is not read here: fetch it with curl -o FILE");
    if (memchr(at, '@', (size_t)(end - at)))
        return fail(g, -EINVAL, "no user names in an address");
    if (*at == '[') {
        host = at + 1;
        host_end = host + strcspn(host, "]");
        at = host_end + (*host_end == ']');
    } else {
        host_end = at + strcspn(at, ":/?#");
        at = host_end;
    }
    size_t n = (size_t)(host_end - host), digits = *at == ':' ? (size_t)(end - at - 1) : 0;
    if (host_end > end || !n || n >= sizeof g->host || digits >= sizeof g->port ||
        (at != end && *at != ':'))
        return fail(g, -EINVAL, "not an address such as http://HOST:PORT/debug/pprof/heap");
    memcpy(g->host, host, n);
    memcpy(g->port, digits ? at + 1 : "80", digits ? digits : 2);
    g->path = end;
    for (const char *p = g->url; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 127)
            return fail(g, -EINVAL, "an address has no spaces");
    return 0;
}

// Until the descriptor is ready: 0; -ECANCELED, -ETIMEDOUT after so long.
static int wait_for(const struct get *g, short what, int limit_ms)
{
    struct pollfd p = {.fd = g->fd, .events = what};
    int64_t until = now_ms() + limit_ms;
    for (;;) {
        int n = poll(&p, 1, SLICE_MS);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return fail(g, -errno, strerror(errno));
        if (!g->progress(g->context, g->size - g->head, g->length > 0 ? (uint64_t)g->length : 0))
            return fail(g, -ECANCELED, "cancelled");
        if (now_ms() >= until)
            return fail(g, -ETIMEDOUT, "the server does not answer");
    }
}

static int connect_one(struct get *g, const struct addrinfo *a)
{
    g->fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    if (g->fd < 0)
        return fail(g, -errno, strerror(errno));
    int rc = 0, why = 0;
    socklen_t n = sizeof why;
    if (connect(g->fd, a->ai_addr, a->ai_addrlen) && errno != EINPROGRESS)
        rc = fail(g, -errno, strerror(errno));
    if (!rc)
        rc = wait_for(g, POLLOUT, g->limits->connect_ms);
    if (!rc && (getsockopt(g->fd, SOL_SOCKET, SO_ERROR, &why, &n) || why))
        rc = fail(g, why ? -why : -errno, strerror(why ? why : errno));
    if (rc) {
        close(g->fd);
        g->fd = -1;
    }
    return rc;
}

static int open_connection(struct get *g)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *all;
    int rc = getaddrinfo(g->host, g->port, &hints, &all);
    if (rc)
        return fail(g, -EHOSTUNREACH, gai_strerror(rc));
    rc = -EHOSTUNREACH;
    for (const struct addrinfo *a = all; a && rc && rc != -ECANCELED; a = a->ai_next)
        rc = connect_one(g, a);
    freeaddrinfo(all);
    return rc;
}

static int send_request(const struct get *g)
{
    char *text, v6 = strchr(g->host, ':') != NULL;
    int n = asprintf(&text,
                     "GET %s%.*s HTTP/1.1\r\nHost: %s%s%s:%s\r\nConnection: close\r\n"
                     "Accept-Encoding: identity\r\nUser-Agent: fiberscope-view\r\n\r\n",
                     *g->path == '/' ? "" : "/", (int)strcspn(g->path, "#"), g->path, v6 ? "[" : "",
                     g->host, v6 ? "]" : "", g->port);
    if (n < 0)
        return fail(g, -ENOMEM, "out of memory");
    int rc = 0;
    for (int done = 0; done < n && !rc;) {
        ssize_t k = send(g->fd, text + done, (size_t)(n - done), MSG_NOSIGNAL);
        if (k >= 0)
            done += (int)k;
        else if (errno == EAGAIN)
            rc = wait_for(g, POLLOUT, g->limits->silence_ms);
        else if (errno != EINTR)
            rc = fail(g, -errno, strerror(errno));
    }
    free(text);
    return rc;
}

// More of the response; at its end `ended`.
static int receive(struct get *g)
{
    if (g->size - g->head > g->limits->body_bytes_max)
        return fail(g, -EFBIG, "more than the viewer takes over HTTP");
    if (g->capacity - g->size < PIECE) {
        size_t more = g->capacity ? 2 * g->capacity : (size_t)2 * PIECE;
        char *bytes = realloc(g->bytes, more);
        if (!bytes)
            return fail(g, -ENOMEM, "out of memory");
        g->bytes = bytes;
        g->capacity = more;
    }
    int rc = wait_for(g, POLLIN, g->limits->silence_ms);
    if (rc)
        return rc;
    // One byte stays free, for a NUL.
    ssize_t n = recv(g->fd, g->bytes + g->size, g->capacity - g->size - 1, 0);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : fail(g, -errno, strerror(errno));
    g->size += (size_t)n;
    g->bytes[g->size] = 0;
    g->ended = n == 0;
    return 0;
}

// The value of a header field, up to its line's end; NULL.
static const char *field(const struct get *g, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = strstr(g->bytes, "\r\n"); p && p + 4 < g->bytes + g->head;
         p = strstr(p + 2, "\r\n"))
        if (!strncasecmp(p + 2, name, n) && p[2 + n] == ':')
            return p + 3 + n + strspn(p + 3 + n, " \t");
    return NULL;
}

static int read_head(struct get *g)
{
    const char *end = NULL;
    while (!end) {
        int rc = receive(g);
        if (rc)
            return rc;
        end = strstr(g->bytes, "\r\n\r\n");
        if (!end && (g->ended || g->size > HEAD_MAX || strlen(g->bytes) < g->size))
            return fail(g, -EPROTO, "no answer in HTTP");
    }
    g->head = (size_t)(end + 4 - g->bytes);
    int status;
    if (sscanf(g->bytes, "HTTP/1.%*1[01] %3d", &status) != 1)
        return fail(g, -EPROTO, "no answer in HTTP");
    g->status = status;
    const char *how = field(g, "Transfer-Encoding"), *length = field(g, "Content-Length");
    g->chunked = how && !strncasecmp(how, "chunked", 7);
    char *after;
    errno = 0;
    if (!g->chunked && length) {
        g->length = strtoll(length, &after, 10);
        if (after == length || *after != '\r' || errno || g->length < 0)
            return fail(g, -EPROTO, "a Content-Length that is no number");
    }
    return 0;
}

// Takes the chunks' heads out, once all has come.
static int join_chunks(struct get *g)
{
    char *from = g->bytes + g->head, *to = from, *end = g->bytes + g->size, *after;
    for (;;) {
        errno = 0;
        unsigned long long n = strtoull(from, &after, 16);
        char *line = after == from || errno ? NULL : strstr(after, "\r\n");
        if (!line || n > (size_t)(end - line - 2))
            return fail(g, -EPROTO, "the answer was cut off");
        if (!n)
            break;
        memmove(to, line + 2, n);
        to += n;
        from = line + 2 + n;
        if (end - from < 2 || from[0] != '\r' || from[1] != '\n')
            return fail(g, -EPROTO, "the answer was cut off");
        from += 2;
    }
    g->size = (size_t)(to - g->bytes);
    return 0;
}

// Whether the last chunk has come: a server may leave the connection open behind it.
static bool has_last_chunk(struct get *g)
{
    size_t size = g->size - g->head;
    while (g->chunk < size) {
        char *from = g->bytes + g->head + g->chunk, *line = strstr(from, "\r\n"), *after;
        if (!line)
            return false;
        errno = 0;
        unsigned long long n = strtoull(from, &after, 16);
        if (!n || after == from || errno) // what is no number is join_chunks' to say
            return true;
        size_t head = (size_t)(line - from) + 2;
        if (n > SIZE_MAX / 2 || size - g->chunk < head + n + 2)
            return false;
        g->chunk += head + (size_t)n + 2;
    }
    return false;
}

static bool is_complete(struct get *g)
{
    if (g->ended)
        return true;
    if (g->chunked)
        return has_last_chunk(g);
    return g->length >= 0 && g->size - g->head >= (uint64_t)g->length;
}

static int read_body(struct get *g)
{
    while (!is_complete(g)) {
        int rc = receive(g);
        if (rc)
            return rc;
        if (!g->progress(g->context, g->size - g->head, g->length > 0 ? (uint64_t)g->length : 0))
            return fail(g, -ECANCELED, "cancelled");
    }
    if (g->length >= 0 && g->size - g->head < (uint64_t)g->length)
        return fail(g, -EPROTO, "the answer was cut off");
    if (g->length >= 0)
        g->size = g->head + (size_t)g->length;
    return g->chunked ? join_chunks(g) : 0;
}

// A line as it may be printed: the server does not write to our terminal.
static void copy_line(char out[WORDS_MAX], const char *line, size_t n)
{
    size_t k = 0;
    while (k < n && k < WORDS_MAX - 1 && line[k] && line[k] != '\r' && line[k] != '\n')
        k++;
    memcpy(out, line, k);
    out[k] = 0;
    utf8_mask_controls(out, "");
}

// Any other status than 200, with the first line of what the server has to say about it.
static int refused(struct get *g)
{
    char status[WORDS_MAX], words[WORDS_MAX];
    static const struct http_limits brief = {.silence_ms = WORDS_MS, .body_bytes_max = PIECE};
    copy_line(status, g->bytes + 9, g->head - 9);
    g->limits = &brief;
    int rc = read_body(g);
    if (rc == -ECANCELED)
        return rc;
    const char *body = g->bytes + g->head;
    copy_line(words, rc ? "" : body, rc ? 0 : g->size - g->head);
    bool has_words = *words && *words != '<'; // a page is for browsers
    if (g->err)
        *g->err = (struct fscope_error){0};
    return error_set(g->err, -EIO, 0, "%.200s: the server says %s%s%s", g->url, status,
                     has_words ? ": " : "", has_words ? words : "");
}

int http_get(const char *url, const struct http_limits *limits, http_progress_fn *progress,
             void *context, char **body, size_t *size, struct fscope_error *err)
{
    struct get g = {.limits = limits,
                    .progress = progress,
                    .context = context,
                    .err = err,
                    .url = url,
                    .fd = -1,
                    .length = -1};
    *body = NULL;
    *size = 0;
    int rc = split(&g);
    if (!rc)
        rc = open_connection(&g);
    if (!rc)
        rc = send_request(&g);
    if (!rc)
        rc = read_head(&g);
    if (!rc)
        rc = g.status == 200 ? read_body(&g) : refused(&g);
    if (g.fd >= 0)
        close(g.fd);
    if (rc) {
        free(g.bytes);
        return rc;
    }
    *size = g.size - g.head;
    memmove(g.bytes, g.bytes + g.head, *size);
    *body = g.bytes;
    return 0;
}
