# SPDX-License-Identifier: MIT
"""Fibers of libfiberscope-rt in gdb, of running processes and of core files.

    (gdb) source fiberscope_gdb.py
    (gdb) info fibers
    (gdb) fiber 7 bt
    (gdb) fiber 7 info locals
    (gdb) fiber apply all bt
    (gdb) fiber apply 3 5-7 bt 4

All is read through the exported object fib_descriptor (docs/descriptor.md): no debug info is needed, and nothing of the
process is changed. A parked fiber's stack is shown by an unwinder that gives its saved registers out as those of the caller
of the innermost frame; that frame is left out of what is printed.
"""
import re
import struct

import gdb
import gdb.unwinder

ADDRESSES = "slabs g_count all_ms ps procs labels root root_end ns_per_tick tls_offset".split()
NUMBERS = """slab_gs g_size live_size m_size p_size
    label_set_size label_sets label_pairs label_size status_count reason_count
    g_status g_flags g_labels g_id g_live g_fn g_arg g_creator g_site g_name
    live_sp live_g live_wait_reason live_wait_object live_wait_owner live_wait_since live_low
    live_high live_cpu_ticks live_switches live_bound_m live_name
    m_seq m_cur m_p m_g0 m_all_link m_tid m_id m_context context_registers p_status p_id
    p_m""".split()
DEAD, RUNNABLE, RUNNING, SYSCALL, WAITING, PREEMPTED = range(6)
REGISTER = {3: "rbx", 6: "rbp", 12: "r12", 13: "r13", 14: "r14", 15: "r15", 16: "rip"}


def read(address, size):
    return bytes(gdb.selected_inferior().read_memory(address, size))


def number(address, size, signed=False):
    return int.from_bytes(read(address, size), "little", signed=signed)


def word(address):
    return number(address, 8)


def text(data):
    return data.split(b"\0", 1)[0].decode("utf-8", "replace")


def function_at(pc):
    if not pc:
        return "?"
    block = gdb.block_for_pc(pc)
    while block and not block.function:
        block = block.superblock
    if block:
        return str(block.function)
    shown = gdb.execute(f"info symbol {pc:#x}", to_string=True)
    return f"{pc:#x}" if shown.startswith("No symbol") else shown.split()[0]


