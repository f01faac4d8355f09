# SPDX-License-Identifier: MIT
"""Symbolization against `addr2line -i -f`: the same 20,000 addresses of each file, alternately.

Prints per file the median seconds of both with their spread, and the ratio (median of the pairwise
ratios). Usage: bench_symbols.py [PAIRS]
"""

import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get("FSCOPE_BUILD", "build/release")
PROBE = os.path.join(BUILD, "tests/conformance/symbols_probe")
PAIRS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
COUNT = 20000
FILES = ["/lib/x86_64-linux-gnu/libc.so.6", "/usr/bin/python3.11",
         "/usr/lib/x86_64-linux-gnu/debug/libstdc++.so.6", "/usr/bin/perl"]


def addresses(path):
    rng = random.Random(path)
    with open(path, "rb") as f:
        data = f.read()
    shoff, = struct.unpack_from("<Q", data, 40)
    size, count, _ = struct.unpack_from("<HHH", data, 58)
    spans = []
    for i in range(count):
        _, kind, flags, addr, _, length = struct.unpack_from("<IIQQQQ", data, shoff + i * size)
        if kind == 1 and flags & 4 and length:
            spans.append((addr, length))
    picked = rng.choices(spans, weights=[length for _, length in spans], k=COUNT)
    return "".join("0x%x\n" % (a + rng.randrange(n)) for a, n in picked)


def seconds(command, text):
    start = time.monotonic()
    subprocess.run(command, input=text, text=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, check=True)
    return time.monotonic() - start


def spread(values):
    return "%.3f s (%.3f..%.3f)" % (statistics.median(values), min(values), max(values))


def main():
    folder = tempfile.TemporaryDirectory()
    os.environ["XDG_CACHE_HOME"] = folder.name
    totals = [0.0, 0.0]
    for path in FILES:
        if not os.path.exists(path):
            print("%s: not installed, left out" % path)
            continue
        text = addresses(path)
        ours, theirs, warm = [], [], []
        cached = [PROBE, "-c", path]
        seconds(cached, text)
        # addr2line needs two minutes for perl's 20,000 (it reads the dwz file over and over).
        pairs = 1 if path.endswith("perl") and PAIRS > 1 else PAIRS
        for _ in range(pairs):
            ours.append(seconds([PROBE, path], text))
            theirs.append(seconds(["addr2line", "-i", "-f", "-e", path], text))
            warm.append(seconds(cached, text))
        totals[0] += statistics.median(ours)
        totals[1] += statistics.median(theirs)
        print("%-46s fiberscope %s  addr2line %s  ratio %.1f, with its cache %.1f (n=%d)"
              % (path, spread(ours), spread(theirs),
                 statistics.median(t / o for o, t in zip(ours, theirs)),
                 statistics.median(t / o for o, t in zip(warm, theirs)), pairs), flush=True)
    print("all files: %.3f s and %.3f s, ratio %.1f" % (*totals, totals[1] / totals[0]))


main()
