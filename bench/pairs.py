# SPDX-License-Identifier: MIT
"""Runs commands alternately and compares the CPU seconds of whole process trees, pair by pair.

A machine's speed drifts; the two runs of a pair stand next to each other, so the ratio of a pair is
sound where the quotient of two averages is not. The order inside a round alternates.
"""

import math
import os
import signal
import statistics
import subprocess
import sys
import time

# Two-sided 95 % quantiles of Student's t by degrees of freedom.
T95 = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262,
       10: 2.228, 14: 2.145, 19: 2.093, 24: 2.064, 29: 2.045, 39: 2.023, 59: 2.001}


def t95(freedom):
    return T95[max(k for k in T95 if k <= max(1, freedom))]


def cpu_seconds(argv, env=None, cwd=None):
    """CPU seconds (user + system) of argv and all the children it waited for, and its wall time."""
    full = dict(os.environ, **(env or {}))
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        try:
            if cwd:
                os.chdir(cwd)
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(null, 1)
            log = os.open(os.path.join(cwd or ".", "bench-stderr.log"),
                          os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(log, 2)
            os.execvpe(argv[0], argv, full)
        except OSError:
            os._exit(127)
    try:
        _, status, usage = os.wait4(pid, 0)
    except KeyboardInterrupt:
        os.kill(pid, signal.SIGTERM)
        raise
    if status != 0:
        with open(os.path.join(cwd or ".", "bench-stderr.log"), errors="replace") as f:
            sys.exit(f"{' '.join(argv)}: status {status}: {f.read()[-500:]}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - start


class Ratios:
    """Ratios of one configuration to the plain run, one per round."""

    def __init__(self):
        self.values = []

    def add(self, value):
        self.values.append(value)

    def mean_and_interval(self):
        """Geometric mean and its 95 % confidence interval."""
        logs = [math.log(v) for v in self.values]
        mean = statistics.fmean(logs)
        if len(logs) < 2:
            return math.exp(mean), 0.0, math.inf
        half = t95(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
        return math.exp(mean), math.exp(mean - half), math.exp(mean + half)

    def row(self, name, bound=None):
        mean, low, high = self.mean_and_interval()
        text = (f"{name:<34} {statistics.median(self.values):7.4f}  {mean:7.4f}  "
                f"[{low:.4f}, {high:.4f}]  {min(self.values):.4f}..{max(self.values):.4f}  "
                f"{len(self.values):3d}")
        if bound:
            text += f"  {'inside' if high <= bound else 'OUTSIDE'} {bound}"
        return text


HEADER = (f"{'CPU seconds, ratio to plain':<34} {'median':>7}  {'mean':>7}  "
          f"{'95 % interval':<16}  {'min..max':<14}  pairs")


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def program_exists(name):
    return subprocess.run(["sh", "-c", f"command -v {name}"], stdout=subprocess.DEVNULL,
                          check=False).returncode == 0
