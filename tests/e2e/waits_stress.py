#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`fiberscope waits` finds no deadlock in programs that lock much, always in one order. Argument: how many runs."""

import subprocess
import sys

import harness
from waits import FIBERS, THREADS, Target

RUNS = int(sys.argv.pop(1))


def runs(program, work):
    """--pause=0: the looks lie as close as they can, so that the least is still."""
    busy = 0
    with Target(program, "stress", work) as t:
        for i in range(RUNS):
            done = subprocess.run([harness.FIBERSCOPE, "waits", "--no-stacks",
                                   f"--pause={i % 2 * 5}ms", str(t.pid)],
                                  text=True, capture_output=True, timeout=60, check=False)
            assert done.returncode == 0, (i, done.returncode, done.stdout, done.stderr)
            assert "ossible" not in done.stdout, done.stdout
            busy += any("  thread " in line or "  goroutine " in line
                        for line in done.stdout.splitlines())
        assert t.process.poll() is None
    assert busy > RUNS // 4, f"only {busy} of {RUNS} runs saw anybody wait for a holder"


def threads_in_order_are_never_deadlocked(work):
    runs(THREADS, work)


def fibers_and_threads_in_order_are_never_deadlocked(work):
    runs(FIBERS, work)


if __name__ == "__main__":
    harness.main([threads_in_order_are_never_deadlocked,
                  fibers_and_threads_in_order_are_never_deadlocked])
