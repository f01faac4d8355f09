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
    r = subprocess.Popen([FIBERSCOPE, "record", "--method=ebpf", "--block=1", "--mutex", "--heap=exact", "-o",
                          os.path.join(work, "out/"), *args], stderr=subprocess.PIPE, text=True)
    begun(r)
    return r


def agent(work, *args):
    return [FIBERSCOPE, "record", "-q", "-o", os.path.join(work, f"in{args[0]}/"), *args]


def of(target):
    return lambda s: s.labels.get("pid") == target.pid


def locks_are_told_once(found, target, told_by_agent, rounds, ns):
    for kind, function in (("block", "wait_for_mutex"), ("mutex", "hold_and_unlock")):
        count, delay = (value(found[kind], name, function, of(target)) for name in ("contentions", "delay"))
        print(f"      {told_by_agent} {kind}: {count}, {delay} ns; truly {rounds}, {ns} ns")
        assert count == int(rounds), (kind, count, rounds)
        close(delay / int(ns), 1, 0.05, kind)


def each_is_told_of_once(work, who, prefix=()):
    locks = agent(work, "--block=1", "--mutex")
    with contextlib.ExitStack() as on:
        start = lambda *argv, by=(): on.enter_context(Target(*argv, inside=[*prefix, *by]))
        plain, fibers, told = start(SITES, "locks"), start(FIBERS), start(SITES, "locks", by=locks)
        grows = start(SITES, "grow")
        heaps = {rate: start(SITES, "heap", "40000", by=agent(work, f"--heap={rate}")) for rate in RATES}
        r = everyone(work, *who)
        truth = {}
        for t, last in (plain, "locks"), (fibers, "locks"), (told, "locks"), (grows, "unmapped"), *((t, "heap") for t in heaps.values()):
            t.last = last
            truth[t] = t.run()
        said = stop(r)
    found = profiles(work)
    for t, by in (plain, "futex"), (fibers, "runtime"), (told, "agent"):
        locks_are_told_once(found, t, by, *truth[t][-1][1:])
    # Its threads, which wait for work, are in the kernel's eyes only.
    assert all("start" in s.stack[-1] for s in found["block"].samples if of(fibers)(s))
    for rate, t in heaps.items():
        (_, function, objects, size, _), = truth[t]
        got = value(found["heap"], "alloc_space", function, of(t))
        print(f"      {rate}: {got}, truly {size}")
        close(got / int(size), 1, 0.2, f"at {rate}")
        assert not any(map(of(t), found["growth"].samples))
    assert not any(map(of(grows), found["heap"].samples))
    got = value(found["growth"], "fault_space", "touch_half", of(grows))
    close(got, 20 * MIB, 64 * 4096, "growth")
    assert "how all others grow is the profile growth" in said and "growth: " in said, said


def of_the_whole_machine(work):
    each_is_told_of_once(work, ["-a"])


def of_a_control_group(work):
    group = os.path.join(CGROUPS, f"fiberscope-everyone-{os.getpid()}")
    try:
        os.mkdir(group)
    except OSError as e:
        raise Skip(f"no control group can be made: {e}") from e
    try:
        each_is_told_of_once(work, ["--cgroup", os.path.basename(group)],
                             ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$0" "$@"'])
    finally:
        for _ in range(50):
            with contextlib.suppress(OSError):
                os.rmdir(group)
                break
            time.sleep(0.05)


if __name__ == "__main__":
    harness.skip_without_bpf()
    harness.main([of_the_whole_machine, of_a_control_group])
