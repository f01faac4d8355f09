#!/usr/bin/python3
# SPDX-License-Identifier: MIT
#
# Every trace that Go's own reader (internal/trace) accepts gives the same events here, field by field,
# however it comes in; every one that it rejects is rejected: for Go's test data of both formats, for traces
# of six Go programs, for those cut short and with bytes flipped. Parts of these traces and of our own, of
# random times and goroutines, are accepted by it and have what was asked for.

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
FLIPS = int(os.environ.get("TRACE_FLIPS", "150"))
CUTS = int(os.environ.get("TRACE_CUTS", "6"))


def go_says(path):
    """(whether it accepts, the lines)"""
    out = subprocess.run([ORACLE, "events", path], capture_output=True, text=True, check=False)
    return out.returncode == 0, out.stdout.splitlines()


def we_say(path, *options):
    out = subprocess.run([EVENTS, *options, path], capture_output=True, text=True, check=False)
    assert out.returncode in (0, 1), (path, out.returncode, out.stderr)
    return out.returncode == 0, out.stdout.splitlines()


def v1_traces():
    """Go's test data in format v1: names to paths."""
    folder = os.path.join(trace_go.testdata(), "internal", "tracev1", "testdata")
    return {name: os.path.join(folder, name) for name in sorted(os.listdir(folder))}


def events(lines):
    return [line for line in lines if not line.startswith(("error", "salvaged"))]


def whole_generations(lines):
    """What go tool trace keeps of a damaged trace: up to the last Sync."""
    kept = events(lines)
    while kept and " Sync " not in kept[-1]:
        kept.pop()
    return kept


def told(lines):
    """What happens, without times, announcements, stacks' numbers and what depends on the generations."""
    stacks, result, stopped = {"0": ""}, [], set()
    for line in lines:
        words = line.split(" ")
        if words[0] == "stack":
            stacks[words[1]] = " ".join(words[2:])
            continue
        if words[4] in ("Sync", "RangeActive") or "/sched/gomaxprocs" in line or "/gc/heap/goal" in line:
            continue
        if words[4] == "StateTransition":
            states = words[6].split("->")
            if states[0] in (states[1], "Undetermined") or (states == ["NotExist", "Idle"]):
                continue
            if words[5].startswith("Proc") and states[0] == "NotExist":
                continue
            words[8] = stacks[words[8]]
        if words[4] == "TaskEnd":
            words[6:8] = []  # of a begin that may be cut off
        if words[5] == "stop-the-world":
            if words[4] == "RangeBegin":
                stopped.add(words[3])
            elif words[3] not in stopped:
                continue
        words[-1] = stacks[words[-1]]
        result.append(" ".join(words[1:]))
    return result


def in_range(lines, start, end):
    return [li for li in lines if li.startswith("stack") or start <= int(li.split(" ")[0]) < end]


def there(lines, start=0, end=1 << 62):
    """The goroutines that exist at some time in it."""
    begins, ends = {}, {}
    for line in lines:
        words = line.split(" ")
        if words[0] == "stack" or words[4] != "StateTransition" or not words[5].startswith("Goroutine"):
            continue
        before, after = words[6].split("->")
        begins.setdefault(words[5], int(words[0]) if before == "NotExist" else 0)
        if after == "NotExist":
            ends[words[5]] = int(words[0])
    return {g for g, begin in begins.items() if begin < end and ends.get(g, end) >= start}


