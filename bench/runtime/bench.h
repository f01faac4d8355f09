// SPDX-License-Identifier: MIT
//
// What the programs of `./dev bench runtime` share: a table of cases, and measuring one of them.
//
// The program prints one line of JSON: what was counted between measure_begin and measure_end, and what
// the case added. Starting the process and the runtime is outside of it. The Go program in go/ has the
// same cases by the same names and prints the same; threads.c is the peer on plain threads.

#ifndef BENCH_RUNTIME_BENCH_H
#define BENCH_RUNTIME_BENCH_H

#include <stdint.h>

struct bench_case {
    const char *name;
    void (*run)(long ops);
};

// The cases of each file; the last has no name.
extern const struct bench_case switch_cases[], chan_cases[], sync_cases[], timer_cases[];
extern const struct bench_case memory_cases[], skynet_cases[], preempt_cases[];

// Begins and ends what is measured; once per process. ops is what the result is divided by.
void measure_begin(void);
void measure_end(long ops);
// Adds a key to the line. At most 16; key is kept.
void measure_add(const char *key, double value);
void measure_print(void);

// Reads the runtime's count of threads woken (fib.c), or returns -1 (threads.c).
int64_t measure_wakes(void);

int64_t clock_ns(void);
// Resident bytes of the process with its page tables: VmRSS + VmPTE.
int64_t memory_bytes(void);

// Aborts with a message: a benchmark that did something else than it should gives no figure.
#define MUST(what)                                                                                 \
    do {                                                                                           \
        if (!(what))                                                                               \
            must_fail(#what, __FILE__, __LINE__);                                                  \
    } while (0)
__attribute__((noreturn)) void must_fail(const char *what, const char *file, int line);

#endif
