#!/usr/bin/python3
# SPDX-License-Identifier: MIT
#
# `fiberscope trace cut` of any range: Go's reader takes it, says of every goroutine and Proc at each moment what it says
# of the whole trace in that range, to the nanosecond, and the range begins and ends where it was told to; our reports
# on it say what they say of the whole trace with --from and --to. Ranges at random, such in which nothing
# happens, such that begin or end between generations, cuts of cuts, cuts to some fibers.

import json
import os
import random
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
import trace_go  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
FIBERSCOPE = os.path.join(BUILD, "cli", "fiberscope")
GO_PROGRAMS = {"syscalls": ("trace_waiting.go",), "network": ("trace_waiting.go",), "gc": ("trace_programs.go", "20"),
               "timers": ("trace_programs.go", "30"), "sched": ("trace_programs.go", "100")}
OURS = {"contention": [os.path.join(BUILD, "examples", "contention"), "100"],
        "threads": [os.path.join(BUILD, "tests", "e2e", "trace_threads")]}
RANGES = int(os.environ.get("TRACE_RANGES", "6"))
SEED = int(os.environ.get("TRACE_SEED", random.randrange(1 << 30)))
# What is not said again in a cut: why a fiber waits that waited before it began, and how many Procs there are if none
# runs anything.
SAME = ("duration_ns", "fibers", "alive")
TIMES = ("total_ns", "running_ns", "runnable_ns", "blocked_ns")


def times(t):
    """As Go's summary has it, the whole of a system call that had lost its Proc when the trace began is one that has it:
    so the two are told together."""
    return [t[k] for k in TIMES] + [t["syscall_ns"] + t["syscall_blocked_ns"]]



def by_function(report):
    """Fibers and times by start function. Code without symbols by its file: a cut has each fiber's last stack, of which
    the outermost address may be another one than that of its first."""
    found = {}
    for f in report["functions"]:
        row = found.setdefault(f["function"].split("+0x")[0], [0] * (2 + len(TIMES)))
        for i, n in enumerate([f["fibers"]] + times(f)):
            row[i] += n
    return found


