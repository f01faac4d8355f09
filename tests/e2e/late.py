#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fiberscope record -p on a process with an agent in it: everything that a launched one has, nothing of it left when it is
over, and nothing that the program could notice."""

import os
import random
import re
import signal
import subprocess
import time

import harness
from harness import BUILD, FIBERSCOPE, TESTS, Profile, close, main

TARGET = os.path.join(TESTS, "late_target")
AGENT = os.path.join(BUILD, "agent", "libfiberscope.so")
EXAMPLES = os.path.join(BUILD, "examples")
FULL = os.environ.get("FSCOPE_SOAK_FULL") == "1"


def value(profile, kind, function=None):
    """The sum of one sample type, of the samples with the function on their stack."""
    index = [name for name, _ in profile.sample_types].index(kind)
    return profile.total(index, lambda s: function is None or function in s.stack)


class Target:
    def __init__(self, *args, agent=True, settings=None, **more):
        env = dict(os.environ, **({"LD_PRELOAD": AGENT} if agent else {}))
        if settings:
            env["FIBERSCOPE"] = settings
        self.process = subprocess.Popen([TARGET, *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True, **more)
        self.said = self.process.stdout.readline()
        assert self.said == "ready\n", self.said
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.process.kill()
        self.process.wait()

    def record(self, *args, cwd, check=0):
        return harness.record("-p", str(self.pid), *args, cwd=cwd, check=check).stderr

    def end(self):
        """Lets it end by itself: its own account."""
        self.process.send_signal(signal.SIGTERM)
        said, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, f"{self.process.returncode}: {said}"
        return said

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def all_kinds_at_once(work):
    with Target("work") as t:
        said = t.record("--cpu", "--wall", "--heap", "--block", "--mutex", "-d", "2s", "-o", f"{work}/p/", cwd=work)
        assert "by the agent inside it" in said, said
        files = {f.split(".")[2]: Profile(f"{work}/p/{f}") for f in os.listdir(f"{work}/p")}
        assert {"cpu", "wall", "heap", "block", "mutex"} <= set(files), files
        three, one = (value(files["cpu"], "cpu", f) for f in ("burn_three", "burn_one"))
        close(three / (three + one), 0.75, 0.08, "share of burn_three")
        assert value(files["heap"], "alloc_space", "grow") > 0.9 * value(files["heap"], "alloc_space") > 0
        for kind in ("block", "mutex"):
            assert value(files[kind], "contentions", "work") > 50, kind
        t.end()


def off_again_and_once_more(work):
    with Target("work") as t:
        before = t.descriptors()
        counts = []
        for i in range(3):
            said = t.record("--block", "--heap", "-d", "500ms", "-o", f"{work}/{i}/", cwd=work)
            assert ("has recorded its heap and locks before" in said) == (i > 0), said
            files = sorted(os.listdir(f"{work}/{i}"))
            block = Profile(f"{work}/{i}/{[f for f in files if 'block' in f][0]}")
            counts.append(value(block, "contentions"))
            assert value(block, "contentions", "work") > 0.9 * counts[-1], "no names"
            listed = subprocess.run([FIBERSCOPE, "ps"], capture_output=True, text=True).stdout
            line = [line for line in listed.splitlines() if re.match(rf"\s*{t.pid}\b", line)][0]
            assert "block" not in line and "heap" not in line, line
        assert 0 < counts[0] <= counts[1] <= counts[2] and counts[2] > 10, counts  # state is cumulative
        assert t.descriptors() <= before + 1, "only the segment's descriptor stays"
        t.end()


def the_program_notices_nothing(work):
    with Target("waits", "60") as t:
        for _ in range(100 if FULL else 15):
            t.record("--wall", "--cpu", "-F", "499", "-d", f"{random.randint(1, 150)}ms", "-q", "-o", f"{work}/p/",
                     cwd=work)
        said = t.end()
        assert re.search(r"waits [1-9]\d+ broken 0$", said.strip()), said


def a_trace_of_threads_and_fibers(work):
    harness.go_tool("trace")  # in a fresh clone that is built first, which takes longer than a target lives
    with Target("work") as t:
        for name in ("a", "b"):  # twice: the second session of one process
            t.record("--trace", "--cpu", "-d", "700ms", "-o", f"{work}/{name}.%k.trace", cwd=work)
            done = subprocess.run([harness.go_tool("trace"), "-d=parsed", f"{work}/{name}.trace.trace"], timeout=60,
                                  capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-500:]
            assert done.stdout.count("Reason=\"sync\"") > 10, done.stdout[:1000]
        t.end()
    env = dict(os.environ, LD_PRELOAD=AGENT, FIB_MAXPROCS="2")
    fibers = subprocess.Popen([os.path.join(EXAMPLES, "contention"), "100000"], env=env, stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.3)
        harness.record("-p", str(fibers.pid), "--trace", "-d", "500ms", "-o", f"{work}/f.trace", cwd=work, check=0)
        done = subprocess.run([harness.go_tool("trace"), "-d=parsed", f"{work}/f.trace"], timeout=60, capture_output=True,
                              text=True)
        assert done.returncode == 0 and done.stdout.count("StateTransition") > 100, done.stderr[-500:]
    finally:
        fibers.kill()
        fibers.wait()


def a_join_that_was_there_is_no_lost_wake_up(work):
    for agent in (True, False):  # in it before, or put into it
        with Target("joins", agent=agent) as t:
            time.sleep(0.2)
            t.record("--trace", *([] if agent else ["--method=inject"]), "-d", "2s", "-o", f"{work}/t.trace", cwd=work)
            said = subprocess.run([FIBERSCOPE, "trace", "lints", f"{work}/t.trace"], capture_output=True, text=True,
                                  check=True).stdout
            assert "main" not in said, said
            events = subprocess.run([FIBERSCOPE, "trace", "events", f"{work}/t.trace"], capture_output=True, text=True,
                                    check=True).stdout
            main_waits = [e for e in events.splitlines() if f" M{t.pid} " in e and "Running -> Waiting" in e]
            assert len(main_waits) == 1 and main_waits[0].endswith('"sync" in "pthread_join"'), main_waits
            t.end()


def two_collectors(work):
    with Target("work") as t:
        first = subprocess.Popen([FIBERSCOPE, "record", "-p", str(t.pid), "--cpu", "-d", "4s", "-o", f"{work}/1.pb.gz"],
                                 stderr=subprocess.PIPE, text=True)
        time.sleep(1)
        second = harness.record("-p", str(t.pid), "--cpu", "-d", "1s", "-o", f"{work}/2.pb.gz", cwd=work)
        assert second.returncode == 1 and f"pid {first.pid}" in second.stderr, second.stderr
        # Another part of it is free.
        t.record("--heap", "-d", "500ms", "-o", f"{work}/h.pb.gz", cwd=work)
        _, said = first.communicate(timeout=30)
        assert first.returncode == 0, said
        assert value(Profile(f"{work}/1.pb.gz"), "cpu") > 0.2e9, said
        t.end()


def children_are_followed(work):
    with Target("forks") as t:
        said = t.record("--cpu", "-F", "499", "-d", "2s", "-o", f"{work}/c.pb.gz", cwd=work)
        assert value(Profile(f"{work}/c.pb.gz"), "cpu", "burn_three") > 0.2e9, said
        assert subprocess.run(["kill", "-0", str(t.pid)]).returncode == 0


def refusals_say_why(work):
    def refused(t, *args):
        done = harness.record("-p", str(t.pid), "-d", "200ms", *args, cwd=work)
        assert done.returncode == 1, done.stderr
        assert t.process.poll() is None, "the target has died"
        return done.stderr

    with Target("work", agent=False) as t:
        assert "has no agent" in refused(t, "--heap")
        assert "has no agent" in refused(t, "--method=agent")
        t.end()
    with Target("work") as t:
        assert "need the agent inside" in refused(t, "--heap", "--method=perf")
        assert "only from the program's start" in t.record("--heap=exact", "-d", "100ms", cwd=work)
        t.process.send_signal(signal.SIGSTOP)
        assert "has not answered for 3 s" in refused(t, "--cpu", "--method=agent")
        t.process.send_signal(signal.SIGCONT)
        t.record("--cpu", "-d", "100ms", cwd=work)
        t.end()
    with Target("blocks") as t:
        assert "block SIGPROF" in refused(t, "--cpu", "--method=agent")
        t.end()
    with Target("closes") as t:
        t.record("--heap", "-d", "100ms", cwd=work)  # makes a segment, whose descriptor is then closed
        time.sleep(0.1)
        assert "closes all descriptors" in refused(t, "--heap")
        t.end()


def what_a_signal_would_end_is_not_disturbed(work):
    with Target("pauses") as t:
        time.sleep(0.2)
        done = harness.record("-p", str(t.pid), "--heap", "-d", "200ms", cwd=work)
        assert done.returncode == 1 and "wait in what a signal would end" in done.stderr, done.stderr
        assert t.process.poll() is None, "pause has ended"
        t.end()


def timers(pid):
    with open(f"/proc/{pid}/timers") as f:
        return f.read().count("ID:")


def settled_timers(pid):
    """Its threads give themselves timers one after the other."""
    seen = [timers(pid)]
    while len(seen) < 5 or len(set(seen[-5:])) > 1 or not seen[-1]:
        time.sleep(0.05)
        seen.append(timers(pid))
        assert len(seen) < 200, seen
    return seen[-1]


def what_a_program_records_itself_goes_on(work):
    with Target("work", settings=f"cpu=99,out={work}/own.fscope") as t:
        before = settled_timers(t.pid)
        said = t.record("--cpu", "-d", "300ms", "-o", f"{work}/c.pb.gz", cwd=work)
        assert "the program samples itself" in said, said
        t.record("--heap", "-d", "1s", "-o", f"{work}/h.pb.gz", cwd=work)  # which it does not
        assert value(Profile(f"{work}/h.pb.gz"), "alloc_space", "grow") > 0
        assert timers(t.pid) == before, (timers(t.pid), before)
        t.end()
    subprocess.run([FIBERSCOPE, "finish", "-o", f"{work}/own.%k", f"{work}/own.fscope"], check=True, capture_output=True)
    assert value(Profile(f"{work}/own.cpu"), "cpu", "burn_three") > 0.3e9


def a_worker_forked_later_can_be_called(work):
    with Target("master") as t:
        t.record("--heap", "-d", "200ms", cwd=work)
        t.process.send_signal(signal.SIGUSR1)
        worker = int(t.process.stdout.readline())
        harness.record("-p", str(worker), "--heap", "-d", "1s", "-o", f"{work}/w.pb.gz", cwd=work, check=0)
        assert value(Profile(f"{work}/w.pb.gz"), "alloc_space", "grow") > 0
        os.kill(worker, signal.SIGKILL)
        t.end()


def execs_survive_calls(work):
    """A call that comes while the program executes another one."""
    env = dict(os.environ, LD_PRELOAD=AGENT)
    for _ in range(4 if not FULL else 40):
        p = subprocess.Popen(["sh", "-c", "n=0; while [ $n -lt 60 ]; do n=$((n+1)); done; exec " + TARGET + " work 0.3"],
                             env=env, stdout=subprocess.PIPE, text=True)
        while p.poll() is None:
            harness.record("-p", str(p.pid), "--heap", "-d", "1ms", "-q", "-o", f"{work}/x.pb.gz", cwd=work)
        assert p.returncode == 0, p.returncode


def killed_collectors_leave_nothing(work):
    kinds = ["--cpu", "--wall", "--heap", "--block", "--mutex", "--trace"]
    with Target("waits", "300") as t:
        for _ in range(500 if FULL else 20):
            some = random.sample(kinds, random.randint(1, 4))
            one = subprocess.Popen([FIBERSCOPE, "record", "-q", "-p", str(t.pid), *some, "-d", "5s", "-o", f"{work}/p/"],
                                   start_new_session=True, stderr=subprocess.DEVNULL)
            time.sleep(random.random() ** 2 * 0.3)
            os.killpg(one.pid, signal.SIGKILL)
            one.wait()
            assert t.process.poll() is None, "the target has died"
        t.record("--wall", "--heap", "-d", "300ms", "-o", f"{work}/last/", cwd=work)
        said = t.end()
        assert re.search(r"broken 0$", said.strip()), said


if __name__ == "__main__":
    main([all_kinds_at_once, off_again_and_once_more, the_program_notices_nothing, a_trace_of_threads_and_fibers,
          a_join_that_was_there_is_no_lost_wake_up, two_collectors, children_are_followed, refusals_say_why, what_a_signal_would_end_is_not_disturbed,
          what_a_program_records_itself_goes_on, a_worker_forked_later_can_be_called, execs_survive_calls,
          killed_collectors_leave_nothing])
