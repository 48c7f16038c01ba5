/* SPDX-License-Identifier: Apache-2.0 */
/* Transports from shared objects: include/manta/transport.h says what they fill. */
#ifndef MT_TRANSPORT_PLUGIN_H
#define MT_TRANSPORT_PLUGIN_H

#include <manta/transport.h>

#include "core/error.h"

enum { MT_PLUGIN_PATH_MAX = 255 };

/* The table of the plugin at this absolute path, guarded (transport/guard.h). A file is loaded once
 * in a process and stays. 0, or an error whose sentence says why it is not taken and what to do:
 * MANTA_ENOTSUP (not there, or of another version of the ABI), MANTA_EAUTH (others may write it),
 * MANTA_EINVAL (it is malformed). */
int mt_plugin_load(const char *path, const struct manta_transport **transport_out,
                   struct mt_error *error);

/* May this file be loaded, as far as who can write it goes? For messages; real_out: PATH_MAX. */
int mt_plugin_check_file(const char *path, char *real_out, struct mt_error *error);

#endif
