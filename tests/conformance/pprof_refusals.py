#!/usr/bin/python3
# SPDX-License-Identifier: MIT
#
# A profile that `go tool pprof` refuses we refuse, naming byte and reason, and what it accepts we
# accept and print the same: for a table of broken profiles, one per rule, and for flipped bytes.

import concurrent.futures
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
import pprof_origins  # noqa: E402
from make_synthetic import msg as sub, varint  # noqa: E402

PPROF, TOOL = pprof_origins.PPROF, pprof_origins.TOOL


def num(field, v):
    return varint(field << 3) + varint(v)


STRINGS = ["", "samples", "count", "main", "main.c", "/bin/x", "key", "value", "bytes", "drop"]
PARTS = {
    "type": sub(1, num(1, 1) + num(2, 2)),
    "sample": sub(2, sub(1, varint(1) + varint(2)) + sub(2, varint(5)) +
                  sub(3, num(1, 6) + num(2, 7))),
    "mapping": sub(3, num(1, 1) + num(2, 0x1000) + num(3, 0x9000) + num(5, 5)),
    "location": sub(4, num(1, 1) + num(2, 1) + num(3, 0x1234) + sub(4, num(1, 1) + num(2, 7))) +
    sub(4, num(1, 2) + num(2, 1) + num(3, 0x2234)),
    "function": sub(5, num(1, 1) + num(2, 3) + num(3, 3) + num(4, 4)),
    "strings": b"".join(sub(6, s.encode()) for s in STRINGS),
    "period": sub(11, num(1, 1) + num(2, 2)) + num(12, 10),
}


def profile(extra=b"", **replaced):
    return b"".join(replaced.get(k, v) for k, v in PARTS.items()) + extra


def sample(locations=varint(1), values=varint(5), rest=b""):
    return sub(2, sub(1, locations) + sub(2, values) + rest)


def location(*body):
    return PARTS["location"] + sub(4, num(1, 3) + b"".join(body))


