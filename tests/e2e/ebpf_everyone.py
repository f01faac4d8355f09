#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Sites where several processes are recorded at once: whose agent or fiber runtime tells is told of by these, everyone
else by the kernel, and nothing twice."""

import contextlib
import os
import subprocess
import time

import harness
from ebpf import CGROUPS, begun
from ebpf_sites import FIBERS, MIB, SITES, Target, profiles, stop, value
from harness import FIBERSCOPE, Skip, close

RATES = (20000, 5000)


def everyone(work, *args):
    r = subprocess.Popen([FIBERSCOPE, "record", "--method=ebpf", "--block=1", "--mutex", "-o", os.path.join(work, "out/"),
                          *args], stderr=subprocess.PIPE, text=True)
    begun(r)
    return r


def agent(work, *args):
    return [FIBERSCOPE, "record", "-q", "-o", os.path.join(work, f"in{args[0]}/"), *args]


def of(target):
    return lambda s: s.labels.get("pid") == target.pid


class Everyone:
    """Programs that wait, of which some are told of by their agent or their runtime."""

    def __init__(self, work, on, prefix=()):
        self.work, self.on, self.prefix = work, on, prefix
        self.locks = {"futex": self.start("locks", SITES, "locks"), "runtime": self.start("locks", FIBERS),
                      "agent": self.start("locks", SITES, "locks", by=agent(work, "--block=1", "--mutex"))}

    def start(self, last, *argv, by=()):
        t = self.on.enter_context(Target(*argv, inside=[*self.prefix, *by]))
        t.last = last
        return t

    def locks_are_told_once(self, found):
        for by, t in self.locks.items():
            _, rounds, ns = t.truth[-1]
            for kind, function in (("block", "wait_for_mutex"), ("mutex", "hold_and_unlock")):
                count, delay = (value(found[kind], name, function, of(t)) for name in ("contentions", "delay"))
                print(f"      {by} {kind}: {count}, {delay} ns; truly {rounds}, {ns} ns")
                assert count == int(rounds), (by, kind, count, rounds)
                close(delay / int(ns), 1, 0.05, kind)
        # Threads of the runtime that wait for work are nobody's contention.
        assert all("start" in s.stack[-1] for s in found["block"].samples if of(self.locks["runtime"])(s))


def of_the_whole_machine(work):
    with contextlib.ExitStack() as on:
        all_ = Everyone(work, on)
        r = everyone(work, "-a")
        for t in all_.locks.values():
            t.run()
        stop(r)
    all_.locks_are_told_once(profiles(work))


def heaps_are_told_once(work, found, heaps, grows):
    for rate, t in heaps.items():
        (_, function, _, size, _), = t.truth
        got = value(found["heap"], "alloc_space", function, of(t))
        print(f"      {rate}: {got}, truly {size}")
        close(got / int(size), 1, 0.15, f"at {rate}")  # 600 and 2,400 samples of a Poisson process
        assert not any(map(of(t), found["growth"].samples))
    assert not any(map(of(grows), found["heap"].samples))
    close(value(found["growth"], "fault_space", "touch_half", of(grows)), 20 * MIB, 64 * 4096, "growth")


def in_a_group(work, group):
    with contextlib.ExitStack() as on:
        all_ = Everyone(work, on, ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$0" "$@"'])
        heaps = {rate: all_.start("heap", SITES, "heap", "40000", by=agent(work, f"--heap={rate}")) for rate in RATES}
        grows = all_.start("unmapped", SITES, "grow")
        r = everyone(work, "--heap", "--cgroup", os.path.basename(group))
        for t in (*all_.locks.values(), *heaps.values(), grows):
            t.run()
        said = stop(r)
    found = profiles(work)
    all_.locks_are_told_once(found)
    heaps_are_told_once(work, found, heaps, grows)
    assert "how all others grow is the profile growth" in said and "growth: " in said, said


def of_a_control_group(work):
    group = os.path.join(CGROUPS, f"fiberscope-everyone-{os.getpid()}")
    try:
        os.mkdir(group)
    except OSError as e:
        raise Skip(f"no control group can be made: {e}") from e
    try:
        in_a_group(work, group)
    finally:
        for _ in range(50):
            with contextlib.suppress(OSError):
                os.rmdir(group)
                break
            time.sleep(0.05)


if __name__ == "__main__":
    harness.skip_without_bpf()
    harness.main([of_the_whole_machine, of_a_control_group])
