#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""FIBERSCOPE_SERVE and fscope_serve: `fiberscope serve` beside a program, which is no child of it, ends with it and may
be killed."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

from harness import BUILD, FIBERSCOPE, TESTS, main

AGENT = os.path.join(BUILD, "agent", "libfiberscope.so")
LATE = os.path.join(TESTS, "late_target")
SELF = os.path.join(TESTS, "sidecar_target")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(port, path, seconds=15):
    """Asked until there is somebody to answer."""
    end = time.time() + seconds
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/debug/pprof/{path}", timeout=20) as answer:
                return answer.read()
        except (urllib.error.URLError, ConnectionError):
            if time.time() > end:
                raise
            time.sleep(0.05)


def is_answered(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def until(condition, what, seconds=15):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, what
        time.sleep(0.05)


def sidecars(pid):
    found = []
    for other in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{other}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        if b"--sidecar" in words and str(pid).encode() in words:
            found.append(int(other))
    return found


def start(*command, port, agent=True, **more):
    env = dict(os.environ, FIBERSCOPE_SERVE=f"127.0.0.1:{port}")
    if agent:
        env["LD_PRELOAD"] = AGENT
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)


def served_from_the_start_until_the_end():
    port = free_port()
    p = start(LATE, "work", "60", port=port)
    try:
        assert get(port, "cmdline").split(b"\0")[0] == LATE.encode()
        assert b"burn_three" in subprocess.run(
            [FIBERSCOPE, "top", "/dev/stdin"], input=get(port, "profile?seconds=1"), capture_output=True).stdout
        until(lambda: b"grow" in get(port, "heap?debug=1"), "no allocation is in the heap profile")
        with open(f"/proc/{p.pid}/task/{p.pid}/children") as f:
            assert f.read().strip() == "", "it is a child of the program"
        listed = subprocess.run([FIBERSCOPE, "ps"], capture_output=True, text=True).stdout
        assert re.search(rf"^ +{p.pid} .* 127\.0\.0\.1:{port}", listed, re.M), listed
    finally:
        p.send_signal(signal.SIGTERM)
        said, _ = p.communicate(timeout=30)
    assert p.returncode == 0 and said.startswith("ready\nrounds"), said  # nothing else is said
    until(lambda: not is_answered(port), "it still serves what has ended")


def a_killed_one_comes_back_on_a_call():
    port = free_port()
    p = subprocess.Popen([SELF, f"127.0.0.1:{port}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(wish):
        p.stdin.write(wish + "\n")
        p.stdin.flush()
        return p.stdout.readline().strip()

    assert ask("serve") == "0"
    assert b"goroutine" in get(port, "")
    assert ask("wait") == "none", "the program's waitpid sees it"
    until(lambda: len(sidecars(p.pid)) == 1, "not one sidecar")
    os.kill(sidecars(p.pid)[0], signal.SIGKILL)
    until(lambda: not is_answered(port), "it was not killed")
    assert ask("wait") == "none" and p.poll() is None
    assert ask("serve") == "0"
    assert b"goroutine" in get(port, "")
    assert ask("serve") == "0"  # a second one finds the port taken, and goes
    until(lambda: len(sidecars(p.pid)) == 1, "two sidecars stay")
    p.stdin.close()
    assert p.wait(timeout=20) == 0
    until(lambda: not sidecars(p.pid), "it outlives the program")


def an_exec_is_followed_and_children_do_not_serve():
    port = free_port()
    p = start("sh", "-c", f"sleep 1; {LATE} work 1; exec {LATE} work 60", port=port)
    try:
        assert get(port, "cmdline").startswith(b"sh\0")
        until(lambda: get(port, "cmdline").startswith(LATE.encode()), "the next image is not seen")
        until(lambda: b"grow" in get(port, "heap?debug=1"), "the next image's heap is not seen", 30)
        assert len(sidecars(p.pid)) == 1
    finally:
        p.kill()
        p.communicate()


def a_program_on_the_runtime_alone(work):
    port = free_port()
    p = start(os.path.join(BUILD, "examples", "shorten"), "-p", str(free_port()), "-d", f"{work}/x.db", port=port,
              agent=False)
    try:
        assert b"accept_run" in get(port, "goroutine?debug=2")
        assert get(port, "heap?debug=1").startswith(b"heap profile:")
    finally:
        p.kill()
        p.communicate()


def without_the_command_one_line_is_said(work):
    for name in ("libfiberscope.so", "libfiberscope.so.0", "libfiberscope-core.so.0"):
        shutil.copy(os.path.join(BUILD, "agent", name), work)
    env = {"PATH": "/nonexistent", "LD_PRELOAD": f"{work}/libfiberscope.so", "FIBERSCOPE_SERVE": "127.0.0.1:1"}
    done = subprocess.run([LATE, "work", "0.2"], env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and done.stderr.count("\n") == 1, done
    assert "neither beside the agent nor in PATH" in done.stderr, done.stderr


def what_it_cannot_do_it_says():
    p = start(LATE, "work", "1.5", port="0:0")
    said, _ = p.communicate(timeout=30)
    assert p.returncode == 0 and said.count("fiberscope serve:") == 1, said


def who_has_nothing_to_do_is_silent():
    """Sidecars that come at once for one address, and those of programs that are over before they look."""
    with subprocess.Popen([LATE, "work", "60"], env=dict(os.environ, LD_PRELOAD=AGENT), stdout=subprocess.PIPE) as p:
        time.sleep(0.3)
        port = free_port()
        rivals = [subprocess.Popen([FIBERSCOPE, "serve", "--sidecar", "-p", str(p.pid), "--listen", f"127.0.0.1:{port}"],
                                   stderr=subprocess.PIPE, text=True) for _ in range(6)]
        until(lambda: sum(r.poll() is None for r in rivals) == 1, "one of them serves")
        p.kill()
        said = [r.communicate(timeout=20)[1] for r in rivals]
    assert not any(said) and not any(r.returncode for r in rivals), said
    for _ in range(12):
        p = start("sleep", "0.1", port=0)
        said, _ = p.communicate(timeout=20)  # until its sidecar has gone, too
        assert p.returncode == 0 and not said, said


def the_pid_in_an_address_is_the_commands(work):
    p = subprocess.Popen([FIBERSCOPE, "serve", "-q", "--listen", f"unix:{work}/%p-%p", "sleep", "1"])
    until(lambda: os.listdir(work), "it listens")
    with open(f"/proc/{p.pid}/task/{p.pid}/children", encoding="ascii") as f:
        child = f.read().split()[0]
    until(lambda: os.listdir(work) == [f"{child}-{child}"], os.listdir(work))
    assert p.wait(timeout=20) == 0
    with open(f"{work}/plain", "w", encoding="ascii"):
        pass
    done = subprocess.run([FIBERSCOPE, "serve", "--listen", f"unix:{work}/plain", "sleep", "1"], capture_output=True,
                          text=True, timeout=20)
    assert "another file is there" in done.stderr and done.returncode, done


if __name__ == "__main__":
    main([who_has_nothing_to_do_is_silent, the_pid_in_an_address_is_the_commands, served_from_the_start_until_the_end,
          a_killed_one_comes_back_on_a_call, an_exec_is_followed_and_children_do_not_serve, a_program_on_the_runtime_alone,
          without_the_command_one_line_is_said, what_it_cannot_do_it_says])
