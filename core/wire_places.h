/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where all ranks sit, in few bytes. Which ranks share a node is known from the members, so that it
 * suffices to say what the nodes look like: shapes (the places of a node's ranks, in order), then
 * which shape so many nodes have, one after the other; and the same for sites (zone and rack).
 * Equal nodes cost one shape and a count, however the ranks are spread over them.
 */
#ifndef MT_CORE_WIRE_PLACES_H
#define MT_CORE_WIRE_PLACES_H

#include <stdint.h>

#include "core/wire.h"

/* Most bytes for each rank, and besides. */
enum { MT_PLACES_RANK_MAX = 64, MT_PLACES_MORE_MAX = 16 };

/* A node is in one zone and rack, whatever its ranks say: what its lowest rank says counts for all
 * of them. 0 or MANTA_ENOMEM. */
int mt_places_settle(struct mt_member *members, uint32_t ranks);
/* The places of settled members. Fails the writer also when there is no memory. */
void mt_places_put(struct mt_writer *writer, const struct mt_member *members, uint32_t ranks);
/* Into members whose node and boot are known. Fails the reader. 0 or MANTA_ENOMEM. */
int mt_places_get(struct mt_reader *reader, struct mt_member *members, uint32_t ranks);

/* One rank's, when it joins. */
void mt_place_put(struct mt_writer *writer, const struct mt_place *place);
void mt_place_get(struct mt_reader *reader, struct mt_place *place_out);

#endif
