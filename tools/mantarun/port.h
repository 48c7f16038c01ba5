/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MT_TOOLS_MANTARUN_PORT_H
#define MT_TOOLS_MANTARUN_PORT_H

#include <stddef.h>

/* A session on this host whose port nobody else can take before rank 0 listens there: *hold_fd_out
 * is a socket bound to it, to be closed when the job has ended. 0, or -1 after printing why not. */
int port_session(char *text, size_t text_bytes, int *hold_fd_out);

#endif
