// SPDX-License-Identifier: MIT
//
// Jumps. A signal handler may leave the call that it interrupted for good by one, which the trace is told before (emit.h).
//
// <setjmp.h> is not included: fortified, it gives one of these another's name.

#include "agent/arch/x86_64.h"
#include "agent/hooks.h"
#include "emit/emit.h"

#include <stddef.h>

#define INTERPOSED __attribute__((visibility("default")))

INTERPOSED _Noreturn void longjmp(const uint64_t *where, int value);
INTERPOSED _Noreturn void _longjmp(const uint64_t *where, int value);
INTERPOSED _Noreturn void siglongjmp(const uint64_t *where, int value);
INTERPOSED _Noreturn void __longjmp_chk(const uint64_t *where, int value);

static struct {
    void (*longjmp)(const uint64_t *where, int value);
    void (*plain_longjmp)(const uint64_t *where, int value);
    void (*siglongjmp)(const uint64_t *where, int value);
    void (*checked)(const uint64_t *where, int value);
} real;

static void tell(const uint64_t *where)
{
    if (!hooks_ready())
        hooks_resolve_locks();
    emit_self_jump(arch_jump_stack(where));
}

void longjmp(const uint64_t *where, int value)
{
    tell(where);
    real.longjmp(where, value);
    __builtin_unreachable();
}

void _longjmp(const uint64_t *where, int value)
{
    tell(where);
    real.plain_longjmp(where, value);
    __builtin_unreachable();
}

void siglongjmp(const uint64_t *where, int value)
{
    tell(where);
    real.siglongjmp(where, value);
    __builtin_unreachable();
}

void __longjmp_chk(const uint64_t *where, int value)
{
    tell(where);
    real.checked(where, value);
    __builtin_unreachable();
}

static const struct hook hooks[] = {
    HOOK(longjmp, real.longjmp),
    HOOK(_longjmp, real.plain_longjmp),
    HOOK(siglongjmp, real.siglongjmp),
    HOOK(__longjmp_chk, real.checked),
};

const struct hook_table jump_hooks = {hooks, sizeof hooks / sizeof *hooks};
