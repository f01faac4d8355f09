#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Memory, locks and fibers from outside, by BPF: what programs say that they did is found, and what the agent inside finds is
found outside; nothing is left in the process."""

import collections
import os
import re
import shutil
import signal
import subprocess
import time

import harness
from ebpf import begun, ended
from harness import FIBERSCOPE, TESTS, Profile, Skip, close, record

SITES = os.path.join(TESTS, "sites_target")
FIBERS = os.path.join(TESTS, "sites_fibers")
MIB = 1 << 20


class Target:
    """A program that waits to be told to begin, and to end; under `inside`, a recorder of its own, if there is one."""

    def __init__(self, *argv, inside=(), **more):
        self.process = subprocess.Popen([*inside, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE if inside else None, text=True, **more)
        self.pid = int(self.process.stdout.readline().split()[1])
        self.truth = []

    def __enter__(self):
        return self

    def run(self):
        """Has it do its work; (kind, [words]) for each line of truth."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        lines = iter(self.process.stdout.readline, "")
        for line in lines:
            self.truth.append(line.split()[1:])
            if self.truth[-1][0] == self.last:
                break
        return self.truth

    last = None

    def end(self):
        self.process.stdin.write("end\n")
        self.process.stdin.close()
        self.process.stdin = None
        out, err = self.process.communicate(timeout=60)
        return out, err

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def outside(work, pid, *args):
    r = subprocess.Popen([FIBERSCOPE, "record", "--method=ebpf", "-p", str(pid), "-o", os.path.join(work, "out/"), *args],
                         stderr=subprocess.PIPE, text=True)
    begun(r)
    return r


def stop(r):
    r.send_signal(signal.SIGINT)
    return ended(r)


def profiles(work, folder="out"):
    found = {}
    for name in os.listdir(os.path.join(work, folder)):
        found[name.split(".")[-3]] = Profile(os.path.join(work, folder, name))
    return found


def value(profile, name, function, where=lambda s: True):
    i = [t[0] for t in profile.sample_types].index(name)
    return sum(s.values[i] for s in profile.samples if function in s.stack and where(s))


def total(profile, name):
    i = [t[0] for t in profile.sample_types].index(name)
    return sum(s.values[i] for s in profile.samples)


# --- How a process grows.

def growth_is_found_where_it_happens(work):
    with Target(SITES, "grow") as t:
        t.last = "unmapped"
        r = outside(work, t.pid, "--heap")
        truth = t.run()
        said = stop(r)
    assert "allocations need the agent" in said and "--malloc" in said and "lifetime" not in said, said
    still = subprocess.Popen(["sleep", "60"])
    try:
        said = record("--method=ebpf", "-p", str(still.pid), "--heap=exact", "-d", "200ms", "-o", os.path.join(work, "s.pb.gz"),
                      cwd=work, check=0).stderr
    finally:
        still.kill()
        still.wait()
    assert "growth is always exact" in said and "nothing became resident" in said and "rate" not in said, said
    p = profiles(work)["heap"]
    assert p.sample_types == [("faults", "count"), ("fault_space", "bytes"), ("returned_space", "bytes"),
                              ("mmaps", "count"), ("mmap_space", "bytes"), ("munmap_space", "bytes")], p.sample_types
    types = {"resident": "fault_space", "returned": "returned_space", "mapped": "mmap_space", "unmapped": "munmap_space"}
    for kind, function, want in truth:
        got = value(p, types[kind], function)
        print(f"      {kind} {function}: {got}, truly {want}")
        # A page of the stack or of tables may be among them; the kernel counts in batches of at most 64 pages.
        close(got, int(want), 64 * 4096 if kind in ("resident", "returned") else 0, f"{kind} {function}")


