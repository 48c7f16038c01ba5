/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions made in this process for which rank 0 has not come yet. */
#ifndef MT_CORE_SESSION_OWN_H
#define MT_CORE_SESSION_OWN_H

#include "core/auth.h"

/* Rank 0 has come and has a door of its own: forget that the session was made here. */
void mt_session_disown(const uint8_t session_id[MT_ID_BYTES]);

#endif
