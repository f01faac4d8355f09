#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The panels beneath a timeline show the figures of the reports: of a made trace, and of a service under load."""

import json
import os
import re
import subprocess
import time

import made_trace as made
from harness import BUILD, FIBERSCOPE, Skip, main

VIEWER = os.path.join(BUILD, "viewer", "fiberscope-view")

TASK_BEGIN, TASK_END = 40, 41
UNITS = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9, "mins": 60e9, "hrs": 3600e9}
WIDE = ("--size", "2600x1400", "--font", "builtin", "--text", "-")


def made_service(path):
    """Workers 2 to 5 answer 240 requests; every 30th waits some milliseconds for a lock that fiber 6 holds. Task 1 is
    all of it. Fiber 7 begins at 1 ms and ends."""
    g = made.Generation(1)
    root, lock, free = g.stack("main"), g.stack("take", "answer", "worker"), g.stack("release", "holder")
    g.say(1, made.PROC_STATUS, 0, 1)
    g.say(1, made.GO_STATUS_STACK, 1, made.THREAD, made.RUNNING, root)
    g.say(1, made.PROCS_CHANGE, 1, 0)
    for n in range(2, 7):
        g.say(1, made.GO_STATUS_STACK, n, made.NOBODY, made.WAITING, g.stack("wait", "holder" if n == 6 else "worker"),
              thread=made.NOBODY)
    g.say(1_000_000, made.GO_CREATE, 7, g.stack("short"), root)
    g.block(1_000_100, "sleep", root)
    g.start(1_000_200, 7)
    g.say(1_400_000, made.GO_DESTROY)
    at, calls, name = 2_000_000, 0, g.text("request")
    for i in range(240):
        worker = 2 + i % 4
        g.wake(at, worker)
        g.start(at + 300 + 7 * i, worker)
        at += 3000 + 7 * i
        g.say(at, made.REGION_BEGIN, 0, name, lock)
        at += 11_000 + 131 * (i * i % 97)
        if i % 30 == 29:
            g.block(at, "sync", lock)
            g.wake(at + 100, 6)
            g.start(at + 200, 6)
            at += 2_000_000 + 40_000 * i
            g.wake(at, worker, free)
            g.block(at + 500, "chan receive", g.stack("wait", "holder"))
            g.start(at + 900, worker)
            at += 6_000
        elif i % 7 == 3:
            calls += 1
            g.say(at, made.GO_SYSCALL_BEGIN, calls, g.stack("write", "worker"))
            at += 5_000
            g.say(at, made.GO_SYSCALL_END)
            at += 100
        g.say(at, made.REGION_END, 0, name, lock)
        at += 1000
        g.block(at, "network", g.stack("read", "worker"))
        at += 900
    made.write(path, [g])


_recorded = []


