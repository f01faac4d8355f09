// SPDX-License-Identifier: MIT
//
// See permission.h. The kernel's side is ptrace(2), "Ptrace access mode checking".

#include "collector/permission.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CAP_BIT_SYS_PTRACE = 19, YAMA_NOBODY = 3 };

#define GRANT "CAP_SYS_PTRACE (root has it; in a container: --cap-add SYS_PTRACE)"

struct credentials {
    unsigned uid[3], gid[3]; // real, effective, saved
    unsigned owner;          // of its files in /proc: another one where it is not dumpable
    unsigned tracer;
    unsigned long long permitted, effective;
    uint64_t user_namespace; // 0: cannot be seen, as whoever may not trace it cannot
    char uid_map[128];       // which everybody can see
};

static void read_uid_map(const char *pid, char *out, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%.20s/uid_map", pid);
    FILE *f = fopen(path, "re");
    out[f ? fread(out, 1, size - 1, f) : 0] = '\0';
    if (f)
        fclose(f);
}

static void read_credentials(const char *pid, struct credentials *out)
{
    char path[64], line[256];
    struct stat st;
    *out = (struct credentials){0};
    snprintf(path, sizeof path, "/proc/%.20s/status", pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "TracerPid: %u", &out->tracer) == 1 ||
            sscanf(line, "Uid: %u %u %u", &out->uid[0], &out->uid[1], &out->uid[2]) == 3 ||
            sscanf(line, "Gid: %u %u %u", &out->gid[0], &out->gid[1], &out->gid[2]) == 3 ||
            sscanf(line, "CapPrm: %llx", &out->permitted) == 1)
            continue;
        sscanf(line, "CapEff: %llx", &out->effective);
    }
    if (f)
        fclose(f);
    // Of the folder itself the owner is always the user.
    snprintf(path, sizeof path, "/proc/%.20s/status", pid);
    out->owner = stat(path, &st) ? out->uid[1] : (unsigned)st.st_uid;
    snprintf(path, sizeof path, "/proc/%.20s/ns/user", pid);
    out->user_namespace = stat(path, &st) ? 0 : (uint64_t)st.st_ino;
    read_uid_map(pid, out->uid_map, sizeof out->uid_map);
}

// Which of the three is not ours, for the kernel wants all to be; NULL: none.
static const unsigned *differs(const unsigned theirs[3], unsigned ours)
{
    for (int i = 0; i < 3; i++)
        if (theirs[i] != ours)
            return &theirs[i];
    return NULL;
}

// Who may not be seen into hides its user namespace as well; then what its users are called tells it.
static bool is_elsewhere(const struct credentials *theirs, const struct credentials *ours)
{
    return theirs->user_namespace ? theirs->user_namespace != ours->user_namespace
                                  : strcmp(theirs->uid_map, ours->uid_map) != 0;
}

static int yama_scope(void)
{
    int scope = 0;
    FILE *f = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
    if (!f)
        return 0;
    if (fscanf(f, "%d", &scope) != 1)
        scope = 0;
    fclose(f);
    return scope;
}

// The name of a call that is refused even where it touches nobody but us; NULL: none is.
static const char *filtered_call(enum permission_wish wish)
{
    char from = 0, to = 0;
    struct iovec here = {&to, 1}, there = {&from, 1};
    if (process_vm_readv(getpid(), &here, 1, &there, 1, 0) < 0 &&
        (errno == EPERM || errno == ENOSYS))
        return "process_vm_readv";
    // Of one that is not traced: ESRCH.
    if (wish == PERMISSION_TRACE && ptrace(PTRACE_INTERRUPT, getpid(), NULL, NULL) < 0 &&
        (errno == EPERM || errno == ENOSYS))
        return "ptrace";
    return NULL;
}

// Without the capability: user and group are looked at first, then whether it lets itself be looked into, then Yama.
static int explain_owner(const struct credentials *theirs, const struct credentials *ours,
                         char *text, size_t size)
{
    const unsigned *user = differs(theirs->uid, ours->uid[0]);
    const unsigned *group = differs(theirs->gid, ours->gid[0]);
    if (theirs->owner != theirs->uid[1])
        return snprintf(text, size,
                        "it is not dumpable (setuid or setgid, it has changed its user, or it "
                        "asked for that): run with " GRANT);
    if (user)
        return snprintf(
            text, size,
            "it belongs to user %u and you are user %u: run as that user, or with " GRANT, *user,
            ours->uid[0]);
    if (group)
        return snprintf(text, size,
                        "it runs with group %u and you with group %u: run with that group "
                        "(`newgrp`), or with " GRANT,
                        *group, ours->gid[0]);
    return 0;
}

int permission_explain(uint32_t pid, enum permission_wish wish, char *text, size_t size)
{
    char number[16];
    struct credentials theirs, ours;
    snprintf(number, sizeof number, "%u", pid);
    read_credentials(number, &theirs);
    read_credentials("self", &ours);
    const char *call = filtered_call(wish);
    int scope = yama_scope();
    if (call)
        return snprintf(text, size,
                        "a seccomp filter refuses us %s, as strict profiles of containers do: "
                        "--cap-add SYS_PTRACE, or --security-opt seccomp=FILE",
                        call);
    if (wish == PERMISSION_TRACE && theirs.tracer)
        return snprintf(text, size, "process %u traces it (a debugger, strace): end that first",
                        theirs.tracer);
    if (scope == YAMA_NOBODY)
        return snprintf(text, size,
                        "kernel.yama.ptrace_scope is 3: nobody may, until the machine is booted "
                        "with less");
    if (ours.effective >> CAP_BIT_SYS_PTRACE & 1)
        return snprintf(text, size,
                        "a security module refuses it (AppArmor, SELinux), or it is in a user "
                        "namespace that is not below ours: run as root of the host");
    int n = explain_owner(&theirs, &ours, text, size);
    if (n)
        return n;
    if (theirs.permitted & ~ours.permitted)
        return snprintf(text, size, "it has capabilities that you have not (%llx): run with " GRANT,
                        theirs.permitted & ~ours.permitted);
    if (scope)
        return snprintf(text, size,
                        "kernel.yama.ptrace_scope is %d: `sysctl kernel.yama.ptrace_scope=0`, or "
                        "run with " GRANT,
                        scope);
    if (is_elsewhere(&theirs, &ours))
        return snprintf(text, size,
                        "it is in another user namespace: run as root of the host, or inside its "
                        "container");
    return snprintf(text, size,
                    "a security module refuses it (AppArmor, SELinux): run with " GRANT);
}
