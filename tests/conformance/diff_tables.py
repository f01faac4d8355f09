#!/usr/bin/python3
# SPDX-License-Identifier: MIT
#
# With -base, -diff_base and -normalize `fiberscope top`, `tree`, `peek`, `raw` and `folded` print
# what `go tool pprof` prints, figure by figure.
#
# Deliberate differences: Go does not normalize profiles of different sample types or units, we do;
# normalizing, Go loses samples whose only values are of a type that needs no scaling (it asks only
# the others whether they are zero), we keep them. Where rows have one name and figures of 5 and -5 Go's
# order is that of a hash table (comparePrintableName says of neither that it is less, and sort.Sort is not
# stable): such rows are compared as a set. Only where the last rows shown are among them does it take
# several runs of Go to see whether ours is one of its answers.
# `go tool pprof` takes the last of several bases, we merge them, as -help promises: there it gets
# them merged by itself. `folded` has no peer in Go: it is compared with -traces, added up.

import concurrent.futures
import functools
import os
import re
import subprocess
import sys
import tempfile
import unittest

from report_tables import FILES, OURS, run

sys.dont_write_bytecode = True
import make_pairs  # noqa: E402
import make_pprof_samples  # noqa: E402

MODES = ["-base", "-diff_base", "-normalize -base", "-normalize -diff_base"]
TOPS = ["", "-cum -nodecount=7", "-lines", "-addresses", "-filefunctions -noinlines",
        "-drop_negative", "-mean", "-sample_index=0", "-focus=f1|main -relative_percentages",
        "-ignore=f2 -unit=ms"]
BURN = os.path.join(os.environ["FSCOPE_BUILD"], "tests", "e2e", "burn")


def kept(name):
    return next(f for f in FILES if os.path.basename(f) == name)


NODE = re.compile(r" *-?(\S+) +(\S+%) +(\S+%) +-?(\S+) +(\S+%) +(?:\| +)?(.*)$")


def up_to_ties(items, cum):
    """items: [(a node's row, what belongs to it)]. Those which follow each other under one name with
    figures of one size are put in an order; the running sum, which depends on it, stays for the last."""
    groups = []
    for row, rest in items:
        found = NODE.match(row)
        tie = found and (found.group(6), found.group(4 if cum else 1))
        if found:
            row = row[:found.start(3)] + row[found.end(3):]
        if not found or not groups or tie != groups[-1][0]:
            groups.append((tie, [], []))
        groups[-1][1].append((row, rest))
        groups[-1][2][:] = [found.group(3)] if found else []
    return [(sorted(rows), total) for _, rows, total in groups]


def by_row(text, cum=False):
    return up_to_ties([(row, ()) for row in text.splitlines()], cum)


def by_block(text, cum=False):
    """A tree with the callers and the callees of each function sorted."""
    blocks = []
    for block in re.split(r"(?m)^-+\+-+\n", text):
        rows = block.splitlines()
        node = [i for i, row in enumerate(rows) if re.search(r"%  {15,}\| ", row)]
        if node:
            blocks.append((rows[node[0]], (sorted(rows[:node[0]]), sorted(rows[node[0] + 1:]))))
        else:
            blocks.append(("", rows))
    return up_to_ties(blocks, cum)


def rows(form, options):
    return functools.partial(form, cum="-cum" in options)


def cut_raw(text):
    text = re.sub(r"(?m)^ +bytes:\[0\]\n", "", text)
    return re.sub(r"(?m)^(Duration: .{1,4}).*$", r"\1", text)


def folded_traces(text):
    """{stack: [base, now]} of `go tool pprof -traces`; values in the profile's own unit."""
    sums = {}
    for block in re.split(r"(?m)^-+\+-+\n", text)[1:]:
        base, value, stack = False, None, []
        for row in block.splitlines():
            label = re.match(r" *(\S+):  (.*)$", row)
            if label and not stack:
                base |= label.groups() == ("pprof::base", "true")
                continue
            found = re.match(r"(.{10,}?)   (\S.*?)( \(inline\))?$", row)
            if not stack:
                value = int(re.match(r" *(-?\d+)", found.group(1)).group(1))
            stack.append(found.group(2))
        if stack:
            both = sums.setdefault(";".join(reversed(stack)), [0, 0])
            both[not base] += -value if base else value
    return sums


def folded_ours(text, columns):
    sums = {}  # frames of two modules may have one name
    for row in text.splitlines():
        name, *values = row.rsplit(" ", columns)
        before = sums.get(name, [0] * columns)
        sums[name] = [int(v) + b for v, b in zip(values, before)]
    return {k: v for k, v in sums.items() if any(v)}


