// SPDX-License-Identifier: MIT
//
// What about a machine makes timings comparable or not, kept as comments in a baseline's profiles:
// "fiberscope.KEY: VALUE", one line each.
//
// Invariant: nothing on the machine is changed; a fact that cannot be read is "" or -1 and nothing
// is concluded from it.

#ifndef FIBERSCOPE_ANALYSIS_GATE_FACTS_H
#define FIBERSCOPE_ANALYSIS_GATE_FACTS_H

#include "formats/pprof.h"

#include <stdbool.h>

struct gate_facts {
    char cpu[96];      // model name
    char kernel[80];   // release
    char libc[32];     // "glibc 2.36"
    char governor[32]; // of CPU 0: "powersave"
    long cpus;         // online
    int turbo;         // 1 on, 0 off, -1 unknown
    int vm;            // 1 under a hypervisor, 0 not, -1 unknown
    double load;       // runnable tasks, mean of the last minute; -1 unknown
};

// Reads /proc and /sys below root ("" for this machine). [any thread]
void gate_facts_read(struct gate_facts *f, const char *root);

// To and from a profile's comments. from returns whether the profile has any. 0 or -ENOMEM.
int gate_facts_to_profile(const struct gate_facts *f, struct pprof_profile *p);
bool gate_facts_from_profile(struct gate_facts *f, const struct pprof_profile *p);

// Says what makes the comparison of base (NULL: unknown) with now doubtful, a sentence per call.
// timing: whether anything that is compared depends on time; counts alone do not care for
// governors.
void gate_facts_doubts(const struct gate_facts *base, const struct gate_facts *now, bool timing,
                       void (*say)(void *arg, const char *text), void *arg);

#endif