def doings(lines, modulo):
    """What becomes of the goroutines that are 1 modulo it."""
    result = []
    for line in told(lines):
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
            self.assertEqual(mine, accepted, (path, how, theirs[-1:], ours[-1:]))
            if accepted:
                self.first_difference(path, theirs, ours)
        return accepted, len(theirs)

    def first_difference(self, path, theirs, ours):
        if theirs == ours:
            return
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
            subprocess.run([ORACLE, "binary", path + ".txt", path], check=True)
            ok, _ = self.same(path)
            accepted, rejected = accepted + ok, rejected + (not ok)
        self.assertGreaterEqual(accepted, 20)
        self.assertGreater(rejected, 1)

    def test_what_gos_fuzzer_found(self):
        folder = os.path.join(trace_go.testdata(), "testdata", "fuzz", "FuzzReader")
        for name in sorted(os.listdir(folder)):
            path = os.path.join(TMP, "fuzz-" + name)
            subprocess.run([ORACLE, "corpus", os.path.join(folder, name), path], check=True)
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
        self.assertTrue(accepted, (name, version, start, end, modulo, theirs[-1:]))
        mine, ours = we_say(path)
        self.assertTrue(mine, ours[-1:])
        self.first_difference(path, theirs, ours)
        return ours

    def test_written_again(self):
        for name in PROGRAMS:
            first = told(we_say(RECORDED[name])[1])
            for version, size in ((23, 0), (26, 1), (25, 20000)):
                again = self.cut(name, version=version, size=size)
                self.assertEqual(len(told(again)), len(first), name)
                for a, b in zip(told(again), first):
                    self.assertEqual(a, b, name)

    def test_parts_are_valid(self):
        rng = random.Random(3)
        for name in RECORDED:
            whole = events(we_say(RECORDED[name])[1])
            times = sorted(int(line.split()[0]) for line in whole if not line.startswith("stack"))
            for _ in range(CUTS):
                start, end = sorted(rng.sample(times, 2))
                modulo = rng.choice((2, 3, 5))
                part = self.cut(name, rng.choice((23, 26)), start, end, size=rng.choice((0, 1)))
                self.assertEqual(told(part), told(in_range(whole, start, end)), (name, start, end))
                self.assertEqual(there(part), there(whole, start, end), (name, start, end))
                some = self.cut(name, rng.choice((23, 26)), start, end, modulo)
                self.assertEqual(doings(some, modulo), doings(in_range(whole, start, end), modulo),
                                 (name, start, end, modulo))
                self.assertTrue(all(int(g[10:-1]) % modulo == 1 for g in there(some)), (name, start, end))

    def test_v1_traces(self):
        for name, path in v1_traces().items():
            accepted, count = self.same(path)
            self.assertTrue(accepted, name)
            self.assertGreater(count, 30, name)

    def judged(self, pieces):
        """What Go rejects we reject, what both accept is the same. The other way round there is one
        difference: Go's reader puts strings of its own behind the file's, so that the id of a string which the
        file has not may have a meaning; here it has none. How many were accepted."""
        paths = []
        for i, data in enumerate(pieces):
            paths.append(os.path.join(TMP, f"piece{i}"))
            with open(paths[-1], "wb") as f:
                f.write(data)
        verdicts = subprocess.run([ORACLE, "verdicts"], input="\n".join(paths) + "\n", capture_output=True,
                                  text=True, check=True).stdout.splitlines()
        self.assertEqual(len(verdicts), len(paths))
        accepted = 0
        for path, verdict in zip(paths, verdicts):
            mine, ours = we_say(path)
            if mine != (verdict == "accepted"):
                self.assertFalse(mine, (path, verdict))
                self.assertRegex(ours[-1], "^error id .*(names|a frame names a) string", path)
            if mine:
                self.first_difference(path, go_says(path)[1], ours)
            accepted += mine
            os.unlink(path)
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
            accepted += self.judged(pieces)
        self.assertGreater(accepted, FLIPS // 2)

    def damaged(self, path):
        """What Go rejects we reject, what both accept is the same. Whether both say the same."""
        accepted, theirs = go_says(path)
        mine, ours = we_say(path)
        self.assertFalse(mine and not accepted, (path, theirs[-1:]))
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
    with tempfile.TemporaryDirectory() as TMP:
        ORACLE, PROGRAM = trace_go.build(os.path.join(TMP, "go"), os.path.join(HERE, "trace_oracle.go"),
                                         os.path.join(HERE, "trace_programs.go"))
        RECORDED = {}
        for program, scale in PROGRAMS.items():
            RECORDED[program] = os.path.join(TMP, program + ".trace")
            subprocess.run([PROGRAM, program, RECORDED[program], str(scale)], check=True,
                           stdout=subprocess.DEVNULL)
        for program, command in OURS.items():
            RECORDED[program] = os.path.join(TMP, program + ".trace")
            done = subprocess.run([FIBERSCOPE, "record", "--trace", "--no-inherit", "-o", RECORDED[program], *command],
                                  capture_output=True, text=True, check=False)
            if not os.path.exists(RECORDED[program]):
                sys.exit(f"{program}: not recorded: {done.stderr}")
        unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
