#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A target that is SIGKILLed at a random moment loses nothing that it had recorded: every profile is
readable and holds the CPU time that the target itself had counted in a file. Usage: kill.py [RUNS]"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time

from harness import BURN, FIBERSCOPE, Profile, leftovers

HZ = 999
RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 200
# Two threads, each with the CPU time since its last sample not recorded yet: one period, or where only
# timers are to be had a jiffy, and the granularity of both clocks.
SLACK_NS = 2 * 8_000_000


def words(path):
    try:
        with open(path, "rb") as f:
            data = f.read(24)
    except FileNotFoundError:
        return 0, 0
    w = [int.from_bytes(data[i:i + 8], "little") for i in (0, 8, 16)]
    return w[0], w[1] + w[2]


def one(work, rng, options):
    page, out = f"{work}/page", f"{work}/p.pb.gz"
    for f in (page, out):
        if os.path.exists(f):
            os.unlink(f)
    p = subprocess.Popen([FIBERSCOPE, "record", "-F", str(HZ), "-o", out, *options, BURN, "page",
                          page], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 10
    while words(page)[0] == 0:
        assert time.monotonic() < until and p.poll() is None, "the target did not start"
        time.sleep(0.001)
    time.sleep(rng.random() ** 2 * 0.3)
    os.kill(words(page)[0], signal.SIGKILL)
    _, err = p.communicate(timeout=30)
    assert p.returncode == 128 + signal.SIGKILL, (p.returncode, err)
    counted = words(page)[1]
    profile = Profile(out)
    recorded = profile.total()
    assert recorded >= counted - SLACK_NS, \
        f"{recorded / 1e6:.1f} ms recorded, the target counted {counted / 1e6:.1f} ms\n{err}"
    assert recorded <= counted + 4 * SLACK_NS, \
        f"{recorded / 1e6:.1f} ms recorded, the target counted only {counted / 1e6:.1f} ms\n{err}"
    assert ", 0 dropped" in err, err
    assert not leftovers(work), os.listdir(work)
    return profile.total(0), counted - recorded


def main():
    rng = random.Random(20261121)
    samples = worst = 0
    with tempfile.TemporaryDirectory(prefix="fiberscope-test-") as work:
        for i in range(RUNS):
            try:
                n, missing = one(work, rng, [] if i % 10 == 0 else ["--no-symbols"])
            except AssertionError as e:
                sys.exit(f"run {i + 1} of {RUNS}: {e}")
            samples += n
            worst = max(worst, missing)
    print(f"{RUNS} runs killed: {samples} samples, at most {worst / 1e6:.1f} ms not yet sampled")


if __name__ == "__main__":
    main()
