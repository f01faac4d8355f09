#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Real programs from Debian do the same with everything recorded (CPU, wall, heap, block, mutex; heap exact or
sampled in turn) as without: same output, same exit status, same data left behind. What they were not
written for is their problem; what breaks them is ours."""

import contextlib
import glob
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time

from harness import BUILD, FIBERSCOPE, Profile, Skip, main

ALL = ["--cpu=999", "--wall=50", "--block", "--mutex"]
EXACT, SAMPLED = ["--heap=exact"], ["--heap=65536"]
SOURCE = os.environ["FSCOPE_SOURCE"]


def need(*programs):
    for p in programs:
        if not (shutil.which(p) or os.path.exists(p)):
            raise Skip(f"no {os.path.basename(p)} here")


def recording(work, heap):
    """The command's prefix; profiles go into work/profiles."""
    os.makedirs(f"{work}/profiles", exist_ok=True)
    os.chmod(f"{work}/profiles", 0o777)
    return [FIBERSCOPE, "record", *ALL, *heap, "-o", f"{work}/profiles/"]


def check_profiles(work, *kinds):
    """Each kind's file is there and readable, and not empty where it must not be."""
    for kind in kinds:
        found = glob.glob(f"{work}/profiles/*.{kind}.pb.gz")
        assert found, f"no {kind} profile: {os.listdir(f'{work}/profiles')}"
        assert any(Profile(f).samples for f in found), f"the {kind} profile is empty"


def run(command, work, prefix=(), env=None, timeout=300, **more):
    done = subprocess.run([*prefix, *command], cwd=work, timeout=timeout, capture_output=True,
                          env=dict(os.environ, LC_ALL="C", **(env or {})), **more)
    return done


def same(command, work, heap, *kinds, clean=lambda out: out, env=None, **more):
    """Standard output and exit status without and with the recording."""
    plain = run(command, work, env=env, **more)
    recorded = run(command, work, recording(work, heap), env=env, **more)
    assert recorded.returncode == plain.returncode, \
        f"status {recorded.returncode}, not {plain.returncode}: {recorded.stderr[-2000:]}"
    assert clean(recorded.stdout) == clean(plain.stdout), \
        f"{clean(recorded.stdout)[-600:]!r}\n not {clean(plain.stdout)[-600:]!r}"
    check_profiles(work, *kinds)


def fingerprint(folder):
    """Names and contents of all files below."""
    h = hashlib.sha256()
    for root, folders, files in sorted(os.walk(folder)):
        folders.sort()
        for name in sorted(files):
            h.update(os.path.relpath(f"{root}/{name}", folder).encode())
            with open(f"{root}/{name}", "rb") as f:
                h.update(f.read())
    return h.hexdigest()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, ready, seconds=30):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            if ready():
                return
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come up in {seconds} s")


@contextlib.contextmanager
def server(command, work, heap, ready, stop=signal.SIGTERM, **more):
    """A server under the recorder; it must end by itself when told, with status 0."""
    log = open(f"{work}/server.log", "wb")
    p = subprocess.Popen([*recording(work, heap), *command], cwd=work, stdout=log, stderr=log,
                         env=dict(os.environ, LC_ALL="C"), **more)
    try:
        wait_for(command[0], ready)
        yield p
        p.send_signal(stop)
        assert p.wait(timeout=60) == 0, open(f"{work}/server.log", errors="replace").read()[-2000:]
    finally:
        if p.poll() is None:
            p.kill()
            p.wait()
        log.close()


# --- Interpreters and command line tools.

PYTHON_TESTS = """test_json test_dict test_list test_set test_struct test_generators test_exceptions
test_contextlib test_weakref test_gc test_zlib test_hashlib test_ctypes test_thread test_threading test_fork1
test_os test_posix test_mmap test_pickle""".split()


def python_outcome(text):
    """The modules that failed, and how many ran; times and orders differ between any two runs."""
    text = text.decode(errors="replace")
    failed = re.search(r"tests? failed:\n((?:    .*\n)+)", text)
    ok = re.search(r"(\d+) tests? OK|All (\d+) tests OK", text)
    return (sorted(failed.group(1).split()) if failed else [], ok.group(0) if ok else text[-800:])


def python_tests(work):
    need("/usr/lib/python3.11/test/__main__.py")
    same(["/usr/bin/python3", "-m", "test", *PYTHON_TESTS], work, SAMPLED,
         "cpu", "heap", clean=python_outcome, timeout=600)