def growth_of_a_starting_command_is_found_or_told(work):
    path = os.path.join(work, "g.pb.gz")
    done = record("--method=ebpf", "--heap", "-o", path, SITES, "fill", cwd=work, check=0)
    truth = int(re.search(r"truth filled (\d+)", done.stdout).group(1))
    lost = re.search(r"(\d+) KiB that became resident and (\d+) KiB that were mapped are not in the profile", done.stderr)
    for name, told in (("fault_space", lost and int(lost.group(1))), ("mmap_space", lost and int(lost.group(2)))):
        got, told = value(Profile(path), name, "fill_pages"), (told or 0) << 10
        print(f"      {name}: {got} found, {told} told as lost, truly {truth}")
        # Lost ones of the program's start are among those that are told.
        close(got + told, truth, 0.02 * truth, name)
        assert got > 0.5 * truth, (name, got, truth)


def an_image_begins_with_a_heap_of_its_own(work):
    """The end of the heap of one is no measure for the next one's: they are terabytes apart."""
    path = os.path.join(work, "g.pb.gz")
    record("--method=ebpf", "--heap", "-o", path, "sh", "-c", "sleep 0.1; exec sleep 0.1", cwd=work, check=0)
    p = Profile(path)
    for name in ("mmap_space", "munmap_space"):
        assert total(p, name) < 1 << 30, (name, total(p, name))
    assert total(p, "mmap_space") > MIB, total(p, "mmap_space")


# --- malloc, by uprobes.

def malloc_is_seen_without_the_agent(work):
    path = os.path.join(work, "m.pb.gz")
    done = record("--method=ebpf", "--heap=exact", "--malloc", "-o", path, os.path.join(TESTS, "heap_target"), "functions",
                  cwd=work, check=0)
    assert re.search(r"takes at least [\d.]+ us more for a malloc and [\d.]+ us for a free", done.stderr), done.stderr
    p = Profile(path)
    assert [t[0] for t in p.sample_types] == ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"]
    truth = re.findall(r"^truth \d+ (\w+) (\d+) (\d+) (\d+) (\d+)", done.stdout, re.M)
    assert len(truth) > 10, done.stdout
    for function, *numbers in truth:
        objects, size, freed, freed_size = map(int, numbers)
        got = [value(p, t, function) for t, _ in p.sample_types]
        assert got == [objects, size, objects - freed, size - freed_size], (function, got, numbers)


def sampled_malloc_is_an_estimate_of_the_truth(work):
    with Target(SITES, "heap", "20000") as t:
        t.last = "heap"
        r = outside(work, t.pid, "--heap=4KiB", "--malloc")
        truth = [*t.run(), t.process.stdout.readline().split()[1:]]
        stop(r)
    p = profiles(work)["heap"]
    for _, function, objects, size, live in truth:
        for name, want, tolerance in (("alloc_objects", objects, 0.1), ("alloc_space", size, 0.06),
                                      ("inuse_space", live, 0.1)):
            got = value(p, name, function)
            print(f"      {function} {name}: {got}, truly {want}")
            close(got / int(want), 1, tolerance, f"{function} {name}")


def allocations_count_while_it_records(work):
    """Neither while uprobes are put in nor while they are taken out. That of an agent that has been in it stays mapped, and its
    malloc is called by nobody."""
    path = os.path.join(work, "m.pb.gz")
    with Target(SITES, "tick") as t:
        t.last = "ticking"
        t.run()
        record("-q", "--heap", "--method=inject", "-p", str(t.pid), "-d", "20ms", "-o", path, cwd=work, check=0)
        with open(f"/proc/{t.pid}/maps", encoding="ascii") as f:
            assert "/libfiberscope.so" in f.read()
        record("-q", "--method=ebpf", "--heap=exact", "--malloc", "-p", str(t.pid), "-d", "200ms", "-o", path, cwd=work,
               check=0)
    p = Profile(path)
    ticks = value(p, "alloc_objects", "allocate_once")
    print(f"      {ticks} in {p.duration / 1e6:.1f} ms")
    assert 200e6 <= p.duration < 900e6, p.duration
    assert 20 < ticks <= p.duration / 1e6 + 1, ticks


