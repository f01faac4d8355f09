// SPDX-License-Identifier: MIT
//
// A target that uses SIGPROF itself. Our handler stays installed; what the target installs is kept
// here, shown to it when it asks, and called for the signals that are not ours. Everything else
// about signals is left alone: sigprocmask and pthread_sigmask are not interposed, a target that
// blocks SIGPROF has its reasons (a stack too small for a handler, say), and the samples that it
// holds back are charged to the first one after.
//
// The target's action is published under a sequence number, so that the handler never calls half of
// one: odd while it changes.

#include "agent/told_wait.h"
#include "agent/arch/x86_64.h"

#include <errno.h>
#include <string.h>
#include <sys/signalfd.h>

#define INTERPOSED __attribute__((visibility("default")))

static struct sigaction target_action; // zeroed: SIG_DFL
static _Atomic uint32_t target_sequence;
static _Atomic uint32_t is_installed;

static void store_action(const struct sigaction *action)
{
    atomic_fetch_add_explicit(&target_sequence, 1, memory_order_acq_rel);
    target_action = *action;
    // release: pairs with the acquire in load_action
    atomic_fetch_add_explicit(&target_sequence, 1, memory_order_release);
}

static void load_action(struct sigaction *out)
{
    uint32_t before, after;
    int tries = 0;
    do {
        before = atomic_load_explicit(&target_sequence, memory_order_acquire);
        *out = target_action;
        atomic_thread_fence(memory_order_acquire);
        after = atomic_load_explicit(&target_sequence, memory_order_relaxed);
    } while ((before != after || before & 1) && ++tries < 1000);
}

int signals_real_action(const struct sigaction *action, struct sigaction *old)
{
    return agent_real()->sigaction(SIGPROF, action, old);
}

void signals_adopt(const struct sigaction *old)
{
    struct sigaction kept = *old;
    // The exec hook leaves SIGPROF ignored on its way out: that was us, not the target.
    if (kept.sa_handler == SIG_IGN)
        kept.sa_handler = SIG_DFL;
    store_action(&kept);
    atomic_store_explicit(&is_installed, 1, memory_order_release);
}

// Ignored first: that drops what is pending, in all threads.
int signals_ignore(void)
{
    struct sigaction ignore;
    memset(&ignore, 0, sizeof ignore);
    ignore.sa_handler = SIG_IGN;
    return signals_real_action(&ignore, NULL) ? -errno : 0;
}

int signals_give_back(void)
{
    struct sigaction theirs;
    load_action(&theirs);
    int rc = signals_real_action(&theirs, NULL) ? -errno : 0;
    if (!rc)
        atomic_store_explicit(&is_installed, 0, memory_order_release);
    return rc;
}

bool signals_target_uses(void)
{
    struct sigaction now;
    load_action(&now);
    return now.sa_flags & SA_SIGINFO || (now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN);
}

// What the kernel would have done without us.
static void act_by_default(int signal)
{
    struct sigaction plain;
    memset(&plain, 0, sizeof plain);
    signals_real_action(&plain, NULL);
    sys3(SYS_tgkill, sys0(SYS_getpid), sys0(SYS_gettid), signal);
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, signal);
    sys4(SYS_rt_sigprocmask, SIG_UNBLOCK, &only, NULL, 8); // does not return
}

void signals_forward(int signal, siginfo_t *info, void *context)
{
    struct sigaction action;
    load_action(&action);
    if (!(action.sa_flags & SA_SIGINFO)) {
        if (action.sa_handler == SIG_IGN)
            return;
        if (action.sa_handler == SIG_DFL) {
            act_by_default(signal);
            return;
        }
    }
    if (action.sa_flags & (int)SA_RESETHAND) {
        struct sigaction plain;
        memset(&plain, 0, sizeof plain);
        store_action(&plain);
    }
    // Our handler runs with nearly all signals blocked; the target's with what it asked for, on top
    // of the mask that was interrupted.
    const ucontext_t *interrupted = context;
    sigset_t mask;
    sigorset(&mask, &interrupted->uc_sigmask, &action.sa_mask);
    if (!(action.sa_flags & SA_NODEFER))
        sigaddset(&mask, signal);
    sys4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8);
    if (action.sa_flags & SA_SIGINFO)
        action.sa_sigaction(signal, info, context);
    else
        action.sa_handler(signal);
}

