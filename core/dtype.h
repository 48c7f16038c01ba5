/* SPDX-License-Identifier: Apache-2.0 */
/* Names and properties of dtypes and ops. */
#ifndef MT_CORE_DTYPE_H
#define MT_CORE_DTYPE_H

#include <manta/manta.h>

/* "float32"; "unknown" for others. */
const char *mt_dtype_name(int dtype);
const char *mt_op_name(int op);
const char *mt_collective_name(int collective);
/* The reverse, or -1. */
int mt_dtype_parse(const char *name);
int mt_op_parse(const char *name);
int mt_collective_parse(const char *name);
/* 1 if op works on dtype. */
int mt_op_allowed(int op, int dtype);

#endif
