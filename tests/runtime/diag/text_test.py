# SPDX-License-Identifier: MIT
"""What the runtime prints: dumps, deadlocks, overflows, leaks, stalls, traces; word by word."""
import os
import re
import signal
import subprocess
import sys

from target import TARGET, check, finish, goroutines, run, same

WAITERS = {
    1: ('join, "main"', ["fib_join", "main_of_deadlock"], ("fib_main", 0)),
    2: ('join, "number one"', ["fib_join", "inner_wait", "first_waiter"], ("start_both", 1)),
    3: ("join", ["fib_join", "inner_wait", "second_waiter"], ("start_both", 1)),
}
SANITIZER = os.environ.get("FSCOPE_SANITIZE", "").split(",")[0]  # "undefined" beside another says nothing of its own
DEAD = "fatal error: all goroutines are asleep - deadlock!\n\n"


def deadlock():
    status, out, err = run("deadlock")
    same((status, out), (2, ""), "deadlock")
    check(err.startswith(DEAD), "first line:", err)
    same(goroutines(err), WAITERS, "deadlock's fibers")
    for debug in "seed=3", "chaos=1":
        status, out, err = run("deadlock", debug)
        check(status == 2 and err.startswith(DEAD), debug, status, err)
        same(sorted(goroutines(err)), [1, 2, 3], debug)
    # A thread of the program's own could still do something. When it has ended, nobody can.
    status, _, err = run("deadlock-thread-ends")
    same(status, 2, "once the thread has ended")
    check(err.startswith("the thread ends\n" + DEAD), "after the thread's words:", err)
    try:
        run("deadlock-thread-stays", timeout=4)
        check(False, "a verdict although a thread is alive")
    except subprocess.TimeoutExpired as e:
        same((e.stdout or b"", e.stderr or b""), (b"", b""), "nothing is said")


# A thread in a signal's handler is running; where it was interrupted is the stack.
def dump():
    for mode, status in ("dump", 0), ("quit", 2):
        got, out, err = run(mode)
        same(got, status, mode)
        text = out if mode == "dump" else err
        if mode == "quit":
            check(text.startswith("SIGQUIT: quit\n\n"), text)
        found = goroutines(text)
        same(sorted(found), [1, 2, 3, 4], mode)
        same(found[2], ("sleep", ["fib_sleep", "sleeping_fiber"], ("main_of_dump", 1)), mode)
        state, functions, creator = found[3]
        # fib_now_ns is part of the loop, and clock_gettime of that.
        functions = functions[functions.index("busy_loop"):] if "busy_loop" in functions else []
        same((state, functions, creator),
             ("running", ["busy_loop", "busy_fiber"], ("main_of_dump", 1)), mode)
        same((found[4][0], found[4][1][-2:], found[4][2]),
             ("syscall", ["sleep", "blocked_fiber"], ("main_of_dump", 1)), mode)
        if mode == "dump":
            same(found[1], ('running, "main"', ["fib_dump", "main_of_dump"], ("fib_main", 0)), mode)
    got, _, err = run("quit", "sigquit=0")
    same((got, err), (-signal.SIGQUIT, ""), "SIGQUIT left alone")
    # The places are addresses in the files.
    _, out, _ = run("dump")
    where = re.search(r"sleeping_fiber\(\.\.\.\)\n\t(\S+) \+(0x[0-9a-f]+)", out)
    p = subprocess.run(["addr2line", "-f", "-e", where[1], where[2]], capture_output=True, text=True,
                       check=True)
    line = p.stdout.split("\n")
    same(line[0], "sleeping_fiber", "addr2line")
    source = open(line[1].split(":")[0], encoding="utf-8").read().split("\n")
    check("fib_sleep(INT64_MAX)" in source[int(line[1].split(":")[1].split()[0]) - 1], line)


def overflow():
    status, _, err = run("overflow")
    # These two have a handler of their own, which goes on with the fault and exits.
    by = {"address": 1, "thread": 66}.get(SANITIZER, -signal.SIGSEGV)
    same(status, by, "overflow ends by")
    check(err.startswith('fiberscope-rt: fiber 2 ("deep") overflowed its stack of 64 KiB\n\n'
                         "goroutine 2 [running]:\nrecurse(...)\n"), err)
    if SANITIZER: # larger frames
        return
    frames = re.findall(r"^(\w+)\(\.\.\.\)$", err, re.M)
    same(set(frames), {"recurse", "overflowing_fiber"}, "overflow's frames")
    same((frames[-1], frames.count("overflowing_fiber"), len(frames)), ("overflowing_fiber", 1, 100),
         "both ends of it")
    elided = int(re.search(r"^\.\.\.(\d+) frames elided\.\.\.$", err, re.M)[1])
    # Each frame has 512 bytes and some; the stack 60 KiB.
    check(60 * 1024 / 640 < elided + 100 < 60 * 1024 / 512, elided)
    status, _, err = run("overflow-handler")
    same(status, 5, "the program's own handler goes on")
    check(err.startswith("fiberscope-rt: fiber 2") and err.endswith("the program's handler\n"), err)
    same(run("null")[0::2], (-signal.SIGSEGV, ""), "another fault")


