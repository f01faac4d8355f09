#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""USDT sites: the notes are as documented and safe to probe, bpftrace sees what the program did by construction and what the
agent recorded of the same run, and without a tracer's semaphore nothing fires."""

import collections
import contextlib
import functools
import json
import math
import os
import re
import shutil
import struct
import subprocess
import time

from harness import BUILD, FIBERSCOPE, TESTS, Profile, Skip, close, main

TARGET = os.path.join(TESTS, "usdt_target")
RUNTIME = os.path.join(BUILD, "runtime", "libfiberscope-rt.so")
AGENT = os.path.join(BUILD, "agent", "libfiberscope.so")
DOCS = os.path.join(os.environ["FSCOPE_SOURCE"], "docs", "usdt.md")
NOP5 = bytes((0x0f, 0x1f, 0x44, 0, 0))
TRACING = "/sys/kernel/tracing"

Site = collections.namedtuple("Site", "provider name location semaphore arguments")


@functools.cache
def need_bpftrace():
    if not shutil.which("bpftrace"):
        raise Skip("bpftrace is not installed")
    done = subprocess.run(["bpftrace", "-e", "BEGIN { exit(); }"], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise Skip(f"bpftrace cannot be used here: {done.stderr.splitlines()[-1:]}")


def tool(*argv, **more):
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60, **more).stdout


def sites(library):
    """As readelf sees them."""
    found = re.findall(r"Provider: (\S+)\n\s+Name: (\S+)\n\s+Location: (\w+), Base: \w+, Semaphore: (\w+)\n\s+Arguments: (.*)\n",
                       tool("readelf", "-n", library))
    return [Site(p, n, int(at, 16), int(s, 16), a.split()) for p, n, at, s, a in found]


def documented():
    """{library: {probe: number of arguments}}, of the table in the docs."""
    out = {"runtime": {}, "agent": {}}
    with open(DOCS, encoding="utf-8") as f:
        for library, name, cells in re.findall(r"^\| (runtime|agent) \| `(\w+)` \| (.*) \|$", f.read(), re.M):
            out[library][name] = sum(1 for c in cells.split("|")[:5] if c.strip())
    return out


def file_offset(library, address):
    """Of an address in the file's memory image; and its section's name."""
    for name, at, offset, size in re.findall(r"\] (\.\S+)\s+PROGBITS\s+(\w+) (\w+) (\w+)", tool("readelf", "-SW", library)):
        if int(at, 16) <= address < int(at, 16) + int(size, 16):
            return address - int(at, 16) + int(offset, 16), name
    raise AssertionError(f"{address:#x} is in no section of {library}")


# --- The notes.

def notes_are_those_of_the_docs():
    for library, path in (("runtime", RUNTIME), ("agent", AGENT)):
        want, found = documented()[library], {}
        assert len(want) >= 4, want
        for s in sites(path):
            assert s.provider == "fiberscope", s
            assert all(re.fullmatch(r"8@(%\w+|\$\d+)", a) for a in s.arguments), s
            assert found.setdefault(s.name, len(s.arguments)) == len(s.arguments), f"{s.name}: not always as many"
        assert found == want, (library, found, want)


def sites_can_be_probed_by_a_call():
    for path in (RUNTIME, AGENT):
        with open(path, "rb") as f:
            image = f.read()
        for s in sites(path):
            offset, _ = file_offset(path, s.location)
            assert image[offset:offset + 5] == NOP5, f"{path}: {s}: {image[offset:offset + 5].hex()}"
            assert s.location % 4096 <= 4096 - 5, f"{s} crosses a page"
            at, section = file_offset(path, s.semaphore)
            assert section == ".probes" and image[at:at + 2] == b"\0\0", s
        assert_no_red_zone(path)


