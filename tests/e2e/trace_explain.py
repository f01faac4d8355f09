#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fiberscope trace explain names what made requests slow, and how much: examples/shorten delays some of its requests
in known ways and writes an account of that by its own clock; the parts of the explanation are that account's."""

import json
import os
import re
import signal
import subprocess

import harness
from harness import BUILD, FIBERSCOPE, Skip, close, go_first, main

SHORTEN = os.path.join(BUILD, "examples", "shorten")
REQUESTS, SLOW = 1000, 98  # every 20th request is delayed, so the slowest 2 % are delayed ones
DELAY_MS = {"lock": 20, "syscall": 20, "busy": 20, "function": 20, "channel": 20, "io": 20, "sleep": 20, "block": 40}


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(n) for n in f.read().split()]


def recorded(work, procs, connections, delays):
    """shorten under load, with a trace and CPU samples: the rows of its account, as dictionaries."""
    if not os.path.exists(SHORTEN):
        raise Skip("shorten is not built: no SQLite")
    command = [FIBERSCOPE, "record", "--trace", "--cpu", "-F", "999", "-o", "t.%k.pb.gz", SHORTEN, "-p", "0", "-d", "links.db",
               "--account=account", *(f"--delay={kind}:20:{DELAY_MS[kind]}ms" for kind in delays)]
    p = subprocess.Popen(command, cwd=work, env=dict(os.environ, FIB_MAXPROCS=str(procs)), stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, preexec_fn=go_first)
    try:
        port = p.stdout.readline().rsplit(":", 1)[1].strip()
        subprocess.run([SHORTEN + "_load", "-p", port, "-c", str(connections), "-n", str(REQUESTS)], check=True, timeout=60,
                       stdout=subprocess.DEVNULL, env=dict(os.environ, FIB_MAXPROCS="1"))
        target, = children_of(p.pid)
        os.kill(target, signal.SIGTERM)
        said = p.communicate(timeout=60)[1]
        assert p.returncode == 0, said
    finally:
        p.kill()
        p.communicate()
    with open(f"{work}/account") as f:
        head, *lines = [line.split() for line in f]
    rows = [dict(zip(head, map(float, line))) for line in lines]
    assert len(rows) == REQUESTS, len(rows)
    return rows


