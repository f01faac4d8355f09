#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Plain threads that wait in the calls of trace_waits.c are told as waiting there, for as long as they do."""

import json
import os
import subprocess
import time

import harness
from harness import FIBERSCOPE, TESTS, main

TARGET = os.path.join(TESTS, "trace_waits")
HOLD_NS = 50e6
CALLS = ["wait", "wait3", "wait4", "waitid", "system", "pclose", "pause", "sigwait", "sigwaitinfo", "sigtimedwait", "flock", "open", "openat"]
WAITS = {"semop": "sync", "semtimedop": "sync", "thrd_sleep": "sleep", "futex": "sync", "poll": "sleep", "ppoll": "sleep",
         "select": "sleep", "poll_of_one": "network"}


def fibers(path):
    done = subprocess.run([FIBERSCOPE, "trace", "fibers", "-n", "0", "--json", path], capture_output=True, text=True,
                          check=True)
    return {f["function"]: f for f in json.loads(done.stdout)["functions"]}


def each_call_is_where_the_time_goes(work):
    check(work)


def and_our_signals_do_not_end_it(work):
    # The program itself says so if one does.
    check(work, "--wall", "-F", "500", "-o", "%k.out")


def check(work, *options):
    harness.record("--trace", "--no-inherit", *(options or ["-o", "trace.out"]), TARGET, cwd=work, check=0)
    found = fibers(os.path.join(work, "trace.out"))
    for call in CALLS:
        f = found[f"in_{call}"]
        assert f["syscall_ns"] >= 0.7 * HOLD_NS and not f["blocked"], (call, f)
    for call, reason in WAITS.items():
        f = found[f"in_{call}"]
        assert [w["reason"] for w in f["blocked"]] == [reason] and f["blocked"][0]["ns"] >= 0.7 * HOLD_NS, (call, f)
    done = subprocess.run([FIBERSCOPE, "trace", "wakes", "-n", "0", os.path.join(work, "trace.out")],
                          capture_output=True, text=True, check=True)
    assert "main -> in_futex" in done.stdout, done.stdout
    for name, f in found.items():
        assert name == "main" or f["running_ns"] <= 0.3 * HOLD_NS, (name, f)


def handlers_make_calls_too(work):
    for options in (["-o", "h.trace"], ["--wall", "--cpu", "-F", "500", "-o", "%k.h"]):
        target = os.path.join(TESTS, "trace_handlers")
        done = subprocess.run([FIBERSCOPE, "record", "--trace", *options, target, "1.5"], cwd=work, capture_output=True,
                              text=True, timeout=60, check=False)
        assert done.returncode == 0, (done.stdout, done.stderr)
        handlers, signals = (int(w) for w in done.stdout.replace(",", "").split() if w.isdigit())
        assert handlers > 500 and signals == 200, done.stdout
    for name in ("h.trace", "trace.h"):
        valid = subprocess.run([FIBERSCOPE, "trace", "validate", name], cwd=work, capture_output=True, text=True,
                               check=False)
        assert valid.returncode == 0, valid.stdout + valid.stderr


def a_signal_right_behind_ours_ends_a_wait(work):
    for call in ("pause", "sigsuspend"):
        done = subprocess.run([FIBERSCOPE, "record", "--wall", "-F", "500", "-o", "%k.w", os.path.join(TESTS, "hooks_window"),
                               call], cwd=work, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, "1 signals, mask as it was\n"), (call, done)


def of_readers_that_leave_together_one_ends_the_wait(work):
    harness.record("--trace", "-o", "r.trace", os.path.join(TESTS, "hooks_window"), "readers", cwd=work, check=0)
    done = subprocess.run([FIBERSCOPE, "trace", "wakes", "-n", "0", os.path.join(work, "r.trace")],
                          capture_output=True, text=True, check=True)
    assert done.stdout.count("reader -> writer") == 1 and "poller) -> writer" not in done.stdout, done.stdout


def one_release_ends_one_wait(work):
    """Four of five have to wait, each for the one before, whoever ends meanwhile. Who begins late may overtake one that was
    woken, which then blocks again: not often."""
    waits = []
    for _ in range(6):
        harness.record("--trace", "-o", "q.trace", os.path.join(TESTS, "trace_queue"), "turns", cwd=work, check=0)
        f = fibers(os.path.join(work, "q.trace"))["turn"]
        waits.append(sum(w["count"] for w in f["blocked"] if w["reason"] == "sync"))
    assert sum(1 <= n <= 4 for n in waits) >= 4, waits


def who_waits_since_before_the_trace_gets_the_mutex(work):
    """It is not known to the trace, and the mutex is its own for 60 ms: another, which waits longest of those that are
    known, is not runnable meanwhile."""
    path = os.path.join(work, "a.trace")
    agent = os.path.join(harness.BUILD, "agent", "libfiberscope.so")
    target = subprocess.Popen([os.path.join(TESTS, "trace_queue"), "loop"],
                              env=dict(os.environ, LD_PRELOAD=agent, FIBERSCOPE="cpu=0"))
    try:
        for _ in range(3):
            time.sleep(0.1)
            subprocess.run([FIBERSCOPE, "record", "-q", "--trace", "-p", str(target.pid), "-d", "500ms", "-o", path],
                           cwd=work, check=True, timeout=30)
            done = subprocess.run([FIBERSCOPE, "trace", "--json", path], capture_output=True, text=True, check=True)
            longest = json.loads(done.stdout)["runnable"]["max_ns"]
            assert longest < 30e6, longest
    finally:
        target.kill()
        target.wait()


