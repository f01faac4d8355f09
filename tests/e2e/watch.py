#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""record -p PID: from outside every stack is whole and true, what cannot be watched is said, and
nothing that the target does (threads, exec, exit, hostile files) costs more than itself."""

import os
import re
import signal
import struct
import subprocess
import time

import harness
from harness import FIBERSCOPE, NOBODY, TESTS, Profile, Skip, record

TARGET = os.path.join(TESTS, "watch_target")
NO_PERF = os.path.join(TESTS, "no_perf")
# machine code: push rbp; mov rbp, rsp; mov rcx, rdi; 1: dec rcx; jnz 1b; pop rbp; ret
LOOP = bytes.fromhex("554889e54889f948ffc975fb5dc3")


class Target:
    def __init__(self, *args, prefix=()):
        self.process = subprocess.Popen([*prefix, TARGET, *map(str, args)], stdout=subprocess.PIPE,
                                        text=True)
        line = self.process.stdout.readline()
        assert line.startswith("ready "), f"target: {line!r}"
        self.pid = int(line.split()[1])

    def cpu_seconds(self):
        total = 0
        for tid in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{tid}/schedstat", encoding="ascii") as f:
                total += int(f.read().split()[0])
        return total / 1e9

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def profile_of(work, *args, **more):
    path = os.path.join(work, "p.pb.gz")
    done = record(*args, "-o", path, cwd=work, check=0, **more)
    return Profile(path), done.stderr


def count(profile):
    return sum(s.values[0] for s in profile.samples)


def share(profile, wanted):
    """Of all samples, the share with wanted(stack)."""
    return sum(s.values[0] for s in profile.samples if wanted(s.stack)) / max(1, count(profile))


def is_rooted(stack):
    """The chain is whole: it ends where the kernel started the program or the thread."""
    return stack[-1] in ("_start", "clone3", "__clone3", "clone", "__clone")


def check_truth(profile):
    """What the target's source says about its stacks; a wrong or invented frame breaks it."""
    above = {"work": {"deep", "do_one", "on_signal", "short_thread", "child_work"},
             "compare": {"msort_with_tmp", "msort_with_tmp.part.0", "quicksort", "_quicksort"},
             "deep": {"deep", "do_one"}, "sort": {"do_one"}, "raise_signal": {"do_one"},
             "do_one": {"rounds"}, "rounds": {"main", "thread_start"}}
    wrong = 0
    for s in profile.samples:
        for callee, caller in zip(s.stack, s.stack[1:]):
            if callee in above and caller not in above[callee]:
                wrong += s.values[0]
                print(f"      {callee} called by {caller}: {s.stack[:8]}")
                break
        depth = s.stack.count("deep")
        if s.stack[0] == "work" and depth not in (0, 151) and is_rooted(s.stack):
            wrong += s.values[0]
            print(f"      {depth} deep frames")
        if "on_signal" in s.stack and "raise_signal" not in s.stack and is_rooted(s.stack):
            wrong += s.values[0]
            print(f"      a handler out of nowhere: {s.stack[:8]}")
    assert wrong <= count(profile) * 0.002, f"{wrong} of {count(profile)} stacks are wrong"


def watch_all_kinds(work, prefix=()):
    with Target(0, 3, "deep", "qsort", "signal", "syscall", "jit", "spin", prefix=prefix) as t:
        p, said = profile_of(work, "-F", "999", "-p", str(t.pid), "--duration", "4s", prefix=prefix)
    assert count(p) > 200, f"{count(p)} samples"
    whole = share(p, is_rooted)
    for s in p.samples:
        if not is_rooted(s.stack):
            print(f"      not whole: {s.values[0]} {s.stack[:4]} ... {s.stack[-3:]}")
    assert whole >= 0.99, f"{whole:.4f} of the samples reach main or the thread's start"
    check_truth(p)
    for name in ("deep", "compare", "on_signal", "call_jit", "main", "thread_start"):
        assert share(p, lambda st, n=name: n in st) > 0, f"{name} was never seen"
    assert {"worker"} <= {s.labels.get("thread") for s in p.samples}, "thread names are lost"
    return p, said


