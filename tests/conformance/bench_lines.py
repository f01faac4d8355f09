#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Benchmark lines are Go's, byte for byte (oracle: testing.BenchmarkResult), and n grows by Go's rule."""

import os
import random
import shutil
import subprocess
import sys
import tempfile

TOOL = os.path.join(os.environ["FSCOPE_BUILD"], "tests", "conformance", "bench_lines")
ORACLE = """
package main

import (
	"fmt"
	"testing"
	"time"
)

func main() {
	var name string
	var procs, n, ns, bytes, has, objects, size int64
	for {
		if k, _ := fmt.Scan(&name, &procs, &n, &ns, &bytes, &has, &objects, &size); k != 8 {
			return
		}
		r := testing.BenchmarkResult{N: int(n), T: time.Duration(ns), Bytes: bytes,
			MemAllocs: uint64(objects), MemBytes: uint64(size)}
		if procs != 1 {
			name = fmt.Sprintf("%s-%d", name, procs)
		}
		line := "Benchmark" + name + "\\t" + r.String()
		if has != 0 {
			line += "\\t" + r.MemString()
		}
		fmt.Println(line)
	}
}
"""


def cases():
    rng = random.Random(7)
    for n in (1, 2, 3, 7, 8, 1000, 2000, 3000, 10**6, 10**9):
        # Around every border of the formats, ties of the last digit among them.
        for border in (0, 1, 99950, 999950, 9999, 99995, 1000, 12345, 10**6, 10**8, 10**13):
            for d in range(-3, 4):
                for scale in (1, 10, 1000, 10**5):
                    ns = (border * n // scale) + d
                    if 0 <= ns < 2**62:
                        yield ("X", 2, n, ns, 0, 1, n, 16 * n)
    for _ in range(20000):
        n = rng.choice((1, rng.randrange(1, 100), 2**rng.randrange(30), rng.randrange(1, 10**9)))
        ns, size = rng.randrange(1, 2**rng.randrange(1, 61)), rng.choice((0, 1, 4096, 10**9))
        if size * n * 1000 // ns < 10**17:  # MB/s; ours ends at 1.8e17
            yield (rng.choice(("A", "Parse/small-8", "Z_1")), rng.choice((1, 2, 64)), n, ns, size,
                   rng.randrange(2), rng.randrange(2**40), rng.randrange(2**50))


def ask(argv, lines, **more):
    return subprocess.run(argv, input="".join(lines), capture_output=True, text=True, check=True,
                          **more).stdout.splitlines()


def predicted(goal, last, last_ns):
    """The rule, in whole numbers without bound."""
    n = goal * last // max(last_ns, 1)
    return min(max(min(n + n // 5, 100 * last), last + 1), 10**9)


def main():
    rng = random.Random(8)
    rules = [(goal, last, ns) for goal in (1, 10**6, 10**9, 10**12) for last in (1, 99, 10**7, 10**9)
             for ns in (0, 1, 999, 10**6, 10**9, 10**12, rng.randrange(10**12))]
    got = ask([TOOL], [f"predict {g} {la} {ns}\n" for g, la, ns in rules])
    for rule, n in zip(rules, got):
        assert int(n) == predicted(*rule), (rule, n, predicted(*rule))

    go = shutil.which("go", path=os.environ["PATH"] + ":/usr/local/go/bin")
    if not go:
        print("SKIP: no Go here")
        return 77
    rows = [" ".join(map(str, row)) + "\n" for row in cases()]
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "main.go")
        with open(path, "w", encoding="utf-8") as f:
            f.write(ORACLE)
        want = ask([go, "run", path], rows)
    got = ask([TOOL], ["line " + row for row in rows])
    assert len(want) == len(got) == len(rows), (len(want), len(got), len(rows))
    wrong = [(r, w, g) for r, w, g in zip(rows, want, got) if w != g]
    for row, w, g in wrong[:10]:
        print(f"{row}  Go    {w!r}\n  ours  {g!r}")
    print(f"{len(rows)} lines, {len(wrong)} differ; {len(rules)} predictions")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
