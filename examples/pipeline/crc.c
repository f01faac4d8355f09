// SPDX-License-Identifier: MIT

#include "crc.h"

static uint32_t step(uint32_t crc, uint8_t byte)
{
    crc ^= (uint32_t)byte << 24;
    for (int i = 0; i < 8; i++)
        crc = crc & 0x80000000 ? crc << 1 ^ 0x04c11db7 : crc << 1;
    return crc;
}

uint32_t crc_add(uint32_t crc, const void *data, size_t size)
{
    for (const uint8_t *p = data, *end = p + size; p < end; p++)
        crc = step(crc, *p);
    return crc;
}

uint32_t crc_end(uint32_t crc, uint64_t length)
{
    for (; length; length >>= 8)
        crc = step(crc, (uint8_t)length);
    return ~crc;
}
