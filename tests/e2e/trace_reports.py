#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What `fiberscope trace` says is what traces made by hand hold."""

import json
import os
import re
import subprocess

import made_trace as made
from harness import FIBERSCOPE, close, main

MS = 1000000


def trace(*args, status=0):
    done = subprocess.run([FIBERSCOPE, "trace", *args], capture_output=True, text=True, timeout=60)
    assert done.returncode == status, f"{args}: exit status {done.returncode}, not {status}: {done.stderr}"
    return done.stdout if status == 0 else done.stdout + done.stderr


def report(*args):
    return json.loads(trace("--json", *args))


def begun(number, at, procs=2):
    """A generation in which fiber 1, `main`, runs."""
    g = made.Generation(number)
    g.say(at, made.PROC_STATUS, 0, 1)
    g.say(at, made.GO_STATUS_STACK, 1, made.THREAD, made.RUNNING, g.stack("main"))
    if procs:
        g.say(at, made.PROCS_CHANGE, procs, 0)
    return g


def utilisation_is_one_figure(work):
    """Of 100 ms main runs 30, on one of two Procs; that there are two is said only after 10 ms."""
    path = os.path.join(work, "u.trace")
    g = begun(1, 1 * MS, procs=0)
    g.say(11 * MS, made.PROCS_CHANGE, 2, 0)
    g.block(21 * MS, "chan receive", g.stack("fib_chan_recv", "main"))
    g.wake(91 * MS, 1)
    g.start(91 * MS, 1)
    g.say(101 * MS, made.GO_STOP, g.text("preempted"), g.stack("main"))
    made.write(path, [g])
    close(report("util", path)["running"]["mean"], 0.15, 1e-6, "util")
    close(report(path)["utilisation"], 0.15, 1e-6, "summary")
    close(report("procs", path)["utilisation"], 0.15, 1e-6, "procs")
    said = "The Procs ran fibers 15.0% of the time (GOMAXPROCS 2)."
    for args in ([], ["procs"], ["util"]):
        assert said in trace(*args, path), args
    for args in (["--from=20ms"], ["--to=20ms"], ["--from=5ms", "--to=95ms"]):
        close(report(*args, path)["utilisation"], report("util", *args, path)["running"]["mean"], 1e-9, str(args))
    close(report("--to=20ms", path)["utilisation"], 0.5, 1e-6, "the first 20 ms")
    assert len(re.findall(r"^ +[0-9.]+s +[0-9.]+%", trace("util", "-n", "7", path), re.M)) == 7


def what_is_heard_of_late_has_run(work):
    """Of 100 ms main runs the first 50; another one is first heard of when it ends, after 80: it ran that long."""
    path = os.path.join(work, "late.trace")
    g = begun(1, 1 * MS)
    g.block(51 * MS, "sleep", g.stack("main"))
    g.say(81 * MS, made.PROC_STATUS, 1, 1, thread=made.THREAD + 1)
    g.say(81 * MS, made.GO_STATUS_STACK, 2, made.THREAD + 1, made.RUNNING, g.stack("other"), thread=made.THREAD + 1)
    g.say(81 * MS, made.GO_DESTROY, thread=made.THREAD + 1)
    made.write(path, [g, made.Generation(2, begins=101 * MS)])
    for args, share in (((), 0.65), (("--from=60ms",), 0.25), (("--to=30ms",), 1), (("--from=20ms", "--to=70ms"), 0.8)):
        close(report(*args, path)["utilisation"], share, 1e-6, str(args))
        close(report("util", *args, path)["running"]["mean"], share, 1e-6, str(args))
        of = report(*args, path)
        close(of["utilisation"], of["times"]["running_ns"] / 2 / of["duration_ns"], 1e-6, "the fibers' times")
    points = report("util", path)["running"]["points"]
    assert [[round(at / MS), share] for at, share in points] == [[0, 1], [50, 0.5], [80, 0], [100, 0]], points


