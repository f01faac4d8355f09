#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fiberscope serve: `go tool pprof` gets every kind of profile of a fiber program and of a plain threaded one, with
functions named; a command that is served is as it would be without; and what is mistyped is explained."""

import collections
import gzip
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

from harness import BUILD, FIBERSCOPE, TESTS, Skip, main

SHORTEN = os.path.join(BUILD, "examples", "shorten")
TARGET = os.path.join(TESTS, "late_target")
GO = shutil.which("go") or "/usr/local/go/bin/go"
PPROF = None


class Served:
    """fiberscope serve ARGS, with its address; the command's output is in `work`/out."""

    def __init__(self, work, *args, env=None):
        self.out = os.path.join(work, "out")
        with open(self.out, "wb") as out:
            self.process = subprocess.Popen([FIBERSCOPE, "serve", "--listen", "127.0.0.1:0", *args], cwd=work,
                                            stdout=out, stderr=subprocess.PIPE, text=True, env=env)
        self.line = self.process.stderr.readline()
        found = re.match(r"fiberscope serve: (\S+) \(pid (\d+)\) at (http://127\.0\.0\.1:\d+/debug/pprof/); "
                         r"try: go tool pprof http", self.line)
        assert found, self.line + self.process.stderr.read()
        self.program, self.pid, self.url = found.group(1), int(found.group(2)), found.group(3)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def get(self, path, timeout=60):
        try:
            with urllib.request.urlopen(self.url + path, timeout=timeout) as r:
                return r.status, r.read()
        except urllib.error.HTTPError as e:
            return e.code, e.read()

    def words(self):
        """The first line that the command wrote."""
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with open(self.out, encoding="utf-8") as f:
                text = f.read()
            if "\n" in text:
                return text.split("\n")[0]
            time.sleep(0.05)
        raise AssertionError("the command said nothing")


def pprof(work, url, *options):
    """What `go tool pprof -proto` saves of it, and its messages."""
    global PPROF
    if not PPROF:
        if not os.path.exists(GO):
            raise Skip("there is no Go here")
        PPROF = subprocess.run([GO, "tool", "-n", "pprof"], check=True, capture_output=True, text=True).stdout.strip()
    out = os.path.join(work, "saved.pb.gz")
    env = dict(os.environ, PPROF_TMPDIR=work, HOME=work)
    done = subprocess.run([PPROF, "-proto", f"-output={out}", *options, url], capture_output=True, text=True, env=env,
                          timeout=90, check=False)
    if done.returncode:
        return b"", done.stderr
    with gzip.open(out) as f:
        return f.read(), done.stderr


def check_kinds(work, served, wanted):
    """wanted: kind -> names that must be there (none: it may be empty)."""
    for kind, names in wanted.items():
        saved, said = pprof(work, served.url + kind)
        assert saved, (kind, said)
        for name in names:
            assert name.encode() in saved, (kind, name)


def check_texts(served):
    for kind, start in (("heap", b"heap profile: "), ("allocs", b"heap profile: "), ("block", b"--- contention:\n"),
                        ("mutex", b"--- mutex:\n"), ("goroutine", b"goroutine profile: total "),
                        ("threads", b"threads profile: total "), ("threadcreate", b"threadcreate profile: total ")):
        status, text = served.get(kind + "?debug=1")
        assert status == 200 and text.startswith(start), (kind, status, text[:200])
        assert b"[stack lost]" not in text or kind != "threadcreate", text