def assert_no_red_zone(path):
    """The call that replaces a site writes below rsp: a function with a site, or a part of one, must keep nothing there."""
    functions = re.split(r"\n(?=\w{16} <)", tool("objdump", "-d", "--no-show-raw-insn", path))
    at = {s.location for s in sites(path)}
    seen = 0
    for text in functions:
        if any(int(a, 16) in at for a in re.findall(r"^\s*(\w+):", text, re.M)):
            below = re.search(r".*[^*]-0x\w+\(%rsp\).*", re.sub(r".*\b(lea|nop).*", "", text))
            assert not below, f"{text.splitlines()[0]} {below[0]}"
            seen += 1
    assert seen >= 4, seen


# --- A run, and who watches it.

@contextlib.contextmanager
def target(work, *args, how):
    """The process that will do `how` once it is let go, by a recorder if there are args; yields its pid and how to end it."""
    argv = [FIBERSCOPE, "record", *args, "--", TARGET, how] if args else [TARGET, how]
    p = subprocess.Popen(argv, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end():
        open(os.path.join(work, "go"), "w", encoding="ascii").close()
        out, err = p.communicate(timeout=60)
        assert p.returncode == 0, (p.returncode, err)
        return {name: int(n) for name, n in re.findall(r"^want (\w+) (\d+)$", out, re.M)}

    try:
        until(lambda: os.path.exists(os.path.join(work, "pid")) or p.poll() is not None)
        with open(os.path.join(work, "pid"), encoding="ascii") as f:
            yield int(f.read()), end
    finally:
        for tracer in (*Watch.running, p):
            tracer.kill()
            tracer.wait()
        Watch.running.clear()
        for name in ("pid", "go"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(work, name))


def until(is_done, seconds=30):
    end = time.monotonic() + seconds
    while not is_done():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.02)


class Memory:
    """Of one library in a process."""

    def __init__(self, pid, library):
        with open(f"/proc/{pid}/maps", encoding="ascii") as f:
            self.base = next(int(line.split("-")[0], 16) for line in f if os.path.realpath(library) in line)
        self.pid = pid

    def read(self, address, size):
        with open(f"/proc/{self.pid}/mem", "rb") as f:
            f.seek(self.base + address)
            return f.read(size)

    def semaphore(self, site):
        return struct.unpack("<H", self.read(site.semaphore, 2))[0]

    def is_probed(self, site):
        return self.read(site.location, 5) != NOP5


