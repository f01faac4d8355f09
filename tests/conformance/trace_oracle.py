#!/usr/bin/python3
# SPDX-License-Identifier: MIT
#
# Every trace that Go's own reader (internal/trace) accepts gives the same events here, field by field,
# however it comes in; every one that it rejects is rejected: for Go's test data of both formats, for traces
# of six Go programs, for those cut short and with bytes flipped. Parts of these traces and of our own, of
# random times and goroutines, are accepted by it and have what was asked for.

import bisect
import os
import random
import re
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
import trace_go  # noqa: E402

CUT = os.path.join(os.environ["FSCOPE_BUILD"], "tests", "conformance", "trace_cut")
EVENTS = os.path.join(os.environ["FSCOPE_BUILD"], "tests", "conformance", "trace_events")
PROGRAMS = {"sched": 300, "net": 100, "tasks": 40, "gc": 30, "timers": 30, "iter": 500}
BUILD = os.environ["FSCOPE_BUILD"]
FIBERSCOPE = os.path.join(BUILD, "cli", "fiberscope")
OURS = {"pipeline": [os.path.join(BUILD, "examples", "pipeline"), HERE],
        "contention": [os.path.join(BUILD, "examples", "contention"), "100"],
        "spawn": [os.path.join(BUILD, "bench", "runtime_fib"), "spawn_batch", "200"],
        "threads": [os.path.join(BUILD, "tests", "e2e", "trace_threads")]}
DEPENDING = ("/sched/gomaxprocs:threads", "/gc/heap/goal:bytes")
FLIPS = int(os.environ.get("TRACE_FLIPS", "150"))
CUTS = int(os.environ.get("TRACE_CUTS", "6"))


def go_says(path):
    """(whether it accepts, what it prints)"""
    status, said = ORACLE.ask("events", path)
    return status == 0, said


def we_say(path, *options):
    status, said = OURSELVES.ask(*options, path)
    assert status in (0, 1), (path, status, said)
    return status == 0, said


def v1_traces():
    """Go's test data in format v1: names to paths."""
    folder = os.path.join(trace_go.testdata(), "internal", "tracev1", "testdata")
    return {name: os.path.join(folder, name) for name in sorted(os.listdir(folder))}


def events(said):
    return [line for line in said.decode(errors="replace").splitlines() if not line.startswith(("error", "salvaged"))]


def whole_generations(said):
    """What go tool trace keeps of a damaged trace: up to the last Sync."""
    kept = events(said)
    while kept and " Sync " not in kept[-1]:
        kept.pop()
    return kept


class Told:
    """What happens in a trace, without times, announcements, stacks' numbers and what depends on the generations; and
    which goroutines are there when."""

    def __init__(self, said):
        self.times, self.lines, self.begins, self.ends = [], [], {}, {}
        stacks = {"0": ""}
        for line in said.decode().splitlines():
            words = line.split(" ")
            if words[0] == "stack":
                stacks[words[1]] = " ".join(words[2:])
            elif words[0] not in ("error", "salvaged"):
                self.add(words, stacks)

    def add(self, words, stacks):
        kind = words[4]
        if kind == "StateTransition":
            before, after = words[6].split("->")
            if words[5].startswith("Goroutine"):
                self.begins.setdefault(words[5], int(words[0]) if before == "NotExist" else 0)
                if after == "NotExist":
                    self.ends[words[5]] = int(words[0])
            if before in (after, "Undetermined") or before + after == "NotExistIdle":
                return
            if words[5].startswith("Proc") and before == "NotExist":
                return
            words[8] = stacks[words[8]]
        elif kind in ("Sync", "RangeActive") or (kind == "Metric" and words[5] in DEPENDING):
            return
        elif kind == "TaskEnd":
            words[6:8] = []  # of a begin that may be cut off
        words[-1] = stacks[words[-1]]
        self.times.append(int(words[0]))
        self.lines.append(" ".join(words[1:]))

    def told(self, start=0, end=1 << 62):
        """What happens from start until before end; a stop of the world that begins before it has no end."""
        result, stopped = [], set()
        for i in range(bisect.bisect_left(self.times, start), bisect.bisect_left(self.times, end)):
            line = self.lines[i]
            if " stop-the-world " in line:
                words = line.split(" ", 5)
                if words[4] == "stop-the-world":
                    if words[3] == "RangeBegin":
                        stopped.add(words[2])
                    elif words[2] not in stopped:
                        continue
            result.append(line)
        return result

    def there(self, start=0, end=1 << 62):
        """The goroutines that exist at some time in it."""
        return {g for g, begin in self.begins.items() if begin < end and self.ends.get(g, end) >= start}


