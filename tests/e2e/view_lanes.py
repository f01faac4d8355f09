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

HEAP, GOAL, LABEL, TASK_BEGIN, TASK_END, LOG = 37, 38, 39, 40, 41, 44  # Go's numbers
UNITS = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}


def drawn(path, *options):
    """The rows, item by item, in the order in which they are drawn."""
    out = subprocess.run([FIBERSCOPE, "view", "--text", "-", "--font", "builtin", "--size", "1400x4000", *options, path],
                         capture_output=True, text=True, timeout=60, check=True).stdout
    return out[:out.index('"busy"')]  # which is drawn after them


def texts(path, *options):
    """(x, y, text) of what is written in them."""
    return [(int(x), int(y), t) for x, y, t in
            re.findall(r'^text (-?\d+),(-?\d+) #\w+ builtin "(.*)"$', drawn(path, *options), re.M)]


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


def what_the_program_says_stands_where_it_was(work):
    path = os.path.join(work, "t.trace")
    g, ms = made.Generation(1), 1_000_000
    stack = g.stack("main", "main")
    g.say(1, made.PROC_STATUS, 0, 1)
    g.say(1, made.GO_STATUS_STACK, 1, made.THREAD, made.RUNNING, stack)
    g.say(1, made.PROCS_CHANGE, 1, 0)
    g.say(2, HEAP, 4 << 20)
    g.say(2, GOAL, 8 << 20)
    g.say(3, LABEL, g.text("route=/pay"))
    tasks = {"order": (100, 600), "charge": (200, 500), "mail": (650, 900)}  # two rows: mail is after order
    regions = {"outer": (110, 880), "inner": (300, 400)}
    events = [(b, TASK_BEGIN, (i + 1, 0, g.text(name), 0)) for i, (name, (b, _)) in enumerate(tasks.items())]
    events += [(e, TASK_END, (i + 1, 0)) for i, (_, e) in enumerate(tasks.values())]
    for name, (b, e) in regions.items():
        events += [(b, made.REGION_BEGIN, (1, g.text(name), 0)), (e, made.REGION_END, (1, g.text(name), 0))]
    for at, wire, args in sorted(events):
        g.say(at * ms, wire, *args)
    g.say(950 * ms, LOG, 1, g.text("why"), g.text("paid"), 0)
    g.block(1000 * ms, "sleep", stack)
    made.write(path, [g])
    out, shown = drawn(path), texts(path)
    # 0 s and 500 ms on the axis say where every moment is.
    zero, half = (next(x for x, _, t in shown if t == label) - 4 for label in ("0s", "500ms"))
    scale = (half - zero) / 500

    def box(name):
        x, y = next((x, y) for x, y, t in shown if t == name and x > zero)
        found = [(int(a), int(w), int(b), int(h)) for a, b, w, h in re.findall(r"^rect (\d+),(\d+) (\d+)x(\d+) ", out, re.M)
                 if int(a) <= x < int(a) + int(w) and int(b) <= y <= int(b) + int(h) and int(w) > 20]
        return min(found, key=lambda r: r[1])  # its row's ground is wider

    for name, (begin, end) in {**tasks, **regions}.items():
        x, width, _, _ = box(name)
        assert abs(x - zero - begin * scale) <= 2 and abs(width - (end - begin) * scale) <= 2, (name, x, width, scale)
    assert box("order")[2] == box("mail")[2] < box("charge")[2] < box("outer")[2] < box("inner")[2]
    said = {t for _, _, t in shown}
    assert "3 tasks, up to 2 at a time" in said and "route=/pay" in said, said
    assert report("summary", path)["heap_max_bytes"] == 4 << 20 and {"max 4MB", "goal 8MB"} <= said, said
    summary = subprocess.run([FIBERSCOPE, "trace", path], capture_output=True, text=True, check=True, timeout=60).stdout
    assert ", heap at most 4MB" in summary, summary
    at = [int(x) for x in re.findall(r"^triangle (\d+),\d+ ", out, re.M) if int(x) > zero]
    assert [x for x in at if abs(x + 4 - zero - 950 * scale) <= 2], (at, zero, scale)


