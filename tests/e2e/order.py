#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Lock-order inversions: what `fiberscope waits` finds with the agent in, against the known truth of each program and
against helgrind, where that has the same rules."""

import json
import os
import re
import subprocess

import harness

AGENT = os.path.join(harness.BUILD, "agent", "libfiberscope.so")
THREADS = os.path.join(harness.TESTS, "order_target")
CPP = os.path.join(harness.TESTS, "order_target_cc")
FIBERS = os.path.join(harness.TESTS, "order_fibers")

# What each program holds: the locks of each inversion; of each circle that too few threads made; of each under a
# common lock.
AB = ["g_a", "g_b"]
TRUTH = {
    "abba": ([AB], [], []),
    "abc": ([["g_a", "g_b", "g_c"]], [], []),
    "straight": ([], [], []),
    "gate": ([], [], [AB]),
    "half_gate": ([AB], [], []),
    "two_gates": ([AB], [], []),
    "inner_gate": ([["g_a", "g_gate"], ["g_b", "g_gate"]], [], [AB]),
    "gate_then_none": ([AB], [], []),
    "trylock": ([], [], []),
    "tried_first": ([AB], [], []),
    "timed": ([], [], []),
    "recursive": ([], [], []),
    "recursive_inverted": ([["g_b", "g_recursive"]], [], []),
    "handed": ([], [], []),
    "chain": ([], [["g_a", "g_b", "g_c"]], []),
    "two_chains": ([["g_a", "g_b", "g_c"]], [], []),
    "read_read": ([], [], []),
    "read_queues": ([["g_qa", "g_qb"]], [], []),
    "read_write": ([["g_ra", "g_rb"]], [], []),
    "write_read": ([], [], []),
    "try_write": ([], [], []),
    "read_gate": ([AB], [], []),
    "write_gate": ([], [], [AB]),
    "cond": ([AB], [], []),
    "cond_plain": ([], [], []),
    "c11": ([["g_ma", "g_mb"]], [], []),
    "forked": ([], [], []),
    "one_thread": ([], [AB], []),
    "destroyed": ([], [], []),
}
CPP_TRUTH = {
    "scoped": ([], [], []),
    "guards": ([AB], [], []),
    "shared": ([["g_a", "g_s"]], [], []),
}
FIBER_TRUTH = {
    "abba": ([AB], [], []),
    "trylock": ([], [], []),
    "gate": ([], [], [AB]),
    "one_fiber": ([], [AB], []),
    "read_write": ([["g_ra", "g_rb"]], [], []),
    "cond": ([AB], [], []),
    "crowd": ([], [], []),
    "mixed": ([["g_a", "g_posix"]], [], []),
}
# Helgrind tells of these without regard to threads and common locks; of the others it knows less than we do (time
# limits, conditions, C11). And it takes for an order what waits for nothing: a trylock, a reader behind a reader.
HELGRIND = ("abba", "abc", "straight", "gate", "half_gate", "two_gates", "gate_then_none", "trylock",
            "tried_first",
            "recursive", "recursive_inverted", "chain", "two_chains", "one_thread", "destroyed", "read_write", "write_read")
HELGRIND_ALONE = ("trylock", "write_read")
KINDS = ("inversion", "few threads", "common lock")


class Target:
    """A program with the agent in, that has said "ready"."""

    def __init__(self, program, case, work, settings="order=1"):
        env = dict(os.environ, LD_PRELOAD=AGENT)
        if settings is not None:
            env["FIBERSCOPE"] = settings + ",quiet=1,out=order.%p.dump"
        self.process = subprocess.Popen([program, case], cwd=work, env=env, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self.pid = self.process.pid
        self.dump = os.path.join(work, f"order.{self.pid}.dump")
        self.said = []
        self.wait_ready()

    def wait_ready(self):
        for line in self.process.stdout:
            if line == "ready\n":
                return
            self.said.append(line.strip())
        raise AssertionError(f"it ended early, status {self.process.wait()}")

    def again(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.wait_ready()

    def finish(self):
        self.process.stdin.close()
        assert self.process.wait(timeout=30) == 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def waits(what, *options, status=0):
    done = subprocess.run([harness.FIBERSCOPE, "waits", *options, str(what)], text=True, capture_output=True,
                          timeout=60, check=False)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def order_of(what, *options, status=0):
    return json.loads(waits(what, "--json", *options, status=status)).get("lock_order")


def circles(order, kind):
    """The locks of each, by name or, where they have none, by address."""
    return sorted(sorted(o["held"].get("lock", o["held"]["object"]) for o in c["orders"])
                  for c in order["circles"] if c["kind"] == kind)


def check_case(program, case, truth, work):
    with Target(program, case, work) as t:
        order = order_of(t.pid)
        got = tuple(circles(order, kind) for kind in KINDS)
        want = tuple(sorted(sorted(c) for c in kind) for kind in truth)
        assert got == want, f"{case}: {got}, not {want}"
        assert not order["lost_orders"] and not order["lost_held"], order
        waits(t.pid, "--inversions-fail", "--no-stacks", status=3 if truth[0] else 0)
        t.finish()
    # The same out of what the program left.
    left = order_of(t.dump, "--inversions-fail", status=3 if truth[0] else 0)
    assert [len(circles(left, kind)) for kind in KINDS] == [len(k) for k in truth], (case, left)
    return order


def what_threads_do(work):
    for case, truth in TRUTH.items():
        check_case(THREADS, case, truth, work)


def what_cpp_does(work):
    for case, truth in CPP_TRUTH.items():
        check_case(CPP, case, truth, work)


def what_fibers_do(work):
    for case, truth in FIBER_TRUTH.items():
        order = check_case(FIBERS, case, truth, work)
        if case == "abba":
            by = [b["kind"] for o in order["circles"][0]["orders"] for b in o["by"]]
            assert by == ["goroutine"] * 2, order["circles"]


def as_helgrind_does(work):
    """Helgrind says "lock order violated" where we say that there is a circle of any kind."""
    for case in HELGRIND:
        done = subprocess.run(["valgrind", "--tool=helgrind", THREADS, case], cwd=work, text=True, capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=120, check=False)
        assert "ready" in done.stdout, done.stderr
        says = bool(re.search(r"lock order .* violated", done.stderr))
        assert says == (any(TRUTH[case]) or case in HELGRIND_ALONE), (case, done.stderr[:4000])


def stacks_of_both_sides(work):
    with Target(THREADS, "abba", work) as t:
        orders = order_of(t.pid)["circles"][0]["orders"]
        for o in orders:
            first = o["held"]["lock"]
            where = "take_ab" if first == "g_a" else "take_ba"
            for side in ("held", "taken"):
                names = [f["function"] for f in o[side]["stack"]]
                # In the program's own lock(), called where it says.
                assert names[:2] == ["lock", where] and names[-1] in ("clone3", "__clone3", "clone"), names
                place = o[side]["stack"][0]["place"]
                assert re.search(r"order_target\.c:\d+$", place), place
            assert o["count"] == 1 and len(o["by"]) == 1 and not o["by_others"], o
        assert orders[0]["by"] != orders[1]["by"], orders
        text = waits(t.pid)
        assert "Lock-order inversion 1:" in text and "Found 1 lock-order inversion in 2 orders of 2 locks." in text
        assert re.search(r"mutex g_a \(0x[0-9a-f]+\),\n  then mutex g_b \(0x[0-9a-f]+\):\n  1 time, first after "
                         r"\d+\.\d{3} s, by thread \d+\n", text), text
        assert text.count("\tat take_ab (order_target.c:") == 2, text
    with Target(THREADS, "gate", work) as t:
        text = waits(t.pid)
        assert "inversion 1:" not in text and "1 more under a common lock (--all)." in text, text
        assert "Order that is inverted under a common lock 1:" in waits(t.pid, "--all")


def a_deadlock_that_happens(work):
    with Target(THREADS, "dead", work) as t:
        seen = json.loads(waits(t.pid, "--json", "--inversions-fail", status=1))
        assert len(seen["deadlocks"]) == 1, seen
        assert circles(seen["lock_order"], "inversion") == [AB], seen["lock_order"]


def records(pid):
    """What `ps` says that is recorded."""
    done = subprocess.run([harness.FIBERSCOPE, "ps", "--json"], text=True, capture_output=True, check=True)
    return [p["records"] for p in json.loads(done.stdout) if p["pid"] == pid][0]


def switched_on_and_off(work):
    with Target(THREADS, "again", work, settings=None) as t:
        t.again()
        assert order_of(t.pid) is None, "nobody asked for it"
        order = order_of(t.pid, "--order=on")
        assert order["is_on"] and not order["orders"], order
        assert records(t.pid) == "order", records(t.pid)
        t.again()
        order = order_of(t.pid)
        assert circles(order, "inversion") == [AB], order
        t.again()
        assert [o["count"] for o in order_of(t.pid)["circles"][0]["orders"]] == [2, 2]
        order = order_of(t.pid, "--order=off")
        assert not order["is_on"] and circles(order, "inversion") == [AB], order
        assert records(t.pid) == "", records(t.pid)
        t.again()
        order = order_of(t.pid)
        assert [o["count"] for o in order["circles"][0]["orders"]] == [2, 2], "it is off"
        order_of(t.pid, "--order=on")
        t.again()
        order = order_of(t.pid)
        assert [o["count"] for o in order["circles"][0]["orders"]] == [3, 3], order


def what_has_no_room(work):
    with Target(THREADS, "many", work) as t:
        order = order_of(t.pid)
        assert order["lost_held"] == 40 - 16 and not circles(order, "inversion"), order
        assert "Incomplete: 0 orders and 24 held locks found no room." in waits(t.pid)
    with Target(THREADS, "flood", work) as t:
        order = order_of(t.pid)
        # 6,000 locks, where there is room for 4,096.
        assert order["locks"] <= 4096 and order["orders"] + order["lost_orders"] == 3000, order
        assert order["orders"] > 1500 and order["lost_orders"] > 500, order
    with Target(THREADS, "churn", work) as t:
        order = order_of(t.pid)
        assert not order["lost_orders"] and not order["locks"] and not order["orders"], order


def no_false_inversion(work):
    for _ in range(5):
        with Target(THREADS, "stress", work) as t:
            order = order_of(t.pid)
            assert not order["circles"] and order["locks"] == 4 and order["orders"] >= 6, order
            assert not order["lost_orders"] and not order["lost_held"], order


def a_program_without(work):
    with Target(THREADS, "abba", work, settings="mutex=1") as t:
        assert order_of(t.pid) is None
        assert "lock-order" not in waits(t.pid)
        t.finish()
    said = subprocess.run([harness.FIBERSCOPE, "waits", t.dump], text=True, capture_output=True, check=False)
    assert said.returncode == 2 and "was not recorded" in said.stderr, said
    with subprocess.Popen([THREADS, "abba"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        p.stdout.readline()
        said = subprocess.run([harness.FIBERSCOPE, "waits", "--order=on", str(p.pid)], text=True, capture_output=True,
                              check=False)
        assert said.returncode == 2 and f"`fiberscope attach -p {p.pid}`" in said.stderr, said
        p.stdin.close()


def with_a_collector(work):
    """The segment belongs to `record`, and is read all the same."""
    out = os.path.join(work, "m.pb.gz")
    env = dict(os.environ, FIBERSCOPE="order=1")
    with subprocess.Popen([harness.FIBERSCOPE, "record", "--mutex", "-o", out, THREADS, "abba"], cwd=work, env=env,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        for line in p.stdout:
            if line == "ready\n":
                break
        child = subprocess.run(["pgrep", "-P", str(p.pid)], text=True, capture_output=True, check=True).stdout.split()
        assert circles(order_of(child[0]), "inversion") == [AB]
        p.stdin.close()
        assert p.wait(timeout=30) == 0


harness.main([what_threads_do, what_cpp_does, what_fibers_do, as_helgrind_does, stacks_of_both_sides,
              a_deadlock_that_happens, switched_on_and_off, what_has_no_room, no_false_inversion, a_program_without,
              with_a_collector])
