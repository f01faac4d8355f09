#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Real programs under load are recorded and let go again and again, by the agent that lies idle in them and from outside: they
answer right all the time, and nothing is left in them but the idle library. FSCOPE_SOAK_FULL=1: 100 times each, else 12."""

import os
import random
import re
import time
from collections import Counter

import harness
from attach_loads import ALL
from harness import BUILD, main

AGENT = os.path.join(BUILD, "agent", "libfiberscope.so")
FULL = os.environ.get("FSCOPE_SOAK_FULL") == "1"
TIMES = 100 if FULL else 12
SEGMENT = "/memfd:fiberscope"
KINDS = ["--cpu", "--wall", "--heap", "--block", "--mutex", "--trace"]


def read(path):
    with open(path, encoding="utf8", errors="replace") as f:
        return f.read()


def files(pid):
    """What the descriptors name, sockets and pipes by kind: which of them the load has open changes."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            name = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        if not name.startswith("socket:"):
            found.append(re.sub(r"[\[:].*", "", name) if name.startswith(("pipe:", "anon_inode:")) else name)
    return sorted(found)


def maps(pid):
    return sorted({line.split(None, 5)[5].strip() for line in read(f"/proc/{pid}/maps").splitlines()
                   if len(line.split(None, 5)) == 6 and "/" in line})


def threads(pid, own):
    names = []
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            names.append(read(f"/proc/{pid}/task/{tid}/comm").strip())
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has ended
    return sorted(name for name in names if name not in own)


def blocked(pid):
    """The signals that it blocks most of the time: while it makes a thread it blocks all."""
    seen = Counter()
    for _ in range(9):
        seen[re.search(r"^SigBlk:\s*(\w+)", read(f"/proc/{pid}/status"), re.M).group(1)] += 1
        time.sleep(0.003)
    return seen.most_common(1)[0][0]


def state(load):
    """All that a recording could leave in a process."""
    pid = load.pid
    status = read(f"/proc/{pid}/status")
    masks = {k: re.search(rf"^{k}:\s*(\w+)", status, re.M).group(1) for k in ("SigCgt", "SigIgn", "Seccomp")}
    return {"threads": threads(pid, load.own_threads), "files": files(pid), "maps": maps(pid), **masks,
            "SigBlk": blocked(pid),
            "timers": read(f"/proc/{pid}/timers").count("ID:"),
            "tracer": re.search(r"TracerPid:\s*(\d+)", status).group(1)}


def differences(before, after):
    """What there is now and was not. Before, under load, the program had things of its own open for a moment."""
    left = {}
    for k, was in before.items():
        if isinstance(was, list):
            more = sorted((Counter(after[k]) - Counter(was)).elements())
            if more:
                left[k] = more
        elif after[k] > was if isinstance(was, int) else after[k] != was:
            left[k] = (was, after[k])
    return left


def settled(load, before):
    """The state once nothing is asked any more; what the program itself winds down takes a moment."""
    until = time.monotonic() + 10
    while (left := differences(before, state(load))) and time.monotonic() < until:
        time.sleep(0.1)
    return left


def again_and_again(kind, work, method):
    load = kind(work, {"LD_PRELOAD": AGENT} if method == "agent" else {})
    rng = random.Random(load.pid)
    try:
        untouched = state(load)
        assert untouched["timers"] == 0 and not any(SEGMENT in f for f in untouched["files"]), untouched
        load.begin()
        samples = 0
        for i in range(TIMES):
            wish = rng.sample(KINDS, rng.randint(1, 4)) if method == "agent" else ["--cpu"]
            if i == 0:  # what makes most is made before the first look
                wish = KINDS if method == "agent" else wish
            done = harness.record("-p", str(load.pid), f"--method={method}", *wish, "-F", "499", "-d",
                                  f"{rng.randint(1, 120)}ms", "--no-symbols", "-o", f"{work}/p/", cwd=work, timeout=90)
            assert done.returncode == 0, (i, wish, done.stderr)
            samples += sum(int(n) for n in re.findall(r"(\d+) \w+ samples", done.stderr))
            load.check()
            if i == 0:
                first = state(load)
                asked = load.steps
        assert samples > 0, done.stderr
        assert load.steps > asked, "nothing was asked of it meanwhile"
        load.rest()
        left = settled(load, first)
        assert not left, f"left behind after {TIMES} recordings: {left}"
        # And the first one has left only the idle library: its segment.
        left = settled(load, untouched)
        segments = [f for f in left.get("files", []) if SEGMENT in f]
        assert set(left) <= {"files", "maps"} and left.get("files", []) == segments and len(segments) <= 1, left
        assert all("libfiberscope" in m or SEGMENT in m for m in left.get("maps", [])), left
        load.finish()
        print(f"      {load.steps} answers, the slowest took {load.slowest:.2f} s; {samples} samples")
    finally:
        load.kill()


def cases():
    for kind in ALL:
        for method in ("agent", "perf"):
            def case(work, kind=kind, method=method):
                again_and_again(kind, work, method)
            case.__name__ = f"{kind.__name__.lower()}_{method}"
            yield case


if __name__ == "__main__":
    main(list(cases()))