def a_critical_path_has_an_end_by_default(work):
    """Of main's regions one takes 30 ms, one 10; then a task takes 20 ms. Without marks it is the end of who ran last, but
    of a thread that waited in fib_main for the fibers."""
    path = os.path.join(work, "d.trace")

    def marked(*marks):
        g = begun(1, 1 * MS)
        for at, wire, *args in marks:
            g.say(at * MS, wire, *(g.text(a) if isinstance(a, str) else a for a in args), g.stack("main"))
        g.block(99 * MS, "sleep", g.stack("main"))
        made.write(path, [g, made.Generation(2, begins=101 * MS)])
        c = report("critical", path)
        assert ("(Chosen, " in trace("critical", path)) and "(Chosen, " not in trace("critical", "--from=0ms", path)
        return c["of"], round(c["begin_ns"] / MS), round(c["ns"] / MS)

    regions = [(11, made.REGION_BEGIN, 0, "long"), (41, made.REGION_END, 0, "long"),
               (51, made.REGION_BEGIN, 0, "short"), (61, made.REGION_END, 0, "short"),
               (62, made.REGION_BEGIN, 0, "open")]
    task = [(71, made.TASK_BEGIN, 7, 0, "task"), (91, made.TASK_END, 7)]
    assert marked(*regions, *task) == ('task 7 "task", the longest task', 70, 20)
    assert marked(*regions, task[0]) == ('region "long" of fiber 1, the longest region', 10, 30)
    assert marked() == ("fiber 1, the last that ran", 0, 100)
    g = begun(1, 1 * MS)
    g.say(11 * MS, made.GO_CREATE, 2, g.stack("fiber"), g.stack("main"))
    g.block(21 * MS, "sync", g.stack("runtime.fib_main", "main"))
    g.start(21 * MS, 2)
    g.say(61 * MS, made.GO_DESTROY)
    g.wake(71 * MS, 1)
    g.start(71 * MS, 1)
    g.block(81 * MS, "sleep", g.stack("main"))
    made.write(path, [g])
    c = report("critical", path)
    assert (c["of"], round(c["ns"] / MS)) == ("fiber 2, the last that ran", 60), c


def a_trace_has_one_length(work):
    """Its last event is at 100 ms; then nothing but waiting until the generation ends, 2 s after its beginning."""
    path = os.path.join(work, "l.trace")
    g = begun(1, 1 * MS)
    g.block(101 * MS, "sleep", g.stack("main"))
    made.write(path, [g, made.Generation(2, begins=2001 * MS)])
    close(report(path)["duration_ns"], 2000 * MS, 2, "duration")
    assert "the trace lasts 2s" in trace("--from=3s", path, status=1)
    assert trace("fiber", "9", path, status=1).count(" in 2s (") == 1
    cut = report("--from=1s", path)
    close(cut["duration_ns"], 1000 * MS, 2, "the second half")
    close(cut["times"]["blocked_ns"], 1000 * MS, 2, "it waits all of it")


def a_range_cuts_what_lasts_beyond_it(work):
    """main waits from 50 to 130 ms and, for something else, from 150 ms to the end at 450 ms. Another one waits through
    it all, and nothing says for what."""
    path = os.path.join(work, "c.trace")
    g = begun(1, 1 * MS)
    g.say(1 * MS, made.GO_STATUS_STACK, 2, made.NOBODY, made.WAITING, g.stack("other"), thread=made.NOBODY)
    g.block(51 * MS, "chan receive", g.stack("fib_chan_recv", "main"))
    g.wake(131 * MS, 1)
    g.start(131 * MS, 1)
    g.block(151 * MS, "sleep", g.stack("main"))
    made.write(path, [g, made.Generation(2, begins=451 * MS)])

    def first(*args):
        return report("fiber", *args, path)["longest"][0]

    for args, ns, at, ended in ((("--from=80ms", "--to=110ms"), 30, 80, False), (("--to=110ms",), 60, 50, False),
                                (("--from=80ms", "--to=140ms"), 50, 80, True), (("--from=200ms",), 250, 200, False)):
        got = first("1", *args)
        close(got["ns"], ns * MS, 2, str(args))
        close(got["at_ns"], at * MS, 2, str(args))
        close(got["begun_ns"], (150 if at == 200 else 50) * MS, 2, str(args))
        assert got["ended"] == ended, args
    text = trace("fiber", "1", "--from=80ms", "--to=110ms", path)
    assert "30ms Waiting from 0.080000s (begun at 0.050000s) to the end, chan receive" in text, text
    assert "blocked: chan receive, longest 30ms, none has ended" in text, text
    assert "blocked: (no reason), longest 30ms" in trace("fiber", "2", "--from=80ms", "--to=110ms", path)
    # The longest is one that has not ended, or one that began before the range.
    waits = {w["reason"]: w for w in report(path)["times"]["blocked"]}
    close(waits["chan receive"]["longest_ns"], 80 * MS, 2, "ended")
    assert "longest_ns" not in waits["sleep"] and "longest_open_ns" not in waits["chan receive"], waits
    close(waits["sleep"]["longest_open_ns"], 300 * MS, 2, "open")
    whole = trace(path)
    assert "sleep, 1 time, longest 300ms, none has ended" in whole, whole
    assert "chan receive, 1 time, longest 80ms\n" in whole, whole
    assert "chan receive, longest 30ms\n" in trace("--from=100ms", path)
    for args, count in (((), 2), (("--to=100ms",), 1), (("--from=100ms", "--to=200ms"), 1), (("--from=200ms",), 2)):
        assert report(*args, path)["generations"] == count, args