class Watch:
    """bpftrace, attached to the probes {name: action} of a library in a process; then what its maps hold."""

    running = []  # until the target's end

    def __init__(self, pid, library, probes):
        need_bpftrace()
        script = "".join(f"usdt:{library}:fiberscope:{name} {{ {action} }}\n" for name, action in probes.items())
        self.process = subprocess.Popen(["bpftrace", "-f", "json", "-p", str(pid), "-e", script],
                                        env=dict(os.environ, BPFTRACE_MAP_KEYS_MAX="200000"),
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.running.append(self.process)
        self.memory = Memory(pid, library)
        self.sites = [s for s in sites(library) if s.name in probes]
        others = [s for s in sites(library) if s.name not in probes]
        until(lambda: self.process.poll() is not None or
              all(self.memory.is_probed(s) and self.memory.semaphore(s) for s in self.sites))
        assert self.process.poll() is None, self.process.communicate()
        assert not any(self.memory.semaphore(s) or self.memory.is_probed(s) for s in others), others

    def maps(self):
        """The process has ended, and so has bpftrace, or will."""
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, (out, err)
        found = collections.defaultdict(collections.Counter)
        for event in (json.loads(line) for line in out.splitlines() if line):
            if event["type"] == "map":
                for name, value in event["data"].items():
                    found[name[1:]] = collections.Counter(value) if isinstance(value, dict) else value
        assert "lost_events" not in out, out
        return found


# --- Fibers.

FIBER_PROBES = {
    "spawn": "@spawn = count(); @spawned = sum(arg0); @fn[arg1] = count(); @creators[arg2 != 0] = count();",
    "start": "@start = count();",
    "park": "@park[str(arg3)] = count(); @reasons[arg1] = count();",
    "unpark": "@unpark = count(); @wakers[arg1 != 0] = count();",
    "yield": "@yield = count();",
    "preempt": "@preempt = count();",
    "syscall_enter": "@enter[arg1] = count();",
    "syscall_exit": "@leave[arg1] = count();",
    "steal": "@steal = count(); @thieves[arg1 != arg2] = count();",
    "handoff": "@handoff = count();",
    "exit": "@exit = count(); @ended = sum(arg0);",
}


def events_of_fibers_are_the_program_s(work):
    with target(work, how="fibers") as (pid, end):
        watch = Watch(pid, RUNTIME, FIBER_PROBES)
        want = end()
        m = watch.maps()
    n = 20  # FIBERS
    assert m["spawn"] == m["exit"] == want["fibers"], (m, want)
    assert m["spawned"] == m["ended"] == want["ids"], (m, want)
    assert m["fn"][str(want["sleeper"])] == n, (m, want)
    assert m["creators"] == {"0": 1, "1": want["fibers"] - 1}, m["creators"]  # the first is the main thread's
    assert m["yield"] == n * 50, m["yield"]
    parks = m["park"]
    assert parks["sleep"] == n * 3 + 1 and parks["chan receive"] == n and parks["IO wait"] == 1, parks
    assert set(parks) == {"sleep", "chan receive", "IO wait", "join"}, parks
    assert m["reasons"] == {"7": parks["sleep"], "1": n, "15": 1, "14": parks["join"]}, m["reasons"]
    assert m["unpark"] == sum(parks.values()), (m["unpark"], parks)
    assert m["wakers"]["0"] >= n * 3 + 1, m["wakers"]     # time, and input
    assert m["wakers"]["1"] >= n + parks["join"] - 1, m["wakers"]
    assert m["preempt"] >= want["preempt"] > 0, (m["preempt"], want)  # those that burn; others where the machine is busy
    assert m["steal"] == want["steal"] == m["thieves"]["1"], (m["steal"], want)
    assert m["enter"]["1"] >= 51 and sum(m["enter"].values()) == sum(m["leave"].values()), (m["enter"], m["leave"])
    assert m["leave"]["0"] >= 1 and m["handoff"] >= 1, m  # the long call lost its P
    assert m["start"] == m["spawn"] + m["unpark"] + m["yield"] + m["preempt"] + m["leave"]["0"], m


# --- Waits: five waited 0.1 s, and then for each other.

WAIT_PROBES = {
    "block": "@block = count(); @block_n = sum(arg3); @block_ns = sum(arg1); @reasons[arg4] = count(); @ids[arg0] = count();",
    "mutex": "@mutex = count(); @mutex_n = sum(arg3); @mutex_ns = sum(arg1);",
}
THREAD_PROBES = {f"thread_{name}": action for name, action in WAIT_PROBES.items()}


def functions_of(stacks, pid_base):
    """{function of the target: sum} of bpftrace's map by ustack; a stack counts for the first one that it meets."""
    ranges = [(pid_base + int(at, 16), int(size, 16), name) for at, size, name
              in re.findall(r"^(\w+) (\w+) t (\w+)$", tool("nm", "-S", TARGET), re.M)]
    sums = collections.Counter()
    for stack, value in stacks.items():
        pcs = [int(pc, 16) for pc in re.findall(r"0x\w+", stack)]
        names = [name for pc in pcs for at, size, name in ranges if at < pc <= at + size]
        sums[names[0] if names else None] += value
    return sums


def waits_of_fibers_need_no_agent(work):
    stacks = {name: f"{action} @{name}_stacks[ustack] = sum(arg1);" for name, action in WAIT_PROBES.items()}
    with target(work, how="locks") as (pid, end):
        watch, base = Watch(pid, RUNTIME, stacks), Memory(pid, TARGET).base
        lasted = end()["fibers_ns"]
        m = watch.maps()
    assert m["reasons"]["8"] >= 5 and set(m["reasons"]) <= {"8", "14"}, m["reasons"]
    assert set(m["ids"]) == {str(i) for i in range(1, 7)}, m["ids"]
    # Five for nearly all the time; what the main fiber waits for their ends is what is left.
    assert 0.8 * 5 * lasted < m["block_ns"] <= 6 * lasted, (m["block_ns"], lasted)
    assert m["mutex"] >= 5 and m["mutex_n"] == m["mutex"], m
    assert 0.8 * 5 * lasted < m["mutex_ns"] <= 5 * lasted, (m["mutex_ns"], lasted)
    # By frame pointers, as the kernel walks. The holder was charged for the one that it woke, that for the next.
    blocked, unlocked = (functions_of(m[f"{name}_stacks"], base) for name in WAIT_PROBES)
    assert set(blocked) <= {"start_waiter", "locks_main"} and blocked["start_waiter"] > 0.8 * 5 * lasted, blocked
    assert set(unlocked) == {"start_waiter", "hold_and_unlock"}, unlocked
    assert 0.8 * lasted < unlocked["hold_and_unlock"] <= lasted, unlocked


def profiles_of(work):
    out = os.path.join(work, "out")
    return {name.split(".")[-3]: Profile(os.path.join(out, name)) for name in os.listdir(out)
            if name.endswith(".pb.gz")}


def total(profile, column, function):
    return sum(s.values[column] for s in profile.samples if function in s.stack)


def waits_are_those_that_the_agent_records(work):
    with target(work, "--block=1", "--mutex", "-o", "out/", how="locks") as (pid, end):
        fibers, threads = Watch(pid, RUNTIME, WAIT_PROBES), Watch(pid, AGENT, THREAD_PROBES)
        end()
        fibers, threads = fibers.maps(), threads.maps()
    inside = profiles_of(work)
    thread_functions = ("thread_waiter", "thread_locks")
    for kind in ("block", "mutex"):
        for column, name in ((0, f"{kind}_n"), (1, f"{kind}_ns")):
            recorded = sum(s.values[column] for s in inside[kind].samples)
            of_threads = sum(total(inside[kind], column, f) for f in thread_functions)
            of_fibers = sum(total(inside[kind], column, f) for f in ("start_waiter", "locks_main"))
            assert fibers[name] == of_fibers > 0, (name, fibers[name], of_fibers)
            # Also what the recorder itself and fib_main's thread waited.
            assert threads[name] == recorded - of_fibers >= of_threads > 0, (name, threads[name], recorded, of_fibers)


# --- Heap.

HEAP_PROBES = {
    "heap_alloc": "@allocs[arg1] = count(); @alloc_bytes[arg1] = sum(arg2); @rates[arg3] = count(); if (arg1 == 70001) { @live[arg0] = arg1; }",
    "heap_free": "@frees[arg1] = count(); @free_bytes[arg1] = sum(arg2); @rates[arg3] = count(); delete(@live[arg0]);",
}
SIZES = {"1009": 200000, "70001": 2000}


def heap_watched(work, rate):
    with target(work, f"--heap={rate}", "-o", "out/", how="heap") as (pid, end):
        watch = Watch(pid, AGENT, HEAP_PROBES)
        end()
        m = watch.maps()
    [profile] = [p for p in profiles_of(work).values() if "alloc_space" in [t[0] for t in p.sample_types]]
    names = [t[0] for t in profile.sample_types]
    inside = {name: total(profile, names.index(name), "make_some") for name in names}
    return m, inside


def exact_heap_is_every_allocation(work):
    m, inside = heap_watched(work, "exact")
    for size, n in SIZES.items():
        assert m["allocs"][size] == n and m["frees"][size] == n / 2, (size, m["allocs"][size], m["frees"][size])
        assert m["alloc_bytes"][size] == n * int(size), (size, m["alloc_bytes"][size])
    assert set(m["rates"]) == {"1"}, m["rates"]
    assert inside["alloc_space"] == sum(m["alloc_bytes"][s] for s in SIZES), inside
    assert inside["inuse_space"] == sum(m["alloc_bytes"][s] - m["free_bytes"][s] for s in SIZES), inside
    assert len(m["live"]) == SIZES["70001"] / 2, "addresses of frees are those of allocations"


def sampled_heap_is_what_the_agent_samples(work):
    m, inside = heap_watched(work, 65536)
    assert set(m["rates"]) == {"65536"}, m["rates"]
    for size, n in SIZES.items():
        p = 1 - math.exp(-int(size) / 65536)
        close(m["allocs"][size], n * p, 5 * math.sqrt(n * p * (1 - p)), f"samples of {size}")
        close(m["alloc_bytes"][size], m["allocs"][size] * int(size) / p, 1 + m["allocs"][size], f"bytes of {size}")
    alloc = sum(m["alloc_bytes"][s] for s in SIZES)
    inuse = alloc - sum(m["free_bytes"][s] for s in SIZES)
    close(inside["alloc_space"], alloc, 0.001 * alloc, "alloc_space")
    close(inside["inuse_space"], inuse, 0.001 * alloc, "inuse_space")


# --- Without a semaphore.

@contextlib.contextmanager
def plain_probes(library, name, with_semaphore):
    """Uprobes at the sites of a probe, by tracefs; yields how often they were hit."""
    events = f"fscope_test_{os.getpid()}"
    path = os.path.join(TRACING, "uprobe_events")
    found = [s for s in sites(library) if s.name == name]

    def write(file, text):
        fd = os.open(file, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def hits():
        with open(os.path.join(TRACING, "uprobe_profile"), encoding="ascii") as f:
            return sum(int(line.split()[2]) for line in f if line.split()[1].startswith(f"{name}_{os.getpid()}_"))

    if not os.access(path, os.W_OK):
        raise Skip("no tracefs to write to")
    try:
        for i, s in enumerate(found):
            semaphore = f"({file_offset(library, s.semaphore)[0]:#x})" if with_semaphore else ""
            write(path, f"p:{events}/{name}_{os.getpid()}_{i} {os.path.realpath(library)}:"
                        f"{file_offset(library, s.location)[0]:#x}{semaphore}\n")
        write(os.path.join(TRACING, "events", events, "enable"), "1")
        yield hits
    finally:
        with contextlib.suppress(OSError):
            write(os.path.join(TRACING, "events", events, "enable"), "0")
            for i in range(len(found)):
                write(path, f"-:{events}/{name}_{os.getpid()}_{i}\n")


def without_a_semaphore_nothing_fires(work):
    for probe, least in (("park", 6), ("mutex", 5)):
        for with_semaphore in (False, True):
            with target(work, how="locks") as (pid, end), plain_probes(RUNTIME, probe, with_semaphore) as hits:
                memory = Memory(pid, RUNTIME)
                mine = [s for s in sites(RUNTIME) if s.name == probe]
                assert all(memory.is_probed(s) for s in mine)
                assert all(memory.semaphore(s) == with_semaphore for s in mine)
                end()
                assert hits() >= least if with_semaphore else hits() == 0, (probe, with_semaphore, hits())


def who_detaches_turns_them_off(work):
    with target(work, how="locks") as (pid, end):
        with plain_probes(RUNTIME, "block", True):
            memory = Memory(pid, RUNTIME)
            assert all(memory.semaphore(s) == 1 for s in sites(RUNTIME) if s.name == "block")
        assert not any(memory.semaphore(s) or memory.is_probed(s) for s in sites(RUNTIME))
        end()


if __name__ == "__main__":
    main([notes_are_those_of_the_docs, sites_can_be_probed_by_a_call, without_a_semaphore_nothing_fires,
          who_detaches_turns_them_off, events_of_fibers_are_the_program_s, waits_of_fibers_need_no_agent,
          waits_are_those_that_the_agent_records, exact_heap_is_every_allocation,
          sampled_heap_is_what_the_agent_samples])
