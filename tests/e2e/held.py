#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What `fiberscope record -p` and `serve -p` switch on in a process goes off with the last of those who want it, also when they
are killed; what the program itself records goes on. The oracle is the kernel's (timers, descriptors) and the segment's own
words, at the offsets of docs/segment.md."""

import contextlib
import os
import random
import re
import signal
import struct
import subprocess
import sys
import time

import harness
from harness import FIBERSCOPE, Profile, close, main
from late import AGENT, Target, timers, value

SOURCE = os.environ.get("FSCOPE_SOURCE", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
FULL = os.environ.get("FSCOPE_SOAK_FULL") == "1"
KINDS = ("--cpu", "--wall", "--heap", "--block", "--mutex", "--trace")
PATIENCE_S = 15


def offsets():
    """{field: (offset in the file, bytes)} of seg_control."""
    with open(os.path.join(SOURCE, "docs", "segment.md")) as f:
        text = f.read()
    base = int(re.search(r"\| (\d+) \| \d+ \| `control` \|", text).group(1))
    table = text.split("### struct seg_control\n")[1].split("###")[0]
    rows = re.findall(r"\| (\d+) \| (\d+) \| `(\w+)` \|", table)
    return {name: (base + int(at), int(size)) for at, size, name in rows}


OFFSETS = offsets()
RATES = ("cpu_period_ns", "wall_period_ns", "block_rate_ns", "mutex_fraction", "region_times")


def words(pid):
    """The control words; None: there is no segment."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{fd}"
        with contextlib.suppress(OSError):
            if os.readlink(path).startswith("/memfd:fiberscope"):
                with open(path, "rb") as f:
                    head = f.read(4096)
                return {name: struct.unpack_from("<Q" if size == 8 else "<I", head, at)[0]
                        for name, (at, size) in OFFSETS.items()}
    return None


def perf_events(pid):
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return [f for f in found if "perf_event" in f]


def left(pid):
    """What is on in it, "" for nothing."""
    w = words(pid) or {}
    on = [name for name in (*RATES, "held") if w.get(name)]
    on += ["heap"] if w.get("heap_rate_bytes") and not w["heap_off"] else []
    on += [f"{timers(pid)} timers"] if timers(pid) else []
    on += ["perf events"] if perf_events(pid) else []
    return ", ".join(on)


def wait_until_off(pid, since, patience=PATIENCE_S):
    while left(pid):
        assert time.monotonic() - since < patience, left(pid)
        time.sleep(0.05)


