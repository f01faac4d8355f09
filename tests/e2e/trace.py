#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fiberscope trace on traces of a Go program whose behaviour is known: what the reports say agrees with the
program, with each other, and with the options."""

import json
import os
import re
import shutil
import subprocess

from harness import FIBERSCOPE, Skip, close, go_tool, main

SOURCE = os.path.join(os.environ["FSCOPE_SOURCE"], "tests", "conformance", "trace_waiting.go")
GO = shutil.which("go", path=os.environ["PATH"] + ":/usr/local/go/bin")
traces = {}  # kind -> path, recorded once


def trace(*args, status=0, text=True, data=None):
    done = subprocess.run([FIBERSCOPE, "trace", *args], capture_output=True, text=text, timeout=60, stdin=data)
    assert done.returncode == status, f"{args}: exit status {done.returncode}, not {status}: {done.stderr}"
    return done.stdout if status == 0 else done.stdout + done.stderr


def report(*args):
    return json.loads(trace("--json", *args))


def recorded(kind):
    if not GO:
        raise Skip("no Go here")
    folder = os.path.join(os.getcwd(), "trace_traces")
    program = os.path.join(folder, "waiting")
    if not traces:
        os.makedirs(folder, exist_ok=True)
        subprocess.run([GO, "build", "-o", program, SOURCE], check=True)
    if kind not in traces:
        path = os.path.join(folder, kind + ".trace")
        subprocess.run([program, kind, path], check=True, timeout=60)
        traces[kind] = path
    return traces[kind]


def the_summary_adds_up():
    for kind in ("locks", "tasks"):
        s = report(recorded(kind))
        close(s["duration_ns"], 1.3e9, 2e8, "duration")
        assert sum(f["fibers"] for f in s["functions"]) == s["fibers"]
        busy = sum(p["running_ns"] for p in s["procs"])
        close(sum(f["running_ns"] for f in s["functions"]), busy, 0.01 * busy, "running by function and by Proc")
        for f in s["functions"]:
            assert f["blocked_ns"] == sum(w["ns"] for w in f["blocked"]), f["function"]
            known = sum(f[k] for k in ("running_ns", "runnable_ns", "syscall_ns", "syscall_blocked_ns",
                                       "blocked_ns"))
            assert known <= f["total_ns"], f["function"]
        for p in s["procs"]:
            spent = p["running_ns"] + p["syscall_ns"] + p["idle_ns"] + p["other_ns"]
            assert spent <= s["duration_ns"] * 1.001, p
    text = trace(recorded("locks"))
    for word in ("main.lockWorker", "sync.(*Cond).Wait", "Who wakes whom", "Look next", "trace sync"):
        assert word in text, text


def tables_have_the_rows_that_are_asked_for():
    path = recorded("tasks")
    fibers = report("fibers", "--name", "main.request", "-n", "7", path)["fibers"]
    assert len(fibers) == 7 and all("main.request" in f["function"] for f in fibers)
    running = [f["running_ns"] for f in fibers]
    assert running == sorted(running, reverse=True)
    by_blocked = report("fibers", "--name=MAIN.request", "--sort=blocked", "-n", "0", path)["fibers"]
    blocked = [f["blocked_ns"] for f in by_blocked]
    assert blocked == sorted(blocked, reverse=True) and len(blocked) > 100
    assert max(f["running_ns"] for f in by_blocked) == running[0]
    one = report("fiber", str(by_blocked[0]["fiber"]), path)
    assert one["blocked_ns"] == blocked[0] and one["function"].startswith("main.request")
    assert sum(s["ns"] for s in one["longest"] if s["state"] == "Waiting") <= blocked[0]
    assert "1 fiber" not in trace("fiber", "999999999", path, status=1)


def waits_are_profiles():
    path = recorded("locks")
    stacks = report("sync", path)["stacks"]
    total = sum(s["ns"] for s in stacks)
    assert any(s["stack"][0]["function"] == "sync.(*Cond).Wait" for s in stacks)
    out = os.path.join(os.path.dirname(path), "sync.pb.gz")
    trace("sync", "-o", out, path)
    top = subprocess.run([FIBERSCOPE, "top", "--json", "-sample_index=delay", out], capture_output=True, text=True,
                         check=True)
    assert json.loads(top.stdout)["total"] == total
    half = report("sync", "--from=0.65s", path)["stacks"]
    close(sum(s["ns"] for s in half), total / 2, 0.1 * total, "half of the waiting")


def a_range_counts_only_what_is_in_it():
    path = recorded("network")
    whole, first, second = [report(*o, path) for o in ([], ["--to=600ms"], ["--from=600ms"])]
    for key in ("running_ns", "blocked_ns", "runnable_ns"):
        parts = first["times"][key] + second["times"][key]
        close(parts, whole["times"][key], 1e5, key)
    both = first["events"] + second["events"] - whole["events"]
    assert both in (0, 1), "an event at the very moment counts on both sides"
    trace("--from=2s", "--to=1s", path, status=2)


def regions_and_tasks_have_their_latencies():
    path = recorded("tasks")
    regions = {r["name"]: r for r in report("regions", path)["regions"]}
    tasks = {t["name"]: t for t in report("tasks", path)["tasks"]}
    assert set(regions) >= {"parse", "work", "inner", "helper", "never ended"}
    work, inner = regions["work"], regions["inner"]
    assert work["instances"] == work["complete"] == inner["instances"]
    assert work["latency"]["p50_ns"] > 1e6, "a work region waits for a sleep of 1 ms"
    assert sum(b["count"] for b in work["latency"]["histogram"]) == work["complete"]
    assert work["slowest"][0]["ns"] == work["latency"]["max_ns"]
    requests = [t for n, t in tasks.items() if n.startswith("request")]
    assert sum(t["instances"] for t in requests) == work["instances"]
    ended = sum(t["complete"] for t in requests)
    close(ended, 0.9 * work["instances"], 2, "nine of ten tasks end")
    assert "slowest" in trace("regions", path) and "request 1" in trace("tasks", path)


def a_critical_path_has_no_gaps():
    path = recorded("tasks")
    for what in (["--task", "request 1"], ["--region", "work"], ["--fiber", "1"], []):
        c = report("critical", *what, path)
        at = c["begin_ns"]
        for s in c["steps"]:
            assert s["at_ns"] == at, (what, s)
            at += s["ns"]
        assert at == c["begin_ns"] + c["ns"]
    steps = report("critical", "--region", "work", path)["steps"]
    assert any(s["part"] == "sleep" and s["function"] == "main.request.func2.2" for s in steps), \
        "the region waits for its helper, and that sleeps"
    assert "no task" in trace("critical", "--task", "nothing", path, status=1)


def pieces_of_an_explanation_add_up():
    path = recorded("tasks")
    for what in (["--region", "work"], ["--task", "request 2", "--slow=p90"], ["--region=inner", "--slow=p50"]):
        e = report("explain", *what, path)
        for side in ("slow", "typical"):
            total = sum(p[side + "_ns"] for p in e["pieces"])
            close(total, e[side + "_mean_ns"], 1, f"{what}: {side}")
        close(sum(p["gap_ns"] for p in e["pieces"]), e["gap_ns"], 1, "gap")
        assert e["gap_ns"] > 0 and e["slow"] + e["typical"] <= e["instances"]
    trace("explain", "--region=work", "--slow=hundred", path, status=2)
    trace("explain", path, status=2)
    trace("explain", "--region=nothing", path, status=1)


def one_reading_gives_what_two_give():
    """A file is read twice, the second time only for the spans that are needed; a pipe once, for all of them."""
    path = recorded("tasks")
    for what in (["explain", "--region", "work"], ["explain", "--region=inner", "--slow=p50", "--from=200ms"],
                 ["explain", "--task=request 2", "--slow=p90"], ["critical", "--task=request 1"],
                 ["critical", "--region=work", "--from=300ms", "--to=900ms"]):
        two = report(*what, path)
        with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as pipe:
            one = json.loads(trace("--json", *what, "-", data=pipe.stdout))
        assert one == two, (what, one, two)
        assert two.get("steps") or two.get("pieces"), two


def events_can_be_chosen():
    path = recorded("tasks")
    logs = report("events", "--kind=log", path)
    assert logs and all(e["kind"] == "Log" and e["category"] == "number" for e in logs)
    assert sorted(int(e["message"]) for e in logs) == list(range(len(logs)))
    one = report("events", "--fiber", str(logs[0]["fiber"]), path)
    assert one[-1]["to"] == "NotExist" and len(one) > 5
    assert len(report("events", "-n", "3", path)) == 3
    assert len(trace("events", path).splitlines()) == report(path)["events"]
    assert "there are" in trace("events", "--kind=nothing", path, status=2)


def what_is_cut_is_a_valid_trace():
    path = recorded("tasks")
    part = path + ".part"
    trace("cut", "--from=400ms", "--to=600ms", "-o", part, path)
    assert report("validate", part)["valid"]
    cut, whole = report(part), report("--from=400ms", "--to=600ms", path)
    close(cut["duration_ns"], 2e8, 2e7, "duration: from the first event in it to the last")
    close(cut["times"]["running_ns"], whole["times"]["running_ns"], 0.02 * whole["times"]["running_ns"], "running")
    go_reads(part)
    fiber = report("fibers", "--name=main.request", "-n1", path)["fibers"][0]["fiber"]
    trace("cut", "--fiber", str(fiber), "--fiber=1", "-o", part, path)
    assert report(part)["fibers"] == 2
    one, before = report("fiber", str(fiber), part), report("fiber", str(fiber), path)
    for key in ("running_ns", "runnable_ns", "blocked_ns"):
        close(one[key], before[key], 2000, key)
    go_reads(part)
    trace("cut", path, status=2)
    assert "behind the end" in trace("cut", "--from=1h", "-o", part + "2", path, status=1)
    assert not os.path.exists(part + "2")


def viewers_get_what_the_reports_say():
    path = recorded("tasks")
    summary = report(path)
    trace("export", "-o", path + ".json", path)
    with open(path + ".json", encoding="utf-8") as f:
        events = json.load(f)["traceEvents"]
    slices = [e for e in events if e["ph"] == "X"]
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}

    def total(pid, name):
        return sum(e["dur"] for e in slices if e["pid"] == pid and e["name"].startswith(name)) * 1000

    for state, key in (("running", "running_ns"), ("runnable", "runnable_ns"), ("blocked", "blocked_ns")):
        want = sum(f[key] for f in summary["functions"])
        close(total(2, state), want, 0.001 * want + 1e4, state)
    for proc in summary["procs"]:
        mine = sum(e["dur"] for e in slices if (e["pid"], e["tid"]) == (1, proc["proc"])) * 1000
        close(mine, proc["running_ns"], 1e4 + 0.001 * mine, f"Proc {proc['proc']}")
    work = [r for r in summary["regions"] if r["name"] == "work"][0]
    close(total(3, "work"), work["latency"]["sum_ns"], 1e5, "regions")
    starts = {e["id"] for e in events if e["ph"] == "s"}
    ends = [e["id"] for e in events if e["ph"] == "f"]
    assert len(ends) == len(set(ends)) > 100 and set(ends) <= starts
    assert any(n.endswith("main.request") for n in names.values())
    assert sum(e["ph"] == "i" and e["name"].startswith("number: ") for e in events) == work["instances"]
    tracks_do_not_overlap([e for e in slices if e["pid"] in (1, 2)])
    same_in_perfetto(path, slices, names)
    stacks = trace("export", "--format=folded", "-o", "-", path)
    folded = sum(int(line.rsplit(" ", 1)[1]) for line in stacks.splitlines())
    lives = sum(f["total_ns"] for f in summary["functions"])
    close(folded, lives, 0.001 * lives, "all the time of all fibers")


def tracks_do_not_overlap(slices):
    ends = {}
    for e in sorted(slices, key=lambda e: e["ts"]):
        track = (e["pid"], e["tid"])
        assert round(e["ts"] * 1000) >= ends.get(track, 0), e
        ends[track] = round((e["ts"] + e["dur"]) * 1000)


def fields(data):
    """The fields of a protobuf message: (number, value)."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                return value
    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        elif key & 7 == 1:
            yield key >> 3, int.from_bytes(data[at:at + 8], "little")
            at += 8
        else:
            assert key & 7 == 2, key
            n = varint()
            yield key >> 3, data[at:at + n]
            at += n


