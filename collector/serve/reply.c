// SPDX-License-Identifier: MIT
//
// What is sent back. A reply has either a text or a file, and each function here begins by clearing it.

#include "collector/serve/internal.h"

#include <microhttpd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void reply_clear(struct reply *p)
{
    free(p->text);
    free(p->location);
    if (p->fd >= 0)
        close(p->fd);
    *p = (struct reply){.fd = -1};
}

// Without memory a reply is its status alone.
static void set_text(struct reply *p, const char *fmt, va_list args) FSCOPE_PRINTF(2, 0);

static void set_text(struct reply *p, const char *fmt, va_list args)
{
    char *line = NULL, *text = NULL;
    if (vasprintf(&line, fmt, args) < 0)
        return;
    int n = asprintf(&text, "%s\n", line);
    free(line);
    if (n < 0)
        return;
    p->text = text;
    p->text_size = (size_t)n;
}

void reply_error(struct request *r, int status, const char *fmt, ...)
{
    va_list args;
    reply_clear(&r->reply);
    r->reply.status = status;
    r->reply.type = TYPE_TEXT;
    r->reply.is_error = true;
    va_start(args, fmt);
    set_text(&r->reply, fmt, args);
    va_end(args);
}

void reply_http_error(struct request *r, int status, const char *text)
{
    reply_error(r, status, "%s", text);
    r->reply.is_error = false;
}

void reply_redirect(struct request *r, const char *path)
{
    char *location = NULL;
    bool has_body = strcmp(r->method, "GET") == 0;
    if (asprintf(&location, "%s%s%s", path, *r->query ? "?" : "", r->query) < 0)
        location = NULL;
    FILE *out = location ? reply_text_begin(r, NULL) : NULL;
    if (!out) {
        free(location);
        reply_http_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory");
        return;
    }
    if (has_body) {
        fputs("<a href=\"", out);
        put_html(out, location);
        fputs("\">Temporary Redirect</a>.\n\n", out);
    }
    reply_text_end(r, out);
    if (has_body || strcmp(r->method, "HEAD") == 0)
        r->reply.type = TYPE_HTML;
    r->reply.status = MHD_HTTP_TEMPORARY_REDIRECT;
    r->reply.location = location;
    r->reply.is_plain = true;
}

FILE *reply_text_begin(struct request *r, const char *type)
{
    reply_clear(&r->reply);
    r->reply.status = MHD_HTTP_OK;
    r->reply.type = type;
    FILE *out = open_memstream(&r->reply.text, &r->reply.text_size);
    if (!out)
        reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory");
    return out;
}

void reply_text_end(struct request *r, FILE *out)
{
    bool failed = ferror(out) != 0;
    if (fclose(out) || failed)
        reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory");
}

void reply_file(struct request *r, int fd, uint64_t bytes, const char *name)
{
    reply_clear(&r->reply);
    r->reply.status = MHD_HTTP_OK;
    r->reply.type = TYPE_BINARY;
    r->reply.fd = fd;
    r->reply.fd_bytes = bytes;
    snprintf(r->reply.disposition, sizeof r->reply.disposition, "%s", name);
    // Names of custom profiles are the target's: nothing in them may end the quotes or the line.
    for (char *c = r->reply.disposition; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ' || *c == 0x7f)
            *c = '_';
}
