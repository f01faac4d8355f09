#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What `record --method=ebpf -p` of a program that keeps two processors busy costs: CPU time of the recorder and of its BPF programs, once it
has met the code, as a share of one processor's time and of both.

Usage: ebpf.py [SECONDS]; 10 by default for each rate. Needs root: it switches kernel.bpf_stats_enabled on meanwhile, which
adds to what it measures."""

import os
import re
import subprocess
import sys
import tempfile
import time

BUILD = os.environ["FSCOPE_BUILD"]
FIBERSCOPE, LOAD = f"{BUILD}/cli/fiberscope", f"{BUILD}/bench/cpu_load"
WAITER = f"{BUILD}/tests/e2e/ebpf_waits_target"
STATS = "/proc/sys/kernel/bpf_stats_enabled"
BUSY, SETTLE_S = 2, 4
BOUNDS = {99: 1.0, 999: 4.0}  # percent


def read(path):
    try:
        with open(path, encoding="ascii") as f:
            return f.read()
    except OSError:
        return ""


def recorder_seconds(pid):
    fields = read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def programs(pid):
    """Seconds and runs of all BPF programs that the process holds."""
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fdinfo"):
        text = read(f"/proc/{pid}/fdinfo/{fd}")
        number = re.search(r"prog_id:\t(\d+)", text)
        if number and (ns := re.search(r"run_time_ns:\t(\d+)", text)):
            found[number.group(1)] = (int(ns.group(1)), int(re.search(r"run_cnt:\t(\d+)", text).group(1)))
    return sum(v[0] for v in found.values()) / 1e9, sum(v[1] for v in found.values())


def measure(pid, what, seconds):
    with tempfile.TemporaryDirectory() as tmp:
        recorder = subprocess.Popen([FIBERSCOPE, "record", "--method=ebpf", "-p", str(pid), *what, "-q", "-o", f"{tmp}/"])
        time.sleep(SETTLE_S)
        began, own, (ran, runs) = time.monotonic(), recorder_seconds(recorder.pid), programs(recorder.pid)
        time.sleep(seconds)
        took = time.monotonic() - began
        own, (ran_now, runs_now) = recorder_seconds(recorder.pid) - own, programs(recorder.pid)
        recorder.send_signal(2)
        recorder.wait()
        return own / took, (ran_now - ran) / took, (ran_now - ran) / max(1, runs_now - runs)


def waits(seconds):
    """Two threads that wake each other, some thousand switches a second."""
    load = subprocess.Popen([WAITER, *["knock"] * 1000], stdout=subprocess.DEVNULL)
    try:
        for what in (["--offcpu"], ["--offcpu", "--wakeups"]):
            own, inside, each = measure(load.pid, what, seconds)
            print(f"ebpf {' '.join(what)}: recorder {100 * own:.2f} %, programs {100 * inside:.2f} % of a processor "
                  f"({1e6 * each:.2f} us a run, of all switches and wakeups of the machine)")
    finally:
        load.kill()
        load.wait()


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    if os.geteuid():
        sys.exit("ebpf: needs root")
    before = read(STATS).strip()
    load = subprocess.Popen([LOAD, "1000000", str(BUSY)], stdout=subprocess.DEVNULL)
    try:
        with open(STATS, "w", encoding="ascii") as f:
            f.write("1")
        for hz, bound in BOUNDS.items():
            own, inside, each = measure(load.pid, ["-F", str(hz)], seconds)
            both = 100 * (own + inside)
            print(f"ebpf {hz:4} Hz: recorder {100 * own:.2f} %, programs {100 * inside:.2f} % ({1e6 * each:.1f} us a run), "
                  f"together {both:.2f} % of a processor, {both / BUSY:.2f} % of {BUSY} (bound {bound:.0f} %)")
        waits(seconds)
    finally:
        load.kill()
        load.wait()
        with open(STATS, "w", encoding="ascii") as f:
            f.write(before or "0")


if __name__ == "__main__":
    main()
