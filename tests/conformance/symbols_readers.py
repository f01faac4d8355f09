# SPDX-License-Identifier: MIT
"""Our own reader of debug info says exactly what libdw says, names, places and first lines, of random
code addresses: libc (compressed sections), perl (dwz), and what this project's compiler wrote.

Usage: symbols_readers.py [ADDRESSES]
"""

import os
import random
import struct
import subprocess
import sys

PROBE = os.path.join(os.environ["FSCOPE_BUILD"], "tests/conformance/symbols_probe")
TOTAL = int(sys.argv[1]) if len(sys.argv) > 1 else 6000
FILES = ["/lib/x86_64-linux-gnu/libc.so.6", "/usr/bin/perl", "/usr/bin/python3.11",
         "/usr/lib/x86_64-linux-gnu/debug/libstdc++.so.6", PROBE]


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
    picked = rng.choices(spans, weights=[length for _, length in spans], k=TOTAL // len(FILES))
    return "".join("0x%x\n" % (a + rng.randrange(n)) for a, n in picked)


def answers(path, text, *flags):
    return subprocess.run([PROBE, "-D", "-S", *flags, path], input=text, text=True, check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.split("\n\n")


def main():
    bad = compared = lines = 0
    for path in FILES:
        if not os.path.exists(path):
            print("%s: not installed, left out" % path)
            continue
        text = addresses(path)
        mine, libdw = answers(path, text), answers(path, text, "-l")
        differ = [(a, m, d) for a, m, d in zip(text.split(), mine, libdw) if m != d]
        for a, m, d in differ[:3]:
            print("%s %s\n  ours  %r\n  libdw %r" % (path, a, m, d))
        bad += len(differ) + (len(mine) != len(libdw))
        compared += len(mine)
        lines += sum(":0:0" not in m for m in mine)
    print("%d answers compared, %d differ" % (compared, bad))
    return 0 if not bad and lines > compared // 4 else 1


sys.exit(main())
