#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Fibers against Go (and threads, where they can do it), each case run by turns, with one processor and two.

Usage: runtime.py [ROUNDS] [CASE ...]. Five rounds, all cases. A ratio is fibers to Go in the same round:
below 1 is faster. Wall and CPU time are per operation, measured inside the programs (bench/runtime/), without their
start. Targets are judged by both, as medians: alone on the machine they agree, beside other work CPU time is the
better one. The Go program is built here, with the `go` that is found, from the standard library alone.
"""

import json
import os
import signal
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
import pairs  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
SOURCE = os.environ["FSCOPE_SOURCE"]
FIB = os.path.join(BUILD, "bench", "runtime_fib")
THREADS = os.path.join(BUILD, "bench", "runtime_threads")
PREEMPT = os.path.join(BUILD, "bench", "runtime_preempt")
GO = os.path.join(BUILD, "bench", "runtime_go")
CPUS = sorted(os.sched_getaffinity(0))


class Case:
    """What is run and what has to come out. targets: of the wall ratio to Go, by number of Ps. threads:
    (name there, divisor of ops). wakes: how many per operation at most, with two Ps."""

    def __init__(self, name, ops, what, targets=None, threads=(), wakes=None, note=""):
        self.name, self.ops, self.what = name, ops, what
        self.targets, self.threads, self.wakes = targets or {}, threads, wakes
        self.note = note
        self.runs = {}  # (peer, procs): one result per round


CASES = [
    Case("yield", 2000000, "yield, two fibers", {1: 0.5}, [("yield", 4)]),
    Case("spawn_sequential", 500000, "spawn, join, again", {1: 0.4}, [("spawn_sequential", 50)],
         wakes=0.01),
    Case("spawn_batch", 1000000, "spawn 1,000,000, then join", {1: 0.35}),
    Case("spawn_batch_again", 1000000, "the same, the second time"),
    Case("spawn_group", 1000000, "spawn 1,000,000, wait group"),
    Case("pingpong", 400000, "unbuffered round trip", {1: 0.5},
         [("pingpong", 20), ("pingpong_futex", 20)], wakes=0.01),
    Case("buffered128", 2000000, "buffer of 128, one to one", {1: 0.7}),
    Case("select", 200000, "round trip, select of 2", {1: 0.7}, wakes=0.01),
    Case("mutex", 10000000, "free mutex", {1: 1.0}, [("mutex", 1)]),
    Case("mutex2", 3000000, "mutex, 2 fibers", None, [("mutex2", 1)]),
    Case("mutex100", 3000000, "mutex, 100 fibers", None, [("mutex100", 1)]),
    Case("timers", 1000000, "timer start and stop", {1: 0.8}),
    Case("sleep_storm", 250000, "50,000 sleep 1 ms", {1: 0.8}),
    Case("skynet", 1000000, "skynet, 1,000,000 leaves", {2: 0.5}),
]
STACKS = (("65536", 4700), ("262144", 5100))  # FIB_STACK, bytes per parked fiber at most
PREEMPT_US_MAX = 4


def build_go():
    if not pairs.program_exists("go"):
        return None
    env = dict(os.environ, GOFLAGS="-mod=mod", GOTOOLCHAIN="local", GOPROXY="off")
    subprocess.run(["go", "build", "-o", GO, "."], env=env, check=True,
                   cwd=os.path.join(SOURCE, "bench", "runtime", "go"))
    return subprocess.run(["go", "version"], env=env, check=True, capture_output=True,
                          text=True).stdout.split()[2]


def run(argv, procs, env=None, cpus=None):
    """One run: the numbers that it printed."""
    full = dict(os.environ, FIB_MAXPROCS=str(procs), GOMAXPROCS=str(procs), **(env or {}))
    done = subprocess.run([str(a) for a in argv], env=full, capture_output=True, text=True,
                          timeout=120, check=False,
                          preexec_fn=lambda: os.sched_setaffinity(0, cpus or CPUS))
    if done.returncode:
        sys.exit(f"{' '.join(map(str, argv))}, {procs} Ps: status {done.returncode}\n"
                 f"{done.stdout[-500:]}{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def run_case(case, procs, turn, with_go):
    """One round of a case: each peer once, in an order that alternates."""
    peers = [("fib", [FIB, case.name, case.ops], None)]
    if with_go:
        peers.append(("go", [GO, case.name, case.ops], None))
    # One P is, for threads, one CPU.
    cpus = CPUS[:1] if procs == 1 else None
    peers += [(name, [THREADS, name, case.ops // divisor], cpus) for name, divisor in case.threads]
    for peer, argv, where in peers if turn % 2 else reversed(peers):
        case.runs.setdefault((peer, procs), []).append(run(argv, procs, cpus=where))


def per_op(runs, key):
    return [r[key] / r["ops"] for r in runs]


def spread(values, digits=1):
    return (f"{statistics.median(values):.{digits}f} "
            f"({min(values):.{digits}f}..{max(values):.{digits}f})")


def ratios(case, procs, key):
    ours, theirs = (case.runs[peer, procs] for peer in ("fib", "go"))
    return [a / b for a, b in zip(per_op(ours, key), per_op(theirs, key))]


def row(case, procs, with_go):
    fib = case.runs["fib", procs]
    text = f"{case.what:<27} {procs}  {spread(per_op(fib, 'wall_ns')):<26}"
    text += f"{statistics.median(per_op(fib, 'cpu_ns')):8.1f}  "
    if with_go:
        go = case.runs["go", procs]
        wall, cpu = ratios(case, procs, "wall_ns"), ratios(case, procs, "cpu_ns")
        text += f"{spread(per_op(go, 'wall_ns')):<26}{statistics.median(per_op(go, 'cpu_ns')):8.1f}"
        text += f"  {spread(wall, 2):<18}  {spread(cpu, 2):<18}"
        target = case.targets.get(procs)
        if target:
            reached = [statistics.median(r) <= target for r in (wall, cpu)]
            verdict = {2: "reached", 1: "at its edge", 0: "NOT REACHED"}[sum(reached)]
            text += f"  {target}: {verdict}"
    return text


def print_wakes(cases):
    print("\nThreads woken, and times that a thread blocked, per operation:")
    for case in cases:
        for procs in (1, 2):
            runs = case.runs["fib", procs]
            wakes = statistics.median(per_op(runs, "wakes")) if "wakes" in runs[0] else None
            text = f"{case.what:<27} {procs}  "
            text += "wakes not counted" if wakes is None else f"{wakes:.5f} woken"
            text += f"  {statistics.median(per_op(runs, 'voluntary')):.5f} blocked"
            if case.wakes and wakes is not None:
                verdict = "reached" if wakes <= case.wakes else "NOT REACHED"
                text += f"  at most {case.wakes}: {verdict}"
            print(text)


def print_threads(cases):
    print("\nThreads, ns per operation (wall, median and spread), and fibers to threads:")
    for case in cases:
        for name, _ in case.threads:
            for procs in (1, 2):
                runs = case.runs[name, procs]
                fib = per_op(case.runs["fib", procs], "wall_ns")
                ratio = [a / b for a, b in zip(fib, per_op(runs, "wall_ns"))]
                print(f"{name:<27} {procs}  {spread(per_op(runs, 'wall_ns')):<30}"
                      f"{spread(ratio, 3)}")


def run_rounds(cases, rounds, with_go):
    """All rounds; ended early (Ctrl-C, SIGTERM) those that were complete."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    done = 0
    try:
        for i in range(rounds):
            for case in cases:
                for procs in (1, 2):
                    pairs.progress(f"round {i + 1} of {rounds}: {case.name}, {procs} P")
                    run_case(case, procs, i, with_go)
            done += 1
    except KeyboardInterrupt:
        if not done:
            raise
    for case in cases:
        case.runs = {peer: runs[:done] for peer, runs in case.runs.items()}
    pairs.progress("")
    if done < rounds:
        print(f"ended after {done} rounds")


