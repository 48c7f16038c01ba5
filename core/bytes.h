/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as bytes that leave this host: little endian, at any address. */
#ifndef MT_CORE_BYTES_H
#define MT_CORE_BYTES_H

#include <stdint.h>

static inline void mt_bytes_put32(uint8_t *bytes, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
}

static inline void mt_bytes_put64(uint8_t *bytes, uint64_t value)
{
    mt_bytes_put32(bytes, (uint32_t)value);
    mt_bytes_put32(bytes + 4, (uint32_t)(value >> 32));
}

static inline uint32_t mt_bytes_get32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

static inline uint64_t mt_bytes_get64(const uint8_t *bytes)
{
    return (uint64_t)mt_bytes_get32(bytes) | (uint64_t)mt_bytes_get32(bytes + 4) << 32;
}

#endif