def what_an_image_had_is_freed_as_it_executes_another(work):
    with Target(SITES, "execute") as t:
        t.last = "new"
        r = outside(work, t.pid, "--heap=exact", "--malloc")
        truth = t.run()
        time.sleep(0.3)  # a few mallocs after exec
        stop(r)
    p = profiles(work)["heap"]
    for kind, objects, live in truth:
        got = value(p, "alloc_objects", f"site_{kind}"), value(p, "inuse_objects", f"site_{kind}")
        assert got == (int(objects), int(live)), (kind, got, objects, live)


def malloc_is_seen_in_what(compiler, work):
    if not shutil.which(compiler[0]):
        raise Skip(f"no {compiler[0]} here")
    program = os.path.join(work, "program")
    subprocess.run([*compiler, "-D_GNU_SOURCE", "-O1", "-g", "-fno-builtin", "-pthread", "-o", program,
                    os.path.join(os.environ["FSCOPE_SOURCE"], "tests/e2e/sites_target.c")], check=True)
    with Target(program, "heap", "500") as t:
        t.last = "heap"
        r = outside(work, t.pid, "--heap=exact", "--malloc")
        truth = [*t.run(), t.process.stdout.readline().split()[1:]]
        stop(r)
    p = profiles(work)["heap"]
    for _, function, *want in truth:
        got = [value(p, name, function) for name in ("alloc_objects", "alloc_space", "inuse_space")]
        assert got == [int(n) for n in want], (function, got, want, [s.stack for s in p.samples])
        assert all(list(s.stack[1:4]) == [function, "heap", "main"] for s in p.samples if function in s.stack)


def a_ring_kept_full_ends_on_time(work):
    path = os.path.join(work, "f.pb.gz")
    r = subprocess.Popen([FIBERSCOPE, "record", "--method=ebpf", "--heap=exact", "--malloc", "-d", "300ms", "-o", path, SITES,
                          "flood"], stderr=subprocess.PIPE, text=True)
    said = r.stderr.read()
    _, r.returncode, used = os.wait4(r.pid, 0)
    assert r.returncode == 0, said
    p = Profile(path)
    tables = re.search(r"ebpf: (\d+) tables", "\n".join(p.comments))
    print(f"      {p.duration / 1e9:.2f} s of 0.3, {used.ru_maxrss >> 10} MiB, {tables.group(0)}, {said.splitlines()[-2]}")
    # It floods for 0.8 s; the ring has 32 MiB and is mapped twice.
    assert p.duration < 0.7e9 and used.ru_maxrss >> 10 < 250 and int(tables.group(1)) > 0, (said, p.comments)
    assert value(p, "alloc_objects", "allocate_on") > 0, said


def malloc_of_a_static_program_is_seen(work):
    malloc_is_seen_in_what(["gcc", "-static"], work)


def malloc_of_musl_is_seen(work):
    """It has no unwind tables: the function that called malloc is there nevertheless."""
    malloc_is_seen_in_what(["musl-gcc"], work)


def children_are_left_alone(work):
    """--malloc is of one process: who it starts is not counted, and goes on."""
    path = os.path.join(work, "m.pb.gz")
    done = record("--method=ebpf", "--heap=exact", "--malloc", "-o", path, "sh", "-c",
                  f"printf 'go\\nend\\n' | {SITES} heap 500; echo over", cwd=work, check=0)
    assert "truth heap site_random 500 " in done.stdout and "over" in done.stdout, done.stdout
    p = Profile(path)
    assert p.samples and not any("site_random" in s.stack for s in p.samples)


# --- Sites.

