#!/usr/bin/python3
# SPDX-License-Identifier: MIT
#
# `fiberscope top`, `tree`, `peek` and `raw` print what `go tool pprof` prints, figure by figure.
#
# Deliberate differences, normalized here: raw prints the whole duration where Go cuts its text to
# four characters; rows whose figures and names are all equal (files under -files that differ in
# what is not shown) stand in any order in Go, which sorts them out of a hash table; the label
# bytes:[0] that Go makes of an empty heap record cannot be written to a profile and is not read.

import glob
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
import make_synthetic  # noqa: E402

OURS = os.path.join(os.environ["FSCOPE_BUILD"], "cli", "fiberscope")
FILES = [f for f in sorted(glob.glob(os.path.join(HERE, "data", "pprof", "*")))
         if "jemalloc" not in f and "perf_script" not in f]  # Go cannot read these
MAIN = [f for f in FILES if re.search("go_cpu|go_heap.pb|gperftools_cpu", f)]
FILTERS = ["-focus=main", "-ignore=runtime", "-show=main", "-hide=^runtime", "-show_from=main",
           "-prune_from=main", "-tagfocus=a", "-tagroot=worker"]
TABLES = FILTERS + ["", "-cum", "-lines", "-addresses", "-filefunctions", "-noinlines",
                    "-nodecount=5", "-sample_index=0", "-unit=us", "-unit=MB", "-divide_by=3",
                    "-nodefraction=0.1", "-edgefraction=0.2", "-relative_percentages -focus=main"]


def run(argv):
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def in_any_order(text):  # Go does not order edges of 5 and -5
    return sorted(text.splitlines())


class Tables(unittest.TestCase):
    def same(self, verb, options, path, normalize=lambda t: t, peek=None):
        go_verb = "-" + verb + ("=" + peek if peek else "")
        want = run([PPROF, "-symbolize=none", go_verb] + options.split() + [path])
        got = run([OURS, verb] + options.split() + ([peek] if peek else []) + [path])
        what = "%s %s %s" % (verb, options, os.path.basename(path))
        self.assertEqual(want.returncode != 0, got.returncode != 0, what + got.stderr)
        if not want.returncode:
            self.assertEqual(normalize(want.stdout), normalize(got.stdout), what)

    def test_top_and_tree_under_each_option(self):
        for path in MAIN:
            for options in TABLES:
                self.same("top", options, path)
            for options in ("-cum", "-lines", "-focus=main", "-edgefraction=0.2", "-nodecount=5"):
                self.same("tree", options, path)

    def test_inlines_mappings_labels_and_negative_values(self):
        more = ["-mean", "-drop_negative", "-noinlines -lines", "-tagfocus=worker=w[12]", "-tagroot=bytes",
                "-tagfocus=bytes=1kb:64kb", "-tagignore=w0", "-focus=libx", "-hide=C<int>",
                "-show_from=f3$", "-ignore=(?i)MAIN\\.F1", "-prune_from=c_", "-tagleaf=worker"]
        with tempfile.TemporaryDirectory() as folder:
            for seed, negative in ((1, False), (2, True)):
                path = os.path.join(folder, "s%d.pb.gz" % seed)
                make_synthetic.write(path, seed, negative)
                for options in TABLES + more:
                    self.same("top", options, path)
                    self.same("tree", options, path, in_any_order if negative else str)
                self.same("peek", "", path, in_any_order if negative else str, "f3$|c_")
                self.same("raw", "", path)

    def test_each_origin(self):
        for path in FILES:
            self.same("top", "", path)
            self.same("tree", "", path)

    def test_files_up_to_the_order_of_equal_rows(self):
        def rows(text):
            return sorted(re.sub(r"^(.{17}).{8}", r"\1", line) for line in text.splitlines())
        for path in FILES:
            self.same("top", "-files", path, rows)

    def test_peek(self):
        for path in FILES:
            self.same("peek", "", path, peek="main|malloc")

    def test_raw(self):
        def cut(text):
            text = re.sub(r"(?m)^ +bytes:\[0\]\n", "", text)
            return re.sub(r"(?m)^(Duration: .{1,4}).*$", r"\1", text)
        for path in FILES:
            for options in [""] + (FILTERS if path in MAIN else []):
                self.same("raw", options, path, cut)


if __name__ == "__main__":
    PPROF = make_pprof_samples.go_pprof()
    if not PPROF:
        print("SKIP: there is no go to compare with")
        sys.exit(77)
    unittest.main()
