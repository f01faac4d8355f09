# SPDX-License-Identifier: MIT
"""fiberscope_gdb.py on a running process and on its core file, and gdb's own bt through the switch."""
import glob
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile

from target import TARGET, check, finish, same

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPT = os.path.join(HERE, "../../../runtime/gdb/fiberscope_gdb.py")
STATES = {1: "sleep", 2: "sleep", 3: "running", 4: "syscall", 5: "join", 6: "join"}
STARTS = {1: "main_of_ready", 2: "sleeping_fiber", 3: "busy_fiber", 4: "blocked_fiber",
          5: "first_waiter", 6: "second_waiter"}
NAMES = {1: "main", 5: "number one"}


def start(mode, procs, where):
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
    p = subprocess.Popen([TARGET, mode], cwd=where, stdout=subprocess.PIPE, text=True,
                         env={"FIB_MAXPROCS": str(procs)})
    same(p.stdout.readline(), "ready\n", mode)
    return p


def gdb(*arguments, commands=()):
    words = ["gdb", "-q", "-nx", "-batch", "-iex", "set debuginfod enabled off"]
    words += [*arguments, "-x", SCRIPT]
    for c in commands:
        words += ["-ex", c]
    p = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
    same([l for l in p.stderr.split("\n") if "Error" in l or "Python" in l], [], "gdb's complaints")
    return p.stdout


def stacks(text):
    """{id: [function...]} of `fiber apply all bt`."""
    found = {}
    for part in re.split(r"^Fiber ", text, flags=re.M)[1:]:
        frames = re.findall(r"^#(\d+) +(?:0x[0-9a-f]+ in )?(\w+)", part, re.M)
        same([int(n) for n, _ in frames], list(range(len(frames))), "numbered from 0")
        found[int(part.split()[0])] = [f for _, f in frames]
    return found


def look(text, what):
    rows = re.findall(r"^[* ] (\d+) +(\w[\w. ]*?) {2,}(\d*) +(\w+)(?: \"(.*)\")?$", text, re.M)
    same({int(r[0]): r[1] for r in rows}, STATES, what)
    same({int(r[0]): r[3] for r in rows}, STARTS, what)
    same({int(r[0]): r[4] for r in rows if r[4]}, NAMES, what)
    same([int(r[0]) for r in rows if r[2]], [3, 4], what + ": with a thread")
    found = stacks(text)
    same(sorted(found), sorted(STARTS), what)
    for fiber, functions in found.items():
        same(functions[-2:], [STARTS[fiber], "fib_root_"], what)
    same(found.get(5, [])[-3:-1], ["inner_wait", "first_waiter"], what)
    # The process is where it was, for gdb too; and one fiber's frame can be asked.
    check("IT WAITS FOR 6" in text, what, text)
    check(text.count("SAME 1") == 1, what, text)


COMMANDS = ["set $sp0 = $rsp", "info fibers",
            'fiber 5 python gdb.execute("frame function inner_wait", to_string=True); '
            'print("IT WAITS FOR", gdb.parse_and_eval("other->id"))',
            "fiber apply all bt",
            'printf "SAME %d\\n", $sp0 == $rsp']


def live_and_core(where):
    p = start("ready", 2, where)
    before = open(f"/proc/{p.pid}/status", encoding="utf-8").read()
    look(gdb("-p", str(p.pid), commands=COMMANDS), "live")
    check("VmPTE" in before and p.poll() is None, "it goes on")
    p.send_signal(signal.SIGABRT)
    p.wait()
    cores = glob.glob(os.path.join(where, "core*"))
    pattern = open("/proc/sys/kernel/core_pattern", encoding="utf-8").read()
    if not cores and (not pattern.startswith("core") or resource.getrlimit(resource.RLIMIT_CORE)[1] == 0):
        print("SKIP: no core files here:", pattern)
        return
    same(len(cores), 1, "core files")
    look(gdb(TARGET, cores[0], commands=COMMANDS), "core")
    # Without any debug info: the descriptor is enough.
    bare = os.path.join(where, "bare")
    shutil.copy(TARGET, bare)
    subprocess.run(["strip", "--strip-debug", bare], check=True)
    text = gdb(bare, cores[0], commands=["fiber apply 2 5-6 bt"])
    same({k: v[-2:] for k, v in stacks(text).items()},
         {2: ["sleeping_fiber", "fib_root_"], 5: ["first_waiter", "fib_root_"],
          6: ["second_waiter", "fib_root_"]}, "stripped")


def preempted(where):
    for _ in range(3):
        p = start("two-busy", 1, where)
        text = gdb("-p", str(p.pid), commands=["info fibers", "fiber apply 2-3 bt"])
        p.kill()
        p.wait()
        states = re.findall(r"^[* ] [23] +(\w+) +\d+ +busy_fiber$", text, re.M)
        if len(set(states)) == 2:
            break
        print("stopped in the midst of a switch:", text[-600:])
    same(sorted(states), ["preempted", "running"], "two busy fibers, one processor")
    for functions in stacks(text).values():
        # Also inside of the handler, where fib_now_ns and the like are left.
        same(functions[functions.index("busy_loop"):] if "busy_loop" in functions else functions,
             ["busy_loop", "busy_fiber", "fib_root_"], "preempted or running")


def stepping():
    p = subprocess.run(["gdb", "-q", "-nx", "-batch", "-iex", "set debuginfod enabled off",
                        "-iex", "set environment FIB_MAXPROCS 1",
                        "-x", os.path.join(HERE, "step_gdb.py"), "--args", TARGET, "yield"],
                       capture_output=True, text=True, timeout=300, check=False)
    result = re.search(r"^RESULT steps=(\d+) bad=(\d+) kinds=(.*)$", p.stdout, re.M)
    check(result, p.stdout[-2000:], p.stderr[-2000:])
    if result:
        check(int(result[1]) > 150 * 15, "instructions:", result[1])
        same(result[2], "0", "stacks that do not begin: " + p.stdout[-3000:])
        same(result[3], "['m_main', 'main_of_yield', 'new', 'yielder']", "all kinds were met")


with tempfile.TemporaryDirectory() as directory:
    live_and_core(directory)
    preempted(directory)
stepping()
finish()
