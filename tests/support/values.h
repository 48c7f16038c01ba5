/* SPDX-License-Identifier: Apache-2.0 */
/* Small integers in any dtype, encoded and decoded by the formats' definitions and not by the
 * library: the independent reference for collectives. */
#ifndef TESTS_SUPPORT_VALUES_H
#define TESTS_SUPPORT_VALUES_H

#include <stdint.h>

/* Store an integer that the dtype holds exactly (|value| <= 8 does in all; >= 0 in unsigned). */
void value_put(int dtype, void *buffer, uint64_t index, int value);
/* The value as a double, NaN included. */
double value_get(int dtype, const void *buffer, uint64_t index);
/* Half a unit in the last place, relative; 0 for integers. */
double value_epsilon(int dtype);
/* left op right on integers; AVG not included. */
int value_combine(int op, int left, int right);

#endif
