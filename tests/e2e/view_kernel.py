#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A kernel trace beside a trace of fibers in fiberscope view: what the kernel did stands where it happened, below what the
program did then, and its sums are those of `fiberscope trace lost`.

data/bursts.trace and data/bursts.kernel.trace are one recording of examples/shorten under load (FIB_MAXPROCS=2, 8 connections), by
`record --trace --kernel`, while `kernel_stalls bursts 7 25` had one CPU before all others. view_pictures.py draws them."""

import json
import os
import re
import shutil
import subprocess

import made_trace as made
from harness import FIBERSCOPE, TESTS, Skip, main, record, skip_without_bpf
from view_lanes import equals

DATA = os.path.join(os.environ["FSCOPE_SOURCE"], "tests", "e2e", "data")
TRACE, KERNEL = os.path.join(DATA, "bursts.trace"), os.path.join(DATA, "bursts.kernel.trace")
STALLS = os.path.join(TESTS, "kernel_stalls")
MS = 10**6
OFF, RUNS = "#ffd89e53", "#ff52c2a0"  # runnable, running (dark)


def dump(*args, check=True):
    done = subprocess.run([FIBERSCOPE, "view", "--text", "-", "--font", "builtin", "--size", "1400x1000", *args],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 or not check, (args, done.stderr)
    return done.stdout


def texts(out):
    return [(int(x), int(y), t) for x, y, t in re.findall(r'^text (-?\d+),(-?\d+) #\w+ builtin "(.*)"$', out, re.M)]


def said(out):
    return {t for _, _, t in texts(out)}


def rects(out, color):
    """(x, y, w, h) of those of a colour."""
    return [tuple(map(int, r)) for r in re.findall(rf"^rect (-?\d+),(-?\d+) (\d+)x(\d+) {color}$", out, re.M)]


def axis(out, a="0s", b="100ms"):
    """Pixels of two moments on it: (x of a, pixels per ms)."""
    words = texts(out)
    zero, other = (next(x for x, _, t in words if t == label) - 4 for label in (a, b))
    return zero, (other - zero) / 100


def make_pair(folder, thread=made.THREAD):
    """Thread 100 runs fiber 1 from 0 to 200 ms. By the kernel it has CPU 1 until 50 ms, "greedy" until 80 ms, then 100 again, which
    is in a call from 100 ms to 110 ms, sleeps in read until 130 ms, gets CPU 0 at 140 ms, and has a page fault at 150 ms for 5 ms. thread: another one in its place."""
    path, kernel = os.path.join(folder, "made.trace"), os.path.join(folder, "made.kernel.trace")
    g = made.Generation(1)
    g.say(1, made.PROC_STATUS, 0, 1)
    g.say(1, made.GO_STATUS_STACK, 1, made.THREAD, made.RUNNING, g.stack("job"))
    g.say(1, made.PROCS_CHANGE, 1, 0)
    g.block(200 * MS, "sync", g.stack("wait", "job"))
    made.write(path, [g])
    k = made.Generation(1)
    prog, greedy = ("prog", 1, 1, "process 99"), ("greedy", 2, 1, "process 7")
    events = [(1, 1, made.PROC_STATUS, (1, 1)), (1, 1, made.GO_STATUS_STACK, (thread, 1, made.RUNNING, k.stack(prog))),
              (1, 1, made.PROCS_CHANGE, (2, 0)), (1, 0, made.PROC_STATUS, (0, 1))]
    for at, cpu, wire, args in events:
        k.say(at, wire, *args, thread=cpu)
    stop = k.text("preempted")
    none = made.NOBODY
    k.say(2, made.GO_STATUS_STACK, 7, none, made.RUNNABLE, k.stack(greedy), thread=none)
    k.say(50 * MS, made.GO_STOP, stop, 0, thread=1)
    k.say(50 * MS + 1, made.GO_START, 7, k.next(7), thread=1)
    k.say(80 * MS, made.GO_STOP, stop, 0, thread=1)
    k.say(80 * MS + 1, made.GO_START, thread, k.next(thread), thread=1)
    k.say(100 * MS, made.GO_SYSCALL_BEGIN, 1, k.stack("read", prog), thread=1)
    k.say(110 * MS, made.GO_SYSCALL_END, thread=1)
    k.say(110 * MS + 1, made.GO_BLOCK, k.text("network"), k.stack("read", prog), thread=1)
    k.say(130 * MS, made.GO_UNBLOCK, thread, k.next(thread), 0, thread=none)
    k.say(140 * MS, made.GO_START, thread, k.next(thread), thread=0)
    k.say(150 * MS, made.GO_SYSCALL_BEGIN, 1, k.stack("page fault", prog), thread=0)
    k.say(155 * MS, made.GO_SYSCALL_END, thread=0)
    k.say(200 * MS, made.GO_BLOCK, k.text("sync"), k.stack("futex", prog), thread=0)
    made.write(kernel, [k])
    return path, kernel


def what_the_kernel_did_stands_below_what_the_program_did(work):
    out = dump(make_pair(work)[0])
    zero, scale = axis(out)
    words = texts(out)
    row = {t: y for x, y, t in words if x < 60 and re.fullmatch(r"CPU\d|M100|P0", t)}

    def boxes(color, height):
        return [(x, w, y) for x, y, w, h in rects(out, color) if h == height and x >= zero and w > 3]

    def stands(found, begin, end):
        return [y for x, w, y in found if abs(x - zero - begin * scale) <= 1 and abs(x + w - zero - end * scale) <= 1]

    # On P and thread it is one stretch of running; below it is what that was made of.
    for lane in ("P0", "M100"):
        whole = [y for x, y, w, h in rects(out, RUNS) if y <= row[lane] <= y + h and w > 100]
        assert len(whole) == 1, (lane, whole)
    height = {h for x, y, w, h in rects(out, OFF) if y <= row["CPU1"] <= y + h and w > 3 and x >= zero}
    assert len(height) == 1, height
    lane = height.pop()
    cpu = boxes(OFF, lane)
    assert stands(cpu, 50, 80), (cpu, zero, scale)
    ours = boxes(RUNS, lane)
    for begin, end, which in ((0, 50, "CPU1"), (80, 110, "CPU1"), (140, 200, "CPU0")):
        at = [y for y in stands(ours, begin, end) if y <= row[which] <= y + lane]
        assert at, (begin, end, which, ours, row)
    strip = {(h, y) for x, y, w, h in rects(out, OFF) if x >= zero and w > 3 and row["M100"] < y < row["M100"] + 40}
    assert len(strip) == 1, strip
    thin, top = strip.pop()
    assert thin < lane
    off = [(x, w, y) for x, y, w, h in rects(out, OFF) if h == thin and y == top and x >= zero]
    assert stands(off, 50, 80) and stands(off, 130, 140) and len(off) == 2, off
    assert {"greedy", "M100 prog"} <= {t for x, _, t in words if x > zero}, words
    assert "2 CPUs, 1 of 1 thread in the kernel trace" in said(out), said(out)
    shares = {t: next(v for x, y2, v in words if y2 == y and v.endswith("%")) for t, y in row.items()}
    assert shares["CPU1"] == "40.0%" and shares["CPU0"] == "30.0%", shares


def what_is_chosen_says_why(work):
    path, _ = make_pair(work)
    first = said(dump("--press", "P", path))
    assert "M100 prog  thread 100 of process 99" in first and "off the CPU 30ms, then on CPU 1, at 50.000ms" in first, first
    assert "who ran instead: greedy 30ms" in first and "job  fiber 1" in first, first
    second = said(dump("--press", "P P", path))
    assert "off the CPU 10ms, then on CPU 0, at 130.000ms" in second and \
        "nobody in the kernel trace had the CPU meanwhile" in second, second
    assert said(dump("--press", "P P Shift+P", path)) == first
    # The span that the fiber had says what it lost, all together; on its thread's lane V goes to the CPU.
    whole = said(dump("--press", "J", path))
    assert "the kernel took: off the CPU 40ms (greedy 30ms), system calls 10ms, page faults 5ms, asleep in them 20ms" in whole, whole
    cpu = said(dump("--press", "J V V", path))
    assert "running 50ms on CPU 1, at 0.000ms" in cpu or "running 50ms on CPU 1, at 0s" in cpu, cpu
    # From the other side: who was kept waiting.
    other = said(dump("--press", "J V V .", path))
    assert "greedy  thread 7 of process 7" in other and "meanwhile waited for it: M100 for 30ms" in other, other
    asleep = said(dump("--press", "P . . . .", path))
    assert any(t.startswith("asleep in read 20ms") for t in asleep), asleep
    found = said(dump("--press", "/ g r e e d y Enter N", path))
    assert any("found 1 of 1" in t for t in found) and "greedy  thread 7 of process 7" in found, found


def a_pair_is_one_picture_in_any_order(work):
    pair = dump(TRACE)
    assert "CPUs" in said(pair) and "CPU1" in said(pair)
    assert pair == dump(TRACE, KERNEL) == dump(KERNEL, TRACE)
    other, kernel = os.path.join(work, "one"), os.path.join(work, "two")  # names say nothing
    shutil.copy(TRACE, other)
    shutil.copy(KERNEL, kernel)
    assert dump(kernel, other).replace('"one"', '"bursts.trace"') == pair.replace('"one"', '"bursts.trace"')
    alone = dump(other)
    assert "CPUs" not in said(alone)
    hidden = said(dump("--press", "L", TRACE))
    assert "CPUs" not in hidden and "P1" in hidden
    closed = said(dump("--press", f"40,{next(y for x, y, t in texts(pair) if t == 'CPUs') - 4}", TRACE))
    assert "CPUs" in closed and "CPU1" not in closed
    assert "CPUs" not in said(dump(KERNEL)), "a trace of its own"
    done = subprocess.run([FIBERSCOPE, "view", "--text", "-", TRACE, os.path.join(DATA, "shorten.trace")],
                          capture_output=True, text=True)
    assert done.returncode == 2 and "a trace and a kernel trace" in done.stderr, done.stderr


def what_does_not_fit_is_said(work):
    def banner(kernel):
        out = dump(TRACE, kernel)
        assert "P1" in said(out)
        return next((t for t in said(out) if t.startswith("Kernel trace ")), ""), "CPU1" in said(out)

    with open(KERNEL, "rb") as f:
        whole = f.read()
    bad, cut = os.path.join(work, "bad.kernel.trace"), os.path.join(work, "cut.kernel.trace")
    with open(bad, "wb") as f:
        f.write(b"nothing of the kind")
    with open(cut, "wb") as f:
        f.write(whole[:len(whole) * 2 // 3])
    text, has = banner(bad)
    assert "is not shown" in text and not has, text
    text, has = banner(cut)
    assert "is not shown: generation 1: batch " in text and "the file ends here" in text and not has, text
    text, has = banner(make_pair(work)[1])
    assert "is not shown: it is of another time: by the clock it ends " in text and not has, text
    text, has = banner(shutil.copy(os.path.join(DATA, "shorten.trace"), os.path.join(work, "x.kernel.trace")))
    assert "is not shown: it is no kernel trace" in text and not has, text
    # Of the same time, and of other threads.
    out = said(dump(make_pair(work, thread=55)[0]))
    assert "CPU1" in out and any(t.startswith("Kernel trace made.kernel.trace: it has none of this trace's threads") for t in out), out


def statistics_are_those_of_the_report(work):
    length = json.loads(subprocess.run([FIBERSCOPE, "trace", "summary", "--json", TRACE], capture_output=True, text=True,
                                       check=True).stdout)["duration_ns"]
    words = {"descheduled": "off the CPU", "fault": "page faults", "syscall": "system calls", "wait": "asleep in them"}
    for begin, end in ((0, length / 1e9), (0.02, 0.05), (0.0351, 0.1), (0.04, 0.0405), (0.1, 0.12)):
        span = ("--from", f"{begin}", "--to", f"{end}")
        report = json.loads(subprocess.run([FIBERSCOPE, "trace", "lost", "--json", *span, TRACE], capture_output=True,
                                           text=True, check=True).stdout)
        out = texts(dump("--render", "statistics", "--size", "1800x1000", "--range", f"{begin}..{end}", TRACE))

        def row(label, out=out):
            x, y, _ = next(t for t in out if t[2] == label)
            return [t for at, other, t in sorted(out) if other == y and at > x][:2]

        whole = report["whole"]
        title = next(t for _, _, t in out if t.startswith("lost to the kernel, of "))
        assert equals(title.split()[5], whole["had_ns"]), (title, whole)
        for key, word in words.items():
            count = whole[key + "_count"]
            time, share = row(f"{word}, {count} time{'' if count == 1 else 's'}")
            assert time == "0" and not whole[key + "_ns"] or equals(time, whole[key + "_ns"]), (begin, end, word, time, whole)
            assert share == f"{100 * whole[key + '_ns'] / whole['had_ns']:.1f}%", (word, share, whole)
        for by in [b for b in report["by"]["descheduled"] if b["by"]][:3]:
            time, _ = row(by["by"])
            assert equals(time, by["ns"]), (by, time)


def induced_stalls_stand_on_both_lanes(work):
    """What `bursts` had by its own clock, as boxes on its CPU, and the fiber's thread off the CPU at the same pixels."""
    try:
        skip_without_bpf()
    except SystemExit as e:
        raise Skip("no eBPF") from e
    cpu, path, log = max(os.sched_getaffinity(0)), os.path.join(work, "s.trace"), os.path.join(work, "bursts")
    with open(log, "w", encoding="utf-8") as f:
        other = subprocess.Popen(["taskset", "-c", str(cpu), STALLS, "bursts", "7", "25"], stdout=f)
    try:
        done = record("--trace", "--kernel", "-o", path, STALLS, "fibers", "0.5", str(cpu), cwd=work,
                      env=dict(os.environ, FIB_MAXPROCS="1"))
        if other.poll() is not None:
            raise Skip("no process may have the CPU before all others (SCHED_FIFO)")
    finally:
        other.kill()
        other.wait()
    assert done.returncode == 0, done.stderr
    start = json.loads(subprocess.run([FIBERSCOPE, "trace", "lost", "--json", path], capture_output=True, text=True,
                                      check=True).stdout)["start_ns"]
    with open(log, encoding="utf-8") as f:
        bursts = [tuple((int(n) - start) / MS for n in line.split()) for line in f if len(line.split()) == 2]
    begin, end = 100, 400  # ms
    out = dump("--size", "2400x1000", "--range", f"{begin}ms..{end}ms", path)
    words = texts(out)
    left, right = (next(x for x, _, t in words if t == label) - 4 for label in ("150ms", "350ms"))
    scale, zero = (right - left) / 200, left - 50 * (right - left) / 200
    y = next(y for x, y, t in words if t == f"CPU{cpu}")
    inside = [b for b in bursts if begin < b[0] and b[1] < end and b[1] - b[0] < 9]
    assert len(inside) > 5, bursts
    boxes = [(x, w) for x, top, w, h in rects(out, OFF) if top <= y <= top + h and x >= zero and w > 20]
    strips = [(x, w) for x, top, w, h in rects(out, OFF) if h <= 16 and top < y and x >= zero and w > 20]
    good = 0
    for b in inside:
        at, wide = zero + (b[0] - begin) * scale, (b[1] - b[0]) * scale
        on_cpu = [(x, w) for x, w in boxes if abs(x - at) <= 0.05 * wide + 2 and abs(w - wide) <= 0.05 * wide + 3]
        off = [(x, w) for x, w in strips if x <= at + 0.05 * wide + 2 and x + w >= at + 0.95 * wide - 2]
        good += bool(on_cpu and off)
    # Others may have the CPU at an edge of some.
    assert good >= 2 * len(inside) / 3, (good, inside, boxes, strips)


if __name__ == "__main__":
    main([what_the_kernel_did_stands_below_what_the_program_did, what_is_chosen_says_why,
          a_pair_is_one_picture_in_any_order, what_does_not_fit_is_said, statistics_are_those_of_the_report,
          induced_stalls_stand_on_both_lanes])
