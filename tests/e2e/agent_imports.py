#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# What runs inside a target imports libc alone, from this list, keeps at most 64 bytes of
# initial-exec TLS, binds at load time, and exports only what it means to.
import os
import re
import subprocess
import sys

build = os.environ["FSCOPE_BUILD"]

# Plain functions of memory and text; the rest is called outside of sampling paths (creating a
# segment, the constructor, the fscope_ API).
ALLOWED = set("""
memchr memcmp memcpy memmem memmove memset strchr strcmp strcspn strlen strncmp strnlen strrchr strstr snprintf
__errno_location __environ environ __libc_stack_end strerrorname_np
clock_getres clock_gettime close fallocate fcntl ftruncate getenv getpid getrlimit lseek mmap munmap
open pread read
readlink rename syscall unlink unsetenv write
abort dladdr dladdr1 dlerror dlinfo dlopen dlsym dl_iterate_phdr _dl_find_object __register_atfork __cxa_at_quick_exit
pthread_attr_getstacksize pthread_key_create pthread_self
pthread_setcancelstate pthread_setspecific
__pthread_register_cancel __pthread_unregister_cancel __pthread_unwind_next __sigsetjmp
__pthread_mutex_init __pthread_mutex_lock __pthread_mutex_unlock __pthread_mutex_trylock __pthread_mutex_destroy
sigaddset sigdelset sigemptyset sigfillset sigismember sigorset
__memcpy_chk __memset_chk __memmove_chk __snprintf_chk __stack_chk_fail
__cxa_finalize __gmon_start__ _ITM_deregisterTMCloneTable _ITM_registerTMCloneTable
""".split())

# Weak: the fiber runtime's, where the program has it.
RUNTIME = {"fib_descriptor", "fib_label_set", "fib_labels_restore"}

# The core runs in handlers as a whole: making a forked child's segment there as well.
CORE = set("""
memchr memcmp memcpy memmove memset strchr strlen strnlen strrchr
__errno_location clock_gettime getauxval getpid lseek syscall _dl_find_object dl_iterate_phdr
__memcpy_chk __memset_chk __memmove_chk __stack_chk_fail
__cxa_finalize __gmon_start__ _ITM_deregisterTMCloneTable _ITM_registerTMCloneTable
""".split())

if os.environ.get("FSCOPE_SANITIZE"):
    print("SKIP: sanitizers import their own runtime")
    sys.exit(77)


def run(*args):
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout


wrong = []
for name in ("libfiberscope.so", "libfiberscope-core.so"):
    path = f"{build}/agent/{name}"
    lines = run("nm", "-D", "--undefined-only", path).splitlines()
    weak = {line.split()[-1] for line in lines if line.split()[-2] in "wv"}
    imported = [line.split()[-1] for line in lines if line.split()[-1] not in weak & RUNTIME]
    assert len(imported) > 15, f"{name}: nm lists hardly anything"
    for symbol in imported:
        bare, _, version = symbol.partition("@")
        allowed = CORE if name == "libfiberscope-core.so" else ALLOWED
        if bare in allowed or version.startswith("FIBERSCOPE"):
            continue
        wrong.append(f"{name} imports {symbol}")
    dynamic = run("readelf", "-dW", path)
    needed = re.findall(r"NEEDED.*\[(.*)\]", dynamic)
    for library in needed:
        if not re.match(r"(libc|ld-linux-x86-64|libfiberscope-core)\.so", library):
            wrong.append(f"{name} needs {library}")
    if "BIND_NOW" not in dynamic and "NOW" not in dynamic:
        wrong.append(f"{name} binds lazily")
    headers = run("readelf", "-lW", path)
    tls = re.search(r"^\s+TLS\s+\S+\s+\S+\s+\S+\s+\S+\s+(0x\S+)", headers, re.M)
    if tls and int(tls.group(1), 16) > 64:
        wrong.append(f"{name} has {int(tls.group(1), 16)} bytes of TLS")
    if "__tls_get_addr" in imported:
        wrong.append(f"{name} uses dynamic TLS, which may allocate in a handler")
    exported = [line.split()[-1].partition("@")[0]
                for line in run("nm", "-D", "--defined-only", path).splitlines()
                if line.split()[-2] in "TWDBR"]
    for symbol in exported:
        if name == "libfiberscope-core.so" and not re.match(r"seg_|unwind_|emit_|FIBERSCOPE", symbol):
            wrong.append(f"{name} exports {symbol}")
        if re.match(r"agent_|slot_|source_|sample_|say_|hello_|modules_", symbol):
            wrong.append(f"{name} exports {symbol}")

print("\n".join(wrong) or "ok")
sys.exit(bool(wrong))
