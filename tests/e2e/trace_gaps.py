#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fiberscope record --trace tells what trace_gaps.c and trace_std_threads.cc are known to do: forked children, waits that
never end, mutexes that are taken again, threads that wait before the trace begins; and says what it wrote."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import harness
from harness import BUILD, FIBERSCOPE, TESTS, Skip, main

GO = shutil.which("go", path=os.environ["PATH"] + ":/usr/local/go/bin")
TARGET = os.path.join(TESTS, "trace_gaps")
AGENT = os.path.join(BUILD, "agent", "libfiberscope.so")
ROUNDS, HOLD_NS, CROWD = 5, 20e6, 4


def parsed(path):
    """As Go's reader has it: the events without their stacks."""
    if not GO:
        raise Skip("no Go here")
    done = subprocess.run([GO, "tool", "trace", "-d=parsed", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-500:]
    return [line for line in done.stdout.splitlines() if line.startswith("M=")]


def seconds(events):
    times = [int(re.search(r" Time=(\d+)", e)[1]) for e in events]
    return (times[-1] - times[0]) / 1e9


def fibers(path):
    done = subprocess.run([FIBERSCOPE, "trace", "fibers", "-n", "0", "--json", path], capture_output=True, text=True,
                          check=True)
    found = {}
    for f in json.loads(done.stdout)["functions"]:
        f["waits"] = {w["reason"]: w["ns"] for w in f["blocked"]}
        found[f["function"]] = f
    return found


def traced(work, mode, *options, check=0, program=TARGET):
    done = harness.record("--trace", "-o", "t.trace", *options, program, *([mode] if mode else []), cwd=work,
                          check=check)
    return done, os.path.join(work, "t.trace")


def forked_children_have_traces_of_their_own(work):
    done, path = traced(work, "forks")
    pids = done.stdout.split()
    assert sorted(os.listdir(work)) == sorted(["t.trace"] + [f"t.trace.p{p}" for p in pids]), os.listdir(work)
    for pid in pids:
        assert f"wrote t.trace.p{pid} (process {pid}, trace_gaps)" in done.stderr, done.stderr
    writes, computes, locks = [f"{path}.p{p}" for p in pids]
    for file in (path, writes, computes, locks):
        parsed(file)
    assert sum("Running->Syscall" in e for e in parsed(writes)) == 10, parsed(writes)
    runs = fibers(computes)["main"]
    assert 0.5 * 100e6 < runs["running_ns"] < 130e6 and not runs["waits"], runs
    assert fibers(locks)["locker"]["waits"]["sync"] >= 0.9 * HOLD_NS, fibers(locks)
    done, _ = traced(work, "forks", "--no-inherit")
    assert "process" not in done.stderr, done.stderr


def the_name_is_the_command_s_own(work):
    # The shell waits, and so has a trace; its command's is another.
    done, path = traced(work, None, "--", program="sh") if False else (harness.record(
        "--trace", "-o", "t.trace", "sh", "-c", f"{TARGET} brief; exec {TARGET} brief", cwd=work, check=0), f"{work}/t.trace")
    files = sorted(os.listdir(work))
    # The command's pid goes on in what it executes.
    own = re.search(r"wrote t\.trace(?:\.\d+)? \(process (\d+), ", done.stderr)
    assert own and "t.trace" in files, (files, done.stderr)
    for f in files:
        assert f in done.stderr, (f, done.stderr)
        parsed(os.path.join(work, f))
    child = re.search(r"wrote (t\.trace\.p\d+) \(process \d+, trace_gaps\)", done.stderr)
    assert child and "taker" in fibers(os.path.join(work, child[1])), done.stderr
    assert any("taker" in fibers(os.path.join(work, f)) for f in files if ".p" not in f), done.stderr
    # A command that cannot be traced, or has nothing to tell: the first that has a trace has the name.
    for f in files:
        os.remove(os.path.join(work, f))
    env = "import os; p = os.posix_spawn('%s', ['%s', 'brief'], os.environ); os.close(1); os._exit(os.waitpid(p, 0)[1])"
    static = os.path.join(TESTS, "burn_static")
    if os.path.exists(static):
        done = harness.record("--trace", "-o", "t.trace", "/usr/bin/env", "-", TARGET, "brief", cwd=work)
    del env
    # env - drops LD_PRELOAD: nothing has a trace, and that is said.
    assert "no trace" in done.stderr or os.listdir(work) == ["t.trace"], (done.stderr, os.listdir(work))


def a_hang_lasts_until_the_stop(work):
    _, path = traced(work, "hangs", "-d", "2s", check=None) if False else hang(work, 2, None)
    check_hang(path, 2)


def a_hang_lasts_until_the_kill(work):
    _, path = hang(work, None, 1.5)
    check_hang(path, 1.5)


def hang(work, duration, killed_after):
    options = ["-d", f"{duration}s"] if duration else []
    tool = subprocess.Popen([FIBERSCOPE, "record", "--trace", "-o", "t.trace", *options, TARGET, "hangs"], cwd=work,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert tool.stdout.readline() == "hangs\n"
    with open(f"/proc/{tool.pid}/task/{tool.pid}/children") as f:
        target = int(f.read().split()[0])
    path = os.path.join(work, "t.trace")
    if killed_after:
        time.sleep(killed_after)
    else:
        while not os.path.exists(path):
            time.sleep(0.02)
            assert tool.poll() is None
    os.kill(target, signal.SIGKILL)
    return tool.communicate(timeout=60)[1], path


def check_hang(path, least):
    events = parsed(path)
    assert least * 0.9 <= seconds(events) <= least + 2.5, seconds(events)
    stuck = fibers(path)["stuck"]
    assert stuck["waits"]["sync.(*Cond).Wait"] >= (least - 0.3) * 1e9, stuck
    assert stuck["alive"] == 1, stuck


def a_mutex_that_is_held_blocks_who_was_signalled(work):
    for mode in ("held", "retaken"):
        _, path = traced(work, mode)
        parsed(path)
        taker = fibers(path)["taker"]
        # A round in which it comes late finds the token, and waits for the mutex alone; or it was faster.
        assert sum(taker["waits"].values()) >= 0.9 * ROUNDS * HOLD_NS, (mode, taker)
        assert taker["waits"]["sync"] >= (ROUNDS - 2.2) * HOLD_NS, (mode, taker)
        assert taker["runnable_ns"] <= 0.3 * HOLD_NS, (mode, taker)


def a_crowd_takes_its_turns(work):
    _, path = traced(work, "crowd")
    parsed(path)
    taker = fibers(path)["taker"]
    turns = sum(range(CROWD)) * HOLD_NS
    assert 0.9 * turns <= taker["waits"]["sync"] <= 1.4 * turns, taker
    assert taker["runnable_ns"] <= 0.2 * turns, taker


def a_moment_is_no_wait(work):
    _, path = traced(work, "brief")
    parsed(path)
    taker = fibers(path)["taker"]
    assert taker["waits"].get("sync", 0) <= 1e6, taker


class Late:
    def __init__(self, work):
        self.work = work
        env = dict(os.environ, LD_PRELOAD=AGENT)
        self.target = subprocess.Popen([TARGET, "blocked"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       text=True, bufsize=1)
        assert self.target.stdout.readline() == "ready\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.target.kill()
        self.target.wait()

    def record(self, *options):
        return subprocess.Popen([FIBERSCOPE, "record", "--trace", "-p", str(self.target.pid), "-o", "t.trace", *options],
                                cwd=self.work, stderr=subprocess.PIPE, text=True)


def who_waits_before_the_trace_is_in_it(work):
    path = os.path.join(work, "t.trace")
    with Late(work) as late:
        tool = late.record("-d", "1s")
        said = tool.communicate(timeout=60)[1]
    assert tool.returncode == 0, said
    parsed(path)
    found = fibers(path)
    whole = 0.8e9
    for name, reason in (("in_poll", "network"), ("in_mutex", "sync"), ("in_semaphore", "sync"), ("in_sleep", "sleep")):
        assert found[name]["waits"].get(reason, 0) >= whole, (name, found[name])
    for name in ("in_read", "main"):
        assert found[name]["syscall_ns"] >= whole, (name, found[name])
    running = [f for f in found.values() if f["running_ns"] >= whole]
    assert len(running) == 1 and len(found) == 7, found


def and_goes_on_when_it_does(work):
    path = os.path.join(work, "t.trace")
    with Late(work) as late:
        tool = late.record("-d", "1500ms")
        time.sleep(0.8)
        print("x", file=late.target.stdin)
        assert late.target.stdout.readline() == "gone\n"
        tool.communicate(timeout=60)
        # And once more, where some threads are known from the first time, and some have gone.
        os.rename(path, path + "1")
        tool = late.record("-d", "700ms")
        said = tool.communicate(timeout=60)[1]
    assert tool.returncode == 0, said
    for name in ("in_poll", "in_semaphore", "in_mutex"):
        f = fibers(path + "1")[name]
        assert f["alive"] == 0 and 0 < sum(f["waits"].values()) < 1.4e9, f
    parsed(path + "1")
    parsed(path)
    assert {"main", "in_sleep"} <= set(fibers(path)) and "in_poll" not in fibers(path), fibers(path)


def std_threads_are_called_after_their_functions(work):
    _, path = traced(work, None, program=os.path.join(TESTS, "trace_std_threads"))
    parsed(path)
    assert set(fibers(path)) == {"main", "work::function()", "work::with_arguments(int, char const*)",
                                 "work::object::operator()() const", "work::object::member()",
                                 "main::{lambda()#1}::operator()"}, set(fibers(path))


def counts_agree(work):
    for options in ([], ["--go=1.26"], ["--cpu", "-F", "200"]):
        out = ["-o", "%k.out"] if "--cpu" in options else []
        done, path = traced(work, "crowd", *options, *out)
        path = path if not out else [os.path.join(work, f) for f in os.listdir(work) if "trace" in f and f != "t.trace"][0]
        said = int(re.search(r"trace: ([\d,]+) events", done.stderr)[1].replace(",", ""))
        told = json.loads(subprocess.run([FIBERSCOPE, "trace", "--json", path], capture_output=True, text=True,
                                         check=True).stdout)["events"]
        assert said == told == len(parsed(path)), (options, said, told, len(parsed(path)))


def what_is_waited_for_is_said(work):
    tool = subprocess.Popen([FIBERSCOPE, "record", "--trace", "-o", "t.trace", TARGET, "deaf"], cwd=work,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert tool.stdout.readline() == "deaf\n"
    tool.send_signal(signal.SIGINT)
    said = tool.communicate(timeout=60)[1]
    assert re.search(r"process \d+ \(trace_gaps\) goes on; waiting up to 1 s for its end", said), said


main([forked_children_have_traces_of_their_own, the_name_is_the_command_s_own, a_hang_lasts_until_the_stop,
      a_hang_lasts_until_the_kill, a_mutex_that_is_held_blocks_who_was_signalled, a_crowd_takes_its_turns,
      a_moment_is_no_wait, who_waits_before_the_trace_is_in_it, and_goes_on_when_it_does,
      std_threads_are_called_after_their_functions, counts_agree, what_is_waited_for_is_said])
