#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The folders include only what the architecture allows (docs/architecture.md, "Arrows")."""

import os
import re
import sys

# folder -> folders of ours that it may include; libraries -> header prefixes outside libc.
INSIDE = {"include", "segment", "unwind", "emit", "runtime", "agent"}
MAY = {
    "include": set(),
    "unwind": set(),
    "segment": {"base"},  # base only in the consumer, which runs outside; see CONSUMER_FILES
    "emit": {"include", "segment", "unwind"},
    "runtime": {"include", "segment", "unwind", "emit"},
    "agent": {"include", "segment", "unwind", "emit", "runtime"},
    "base": set(),
    "formats": {"base"},
    "symbols": {"base", "unwind"},
    "analysis": {"base", "formats"},
    "collector": {"base", "segment", "unwind", "formats", "symbols", "agent", "runtime"},
    "cli": {"base", "segment", "unwind", "formats", "symbols", "analysis", "collector"},
    "viewer": {"base", "formats", "symbols", "analysis"},
}
# The only header of the agent that the outside sees: the words on the socket.
AGENT_HEADERS_OUTSIDE = {"agent/protocol.h", "agent/call.h", "agent/inject.h"}
# And of the runtime: where everything is in a process.
RUNTIME_HEADERS_OUTSIDE = {"runtime/descriptor.h"}
LIBRARIES = {
    "base": {"zlib.h"},
    "formats": {"zlib.h", "protobuf-c/"},
    "symbols": {"libelf.h", "gelf.h", "elfutils/", "dwarf.h", "lzma.h", "libdeflate.h", "demangle.h",
                "libiberty/", "zlib.h"},
    "collector": {"bpf/", "microhttpd.h", "curl/"},
    "analysis": {"pcre2.h"},
    "cli": {"capstone/", "pcre2.h"},
    "viewer": {"SDL.h", "ft2build.h", "fontconfig/", "png.h"},
    # Headers alone, of tools that are told of stacks and switches: nothing is linked.
    "runtime": {"valgrind/", "sanitizer/"},
}
SYSTEM = re.compile(r"^(std\w+|arpa/\w+|assert|ctype|cpuid|dirent|dlfcn|elf|endian|errno|fcntl|fnmatch|fts|ftw|"
                    r"getopt|glob|grp|inttypes|limits|link|linux/[\w/]+|locale|malloc|math|mntent|"
                    r"net/[\w/]+|netinet/\w+|netdb|poll|pthread|pwd|regex|sched|semaphore|setjmp|signal|spawn|"
                    r"string|strings|sys/\w+|syscall|termios|threads|time|ucontext|unistd|utmp|"
                    r"wchar|wctype|x86intrin|[a-z]mmintrin|ar|asm/\w+)\.h$")
CONSUMER_FILES = re.compile(r"^segment/(consumer|reader)")


def violations(root):
    for folder in sorted(MAY):
        for base, _, names in os.walk(os.path.join(root, folder)):
            for name in sorted(names):
                if not name.endswith((".c", ".h", ".S")):
                    continue
                path = os.path.relpath(os.path.join(base, name), root)
                with open(os.path.join(root, path), encoding="utf-8") as f:
                    for number, line in enumerate(f, 1):
                        m = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
                        if m:
                            why = judge(folder, path, m.group(1), m.group(2))
                            if why:
                                yield f"{path}:{number}: {why}"


def judge(folder, path, quote, target):
    if quote == "<" and not target.startswith("fiberscope/"):
        if SYSTEM.match(target):
            return None
        allowed = LIBRARIES.get(folder, set())
        if any(target == a or (a.endswith("/") and target.startswith(a)) for a in allowed):
            return None
        return f"<{target}> is not libc, and {folder}/ may not use that library"
    if target.startswith("fiberscope/"):
        return None
    to = target.split("/")[0]
    if "/" not in target:
        return None if target.endswith(".pb-c.h") or target.endswith(".inc") else \
            f'"{target}": includes name their folder'
    if to == folder:
        return None
    if to not in MAY[folder]:
        return f"{folder}/ may not include {to}/"
    if folder == "segment" and to == "base" and not CONSUMER_FILES.match(path):
        return "the producing side of segment/ uses libc alone"
    if to == "runtime" and folder not in INSIDE and target not in RUNTIME_HEADERS_OUTSIDE:
        return f"{target} runs inside a target; the outside sees {sorted(RUNTIME_HEADERS_OUTSIDE)}"
    if to == "agent" and folder not in INSIDE and target not in AGENT_HEADERS_OUTSIDE:
        return f"{target} runs inside a target; the outside sees {sorted(AGENT_HEADERS_OUTSIDE)}"
    return None


def main():
    root = os.environ.get("FSCOPE_SOURCE", os.path.join(os.path.dirname(__file__), "..", ".."))
    # The judge itself must be able to say no.
    assert judge("unwind", "unwind/x.c", '"', "base/error.h")
    assert judge("agent", "agent/x.c", "<", "zlib.h")
    assert judge("segment", "segment/producer.c", '"', "base/error.h")
    assert judge("collector", "collector/x.c", '"', "cli/options.h")
    found = list(violations(root))
    print("\n".join(found) or "arrows: all includes are allowed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
