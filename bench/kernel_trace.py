#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What `record --trace --kernel` costs a program that only switches, and one that only makes system calls: without, with
`record --trace` alone, with the kernel trace, and with perf recording the same tracepoints, alternately in each round. Then what each
BPF program takes, by the kernel's own account (kernel.bpf_stats_enabled).

Usage: kernel_trace.py [ROUNDS]; 7 by default, 0: only the programs. Needs root, perf and bpftool."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

BUILD = os.environ["FSCOPE_BUILD"]
FIBERSCOPE, LOAD = f"{BUILD}/cli/fiberscope", f"{BUILD}/bench/kernel_load"
STATS = "/proc/sys/kernel/bpf_stats_enabled"
LOADS = {"switches": 60000, "calls": 500000}
EVENTS = "sched:sched_switch,sched:sched_waking,raw_syscalls:sys_enter,raw_syscalls:sys_exit"


def configurations(folder):
    record = [FIBERSCOPE, "record", "--trace", "-o", f"{folder}/b.trace"]
    return {"nothing": [],
            "record --trace": record,
            "record --trace --kernel": [*record, "--kernel", "--kernel-buffer=256MiB"],
            "perf record": ["perf", "record", "-q", "-B", "-k", "CLOCK_MONOTONIC", "-m", "64M", "-e", EVENTS, "-o", f"{folder}/b.data"]}


def ns_of(prefix, load, count):
    done = subprocess.run([*prefix, LOAD, load, str(count)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"kernel_trace: {' '.join(prefix)}: {done.stderr[-300:]}")
    lost = re.search(r"as (\d+) records found no room", done.stderr) or re.search(r"LOST (\d+)", done.stderr)
    return float(done.stdout.split()[-1]), int(lost[1]) if lost else 0


def spread(values):
    values = sorted(values)
    return f"{values[len(values) // 2]:.2f} [{values[0]:.2f}, {values[-1]:.2f}]"


def measure(load, count, rounds, folder):
    found, lost = {}, {}
    for i in range(rounds):
        items = list(configurations(folder).items())
        for name, prefix in items if i % 2 else items[::-1]:
            ns, missing = ns_of(prefix, load, count)
            found.setdefault(name, []).append(ns)
            lost[name] = lost.get(name, 0) + missing
    for name, values in found.items():
        ratios = [value / plain for value, plain in zip(values, found["nothing"])]
        median = sorted(values)[len(values) // 2]
        print(f"kernel_trace {load}: {name}: {median:.0f} ns each, ratio to nothing {spread(ratios)}"
              + (f", {lost[name]} records lost" if lost[name] else ""), flush=True)


def programs():
    """name -> (ns, runs) of the kernel trace's programs that are loaded"""
    found = {}
    listed = subprocess.run(["bpftool", "prog", "show", "-j"], capture_output=True, text=True).stdout
    for p in json.loads(listed or "[]"):
        if p.get("name", "").startswith("kernel_") and p.get("run_cnt"):
            ns, runs = found.get(p["name"], (0, 0))
            found[p["name"]] = ns + p["run_time_ns"], runs + p["run_cnt"]
    return found


def each_program(load, count, folder):
    command = [*configurations(folder)["record --trace --kernel"], LOAD, load, str(count)]
    running, last = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), {}
    while running.poll() is None:
        last.update(programs())  # which go one by one at the end
        time.sleep(0.1)
    for name, (ns, runs) in sorted(last.items(), key=lambda item: -item[1][0]):
        if runs > 100:
            print(f"kernel_trace {load}: {name}: {ns / runs:.0f} ns a run, {runs} runs", flush=True)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    if os.geteuid() or not shutil.which("perf") or not shutil.which("bpftool"):
        sys.exit("kernel_trace: needs root, perf and bpftool")
    with open(STATS, encoding="ascii") as f:
        before = f.read().strip()
    with tempfile.TemporaryDirectory() as folder:
        try:
            for load, count in LOADS.items() if rounds else ():
                measure(load, count, rounds, folder)
            with open(STATS, "w", encoding="ascii") as f:
                f.write("1")
            for load, count in LOADS.items():
                each_program(load, 2 * count, folder)
        finally:
            with open(STATS, "w", encoding="ascii") as f:
                f.write(before)


if __name__ == "__main__":
    main()