class Descriptor:
    def __init__(self):
        try:
            at = int(gdb.parse_and_eval("(unsigned long)&fib_descriptor"))
            head = struct.unpack("<8sIIII", read(at, 24))
        except (gdb.error, gdb.MemoryError) as e:
            raise gdb.GdbError(f"no fibers here: fib_descriptor cannot be read ({e})")
        if head[0] != b"FIBRT\0\0\0" or head[1] != 1:
            raise gdb.GdbError(f"fib_descriptor is of version {head[1]}; this script knows version 1")
        if not head[3]:
            raise gdb.GdbError("the runtime has not been started yet")
        layout = struct.Struct(f"<{len(ADDRESSES) - 1}Qq{len(NUMBERS)}I7sB")
        values = layout.unpack(read(at + 24, layout.size))
        for name, value in zip(ADDRESSES + NUMBERS, values):
            setattr(self, name, value)
        self.saved = values[-2]
        texts = at + 24 + layout.size
        self.status = [text(read(texts + 32 * i, 32)) for i in range(self.status_count)]
        texts += 32 * self.status_count
        self.reason = [text(read(texts + 32 * i, 32)) for i in range(self.reason_count)]

    def machines(self):
        """{address of its G: (address of the M, tid)} of all threads."""
        found, m = {}, word(self.all_ms)
        while m:
            found[word(m + self.m_cur)] = (m, number(m + self.m_tid, 4))
            m = word(m + self.m_all_link)
        return found

    def fibers(self):
        running = self.machines()
        for i in range(number(self.g_count, 4)):
            slab = word(self.slabs + 8 * (i // self.slab_gs))
            g = slab + i % self.slab_gs * self.g_size
            if word(g + self.g_id) and number(g + self.g_status, 1):
                yield Fiber(self, g, running.get(g))


class Fiber:
    def __init__(self, d, g, m):
        self.d, self.g = d, g
        self.id = word(g + d.g_id)
        self.status = number(g + d.g_status, 1)
        self.live = word(g + d.g_live)
        self.fn = word(g + d.g_fn)
        self.tid = m[1] if m and self.status in (RUNNING, SYSCALL) else 0
        if self.status == PREEMPTED and self.live:
            bound = word(self.live + d.live_bound_m)
            self.tid = number(bound + d.m_tid, 4) if bound else 0

    def state(self):
        if self.status == WAITING and self.live:
            reason = number(self.live + self.d.live_wait_reason, 4)
            if 0 < reason < len(self.d.reason):
                return self.d.reason[reason]
        return self.d.status[self.status] if self.status < len(self.d.status) else "?"

    def name(self):
        name = text(read(self.live + self.d.live_name, 32)) if self.live else ""
        given = word(self.g + self.d.g_name)
        if not name and given:
            try:
                name = gdb.Value(given).cast(gdb.lookup_type("char").pointer()).string(length=-1)[:31]
            except gdb.error:
                name = "?"
        return name

    def labels(self):
        d = self.d
        index = number(self.g + d.g_labels, 4, signed=True)
        if not 0 < index < d.label_sets:
            return {}
        at, size = d.labels + index * d.label_set_size, d.label_size
        count = number(at + 2 * size * d.label_pairs, 4)
        pairs = [read(at + 2 * size * i, 2 * size) for i in range(min(count, d.label_pairs))]
        return {text(p[:size]): text(p[size:]) for p in pairs}

    def registers(self):
        """Those that arch_switch saved; None if it is not parked."""
        if not self.live or self.status not in (WAITING, RUNNABLE):
            return None
        sp = word(self.live + self.d.live_sp)
        if not word(self.live + self.d.live_low) < sp < word(self.live + self.d.live_high):
            raise gdb.GdbError(f"fiber {self.id}: its stack is not in the core file (gdb's gcore leaves "
                               "out what follows a guard page; the kernel's core files are whole)")
        saved = struct.unpack(f"<{len(self.d.saved)}Q", read(sp, 8 * len(self.d.saved)))
        found = {REGISTER[n]: v for n, v in zip(self.d.saved, saved)}
        found["rsp"] = sp + 8 * len(saved)
        return found

    def line(self, selected_tid):
        mark = "*" if self.tid and self.tid == selected_tid else " "
        labels = "".join(f" {k}={v}" for k, v in sorted(self.labels().items()))
        name = self.name()
        quoted = f' "{name}"' if name else ""
        thread = str(self.tid or "")
        return f"{mark} {self.id:<6} {self.state():<24} {thread:<8} {function_at(self.fn)}{quoted}{labels}"


class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = sp, pc


class ParkedUnwinder(gdb.unwinder.Unwinder):
    """While a fiber is shown: the innermost frame's caller is the fiber."""

    def __init__(self):
        super().__init__("fiberscope")
        self.registers = self.top = None

    def __call__(self, frame):
        if not self.registers:
            return None
        pc, sp = frame.read_register("rip"), frame.read_register("rsp")
        if (int(pc), int(sp)) != self.top:
            return None
        # Below every stack: what follows counts as further out.
        info = frame.create_unwind_info(FrameId(gdb.Value(16).cast(sp.type), pc))
        for name, value in self.registers.items():
            kind = frame.read_register(name).type
            info.add_saved_register(name, gdb.Value(value).cast(kind))
        return info

    def show(self, registers):
        gdb.newest_frame().select()
        frame = gdb.newest_frame()
        self.top = (int(frame.pc()), int(frame.read_register("rsp")))
        self.registers = registers
        gdb.invalidate_cached_frames()

    def hide(self):
        self.registers = None
        gdb.invalidate_cached_frames()


unwinder = ParkedUnwinder()
gdb.unwinder.register_unwinder(None, unwinder, replace=True)


def thread_of(tid):
    for thread in gdb.selected_inferior().threads():
        if tid in thread.ptid[1:]:
            return thread
    return None


def execute_at(level, command):
    """command in frame `level`; a backtrace without the frames inside of it."""
    if not re.match(r"(bt|backtrace|where)\b", command):
        frame = gdb.newest_frame()
        for _ in range(level):
            frame = frame.older() if frame else None
        if frame:
            frame.select()
        gdb.execute(command)
        return
    skip, lines = True, []
    limit = re.fullmatch(r"(\w+) +(\d+)", command)  # counts the fiber's frames
    shown = gdb.execute(f"{limit[1]} {int(limit[2]) + level}" if limit else command, to_string=True)
    for line in shown.splitlines():
        number_of = re.match(r"#(\d+)", line)
        if number_of:
            skip = int(number_of[1]) < level
            line = f"#{int(number_of[1]) - level}".ljust(len(number_of[0])) + line[len(number_of[0]):]
        if not skip:
            lines.append(line)
    print("\n".join(lines))


def interrupted_level():
    """The level of the frame that a signal's handler interrupted; 0: there is none."""
    frame, level = gdb.newest_frame(), 0
    while frame:
        if frame.type() == gdb.SIGTRAMP_FRAME:
            return level + 1
        frame, level = frame.older(), level + 1
    return 0


def execute(fiber, command):
    thread = gdb.selected_thread()
    if not thread:
        raise gdb.GdbError("no process and no core file")
    try:
        if fiber.tid:
            own = thread_of(fiber.tid)
            if not own:
                raise gdb.GdbError(f"fiber {fiber.id}: its thread {fiber.tid} is not there")
            own.switch()
            execute_at(interrupted_level() if fiber.status == PREEMPTED else 0, command)
            return
        registers = fiber.registers()
        if not registers:
            print(f"fiber {fiber.id} has not run yet; it will start in {function_at(fiber.fn)}")
            return
        unwinder.show(registers)
        execute_at(1, command)
    finally:
        unwinder.hide()
        thread.switch()
        gdb.newest_frame().select()


class InfoFibers(gdb.Command):
    """Lists the fibers: id, state or what it waits for, thread, start function, name, labels."""

    def __init__(self):
        super().__init__("info fibers", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        thread = gdb.selected_thread()
        tid = thread.ptid[1] if thread else 0
        print(f"  {'Id':<6} {'State':<24} {'Thread':<8} Function")
        for fiber in Descriptor().fibers():
            print(fiber.line(tid))


class FiberCommand(gdb.Command):
    """fiber N COMMAND: COMMAND (default: bt 1) as if fiber N were the selected thread.
fiber apply all COMMAND, fiber apply N N-M ... COMMAND: for each of them."""

    def __init__(self):
        super().__init__("fiber", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        words = argument.split()
        if not words:
            raise gdb.GdbError("fiber N COMMAND, or fiber apply all COMMAND")
        if words[0] == "apply":
            self.apply(words[1:])
            return
        if not words[0].isdigit():
            raise gdb.GdbError(f"not a fiber's id: {words[0]}")
        for fiber in Descriptor().fibers():
            if fiber.id == int(words[0]):
                execute(fiber, " ".join(words[1:]) or "bt 1")
                return
        raise gdb.GdbError(f"no fiber {words[0]}")

    @staticmethod
    def apply(words):
        ranges = []
        while words and (words[0] == "all" or re.fullmatch(r"\d+(-\d+)?", words[0])):
            first = words.pop(0)
            low, _, high = first.partition("-")
            ranges.append(range(0, 1 << 64) if first == "all" else range(int(low), int(high or low) + 1))
        if not ranges or not words:
            raise gdb.GdbError("fiber apply all COMMAND, or fiber apply N N-M ... COMMAND")
        for fiber in Descriptor().fibers():
            if any(fiber.id in r for r in ranges):
                name = fiber.name()
                print(f"\nFiber {fiber.id} ({fiber.state()})" + (f' "{name}"' if name else "") + ":")
                try:
                    execute(fiber, " ".join(words))
                except (gdb.GdbError, gdb.MemoryError) as e:
                    print(e)


InfoFibers()
FiberCommand()