def run(*args):
    done = subprocess.run([FIBERSCOPE, "trace", *map(str, args)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{args}: {done.stderr}")
    return done.stdout


class Trace:
    """A trace and when things happen in it."""

    def __init__(self, path):
        self.path = path
        status, said = ORACLE.ask("events", path)
        assert status == 0, said[-200:]
        lines = [line.split(" ", 6) for line in said.decode().splitlines() if not line.startswith("stack")]
        self.times = [int(words[0]) for words in lines]
        self.syncs = [i for i, words in enumerate(lines) if words[4] == "Sync"]
        self.begin, self.end = self.times[0], self.times[-1]
        self.fibers = sorted({int(words[5][10:-1]) for words in lines if words[5].startswith("Goroutine(")})
        assert ORACLE.ask("keep", path)[0] == 0

    def states(self, start, end):
        status, said = ORACLE.ask("states", self.path, start, end)
        assert status == 0, said
        return said.decode().splitlines()

    def gaps(self, least_ns):
        """Stretches of time in which nothing happens."""
        return [(a, b) for a, b in zip(self.times, self.times[1:]) if b - a > least_ns]

    def ranges(self, rng):
        """Some of each kind. None with an event at its very end, which needs a nanosecond more, or so early in it that
        what runs then cannot be told before."""
        found = []
        for _ in range(RANGES):
            found.append(tuple(sorted(rng.sample(range(self.begin, self.end), 2))))
            a, b = rng.choice(self.gaps(10000))
            found.append((rng.randrange(a + 1, a + (b - a) // 3), rng.randrange(b - (b - a) // 3, b)))
        for i in self.syncs[1:-1]:  # after the last event of a generation
            between = (self.times[i - 1] + self.times[i]) // 2
            found += [(between, rng.randrange(between, self.end)), (rng.randrange(self.begin, between), between)]
        taken = set(self.times)
        return [(a, b) for a, b in found if b - a > 1000 and b not in taken and taken.isdisjoint(range(a, a + 100))]


class Ranges(unittest.TestCase):
    def cut(self, trace, start, end, *options):
        part = os.path.join(TMP, "part")
        run("cut", f"--from={start - trace.begin}ns", f"--to={end - trace.begin}ns", "-o", part, *options, trace.path)
        status, said = ORACLE.ask("count", part)
        self.assertEqual(status, 0, (trace.path, start, end, options, said))
        self.assertIn("valid", run("validate", part))
        return part

    def same_states(self, trace, part, start, end, only=None):
        status, ours = ORACLE.ask("states", part, 0, 0)
        self.assertEqual(status, 0, ours)
        theirs = trace.states(start, end)
        self.assertEqual(theirs[0], f"range {start} {end}")
        if only:
            kept = tuple(f"Goroutine({g}) " for g in only)
            theirs = [t for t in theirs if not t.startswith("Goroutine") or t.startswith(kept)]
        self.assertEqual(ours.decode().splitlines(), theirs, (trace.path, start, end, only))
        return len(theirs) - 1

    def same_report(self, trace, part, start, end):
        whole = json.loads(run("summary", "--json", f"--from={start - trace.begin}ns", f"--to={end - trace.begin}ns",
                               trace.path))
        ours = json.loads(run("summary", "--json", part))
        where = (trace.path, start, end)
        for key in SAME:
            self.assertEqual(ours[key], whole[key], (where, key))
        # What runs when the range begins is announced in its first nanoseconds, and counts from then on.
        self.assertLess(abs(ours["utilisation"] - whole["utilisation"]) * ours["duration_ns"], 50, where)
        self.assertEqual(times(ours["times"]), times(whole["times"]), where)
        for p in ours["procs"] + whole["procs"]:
            del p["runs"]  # one under way when a trace begins counts as one
        self.assertEqual(ours["procs"], whole["procs"], where)
        self.assertEqual(by_function(ours), by_function(whole), where)

    def test_any_range(self):
        rng = random.Random(SEED)
        idle = spans = 0
        for trace in TRACES:
            for start, end in trace.ranges(rng):
                part = self.cut(trace, start, end)
                spans += self.same_states(trace, part, start, end)
                self.same_report(trace, part, start, end)
                idle += not any(start <= t <= end for t in trace.times)
        self.assertGreater(idle, RANGES * len(TRACES) // 2)
        self.assertGreater(spans, 1000)

    def test_cut_of_a_cut(self):
        rng = random.Random(SEED + 1)
        for trace in TRACES:
            start, end = trace.begin + (trace.end - trace.begin) // 5, trace.end - (trace.end - trace.begin) // 5
            once = Trace(os.rename(self.cut(trace, start, end), os.path.join(TMP, "once"))
                         or os.path.join(TMP, "once"))
            for start, end in rng.sample(once.ranges(rng), 2):
                self.same_states(trace, self.cut(once, start, end), start, end)

    def test_some_fibers(self):
        rng = random.Random(SEED + 2)
        for trace in TRACES:
            for start, end in rng.sample(trace.ranges(rng), 3):
                only = rng.sample(trace.fibers, min(3, len(trace.fibers)))
                try:
                    part = self.cut(trace, start, end, *(f"--fiber={g}" for g in only))
                except AssertionError as e:
                    self.assertIn("no fiber", str(e))
                    continue
                self.same_states(trace, part, start, end, only)

    def test_one_end_only(self):
        for trace in TRACES:
            middle = (trace.begin + trace.end) // 2
            part = os.path.join(TMP, "part")
            run("cut", f"--from={middle - trace.begin}ns", "-o", part, trace.path)
            self.same_states(trace, part, middle, trace.end)
            run("cut", f"--to={middle - trace.begin}ns", "-o", part, trace.path)
            self.same_states(trace, part, trace.begin, middle)

    def test_the_stock_tool(self):
        tool = trace_go.tool("trace")
        for trace in TRACES:
            a, b = max(trace.gaps(10000), key=lambda gap: gap[1] - gap[0])
            part = self.cut(trace, a + 1, b - 1)
            said = subprocess.run([tool, "-d=parsed", part], capture_output=True, text=True, check=True).stdout
            self.assertIn(f"Sync Time={a + 1} ", said)
            self.assertIn(f"Sync Time={b - 1} ", said)


if __name__ == "__main__":
    if not trace_go.GO:
        print("SKIP: Go is not installed, and its trace reader is what we compare with")
        sys.exit(77)
    print(f"TRACE_SEED={SEED}")
    ORACLE = trace_go.oracle()
    with tempfile.TemporaryDirectory() as TMP:
        TRACES = []
        for name, (source, *scale) in GO_PROGRAMS.items():
            recorded = os.path.join(TMP, name + ".trace")
            subprocess.run([trace_go.build(source), name, recorded, *scale], check=True, stdout=subprocess.DEVNULL)
            TRACES.append(Trace(recorded))
        for name, command in OURS.items():
            recorded = os.path.join(TMP, name + ".trace")
            subprocess.run([FIBERSCOPE, "record", "--trace", "--no-inherit", "-o", recorded, *command], check=True,
                           capture_output=True)
            TRACES.append(Trace(recorded))
        unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