def first_waits(work, times, *args):
    """What each thread of trace_queue is told to wait for first, after so many attaches: (reason, stack)."""
    path, waits = os.path.join(work, "b.trace"), []
    agent = os.path.join(harness.BUILD, "agent", "libfiberscope.so")
    target = subprocess.Popen([os.path.join(TESTS, "trace_queue"), *args],
                              env=dict(os.environ, LD_PRELOAD=agent, FIBERSCOPE="cpu=0"))
    try:
        for _ in range(times):
            time.sleep(0.05)
            subprocess.run([FIBERSCOPE, "record", "-q", "--trace", "-p", str(target.pid), "-d", "20ms", "-o", path],
                           cwd=work, check=True, timeout=30)
            done = subprocess.run([FIBERSCOPE, "trace", "events", "--json", path], capture_output=True, text=True, check=True)
            first = {}
            for e in json.loads(done.stdout):
                if e.get("resource") == "fiber" and e["to"] == "Waiting":
                    first.setdefault(e["id"], (e["reason"], e["stack"]))
            waits += first.values()
    finally:
        target.kill()
        target.wait()
    return waits


def after_an_attach_reason_and_place_agree(work):
    """A thread's stack is taken a moment before it is told what it does, and 3 ms are long: who then does something
    else is told without the place. In each attach one sleeps and two wait for the mutex. main is in a poll of nothing."""
    agree = {"usleep": "sleep", "pthread_mutex_lock": "sync", "poll": "sleep"}
    waits = [w for w in first_waits(work, 8, "loop", "3") if w[1]]
    assert len(waits) >= 20 and ("sleep", ["poll", "main"]) in waits, waits
    for reason, stack in waits:
        assert agree.get(stack[0], reason) == reason, (reason, stack, waits)
    assert first_waits(work, 1, "alone") == [("sleep", ["select", "main"])]


def what_to_type_next_can_be_copied(work):
    """Whatever the file's name is, in the shell: what record says, and what the reports say about a profile."""
    name = "it's $x; 1.trace"
    said = harness.record("--trace", "-o", name, os.path.join(TESTS, "trace_queue"), "turns", cwd=work, check=0).stderr
    next_one = said.split("next: ")[1].split(", or go tool")[0]
    shown = subprocess.run([FIBERSCOPE, "trace", "sync", name], cwd=work, capture_output=True, text=True, check=True).stdout
    for command in (next_one, shown.split("The same as a profile: ")[1]):
        assert command.startswith("fiberscope trace "), command
        done = subprocess.run(["sh", "-c", command.replace("fiberscope", FIBERSCOPE, 1)], cwd=work, capture_output=True, text=True,
                              check=False)
        assert done.returncode == 0, (command, done.stderr)
    assert sorted(os.listdir(work)) == [name, "sync.pb.gz"], os.listdir(work)


def nested(work, *args):
    done = subprocess.run([FIBERSCOPE, "record", "-q", "--trace", "-o", "n.trace", os.path.join(TESTS, "trace_nested"), *args],
                          cwd=work, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, (args, done)
    subprocess.run([FIBERSCOPE, "trace", "validate", "n.trace"], cwd=work, capture_output=True, check=True)
    return done.stdout


def handlers_wait_while_a_wait_ends(work):
    assert int(nested(work, "ending", "2").split()[0]) > 500


def what_a_handler_calls_does_not_end_the_call_it_interrupts(work):
    nested(work, "restarted")
    for name, f in fibers(os.path.join(work, "n.trace")).items():
        assert name == "main" or (f["syscall_ns"] >= 270e6 and f["running_ns"] <= 100e6), (name, f)


def a_call_left_by_a_jump_or_cancelled_is_over(work):
    nested(work, "left")
    found = fibers(os.path.join(work, "n.trace"))
    assert 270e6 <= found["in_jump"]["syscall_ns"] <= 550e6 and found["in_jump"]["running_ns"] >= 100e6, found
    assert 270e6 <= found["in_cancelled"]["blocked_ns"] <= 550e6 and found["in_cancelled"]["running_ns"] >= 100e6, found


def what_threads_call_after_their_end_makes_no_new_ones(work):
    nested(work, "late", "50")
    f = fibers(os.path.join(work, "n.trace"))["in_late"]
    assert (f["fibers"], f["alive"]) == (50, 0), f


def many_waiters_cost_no_more_each_than_few(work):
    few, many = (int(nested(work, "crowd", str(n)).split()[0]) for n in (125, 1000))
    assert many <= 6 * few, (few, many)  # where each looks at all, 20 times


main([each_call_is_where_the_time_goes, and_our_signals_do_not_end_it, a_signal_right_behind_ours_ends_a_wait,
      of_readers_that_leave_together_one_ends_the_wait, handlers_make_calls_too,
      handlers_wait_while_a_wait_ends, what_a_handler_calls_does_not_end_the_call_it_interrupts,
      a_call_left_by_a_jump_or_cancelled_is_over, what_threads_call_after_their_end_makes_no_new_ones,
      many_waiters_cost_no_more_each_than_few, one_release_ends_one_wait,
      who_waits_since_before_the_trace_gets_the_mutex, after_an_attach_reason_and_place_agree,
      what_to_type_next_can_be_copied])
