#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Our figures about fibers, regions and tasks are Go's own, to the nanosecond, and our four profiles those
of `go tool trace -pprof`: on traces of nine Go programs and on Go's test data of both formats."""

import glob
import os
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import trace_go

BUILD = os.environ["FSCOPE_BUILD"]
NUMBERS = os.path.join(BUILD, "tests", "conformance", "trace_numbers")
KINDS = {"channels": [], "locks": [], "network": [], "syscalls": [], "tasks": [],  # trace_waiting.go
         "sched": ["200"], "gc": ["20"], "timers": ["3"], "iter": ["200"]}  # trace_programs.go


class Tools:
    """What is asked again and again."""

    def __init__(self):
        self.oracle = trace_go.oracle()
        self.trace, self.pprof = trace_go.tool("trace"), trace_go.tool("pprof")
        self.programs = {name: trace_go.build(name) for name in ("trace_waiting.go", "trace_programs.go")}


def go_lines(path):
    status, said = TOOLS.oracle.ask("summary", path)
    said = said.decode()
    return (said if status else ""), (None if status else sorted(said.splitlines()))


def our_lines(path):
    done = subprocess.run([NUMBERS, path], capture_output=True, text=True)
    assert done.returncode in (0, 1), f"{path}: {done.stderr}"
    return done.stderr, (sorted(done.stdout.splitlines()) if done.returncode == 0 else None)


def compare(name, path):
    why, go = go_lines(path)
    our_why, ours = our_lines(path)
    assert (go is None) == (ours is None), f"{name}: Go {why or 'reads it'}, we {our_why or 'read it'}"
    if go is None:
        return 0
    missing, more = sorted((Counter(go) - Counter(ours)).elements()), sorted((Counter(ours) - Counter(go)).elements())
    for a, b in zip(missing[:5], more[:5]):
        print(f"Go:   {a}\nours: {b}")
    assert not missing and not more, f"{name}: {len(missing)} and {len(more)} lines differ"
    return len(go)


def go_samples(kind, path, work):
    profile = os.path.join(work, "go.pb.gz")
    with open(profile, "wb") as f:
        subprocess.run([TOOLS.trace, "-pprof=" + kind, path], stdout=f, check=True)
    return samples(profile)


def compare_profiles(name, path, work, tries=1):
    total = 0
    for kind in ["net", "sync", "syscall", "sched"]:
        ours = os.path.join(work, "ours.pb.gz")
        subprocess.run([os.path.join(BUILD, "cli", "fiberscope"), "trace", kind, "-o", ours, path], check=True)
        a, b, left = go_samples(kind, path, work), samples(ours), tries - 1
        while a != b and left:
            a, left = go_samples(kind, path, work), left - 1
        assert a == b, f"{name}: {kind} differs: {sorted(set(a) ^ set(b))[:4]}"
        total += len(a)
    return total


def samples(path):
    """The samples of a profile, with the stack as text, from Go's own raw report."""
    raw = subprocess.run([TOOLS.pprof, "-raw", path], capture_output=True, text=True, check=True).stdout
    body = raw.split("Samples:\n")[1]
    rows, places = body.split("Locations\n")
    names, at = {}, None
    for line in places.split("Mappings")[0].splitlines():
        head, _, rest = line.partition(": ")
        if rest and head.strip().isdigit():
            at = head.strip()
            names[at] = rest.strip()
        elif at:
            names[at] += "|" + line.strip()
    out = []
    for row in rows.splitlines()[1:]:
        values, _, ids = row.partition(":")
        out.append((tuple(int(v) for v in values.split()), tuple(names[i] for i in ids.split())))
    return sorted(out)


def record(kind, folder):
    path = os.path.join(folder, kind + ".trace")
    program = TOOLS.programs["trace_programs.go" if KINDS[kind] else "trace_waiting.go"]
    subprocess.run([program, kind, path, *KINDS[kind]], check=True, stdout=subprocess.DEVNULL)
    return path


def compare_program(kind, path, work):
    n = compare(kind, path)
    samples_seen = compare_profiles(kind, path, work)
    assert n > 10 and samples_seen > 0, f"{kind}: only {n} lines and {samples_seen} samples"
    print(f"{kind}: {n} fibers, regions and tasks, {samples_seen} samples of profiles equal")
    return n, samples_seen


def main():
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        compared = sampled = 0
        kinds = sys.argv[1:] or list(KINDS)
        with ThreadPoolExecutor(3) as pool:  # most of them sleep
            for kind, path in zip(kinds, pool.map(lambda kind: record(kind, work), kinds)):
                n, seen = compare_program(kind, path, work)
                compared, sampled = compared + n, sampled + seen
        if not sys.argv[1:]:
            for test in sorted(glob.glob(os.path.join(trace_go.testdata(), "testdata", "tests", "*.test"))):
                path = os.path.join(work, "data.trace")
                text = os.path.join(work, "data.txt")
                extract(test, text)
                assert TOOLS.oracle.ask("binary", text, path) == (0, b""), test
                compared += compare(os.path.basename(test), path)
            folder = os.path.join(trace_go.testdata(), "internal", "tracev1", "testdata")
            for name in sorted(os.listdir(folder)):
                path = os.path.join(folder, name)
                compared += compare(name, path)
                # Of v1 events of one time Go takes any first, and so waits vary by 1 ns from run to run.
                sampled += compare_profiles(name, path, work, tries=40)
            assert sampled > 50, sampled
        print(f"{compared} lines and {sampled} samples in all")


def extract(test, to):
    """The trace out of an archive of Go's test data."""
    with open(test, encoding="utf-8") as f:
        body = f.read()
    body = body.split("-- trace --\n")[1]
    with open(to, "w", encoding="utf-8") as f:
        f.write(body.split("\n-- ")[0] + "\n")


if __name__ == "__main__":
    if not trace_go.GO:
        print("SKIP: no Go here")
        sys.exit(77)
    TOOLS = Tools()
    main()
