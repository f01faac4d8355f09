#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fiberscope record --trace tells what trace_gaps.c and trace_std_threads.cc are known to do: forked children, waits that
never end, mutexes that are taken again, threads that wait before the trace begins; and says what it wrote."""

import json
import os
import re
import signal
import subprocess
import time

import harness
from harness import BUILD, FIBERSCOPE, TESTS, go_tool, main

TARGET = os.path.join(TESTS, "trace_gaps")
UNSTARTED = os.path.join(BUILD, "examples", "shorten") # with the runtime, which --help does not start
AGENT = os.path.join(BUILD, "agent", "libfiberscope.so")
ROUNDS, HOLD_NS, CROWD, COMPUTE_NS = 5, 20e6, 4, 300e6


def parsed(path):
    """As Go's reader has it: the events without their stacks."""
    done = subprocess.run([go_tool("trace"), "-d=parsed", path], capture_output=True, text=True, timeout=60)
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
    # Until it ends, which takes it longer than 100 ms on a busy machine.
    assert 0.5 * 100e6 < runs["running_ns"] <= 1e9 * seconds(parsed(computes)) and not runs["waits"], runs
    locker = fibers(locks)["locker"] # it may be late to begin
    assert locker["total_ns"] >= 0.9 * HOLD_NS and locker["waits"]["sync"] >= 0.5 * HOLD_NS, locker
    done, _ = traced(work, "forks", "--no-inherit")
    assert "process" not in done.stderr, done.stderr


def the_name_is_the_command_s_own(work):
    # The shell waits, and so has a trace; its command's is another.
    done = harness.record("--trace", "-o", "t.trace", "sh", "-c", f"{TARGET} brief; exec {TARGET} brief", cwd=work,
                          check=0)
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


def no_trace_is_a_failure(work):
    done = harness.record("--trace", "-o", "t.trace", UNSTARTED, "--help", cwd=work)
    # The command's own status, which says why.
    assert done.returncode == 2 and "no trace" in done.stderr and not os.listdir(work), done
    # But one that neither waits nor begins a thread has run.
    done = harness.record("--trace", "-o", "t.trace", "true", cwd=work, check=0)
    assert "wrote t.trace" in done.stderr and len(fibers(os.path.join(work, "t.trace"))) == 1, done.stderr
    parsed(os.path.join(work, "t.trace"))


def a_profile_s_name_is_refused(work):
    for name in ("a.pb.gz", "a.pb", "x/a.pb.gz"):
        done = harness.record("--trace", "-o", name, TARGET, "brief", cwd=work)
        assert done.returncode == 1 and "profile's name" in done.stderr and not os.listdir(work), done


def a_hang_lasts_until_the_stop(work):
    _, path = hang(work, 2, None)
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
    for mode in ("held", "retaken", "tried"):
        _, path = traced(work, mode)
        parsed(path)
        taker = fibers(path)["taker"]
        # A round in which it comes late finds the token, and waits for the mutex alone; or it was faster.
        assert taker["total_ns"] >= 0.5 * ROUNDS * HOLD_NS, (mode, taker)
        assert sum(taker["waits"].values()) >= 0.8 * taker["total_ns"], (mode, taker)
        assert taker["waits"]["sync"] >= (ROUNDS - 3.2) * HOLD_NS, (mode, taker)
        # Without the wait for the mutex it would be runnable for as long.
        assert taker["runnable_ns"] <= 0.5 * sum(taker["waits"].values()), (mode, taker)


def the_last_reader_lets_a_writer_go_on(work):
    _, path = traced(work, "readers")
    parsed(path)
    writer = fibers(path)["writer"]
    # It comes when the first has the lock for HOLD_NS yet, and the second for as long again.
    assert writer["waits"]["sync"] >= 1.6 * HOLD_NS, writer
    assert writer["runnable_ns"] <= 0.4 * HOLD_NS, writer
    done = subprocess.run([FIBERSCOPE, "trace", "wakes", path], capture_output=True, text=True, check=True)
    assert re.search(r"reader -> writer", done.stdout), done.stdout


