#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What block and mutex profiles cost: CPU seconds of the target with both on (waits of 10 us and more always
kept, every contended unlock) against the plain run, interleaved; and what the order of locks costs. Usage:
lock.py [PAIRS]."""

import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(__file__))
import pairs  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
AGENT = os.path.join(BUILD, "agent", "libfiberscope.so")
SETTINGS = {"LD_PRELOAD": AGENT, "FIBERSCOPE": "block=10000,mutex=1,quiet=1,out=l.%p.fscope"}
IDLE = {"LD_PRELOAD": AGENT}
ORDER = {"LD_PRELOAD": AGENT, "FIBERSCOPE": "order=1,quiet=1,out=l.%p.fscope"}
LOADS = (  # name, case, rounds, environment, bound
    ("uncontended, both profiles", "uncontended", "4000000", SETTINGS, 1.02),
    ("contended, both profiles", "contended", "3000000", SETTINGS, 1.02),
    ("bare lock and unlock, both profiles", "bare", "30000000", SETTINGS, None),
    ("bare lock and unlock, nothing recorded", "bare", "30000000", IDLE, None),
    ("uncontended, the order of locks", "uncontended", "4000000", ORDER, None),
    ("bare lock and unlock, the order of locks", "bare", "30000000", ORDER, None),
)


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    table = [(load, pairs.Ratios()) for load in LOADS]
    with tempfile.TemporaryDirectory() as tmp:
        for i in range(count):
            for (name, case, rounds, env, bound), ratios in table:
                if not bound and i % 4:
                    continue
                pairs.progress(f"pair {i + 1} of {count}: {name}")
                argv = [f"{BUILD}/bench/lock_load", case, rounds]
                order = [None, env] if i % 2 else [env, None]
                seconds = {id(e): pairs.cpu_seconds(argv, e, tmp)[0] for e in order}
                ratios.add(seconds[id(env)] / seconds[id(None)])
                for f in os.listdir(tmp):
                    if f.endswith(".fscope"):
                        os.unlink(os.path.join(tmp, f))
    pairs.progress("")
    print(pairs.HEADER)
    for (name, _, _, _, bound), ratios in table:
        print(ratios.row(name, bound))


if __name__ == "__main__":
    main()