def stacks_reach_the_start(work):
    p, _ = watch_all_kinds(work)
    assert share(p, lambda st: "call_kernel" in st and "[kernel]" not in st[0]) > 0


def stacks_reach_the_start_for_an_ordinary_user(work):
    _, said = watch_all_kinds(work, prefix=NOBODY)
    assert "time in the kernel is not counted" in said and "perf_event_paranoid" in said, said


def measured_rate(work, what):
    path = os.path.join(work, "rate.pb.gz")
    with Target(2, 2, what) as t:
        os.kill(t.pid, signal.SIGSTOP)  # uses no CPU time before it is watched
        time.sleep(0.1)
        before = t.cpu_seconds()
        watcher = subprocess.Popen([FIBERSCOPE, "record", "-F", "999", "-p", str(t.pid), "-o",
                                    path], stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        os.kill(t.pid, signal.SIGCONT)
        used = float(t.process.stdout.readline().split()[1]) - before
        assert watcher.wait(timeout=30) == 0
    return count(Profile(path)) / used


def rate_is_what_was_asked_for(work):
    for what in ("spin", "syscall"):
        # The bench holds it to 985; a virtual machine's host may delay clocks at any time.
        for _ in range(4):
            rate = measured_rate(work, what)
            print(f"      {what}: {rate:.0f} samples per CPU second")
            if rate > 940:
                break
        # What the host takes from a virtual machine counts for the event's clock, and not as the target's CPU time.
        assert 940 < rate < 1050, f"{what}: {rate:.0f} samples per CPU second"


def threads_come_and_go(work):
    with Target(0, 2, "churn") as t:
        p, _ = profile_of(work, "-F", "1999", "-p", str(t.pid), "--duration", "2s")
    assert share(p, lambda st: "short_thread" in st) > 0.8
    assert share(p, is_rooted) >= 0.99
    assert len({s.labels.get("tid") for s in p.samples}) > 20


def the_recording_ends_with_the_target(work):
    with Target(1.5, 2, "spin") as t:
        started = time.monotonic()
        p, said = profile_of(work, "-F", "499", "-p", str(t.pid))
        assert said.startswith(f"fiberscope: process {t.pid} (watch_target): from outside\n"), said
        assert time.monotonic() - started < 30
    assert share(p, is_rooted) >= 0.99 and count(p) > 50, said


def a_killed_target_loses_nothing(work):
    path = os.path.join(work, "k.pb.gz")
    with Target(0, 2, "spin") as t:
        watcher = subprocess.Popen([FIBERSCOPE, "record", "-F", "499", "-p", str(t.pid), "-o", path],
                                   stderr=subprocess.PIPE, text=True)
        time.sleep(1.5)
        os.kill(t.pid, signal.SIGKILL)
        assert watcher.wait(timeout=30) == 0, watcher.stderr.read()
        watcher.stderr.close()
    assert count(Profile(path)) > 50


def exec_is_followed(work):
    with Target(0, 1, "exec") as t:
        p, _ = profile_of(work, "-F", "999", "-p", str(t.pid))
        assert t.process.wait(timeout=30) == 0
    # The first image burns in do_one, the second by the same name after exec, both whole.
    assert share(p, is_rooted) >= 0.98, [s.stack for s in p.samples if not is_rooted(s.stack)][:5]
    assert count(p) > 600, "the second image runs for two seconds"


def children_are_followed_unless_told_not_to(work):
    with Target(0, 1, "fork") as t:
        p, _ = profile_of(work, "-F", "999", "-p", str(t.pid), "--duration", "1s")
        assert share(p, lambda st: "child_work" in st) > 0.8
        assert share(p, lambda st: "child_work" not in st or is_rooted(st)) >= 0.98
        p, _ = profile_of(work, "-F", "999", "-p", str(t.pid), "--duration", "1s", "--no-inherit")
        assert share(p, lambda st: "child_work" in st) == 0


def ctrl_c_ends_the_recording_not_the_data(work):
    path = os.path.join(work, "c.pb.gz")
    in_background = ["sh", "-c", "trap '' INT QUIT; exec \"$@\"", "sh"]  # as a script's `&` has it
    with Target(0, 1, "spin") as t:
        watcher = subprocess.Popen([*in_background, FIBERSCOPE, "record", "-F", "499", "-p", str(t.pid), "-o", path],
                                   stderr=subprocess.PIPE, text=True)
        time.sleep(1)
        watcher.send_signal(signal.SIGINT)
        try:
            watcher.wait(timeout=30)
        finally:
            watcher.kill()
        watcher.stderr.close()
        assert t.process.poll() is None, "the target was hit"
    assert count(Profile(path)) > 20


def losses_are_counted(work):
    path = os.path.join(work, "l.pb.gz")
    with Target(0, 2, "spin") as t:
        watcher = subprocess.Popen([FIBERSCOPE, "record", "-F", "9999", "-p", str(t.pid), "-o", path,
                                    "--duration", "3s"], stderr=subprocess.PIPE, text=True)
        time.sleep(0.7)
        watcher.send_signal(signal.SIGSTOP)  # nobody drains the rings
        time.sleep(1.5)
        watcher.send_signal(signal.SIGCONT)
        _, said = watcher.communicate(timeout=30)
        assert watcher.returncode == 0, said
    p = Profile(path)
    match = re.search(r"(\d+) dropped", said.replace(",", ""))
    assert match and int(match.group(1)) > 100, said
    assert share(p, is_rooted) >= 0.99


def refused(work, *args, prefix=(), says):
    done = record(*args, "-o", os.path.join(work, "r.pb.gz"), cwd=work, prefix=prefix)
    assert done.returncode == 1, f"{args}: exit {done.returncode}: {done.stderr}"
    for word in says:
        assert word in done.stderr, f"{args}: no {word!r} in {done.stderr!r}"
    assert os.listdir(work) == [], os.listdir(work)


def refusals_say_why_and_what_to_do(work):
    gone = subprocess.Popen(["true"])
    gone.wait()
    refused(work, "-p", str(gone.pid), says=[f"no process {gone.pid}", "pgrep"])
    with Target(0, 2, "idle") as t:
        pid = str(t.pid)
        tid = max(os.listdir(f"/proc/{pid}/task"), key=int)
        refused(work, "-p", tid, says=["is a thread of", f"-p {pid}"])
        refused(work, "-p", pid, prefix=[NO_PERF], says=["seccomp", "perf_event_open"])
        refused(work, "-p", pid, "--wall", says=["wall time", "record"])
        if os.geteuid() == 0:
            refused(work, "-p", pid, prefix=NOBODY, says=["belongs to user 0", "root"])
    zombie = subprocess.Popen(["true"])
    for _ in range(200):
        with open(f"/proc/{zombie.pid}/stat", encoding="ascii") as f:
            if f.read().split(") ")[1][0] == "Z":
                break
        time.sleep(0.01)
    refused(work, "-p", str(zombie.pid), says=["has ended", f"parent {os.getpid()}"])
    zombie.wait()
    if os.path.exists("/proc/2/stat"):
        with open("/proc/2/stat", encoding="ascii") as f:
            if "(kthreadd)" in f.read():
                refused(work, "-p", "2", says=["kernel thread"])


def elf(header, frame):
    """A shared object with code at 4096 and these bytes as .eh_frame_hdr and .eh_frame."""
    tables = header.ljust(64, b"\0") + frame
    loads = [(1, 4, 0, 0, 4096), (1, 5, 4096, 4096, 4096), (0x6474e550, 4, 512, 512, len(header))]
    out = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 3, 62, 1, 0, 64, 0, 0, 64, 56,
                      len(loads), 64, 0, 0)
    for kind, flags, offset, address, size in loads:
        out += struct.pack("<IIQQQQQQ", kind, flags, offset, address, address, size, size, 4096)
    out = out.ljust(512, b"\0") + tables[:3000]
    return out.ljust(4096, b"\0") + LOOP.ljust(4096, b"\xcc")


