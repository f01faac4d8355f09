// SPDX-License-Identifier: MIT
//
// A fiber that runs into the guard below its stack is told of by its name, with its stack; then the fault takes
// its way: to the handler that was there before, or to the core dump.
//
// The handler runs on the M's signal stack; a plain thread's fault only passes through.

#include "runtime/backtrace.h"
#include "runtime/core.h"
#include "runtime/dump.h"
#include "runtime/os/os.h"
#include "runtime/print.h"

#include <errno.h>
#include <signal.h>
#include <ucontext.h>

static struct sigaction before;

static void tell(const struct m *m, const struct g *g, const void *context)
{
    struct print p = {.fd = 2};
    dump_lock();
    print_text(&p, "fiberscope-rt: ");
    print_who(&p, g);
    // The guard is the stack's lowest page.
    print_format(&p, " overflowed its stack of %u KiB\n\ngoroutine %u [running]:\n",
                 (g->live->high - g->live->low) >> 10, atomic_load(&g->id));
    uint32_t n = backtrace_context(m, context, dump_pcs, DUMP_DEPTH);
    print_stack(&p, dump_pcs, n);
    print_text(&p, "\n");
    print_flush(&p);
    dump_unlock();
}

static bool is_overflow(const struct m *m, const siginfo_t *info)
{
    if (!m || m->cur == &m->g0 || !m->cur->live || info->si_code <= 0)
        return false;
    uint64_t at = (uint64_t)(uintptr_t)info->si_addr, low = m->cur->live->low;
    return at >= low && at < low + OS_PAGE;
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
    static _Atomic bool is_told;
    int saved_errno = errno;
    struct m *m = this_m();
    if (is_overflow(m, info) && !atomic_exchange(&is_told, true))
        tell(m, m->cur, context);
    errno = saved_errno;
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(signal, info, context);
        return;
    }
    if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(signal);
        return;
    }
    // The instruction faults again, and the kernel does what it does without a handler. A signal that was sent
    // does not come again by itself.
    struct sigaction none = {.sa_handler = SIG_DFL};
    sigaction(signal, &none, NULL);
    if (info->si_code <= 0)
        os_signal_thread(os_tid(), signal);
}

void overflow_init(void)
{
    struct sigaction ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&ours.sa_mask);
    if (!sigaction(SIGSEGV, NULL, &before))
        sigaction(SIGSEGV, &ours, NULL);
}
