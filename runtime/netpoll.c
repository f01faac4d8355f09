// SPDX-License-Identifier: MIT
//
// The netpoller's wait, until descriptors come.

#include "runtime/netpoll.h"
#include "runtime/os/os.h"

static _Atomic uint32_t broken;

int netpoll_init(void)
{
    return 0;
}

bool netpoll_is_used(void)
{
    return false;
}

uint32_t netpoll_waiters(void)
{
    return 0;
}

uint32_t netpoll_poll(int64_t timeout_ns, struct g_queue *out)
{
    (void)out;
    if (timeout_ns && !atomic_load(&broken))
        os_futex_wait(&broken, 0, timeout_ns);
    atomic_store(&broken, 0);
    return 0;
}

void netpoll_break(void)
{
    atomic_store(&broken, 1);
    os_futex_wake(&broken, 1);
}
