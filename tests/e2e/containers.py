#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""In containers: own mount, pid, network (and user) namespaces, a read-only root, an ordinary user, a seccomp filter as
Docker's. What can work there works, from inside and from the host; the rest says what is to be granted."""

import os
import re
import shutil
import signal
import subprocess
import time

from harness import BUILD, BURN, FIBERSCOPE, NOBODY, TESTS, Profile, Skip, close, main

TARGET = os.path.join(TESTS, "late_target")
FILTER = os.path.join(TESTS, "docker_seccomp")
AGENT = os.path.join(BUILD, "agent", "libfiberscope.so")
NO_RIGHTS = ["--bounding-set", "-all", "--inh-caps", "-all"]
# Its init: makes the root read-only and /tmp its own, says so and waits for the end of its input. Files of the test's
# folder, which is below /tmp, are there by a bind mount; so is the build, where that is below /tmp.
INIT = """
mount --make-rprivate / && mount --bind "$0" "$0" && mkdir -p "$0/tmp" && chmod 1777 "$0/tmp" &&
case $1 in /tmp/*) mkdir -p "$0$1" && mount --bind "$1" "$0$1" ;; esac &&
mount --rbind "$0/tmp" /tmp && mount -o remount,bind,ro / && { ip link set lo up 2>/dev/null || true; } &&
echo up && read x
"""
FETCH = """
import sys, urllib.request
for path in sys.argv[2:]:
    try:
        with urllib.request.urlopen(sys.argv[1] + path, timeout=20) as r:
            print(r.status, len(r.read()))
    except urllib.error.HTTPError as e:
        print(e.code, repr(e.read()))
"""


