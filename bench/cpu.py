#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a CPU profile costs: CPU seconds of target plus collector against no profiler, beside perf and
gperftools, interleaved. Usage: cpu.py [PAIRS [THREADS]]. On a busy machine: nice -n -20 ./dev bench cpu 20 1"""

import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(__file__))
import pairs  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
PROFILER = next((p for p in ("/usr/lib/x86_64-linux-gnu/libprofiler.so.0",
                             "/usr/lib/libprofiler.so.0") if os.path.exists(p)), None)


def configurations():
    """(name, argv prefix, environment, bound on the ratio or None, rounds divisor)"""
    record = [f"{BUILD}/cli/fiberscope", "record"]
    yield "fiberscope record -F 99", record + ["-F", "99", "-o", "f.pb.gz"], {}, 1.03, 1
    yield "fiberscope record -F 999", record + ["-F", "999", "-o", "f.pb.gz"], {}, 1.05, 1
    if pairs.program_exists("perf"):
        yield ("perf record -F 999 -g",
               ["perf", "record", "-q", "-F", "999", "-g", "-o", "perf.data", "--"], {}, None, 4)
    if PROFILER:
        yield ("gperftools, 1000 Hz asked (HZ cap)", [],
               {"LD_PRELOAD": PROFILER, "CPUPROFILE": "g.prof", "CPUPROFILE_FREQUENCY": "1000"},
               None, 4)


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    threads = sys.argv[2] if len(sys.argv) > 2 else "2"
    load = [f"{BUILD}/bench/cpu_load", "1500", threads]
    table = [(c, pairs.Ratios()) for c in configurations()]
    with tempfile.TemporaryDirectory() as tmp:
        plain_s, _ = pairs.cpu_seconds(load, cwd=tmp)
        for i in range(count):
            for (name, argv, env, _, divisor), ratios in table:
                if i % divisor:
                    continue
                pairs.progress(f"pair {i + 1} of {count}: {name}")
                # The order alternates, so a steady drift does not favour one side.
                if i % 2:
                    plain_s, _ = pairs.cpu_seconds(load, cwd=tmp)
                    with_s, _ = pairs.cpu_seconds(argv + load, env, tmp)
                else:
                    with_s, _ = pairs.cpu_seconds(argv + load, env, tmp)
                    plain_s, _ = pairs.cpu_seconds(load, cwd=tmp)
                ratios.add(with_s / plain_s)
    pairs.progress("")
    print(f"load: {threads} threads, 34 frames, 512 paths, {plain_s:.2f} CPU s")
    print(pairs.HEADER)
    for (name, _, _, bound, _), ratios in table:
        print(ratios.row(name, bound))


if __name__ == "__main__":
    main()
