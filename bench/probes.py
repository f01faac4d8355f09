#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What each probe of `record --method=ebpf` costs a program that does nothing but meet it, 34 frames deep (probe_load.c): with
nobody recording, with us, and with bpftrace and perf doing the equivalent, alternately in each round. The load has one
processor, the recorders the others.

Usage: probes.py [ROUNDS] [CASE ...]; five rounds and all cases, a case takes a minute. Needs root, bpftrace and perf."""

import os
import re
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(__file__))
import pairs  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
FIBERSCOPE, LOAD, AGENT = f"{BUILD}/cli/fiberscope", f"{BUILD}/bench/probe_load", f"{BUILD}/agent/libfiberscope.so"
LIBC = "/lib/x86_64-linux-gnu/libc.so.6"
READY_S, SETTLE_S = 30, 0.5


def agent(settings):
    return {"LD_PRELOAD": AGENT, "FIBERSCOPE": settings + ",quiet=1,out=%e.%p.fscope"}


# --- Who records: each is a list of words, in which PID stands for the process.

def ours(*what):
    return [FIBERSCOPE, "record", "--method=ebpf", "-p", "PID", "-o", "ours/", *what]


def bpftrace(*probes):
    return ["bpftrace", "-B", "line", "-e", 'BEGIN { printf("begun\\n"); } ' + " ".join(probes)]


def perf(*events):
    return ["perf", "record", "-q", "-B", "-N", "-g", "-c", "1", "-m", "16M", "-o", "perf.data", *(w for e in events for w in ("-e", e)),
            "-p", "PID"]


# As bpftrace's own offcputime does it, of one process.
OFFCPU = ("tracepoint:sched:sched_switch { if (pid == PID) { @since[tid] = nsecs; @stack[tid] = kstack; @user[tid] = ustack; }"
          " $t = @since[args->next_pid]; if ($t) { @ns[@stack[args->next_pid], @user[args->next_pid]] = sum(nsecs - $t);"
          " delete(@since[args->next_pid]); } }",)
WAKERS = ("tracepoint:sched:sched_waking /pid == PID/ { @wakes[kstack, ustack, args->pid] = count(); }",)
FUTEX = ("tracepoint:syscalls:sys_enter_futex /pid == PID/ { @since[tid] = nsecs; }",
         "tracepoint:syscalls:sys_exit_futex /@since[tid]/ { @ns[ustack] = sum(nsecs - @since[tid]); delete(@since[tid]); }")
FAULTS = ("tracepoint:exceptions:page_fault_user /pid == PID/ { @[ustack] = count(); }",)
MAPS = ("tracepoint:syscalls:sys_exit_mmap /pid == PID/ { @maps[ustack] = count(); }",
        "tracepoint:syscalls:sys_exit_munmap /pid == PID/ { @unmaps[ustack] = count(); }")
# As its memleak does it.
MALLOC = (f"uprobe:{LIBC}:malloc /pid == PID/ {{ @size[tid] = arg0; }}",
          f"uretprobe:{LIBC}:malloc /@size[tid]/ {{ @live[retval] = @size[tid]; @bytes[ustack] = sum(@size[tid]); delete(@size[tid]); }}",
          f"uprobe:{LIBC}:free /pid == PID/ {{ delete(@live[arg0]); }}")


def site(*names):
    return [f"usdt:{os.path.realpath(AGENT)}:fiberscope:{name} /pid == PID/ {{ @[ustack, probe] = sum(arg1); }}" for name in names]


def usdt(*names):
    return bpftrace(*site(*names))


NOTHING = ("nothing", [])
LOCKS = ours("--block", "--mutex")
# case -> (load, operations, environment, what is compared: name and command; the first is what the others add to)
CASES = {
    "waits": ("switches", 30000, {}, [
        NOTHING, ("--offcpu", ours("--offcpu")), ("--offcpu --wakeups", ours("--offcpu", "--wakeups")),
        ("--wall -F 99", ours("--wall", "-F", "99")), ("bpftrace, off CPU", bpftrace(*OFFCPU)),
        ("bpftrace, and wakers", bpftrace(*OFFCPU, *WAKERS)), ("perf, sched_switch", perf("sched:sched_switch"))]),
    "free": ("free", 100000000, {}, [NOTHING, ("--block --mutex", LOCKS)]),
    "held": ("held", 20000, {}, [
        NOTHING, ("--block --mutex", LOCKS), ("bpftrace, futex", bpftrace(*FUTEX)),
        ("perf, futex", perf("syscalls:sys_enter_futex", "syscalls:sys_exit_futex"))]),
    "faults": ("faults", 100000, {}, [
        NOTHING, ("--heap", ours("--heap")), ("bpftrace, page faults", bpftrace(*FAULTS)), ("perf, page faults", perf("page-faults"))]),
    "maps": ("maps", 30000, {}, [
        NOTHING, ("--heap", ours("--heap")), ("bpftrace, mmap and munmap", bpftrace(*MAPS)),
        ("perf, mmap and munmap", perf("syscalls:sys_exit_mmap", "syscalls:sys_exit_munmap"))]),
    "malloc": ("malloc", 10000, {}, [
        NOTHING, ("--heap --malloc", ours("--heap", "--malloc")), ("--heap=exact --malloc", ours("--heap=exact", "--malloc")),
        ("bpftrace, malloc and free", bpftrace(*MALLOC))]),
    "heap_site": ("malloc", 50000, agent("heap=exact"), [
        NOTHING, ("--heap", ours("--heap=exact")), ("bpftrace, the sites", usdt("heap_alloc", "heap_free"))]),
    "lock_site": ("held", 20000, agent("block=1,mutex=1"), [
        NOTHING, ("--block --mutex", LOCKS), ("bpftrace, the sites", usdt("thread_block", "thread_mutex"))]),
}


# --- Measuring.

def text_of(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def is_watching(recorder):
    """Once privileges are gone all is attached."""
    return "NoNewPrivs:\t1" in text_of(f"/proc/{recorder.pid}/status")


def has_begun(recorder, words):
    if words[0] == FIBERSCOPE:
        return is_watching(recorder)
    if words[0] == "bpftrace":
        return "begun" in text_of("bpftrace.out")
    return True


def started(words, pid):
    others = ",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0) - {0}))
    words = [re.sub(r"\bPID\b", str(pid), word) for word in words]
    with open("bpftrace.out", "w", encoding="utf-8") as out, open("said", "w", encoding="utf-8") as err:
        recorder = subprocess.Popen(["taskset", "-c", others, *words], stdout=out, stderr=err)
    end = time.monotonic() + READY_S
    while not has_begun(recorder, words):
        if recorder.poll() is not None or time.monotonic() > end:
            recorder.kill()
            sys.exit(f"probes: {' '.join(words)}: {text_of('said')[-600:]}")
        time.sleep(0.05)
    time.sleep(1 if words[0] == "perf" else SETTLE_S)
    return recorder


def stopped(recorder):
    recorder.send_signal(signal.SIGINT)
    recorder.wait(timeout=60)


def counts(path):
    """Sums of a profile's columns that are numbers of something, by name."""
    raw = subprocess.run([FIBERSCOPE, "raw", path], capture_output=True, text=True, check=True).stdout
    types = re.search(r"^Samples:\n(.*)$", raw, re.M)[1].split()
    rows = [m.split() for m in re.findall(r"^ *(\d[\d ]*): [\d ]+$", raw, re.M)]
    return {t.split("/")[0]: sum(int(row[i]) for row in rows) for i, t in enumerate(types) if t.split("/")[1] == "count"}


