#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""An agent put into running programs and taken out of service again: they do what they did, nothing is left but the idle
library, and whatever is killed on the way, they run on.

The programs judge themselves (inject_target.cc holds known values in all registers, late_target.c times its waits);
slots, maps, descriptors, threads and signals are compared by this script through /proc. FSCOPE_SOAK_FULL=1: 100 rounds
and 500 kills."""

import contextlib
import functools
import glob
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

import harness
from harness import BUILD, FIBERSCOPE, NOBODY, TESTS, Profile, Skip, main

FULL = os.environ.get("FSCOPE_SOAK_FULL") == "1"
FEW = os.environ.get("FSCOPE_SOAK_FEW") == "1"
ROUNDS = 100 if FULL else 6 if FEW else 12
KILLS = 500 if FULL else 16 if FEW else 30
TARGET = os.path.join(TESTS, "inject_target")
LATE = os.path.join(TESTS, "late_target")
EXAMPLES = os.path.join(BUILD, "examples")


def command(*args, check=0, timeout=60, **more):
    done = subprocess.run([FIBERSCOPE, *args], capture_output=True, text=True, timeout=timeout, **more)
    assert check is None or done.returncode == check, f"{args}: {done.returncode}: {done.stderr}"
    return done.stderr


def attach(pid, **more):
    return command("attach", "-p", str(pid), **more)


def detach(pid, **more):
    return command("detach", "-p", str(pid), **more)


@contextlib.contextmanager
def running(*args, env=None, ready="ready\n", **more):
    p = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                         env=dict(os.environ, **(env or {})), **more)
    try:
        said = p.stdout.readline() if ready else ""
        assert not ready or said == ready, said
        yield p
    finally:
        p.kill()
        p.communicate()


def ends_well(p):
    p.send_signal(signal.SIGTERM)
    said, _ = p.communicate(timeout=60)
    assert p.returncode == 0, f"{p.returncode}: {said}"
    return said


# --- What a process is made of.


def mappings(pid):
    """[(start, end, access, offset, path)], of files alone."""
    out = []
    with open(f"/proc/{pid}/maps", encoding="utf8") as f:
        for line in f:
            part = line.split(None, 5)
            if len(part) > 5 and part[5].startswith("/"):
                start, end = (int(x, 16) for x in part[0].split("-"))
                out.append((start, end, part[1], int(part[2], 16), part[5].strip()))
    return out


@functools.cache
def bound_words(path):
    """The addresses of a file's words that the dynamic linker binds to functions, and whether they are fixed."""
    said = subprocess.run(["readelf", "-rW", path], capture_output=True, text=True, check=False).stdout
    head = subprocess.run(["readelf", "-hW", path], capture_output=True, text=True, check=False).stdout
    found = re.findall(r"^([0-9a-f]{16})\s+\S+\s+R_X86_64_(?:JUMP_SLO\w*|GLOB_DAT|64)\s", said, re.M)
    return [int(at, 16) for at in found], "EXEC" in head.split("Type:")[1].splitlines()[0]


def slots(pid):
    """{address: value} of all words that the dynamic linker binds to functions."""
    out, there = {}, mappings(pid)
    with open(f"/proc/{pid}/mem", "rb") as memory:
        for path in sorted({m[4] for m in there if "fiberscope" not in m[4] and "w" in m[2]}):
            base = min(m[0] for m in there if m[4] == path)
            words, is_fixed = bound_words(path)
            for word in words:
                at = word + (0 if is_fixed else base)
                memory.seek(at)
                out[at] = memory.read(8)
    return out


def status(pid, *names):
    with open(f"/proc/{pid}/status", encoding="utf8") as f:
        said = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    return {n: said[n] for n in names}


def descriptors(pid):
    out = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            out[fd] = os.readlink(f"/proc/{pid}/fd/{fd}")
    return out


def timers(pid):
    with open(f"/proc/{pid}/timers", encoding="ascii") as f:
        return f.read()


