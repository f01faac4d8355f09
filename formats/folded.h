// SPDX-License-Identifier: MIT
//
// Folded stacks, one line per stack: "main;work;spin 1234", root first. The input of flamegraph.pl,
// speedscope, inferno and many others.
//
// Invariant: the values of the lines add up to the values of the samples; lines are unique and
// sorted, so two outputs can be compared with diff.

#ifndef FIBERSCOPE_FORMATS_FOLDED_H
#define FIBERSCOPE_FORMATS_FOLDED_H

#include "formats/pprof.h"

// Writes the values of sample type value_index to fd. Inlined functions are frames like others;
// code without symbols reads "FILE+0xOFFSET" or "0xADDRESS"; ';' inside a name becomes ':', control
// characters a space; a sample without a stack is "[no stack]". Stacks of value 0 are left out. 0,
// -EINVAL for a value_index that the profile does not have, -ENOMEM, or what write(2) said.
int folded_write_fd(const struct pprof_profile *p, size_t value_index, int fd,
                    struct fscope_error *err);

#endif
