// SPDX-License-Identifier: MIT
//
// GET of http://, for files that a server has: /debug/pprof/... of `fiberscope serve` or of a Go
// program. HTTP/1.1, one request a connection; no redirections, no TLS.

#ifndef FIBERSCOPE_VIEWER_HTTP_H
#define FIBERSCOPE_VIEWER_HTTP_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_limits {
    int connect_ms, silence_ms; // silence: nothing comes, neither head nor body
    size_t body_bytes_max;
};

// Told what has come, of how much (0: unknown), several times a second; false ends it.
typedef bool http_progress_fn(void *context, uint64_t done_bytes, uint64_t total_bytes);

bool http_is_url(const char *text); // begins as one, https too

// The body of a response 200, which the caller frees. 0 or -errno with err: -ECANCELED by progress,
// -ETIMEDOUT, -EFBIG, -EPROTO (no HTTP, or cut off), -EIO (another status).
int http_get(const char *url, const struct http_limits *limits, http_progress_fn *progress,
             void *context, char **body, size_t *size, struct fscope_error *err);

#endif
