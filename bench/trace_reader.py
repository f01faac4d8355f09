# SPDX-License-Identifier: MIT
"""Reading an execution trace against Go's own reader (internal/trace): CPU seconds on one processor.

A Go program (tests/conformance/trace_programs.go: goroutines that pass values, yield, lock and spawn
on four Ps) records a trace of more than MILLION_EVENTS; both read it alternately, each pinned
to one processor, Go with GOMAXPROCS=1. After every five pairs another trace is recorded: how often the
order goes from one thread to another differs from one to the next, and that costs our reader more than
Go's. Usage: trace_reader.py [PAIRS [MILLION_EVENTS]]
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "../tests/conformance"))
sys.dont_write_bytecode = True
import pairs  # noqa: E402
import trace_go  # noqa: E402

BUILD = os.environ.setdefault("FSCOPE_BUILD", os.path.abspath("build/release"))
READ = os.path.abspath(os.path.join(BUILD, "bench/trace_read"))
PAIRS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
PER_TRACE = 5
MILLIONS = float(sys.argv[2]) if len(sys.argv) > 2 else 10


def record(program, path):
    """A trace of at least so many events: how many, and in how many runs of one thread they come."""
    scale = int(MILLIONS * 1000)
    while True:
        subprocess.run([program, "pingpong", path, str(scale)], check=True, stdout=subprocess.DEVNULL)
        out = subprocess.run([READ, path, "runs"], capture_output=True, text=True, check=True).stdout
        count, runs = map(int, re.match(r"(\d+) events in (\d+) runs", out).groups())
        if count >= MILLIONS * 1e6:
            return count, runs
        scale = int(scale * 1.3 * MILLIONS * 1e6 / count)


def compare(oracle, path, count, pair_count):
    """Pairs of runs: ratios, ns an event of ours and of Go's."""
    status, answer = oracle.ask("count", path)
    if status or int(answer.split()[0]) != count:
        sys.exit(f"Go's reader answers {status} {answer!r}, ours {count} events")
    ours = ["taskset", "-c", "1", READ, path]
    theirs = ["sh", "-c", f"echo count {path} | taskset -c 1 {oracle.process.args[0]}"]
    ratios, each = [], ([], [])
    for i in range(pair_count):
        took = {}
        for which in ((0, 1) if i % 2 else (1, 0)):
            argv = (ours, theirs)[which]
            took[which] = pairs.cpu_seconds(argv, env={"GOMAXPROCS": "1"}, cwd=os.path.dirname(path))[0]
            each[which].append(took[which] / count * 1e9)
        ratios.append(took[1] / took[0])
    return ratios, each


def main():
    if not trace_go.GO:
        print("Go is not installed: nothing to compare with")
        return
    program, oracle = trace_go.build("trace_programs.go"), trace_go.oracle()
    ratios = pairs.Ratios()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "trace")
        for first in range(0, PAIRS, PER_TRACE):
            count, runs = record(program, path)
            some, (ours, theirs) = compare(oracle, path, count, min(PER_TRACE, PAIRS - first))
            for ratio in some:
                ratios.add(ratio)
            print(f"{count} events, {os.path.getsize(path) / count:.1f} bytes each, in runs of {count / runs:.1f}: "
                  f"{statistics.median(ours):.1f} ns each, Go {statistics.median(theirs):.1f}; "
                  f"ratio {statistics.median(some):.1f}", flush=True)
    oracle.close()
    mean, low, high = ratios.mean_and_interval()
    print(f"ratio {mean:.1f} [{low:.1f}, {high:.1f}], {len(ratios.values)} pairs; target 10")


if __name__ == "__main__":
    main()