def picture(pid):
    """All that must be the same before and after."""
    tasks = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, KeyError):
            tasks[tid] = status(f"{pid}/task/{tid}", "SigBlk", "TracerPid", "Seccomp")
    return {"slots": slots(pid), "maps": [m for m in mappings(pid) if "fiberscope" not in m[4]],
            "descriptors": descriptors(pid), "tasks": tasks, "timers": timers(pid),
            "signals": status(pid, "SigCgt", "SigIgn", "TracerPid")}


def size_of(pid):
    """Of the address space, in KiB."""
    return int(status(pid, "VmSize")["VmSize"].split()[0])


def same(before, after):
    for key, value in before.items():
        if after[key] == value:
            continue
        if isinstance(value, dict):
            differs = [(k, value.get(k), after[key].get(k)) for k in {*value, *after[key]}
                       if value.get(k) != after[key].get(k)]
            raise AssertionError(f"{key}: {len(differs)}, e.g. {differs[:4]}")
        raise AssertionError(f"{key}: {value} became {after[key]}")


def becomes_same(before, pid):
    """At once, but for signals that a thread blocks by itself for a moment, as while it starts another."""
    now = picture(pid)
    for _ in range(20):
        if now["tasks"] == before["tasks"]:
            break
        time.sleep(0.01)
        now["tasks"] = picture(pid)["tasks"]
    same(before, now)


# --- Cases.


def nothing_is_left(work):
    """Slots byte for byte, protections of pages, descriptors, threads, timers, signals; again and again."""
    for program in ((LATE, "work", "120"), (TARGET, "throws")):
        with running(*program, env={"LD_BIND_NOW": "1"}) as p:
            time.sleep(0.2)
            before, sizes = picture(p.pid), []
            for i in range(ROUNDS):
                assert f"process {p.pid}: the agent is in" in attach(p.pid)
                if i == 0:
                    inside = slots(p.pid)
                    changed = [a for a in before["slots"] if inside[a] != before["slots"][a]]
                    assert len(changed) > 10, f"{len(changed)} slots lead to the agent"
                if i % 4 == 1:
                    harness.record("-p", str(p.pid), "--heap", "--cpu", "--block", "-d", "200ms", "-o", f"{work}/p/",
                                   cwd=work, check=0)
                detach(p.pid)
                becomes_same(before, p.pid)
                sizes.append(size_of(p.pid))
            # What the idle library has, it has from the first recording on. (late_target grows by itself.)
            assert program[0] == LATE or sizes[-1] - sizes[2] < 4096, sizes
            ends_well(p)


def registers_are_kept():
    if "avx" not in open("/proc/cpuinfo", encoding="ascii").read().split():
        raise Skip("no AVX")
    borrowed = set()
    with running(TARGET, "registers") as p:
        for _ in range(ROUNDS):
            borrowed.add(re.search(r"thread (\d+) was borrowed", attach(p.pid)).group(1))
            borrowed.add(re.search(r"thread (\d+) was borrowed", detach(p.pid)).group(1))
        said = ends_well(p)
        assert int(said.split()[1]) > 100, said
    assert borrowed - {str(p.pid)}, "none of those that hold registers was borrowed"


def waits_are_not_cut(work):
    """Timed waits of eight kinds do not end early, whoever is borrowed or called."""
    with running(LATE, "waits", "300") as p:
        for i in range(ROUNDS):
            cycle(p.pid, work, 1, ("--cpu", "--heap", "--block")[i % 3])
        said = ends_well(p)
        assert int(said.split()[3]) > 500, said


