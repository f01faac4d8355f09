#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What no agent can be put into, or not now: each refusal says why and what to do instead, and the process runs on untouched."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

from harness import BUILD, FIBERSCOPE, NOBODY, TESTS, Skip, main, record
from inject import LATE, attach, command, detach, ends_well, mappings, running

MUSL = """#include <stdio.h>
#include <unistd.h>
int main(void)
{
    puts("ready");
    fflush(stdout);
    for (;;)
        usleep(10000);
}
"""
# Says "ready" and sleeps by nanosleep, over and over: write, then int 0x80 all along.
I386 = """.globl _start
_start:
    movl $4, %eax
    movl $1, %ebx
    movl $text, %ecx
    movl $6, %edx
    int $0x80
1:  movl $162, %eax
    movl $pause, %ebx
    xorl %ecx, %ecx
    int $0x80
    jmp 1b
.data
pause: .long 0, 10000000
text: .ascii "ready\\n"
"""
# A filter that allows all.
FILTERED = """import ctypes, struct, time
libc = ctypes.CDLL(None)
f = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))
class P(ctypes.Structure): _fields_ = [('n', ctypes.c_ushort), ('f', ctypes.c_void_p)]
p = P(1, ctypes.addressof(f))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(p)) == 0
print('ready', flush=True)
while True: time.sleep(0.01)
"""
# Strict mode: from then on a system call that is not read, write, exit or sigreturn kills.
STRICT = """import ctypes, os
libc = ctypes.CDLL(None)
buffer = ctypes.create_string_buffer(1)
os.write(1, b'ready\\n')
libc.prctl(22, 1, 0, 0, 0)
while True: libc.read(0, buffer, 1)
"""
# Traces without stopping; its end lets go.
TRACER = """import ctypes, sys, time
assert ctypes.CDLL(None).ptrace(0x4206, int(sys.argv[1]), 0, 0) == 0
print('ready', flush=True)
time.sleep(60)
"""


