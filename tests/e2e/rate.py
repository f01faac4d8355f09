#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""At 999 Hz at least 985 samples are delivered per CPU second, on one busy thread and on two, in user code
and in a loop of system calls, and they weigh what was used.

The target counts its CPU seconds itself. Other load does not matter, since the clock of the samples is
the thread's own; what does is a hypervisor that takes the processor away in the middle of a period: that
time is charged to the thread, but one signal stands for all of it. /proc/stat says how much that was, and
a run in which it was over 1 % is repeated, at most twice.
"""

import os
import sys

from harness import BURN, NOBODY, Profile, Skip, close, main, record

MS = 2000
FLOOR = 985


def stolen_seconds():
    with open("/proc/stat", encoding="ascii") as f:
        return int(f.readline().split()[8]) / os.sysconf("SC_CLK_TCK")


def delivered(work, verb, threads):
    record("-F", "999", "-o", "p.pb.gz", BURN, verb, str(threads), str(MS), cwd=work, check=0)
    p = Profile(f"{work}/p.pb.gz")
    seconds = threads * MS / 1000
    close(p.total() / 1e9, seconds, 0.01 * seconds + 0.01, "CPU seconds in the profile")
    return p.total(0) / seconds


def check(work, verb, threads):
    if os.geteuid() != 0:
        raise Skip("an ordinary user's events do not count time in the kernel")
    for _ in range(3):
        before = stolen_seconds()
        rate = delivered(work, verb, threads)
        stolen = (stolen_seconds() - before) / (threads * MS / 1000)
        print(f"      {rate:.1f} samples per CPU second, {100 * stolen:.1f} % stolen by the host")
        if rate >= FLOOR or stolen < 0.01:
            break
    assert rate >= FLOOR, f"{rate:.1f} samples per CPU second, not {FLOOR}"
    assert rate <= 1010, f"{rate:.1f} samples per CPU second: more than was asked"


def user_code_on_one_thread(work):
    check(work, "threads", 1)


def user_code_on_two_threads(work):
    check(work, "threads", 2)


def system_calls_on_one_thread(work):
    check(work, "syscalls", 1)


def system_calls_on_two_threads(work):
    check(work, "syscalls", 2)


def an_ordinary_users_system_calls_weigh_the_same(work):
    if os.geteuid() != 0:
        raise Skip("is one already")
    record("-F", "999", "-o", "p.pb.gz", BURN, "syscalls", "1", "1000", cwd=work, check=0,
           prefix=[*NOBODY, "env", "HOME=/nonexistent", "XDG_CACHE_HOME=/nonexistent"])
    p = Profile(f"{work}/p.pb.gz")
    close(p.total() / 1e9, 1.0, 0.03, "CPU seconds in the profile")
    print(f"      {p.total(0):.0f} samples for {p.total() / 1e9:.3f} CPU seconds")


if __name__ == "__main__":
    sys.exit(main([user_code_on_one_thread, user_code_on_two_threads, system_calls_on_one_thread,
                   system_calls_on_two_threads, an_ordinary_users_system_calls_weigh_the_same]))