def all_kinds(work):
    """Shares of CPU time as the program has them, growth by its function, waits by theirs."""
    with running(LATE, "work", "60") as p:
        said = harness.record("-p", str(p.pid), "--method=inject", "--cpu", "--heap", "--block", "--mutex", "-d", "2s",
                              "-o", f"{work}/p/", cwd=work, check=0).stderr
        assert "by the agent inside it" in said, said
        files = {f.split(".")[2]: Profile(f"{work}/p/{f}") for f in os.listdir(f"{work}/p")}
        cpu = files["cpu"]
        three, one = (cpu.total(1, lambda s, f=f: f in s.stack) for f in ("burn_three", "burn_one"))
        harness.close(three / (three + one), 0.75, 0.08, "share of burn_three")
        heap = files["heap"]
        space = [n for n, _ in heap.sample_types].index("alloc_space")
        assert heap.total(space, lambda s: "grow" in s.stack) > 0.9 * heap.total(space) > 0
        for kind in ("block", "mutex"):
            assert files[kind].total(0, lambda s: "work" in s.stack) > 50, kind
        assert "has no agent" not in detach(p.pid, check=None)  # it is in, and out of service
        said = harness.record("-p", str(p.pid), "--heap", "-d", "100ms", cwd=work, check=1).stderr
        assert "its agent was taken out of service: `fiberscope attach` brings it back" in said, said
        listed = subprocess.run([FIBERSCOPE, "ps"], capture_output=True, text=True, timeout=60, check=True).stdout
        row = next(line for line in listed.splitlines() if line.split()[0] == str(p.pid))
        assert "out of service" in row, listed
        ends_well(p)


def traces(work):
    """An execution trace of threads that were there before, and one of fibers."""
    with running(LATE, "work", "60") as p:
        harness.record("-p", str(p.pid), "--method=inject", "--trace", "-d", "1s", "-o", f"{work}/t.trace", cwd=work,
                       check=0)
        said = subprocess.run([FIBERSCOPE, "trace", f"{work}/t.trace"], capture_output=True, text=True, check=True)
        assert "sync" in said.stdout, said.stdout
        ends_well(p)


def heap_from_then_on(work):
    """Blocks that are large beside the rate are all sampled; frees of what was there before are nobody's."""
    with running(TARGET, "allocates") as p:
        r = subprocess.Popen([FIBERSCOPE, "record", "-p", str(p.pid), "--method=inject", "--heap=1000", "-d", "2s",
                              "-o", f"{work}/h.pb.gz"], cwd=work, stderr=subprocess.PIPE, text=True)
        assert "by the agent inside" in r.stderr.readline()
        time.sleep(0.7)
        p.send_signal(signal.SIGUSR1)
        assert p.stdout.readline() == "done\n"
        _, said = r.communicate(timeout=30)
        assert r.returncode == 0, said
        profile = Profile(f"{work}/h.pb.gz")
        names = [n for n, _ in profile.sample_types]
        got = {n: profile.total(names.index(n), lambda s: "site_kept" in s.stack) for n in names}
        assert got == {"alloc_objects": 1000, "alloc_space": 100000000, "inuse_objects": 500,
                       "inuse_space": 50000000}, got
        ends_well(p)