def a_fiber_program_is_served(work):
    with Served(work, "--heap=4096", "--block", "--mutex", SHORTEN, "-p", "0", "-d", "links.db") as s:
        assert s.program == "shorten", s.line
        port = s.words().rsplit(":", 1)[1]
        over = threading.Event()

        def visit():
            while not over.is_set():
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/nothing", timeout=5).read()
                except OSError:
                    pass

        visitors = [threading.Thread(target=visit) for _ in range(3)]
        for v in visitors:
            v.start()
        try:
            check_kinds(work, s, {
                "profile?seconds=2": ["shorten/"], "wall?seconds=1": [], "heap": ["shorten/"], "allocs": ["shorten/"],
                "goroutine": ["accept_run", "visits_run", "shorten/main.c"], "block": [], "mutex": [], "threads": [],
                "threadcreate": [], "heap?seconds=1": []})
            check_texts(s)
            status, text = s.get("goroutine?debug=2")
            assert status == 200 and re.search(rb"^goroutine 1 \[[^]]+\]:\n", text) and b"created by" in text, text
            status, trace = s.get("trace?seconds=0.5")
            assert status == 200 and trace.startswith(b"go 1.23 trace\0"), trace[:100]
            with open(f"{work}/t.trace", "wb") as f:
                f.write(trace)
            done = subprocess.run([GO, "tool", "trace", "-d=parsed", f"{work}/t.trace"], capture_output=True, text=True,
                                  timeout=60, check=False)
            assert done.returncode == 0 and "GoID=" in done.stdout, done.stderr
            assert s.get("cmdline")[1] == b"\0".join(a.encode() for a in (SHORTEN, "-p", "0", "-d", "links.db"))
            status, index = s.get("")
            rows = dict((n, int(c)) for c, n in re.findall(rb"<td>(\d+)</td><td><a href='(\w+)\?debug=1'>", index))
            assert rows[b"goroutine"] >= 3 and rows[b"heap"] > 0 and b"wall" in rows, rows
        finally:
            over.set()
            for v in visitors:
                v.join()


def a_threaded_program_is_served(work):
    with Served(work, "--heap=4096", "--block", "--mutex", TARGET, "work", "60") as s:
        assert s.words() == "ready"
        check_kinds(work, s, {
            "profile?seconds=1": ["late_target.c"], "wall?seconds=1": ["late_target.c"], "heap": ["late_target.c"],
            "allocs": ["late_target.c"], "block": ["late_target.c"], "mutex": ["late_target.c"], "goroutine": [],
            "threads": [], "threadcreate": ["late_target.c"], "heap?seconds=1": ["late_target.c"]})
        check_texts(s)
        made_for = s.get("threadcreate?debug=1")[1]
        assert re.search(rb"^3 @ .*\n#\t\S+\twork\t", made_for, re.M), made_for
        assert s.get("goroutine?debug=2")[0] == 200


def without_the_agent_there_is_time_and_a_reason_for_the_rest(work):
    target = subprocess.Popen([TARGET, "work", "60"], stdout=subprocess.PIPE, text=True)
    try:
        assert target.stdout.readline() == "ready\n"
        with Served(work, "--method=perf", "-p", str(target.pid)) as s:
            assert s.pid == target.pid
            said = s.process.stderr.readline()
            assert said.startswith("fiberscope serve: from outside: "), said
            check_kinds(work, s, {"profile?seconds=1": ["late_target.c"], "goroutine": []})
            saved, said = pprof(work, s.url + "heap")
            assert not saved and "heap: " in said, said  # pprof shows our words
            assert s.get("nothing") == (404, b"Unknown profile\n")
        assert target.poll() is None and s.process.returncode == 0
    finally:
        target.kill()
        target.wait()


def it_ends_with_the_process_and_not_the_other_way(work):
    target = subprocess.Popen([TARGET, "work", "60"], stdout=subprocess.PIPE, text=True,
                              env=dict(os.environ, LD_PRELOAD=os.path.join(BUILD, "agent", "libfiberscope.so")))
    try:
        assert target.stdout.readline() == "ready\n"
        for signo, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 0)):
            with Served(work, "-p", str(target.pid)) as s:
                assert s.get("heap")[0] == 200
                code, why = s.get("block")
                assert code == 501 and b"--block -p %d" % target.pid in why, why
                s.process.send_signal(signo)
                ended = s.process.wait(timeout=10)
                said = s.process.stderr.read()
                assert ended == status and ("goes on" in said) == (status == 0), (ended, said)
            time.sleep(0.3)
            assert target.poll() is None
        with Served(work, "-p", str(target.pid)) as s:
            asked = []
            ask = threading.Thread(target=lambda: asked.append(s.get("profile?seconds=30")))
            ask.start()
            time.sleep(0.5)
            target.kill()
            assert s.process.wait(timeout=10) == 0
            assert "has ended" in s.process.stderr.read()
            ask.join()
            status, profile = asked[0]  # what there was until then
            assert status == 200 and b"late_target" in gzip.decompress(profile), asked
    finally:
        target.kill()
        target.wait()


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def rss_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))


