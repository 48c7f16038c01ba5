/* SPDX-License-Identifier: Apache-2.0 */
/* What an op gives for one pair of elements, by definition: computed in 113-bit floating point or
 * in 128-bit integers, which hold the exact result or round it harmlessly, then rounded to the
 * dtype by shifting its bits. Shares nothing with the library. Elements are their bits. */
#ifndef TESTS_SUPPORT_EXACT_H
#define TESTS_SUPPORT_EXACT_H

#include <stddef.h>
#include <stdint.h>

uint64_t exact_combine(int dtype, int op, uint64_t left, uint64_t right);
uint64_t exact_divide(int dtype, uint64_t value, uint32_t divisor);

/* Bits worth trying: the ends of the integers; floats of both signs at the ends and in the middle
 * of exponents and mantissas: zeros, subnormal numbers, infinities, quiet and signalling NaNs.
 * Returns how many; `room` suffices at EXACT_SPECIALS. */
enum { EXACT_SPECIALS = 1024 };
size_t exact_specials(int dtype, uint64_t *bits, size_t room);

/* Element i of a buffer as bits, at any alignment. */
uint64_t exact_get(int dtype, const void *buffer, size_t index);
void exact_put(int dtype, void *buffer, size_t index, uint64_t bits);

#endif
