/* SPDX-License-Identifier: Apache-2.0 */
#include "collectives/catalogue.h"

#include <string.h>

#include "collectives/algorithms.h"

const struct mt_algorithm *const mt_catalogue[] = {
    &mt_allreduce_ring,
    &mt_broadcast_binomial,
    NULL,
};

const struct mt_algorithm *mt_catalogue_find(uint32_t collective, const char *name)
{
    for (uint32_t i = 0; mt_catalogue[i]; i++)
        if (mt_catalogue[i]->collective == collective && !strcmp(mt_catalogue[i]->name, name))
            return mt_catalogue[i];
    return NULL;
}
