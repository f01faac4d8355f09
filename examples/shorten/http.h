// SPDX-License-Identifier: MIT
//
// As much of HTTP/1.1 as a small service needs: requests with a body of known length, one after the other on a
// connection; answers with a body of known length.
//
// What always holds: a request that is not understood gets one answer that says why, and the connection is
// closed; nothing is read beyond the limits.

#ifndef SHORTEN_HTTP_H
#define SHORTEN_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_HEAD_MAX = 8192, HTTP_BODY_MAX = 4096 };

struct http_request {
    const char *method, *target; // in the connection's buffer, until the next request
    const char *body;            // NUL-terminated
    size_t body_bytes;
    bool is_last; // the client closes after it
};

struct http_connection {
    int fd;
    size_t used, consumed; // bytes in the buffer; of them, of the request at hand
    char buffer[HTTP_HEAD_MAX + HTTP_BODY_MAX + 1];
};

// Reads the next request: 1; 0: the client closed between two requests; negative: -errno, or minus the
// status of the answer that tells it (-400, -411, -413, -501, -505).
int http_read(struct http_connection *c, struct http_request *out);

// Writes an answer. location and body may be NULL. 0 or -errno.
int http_answer(struct http_connection *c, int status, const char *location, const char *body,
                bool is_last);

#endif
