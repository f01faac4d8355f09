// SPDX-License-Identifier: MIT
//
// A module with general-dynamic TLS, which the runtime warns of.

int gd_tls_next(void);

static __thread int value;

int gd_tls_next(void)
{
    return ++value;
}