def what_is_found_can_be_walked(work):
    """A text that is in a fiber's name, regions, tasks, logs and functions: each place is found, in order of time."""
    path = os.path.join(work, "t.trace")
    g, rng, ms, places = made.Generation(1), random.Random(9), 1_000_000, []
    g.say(1, made.PROC_STATUS, 0, 1)
    plain, root = g.stack("main", "main"), g.stack("alpha_run", "main")
    g.say(1, made.GO_STATUS_STACK, 1, made.THREAD, made.RUNNING, plain)
    g.say(1, made.PROCS_CHANGE, 1, 0)
    g.say(1, made.GO_STATUS_STACK, 2, made.NOBODY, made.WAITING, g.stack("wait", "beta"), thread=made.NOBODY)
    g.say(1, made.GO_STATUS_STACK, 3, made.NOBODY, made.WAITING, g.stack("wait", "an_alpha"), thread=made.NOBODY)
    places.append(0)  # fiber 3 by its name; its outermost function is that
    at = 10
    for i in range(60):
        at += rng.randrange(5, 15)
        kind = rng.choice(["region", "task", "log", "stack", "none"])
        if kind == "region":
            g.say(at * ms, made.REGION_BEGIN, 0, g.text("Alphabet"), plain)
            g.say((at + 1) * ms, made.REGION_END, 0, g.text("Alphabet"), plain)
        elif kind == "task":
            g.say(at * ms, TASK_BEGIN, i + 1, 0, g.text("alpha task"), 0)
            g.say((at + 1) * ms, TASK_END, i + 1, 0)
        elif kind == "log":
            g.say(at * ms, LOG, 0, g.text("why"), g.text(f"the alpha {i}"), 0)
        elif kind == "stack":
            g.block(at * ms, "sleep", root)
            g.wake((at + 1) * ms, 1, plain)
            g.start((at + 2) * ms, 1)
            at += 2
        else:
            g.say(at * ms, LOG, 0, g.text("why"), g.text(f"beta {i}"), 0)
            continue
        places.append(at - 2 if kind == "stack" else at)
    g.block((at + 20) * ms, "sleep", plain)
    made.write(path, [g])
    _, _, head = next(t for t in texts(path, "--press", "/ A L P H A Enter") if "match" in t[2])
    assert head == f"2 of 3 match, found {len(places)} times (n, N)", (head, len(places))
    for keys, n in (("N", 1), (" ".join(["N"] * 5), 5), ("N Shift+N", len(places)), ("N N N Shift+N", 2)):
        _, _, head = next(t for t in texts(path, "--press", "/ A L P H A Enter " + keys) if "match" in t[2])
        assert head == f"2 of 3 match, found {n} of {len(places)} (n, N)", (keys, head)


def every_group_has_a_strip(work):
    """Ten functions, of which six are colours: the strip of each head stands where its fibers ran."""
    path = os.path.join(work, "t.trace")
    g, ms = made.Generation(1), 1_000_000
    g.say(1, made.PROC_STATUS, 0, 1)
    g.say(1, made.GO_STATUS_STACK, 1, made.THREAD, made.RUNNING, g.stack("main"))
    g.say(1, made.PROCS_CHANGE, 1, 0)
    g.block(100, "sleep", g.stack("main"))
    for n in range(2, 12):
        g.say(1, made.GO_STATUS_STACK, n, made.NOBODY, made.WAITING, g.stack("wait", f"worker_{n}"), thread=made.NOBODY)
    for n in range(2, 12):
        g.wake(n * 100 * ms, n)
        g.start(n * 100 * ms + 1, n)
        g.block((n * 100 + 90 - n) * ms, "sleep", g.stack("wait", f"worker_{n}"))
    made.write(path, [g])
    out = subprocess.run([FIBERSCOPE, "view", "--text", "-", "--font", "builtin", "--size", "1200x2000", path],
                         capture_output=True, text=True, check=True, timeout=60).stdout
    strips = [(int(y), int(h)) for y, h in re.findall(r"^strip \d+,(\d+) \d+x(\d+)", out, re.M)]
    for n in range(2, 12):
        # Its head, not the names of the colours below.
        y = min(int(at) for at in re.findall(rf'^text \d+,(\d+) #\w+ builtin "worker_{n}"$', out, re.M))
        assert any(top <= y <= top + h for top, h in strips), (n, y, strips)


