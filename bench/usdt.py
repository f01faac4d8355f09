#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What USDT sites cost: compiled in and off, beside a runtime without (instructions and CPU time); and with a tracer
attached, sites of five bytes beside sites of one. And the agent's heap and locks, its sites compiled in and off, beside one without
(with somebody attached: probes.py).

Usage: usdt.py [ROUNDS] [PART ...]; parts: off attached agent; seven rounds, all parts. Each comparison is within a round, whose order
alternates. `attached` needs root."""

import os
import re
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
import pairs  # noqa: E402
import runtime  # noqa: E402
import trace  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
CASES = (("yield", 1000000), ("pingpong", 200000), ("spawn_sequential", 200000))
OFF = 1.01
ATTACH = f"{BUILD}/bench/usdt_attach"
OURS = f"{BUILD}/runtime"
# What an operation of the case fires of it.
PROBE, CASE, OPS = "yield", "yield", 200000


def library(name):
    """The folder of a runtime that was built in another way."""
    subprocess.run(["cmake", "--build", BUILD, "--target", name], check=True, stdout=subprocess.DEVNULL)
    return f"{BUILD}/bench/{name}"


def with_library(folder):
    return {"LD_LIBRARY_PATH": folder}


def off(rounds):
    """The machine's noise is many times what is looked for: so the instructions as well, which have none."""
    without = with_library(library("usdt_off"))
    if pairs.program_exists("valgrind"):
        print("compiled in and off: instructions per operation, to a runtime without")
        for name, _ in CASES:
            ours, theirs = trace.instructions(name, None), trace.instructions(name, without)
            print(f"{name:<17} {ours:.1f} to {theirs:.1f}: {ours / theirs:.4f}")
    ratios = {name: pairs.Ratios() for name, _ in CASES}
    for i in range(4 * rounds):
        for name, ops in CASES:
            pairs.progress(f"off, round {i + 1} of {4 * rounds}: {name}")
            argv = [runtime.FIB, name, ops // 2]
            r = trace.by_turns(i, [("with", argv, None), ("without", argv, without)])
            ratios[name].add(r["with"] / r["without"])
    pairs.progress("")
    print("\nthe same, CPU time\n" + pairs.HEADER)
    for name, _ in CASES:
        print(ratios[name].row(name, OFF))


def attached_cpu(folder):
    """CPU ns per operation while a BPF program counts the probe's hits, and how many of these there were."""
    argv = [ATTACH, os.path.realpath(f"{folder}/libfiberscope-rt.so.0"), PROBE]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        if p.stdout.readline() != "attached\n":
            sys.exit("usdt.py: the probe could not be attached: it takes root")
        ns = trace.cpu([runtime.FIB, CASE, OPS], with_library(folder))
        out, _ = p.communicate("")
    return ns, int(out) / OPS


def attached(rounds):
    folders = {"nop5": OURS, "nop1": library("usdt_nop1")}
    costs = {name: [] for name in folders}
    hits = {}
    for i in range(rounds):
        for name in sorted(folders, reverse=i % 2 == 1):
            pairs.progress(f"attached, round {i + 1} of {rounds}: {name}")
            plain = trace.cpu([runtime.FIB, CASE, OPS], with_library(folders[name]))
            ns, hits[name] = attached_cpu(folders[name])
            costs[name].append(ns - plain)
    pairs.progress("")
    print(f"\na BPF program at `{PROBE}` that reads an argument and counts: ns of CPU time that it adds to an operation")
    for name, values in costs.items():
        print(f"{name}: {runtime.spread(values)}, {hits[name]:.3f} hits per operation")
    ratios = [a / b for a, b in zip(costs["nop5"], costs["nop1"])]
    print(f"ratio {runtime.spread(ratios, 2)}; median of {len(ratios)}: {statistics.median(ratios):.2f}")


# --- The agent's.

AGENT_CASES = (("sampled heap: malloc and free", "malloc", 400000, "heap=524288"),
               ("exact heap: malloc and free", "malloc", 400000, "heap=exact"),
               ("block and mutex: lock and unlock", "free", 400000, "block=1,mutex=1"),
               ("block and mutex: a wait and a wake", "held", 4000, "block=1,mutex=1"))


def agent_run(agent, load, count, settings, prefix=()):
    """What probe_load says, and what the prefix does, of a run with that agent."""
    env = dict(os.environ, LD_PRELOAD=agent, LD_LIBRARY_PATH=f"{BUILD}/agent", FIBERSCOPE=f"{settings},quiet=1,out=/dev/null")
    done = subprocess.run([*prefix, f"{BUILD}/bench/probe_load", load, str(count)], input="go\ngo\n", env=env, check=True,
                          capture_output=True, text=True, timeout=120)
    return float(done.stdout.splitlines()[2].split()[0]), done.stderr


def agent_instructions(agent, load, count, settings):
    valgrind = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    few, many = (int(re.search(r"I\s+refs:\s+([\d,]+)", agent_run(agent, load, n, settings, valgrind)[1])[1].replace(",", ""))
                 for n in (count // 8, count // 4))
    return (many - few) / 2 / (count // 4 - count // 8)


def agent(rounds):
    agents = {"with": f"{BUILD}/agent/libfiberscope.so", "without": library("agent_usdt_off") + "/libfiberscope.so"}
    for what, load, count, settings in AGENT_CASES:
        if pairs.program_exists("valgrind"):
            ours, theirs = (agent_instructions(agents[name], load, count, settings) for name in ("with", "without"))
            print(f"\nagent, {what}: instructions {ours:.1f} to {theirs:.1f} of an agent without sites: {ours / theirs:.4f}")
        found = {name: [] for name in agents}
        for i in range(2 * rounds):
            for name in sorted(agents, reverse=i % 2 == 1):
                found[name].append(agent_run(agents[name], load, count * 4, settings)[0])
        ratios = [a / b for a, b in zip(found["with"], found["without"])]
        print(f"agent, {what}: {runtime.spread(found['with'])} ns to {runtime.spread(found['without'])}: {runtime.spread(ratios, 2)}")


def main():
    args = sys.argv[1:]
    rounds = int(args.pop(0)) if args and args[0].isdigit() else 7
    for part in (off, attached, agent):
        if not args or part.__name__ in args:
            part(rounds)


if __name__ == "__main__":
    main()