CASES = {
    "as it should be": profile(),
    "string table first": PARTS["strings"] + profile(strings=b""),
    "no strings": profile(strings=b""),
    "first string not empty": profile(strings=sub(6, b"x") + PARTS["strings"]),
    "string number beyond the table": profile(function=sub(5, num(1, 1) + num(2, 10))),
    "negative string number": profile(function=sub(5, num(1, 1) + num(2, -1))),
    "no sample type": profile(type=b""),
    "nothing but strings": PARTS["strings"],
    "no samples": profile(sample=b""),
    "two values for one type": profile(sample=sample(values=varint(1) + varint(2))),
    "no value": profile(sample=sub(2, sub(1, varint(1)))),
    "unpacked numbers": profile(sample=sub(2, num(1, 1) + num(1, 2) + num(2, 3))),
    "packed in two pieces": profile(sample=sub(2, sub(1, b"\1") + sub(1, b"\2") + num(2, 3))),
    "packed, cut in a number": profile(sample=sample(locations=b"\x01\x81")),
    "values of wire type 5": profile(sample=sub(2, sub(1, b"\1") + b"\x15\1\0\0\0")),
    "unknown location": profile(sample=sample(locations=varint(77))),
    "location 0": profile(sample=sample(locations=varint(0))),
    "no location at all": profile(sample=sub(2, sub(2, varint(5)))),
    "location id 0": profile(location=PARTS["location"] + sub(4, num(3, 5))),
    "location twice": profile(location=PARTS["location"] + sub(4, num(1, 1))),
    "location with an id like an address": profile(
        location=PARTS["location"] + sub(4, num(1, 0xffffffff81000000)),
        sample=sample(locations=varint(0xffffffff81000000))),
    "large location id twice": profile(location=PARTS["location"] + 2 * sub(4, num(1, 1 << 40))),
    "mapping id 0": profile(mapping=PARTS["mapping"] + sub(3, num(2, 5))),
    "mapping twice": profile(mapping=2 * PARTS["mapping"]),
    "location in a mapping that is not there": profile(location=location(num(2, 9))),
    "function id 0": profile(function=PARTS["function"] + sub(5, num(2, 3))),
    "function twice": profile(function=2 * PARTS["function"]),
    "line without function": profile(location=location(sub(4, num(2, 3)))),
    "line with a function that is not there": profile(location=location(sub(4, num(1, 9)))),
    "line with a column": profile(location=location(sub(4, num(1, 1) + num(2, -3) + num(3, 4)))),
    "folded location": profile(location=location(num(5, 1))),
    "mapping flags": profile(mapping=sub(3, num(1, 1) + num(7, 1) + num(8, 2) + num(9, -1) +
                                         num(10, 1))),
    "label without a value": profile(sample=sample(rest=sub(3, num(1, 6)))),
    "empty label": profile(sample=sample(rest=sub(3, b""))),
    "label with an unknown key": profile(sample=sample(rest=sub(3, num(1, 99) + num(2, 7)))),
    "label with an unknown value": profile(sample=sample(rest=sub(3, num(1, 6) + num(2, 99)))),
    "number label with unit": profile(
        sample=sample(rest=sub(3, num(1, 6) + num(3, 9) + num(4, 8)))),
    "unit without number": profile(sample=sample(rest=sub(3, num(1, 6) + num(4, 8)))),
    "string label with a wild unit": profile(
        sample=sample(rest=sub(3, num(1, 6) + num(2, 7) + num(4, 99)))),
    "negative value": profile(sample=sample(values=varint(-5))),
    "two labels of one key": profile(sample=sample(
        rest=sub(3, num(1, 6) + num(3, 9) + num(4, 8)) + sub(3, num(1, 6) + num(3, 4)))),
    "time twice": profile(num(9, 5) + num(9, 6)),
    "time 0 then 6": profile(num(9, 0) + num(9, 6)),
    "two profiles one after the other": profile(num(9, 5)) + profile(num(9, 5)),
    "comment packed": profile(sub(13, varint(3) + varint(4))),
    "comment beyond the table": profile(num(13, 99)),
    "comment of wire type 1": profile(varint(13 << 3 | 1) + 8 * b"\0"),
    "drop frames replaced": profile(num(7, 99) + num(7, 9)),
    "period type replaced": profile(sub(11, num(1, 3) + num(2, 4))),
    "default type and url": profile(num(14, 1) + num(15, 5)),
    "default type beyond the table": profile(num(14, 88)),
    "unknown fields": profile(num(99, 5) + sub(100, b"xyz") + varint(101 << 3 | 5) + b"1234" +
                              varint(102 << 3 | 1) + b"12345678"),
    "field 0": profile(num(0, 5)),
    "group": profile(varint(20 << 3 | 3)),
    "wire type 7": profile(varint(20 << 3 | 7)),
    "eleven bytes of a number": profile(varint(99 << 3) + 10 * b"\x80" + b"\1"),
    "ten bytes of a number": profile(varint(99 << 3) + 9 * b"\xff" + b"\x7f"),
    "sample as a number": profile(num(2, 5)),
    "time as bytes": profile(sub(9, b"x")),
    "cut in a message": profile()[:-3] + b"",
    "message longer than the file": profile(sub(5, b"abc")[:-1]),
    "message inside longer than its outside": profile(location=location(b"\x22\x7f\x08\x01")),
    "empty file": b"",
    "one byte": b"\n",
    "words": b"this is no profile\n",
    "gzip header alone": b"\x1f\x8b",
    "heap text with a bad line": b"heap profile: 1: 1 [1: 1] @ heapprofile\nnonsense\n",
    "heap text of an unknown kind": b"heap profile: 1: 1 [1: 1] @ heapxyz/9\n",
    "heap text, bytes in no objects": b"heap profile: 1: 1 [1: 1] @ heap/2\n0: 5 [1: 1] @ 0x1\n",
    "heap text": b"heap profile: 1: 9 [2: 20] @ heap/1024\n1: 9 [2: 20] @ 0x1000 0x2000\n",
    "growth text": b"heap profile: 1: 9 [1: 9] @ growthz\n1: 9 [1: 9] @ 0x1000 0x2000\n",
    "heap text, address too large":
        b"heap profile: 1: 9 [1: 9] @ heap/2\n1: 9 [1: 9] @ 0x11112222333344445\n",
    "count text": b"thing profile: total 2\n2 @ 0x1000 0x2000\n# x\n\n1 @ 0x3000\n",
    "count text with a bad line": b"thing profile: total 2\n2 @\n",
    "contention text": b"--- mutex:\ncycles/second=2000000000\nsampling period=5\n100 3 @ 0x10\n",
    "contention text with a bad attribute": b"--- mutex:\nformat=java\n100 3 @ 0x10\n",
}


def by_go(path):
    out = subprocess.run([PPROF, "-symbolize=none", "-raw", path], capture_output=True, text=True,
                         check=False, errors="replace")
    return out.stdout if out.returncode == 0 else None