def both_sides(work, target, last, inside, more_lines=0, *args):
    """The same run by the agent inside and by BPF outside; what each has, and the truth."""
    command = [FIBERSCOPE, "record", *inside, "-o", os.path.join(work, "in/")]
    with Target(*target, inside=command) as t:
        t.last = last
        r = outside(work, t.pid, *inside, *args)
        truth = t.run() + [t.process.stdout.readline().split()[1:] for _ in range(more_lines)]
        said = stop(r)
        t.end()
        assert t.process.returncode == 0, t.process.returncode
    return profiles(work, "in"), profiles(work), truth, said


def agree(inside, outside_, names, functions):
    for function in functions:
        for name in names:
            a, b = value(inside, name, function), value(outside_, name, function)
            print(f"      {function} {name}: inside {a}, outside {b}")
            assert a > 0 or b == 0, f"{function} {name} was not seen inside"
            close(b, a, 0.03 * a, f"{function} {name}")


def sampled_heaps_agree(work):
    ins, outs, truth, _ = both_sides(work, (SITES, "heap"), "heap", ["--heap=20000"], 1)
    agree(ins["heap"], outs["heap"], [t[0] for t in ins["heap"].sample_types], [row[1] for row in truth])
    assert outs["heap"].sample_types == ins["heap"].sample_types
    for _, function, objects, size, _ in truth:
        close(value(outs["heap"], "alloc_space", function) / int(size), 1, 0.1, function)
    leaves = lambda p: {s.stack[0] for s in p.samples if truth[0][1] in s.stack or truth[1][1] in s.stack}
    assert leaves(ins["heap"]) == leaves(outs["heap"]), leaves(ins["heap"]) ^ leaves(outs["heap"])


def locks_of_threads_agree(work):
    ins, outs, ((_, rounds, ns),), _ = both_sides(work, (SITES, "locks"), "locks", ["--block=1", "--mutex"])
    agree(ins["block"], outs["block"], ["contentions", "delay"], ["wait_for_mutex"])
    agree(ins["mutex"], outs["mutex"], ["contentions", "delay"], ["hold_and_unlock"])
    assert value(outs["block"], "contentions", "wait_for_mutex") == int(rounds)
    close(value(outs["block"], "delay", "wait_for_mutex") / int(ns), 1, 0.03, "delay")
    stacks = lambda p: {tuple(s.stack) for s in p.samples}
    assert stacks(ins["block"]) == stacks(outs["block"]), stacks(ins["block"]) ^ stacks(outs["block"])


def locks_of_fibers_agree(work):
    ins, outs, truth, _ = both_sides(work, (FIBERS,), "locks", ["--block=1", "--mutex"])
    _, rounds, ns = truth[-1]
    agree(ins["block"], outs["block"], ["contentions", "delay"], ["wait_for_mutex", "receive_here"])
    agree(ins["mutex"], outs["mutex"], ["contentions", "delay"], ["hold_and_unlock"])
    assert value(outs["block"], "contentions", "wait_for_mutex") == int(rounds)
    close(value(outs["block"], "delay", "wait_for_mutex") / int(ns), 1, 0.03, "delay")
    for kind in ("block", "mutex"):
        keys = lambda p: {(tuple(s.stack), s.labels.get("kind")) for s in p.samples if "start" in s.stack[-1]}
        assert keys(ins[kind]) == keys(outs[kind]), keys(ins[kind]) ^ keys(outs[kind])


def fiber_events_are_counted_where_they_happen(work):
    with Target(FIBERS) as t:
        t.last = "locks"
        r = outside(work, t.pid, "--fiber-events")
        truth = t.run()
        said = stop(r)
    found = profiles(work)
    assert f"fiber-park: {found['fiber-park'].total(0):,} events" in said, said
    for event, function, count in (row for row in truth if row[0] != "locks"):
        p = found[f"fiber-{event}"]
        got = p.total(0) if function == "-" else value(p, f"fiber-{event}", function)
        print(f"      {event} {function}: {got}, truly {count}")
        close(got, int(count), 0 if event == "spawn" else 0.01 * int(count), f"{event} {function}")
    reasons = collections.Counter(s.labels.get("reason") for s in found["fiber-park"].samples if "receive_here" in s.stack)
    assert set(reasons) == {"chan receive"}, reasons