class Container:
    """kind: docker (its default filter, no rights, user 65534), strict (ptrace is filtered as well), root (Docker's
    filter and rights, user 0), rootless (made by an ordinary user, who is root in it)."""

    def __init__(self, work, kind):
        self.kind, self.tmp, self.started = kind, os.path.join(work, "tmp"), []
        prefix = list(NOBODY) if kind == "rootless" and os.geteuid() == 0 else []
        if os.geteuid() != 0 and kind != "rootless":
            raise Skip("needs root for namespaces as Docker makes them")
        own = ["-Urmpniu"] if kind == "rootless" else ["-mpniu"]
        self.process = subprocess.Popen([*prefix, "unshare", *own, "--fork", "--kill-child", "--mount-proc", "sh", "-c",
                                         INIT, work, os.path.realpath(BUILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "up\n":
            raise Skip(f"no such container can be made here: {self.process.stderr.read()}")
        self.init = child(self.process.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(timeout=20)
        for p in self.started:
            p.wait(timeout=20)

    def argv(self, command, env):
        """As docker exec: into the namespaces, rights dropped, the filter last."""
        enter = ["nsenter", "-t", str(self.init), *(["-U", "--preserve-credentials"] if self.kind == "rootless" else []),
                 "-m", "-p", "-n", "-i", "-u", "--wd=/tmp"]
        if self.kind == "rootless":
            enter = [*(NOBODY if os.geteuid() == 0 else []), *enter]
        rights = []
        if self.kind in ("docker", "strict"):
            rights = [*NOBODY, *NO_RIGHTS]
        elif self.kind == "root":
            keep = "chown,dac_override,fsetid,fowner,mknod,net_raw,setgid,setuid,setfcap,setpcap,net_bind_service," \
                   "sys_chroot,kill,audit_write"
            rights = ["setpriv", "--bounding-set", "-all,+" + ",+".join(keep.split(","))]
        settings = [f"{k}={v}" for k, v in env.items()]
        return [*enter, "env", "TMPDIR=/tmp", "HOME=/tmp", *rights, FILTER,
                "strict" if self.kind == "strict" else "docker", "env", *settings, *command]

    def run(self, *command, status=None, timeout=60):
        done = subprocess.run(self.argv(command, {}), capture_output=True, text=True, timeout=timeout, check=False)
        assert status is None or done.returncode == status, (command, done.returncode, done.stdout, done.stderr)
        return done

    def fiberscope(self, *args, **more):
        return self.run(FIBERSCOPE, *args, **more)

    def start(self, *command, ready="ready", prefix=(), **env):
        """The process, by its number here and inside."""
        p = subprocess.Popen([*prefix, *self.argv(command, env)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True)
        self.started.append(p)
        while ready:
            line = p.stdout.readline()
            assert line, f"{command} said nothing"
            if line.startswith(ready):
                break
        host = child(p.pid)
        with open(f"/proc/{host}/status", encoding="ascii") as f:
            inside = int(re.search(r"NSpid:.*\t(\d+)\n", f.read())[1])
        return str(host), str(inside)

    def profile(self, name="p.pb.gz"):
        return Profile(os.path.join(self.tmp, name))


def child(pid):
    """The last of a line of only children, once there is one."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            found = f.read().split()
        if found:
            return int(found[0])
        time.sleep(0.02)
    raise AssertionError(f"process {pid} has no child")


def host(*args, status=None, user=(), cwd=None):
    done = subprocess.run([*user, FIBERSCOPE, *args], capture_output=True, text=True, timeout=60, check=False, cwd=cwd)
    assert status is None or done.returncode == status, (args, done.returncode, done.stdout, done.stderr)
    return done


def serve_for_a_moment(argv, want):
    """Its start lines; it must go by itself on SIGINT, with status 0."""
    p = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = ""
    while want not in said:
        line = p.stderr.readline()
        assert line, said
        said += line
    return p, said


def stop(p, inside=True):
    os.kill(child(p.pid) if inside else p.pid, signal.SIGINT)
    assert p.wait(timeout=20) == 0, p.stderr.read()


def each(*kinds):
    def decorate(case):
        def every(work):
            reasons = []
            for kind in kinds:
                there = os.path.join(work, kind)
                os.mkdir(there)
                os.chmod(there, 0o777)
                try:
                    with Container(there, kind) as c:
                        case(c)
                except Skip as why:
                    reasons.append(f"{kind}: {why}")
            if reasons:
                raise Skip("; ".join(reasons))
        every.__name__ = case.__name__
        return every
    return decorate


@each("docker", "strict", "root", "rootless")
def what_it_starts_is_recorded_and_served(c):
    c.run("sh", "-c", "! touch /made 2>/dev/null", status=0)
    said = c.fiberscope("record", "-o", "/tmp/p.pb.gz", BURN, "split", "800", status=0).stderr
    assert "0 dropped" in said, said
    p = c.profile()
    close(p.total() / 1e9, 0.8, 0.06, "CPU seconds")  # that it takes, however long it lasts
    close(p.share("alpha"), 0.7, 0.17, "share of alpha")  # of some 80 samples
    c.fiberscope("record", "--heap", "--block", "-o", "/tmp/kinds/", TARGET, "work", "0.5", status=0)
    assert len([f for f in os.listdir(f"{c.tmp}/kinds") if f.endswith(".pb.gz")]) == 2, os.listdir(f"{c.tmp}/kinds")
    # A folder that cannot be written: before anything is started, and with the way out.
    done = c.run("sh", "-c", f"cd /; exec {FIBERSCOPE} record touch /tmp/started")
    assert done.returncode == 1 and "-o FILE" in done.stderr and not os.path.exists(f"{c.tmp}/started"), done.stderr
    done = c.fiberscope("serve", "-l", "unix:/sock", "touch", "/tmp/started")
    assert done.returncode == 1 and "/sock: " in done.stderr and not os.path.exists(f"{c.tmp}/started"), done.stderr
    p, said = serve_for_a_moment(c.argv([FIBERSCOPE, "serve", "-l", "127.0.0.1:6060", "--block", TARGET, "work", "60"], {}),
                                 "go tool pprof")
    got = c.run("python3", "-c", FETCH, "http://127.0.0.1:6060", "/debug/pprof/heap", "/debug/pprof/profile?seconds=1",
                "/debug/pprof/block", "/debug/pprof/goroutine?debug=2", "/debug/pprof/trace?seconds=0.2", "/metrics",
                "/debug/fibers", status=0).stdout
    # Fibers and stacks are read out of its memory.
    refused = [f for f in got.splitlines() if not f.startswith("200 ")]
    assert len(got.splitlines()) == 7 and len(refused) == (2 if c.kind == "strict" else 0), got
    assert all("--cap-add SYS_PTRACE" in line for line in refused), got
    ps = c.fiberscope("ps", status=0).stdout
    assert re.search(r"late_target .*127\.0\.0\.1:6060", ps), ps
    os.kill(child(p.pid), signal.SIGTERM)
    p.wait(timeout=20)


@each("docker", "strict", "rootless")
def with_the_agent_all_works_inside(c):
    pid = c.start(TARGET, "work", "120", LD_PRELOAD=AGENT)[1]
    assert re.search(rf"^ *{pid} +late_target .*idle", c.fiberscope("ps", status=0).stdout, re.M)
    said = c.fiberscope("record", "-p", pid, "-d", "1s", "-o", "/tmp/p.pb.gz", status=0).stderr
    assert "by the agent inside it" in said and c.profile().total(1, lambda s: "work" in s.stack) > 0, said
    c.fiberscope("record", "-p", pid, "--heap", "-d", "1s", "-o", "/tmp/h.pb.gz", status=0)
    assert c.profile("h.pb.gz").total() > 0
    p, said = serve_for_a_moment(c.argv([FIBERSCOPE, "serve", "-l", "127.0.0.1:6061", "-p", pid], {}), "go tool pprof")
    got = c.run("python3", "-c", FETCH, "http://127.0.0.1:6061", "/debug/pprof/heap", "/debug/pprof/profile?seconds=1",
                "/debug/pprof/wall?seconds=1", status=0).stdout
    assert [line.split()[0] for line in got.splitlines()] == ["200"] * 3, got
    stop(p)
    assert re.search(rf"^ *{pid} +late_target .*idle", c.fiberscope("ps", status=0).stdout, re.M)


@each("docker", "rootless")
def without_the_agent_what_is_filtered_is_named(c):
    pid = c.start(TARGET, "work", "120")[1]
    stacks = c.fiberscope("stack", "--threads", pid, status=0).stdout
    assert stacks.count('"late_target"') == 4 and "late_target.c:" in stacks, stacks
    waits = c.fiberscope("waits", pid, status=0).stdout
    assert "4 threads" in waits and "No deadlock found" in waits, waits
    for args in (["record", "-p", pid, "-d", "1s"], ["top", "-p", pid]):
        done = c.fiberscope(*args)
        assert done.returncode == 1 and "seccomp" in done.stderr and "--cap-add PERFMON" in done.stderr, done.stderr
    assert "--method=inject" in c.fiberscope("record", "-p", pid, "-o", "/tmp/x", "-d", "1s").stderr
    p, said = serve_for_a_moment(c.argv([FIBERSCOPE, "serve", "-l", "127.0.0.1:0", "-p", pid], {}), "from outside")
    assert "alone" in said and "PERFMON" in said, said
    stop(p)
    done = c.fiberscope("attach", "-p", pid)
    assert done.returncode == 1 and "attach --seccomp" in done.stderr, done.stderr
    c.fiberscope("attach", "--seccomp", "-p", pid, status=0)
    c.fiberscope("record", "-p", pid, "--heap", "--block", "-d", "1s", "-o", "/tmp/k/", status=0)
    c.fiberscope("detach", "-p", pid, status=0)


@each("strict")
def a_filter_without_ptrace_says_so(c):
    pid = c.start(TARGET, "work", "120")[1]
    for args in (["stack", pid], ["waits", pid], ["attach", "--seccomp", "-p", pid], ["detach", "-p", pid]):
        done = c.fiberscope(*args)
        said = done.stderr
        assert done.returncode in (1, 2) and "seccomp filter" in said and "--cap-add SYS_PTRACE" in said, (args, said)
        assert "Operation not permitted" not in said, said


@each("root")
def another_users_process_needs_the_capability(c):
    pid = c.start("setpriv", *NOBODY[1:], TARGET, "work", "120")[1]
    for args in (["stack", pid], ["waits", pid], ["attach", "--seccomp", "-p", pid]):
        said = c.fiberscope(*args).stderr
        assert "user 65534 and you are user 0" in said and "--cap-add SYS_PTRACE" in said, (args, said)


@each("docker", "strict", "rootless")
def from_the_host_root_sees_in(c):
    if os.geteuid() != 0:
        raise Skip("needs root")
    # A program that is nowhere but inside: its file is found through the process.
    shutil.copy(TARGET, os.path.join(c.tmp, "only_here"))
    pid = c.start("/tmp/only_here", "work", "120")[0]
    work = os.path.dirname(c.tmp)
    bpf = re.search(r"^BPF +ok ", host("doctor", status=0).stdout, re.M)
    for i, method in enumerate((["--method=perf"], [], *([["--method=ebpf"]] if bpf else []))):
        host("record", "-p", pid, "-d", "1s", "-o", f"{i}.pb.gz", *method, cwd=work, status=0)
        # However little of a busy machine it got: where that went has names.
        p = Profile(f"{work}/{i}.pb.gz")
        named = p.total(1, lambda s: "work" in s.stack)
        assert p.total(1, lambda s: "burn_three" in s.stack) > 0 and named > 0.5 * p.total(), (i, named, p.total())
    assert "late_target.c:" in host("stack", "--threads", pid, status=0).stdout
    assert "4 threads" in host("waits", pid, status=0).stdout
    host("attach", "--seccomp", "-p", pid, status=0)
    said = host("record", "-p", pid, "--heap", "-d", "1s", "-o", "h.pb.gz", cwd=work, status=0).stderr
    assert "by the agent inside it" in said, said
    assert Profile(f"{work}/h.pb.gz").total() > 0
    p, _ = serve_for_a_moment([FIBERSCOPE, "serve", "-l", "127.0.0.1:0", "-p", pid], "go tool pprof")
    assert re.search(rf"^ *{pid} +only_here .*127\.0\.0\.1:0", host("ps", status=0).stdout, re.M)
    stop(p, inside=False)
    host("detach", "-p", pid, status=0)


@each("docker", "rootless")
def from_the_host_its_user_sees_what_he_may(c):
    pid = c.start(TARGET, "work", "120", LD_PRELOAD=AGENT)[0]
    user = NOBODY if os.geteuid() == 0 else []
    work = os.path.dirname(c.tmp)
    assert "late_target.c:" in host("stack", "--threads", pid, user=user, status=0).stdout
    host("waits", pid, user=user, status=0)
    done = host("record", "-p", pid, "-d", "1s", "-o", "p.pb.gz", user=user, cwd=work)
    if done.returncode == 0:
        assert "from outside" in done.stderr and "network namespace" in done.stderr, done.stderr
        assert Profile(f"{work}/p.pb.gz").total(1, lambda s: "work" in s.stack) > 0
    else:
        assert "perf_event_paranoid" in done.stderr, done.stderr
    done = host("record", "-p", pid, "--heap", "-d", "1s", user=user, cwd=work)
    assert done.returncode == 1 and "network namespace" in done.stderr and "inside its container" in done.stderr and \
        "--method=inject" not in done.stderr, done.stderr


if __name__ == "__main__":
    main([what_it_starts_is_recorded_and_served, with_the_agent_all_works_inside,
          without_the_agent_what_is_filtered_is_named, a_filter_without_ptrace_says_so,
          another_users_process_needs_the_capability, from_the_host_root_sees_in,
          from_the_host_its_user_sees_what_he_may])
