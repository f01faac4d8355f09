#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Profiles know fibers: fibers_target.c says what each of its fibers does, and the profiles must agree."""

import os
import re
import resource
import shutil
import subprocess
import time

import harness

TARGET = os.path.join(harness.TESTS, "fibers_target")
STARTS = ("start_small", "start_large", "start_allocator", "start_receiver", "start_locker",
          "start_sleeper", "start_runner", "cpu_main", "heap_main", "parked_main")


def recorded(kind, case, work, *options):
    path = os.path.join(work, f"{case}.pb.gz")
    done = harness.record(*options, "-o", path, TARGET, case, cwd=work, check=0)
    want = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("want ")]
    profile = harness.Profile(path)
    assert [t[0] for t in profile.sample_types][-1] == kind, profile.sample_types
    return profile, want


def value_of(profile, name):
    return [t[0] for t in profile.sample_types].index(name)


def cpu_samples_carry_fiber_labels_and_end_at_the_start(work):
    profile, want = recorded("cpu", "cpu", work, "-F", "999")
    of_fibers = [s for s in profile.samples if "burn_step" in s.stack]
    total = sum(s.values[1] for s in of_fibers)
    assert total > 500e6, total
    ids = {int(w[1]) for w in want if w[0] == "id"}
    shares = {w[0]: float(w[1]) for w in want if w[0] != "id"}
    for s in of_fibers:
        assert s.stack[-1] in ("start_small", "start_large"), s.stack
        assert s.labels.get("fiber") in ids, s.labels
    for kind, share in shares.items():
        by_label = sum(s.values[1] for s in of_fibers if s.labels.get("kind") == kind)
        by_start = sum(s.values[1] for s in of_fibers if s.stack[-1] == f"start_{kind}")
        harness.close(by_label / total, share, 0.03, f"label {kind}")
        harness.close(by_start / total, share, 0.03, f"start function of {kind}")
    assert {s.labels["fiber"] for s in of_fibers} == ids, "each of them has samples"


def exact_heap_counts_by_the_fibers_labels(work):
    profile, want = recorded("inuse_space", "heap", work, "--heap=exact")
    index = value_of(profile, "alloc_objects")
    sums = {"none": 0}
    for s in profile.samples:
        if "make" not in s.stack:
            continue
        assert s.stack[-1] in STARTS, s.stack
        assert "fiber" not in s.labels, "one entry a fiber would be too many"
        kind = s.labels.get("kind", "none")
        sums[kind] = sums.get(kind, 0) + s.values[index]
    assert sums == {kind: int(n) for kind, n in want}, (sums, want)


def waits_of_fibers_are_block_and_mutex_samples(work):
    harness.record("--block=1", "--mutex", "-o", "out/", TARGET, "locks", cwd=work, check=0)
    files = {n.split(".")[-3]: harness.Profile(os.path.join(work, "out", n))
             for n in os.listdir(os.path.join(work, "out"))}
    of = lambda kind, name, i: sum(s.values[i] for s in files[kind].samples if name in s.stack)
    # Five waited 0.1 s for the mutex, and then for each other; one for the channel.
    waits = [s for s in files["block"].samples if "start_waiter" in s.stack]
    assert waits and all(s.stack[-1] == "start_waiter" and s.labels.get("kind") == "waiter"
                         for s in waits), [(s.stack, s.labels) for s in waits]
    assert of("block", "start_waiter", 0) >= 5
    harness.close(of("block", "start_waiter", 1), 0.5e9, 0.05e9, "waits for the mutex")
    assert of("block", "start_consumer", 0) == 1
    harness.close(of("block", "start_consumer", 1), 0.1e9, 0.02e9, "wait for the channel")
    assert not any("fib_sleep" in s.stack for s in files["block"].samples), "sleep is no wait"
    # The holder is charged for the one that it woke, those for the next.
    assert of("mutex", "hold_and_unlock", 0) == 1
    harness.close(of("mutex", "hold_and_unlock", 1), 0.1e9, 0.02e9, "unlock by the holder")
    harness.close(of("mutex", "start_waiter", 1), 0.4e9, 0.05e9, "unlocks by waiters")


# What parked_main makes: how many wait for what, from which start function, with which label.
PARKED = {("start_receiver", "receiver"): (50, "chan receive"),
          ("start_locker", "locker"): (7, "sync.Mutex.Lock"),
          ("start_sleeper", "sleeper"): (3, "sleep"),
          ("parked_main", None): (1, "sleep")}


class Parked:
    """The target with all its fibers waiting (and one running, in case "running")."""

    def __init__(self, case, work, **more):
        self.process = subprocess.Popen([TARGET, case], cwd=work, stdout=subprocess.PIPE,
                                        text=True, **more)
        assert self.process.stdout.readline().startswith("ready")
        time.sleep(0.2)  # its last fiber waits after it has said so

    def __enter__(self):
        return self.process

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def check_goroutines(profile):
    assert profile.sample_types == [("goroutine", "count")], profile.sample_types
    sums = {}
    for s in profile.samples:
        key = s.stack[-1], s.labels.get("role")
        sums[key] = sums.get(key, 0) + s.values[0]
    assert sums == {key: n for key, (n, _) in PARKED.items()}, sums


