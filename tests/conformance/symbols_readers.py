# SPDX-License-Identifier: MIT
"""Our own reader of debug info says exactly what libdw says, names, places and first lines, of random
code addresses: libc (compressed sections), perl (dwz), and what this project's compiler wrote.

Usage: symbols_readers.py [ADDRESSES]
"""

import os
import subprocess
import sys

sys.dont_write_bytecode = True
from code_addresses import code_addresses  # noqa: E402

PROBE = os.path.join(os.environ["FSCOPE_BUILD"], "tests/conformance/symbols_probe")
TOTAL = int(sys.argv[1]) if len(sys.argv) > 1 else 6000
FILES = ["/lib/x86_64-linux-gnu/libc.so.6", "/usr/bin/perl", "/usr/bin/python3.11",
         "/usr/lib/x86_64-linux-gnu/debug/libstdc++.so.6", PROBE]


def answers(path, text, *flags):
    return subprocess.run([PROBE, "-D", "-S", *flags, path], input=text, text=True, check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.split("\n\n")


def main():
    bad = compared = lines = 0
    for path in FILES:
        if not os.path.exists(path):
            print("%s: not installed, left out" % path)
            continue
        text = code_addresses(path, TOTAL // len(FILES))
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
