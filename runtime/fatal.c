// SPDX-License-Identifier: MIT
//
// Bad use ends here: who, what and which rule, then the stack, then abort.

#include "runtime/core.h"
#include "runtime/os/os.h"
#include "runtime/print.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void rt_fatal(const char *call, const char *rule, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, rule);
    vsnprintf(text, sizeof text, rule, ap); // numbers and strings: takes no lock
    va_end(ap);
    struct print p = {.fd = 2};
    struct m *m = this_m();
    print_text(&p, "fiberscope-rt: ");
    print_text(&p, call);
    print_text(&p, ": ");
    print_text(&p, text);
    print_text(&p, "\n");
    if (m && m->cur != &m->g0) {
        print_g(&p, m->cur);
    } else {
        print_text(&p, m ? "in the scheduler:\n" : "in a plain thread:\n");
        print_own_stack(&p);
    }
    print_flush(&p);
    abort();
}