def a_time_out_ends_the_condition_s_part(work):
    _, path = traced(work, "late")
    parsed(path)
    waits = fibers(path)["timed"]["waits"]
    # Four times; the barrier is a wait of that reason, too, for as long as the other takes to come.
    assert 3.5 * HOLD_NS <= waits["sync.(*Cond).Wait"] <= 5 * HOLD_NS, waits
    assert 7 * HOLD_NS <= waits["sync"] <= 16 * HOLD_NS, waits


def a_crowd_takes_its_turns(work):
    _, path = traced(work, "crowd")
    parsed(path)
    taker = fibers(path)["taker"]
    turns = sum(range(CROWD)) * HOLD_NS
    sync, others = taker["waits"]["sync"], taker["total_ns"] - taker["waits"]["sync"]
    # Each waits while others sleep with the mutex, or come late from that: on a busy machine it takes them longer.
    assert 0.9 * turns <= sync <= (CROWD - 1) * others, taker


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
    found, length = fibers(path), seconds(parsed(path))
    assert 0.3 <= length <= 1.5, length # a busy machine is late to begin
    whole = 0.8e9 * length
    for name, reason in (("in_poll", "network"), ("in_mutex", "sync"), ("in_semaphore", "sync"), ("in_sleep", "sleep")):
        assert found[name]["waits"].get(reason, 0) >= whole, (name, found[name])
    for name in ("in_read", "main"):
        assert name in found, list(found)
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
        # Of a lock that is taken nothing is asked where nothing was recorded: the end of such a wait is told by the
        # thread's next event.
        assert f["alive"] == 0 and 0 < sum(f["waits"].values()) < (1.4e9 if name != "in_mutex" else 1.6e9), f
    parsed(path + "1")
    parsed(path)
    found = set(fibers(path))
    assert {"main", "in_sleep"} <= found and "in_poll" not in found, found


def std_threads_are_called_after_their_functions(work):
    _, path = traced(work, None, program=os.path.join(TESTS, "trace_std_threads"))
    parsed(path)
    assert set(fibers(path)) == {"main", "work::function()", "work::with_arguments(int, char const*)",
                                 "work::object::operator()", "work::object::member()",
                                 "main::{lambda()#1}::operator()", "main::{lambda()#2}::operator()",
                                 "main::{lambda()#3}::operator()", "work::asynchronous(int)"}, set(fibers(path))


def who_only_computes_has_a_name(work):
    _, path = traced(work, "computes")
    found = fibers(path)
    assert set(found) == {"main", "computer"} and parsed(path), found
    for f in found.values():
        assert f["running_ns"] >= 0.95 * COMPUTE_NS and not f["waits"], f
    done = subprocess.run([FIBERSCOPE, "trace", "--json", path], capture_output=True, text=True, check=True)
    totals = sum(f["running_ns"] for f in found.values())
    assert abs(json.loads(done.stdout)["times"]["running_ns"] - totals) <= 2, done.stdout
    done = subprocess.run([FIBERSCOPE, "trace", "lints", "--longer=200ms", path], capture_output=True, text=True)
    assert re.search(r"hogs +main: fiber \d+ ran", done.stdout) and re.search(r"hogs +computer:", done.stdout), done
    # A stripped program without any symbol of its own, too.
    traced(work, None, program="true")
    assert set(fibers(path)) == {"main"}, fibers(path)


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
      a_hang_lasts_until_the_kill, no_trace_is_a_failure, a_profile_s_name_is_refused, a_mutex_that_is_held_blocks_who_was_signalled, the_last_reader_lets_a_writer_go_on,
      a_time_out_ends_the_condition_s_part,
      a_crowd_takes_its_turns,
      a_moment_is_no_wait, who_waits_before_the_trace_is_in_it, and_goes_on_when_it_does,
      std_threads_are_called_after_their_functions, who_only_computes_has_a_name, counts_agree, what_is_waited_for_is_said])
