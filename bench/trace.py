#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What an execution trace costs: fibers beside Go, an event beside its floor, a server's requests.

Usage: trace.py [ROUNDS] [PART ...]; parts: operations off event bytes shorten shorten_within; seven rounds, all parts. Each
comparison is within a round, whose order alternates; CPU time, of which the host takes no part. Fibers are
traced by the flight recorder, so that nobody has to take anything away; Go's trace goes to io.Discard, which
is the least that it can be had for, and to Go's own flight recorder."""

import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(__file__))
import pairs  # noqa: E402
import runtime  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
AGENT = f"{BUILD}/agent/libfiberscope.so"
CASES = (("yield", 1000000), ("pingpong", 200000), ("spawn_sequential", 200000),
         ("select", 100000))
TO_GO = 0.5         # what it adds, to what it adds to Go
PINGPONG = 2.2      # traced to untraced
EVENT = {2: 3, 16: 7}  # frames: to the floor
OFF = 1.01
OFF_OPS = 10000  # under valgrind: that many, and twice
SHORTEN = 1.02


def traced(out, how="flight=1"):
    return {"LD_PRELOAD": AGENT, "FIBERSCOPE": f"{how},quiet=1,out={out}"}


def verdict(value, bound):
    return f"at most {bound}: {'reached' if value <= bound else 'NOT REACHED'}"


def cpu(argv, env=None):
    r = runtime.run(argv, 1, env)
    return r["cpu_ns"] / r["ops"]


def by_turns(i, peers):
    """Runs each, in an order that alternates with i; results by name."""
    order = peers if i % 2 else list(reversed(peers))
    return {name: cpu(argv, env) for name, argv, env in order}


def operations(rounds, tmp, go):
    runs = {name: [] for name, _ in CASES}
    for i in range(rounds):
        for name, ops in CASES:
            pairs.progress(f"round {i + 1} of {rounds}: {name}")
            fib, other = [runtime.FIB, name, ops], [runtime.GO, name, ops]
            peers = [("fib", fib, None), ("fib traced", fib, traced(f"{tmp}/o"))]
            if go:
                peers += [("go", other, None), ("go traced", other, {"BENCH_TRACE": "discard"}),
                          ("go flight", other, {"BENCH_TRACE": "flight"})]
            runs[name].append(by_turns(i, peers))
    pairs.progress("")
    print("ns of CPU per operation, one P; what tracing adds, median (least..most)")
    for name, _ in CASES:
        print_operation(name, runs[name], go)


def print_operation(name, rs, go):
    def added(peer, how="traced"):
        return [r[f"{peer} {how}"] - r[peer] for r in rs]

    def plain(peer):
        return statistics.median(r[peer] for r in rs)
    fib = added("fib")
    text = f"{name:<17} fibers {plain('fib'):6.1f} + {runtime.spread(fib)}"
    if go:
        theirs, flight = added("go"), added("go", "flight")
        ratio = statistics.median(fib) / statistics.median(theirs)
        text += (f"; Go {plain('go'):6.1f} + {runtime.spread(theirs)}, flight {runtime.spread(flight)}"
                 f"; ratio {ratio:.2f}, to its flight recorder "
                 f"{statistics.median(fib) / statistics.median(flight):.2f}; {verdict(ratio, TO_GO)}")
    print(text)
    if name == "pingpong":
        times = [r["fib traced"] / r["fib"] for r in rs]
        print(f"{'':<17} traced to untraced {runtime.spread(times, 2)}; "
              f"{verdict(statistics.median(times), PINGPONG)}")


def instructions(name, env):
    """That an operation executes, of those that valgrind counts; what a process begins and ends with left out."""
    def count(ops):
        done = subprocess.run(["valgrind", "--tool=cachegrind", "--cache-sim=no",
                               "--cachegrind-out-file=/dev/null", runtime.FIB, name, str(ops)],
                              env=dict(os.environ, FIB_MAXPROCS="1", **(env or {})), check=True,
                              capture_output=True, text=True, timeout=120)
        return int(re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)[1].replace(",", ""))
    return (count(2 * OFF_OPS) - count(OFF_OPS)) / OFF_OPS