def children_of(pid):
    """The helper has a session of its own, but it is a child still."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            return [int(x) for x in f.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def kill_hard(pid, group):
    helpers = children_of(pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    for h in helpers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(h, signal.SIGKILL)
    return bool(helpers)


def killed_at_any_moment():
    """fiberscope, its group, and (half of the times) the helper that does the tracing, too, while it attaches or
    detaches: the program runs on, and the next one succeeds."""
    rng = random.Random(6)
    met = done = traced = 0
    with running(TARGET, "registers") as plain, running(TARGET, "throws") as cxx, running(LATE, "work", "900") as late:
        for i in range(KILLS):
            p, verb = (plain, cxx, late)[i % 3], ("attach", "detach")[i // 3 % 2]
            f = subprocess.Popen([FIBERSCOPE, verb, "-q", "-p", str(p.pid)], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL, start_new_session=True)
            until = time.monotonic() + 5
            while not children_of(f.pid) and f.poll() is None and time.monotonic() < until:
                pass
            time.sleep(rng.random() ** 2 * 0.03)
            traced += status(p.pid, "TracerPid")["TracerPid"] != "0" or any(
                status(f"{p.pid}/task/{t}", "TracerPid")["TracerPid"] != "0" for t in os.listdir(f"/proc/{p.pid}/task"))
            if i % 2:
                met += kill_hard(f.pid, f.pid)
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(f.pid, signal.SIGKILL)
            done += f.wait() == 0
            assert p.poll() is None, f"{i}: the program has ended: {p.returncode}: {p.stdout.read()}"
            until = time.monotonic() + 20
            while status(p.pid, "TracerPid")["TracerPid"] != "0" and time.monotonic() < until:
                time.sleep(0.002)
            if i % 10 == 9:
                attach(p.pid, timeout=90)
        for p in (plain, cxx, late):
            attach(p.pid)
            detach(p.pid)
            ends_well(p)
    assert met > KILLS // 6, f"the helper was met {met} times of {KILLS}"
    print(f"      {KILLS} kills, {traced} of them while a thread was traced; the helper was met {met} times; {done} were too late")


# --- Other people's programs under load.


def need(*programs):
    for name in programs:
        if not shutil.which(name):
            raise Skip(f"no {name} here")


def cycle(pid, work, rounds, *kinds):
    """Attach, record, detach; what was recorded is a profile."""
    for _ in range(rounds):
        out = f"{work}/c{random.random()}.pb.gz"
        harness.record("-p", str(pid), "--method=inject", *(kinds or ("--cpu",)), "-d", "100ms", "-o", out, cwd=work,
                       check=0)
        Profile(out)
        os.unlink(out)


SQL = """create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < %d)
insert into t select i, hex(i * 7919) || '-' || (i %% 97), i * 0.5 from n;
create index t_b on t(b);
update t set c = c + length(b) where a %% 3 = 0;
select count(*), sum(a), total(c), min(b), max(b) from t;
select b, count(*) from t group by substr(b, -2) order by 2 desc, 1 limit 20;
pragma integrity_check;"""


def until_it_ends(p, work, *kinds):
    """As often as it lasts, at most ROUNDS times. One that just ends is no failure of ours."""
    count = 0
    while p.poll() is None and count < ROUNDS:
        done = harness.record("-p", str(p.pid), "--method=inject", *kinds, "-d", "50ms", "-o", f"{work}/x.pb.gz",
                              cwd=work)
        if done.returncode and p.poll() is None:
            time.sleep(0.5)
            assert p.poll() is not None, done.stderr
        count += done.returncode == 0
    return count


def sqlite(work):
    need("sqlite3")
    sql = SQL % (3000000 if FULL else 400000 if FEW else 900000)
    want = subprocess.run(["sqlite3", ":memory:"], input=sql, capture_output=True, text=True, check=True).stdout
    with subprocess.Popen(["sqlite3", ":memory:"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        p.stdin.write(sql)
        p.stdin.close()
        time.sleep(0.2)
        assert until_it_ends(p, work, "--heap") > 2
        assert p.stdout.read() == want
    assert p.returncode == 0


PYTHON = """import hashlib, json, threading, ctypes
def work(n, out):
    h = hashlib.sha256()
    for i in range(n):
        h.update(json.dumps({"i": i, "l": list(range(i %% 50))}).encode())
        try:
            raise ValueError(i)
        except ValueError as e:
            h.update(str(e).encode())
    out.append(h.hexdigest())
