#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fiberscope trace lost: what a fiber lost to the kernel, against what is known by construction: the bursts of a
process that has the CPU before all others, the gaps that the program saw in its clock, its calls and page faults."""

import json
import os
import signal
import subprocess
import time

from harness import BUILD, FIBERSCOPE, TESTS, Skip, go_first, main, record, skip_without_bpf, taken_ns

STALLS = os.path.join(TESTS, "kernel_stalls")
CALLS, FAULT_PAGES = 5000, 2000  # of kernel_stalls, at a time
ON_MS, PERIOD_MS, SECONDS = 7, 25, 2
SHORTEN = os.path.join(BUILD, "examples", "shorten")
BURSTS, REQUEST_MS, SLOW_MS = 60, 6, 12  # of shorten


def report(name, *args):
    done = subprocess.run([FIBERSCOPE, "trace", name, "--json", *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def lost(*args):
    return report("lost", *args)


def spans_of(log):
    """The bursts that are over: [(begin, end)]"""
    with open(log, encoding="utf-8") as f:
        return [tuple(map(int, line.split())) for line in f if len(line.split()) == 2 and line.endswith("\n")]


def record_stalls(work, cpu, bursts=True):
    """(the report, what the fibers printed, the bursts)"""
    path, log = os.path.join(work, "s.trace"), os.path.join(work, "bursts")
    with open(log, "w", encoding="utf-8") as out:
        other = subprocess.Popen(["taskset", "-c", str(cpu), STALLS, "bursts", str(ON_MS), str(PERIOD_MS)],
                                 stdout=out) if bursts else None
    try:
        done = record("--trace", "--kernel", "-o", path, STALLS, "fibers", str(SECONDS), str(cpu), cwd=work,
                      env=dict(os.environ, FIB_MAXPROCS="1"))
        if other and other.poll() is not None:
            raise Skip("no process may have the CPU before all others (SCHED_FIFO)")
    finally:
        if other:
            other.kill()
            other.wait()
    assert done.returncode == 0, done.stderr
    assert "did not make sense" not in done.stderr and "was cut" not in done.stderr, done.stderr
    return lost(path), done.stdout.splitlines(), spans_of(log)


def turns_of(lines):
    """name -> [(begin, end)]"""
    turns = {}
    for line in lines[1:]:
        name, begin, end = line.split()
        turns.setdefault(name, []).append((int(begin), int(end)))
    return turns


def within(value, truth, share, what, taken=0):
    """taken: ns that the host had, and which of the two sees it nobody knows."""
    assert abs(value - truth) <= share * truth + taken, \
        f"{what}: {value / 1e6:.2f} ms, not {truth / 1e6:.2f} ms; {taken / 1e6:.0f} ms were the host's"


def what_a_program_missed_of_its_clock_is_what_it_lost(work):
    before = taken_ns()
    found, lines, bursts = record_stalls(work, max(os.sched_getaffinity(0)))
    taken = taken_ns() - before
    turns = turns_of(lines)
    regions = {row["region"]: row for row in found["regions"]}
    # By whomever.
    seen = int(lines[0].split()[1])
    within(regions["compute"]["descheduled_ns"], seen, 0.05, "compute", taken)
    for name, row in regions.items():
        known = sum(max(0, min(b[1], t[1]) - max(b[0], t[0])) for b in bursts for t in turns[name])
        assert known > 0 and row["descheduled_ns"] >= 0.95 * known, (name, row, known)
        span = sum(t[1] - t[0] for t in turns[name])
        within(row["had_ns"], span, 0.02, name, taken)


def target_of(recorder):
    with open(f"/proc/{recorder.pid}/task/{recorder.pid}/children", encoding="ascii") as f:
        return int(f.read().split()[0])


def burst_at(port, work, cpu):
    """Loads shorten, from another processor, and meanwhile has shorten's BURSTS times: when. The load goes first there, and
    has so many connections that some 200 ms of requests wait: else shorten would be idle in a burst, and lose nothing."""
    def go_elsewhere():
        os.sched_setaffinity(0, os.sched_getaffinity(0) - {cpu} or {cpu})
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    log = os.path.join(work, "bursts")
    load = subprocess.Popen([SHORTEN + "_load", "-p", port, "-c", "32", "-w", "0", "-n", "100000"],
                            stdout=subprocess.DEVNULL, env=dict(os.environ, FIB_MAXPROCS="1"), preexec_fn=go_elsewhere)
    time.sleep(0.3)
    try:
        with open(log, "w", encoding="utf-8") as out:
            subprocess.run(["taskset", "-c", str(cpu), STALLS, "bursts", str(ON_MS), str(PERIOD_MS), str(BURSTS)],
                           stdout=out, timeout=60, check=True)
        assert load.poll() is None, "the load was over before the bursts"
    finally:
        load.kill()
        load.wait()
    return spans_of(log)


def record_shorten(work, cpu):
    if not os.path.exists(SHORTEN):
        raise Skip("shorten is not built: no SQLite")
    if subprocess.run(["chrt", "-f", "1", "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        raise Skip("no process may have the CPU before all others (SCHED_FIFO)")
    recorder = subprocess.Popen([FIBERSCOPE, "record", "--trace", "--cpu", "-F", "499", "--kernel", "-o", "s.%k.pb.gz", SHORTEN,
                                 "-p", "0", "-d", "links.db", f"--delay=function:1:{REQUEST_MS}ms"], cwd=work, text=True,
                                env=dict(os.environ, FIB_MAXPROCS="1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                preexec_fn=go_first)
    target = None
    try:
        port = recorder.stdout.readline().rsplit(":", 1)[1].strip()
        target = target_of(recorder)
        for tid in os.listdir(f"/proc/{target}/task"):
            os.sched_setaffinity(int(tid), {cpu})
        bursts = burst_at(port, work, cpu)
        os.kill(target, signal.SIGTERM)
        said = recorder.communicate(timeout=60)[1]
        assert recorder.returncode == 0, said
    finally:
        if target and recorder.poll() is None:
            os.kill(target, signal.SIGKILL)  # it has the recorder's output open
        recorder.kill()
        recorder.communicate()
    return bursts


def bursts_beside_shorten_are_what_its_requests_lost(work):
    bursts = record_shorten(work, max(os.sched_getaffinity(0)))
    known = sum(end - begin for begin, end in bursts)
    assert len(bursts) == BURSTS and known >= BURSTS * ON_MS * 1e6, bursts
    found = lost(os.path.join(work, "s.trace"))
    by = {row["by"]: row for row in found["by"]["descheduled"]}
    print(f"      of {known / 1e6:.2f} ms lost finds {by['bursts']['ns'] / 1e6:.2f}")
    within(by["bursts"]["ns"], known, 0.05, "by bursts")
    others = found["whole"]["descheduled_ns"] - by["bursts"]["ns"]
    region, = [row for row in found["regions"] if row["region"] == "request"]
    # One in twenty-five comes before a request's region, or after it.
    assert 0.9 * known <= region["descheduled_ns"] <= 1.05 * known + others, (region, known, others)
    # One by one.
    stalls = [s for s in found["longest"] if s["by"] == "bursts"]
    assert stalls or others > known, found["longest"]
    assert sum(s["region"] == "request" for s in stalls) >= 0.8 * len(stalls), stalls
    for s in stalls:
        begin, end = found["start_ns"] + s["begin_ns"], found["start_ns"] + s["begin_ns"] + s["ns"]
        assert s["kind"] == "descheduled", s
        assert any(min(end, e) - max(begin, b) > 0.95 * (e - b) for b, e in bursts), (s, begin, end)
    explain = ["explain", "--region=request", f"--slow={SLOW_MS}ms", os.path.join(work, "s.trace")]
    done = subprocess.run([FIBERSCOPE, "trace", *explain], capture_output=True, text=True)
    if others > known and "no slow ones beside typical ones" in done.stderr:
        print("      others had the processor for most of the time: half of the requests are slow")
        return
    check_explained(report(*explain), known, others)


def check_explained(e, known, others):
    """A request that a burst met takes that much longer. others: ns that others than the bursts had the processor."""
    assert e["slow"] >= 0.9 * BURSTS, e["slow"]
    by = [p for p in e["pieces"] if p.get("kernel") == "descheduled" and p["by"] == "bursts"]
    assert [p["part"] for p in by] == ["running"], by
    print(f"      of {known / 1e6:.2f} ms explain finds {by[0]['slow_ns'] * e['slow'] / 1e6:.2f} in {e['slow']} slow requests")
    within(by[0]["slow_ns"] * e["slow"], known, 0.1, "in slow requests")
    assert by[0]["typical_ns"] < 0.01 * by[0]["slow_ns"], by
    if others < 0.1 * known:  # else slow ones are slow for more than the bursts
        within(e["running"]["descheduled"]["slow_ns"] - e["running"]["descheduled"]["typical_ns"], e["gap_ns"], 0.1, "the gap")
    for side in ("slow_ns", "typical_ns"):
        ran = sum(row[side] for key, row in e["running"].items() if key != "unknown")
        assert abs(ran - sum(p[side] for p in e["pieces"] if p["part"] == "running")) < 1, (side, e["running"])
        assert abs(sum(p[side] for p in e["pieces"]) - e[side.replace("_", "_mean_")]) < 1, (side, e)
        assert REQUEST_MS * 0.97e6 < e["running"]["computing"][side] < REQUEST_MS * 1.2e6, (side, e["running"])


def calls_and_faults_are_in_their_regions(work):
    report, lines, _ = record_stalls(work, max(os.sched_getaffinity(0)), bursts=False)
    turns = turns_of(lines)
    regions = {row["region"]: row for row in report["regions"]}
    calls, faults = len(turns["call"]) * CALLS, len(turns["fault"]) * FAULT_PAGES
    assert 0.99 * calls <= regions["call"]["syscall_count"] <= calls + 100, (calls, regions["call"])
    assert faults <= regions["fault"]["fault_count"] <= 1.02 * faults + 100, (faults, regions["fault"])
    assert regions["compute"]["syscall_count"] < 100 and regions["compute"]["fault_count"] < 100, regions["compute"]
    by = {row["by"]: row for row in report["by"]["syscall"]}
    assert 0.99 * calls <= by["getppid"]["count"] <= 1.02 * calls + 100, (calls, by["getppid"])
    for row in [*report["regions"], *report["functions"], *report["fibers"], report["whole"]]:
        assert row["lost_ns"] + row["unknown_ns"] <= row["had_ns"], row
    whole, fibers = report["whole"], report["fibers"]
    assert whole["lost_ns"] == sum(f["lost_ns"] for f in fibers), (whole, fibers)
    assert whole["unknown_ns"] <= 0.05 * whole["had_ns"], whole


def a_missing_kernel_trace_is_named(work):
    path = os.path.join(work, "t.trace")
    record("--trace", "-o", path, STALLS, "fibers", "0.1", cwd=work, check=0)
    done = subprocess.run([FIBERSCOPE, "trace", "lost", path], capture_output=True, text=True)
    assert done.returncode == 1 and "t.kernel.trace" in done.stderr and "--kernel" in done.stderr, done.stderr
    beside = os.path.join(work, "u.kernel.trace")
    os.rename(path, beside)
    done = subprocess.run([FIBERSCOPE, "trace", "lost", beside], capture_output=True, text=True)
    assert done.returncode == 1 and "is a kernel trace" in done.stderr, done.stderr
    said = subprocess.run([FIBERSCOPE, "trace", beside], capture_output=True, text=True, check=True).stdout
    assert "a kernel trace: fibers are threads" in said and " latency " in said and " sync " not in said, said
    os.rename(beside, path)
    # A trace of something else says nothing of these threads.
    report = lost(path, path)
    assert report["whole"]["unknown_ns"] == report["whole"]["had_ns"], report["whole"]


if __name__ == "__main__":
    skip_without_bpf()
    main([what_a_program_missed_of_its_clock_is_what_it_lost, bursts_beside_shorten_are_what_its_requests_lost, calls_and_faults_are_in_their_regions,
          a_missing_kernel_trace_is_named])
