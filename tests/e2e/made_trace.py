# SPDX-License-Identifier: MIT
"""Execution traces put together byte by byte, whose truth is known by construction: one thread, one Proc. Independent
of the tree's own writer. Times in ns; the clock has 1 GHz."""

PROCS_CHANGE, PROC_STATUS, GO_CREATE, GO_START, GO_DESTROY, GO_STOP, GO_BLOCK, GO_UNBLOCK = 9, 13, 14, 16, 17, 19, 20, 21
GO_SYSCALL_BEGIN, GO_SYSCALL_END = 22, 23
TASK_BEGIN, TASK_END, REGION_BEGIN, REGION_END, LOG, GO_STATUS_STACK = 40, 41, 42, 43, 44, 48
RUNNABLE, RUNNING, WAITING = 1, 2, 4
NOBODY = 2**64 - 1
THREAD = 100


def leb(n):
    out = bytearray()
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


class Generation:
    """Events of one generation. `say` goes to the thread, `say(..., thread=NOBODY)` to no thread."""

    def __init__(self, number, begins=0):
        """begins: of one without events, as the one that a trace ends with."""
        self.number, self.begins = number, begins
        self.strings, self.stacks, self.sequence = {}, {}, {}
        self.streams = {}  # thread -> [(time, bytes)]
        self.samples = b""

    def text(self, s):
        return self.strings.setdefault(s, len(self.strings) + 1) if s else 0

    def stack(self, *functions):
        """Leaf first. A function, or one with a source, its address' number and its line: (name, number, line), of made.c, or
        (name, number, line, file)."""
        return self.stacks.setdefault(functions, len(self.stacks) + 1)

    def next(self, fiber):
        self.sequence[fiber] = self.sequence.get(fiber, 0) + 1
        return self.sequence[fiber]

    def say(self, at, wire, *args, thread=THREAD):
        self.streams.setdefault(thread, []).append((at, bytes([wire]), b"".join(leb(a) for a in args)))

    def start(self, at, fiber):
        self.say(at, GO_START, fiber, self.next(fiber))

    def wake(self, at, fiber, stack=0):
        self.say(at, GO_UNBLOCK, fiber, self.next(fiber), stack)

    def block(self, at, reason, stack=0):
        self.say(at, GO_BLOCK, self.text(reason), stack)

    def sample(self, at, fiber, stack):
        self.samples += b"\x07" + b"".join(leb(x) for x in (at, THREAD, 0, fiber, stack))

    def batch(self, thread, time, data):
        return b"\x01" + leb(self.number) + leb(thread) + leb(time) + leb(len(data)) + data

    def bytes(self):
        out, end = [], self.begins
        for thread, events in self.streams.items():
            data, last, begin = bytearray(), events[0][0], events[0][0]
            for at, wire, args in events:
                if len(data) > 60000:
                    out.append(self.batch(thread, begin, bytes(data)))
                    data, last, begin = bytearray(), at, at
                data += wire + leb(at - last) + args
                last = at
            out.append(self.batch(thread, begin, bytes(data)))
            end = max(end, last)
        def whole(f):
            return (f, 0, 1, "") if isinstance(f, str) else (*f, "made.c")[:4]

        frames = {whole(f) for s in self.stacks for f in s}
        pcs = {f: 0x1000 + 16 * i for i, f in enumerate(sorted(frames))}
        for name, _, _, file in sorted(frames):
            self.text(file)
            self.text(name)
        table = b"\x02"
        for functions, number in self.stacks.items():
            table += b"\x03" + leb(number) + leb(len(functions))
            for frame in functions:
                f = whole(frame)
                table += leb(pcs[f]) + leb(self.text(f[0])) + leb(self.text(f[3])) + leb(f[2])
        texts = [b"\x05" + leb(i) + leb(len(s.encode())) + s.encode() for s, i in self.strings.items()]
        for i in range(0, len(texts), 1000):
            out.append(self.batch(NOBODY, end, b"\x04" + b"".join(texts[i:i + 1000])))
        if self.stacks:
            out.append(self.batch(NOBODY, end, table))
        if self.samples:
            out.append(self.batch(NOBODY, end, b"\x06" + self.samples))
        out.append(self.batch(NOBODY, end, b"\x08" + leb(1000000000)))
        return b"".join(out)


def write(path, generations):
    with open(path, "wb") as f:
        f.write(b"go 1.23 trace\0\0\0")
        for g in generations:
            f.write(g.bytes())
