// SPDX-License-Identifier: MIT
//
// For bench_lines.py: reads lines "line NAME PROCESSORS N NS SET_BYTES HAS_ALLOCS OBJECTS BYTES" and "predict
// GOAL LAST LAST_NS", and answers each.

#include "agent/bench_line.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    char verb[16];
    while (scanf("%15s", verb) == 1) {
        char name[300], text[BENCH_LINE_BYTES];
        struct bench_line l = {.name = name};
        uint64_t goal, last, ns;
        uint32_t has;
        if (!strcmp(verb, "predict") &&
            scanf("%" SCNu64 " %" SCNu64 " %" SCNu64, &goal, &last, &ns) == 3) {
            printf("%" PRIu64 "\n", bench_predict(goal, last, ns));
        } else if (scanf("%299s %" SCNu32 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu32
                         " %" SCNu64 " %" SCNu64,
                         name, &l.processors, &l.n, &l.ns, &l.set_bytes, &has, &l.alloc_objects,
                         &l.alloc_bytes) == 8) {
            l.has_allocs = has != 0;
            fwrite(text, 1, bench_line_print(&l, text), stdout);
        } else {
            return 2;
        }
    }
    return 0;
}