def waits_without_an_end_are_lints(work):
    """1,000 waiters, of which the first has waited longest; 3 hogs of one function."""
    path = os.path.join(work, "w.trace")
    g = begun(1, 1 * MS)
    wait, hog = g.stack("fib_chan_recv", "waiter"), g.stack("hog")
    at = 2 * MS
    for i in range(1003):
        g.say(at, made.GO_CREATE, 10 + i, wait if i < 1000 else hog, g.stack("runtime.fib_go", ("main", 1, 7)))
        at += 1000
    g.block(at, "sync", g.stack("runtime.fib_join", "main"))
    for i in range(1000):
        g.start(at + 100, 10 + i)
        g.block(at + 200, "chan receive", wait)
        at += 1000
    for i in range(3):
        g.start(at, 1010 + i)
        at += (2 + i) * 1000 * MS
        g.say(at, made.GO_DESTROY)
    made.write(path, [g])
    lints = {(x["lint"], x["function"]): x for x in report("lints", path)["lints"]}
    assert set(lints) == {("deadlock", ""), ("hogs", "hog"), ("starved", "hog")}, lints
    assert (lints["deadlock", ""]["fibers"], len(lints["deadlock", ""]["waiters"])) == (1001, 8), lints
    # With one that nobody knows what it waits for, it is none.
    g.say(1 * MS, made.GO_STATUS_STACK, 5000, made.NOBODY, made.WAITING, g.stack("other"), thread=made.NOBODY)
    made.write(path, [g])
    lints = {(x["lint"], x["function"]): x for x in report("lints", path)["lints"]}
    assert set(lints) == {("waits", "waiter"), ("hogs", "hog"), ("starved", "hog")}, lints
    waits, hogs = lints["waits", "waiter"], lints["hogs", "hog"]
    assert waits["fibers"] == 1000 and waits["fiber"] == 10 and waits["in"] == "fib_chan_recv", waits
    assert hogs["fibers"] == 3 and hogs["fibers_all"] == 3 and hogs["fiber"] == 1012, hogs
    assert lints["starved", "hog"]["place"]["function"] == "main", lints
    close(hogs["ns"], 4000 * MS, 2, "the longest run")
    text = trace("lints", path)
    assert "waiter: 1000 of 1000 fibers; the longest, fiber 10," in text and "lost wake-up?" in text, text
    assert "hog: 2 of 3 fibers waited for a Proc for more than 100ms; the longest, fiber 1012," in text, text
    assert re.search(r"was runnable for [0-9.]+s before it ran, from 0.00\d+s on; made so in main \(made.c:7\)$", text, re.M), text
    assert "hog: 3 of 3 fibers ran for more than 1s; the longest, fiber 1012, ran 4s without a break, from" in text, text
    assert len(text.splitlines()) == 3, text
    assert "2 more" in trace("lints", "-n", "1", path)
    whole = trace(path)
    assert "trace lints" in whole.split("Look next:")[1], whole
    assert "none has ended" in whole and "at most 0" not in whole, whole


def what_spins_has_a_place(work):
    """main yields 200 times in `spin`. It never waited longer for a Proc than the nanosecond that events are apart."""
    path = os.path.join(work, "s.trace")
    g = begun(1, 1 * MS)
    for i in range(200):
        g.say((2 + i) * MS, made.GO_STOP, g.text("runtime.Gosched"), g.stack("runtime.fib_yield", ("spin", 1, 5), "main"))
        g.start((2 + i) * MS + 1, 1)
    made.write(path, [g])
    lint, = report("lints", path)["lints"]
    assert (lint["lint"], lint["fiber"], lint["place"]["function"], lint["place"]["line"]) == ("spins", 1, "spin", 5), lint
    assert "(it yields in a loop); fiber 1 most, in spin (made.c:5)\n" in trace("lints", path), trace("lints", path)
    assert "Of the waits for a Proc" not in trace(path)


