#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""serve -p PID --method=ebpf: `go tool pprof` gets CPU time and contention of a program that knows nothing of us, several at
once, from a server without privilege; what cannot be had says why."""

import http.client
import os
import resource
import signal
import subprocess
import threading
import time
import urllib.request

import serve
from ebpf import CAP_BPF, KEPT, begun, ended, status
from ebpf_waits import OFFCPU, TYPES, WAITS, Truth, near, of
from harness import FIBERSCOPE, NOBODY, TESTS, Profile, main, skip_without_bpf

TARGET = os.path.join(TESTS, "lock_target")
WAITS_TARGET = os.path.join(TESTS, "ebpf_waits_target")


class Target:
    def __init__(self):
        self.process = subprocess.Popen([TARGET, "busy"], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "busy\n"
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def cpu_s(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as f:
            user, kernel = f.read().rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(kernel)) / os.sysconf("SC_CLK_TCK")


def served(work, target, *args):
    return serve.Served(work, "--method=ebpf", *args, "-p", str(target.pid))


def scrape(work, s, path, name):
    code, body = s.get(path)
    assert code == 200, (path, code, body[:200])
    file = os.path.join(work, name)
    with open(file, "wb") as f:
        f.write(body)
    return Profile(file)


def total(p, value=1):
    return sum(s.values[value] for s in p.samples)


class Waiter:
    """ebpf_waits_target, whose first thread waits for a word of ours before it does each thing, and after the last one."""

    def __init__(self, *does):
        args = [word for what in does for word in ("word", what)] + ["word"]
        self.process = subprocess.Popen([WAITS_TARGET, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline().startswith("ready")
        self.pid = self.process.pid
        time.sleep(0.1)  # it waits now

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def go_on(self, threads):
        """What so many threads say that they did."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        rows = [self.process.stdout.readline().split() for _ in range(threads)]
        return [Truth(r[0], int(r[1]), *map(int, r[2:])) for r in rows]


class Asked(threading.Thread):
    """A request under way; the profile is there after join."""

    def __init__(self, work, s, path, name):
        super().__init__()
        self.args, self.profile = (work, s, path, name), None
        self.start()

    def run(self):
        self.profile = scrape(*self.args)


def share(p, function):
    return sum(s.values[1] for s in p.samples if function in s.stack) / max(total(p), 1)


def go_gets_each_kind(work):
    with Target() as t, served(work, t, "--block", "--mutex") as s:
        serve.check_kinds(work, s, {"profile?seconds=1": ["work_locked", "lock_target.c"], "mutex": ["work_locked", "known_mutex"],
                                    "block": ["work_locked", "known_mutex"], "mutex?seconds=1": ["work_locked"],
                                    "threads": ["lock_target"], "goroutine": [], "threadcreate": []})
        code, text = s.get("mutex?debug=1")
        assert code == 200 and text.startswith(b"--- mutex:\n") and b"work_locked" in text, text[:300]
        code, text = s.get("goroutine?debug=2")
        assert code == 200 and text.count(b"thread ") == 4, text
        code, text = s.get("")
        assert code == 200 and b"mutex" in text


def a_scrape_is_what_was_used_meanwhile(work):
    """Also beside another one, and not what was used before."""
    found = {}
    with Target() as t, served(work, t, "--mutex") as s:
        scrape(work, s, "profile?seconds=1", "first")  # what it leaves behind is in no other

        def ask(name, seconds):
            used = []
            before = t.cpu_s()
            look = threading.Timer(seconds, lambda: used.append(t.cpu_s() - before))
            look.start()
            p = scrape(work, s, f"profile?seconds={seconds}", name)
            look.join()
            found[name] = (p, used[0])

        both = [threading.Thread(target=ask, args=a) for a in (("long", 4), ("short", 2))]
        for b in both:
            b.start()
            time.sleep(0.5)
        for b in both:
            b.join()
        first = total(scrape(work, s, "mutex", "m1"))
        delta = total(scrape(work, s, "mutex?seconds=1", "m2"))
        assert 0 < delta and first < total(scrape(work, s, "mutex", "m3"))
    for name, seconds in (("long", 4), ("short", 2)):
        p, used = found[name]
        print(f"      {name}: {total(p) / 1e9:.2f} s in {p.duration / 1e9:.2f} s, {used:.2f} s used in {seconds} s")
        assert share(p, "work_locked") > 0.9, [(x.stack, x.values) for x in p.samples]
        assert seconds * 1e9 <= p.duration < seconds * 1e9 + 2e9, p.duration
        # Samples of 10 ms: four standard deviations of chance.
        chance = 4 * (used * 0.01) ** 0.5
        assert used - chance < total(p) / 1e9 < used * p.duration / 1e9 / seconds + chance, (total(p), used)


