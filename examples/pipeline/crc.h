// SPDX-License-Identifier: MIT
//
// The checksum of cksum(1), POSIX: CRC-32 with the polynomial 0x04c11db7, the length appended. Begins with 0.

#ifndef PIPELINE_CRC_H
#define PIPELINE_CRC_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc_add(uint32_t crc, const void *data, size_t size);
uint32_t crc_end(uint32_t crc, uint64_t length);

#endif
