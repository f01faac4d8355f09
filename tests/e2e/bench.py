#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Benchmarks: n grows as in Go, times and allocations are those of the function, benchstat reads the lines."""

import os
import re
import subprocess

import harness

TARGET = os.path.join(harness.TESTS, "bench_target")
# What golang.org/x/perf/benchfmt takes: Benchmark, a name, n, then values with units, blanks between.
LINE = re.compile(r"^Benchmark(?P<name>[^a-z\s]\S*)\s+(?P<n>\d+)"
                  r"(?P<rest>(?:\s+[0-9.]+(?:[eE][+-]?\d+)?\s+\S+)+)$")


def run(case, check=0, **more):
    done = subprocess.run([TARGET, case], capture_output=True, text=True, timeout=60, check=False,
                          **more)
    assert done.returncode == check, (case, done.returncode, done.stdout, done.stderr)
    lines = []
    for line in done.stdout.splitlines():
        m = LINE.match(line)
        assert m, line
        words = m["rest"].split()
        lines.append((m["name"], int(m["n"]),
                      {unit: float(v) for v, unit in zip(words[::2], words[1::2])}))
    runs = [tuple(map(int, line.split()[1:])) for line in done.stderr.splitlines()
            if line.startswith("run")]
    result = [line.split()[1:] for line in done.stderr.splitlines() if line.startswith("result")]
    return lines, runs, result


def what_is_measured_is_the_function(work):
    lines, runs, [[n, ns, objects, size]] = run("known")
    processors = len(os.sched_getaffinity(0))
    assert [name for name, _, _ in lines] == \
        ["Known" + (f"-{processors}" if processors > 1 else "")] * 3
    starts = [k for k, (one, _) in enumerate(runs) if one == 1]
    each = [runs[i:j] for i, j in zip(starts, starts[1:] + [len(runs)])]
    assert len(each) == 3, runs
    for one, (_, count, values) in zip(each, lines):
        truth = one[-1][1] / count
        assert set(values) == {"ns/op", "MB/s", "B/op", "allocs/op"}
        assert truth >= 10000
        # Ours starts before the function's own clock and stops after it; preempted there, by ms.
        assert truth <= values["ns/op"] + 1 and values["ns/op"] * count < one[-1][1] + 10e6, \
            (values, truth, "the function's own clock")
        assert values["allocs/op"] == 3 and values["B/op"] == 48, values
        harness.close(values["MB/s"] * values["ns/op"], 1000 * 1000, 5000, "1000 bytes an operation")
        # 1, and then what takes a fifth longer than 50 ms; at most a hundred times as many.
        assert one[0][0] == 1 and one[-1][0] == count, one
        for (a, a_ns), (b, _) in zip(one, one[1:]):
            assert a_ns < 50e6, (one, "a long enough run is the last one")
            want = min(50e6 / (a_ns / a) * 1.2, 100 * a)
            assert a < b <= 100 * a and want / 4 < b <= 1.1 * want + 2, (one, a, b, want)
        assert one[-1][1] > 49e6, (one, "the last run is long enough")
    assert int(objects) == 3 * int(n) and int(size) == 48 * int(n)
    harness.close(int(ns) / int(n), lines[-1][2]["ns/op"], 1, "the last run's")


def stops_are_left_out(work):
    [(name, n, values)], runs, _ = run("paused")
    assert name.startswith("Paused_of_course"), name
    truth = runs[-1][1] / n
    assert truth <= values["ns/op"] + 1 < truth * 1.5, (values, truth, "the other half is left out")
    assert values["allocs/op"] == 0 and values["B/op"] == 0, values


def n_ends_at_a_milliard(work):
    [(_, n, values)], runs, _ = run("nothing")
    assert runs[-1][0] == n == 10**9 and runs[0][0] == 1, runs
    assert values["ns/op"] < 0.01 and values["allocs/op"] == 0


def so_many_as_asked(work):
    [(_, n, _)], runs, _ = run("fixed")
    assert n == 123 and [n for n, _ in runs] == [1, 123], runs


def a_failed_write_is_told(work):
    run("closed")


def a_locale_changes_no_number(work):
    run("known", env=dict(os.environ, LC_ALL="de_DE.UTF-8"))


if __name__ == "__main__":
    harness.main([what_is_measured_is_the_function, stops_are_left_out, n_ends_at_a_milliard,
                  so_many_as_asked, a_failed_write_is_told, a_locale_changes_no_number])
