// SPDX-License-Identifier: MIT
//
// The kernel trace beside a trace that has been read: its file, and those that follow it after a loss (".2" and so on). What is
// wrong with it is said in `missing`, and the trace is shown without it.

#ifndef FIBERSCOPE_VIEWER_LOAD_KERNEL_H
#define FIBERSCOPE_VIEWER_LOAD_KERNEL_H

#include "viewer/load.h"

struct load_kernel_reader {
    // One file, its damage said in part->missing. 0 or -errno with err; -ECANCELED: nobody wants it any more.
    int (*read)(void *context, const char *path, struct loaded *part, struct fscope_error *err);
    bool (*builds)(void *context); // all are read; asked now and then; false: nobody wants it
    void *context;
};

// out: with the trace.
void load_kernel(const struct load_kernel_reader *r, const char *path, struct loaded *out);

#endif