def refused(pid, *words, verb="attach", prefix=(), options=()):
    done = subprocess.run([*prefix, FIBERSCOPE, verb, *options, "-p", str(pid)], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 1, (done.returncode, done.stderr)
    for w in words:
        assert w in done.stderr, f"{w!r} is not in: {done.stderr}"
    return done.stderr


def refusals(work):
    with running(f"{TESTS}/burn_static", "split", "20000", ready=None) as p:
        time.sleep(0.2)
        refused(p.pid, "statically linked", "with --method=perf")
        refused(p.pid, "has no agent", verb="detach")
        said = record("-p", str(p.pid), "--heap", "-d", "100ms", cwd=work, check=1).stderr
        assert "statically linked" in said and "--method=inject" not in said, said
    with subprocess.Popen([FIBERSCOPE, "serve", "--listen", f"unix:{work}/s", f"{TESTS}/burn_static", "split", "1500"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as p:
        said = p.stderr.read()
        assert "it is statically linked" in said and "LD_PRELOAD" not in said, said
    with running(LATE, "work", "60", env={"LD_PRELOAD": f"{BUILD}/agent/libfiberscope.so"}) as p:
        assert "in already" in attach(p.pid)
        refused(p.pid, "was started with the agent", verb="detach")
        ends_well(p)
    with running(LATE, "work", "60") as p:
        refused(p.pid, "has no agent", verb="detach")
        if os.geteuid() == 0 and shutil.which("setpriv"):
            refused(p.pid, "run as that user, or with CAP_SYS_PTRACE", prefix=NOBODY)
        with running(sys.executable, "-c", TRACER, str(p.pid)) as tracer:
            refused(p.pid, "is traced by process", str(tracer.pid), "end that first")
        os.kill(p.pid, signal.SIGSTOP)
        time.sleep(0.1)
        refused(p.pid, "kill -CONT")
        os.kill(p.pid, signal.SIGCONT)
        # While somebody records, the agent stays.
        attach(p.pid)
        with subprocess.Popen([FIBERSCOPE, "record", "-p", str(p.pid), "--cpu", "-d", "2s", "-q", "-o", f"{work}/p.pb.gz"],
                              cwd=work) as r:
            time.sleep(1)
            refused(p.pid, "is being recorded", verb="detach")
            assert r.wait(timeout=20) == 0
        detach(p.pid)
        ends_well(p)
    refused(2 ** 22 - 1, "no process")


def every_way_in(pid, *words):
    """attach, and record and serve by injection: each of them."""
    refused(pid, *words)
    refused(pid, *words, verb="record", options=("--method=inject", "-d", "1s", "-o", "/dev/null"))
    refused(pid, *words, verb="serve", options=("--method=inject", "--listen", "127.0.0.1:0"))
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        assert re.search(r"^TracerPid:\t0$", f.read(), re.M)


def build(source, name, *compiler):
    with open(source[0], "w", encoding="ascii") as f:
        f.write(source[1])
    subprocess.run([*compiler, "-o", name, source[0]], check=True, timeout=60)
    return name


def from_outside_works(pid, work):
    """What is advised."""
    record("-p", str(pid), "--method=perf", "-d", "200ms", "-o", f"{work}/outside.pb.gz", cwd=work, check=0)


def musl(work):
    if not shutil.which("musl-gcc"):
        raise Skip("no musl-gcc here (musl-tools)")
    program = build((f"{work}/m.c", MUSL), f"{work}/on_musl", "musl-gcc")
    with running(program) as p:
        assert any("musl" in m[4] for m in mappings(p.pid)), "it is linked dynamically"
        every_way_in(p.pid, "(on_musl) runs on musl, and the agent needs glibc", "--method=perf")
        from_outside_works(p.pid, work)
        assert p.poll() is None


def old_glibc(work):
    """One that does not have what came with 2.35. Made of the present one: the function goes by another name."""
    now, old = b"\0_dl_find_object\0", b"\0_dl_fjnd_object\0"
    with running(LATE, "work", "60") as p:
        libc = next(m[4] for m in mappings(p.pid) if m[4].endswith("/libc.so.6"))
        loader = next(m[4] for m in mappings(p.pid) if os.path.basename(m[4]).startswith("ld-linux"))
    with open(libc, "rb") as f:
        image = f.read()
    if now not in image:
        raise Skip(f"{libc} has no _dl_find_object")
    with open(f"{work}/libc.so.6", "wb") as f:
        f.write(image.replace(now, old))
    with running(loader, "--library-path", work, LATE, "work", "60") as p:
        assert f"{work}/libc.so.6" in [m[4] for m in mappings(p.pid)]
        every_way_in(p.pid, "its glibc is older than 2.35", "--method=perf")
        from_outside_works(p.pid, work)
        ends_well(p)


def of_32_bits(work):
    if not shutil.which("as") or not shutil.which("ld"):
        raise Skip("no as and ld here")
    with open(f"{work}/i.s", "w", encoding="ascii") as f:
        f.write(I386)
    subprocess.run(["as", "--32", "-o", f"{work}/i.o", f"{work}/i.s"], check=True, timeout=60)
    subprocess.run(["ld", "-m", "elf_i386", "-o", f"{work}/i386", f"{work}/i.o"], check=True, timeout=60)
    try:
        subprocess.run([f"{work}/i386"], timeout=0.2, check=False, stdout=subprocess.DEVNULL)
    except OSError as e:
        raise Skip(f"this kernel runs no 32-bit programs: {e}") from None
    except subprocess.TimeoutExpired:
        pass
    with running(f"{work}/i386") as p:
        every_way_in(p.pid, "is not a 64-bit x86-64 program", "use perf")
        assert p.poll() is None


def strict_seccomp(work):
    """Where nothing but read and write may be called, leave (--seccomp) helps nothing either."""
    with running(sys.executable, "-c", STRICT, stdin=subprocess.PIPE) as p:
        until = time.monotonic() + 10
        while "Seccomp:\t1" not in open(f"/proc/{p.pid}/status", encoding="ascii").read():
            assert time.monotonic() < until
        every_way_in(p.pid, "strict seccomp mode", "--method=perf")
        said = refused(p.pid, "strict seccomp mode", options=("--seccomp",))
        assert "start it with the agent" not in said, said
        from_outside_works(p.pid, work)
        assert p.poll() is None


def seccomp(work):
    """A filter is not guessed at; with leave it works under one that allows what Docker's does."""
    with running("/usr/bin/python3", "-c", FILTERED) as p:
        refused(p.pid, "seccomp filter", "--seccomp")
        assert "the agent is in" in command("attach", "--seccomp", "-p", str(p.pid))
        record("-p", str(p.pid), "--cpu", "-d", "300ms", "-o", f"{work}/p.pb.gz", cwd=work, check=0)
        detach(p.pid)
        assert p.poll() is None


if __name__ == "__main__":
    main([refusals, seccomp, strict_seccomp, musl, old_glibc, of_32_bits])
