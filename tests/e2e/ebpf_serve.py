#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""serve -p PID --method=ebpf: `go tool pprof` gets CPU time and contention of a program that knows nothing of us, several at
once, from a server without privilege; what cannot be had says why."""

import os
import signal
import subprocess
import threading
import time

import serve
from ebpf import CAP_BPF, KEPT, status
from harness import FIBERSCOPE, NOBODY, TESTS, Profile, main, skip_without_bpf

TARGET = os.path.join(TESTS, "lock_target")


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
                                       ("wall?seconds=1", 500, b"from outside"), ("trace?seconds=1", 501, b"from outside"),
                                       ("nothing", 404, b"Unknown profile")):
                got, text = s.get(path)
                assert got == code or path.startswith("trace"), (path, got, text)
                assert all(w in text for w in words), (path, text)
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
    main([go_gets_each_kind, a_scrape_is_what_was_used_meanwhile, privileges_are_gone_and_scrapes_work,
          what_cannot_be_had_says_why, it_ends_with_the_program])