def scraping_leaves_nothing_behind(work):
    with Served(work, "--block", "--mutex", TARGET, "work", "100") as s:
        assert s.words() == "ready"
        kinds = ["heap", "allocs", "block", "mutex", "goroutine", "threads", "threadcreate", "heap?debug=1",
                 "goroutine?debug=2", "block?debug=1", "cmdline", "symbol?0x1", "", "nothing"]

        def scrape():
            for kind in kinds:
                assert s.get(kind)[0] in (200, 404), kind

        def record():
            assert s.get("trace?seconds=0.05")[0] == 200
            assert s.get("profile?seconds=1")[0] == 200

        record()
        for _ in range(4):
            scrape()
        time.sleep(0.5)
        ours, memory, theirs = descriptors(s.process.pid), rss_kib(s.process.pid), descriptors(s.pid)
        until = time.monotonic() + 25
        rounds = 0
        while time.monotonic() < until and rounds < 40:
            scrape()
            rounds += 1
        record()
        time.sleep(0.5)
        assert rounds >= 3, rounds
        assert descriptors(s.process.pid) <= ours + 2, (ours, descriptors(s.process.pid))
        assert descriptors(s.pid) <= theirs, (theirs, descriptors(s.pid))
        assert rss_kib(s.process.pid) < memory + 16384, (memory, rss_kib(s.process.pid), rounds)


def one_samples_at_a_time(work):
    with Served(work, TARGET, "work", "60") as s:
        assert s.words() == "ready"
        first = []
        one = threading.Thread(target=lambda: first.append(s.get("profile?seconds=3")))
        one.start()
        time.sleep(1)
        second = s.get("profile?seconds=1")
        one.join()
        assert first[0][0] == 200
        assert second == (500, b"Could not enable CPU profiling: cpu profiling already in use\n"), second
        # A client that leaves ends it, and the next one is served.
        try:
            s.get("profile?seconds=30", timeout=1)
            raise AssertionError("a profile of 30 s came in 1 s")
        except TimeoutError:
            pass
        time.sleep(1)
        start = time.monotonic()
        assert s.get("profile?seconds=1")[0] == 200 and time.monotonic() - start < 10


def the_commands_status_is_ours(work):
    def status(*argv, **more):
        done = subprocess.run([FIBERSCOPE, "serve", "-q", "--listen", "127.0.0.1:0", *argv], cwd=work, timeout=60,
                              capture_output=True, text=True, check=False, **more)
        return done.returncode, done.stdout, done.stderr

    assert status("sh", "-c", "echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")
    assert status("true") == (0, "", "")
    assert status("sh", "-c", "kill -9 $$") == (137, "", "")
    assert status("cat", input="through\n") == (0, "through\n", "")
    assert status("sh", "-c", "echo ${FIBERSCOPE_TOKEN-none}",
                  env=dict(os.environ, FIBERSCOPE_TOKEN="x" * 20)) == (0, "none\n", "")
    rc, _, said = status("no-such-command")
    assert rc == 127 and "no-such-command" in said, said


def signals_are_passed_on(work):
    script = "trap 'echo hup' HUP; trap 'echo usr1' USR1; trap 'echo term; exit 3' TERM; echo ready; " \
             "while :; do sleep 0.1; done"
    with Served(work, "sh", "-c", script) as s:
        assert s.words() == "ready"
        for signo in (signal.SIGHUP, signal.SIGUSR1):
            s.process.send_signal(signo)
            time.sleep(0.4)
        s.process.send_signal(signal.SIGTERM)
        assert s.process.wait(timeout=20) == 3
        with open(s.out, encoding="utf-8") as f:
            assert f.read() == "ready\nhup\nusr1\nterm\n"


def as_process_1_it_reaps(work):
    if os.geteuid() != 0:
        raise Skip("needs root for a pid namespace")
    script = "for i in 1 2 3; do (sh -c 'sleep 0.1' &); done; sleep 1; " \
             "cat /proc/[0-9]*/stat | grep -c ') Z ' ; echo $PPID; exit 5"
    done = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", FIBERSCOPE, "serve", "-q", "--listen",
                           "unix:sock", "sh", "-c", script], cwd=work, timeout=60, capture_output=True, text=True,
                          check=False)
    assert (done.returncode, done.stdout) == (5, "0\n1\n"), (done.returncode, done.stdout, done.stderr)
    assert not os.path.exists(f"{work}/sock")