out = []
t = [threading.Thread(target=work, args=(%d, out)) for _ in range(3)]
[x.start() for x in t]; [x.join() for x in t]
print(set(out), len(out))
"""


def python(work):
    need("/usr/bin/python3")
    text = PYTHON % (200000 if FULL else 60000)
    want = subprocess.run(["/usr/bin/python3", "-c", text], capture_output=True, text=True, check=True).stdout
    with subprocess.Popen(["/usr/bin/python3", "-c", text], stdout=subprocess.PIPE, text=True) as p:
        time.sleep(0.2)
        assert until_it_ends(p, work, "--heap") > 2
        assert p.stdout.read() == want
    assert p.returncode == 0


def redis(work):
    need("redis-server", "redis-benchmark", "redis-cli")
    cli = ["redis-cli", "-s", f"{work}/s"]

    def ask(*words):
        return subprocess.run([*cli, *words], capture_output=True, text=True, check=False).stdout.strip()

    with running("redis-server", "--port", "0", "--unixsocket", f"{work}/s", "--save", "", "--dir", work,
                 ready=None) as p:
        until = time.monotonic() + 20
        while ask("ping") != "PONG" and time.monotonic() < until:
            time.sleep(0.05)
        with subprocess.Popen(["redis-benchmark", "-s", f"{work}/s", "-n", "100000000", "-c", "10", "-q", "-t",
                               "set,get,lpush,rpop"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as b:
            ask("set", "answer", "42")
            cycle(p.pid, work, ROUNDS // 2, "--heap")
            cycle(p.pid, work, ROUNDS // 2, "--cpu")
            assert b.poll() is None, b.stdout.read()
            b.kill()
            assert "rror" not in b.stdout.read()
        assert ask("ping") == "PONG" and ask("get", "answer") == "42"
        p.terminate()
        assert p.wait(timeout=20) == 0


NGINX = """worker_processes 2; daemon off; pid {work}/nginx.pid; error_log {work}/error.log warn;
events {{ worker_connections 256; }}
http {{ access_log off; client_body_temp_path {work}/t1; proxy_temp_path {work}/t2;
  fastcgi_temp_path {work}/t3; uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5; gzip on; gzip_min_length 1; gzip_types *;
  server {{ listen 127.0.0.1:{port}; root {work}/www; }} }}"""


def nginx(work):
    need("nginx", "wrk")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    os.mkdir(f"{work}/www")
    with open(f"{work}/www/page.txt", "w", encoding="ascii") as f:
        f.write("".join(f"line {i} of a page that is compressed\n" for i in range(2000)))
    with open(f"{work}/nginx.conf", "w", encoding="ascii") as f:
        f.write(NGINX.format(work=work, port=port))
    with running("nginx", "-c", f"{work}/nginx.conf", "-p", work, ready=None) as p:
        until = time.monotonic() + 20
        while len(children_of(p.pid)) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        workers = children_of(p.pid)
        with subprocess.Popen(["wrk", "-t1", "-c8", "-d600s", "-H", "Accept-Encoding: gzip",
                               f"http://127.0.0.1:{port}/page.txt"], stdout=subprocess.PIPE, text=True) as b:
            time.sleep(0.3)
            for w in workers:
                cycle(w, work, ROUNDS // 2, "--cpu")
            b.send_signal(signal.SIGINT)
            said = b.communicate(timeout=30)[0]
        assert "Socket errors" not in said and "Non-2xx" not in said and "Requests/sec" in said, said
        assert children_of(p.pid) == workers
        p.terminate()
        assert p.wait(timeout=20) == 0
    with open(f"{work}/error.log", encoding="utf8", errors="replace") as f:
        assert not re.search(r"\[(alert|emerg|crit)\]", f.read())


def postgres(work):
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not found or os.geteuid():
        raise Skip("no postgresql here, or not root")
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]

    def pg(program, *args, check=True):
        done = subprocess.run([*as_user, f"{found[-1]}/{program}", *args], cwd=work, capture_output=True, text=True,
                              timeout=120, env=dict(os.environ, LC_ALL="C"), check=False)
        assert not check or done.returncode == 0, done.stderr[-1500:]
        return done.stdout

    pg("initdb", "-D", f"{work}/data", "-A", "trust", "--no-sync")
    with running(*as_user, f"{found[-1]}/postgres", "-D", f"{work}/data", "-k", work, "-c", "listen_addresses=", "-c",
                 "fsync=off", ready=None) as p:
        until = time.monotonic() + 60
        while "1" not in pg("psql", "-h", work, "-d", "postgres", "-Atc", "select 1", check=False) and \
                time.monotonic() < until:
            time.sleep(0.2)
        pg("pgbench", "-h", work, "-i", "-s", "1", "-q", "postgres")
        with subprocess.Popen([*as_user, f"{found[-1]}/pgbench", "-h", work, "-c", "2", "-T", "600", "-P", "1", "postgres"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as b:
            time.sleep(1)
            pids = pg("psql", "-h", work, "-d", "postgres", "-Atc",
                      "select pid from pg_stat_activity where application_name = 'pgbench'").split()
            assert len(pids) == 2, pids
            for pid in pids:
                cycle(int(pid), work, ROUNDS // 2, "--heap")
            assert b.poll() is None
            b.send_signal(signal.SIGINT)
            b.wait(timeout=30)
        sums = [pg("psql", "-h", work, "-d", "postgres", "-Atc", f"select coalesce(sum({c}), 0) from {t}").strip()
                for c, t in (("abalance", "pgbench_accounts"), ("bbalance", "pgbench_branches"),
                             ("tbalance", "pgbench_tellers"), ("delta", "pgbench_history"))]
        assert len(set(sums)) == 1, sums
        p.send_signal(signal.SIGINT)
        assert p.wait(timeout=60) == 0


def exceptions(work):
    """Threads that throw, allocate, lock and load libraries all the time."""
    with running(TARGET, "throws") as p:
        cycle(p.pid, work, ROUNDS // 2, "--heap")
        cycle(p.pid, work, ROUNDS // 2, "--block")
        said = ends_well(p)
        assert int(said.split()[1]) > 1000, said


def shorten(work):
    """Fibers on a few threads, under load: all answers are there, before, during and after."""
    if not os.path.exists(f"{EXAMPLES}/shorten"):
        raise Skip("the examples are not built")
    with subprocess.Popen([f"{EXAMPLES}/shorten", "-p", "0", "-d", f"{work}/links.db"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as p:
        try:
            port = p.stdout.readline().rsplit(":", 1)[1].strip()
            with subprocess.Popen([f"{EXAMPLES}/shorten_load", "-p", port, "-c", "20", "-n", "100000000", "-w", "20"],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as b:
                time.sleep(0.5)
                for kind in ("--heap", "--cpu", "--block"):
                    cycle(p.pid, work, ROUNDS // 3, kind)
                assert b.poll() is None, b.stdout.read()
                b.kill()
            done = subprocess.run([f"{EXAMPLES}/shorten_load", "-p", port, "-c", "20", "-n", "2000", "-w", "20"],
                                  capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            answers, _, _, wrong, unanswered = (int(n) for n in re.findall(r"\d+", done.stdout.splitlines()[0]))
            assert (answers, wrong, unanswered) == (2000, 0, 0), done.stdout
            p.send_signal(signal.SIGTERM)
            _, err = p.communicate(timeout=30)
            assert p.returncode == 0 and err == "", (p.returncode, err)
        finally:
            p.kill()


def own_allocator(work):
    """It may have the agent, put in where no allocator is at work; but no heap profile, and it is said why."""
    with running(f"{TESTS}/inject_target_own", "allocates") as p:
        done = harness.record("-p", str(p.pid), "--method=inject", "--cpu", "--heap", "-d", "300ms", "-o", f"{work}/p/",
                              cwd=work)
        assert "no heap profile: its allocator cannot be seen" in done.stderr, done.stderr
        ends_well(p)


def another_root(work):
    """A process that does not see the agent's files gets them as memory files, also where nothing may be written; one in name
    spaces of its own, user's too, that sees them under the same path, needs none."""
    if os.geteuid() or not shutil.which("unshare"):
        raise Skip("needs root and unshare")
    folder = os.path.dirname(os.path.realpath(f"{BUILD}/agent/libfiberscope.so"))
    hide = f"mount -t tmpfs -o ro none {folder} && exec {LATE} work 60"
    with running("unshare", "-m", "sh", "-c", hide) as p:
        before = descriptors(p.pid)
        for i in range(4):
            cycle(p.pid, work, 1, ("--heap", "--cpu")[i % 2])
            assert [m[4] for m in mappings(p.pid) if "fiberscope" in m[4]], "it is in"
            assert descriptors(p.pid) == before
        ends_well(p)
    with running("unshare", "-mpU", "--map-root-user", "--fork", "--kill-child", LATE, "work", "60") as p:
        inside, = children_of(p.pid)
        cycle(inside, work, 3, "--heap")
        assert status(inside, "TracerPid")["TracerPid"] == "0"


