// SPDX-License-Identifier: MIT
//
// Runs a command under a seccomp filter that refuses, with EPERM, the calls that Docker's default profile refuses to a
// container without added capabilities. "docker": as it is since kernel 4.8, with ptrace and its kin allowed;
// "strict": these refused as well, as in older profiles and hardened ones. clone with a namespace flag is refused, and
// clone3 does not exist, for its flags lie in memory.

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

// Without the last three: "docker".
static const unsigned refused[] = {
    SYS_acct,
    SYS_add_key,
    SYS_bpf,
    SYS_clock_settime,
    SYS_delete_module,
    SYS_fanotify_init,
    SYS_finit_module,
    SYS_init_module,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_ioperm,
    SYS_iopl,
    SYS_kcmp,
    SYS_kexec_load,
    SYS_keyctl,
    SYS_lookup_dcookie,
    SYS_mbind,
    SYS_mount,
    SYS_move_pages,
    SYS_open_by_handle_at,
    SYS_perf_event_open,
    SYS_pidfd_getfd,
    SYS_pivot_root,
    SYS_process_madvise,
    SYS_quotactl,
    SYS_reboot,
    SYS_request_key,
    SYS_set_mempolicy,
    SYS_setns,
    SYS_settimeofday,
    SYS_swapoff,
    SYS_swapon,
    SYS_syslog,
    SYS_umount2,
    SYS_unshare,
    SYS_userfaultfd,
    SYS_vhangup,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
};

enum {
    REFUSED = sizeof refused / sizeof *refused,
    OF_DEBUGGERS = 3,
    NAMESPACES = CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID |
                 CLONE_NEWUSER | CLONE_NEWUTS,
};

#define LOAD(field)  BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, what)
// The next instruction is run where the accumulator is n, else skipped.
#define WHERE(n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, n, 0, 1)

static int install(size_t count)
{
    struct sock_filter code[2 * REFUSED + 16], *c = code;
    *c++ = (struct sock_filter)LOAD(arch);
    *c++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    *c++ = (struct sock_filter)RETURN(SECCOMP_RET_ERRNO | EPERM);
    *c++ = (struct sock_filter)LOAD(nr);
    for (size_t i = 0; i < count; i++) {
        *c++ = (struct sock_filter)WHERE(refused[i]);
        *c++ = (struct sock_filter)RETURN(SECCOMP_RET_ERRNO | EPERM);
    }
    *c++ = (struct sock_filter)WHERE(SYS_clone3);
    *c++ = (struct sock_filter)RETURN(SECCOMP_RET_ERRNO | ENOSYS);
    *c++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3);
    *c++ = (struct sock_filter)LOAD(args[0]);
    *c++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, NAMESPACES, 0, 1);
    *c++ = (struct sock_filter)RETURN(SECCOMP_RET_ERRNO | EPERM);
    *c++ = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    struct sock_fprog program = {(unsigned short)(c - code), code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int argc, char **argv)
{
    bool is_strict = argc > 1 && strcmp(argv[1], "strict") == 0;
    if (argc < 3 || (!is_strict && strcmp(argv[1], "docker") != 0)) {
        fprintf(stderr, "usage: docker_seccomp docker|strict COMMAND [ARGUMENT ...]\n");
        return 2;
    }
    if (install(is_strict ? REFUSED : REFUSED - OF_DEBUGGERS)) {
        perror("docker_seccomp: seccomp");
        return 125;
    }
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    return 127;
}