def stacks_stand_below_their_spans(work):
    """Fiber 2 waits until 5 s, runs, is sampled at 6 s, and waits from 7 s to 10 s; 3 waits in 15 functions."""
    path, s = os.path.join(work, "t.trace"), 10**9
    g = made.Generation(1)
    first = g.stack("main")
    g.say(1, made.PROC_STATUS, 0, 1)
    g.say(1, made.GO_STATUS_STACK, 1, made.THREAD, made.RUNNING, first)
    g.say(1, made.PROCS_CHANGE, 1, 0)
    for n, stack in ((2, ("pause", "inner", "worker")), (3, [f"deep_{n}" for n in range(14, -1, -1)])):
        g.say(1, made.GO_STATUS_STACK, n, made.NOBODY, made.WAITING, g.stack(*stack), thread=made.NOBODY)
    g.block(4 * s, "sleep", first)
    g.wake(4 * s + 10, 2)
    g.start(5 * s, 2)
    g.sample(6 * s, 2, g.stack("spin", "inner", "worker"))
    g.block(7 * s, "sync", g.stack("read", "worker"))
    g.wake(10 * s - 20, 1)
    g.start(10 * s - 10, 1)
    g.block(10 * s, "sleep", first)
    made.write(path, [g])
    size = ("--size", "1167x800")  # the lanes have 1000 pixels, or the bar's fewer

    def boxes():
        """name: [(from, to, row)] in seconds, of what has a box as high as a row of stacks."""
        out, text = {}, drawn(path, *size, "--press", "T")
        edge = int(re.search(r"^strip (\d+),", text, re.M).group(1))
        width = int(re.search(r"^strip \d+,\d+ (\d+)x", text, re.M).group(1))
        for x, y, w, name in re.findall(r'^rect (\d+),(\d+) (\d+)x13 #\w+\n(?:rect .*\n)?text .* builtin "(.*)"$', text, re.M):
            out.setdefault(name, []).append((round((int(x) - edge) * 10 / width, 1),
                                             round((int(x) - edge + int(w)) * 10 / width, 1), int(y)))
        return out

    found = boxes()
    top = found["worker"][0][2]
    assert sorted(found["worker"]) == [(0, 5, top), (6, 10, top)], found
    assert sorted(found["inner"]) == [(0, 5, top + 14), (6, 7, top + 14)], found
    assert found["pause"] == [(0, 5, top + 28)] and found["spin"] == [(6, 7, top + 28)], found
    assert found["read"] == [(7, 10, top + 14)], found
    # Of 15 frames the outermost 11, and the leaf, with how many are left out.
    deep = [found[f"deep_{n}"][0] for n in range(11)] + found["+3  deep_14"]
    assert [b[:2] for b in deep] == [(0, 10)] * 12 and [b[2] - deep[0][2] for b in deep] == list(range(0, 168, 14)), found
    assert "deep_11" not in found and "deep_13" not in found, found
    assert drawn(path, *size, "--press", "T T") == drawn(path, *size), "toggled twice"
    assert not [t for _, _, t in texts(path, *size) if t in ("pause", "spin", "read", "deep_1")]


if __name__ == "__main__":
    main([every_group_has_a_strip, groups_are_those_of_the_report, a_fibers_share_is_that_of_the_report,
          what_the_program_says_stands_where_it_was, what_is_found_can_be_walked,
          stacks_stand_below_their_spans])
