// SPDX-License-Identifier: MIT
//
// What borrowing a thread asks of x86-64: a signal frame that leads back to its state, calls into libc that end in it, and
// the code that runs in the target. Source: the kernel's arch/x86/kernel/signal_64.c and fpu/signal.c (what
// rt_sigreturn reads), the psABI.
//
//   slot  -> address of rt_sigreturn's stub   a function "called" with rsp here returns into it,
//            ucontext                         which then finds this at rsp
//            xstate, 64-byte aligned
//   top   =  rsp of the thread - 128          its red zone

#ifndef FIBERSCOPE_COLLECTOR_ARCH_INJECT_X86_64_H
#define FIBERSCOPE_COLLECTOR_ARCH_INJECT_X86_64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/user.h>

enum {
    INJECT_XSTATE_MAX = 16384,
    INJECT_SPARE_BYTES = 1024, // below the slot, for what libc's mmap pushes
    INJECT_FRAME_MAX = INJECT_XSTATE_MAX + INJECT_SPARE_BYTES + 1024,
    INJECT_STUB_MAX = 512,
    INJECT_TEXT_BYTES = 320,
    INJECT_PATH_BYTES = 4096,
    INJECT_NAME_BYTES = 64,
};

// A thread's state, as ptrace tells it.
struct inject_state {
    struct user_regs_struct regs;
    uint64_t mask; // of its signals
    size_t xstate_size;
    _Alignas(64) uint8_t xstate[INJECT_XSTATE_MAX];
};

struct inject_frame { // bytes to be written at `start`
    uint64_t start, slot;
    size_t size;
    uint8_t bytes[INJECT_FRAME_MAX];
};

// If it is in a call that was cut by the stop: its registers are set so that it begins the call anew.
void inject_mend(struct user_regs_struct *u);

// 0; -E2BIG: more state than there is room for.
int inject_make_frame(struct inject_frame *f, const struct inject_state *s, uint64_t restore);

// Registers for a call of function(a, b, ...), which returns into rt_sigreturn's stub.
void inject_set_call(struct user_regs_struct *u, uint64_t function, uint64_t slot,
                     const uint64_t args[6]);

// What the code in the target works with; at INJECT_BLOCK_AT of the area.
struct inject_block {
    uint64_t dlopen, dlerror, errno_location, munmap, close;
    uint64_t first_path; // loaded before; 0: nothing
    uint64_t path;       // 0: it is loaded, entry is an address
    uint64_t entry;      // else: from where the library is loaded
    uint64_t slot, area, area_bytes;
    uint64_t what;                // enum inject_what
    uint64_t state;               // enum inject_stub_state
    int64_t result;               // of the entry
    uint64_t handle;              // of dlopen
    int64_t fds[2];               // closed at the end; negative: none
    char text[INJECT_TEXT_BYTES]; // of dlerror
    char first_bytes[INJECT_NAME_BYTES];
    char path_bytes[INJECT_PATH_BYTES];
};

enum inject_stub_state {
    INJECT_STUB_BEGUN = 1,
    INJECT_STUB_LOADED,
    INJECT_STUB_REFUSED,
    INJECT_STUB_DONE
};

// The code, position-independent. It begins with rbx = the block and rsp = the end of its stack.
const void *inject_stub(size_t *size);
void inject_set_stub(struct user_regs_struct *u, uint64_t code, uint64_t block, uint64_t stack);

// libc's code that calls rt_sigreturn: what its handlers return into.
const void *inject_restore_code(size_t *size);

#endif