def of_first(target, function="main"):
    return lambda x: x.labels.get("tid") == target.pid and function in x.stack


def waits_are_what_the_threads_say(work):
    """Off the processor and on the wall, at the same time and beside `record`, one begun while the other one goes on: what
    began before and lasts counts from the request on."""
    path = os.path.join(work, "recorded.pb.gz")
    with Waiter("nap") as t, served(work, t) as s:
        record = subprocess.Popen([FIBERSCOPE, "record", "--offcpu", "-o", path, "-p", str(t.pid)], stderr=subprocess.PIPE,
                                  text=True)
        begun(record)
        off = Asked(work, s, "offcpu?seconds=2", "off")
        time.sleep(0.6)
        wall = Asked(work, s, "wall?seconds=1", "wall")
        time.sleep(0.3)  # it has begun
        (napper,) = t.go_on(1)
        assert off.is_alive() and wall.is_alive() and record.poll() is None, "it took too long"
        record.send_signal(signal.SIGINT)
        ended(record)
        off.join()
        wall.join()
    off, wall, recorded = off.profile, wall.profile, Profile(path)
    assert off.sample_types == TYPES and wall.sample_types == [("samples", "count"), ("wall", "nanoseconds")]
    where = of(napper, "take_naps")
    near(off.total(OFFCPU, where), napper.wall - napper.cpu, 0.03, "the napper off the processor")
    near(recorded.total(OFFCPU, where), off.total(OFFCPU, where), 0.03, "by record")
    near(wall.total(1, where), napper.wall, 0.03, "on the wall")
    # Who has waited all the time, in three calls, has waited as long as the request took.
    for p, value, what in ((off, OFFCPU, "off"), (wall, 1, "wall")):
        near(p.total(value, of_first(t)), p.duration, 0.03, f"{what}: the first thread")
    assert 2 <= off.total(WAITS, of_first(t, "wait_for_word")) <= 5  # more where another one took its processor


def one_that_cannot_begin_is_no_hindrance(work):
    """Without descriptors no program can be attached; later, they can. One at a time of a kind has the waits."""
    with Waiter() as t, served(work, t) as s:
        c = http.client.HTTPConnection(s.url.split("/")[2], timeout=30)
        answers = []
        hard = resource.prlimit(s.process.pid, resource.RLIMIT_NOFILE)[1]
        for limit in (None, 0, None):
            resource.prlimit(s.process.pid, resource.RLIMIT_NOFILE, (hard if limit is None else limit, hard))
            c.request("GET", "/debug/pprof/" + ("offcpu?seconds=1" if limit == 0 or answers else "cmdline"))
            r = c.getresponse()
            answers.append((r.status, r.read()))
        c.close()
        assert [a[0] for a in answers] == [200, 500, 200] and b"Could not enable off-CPU" in answers[1][1], answers
        first = Asked(work, s, "offcpu?seconds=1", "again")
        time.sleep(0.5)
        code, text = s.get("offcpu?seconds=1")
        assert (code, text) == (500, b"Could not enable off-CPU profiling: off-CPU profiling already in use\n")
        first.join()
    p = first.profile
    near(p.total(OFFCPU, of_first(t)), p.duration, 0.03, "what was before is not in it")
    assert p.total(WAITS) == 1, p.total(WAITS)


