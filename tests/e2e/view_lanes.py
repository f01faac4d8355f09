#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The lanes of fibers in fiberscope view say what the reports of the same trace say."""

import json
import os
import random
import re
import subprocess

import made_trace as made
from harness import FIBERSCOPE, main

UNITS = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}


def texts(path, *options):
    """(x, y, text) of what is written in the rows, in the order in which it is drawn."""
    out = subprocess.run([FIBERSCOPE, "view", "--text", "-", "--font", "builtin", "--size", "1400x4000", *options, path],
                         capture_output=True, text=True, timeout=60, check=True).stdout
    out = out[:out.index('"busy"')]  # which is drawn after the rows
    return [(int(x), int(y), t) for x, y, t in re.findall(r'^text (-?\d+),(-?\d+) #\w+ builtin "(.*)"$', out, re.M)]


def report(*args):
    return json.loads(subprocess.run([FIBERSCOPE, "trace", *args, "--json"], capture_output=True, text=True, timeout=60,
                                     check=True).stdout)


def equals(text, ns):
    """A time as it is written, against the exact one: it may be rounded in its second digit."""
    number, unit = re.fullmatch(r"([0-9.]+)(ns|us|ms|s)", text).groups()
    return abs(float(number) * UNITS[unit] - ns) <= 0.0051 * UNITS[unit]


def make_trace(path, fibers=40):
    """40 fibers of 4 functions take turns on one Proc, each for a random time, in random order."""
    g, rng, at = made.Generation(1), random.Random(5), 1000
    g.say(1, made.PROC_STATUS, 0, 1)
    g.say(1, made.GO_STATUS_STACK, 1, made.THREAD, made.RUNNING, g.stack("main", "main"))
    g.say(1, made.PROCS_CHANGE, 1, 0)
    for n in range(2, fibers + 2):
        g.say(1, made.GO_STATUS_STACK, n, made.NOBODY, made.WAITING, g.stack("wait", f"task_{n % 4}"), thread=made.NOBODY)
    g.block(at, "sleep", g.stack("main", "main"))
    for _ in range(2000):
        n = rng.randrange(2, fibers + 2)
        g.wake(at + rng.randrange(50, 500), n)
        at += 600 + rng.randrange(1000)
        g.start(at, n)
        at += rng.randrange(10, 100_000)
        g.block(at, rng.choice(["sync", "chan receive", "sleep", "network"]), g.stack("wait", f"task_{n % 4}"))
    made.write(path, [g])


def groups_are_those_of_the_report(work):
    path = os.path.join(work, "t.trace")
    make_trace(path)
    shown = texts(path)
    functions = report("fibers", path)["functions"]
    assert len(functions) == 5, functions
    for f in functions:
        heads = [y for x, y, t in shown if t == f["function"] and x < 40]
        y = heads[0]
        said = next(t for _, at, t in shown if at == y and " fiber" in t)
        count, ran = re.fullmatch(r"(\d+) fibers?, ran (\S+)", said).groups()
        assert int(count) == f["fibers"] and equals(ran, f["running_ns"]), (said, f)
    order = [t for x, _, t in shown if x < 40 and t in {f["function"] for f in functions}]
    assert order == [f["function"] for f in sorted(functions, key=lambda f: -f["running_ns"])], order


def a_fibers_share_is_that_of_the_report(work):
    path = os.path.join(work, "t.trace")
    make_trace(path)
    length = report("summary", path)["duration_ns"]
    rows = report("fibers", "--name", "task", "-n", "0", path)["fibers"]
    shown = texts(path)
    edge = next(x for x, _, t in shown if t == "0s") - 4
    assert len(rows) == 40, rows
    lanes = 0
    for row in rows:
        mine = [y for x, y, t in shown if t == str(row["fiber"]) and x < 40]
        for y in mine:
            share = next(t for x, at, t in shown if at == y and x < edge and t.endswith("%"))
            assert share == f"{100 * row['running_ns'] / length:.1f}%", (row["fiber"], share, row["running_ns"], length)
            lanes += 1
    assert lanes == 40, lanes


if __name__ == "__main__":
    main([groups_are_those_of_the_report, a_fibers_share_is_that_of_the_report])
