# SPDX-License-Identifier: MIT
"""What must hold: at random stops of real programs our remote walker gives gdb's list of pcs.

Usage: gdb_stops.py STOPS (over all programs). The same file is the script that gdb runs inside.
A profiling timer stops the program; a few single steps more reach prologues, epilogues and stubs.
"""

import json
import os
import random
import subprocess
import sys

PYTHON = """
import hashlib, json, re
while True:
    d = [{'k': i, 's': str(i) * 9} for i in range(300)]
    t = json.dumps(sorted(d, key=lambda x: -x['k']))
    for f in (hashlib.sha256, hashlib.sha512, hashlib.blake2b): f(t.encode() * 40).digest()
    re.sub(r'(\\d+)0(\\d*)', lambda m: m.group(2), t)
    json.loads(t)
"""
BASH = """
f() { local i=$1; (( i > 0 )) && f $((i - 1)); x=${x/a/b}; [[ $x =~ ^b+(a*)$ ]]; }
while :; do x=aaaaaaaaaaaaaaaa; f 12; case $x in b*a) y+=1;; esac; y=${y: -40}; done
"""
SQL = ("WITH RECURSIVE c(x) AS (VALUES(1) UNION ALL SELECT x+1 FROM c WHERE x<100000000) "
       "SELECT sum(length(printf('%d-%s', x, hex(x*7)))), max(x % 97) FROM c GROUP BY x % 1013;")
PROGRAMS = {
    "python3": ["/usr/bin/python3", "-c", PYTHON],
    "bash": ["/bin/bash", "-c", BASH],
    "sqlite3": ["/usr/bin/sqlite3", ":memory:", SQL],
}


def fail(text):
    print(text)
    sys.exit(1)


def outside(stops):
    """Runs gdb once for each program and adds up what it found."""
    here = os.path.abspath(__file__)
    probe = os.path.join(os.environ["FSCOPE_BUILD"], "tests/conformance/walk_probe")
    each = -(-stops // len(PROGRAMS))
    total = 0
    for name, argv in PROGRAMS.items():
        if not os.access(argv[0], os.X_OK):
            fail(f"{argv[0]}: not installed; it is one of the programs walked")
        env = dict(os.environ, GDB_STOPS=str(each), GDB_PROBE=probe)
        run = subprocess.run(
            ["gdb", "-nx", "-batch", "-ex", "set debuginfod enabled off",
             "-ex", f"set exec-wrapper {probe} timer 60000", "-x", here, "--args"] + argv,
            env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False)
        lines = [l for l in run.stdout.splitlines() if l.startswith("RESULT ")]
        if not lines:
            fail(f"{name}: gdb gave no result:\n{run.stdout[-3000:]}")
        r = json.loads(lines[-1][7:])
        print(f"{name}: {r['stops']} stops, {r['frames']} frames, depth up to {r['deepest']}: "
              f"{r['equal']} equal, {len(r['different'])} different, "
              f"{r['gdb_lost']} where gdb itself stopped early")
        for text in r["different"][:5]:
            print(text)
        if r["stops"] < each or r["different"] or r["frames"] < 3 * r["stops"]:
            fail(f"{name}: walks differ, or there were too few")
        if r["gdb_lost"] * 50 > r["stops"]:
            fail(f"{name}: gdb lost its way too often to be a judge")
        total += r["equal"]
    print(f"{total} stacks equal gdb's")


def gdb_stack(gdb):
    """pcs of real frames, whether each is a signal frame, and whether gdb reached the root."""
    pcs, signal, reason = [], [], 0
    frame = gdb.newest_frame()
    while frame is not None and len(pcs) < 4096:
        # Neither is on the stack: gdb makes inlined and tail-called frames up from debug info.
        if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
            pcs.append(frame.pc())
            signal.append(frame.type() == gdb.SIGTRAMP_FRAME)
        reason = frame.unwind_stop_reason()
        frame = frame.older()
    return pcs, signal, reason in (gdb.FRAME_UNWIND_NO_REASON, gdb.FRAME_UNWIND_OUTERMOST)


def inside():
    """Runs in gdb: stops, walks, compares."""
    import gdb  # pylint: disable=import-error,import-outside-toplevel
    wanted = int(os.environ["GDB_STOPS"])
    chance = random.Random(int(os.environ.get("GDB_SEED", "1")))
    for line in ["set pagination off", "set confirm off", "set backtrace past-main on",
                 "set backtrace past-entry on", "set backtrace limit unlimited",
                 "handle SIGPROF stop print nopass", "set disable-randomization off"]:
        gdb.execute(line, to_string=True)
    gdb.execute("run", to_string=True)
    pid = gdb.selected_inferior().pid
    probe = subprocess.Popen([os.environ["GDB_PROBE"], str(pid)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    r = {"stops": 0, "frames": 0, "deepest": 0, "equal": 0, "gdb_lost": 0, "different": []}
    names = ("rip rbp rsp rax rdx rcx rbx rsi rdi r8 r9 r10 r11 r12 r13 r14 r15").split()
    gdb.execute("call (int)setitimer(2, (long[4]){0, 3000, 0, 3000}, 0)", to_string=True)
    while r["stops"] < wanted and gdb.selected_inferior().pid:
        steps = chance.randrange(12)
        if steps:
            gdb.execute(f"stepi {steps}", to_string=True)
        top = gdb.newest_frame()
        probe.stdin.write(" ".join(
            f"{int(top.read_register(n).cast(gdb.lookup_type('unsigned long'))):x}"
            for n in names) + "\n")
        probe.stdin.flush()
        end, *ours = probe.stdout.readline().split()
        ours = [int(pc, 16) for pc in ours]
        theirs, signal, rooted = gdb_stack(gdb)
        # An exact pc above a signal frame is handed out one higher, see unwind.h.
        theirs = [pc + (i > 0 and signal[i - 1]) for i, pc in enumerate(theirs)]
        r["stops"] += 1
        r["frames"] += len(theirs)
        r["deepest"] = max(r["deepest"], len(theirs))
        if ours == theirs and end == "0":
            r["equal"] += 1
        elif not rooted and ours[:len(theirs)] == theirs and end == "0":
            r["gdb_lost"] += 1
        else:
            r["different"].append(
                f"end {end}\n  ours   {' '.join(hex(p) for p in ours[:40])}\n"
                f"  theirs {' '.join(hex(p) for p in theirs[:40])}\n"
                + gdb.execute("bt 12", to_string=True))
        gdb.execute("continue", to_string=True)
    print("RESULT " + json.dumps(r), flush=True)
    probe.stdin.close()
    probe.wait()
    gdb.execute("kill", to_string=True)


if "GDB_PROBE" in os.environ:
    inside()
else:
    outside(int(sys.argv[1]))
