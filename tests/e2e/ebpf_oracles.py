#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""record --method=ebpf beside other profilers, in one run: programs of Go and Rust, and one that is not optimised; bpftrace.
The hottest functions are the same, and user stacks reach their start."""

import collections
import json
import os
import shutil
import subprocess

import ebpf
import frameless
import harness
import watch_agreement
from harness import FIBERSCOPE, TESTS, Profile, Skip
from watch import is_rooted

HERE = os.path.dirname(os.path.abspath(__file__))
FLOOR = 0.995
# Where a goroutine's or a scheduler's stack begins: what Go itself takes for its end, and where it leaves one stack for another
# with no way back (collector/go_frames.h).
GO_STARTS = {"runtime.goexit", "runtime.mstart", "runtime.rt0_go", "runtime.mcall", "runtime.morestack", "runtime.gogo"}


def user(sample):
    """Names of the user part, leaf first, one per address."""
    return [name for name, address in zip(sample.outer, sample.addresses) if address < 1 << 63]


def whole(profile, is_whole):
    """The share of user stacks that are."""
    ends = collections.Counter()
    for s in profile.samples:
        stack = user(s)
        if stack:
            ends["" if is_whole(stack) else " ".join(stack[-3:])] += s.values[0]
    share = ends[""] / sum(ends.values())
    print(f"      {100 * share:.2f} % of {sum(ends.values())} user stacks whole")
    assert share >= FLOOR, ends.most_common(6)


def tool(name, *more):
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *more]))
    if not found:
        raise Skip(f"there is no {name} here")
    return found


# --- Go.

def go_program(work, name, *options):
    """Where its stripped twin has other names: the same addresses have these."""
    go = tool("go", "/usr/local/go/bin")
    path = os.path.join(work, name)
    subprocess.run([go, "build", "-o", path, *options, os.path.join(HERE, "ebpf_go.go")], check=True, timeout=200,
                   env={"HOME": "/tmp", **os.environ})
    return path


def go_agrees_with_frame_pointers(work):
    """perf's walk of copied stacks knows no way through Go's; Go's frame pointers are another's."""
    ebpf.agrees(work, [go_program(work, "plain")], graph="fp")
    p = Profile(os.path.join(work, "f.pb.gz"))
    whole(p, lambda stack: stack[-1] in GO_STARTS)
    seen = {name for s in p.samples for name in s.stack}
    assert {"time.now", "runtime.morestack", "runtime.systemstack", "runtime.gcBgMarkWorker"} <= seen, "it shows less than it says"
    # Behind the switch to the scheduler's stack it goes on where it came from.
    clocks = [s.stack for s in p.samples if "time.now" in s.stack]
    lost = [stack for stack in clocks if "main.clocks" not in stack]
    assert len(clocks) > 20 and len(lost) <= 0.02 * len(clocks), lost[:5]


def go_in_other_shapes(work):
    """Without symbols; linked by the C linker, beside C code that has tables of its own; position independent."""
    for name, options in (("linked", ["-ldflags=-linkmode=external"]), ("pie", ["-buildmode=pie"]), ("bare", ["-ldflags=-s -w"])):
        target = subprocess.Popen([go_program(work, name, *options)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            target.stdout.readline()
            p, said = ebpf.ebpf(work, "-F", "499", "-p", str(target.pid), "-d", "1s")
        finally:
            target.kill()
            target.communicate()
        print(f"      {name}: {said.splitlines()[-2]}")
        if name != "bare":
            whole(p, lambda stack: stack[-1] in GO_STARTS)
            continue
        # No names: but to few places stacks come in the end.
        last = collections.Counter()
        for s in p.samples:
            last[s.addresses[-1]] += s.values[0]
        assert sum(n for _, n in last.most_common(6)) >= FLOOR * p.total(0), last.most_common(12)


# --- Rust.

def rust_agrees_and_perf_writes_fifty_times_as_much(work):
    rustc = shutil.which("rustc", path=os.pathsep.join([os.environ["PATH"], os.path.expanduser("~/.cargo/bin")]))
    if not rustc: # Go's are required; Debian's rustc is too large to install for these alone
        print("      not compared: there is no rustc here")
        return
    path = os.path.join(work, "rusty")
    subprocess.run([rustc, "-O", "-g", "-o", path, os.path.join(HERE, "ebpf_rust.rs")], check=True, timeout=200, cwd=work,
                   stderr=subprocess.DEVNULL)
    ebpf.agrees(work, [path], stack=8192)
    whole(Profile(os.path.join(work, "f.pb.gz")), is_rooted)
    ours, theirs = (os.path.getsize(os.path.join(work, n)) for n in ("f.pb.gz", "perf.data"))
    print(f"      {ours} bytes, perf {theirs}")
    assert ours * 50 <= theirs, f"{theirs / ours:.1f} times as much"


# --- bpftrace, by frame pointers.

SCRIPT = 'BEGIN { printf("begun\\n"); } profile:hz:1999 /pid == %d/ { @[ustack] = count(); } interval:s:4 { exit(); }'


OWN = {"main", "thread_main", "everything", "throw_deep", "sort_numbers", "signal_self", "leaf_work", *frameless.CALLERS}


def bpftrace_stacks(text):
    """Stacks that differ by their addresses alone have one key each."""
    for line in text.splitlines():
        said = dict(json.loads(line, object_pairs_hook=list)) if line.startswith("{") else {}
        for stack, count in dict(said["data"])["@"] if said.get("type") == "map" else ():
            yield [watch_agreement.plain(frame.split("+")[0].strip()) for frame in stack.split("\n") if frame], count


def own(stacks):
    """Those of the program's own functions alone, down to where it begins: all others have code without frame pointers
    (qsort, exceptions) between them."""
    for names, count in stacks:
        names = [frameless.base(n) for n in names]
        begin = min((names.index(n) for n in ("main", "thread_main") if n in names), default=len(names) - 1)
        if set(names[:begin + 1]) <= OWN:
            yield names[:begin + 1], count


def bpftrace_agrees_on_a_program_that_is_not_optimised(work):
    bpftrace = tool("bpftrace")
    target = subprocess.Popen([os.path.join(TESTS, "frameless_O0"), "60000", "pause"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)
    try:
        target.stdout.readline()
        target.stdin.write(b"\n")
        target.stdin.flush()
        theirs = subprocess.Popen([bpftrace, "-f", "json", "-e", SCRIPT % target.pid], stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, text=True,
                                  # Else it closes one of its maps with the symbols of the first stacks (0.17).
                                  env={**os.environ, "BPFTRACE_CACHE_USER_SYMBOLS": "1"})
        while "begun" not in (line := theirs.stdout.readline()):
            assert line, "bpftrace has not begun"
        ours = subprocess.Popen([FIBERSCOPE, "record", "--method=ebpf", "-F", "1999", "-p", str(target.pid), "-o", "f.pb.gz",
                                 "--duration", "3500ms"], cwd=work, stderr=subprocess.PIPE, text=True)
        text = theirs.communicate(timeout=60)[0]
        ebpf.ended(ours)
    finally:
        target.kill()
        target.communicate()
    p = Profile(os.path.join(work, "f.pb.gz"))
    whole(p, lambda stack: frameless.is_whole([frameless.base(n) for n in stack]))
    mine = (([watch_agreement.plain(n) for n in user(s)], s.values[0]) for s in p.samples if user(s))
    watch_agreement.judge(watch_agreement.shares(own(mine)), watch_agreement.shares(own(bpftrace_stacks(text))), "bpftrace")


if __name__ == "__main__":
    harness.skip_without_bpf()
    harness.main([
        go_agrees_with_frame_pointers,
        go_in_other_shapes,
        rust_agrees_and_perf_writes_fifty_times_as_much,
        bpftrace_agrees_on_a_program_that_is_not_optimised,
    ])