def recorded_service(work):
    """shorten under load, where some redirects find a lock taken; recorded once."""
    path = os.path.join(work, "served.trace")
    if _recorded:
        with open(path, "wb") as f:
            f.write(_recorded[0])
        return path
    shorten = os.path.join(BUILD, "examples", "shorten")
    if not os.path.exists(shorten):
        raise Skip("the examples are not built")
    out = os.path.join(work, "rec")
    service = subprocess.Popen([FIBERSCOPE, "record", "--trace", "--cpu", "-F", "999", "-o", out + "/", shorten, "-p", "0",
                                "-d", os.path.join(work, "links.db"), "--delay=lock:50:10ms"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        port = re.search(r":(\d+)", service.stdout.readline()).group(1)
        subprocess.run([shorten + "_load", "-p", port, "-c", "16", "-n", "1000"], check=True, capture_output=True,
                       timeout=60)
        children = subprocess.run(["pgrep", "-P", str(service.pid)], capture_output=True, text=True, check=True).stdout
        for child in children.split():
            subprocess.run(["kill", "-TERM", child], check=True)
        service.communicate(timeout=60)
    finally:
        service.kill()
    traces = [f for f in os.listdir(out) if f.endswith(".trace")]
    assert len(traces) == 1, os.listdir(out)
    with open(os.path.join(out, traces[0]), "rb") as f:
        _recorded.append(f.read())
    return recorded_service(work)


def both(case):
    """The case with each of the traces."""
    def run(work):
        path = os.path.join(work, "made.trace")
        made_service(path)
        case(path, ["", "0.001..0.01", "0.0034..0.0091"], work)
        try:
            path = recorded_service(work)
        except Skip:  # a recording of it, then
            path = os.path.join(os.environ["FSCOPE_SOURCE"], "tests", "e2e", "data", "shorten.trace")
        length = report(path, "summary")["duration_ns"] // 1000 / 1e6
        case(path, ["", f"{length * 0.5:.6f}..{length:.6f}", f"{length * 0.2:.6f}..{length * 0.9:.6f}"], work)
    run.__name__ = case.__name__
    return run


def report(path, name, *options, range_=""):
    if range_:
        begin, end = range_.split("..")
        options = (*options, "--from", begin + "s", "--to", end + "s")
    done = subprocess.run([FIBERSCOPE, "trace", name, "--json", "-n", "0", *options, path], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rows(path, panel, *options, range_="", size=None, bar=False):
    """The texts of the panel by line, each line from the left, without those of its bar."""
    options = (*options, *(("--range", range_) if range_ else ()), *(("--size", size) if size else ()))
    done = subprocess.run([VIEWER, *WIDE, "--render", panel, *options, path], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    texts = [(int(y), int(x), t) for x, y, t in
             re.findall(r'^text (-?\d+),(-?\d+) #\w+ builtin "(.*)"$', done.stdout, re.M)]
    top = max(y for y, _, t in texts if t == "timeline") + (-2 if bar else 1)
    lines = {}
    for y, x, t in texts:
        if y >= top:
            lines.setdefault(y, []).append((x, t))
    return [[t for _, t in sorted(line)] for _, line in sorted(lines.items())]


def is_ns(label, ns):
    """Whether a label, with two decimals at most, means this."""
    if label == "0":
        return ns == 0
    number, unit = re.fullmatch(r"(-?[0-9.]+)([a-z]+)", label).groups()
    return abs(float(number) - ns / UNITS[unit]) < 0.00501


def syscall(times):
    return times["syscall_ns"] + times["syscall_blocked_ns"]


@both
def fibers_are_those_of_the_report(path, ranges, _):
    for range_ in ranges:
        shown = rows(path, "fibers", range_=range_)
        want = report(path, "fibers", range_=range_)["functions"]
        head, shown = shown[0], shown[1:]
        assert head[:8] == ["start function", "fibers", "alive", "lives", "running", "runnable", "syscall", "blocked"], head
        assert len(shown) == len(want), (range_, shown, want)
        assert [r[0] for r in shown] == [w["function"] or "(unknown)" for w in want] or \
            len({w["running_ns"] for w in want}) < len(want), (shown, want)
        by_name = {w["function"] or "(unknown)": w for w in want}
        for row in shown:
            w = by_name[row[0]]
            assert row[1:3] == [str(w["fibers"]), str(w["alive"])], (row, w)
            figures = [w["total_ns"], w["running_ns"], w["runnable_ns"], syscall(w), w["blocked_ns"]]
            reasons = {b["reason"]: b["ns"] for b in w["blocked"]}
            named = [reasons.get(reason, 0) for reason in head[8:-1]]
            assert head[-1] == "other" and len(head) <= 12, head
            figures += [*named, w["blocked_ns"] - sum(named)]
            assert all(is_ns(label, ns) for label, ns in zip(row[3:], figures, strict=True)), (range_, row, figures)


@both
def statistics_are_those_of_the_summary(path, ranges, _):
    for range_ in ranges:
        shown = rows(path, "statistics", range_=range_)
        want = report(path, "summary", range_=range_)
        times = want["times"]
        facts = dict(zip(next(r for r in shown if r[0] == "length"), next(r for r in shown if "GOMAXPROCS" in str(r))))
        assert is_ns(facts["length"], want["duration_ns"]), (facts, want["duration_ns"])
        assert facts["fibers"] == str(want["fibers"]) and facts["alive at the end"] == str(want["alive"]), (facts, want)
        share, procs = re.match(r"(\S+)% \(GOMAXPROCS (\d+)\)", facts["fibers ran"]).groups()
        assert abs(float(share) - 100 * want["utilisation"]) < 0.06 and int(procs) == want["gomaxprocs"], (facts, want)
        assert is_ns(facts["their lives"], times["total_ns"])
        states = {"running": times["running_ns"], "runnable": times["runnable_ns"], "in system calls": syscall(times),
                  "blocked": times["blocked_ns"], **{b["reason"] or "(no reason)": b["ns"] for b in times["blocked"] if b["ns"]}}
        seen = {r[0]: r[1:3] for r in shown if r[0] in states and len(r) > 2}
        assert set(seen) == set(states), (seen, states)
        for name, ns in states.items():
            assert is_ns(seen[name][0], ns), (range_, name, seen[name], ns)
            assert abs(float(seen[name][1][:-1]) - 100 * ns / times["total_ns"]) < 0.051, (name, seen[name], ns)
        each = report(path, "fibers", "--name", "", range_=range_)["fibers"]
        for key, title in (("running_ns", "fibers that ran longest"), ("blocked_ns", "fibers that were blocked longest")):
            order = sorted((f for f in each if f[key]), key=lambda f: -f[key])
            column = next(r for r in shown if title in r).index(title)
            top = [r for r in shown if any(re.fullmatch(r".* \d+", t) for t in r)]
            first = [t for t in top[0] if re.fullmatch(r"\S.* \d+", t) and "GOMAXPROCS" not in t]
            names = [f"{f['function'] or '(unknown)'} {f['fiber']}" for f in order if f[key] == order[0][key]]
            assert first[1 if "blocked" in key and len(first) > 1 else 0] in names, (range_, first, names, column)


@both
def latencies_are_those_of_the_regions(path, ranges, _):
    want = report(path, "regions")["regions"]
    shown = rows(path, "latency", "--region", "request")
    request = next(r for r in want if r["name"] == "request")
    names = [r for r in shown if r[0] in [w["name"] for w in want]]
    assert len(names) == len(want)
    for row in names:
        w = next(w for w in want if w["name"] == row[0])
        assert row[1:3] == [str(w["instances"]), str(w["complete"])], (row, w)
        assert is_ns(row[3], w["latency"]["max_ns"]) and is_ns(row[4], w["latency"]["sum_ns"]), (row, w)
    latency = request["latency"]
    head = next(t for r in shown for t in r if t.startswith("request: "))
    count, p90, longest = re.fullmatch(r"request: (\d+) with both ends, p90 (\S+), longest (\S+)", head).groups()
    assert int(count) == latency["count"] and is_ns(p90, latency["p90_ns"]) and is_ns(longest, latency["max_ns"]), head
    marks = {w: label for w, label in (t.split() for r in shown for t in r if re.match(r"(median|p99) ", t))}
    assert is_ns(marks["median"], latency["p50_ns"]) and is_ns(marks["p99"], latency["p99_ns"]), (marks, latency)
    assert any(t == f"all {request['instances']}" for r in shown for t in r), shown
    spans = [r[-7:] for r in shown if re.match(r"\d+ \S", r[-7] if len(r) > 6 else "")]
    for row, w in zip(spans, request["slowest"]):
        equals = [x for x in request["slowest"] if x["ns"] == w["ns"]]  # in any order, and there may be more
        assert is_ns(row[2], w["ns"]), (row, w)
        assert len(equals) > 1 or w is request["slowest"][-1] or row[0].split()[0] == str(w["fiber"]), (row, w)
        assert len(equals) > 1 or w is request["slowest"][-1] or abs(float(row[1][:-1]) - w["at_ns"] / 1e9) < 1e-6, (row, w)
        assert sum(to_ns(t) for t in row[3:]) <= w["ns"] * 1.011 + 40, row
    assert len(spans) >= 10


def a_brush_says_what_is_slow(work):
    """Explain counts as slow what the histogram's brush begins with, as --slow of the report does."""
    shorten = os.path.join(os.environ["FSCOPE_SOURCE"], "tests", "e2e", "data", "shorten.trace")
    # No request took 1 to 7 ms: where in that the brush begins does not matter.
    want = report(shorten, "explain", "--region", "request", "--slow", "4ms")
    shown = rows(shorten, "latency", "--press", "1200,1800-1384,1800 Alt+5", size="2600x2200")
    said = [t for r in shown for t in r]
    slow = next(re.fullmatch(r"(\d+) of (\d+) are slow, from (\S+) on, by the brush: (\S+) in the mean", t)
                for t in said if "slow, from" in t)
    assert [int(slow.group(i)) for i in (1, 2)] == [want["slow"], want["instances"]], (slow, want)
    assert want["slow"] != report(shorten, "explain", "--region", "request")["slow"]  # p99 is another
    assert is_ns(slow.group(3), want["threshold_ns"]) and is_ns(slow.group(4), round(want["slow_mean_ns"])), (slow, want)
    all_of_it = next(re.search(r"(\d+) pieces; in all the slow ones take (\S+) longer", t) for t in said if "in all" in t)
    assert is_ns(all_of_it.group(2), round(want["gap_ns"])), all_of_it


def nearest(ns):
    return int(ns + 0.5) if ns >= 0 else -int(0.5 - ns)  # a half goes away from zero, as llround does it


def to_ns(label):
    number, unit = re.fullmatch(r"([0-9.]+)([a-z]*)", label).groups()
    return float(number) * UNITS.get(unit, 0)


@both
def explain_is_that_of_the_report(path, ranges, _):
    for range_ in ranges:
        explain_of(path, range_)


def explain_of(path, range_):
    shown = rows(path, "explain", "--region", "request", range_=range_, size="2600x2200", bar=True)
    said = [t for r in shown for t in r]
    assert any(t.startswith("shown ") for t in said) if range_ else "all of the trace (R: what is shown)" in said, said
    want = report(path, "explain", "--region", "request", range_=range_)
    slow = next(re.fullmatch(r"(\d+) of (\d+) are slow, from (\S+) on: (\S+) in the mean", t) for t in said if "slow, from" in t)
    assert [int(slow.group(i)) for i in (1, 2)] == [want["slow"], want["instances"]], (slow, want)
    assert is_ns(slow.group(3), want["threshold_ns"]) and is_ns(slow.group(4), nearest(want["slow_mean_ns"]))
    typical = next(re.fullmatch(r"(\d+) are typical, around the median (\S+): (\S+) in the mean", t)
                   for t in said if "are typical" in t)
    assert int(typical.group(1)) == want["typical"] and is_ns(typical.group(2), want["median_ns"])
    assert is_ns(typical.group(3), nearest(want["typical_mean_ns"]))
    head = next(i for i, r in enumerate(shown) if "longer" in r and "typical" in r)
    pieces = []
    for r in shown[head + 1:]:
        at = next((i for i, t in enumerate(r) if re.fullmatch(r"-?\d+\.\d%", t)), None)
        if at:
            pieces.append(r[at - 2:at + 3])
    assert len(pieces) == len(want["pieces"]), (pieces, want["pieces"])
    for row, w in zip(pieces, want["pieces"]):
        assert row[0].split()[0] == w["part"], (row, w)
        assert is_ns(row[1], nearest(w["gap_ns"])) and is_ns(row[3], nearest(w["slow_ns"])), (row, w)
        assert is_ns(row[4], nearest(w["typical_ns"])), (row, w)
        assert "holder" not in w or row[0].endswith("by " + (w["holder"] or "(unknown)")), (row, w)
    all_of_it = next(re.search(r"(\d+) pieces; in all the slow ones take (\S+) longer", t) for t in said if "in all" in t)
    assert is_ns(all_of_it.group(2), nearest(want["gap_ns"])), all_of_it
    first = want["pieces"][0]
    assert range_ or first["part"] == "lock" and first["meanwhile_ns"] > 0, first
    if "meanwhile_ns" not in first:
        return
    words = {"sleep": "asleep", "running": "running"}
    did = next(re.fullmatch(r"most of that, (\S+), it was (\w+)(, in)?", t) for t in said if t.startswith("most of that"))
    assert is_ns(did.group(1), nearest(first["meanwhile_ns"])) and did.group(2) == words[first["meanwhile"]], (did, first)
    for frame in first.get("meanwhile_stack", []):
        at = f'{frame["function"]}  {os.path.basename(frame["file"])}:{frame["line"]}' if frame.get("file") else frame["function"]
        assert at in said or frame["function"].startswith("runtime."), (at, said)


def a_range_without_requests_has_none_to_explain(_):
    """Not those of the rest of the trace; R asks for these."""
    shorten = os.path.join(os.environ["FSCOPE_SOURCE"], "tests", "e2e", "data", "shorten.trace")
    said = [t for r in rows(shorten, "explain", "--region", "request", range_="0..0.0001") for t in r]
    assert "no regions or tasks in this range" in said and not any("are slow" in t for t in said), said
    said = [t for r in rows(shorten, "explain", "--region", "request", "--press", "R", range_="0..0.0001", bar=True) for t in r]
    assert any("of 2200 are slow" in t for t in said) and "all of the trace (R: what is shown)" in said, said


def digits_are_the_bar(_):
    """From left to right, by one key each; 1 is the timeline alone."""
    shorten = os.path.join(os.environ["FSCOPE_SOURCE"], "tests", "e2e", "data", "shorten.trace")
    says = {2: "CPU samples", 3: "alive at the end", 4: "start function", 5: "critical path", 6: "are typical", 7: "with both ends"}

    def said(keys):
        return " ".join(t for r in rows(shorten, "timeline", "--press", keys) for t in r)
    seen = {digit: said(str(digit)) for digit in says}
    assert all(words in seen[digit] for digit, words in says.items() if digit != 5) and len(set(seen.values())) == 6, seen
    assert said("7 1") == said("1") == said("7 7") and said("7 2") == seen[2]


@both
def critical_paths_are_those_of_the_report(path, ranges, _):
    # Without a range the report is of the longest task or region.
    ranges = [f"0..{report(path, 'summary')['duration_ns'] / 1e9:.9f}", *ranges[1:]]
    for range_ in ranges:
        want = report(path, "critical", range_=range_)
        shown = rows(path, "critical", range_=range_, size="2600x2200")
        fiber = re.match(r"fiber (\d+)", want["of"]).group(1)
        assert any(re.fullmatch(rf"to the end of .* {fiber}, the last that ran", t) for r in shown for t in r), (want["of"], shown)
        sums = {}
        for step in want["steps"]:
            sums[step["part"]] = sums.get(step["part"], 0) + step["ns"]
        seen = {r[0]: r[1:3] for r in shown if r[0] in sums}
        for part, ns in sums.items():
            assert is_ns(seen[part][0], ns), (range_, part, seen[part], ns)
            assert abs(float(seen[part][1][:-1]) - 100 * ns / want["ns"]) < 0.051, (part, seen, ns)
        assert is_ns(next(r for r in shown if r[0] == "in all")[1], want["ns"])
        steps = []
        for r in shown:
            at = next((i for i, t in enumerate(r) if re.fullmatch(r"\d+\.\d{6}s", t)), None)
            if at:
                steps.append(r[at - 1:at + 2])
        # The longest is in sight: rows begin somewhere.
        ends = [(f"{s['at_ns'] / 1e9:.6f}s", s) for s in want["steps"]]
        first = next(i for i in range(len(ends)) if ends[i][0] == steps[0][1] and is_ns(steps[0][2], ends[i][1]["ns"]))
        assert any(is_ns(row[2], max(s["ns"] for s in want["steps"])) for row in steps)
        assert len(steps) >= min(len(want["steps"]), 30), len(steps)
        for row, (_, w) in zip(steps, want["steps"][first:] and ends[first:]):
            assert is_ns(row[2], w["ns"]) and row[0].split()[0] == w["part"], (row, w)
            assert f"{w['function'] or '(unknown)'} {w['fiber']}" in row[0], (row, w)


@both
def flame_graphs_have_the_time_of_the_reports(path, ranges, work):
    for range_ in ranges:
        begin, end = range_.split("..") if range_ else ("0", "1000000")
        folded = os.path.join(work, "x.folded")
        subprocess.run([FIBERSCOPE, "trace", "export", "--format=folded", "-o", folded, "--from", begin + "s", "--to",
                        end + "s", path], check=True, capture_output=True, timeout=60)
        with open(folded, encoding="utf-8") as f:
            stacks = [line.rsplit(" ", 1) for line in f]
        blocked = [int(ns) for stack, ns in stacks if stack.rsplit(";", 1)[-1].startswith("[blocked")]
        shown = rows(path, "stacks", range_=range_)
        head = next((t for r in shown for t in r if t.startswith("width: ")), "")
        if path.endswith("made.trace"):  # it has no samples: blocked time is shown first
            total = re.match(r"width: time, (\S+) in \d+ different stacks", head).group(1)
            assert blocked and is_ns(total, sum(blocked)), (range_, head, sum(blocked))
            continue
        count = samples_in_fibers(path, begin, end)
        assert re.match(rf"width: samples, {count} in ", head) if count else not head, (range_, head, count)


def samples_in_fibers(path, begin, end):
    samples = subprocess.run([FIBERSCOPE, "trace", "events", "--kind=StackSample", "--from", begin + "s", "--to", end + "s", path],
                             capture_output=True, text=True, check=True, timeout=60).stdout
    return len(re.findall(r" G\d+ +StackSample", samples))


def samples_of_fibers_that_are_not_there_count(work):
    """One before its fiber is created, one after it ended, one of no fiber, and two where ranges begin and end."""
    path = os.path.join(work, "samples.trace")
    g = made.Generation(1)
    root = g.stack("main")
    g.say(1000, made.PROC_STATUS, 0, 1)
    g.say(1000, made.GO_STATUS_STACK, 1, made.THREAD, made.RUNNING, root)
    g.say(1000, made.PROCS_CHANGE, 1, 0)
    for at, fiber, name in ((1150, 7, "before"), (1200, 1, "main"), (4500, 7, "within"), (5500, 7, "after"),
                            (5600, made.NOBODY, "nobody"), (7000, 1, "main"), (9000, 1, "main"), (9500, 1, "main")):
        g.sample(at, fiber, g.stack(name))
    g.say(2000, made.GO_CREATE, 7, g.stack("short"), root)
    g.block(3000, "sleep", root)
    g.start(4000, 7)
    g.say(5000, made.GO_DESTROY)
    g.wake(5700, 1)
    g.start(5800, 1)
    g.block(9600, "sleep", root)
    made.write(path, [g])
    for range_, count in (("0..1", 7), ("0.000001..0.000005", 2), ("0.000006..0.000008", 2)):
        head = next(t for r in rows(path, "stacks", range_=range_) for t in r if t.startswith("width: "))
        assert count == samples_in_fibers(path, *range_.split("..")), (range_, count)
        assert head.startswith(f"width: samples, {count} in "), (range_, head)


def tasks_are_divided_by_their_critical_paths(work):
    """Task 7 is begun by main and ended by a worker, which main wakes meanwhile."""
    path = os.path.join(work, "made.trace")
    g = made.Generation(1)
    root = g.stack("main")
    g.say(1, made.PROC_STATUS, 0, 1)
    g.say(1, made.GO_STATUS_STACK, 1, made.THREAD, made.RUNNING, root)
    g.say(1, made.PROCS_CHANGE, 1, 0)
    g.say(1, made.GO_STATUS_STACK, 2, made.NOBODY, made.WAITING, g.stack("wait", "worker"), thread=made.NOBODY)
    g.say(1000, TASK_BEGIN, 7, 0, g.text("errand"), root)
    g.wake(5000, 2, root)  # 4000 ns of main
    g.block(7000, "sleep", root)
    g.start(8000, 2)  # 3000 ns runnable
    g.block(10_000, "network", g.stack("read", "worker"))  # 2000 ns of the worker
    g.wake(14_000, 2)  # 4000 ns blocked, by nobody
    g.start(14_500, 2)  # 500 ns runnable
    g.say(15_000, TASK_END, 7, g.stack("worker"))  # 500 ns of the worker
    g.block(16_000, "network", g.stack("read", "worker"))
    made.write(path, [g])
    shown = rows(path, "latency", "--task", "errand")
    row = next(r[-7:] for r in shown if r[-7:][0] == "2 worker")
    assert row[2:] == ["14us", "6.50us", "3.50us", "4us", "0"], row
    want = report(path, "critical", "--task", "errand")
    assert sum(s["ns"] for s in want["steps"] if s["part"] == "running") == 6500, want


def mistakes_are_refused(work):
    path = os.path.join(work, "made.trace")
    made_service(path)
    for args, status, why in ((["--region", "none"], 1, 'no region "none"'),
                              (["--task", "a", "--region", "request"], 2, "--task"), (["--task", "request"], 1, "no task")):
        done = subprocess.run([FIBERSCOPE, "view", "--text", "-", *args, path], capture_output=True, text=True, timeout=60)
        assert done.returncode == status and why in done.stderr, (args, done)


def every_panel_fits_every_size(work):
    path = os.path.join(work, "made.trace")
    made_service(path)
    begun = time.monotonic()
    for panel in ("stacks", "statistics", "fibers", "critical", "explain", "latency"):
        for size in ("1x1", "60x900", "900x60", "300x200", "800x600", "7680x1000"):
            svg, out = os.path.join(work, "p.svg"), os.path.join(work, "p.png")
            done = subprocess.run([VIEWER, "--render", panel, "--size", size, "--font", "builtin", "--svg", svg,
                                   "--png", out, path], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, (panel, size, done.stderr)
    assert time.monotonic() - begun < 120


if __name__ == "__main__":
    main([fibers_are_those_of_the_report, statistics_are_those_of_the_summary, latencies_are_those_of_the_regions,
          explain_is_that_of_the_report, a_range_without_requests_has_none_to_explain, digits_are_the_bar,
          a_brush_says_what_is_slow, critical_paths_are_those_of_the_report, flame_graphs_have_the_time_of_the_reports,
          samples_of_fibers_that_are_not_there_count, tasks_are_divided_by_their_critical_paths, mistakes_are_refused,
          every_panel_fits_every_size])
