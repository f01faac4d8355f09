#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""record --block --mutex --method=ebpf: contention of any program by its futexes is what the program itself measured, what
the agent found in the same run, and what bpftrace sees at the same tracepoints."""

import os
import re
import shutil
import signal
import subprocess
import time

import locks
from harness import FIBERSCOPE, TESTS, Profile, Skip, main, record, skip_without_bpf
from locks import at, names

TARGET = locks.TARGET
BY_EBPF = ("--method=ebpf",)


# --- What the program measured.

def mutexes(work):
    p = locks.agrees(work, "mutex", options=BY_EBPF)
    assert names(at(p["block"], "wait_mutex")) == {"known_mutex"}, names(at(p["block"], "wait_mutex"))
    assert names(at(p["mutex"], "release_mutex")) == {"known_mutex"}
    waited = sum(s.values[1] for s in at(p["block"], "wait_mutex"))
    charged = sum(s.values[1] for s in p["mutex"].samples)
    assert 0.97 * waited - 3e6 <= charged <= waited * 1.001, (waited, charged)
    assert all("tid" not in s.labels and "fiber" not in s.labels for s in p["block"].samples), p["block"].samples


def read_write_locks(work):
    for case in ("write", "read"):
        folder = os.path.join(work, case)
        os.mkdir(folder)
        p = locks.agrees(folder, case, options=BY_EBPF)
        assert names(at(p["mutex"], "release_rwlock")) == {"known_rwlock"}, names(at(p["mutex"], "release_rwlock"))
        assert names(at(p["block"], f"wait_{case}")) == {"known_rwlock"}


def what_is_no_lock_is_in_block_alone(work):
    for case, name in (("sem", "sem"), ("cond", "cond"), ("barrier", "barrier"), ("join", None)):
        folder = os.path.join(work, case)
        os.mkdir(folder)
        p = locks.agrees(folder, case, options=BY_EBPF)
        function = "join_one" if case == "join" else f"wait_{case}"
        assert names(at(p["block"], function)) - {"cond_mutex"} == {name}, names(at(p["block"], function))
        others = [s for s in p["mutex"].samples if s.labels.get("lock") != "cond_mutex"]
        assert not others, [(s.stack, s.labels, s.values) for s in others]


def locks_that_the_program_makes_itself(work):
    """The library's function is not known: the stack begins at the system call."""
    truth, p = locks.record(work, "word", *BY_EBPF)
    assert len(truth) == 2, truth
    for kind, function, count, ns in truth:
        samples = [s for s in p[kind].samples if function in s.stack]
        got = sum(s.values[1] for s in samples)
        assert abs(got - ns) <= 0.02 * ns + 3e6, f"{kind} {function}: {got} ns, {ns} measured"
        assert sum(s.values[0] for s in samples) == count
        assert names(samples) == {"word_lock"}, names(samples)


# --- What others see in the same run.

def sums(profile, keep=lambda s: True):
    n = [s for s in profile.samples if keep(s)]
    return sum(s.values[0] for s in n), sum(s.values[1] for s in n)


def by_function(profile, lock):
    found = {}
    for s in profile.samples:
        if s.stack and s.labels.get("lock") == lock:
            had = found.get(s.stack[0], (0, 0))
            found[s.stack[0]] = had[0] + s.values[0], had[1] + s.values[1]
    return found


def agree_within(what, a, b, part, slack=0):
    assert abs(a - b) <= part * max(a, b) + slack, f"{what}: {a} and {b}"


def the_agent_agrees(work):
    """It is in the program while we look from outside, where its hooks are part of the stacks."""
    done = record("--method=ebpf", "--block=1", "--mutex", "-o", f"{work}/outside-%k.pb.gz", FIBERSCOPE, "record", "--block=1",
                  "--mutex", "-q", "-o", f"{work}/inside-%k.pb.gz", TARGET, "turns", cwd=work, check=0)
    for kind in ("block", "mutex"):
        outside = by_function(Profile(f"{work}/outside-{kind}.pb.gz"), "known_mutex")
        inside = by_function(Profile(f"{work}/inside-{kind}.pb.gz"), "known_mutex")
        print(f"      {kind}: {outside} from outside, {inside} inside")
        assert inside.keys() == {"turn"} and inside["turn"][0] > 100, (inside, done.stderr)
        for i, value in enumerate(("contentions", "ns")):
            both = [sum(v[i] for v in side.values()) for side in (outside, inside)]
            agree_within(f"{kind} {value}", *both, 0.03)


def bpftrace_agrees(work):
    bpftrace = shutil.which("bpftrace")
    if not bpftrace:
        raise Skip("there is no bpftrace here")
    name = f"locks{os.getpid()}"  # others may run the target, too
    target = shutil.copy(TARGET, os.path.join(work, name))
    script = """
        BEGIN { printf("begun\\n"); }
        tracepoint:syscalls:sys_enter_futex /comm == "NAME" && (args->op & 127) == 0/ { @at[tid] = nsecs; }
        tracepoint:syscalls:sys_exit_futex /@at[tid]/ {
            if (args->ret == 0) { @ns = sum(nsecs - @at[tid]); @n = count(); }
            delete(@at[tid]);
        }
        END { clear(@at); }""".replace("NAME", name)
    watcher = subprocess.Popen([bpftrace, "-e", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        while "begun" not in (line := watcher.stdout.readline()):
            assert line, "bpftrace has not begun"
        record("--method=ebpf", "--block=1ns", "-o", f"{work}/b.pb.gz", target, "mutex", cwd=work, check=0)
    finally:
        watcher.send_signal(signal.SIGINT)
        said, _ = watcher.communicate(timeout=30)
    ns = int(re.search(r"@ns: (\d+)", said).group(1))
    n = int(re.search(r"@n: (\d+)", said).group(1))
    count, got = sums(Profile(f"{work}/b.pb.gz"), lambda s: s.labels.get("lock") == "known_mutex")
    assert n >= count, (n, count)
    agree_within("nanoseconds", got, ns, 0.02, 1e6)


def children_and_what_they_execute(work):
    record("--method=ebpf", "--block=1ns", "--mutex", "-o", f"{work}/%k.pb.gz", "sh", "-c",
           f"{TARGET} mutex & {TARGET} write & wait; exec {TARGET} made", cwd=work, check=0)
    p = Profile(f"{work}/mutex.pb.gz")
    assert {s.stack[0] for s in p.samples} >= {"release_mutex", "release_rwlock"}, [s.stack for s in p.samples]
    locks_seen = names(p.samples)
    assert {"known_mutex", "known_rwlock"} < locks_seen, locks_seen


def a_killed_target_has_waited_until_then(work):
    r = subprocess.Popen([FIBERSCOPE, "record", "--method=ebpf", "--block=1ns", "-o", f"{work}/b.pb.gz", TARGET, "stuck"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    pid = int(re.match(r"stuck (\d+)", r.stdout.readline()).group(1))
    began = time.monotonic()
    time.sleep(0.5)
    lasted = time.monotonic() - began
    os.kill(pid, signal.SIGKILL)
    _, said = r.communicate(timeout=60)
    assert r.returncode == 128 + 9, said
    count, ns = sums(Profile(f"{work}/b.pb.gz"), lambda s: "wait_stuck" in s.stack)
    assert count == 4 and ns >= 4 * lasted * 1e9, (count, ns, said)


if __name__ == "__main__":
    skip_without_bpf()
    main([mutexes, read_write_locks, what_is_no_lock_is_in_block_alone, locks_that_the_program_makes_itself,
          the_agent_agrees, bpftrace_agrees, children_and_what_they_execute, a_killed_target_has_waited_until_then])
