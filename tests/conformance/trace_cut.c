// SPDX-License-Identifier: MIT
//
// Writes a part of a trace again. Usage:
//   trace_cut VERSION FROM TO MODULO BYTES IN OUT
// Events with FROM <= time_ns <= TO (0: no limit); goroutines whose id is 1 modulo MODULO (0: all); generations of
// BYTES.

#include "formats/trace/write.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool keeps(void *context, int64_t id)
{
    return id % *(const int64_t *)context == 1;
}

int main(int argc, char **argv)
{
    struct fscope_error err = {0};
    struct trace_reader *r;
    struct trace_writer *w;
    const struct trace_event *e;
    if (argc != 8)
        return 2;
    int64_t from = atoll(argv[2]), to = atoll(argv[3]), modulo = atoll(argv[4]);
    struct trace_writer_options o = {
        .size = sizeof o,
        .version = (uint32_t)atoi(argv[1]),
        .generation_bytes = (uint64_t)atoll(argv[5]),
        .keeps_goroutine = modulo ? keeps : NULL,
        .context = &modulo,
        .from_ns = from,
        .to_ns = to,
    };
    int in = open(argv[6], O_RDONLY), out = open(argv[7], O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (in < 0 || out < 0)
        return 2;
    if (trace_reader_open_fd(&r, in, NULL, &err) || trace_writer_open_fd(&w, out, &o)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    int rc = 0, n;
    while ((n = trace_reader_next(r, &e)) > 0 && rc == 0)
        rc = trace_writer_put(w, r, e);
    if (n < 0)
        fprintf(stderr, "%s\n", trace_reader_error(r)->text);
    int closed = trace_writer_close(w);
    if (rc || closed)
        fprintf(stderr, "writing: %s\n", strerror(rc ? -rc : -closed));
    trace_reader_close(r);
    close(in);
    close(out);
    return n < 0 || rc || closed;
}
