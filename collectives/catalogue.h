/* SPDX-License-Identifier: Apache-2.0 */
/* The algorithms there are. One file each; this list is the only place that names them all. */
#ifndef MT_COLLECTIVES_CATALOGUE_H
#define MT_COLLECTIVES_CATALOGUE_H

#include "plan/builder.h"

/* NULL-terminated. */
extern const struct mt_algorithm *const mt_catalogue[];
/* NULL if there is none of that name for this collective. */
const struct mt_algorithm *mt_catalogue_find(uint32_t collective, const char *name);

#endif