def compare(cases, rounds, with_go):
    run_rounds(cases, rounds, with_go)
    print(f"{'ns per operation':<27} P  {'fibers: wall':<26}{'CPU':>8}  "
          + (f"{'Go: wall':<26}{'CPU':>8}  {'ratio of wall':<18}  {'ratio of CPU':<18}  target"
             if with_go else ""))
    for case in cases:
        for procs in (1, 2):
            print(row(case, procs, with_go))
    if any(case.threads for case in cases):
        print_threads(cases)
    print_wakes(cases)


def memory(rounds, with_go):
    """What a parked fiber takes. The kernel's count hardly varies: two rounds say so."""
    print("\nBytes per parked fiber, 100,000 of them (VmRSS + VmPTE):")
    for stack, target in STACKS:
        taken = [run([FIB, "parked", 100000], 1, {"FIB_STACK": stack})["bytes"]
                 for _ in range(min(rounds, 2))]
        verdict = "reached" if max(taken) <= target else "NOT REACHED"
        print(f"stacks of {int(stack) // 1024} KiB: {spread(taken, 0)}, at most {target}: {verdict}")
    if with_go:
        print(f"Go: {run([GO, 'parked', 100000], 1)['bytes']:.0f}")


def million(_, with_go):
    print("\n1,000,000 alive at once, each waiting on a channel, one P:")
    runs = [(f"fibers, stacks of {int(stack) // 1024} KiB", FIB, stack) for stack, _ in STACKS]
    for name, program, stack in runs + ([("Go", GO, "0")] if with_go else []):
        r = run([program, "parked", 1000000], 1, {"FIB_STACK": stack})
        print(f"{name}: {r['bytes']:.0f} bytes each, {r['park_ns'] / 1e9:.2f} s until all wait, "
              f"{r['end_ns'] / 1e9:.2f} s until all have ended")


