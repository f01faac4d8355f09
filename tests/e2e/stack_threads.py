#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`fiberscope stack --threads` shows the threads of a running process, which does not notice."""

import os
import random
import re
import signal
import subprocess
import time

import harness

TARGET = os.path.join(harness.TESTS, "stack_target")
FIBERS = os.path.join(harness.TESTS, "stack_fibers")
STOP_NS_MAX = 10_000_000
# What stands in a call that a stop would change, with frames that need rbp: its callers are not to be had.
PARTIAL = {"epoll_hour", "write", "short_epoll"}


class Target:
    def __init__(self, program, work, prefix=()):
        self.process = subprocess.Popen([*prefix, program], cwd=work, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self.pid = self.process.pid
        assert self.process.stdout.readline() == "ready\n"

    def __enter__(self):
        return self

    def end(self):
        """What it noticed."""
        out, _ = self.process.communicate("\n", timeout=60)
        wrong = re.findall(r"^wrong .*$", out, re.M)
        said = re.search(r"^stops (\d+) (\d+) (\d+) ran (\d+)$", out, re.M)
        assert self.process.returncode == 0 and said, (self.process.returncode, out)
        assert not wrong, wrong
        count, longest, total, ran = map(int, said.groups())
        assert ran > 1000, "its threads ran on"
        return count, longest, total

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def stack(pid, *options, prefix=()):
    done = subprocess.run([*prefix, harness.FIBERSCOPE, "stack", *options, str(pid)], text=True,
                          capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def threads_of(text):
    """By tid: name, state, functions, the whole block."""
    found = {}
    for block in text.split("\n\n"):
        head = re.match(r'thread (\d+) "(.*?)" \[(.*)\]:\n', block)
        if head:
            found[int(head[1])] = (head[2], head[3],
                                   re.findall(r"^(\S+)\(\.\.\.\)$", block, re.M), block)
    return found


def check_threads(text, pid):
    threads = threads_of(text)
    assert set(threads) == {int(t) for t in os.listdir(f"/proc/{pid}/task")}, text
    names = {}
    for tid, (name, _, functions, block) in threads.items():
        names.setdefault(name, []).append(block)
        in_wait = f"in_{name}"
        if tid == pid or not any(f.startswith("wait_") or f == in_wait for f in functions):
            continue
        if "and its callers: not to be had" in block:
            assert name in PARTIAL and in_wait in functions, block
        else:
            assert "waiter" in functions and "start_thread" in functions, block
    for name in ("read", "futex", "sleep", "epoll", "poll", "epoll_hour", "semop"):
        assert len(names[name]) >= 2, (name, names.get(name))
    computing = [b for blocks in names.values() for b in blocks if "compute(...)" in b]
    assert len(computing) == 4, f"{len(computing)} that compute, not 4"
    framed = [b for b in names["sleep"] if "wait_with_frame" in b]
    assert framed and all("waiter(...)" in b for b in framed), names["sleep"]


def a_program_without_fibers_has_its_threads(work):
    with Target(TARGET, work) as t:
        check_threads(stack(t.pid), t.pid)
        t.end()


def nobody_notices(work):
    with Target(TARGET, work) as t:
        for _ in range(10):
            stack(t.pid)
        count, longest, total = t.end()
    print(f"      10 times: {count} stops noticed, longest {longest / 1e6:.3f} ms, "
          f"{total / 1e6:.3f} ms all together")
    # Four threads compute; each was stopped once a time.
    assert count >= 10, "the target's way to measure stops sees them"
    assert total < 10 * STOP_NS_MAX and longest < STOP_NS_MAX, (longest, total)


def an_ordinary_users_own_process(work):
    """Without real-time priority a stop lasts as long as others keep us from a processor: it is shown, not bounded."""
    if os.geteuid() != 0:
        raise harness.Skip("the other cases are an ordinary user's")
    with Target(TARGET, work, prefix=harness.NOBODY) as t:
        text = stack(t.pid, prefix=harness.NOBODY)
        check_threads(text, t.pid)
        count, longest, total = t.end()
    print(f"      {count} stops noticed, longest {longest / 1e6:.3f} ms, {total / 1e6:.3f} ms "
          "all together")
    assert count, "they are seen"


def ten_thousand_fibers_and_fifty_threads(work):
    with Target(FIBERS, work) as t:
        text = stack(t.pid, "--threads")
        check_threads(text, t.pid)
        count, longest, total = t.end()
    assert len(re.findall(r"^goroutine \d+ \[chan receive\]:$", text, re.M)) == 10000
    assert len(threads_of(text)) >= 50, len(threads_of(text))
    print(f"      {count} stops noticed, longest {longest / 1e6:.3f} ms, {total / 1e6:.3f} ms "
          "all together")
    assert total < STOP_NS_MAX, f"stopped for {total} ns"


def states_of(pid):
    states = set()
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/status", encoding="utf-8") as f:
            text = f.read()
        states.add((re.search(r"^State:\s(\S)", text, re.M)[1],
                    re.search(r"^TracerPid:\s(\d+)", text, re.M)[1]))
    return states


def killed_at_any_moment_it_leaves_the_target_running(work):
    with Target(TARGET, work) as t:
        for _ in range(40):
            p = subprocess.Popen([harness.FIBERSCOPE, "stack", str(t.pid)],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(random.uniform(0, 0.03))
            p.kill()
            p.wait()
            left = {s for s in states_of(t.pid) if s[0] in "tT" or s[1] != "0"}
            assert not left, left
        out, _ = t.process.communicate("\n", timeout=60)
    # A call that we could not mend any more may have ended with EINTR; nothing else may.
    wrong = [w for w in re.findall(r"^wrong .*$", out, re.M) if not w.endswith(f" -1 {4}")]
    assert t.process.returncode == 0 and not wrong, (t.process.returncode, wrong)


def a_stopped_process_stays_stopped(work):
    with Target(TARGET, work) as t:
        os.kill(t.pid, signal.SIGSTOP)
        time.sleep(0.1)
        text = stack(t.pid)
        assert len(threads_of(text)) >= 50, text
        time.sleep(0.05)
        assert states_of(t.pid) == {("T", "0")}, states_of(t.pid)


if __name__ == "__main__":
    harness.main([a_program_without_fibers_has_its_threads, nobody_notices,
                  an_ordinary_users_own_process, ten_thousand_fibers_and_fifty_threads,
                  killed_at_any_moment_it_leaves_the_target_running,
                  a_stopped_process_stays_stopped])
