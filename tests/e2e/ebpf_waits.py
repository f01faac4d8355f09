#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""record --offcpu, --wall and --wakeups by eBPF: threads that know themselves how long they did not run, and why."""

import collections
import os
import re
import signal
import subprocess
import time

import harness
from ebpf import begun, ended
from harness import FIBERSCOPE, TESTS, Profile, record

TARGET = os.path.join(TESTS, "ebpf_waits_target")
TYPES = [("waits", "count"), ("waiting", "nanoseconds"), ("runnable", "nanoseconds"), ("offcpu", "nanoseconds")]
WAITS, WAITING, RUNNABLE, OFFCPU = range(4)
Truth = collections.namedtuple("Truth", "name tid wall cpu delay")


def recorded(work, *args, does, method=("--method=ebpf",), check=0):
    done = record(*method, "-o", work + "/", *args, TARGET, *does, cwd=work, check=check)
    rows = [line.split() for line in done.stdout.splitlines() if not line.startswith("ready")]
    profiles = {name.split(".")[-3]: Profile(os.path.join(work, name))
                for name in os.listdir(work) if name.endswith(".pb.gz")}
    for name in os.listdir(work):
        os.remove(os.path.join(work, name))
    return profiles, [Truth(r[0], int(r[1]), *map(int, r[2:])) for r in rows], done.stderr


def of(truth, function):
    return lambda s: s.labels.get("tid") == truth.tid and function in s.stack


def near(value, want, share, what):
    """Within a share, and what reading clocks and a first switch take."""
    print(f"      {what}: {value / 1e6:.2f} ms, {want / 1e6:.2f} by its own account")
    harness.close(value, want, share * want + 3e6, what)


FUNCTIONS = {"napper": "take_naps", "rival": "compete", "trier": "try_locks"}


def what_a_thread_does_not_run_is_in_its_functions(work):
    """Asleep, in a lock's queue and in a processor's: all of it, and told apart."""
    got, truths, said = recorded(work, "--offcpu", "--wall=999", does=("nap", "compete", "lock"))
    off, wall = got["offcpu"], got["wall"]
    assert off.sample_types == TYPES and wall.sample_types == [("samples", "count"), ("wall", "nanoseconds")]
    assert len(truths) == 4, said
    for t in truths:
        where = of(t, FUNCTIONS[t.name])
        near(off.total(OFFCPU, where), t.wall - t.cpu, 0.03, f"{t.name} off the processor")
        near(off.total(RUNNABLE, where), t.delay, 0.05, f"{t.name} runnable")
        if t.name != "rival":  # what the host takes is in no one's account
            near(off.total(WAITING, where), t.wall - t.cpu - t.delay, 0.03, f"{t.name} waiting")
        near(wall.total(1, where), t.wall, 0.03 if t.name != "rival" else 0.1, f"{t.name} on the wall")
        harness.close(wall.total(0, where), wall.total(1, where) * 999 / 1e9, 20, f"{t.name}'s samples")
    rivals = [t for t in truths if t.name == "rival"]
    assert min(t.delay for t in rivals) > 200e6, "they were no rivals"
    naps = off.total(WAITS, lambda s: "take_naps" in s.stack and s.values[WAITING])
    assert 97 <= naps <= 110, naps  # one that was due before the thread had left its processor is none
    assert re.search(r"offcpu: [\d,]+ waits \([\d.]+ s, of these [\d.]+ s for a processor\)", said), said
    assert "wait_for_lock" in [n for s in off.samples for n in s.stack]


def one_in_so_many_stands_for_all(work):
    got, truths, _ = recorded(work, "--offcpu=4", does=("nap",))
    t = truths[0]
    share = got["offcpu"].total(OFFCPU, of(t, "take_naps")) / (t.wall - t.cpu)
    print(f"      {share:.2f} of the whole")  # 25 of 100 are taken, with 4.3 to one side or the other
    assert 0.25 < share < 2.0 and got["offcpu"].total(WAITS) % 4 == 0


def the_agents_profiles_say_the_same(work):
    inside, (own,), _ = recorded(work, "--wall=499", "--block=1", does=("lock",), method=())
    outside, (t,), _ = recorded(work, "--offcpu", "--wall=499", does=("lock",))
    held = inside["block"].total(1, lambda s: "wait_for_lock" in s.stack) / own.wall
    ours = outside["offcpu"].total(OFFCPU, of(t, "wait_for_lock")) / t.wall
    print(f"      waits for the lock: {100 * held:.1f} % of the thread's time inside, {100 * ours:.1f} % outside")
    harness.close(ours, held, 0.03, "waits for the lock")
    theirs = inside["wall"].total(1, of(own, "try_locks")) / own.wall
    ours = outside["wall"].total(1, of(t, "try_locks")) / t.wall
    print(f"      on the wall {theirs:.3f} inside, {ours:.3f} outside")
    harness.close(ours, theirs, 0.03, "on the wall")