def truth(rows):
    """How much longer the slow ones took than those around the median, in ns: in all, and by kind."""
    rows = sorted(rows, key=lambda r: r["all_us"])
    slow, typical = rows[REQUESTS * SLOW // 100:], rows[REQUESTS * 40 // 100:REQUESTS * 60 // 100 + 1]

    def gap(column):
        return 1e3 * (sum(r[column] for r in slow) / len(slow) - sum(r[column] for r in typical) / len(typical))
    return {column: gap(column) for column in rows[0]}


def explain(work, *args, check=0):
    done = subprocess.run([FIBERSCOPE, "trace", "explain", "--region=request", *(args or [f"--slow=p{SLOW}"]), "t.trace"],
                          cwd=work, capture_output=True, text=True, timeout=60)
    assert done.returncode == check, (args, done.returncode, done.stderr)
    return done.stdout if not check else done.stderr


def explain_piped(work):
    """From a pipe, which is read once: nothing is left out then, and the explanation has to be the same."""
    with open(f"{work}/t.trace", "rb") as f:
        done = subprocess.run([FIBERSCOPE, "trace", "explain", "--region=request", "--json", f"--slow=p{SLOW}", "-"],
                              input=f.read(), cwd=work, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def functions(piece, key):
    return [f["function"] for f in piece.get(key, [])]


# Which pieces a kind of delay has to turn up as.
IS_OF = {
    "lock": lambda p: p["part"] == "lock" and p["function"] == "cache_get" and p["holder"] == "lock_holder" and
    "lock_holder" in functions(p, "holder_stack"),
    "syscall": lambda p: p["part"] == "syscall" and p["function"] == "slow_syscall",
    # The runtime finds out after a tick; until then it looks like running, without samples of its own.
    "block": lambda p: p["part"] in ("running", "syscall"),
    "busy": lambda p: p["part"] == "runnable" and p.get("occupant") == "busy_neighbour" and
    "busy_neighbour" in functions(p, "occupant_stack"),
    "function": lambda p: p["part"] == "running" and "slow_function" in functions(p, "stack"),
    "channel": lambda p: p["part"] == "channel" and p["function"] == "wait_for_sender",
    "io": lambda p: p["part"] == "io" and p["function"] == "wait_for_writer",
    "sleep": lambda p: p["part"] == "sleep" and p["function"] == "sleep_long",
}


def check(work, procs, *delays, connections=4):
    known = truth(recorded(work, procs, connections, delays))
    e = json.loads(explain(work, "--json", f"--slow=p{SLOW}"))
    assert e["instances"] == REQUESTS and e["slow"] == REQUESTS * (100 - SLOW) // 100, e
    assert explain_piped(work) == e, "what was left out mattered"
    # The end of the region waits for a processor, if it has none; the account is closed before.
    close(e["gap_ns"], known["all_us"], (0.5 if "block" in delays else 0.02) * known["all_us"], "the gap")
    for side in ("slow", "typical"):
        close(sum(p[side + "_ns"] for p in e["pieces"]), e[side + "_mean_ns"], 1, side)
    close(sum(p["gap_ns"] for p in e["pieces"]), e["gap_ns"], 1, "sum of the parts")
    for kind in delays:
        pieces = [p for p in e["pieces"] if IS_OF[kind](p)]
        found = sum(p["gap_ns"] for p in pieces)
        print(f"      {kind} at {procs}: {found / 1e6:.2f} ms, by the account {known[kind] / 1e6:.2f}"
              f" of {e['gap_ns'] / 1e6:.2f}")
        assert known[kind] > 0.7e6 * DELAY_MS[kind], f"{kind}: was not injected: {known}"
        told = [(p["part"], p["function"], p.get("holder", p.get("occupant")), p["gap_ns"]) for p in e["pieces"][:6]]
        close(found, known[kind], 0.05 * known[kind], f"{kind} among {told}")
    return e


def a_lock_is_named_by_its_holder(work):
    check(work, 1, "lock")
    text = explain(work)
    first = text[text.index("typical\n", text.index("share")):].split("in all")[0]
    assert re.search(r"lock +cache_get \(sync\)\n", first), text
    # What the lock was kept for is what a reader has to change: the holder slept.
    piece, = [p for p in json.loads(explain(work, "--json"))["pieces"] if IS_OF["lock"](p) and p["gap_ns"] > 1e6]
    assert piece["meanwhile"] == "sleep" and "lock_holder" in functions(piece, "meanwhile_stack"), piece
    close(piece["meanwhile_ns"], piece["slow_ns"], 0.05 * piece["slow_ns"], "asleep with the lock")
    assert re.search(r"most of that, [\d.]+ms, it was asleep, in\n +lock_holder +delay\.c:\d+\n", first), text
    assert "held by lock_holder, let go in\n" in first and re.search(r"lock_holder +delay\.c:\d+\n", first), text


def a_lock_at_two_processors(work):
    check(work, 2, "lock")


def a_slow_system_call(work):
    check(work, 1, "syscall")


def a_slow_system_call_at_two_processors(work):
    check(work, 2, "syscall")


def a_call_that_blocks_unannounced(work):
    """Its region ends while its processor is another fiber's: it ends in the trace all the same."""
    check(work, 1, "block")


def a_call_that_blocks_unannounced_at_two_processors(work):
    check(work, 2, "block")


def who_kept_the_processor(work):
    check(work, 1, "busy")
    assert "runnable while busy_neighbour had the Proc, mostly in\n" in explain(work)


def who_kept_one_of_two_processors(work):
    # One request at a time: of two, one may take the processor that comes free first, and the other one go on waiting
    # for a neighbour, when the neighbours do not have all any more.
    check(work, 2, "busy", connections=1)


def again(times, case, *args):
    """A trace does not show where the kernel took the CPU away for long; that time is the next sample's. Should it
    have happened outside of the function, another try will do."""
    for i in range(times):
        try:
            return case(*args)
        except AssertionError:
            if i == times - 1:
                raise
            print("      once more")


def a_slow_function(work):
    e = again(3, check, work, 1, "function")
    assert e["slow_samples"] > 200, e["slow_samples"]


def a_slow_function_at_two_processors(work):
    again(3, check, work, 2, "function")


def a_channel(work):
    check(work, 1, "channel")


def input_and_output(work):
    check(work, 1, "io")


def sleep(work):
    check(work, 1, "sleep")


def what_slow_may_be(work):
    recorded(work, 1, 4, ["sleep"])
    for wrong in ("hundred", "99", "99%", "P99", "p", "p0", "p100", "p99.9.9", "20", "20mss", "-1ms", ""):
        said = explain(work, "--slow=" + wrong, check=2)
        assert f'not "{wrong}"' in said and "as p99" in said, said
    for good in ("p99", "p99.9", "p50", "10ms", "0.01s"):
        assert "longer. That is" in explain(work, "--slow=" + good), good
    for beside in ("1h", "1ns"):
        said = explain(work, "--slow=" + beside, check=1)
        assert re.search(r'1000 instances of "request" half take less than [\d.]+us, and the longest [\d.]+ms;', said), said
    # A kernel trace that nobody has named and that cannot be read is done without.
    want = explain(work)
    with open(f"{work}/t.kernel.trace", "w") as f:
        f.write("no trace\n")
    assert explain(work) == want
    os.unlink(f"{work}/t.kernel.trace")


def several_at_once_are_told_apart(work):
    again(3, check, work, 1, "lock", "function", "syscall")


CASES = [a_lock_is_named_by_its_holder, a_lock_at_two_processors, a_slow_system_call,
         a_slow_system_call_at_two_processors, a_call_that_blocks_unannounced,
         a_call_that_blocks_unannounced_at_two_processors, who_kept_the_processor, who_kept_one_of_two_processors,
         a_slow_function, a_slow_function_at_two_processors, a_channel, input_and_output, sleep, what_slow_may_be,
         several_at_once_are_told_apart]

if __name__ == "__main__":
    main(CASES)
