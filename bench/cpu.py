#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a CPU profile costs: CPU seconds of target plus collector against no profiler, interleaved.

Beside each rate stands the kernel's floor: the same load under the same perf event and signal with a
handler that only counts. What Fiberscope adds is the quotient of the two, pair by pair.

Usage: cpu.py [PAIRS [THREADS [parts]]]. With "parts" one rate, 999 Hz, is taken to pieces instead.
On a busy machine: nice -n -20 ./dev bench cpu 20 1"""

import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(__file__))
import pairs  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
PROFILER = next((p for p in ("/usr/lib/x86_64-linux-gnu/libprofiler.so.0",
                             "/usr/lib/libprofiler.so.0") if os.path.exists(p)), None)
ROUNDS = "1500"  # some 3 CPU seconds
PEERS_EVERY = 4  # rounds; they have no bound to keep


class Run:
    """One way to run the load: what comes before it, what behind it, in which environment."""

    def __init__(self, name, before=(), behind=(), env=None):
        self.name, self.before, self.behind, self.env = name, list(before), list(behind), env

    def cpu_s(self, load, tmp):
        return pairs.cpu_seconds(self.before + load + self.behind, self.env, tmp)[0]


def record(hz, *options):
    return Run(f"fiberscope record -F {hz}",
               [f"{BUILD}/cli/fiberscope", "record", "-F", hz, "-o", "f.pb.gz", *options])


def floor(what, hz):
    return Run(f"{what}, {hz} Hz", behind=[f"{what}:{hz}"])


PLAIN = Run("plain")


def groups():
    """(runs of one round, [(name, numerator, denominator, bound)], every how many rounds)"""
    for hz, bound in (("99", 1.03), ("999", 1.05)):
        ours, least = record(hz), floor("empty", hz)
        yield [PLAIN, ours, least], [(ours.name, ours, PLAIN, bound),
                                     (f"  floor: empty handler, {hz} Hz", least, PLAIN, None),
                                     ("  fiberscope against that floor", ours, least, None)], 1
    peers = []
    if pairs.program_exists("perf"):
        peers.append(Run("perf record -F 999 -g",
                         ["perf", "record", "-q", "-F", "999", "-g", "-o", "perf.data", "--"]))
    if PROFILER:
        peers.append(Run("gperftools, 1000 Hz asked (HZ cap)", env={
            "LD_PRELOAD": PROFILER, "CPUPROFILE": "g.prof", "CPUPROFILE_FREQUENCY": "1000"}))
    if peers:
        yield [PLAIN] + peers, [(p.name, p, PLAIN, None) for p in peers], PEERS_EVERY


def parts():
    """As groups: from the timer interrupt to the whole, at one rate."""
    runs = [floor(what, "999") for what in ("timer", "trap", "empty", "clock", "walk", "tick")]
    runs += [record("999", "--no-symbols"), record("999")]
    runs[-2].name += " --no-symbols"
    yield [PLAIN] + runs, [(r.name, r, PLAIN, None) for r in runs], 1


def measure(table, count, load, tmp):
    """Fills the ratios of the table's rows; the plain run's mean CPU seconds."""
    plain = []
    for i in range(count):
        for runs, rows, every in table:
            if i % every:
                continue
            # Another one begins each time, so neither a drift nor a neighbour favours one.
            shift = i // every % len(runs)
            seconds = {}
            for run in runs[shift:] + runs[:shift]:
                pairs.progress(f"round {i + 1} of {count}: {run.name}")
                seconds[run] = run.cpu_s(load, tmp)
            plain.append(seconds[PLAIN])
            for (_, above, below, _), ratios in rows:
                ratios.add(seconds[above] / seconds[below])
    return sum(plain) / len(plain)


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    threads = sys.argv[2] if len(sys.argv) > 2 else "2"
    is_parts = sys.argv[3:] == ["parts"]
    load = [f"{BUILD}/bench/cpu_load", ROUNDS, threads]
    table = [(runs, [(row, pairs.Ratios()) for row in rows], every)
             for runs, rows, every in (parts() if is_parts else groups())]
    with tempfile.TemporaryDirectory() as tmp:
        PLAIN.cpu_s(load, tmp)  # brings the files in
        plain_s = measure(table, count, load, tmp)
    pairs.progress("")
    print(f"load: {threads} threads, 34 frames, 512 paths, {plain_s:.2f} CPU s")
    print(pairs.HEADER)
    for _, rows, _ in table:
        for (name, _, _, bound), ratios in rows:
            print(ratios.row(name, bound))


if __name__ == "__main__":
    main()
