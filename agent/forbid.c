// SPDX-License-Identifier: MIT
//
// fscope_forbid and what follows from it; fscope_thread_allocs. See forbid.h.

#include "agent/forbid.h"

#include "agent/api.h"

#include "fiberscope/profile.h"

#include "agent/arch/x86_64.h"
#include "agent/hooks.h"
#include "agent/say.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

_Static_assert((int)FORBID_ALLOC == (int)FSCOPE_ALLOC && (int)FORBID_BLOCK == (int)FSCOPE_BLOCK,
               "one set of bits");

static struct {
    fscope_forbidden_fn *fn;
    void *arg;
} told;

// A walk without a recording: the walker is made for it. The stack is copied to pcs.
static uint32_t walk(const struct unwind_registers *regs, uint64_t pcs[UNWIND_DEPTH_MAX])
{
    enum unwind_end end;
    const uint64_t *found;
    uint32_t depth = 0;
    size_t size = (unwind_thread_size() + 4095) & ~(size_t)4095;
    long at = unwind_init() ? -ENOMEM
                            : sys6(SYS_mmap, 0, size, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0);
    if (at > 0 || at < -4096) {
        struct unwind_thread *t = (struct unwind_thread *)at;
        unwind_thread_init(t, 0, 0);
        depth = unwind_walk(t, regs, &found, UNWIND_DEPTH_MAX, &end);
        for (uint32_t i = 0; i < depth; i++)
            pcs[i] = found[i];
        sys2(SYS_munmap, at, size);
    }
    if (!depth)
        pcs[depth++] = regs->rip;
    return depth;
}

static struct say *thread_name(struct say *line)
{
    char name[16] = "";
    sys2(SYS_prctl, 16 /* PR_GET_NAME */, name);
    say_number(say_text(line, ", in thread "), (uint64_t)sys0(SYS_gettid));
    return say_text(say_text(say_text(line, " ("), name), ")");
}

static _Noreturn void print_and_abort(struct say *line, const char *scope, const uint64_t *pcs,
                                      uint32_t depth)
{
    say_end(thread_name(line));
    names_print(STDERR_FILENO, pcs, depth);
    say_text(say_begin(line), "this was under fscope_forbid(");
    say_end(say_text(say_text(line, scope),
                     "): take it out of that scope, or end the scope before; "
                     "lines: addr2line -Cfie FILE OFFSET"));
    abort();
}

static const char *const waited_for[] = {
    [SEG_LOCK_UNKNOWN] = "a lock",
    [SEG_LOCK_MUTEX] = "a mutex that is held",
    [SEG_LOCK_RWLOCK] = "an rwlock that is held",
    [SEG_LOCK_COND] = "a condition",
    [SEG_LOCK_SEM] = "a semaphore",
    [SEG_LOCK_BARRIER] = "a barrier",
    [SEG_LOCK_JOIN] = "a thread's end",
    [SEG_LOCK_FUTEX] = "a futex",
};

// line: begun; says what it is.
static void hit(struct say *line, uint32_t what, size_t bytes, const struct unwind_registers *regs)
{
    uint64_t pcs[UNWIND_DEPTH_MAX];
    int saved = errno;
    uint32_t was = agent_tls.forbid;
    agent_tls.forbid = 0;
    uint32_t depth = walk(regs, pcs);
    if (!told.fn)
        print_and_abort(line, what == FORBID_ALLOC ? "FSCOPE_ALLOC" : "FSCOPE_BLOCK", pcs, depth);
    told.fn(told.arg, what, bytes, pcs, depth);
    forbid_set(was);
    errno = saved;
}

void forbid_hit(uint32_t what, size_t bytes, const struct unwind_registers *regs)
{
    struct say line;
    say_number(say_text(say_begin(&line), "forbidden: an allocation of "), bytes);
    hit(say_text(&line, bytes == 1 ? " byte" : " bytes"), what, bytes, regs);
}

void forbid_wait(enum seg_lock_type type, const void *object, const struct unwind_registers *regs)
{
    struct say line;
    say_text(say_text(say_begin(&line), "forbidden: waiting for "), waited_for[type]);
    if (object)
        say_hex(say_text(&line, ", "), (uint64_t)object);
    hit(&line, FORBID_BLOCK, 0, regs);
}

// A budget that cannot be watched must not pass.
static void check_sight(void)
{
    struct say line;
    const char *why = api_blind();
    if (!why)
        return;
    if (told.fn) {
        told.fn(told.arg, FORBID_ALLOC, 0, NULL, 0);
        return;
    }
    say_text(say_begin(&line), "fscope_forbid(FSCOPE_ALLOC) cannot be watched: ");
    say_end(say_text(&line, why));
    abort();
}

EXPORTED uint32_t fscope_forbid(uint32_t what)
{
    uint32_t before = agent_tls.forbid;
    if (what & FORBID_ALLOC && !(before & FORBID_ALLOC))
        check_sight();
    if (what & FORBID_BLOCK)
        atomic_fetch_or_explicit(&lock_flags, LOCK_FORBID, memory_order_relaxed);
    forbid_set(before | (what & (FORBID_ALLOC | FORBID_BLOCK)));
    return before;
}

EXPORTED void fscope_allow(uint32_t before)
{
    forbid_set(before & (FORBID_ALLOC | FORBID_BLOCK));
}

EXPORTED void fscope_on_forbidden(fscope_forbidden_fn *fn, void *arg)
{
    told.fn = fn;
    told.arg = arg;
}

EXPORTED void fscope_print_stack(int fd, const uintptr_t *stack, uint32_t depth)
{
    names_print(fd, stack, depth);
}

EXPORTED int fscope_thread_allocs(const struct fscope_allocs *since, struct fscope_allocs *out)
{
    *out = (struct fscope_allocs){0, 0};
    if (api_blind())
        return -ENOTSUP;
    out->objects = agent_tls.alloc_objects - (since ? since->objects : 0);
    out->bytes = agent_tls.alloc_bytes - (since ? since->bytes : 0);
    return 0;
}