class Differences(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.TemporaryDirectory()
        cls.pool = concurrent.futures.ThreadPoolExecutor(2)
        made = make_pprof_samples.make(cls.dir.name)
        cls.pairs = {k: v for k, v in make_pairs.pairs(cls.dir.name).items()}
        for name in ("go_cpu.pb.gz", "go_heap.pb.gz", "go_block.pb.gz", "go_mutex.pb.gz",
                     "gperftools_cpu.prof", "gperftools_heap.txt"):
            if name in made:
                cls.pairs["kept and new " + name] = ([made[name]], [kept(name)])
        cls.pairs["Go's text and file"] = ([kept("go_heap.txt")], [kept("go_heap.pb.gz")])
        cls.pairs["block and mutex"] = ([kept("go_block.pb.gz")], [kept("go_mutex.pb.gz")])
        own = [os.path.join(cls.dir.name, "own%d.pb.gz" % i) for i in range(2)]
        for path, what in zip(own, ("split", "alpha")):
            subprocess.run([OURS, "record", "-F", "997", "-o", path, BURN, what, "300"],
                           check=False, capture_output=True)
        if all(os.path.exists(p) for p in own):
            cls.pairs["our own"] = (own[:1], own[1:])
        cls.merged = {}
        for bases in {tuple(bases) for _, bases in cls.pairs.values() if len(bases) > 1}:
            path = os.path.join(cls.dir.name, "merged%d.pb.gz" % len(cls.merged))
            subprocess.run([PPROF, "-symbolize=none", "-proto", "-output", path, *bases],
                           check=True, capture_output=True)
            cls.merged[bases] = path

    @classmethod
    def tearDownClass(cls):
        cls.pool.shutdown()
        cls.dir.cleanup()

    def base_for_go(self, bases):
        if len(bases) > 1:
            return self.merged[tuple(bases)]
        return bases[0]

    def flags(self, mode, bases):
        """Of a mode such as "-normalize -base": for Go, for us."""
        *more, option = mode.split()
        return (more + [option, self.base_for_go(bases)],
                more + [word for base in bases for word in (option, base)])

    def runs(self, jobs):
        """jobs: (pair, verb, options, peek, mode, normalize), compared two at a time."""
        def both(job):
            pair, verb, options, peek, mode, same = job
            sources, bases = self.pairs[pair]
            theirs, ours = self.flags(mode, bases)
            go_verb = "-" + verb + ("=" + peek if peek else "")
            go = [PPROF, "-symbolize=none", go_verb] + theirs + options.split() + sources
            got = run([OURS, verb] + ours + options.split() + ([peek] if peek else []) + sources)
            for _ in range(40):
                want = run(go)
                if want.returncode or same(want.stdout) == same(got.stdout):
                    break
            return want, got
        for job, (want, got) in zip(jobs, self.pool.map(both, jobs)):
            what = "%s: %s %s %s" % (job[0], job[1], job[4], job[2])
            if want.returncode and "-normalize" in job[4] and "incompatible" in want.stderr:
                self.assertEqual(got.returncode, 0, what + got.stderr)
                continue
            self.assertEqual(want.returncode != 0, got.returncode != 0, what + got.stderr)
            if not want.returncode:
                self.assertEqual(job[5](want.stdout), job[5](got.stdout), what)

    def test_there_are_enough_pairs(self):
        self.assertGreaterEqual(len(self.pairs), 22)

    def test_top(self):
        self.runs([(pair, "top", options, None, mode, rows(by_row, options)) for pair in self.pairs
                   for mode in MODES for options in (TOPS if mode[1] != "n" else TOPS[:3])])

    def test_tree(self):
        self.runs([(pair, "tree", options, None, mode, rows(by_block, options))
                   for pair in self.pairs for mode in MODES
                   for options in ("", "-lines -cum", "-drop_negative")])

    def test_peek(self):
        self.runs([(pair, "peek", "", "f1|main|malloc|spin", mode, by_block)
                   for pair in self.pairs for mode in MODES])

    def test_raw(self):
        self.runs([(pair, "raw", "", None, mode, cut_raw) for pair in self.pairs for mode in MODES])

    def test_each_value_of_heap_profiles(self):
        self.runs([(pair, verb, "-sample_index=" + kind, None, mode, form)
                   for pair in ("heap with labels", "Go's text and file")
                   for kind in ("alloc_objects", "alloc_space", "inuse_objects", "inuse_space")
                   for mode in MODES for verb, form in (("top", by_row), ("tree", by_block))])

    def test_folded_is_what_the_traces_add_up_to(self):
        for pair, (sources, bases) in self.pairs.items():
            index = "-sample_index=0"
            for mode in ("-base", "-diff_base"):
                theirs, ours = self.flags(mode, bases)
                want = run([PPROF, "-symbolize=none", "-traces", "-unit=count", index] + theirs +
                           sources)
                got = run([OURS, "folded", index] + ours + sources)
                self.assertEqual(want.returncode != 0, got.returncode != 0, pair)
                if want.returncode:
                    continue
                traces = folded_traces(want.stdout)
                if mode == "-base":
                    wanted = {k: [v[1] - v[0]] for k, v in traces.items() if v[0] != v[1]}
                elif pair == "negative values in both":
                    continue  # by sign: see analysis/stacks.h
                else:
                    wanted = {k: v for k, v in traces.items() if v != [0, 0]}
                self.assertEqual(wanted, folded_ours(got.stdout, 1 if mode == "-base" else 2),
                                 "%s: %s" % (pair, mode))


class Refusals(unittest.TestCase):
    def test_what_cannot_be_compared_is_said(self):
        cpu, heap = kept("go_cpu.pb.gz"), kept("go_heap.pb.gz")
        for flags, status, said in (
                (["-base", heap], 1, "cpu/nanoseconds"),
                (["-normalize"], 2, "--diff_base=OLD"),
                (["-base", cpu, "-diff_base", cpu], 2, "exclude each other"),
                (["-base", "absent.pb.gz"], 1, "absent.pb.gz: No such file")):
            got = run([OURS, "top"] + flags + [cpu])
            self.assertEqual((got.returncode, got.stdout), (status, ""), got.stderr)
            self.assertIn(said, got.stderr)
            want = run([PPROF, "-symbolize=none", "-top"] + flags + [cpu])
            self.assertNotEqual(want.returncode, 0)


if __name__ == "__main__":
    PPROF = make_pprof_samples.go_pprof()
    if not PPROF:
        print("SKIP: there is no go to compare with")
        sys.exit(77)
    unittest.main()
