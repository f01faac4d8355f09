# SPDX-License-Identifier: MIT
"""Programs under load for attach_soak.py. Each is asked things whose answers are known without it, again and again, so that a
wrong, lost or late one is seen; `pid` is the process to record."""

import contextlib
import glob
import hashlib
import http.client
import os
import re
import signal
import socket
import subprocess
import threading
import time

from harness import BUILD, TESTS
from survival import NGINX, SQL, free_port, need, wait_for

PATIENCE_S = 60  # for one answer: this machine shares its processors with others


class Load:
    """`step` asks once and raises if the answer is wrong; from `begin` to `rest` a thread of its own does, all the time."""
    own_threads = ()  # that the program may start later, by name

    def __init__(self, work, env):
        self.work, self.env = work, dict(os.environ, LC_ALL="C", **env)
        self.steps, self.wrong, self.over = 0, None, threading.Event()
        self.slowest = 0.0
        self.process = self.pid = None
        try:
            self.start()
            self.step(0)  # from now on it is what it will be
            self.steps = 1
        except BaseException:
            self.kill()
            raise

    def begin(self):
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def popen(self, command, **more):
        self.process = subprocess.Popen(command, cwd=self.work, env=self.env, **more)
        self.pid = self.process.pid

    def run(self):
        try:
            while not self.over.is_set():
                began = time.monotonic()
                self.step(self.steps)
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.steps += 1
        except Exception as e:  # told by check, in the main thread
            self.wrong = e

    def check(self):
        if self.wrong:
            raise AssertionError(f"{type(self).__name__}, step {self.steps}: {self.wrong!r}") from self.wrong
        assert self.process.poll() is None, f"{type(self).__name__} has ended: {self.process.returncode}"

    def rest(self):
        """Stops asking, so that what it holds can be counted."""
        self.over.set()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive(), f"{type(self).__name__}: no answer for {PATIENCE_S} s"
        self.check()

    def finish(self):
        """Ends the program its own way: status 0."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=PATIENCE_S)
        assert status == 0, f"{type(self).__name__}: exit status {status}"

    def kill(self):
        self.over.set()
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Lines(Load):
    """Answers lines on its standard output."""

    def ask(self, text, until):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()
        out = b""
        while not out.endswith(until):
            line = self.process.stdout.readline()
            if not line:
                raise AssertionError(f"it has ended: {out[-300:]}")
            out += line
        return out

    def finish(self):
        self.process.stdin.close()
        assert self.process.wait(timeout=PATIENCE_S) == 0


class Sqlite(Lines):
    SCRIPT = SQL.replace("60000", "4000") + "\ndrop table t;\nselect 'end';"

    def start(self):
        need("sqlite3")
        plain = subprocess.run(["sqlite3", ":memory:"], input=self.SCRIPT.encode(), capture_output=True, check=True)
        self.want = plain.stdout
        self.popen(["sqlite3", ":memory:"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def step(self, _):
        got = self.ask(self.SCRIPT, b"end\n")
        assert got == self.want, f"{got[:200]} .. not {self.want[:200]}"


PYTHON = r"""
import sys, threading, zlib, json, hashlib
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
def work(n, out):
    try:
        data = json.dumps([{"i": i, "s": str(i * n)} for i in range(300)]).encode()
        assert zlib.decompress(zlib.compress(data)) == data
        raise KeyError(hashlib.sha256(data).hexdigest() + str(fib(n % 15)))
    except KeyError as e:
        out.append(e.args[0])
for line in sys.stdin:
    out = []
    t = [threading.Thread(target=work, args=(int(line), out)) for _ in range(2)]
    for x in t: x.start()
    for x in t: x.join()
    print(*out, flush=True)
