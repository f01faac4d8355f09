// SPDX-License-Identifier: MIT
//
// See stop_call.h.

#include "collector/stop_call.h"

#include <sys/syscall.h>

bool stop_call_is_cut(int64_t number)
{
    switch (number) {
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
    case SYS_semop:
    case SYS_semtimedop:
    case SYS_rt_sigtimedwait:
    case SYS_io_getevents:
    case SYS_io_uring_enter:
    case SYS_read:
    case SYS_readv:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_write:
    case SYS_writev:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_accept:
    case SYS_accept4:
    case SYS_connect: return true;
    default: return false;
    }
}

bool stop_call_may(const struct target_call *c)
{
    enum { WAIT_FOR_ALL = 0x100 }; // MSG_WAITALL: a part of it would be returned
    switch (c->number) {
    case SYS_futex:
    case SYS_nanosleep:
    case SYS_clock_nanosleep:
    case SYS_restart_syscall:
    case SYS_poll:
    case SYS_ppoll:
    case SYS_select:
    case SYS_pselect6:
    case SYS_wait4:
    case SYS_waitid:
    case SYS_pause:
    case SYS_rt_sigsuspend:
    case SYS_flock:
    case SYS_fcntl:
    case SYS_read:
    case SYS_accept:
    case SYS_accept4:
    case SYS_msgrcv:
    case SYS_msgsnd:
    case SYS_semop: return true;
    case SYS_recvfrom: return !(c->args[3] & WAIT_FOR_ALL);
    case SYS_recvmsg: return !(c->args[2] & WAIT_FOR_ALL);
    // A time limit would begin anew.
    case SYS_epoll_wait:
    case SYS_epoll_pwait: return (int32_t)c->args[3] < 0;
    case SYS_epoll_pwait2:
    case SYS_semtimedop: return !c->args[3];
    case SYS_rt_sigtimedwait: return !c->args[2];
    case SYS_io_getevents: return !c->args[4];
    default: return false;
    }
}