def doings(lines, modulo):
    """What becomes of the goroutines that are 1 modulo it."""
    result = []
    for line in lines:
        words = line.split(" ")
        g = re.fullmatch(r"Goroutine\((\d+)\)", words[4]) if words[3] == "StateTransition" else None
        if g and int(g.group(1)) % modulo == 1:
            result.append(words[4:7])
    return result


class Oracle(unittest.TestCase):
    def same(self, path):
        accepted, theirs = go_says(path)
        for how in ("file", "memory", "stream"):
            mine, ours = we_say(path, "--how=" + how)
            self.assertEqual(mine, accepted, (path, how, theirs[-200:], ours[-200:]))
            if accepted:
                self.first_difference(path, theirs, ours)
        return accepted, theirs.count(b"\n")

    def first_difference(self, path, theirs, ours):
        if theirs == ours:
            return
        theirs, ours = theirs.decode().splitlines(), ours.decode().splitlines()
        for i, (a, b) in enumerate(zip(theirs, ours)):
            self.assertEqual(a, b, f"{path}: line {i}")
        self.assertEqual(len(theirs), len(ours), path)

    def test_golden_traces(self):
        folder = os.path.join(trace_go.testdata(), "testdata", "tests")
        accepted = rejected = 0
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name), encoding="utf-8") as f:
                text = f.read().split("-- trace --\n")[1]
            path = os.path.join(TMP, name)
            with open(path + ".txt", "w", encoding="utf-8") as f:
                f.write(text)
            self.assertEqual(ORACLE.ask("binary", path + ".txt", path), (0, b""))
            ok, _ = self.same(path)
            accepted, rejected = accepted + ok, rejected + (not ok)
        self.assertGreaterEqual(accepted, 20)
        self.assertGreater(rejected, 1)

    def test_what_gos_fuzzer_found(self):
        folder = os.path.join(trace_go.testdata(), "testdata", "fuzz", "FuzzReader")
        for name in sorted(os.listdir(folder)):
            path = os.path.join(TMP, "fuzz-" + name)
            self.assertEqual(ORACLE.ask("corpus", os.path.join(folder, name), path), (0, b""))
            self.same(path)

    def test_traces_of_programs(self):
        for name in PROGRAMS:
            accepted, count = self.same(RECORDED[name])
            self.assertTrue(accepted, name)
            self.assertGreater(count, 400, name)

    def test_cut_short(self):
        rng = random.Random(1)
        for name in ("sched", "tasks"):
            with open(RECORDED[name], "rb") as f:
                data = f.read()
            for _ in range(20):
                path = os.path.join(TMP, "cut")
                with open(path, "wb") as f:
                    f.write(data[:rng.randrange(len(data))])
                self.damaged(path)

    def test_flipped_bytes(self):
        rng = random.Random(2)
        with open(os.path.join(TMP, "small"), "wb") as f:
            f.write(b"")
        subprocess.run([PROGRAM, "sched", os.path.join(TMP, "small"), "3"], check=True,
                       stdout=subprocess.DEVNULL)
        with open(os.path.join(TMP, "small"), "rb") as f:
            data = f.read()
        agreed = 0
        for _ in range(FLIPS):
            broken = bytearray(data)
            for _ in range(rng.choice((1, 1, 1, 2, 5))):
                broken[rng.randrange(16, len(data))] ^= 1 << rng.randrange(8)
            path = os.path.join(TMP, "flipped")
            with open(path, "wb") as f:
                f.write(broken)
            agreed += self.damaged(path)
        self.assertGreater(agreed, FLIPS // 2)

    def cut(self, name, version=23, start=0, end=1, modulo=0, size=0):
        path = os.path.join(TMP, "part")
        subprocess.run([CUT, *map(str, (version, start, end - 1, modulo, size)), RECORDED[name], path], check=True)
        accepted, theirs = go_says(path)
        self.assertTrue(accepted, (name, version, start, end, modulo, theirs[-200:]))
        mine, ours = we_say(path)
        self.assertTrue(mine, ours[-200:])
        self.first_difference(path, theirs, ours)
        return Told(ours)

    def test_written_again(self):
        for name in PROGRAMS:
            first = Told(we_say(RECORDED[name])[1]).told()
            for version, size in ((23, 0), (26, 1), (25, 20000)):
                again = self.cut(name, version=version, size=size).told()
                self.assertEqual(len(again), len(first), name)
                for a, b in zip(again, first):
                    self.assertEqual(a, b, name)

    def test_parts_are_valid(self):
        rng = random.Random(3)
        for name in RECORDED:
            whole = Told(we_say(RECORDED[name])[1])
            for _ in range(CUTS):
                start, end = sorted(rng.sample(whole.times, 2))
                modulo = rng.choice((2, 3, 5))
                told = whole.told(start, end)
                part = self.cut(name, rng.choice((23, 26)), start, end, size=rng.choice((0, 1)))
                self.assertEqual(part.told(), told, (name, start, end))
                self.assertEqual(part.there(), whole.there(start, end), (name, start, end))
                some = self.cut(name, rng.choice((23, 26)), start, end, modulo)
                self.assertEqual(doings(some.told(), modulo), doings(told, modulo), (name, start, end, modulo))
                self.assertTrue(all(int(g[10:-1]) % modulo == 1 for g in some.there()), (name, start, end))

    def test_v1_traces(self):
        for name, path in v1_traces().items():
            accepted, count = self.same(path)
            self.assertTrue(accepted, name)
            self.assertGreater(count, 30, name)

    def judged(self, pieces, ask="verdict"):
        """What Go rejects we reject, what both accept is the same. Where most are accepted Go is asked for the events at
        once: to read is what takes its time. The other way round there is one
        difference: Go's reader puts strings of its own behind the file's, so that the id of a string which the
        file has not may have a meaning; here it has none. How many were accepted."""
        path = os.path.join(TMP, "piece")
        accepted = 0
        for data in pieces:
            with open(path, "wb") as f:
                f.write(data)
            status, verdict = ORACLE.ask(ask, path)
            mine, ours = we_say(path)
            if mine != (status == 0):
                self.assertFalse(mine, (path, verdict))
                self.assertRegex(ours, rb"(?m)^error id .*(names|a frame names a) string.*\n\Z", path)
            if mine:
                self.first_difference(path, verdict if ask == "events" else go_says(path)[1], ours)
            accepted += mine
        return accepted

    def test_v1_cut_at_every_byte(self):
        for name in ("user_task_region_1_11_good", "user_task_region_1_21_good"):
            with open(v1_traces()[name], "rb") as f:
                data = f.read()
            accepted = self.judged(data[:n] for n in range(len(data) + 1))
            self.assertTrue(0 < accepted < 100, accepted)

    def test_v1_flipped_bits(self):
        rng = random.Random(4)
        accepted = 0
        for name, path in v1_traces().items():
            if os.path.getsize(path) > 30000:
                continue
            with open(path, "rb") as f:
                data = f.read()
            pieces = []
            for _ in range(FLIPS // 2):
                broken = bytearray(data)
                for _ in range(rng.choice((1, 1, 1, 2, 5))):
                    broken[rng.randrange(16, len(data))] ^= 1 << rng.randrange(8)
                pieces.append(broken)
            accepted += self.judged(pieces, "events")
        self.assertGreater(accepted, FLIPS // 2)

    def damaged(self, path):
        """What Go rejects we reject, what both accept is the same. Whether both say the same."""
        accepted, theirs = go_says(path)
        mine, ours = we_say(path)
        self.assertFalse(mine and not accepted, (path, theirs[-200:]))
        if accepted and mine:
            self.first_difference(path, theirs, ours)
        if not accepted and not mine:
            kept, salvaged = whole_generations(theirs), we_say(path, "--salvage")
            if len(kept) > 1 and salvaged[0]:
                self.assertEqual(events(salvaged[1])[:-1], kept[:-1], path)
        return accepted == mine


if __name__ == "__main__":
    if not trace_go.GO:
        print("SKIP: Go is not installed, and its trace reader is what we compare with")
        sys.exit(77)
    ORACLE, PROGRAM = trace_go.oracle(), trace_go.build("trace_programs.go")
    OURSELVES = trace_go.Helper(EVENTS, "--serve")
    with tempfile.TemporaryDirectory() as TMP:
        RECORDED = {name: os.path.join(TMP, name + ".trace") for name in (*PROGRAMS, *OURS)}
        for program, scale in PROGRAMS.items():
            subprocess.run([PROGRAM, program, RECORDED[program], str(scale)], check=True,
                           stdout=subprocess.DEVNULL)
        for program, command in OURS.items():
            done = subprocess.run([FIBERSCOPE, "record", "--trace", "--no-inherit", "-o", RECORDED[program], *command],
                                  capture_output=True, text=True, check=False)
            if not os.path.exists(RECORDED[program]):
                sys.exit(f"{program}: not recorded: {done.stderr}")
        unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
