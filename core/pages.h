/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading what another core has just written. Such lines take long to come, and a core fetches
 * ahead within each page on its own: it has more of them under way when it reads several pages at
 * a time. Measured: 20 instead of 15 GB/s.
 */
#ifndef MT_CORE_PAGES_H
#define MT_CORE_PAGES_H

#include <stdint.h>

/* Four pages make a block, of which strips are read in turn. */
enum { MT_PAGES_PAGE = 4096, MT_PAGES_BLOCK = 4 * MT_PAGES_PAGE, MT_PAGES_STRIP = 256 };

/* memcpy, in that order. (A reduction, which reads its other operand from its own cache meanwhile,
 * gains nothing from it.) */
void mt_copy_pages(void *dst, const void *src, uint64_t bytes);

#endif
