// SPDX-License-Identifier: MIT
//
// Where the bytes of a trace come from: memory, a file that can be read at random, or a stream.
//
// Invariant: offset is the place in the trace of the next byte that peek shows. Errors of the
// system are -errno; the end of the input is no error.

#ifndef FIBERSCOPE_FORMATS_TRACE_INPUT_H
#define FIBERSCOPE_FORMATS_TRACE_INPUT_H

#include "formats/trace/trace.h"

enum input_kind { INPUT_MEMORY, INPUT_FILE, INPUT_STREAM };

enum { INPUT_WINDOW_BYTES = 16 << 10, INPUT_PEEK_MAX = 128 };

struct trace_input {
    enum input_kind kind;
    uint64_t offset;

    const unsigned char *data; // memory
    size_t size_bytes;

    int fd; // file, and stream of an fd
    bool owns_fd;
    uint64_t base; // where in the file the trace begins

    trace_read_fn *read; // stream of a callback
    void *context;

    unsigned char *window; // file, stream: [window_size] bytes at window_offset
    uint64_t window_offset;
    size_t window_size;
    bool at_end; // of a stream
};

// A stream that is to be read twice: all of it in an unlinked file instead. 0 or -errno.
int input_spool(struct trace_input *in);

void input_finish(struct trace_input *in); // accepts a zeroed one

// Shows the next n <= INPUT_WINDOW_BYTES bytes, fewer at the end: their number, or -errno. Valid until
// the next call.
int input_peek(struct trace_input *in, size_t n, const unsigned char **bytes);

// Moves on over n bytes that peek has shown.
static inline void input_skip(struct trace_input *in, size_t n)
{
    in->offset += n;
}

// Whether n bytes are left: 1, 0, or -errno. A stream cannot know and says 1.
int input_has(struct trace_input *in, uint64_t n);

// Where the input ends; of a stream only once that was seen, else what has been read of it.
uint64_t input_end(const struct trace_input *in);

// Copies the next n bytes and moves on: how many there were, or -errno.
int64_t input_read(struct trace_input *in, void *to, size_t n);

// File: reads n bytes at an offset of the trace. How many there were, or -errno.
int64_t input_read_at(const struct trace_input *in, uint64_t offset, void *to, size_t n);

#endif
