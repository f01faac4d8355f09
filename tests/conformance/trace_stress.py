#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Traces of the stress suite, with 1, 2 and 8 processors, started, stopped and killed at random moments: each is
accepted by Go's own reader and by `fiberscope trace validate`, with the same number of events.

    trace_stress.py stopped|killed|cut|flight COUNT [SECONDS [SEED]]

stopped   started and stopped at random moments by the program itself, or by what is preloaded (trace_toggle.c)
killed    SIGKILL at a random moment; the file is finished by `fiberscope record`, or out of a black box. What counts
          is the traces that the kill has ended, be they of a flight recorder. A kill may come before the first event:
          then, and only then, there may be none. Whether there was one is told by a thread of the program (trace_toggle.c)
cut       with the smallest of buffers
flight    the flight recorder, with snapshots at random moments
Until there are COUNT traces, or SECONDS have passed (0: COUNT, however long it takes): what was reached is said at the
end. A third of the programs is tests/runtime/trace_stress.c, which does all that a trace can tell; the others are the
runtime's other stress tests and plain threads that fork. A third has CPU samples in its trace."""

import collections
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
import trace_go  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
FIBERSCOPE = os.path.join(BUILD, "cli", "fiberscope")
AGENT = os.path.join(BUILD, "agent", "libfiberscope.so")
RUNTIME = os.path.join(BUILD, "tests", "runtime")
TOGGLE = os.path.join(RUNTIME, "libtrace_toggle.so")
AT_ONCE = 2
KILLED, ENDED_WITHOUT = 128 + signal.SIGKILL, 1  # how `fiberscope` ends: as the program did, or with an error

# name -> its arguments, with a seed and so many processors: one that ends after a second, and one to be killed.
ENDS = {
    "chan_stress": lambda seed, procs: [procs, 10, seed],
    "sync_stress": lambda seed, procs: [1, seed, procs],
    "timer_stress": lambda seed, procs: [500, seed, procs],
    "io_stress": lambda seed, procs: [1, 100],
    "forensics": lambda seed, procs: [30, 5],  # preemption, and children
    "trace_threads": lambda seed, procs: [],  # and forks
}
LASTS = {
    "chan_stress": lambda seed, procs: [procs, 10000, seed],
    "sync_stress": lambda seed, procs: [20, seed, procs],
    "timer_stress": lambda seed, procs: [20000, seed, procs],
    "io_stress": lambda seed, procs: [20, 100],
    "preempt_soak": lambda seed, procs: [20],
    "trace_threads": lambda seed, procs: [],  # may have ended before
}
FOLDERS = {"forensics": os.path.join(BUILD, "examples"), "trace_threads": os.path.join(BUILD, "tests", "e2e")}


class Target:
    """A program to trace, what it is started with, and how."""

    def __init__(self, seed, rng, milliseconds, soon, is_flight=False, suite=True, is_toggled=True, mark=None):
        procs = (1, 2, 8)[seed % 3]
        others = ENDS if soon else LASTS
        self.name = "trace_stress" if not suite or rng.randrange(3) == 0 else rng.choice(list(others))
        self.program = os.path.join(FOLDERS.get(self.name, RUNTIME), self.name)
        self.samples = rng.randrange(3) == 0
        self.is_flight = is_flight
        self.env = dict(os.environ, FIB_MAXPROCS=str(procs), FIB_DEBUG="quantum=1000")
        self.is_toggled = is_toggled
        if self.name == "trace_stress":
            args = [seed, milliseconds] + ["quiet"] * (not is_toggled)
        else:
            args = others[self.name](seed, procs)
        if is_toggled and self.name != "trace_stress":
            self.env.update(TRACE_TOGGLE=str(seed), LD_PRELOAD=TOGGLE)
        if mark:
            self.env.update(TRACE_MARK=mark, LD_PRELOAD=TOGGLE)
        self.command = [self.program, *map(str, args)]

    def record(self, folder, *options):
        options = [*options, *(["--cpu", "-F", "499"] if self.samples else []), *(["--flight"] if self.is_flight else [])]
        return subprocess.Popen([FIBERSCOPE, "record", "--trace", *options, "-o", os.path.join(folder, "t.%k"),
                                 *self.command], env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def alone(self, box):
        settings = "trace_bytes=4M,trace=1" + ",cpu=499" * self.samples + ",flight=1" * self.is_flight
        preload = " ".join(filter(None, [AGENT, self.env.get("LD_PRELOAD")]))
        return subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                env=dict(self.env, FIBERSCOPE=settings, FIBERSCOPE_SEGMENT=box, LD_PRELOAD=preload))

    def child_of(self, process):
        """The program that fiberscope record has started, once it is that; None: all is over already."""
        while process.poll() is None:
            try:
                with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as f:
                    for pid in f.read().split():
                        if os.readlink(f"/proc/{pid}/exe") == os.path.realpath(self.program):
                            return int(pid)
            except OSError:
                pass
            time.sleep(0.002)
        return None


def end(process, *statuses):
    try:
        _, said = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode in statuses, f"{process.args}: {process.returncode}, not {statuses}: {said}"
    assert "report this" not in said and "did not make sense" not in said, f"{process.args}: {said}"
    return said


def kill(pid):
    """False: it has ended by itself; what its status was is seen by others."""
    try:
        os.kill(pid, signal.SIGKILL)
        return True
    except ProcessLookupError:
        return False


# Each leaves traces t.trace* in the folder and returns what happened.

def stopped(seed, rng, folder):
    t = Target(seed, rng, rng.randrange(300, 1500), soon=True)
    end(t.record(folder), 0)
    return {"runs of " + t.name: 1}


