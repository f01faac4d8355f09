#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Traces of tests/runtime/trace_stress.c, with 1, 2 and 8 processors: each is accepted by Go's own reader and by
`fiberscope trace validate`, with the same number of events.

    trace_stress.py stopped|killed|cut|flight COUNT SECONDS

stopped   started and stopped at random moments by the program itself
killed    SIGKILL at a random moment; the file is finished by `fiberscope record`, or out of a black box
cut       with the smallest of buffers
flight    the flight recorder, with snapshots at random moments
Until there are COUNT traces, or SECONDS have passed: what was reached is said at the end."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
import trace_go  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
FIBERSCOPE = os.path.join(BUILD, "cli", "fiberscope")
AGENT = os.path.join(BUILD, "agent", "libfiberscope.so")
PROGRAM = os.path.join(BUILD, "tests", "runtime", "trace_stress")
AT_ONCE = 2


def environment(seed, **more):
    return dict(os.environ, FIB_MAXPROCS=str((1, 2, 8)[seed % 3]), FIB_DEBUG="quantum=1000", **more)


def start(seed, milliseconds, output, *options, quiet=False):
    command = [FIBERSCOPE, "record", "--trace", *options, "-o", output, PROGRAM, str(seed), str(milliseconds)]
    return subprocess.Popen(command + ["quiet"] * quiet, env=environment(seed), stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True)


def end(process, status, also=None):
    try:
        _, said = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == status or (also and re.search(also, said)), f"{process.args}: {process.returncode}, not {status}: {said}"
    assert "report this" not in said and "did not make sense" not in said, f"{process.args}: {said}"
    return said


def child_of(process):
    """The program that fiberscope record has started, once it is that."""
    for _ in range(500):
        try:
            with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as f:
                for pid in f.read().split():
                    if os.readlink(f"/proc/{pid}/exe") == os.path.realpath(PROGRAM):
                        return int(pid)
        except OSError:
            pass
        time.sleep(0.002)
    process.kill()
    raise AssertionError(f"{process.args}: no child")


def stopped(seed, rng, folder):
    end(start(seed, rng.randrange(300, 1500), os.path.join(folder, "t.trace")), 0)


def killed(seed, rng, folder):
    wait = rng.choice((0.03, 0.1, 0.4)) * rng.random()
    if seed % 2:
        process = start(seed, 20000, os.path.join(folder, "t.trace"), quiet=seed % 4 == 1)
        pid = child_of(process)
        time.sleep(wait)
        os.kill(pid, signal.SIGKILL)
        end(process, 128 + signal.SIGKILL)
        return
    box = os.path.join(folder, "box.seg")
    process = subprocess.Popen([PROGRAM, str(seed), "20000", "quiet"], stderr=subprocess.PIPE, text=True,
                               env=environment(seed, FIBERSCOPE_SEGMENT=box, FIBERSCOPE="trace=1,trace_bytes=4M",
                                               LD_PRELOAD=AGENT))
    time.sleep(0.03 + wait)
    process.kill()
    end(process, -signal.SIGKILL)
    # By kind: one that was killed before the trace began has a profile, without samples.
    done = subprocess.Popen([FIBERSCOPE, "finish", "-o", os.path.join(folder, "t.%k"), box],
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    end(done, 0, also="has not finished it|neither a black box")  # the kill came too early


def cut(seed, rng, folder):
    process = start(seed, rng.randrange(300, 1000), os.path.join(folder, "t.trace"), "--trace-buffer=1M",
                    quiet=seed % 2 == 1)
    # The collector stands still, so that nobody takes the buffers away.
    for _ in range(3):
        time.sleep(0.15 * rng.random())
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.1 + 0.1 * rng.random())
        process.send_signal(signal.SIGCONT)
    said = end(process, 0)
    return "the trace was cut" in said


def flight(seed, rng, folder):
    process = start(seed, rng.randrange(500, 1000), os.path.join(folder, "t.trace"), "--flight", "--trace-buffer=1M",
                    quiet=True)
    child_of(process)
    for _ in range(3):
        time.sleep(0.03 + 0.15 * rng.random())
        process.send_signal(signal.SIGUSR2)
    end(process, 0)


def validate(paths):
    """What Go's reader says, and that ours says the same; how many events."""
    answer = subprocess.run([ORACLE, "counts"], input="\n".join(paths) + "\n", capture_output=True, text=True,
                            check=True)
    lines = answer.stdout.splitlines()
    assert len(lines) == len(paths)
    total = 0
    for path, line in zip(paths, lines):
        done = subprocess.run([FIBERSCOPE, "trace", "validate", "--json", path], capture_output=True, text=True)
        ours = json.loads(done.stdout) if done.stdout else {}
        assert re.fullmatch(r"\d+", line), f"{keep(path)}: {line}; ours: {done.stdout} {done.stderr}"
        assert ours.get("valid") and ours["events"] == int(line), f"{keep(path)}: Go {line} events, ours {done.stdout}"
        total += int(line)
    return total


def keep(path):
    kept = os.path.join(os.getcwd(), "trace_stress.refused")
    os.replace(path, kept)
    return kept


def once(mode, seed):
    with tempfile.TemporaryDirectory(prefix="fiberscope-test-") as folder:
        try:
            was_cut = MODES[mode](seed, random.Random(seed), folder)
            paths = sorted(os.path.join(folder, f) for f in os.listdir(folder) if f.startswith("t.trace"))
            return len(paths), validate(paths) if paths else 0, bool(was_cut)
        except Exception as e:
            raise AssertionError(f"{mode}, seed {seed}: {e}") from e


MODES = {"stopped": stopped, "killed": killed, "cut": cut, "flight": flight}


def main():
    global ORACLE
    mode, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.randrange(1 << 30)
    if not trace_go.GO:
        print("SKIP: no Go here")
        return 77
    with tempfile.TemporaryDirectory(prefix="fiberscope-test-") as folder:
        ORACLE = trace_go.build(folder, os.path.join(HERE, "trace_oracle.go"))[0]
        until = time.monotonic() + seconds
        traces = events = cuts = runs = 0
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while traces < count and time.monotonic() < until:
                for t, e, was_cut in pool.map(lambda n: once(mode, n), range(seed + runs, seed + runs + 2 * AT_ONCE)):
                    traces, events, cuts, runs = traces + t, events + e, cuts + was_cut, runs + 1
    print(f"{mode}: {traces} traces of {runs} runs from seed {seed}, {events} events, {cuts} runs cut: all valid")
    assert traces >= runs / 2, "most runs leave a trace"
    assert mode != "cut" or cuts, "none was cut"
    return 0


if __name__ == "__main__":
    sys.exit(main())