# Maps the file of its first argument whole, as those do that look for symbols: the kernel puts it below what is loaded.
MAPS_A_FILE = """import mmap, sys, time
with open(sys.argv[1], 'rb') as f:
    m = mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
print('ready', flush=True)
while sys.argv[2] == 'burns': pass
while True: time.sleep(0.01)
"""
# Writes over the first byte of a function of libc's that nobody calls.
PATCHES = """import ctypes, time
libc = ctypes.CDLL(None)
at = ctypes.cast(libc.memfd_create, ctypes.c_void_p).value
assert libc.mprotect(ctypes.c_void_p(at & ~4095), 8192, 7) == 0
ctypes.memset(at, 0xcc, 1)
print('ready', flush=True)
while True: time.sleep(0.01)
"""
# Whose memfd_create returns 0, its standard input, without making anything.
REPLACES = """import ctypes, struct, time
libc = ctypes.CDLL(None)
words = ((0x20, 0, 0, 0), (0x15, 0, 1, 319), (6, 0, 0, 0x50000), (6, 0, 0, 0x7fff0000))
f = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *w) for w in words))
class P(ctypes.Structure): _fields_ = [('n', ctypes.c_ushort), ('f', ctypes.c_void_p)]
p = P(len(words), ctypes.addressof(f))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(p)) == 0
print('ready', flush=True)
while True: time.sleep(0.01)
"""