def same_in_perfetto(path, slices, names):
    """Numbers of fields: perfetto/trace/trace_packet.proto, track_event.proto, track_descriptor.proto."""
    trace("export", "--format=perfetto", "-o", path + ".perfetto", path)
    with open(path + ".perfetto", "rb") as f:
        packets = [dict(fields(p)) for n, p in fields(f.read()) if n == 1]
    tracks = {}
    for p in packets:
        if 60 in p:
            d = dict(fields(p[60]))
            tracks[d[1]] = d[2].decode()
    events = [(p[8], dict(fields(p[11]))) for p in packets if 11 in p]
    begun, got = {}, []
    for at, e in events:
        assert e[11] in tracks
        if e[9] == 1:
            begun.setdefault(e[11], []).append((at, e[23].decode()))
        elif e[9] == 2:
            since, name = begun[e[11]].pop()
            got.append((tracks[e[11]], name, at - since))
    want = sorted((names[e["pid"], e["tid"]], e["name"], round(e["dur"] * 1000)) for e in slices)
    assert sorted(got) == want, "slices differ from those in JSON"


def go_reads(path):
    done = subprocess.run([go_tool("trace"), "-d=parsed", path], capture_output=True, text=True)
    assert done.returncode == 0 and "error" not in done.stderr.lower(), done.stderr[-500:]