static int set_action(int signal, const struct sigaction *action, struct sigaction *old)
{
    if (!atomic_load_explicit(&is_installed, memory_order_acquire))
        return agent_real()->sigaction(signal, action, old);
    if (signal != SIGPROF) {
        // Ours held back while a handler of the program's runs would come right behind it, and look as if it alone had
        // ended a wait.
        struct sigaction copy;
        if (action && !signals_target_uses() && sigismember(&action->sa_mask, SIGPROF) == 1) {
            copy = *action;
            sigdelset(&copy.sa_mask, SIGPROF);
            action = &copy;
        }
        return agent_real()->sigaction(signal, action, old);
    }
    struct sigaction before;
    load_action(&before);
    if (action)
        store_action(action);
    if (old)
        *old = before;
    return 0;
}

INTERPOSED int sigaction(int signal, const struct sigaction *action, struct sigaction *old)
{
    return set_action(signal, action, old);
}

INTERPOSED int __sigaction(int signal, const struct sigaction *action, struct sigaction *old);
int __sigaction(int signal, const struct sigaction *action, struct sigaction *old)
{
    return set_action(signal, action, old);
}

static __sighandler_t set_handler(int signal, __sighandler_t handler, int flags)
{
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    sigemptyset(&action.sa_mask);
    if (flags & SA_RESTART)
        sigaddset(&action.sa_mask, signal);
    if (handler == SIG_ERR) {
        errno = EINVAL;
        return SIG_ERR;
    }
    return set_action(signal, &action, &old) ? SIG_ERR : old.sa_handler;
}

// Only SIGPROF is ours to answer for: siginterrupt's memory of other signals is libc's.
INTERPOSED __sighandler_t signal(int number, __sighandler_t handler)
{
    if (number != SIGPROF || !agent_real()->signal)
        return agent_real()->signal ? agent_real()->signal(number, handler)
                                    : set_handler(number, handler, SA_RESTART);
    return set_handler(number, handler, SA_RESTART);
}

INTERPOSED __sighandler_t __sysv_signal(int number, __sighandler_t handler);
__sighandler_t __sysv_signal(int number, __sighandler_t handler)
{
    return set_handler(number, handler, (int)(SA_RESETHAND | SA_NODEFER));
}

// A thread that waits for "all signals" must not be given ours: sigwait would hand it SIGPROF.
static const sigset_t *without_ours(const sigset_t *set, sigset_t *copy)
{
    if (!set || !atomic_load_explicit(&is_installed, memory_order_acquire) ||
        signals_target_uses() || sigismember(set, SIGPROF) != 1)
        return set;
    *copy = *set;
    sigdelset(copy, SIGPROF);
    return copy;
}

INTERPOSED int sigwait(const sigset_t *set, int *signal)
{
    sigset_t copy;
    const sigset_t *wanted = without_ours(set, &copy);
    WAIT(int, CALL, agent_real()->sigwait(wanted, signal));
}

static int whole_sigwaitinfo(const sigset_t *set, siginfo_t *info)
{
    struct patience p = patience(-1);
    int rc;
    while ((rc = agent_real()->sigwaitinfo(set, info)) < 0 && was_ours_alone(&p, errno))
        ;
    return rc;
}

INTERPOSED int sigwaitinfo(const sigset_t *set, siginfo_t *info)
{
    sigset_t copy;
    const sigset_t *wanted = without_ours(set, &copy);
    WAIT(int, CALL, whole_sigwaitinfo(wanted, info));
}

static int whole_sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *limit)
{
    struct patience p = patience(time_ns(limit));
    struct timespec left;
    int rc;
    while ((rc = agent_real()->sigtimedwait(set, info, limit)) < 0 && goes_on(&p, errno))
        if (limit) {
            left = left_time(&p);
            limit = &left;
        }
    return rc;
}

INTERPOSED int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *limit)
{
    sigset_t copy;
    const sigset_t *wanted = without_ours(set, &copy);
    WAIT(int, CALL, whole_sigtimedwait(wanted, info, limit));
}

INTERPOSED int signalfd(int fd, const sigset_t *set, int flags)
{
    sigset_t copy;
    return agent_real()->signalfd(fd, without_ours(set, &copy), flags);
}
