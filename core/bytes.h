/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as bytes that leave this host: little endian, at any address. */
#ifndef MT_CORE_BYTES_H
#define MT_CORE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline void mt_bytes_put32(uint8_t *bytes, uint32_t value)
{
    uint32_t little = htole32(value);
    memcpy(bytes, &little, sizeof(little));
}

static inline void mt_bytes_put64(uint8_t *bytes, uint64_t value)
{
    uint64_t little = htole64(value);
    memcpy(bytes, &little, sizeof(little));
}

static inline uint32_t mt_bytes_get32(const uint8_t *bytes)
{
    uint32_t little;
    memcpy(&little, bytes, sizeof(little));
    return le32toh(little);
}

static inline uint64_t mt_bytes_get64(const uint8_t *bytes)
{
    uint64_t little;
    memcpy(&little, bytes, sizeof(little));
    return le64toh(little);
}

#endif
