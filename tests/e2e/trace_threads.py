#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fiberscope record --trace of plain threaded programs: Go's reader accepts the trace, and each thread is a lane that
waits as it is known to wait (trace_threads.cc)."""

import json
import os
import signal
import subprocess
import time

from harness import FIBERSCOPE, TESTS, go_tool, main, record

ROUNDS, DELAY_NS = 4, 20e6
PYTHON = """
import queue, subprocess, threading, time
q = queue.Queue()
def worker():
    while q.get() is not None:
        time.sleep(0.02)
threads = [threading.Thread(target=worker) for _ in range(4)]
for t in threads:
    t.start()
for i in range(16):
    q.put(i)
subprocess.run(["/bin/true"], check=True)
for t in threads:
    q.put(None)
for t in threads:
    t.join()
"""


def report(*args):
    done = subprocess.run([FIBERSCOPE, "trace", "--json", *args], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def go_reads(path):
    done = subprocess.run([go_tool("trace"), "-d=parsed", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    assert len(done.stdout.splitlines()) >= report("validate", path)["events"], "an event a line, and their stacks"


def threads_wait_as_they_do(work):
    path = os.path.join(work, "t.trace")
    record("--trace", "-o", path, os.path.join(TESTS, "trace_threads"), cwd=work, check=0)
    assert os.listdir(work) == ["t.trace"], "the forked child has no trace"
    go_reads(path)
    fibers = report("fibers", "-n", "0", path)["functions"]
    assert sum(f["fibers"] for f in fibers) == 8, fibers
    waits = {f["function"].split("::")[-1]: {w["reason"]: w["ns"] for w in f["blocked"]} | {"call": f["syscall_ns"]}
             for f in fibers}
    whole = ROUNDS * DELAY_NS
    # name, its reason, how long at least
    for name, reason, least in (("mutex_waiter", "sync", whole), ("mutex_holder", "sleep", whole),
                                ("semaphore_waiter", "sync", whole), ("barrier_waiter", "sync", 2 * whole),
                                ("driver", "sleep", 2 * whole), ("main", "sync", whole)):
        assert waits[name].get(reason, 0) >= 0.95 * least, (name, waits)
    assert sum(waits["reader"].values()) >= 0.95 * 2 * whole, waits["reader"]
    assert any(w.get("sync.(*Cond).Wait", 0) >= 0.95 * 2 * whole for w in waits.values()), waits
    by = {to: n for (start, to), n in wakes(path).items() if start == "mutex_holder"}
    assert by.get("mutex_waiter") == ROUNDS, by
    by = {to: n for (start, to), n in wakes(path).items() if start == "driver"}
    assert by.pop("semaphore_waiter") == ROUNDS and sum(by.values()) >= 1, "and the condition's waiter"


def wakes(path):
    return {(w["from"].split("::")[-1], w["to"].split("::")[-1]): w["wakes"] for w in report("wakes", "-n", "0", path)["wakes"]}


def who_wakes_is_known(work):
    """A token goes round: each of four threads is woken by the one before it, and by nobody else."""
    path, rounds, stages = os.path.join(work, "t.trace"), 2000, ["first", "second", "third", "fourth"]
    record("--trace", "-o", path, os.path.join(TESTS, "trace_wakers"), "relay", str(rounds), cwd=work, check=0)
    go_reads(path)
    found = wakes(path)
    for i, stage in enumerate(stages):
        by = {start: n for (start, to), n in found.items() if to == stage}
        assert by.pop(stages[i - 1]) >= 0.4 * rounds, (stage, found)  # one that comes late finds its turn, and does not wait
        by.pop("main", 0)  # the token comes from there
        assert sum(by.values()) <= 0.02 * rounds, (stage, by)
    assert sum(n for (_, to), n in found.items() if to == "main") >= 1, found
    steps = report("critical", "-n", "0", path)["steps"]
    ran = {stage: sum(s["function"] == stage and s["part"] == "running" for s in steps) for stage in stages}
    assert min(ran.values()) >= 0.4 * rounds, ran


def wakes_stay_valid(work):
    """Waits for locks of all kinds that end at any moment: over generations, cuts, and a SIGKILL."""
    path, command = os.path.join(work, "t.trace"), [os.path.join(TESTS, "trace_wakers"), "contend"]
    record("--trace", "-o", path, *command, "2500", cwd=work, check=0)
    go_reads(path)
    found = wakes(path)
    assert found["fighter", "fighter"] > 5 * found.get(("", "fighter"), 0) > 0, found
    assert report(path)["generations"] >= 2
    for i in range(3):
        for file in os.listdir(work):
            os.remove(os.path.join(work, file))
        with subprocess.Popen([FIBERSCOPE, "record", "--trace", "--trace-buffer=1M", "-o", path, *command, "5000"],
                              cwd=work, stderr=subprocess.DEVNULL) as tool:
            time.sleep(0.7 + 0.2 * i)
            target = int(subprocess.run(["pgrep", "-P", str(tool.pid), "trace_wakers"], capture_output=True, text=True,
                                        check=True).stdout.split()[0])
            os.kill(target, signal.SIGKILL)
            tool.wait()
        files = [f for f in os.listdir(work) if f.endswith(".trace")]
        assert files
        for file in files:
            go_reads(os.path.join(work, file))


def conditions_that_need_fibers_are_said_to(work):
    """In a program without the runtime, soon after its start; not in one with it."""
    plain, fibers = ["sleep", "0.8"], [os.path.join(TESTS, "trace_target"), "threads", "300"]
    for options, command, words in ((["--slow-stall=1ms"], plain, "--slow-stall without effect"),
                                    (["--slow-latency=1ms", "--slow-stall=1ms"], plain, "--slow-latency and --slow-stall without"),
                                    (["--slow-region=1ms"], plain, None), (["--slow-stall=1h"], fibers, None)):
        said = record(*options, "-d", "0.6s", "-o", "s.trace", *command, cwd=work, check=None).stderr
        assert ("without effect" in said) == bool(words) and (not words or words in said), (options, said)
        assert not words or said.index("without effect") < said.index("wrote" if "wrote" in said else "no trace"), said


def python_has_a_lane_for_each_thread(work):
    path = os.path.join(work, "t.trace")
    record("--trace", "-o", path, "--no-inherit", "/usr/bin/python3", "-c", PYTHON, cwd=work, check=0)
    go_reads(path)
    fibers = report("fibers", "-n", "0", path)["functions"]
    assert sum(f["fibers"] for f in fibers) == 5, fibers
    # Four sleeps of 20 ms for each of the four, on the average.
    blocked = sorted(f["blocked_ns"] + f["syscall_ns"] for f in fibers)
    assert sum(blocked) >= 0.9 * 16 * DELAY_NS, fibers


if __name__ == "__main__":
    main([threads_wait_as_they_do, who_wakes_is_known, wakes_stay_valid, conditions_that_need_fibers_are_said_to, python_has_a_lane_for_each_thread])
