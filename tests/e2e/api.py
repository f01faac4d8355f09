#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The fscope_ API records what a program did by construction (api_target.c), linked and preloaded."""

import bisect
import json
import math
import os
import subprocess

import harness

TARGET = os.path.join(harness.TESTS, "api_target")
DUMP = os.path.join(harness.TESTS, "api_dump")
AGENT = os.path.join(harness.BUILD, "agent", "libfiberscope.so")


class Functions:
    """Names for file offsets of the target (its text segment lies at its own offsets)."""

    def __init__(self, path):
        rows = []
        for line in subprocess.run(["nm", path], capture_output=True, text=True,
                                   check=True).stdout.splitlines():
            words = line.split()
            if len(words) == 3 and words[1] in "tT":
                rows.append((int(words[0], 16), words[2]))
        self.rows = sorted(rows)

    def at(self, offset):
        i = bisect.bisect(self.rows, (offset, "\x7f")) - 1
        return self.rows[i][1] if i >= 0 else "?"


class Entry:
    def __init__(self, words, functions):
        self.kind = words[0]
        self.values = [int(w) for w in words[1:5]]
        self.labels = dict(pair.split("=", 1) for pair in words[5].split(",")) if words[5] else {}
        self.name = words[6]
        self.stack = []
        for frame in words[7].split(";")[:-1]:
            path, _, offset = frame.rpartition("+")
            self.stack.append(functions.at(int(offset, 16)) if path.endswith("/api_target")
                              else os.path.basename(path))


class Dump:
    def __init__(self, path):
        functions = Functions(TARGET)
        self.entries = []
        out = subprocess.run([DUMP, path], capture_output=True, text=True, check=True).stdout
        for line in out.splitlines():
            words = line.split("\t")
            if words[0] == "control":
                self.heap_rate = int(words[1])
            elif words[0] == "losses":
                self.state_full, self.blobs_full, self.reentered = map(int, words[1:])
            else:
                self.entries.append(Entry(words, functions))

    def of(self, kind, name=""):
        return [e for e in self.entries if e.kind == kind and e.name == name]

    def total(self, kind, value, name="", function=None):
        return sum(e.values[value] for e in self.of(kind, name)
                   if function is None or function in e.stack)

    def by_labels(self, kind, value, function):
        sums = {}
        for e in self.of(kind):
            if function in e.stack:
                key = tuple(sorted(e.labels.items()))
                sums[key] = sums.get(key, 0) + e.values[value]
        return sums


def run(case, work, **more):
    path = os.path.join(work, "dump")
    done = subprocess.run([TARGET, case, path], capture_output=True, text=True, timeout=60,
                          check=False, **more)
    assert done.returncode == 0 and done.stdout.endswith("ok\n"), \
        f"{case}: exit status {done.returncode}: {done.stdout}{done.stderr}"
    want = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("want ")]
    return Dump(path), want, path


def heap_exact_counts_between_start_and_stop(work):
    dump, [[_, objects, size]], _ = run("heap_exact", work)
    assert dump.total("heap", 0, function="make") == int(objects)
    assert dump.total("heap", 1, function="make") == int(size)
    assert dump.total("heap", 2, function="make") == int(objects), "all were freed"
    assert dump.heap_rate == 1, "a reader needs the rate after the stop too"


def heap_sampled_goes_on_when_sampling_of_time_stops(work):
    dump, [[_, objects, size, rate]], _ = run("heap_sampled", work)
    objects, size, rate = int(objects), int(size), int(rate)
    assert dump.heap_rate == rate
    sampled = dump.total("heap", 0, function="make")
    p = 1 - math.exp(-size / rate)
    error = math.sqrt(objects * p * (1 - p)) / p
    assert abs(sampled / p - objects) < 4 * error, (sampled / p, objects, error)


def counting_every_one_comes_first(work):
    dump, _, _ = run("exact_comes_first", work)
    assert dump.heap_rate == 524288