def who_wakes_is_named(work):
    got, truths, _ = recorded(work, "--wakeups", does=("knock",))
    p, porter = got["wakeups"], truths[0]
    assert p.sample_types == [("wakeups", "count"), ("delay", "nanoseconds")]
    knocks = lambda s: "knock" in s.stack and s.labels.get("woken") == "porter"
    assert 190 <= p.total(0, knocks) <= 200, p.total(0, knocks)
    assert {s.labels["woken_tid"] for s in p.samples if knocks(s)} == {porter.tid}
    near(p.total(1, knocks), porter.wall - porter.cpu - porter.delay, 0.05, "the porter had waited")
    answers = lambda s: "stand_at_door" in s.stack and s.labels.get("woken") == "ebpf_waits_targ"
    assert p.total(0, answers) > 0  # others may come before it waits
    timers = [s for s in p.samples if s.labels.get("process") == "[interrupt]"]
    assert sum(s.values[0] for s in timers) >= 190 and not any("knock" in s.stack for s in timers), timers


def who_waits_before_and_after_is_there(work):
    """One thread waits from before the recording, and is killed in that wait."""
    target = subprocess.Popen([TARGET, "idle"], stdout=subprocess.PIPE, text=True)
    target.stdout.readline()
    time.sleep(0.2)
    try:
        for how in ("time", "kill"):
            path = os.path.join(work, "e.pb.gz")
            r = subprocess.Popen([FIBERSCOPE, "record", "--offcpu", "-o", path, "-p", str(target.pid),
                                  *(["-d", "1s"] if how == "time" else [])], stderr=subprocess.PIPE, text=True)
            begun(r)
            at = time.monotonic()
            if how == "kill":
                time.sleep(0.7)
                target.kill()
            said = ended(r)
            p, took = Profile(path), time.monotonic() - at
            idle = p.total(OFFCPU, lambda s: "wait_for_ever" in s.stack)
            joins = p.total(OFFCPU, lambda s: "main" in s.stack)
            print(f"      {how}: {idle / 1e9:.3f} and {joins / 1e9:.3f} s in {took:.3f} s")
            if how == "time":  # neither ran: what the profile says that it took, they waited
                assert idle == joins == p.duration, p.duration
            assert abs(idle - joins) < 50e6 and 0.6e9 < idle < took * 1e9 + 0.3e9, said
            assert {s.stack[-1] for s in p.samples} <= {"_start", "__clone3", "clone3"}, [s.stack for s in p.samples]
    finally:
        target.kill()
        target.wait()
        target.stdout.close()


def children_and_what_they_execute_wait_too(work):
    got, truths, _ = recorded(work, "--offcpu", does=("child",))
    off = got["offcpu"]
    near(off.total(WAITING, lambda s: "child_nap" in s.stack), 300e6, 0.03, "the child's nap")
    near(off.total(OFFCPU, of(truths[0], "take_naps")), truths[0].wall - truths[0].cpu, 0.03, "what it executed")
    parent = off.total(OFFCPU, lambda s: "of_child" in s.stack and "child_nap" not in s.stack)
    assert parent > 300e6 + truths[0].wall, parent
    assert off.total(OFFCPU, lambda s: "take_naps" not in s.stack and "child_nap" not in s.stack) < 3e9


def a_full_ring_is_counted(work):
    path = os.path.join(work, "e.pb.gz")
    r = subprocess.Popen([FIBERSCOPE, "record", "--offcpu", "-a", "-o", path], stderr=subprocess.PIPE, text=True)
    begun(r)
    os.kill(r.pid, signal.SIGSTOP)  # of new programs stacks come as copies, and nobody takes them
    others = [subprocess.Popen([TARGET, "nap", "nap", "knock"], stdout=subprocess.DEVNULL) for _ in range(2)]
    for other in others:
        other.wait(timeout=30)
    os.kill(r.pid, signal.SIGCONT)
    time.sleep(0.3)
    r.send_signal(signal.SIGINT)
    said = ended(r)
    dropped = re.search(r"([\d,]+) dropped", said)
    assert dropped and int(dropped.group(1).replace(",", "")) > 100, said


def other_ways_refuse_it(work):
    for args, says in ((("--offcpu", "--method=perf", "-p", "1"), "by eBPF alone"),
                       (("--wakeups", "--method=inject", "-p", "1"), "by eBPF alone"),
                       (("--offcpu=0", "true"), "a number from 1")):
        done = record(*args, "-o", os.path.join(work, "r.pb.gz"), cwd=work)
        assert done.returncode in (1, 2) and says in done.stderr, (args, done.stderr)
    assert os.listdir(work) == []


if __name__ == "__main__":
    harness.skip_without_bpf()
    harness.main([
        what_a_thread_does_not_run_is_in_its_functions,
        one_in_so_many_stands_for_all,
        the_agents_profiles_say_the_same,
        who_wakes_is_named,
        who_waits_before_and_after_is_there,
        children_and_what_they_execute_wait_too,
        a_full_ring_is_counted,
        other_ways_refuse_it,
    ])