def all_that_wait_for_each_other_are_a_deadlock(work):
    """Two that wait for a mutex, and main, which joins them; not if one of them sleeps, polls, or waits with a time-out,
    nor in a part of the trace, nor of joins alone."""
    path = os.path.join(work, "d.trace")

    def deadlock(*args, second=("sync", "pthread_mutex_lock"), first="pthread_mutex_lock", woken=False):
        g = begun(1, 1 * MS)
        for fiber, (reason, leaf) in ((2, ("sync", first)), (3, second)):
            where = g.stack(leaf, (f"f{fiber}", fiber, 10 * fiber), "root")
            g.say(fiber * MS, made.GO_CREATE, fiber, where, g.stack("main"))
        g.block(4 * MS, "sync", g.stack("pthread_join", ("main", 9, 9)))
        for fiber, (reason, leaf) in ((2, ("sync", first)), (3, second)):
            g.start((3 + fiber) * MS, fiber)
            where = g.stack(leaf, (f"f{fiber}", fiber, 10 * fiber), "root")
            if woken:
                g.block((3 + fiber) * MS + 1, reason, where)
                g.wake((3 + fiber) * MS + 2, fiber)
                g.start((3 + fiber) * MS + 3, fiber)
            g.block((3 + fiber) * MS + 10, reason, where)
        made.write(path, [g, made.Generation(2, begins=11 * MS)])
        found = [x for x in report("lints", *args, path)["lints"] if x["lint"] == "deadlock"]
        assert bool(found) == ("deadlock" in trace(*args, path)) == ("deadlock" in trace("lints", *args, path))
        return found

    found = deadlock()
    assert found[0]["fibers"] == 3, found
    got = [(w["fiber"], w["function"], w["in"], w["place"]["function"], w["place"]["line"]) for w in found[0]["waiters"]]
    assert got == [(2, "root", "pthread_mutex_lock", "f2", 20), (3, "root", "pthread_mutex_lock", "f3", 30),
                   (1, "main", "pthread_join", "main", 9)], got
    close(found[0]["waiters"][0]["at_ns"], 4 * MS + 10, 2, "since when")
    text = trace(path)
    assert "all 3 fibers that are alive wait for each other at the end: a deadlock" in text, text
    assert "fiber 3 root, since 0.005000s (5ms): sync in pthread_mutex_lock, called in f3 (made.c:30)" in text, text
    assert "trace lints" in text.split("Look next:")[1], text
    for second in (("sleep", "usleep"), ("network", "poll"), ("sync.(*Cond).Wait", "pthread_cond_timedwait"),
                   ("chan receive", "runtime.fib_chan_recv_for"), ("sync", "syscall"), ("", "pthread_mutex_lock")):
        assert not deadlock(second=second), second
    assert not deadlock("--to=9ms")
    # Nor in a part that was cut out, which says so, also of what a part of it is; what ends as the trace does is all there.
    for args, found in ((["--fiber=2", "--fiber=3"], False), (["--to=9ms"], False), (["--from=1ms"], True), ([], True)):
        deadlock()
        trace("cut", *args, "-o", path + ".1", path)
        trace("cut", "-o", path + ".2", path + ".1")
        for part in (path + ".1", path + ".2"):
            assert report("validate", part)["valid"] and ("deadlock" in trace("lints", part)) == found, (args, part)
            assert len(report(part)["missing"]) == bool(args), report(part)["missing"]
    assert not deadlock(woken=True) and not deadlock(second=("chan receive", "runtime.fib_chan_recv"), woken=True)
    assert not deadlock(second=("sync", "thrd_join"), first="runtime.fib_group_wait")


def what_is_summed_and_what_is_not_there_is_said(work):
    """Of 100 ms main waits 90, with three others at the same time. Its first event is at 10 ms; then it makes 20 system
    calls within the runtime, which are one row, as all is that is short."""
    path = os.path.join(work, "s.trace")
    g = made.Generation(1)
    g.say(1 * MS, made.GO_STATUS_STACK, 2, made.NOBODY, made.WAITING, g.stack("other"), thread=made.NOBODY)
    g.say(11 * MS, made.PROC_STATUS, 0, 1)
    g.say(11 * MS, made.GO_CREATE, 1, g.stack("main"), 0)
    g.start(11 * MS, 1)
    at, where = 11 * MS + 1000, g.stack("runtime.fib_main", "main")
    for i in range(20):
        g.say(at, made.GO_SYSCALL_BEGIN, i + 1, where)
        g.say(at + 3000, made.GO_SYSCALL_END)
        at += 4000
    g.block(at, "sleep", g.stack("main"))
    made.write(path, [g, made.Generation(2, begins=101 * MS)])
    said = trace(path)
    assert "added up over all of them; the trace lasts 100ms:" in said, said
    text = trace("critical", path)
    assert re.search(r" 10ms  untraced  fiber 1 main: before its first event$", text, re.M), text
    assert re.search(r" 81us  42 short steps of one fiber: 21us running, 1ns runnable, 60us syscall$", text, re.M), text
    assert "runtime.fib_main" not in text and trace("critical", "-n", "0", path).count("runtime.fib_main") == 20, text
    steps = report("critical", path)["steps"]
    assert steps[0]["part"] == "untraced" and len([s for s in steps if s["part"] == "syscall"]) == 20, steps
    for args, words in ((("fiber", "-1", path), "a number below 0 means nothing here"),
                        (("fiber", "one", path), "fibers --name '' FILE` lists them"),
                        (("--from=1s", path), "the trace lasts 100ms, and begins at 0")):
        assert words in trace(*args, status=1 if "--from=1s" in args else 2), args