SQL = """create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
insert into t select i, hex(i * 7919) || '-' || (i % 97), i * 0.5 from n;
create index t_b on t(b);
update t set c = c + length(b) where a % 3 = 0;
delete from t where a % 11 = 0;
select count(*), sum(a), total(c), min(b), max(b) from t;
select b, count(*) from t group by substr(b, -2) order by 2 desc, 1 limit 20;
vacuum;
pragma integrity_check;"""


def sqlite(work):
    need("sqlite3")
    same(["sqlite3", ":memory:"], work, EXACT, "cpu", "heap", input=SQL.encode())


GIT = r"""set -e
export GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z'
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
d=$(mktemp -d); trap 'rm -rf "$d"' EXIT; cd "$d"
git init -q -b main .
for i in 1 2 3 4 5 6 7 8 9 10; do
    for f in one two three; do seq "$i" $((i * 200)) >"$f.txt"; done
    git add . && git commit -q -m "step $i"
    git branch "b$i"
done
git checkout -q b3 && echo side >side.txt && git add . && git commit -q -m side
git merge -q -m merge main >/dev/null
git gc -q && git fsck --strict && git log --format=%H --all | sort
git diff --stat b1 b9; ls | while read -r n; do printf '%s ' "$n"; (wc -l <"$n" | tr -d ' '); done
echo "$(for i in $(seq 200); do (exec printf '%d.' "$i"); done)"
"""


def bash_and_git(work):
    need("git", "bash")
    same(["bash", "-c", GIT], work, EXACT, "heap")


def gcc_compiles_this(work):
    need("gcc")
    sources = [f"{SOURCE}/{f}" for f in ("unwind/cfi.c", "formats/pprof_decode.c", "analysis/graph.c",
                                         "segment/producer.c")]
    flags = ["-O2", "-g", "-std=c17", "-D_GNU_SOURCE", f"-I{SOURCE}", f"-I{SOURCE}/include", "-c"]
    for folder, prefix in (("plain", ()), ("recorded", recording(work, SAMPLED))):
        os.mkdir(f"{work}/{folder}")
        for s in sources:
            done = run(["gcc", *flags, s, "-o", f"{folder}/{os.path.basename(s)}.o"], work, prefix)
            assert done.returncode == 0, done.stderr[-2000:]
    assert fingerprint(f"{work}/plain") == fingerprint(f"{work}/recorded"), "object files differ"
    check_profiles(work, "cpu", "heap")


def exceptions(work):
    same([f"{BUILD}/tests/e2e/survival_target", "throw"], work, EXACT, "cpu", "heap")


def a_thousand_children(work):
    same([f"{BUILD}/tests/e2e/survival_target", "fork"], work, SAMPLED, "heap")


# --- Servers under load, on this machine's own addresses.


def redis(work):
    need("redis-server", "redis-benchmark", "redis-cli")
    sock = f"{work}/redis.sock"
    cli = ["redis-cli", "-s", sock]
    command = ["redis-server", "--port", "0", "--unixsocket", sock, "--save", "", "--dir", work,
               "--appendonly", "yes", "--enable-debug-command", "yes"]
    with server(command, work, EXACT, lambda: b"PONG" in run([*cli, "ping"], work).stdout):
        done = run(["redis-benchmark", "-s", sock, "-n", "20000", "-c", "20", "-r", "1000", "-q", "-t",
                    "set,get,incr,lpush,rpop,sadd,hset,zadd,lrange_100,mset"], work)
        assert done.returncode == 0 and b"rror" not in done.stdout, done.stdout[-800:]
        assert run([*cli, "set", "answer", "42"], work).stdout.strip() == b"OK"
        digest = run([*cli, "debug", "digest"], work).stdout
        size = run([*cli, "dbsize"], work).stdout
        time.sleep(0.5)
    # What it left behind is read by one that nobody records.
    p = subprocess.Popen(command, cwd=work, stdout=subprocess.DEVNULL)
    try:
        wait_for("redis-server", lambda: b"PONG" in run([*cli, "ping"], work).stdout)
        assert run([*cli, "dbsize"], work).stdout == size
        assert run([*cli, "debug", "digest"], work).stdout == digest
    finally:
        p.terminate()
        p.wait()
    check_profiles(work, "cpu", "heap", "block")


