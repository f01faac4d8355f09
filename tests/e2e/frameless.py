#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""At least 99 % of the samples of a program without frame pointers reach main or the thread's start, by
the agent and from outside, and no frame is left out or invented on the way: each of the program's own
functions stands below one that calls it."""

import collections
import os
import shutil
import subprocess
import time

from harness import FIBERSCOPE, NOBODY, TESTS, Profile, Skip, main, record

PROGRAM = os.path.join(TESTS, "frameless")
MS = 700  # CPU time of each of the four threads
FLOOR = 0.99

# Who may stand directly above (call) whom, where both are the program's own.
CALLERS = {
    "descend_small": {"descend_alloca", "everything", "on_signal"},
    "descend_large": {"descend_small"},
    "descend_alloca": {"descend_large"},
    "sort_numbers": {"everything"},
    "signal_self": {"everything"},
    "throw_deep": {"everything"},
    "throw_down": {"throw_down", "throw_deep"},
    "everything": {"main", "thread_main"},
}
# Between these two lie frames of libc or libgcc, at least one.
THROUGH = {"compare_numbers": "sort_numbers", "on_signal": "signal_self"}


def base(name):
    return name.split("(")[0].split(".")[0]


def is_whole(stack):
    return "main" in stack or "thread_main" in stack


def fault(stack):
    """What is wrong with a stack (leaf first) between the program's own frames, or None."""
    names = [base(n) for n in stack]
    for i, name in enumerate(names):
        above = names[i + 1:]
        if name in CALLERS and (not above or above[0] not in CALLERS[name]):
            return f"{name} <- {above[:1]}"
        if name in THROUGH:
            own = next((n for n in above if n in CALLERS or n in THROUGH), None)
            if own != THROUGH[name] or above[0] == own:
                return f"{name} <- {above[:3]}"
    return None


def judge(path, seconds):
    p = Profile(path)
    total = p.total(0)
    whole = p.total(0, lambda s: is_whole([base(n) for n in s.stack]))
    assert total > 500 * seconds, f"only {total} samples"
    broken = collections.Counter()
    for s in p.samples:
        names = [base(n) for n in s.stack]
        if not is_whole(names):
            broken[" <- ".join(names[:4]) + " ... " + names[-1]] += s.values[0]
    faults = collections.Counter()
    for s in p.samples:
        if is_whole([base(n) for n in s.stack]) and (f := fault(s.stack)):
            faults[f] += s.values[0]
    seen = {base(n) for s in p.samples for n in s.stack}
    share = whole / total
    print(f"      {total} samples, {100 * share:.2f} % whole, {sum(faults.values())} with a wrong edge; "
          f"broken: {broken.most_common(3)}")
    assert share >= FLOOR, f"{share:.4f} reach the root; not: {broken.most_common(8)}"
    assert sum(faults.values()) <= (1 - FLOOR) * total, f"wrong edges: {faults.most_common(8)}"
    for name in (*CALLERS, *THROUGH, "leaf_work"):
        assert name in seen, f"no sample of {name}: this test shows nothing"
    return share


def by_the_agent(work):
    record("-F", "999", "-o", "p.pb.gz", PROGRAM, str(MS), cwd=work, check=0)
    judge(f"{work}/p.pb.gz", 4 * MS / 1000)


def go_sees_the_same(work):
    go = shutil.which("go")
    if not go:
        raise Skip("no go here")
    record("-F", "999", "-o", "p.pb.gz", PROGRAM, "300", cwd=work, check=0)
    text = subprocess.run([go, "tool", "pprof", "-traces", "-symbolize=none", "-sample_index=samples",
                           "p.pb.gz"], cwd=work, check=True, capture_output=True, text=True).stdout
    whole = total = 0
    for block in text.split("-----------+")[1:]:
        lines = [line.split() for line in block.splitlines()[1:]]
        lines = [w for w in lines if w and not w[0].endswith(":")]
        if lines:
            total += int(lines[0][0])
            whole += int(lines[0][0]) * is_whole({base(n) for w in lines for n in w})
    assert total > 600 and whole >= FLOOR * total, f"{whole} of {total}"


def from_outside(work, prefix=()):
    p = subprocess.Popen([*prefix, PROGRAM, str(MS), "pause"], cwd=work, text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert p.stdout.readline() == "ready\n"
        q = subprocess.Popen([*prefix, FIBERSCOPE, "record", "-F", "999", "-p", str(p.pid), "-o",
                              "p.pb.gz"], cwd=work, stderr=subprocess.PIPE, text=True)
        time.sleep(0.3)  # what it misses of the start is not judged
        p.stdin.write("go\n")
        p.stdin.close()
        _, err = q.communicate(timeout=90)
        assert q.returncode == 0, err
    finally:
        p.kill()
        p.wait()
    judge(f"{work}/p.pb.gz", MS / 1000)


def from_outside_as_an_ordinary_user(work):
    if os.geteuid() != 0:
        raise Skip("is one already: from_outside has shown it")
    from_outside(work, [*NOBODY, "env", "HOME=/nonexistent", "XDG_CACHE_HOME=/nonexistent"])


if __name__ == "__main__":
    main([by_the_agent, go_sees_the_same, from_outside, from_outside_as_an_ordinary_user])
