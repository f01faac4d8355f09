// SPDX-License-Identifier: MIT
//
// The stored baseline: a folder of small profiles, KIND.RUN.pb.gz, with facts as comments.
//
// Invariant: the folder is replaced whole: a reader sees the old baseline or the new one, and a
// folder that holds anything but a baseline is never replaced.

#ifndef FIBERSCOPE_CLI_GATE_STORE_H
#define FIBERSCOPE_CLI_GATE_STORE_H

#include "cli/gate_inputs.h"

// A copy without what comparing does not need: addresses, mappings of named code, thread and
// process labels. Comments stay, facts are added. The caller owns *out. 0 or -ENOMEM.
int gate_store_compact(struct pprof_profile **out, const struct pprof_profile *p,
                       const struct gate_facts *facts, struct fscope_error *err);

// Writes the new side of in as the baseline folder. 0 or -errno; -ENOTEMPTY for a folder of
// something else. Then what was there before is still there.
int gate_store_write(const char *folder, const struct gate_inputs *in,
                     const struct gate_facts *facts, struct fscope_error *err);

#endif
