/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions made in this process for which rank 0 has not come yet. */
#ifndef MT_CORE_SESSION_OWN_H
#define MT_CORE_SESSION_OWN_H

#include "core/auth.h"

/* Rank 0 has come and has a door of its own: forget that the session was made here. */
void mt_session_disown(const uint8_t session_id[MT_ID_BYTES]);
/* The same by the session's text, when no rank 0 will come. Nothing to do if it is not owned. */
void mt_session_forget(const char *text);

#endif