NGINX = """worker_processes 2; daemon off; pid {work}/nginx.pid; error_log {work}/error.log warn;
events {{ worker_connections 256; }}
http {{ access_log off; client_body_temp_path {work}/t1; proxy_temp_path {work}/t2;
  fastcgi_temp_path {work}/t3; uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5;
  gzip on; gzip_min_length 1; gzip_types *;
  server {{ listen 127.0.0.1:{port}; root {work}/www; }} }}"""


def nginx(work):
    need("nginx", "wrk")
    port = free_port()
    os.mkdir(f"{work}/www")
    os.chmod(work, 0o755)
    with open(f"{work}/www/page.txt", "w", encoding="ascii") as f:
        f.write("".join(f"line {i} of a page that is compressed\n" for i in range(2000)))
    with open(f"{work}/nginx.conf", "w", encoding="ascii") as f:
        f.write(NGINX.format(work=work, port=port))

    def get():
        with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
            s.sendall(b"GET /page.txt HTTP/1.0\r\nHost: x\r\n\r\n")
            data = b""
            while chunk := s.recv(65536):
                data += chunk
        return data.split(b"\r\n\r\n", 1)[1]

    with server(["nginx", "-c", f"{work}/nginx.conf", "-p", work], work, SAMPLED, get):
        done = run(["wrk", "-t1", "-c16", "-d4s", "-H", "Accept-Encoding: gzip",
                    f"http://127.0.0.1:{port}/page.txt"], work)
        assert done.returncode == 0 and b"Requests/sec" in done.stdout, done.stderr
        assert b"Socket errors" not in done.stdout and b"Non-2xx" not in done.stdout, done.stdout
        with open(f"{work}/www/page.txt", "rb") as f:
            assert get() == f.read()
    with open(f"{work}/error.log", encoding="utf8", errors="replace") as f:
        log = f.read()
    assert not re.search(r"\[(alert|emerg|crit)\]", log), log[-1500:]
    check_profiles(work, "cpu", "heap")


def postgres(work):
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not found:
        raise Skip("no postgresql here")
    bin_ = found[-1]
    data, env = f"{work}/data", dict(os.environ, LC_ALL="C")
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] \
        if os.geteuid() == 0 else []
    os.chmod(work, 0o777)

    def pg(program, *args, check=True):
        done = subprocess.run([*as_user, f"{bin_}/{program}", *args], cwd=work, env=env,
                              capture_output=True, text=True, timeout=300)
        assert not check or done.returncode == 0, done.stderr[-1500:]
        return done.stdout

    def sql(text):
        return pg("psql", "-h", work, "-d", "postgres", "-Atc", text).strip()

    pg("initdb", "-D", data, "-A", "trust", "--no-sync")
    os.makedirs(f"{work}/profiles", exist_ok=True)
    os.chmod(f"{work}/profiles", 0o777)
    log = open(f"{work}/server.log", "wb")
    command = [*as_user, *recording(work, SAMPLED), f"{bin_}/postgres", "-D", data, "-k", work, "-c",
               "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=32MB"]
    p = subprocess.Popen(command, cwd=work, stdout=log, stderr=log, env=env)
    try:
        wait_for("postgres", lambda: "1" in pg("psql", "-h", work, "-d", "postgres", "-Atc",
                                               "select 1", check=False), 60)
        pg("pgbench", "-h", work, "-i", "-s", "2", "-q", "postgres")
        out = pg("pgbench", "-h", work, "-c", "4", "-j", "2", "-T", "6", "postgres")
        assert re.search(r"number of failed transactions: 0 ", out), out
        # What pgbench promises: all the sums agree.
        sums = [sql(f"select coalesce(sum({c}), 0) from {t}") for c, t in
                (("abalance", "pgbench_accounts"), ("bbalance", "pgbench_branches"),
                 ("tbalance", "pgbench_tellers"), ("delta", "pgbench_history"))]
        assert len(set(sums)) == 1, sums
        p.send_signal(signal.SIGTERM)
        assert p.wait(timeout=120) == 0, open(f"{work}/server.log", errors="replace").read()[-2500:]
    finally:
        if p.poll() is None:
            p.kill()
            p.wait()
        log.close()
    with open(f"{work}/server.log", encoding="utf8", errors="replace") as f:
        text = f.read()
    assert not re.search(r"PANIC|terminated by signal|server process .* exited", text), text[-2500:]
    check_profiles(work, "cpu", "heap")


if __name__ == "__main__":
    main([sqlite, exceptions, a_thousand_children, bash_and_git, gcc_compiles_this, redis, nginx,
          postgres, python_tests])