# --- What is left behind.

def semaphores(pid):
    """The values of all semaphores of the runtime in this process."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as f:
        rows = [line.split() for line in f if "libfiberscope-rt.so" in line]
    path, base = rows[0][5], int(rows[0][0].split("-")[0], 16)
    listed = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout
    found = {}
    with open(f"/proc/{pid}/mem", "rb") as mem:
        for address, name in re.findall(r"^(\w+) \w fiberscope_(\w+)_semaphore$", listed, re.M):
            mem.seek(base + int(address, 16))
            found[name] = int.from_bytes(mem.read(2), "little")
    assert len(found) > 5, found
    return found


def nothing_is_left_attached(work):
    with Target(FIBERS) as t:
        assert not any(semaphores(t.pid).values())
        for end in (signal.SIGINT, signal.SIGKILL):
            r = outside(work, t.pid, "--fiber-events", "--block", "--mutex")
            on = semaphores(t.pid)
            assert on["park"] and on["block"] and on["mutex"] and not on["start"], on
            r.send_signal(end)
            _, said = r.communicate(timeout=60)
            assert end == signal.SIGKILL or "no fiber events were seen" in said, said  # its fibers wait
            for _ in range(100):
                if not any(semaphores(t.pid).values()):
                    break
                time.sleep(0.05)
            assert not any(semaphores(t.pid).values()), (end, semaphores(t.pid))
        t.last = "locks"
        assert len(t.run()) == 4


def a_killed_target_keeps_what_was_seen(work):
    with Target(FIBERS) as t:
        t.last = "locks"
        r = outside(work, t.pid, "--fiber-events", "--block=1", "--heap")
        truth = t.run()
        t.process.kill()
        ended(r)
    found = profiles(work)
    assert value(found["fiber-spawn"], "fiber-spawn", "spawn_here") == int(truth[0][2])
    assert value(found["block"], "contentions", "wait_for_mutex") == int(truth[-1][1])


def what_cannot_be_probed_is_refused(work):
    def refused(text, *args):
        done = record("--method=ebpf", "-o", os.path.join(work, "r.pb.gz"), *args, cwd=work)
        assert done.returncode in (1, 2, 126, 127) and text in done.stderr, (args, done.returncode, done.stderr)
        assert os.listdir(work) == [], os.listdir(work)
        assert "ended with status" not in done.stderr, done.stderr  # it was not started
        return done.returncode
    refused("for one process", "--heap", "--malloc", "-a", "-d", "1s")
    refused("needs --heap", "--malloc", "true")
    refused("-a records no --trace", "--trace", "-a", "-d", "1s", "-o", work + "/t.trace")
    refused("name a folder", "--fiber-events", "true")
    status = refused("no file of it has the sites", "--fiber-events", "-o", work + "/%k", "true")
    assert status == 1, status  # 127 would be a command that is not there
    refused("a number from 1 to 1000000) is needed", "--offcpu=1000001", "true")


if __name__ == "__main__":
    harness.skip_without_bpf()
    harness.main([
        growth_is_found_where_it_happens,
        growth_of_a_starting_command_is_found_or_told,
        an_image_begins_with_a_heap_of_its_own,
        malloc_is_seen_without_the_agent,
        what_an_image_had_is_freed_as_it_executes_another,
        sampled_malloc_is_an_estimate_of_the_truth,
        allocations_count_while_it_records,
        a_ring_kept_full_ends_on_time,
        malloc_of_a_static_program_is_seen,
        malloc_of_musl_is_seen,
        children_are_left_alone,
        sampled_heaps_agree,
        locks_of_threads_agree,
        locks_of_fibers_agree,
        fiber_events_are_counted_where_they_happen,
        nothing_is_left_attached,
        a_killed_target_keeps_what_was_seen,
        what_cannot_be_probed_is_refused,
    ])
