// SPDX-License-Identifier: MIT
//
// The functions behind the hooks of the malloc family, and how these hooks are declared.

#ifndef FIBERSCOPE_AGENT_HEAP_TABLE_H
#define FIBERSCOPE_AGENT_HEAP_TABLE_H

#include "agent/hooks.h"

#include <stddef.h>

#define HEAP_EXPORT __attribute__((visibility("default")))

// heap_ours_NAME: our function of that name, whoever else has one.
#define HEAP_OURS(name)                                                                            \
    extern __attribute__((visibility("hidden"))) hook_fn heap_ours_##name;                         \
    __asm__(".globl heap_ours_" #name "\n\t.hidden heap_ours_" #name "\n\t.set heap_ours_" #name   \
            ", " #name)

#define HEAP_HOOK(name, slot)                                                                      \
    {                                                                                              \
#name, heap_ours_##name, (hook_fn **)(void *)&(slot)                                       \
    }

struct heap_real { // NULL: nobody has it
    void *(*malloc)(size_t);
    void (*free)(void *);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*memalign)(size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*valloc)(size_t);
    void *(*pvalloc)(size_t);
    void *(*reallocarray)(void *, size_t, size_t);
    void (*free_sized)(void *, size_t);
    void (*free_aligned_sized)(void *, size_t, size_t);
    struct {
        bool reallocarray; // the allocator's own, which does not come by realloc
    } own;
};

extern struct heap_real heap_real;
extern const struct hook_table heap_new_hooks;  // heap_new.c
extern const struct hook_table heap_mmap_hooks; // heap_mmap.c
extern const struct hook_table heap_own_hooks;  // heap_own.c; by the GOT back end alone

void heap_resolved(void);      // after hooks_resolve: which functions are the allocator's own
void heap_new_resolved(void);  // the same for operator new and delete
void heap_mmap_resolved(void); // and which libraries' mappings are not the program's

#endif
