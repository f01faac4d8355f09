// SPDX-License-Identifier: MIT

#include "http.h"

#include <fiberscope/io.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
    int status;
    const char *reason;
} reasons[] = {
    {200, "OK"},
    {201, "Created"},
    {302, "Found"},
    {400, "Bad Request"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {411, "Length Required"},
    {413, "Content Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {505, "HTTP Version Not Supported"},
};

static const char *reason_of(int status)
{
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Unknown";
}

// Reads more into the buffer: bytes, 0 at the end, -errno.
static ssize_t fill(struct http_connection *c)
{
    size_t room = sizeof c->buffer - 1 - c->used;
    if (!room)
        return -413;
    ssize_t n = fib_read(c->fd, c->buffer + c->used, room);
    if (n > 0)
        c->used += (size_t)n;
    return n;
}

// The request line: "METHOD TARGET HTTP/1.1"; cut into strings where they stand.
static int parse_line(char *line, struct http_request *out, bool *is_old)
{
    char *target = strchr(line, ' ');
    char *version = target ? strchr(target + 1, ' ') : NULL;
    if (!version || target == line || version == target + 1)
        return -400;
    *target++ = '\0';
    *version++ = '\0';
    if (strncmp(version, "HTTP/1.", 7) != 0 || strlen(version) != 8)
        return -505;
    *is_old = version[7] == '0';
    out->method = line;
    out->target = target;
    return 0;
}

static int parse_length(const char *text, size_t *out)
{
    char *end;
    if (*text < '0' || *text > '9')
        return -400;
    unsigned long long n = strtoull(text, &end, 10);
    if (*end)
        return -400;
    if (n > HTTP_BODY_MAX)
        return -413;
    *out = (size_t)n;
    return 0;
}

// One header line. Only what changes how the request is read matters.
static int parse_header(char *line, struct http_request *out, bool *has_length)
{
    char *colon = strchr(line, ':');
    if (!colon || colon == line || strcspn(line, " \t") < (size_t)(colon - line))
        return -400;
    *colon = '\0';
    char *value = colon + 1 + strspn(colon + 1, " \t");
    for (size_t n = strlen(value); n && strchr(" \t", value[n - 1]); n--)
        value[n - 1] = '\0';
    if (!strcasecmp(line, "Transfer-Encoding"))
        return -411;
    if (!strcasecmp(line, "Content-Length")) {
        if (*has_length)
            return -400; // two lengths are an attack
        *has_length = true;
        return parse_length(value, &out->body_bytes);
    }
    if (!strcasecmp(line, "Connection"))
        out->is_last =
            !strcasecmp(value, "close") || (out->is_last && strcasecmp(value, "keep-alive") != 0);
    return 0;
}

static int parse_head(char *head, struct http_request *out)
{
    char *save = NULL, *line = strtok_r(head, "\r\n", &save);
    bool has_length = false;
    if (!line)
        return -400;
    int rc = parse_line(line, out, &out->is_last);
    while (!rc && (line = strtok_r(NULL, "\r\n", &save)))
        rc = parse_header(line, out, &has_length);
    if (!rc && !strcmp(out->method, "POST") && !has_length)
        rc = -411;
    return rc;
}

int http_read(struct http_connection *c, struct http_request *out)
{
    // What came behind the last request is the beginning of this one.
    memmove(c->buffer, c->buffer + c->consumed, c->used - c->consumed);
    c->used -= c->consumed;
    c->consumed = 0;
    *out = (struct http_request){0};

    char *end;
    for (;;) {
        c->buffer[c->used] = '\0';
        if (strlen(c->buffer) != c->used)
            return -400; // a NUL
        end = strstr(c->buffer, "\r\n\r\n");
        if (end)
            break;
        if (c->used > HTTP_HEAD_MAX)
            return -413;
        ssize_t n = fill(c);
        if (n <= 0)
            return n || !c->used ? (int)n : -EPIPE;
    }
    size_t head_bytes = (size_t)(end - c->buffer) + 4;
    *end = '\0';
    int rc = parse_head(c->buffer, out);
    if (rc)
        return rc;
    while (c->used < head_bytes + out->body_bytes) {
        ssize_t n = fill(c);
        if (n <= 0)
            return n ? (int)n : -EPIPE;
    }
    out->body = c->buffer + head_bytes;
    c->consumed = head_bytes + out->body_bytes;
    return 1;
}

int http_answer(struct http_connection *c, int status, const char *location, const char *body,
                bool is_last)
{
    char text[HTTP_BODY_MAX + 1024];
    int n = snprintf(text, sizeof text, "HTTP/1.1 %d %s\r\nContent-Length: %zu\r\n%s%s%s%s\r\n%s",
                     status, reason_of(status), body ? strlen(body) : 0,
                     location ? "Location: " : "", location ? location : "", location ? "\r\n" : "",
                     is_last ? "Connection: close\r\n" : "", body ? body : "");
    if (n < 0 || (size_t)n >= sizeof text)
        return -EMSGSIZE;
    ssize_t sent = fib_write_full(c->fd, text, (size_t)n);
    return sent < 0 ? (int)sent : 0;
}