def killed(seed, rng, folder):
    mark = os.path.join(folder, "mark")
    t = Target(seed, rng, 20000, soon=False, is_flight=rng.randrange(4) == 0, is_toggled=rng.randrange(4) == 0, mark=mark)
    delay = rng.choice((0.03, 0.1, 0.3)) * rng.random()
    happened = {"runs of " + t.name: 1, "flight recorders": t.is_flight}
    end_of = killed_in_record if rng.randrange(2) else killed_alone
    counted = end_of(t, folder, delay, mark)
    has_trace = any(f.startswith("t.trace") for f in os.listdir(folder))
    assert has_trace or not os.path.exists(mark), f"it had an event, and there is no trace: {t.command}"
    happened["before the first event"] = int(not os.path.exists(mark))
    return collections.Counter(happened) + counted


def killed_in_record(t, folder, delay, mark):
    process = t.record(folder)
    pid = t.child_of(process)
    time.sleep(delay)
    is_killed = pid and kill(pid)
    said = end(process, KILLED, ENDED_WITHOUT, *([] if is_killed and t.name != "trace_threads" else [0]))
    assert process.returncode != ENDED_WITHOUT or not os.path.exists(mark), said
    # Of many files the last is not named; then the kill is not counted.
    return collections.Counter(killed=int(", up to the kill;" in said))


def killed_alone(t, folder, delay, mark):
    box = os.path.join(folder, "box.seg")
    process = t.alone(box)
    time.sleep(0.03 + delay)
    process.kill()
    end(process, -signal.SIGKILL, *([0] if t.name == "trace_threads" else []))
    # By kind: one that was killed before the trace began has a profile, without samples.
    done = subprocess.Popen([FIBERSCOPE, "finish", "-o", os.path.join(folder, "t.%k"), box],
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    end(done, 0, *([] if os.path.exists(mark) else [ENDED_WITHOUT]))
    is_on = not t.is_toggled and process.returncode == -signal.SIGKILL
    return collections.Counter({"black boxes": 1, "killed": int(is_on and os.path.exists(os.path.join(folder, "t.trace")))})


def cut(seed, rng, folder):
    t = Target(seed, rng, rng.randrange(300, 1000), soon=True, suite=False, is_toggled=rng.randrange(2) == 0)
    process = t.record(folder, "--trace-buffer=1M")
    # The collector stands still, so that nobody takes the buffers away.
    for _ in range(3):
        time.sleep(0.15 * rng.random())
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.1 + 0.1 * rng.random())
        process.send_signal(signal.SIGCONT)
    return {"runs cut": int("the trace was cut" in end(process, 0))}


def flight(seed, rng, folder):
    t = Target(seed, rng, rng.randrange(500, 1000), soon=True, is_flight=True, suite=False, is_toggled=False)
    process = t.record(folder, "--trace-buffer=1M")
    t.child_of(process)
    for _ in range(3):
        time.sleep(0.03 + 0.15 * rng.random())
        process.send_signal(signal.SIGUSR2)
    end(process, 0)
    return {}


def validate(path):
    """What Go's reader says, and that ours says the same; how many events."""
    status, said = ORACLE.ask("count", path)
    theirs = said.decode().strip()
    done = subprocess.run([FIBERSCOPE, "trace", "validate", "--json", path], capture_output=True, text=True)
    ours = json.loads(done.stdout) if done.stdout else {}
    assert status == 0, f"{keep(path)}: {theirs}; ours: {done.stdout} {done.stderr}"
    assert ours.get("valid") and ours["events"] == int(theirs), \
        f"{keep(path)}: Go {theirs} events, ours {done.stdout} {done.stderr}"
    return int(theirs)


def keep(path):
    kept = os.path.join(os.getcwd(), "trace_stress.refused")
    os.replace(path, kept)
    return kept


def once(mode, seed):
    with tempfile.TemporaryDirectory(prefix="fiberscope-test-") as folder:
        try:
            happened = MODES[mode](seed, random.Random(seed), folder)
            paths = sorted(os.path.join(folder, f) for f in os.listdir(folder) if f.startswith("t.trace"))
            events = sum(map(validate, paths))
            return collections.Counter(happened, runs=1, traces=len(paths), events=events)
        except Exception as e:
            raise AssertionError(f"{mode}, seed {seed}: {e}") from e


MODES = {"stopped": stopped, "killed": killed, "cut": cut, "flight": flight}


def run(mode, count, seconds, seed):
    until = time.monotonic() + seconds if seconds else float("inf")
    what = "killed" if mode == "killed" else "traces"
    total = collections.Counter()
    under_way = set()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while total[what] < count and time.monotonic() < until:
            while len(under_way) < AT_ONCE:
                under_way.add(pool.submit(once, mode, seed))
                seed += 1
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for one in done:
                total += one.result()
        for one in under_way:
            total += one.result()
    return total


def main():
    global ORACLE
    mode, count = sys.argv[1], int(sys.argv[2])
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 0
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.randrange(1 << 30)
    if not trace_go.GO:
        print("SKIP: no Go here")
        return 77
    ORACLE = trace_go.oracle()
    total = run(mode, count, seconds, seed)
    ORACLE.close()
    print(f"{mode}, from seed {seed}: " + ", ".join(f"{n} {what}" for what, n in total.items()) + "; all valid")
    assert total["traces"] >= total["runs"] / 2, "most runs leave a trace"
    assert mode != "cut" or total["runs cut"], "none was cut"
    assert mode != "killed" or total["killed"] >= total["runs"] / 4, "a quarter of the kills ends a trace"
    return 0


if __name__ == "__main__":
    sys.exit(main())