def hostile_files(work):
    """name -> bytes of a file whose code runs."""
    pointer = struct.pack("<i", 64 - 4)
    table = b"\1\x1b\3\x3b" + pointer + struct.pack("<I", 0xffffffff) + struct.pack("<ii", 3584, 64)
    cie = struct.pack("<II", 20, 0) + b"\1zR\0\1\x78\x10\1\x1b" + b"\x0c\7\x08\x90\1".ljust(7, b"\0")
    fde = struct.pack("<IIii", 0x7fffff00, 28, 3584 - 96, 4096) + b"\0" * 16
    good = elf(table, cie + fde)
    return {
        "endless_length": good,
        "garbage": elf(os.urandom(64), os.urandom(2900)),
        "ones": elf(b"\1\x1b\3\x3b" + b"\xff" * 60, b"\xff" * 2900),
        "self_reference": elf(table, struct.pack("<II", 4, 4) * 300),
        "zeros": elf(table, b"\0" * 2900),
        "not_elf": b"#!" + good[2:],
        "phdrs_cut": good[:40] + struct.pack("<Q", 0) + good[48:56] + struct.pack("<H", 0xffff) +
                     good[58:],
    }


def hostile_files_cost_themselves_only(work):
    for name, content in hostile_files(work).items():
        path = os.path.join(work, name)
        with open(path, "wb") as f:
            f.write(content)
        with Target(0, 2, f"map:{path}", "spin") as t:
            p, _ = profile_of(work, "-F", "999", "-p", str(t.pid), "--duration", "700ms", timeout=30)
        mapped = share(p, lambda st: "map_file" in st)
        assert mapped > 0.05, f"{name}: {mapped:.3f} of the samples in the mapped code"
        # Its code keeps a frame pointer, so even without its tables the caller is found.
        assert share(p, is_rooted) > 0.97, f"{name}: {share(p, is_rooted):.3f} whole"


