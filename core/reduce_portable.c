/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels for any CPU. */
#include "core/reduce_plain.h"

const struct mt_kernels mt_kernels_portable = {
    .name = "portable", .combine = PLAIN_COMBINE, .divide = PLAIN_DIVIDE};