"""


class Python(Lines):
    def start(self):
        need("/usr/bin/python3")
        self.popen(["/usr/bin/python3", "-c", PYTHON], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def step(self, i):
        n = i % 1000
        data = ("[" + ", ".join(f'{{"i": {k}, "s": "{k * n}"}}' for k in range(300)) + "]").encode()
        a, b = 0, 1
        for _ in range(n % 15):
            a, b = b, a + b
        want = hashlib.sha256(data).hexdigest() + str(a)
        got = self.ask(str(n), b"\n").decode().split()
        assert got == [want, want], f"{n}: {got}, not {want}"


class Exceptions(Load):
    def start(self):
        self.popen([f"{TESTS}/attach_server", "2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline())
        self.link = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        self.file = self.link.makefile("rb")

    def step(self, i):
        n = i % 90
        self.link.sendall(f"{n}\n".encode())
        got = self.file.readline()
        assert got == f"{n * (n + 1) // 2}\n".encode(), f"{n}: {got}"

    def finish(self):
        self.process.stdin.close()
        assert self.process.stdout.read() == f"answered {self.steps}\n".encode()
        assert self.process.wait(timeout=PATIENCE_S) == 0


class Redis(Load):
    own_threads = ("jemalloc_bg_thd",)

    def start(self):
        need("redis-server")
        path = f"{self.work}/redis.sock"
        self.popen(["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", self.work,
                    "--appendonly", "yes"], stdout=subprocess.DEVNULL)
        wait_for("redis-server", lambda: os.path.exists(path), PATIENCE_S)
        self.link = socket.socket(socket.AF_UNIX)
        self.link.settimeout(PATIENCE_S)
        self.link.connect(path)
        self.file = self.link.makefile("rb")

    def step(self, i):
        k = i % 50
        want = [f":{i // 50 + 1}", f":{i + 1}", "$3", f"v{i % 100:02}", ":1" if i < 97 else ":0", f":{min(i + 1, 97)}"]
        self.link.sendall(f"INCR k{k}\r\nRPUSH list {i}\r\nGETSET x v{(i + 1) % 100:02}\r\nSADD s {i % 97}\r\n"
                          f"SCARD s\r\n".encode())
        if i == 0:
            want[2:4] = ["$-1"]
        got = [self.file.readline().decode().rstrip() for _ in want]
        assert got == want, f"{got}, not {want}"


class Nginx(Load):
    """A worker, not the master."""

    def start(self):
        need("nginx")
        self.port = free_port()
        os.mkdir(f"{self.work}/www")
        os.chmod(self.work, 0o755)
        self.page = "".join(f"line {i} of a page that is compressed\n" for i in range(2000)).encode()
        with open(f"{self.work}/www/page.txt", "wb") as f:
            f.write(self.page)
        with open(f"{self.work}/nginx.conf", "w", encoding="ascii") as f:
            f.write(NGINX.format(work=self.work, port=self.port).replace("processes 2", "processes 1"))
        self.popen(["nginx", "-c", f"{self.work}/nginx.conf", "-p", self.work])
        wait_for("nginx", self.get, PATIENCE_S)
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with open(children, encoding="ascii") as f:
            self.pid = int(f.read().split()[0])
        self.worker = os.pidfd_open(self.pid)

    def get(self, compressed=False):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        c.request("GET", "/page.txt", headers={"Accept-Encoding": "gzip"} if compressed else {})
        r = c.getresponse()
        data = r.read()
        c.close()
        return data if r.status == 200 else b""

    def step(self, i):
        data = self.get(i % 2 == 1)
        if i % 2:
            import gzip
            data = gzip.decompress(data)
        assert data == self.page, f"{len(data)} bytes"

    def kill(self):
        super().kill()
        with contextlib.suppress(AttributeError, ProcessLookupError):  # it outlives a master that is killed
            signal.pidfd_send_signal(self.worker, signal.SIGKILL)
        with contextlib.suppress(AttributeError):
            os.close(self.worker)

    def finish(self):
        super().finish()
        with open(f"{self.work}/error.log", encoding="utf8", errors="replace") as f:
            log = f.read()
        assert not re.search(r"\[(alert|emerg|crit|error)\]", log), log[-1500:]


class Postgres(Load):
    """A back end: the process of one connection."""

    def start(self):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        need(f"{found[-1]}/postgres" if found else "postgres")
        bin_ = found[-1]
        self.as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] \
            if os.geteuid() == 0 else []
        os.chmod(self.work, 0o777)
        plain = {k: v for k, v in self.env.items() if k != "LD_PRELOAD"}
        subprocess.run([*self.as_user, f"{bin_}/initdb", "-D", f"{self.work}/data", "-A", "trust", "--no-sync"],
                       cwd=self.work, env=plain, check=True, capture_output=True)
        self.log = open(f"{self.work}/server.log", "wb")
        self.popen([*self.as_user, f"{bin_}/postgres", "-D", f"{self.work}/data", "-k", self.work, "-c",
                    "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=32MB", "-c", "jit=off"],
                   stdout=self.log, stderr=self.log)
        psql = [*self.as_user, f"{bin_}/psql", "-h", self.work, "-d", "postgres", "-Atq"]
        wait_for("postgres", lambda: subprocess.run([*psql, "-c", "select 1"], env=plain,
                                                    capture_output=True).returncode == 0, PATIENCE_S)
        self.client = subprocess.Popen(psql, env=plain, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = int(self.sql("select pg_backend_pid();"))
        self.sql("create table t(a int primary key, n int); insert into t select i, 0 from generate_series(0, 99) i;"
                 "select 1;")

    def sql(self, text):
        self.client.stdin.write(text + "\n")
        self.client.stdin.flush()
        return self.client.stdout.readline().strip()

    def step(self, i):
        got = self.sql(f"update t set n = n + 1 where a = {i % 100} returning n;")
        assert got == str(i // 100 + 1), got
        got = self.sql("select sum(i * i), md5(string_agg(i::text, ',' order by -i)) from generate_series(1, 999) i;")
        want = hashlib.md5(",".join(str(k) for k in range(999, 0, -1)).encode()).hexdigest()
        assert got == f"{sum(k * k for k in range(1000))}|{want}", got

    def finish(self):
        self.client.stdin.close()
        self.client.wait(PATIENCE_S)
        super().finish()
        with open(f"{self.work}/server.log", encoding="utf8", errors="replace") as f:
            log = f.read().replace("FATAL:  the database system is starting up", "")  # our own question, too early
        assert not re.search(r"PANIC|FATAL|terminated by signal|server process .* exited", log), log[-2500:]

    def kill(self):
        with contextlib.suppress(AttributeError):
            self.client.kill()
            self.client.wait()
        super().kill()


class Shorten(Load):
    own_threads = ("shorten",)  # its runtime begins threads as blocking calls need them

    def start(self):
        self.popen([f"{BUILD}/examples/shorten", "-p", "0", "-d", f"{self.work}/links.db"], stdout=subprocess.PIPE,
                   text=True)
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1])
        self.codes = {}
        self.link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def step(self, i):
        url = f"http://example.com/{i % 200}"
        self.link.request("POST", "/links", url + "\n")
        r = self.link.getresponse()
        code = r.read().decode().strip()
        assert r.status == (201 if i < 200 else 200) and self.codes.setdefault(url, code) == code, (r.status, code)
        self.link.request("GET", code)
        r = self.link.getresponse()
        assert (r.status, r.getheader("Location"), r.read()) == (302, url, b""), r.status

    def finish(self):
        super().finish()
        assert f"served {2 * self.steps} requests" in self.process.stdout.read()


ALL = [Sqlite, Redis, Nginx, Postgres, Exceptions, Python, Shorten]