def mistakes_are_explained_before_anything_starts(work):
    def fails(*argv, env=None):
        done = subprocess.run([FIBERSCOPE, "serve", *argv], cwd=work, timeout=60, capture_output=True, text=True,
                              check=False, env=env)
        assert done.returncode in (1, 2, 126, 127), done.returncode
        assert not os.path.exists(f"{work}/started"), argv
        return done.stderr

    command = ("touch", "started")
    assert "or -p PID" in fails()
    assert "exclude" in fails("-p", "1", *command)
    assert "--listen" in fails("--lisen", "127.0.0.1:0", *command)
    assert "127.0.0.1:6060" in fails("--listen", ":6060", *command)
    assert "token" in fails("--listen", "0.0.0.0:0", *command)
    assert "16" in fails("--listen", "0.0.0.0:0", *command, env=dict(os.environ, FIBERSCOPE_TOKEN="short"))
    assert "10.0.0.0/8" in fails("--listen", "127.0.0.1:0", "--allow", "10.0", *command)
    assert "No such file" in fails("--token-file", "nowhere", *command)
    assert "--heap" in fails("--heap=much", *command)
    assert "record --heap=exact" in fails("--heap=exact", *command)
    assert "--block" in fails("--block=x", *command)
    assert "--mutex" in fails("--mutex=0", *command)
    assert "-p 4194303" in fails("4194303")
    assert "4194303" in fails("-p", "4194303")


def a_token_is_asked_for(work):
    token = "0123456789abcdefghij"
    with open(f"{work}/token", "w", encoding="ascii") as f:
        f.write(token + "\n")
    with Served(work, "--token-file", "token", TARGET, "work", "30") as s:
        assert s.words() == "ready"
        assert token not in s.line and ":TOKEN@" in s.line
        assert s.get("heap")[0] == 401
        saved, said = pprof(work, s.url.replace("http://", f"http://:{token}@") + "goroutine")
        assert saved, said


def timers(pid):
    with open(f"/proc/{pid}/timers", encoding="ascii") as f:
        return f.read().count("ID:")


def state(pid):
    """What `fiberscope ps` says that the agent does."""
    said = subprocess.run([FIBERSCOPE, "ps"], capture_output=True, text=True, timeout=30, check=True).stdout
    return re.search(rf"^ *{pid} +\S+ +\d+ +\S+ +(.*\S)", said, re.M).group(1).split()


def what_it_switched_on_is_off_at_its_end(work):
    for options, after in (([], ["idle", "-", "-"]), (["--method=inject"], ["out", "of", "service", "-", "-"])):
        env = dict(os.environ)
        if not options:
            env["LD_PRELOAD"] = os.path.join(BUILD, "agent", "libfiberscope.so")
        target = subprocess.Popen([TARGET, "work", "100"], stdout=subprocess.PIPE, text=True, env=env)
        try:
            assert target.stdout.readline() == "ready\n"
            open_before = None
            for round_number in range(3):
                with Served(work, "-p", str(target.pid), "--heap=4096", "--block", "--mutex", *options) as s:
                    for path in ("heap", "block", "mutex", "profile?seconds=1", "wall?seconds=1", "trace?seconds=0.3"):
                        assert s.get(path)[0] == 200, path
                    with urllib.request.urlopen(s.url.replace("/debug/pprof/", "/metrics"), timeout=30) as r:
                        assert b"fiberscope_gc_heap" in r.read()
                    assert state(target.pid)[:4] == ["recording", "heap", "block", "mutex"], state(target.pid)
                assert s.process.returncode == 0
                assert state(target.pid) == after, (round_number, state(target.pid))
                assert timers(target.pid) == 0 and len(os.listdir(f"/proc/{target.pid}/task")) == 4
                now = descriptors(target.pid)
                assert open_before in (None, now), (open_before, now)
                open_before = now
        finally:
            target.kill()
            target.wait()


def latency_us(port, requests=4000):
    """Of the program itself: the middle one, and wrong answers."""
    done = subprocess.run([SHORTEN + "_load", "-p", port, "-c", "2", "-n", str(requests)], capture_output=True, text=True,
                          timeout=90, check=True)
    assert " 0 wrong; 0 unanswered" in done.stdout, done.stdout
    return float(re.search(r"median (\d+)", done.stdout)[1])


