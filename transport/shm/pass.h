/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that go over a unix stream. */
#ifndef MT_TRANSPORT_SHM_PASS_H
#define MT_TRANSPORT_SHM_PASS_H

#include <stddef.h>
#include <sys/types.h>

enum { MT_SHM_PASS_MAX = 4 };

/* sendmsg without blocking, with up to MT_SHM_PASS_MAX descriptors: what it returns, and errno. */
ssize_t mt_shm_pass_send(int stream, const void *bytes, size_t count, const int *descriptors,
                         size_t descriptor_count);
/* recvmsg without blocking: what it returns, and errno. Descriptors that come fill the places of
 * passed[room] that are -1; those for which there is none are closed. *is_cut_out is set to 1, and
 * never to 0, when the kernel had none to give for some of them. */
ssize_t mt_shm_pass_receive(int stream, void *bytes, size_t count, int *passed, size_t room,
                            int *is_cut_out);

#endif
