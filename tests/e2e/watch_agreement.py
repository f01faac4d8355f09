#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""record -p and `perf record --call-graph dwarf -p`, watching one process at the same time, agree on the
hottest functions: each share within 3 points, by self time and by time in and below."""

import collections
import os
import re
import shutil
import subprocess
import sys

import harness
from harness import FIBERSCOPE, TESTS, Profile, Skip

POINTS = 3.0
SECONDS = 8
PYTHON = """
import json
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
text = json.dumps([{"id": i, "name": "item %d" % i} for i in range(2000)])
print("ready", flush=True)
while True:
    fib(18); json.loads(text); sorted(text)
"""


def plain(name):
    """The function that was written: without what compiler and linker made of it."""
    name = re.sub(r"(@@?[\w.]+|\.abi0)$", "", name).replace("__libc_start_main_impl", "libc_start_main")
    name = re.sub(r"^__GI_+", "", name)  # of one address with the name that is called
    name = re.sub(r"^_*libc_(malloc|free|calloc|realloc)$", r"\1", name)
    return re.sub(r"(\.(part|isra|constprop|cold|lto_priv)(\.\d+)?)+$", "", name).lstrip("_").replace("<usize ", "<u64 ")


def shares(stacks):
    """(self, total) in percent per function of (stack leaf first, count)."""
    own, total, n = collections.Counter(), collections.Counter(), 0
    for stack, count in stacks:
        n += count
        if not stack:
            continue
        own[stack[0]] += count
        for name in set(stack):
            total[name] += count
    return ({k: 100 * v / n for k, v in own.items()}, {k: 100 * v / n for k, v in total.items()}, n)


def perf_stacks(work, data):
    text = subprocess.run(["perf", "script", "-i", data, "-F", "comm,ip,sym", "--no-inline",
                           "--max-stack", "1000"],
                          cwd=work, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          check=True, timeout=120).stdout
    stack = []
    for line in text.splitlines() + [""]:
        match = re.match(r"\s+[0-9a-f]+ (.*?)(\+0x[0-9a-f]+)?$", line)
        if match:
            stack.append(plain(match.group(1)))
        elif not line.strip() and stack:
            yield stack, 1
            stack = []


def judge(ours, theirs, other):
    """ours, theirs: what shares() returns."""
    print(f"      {ours[2]} samples, {other} {theirs[2]}")
    assert ours[2] > 100 and theirs[2] > 100
    wrong = []
    for which, title in ((0, "self"), (1, "total")):
        hottest = sorted(((v, k) for k, v in theirs[which].items() if k != "[unknown]"),
                         reverse=True)[:10]
        for share, name in hottest:
            mine = ours[which].get(name, 0.0)
            print(f"      {title:5} {name:40.40} {other} {share:6.2f} %  fiberscope {mine:6.2f} %")
            # Small samples differ by chance: three standard deviations on top.
            chance = 3 * (share * (100 - share) / min(ours[2], theirs[2])) ** 0.5
            if abs(mine - share) > max(POINTS, chance):
                wrong.append(f"{title} {name}: {other} {share:.2f} %, fiberscope {mine:.2f} %")
    assert not wrong, wrong


def compare(work, argv, method=(), seconds=SECONDS, stack=65528, go=False, begun=lambda _: None, graph=None):
    """go: the target begins when it reads a line. begun: returns when the recorder, a process, has begun. graph: how perf
    walks, else by copies of the stack."""
    if not shutil.which("perf"):
        raise Skip("needs perf")
    target = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert target.stdout.readline().startswith(b"ready")
        if go:
            target.stdin.write(b"\n")
            target.stdin.flush()
        ours = subprocess.Popen([FIBERSCOPE, "record", *method, "-F", "999", "-p", str(target.pid), "-o", "f.pb.gz",
                                 "--duration", f"{seconds}s"], cwd=work, stderr=subprocess.PIPE, text=True)
        begun(ours)
        perf = subprocess.Popen(["perf", "record", "-q", "-e", "task-clock", "-F", "999",
                                 "--call-graph", graph or f"dwarf,{stack}", "-m", "2048", "-o", "perf.data",
                                 "-p", str(target.pid), "--", "sleep", str(seconds)],
                                cwd=work, stderr=subprocess.PIPE, text=True)
        _, errors = ours.communicate(timeout=60)
        _, said = perf.communicate(timeout=60)
    finally:
        target.kill()
        target.wait()
        target.stdout.close()
        target.stdin.close()
    assert ours.returncode == 0, errors
    if not os.path.exists(os.path.join(work, "perf.data")):
        raise Skip(f"perf record: {said.strip()[-200:]}")
    ours = shares(([plain(n) for n in s.outer], s.values[0])
                  for s in Profile(os.path.join(work, "f.pb.gz")).samples)
    theirs = shares(perf_stacks(work, "perf.data"))
    judge(ours, theirs, "perf")


def frame_pointer_less_program(work):
    compare(work, [os.path.join(TESTS, "watch_target"), "0", "2", "deep", "qsort", "signal", "spin"])


def python_interpreter(work):
    compare(work, [shutil.which("python3", path="/usr/bin"), "-c", PYTHON])


if __name__ == "__main__":
    if not shutil.which("perf"):
        print("SKIP: perf is not installed")
        sys.exit(77)
    harness.main([frame_pointer_less_program, python_interpreter])
