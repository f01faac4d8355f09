// SPDX-License-Identifier: MIT
//
// What tests of input and output use: pairs of connected descriptors by kind, and calls in fibers.

#ifndef FIBERSCOPE_TESTS_RUNTIME_IO_ENDS_H
#define FIBERSCOPE_TESTS_RUNTIME_IO_ENDS_H

#include "fiberscope/io.h"
#include "tests/runtime/rows.h"

#include <errno.h>
#include <string.h>

enum kind { PIPE, UNIX, TCP };
extern const int all_kinds[], socket_kinds[]; // for rows

struct ends {
    int r, w; // sockets: both ways
};
struct ends ends_of(int kind);
void ends_close(struct ends *e); // by fib_close; what is -1 is left out

int tcp_listener(uint16_t *port); // on 127.0.0.1

// One call in a fiber of its own.
struct io_op {
    int fd;
    size_t size;
    ssize_t result;
    int64_t took_ns;
    _Atomic bool is_done;
    char bytes[64];
    struct fib f;
};
void op_read(struct io_op *op, int fd, size_t size);
void op_fill(struct io_op *op, int fd); // writes until an error, which is its result
void op_accept(struct io_op *op, int fd);
void op_poll(struct io_op *op, int fd, int what); // without limit
ssize_t op_result(struct io_op *op);              // waits for its end

size_t fill(int fd);                                    // writes until it would wait; how much
void put(int fd, const char *text);                     // writes it
void expect(int fd, const char *text);                  // one read gives it
void pattern_write(int fd, size_t size, unsigned seed); // in pieces of all sizes
void pattern_read(int fd, size_t size, unsigned seed);  // and checks it

#endif