def locks_are_recorded_between_start_and_stop(work):
    dump, want, _ = run("locks", work)
    for kind, count, ns in want:
        assert dump.total(kind, 0, function="contend" if kind == "block" else "holder") == \
            int(count), kind
        # The waiter comes some ms after the holder took the mutex.
        got = dump.total(kind, 1, function="contend" if kind == "block" else "holder")
        assert int(ns) * 0.9 < got < int(ns) * 1.1 + 5e6, (kind, got, ns)


def order_in(path):
    """What `fiberscope waits` reads out of a file."""
    done = subprocess.run([harness.FIBERSCOPE, "waits", "--json", path], capture_output=True, text=True, timeout=60,
                          check=True)
    return json.loads(done.stdout)["lock_order"]


def locks_are_ordered_between_start_and_stop(work):
    _, _, path = run("order", work)
    got = order_in(path)
    assert not got["is_on"] and (got["orders"], got["locks"]) == (2, 2), got
    assert [c["kind"] for c in got["circles"]] == ["inversion"], got
    by = {o["held"]["stack"][0]["function"]: o["count"] for o in got["circles"][0]["orders"]}
    assert by == {"a_then_b": 1, "b_then_a": 1}, got
    child = order_in(path + ".child")
    assert child["is_on"] and child["orders"] == 1 and not child["circles"], child


def a_black_box_without_room_for_the_order_says_so(work):
    run("order_without_room", work, env=dict(os.environ, FIBERSCOPE=f"mutex=1,segment={work}/box,quiet=1"))
    # One that begins with it has.
    path = os.path.join(work, "box2")
    env = dict(os.environ, FIBERSCOPE=f"order=1,segment={path},quiet=1")
    done = subprocess.run([TARGET, "locks", os.path.join(work, "d")], capture_output=True, env=env, timeout=60, check=False)
    assert done.returncode == 0 and order_in(path)["is_on"], done


def labels_nest_and_end(work):
    dump, _, _ = run("labels", work)
    sums = dump.by_labels("heap", 0, "labelled")
    sixteen = tuple((f"k{i:02d}", "v") for i in range(16))
    assert sums == {
        (("request", "/login"),): 10 + 30 + 50,
        (("request", "/again"), ("user", "ann")): 20,
        (): 40 + 60 + 7,
        sixteen: 70,
        (("long", "y" * 255),): 80,
        (("empty", ""),): 90,
    }, sums


def labels_are_on_cpu_samples(work):
    dump, _, _ = run("labels_cpu", work)
    sums = dump.by_labels("cpu", 1, "burn_ms")
    one, two = sums.pop((("phase", "one"),)), sums.pop((("phase", "two"),))
    assert not sums or sum(sums.values()) < 5e6, sums
    harness.close(one, 300e6, 20e6, "phase one")
    harness.close(two, 600e6, 20e6, "phase two")


def labels_end_at_fork(work):
    dump, _, path = run("labels_fork", work)
    parent = dump.by_labels("heap", 0, "labelled")
    assert parent == {(("more", "x"), ("who", "parent")): 10, (("who", "parent"),): 50}, parent
    child = Dump(path + ".child")
    sums = child.by_labels("heap", 0, "labelled")
    assert sums == {(): 20 + 40, (("who", "child"),): 30}, sums