def seen():
    """How often our profiles say that something happened: that of which there is most."""
    return max(value for name in os.listdir("ours") for value in counts(f"ours/{name}").values())


def ns_of(load, count, env, words):
    """ns an operation, how often a thread waited in it, and what the recorder has seen; the first run warms up."""
    for name in ("bpftrace.out", "perf.data", "said"):
        if os.path.exists(name):
            os.unlink(name)
    shutil.rmtree("ours", ignore_errors=True)
    target = subprocess.Popen([LOAD, load, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              env=dict(os.environ, **env))
    recorder = None
    try:
        pid = int(target.stdout.readline().split()[1])
        recorder = words and started(words, pid)
        for _ in range(2):
            target.stdin.write("go\n")
            target.stdin.flush()
            if not select.select([target.stdout], [], [], READY_S)[0]:
                sys.exit(f"probes: {load} does not end")
            found = target.stdout.readline().split()
    finally:
        if recorder:
            stopped(recorder)
        target.communicate()
    return float(found[0]), float(found[1]), seen() if words[:1] == [FIBERSCOPE] else 0


def spread(values, digits=2):
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def measure(case, rounds):
    load, count, env, compared = CASES[case]
    found, waits, shown = {}, {}, {}
    for i in range(rounds):
        for name, words in compared if i % 2 else compared[::-1]:
            pairs.progress(f"{case}, round {i + 1} of {rounds}: {name}")
            ns, waits[name], shown[name] = ns_of(load, count, env, words)
            found.setdefault(name, []).append(ns)
    pairs.progress("")
    print_case(case, CASES[case], found, waits, shown)


def print_case(case, row, found, waits, shown):
    load, count, env, compared = row
    plain = found[compared[0][0]]
    added = {name: [a - b for a, b in zip(found[name], plain)] for name, _ in compared}
    peers = [name for name, words in compared if words and words[0] != FIBERSCOPE]
    print(f"{case}: {load}, {count} operations, {waits[compared[0][0]]:.2f} waits each" + (f", {env['FIBERSCOPE']}" if env else ""))
    for name, words in compared:
        text = f"  {name}: {spread(found[name], 0)} ns, to nothing {spread([a / b for a, b in zip(found[name], plain)])}"
        if words:
            text += f", adds {spread(added[name], 0)} ns"
        if words and words[0] == FIBERSCOPE:
            text += f", {shown[name] / count / 2:.2f} seen each"
            for peer in peers:
                text += f"; of what {peer.split(',')[0]} adds {spread([a / b for a, b in zip(added[name], added[peer])])}"
        print(text, flush=True)


def main():
    args = sys.argv[1:]
    rounds = int(args.pop(0)) if args and args[0].isdigit() else 5
    if os.geteuid() or not shutil.which("perf") or not shutil.which("bpftrace") or len(os.sched_getaffinity(0)) < 2:
        sys.exit("probes: needs root, perf, bpftrace and two processors")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not ignored, as a shell has it of what runs in the background
    for case in args or CASES:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            measure(case, rounds)
            os.chdir("/")


if __name__ == "__main__":
    main()
