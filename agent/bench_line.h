// SPDX-License-Identifier: MIT
//
// What a benchmark takes from Go's testing package: how often a function runs, and, byte for byte, the line
// that is printed. Pure.

#ifndef FIBERSCOPE_AGENT_BENCH_LINE_H
#define FIBERSCOPE_AGENT_BENCH_LINE_H

#include <stdbool.h>
#include <stdint.h>

enum { BENCH_LINE_BYTES = 512, BENCH_NAME_BYTES = 255, BENCH_N_MAX = 1000000000 };

// The n whose run takes a fifth longer than goal_ns, if the last one (of n = last, in last_ns) tells; more
// than last, at most a hundred times that, and at most BENCH_N_MAX.
uint64_t bench_predict(uint64_t goal_ns, uint64_t last, uint64_t last_ns);

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
