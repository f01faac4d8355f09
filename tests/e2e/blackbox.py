#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The black box: after SIGSEGV, an OOM kill, a kill of the whole control group with its collector, or the death of a
container, `fiberscope finish` has what the program had counted itself: CPU time by function, every object that it lost
or grew by, and in the trace what each fiber waited for."""

import glob
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time

from harness import FIBERSCOPE, TESTS, Profile, Skip, main

TARGET = os.path.join(TESTS, "blackbox_target")
SETTINGS = "cpu=999,heap=1,trace=1,flight=1,quiet=1,out=never.pb.gz"
SLACK = 2  # objects: between an allocation and the count of it, or the other way round
CGROUPS = "/sys/fs/cgroup"


class Group:
    """A control group of the test's own; with a memory limit, where memory can be limited here."""

    def __init__(self, limit_bytes=0):
        self.path, self.is_v2 = None, False
        name = f"fiberscope-test-{os.getpid()}"
        for root, parent in candidates(limit_bytes != 0):
            self.path, self.is_v2 = os.path.join(root, parent, name), not root.endswith("/memory")
            try:
                os.mkdir(self.path)
                if limit_bytes:
                    self.limit(limit_bytes)
                return
            except OSError:
                self.remove()
        raise Skip("no control group can be made here" + (" with a memory limit" if limit_bytes else "")
                   + " (needs root and a writable " + CGROUPS + ")")

    def limit(self, limit_bytes):
        for name in ("memory.max", "memory.swap.max") if self.is_v2 else ("memory.limit_in_bytes",
                                                                         "memory.memsw.limit_in_bytes"):
            value = 0 if name == "memory.swap.max" else limit_bytes
            if name in ("memory.max", "memory.limit_in_bytes") or os.path.exists(f"{self.path}/{name}"):
                self.write(name, value)
        if self.is_v2:
            self.write("memory.oom.group", 1)

    def write(self, name, value):
        with open(f"{self.path}/{name}", "w", encoding="ascii") as f:
            f.write(str(value))

    def pids(self):
        with open(f"{self.path}/cgroup.procs", encoding="ascii") as f:
            return [int(word) for word in f.read().split()]

    def popen(self, argv, **more):
        return subprocess.Popen(["sh", "-c", f'echo $$ > "{self.path}/cgroup.procs" && exec "$@"', "sh", *argv], **more)

    def kill(self):
        """All of it at once: by the kernel's cgroup.kill, else stopped first, so that none sees another die."""
        if os.path.exists(f"{self.path}/cgroup.kill"):
            self.write("cgroup.kill", 1)
            return "cgroup.kill"
        for signo in (signal.SIGSTOP, signal.SIGKILL):
            for pid in self.pids():
                os.kill(pid, signo)
        return "SIGSTOP and SIGKILL"

    def remove(self):
        until = time.monotonic() + 5
        while self.path and os.path.isdir(self.path) and time.monotonic() < until:
            try:
                os.rmdir(self.path)
            except OSError:
                time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.pids():
            self.kill()
        self.remove()


def candidates(memory):
    """Roots of hierarchies, and below which of their groups a new one may go: our own, or the top."""
    if not memory:
        yield f"{CGROUPS}/unified", ""
        yield CGROUPS, ""
    with open("/proc/self/cgroup", encoding="ascii") as f:
        own = dict((fields[1], fields[2]) for fields in (line.strip().split(":", 2) for line in f))
    if "memory" in own:
        yield f"{CGROUPS}/memory", own["memory"].lstrip("/")
    yield CGROUPS, own.get("", "").lstrip("/")
    yield CGROUPS, ""


class Counted:
    def __init__(self, path):
        with open(path, "rb") as f:
            data = f.read(32)
        self.burned_ns, self.leaked, self.grown, self.rounds = (int.from_bytes(data[i:i + 8], "little")
                                                                for i in range(0, 32, 8))