def begin(pid, *args, cwd):
    return subprocess.Popen([FIBERSCOPE, "record", "-p", str(pid), *args], cwd=cwd, start_new_session=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for(what, condition, patience=30):
    until = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < until, f"{what} has not come"
        time.sleep(0.01)


def kill(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    return time.monotonic()


def end(process):
    """Ctrl-C: it writes what it has."""
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    return said


def killed_at_random_moments(work):
    """Every kind alone, some together; all targets are left alone after that, and nothing is on in any."""
    sets = [(k,) for k in KINDS] + [("--cpu", "-F", "999"), ("--wall", "--heap"), KINDS]
    targets = [Target("waits", "120") for _ in sets]
    killed = {}
    try:
        for i, (t, kinds) in enumerate(zip(targets, sets)):
            was_on = ""
            for _ in range(30 if FULL else 4):
                p = begin(t.pid, *kinds, "-d", "60s", "-o", f"{work}/{i}/", cwd=work)
                if not was_on:
                    wait_for("the recording", lambda t=t: (words(t.pid) or {}).get("held"))
                time.sleep(random.random() * 0.5)
                killed[t.pid] = kill(p)
                was_on = was_on or left(t.pid)
            assert was_on, f"{kinds}: nothing was on, so nothing is shown"
        for t in targets:
            wait_until_off(t.pid, killed[t.pid])
        for t in targets:
            assert re.search(r"waits [1-9]\d+ broken 0$", t.end().strip())
    finally:
        for t in targets:
            t.__exit__()


def cpu_s(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/schedstat") as f:
            total += int(f.read().split()[0])
    return total * 1e-9


def a_new_one_is_right_at_once(work):
    with Target("work") as t:
        p = begin(t.pid, "--cpu", "--wall", "--block=5us", "--mutex=3", "-F", "499", "-d", "60s", cwd=work)
        wait_for("the recording", lambda: (words(t.pid) or {}).get("block_rate_ns"))
        time.sleep(0.3)
        kill(p)
        before = cpu_s(t.pid)
        p = begin(t.pid, "--cpu", "--block=50us", "--trace", "-F", "99", "-d", "2s", "-o", f"{work}/n.%k", cwd=work)
        wait_for("the recording", lambda: (words(t.pid) or {}).get("block_rate_ns") == 50000)
        w = words(t.pid)
        assert w["cpu_period_ns"] == 10101010 and not w["wall_period_ns"] and not w["mutex_fraction"], w
        _, said = p.communicate(timeout=30)
        assert p.returncode == 0, said
        used = cpu_s(t.pid) - before
        close(value(Profile(f"{work}/n.cpu"), "cpu") * 1e-9, used, 0.2 * used, "CPU time")
        assert os.path.getsize(f"{work}/n.trace") > 1000
        assert not left(t.pid), left(t.pid)
        t.end()


def two_of_one_kind(work):
    """Whoever goes first leaves it on for the other, whose total is of all the time; then it is off at once."""
    for first_ends_first in (True, False):
        with Target("work") as t:
            a = begin(t.pid, "--block", "--heap", "-o", f"{work}/a.%k", cwd=work)
            wait_for("the first", lambda: (words(t.pid) or {}).get("block_rate_ns"))
            start = cpu_s(t.pid)
            b = begin(t.pid, "--block", "--heap", "-o", f"{work}/b.%k", cwd=work)
            time.sleep(1)
            one, other = (a, b) if first_ends_first else (b, a)
            names = ("a", "b") if first_ends_first else ("b", "a")
            end(one)
            middle = cpu_s(t.pid)
            w = words(t.pid)
            assert w["block_rate_ns"] and w["heap_rate_bytes"] and not w["heap_off"], w
            time.sleep(2.5)
            end(other)
            over = cpu_s(t.pid)
            assert not left(t.pid), left(t.pid)
            for kind, unit, function in (("block", "contentions", "work"), ("heap", "alloc_objects", "grow")):
                early, late = (value(Profile(f"{work}/{n}.{kind}"), unit, function) for n in names)
                want = (over - start) / (middle - start)  # all rounds cost the same; off, it would be 1
                assert want > 2, want
                close(late / early, want, 0.3 * want, f"{kind}: {early}, then {late}")
            t.end()


def one_that_is_killed_leaves_the_other_on(work):
    with Target("work") as t:
        a = begin(t.pid, "--block", "-d", "60s", cwd=work)
        b = begin(t.pid, "--block", "--mutex", "-o", f"{work}/b.%k", cwd=work)
        wait_for("both", lambda: (words(t.pid) or {}).get("mutex_fraction"))
        time.sleep(0.3)
        kill(a)
        time.sleep(12)  # a look of the agent's by itself
        assert words(t.pid)["block_rate_ns"] and words(t.pid)["mutex_fraction"]
        end(b)
        assert not left(t.pid), left(t.pid)
        t.end()


def another_rate_is_said(work):
    with Target("work") as t:
        a = begin(t.pid, "--block=20us", "--mutex=2", "--heap=4k", "-o", f"{work}/a.%k", cwd=work)
        wait_for("the first", lambda: (words(t.pid) or {}).get("heap_rate_bytes"))
        for option, said in (("--block=1ms", "1 in 20000, not in 1000000"), ("--mutex=7", "1 in 2, not in 7"),
                             ("--heap=64k", "1 in 4096, not in 65536")):
            assert said in t.record(option, "-d", "200ms", "-o", f"{work}/b.pb.gz", cwd=work), option
        w = words(t.pid)
        assert (w["block_rate_ns"], w["mutex_fraction"], w["heap_rate_bytes"]) == (20000, 2, 4096), w
        end(a)
        assert not left(t.pid), left(t.pid)
        t.end()


OWN = """
import ctypes, sys, threading
own = ctypes.CDLL(None)
print('ready', flush=True)
for line in sys.stdin:
    name, value = line.split()
    print(getattr(own, name)(ctypes.c_uint64(int(value))) if value != '-' else getattr(own, name)(), flush=True)
"""


def own_wishes_survive(work):
    settings = f"heap=65536,block=20000,out={work}/own.fscope"
    with Target("work", settings=settings) as t:
        p = begin(t.pid, "--heap", "--block", "--mutex", "-d", "60s", cwd=work)
        wait_for("the recording", lambda: words(t.pid)["mutex_fraction"])
        wait_until = kill(p) + PATIENCE_S
        while words(t.pid)["held"]:
            assert time.monotonic() < wait_until
            time.sleep(0.1)
        w = words(t.pid)
        assert (w["heap_rate_bytes"], w["heap_off"], w["block_rate_ns"]) == (65536, 0, 20000), w
        assert not w["mutex_fraction"] and not timers(t.pid), w
        t.end()


def what_the_program_starts_meanwhile_is_its_own(work):
    p = subprocess.Popen([sys.executable, "-c", OWN], env=dict(os.environ, LD_PRELOAD=AGENT), text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def call(name, argument="-"):
        p.stdin.write(f"{name} {argument}\n")
        p.stdin.flush()
        return int(p.stdout.readline())

    try:
        assert p.stdout.readline() == "ready\n"
        a = begin(p.pid, "--block=30us", "--mutex=5", "-d", "60s", cwd=work)
        wait_for("the recording", lambda: (words(p.pid) or {}).get("mutex_fraction"))
        assert call("fscope_block_start", 40000) == 0
        end(a)
        w = words(p.pid)
        assert (w["block_rate_ns"], w["mutex_fraction"], w["held"]) == (40000, 0, 0), w
        assert call("fscope_block_stop") == 0 and not left(p.pid), left(p.pid)
    finally:
        p.stdin.close()
        p.wait(timeout=10)


def a_killed_server_leaves_nothing(work):
    with Target("work", "60") as t:
        p = subprocess.Popen([FIBERSCOPE, "serve", "-p", str(t.pid), "--listen", f"unix:{work}/s"], start_new_session=True,
                             stderr=subprocess.PIPE, text=True)
        wait_for("the server", lambda: (words(t.pid) or {}).get("held"))
        t.record("--block", "-d", "300ms", "-o", f"{work}/b.pb.gz", cwd=work)  # which the server holds, too
        assert words(t.pid)["held"], "the recording has switched off what is the server's"
        wait_until_off(t.pid, kill(p))
        t.end()


def children_go_off_too(work):
    with Target("forks", "90") as t:
        p = begin(t.pid, "--cpu", "--wall", "-d", "60s", cwd=work)
        time.sleep(1.5)
        since = kill(p)
        wait_until_off(t.pid, since)
        seen = set()
        while len(seen) < 5:
            assert time.monotonic() - since < 60, seen
            with open(f"/proc/{t.pid}/task/{t.pid}/children") as f:
                for child in f.read().split():
                    with contextlib.suppress(OSError):
                        assert not timers(int(child)), "a child has a timer"
                        seen.add(child)


def a_worker_of_a_killed_recording_can_be_called(work):
    with Target("master", "90") as t:
        p = begin(t.pid, "--heap", "-d", "60s", cwd=work)
        wait_for("the recording", lambda: (words(t.pid) or {}).get("held"))
        t.process.send_signal(signal.SIGUSR1)
        worker = int(t.process.stdout.readline())
        try:
            wait_for("the worker's segment", lambda: words(worker))
            since = kill(p)
            harness.record("-p", str(worker), "--heap", "-d", "1s", "-o", f"{work}/w.pb.gz", cwd=work, check=0)
            assert value(Profile(f"{work}/w.pb.gz"), "alloc_space", "grow") > 0
            wait_until_off(worker, since)
            wait_until_off(t.pid, since)
        finally:
            os.kill(worker, signal.SIGKILL)


def without_timers_that_is_said(work):
    with Target("untimed") as t:
        t.record("--heap", "-d", "300ms", "-o", f"{work}/a", cwd=work)
        t.record("--heap", "-d", "300ms", "-o", f"{work}/b", cwd=work)
        assert not left(t.pid), left(t.pid)
        said = t.end()
        line = "fiberscope: no timer (EAGAIN), so what a collector records here goes on if that is killed"
        assert said.count(line) == 1, said


def a_stopped_collector_does_not_hold_children_up(work):
    r = subprocess.Popen([FIBERSCOPE, "record", "--trace", "-o", "s.%p.trace", os.path.join(harness.TESTS, "late_target"),
                          "sleeper"], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert r.stdout.readline() == "ready\n"
        with open(f"/proc/{r.pid}/task/{r.pid}/children") as f:
            pid = int(f.read().split()[0])
        os.kill(r.pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGUSR1)
        slept = int(r.stdout.readline())
        os.kill(r.pid, signal.SIGCONT)
        assert slept < 1000, slept
        time.sleep(0.5)
        os.kill(pid, signal.SIGTERM)
        _, said = r.communicate(timeout=30)
        assert r.returncode == 0, said
        # The child is recorded all the same: it told of itself, and the collector read that when it went on.
        assert len([f for f in os.listdir(work) if f.startswith("s.") and f.endswith(".trace")]) == 2, said
    finally:
        r.kill()
        r.wait()


def ps_says_what_is_on(work):
    def line_of(pid):
        done = subprocess.run([FIBERSCOPE, "ps"], capture_output=True, text=True)
        return [line for line in done.stdout.splitlines() if re.match(rf"\s*{pid}\b", line)][0]

    with Target("work") as t:
        p = begin(t.pid, "--heap", "-d", "60s", "-o", f"{work}/h.pb.gz", cwd=work)
        wait_for("the recording", lambda: (words(t.pid) or {}).get("held"))
        assert "heap" in line_of(t.pid), line_of(t.pid)
        end(p)
        assert "heap" not in line_of(t.pid), line_of(t.pid)
        t.end()
    # A black box, which is no memory file.
    with Target("work", settings=f"block=1000,segment={work}/a box,quiet=1") as t:
        assert re.search(r" recording +block  ", line_of(t.pid)), line_of(t.pid)
        t.end()


if __name__ == "__main__":
    main([killed_at_random_moments, a_new_one_is_right_at_once, two_of_one_kind, one_that_is_killed_leaves_the_other_on,
          another_rate_is_said, own_wishes_survive, what_the_program_starts_meanwhile_is_its_own,
          a_killed_server_leaves_nothing, children_go_off_too, a_worker_of_a_killed_recording_can_be_called,
          without_timers_that_is_said, a_stopped_collector_does_not_hold_children_up, ps_says_what_is_on],
         at_once=3)  # they wait for looks that come every 10 s
