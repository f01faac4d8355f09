// SPDX-License-Identifier: MIT
//
// See privileges.h. Source: capabilities(7).

#include "collector/bpf/privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BIT(capability) (UINT64_C(1) << (capability))
#define KEPT                                                                                       \
    (BIT(CAP_SYS_PTRACE) | BIT(CAP_DAC_READ_SEARCH) | BIT(CAP_CHECKPOINT_RESTORE) | BIT(CAP_SYSLOG))

uint64_t privileges_kept(uint64_t permitted, bool may_write)
{
    return permitted & (KEPT | (may_write ? 0 : BIT(CAP_DAC_OVERRIDE)));
}

// Containers may have CAP_SYS_ADMIN alone, which then stands for it.
static uint64_t for_maps(uint64_t permitted)
{
    return permitted & BIT(CAP_BPF) ? BIT(CAP_BPF) : permitted & BIT(CAP_SYS_ADMIN);
}

static int get(uint64_t *effective, uint64_t *permitted)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    if (syscall(SYS_capget, &head, data))
        return -errno;
    *effective = data[0].effective | (uint64_t)data[1].effective << 32;
    *permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
    return 0;
}

static int set(uint64_t effective, uint64_t permitted)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {
        {.effective = (uint32_t)effective, .permitted = (uint32_t)permitted},
        {.effective = (uint32_t)(effective >> 32), .permitted = (uint32_t)(permitted >> 32)},
    };
    return syscall(SYS_capset, &head, data) ? -errno : 0;
}

int privileges_drop(bool (*may_write)(void *arg), void *arg, uint64_t more,
                    struct fscope_error *err)
{
    uint64_t permitted = 0, effective;
    int rc = get(&effective, &permitted);
    if (!rc && !permitted)
        return 0; // an ordinary user's process
    // What root is by its capabilities alone: the file system asks for the effective ones.
    more &= permitted;
    uint64_t kept = privileges_kept(permitted, true) | more;
    if (!rc)
        rc = set(kept, permitted);
    if (!rc && !may_write(arg))
        kept = privileges_kept(permitted, false) | more;
    if (!rc)
        rc = set(kept, kept | for_maps(permitted));
    // The ambient set shrinks with the permitted one. A program of root's would have all again, but for this.
    if (!rc && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        rc = -errno;
    return rc ? error_set(err, rc, 0, "privileges cannot be given up: %s", strerror(-rc)) : 0;
}

uint64_t privileges_take_bpf(void)
{
    uint64_t effective = 0, permitted = 0;
    if (!get(&effective, &permitted) && for_maps(permitted))
        set(effective | for_maps(permitted), permitted);
    return effective;
}

void privileges_return(uint64_t effective)
{
    uint64_t now, permitted = 0;
    if (!get(&now, &permitted) && now != effective)
        set(effective, permitted);
}