def loaded_file(pid, word):
    return next(m[4] for m in mappings(pid) if word in os.path.basename(m[4]) and "x" in m[2])


def mapped_as_a_file(work):
    """Libraries that are mapped as plain files too, below where they are loaded: libc, which threads are sent into, and the
    agent, which is called."""
    libc = loaded_file(os.getpid(), "libc.so.6")
    for what in ("burns", "sleeps"):
        with running(sys.executable, "-c", MAPS_A_FILE, libc, what) as p:
            first = next(m for m in mappings(p.pid) if m[4] == libc)
            assert first[2] == "r--p" and first[1] - first[0] >= os.path.getsize(libc), "the plain map is the first"
            attach(p.pid)
            detach(p.pid)
            time.sleep(0.1)
            assert p.poll() is None, p.returncode
    agent = os.path.realpath(f"{BUILD}/agent/libfiberscope.so")
    with running(sys.executable, "-c", MAPS_A_FILE, agent, "sleeps", env={"LD_PRELOAD": agent}) as p:
        harness.record("-p", str(p.pid), "--heap", "-d", "100ms", "-o", f"{work}/h.pb.gz", cwd=work, check=0)
        assert "was started with the agent" in detach(p.pid, check=1)
    with running(sys.executable, "-c", MAPS_A_FILE, agent, "sleeps") as p:
        listed = subprocess.run([FIBERSCOPE, "ps"], capture_output=True, text=True, timeout=60, check=True).stdout
        assert not re.search(rf"^ *{p.pid} ", listed, re.M), f"it has no agent: {listed}"
        assert "has no agent" in detach(p.pid, check=1)


def patched_code():
    with running(sys.executable, "-c", PATCHES) as p:
        assert "nothing was changed" in attach(p.pid, check=1)
        assert p.poll() is None


