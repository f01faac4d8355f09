#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Block and mutex profiles say what the program itself measured: who waited how often and how long, whose
unlock ended it, and what the lock is called."""

import os
import re
import subprocess

from harness import FIBERSCOPE, TESTS, Profile, main

TARGET = os.path.join(TESTS, "lock_target")


def record(work, case, *options):
    """The target's own account [(kind, function, count, ns)], and both profiles."""
    done = subprocess.run([FIBERSCOPE, "record", "--block=1", "--mutex", *options, "-o", f"{work}/",
                           TARGET, case], cwd=work, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("ok\n"), done.stdout
    truth = [(kind, function, int(n), int(ns)) for kind, function, n, ns in
             re.findall(r"^(block|mutex) (\w+) (\d+) (\d+)$", done.stdout, re.M)]
    profiles = {}
    for kind in ("block", "mutex"):
        (name,) = [f for f in os.listdir(work) if f.endswith(f".{kind}.pb.gz")]
        profiles[kind] = Profile(f"{work}/{name}")
        assert profiles[kind].sample_types == [("contentions", "count"), ("delay", "nanoseconds")]
    return truth, profiles


def at(profile, function):
    """Samples whose caller of the pthread function is this one: the leaf, but for what was inlined."""
    return [s for s in profile.samples if s.stack and s.stack[0] == function]


def agrees(work, case, lock=None, options=()):
    """Per function (and lock, where a function waits for several)."""
    truth, profiles = record(work, case, *options)
    assert truth, "the target knows nothing"
    for kind, function, count, ns in truth:
        samples = [s for s in at(profiles[kind], function) if lock in (None, s.labels.get("lock"))]
        got = sum(s.values[1] for s in samples)
        # 2 %, and what scheduling puts between the target's clock and ours.
        assert abs(got - ns) <= 0.02 * ns + 3e6, f"{case}: {kind} {function}: {got} ns, {ns} measured"
        n = sum(s.values[0] for s in samples)
        assert n == count, f"{case}: {kind} {function}: {n} contentions, not {count}"
    return profiles


def names(samples):
    return {s.labels.get("lock") for s in samples}


def a_mutex(work):
    p = agrees(work, "mutex")
    assert names(at(p["block"], "wait_mutex")) == {"known_mutex"}, names(at(p["block"], "wait_mutex"))
    assert names(at(p["mutex"], "release_mutex")) == {"known_mutex"}
    # All that was waited for the mutex is charged to somebody's unlock, but for the time to wake up.
    waited = sum(s.values[1] for s in at(p["block"], "wait_mutex"))
    charged = sum(s.values[1] for s in p["mutex"].samples)
    assert 0.97 * waited - 3e6 <= charged <= waited * 1.001, (waited, charged)


def a_lock_is_named_by_who_made_it(work):
    p = agrees(work, "made")
    (name,) = names(at(p["block"], "wait_made"))
    assert re.fullmatch(r"mutex at make_lock lock_target\.c:\d+", name), name


def line_of(text, source="lock_target.c"):
    with open(os.path.join(os.path.dirname(__file__), source), encoding="utf-8") as f:
        rows = f.read().splitlines()
    return next(i for i, row in enumerate(rows, 1) if text in row)


def allocated_in(function):
    """The name of the lock in struct holder by its malloc, in the line after the function's brace."""
    at = line_of(f"*{function}(void)") + 2
    return f"{function} lock_target.c:{at} +0x18"


def a_lock_that_no_call_makes_is_named_by_its_block(work):
    p = agrees(work, "held", options=["--heap=exact"])
    for kind, function in (("block", "wait_made"), ("mutex", "release_mutex")):
        assert names(at(p[kind], function)) == {f"mutex at {allocated_in('make_holder')}"}, names(at(p[kind], function))
    # At this rate a block of 64 bytes is sampled with the probability 1 - e^-32.
    folder = f"{work}/sampled"
    os.mkdir(folder)
    _, p = record(folder, "held", "--heap=2")
    assert names(at(p["block"], "wait_made")) == {f"mutex at {allocated_in('make_holder')}"}
    folder = f"{work}/alone"
    os.mkdir(folder)
    _, p = record(folder, "held")
    (name,) = names(at(p["block"], "wait_made"))
    assert re.fullmatch("mutex 0x[0-9a-f]+", name), name


def a_std_mutex_is_named_by_who_made_its_object(work):
    source = "lock_held.cc"
    done = subprocess.run([FIBERSCOPE, "record", "--block=1", "--mutex", "--heap=exact", "-q", "-o", f"{work}/",
                           os.path.join(TESTS, "lock_held")], cwd=work, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    for kind in ("block", "mutex"):
        (name,) = [f for f in os.listdir(work) if f.endswith(f".{kind}.pb.gz")]
        named = names(Profile(f"{work}/{name}").samples) - {None}  # None: the join at the end
        want = rf"mutex at .*make_queue(\(\))? {re.escape(source)}:{line_of('std::make_unique', source)} \+0x20"
        assert len(named) == 1 and re.fullmatch(want, *named), (named, want)


def memory_that_was_two_locks_says_both(work):
    first, other = allocated_in("make_holder"), allocated_in("make_other")
    called = f"make_called lock_target.c:{line_of('CHECK(h && !pthread_mutex_init(&h->lock')}"
    for case, makers in (("reused", (first, other)), ("uncalled", (called, other))):
        folder = f"{work}/{case}"
        os.mkdir(folder)
        _, p = record(folder, case, "--heap=exact")
        (name,) = names(at(p["block"], "wait_made"))
        assert name.startswith("mutex at "), name
        assert sorted(name.removeprefix("mutex at ").split(" or ")) == sorted(makers), (name, makers)


def an_inner_unlock_owes_nothing(work):
    agrees(work, "recursive")


def readers_and_writers(work):
    for case in ("write", "read"):
        folder = f"{work}/{case}"
        os.mkdir(folder)
        p = agrees(folder, case)
        assert names(at(p["block"], f"wait_{case}")) == {"known_rwlock"}


def c11_mutexes(work):
    p = agrees(work, "c11")
    assert names(at(p["mutex"], "release_c11")) == {"c11"}


def others_that_wait(work):
    for case in ("sem", "cond", "barrier", "join"):
        folder = f"{work}/{case}"
        os.mkdir(folder)
        agrees(folder, case, None if case == "join" else case)


def both_profiles_agree_on_short_waits(work):
    # Two accounts of the same waits: by those who wait, sampled, and by those who unlock, all of them.
    truth, p = record(work, "short", "--block=1ms")
    ((_, _, count, _),) = truth
    block = [s for s in p["block"].samples if "case_short" in s.stack or "hold_shortly" in s.stack]
    waited = sum(s.values[1] for s in block if s.labels.get("lock") == "known_mutex")
    charged = sum(s.values[1] for s in p["mutex"].samples if s.labels.get("lock") == "known_mutex")
    assert count > 100 and waited > 0
    # The standard error of the sampled sum is below sqrt(rate * sum); waking up is charged to nobody.
    error = (1e6 * waited) ** 0.5
    assert 0.5 * waited - 4 * error <= charged <= waited + 4 * error, (waited, charged, error)


def locks_keep_their_meaning(work):
    record(work, "meaning")


if __name__ == "__main__":
    main([a_mutex, a_lock_is_named_by_who_made_it, a_lock_that_no_call_makes_is_named_by_its_block,
          a_std_mutex_is_named_by_who_made_its_object, memory_that_was_two_locks_says_both, an_inner_unlock_owes_nothing,
          readers_and_writers, c11_mutexes, others_that_wait,
          both_profiles_agree_on_short_waits, locks_keep_their_meaning])
