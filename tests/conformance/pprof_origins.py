#!/usr/bin/python3
# SPDX-License-Identifier: MIT
#
# What profiles of other programs say is the same after we have read and written them, in the words
# of `go tool pprof -raw`; merging gives what `go tool pprof -proto a b` gives.

import glob
import os
import re
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
KEPT = os.path.join(HERE, "data", "pprof")
sys.path.insert(0, os.path.join(HERE, "data"))
sys.dont_write_bytecode = True
import make_pprof_samples  # noqa: E402

TOOL = os.path.join(os.environ["FSCOPE_BUILD"], "tests", "conformance", "pprof_tool")
# What Go cannot read itself.
OURS_ONLY = ("jemalloc", "perf_script")


PPROF = make_pprof_samples.go_pprof()


def raw(path):
    out = subprocess.run([PPROF, "-symbolize=none", "-raw", path], capture_output=True, text=True,
                         check=False)
    if out.returncode:
        raise AssertionError("%s: %s" % (path, out.stderr))
    return out.stdout


def tool(*argv):
    return subprocess.run([TOOL] + list(argv), capture_output=True, text=True, check=True).stdout


def raw_samples(text):
    """[(values, ids)] of a -raw text."""
    lines = text[text.index("Samples:"):text.index("Locations")].splitlines()[2:]
    found = [re.match(r"\s+((?:-?\d+\s+)*-?\d+): ([\d ]*)$", line) for line in lines]
    return [([int(v) for v in m[1].split()], m[2].split()) for m in found if m]


class Origins(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.dir = cls.scratch.name
        cls.samples = {"kept/" + os.path.basename(p): p for p in glob.glob(KEPT + "/*")}
        live = os.path.join(cls.dir, "live")
        os.mkdir(live)
        cls.samples.update(("live/" + k, v) for k, v in make_pprof_samples.make(live).items())

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def convert(self, path, *options):
        out = os.path.join(self.dir, "out.pb.gz")
        tool("convert", *options, path, out)
        return out

    def by_go(self, *paths):
        out = os.path.join(self.dir, "go.pb.gz")
        subprocess.run([PPROF, "-symbolize=none", "-proto", "-output", out] + list(paths),
                       check=True, capture_output=True)
        return out

    def test_protobuf_is_the_same_after_reading_and_writing(self):
        seen = 0
        for name, path in sorted(self.samples.items()):
            if not path.endswith(".pb.gz"):
                continue
            with self.subTest(name):
                before = raw(path)
                self.assertEqual(before, raw(self.convert(path)))
                self.assertEqual(before, raw(self.convert(path, "--plain")))
                seen += 1
        self.assertGreaterEqual(seen, 6)

    def test_older_formats_mean_what_go_takes_them_for(self):
        seen = 0
        for name, path in sorted(self.samples.items()):
            if path.endswith(".pb.gz") or os.path.basename(path).startswith(OURS_ONLY):
                continue
            with self.subTest(name):
                self.assertEqual(raw(self.by_go(path)), raw(self.convert(path)))
                seen += 1
        self.assertGreaterEqual(seen, 5)

    def test_what_only_we_read_survives_another_round(self):
        seen = 0
        for name, path in sorted(self.samples.items()):
            if not os.path.basename(path).startswith(OURS_ONLY):
                continue
            with self.subTest(name):
                once = self.convert(path)
                again = os.path.join(self.dir, "again.pb.gz")
                tool("convert", once, again)
                self.assertEqual(raw(once), raw(again))
                seen += 1
        self.assertGreaterEqual(seen, 3)

    def test_jemalloc_counts_are_unsampled(self):
        import math
        for name, path in self.samples.items():
            if "jemalloc" not in name:
                continue
            with self.subTest(name), open(path, encoding="ascii") as f:
                text = f.read()
                rate = int(re.match(r"heap_v2/(\d+)", text)[1])
                want = []
                for stack, n, size in re.findall(
                        r"^@([ 0-9a-fx]+)\n +t\*: (\d+): (\d+)", text, re.M):
                    n, size = int(n), int(size)
                    scale = 1 / (1 - math.exp(-(size / n) / rate)) if n and size else 0
                    want.append(([int(n * scale), int(size * scale)], len(stack.split())))
                self.assertTrue(want)
                got = raw_samples(raw(self.convert(path)))
                self.assertEqual(want, [(values, len(ids)) for values, ids in got])

    def test_perf_script_keeps_every_event(self):
        for name, path in self.samples.items():
            if not name.endswith("/perf_script.txt"):
                continue
            with self.subTest(name), open(path, encoding="utf-8") as f:
                periods = [int(p) for p in re.findall(r"^\S.* (\d+) cpu-clock:.*$", f.read(), re.M)]
                got = raw_samples(raw(self.convert(path)))
                self.assertTrue(periods)
                self.assertEqual(len(periods), sum(v[0] for v, _ in got))
                self.assertEqual(sum(periods), sum(v[1] for v, _ in got))

    def test_perf_script_with_odd_names(self):
        text = raw(self.convert(os.path.join(KEPT, "perf_script_hard.txt")))
        self.assertIn("samples/count cycles:u/count instructions/count", text)
        self.assertEqual([v for v, _ in raw_samples(text)],
                         [[2, 500000, 0], [1, 0, 1], [1, 1, 0]])
        self.assertIn("comm:[Web Content]", text)
        self.assertIn("comm:[kworker/0:1-events]", text)
        self.assertIn("comm:[a b  c]", text)
        self.assertRegex(text, r"0x7f0000001234 M=1 std::vector<int, std::allocator<int> >"
                               r"::push_back\(int&&\) :0:0 s=0\n +ns::work\(int, char const\*\) ")
        self.assertIn("0x7f0000005677 M=2 main", text)
        self.assertIn("/usr/lib/libweb (new).so", text)
        self.assertRegex(text, r"2: 0x0/0x0/0x0 /usr/bin/web  \[FN\]")

    def test_merging_is_what_go_makes_of_it(self):
        pairs = [("go_heap.pb.gz", "go_heap.pb.gz"), ("go_block.pb.gz", "go_mutex.pb.gz"),
                 ("go_cpu.pb.gz", "gperftools_cpu.prof"), ("go_cpu.pb.gz", "go_cpu.pb.gz"),
                 ("go_block.txt", "go_block.pb.gz")]
        out = os.path.join(self.dir, "merged.pb.gz")
        for a, b in pairs:
            for where in "kept", "live":
                paths = [self.samples.get("kept/" + a), self.samples.get(where + "/" + b)]
                if None in paths:
                    continue
                with self.subTest("%s + %s/%s" % (a, where, b)):
                    tool("merge", out, *paths)
                    self.assertEqual(raw(self.by_go(*paths)), raw(out))

    def test_merging_refuses_what_does_not_belong_together(self):
        out = os.path.join(self.dir, "never.pb.gz")
        got = subprocess.run([TOOL, "merge", out, self.samples["kept/go_cpu.pb.gz"],
                              self.samples["kept/go_heap.pb.gz"]], capture_output=True, text=True,
                             check=False)
        self.assertEqual(got.returncode, 1)
        self.assertIn("period type", got.stderr)
        self.assertFalse(os.path.exists(out))


if __name__ == "__main__":
    if not PPROF:
        print("SKIP: Go is not installed, and go tool pprof is what we compare with")
        sys.exit(77)
    unittest.main(verbosity=1)