def locks_that_are_told_apart_are_so_many(work):
    """Of 6,000 that were waited for once 4,096 have their addresses, the last ones among them; and none is missing."""
    target = subprocess.Popen([TARGET, "many"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def go_on():
        target.stdin.write("\n")
        target.stdin.flush()
        assert target.stdout.readline() == "many\n"

    try:
        assert target.stdout.readline() == "many\n"
        with served(work, target, "--mutex") as s:
            go_on()
            first = scrape(work, s, "mutex", "first")
            delta = Asked(work, s, "mutex?seconds=1", "delta")
            time.sleep(0.2)
            go_on()
            delta.join()
            second = scrape(work, s, "mutex", "second")
            with urllib.request.urlopen(s.url.replace("/debug/pprof/", "/metrics"), timeout=30) as r:
                metrics = r.read().decode()
    finally:
        target.kill()
        target.communicate()
    addresses = [{x.labels["lock_address"] for x in p.samples if "lock_address" in x.labels} for p in (first, second)]
    print(f"      {total(first, 0)} and {total(second, 0)} contentions, {[len(a) for a in addresses]} locks")
    # A waiter may have found the lock free on its way into the kernel.
    assert 2700 < len(addresses[0]) <= 3001 and 5400 < total(second, 0) <= 6002
    assert len(addresses[1]) == 4096 and len(addresses[1] - addresses[0]) > 2700
    assert 0 < total(delta.profile, 0) <= total(second, 0) - total(first, 0)
    assert all(v >= 0 for x in delta.profile.samples for v in x.values)
    assert f"fiberscope_sync_mutex_contentions_total {total(second, 0)}\n" in metrics


def privileges_are_gone_and_scrapes_work(work):
    with Target() as t, served(work, t, "--block") as s:
        for tid in os.listdir(f"/proc/{s.process.pid}/task"):
            permitted, effective = status(f"{s.process.pid}/task/{tid}", "CapPrm"), status(f"{s.process.pid}/task/{tid}", "CapEff")
            may = sum(1 << bit for bit in KEPT.values())
            assert effective & ~may == 0, f"{tid}: {effective:x}"
            assert permitted & ~(may | 1 << CAP_BPF) == 0, f"{tid}: {permitted:x}"
            assert status(f"{s.process.pid}/task/{tid}", "NoNewPrivs") == 1
        for i in range(2):
            assert share(scrape(work, s, "profile?seconds=1", f"p{i}"), "work_locked") > 0.9


def what_cannot_be_had_says_why(work):
    with Target() as t:
        with served(work, t) as s:
            index = s.get("")[1]
            assert b"<a href='mutex?" in index and b"<td>heap (needs the agent)</td>" in index, index
            for path, code, *words in (("heap", 501, b"--method=inject"), ("allocs", 501, b"from outside"),
                                       ("mutex", 501, b"--method=ebpf --mutex"), ("block", 501, b"--method=ebpf --block"),
                                       ("trace?seconds=1", 501, b"Could not enable tracing: no trace from outside", b"--method=inject"),
                                       ("nothing", 404, b"Unknown profile")):
                got, text = s.get(path)
                assert got == code and all(w in text for w in words), (path, got, text)
        with serve.Served(work, "--method=perf", "-p", str(t.pid)) as s:
            for path, *words in (("offcpu?seconds=1", b"--method=ebpf"), ("wall?seconds=1", b"from outside"),
                                 ("trace?seconds=1", b"from outside")):
                got, text = s.get(path)
                assert got == 501 and all(w in text for w in words), (path, got, text)
        for words, says in ((["-p", str(os.getpid())], "CAP_BPF and CAP_PERFMON are missing"), (["true"], "it needs -p PID"),
                            (["--heap", "-p", str(t.pid)], "--heap needs the agent")):
            prefix = NOBODY if "CAP_BPF" in says else []
            done = subprocess.run([*prefix, FIBERSCOPE, "serve", "--listen", "127.0.0.1:0", "--method=ebpf", *words],
                                  capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode in (1, 2) and says in done.stderr, (words, done.stderr)


def it_ends_with_the_program(work):
    with Target() as t, served(work, t, "--mutex") as s:
        answers = []
        asking = threading.Thread(target=lambda: answers.append(s.get("profile?seconds=30")))
        asking.start()
        time.sleep(1.5)
        os.kill(t.pid, signal.SIGKILL)
        t.process.wait()
        asking.join()
        assert answers[0][0] == 200, answers
        _, said = s.process.communicate(timeout=30)
    assert "has ended" in said and s.process.returncode == 0, said


if __name__ == "__main__":
    skip_without_bpf()
    main([go_gets_each_kind, a_scrape_is_what_was_used_meanwhile, waits_are_what_the_threads_say,
          one_that_cannot_begin_is_no_hindrance, locks_that_are_told_apart_are_so_many, privileges_are_gone_and_scrapes_work,
          what_cannot_be_had_says_why, it_ends_with_the_program])