def leak():
    status, out, _ = run("leak")
    same(status, 0, "leak")
    check(out.startswith("fiberscope-rt: 4 fibers are alive\n\n3 created at leak_three(...)\n"), out)
    check("\n1 created at main_of_leak(...)\n" in out and out.endswith("\n\n4\n"), out)
    check(re.search(r"the oldest:\ngoroutine 2 \[sleep\]:\nfib_sleep", out), out)


def stall():
    status, _, err = run("stall", "stall=100")
    same(status, 0, "stall")
    reports = re.findall(r'^fiberscope-rt: fiber 1 \("greedy"\) holds its processor for (\d+) ms$',
                         err, re.M)
    # At 100, 200, 400 and 800 ms; a busy machine may look late, and then skips one.
    check(2 <= len(reports) <= 4, err)
    due = 100
    for got in map(int, reports):
        check(due <= got < 1500, got, due)
        while due <= got:
            due *= 2
    check(due >= 1600, "the last one:", reports)
    for state, functions, _ in goroutines(err.split("ms\n\n")[1]).values():
        same((state, functions[-2:]), ("running", ["busy_loop", "main_of_stall"]), "stall's stack")
    same(run("stall")[2], "", "no watch")


GO_LINE = (r"SCHED (\d+)ms: gomaxprocs=2 idleprocs=2 threads=\d+ spinningthreads=0 needspinning=0 "
           r"idlethreads=\d+ runqueue=0 \[ 0 0 \] schedticks=\[ \d+ \d+ \]")


def schedtrace():
    status, _, err = run("trace", "schedtrace=50")
    same(status, 0, "trace")
    lines = err.strip().split("\n")
    times = [int(m[1]) for m in map(lambda l: re.fullmatch(GO_LINE, l), lines[1:]) if m]
    same(len(times), len(lines) - 1, "Go's shape: " + err)
    check(3 <= len(times) <= (9 if SANITIZER else 5) and times == sorted(times), times)
    _, _, err = run("trace", "schedtrace=100,scheddetail=1")
    last = err[err.rindex("SCHED"):].split("\n")
    check(re.fullmatch(r"SCHED \d+ms: gomaxprocs=2 idleprocs=2 threads=\d+ spinningthreads=0 "
                       r"needspinning=0 idlethreads=\d+ runqueue=0 gcwaiting=false nmidlelocked=0 "
                       r"stopwait=0 sysmonwait=(true|false)", last[0]), last[0])
    for shape, least in ((r"  P[01]: status=0 schedtick=\d+ syscalltick=\d+ m=nil runqsize=0 "
                          r"gfreecnt=\d+ timerslen=[01]", 2),
                         (r"  M\d+: p=nil curg=nil mallocing=0 throwing=0 preemptoff= locks=0 "
                          r"dying=0 spinning=false blocked=true lockedg=nil", 1),
                         (r"  G1: status=4\(sleep\) m=nil lockedm=nil", 1)):
        check(sum(bool(re.fullmatch(shape, l)) for l in last) >= least, shape, last)


def tls():
    env = {"LD_PRELOAD": sys.argv[2]}
    same(run("leak", env=env)[2],
         "fiberscope-rt: thread-local variables that may be kept over a switch (general-dynamic TLS) in "
         f"{os.path.basename(sys.argv[2])}: see \"errno and TLS\" in fiberscope-runtime(7); "
         "FIB_DEBUG=tlswarn=0\n", "the warning")
    same(run("leak", "tlswarn=0", env)[2], "", "turned off")
    same(run("leak")[2], "", "no such module")


# Parts that say nothing under a sanitizer, and why.
NOT_UNDER = {
    "address": {"tls": "it refuses to run with a library preloaded before its own"},
    "thread": {
        "dump": "signals are handed on at the next call that it knows: none comes in a loop or in a wait",
        "stall": "the same: the stack of a fiber that computes is had by a signal",
    },
}
for test in deadlock, dump, overflow, leak, stall, schedtrace, tls:
    why = NOT_UNDER.get(SANITIZER, {}).get(test.__name__)
    if why:
        print(f"{test.__name__} not under the {SANITIZER} sanitizer: {why}")
    else:
        test()
finish()