def a_damaged_trace_is_not_valid():
    path = recorded("channels")
    assert report("validate", path)["valid"]
    with open(path, "rb") as f:
        data = f.read()
    bad = path + ".bad"
    with open(bad, "wb") as f:
        f.write(data[:-len(data) // 30])  # inside the second generation
    text = trace("validate", bad, status=1)
    for word in ("not valid", "rule", "generation", "batch", "byte"):
        assert word in text, text
    kept = trace("validate", "--salvage", bad, status=1)
    events = int(re.search(r"keeps (\d+) events in 1 generation$", kept).group(1))
    assert events > 1000, kept
    assert "--salvage" in trace(bad, status=1)
    assert report("--salvage", bad)["events"] == events
    with open(bad, "wb") as f:
        f.write(b"not a trace at all")
    trace("validate", bad, status=1)
    trace("summary", bad, status=1)


def utilisation_agrees_with_the_procs():
    path = recorded("syscalls")
    u, procs = report("util", path)["running"], report("procs", path)["procs"]
    spent = sum(p["running_ns"] + p["syscall_ns"] + p["idle_ns"] + p["other_ns"] for p in procs)
    close(u["mean"], sum(p["running_ns"] for p in procs) / spent, 0.02, "mean utilisation")
    # Ten windows or more cover nine tenths of it, so one of them is not above the mean by more.
    shares = [m["share"] for m in u["minimum"] if m["window_ns"] <= 1e8]
    assert len(shares) > 5 and all(s <= u["mean"] / 0.9 for s in shares), (u["mean"], shares)
    assert "%" in trace("util", path)


def mistakes_are_explained():
    path = recorded("channels")
    assert 'did you mean "fibers"' in trace("fiberss", path, status=2)
    assert "no option --region" in trace("fibers", "--region=x", path, status=2)
    assert "a fiber's number" in trace("fiber", "x", path, status=2)
    assert "FILE is needed" in trace("sync", status=2)
    assert "no fiber" in trace("fibers", "--name=nothing", path, status=1)
    trace(status=2)
    trace("/nonexistent", status=1)


if __name__ == "__main__":
    try:
        main([the_summary_adds_up, tables_have_the_rows_that_are_asked_for, waits_are_profiles,
              a_range_counts_only_what_is_in_it, regions_and_tasks_have_their_latencies,
              a_critical_path_has_no_gaps, pieces_of_an_explanation_add_up,
              one_reading_gives_what_two_give, events_can_be_chosen,
              what_is_cut_is_a_valid_trace, viewers_get_what_the_reports_say,
              a_damaged_trace_is_not_valid, utilisation_agrees_with_the_procs, mistakes_are_explained])
    finally:
        shutil.rmtree("trace_traces", ignore_errors=True)
