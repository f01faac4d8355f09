// SPDX-License-Identifier: MIT
//
// Go programs have no .eh_frame, but their runtime's own table (.gopclntab) says how large each function's frame is at each
// pc. This writes the .eh_frame and .eh_frame_hdr that a C compiler would have written, so that whoever walks by those walks
// Go, too.
//
// What it says of the runtime's own ways
//   - A stack ends at functions that are the first of theirs (the flag TOPFRAME: goexit, mstart), and at those that leave a
//     goroutine's stack for the scheduler's without a way back that registers tell of (mcall, morestack, gogo).
//   - Functions that go over to the scheduler's stack and come back (the flag SPWRITE: systemstack, asmcgocall, time.now) are
//     left by rbp, which still is the goroutine's. Of those without a frame of their own that skips the direct caller.
//   - Behind sigreturn lies the context of a signal.
//
// Go 1.18 and newer. Source: runtime/symtab.go, runtime/runtime2.go (type _func), cmd/link/internal/ld/pcln.go of Go 1.26.
//
// Where the code begins is told by the file in some versions only. It is where runtime.goexit, whose bytes are known, then
// lies where the table has it; a file without it is not believed.
//
// The file belongs to the target: every offset is checked, and the work is bounded by the table's size.

#ifndef FIBERSCOPE_COLLECTOR_GO_FRAMES_H
#define FIBERSCOPE_COLLECTOR_GO_FRAMES_H

#include "unwind/unwind.h"

#include <stddef.h>
#include <stdint.h>

struct go_frames_source {
    const uint8_t *bytes; // .gopclntab
    size_t size;
    uint64_t text, text_size; // .text, whose part is the code that the table is about
    uint64_t
        address; // link-time address that the header will be said to have, unless `beside` has one
    uint64_t bytes_max; // of what is made
    struct unwind_tables
        beside; // of C code in the same file, which go first; sizes 0: there is none
    int (*read)(void *arg, uint64_t address, void *out,
                size_t n); // of the file, by link-time address; 0 or nonzero
    void *arg;
};

struct go_frames {
    uint8_t *header_bytes, *frame_bytes;
    struct unwind_tables tables; // which lie there
};

// 0; -ENOENT: it is no such table, or a damaged one; -ENOSPC; -ENOMEM. The caller owns *out: go_frames_finish.
int go_frames_make(struct go_frames *out, const struct go_frames_source *source);
void go_frames_finish(struct go_frames *f); // accepts a zeroed one

#endif
