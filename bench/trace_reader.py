# SPDX-License-Identifier: MIT
"""Reading an execution trace against Go's own reader (internal/trace): CPU seconds on one processor.

A Go program (tests/conformance/trace_programs.go: goroutines that pass values, yield, lock and spawn
on four Ps) records a trace of more than EVENTS million events; both read it alternately, each pinned
to one processor, Go with GOMAXPROCS=1. Usage: trace_reader.py [PAIRS [MILLION_EVENTS]]
"""

import os
import re
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
MILLIONS = float(sys.argv[2]) if len(sys.argv) > 2 else 10


def record(program, path):
    """A trace of at least so many events; how many."""
    scale = int(MILLIONS * 1000)
    while True:
        subprocess.run([program, "pingpong", path, str(scale)], check=True, stdout=subprocess.DEVNULL)
        out = subprocess.run([READ, path], capture_output=True, text=True, check=True).stdout
        count = int(re.match(r"(\d+) events", out).group(1))
        if count >= MILLIONS * 1e6:
            return count
        scale = int(scale * 1.3 * MILLIONS * 1e6 / count)


def main():
    if not trace_go.GO:
        print("Go is not installed: nothing to compare with")
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "trace")
        count = record(trace_go.build("trace_programs.go"), path)
        oracle = trace_go.oracle()
        status, answer = oracle.ask("count", path)
        oracle.close()
        if status or int(answer.split()[0]) != count:
            sys.exit(f"Go's reader answers {status} {answer!r}, ours {count} events")
        print(f"{count} events, {os.path.getsize(path) / count:.1f} bytes each")
        ours = ["taskset", "-c", "1", READ, path]
        theirs = ["sh", "-c", f"echo count {path} | taskset -c 1 {oracle.process.args[0]}"]
        ratios, seconds = pairs.Ratios(), ([], [])
        for i in range(PAIRS):
            took = {}
            for which in ((0, 1) if i % 2 else (1, 0)):
                argv = (ours, theirs)[which]
                took[which] = pairs.cpu_seconds(argv, env={"GOMAXPROCS": "1"}, cwd=folder)[0]
                seconds[which].append(took[which])
            ratios.add(took[1] / took[0])
        for name, values in (("fiberscope", seconds[0]), ("Go", seconds[1])):
            best = min(values)
            print(f"{name:<11} {count / best / 1e6:6.1f} million events/s, {best / count * 1e9:.1f} ns each (best)")
        mean, low, high = ratios.mean_and_interval()
        print(f"ratio {mean:.1f} [{low:.1f}, {high:.1f}], {len(ratios.values)} pairs; target 10")


if __name__ == "__main__":
    main()