def a_snapshot_of_a_process_counts_all_fibers(work):
    path = os.path.join(work, "p.pb.gz")
    with Parked("parked", work) as p:
        done = harness.record("--fibers", "-p", str(p.pid), "-o", path, cwd=work, check=0)
    assert "61 fibers" in done.stderr, done.stderr
    check_goroutines(harness.Profile(path))


def a_snapshot_at_the_end_of_a_recording(work):
    # The command goes on when its recording ends, and is then waited for: until it sleeps no more.
    harness.record("--fibers", "-d", "1s", "-o", "out/", TARGET, "short", cwd=work, check=0)
    names = os.listdir(os.path.join(work, "out"))
    assert any(n.endswith(".cpu.pb.gz") for n in names), names
    [name] = [n for n in names if n.endswith(".goroutine.pb.gz")]
    check_goroutines(harness.Profile(os.path.join(work, "out", name)))


def a_snapshot_of_what_has_ended_is_missed_aloud(work):
    done = harness.record("--fibers", "-o", "out/", TARGET, "heap", cwd=work, check=0)
    assert "no snapshot of fibers" in done.stderr, done.stderr


def go_reads_the_snapshot(work):
    go = shutil.which("go")
    if not go:
        raise harness.Skip("no go here")
    path = os.path.join(work, "p.pb.gz")
    with Parked("parked", work) as p:
        harness.record("--fibers", "-p", str(p.pid), "-o", path, cwd=work, check=0)
    done = subprocess.run([go, "tool", "pprof", "-top", "-tagfocus=role=receiver", path],
                          capture_output=True, text=True, timeout=60, check=True)
    assert "Type: goroutine" in done.stdout, done.stdout
    assert re.search(r"^\s*50\s.*recv", done.stdout, re.M), done.stdout


class Stacks:
    """What `fiberscope stack` prints: by id the state and the functions, leaf first."""

    def __init__(self, what, work):
        done = subprocess.run([harness.FIBERSCOPE, "stack", str(what)], cwd=work, text=True,
                              capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        self.fibers = {}
        for block in done.stdout.split("\n\n"):
            head = re.match(r'goroutine (\d+) \[([^],]*)(, \d+ minutes)?(, "(.*)")?\]:\n', block)
            if not block.strip():
                continue
            assert head, block
            assert int(head[1]) not in self.fibers, "twice"
            self.fibers[int(head[1])] = (head[2], head[5], re.findall(r"^(\S+)\(\.\.\.\)$", block, re.M),
                                         block)

    def check(self):
        counts = {}
        for state, name, stack, block in self.fibers.values():
            key = stack[-1], state
            counts[key] = counts.get(key, 0) + 1
            assert "fibers_target.c:" in block, block
            if stack[-1] == "start_sleeper":
                assert name == "a sleeper", block
            if stack[-1] == "start_receiver":
                # Of the runtime one frame: what was called, or where that jumped to.
                assert len(stack) == 2 and "recv" in stack[0], stack
                assert "created by parked_main in goroutine 1\n" in block or \
                    "created by spawn in goroutine 1\n" in block, block
        want = {(start, state): n for (start, _), (n, state) in PARKED.items()}
        assert counts == want, counts


def stack_lists_the_fibers_of_a_process(work):
    with Parked("parked", work) as p:
        Stacks(p.pid, work).check()
        assert p.poll() is None, "and it goes on"


def a_running_fiber_has_its_start_function(work):
    with Parked("running", work) as p:
        stacks = Stacks(p.pid, work)
    running = [f for f in stacks.fibers.values() if f[2][-1] == "start_runner"]
    assert len(running) == 1 and running[0][0] == "running", running
    assert "stack unavailable" in running[0][3], running


def stack_lists_the_fibers_of_a_core_file(work):
    with open("/proc/sys/kernel/core_pattern", encoding="ascii") as f:
        if f.read().strip() != "core":
            raise harness.Skip("core files go elsewhere here (kernel.core_pattern)")
    unlimited = lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
    with Parked("running", work, preexec_fn=unlimited) as p:
        p.send_signal(6)
        p.wait()
    [core] = [n for n in os.listdir(work) if n.startswith("core")]
    stacks = Stacks(core, work)
    running = [i for i, f in stacks.fibers.items() if f[2][-1] == "start_runner"]
    assert len(running) == 1, running
    assert stacks.fibers[running[0]][2][0] == "burn_step", "its thread's registers are there"
    del stacks.fibers[running[0]]
    stacks.check()


def a_program_without_fibers_has_its_threads_shown(work):
    with subprocess.Popen(["sleep", "30"], cwd=work) as p:
        done = subprocess.run([harness.FIBERSCOPE, "stack", str(p.pid)], text=True,
                              capture_output=True, timeout=60, check=False)
        p.kill()
    assert done.returncode == 0 and done.stdout.startswith(f'thread {p.pid} "sleep" ['), done


if __name__ == "__main__":
    harness.main([cpu_samples_carry_fiber_labels_and_end_at_the_start,
                  exact_heap_counts_by_the_fibers_labels,
                  waits_of_fibers_are_block_and_mutex_samples,
                  a_snapshot_of_a_process_counts_all_fibers,
                  a_snapshot_at_the_end_of_a_recording,
                  a_snapshot_of_what_has_ended_is_missed_aloud, go_reads_the_snapshot,
                  stack_lists_the_fibers_of_a_process, a_running_fiber_has_its_start_function,
                  stack_lists_the_fibers_of_a_core_file, a_program_without_fibers_has_its_threads_shown])