def abuse(address, over, counts):
    """Slow ones, too large ones, wrong tokens, strangers and the mad, until `over`."""
    rng, slow = random.Random(11), []
    good = b"GET /debug/pprof/heap?debug=1 HTTP/1.1\r\nHost: localhost\r\n"
    while not over.is_set():
        try:
            while len(slow) < 1000 and not over.is_set():
                s = socket.create_connection(address, 5)
                s.sendall(good[:rng.randrange(1, len(good))])
                slow.append(s)
                counts["slow"] += 1
            kind = rng.choice(("token", "stranger", "large", "body", "mad"))
            source = ("127.0.0.9", 0) if kind == "stranger" else None
            with socket.create_connection(address, 5, source) as s:
                s.sendall({"token": good + b"Authorization: Bearer " + rng.randbytes(16).hex().encode() + b"\r\n\r\n",
                           "stranger": good + b"\r\n", "large": good + b"X: " + b"x" * 1000000,
                           "body": b"POST /debug/pprof/symbol HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n" + b"1" * 5000,
                           "mad": rng.randbytes(rng.randrange(1, 300)) + good + rng.randbytes(40)}[kind])
                s.settimeout(0.1)
                reply = s.recv(4096)
                assert b" 200 " not in reply.split(b"\r\n")[0], (kind, reply)
                counts[kind] += 1
        except OSError:
            counts["cut off"] += 1
        time.sleep(0.002)
    for s in slow:
        s.close()


def abused_it_leaves_the_program_alone(work):
    token = "0123456789abcdefghij"
    with open(f"{work}/token", "w", encoding="ascii") as f:
        f.write(token + "\n")
    with Served(work, "--token-file", "token", "--allow", "127.0.0.1", SHORTEN, "-p", "0", "-d", "links.db") as s:
        port = s.words().rsplit(":", 1)[1]
        host, own = s.url.split("/")[2].split(":")
        latency_us(port)  # it has its memory, then
        before = min(latency_us(port) for _ in range(3))
        theirs, ours, memory = descriptors(s.pid), descriptors(s.process.pid), rss_kib(s.process.pid)
        over, counts, during = threading.Event(), collections.Counter(), []

        def is_enough():
            return counts["slow"] >= 1000 and counts["token"] and counts["large"] + counts["cut off"] > 5

        mad = threading.Thread(target=abuse, args=((host, int(own)), over, counts))
        mad.start()
        try:
            time.sleep(1)
            while len(during) < 3 or (not is_enough() and len(during) < 40):
                during.append(latency_us(port))
                assert descriptors(s.pid) <= theirs + 8, "the program's own"
                assert descriptors(s.process.pid) < ours + 300
            request = urllib.request.Request(s.url + "goroutine?debug=1", headers={"Authorization": "Bearer " + token})
            with urllib.request.urlopen(request, timeout=30) as r:
                assert r.read().startswith(b"goroutine profile: total ")
        finally:
            over.set()
            mad.join()
        print(f"  median {before:.0f} us before, {min(during):.0f} during; {dict(counts)}")
        assert is_enough(), counts
        # Not a measurement (that is ./dev bench serving): nothing waits for the server.
        assert min(during) < 3 * before + 500, (before, during)
        until = time.monotonic() + 15
        while descriptors(s.process.pid) > ours + 2:
            assert time.monotonic() < until, (ours, descriptors(s.process.pid))
            time.sleep(0.1)
        assert rss_kib(s.process.pid) < memory + 24576, (memory, rss_kib(s.process.pid))
        assert descriptors(s.pid) <= theirs + 2


if __name__ == "__main__":
    main([what_it_switched_on_is_off_at_its_end, abused_it_leaves_the_program_alone,
          a_fiber_program_is_served, a_threaded_program_is_served,
          without_the_agent_there_is_time_and_a_reason_for_the_rest, it_ends_with_the_process_and_not_the_other_way,
          scraping_leaves_nothing_behind, one_samples_at_a_time, the_commands_status_is_ours, signals_are_passed_on, as_process_1_it_reaps,
          mistakes_are_explained_before_anything_starts, a_token_is_asked_for])
