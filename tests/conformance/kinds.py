#!/usr/bin/python3
# SPDX-License-Identifier: MIT
#
# `go tool pprof` reads each kind of profile that `fiberscope finish` makes of a segment, and its totals
# are what was put into the segment; those of a sampled heap after unsampling, computed here by Go's rule.

import math
import os
import re
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "data"))
sys.dont_write_bytecode = True
import make_pprof_samples  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
FIBERSCOPE = os.path.join(BUILD, "cli", "fiberscope")
SEGMENT = os.path.join(BUILD, "tests", "conformance", "kinds_segment")
RATE = 524288
GO = make_pprof_samples.find_go()
PPROF = None  # the tool itself: `go tool` takes its time at each call


def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout


def total(path, index, unit, *options):
    text = run(PPROF, "-symbolize=none", "-top", "-nodefraction=0", f"-sample_index={index}", f"-unit={unit}",
               *options, path)
    found = re.search(r"^Showing nodes accounting for (-?[0-9.e+]+)[a-zA-Z]*, [0-9.]+% of ([0-9.e+]+)", text,
                      re.M)
    assert found, text
    return int(float(found.group(1)))


def default_type(path):
    return re.search(r"^Type: (\S+)", run(PPROF, "-symbolize=none", "-top", path), re.M).group(1)


class Case:
    def __init__(self, folder, seed, rate):
        dump = os.path.join(folder, "dump")
        self.truth = {}
        for line in run(SEGMENT, dump, str(seed), str(rate)).splitlines():
            kind, *numbers = line.split()
            self.truth.setdefault(kind, []).append(numbers)
        run(FIBERSCOPE, "finish", "--quiet", "-o", os.path.join(folder, "%k.pb.gz"), dump)
        self.folder = folder

    def path(self, kind):
        return os.path.join(self.folder, kind + ".pb.gz")

    def numbers(self, kind):
        return [[int(n) for n in row] for row in self.truth[kind]]


class Kinds(unittest.TestCase):
    def check(self, path, want, units):
        for (index, value), unit in zip(want.items(), units):
            # More digits than a double's are not printed by Go.
            self.assertAlmostEqual(total(path, index, unit) / max(value, 1), 1.0, delta=1e-15, msg=index)

    def test_a_sampled_heap(self):
        for seed in (1, 2, 3):
            with tempfile.TemporaryDirectory() as folder:
                c = Case(folder, seed, RATE)
                sums = [0, 0, 0, 0]
                for n, size, freed, freed_size, *_ in c.numbers("heap"):
                    scale = 1 / (1 - math.exp(-(size / n) / RATE))
                    for i, value in enumerate((n, size, n - freed, size - freed_size)):
                        sums[i] += int(value * scale)
                self.check(c.path("heap"), dict(zip(
                    ("alloc_objects", "alloc_space", "inuse_objects", "inuse_space"), sums)),
                    ("count", "B", "count", "B"))
                self.assertEqual(default_type(c.path("heap")), "inuse_space")
                tags = run(PPROF, "-symbolize=none", "-tags", c.path("heap"))
                self.assertIn(" bytes: Total ", tags)

    def test_an_exact_heap_and_its_lifetimes(self):
        for seed in (4, 5):
            with tempfile.TemporaryDirectory() as folder:
                c = Case(folder, seed, 1)
                rows = list(zip(*c.numbers("heap")))
                n, size, freed, freed_size, temporary, peak, peak_size = map(sum, rows)
                self.check(c.path("heap"), {
                    "alloc_objects": n, "alloc_space": size, "temporary_objects": temporary,
                    "peak_objects": peak, "peak_space": peak_size, "inuse_objects": n - freed,
                    "inuse_space": size - freed_size}, ("count", "B", "count", "count", "B", "count", "B"))
                self.assertEqual(default_type(c.path("heap")), "inuse_space")
                lives = c.numbers("lifetime")
                self.check(c.path("lifetime"), {"freed_objects": sum(v for _, v in lives)}, ("count",))
                # Buckets 1 to 5: from 1 us to 1024 us.
                some = total(c.path("lifetime"), "freed_objects", "count", "-tagfocus=lifetime=1us:1024us")
                self.assertEqual(some, sum(v for k, v in lives if 1 <= k <= 5))
                longest = total(c.path("lifetime"), "freed_objects", "count",
                                "-tagfocus=lifetime=268435456us:")
                self.assertEqual(longest, sum(v for k, v in lives if k == 15))

    def test_locks(self):
        with tempfile.TemporaryDirectory() as folder:
            c = Case(folder, 6, RATE)
            for kind in ("block", "mutex"):
                rows = c.truth[kind]
                self.check(c.path(kind), {"contentions": sum(int(r[0]) for r in rows),
                                          "delay": sum(int(r[1]) for r in rows)}, ("count", "ns"))
                self.assertEqual(default_type(c.path(kind)), "delay")
                lock = rows[0][2]
                one = total(c.path(kind), "contentions", "count", f"-tagfocus=lock=lock 0x{lock}$")
                self.assertEqual(one, sum(int(r[0]) for r in rows if r[2] == lock))

    def test_custom_profiles(self):
        with tempfile.TemporaryDirectory() as folder:
            c = Case(folder, 7, RATE)
            for name in ("files", "rows"):
                rows = c.numbers(name)
                self.check(c.path(name), {name: sum(a - b for a, b in rows)}, ("count",))


if __name__ == "__main__":
    if not GO:
        print("SKIP: no Go here")
        sys.exit(77)
    subprocess.run([GO, "tool", "pprof", "-h"], check=False, capture_output=True)
    PPROF = run(GO, "tool", "-n", "pprof").strip()
    unittest.main()