def off(rounds, _tmp, _go):
    """Compiled in and off: against a runtime that was built without. The machine's noise is many times what is looked
    for: so the instructions as well, which have none."""
    subprocess.run(["cmake", "--build", BUILD, "--target", "trace_off"], check=True,
                   stdout=subprocess.DEVNULL)
    without = {"LD_LIBRARY_PATH": f"{BUILD}/bench/trace_off"}
    if pairs.program_exists("valgrind"):
        print("\ncompiled in and off: instructions per operation, to a runtime without")
        for name, _ in CASES:
            ours, theirs = instructions(name, None), instructions(name, without)
            print(f"{name:<17} {ours:.1f} to {theirs:.1f}: {ours / theirs:.4f}; "
                  f"{verdict(ours / theirs, OFF)}")
    ratios = {name: pairs.Ratios() for name, _ in CASES}
    for i in range(8 * rounds):
        for name, ops in CASES:
            pairs.progress(f"off, round {i + 1} of {8 * rounds}: {name}")
            argv = [runtime.FIB, name, ops // 2]
            r = by_turns(i, [("with", argv, None), ("without", argv, without)])
            ratios[name].add(r["with"] / r["without"])
    pairs.progress("")
    print("\nthe same, CPU time\n" + pairs.HEADER)
    for name, _ in CASES:
        print(ratios[name].row(name, OFF))


def event(rounds, tmp, _go):
    print("\nan event with its stack, to reading the TSC and storing 32 bytes")
    for frames, bound in EVENT.items():
        rs = []
        for i in range(rounds):
            pairs.progress(f"event, {frames} frames, round {i + 1} of {rounds}")
            env = dict(os.environ, FIB_MAXPROCS="1",
                       FIBERSCOPE=f"flight=1,quiet=1,out={tmp}/e")
            done = subprocess.run([f"{BUILD}/bench/trace_event", str(frames)], env=env, check=True,
                                  capture_output=True, text=True, timeout=60)
            rs.append(json.loads(done.stdout))
        pairs.progress("")
        ratios = [r["event_ns"] / r["floor_ns"] for r in rs]
        print(f"{frames:2} frames: {runtime.spread([r['event_ns'] for r in rs])} ns, floor "
              f"{runtime.spread([r['floor_ns'] for r in rs])}; ratio {runtime.spread(ratios, 2)}; "
              f"{verdict(statistics.median(ratios), bound)}")


def size_per_event(path):
    """Of a trace file, by Go's parser: bytes, events."""
    done = subprocess.run(["go", "tool", "trace", "-d=parsed", path], check=True, timeout=120,
                          capture_output=True, text=True)
    events = sum(1 for line in done.stdout.splitlines() if line.startswith("M="))
    return os.path.getsize(path), events


def bytes_per_event(_rounds, tmp, go):
    print("\nbytes per event, of whole files, as Go's parser counts events")
    if not go:
        print("no go on the PATH")
        return
    for name, ops in (("yield", 50000), ("pingpong", 20000), ("spawn_sequential", 20000),
                      ("select", 20000)):
        ours, theirs = f"{tmp}/{name}.fib.trace", f"{tmp}/{name}.go.trace"
        subprocess.run([f"{BUILD}/cli/fiberscope", "record", "--trace", "-o", ours, "--",
                        runtime.FIB, name, str(ops)], check=True, capture_output=True, timeout=60,
                       env=dict(os.environ, FIB_MAXPROCS="1"))
        runtime.run([runtime.GO, name, ops], 1, {"BENCH_TRACE": theirs})
        (size, events), (go_size, go_events) = size_per_event(ours), size_per_event(theirs)
        a, b = size / events, go_size / go_events
        print(f"{name:<17} {a:.2f} ({events} events), Go {b:.2f} ({go_events}); ratio {a / b:.2f}; "
              f"{verdict(a / b, 1)}")


def await_text(said, pattern, server):
    """The match of that in what the server says, once it does."""
    for _ in range(500):
        said.seek(0)
        found = re.search(pattern, said.read())
        if found or server.poll() is not None:
            break
        time.sleep(0.01)
    return found or sys.exit("shorten does not answer")


@contextlib.contextmanager
def server_of(tmp, env):
    """A server: the process, its port, what it says."""
    with open(f"{tmp}/said", "w+") as said:
        server = subprocess.Popen([f"{BUILD}/examples/shorten", "-p", "0", "-d", f"{tmp}/links.db"],
                                  env=dict(os.environ, FIB_MAXPROCS="1", **env), stdout=said,
                                  stderr=said)
        try:
            yield server, await_text(said, r":(\d+)\b", server)[1], said
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
    for leftover in os.listdir(tmp):
        if leftover.startswith("links.db"):
            os.unlink(f"{tmp}/{leftover}")


def cpu_us(server):
    return time.clock_gettime_ns(~server.pid << 3 | 2) / 1000  # of that process, all threads


def load(port, requests):
    subprocess.run([f"{BUILD}/examples/shorten_load", "-p", port, "-n", str(requests)], check=True,
                   stdout=subprocess.DEVNULL, timeout=60)


def serve(tmp, env):
    """CPU us per request of one run of the server, with its start."""
    with server_of(tmp, env) as (server, port, _):
        load(port, 20000)
        return cpu_us(server) / 20000


def shorten(rounds, tmp, _go):
    """20 pairs of runs at least."""
    ratios, plain = pairs.Ratios(), []
    for i in range(max(20, rounds)):
        pairs.progress(f"shorten, pair {i + 1}")
        modes = (({}, "plain"), (traced(f"{tmp}/s"), "traced"))
        r = {what: serve(tmp, env) for env, what in (modes if i % 2 else reversed(modes))}
        ratios.add(r["traced"] / r["plain"])
        plain.append(r["plain"])
    pairs.progress("")
    print(f"\nshorten, 20,000 requests of 64 connections, {runtime.spread(plain)} us of CPU each")
    print(pairs.HEADER + "\n" + ratios.row("traced", SHORTEN))


def shorten_within(rounds, tmp, _go):
    """One process with the agent, in which tracing goes on and off by turns: 20 pairs for each round. What is left out is
    what comes once: the agent's start, and the first touch of the room."""
    env = {"LD_PRELOAD": f"{AGENT} {BUILD}/bench/trace_switch.so",
           "FIBERSCOPE": f"cpu=0,quiet=1,out={tmp}/s"}
    ratios, plain, n = pairs.Ratios(), [], 5000
    with server_of(tmp, env) as (server, port, said):
        load(port, n)
        for i in range(20 * rounds):
            pairs.progress(f"shorten, pair {i + 1}")
            us = {}
            for is_on in (i % 2 == 0, i % 2 != 0):
                if is_on:
                    server.send_signal(signal.SIGUSR1)
                    await_text(said, rf"trace on, {i + 1}\n", server)
                before = cpu_us(server)
                load(port, n)
                us[is_on] = (cpu_us(server) - before) / n
                if is_on:
                    server.send_signal(signal.SIGUSR1)
                    await_text(said, rf"trace off, {i + 1}\n", server)
            ratios.add(us[True] / us[False])
            plain.append(us[False])
    pairs.progress("")
    print(f"\nshorten, one process, {n} requests of 64 connections, {runtime.spread(plain)} us of CPU each")
    print(pairs.HEADER + "\n" + ratios.row("traced", SHORTEN))


PARTS = {"operations": operations, "off": off, "event": event, "bytes": bytes_per_event,
         "shorten": shorten, "shorten_within": shorten_within}


def main():
    args = sys.argv[1:]
    rounds = int(args.pop(0)) if args and args[0].isdigit() else 7
    for name in args:
        if name not in PARTS:
            sys.exit(f"trace: no part '{name}'; there are: {' '.join(PARTS)}")
    go = runtime.build_go()
    print(f"Go: {go or 'not found, so there are no ratios'}; {rounds} rounds")
    with tempfile.TemporaryDirectory() as tmp:
        for name, part in PARTS.items():
            if not args or name in args:
                part(rounds, tmp, go)


if __name__ == "__main__":
    main()