def replaced_descriptor(work):
    """A hostile program has a file that it may only read where its new memory file should be: root does not write into it."""
    if os.geteuid() or not shutil.which("unshare") or not shutil.which("setpriv"):
        raise Skip("needs root, unshare and setpriv")
    folder = os.path.dirname(os.path.realpath(f"{BUILD}/agent/libfiberscope.so"))
    with open(f"{work}/victim", "w", encoding="ascii") as f:
        f.write("precious")
    os.chmod(f"{work}/victim", 0o644)
    hide = f'mount -t tmpfs -o ro none {folder} && exec {" ".join(NOBODY)} "$@"'
    with open(f"{work}/victim", "rb") as victim, \
            running("unshare", "-m", "sh", "-c", hide, "sh", sys.executable, "-c", REPLACES, stdin=victim) as p:
        attach(p.pid, check=None)
        command("attach", "--seccomp", "-p", str(p.pid), check=1)
        assert p.poll() is None
    with open(f"{work}/victim", "rb") as f:
        assert f.read() == b"precious"


def unreadable(work):
    """The target's user may not enter the agent's folder; root may."""
    if os.geteuid() or not shutil.which("setpriv"):
        raise Skip("needs root and setpriv")
    os.mkdir(f"{work}/lib")
    for f in glob.glob(f"{BUILD}/agent/libfiberscope*.so*"):
        shutil.copy(f, f"{work}/lib/", follow_symlinks=False)
    os.chmod(f"{work}/lib", 0o700)
    with running(*NOBODY, LATE, "work", "60") as p:
        assert "the agent is in" in attach(p.pid, env=dict(os.environ, FIBERSCOPE_LIBDIR=f"{work}/lib"))
        assert not [d for d in descriptors(p.pid).values() if "libfiberscope" in d]
        cycle(p.pid, work, 2, "--heap")
        detach(p.pid)
        ends_well(p)


def ordinary_user(work):
    """An ordinary user, with a process of their own."""
    if os.geteuid() or not shutil.which("setpriv"):
        raise Skip("needs root and setpriv")
    for folder in (f"{BUILD}/agent", f"{BUILD}/cli"):
        if subprocess.run([*NOBODY, "ls", folder], capture_output=True, check=False).returncode:
            raise Skip(f"an ordinary user may not look into {folder}")
    with running(*NOBODY, LATE, "work", "60") as p:
        done = harness.record("-p", str(p.pid), "--method=inject", "--heap", "--cpu", "-d", "300ms", "-o", f"{work}/p/",
                              cwd=work, prefix=NOBODY)
        assert done.returncode == 0, done.stderr
        assert len(os.listdir(f"{work}/p")) == 2
        assert not [d for d in descriptors(p.pid).values() if "memfd" in d]
        ends_well(p)


def served(work):
    """serve -p --method=inject: a heap profile over HTTP of a program that knew nothing; afterwards it is out."""
    with running(LATE, "work", "60", env={"LD_BIND_NOW": "1"}) as p:
        before = slots(p.pid)
        s = subprocess.Popen([FIBERSCOPE, "serve", "--listen", f"unix:{work}/s", "--heap", "-p", str(p.pid),
                              "--method=inject"], stderr=subprocess.PIPE, text=True)
        assert "at unix:" in s.stderr.readline()
        time.sleep(1)
        with socket.socket(socket.AF_UNIX) as c:
            c.connect(f"{work}/s")
            c.sendall(b"GET /debug/pprof/heap HTTP/1.0\r\nHost: localhost\r\n\r\n")
            data = b""
            while chunk := c.recv(65536):
                data += chunk
        with open(f"{work}/h.pb.gz", "wb") as f:
            f.write(data.split(b"\r\n\r\n", 1)[1])
        profile = Profile(f"{work}/h.pb.gz")
        assert profile.total(1, lambda x: "grow" in x.stack) > 0
        s.send_signal(signal.SIGTERM)
        assert s.wait(timeout=30) == 0, s.stderr.read()
        assert slots(p.pid) == before
        ends_well(p)


if __name__ == "__main__":
    main([nothing_is_left, registers_are_kept, waits_are_not_cut, all_kinds, traces, heap_from_then_on, exceptions, sqlite, python,
          redis, nginx, postgres, shorten, own_allocator, another_root, mapped_as_a_file,
          patched_code, replaced_descriptor, unreadable,
          ordinary_user, served, killed_at_any_moment])
