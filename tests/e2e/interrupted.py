#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A command that writes a file and is ended by a signal leaves nothing behind, keeps what the file held before, and is
ended by that signal, so that shells see 128 and its number. A signal that is ignored stays so."""

import os
import random
import signal
import subprocess
import time

from harness import FIBERSCOPE, leftovers, main
from made_trace import GO_STATUS_STACK, NOBODY, PROC_STATUS, THREAD, WAITING, Generation, write

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
COMMANDS = (["cut"], ["cut", "--fiber=7"], ["export"], ["export", "--format=perfetto"], ["export", "--format=folded"],
            ["export", "--format=pprof"])
OLD = b"what was there before"


def generation(number, rounds):
    g = Generation(number)
    at, stack = 1_000_000_000 + number * 100_000_000, g.stack("wait", "worker")
    g.say(at, PROC_STATUS, 0, 1)
    g.say(at + 1, GO_STATUS_STACK, 7, NOBODY, WAITING, stack)
    for i in range(rounds):
        at += 1000
        g.wake(at, 7)
        g.start(at + 100, 7)
        g.block(at + 600, "chan receive", stack)
    return g


def made(work, generations, rounds):
    path = os.path.join(work, "t.trace")
    write(path, [generation(i + 1, rounds) for i in range(generations)])
    with open(path, "rb") as f:
        return path, f.read()


def wait_for_temporary(process, work):
    until = time.monotonic() + 20
    while not leftovers(work):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "no temporary file"
        time.sleep(0.001)


def half_given(work, data, args, out, ignored=None):
    """The command with half of the trace on its standard input, where it waits for the rest: in the middle of writing."""
    process = subprocess.Popen([FIBERSCOPE, "trace", *args, "-o", out, "-"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               preexec_fn=lambda: ignored and signal.signal(ignored, signal.SIG_IGN))
    process.stdin.write(data[:len(data) // 2])
    process.stdin.flush()
    wait_for_temporary(process, work)
    return process


def nothing_is_left_behind(work):
    _, data = made(work, 4, 500)
    for args in COMMANDS:
        for signo in SIGNALS:
            for old in (OLD, None):
                out = os.path.join(work, "out")
                if old:
                    with open(out, "wb") as f:
                        f.write(old)
                elif os.path.exists(out):
                    os.unlink(out)
                process = half_given(work, data, args, out)
                process.send_signal(signo)
                said = process.communicate(timeout=20)
                where = (args, signo, old, process.returncode, said)
                assert process.returncode == -signo, where
                assert not leftovers(work), (where, leftovers(work))
                assert os.path.exists(out) == bool(old), where
                if old:
                    with open(out, "rb") as f:
                        assert f.read() == old, where


def a_shell_sees_130(work):
    _, data = made(work, 4, 500)
    fifo = os.path.join(work, "fifo")
    os.mkfifo(fifo)
    shell = subprocess.Popen(["bash", "-c", f"trap : INT; {FIBERSCOPE} trace cut -o {work}/out - < {fifo}; echo $?"],
                             stdout=subprocess.PIPE, start_new_session=True)
    with open(fifo, "wb") as f:
        f.write(data[:len(data) // 2])
        f.flush()
        wait_for_temporary(shell, work)
        os.killpg(shell.pid, signal.SIGINT)  # as the terminal does
        assert shell.communicate(timeout=20)[0].split() == [b"130"]
    assert not leftovers(work) and not os.path.exists(os.path.join(work, "out"))


def what_is_ignored_stays_so(work):
    _, data = made(work, 4, 500)
    out = os.path.join(work, "out")
    process = half_given(work, data, ["cut"], out, signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    process.communicate(data[len(data) // 2:], timeout=20)
    assert process.returncode == 0 and not leftovers(work)
    done = subprocess.run([FIBERSCOPE, "trace", "validate", out], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done


def a_big_file_at_any_moment(work):
    path, data = made(work, 12, 15000)
    assert len(data) > 2_000_000
    out, ended = os.path.join(work, "out"), 0
    for i in range(12):
        with open(out, "wb") as f:
            f.write(OLD)
        args, signo = COMMANDS[i % len(COMMANDS)], SIGNALS[i % len(SIGNALS)]
        process = subprocess.Popen([FIBERSCOPE, "trace", *args, "-o", out, path], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        wait_for_temporary(process, work)
        time.sleep(random.random() * 0.05)
        process.send_signal(signo)
        said = process.communicate(timeout=60)
        assert process.returncode in (0, -signo), (args, process.returncode, said)
        ended += process.returncode != 0
        assert not leftovers(work), (args, signo)
        with open(out, "rb") as f:
            assert (f.read() == OLD) == (process.returncode != 0), (args, process.returncode)
    assert ended, "all were done before their signal came"


if __name__ == "__main__":
    main([nothing_is_left_behind, a_shell_sees_130, what_is_ignored_stays_so, a_big_file_at_any_moment])