def finished(path, kind, work):
    done = subprocess.run([harness.FIBERSCOPE, "finish", path], cwd=work, capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    [name] = [f for f in os.listdir(work) if f.endswith(f".{kind}.pb.gz")]
    return harness.Profile(os.path.join(work, name))


def labels_are_labels_of_the_profile(work):
    _, _, path = run("labels", work)
    profile = finished(path, "heap", work)
    column = [t[0] for t in profile.sample_types].index("alloc_objects")
    sums = {}
    for sample in profile.samples:
        if "labelled" in sample.stack:
            ours = {k: v for k, v in sample.labels.items() if k in ("request", "user", "long")}
            key = tuple(sorted((k, str(v)) for k, v in ours.items()))
            sums[key] = sums.get(key, 0) + sample.values[column]
    assert sums == {
        (("request", "/login"),): 10 + 30 + 50,
        (("request", "/again"), ("user", "ann")): 20,
        (("long", "y" * 255),): 80,
        (): 40 + 60 + 7 + 70 + 90,
    }, sums


def custom_profiles_are_profiles(work):
    _, _, path = run("custom", work)
    profile = finished(path, "app.conns", work)
    sums = {}
    for sample in profile.samples:
        for name in ("open_here", "open_there"):
            if name in sample.stack:
                sums[name] = sums.get(name, 0) + sample.values[0]
    assert sums == {"open_here": 600, "open_there": 1}, sums


def check_custom(dump, want):
    for _, name, *values in want:
        got = [(e.values[0], e.values[1]) for e in dump.of("custom", name)]
        pairs = [(int(a), int(b)) for a, b in zip(values[::2], values[1::2])]
        assert sorted(got) == sorted(pairs), (name, got, pairs)


def custom_profiles_count_by_stack(work):
    dump, want, _ = run("custom", work)
    check_custom(dump, want)
    here = [e for e in dump.of("custom", "app.conns") if e.stack[0] == "open_here"]
    assert len(here) == 1 and here[0].stack[1] == "custom", [e.stack for e in dump.of("custom")]


def custom_profiles_fill_and_reuse(work):
    dump, [[_, name, added, removed]], _ = run("custom_full", work)
    assert dump.total("custom", 0, name) == int(added)
    assert dump.total("custom", 1, name) == int(removed)


def custom_profiles_take_several_threads(work):
    dump, [[_, name, added, removed]], _ = run("custom_threads", work)
    assert dump.total("custom", 0, name) == int(added)
    assert dump.total("custom", 1, name) == int(removed)


def custom_profiles_are_empty_in_a_child(work):
    dump, want, path = run("custom_fork", work)
    assert dump.total("custom", 0, "app.conns") == 2 and dump.total("custom", 1, "app.conns") == 1
    child = Dump(path + ".child")
    assert child.total("custom", 0, "app.conns") == 1
    assert child.total("custom", 1, "app.conns") == 0


def a_child_goes_on_with_its_own(work):
    _, _, path = run("fork_cpu", work)
    child = Dump(path + ".child")
    harness.close(child.total("cpu", 1, function="burn_ms"), 200e6, 20e6, "sampled in the child")


def what_cannot_start_leaves_nothing(work):
    dump, _, _ = run("no_timers", work)
    harness.close(dump.total("cpu", 1, function="burn_ms"), 200e6, 25e6, "sampled at last")


def preloaded_and_linked_is_one_agent(work):
    """The environment's recording and the program's own are the same."""
    env = dict(os.environ, LD_PRELOAD=AGENT, FIBERSCOPE=f"block=1,out={work}/other,quiet=1")
    dump, [[_, name, added, removed]], _ = run("custom_threads", work, env=env)
    assert dump.total("custom", 0, name) == int(added)
    assert dump.total("custom", 1, name) == int(removed)
    assert any(e.kind == "block" and "custom_threads" in e.stack for e in dump.entries), \
        "the joins of main are waits"
    assert os.path.exists(os.path.join(work, "other"))


if __name__ == "__main__":
    harness.main([f for f in (heap_exact_counts_between_start_and_stop,
                              heap_sampled_goes_on_when_sampling_of_time_stops,
                              counting_every_one_comes_first,
                              locks_are_recorded_between_start_and_stop,
                              locks_are_ordered_between_start_and_stop,
                              a_black_box_without_room_for_the_order_says_so,
                              labels_nest_and_end, labels_are_on_cpu_samples, labels_end_at_fork,
                              labels_are_labels_of_the_profile, custom_profiles_are_profiles,
                              custom_profiles_count_by_stack, custom_profiles_fill_and_reuse,
                              custom_profiles_take_several_threads,
                              custom_profiles_are_empty_in_a_child, a_child_goes_on_with_its_own,
                              what_cannot_start_leaves_nothing,
                              preloaded_and_linked_is_one_agent)])
