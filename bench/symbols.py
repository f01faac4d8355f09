# SPDX-License-Identifier: MIT
"""Symbolization against `addr2line -i -f`: the same 20,000 addresses of each file, alternately.

Prints per file the median seconds of both with their spread, and the ratio (median of the pairwise
ratios). Usage: bench_symbols.py [PAIRS]
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/conformance"))
sys.dont_write_bytecode = True
from code_addresses import code_addresses  # noqa: E402

BUILD = os.environ.get("FSCOPE_BUILD", "build/release")
PROBE = os.path.join(BUILD, "tests/conformance/symbols_probe")
PAIRS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
COUNT = 20000
FILES = ["/lib/x86_64-linux-gnu/libc.so.6", "/usr/bin/python3.11",
         "/usr/lib/x86_64-linux-gnu/debug/libstdc++.so.6", "/usr/bin/perl"]


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
        text = code_addresses(path, COUNT)
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
