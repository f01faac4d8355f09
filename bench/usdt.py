#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What USDT sites cost: compiled in and off, beside a runtime without (instructions and CPU time); and with a tracer
attached, sites of five bytes beside sites of one.

Usage: usdt.py [ROUNDS] [PART ...]; parts: off attached; seven rounds, both parts. Each comparison is within a round, whose order
alternates. `attached` needs root."""

import os
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


def main():
    args = sys.argv[1:]
    rounds = int(args.pop(0)) if args and args[0].isdigit() else 7
    for part in (off, attached):
        if not args or part.__name__ in args:
            part(rounds)


if __name__ == "__main__":
    main()
