// SPDX-License-Identifier: MIT
//
// A fiber that makes known calls, as trace_api_threads.c does in a thread. What each waits for comes from another one,
// some milliseconds later.

#include <fiberscope/chan.h>
#include <fiberscope/fiber.h>
#include <fiberscope/io.h>
#include <fiberscope/sync.h>

#include <sys/stat.h>
#include <unistd.h>

#include "trace_api_calls.h"

enum { LATER_NS = 5000000 };

static struct fib_mutex mutex;
static struct fib_rwmutex rwmutex;
static struct fib_cond cond;
static struct fib_semaphore semaphore;
static struct fib_waitgroup group;
static struct fib_chan *chan, *replies;
static struct fib fiber;
static int ends[2], value;
static char byte;

static void waiter(void *arg);

// clang-format off: a call is on the line of its name
CALL_VOID(fib_chan_send, fib_chan_send(replies, &value))
CALL(fib_chan_recv, fib_chan_recv(chan, &value))
CALL(fib_chan_recv_for, fib_chan_recv_for(chan, &value, 1000000))
CALL_VOID(fib_mutex_lock, fib_mutex_lock(&mutex))
CALL_VOID(fib_mutex_unlock, fib_mutex_unlock(&mutex))
CALL_VOID(fib_rwmutex_lock, fib_rwmutex_lock(&rwmutex))
CALL_VOID(fib_rwmutex_rlock, fib_rwmutex_rlock(&rwmutex))
CALL_VOID(fib_rwmutex_unlock, fib_rwmutex_unlock(&rwmutex))
CALL_VOID(fib_waitgroup_wait, fib_waitgroup_wait(&group))
CALL_VOID(fib_waitgroup_done, fib_waitgroup_done(&group))
CALL_VOID(fib_cond_wait, fib_cond_wait(&cond, &mutex))
CALL_VOID(fib_cond_signal, fib_cond_signal(&cond))
CALL_VOID(fib_semaphore_acquire, fib_semaphore_acquire(&semaphore, 1))
CALL_VOID(fib_semaphore_release, fib_semaphore_release(&semaphore, 1))
CALL_VOID(fib_sleep, fib_sleep(1000000))
CALL_VOID(fib_yield, fib_yield())
CALL(fib_read, fib_read(ends[0], &byte, 1))
CALL(fib_write, fib_write(ends[1], "x", 1))
CALL(fib_go, fib_go(&fiber, waiter, NULL))
CALL(fib_join, fib_join(fiber))
CALL(fib_stat, fib_stat("/", &(struct stat){0}))
CALL_VOID(fib_blocking_enter, fib_blocking_enter())
TAIL(bool, fib_chan_recv, fib_chan_recv(chan, &value))
TAIL_VOID(fib_mutex_lock, fib_mutex_lock(&mutex))
TAIL_VOID(fib_waitgroup_wait, fib_waitgroup_wait(&group))
TAIL_VOID(fib_semaphore_acquire, fib_semaphore_acquire(&semaphore, 1))
TAIL_VOID(fib_yield, fib_yield())
TAIL(ssize_t, fib_read, fib_read(ends[0], &byte, 1))
THROUGH(fib_rwmutex_rlock, (&rwmutex))
CALL(fib_select,
     fib_select((struct fib_case[]){FIB_RECV(chan, &value), FIB_RECV(replies, &value)}, 2))
// clang-format on

// What start is to do while the waiter makes its call.
enum wish { NOTHING, TAKE, GIVE, MUTEX, RWMUTEX, DONE, SIGNAL, RELEASE, WRITE, END };
static enum wish wish;

static void ask(enum wish w)
{
    __atomic_store_n(&wish, w, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&wish, __ATOMIC_SEQ_CST) != NOTHING)
        fib_sleep(100000);
}

static void pass(void *arg)
{
    (void)arg;
}

// Of those that have nobody to yield to nothing is told.
static void with_another(void)
{
    fib_go(NULL, pass, NULL);
}

static void wait_for_locks(void)
{
    ask(MUTEX), call_fib_mutex_lock(), fib_mutex_unlock(&mutex);
    ask(MUTEX), from_fib_mutex_lock(), fib_mutex_unlock(&mutex);
    ask(RWMUTEX), call_fib_rwmutex_lock(), fib_rwmutex_unlock(&rwmutex);
    ask(RWMUTEX), call_fib_rwmutex_rlock(), fib_rwmutex_runlock(&rwmutex);
    ask(RWMUTEX), through_fib_rwmutex_rlock(), fib_rwmutex_runlock(&rwmutex);
    fib_mutex_lock(&mutex);
    ask(SIGNAL), call_fib_cond_wait();
    fib_mutex_unlock(&mutex);
    ask(DONE), call_fib_waitgroup_wait();
    ask(DONE), from_fib_waitgroup_wait();
    ask(RELEASE), call_fib_semaphore_acquire(), fib_semaphore_release(&semaphore, 1);
    ask(RELEASE), from_fib_semaphore_acquire(), fib_semaphore_release(&semaphore, 1);
    keep();
}

static void waiter(void *arg)
{
    (void)arg;
    ask(TAKE), call_fib_chan_send();
    ask(GIVE), call_fib_chan_recv();
    ask(GIVE), from_fib_chan_recv();
    ask(GIVE), call_fib_select();
    call_fib_chan_recv_for();
    wait_for_locks();
    ask(WRITE), call_fib_read();
    ask(WRITE), from_fib_read();
    call_fib_sleep(), call_fib_stat();
    with_another(), call_fib_yield();
    with_another(), from_fib_yield();
    call_fib_blocking_enter();
    fib_blocking_exit();
    ask(END);
    fib_sleep(LATER_NS); // start is to wait for its end
}

static void prepare(enum wish w)
{
    if (w == MUTEX)
        fib_mutex_lock(&mutex);
    else if (w == RWMUTEX)
        fib_rwmutex_lock(&rwmutex);
    else if (w == DONE)
        fib_waitgroup_add(&group, 1);
    else if (w == RELEASE)
        fib_semaphore_acquire(&semaphore, 1);
}

static void fulfil(enum wish w)
{
    switch (w) {
    case TAKE: fib_chan_recv(replies, &value); break;
    case GIVE: fib_chan_send(chan, &value); break;
    case MUTEX: call_fib_mutex_unlock(); break;
    case RWMUTEX: call_fib_rwmutex_unlock(); break;
    case DONE: call_fib_waitgroup_done(); break;
    case RELEASE: call_fib_semaphore_release(); break;
    case WRITE: call_fib_write(); break;
    case SIGNAL:
        fib_mutex_lock(&mutex); // free once it waits
        call_fib_cond_signal();
        fib_mutex_unlock(&mutex);
        break;
    default: break;
    }
    keep();
}

static void start(void *arg)
{
    enum wish w = NOTHING;
    (void)arg;
    call_fib_go();
    while (w != END) {
        while (!(w = __atomic_load_n(&wish, __ATOMIC_SEQ_CST)))
            fib_sleep(100000);
        prepare(w);
        __atomic_store_n(&wish, NOTHING, __ATOMIC_SEQ_CST);
        if (w != END)
            fib_sleep(LATER_NS);
        fulfil(w);
    }
    call_fib_join();
    keep();
}

int main(void)
{
    chan = fib_chan_new(sizeof value, 0);
    replies = fib_chan_new(sizeof value, 0);
    fib_semaphore_init(&semaphore, 1);
    if (!chan || !replies || pipe(ends))
        return 1;
    return fib_main(start, NULL);
}