def a_shrunk_file_costs_itself_only(work):
    path = os.path.join(work, "shrinks")
    with open(path, "wb") as f:
        f.write(hostile_files(work)["garbage"])
    with Target(0, 1, "idle") as t:
        profile = os.path.join(work, "s.pb.gz")
        watcher = subprocess.Popen([FIBERSCOPE, "record", "-F", "999", "-p", str(t.pid), "-o",
                                    profile, "--duration", "1s"], stderr=subprocess.PIPE, text=True)
        time.sleep(0.3)
        os.truncate(path, 10)
        _, said = watcher.communicate(timeout=30)
    assert watcher.returncode == 0, said


def static_programs_are_launched_from_outside(work):
    static = os.path.join(TESTS, "watch_static")
    path = os.path.join(work, "st.pb.gz")
    done = subprocess.run([FIBERSCOPE, "record", "-F", "999", "-o", path, static, "1.5", "2", "deep",
                           "qsort"], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    p = Profile(path)
    assert count(p) > 200 and share(p, is_rooted) >= 0.99, \
        f"{count(p)} samples, {share(p, is_rooted):.3f} whole: {done.stderr}"


def need_perf():
    if subprocess.run([TARGET, "0.01", "1"], stdout=subprocess.DEVNULL, check=False).returncode:
        raise Skip("the target does not run here")


if __name__ == "__main__":
    harness.main([
        stacks_reach_the_start,
        stacks_reach_the_start_for_an_ordinary_user,
        rate_is_what_was_asked_for,
        threads_come_and_go,
        the_recording_ends_with_the_target,
        a_killed_target_loses_nothing,
        exec_is_followed,
        children_are_followed_unless_told_not_to,
        ctrl_c_ends_the_recording_not_the_data,
        losses_are_counted,
        refusals_say_why_and_what_to_do,
        hostile_files_cost_themselves_only,
        a_shrunk_file_costs_itself_only,
        static_programs_are_launched_from_outside,
    ])
