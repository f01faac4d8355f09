#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fiberscope record --trace of plain threaded programs: Go's reader accepts the trace, and each thread is a lane that
waits as it is known to wait (trace_threads.cc)."""

import json
import os
import shutil
import subprocess

from harness import FIBERSCOPE, TESTS, Skip, main, record

GO = shutil.which("go", path=os.environ["PATH"] + ":/usr/local/go/bin")
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
    if not GO:
        raise Skip("no Go here")
    done = subprocess.run([GO, "tool", "trace", "-d=parsed", path], capture_output=True, text=True)
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
    main([threads_wait_as_they_do, python_has_a_lane_for_each_thread])
