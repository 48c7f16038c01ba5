/* SPDX-License-Identifier: Apache-2.0 */
#include "core/pages.h"

#include <string.h>

void mt_copy_pages(void *dst, const void *src, uint64_t bytes)
{
    uint8_t *to = dst;
    const uint8_t *from = src;
    for (; bytes >= MT_PAGES_BLOCK; bytes -= MT_PAGES_BLOCK) {
        for (uint64_t strip = 0; strip < MT_PAGES_PAGE; strip += MT_PAGES_STRIP)
            for (uint64_t at = strip; at < MT_PAGES_BLOCK; at += MT_PAGES_PAGE)
                memcpy(to + at, from + at, MT_PAGES_STRIP);
        to += MT_PAGES_BLOCK;
        from += MT_PAGES_BLOCK;
    }
    if (bytes > 0)
        memcpy(to, from, bytes);
}
