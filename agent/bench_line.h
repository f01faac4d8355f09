// SPDX-License-Identifier: MIT
//
// One line of a benchmark, byte for byte as Go's testing package prints it. Pure.

#ifndef FIBERSCOPE_AGENT_BENCH_LINE_H
#define FIBERSCOPE_AGENT_BENCH_LINE_H

#include <stdbool.h>
#include <stdint.h>

enum { BENCH_LINE_BYTES = 512, BENCH_NAME_BYTES = 255 };

struct bench_line {
    const char *name;    // printed after "Benchmark"; blanks become _, the first letter a capital
    uint32_t processors; // "-N" behind the name where it is not 1
    uint64_t n, ns;
    uint64_t set_bytes; // per operation; 0: no MB/s
    bool has_allocs;
    uint64_t alloc_objects, alloc_bytes;
};

// The line with its newline, not NUL-terminated; its length. Names longer than BENCH_NAME_BYTES are cut.
uint32_t bench_line_print(const struct bench_line *l, char text[BENCH_LINE_BYTES]);

#endif