def environment(work, box=True):
    env = dict(os.environ, FIBERSCOPE=SETTINGS)
    if box:
        env["FIBERSCOPE_SEGMENT"] = f"{work}/box"
    return env


def wait_for_rounds(work, rounds=40):
    until = time.monotonic() + 60
    while True:
        try:
            if Counted(f"{work}/page").rounds >= rounds:
                return
        except FileNotFoundError:
            pass
        assert time.monotonic() < until, "the target did not work"
        time.sleep(0.02)


def finish(work, path):
    done = subprocess.run([FIBERSCOPE, "finish", path, "-o", "finished/"], cwd=work, text=True, capture_output=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "dropped" not in done.stderr or ", 0 dropped" in done.stderr, done.stderr
    return {re.search(r"\.(\w+)\.pb\.gz$|\.(trace)$|-(series)\.csv$", f).group(1, 2, 3): f
            for f in glob.glob(f"{work}/finished/*")}


def of(files, kind):
    [found] = [path for names, path in files.items() if kind in names]
    return found


def live(profile, function):
    at = [name for name, _ in profile.sample_types].index("inuse_objects")
    return profile.total(at, lambda s: function in s.stack)


def check(work, path="box", grows=False):
    """What finish makes of it, beside what the program counted."""
    counted, files = Counted(f"{work}/page"), finish(work, path)
    p = Profile(of(files, "cpu"))
    burned = p.total(1, lambda s: "burn_here" in s.stack)
    assert 0.97 * counted.burned_ns - 16e6 <= burned <= 1.03 * counted.burned_ns + 32e6, (burned, counted.burned_ns)
    assert p.share_below("works", "burn_here") > 0.98
    heap = Profile(of(files, "heap"))
    for function, objects in (("leak_here", counted.leaked), ("grow_here", counted.grown), ("return_here", 0)):
        assert abs(live(heap, function) - objects) <= SLACK, (function, live(heap, function), objects)
    assert counted.leaked >= 200 and (counted.grown > 20) == grows, vars(counted)
    check_trace(of(files, "trace"))
    return files


def check_trace(path):
    said = subprocess.run([FIBERSCOPE, "trace", path], capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0 and "6 fibers (6 alive at the end)" in said.stdout, said.stdout + said.stderr
    assert re.search(r"chan receive, 4 times, longest [\d.]+m?s, none has ended", said.stdout), said.stdout
    rows = {start: (float(running) * scale, fibers) for running, scale, fibers, start in
            ((n, 1e-3 if unit == "m" else 1 if not unit else 1e-6, int(count), start) for n, unit, count, start in
             re.findall(r"^ +([\d.]+)([mun]?)s +[\d.]+% .* (\d+) +\d+ +(\w+)$", said.stdout, re.M))}
    assert rows["waits_for_ever"][1] == 3 and rows["works"][1] == 1, said.stdout
    assert rows["works"][0] > 0.9 * sum(running for running, _ in rows.values()), said.stdout


def after_sigsegv(work):
    p = subprocess.Popen([TARGET, "page", "segv"], cwd=work, env=environment(work))
    assert p.wait(timeout=60) == -signal.SIGSEGV
    files = check(work)
    assert len(files) == 5, files
    said = subprocess.run([FIBERSCOPE, "stack", "box"], cwd=work, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 1 and "`fiberscope finish box`" in said.stderr, said


def after_sigsegv_in_the_core_file(work):
    with open("/proc/sys/kernel/core_pattern", encoding="ascii") as f:
        if f.read().strip() != "core":
            raise Skip("core files go elsewhere here (kernel.core_pattern)")
    p = subprocess.Popen([TARGET, "page", "segv"], cwd=work, env=environment(work, box=False),
                         preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2))
    assert p.wait(timeout=60) == -signal.SIGSEGV
    [core] = [n for n in os.listdir(work) if n.startswith("core")]
    files = check(work, core)
    fibers = Profile(of(files, "goroutine"))
    assert fibers.total(0) == 5 and fibers.total(0, lambda s: "crash_here" in s.stack) == 1
    assert fibers.total(0, lambda s: "waits_for_ever" in s.stack) == 4
    done = subprocess.run([FIBERSCOPE, "stack", "-p", core], cwd=work, capture_output=True, text=True, timeout=60, check=False)
    assert re.search(rf"{core}: ended by SIGSEGV at 0x[0-9a-f]+, in thread \d+\n", done.stderr), done.stderr
    stacks = done.stdout
    assert stacks.count("[chan receive") == 4 and re.search(r"\[running\]:\ncrash_here", stacks), stacks


def after_an_oom_kill(_):
    # In memory: pages of a file on a disk are written back and read in again when memory is short, and the kernel may do
    # that for minutes before it kills.
    if not os.access("/dev/shm", os.W_OK):
        raise Skip("no /dev/shm here")
    work = tempfile.mkdtemp(prefix="fiberscope-test-", dir="/dev/shm")
    try:
        with Group(limit_bytes=256 << 20) as group:
            p = group.popen([TARGET, "page", "grow"], cwd=work, env=environment(work))
            assert p.wait(timeout=60) == -signal.SIGKILL, p.returncode
        check(work, grows=True)
    finally:
        shutil.rmtree(work)


def target_and_collector(work, collector, check_it):
    with Group() as group:
        group.popen([FIBERSCOPE, *collector, TARGET, "page", "run"], cwd=work, env=environment(work),
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_rounds(work)
        assert len(group.pids()) == 2, group.pids()
        print(f"  {group.kill()} of {collector[0]} and its target")
        until = time.monotonic() + 20
        while group.pids():
            assert time.monotonic() < until, group.pids()
            time.sleep(0.02)
    check_it(work)


def after_a_kill_of_the_group_with_serve(work):
    target_and_collector(work, ["serve", "-q", "--heap=off", "-l", "127.0.0.1:0"], check)


def after_a_kill_of_the_group_with_record(work):
    # What record has taken of the streams is lost with it; what is counted is not.
    def states(there):
        counted, heap = Counted(f"{there}/page"), Profile(of(finish(there, "box"), "heap"))
        for function, objects in (("leak_here", counted.leaked), ("return_here", 0)):
            assert abs(live(heap, function) - objects) <= SLACK, (function, live(heap, function), objects)

    target_and_collector(work, ["record", "-q", "--cpu", "--heap=exact", "-o", "lost/"], states)
    assert not glob.glob(f"{work}/lost/*.pb.gz")


def after_the_death_of_a_container(work):
    mine = ["-mp"] if os.geteuid() == 0 else ["-Urmp"]
    p = subprocess.Popen(["unshare", *mine, "--fork", "--mount-proc", "sh", "-c",
                          f"{TARGET} page run & wait"], cwd=work, env=environment(work),
                         stderr=subprocess.PIPE, text=True)
    try:
        wait_for_rounds(work)
    except AssertionError as e:
        if p.poll() is None:
            raise
        raise Skip(f"no pid namespace can be made here: {p.stderr.read()}") from e
    with open(f"/proc/{p.pid}/task/{p.pid}/children", encoding="ascii") as f:
        os.kill(int(f.read()), signal.SIGKILL)  # the container's init: the kernel kills the rest
    p.wait(timeout=20)
    time.sleep(0.2)
    rounds = Counted(f"{work}/page").rounds
    time.sleep(0.2)
    assert Counted(f"{work}/page").rounds == rounds, "the target lives on"
    check(work)


if __name__ == "__main__":
    main([after_sigsegv, after_sigsegv_in_the_core_file, after_an_oom_kill, after_a_kill_of_the_group_with_serve,
          after_a_kill_of_the_group_with_record, after_the_death_of_a_container])
