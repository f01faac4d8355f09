#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fiberscope record --trace of programs whose threads are stopped within an event, or leave it and never end it: whatever
is not concerned goes on, and what was written is a trace that Go's reader accepts (trace_stuck.c)."""

import json
import os
import re
import subprocess

from harness import FIBERSCOPE, TESTS, go_tool, main


def rounds(work, mode, n, *options):
    command = [FIBERSCOPE, "record", "-q", "--trace", "-o", "t.trace", *options, os.path.join(TESTS, "trace_stuck"), mode, str(n)]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=40)
    found = re.search(r"^(\d+) rounds$", done.stdout, re.M)
    assert found, (done.returncode, done.stdout, done.stderr[-500:])
    return int(found[1])


def all_are_valid(work):
    files = [os.path.join(work, f) for f in os.listdir(work) if ".trace" in f and not f.startswith(".")]
    assert files
    for file in files:
        subprocess.run([FIBERSCOPE, "trace", "validate", file], check=True, capture_output=True)
        done = subprocess.run([go_tool("trace"), "-d=parsed", file], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, (file, done.stderr[-500:])
    return len(files)


def a_world_that_is_stopped_goes_on(work):
    """The thread that stops the other one never waits for it, or it would for ever. Some 400 a second untraced."""
    assert rounds(work, "stop", 1) >= 20
    all_are_valid(work)


def who_jumps_out_of_an_event_stops_nobody(work):
    """A thread beside it sleeps for a millisecond each time: some 900 a second untraced."""
    assert rounds(work, "jump", 1) >= 300
    files = all_are_valid(work)
    assert 2 <= files <= 30, "it begins anew after each cut, and not in storms"


def a_vfork_child_that_is_killed_stops_nobody(work):
    assert rounds(work, "vfork", 1) >= 300
    all_are_valid(work)


def a_fork_within_an_event_leaves_a_child_that_lives(work):
    assert rounds(work, "fork", 200, "--no-inherit") >= 200, "each child ended as it would have"


def a_handler_amid_a_threads_first_event_makes_no_second_stream(work):
    assert rounds(work, "first", 48) == 48
    assert all_are_valid(work) == 2, "one until it was stopped, and one since"
    done = subprocess.run([FIBERSCOPE, "trace", "fibers", "-n", "0", "--json", "t.trace.2"], cwd=work, check=True, capture_output=True)
    told = {f["function"]: f["fibers"] for f in json.loads(done.stdout)["functions"]}
    assert told == {"main": 1, "wait_turn": 48}, told


def who_was_woken_in_an_earlier_trace_goes_on_in_the_next(work):
    assert rounds(work, "again", 80) == 80
    files = [f for f in os.listdir(work) if f.startswith("t.trace")]
    assert len(files) > 60, len(files)
    for file in files:
        done = subprocess.run([FIBERSCOPE, "trace", "validate", file], cwd=work, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + done.stdout


if __name__ == "__main__":
    main([a_world_that_is_stopped_goes_on, who_jumps_out_of_an_event_stops_nobody, a_vfork_child_that_is_killed_stops_nobody,
          a_fork_within_an_event_leaves_a_child_that_lives, a_handler_amid_a_threads_first_event_makes_no_second_stream,
          who_was_woken_in_an_earlier_trace_goes_on_in_the_next])
