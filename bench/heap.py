#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a heap profile costs: CPU seconds of the load with it against the same allocator without,
interleaved, beside jemalloc's and gperftools' sampling and heaptrack.
Usage: heap.py [--descent=N] [ROUNDS [PAIRS [PART OF A NAME]...]]
N: pairs at the end of each descent (32); 1: each pair has a stack of its own, and the load's calls are most
of the plain run."""

import os
import statistics
import sys
import tempfile

sys.path.insert(0, os.path.dirname(__file__))
import pairs  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
AGENT = f"{BUILD}/agent/libfiberscope.so"
LIBS = "/usr/lib/x86_64-linux-gnu"
JEMALLOC, TCMALLOC = f"{LIBS}/libjemalloc.so.2", f"{LIBS}/libtcmalloc.so.4"


def agent(settings):
    return {"LD_PRELOAD": AGENT, "FIBERSCOPE": f"{settings},quiet=1,out=%e.%p.fscope"}


def configurations():
    """(name, argv prefix, environment, environment of its plain run, bound or None, rounds divisor)"""
    yield "preloaded, idle", [], {"LD_PRELOAD": AGENT}, {}, None, 1
    yield "sampled, 512 KiB", [], agent("heap=524288"), {}, 1.05, 1
    yield "exact", [], agent("heap=exact"), {}, 3.0, 2
    if os.path.exists(JEMALLOC):
        plain = {"LD_PRELOAD": JEMALLOC}
        yield ("jemalloc, lg_prof_sample:19", [], dict(plain, MALLOC_CONF="prof:true,lg_prof_sample:19"),
               plain, None, 2)
    if os.path.exists(TCMALLOC):
        plain = {"LD_PRELOAD": TCMALLOC}
        yield ("gperftools, SAMPLE_PARAMETER=524288", [],
               dict(plain, TCMALLOC_SAMPLE_PARAMETER="524288"), plain, None, 2)
    if pairs.program_exists("heaptrack"):
        yield "heaptrack --raw", ["heaptrack", "--raw", "-o", "h"], {}, {}, None, 100


def main():
    args, descent = sys.argv[1:], "32"
    if args and args[0].startswith("--descent="):
        descent = args.pop(0).split("=")[1]
    rounds = int(args[0]) if args else 10
    load = [f"{BUILD}/bench/heap_load", args[1] if len(args) > 1 else "20000000", "2", descent]
    wanted = args[2:] or [""]
    table = [(c, pairs.Ratios()) for c in configurations() if any(w in c[0] for w in wanted)]
    plain_s, plain_ns = 0, []
    for i in range(rounds):
        for (name, argv, env, plain_env, _, divisor), ratios in table:
            if i % divisor:
                continue
            pairs.progress(f"round {i + 1} of {rounds}: {name}")
            with tempfile.TemporaryDirectory() as tmp:
                # The order alternates, so a steady drift does not favour one side.
                if i % 2:
                    plain_s, _ = pairs.cpu_seconds(load, plain_env, tmp)
                with_s, _ = pairs.cpu_seconds(argv + load, env, tmp)
                if i % 2 == 0:
                    plain_s, _ = pairs.cpu_seconds(load, plain_env, tmp)
            ratios.add(with_s / plain_s)
            if not plain_env:
                plain_ns.append(plain_s / int(load[1]) * 1e9)
    pairs.progress("")
    print(f"load: 2 threads, 34 frames, 512 paths, {load[1]} pairs of malloc and free up to 48 KiB, {descent} a descent")
    if plain_ns:
        print(f"plain: {statistics.median(plain_ns):.1f} ns of CPU a pair ({min(plain_ns):.1f}..{max(plain_ns):.1f})")
    print(pairs.HEADER)
    for (name, _, _, _, bound, _), ratios in table:
        print(ratios.row(name, bound))


main()
