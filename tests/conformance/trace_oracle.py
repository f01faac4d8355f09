#!/usr/bin/python3
# SPDX-License-Identifier: MIT
#
# Every trace that Go's own reader (internal/trace) accepts gives the same events here, field by field,
# however it comes in; every one that it rejects is rejected: for Go's test data, for traces of six Go
# programs, for those cut short and with bytes flipped.

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

EVENTS = os.path.join(os.environ["FSCOPE_BUILD"], "tests", "conformance", "trace_events")
PROGRAMS = {"sched": 300, "net": 100, "tasks": 40, "gc": 30, "timers": 30, "iter": 500}
FLIPS = int(os.environ.get("TRACE_FLIPS", "150"))


def go_says(path):
    """(whether it accepts, the lines)"""
    out = subprocess.run([ORACLE, "events", path], capture_output=True, text=True, check=False)
    return out.returncode == 0, out.stdout.splitlines()


def we_say(path, *options):
    out = subprocess.run([EVENTS, *options, path], capture_output=True, text=True, check=False)
    assert out.returncode in (0, 1), (path, out.returncode, out.stderr)
    return out.returncode == 0, out.stdout.splitlines()


def events(lines):
    return [line for line in lines if not line.startswith(("error", "salvaged"))]


def whole_generations(lines):
    """What go tool trace keeps of a damaged trace: up to the last Sync."""
    kept = events(lines)
    while kept and " Sync " not in kept[-1]:
        kept.pop()
    return kept


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
        unittest.main(argv=[sys.argv[0], "-v"])
