#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`fiberscope waits` finds exactly the deadlocks that its targets say they made, and none where there is none."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time

import harness

THREADS = os.path.join(harness.TESTS, "waits_target")
FIBERS = os.path.join(harness.TESTS, "waits_fibers")


class Target:
    """A target that has said "ready"; what it said before is in `said`, by the first word."""

    def __init__(self, program, case, work, prefix=(), **more):
        self.process = subprocess.Popen([*prefix, program, case], cwd=work, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **more)
        self.pid = self.process.pid
        self.said = {}
        for line in self.process.stdout:
            word, *rest = line.rstrip("\n").split(" ", 1)
            if word == "ready":
                time.sleep(0.2)  # whoever said so waits after that
                return
            self.said.setdefault(word, []).append(rest[0] if rest else "")
        raise AssertionError(f"{case} ended early: {self.said}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def waits(what, *options, status=None, **more):
    done = subprocess.run([harness.FIBERSCOPE, "waits", *options, str(what)], text=True,
                          capture_output=True, timeout=60, check=False, **more)
    if status is not None:
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done


def who(word):
    """"g7", "t4711" or "4711": as JSON has it."""
    return ("goroutine" if word[0] == "g" else "thread", int(word.lstrip("gt")))


class Seen:
    """What --json says."""

    def __init__(self, what, *options, status):
        self.status = status
        self.all = json.loads(waits(what, "--json", *options, status=status).stdout)
        self.nodes = {("thread", n["id"]): n for n in self.all["threads"]}
        self.nodes.update({("goroutine", n["id"]): n for n in self.all["goroutines"]})

    def circles(self, certain=True):
        return [[(c["kind"], c["id"]) for c in d["circle"]] for d in self.all["deadlocks"]
                if d["is_certain"] == certain]

    def check_wait(self, waiter, lock, holder):
        n = self.nodes[who(waiter)]
        held = n["held_by"]["kind"], n["held_by"]["id"]
        assert lock in (n.get("lock"), n["what"].split(" ")[0]) and held == who(holder), (n, lock, holder)

    def functions(self, waiter):
        return [f["function"] for f in self.nodes[who(waiter)].get("stack", [])]


def check_deadlock(seen, wants, also=(), certain=True):
    """wants: "WAITER LOCK HOLDER", a circle in all."""
    assert wants, "the target says what it made"
    triples = [w.split(" ") for w in wants]
    for waiter, lock, holder in triples:
        seen.check_wait(waiter, lock, holder)
    circles = seen.circles(certain)
    assert len(circles) == 1, seen.all["deadlocks"]
    assert not seen.circles(not certain), seen.all["deadlocks"]
    want = {who(w) for w, _, _ in triples} | {who(a) for a in also}
    assert len(circles[0]) == len(want) and set(circles[0]) == want, (circles, want)
    # In the order of waiting.
    nexts = {who(w): who(h) for w, _, h in triples}
    for at, then in zip(circles[0], circles[0][1:] + circles[0][:1]):
        assert nexts.get(at, then) == then or at in map(who, also) or then in map(who, also), circles


def thread_case(case, where, work):
    with Target(THREADS, case, work) as t:
        seen = Seen(t.pid, status=1)
        check_deadlock(seen, t.said["want"])
        for want in t.said["want"]:
            got = seen.functions(want.split(" ")[0])
            assert where in got and got[-1] in ("__clone3", "clone3", "clone"), got
        assert t.process.poll() is None, "and it goes on waiting"
    return seen


def two_threads(work):
    seen = thread_case("two", "take_next", work=work)
    assert seen.all["program"] == "waits_target" and not seen.all["goroutines"], seen.all


def threads_that_outlive_the_main_one(work):
    with Target(THREADS, "headless", work) as t:
        time.sleep(0.2)
        with open(f"/proc/{t.pid}/status", encoding="ascii") as f:
            assert "State:\tZ" in f.read(), "its main thread has ended"
        seen = Seen(t.pid, status=1)
        check_deadlock(seen, t.said["want"])
        for want in t.said["want"]:
            assert "take_next" in seen.functions(want.split(" ")[0]), seen.all


def three_threads(work):
    thread_case("three", "take_next", work=work)


def one_thread_with_itself(work):
    thread_case("self", "take_next", work=work)


def recursive_mutexes_taken_twice(work):
    seen = thread_case("recursive", "take_next", work=work)
    assert any("recursive mutex" in n["what"] for n in seen.nodes.values()), seen.all


def error_checking_mutexes(work):
    seen = thread_case("errorcheck", "take_next", work=work)
    assert any("error-checking mutex" in n["what"] for n in seen.nodes.values()), seen.all


def adaptive_mutexes(work):
    thread_case("adaptive", "take_next", work=work)


def robust_mutexes_of_four(work):
    thread_case("robust", "take_next", work=work)


def writers_of_rwlocks(work):
    thread_case("rwlock", "pair_member", work=work)


def a_rwlock_and_a_mutex(work):
    thread_case("rwlock_mutex", "pair_member", work=work)


def the_lock_of_a_FILE(work):
    thread_case("file", "pair_member", work=work)


def a_join(work):
    with Target(THREADS, "join", work) as t:
        seen = Seen(t.pid, status=1)
        check_deadlock(seen, t.said["want"])
        text = waits(t.pid, "--no-stacks", status=1).stdout
        waiter, _, holder = t.said["want"][0].split(" ")
        assert re.search(rf'^thread {waiter} ".*":\n  waits for the end of thread {holder} ', text,
                         re.M), text


def threads_that_signals_wake_all_the_time(work):
    with Target(THREADS, "signals", work) as t:
        check_deadlock(Seen(t.pid, status=1), t.said["want"])


def a_wait_with_a_limit_is_no_deadlock(work):
    with Target(THREADS, "timed", work) as t:
        seen = Seen(t.pid, status=0)
        for held in t.said["held"]:
            seen.check_wait(*held.split(" "))
        assert not seen.all["deadlocks"], seen.all["deadlocks"]
        assert [n.get("has_time_limit") for n in seen.nodes.values()].count(True) == 1, seen.all


def all_kinds_of_waits_are_named(work):
    with Target(THREADS, "kinds", work) as t:
        seen = Seen(t.pid, status=0)
        for line in t.said["see"]:
            tid, text = line.split(" ", 1)
            what = seen.nodes[who(tid)]["what"]
            assert what.startswith(text), (what, text)
        held = [n for n in seen.nodes.values() if "held" in n]
        assert [n["held"] for n in held].count("holder") == 3, held
        assert all(n["held_by"]["id"] == int(t.said["holder"][0]) for n in held
                   if n["held"] == "holder"), held
        assert [n.get("readers") for n in held].count(1) == 1, "who holds g_index is not recorded"
        table = waits(t.pid, "--no-stacks", status=0).stdout
        rows = re.findall(r"^thread (\d+) .*  mutex g_first +thread (\d+) ", table, re.M)
        assert len(rows) == 1 and rows[0][1] == t.said["holder"][0], table
        assert table.rstrip().endswith("No deadlock found."), table


def a_sleep_that_goes_on_is_a_sleep():
    """Stopped and continued the kernel goes on with it under a number of its own."""
    with subprocess.Popen(["sleep", "60"]) as p:
        try:
            time.sleep(0.2)
            os.kill(p.pid, signal.SIGSTOP)
            time.sleep(0.1)
            os.kill(p.pid, signal.SIGCONT)
            time.sleep(0.1)
            assert re.search(rf"^thread {p.pid} .* sleep ", waits(p.pid, status=0).stdout, re.M)
        finally:
            p.kill()


def a_holder_that_has_ended(work):
    with Target(THREADS, "dead", work) as t:
        waiter, lock, holder = t.said["ended"][0].split(" ")
        seen = Seen(t.pid, status=0)
        assert seen.nodes[who(waiter)]["held"] == "ended", seen.all
        seen.check_wait(waiter, lock, holder)
        assert "which has ended" in waits(t.pid, status=0).stdout


def a_holder_in_another_process(work):
    with Target(THREADS, "shared", work) as t:
        seen = Seen(t.pid, status=0)
        held = [n for n in seen.nodes.values() if n.get("held") == "another process"]
        assert [n["held_by"]["id"] for n in held] == [int(t.said["outside"][0])], seen.all


def numbers_of_a_pid_namespace(work):
    if os.geteuid() != 0:
        raise harness.Skip("needs root for a pid namespace")
    with Target(THREADS, "two", work, prefix=["unshare", "-p", "-f", "--kill-child"]) as t:
        with open(f"/proc/{t.pid}/task/{t.pid}/children", encoding="ascii") as f:
            [child] = f.read().split()
        seen = Seen(child, status=1)
        inside = {}
        for tid in os.listdir(f"/proc/{child}/task"):
            with open(f"/proc/{child}/task/{tid}/status", encoding="ascii") as f:
                inside[re.search(r"^NSpid:.*\s(\d+)$", f.read(), re.M)[1]] = tid
        wants = [w.split(" ") for w in t.said["want"]]
        check_deadlock(seen, [f"{inside[w]} {lock} {inside[h]}" for w, lock, h in wants])


def core_of(program, case, work):
    with open("/proc/sys/kernel/core_pattern", encoding="ascii") as f:
        if f.read().strip() != "core":
            raise harness.Skip("core files go elsewhere here (kernel.core_pattern)")
    unlimited = lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
    with Target(program, case, work, preexec_fn=unlimited) as t:
        t.process.send_signal(6)
        t.process.wait()
    [core] = [n for n in os.listdir(work) if n.startswith("core")]
    return t, os.path.join(work, core)


def a_core_file_of_threads(work):
    t, core = core_of(THREADS, "three", work)
    seen = Seen(core, status=1)
    check_deadlock(seen, t.said["want"])
    for want in t.said["want"]:
        assert "take_next" in seen.functions(want.split(" ")[0]), seen.all


def a_core_file_that_is_cut_off_is_said_to_be(work):
    _, core = core_of(FIBERS, "two", work)
    size = os.path.getsize(core)
    assert not waits(core, status=1).stderr, "whole"
    for tenths in range(9, 0, -2):
        os.truncate(core, size * tenths // 10)
        done = waits(core)
        assert done.returncode in (0, 1) and "is cut off" in done.stderr, (tenths, done)
    os.truncate(core, 100)
    assert waits(core, status=2).stderr


def a_core_file_of_fibers(work):
    t, core = core_of(FIBERS, "blocked", work)
    check_deadlock(Seen(core, status=1), t.said["want"], [t.said["runs"][0].split(" ")[0]])


def a_core_file_without_its_fibers_stacks_says_so(work):
    """gdb's gcore stops reading a mapping at a guard page (Linux 6.13 and later); where there is none it is whole."""
    if not shutil.which("gcore"):
        raise harness.Skip("no gcore here")
    with Target(FIBERS, "two", work) as t:
        subprocess.run(["gcore", "-o", f"{work}/core", str(t.pid)], capture_output=True, timeout=60, check=False)
        path = f"{work}/core.{t.pid}"
        done = waits(path)
        stack = subprocess.run([harness.FIBERSCOPE, "stack", path], capture_output=True, text=True, timeout=60, check=True)
        if done.returncode == 1:
            check_deadlock(Seen(path, status=1), t.said["want"])
            return
        for said in (done, stack):
            assert "lacks stacks of fibers" in said.stderr and "not in the core file" in said.stdout, said


def maps_its_runtime_twice(pid):
    with open(f"/proc/{pid}/maps", encoding="utf8") as f:
        return sum(1 for line in f if "/libfiberscope-rt.so" in line and line.split()[2] == "00000000") > 1


def two_fibers(work):
    with Target(FIBERS, "two", work) as t:
        seen = Seen(t.pid, status=1)
        check_deadlock(seen, t.said["want"])
        for want in t.said["want"]:
            assert "lock_second" in seen.functions(want.split(" ")[0]), seen.all
        text = waits(t.pid, status=1).stdout
        assert re.search(r'^goroutine \d+ "left":\n  waits for sync.Mutex.Lock g_right \(0x[0-9a-f]+\),\n'
                         r'  which is held by goroutine \d+$', text, re.M), text
        assert text.rstrip().endswith("Found 1 deadlock."), text
        # To report it itself the runtime maps its library as a file, below where that is loaded.
        until = time.monotonic() + 10
        while time.monotonic() < until and not maps_its_runtime_twice(t.pid):
            time.sleep(0.1)
        assert maps_its_runtime_twice(t.pid), "the runtime has not reported it"
        check_deadlock(Seen(t.pid, status=1), t.said["want"])


def three_fibers_with_a_rwmutex_and_a_join(work):
    with Target(FIBERS, "three", work) as t:
        check_deadlock(Seen(t.pid, status=1), t.said["want"])


def a_thread_and_a_fiber_that_blocks_its_thread(work):
    with Target(FIBERS, "blocked", work) as t:
        fiber, thread = t.said["runs"][0].split(" ")
        seen = Seen(t.pid, status=1)
        check_deadlock(seen, t.said["want"], [fiber])
        assert seen.nodes[who(fiber)]["runs_on_thread"] == who(thread)[1], seen.all
        assert "start_blocked" in seen.functions(thread), "the fiber's stack is its thread's"


def a_thread_and_a_fiber_tied_to_its_thread(work):
    with Target(FIBERS, "tied", work) as t:
        thread, _ = t.said["tie"][0].split(" ")
        check_deadlock(Seen(t.pid, status=1), t.said["want"], [thread])


def a_fiber_parked_with_a_mutex_makes_it_possible_only(work):
    with Target(FIBERS, "untied", work) as t:
        seen = Seen(t.pid, status=0)
        assert not seen.circles(), seen.all["deadlocks"]
        [circle] = seen.circles(certain=False)
        assert set(circle) == {who(m.split(" ")[0]) for m in t.said["maybe"]}, (circle, t.said)
        assert "1 possible deadlock, not certain." in waits(t.pid, status=0).stdout


def if_all_fibers_wait_in_vain_it_is_certain(work):
    with Target(FIBERS, "alone", work) as t:
        seen = Seen(t.pid, status=1)
        for want in t.said["want"]:
            seen.check_wait(*want.split(" "))
        [circle] = seen.circles()
        assert set(circle) == {who(m.split(" ")[0]) for m in t.said["want"]}, (circle, t.said)
        assert not seen.circles(certain=False), seen.all["deadlocks"]


def a_crowd_of_fibers_is_summed_up(work):
    with Target(FIBERS, "crowd", work) as t:
        done = waits(t.pid, status=0)
        seen = Seen(t.pid, "--no-stacks", status=0)
    assert re.search(r"^5000 goroutines +chan receive$", done.stdout, re.M), done.stdout[-2000:]
    waiting = [n for n in seen.all["goroutines"] if n.get("lock") == "g_left"]
    assert len(waiting) == 5000, len(waiting)
    assert all((n["held_by"]["kind"], n["held_by"]["id"]) == who(t.said["crowd"][0])
               for n in waiting)
    assert "4997 more stacks with --all." in done.stdout, done.stdout[-500:]


def another_users_process_is_told_how(work):
    if os.geteuid() != 0:
        raise harness.Skip("needs root for a second user")
    with Target(THREADS, "two", work) as t:
        done = subprocess.run([*harness.NOBODY, harness.FIBERSCOPE, "waits", str(t.pid)], text=True,
                              capture_output=True, timeout=60, check=False)
        assert done.returncode == 2 and "run as that user, or with CAP_SYS_PTRACE" in done.stderr, done
        assert not done.stdout, done.stdout
    with Target(THREADS, "two", work, prefix=harness.NOBODY) as t:
        done = subprocess.run([*harness.NOBODY, harness.FIBERSCOPE, "waits", str(t.pid)], text=True,
                              capture_output=True, timeout=60, check=False)
        assert done.returncode == 1, ("as its user", done.stdout, done.stderr)


def a_process_that_ends_meanwhile(work):
    # Its deadlock is looked at again after a pause; by then it is gone.
    with Target(THREADS, "two", work) as t:
        asked = subprocess.Popen([harness.FIBERSCOPE, "waits", "--pause=2s", str(t.pid)], text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(0.7)
        t.process.kill()
        t.process.wait()
        out, err = asked.communicate(timeout=60)
    assert asked.returncode == 2 and "has ended" in err and not out, (asked.returncode, out, err)
    done = waits(t.pid, status=2)
    assert "no process" in done.stderr, done.stderr


def usage_errors_are_2(work):
    assert waits("1", "2", status=2).stderr
    assert "fiberscope waits" in waits(os.path.join(work, "none"), status=2).stderr
    with open(os.path.join(work, "no-core"), "w", encoding="ascii") as f:
        f.write("text")
    assert "core" in waits(f.name, status=2).stderr


def no_stacks_stops_nothing(work):
    with Target(THREADS, "kinds", work) as t:
        assert Seen(t.pid, "--no-stacks", status=0).all["stopped_ns"] == 0


if __name__ == "__main__":
    harness.main([two_threads, threads_that_outlive_the_main_one, three_threads, one_thread_with_itself,
                  recursive_mutexes_taken_twice, error_checking_mutexes, adaptive_mutexes,
                  robust_mutexes_of_four, writers_of_rwlocks, a_rwlock_and_a_mutex,
                  the_lock_of_a_FILE, a_join, threads_that_signals_wake_all_the_time,
                  a_wait_with_a_limit_is_no_deadlock, all_kinds_of_waits_are_named, a_sleep_that_goes_on_is_a_sleep,
                  a_holder_that_has_ended, a_holder_in_another_process,
                  numbers_of_a_pid_namespace, a_core_file_of_threads, a_core_file_of_fibers,
                  a_core_file_without_its_fibers_stacks_says_so, a_core_file_that_is_cut_off_is_said_to_be,
                  two_fibers, three_fibers_with_a_rwmutex_and_a_join,
                  a_thread_and_a_fiber_that_blocks_its_thread,
                  a_thread_and_a_fiber_tied_to_its_thread,
                  a_fiber_parked_with_a_mutex_makes_it_possible_only,
                  if_all_fibers_wait_in_vain_it_is_certain, a_crowd_of_fibers_is_summed_up, another_users_process_is_told_how,
                  a_process_that_ends_meanwhile, usage_errors_are_2, no_stacks_stops_nothing])