def the_summary_names_the_next_step(work):
    path = os.path.join(work, "it's.trace")
    g = begun(1, 1 * MS)
    at, where = 2 * MS, g.stack("main")
    for i in range(400):
        g.say(at, made.REGION_BEGIN, 0, g.text("a request"), where)
        at += 10 * MS if i % 50 == 0 else 20000
        g.say(at, made.REGION_END, 0, g.text("a request"), where)
        g.say(at, made.REGION_BEGIN, 0, g.text("steady"), where)
        at += 1 * MS
        g.say(at, made.REGION_END, 0, g.text("steady"), where)
    made.write(path, [g])
    lines = trace(path).split("Look next:\n")[1].splitlines()
    assert 1 <= len(lines) <= 3 and "explain --region 'a request' --slow=p99" in lines[0], lines
    # What is recommended can be run as it stands.
    for line in lines:
        command = line.strip().replace("fiberscope", FIBERSCOPE, 1)
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout, (command, done.stderr)


def next_steps_are_worth_a_look(work):
    """main runs for 100 ms, is 0.1 ms in system calls and runnable, and waits 50 ms: for sync alone there is a report."""
    path = os.path.join(work, "n.trace")
    g = begun(1, 1 * MS)
    where = g.stack("main")
    g.say(101 * MS, made.GO_SYSCALL_BEGIN, 1, where)
    g.say(101 * MS + 100000, made.GO_SYSCALL_END)
    g.block(102 * MS, "sync", where)
    g.wake(152 * MS, 1)
    g.start(152 * MS + 100000, 1)
    g.say(153 * MS, made.GO_STOP, g.text("preempted"), where)
    made.write(path, [g])
    assert report(path)["times"]["syscall_ns"] == 100000
    said = [line.split()[2] for line in trace(path).split("Look next:\n")[1].splitlines()]
    assert said == ["sync", "fibers"], said


def quantiles_are_exact_or_bounds(work):
    """Regions of 1000.001 us and up in steps of 7 ns: what the tables say, and explain, is the very length. With more
    than there is room for (2^18 lengths of all types), it is a bound, and said to be one."""
    path = os.path.join(work, "q.trace")
    generations, lengths, at = [], [], 2 * MS
    for many in (500, 270000):
        g = begun(len(generations) + 1, at)
        where, name = g.stack("main"), g.text("few" if many == 500 else "many")
        for i in range(many):
            lengths.append(1000001 + 7 * (i * 7919 % many))
            g.say(at, made.REGION_BEGIN, 0, name, where)
            g.say(at + lengths[-1], made.REGION_END, 0, name, where)
            at += lengths[-1] + 10
        generations.append(g)
    made.write(path, generations)
    few, many = sorted(lengths[:500]), sorted(lengths[500:])
    by_name = {r["name"]: r["latency"] for r in report("regions", path)["regions"]}
    assert by_name["few"]["exact"] and not by_name["many"]["exact"], by_name
    for key, q in (("p50_ns", 0.5), ("p90_ns", 0.9), ("p99_ns", 0.99)):
        assert by_name["few"][key] == few[int(q * 500)], (key, by_name["few"][key], few[int(q * 500)])
        want = many[int(q * len(many))]
        assert want <= by_name["many"][key] <= 1.125 * want, (key, by_name["many"][key], want)
    explained = report("explain", "--region=few", "--slow=p99", path)
    assert explained["median_ns"] == by_name["few"]["p50_ns"], explained
    assert explained["threshold_ns"] == by_name["few"]["p99_ns"], explained
    rows = {line.split()[-1]: line.split() for line in trace("regions", path).splitlines()
            if re.match(" +[0-9]+ +[0-9]+ ", line)}
    assert rows["few"][2] == "1ms" and rows["many"][2].startswith("<=1.") and rows["many"][3].startswith("<="), rows


def rows_are_asked_for_everywhere(work):
    path = os.path.join(work, "r.trace")
    g = begun(1, 1 * MS)
    g.say(2 * MS, made.GO_STOP, g.text("preempted"), g.stack("main"))
    made.write(path, [g])
    for name in ("summary", "fibers", "procs", "util", "wakes", "lints", "sched", "sync", "syscall", "net", "tasks",
                 "regions", "critical", "events"):
        trace(name, "-n", "1", path)
        trace(name, "-n", "0", path)
        assert "from 1, or 0 for all" in trace(name, "-n", "-1", path, status=2), name
        assert "not a whole number" in trace(name, "-n", "x", path, status=2), name


