// SPDX-License-Identifier: MIT
//
// A program to be looked at: a running process, whose memory is read without stopping or touching it, or a
// core file.
//
// What always holds
//   - What is read of a process is of about now, and may be gone the next moment: nothing in it is believed.
//   - Maps are as of target_open, sorted by address.
//   - A file is used only if it is the one that was mapped (mapped_file.h; of a core file, by build id where
//     the core has it).
//
// One thread at a time. Nothing here prints.

#ifndef FIBERSCOPE_COLLECTOR_TARGET_H
#define FIBERSCOPE_COLLECTOR_TARGET_H

#include "base/error.h"
#include "collector/builder.h"
#include "unwind/unwind.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct target;

struct target_call { // a system call that a thread is blocked in
    bool is_in;      // else the rest is 0
    int64_t number;
    uint64_t args[6];
};

struct target_thread { // of a core file
    uint32_t tid;
    struct unwind_registers registers;
    struct target_call call;
};

// -ESRCH, -EPERM (no right to trace it), -ENOENT, -ENOEXEC (no core file of a 64-bit x86-64 program), -ENOMEM.
// The caller owns *out: target_close.
int target_open_pid(struct target **out, uint32_t pid, struct fscope_error *err);
int target_open_core(struct target **out, const char *path, struct fscope_error *err);
void target_close(struct target *t); // accepts NULL

uint32_t target_pid(const struct target *t);
const char *target_name(const struct target *t); // of the program
bool target_is_core(const struct target *t);
bool target_is_cut(const struct target *t); // a core file that is shorter than its headers say
// Something that must be in a core file was found not to be: gdb's gcore gives a mapping up at the first page that it cannot
// read, such as a stack's guard (MADV_GUARD_INSTALL, Linux 6.13).
void target_note_gap(struct target *t);
bool target_has_gaps(const struct target *t);

// The whole range, or an error: 0 or -errno.
int target_read(const struct target *t, uint64_t address, void *out, size_t size);
// As much of it as there is, from its start on: bytes.
size_t target_read_some(const struct target *t, uint64_t address, void *out, size_t size);

// The variable with this linkage name, in a library whose file name contains `library` or else in any file.
// 0 or -ENOENT.
int target_find_variable(struct target *t, const char *library, const char *name,
                         uint64_t *address);

// The range of the file that is mapped at this address, if its name contains `part`. False: it does not.
bool target_file_range(const struct target *t, uint64_t address, const char *part, uint64_t *start,
                       uint64_t *end);

// Walks from these registers. is_exact: rip is where execution stands, not a return address. The stack is read
// at once from rsp to `high` (0: as much as there is in its map, up to a MiB). The pcs are as a builder wants
// them: the first exact, others return addresses.
uint32_t target_walk(struct target *t, const struct unwind_registers *r, bool is_exact,
                     uint64_t high, uint64_t *pcs, uint32_t max, enum unwind_end *end);

// The same with a copy of the stack that was made before: `size` bytes from rsp on. What lies beyond it is read
// now.
uint32_t target_walk_copy(struct target *t, const struct unwind_registers *r, bool is_exact,
                          const void *stack, size_t size, uint64_t *pcs, uint32_t max,
                          enum unwind_end *end);

// The end of the map that holds this address; 0: there is none.
uint64_t target_map_end(const struct target *t, uint64_t address);

// The variable at this address: "g_lock", "table+0x40 (libx.so)", or a file's data that no symbol covers:
// "libx.so+0x4040"; the file is left out where it is the program itself. Cut at size. False: it lies in no file's
// data, and out is "".
bool target_variable_at(struct target *t, uint64_t address, char *out, size_t size);

// Opens the segment of the agent in it, of which state alone may be read: of a process through its memory, without
// sending it anything; t stays until seg_reader_close. path: of the core file. -ENODATA: it has none.
struct seg_reader;
int target_open_segment(struct target *t, const char *path, struct seg_reader **out,
                        struct fscope_error *err);

// Puts the code's maps into a builder's process, which takes the files' descriptors. 0 or -ENOMEM.
int target_tell_builder(const struct target *t, struct builder_process *p);

// Of a core file; of a process there are none.
size_t target_threads(const struct target *t, const struct target_thread **out);

// The signal that ended the program of a core file, in which thread, and for a fault at which address. False: none did
// (gdb's gcore), or it is a process.
struct target_end {
    uint32_t tid;
    int signal;
    bool has_address;
    uint64_t address;
};
bool target_end(const struct target *t, struct target_end *out);

#endif