class Refusals(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)

    def judge(self, index, name, data, exact):
        """Lines that say where Go and we differ on these bytes."""
        path = os.path.join(self.scratch.name, "%d.pb" % index)
        out = path + ".out"
        with open(path, "wb") as f:
            f.write(data)
        want = by_go(path)
        ours = subprocess.run([TOOL, "convert", path, out], capture_output=True, text=True,
                              check=False, errors="replace")
        if ours.returncode not in (0, 1):
            return ["%s: exit status %d: %s" % (name, ours.returncode, ours.stderr)]
        if (want is None) != (ours.returncode == 1):
            return ["%s: Go %s, we %s %s" % (name, "refuses" if want is None else "accepts",
                                             ours.stdout, ours.stderr)]
        if ours.returncode and not re.search(r"byte \d+.*: \w+.*: ", ours.stderr):
            return ["%s: says too little: %s" % (name, ours.stderr)]
        if exact and want is not None and want != by_go(out):
            return ["%s: written differently: %s" % (name, by_go(out))]
        return []

    def judge_all(self, cases, exact):
        self.assertIsNotNone(PPROF)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            found = pool.map(lambda c: self.judge(c[0], c[1][0], c[1][1], exact),
                             enumerate(cases))
        self.assertEqual([line for lines in found for line in lines], [])

    def test_one_rule_at_a_time(self):
        # Ids are renumbered on reading, so what has others is not printed the same.
        renumbered = {"location with an id like an address",
                      "location in a mapping that is not there"}
        self.judge_all([c for c in CASES.items() if c[0] not in renumbered], True)
        self.judge_all([c for c in CASES.items() if c[0] in renumbered], False)

    def test_units_are_united_as_go_does(self):
        texts = {}
        for name, strings in (("ms", [b"cpu", b"milliseconds"]), ("ns", [b"cpu", b"nanoseconds"]),
                              ("s", [b"cpu", b"s"]), ("mb", [b"cpu", b"megabytes"])):
            table = b"".join(sub(6, s) for s in [b""] + strings + [s.encode()
                                                                   for s in STRINGS[3:]])
            texts[name] = os.path.join(self.scratch.name, name)
            with open(texts[name], "wb") as f:
                f.write(profile(strings=table, period=sub(11, num(1, 1) + num(2, 2)) + num(12, 7)))
        out, go_out = (os.path.join(self.scratch.name, n) for n in ("ours.pb.gz", "go.pb.gz"))
        for a, b in (("ms", "ns"), ("ns", "ms"), ("s", "ms"), ("ms", "s"), ("mb", "mb"),
                     ("mb", "ms")):
            with self.subTest("%s + %s" % (a, b)):
                ours = subprocess.run([TOOL, "merge", out, texts[a], texts[b]], check=False,
                                      capture_output=True)
                go = subprocess.run([PPROF, "-symbolize=none", "-proto", "-output", go_out,
                                     texts[a], texts[b]], check=False, capture_output=True)
                self.assertEqual(ours.returncode != 0, go.returncode != 0)
                if go.returncode == 0:
                    self.assertEqual(by_go(go_out), by_go(out))

    def test_an_older_file_that_is_cut(self):
        path, out = (os.path.join(self.scratch.name, n) for n in ("cut", "out.pb.gz"))
        for name in ("gperftools_cpu.prof", "gperftools_heap.txt", "jemalloc_heap.txt",
                     "perf_script.txt", "go_heap.txt", "go_goroutine.txt", "go_mutex.txt"):
            with open(os.path.join(pprof_origins.KEPT, name), "rb") as f:
                data = f.read()
            before = 0
            for size in range(1, min(len(data), 2500), 37):
                with open(path, "wb") as f:
                    f.write(data[:size])
                plain = subprocess.run([TOOL, "convert", path, out], capture_output=True,
                                       text=True, check=False)
                saved = subprocess.run([TOOL, "convert", "--salvage", path, out],
                                       capture_output=True, text=True, check=False)
                with self.subTest("%s cut at %d" % (name, size)):
                    self.assertIn(plain.returncode, (0, 1))
                    self.assertIn(saved.returncode, (0, 1))
                    if plain.returncode:
                        self.assertRegex(plain.stderr, r"byte \d+: \w+")
                    if plain.returncode == 0:
                        self.assertEqual(saved.returncode, 0)
                    if saved.returncode == 0 and "perf" not in name and "cpu" not in name:
                        samples = int(re.search(r": (\d+) samples", saved.stdout)[1])
                        self.assertGreaterEqual(samples, before)
                        before = samples

    def test_a_flipped_byte(self):
        rng = random.Random(1)
        good = profile(num(9, 5) + num(13, 3))
        cases = []
        for i in range(120):
            data = bytearray(good)
            at = rng.randrange(len(data))
            data[at] ^= 1 << rng.randrange(8)
            cases.append(("byte %d is %#x" % (at, data[at]), bytes(data)))
        self.judge_all(cases, False)


if __name__ == "__main__":
    if not PPROF:
        print("SKIP: Go is not installed, and go tool pprof is what we compare with")
        sys.exit(77)
    unittest.main(verbosity=1)