REPORTS = ("summary", "fibers", "procs", "util", "wakes", "lints", "sched", "sync", "syscall", "net", "tasks", "regions",
           "critical", "events")


def a_range_has_a_length(work):
    """One rule for all reports: no range without a length; in one in which nothing happens there is nothing to tell."""
    path, out = os.path.join(work, "r.trace"), os.path.join(work, "out")
    g = begun(1, 1 * MS)
    g.say(9 * MS, made.GO_STOP, g.text("preempted"), g.stack("main"))
    made.write(path, [g])
    for name in (*REPORTS, "fiber", "explain", "cut", "export"):
        words = [name, *(["1"] if name == "fiber" else []), *(["-o", out] if name in ("cut", "export") else []), path]
        for empty in (["--from=2ms", "--to=2ms"], ["--from=2ms", "--to=1ms"], ["--to=0"], ["--from=0", "--to=0"]):
            assert "must be later than" in trace(*empty, *words, status=2), (name, empty)
        if name != "explain":  # which is of regions
            trace("--from=2ms", "--to=2001us", *words)
    assert trace("--from=2ms", "--to=3ms", "events", path) == "No event in this range.\n"
    assert report("--from=2ms", "--to=3ms", "events", path) == []
    assert "no such event" in trace("--from=2ms", "--to=3ms", "events", "--kind=Log", path, status=1)


def the_slowest_are_as_many_as_asked_for(work):
    path = os.path.join(work, "n.trace")
    g, lengths = begun(1, 1 * MS), [(i * 7919 % 31 + 1) * 1000 for i in range(31)]
    at = 2 * MS
    for i, ns in enumerate(lengths):
        g.say(at, made.TASK_BEGIN, i + 1, 0, g.text("job"), 0)
        g.say(at, made.REGION_BEGIN, i + 1, g.text("part"), 0)
        g.say(at + ns, made.REGION_END, i + 1, g.text("part"), 0)
        g.say(at + ns, made.TASK_END, i + 1, 0)
        at += ns + 100
    made.write(path, [g])
    for name in ("tasks", "regions"):
        for options, count in (([], 10), (["-n", "3"], 3), (["-n", "20"], 20), (["-n", "0"], 31)):
            found = report(name, *options, path)[name][0]["slowest"]
            assert [round(x["ns"], -3) for x in found] == sorted(lengths, reverse=True)[:count], (name, options, found)
            text = trace(name, *options, path)
            assert text.count(", fiber 1") == count, text
            assert (f"{31 - count} more (-n 0: all)" in text) == (count < 31), text
    # That samples may be taken is said of a trace without any; one behind the regions is none of theirs.
    args = ("explain", "--region=part", "--slow=p90", path)
    assert "the trace has no CPU samples (record --trace --cpu -F 999" in trace(*args), trace(*args)
    g.sample(at, 1, g.stack("main"))
    made.write(path, [g])
    text = re.search(r"0 CPU samples fell into the slow instances,\nwhich ran (\S+)us in all \((\d+) of them\), 0", trace(*args))
    close(float(text[1]), sum(sorted(lengths)[-int(text[2]):]) / 1000, 1, "the slow ones' running")


def a_text_in_an_event_is_one_word(work):
    path = os.path.join(work, "q.trace")
    texts = ['a "quoted" \\ one', "two\nlines\tand\r", "\x1b[31mred\x7f", "nul\0 in it", "gr\u00fcn \u009b c1"]
    shown = ['"a \\"quoted\\" \\\\ one"', '"two\\nlines\\tand\\r"', '"\\x1b[31mred\\x7f"', '"nul\\x00 in it"',
             '"gr\u00fcn \\xc2\\x9b c1"']
    g = begun(1, 1 * MS)
    for i, text in enumerate(texts):
        g.say((2 + i) * MS, made.LOG, 0, g.text("c\n"), g.text(text), 0)
    made.write(path, [g])
    assert [e["message"] for e in report("events", "--kind=Log", path)] == texts
    lines = trace("events", "--kind=Log", path).splitlines()
    assert [line.split(' "c\\n" ', 1)[1] for line in lines] == shown, lines


