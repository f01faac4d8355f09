# SPDX-License-Identifier: MIT
"""Partial deadlocks: each circle is told of once, with names and stacks; and nothing else is."""
import re

from target import check, finish, goroutines, run, same

LINE = r"\t(\w+ \d+)(?: \(\"([\w ]+)\"\))? waits for the lock at 0x[0-9a-f]+, which is held by (\w+ \d+)"


def circle(text):
    """{who: (name, whose lock)} of the one report in text."""
    reports = re.findall(r"^fiberscope-rt: partial deadlock: (\d+) wait for each other for ever$", text, re.M)
    same(len(reports), 1, "one report: " + text)
    edges = [m.groups() for m in map(lambda l: re.fullmatch(LINE, l), text.split("\n")) if m]
    same([int(n) for n in reports], [len(edges)], "all of the circle")
    return {who: (name, owner) for who, name, owner in edges}


# Fiber 1 is main; the fourth or fifth only waits for one of the circle.
for procs in "1", "2":
    status, _, err = run("two", env={"FIB_MAXPROCS": procs})
    same(status, 0, "the program goes on")
    same(circle(err), {"goroutine 2": ("philosopher", "goroutine 3"),
                       "goroutine 3": (None, "goroutine 2")}, "two")
    found = goroutines(err)
    same({k: (v[0], v[1][-2:]) for k, v in found.items()},
         {2: ('sync.Mutex.Lock, "philosopher"', ["lock_two", "holds_a"]),
          3: ("sync.Mutex.Lock", ["lock_two", "holds_b"])}, "stacks")
    check(not {v[1][0] for v in found.values()} & {"g_park", "g_park_for", "switch_to"}, "the call:", found)
    status, _, err = run("three", env={"FIB_MAXPROCS": procs})
    same({k: v[1] for k, v in circle(err).items()},
         {"goroutine 2": "goroutine 3", "goroutine 3": "goroutine 4", "goroutine 4": "goroutine 2"}, "three")
status, _, err = run("thread")
found = circle(err)
thread = [k for k in found if k.startswith("thread ")]
same(len(thread), 1, "a thread in it")
if thread:
    same(found, {"goroutine 2": ("philosopher", thread[0]), thread[0]: (None, "goroutine 2")}, "thread")
same(sorted(goroutines(err)), [2], "the fiber's stack")
same(run("none"), (0, "", ""), "locks that are passed on")
finish()