def preempt(rounds, _):
    """All threads on one CPU. The first is CPU time without the timer; its floor is a signal and two switches between
    threads. The second is wall time as fibers see it, with sysmon's timer and all that the machine does."""
    print("\nOne forced preemption with its return, us, all threads on one CPU:")
    cpu = CPUS[-1:]
    runs = [run([PREEMPT, 20000], 1, cpus=cpu) for _ in range(rounds)]
    us = {key: [r[key + "_ns"] / 1e3 for r in runs] for key in ("preempt", "signal", "futex")}
    # A signal, and one switch of threads, of which a round trip has two.
    floor = [a + b / 2 for a, b in zip(us["signal"], us["futex"])]
    reached = statistics.median(us["preempt"]) <= PREEMPT_US_MAX
    print(f"CPU time: {spread(us['preempt'], 2)}, at most {PREEMPT_US_MAX}: "
          f"{'reached' if reached else 'NOT REACHED'}")
    print(f"floor here: signal {spread(us['signal'], 2)} and futex round trip "
          f"{spread(us['futex'], 2)}; ratio to a signal and one way "
          f"{spread([a / b for a, b in zip(us['preempt'], floor)], 2)}")
    runs = [run([FIB, "preempt", 100], 1, cpus=cpu) for _ in range(rounds)]
    for r in runs:
        if r["preempted"] < 90:
            sys.exit(f"{r['preempted']} of 100 turns ended by force: these gaps are not preemptions")
    print("wall time between two fibers' turns of 10 ms: median of 100 "
          f"{spread([r['median_ns'] / 1e3 for r in runs])}; fastest tenth "
          f"{spread([r['tenth_ns'] / 1e3 for r in runs])}")


def pages(rounds, _):
    runs = [run([FIB, "pages", 1000000], 1) for _ in range(rounds)]
    print("\nFloor of spawning 1,000,000 cold, the kernel's work for fresh pages: "
          f"{spread(per_op(runs, 'cpu_ns'))} ns of CPU for the 112 bytes of one")


SINGLE = {"pages": pages, "parked": memory, "million": million, "preempt": preempt}


def main():
    args = sys.argv[1:]
    rounds = int(args.pop(0)) if args and args[0].isdigit() else 5
    known = [c.name for c in CASES] + list(SINGLE)
    for name in args:
        if name not in known:
            sys.exit(f"runtime: no case '{name}'; there are: {' '.join(known)}")
    go = build_go()
    print(f"Go: {go or 'not found, so there are no ratios'}; {len(CPUS)} CPUs, {rounds} rounds; "
          "median (least..most)")
    cases = [c for c in CASES if not args or c.name in args]
    if cases:
        compare(cases, rounds, bool(go))
    for name, fn in SINGLE.items():
        if not args or name in args:
            pairs.progress(name)
            fn(rounds, bool(go))


if __name__ == "__main__":
    main()