def what_is_missing_is_said(work):
    """A note in a generation with next to no event is told; the same text as the program's own log is not."""
    path = os.path.join(work, "m.trace")
    note = "fiberscope: lost full from=%d to=0 count=0: all \x1bbuffers were full" % (4 * MS)
    g, end = begun(1, 1 * MS), made.Generation(2)
    g.say(2 * MS, made.LOG, 0, g.text("c"), g.text(note), 0)
    g.say(4 * MS, made.GO_STOP, g.text("preempted"), g.stack("main"))
    made.write(path, [g])
    assert report(path)["missing"] == [] and "Missing" not in trace(path) + trace("validate", path)
    end.text(note)
    end.text("fiberscope: lost gap from=%d to=%d count=3: nothing" % (MS // 2, 1 * MS))
    end.text("fiberscope: lost Full from=1 to=0 count=0: no word")
    end.say(4 * MS + 64, made.PROC_STATUS, 0, 1)
    made.write(path, [g, end])
    missing = [{"kind": "full", "from_ns": 3 * MS, "text": "all ?buffers were full"},
               {"kind": "gap", "from_ns": -MS // 2, "to_ns": 0, "count": 3, "text": "nothing"}]
    assert report(path)["missing"] == report("validate", path)["missing"] == missing, report(path)["missing"]
    for text in (trace(path), trace("validate", path)):
        assert "Missing: from 0.003000s on: all ?buffers were full\n" in text, text
        assert "Missing: the 500us before it: 3 times: nothing\n" in text, text


def one_is_not_many(work):
    path = os.path.join(work, "o.trace")
    g = begun(1, 1 * MS)
    g.say(9 * MS, made.GO_STOP, g.text("preempted"), g.stack("main"))
    made.write(path, [g])
    text = "".join(trace(*name.split(), path) for name in (*REPORTS, "fiber 1", "validate"))
    assert not re.search(r"\b1 (events|fibers|generations|threads|start functions|Procs|times|steps|instances)\b", text), text
    assert "1 fiber (1 alive at the end), 1 start function, 1 Proc, 1 thread\n" in text, text
    assert "it has one fiber, 1," in trace("fiber", "2", path, status=1)
    assert trace("net", path) == "No fiber waits for the network.\n"


def stacks_that_look_equal_are_one(work):
    """Two calls on one line are two stacks of the trace, a third one on another line is not theirs."""
    path = os.path.join(work, "e.trace")
    g = begun(1, 1 * MS)
    at = 2 * MS
    for i, leaf in enumerate([("lock", 1, 1), ("lock", 2, 1), ("lock", 1, 1), ("lock", 2, 7)]):
        g.block(at, "sync", g.stack(leaf, "main"))
        at += (i + 1) * MS
        g.wake(at, 1)
        g.start(at, 1)
    g.say(at + MS, made.GO_STOP, g.text("preempted"), g.stack("main"))
    made.write(path, [g])
    found = [(s["count"], round(s["ns"], -3), [(f["function"], f["line"]) for f in s["stack"]]) for s in report("sync", path)["stacks"]]
    assert found == [(3, 6 * MS, [("lock", 1), ("main", 1)]), (1, 4 * MS, [("lock", 7), ("main", 1)])], found
    text = trace("sync", path)
    assert re.findall(r"lock  made.c:(\d)$", text, re.M) == ["1", "7"] and "6ms   60.0%        3      2ms" in text, text


def what_woke_is_said(work):
    """Fiber 10 is woken by nobody after each kind of wait, then by main, comes out of a system call, and yields."""
    path = os.path.join(work, "b.trace")
    g = begun(1, 1 * MS)
    reasons = ["network", "sleep", "chan receive", "select", "sync", "sync.(*Cond).Wait", "GC worker (idle)"]
    where, at = g.stack("waits", "waiter"), 2 * MS
    g.say(at, made.GO_CREATE, 10, where, g.stack("main"))
    g.block(at + 10, "chan receive", g.stack("main"))
    g.start(at + 20, 10)
    for i, reason in enumerate(reasons):
        g.block(at + 100, reason, where)
        g.wake(at + 200, 10)
        at += (i + 2) * MS
        g.start(at, 10)
    g.block(at + 100, "network", where)  # main wakes it, and has no stack
    g.wake(at + 200, 1)
    g.start(at + 300, 1)
    g.wake(at + 400, 10)
    g.block(at + 500, "chan receive", g.stack("main"))
    g.start(at + 600, 10)
    g.say(at + 700, made.GO_STOP, g.text("preempted"), 0)
    g.start(at + 800, 10)
    g.say(at + 900, made.GO_STOP, g.text("preempted"), where)
    g.start(at + 1000, 10)
    made.write(path, [g])
    stacks = report("sched", path)["stacks"]
    # One more by a timer: main itself, which had waited for a channel.
    expected = {"poller": 1, "timer": 4, "nobody": 2, "runtime": 1, "fiber": 1, "unknown": 1, None: 1}
    by = {s.get("by"): s for s in stacks}
    assert {name: s["count"] for name, s in by.items()} == expected, stacks
    close(by["runtime"]["ns"], 8 * MS - 200, 2, "of one wait")
    assert all((s.get("by") is None) == (s["stack"] != []) for s in stacks), stacks
    text = trace("sched", path)
    for said in ("(by the network poller)", "(by a timer)", "(by a time-out, or nobody that the trace names)",
                 "(by the runtime)", "(by another fiber, without a stack)", "(no stack)"):
        assert text.count(said) == 1, text
    assert "\nBefore their first run 1 fiber waited 20ns: not in this," in text, text
    assert not [s for s in report("sync", path)["stacks"] if "by" in s]
    wakes = {(w["by"], w["to"]): w["wakes"] for w in report("wakes", path)["wakes"] if w["wakes"]}
    assert wakes == {("poller", "waiter"): 1, ("timer", "waiter"): 3, ("nobody", "waiter"): 2, ("runtime", "waiter"): 1,
                     ("timer", "main"): 1, ("fiber", "waiter"): 1}, wakes
    text = trace("wakes", path)
    for said in ("(network) -> waiter", "(timer) -> waiter", "(no waker recorded) -> waiter", "(runtime) -> waiter",
                 "(timer) -> main", " main -> waiter"):
        assert text.count(said) == 1, text


def peak_kib(path):
    done = subprocess.run(["/usr/bin/env", "python3", "-c", """
import os, resource, subprocess, sys
subprocess.run([sys.argv[1], "trace", sys.argv[2]], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
""", FIBERSCOPE, path], capture_output=True, text=True, timeout=60, check=True)
    return int(done.stdout)


def busy_generation(number, names):
    """20 fibers come and go at a time, 50 times; each has a region, with one of `names` names, or all different."""
    begin = number * 100 * MS
    g = begun(number, begin)
    at, first, where = begin + 1000, 10 + number * 1000, g.stack("work", "worker")
    for i in range(0, 1000, 20):
        for fiber in range(first + i, first + i + 20):
            g.say(at, made.GO_CREATE, fiber, g.stack("worker"), g.stack("main"))
        g.say(at + 100, made.GO_STOP, g.text("preempted"), g.stack("main"))
        for fiber in range(first + i, first + i + 20):
            name = g.text(f"request {fiber % names if names else fiber}")
            g.start(at + 200, fiber)
            g.say(at + 250, made.REGION_BEGIN, 0, name, where)
            g.say(at + 300, made.REGION_END, 0, name, where)
            g.say(at + 350, made.GO_DESTROY)
            at += 400
        g.start(at, 1)
        at += 1000
    return g


def memory_does_not_depend_on_the_length(work):
    """Traces of up to 32 times the length, with as many fibers alive: with few names, and where each region has a
    name of its own (then the shortest is beyond what is told apart)."""
    for names, unit, mib in ((7, 4, 20), (0, 5, 40)):
        peaks = []
        for times in (1, 16) if names else (1, 32):
            path = os.path.join(work, f"{names}-{times}.trace")
            made.write(path, (busy_generation(n, names) for n in range(1, unit * times + 1)))
            peaks.append(peak_kib(path))
            if not names and times == 1:
                told, last = trace("regions", path), 10 + unit * 1000 + 999
                assert re.search(rf"^ +{unit * 1000 - 4096} .*\(more names\)$", told, re.M), told
                assert "(more names) are those beyond 4096 names" in told and "(more names) are" in trace(path)
                said = trace("regions", "--name", f"request {last}", path, status=1)
                assert f"{unit * 1000 - 4096} have other names" in said, said
            os.unlink(path)
        print(f"      {names or 'all'} names: {peaks} KiB")
        assert max(peaks) < 1.25 * min(peaks) and max(peaks) < mib * 1024, peaks


main([utilisation_is_one_figure, what_is_heard_of_late_has_run,
      a_critical_path_has_an_end_by_default, a_trace_has_one_length, a_range_cuts_what_lasts_beyond_it,
      waits_without_an_end_are_lints, what_spins_has_a_place, all_that_wait_for_each_other_are_a_deadlock,
      what_is_summed_and_what_is_not_there_is_said, the_summary_names_the_next_step, quantiles_are_exact_or_bounds,
      next_steps_are_worth_a_look, stacks_that_look_equal_are_one, what_woke_is_said, rows_are_asked_for_everywhere,
      a_range_has_a_length, the_slowest_are_as_many_as_asked_for, a_text_in_an_event_is_one_word, what_is_missing_is_said, one_is_not_many,
      memory_does_not_depend_on_the_length])
