# SPDX-License-Identifier: MIT
"""A profile.proto decoder of its own, so that tests do not read what we write with our own reader; and
the two functions that write a message by its public field numbers."""

import gzip


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def signed(value):
    return value - (1 << 64) if value >> 63 else value


def fields(data):
    """(number, value) of one message; length-delimited values are bytes."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 2:
            n, at = varint(data, at)
            value = data[at:at + n]
            assert len(value) == n, "truncated"
            at += n
        else:
            raise ValueError(f"wire type {key & 7}")
        yield key >> 3, value


def packed(value):
    if isinstance(value, int):
        return [value]
    out, at = [], 0
    while at < len(value):
        v, at = varint(value, at)
        out.append(v)
    return out


def encoded(n):
    """A number as protobuf's varint."""
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    """A field of a message: a number, or bytes (a message, a string, packed numbers)."""
    if isinstance(value, int):
        return encoded(number << 3) + encoded(value)
    return encoded(number << 3 | 2) + encoded(len(value)) + value


class Sample:
    def __init__(self):
        self.stack, self.values, self.labels, self.addresses, self.files = [], [], {}, [], []
        self.outer = []  # as stack, without inlined functions: one name per address


class Profile:
    """sample_types, samples (stack: function names leaf first), mappings, comments, period."""

    def __init__(self, path):
        with gzip.open(path, "rb") as f:
            data = f.read()
        top = list(fields(data))
        self.strings = [v.decode() for n, v in top if n == 6]
        text = self.strings
        self.mappings = {}
        functions, locations = {}, {}
        for n, v in top:
            if n == 3:
                m = dict(fields(v))
                self.mappings[m[1]] = (text[m.get(5, 0)], text[m.get(6, 0)])
            elif n == 5:
                f = dict(fields(v))
                functions[f[1]] = text[f.get(2, 0)]
        for n, v in top:
            if n != 4:
                continue
            one = {1: 0, 2: 0, 3: 0}
            names = []
            for k, w in fields(v):
                if k == 4:
                    names.append(functions[dict(fields(w))[1]])
                else:
                    one[k] = w
            locations[one[1]] = (names or [hex(one[3])], one[3],
                                 self.mappings.get(one[2], ("", ""))[0])
        self.samples = [self.sample(v, locations) for n, v in top if n == 2]
        self.sample_types = [tuple(text[i] for _, i in fields(v)) for n, v in top if n == 1]
        self.comments = [text[i] for n, v in top if n == 13 for i in packed(v)]
        single = {n: v for n, v in top if isinstance(v, int)}
        self.period, self.duration = single.get(12, 0), single.get(10, 0)
        self.time_ns = single.get(9, 0)

    def sample(self, data, locations):
        s = Sample()
        for n, v in fields(data):
            if n == 1:
                for i in packed(v):
                    names, address, file = locations[i]
                    s.stack += names
                    s.outer.append(names[-1])
                    s.addresses.append(address)
                    s.files.append(file)
            elif n == 2:
                s.values += [signed(x) for x in packed(v)]
            elif n == 3:
                label = dict(fields(v))
                key = self.strings[label[1]]
                s.labels[key] = self.strings[label[2]] if 2 in label else signed(label.get(3, 0))
        return s

    def total(self, index=1, where=lambda s: True):
        return sum(s.values[index] for s in self.samples if where(s))

    def share(self, name):
        """Of the samples with this function anywhere on their stack."""
        return self.total(1, lambda s: name in s.stack) / max(1, self.total())

    def share_below(self, name, *leaves):
        """Of the samples with one of these leaves on their stack, the share with name there as well."""
        some = lambda s: any(leaf in s.stack for leaf in leaves)
        return self.total(1, lambda s: some(s) and name in s.stack) / max(1, self.total(1, some))
