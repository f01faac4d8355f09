# SPDX-License-Identifier: MIT
"""Inside gdb: goes through arch_switch instruction by instruction; each time bt has to reach where the fiber began."""
import gdb

SWITCHES = 150  # several times the 61 after which the scheduler's own stack has its turn


def names():
    frame, found = gdb.newest_frame(), []
    while frame and len(found) < 100:
        found.append(frame.name())
        frame = frame.older()
    return found


def begins(found):
    """Where this stack begins: yielder and main in fibers, the M's own; a new fiber's root, before its first call."""
    if found[-1] == "fib_root_":
        if len(found) > 2 or found[0] not in ("fib_root_", "arch_switch"):
            return found[-2] if found[-2] in ("yielder", "main_of_yield") else None
        return "new"
    return "m_main" if "m_main" in found and "schedule_loop" in found else None


gdb.execute("set pagination off")
gdb.execute("handle SIGURG nostop noprint pass")
gdb.execute("start")
gdb.execute("break *arch_switch")
gdb.execute("continue")
gdb.execute("set scheduler-locking on")
steps, bad, kinds = 0, [], {}
for _ in range(SWITCHES):
    while True:
        kind = begins(names())
        kinds[kind] = kinds.get(kind, 0) + 1
        if not kind:
            bad.append((hex(gdb.newest_frame().pc()), names()))
        mnemonic = gdb.execute("x/i $pc", to_string=True)
        gdb.execute("stepi", to_string=True)
        steps += 1
        if "\tret" in mnemonic:
            break
    kind = begins(names())  # the instruction behind
    if not kind:
        bad.append(("after", names()))
    gdb.execute("set scheduler-locking off")
    gdb.execute("continue", to_string=True)
    gdb.execute("set scheduler-locking on")
print(f"RESULT steps={steps} bad={len(bad)} kinds={sorted(str(k) for k in kinds)}")
for b in bad[:5]:
    print("BAD", b)
gdb.execute("kill")
