/* SPDX-License-Identifier: Apache-2.0 */
/* What a peer can send about memory that it lends, and which places it can name. The input is a
 * script: bytes of records, with a descriptor or without, and places to look up; whatever is found
 * is read. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/service.h"
#include "tests/unit/transport/shm/world.h"
#include "transport/shm/lend.h"

enum { FILE_BYTES = 16384, PIECE_MAX = 64 };

static struct world world;
static int good, unsealed, pipe_end[2] = {-1, -1};
static volatile uint8_t seen;

static int memfd(unsigned seals)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, FILE_BYTES) != 0 || fcntl(fd, F_ADD_SEALS, seals) != 0)
        abort();
    return fd;
}

static void send_piece(const uint8_t *bytes, size_t count, int fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec piece = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = count};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    }
    if (sendmsg(pipe_end[0], &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return; /* it was closed, or is full */
}

static void look_up(struct mt_shm_peer *peer, const uint8_t *bytes)
{
    struct mt_memory_place place;
    uint64_t length;
    const uint8_t *found;
    memcpy(&place, bytes, sizeof(place));
    memcpy(&length, bytes + sizeof(place), sizeof(length));
    if (mt_shm_lend_find(world.endpoints[0], peer, &place, length, &found) != 0)
        return;
    if (length > FILE_BYTES)
        abort();
    for (uint64_t i = 0; i < length; i++)
        seen ^= found[i];
}

static void quiet(int level, const char *transport, const char *sentence)
{
    (void)level;
    (void)transport;
    (void)sentence;
}

static void start(void)
{
    static struct manta_transport_host host;
    good = memfd(F_SEAL_SHRINK);
    unsealed = memfd(0);
    if (world_open(&world, 2) != 0)
        abort();
    host = *world.endpoints[0]->host;
    host.log = quiet;
    world.endpoints[0]->host = &host;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (world.endpoints[0] == NULL)
        start();
    struct mt_shm_peer *peer = mt_shm_peer_of(world.endpoints[0], 1);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pipe_end) != 0)
        abort();
    peer->borrowed = 0;
    peer->stream = pipe_end[1];
    mt_fd_enter(peer->stream);
    /* Low bits: what follows; then how many bytes of it. */
    while (size >= 1) {
        uint8_t what = *data % 4;
        size_t count = what == 3 ? 24 : *data / 4 % PIECE_MAX;
        data++;
        size--;
        if (count > size)
            break;
        if (what == 3)
            look_up(peer, data);
        else if (count != 0)
            send_piece(data, count, what == 0 ? -1 : what == 1 ? good : unsealed);
        mt_shm_lend_receive(world.endpoints[0], peer);
        data += count;
        size -= count;
    }
    mt_shm_lend_close(world.endpoints[0], peer);
    mt_fd_close(peer->stream);
    peer->stream = -1;
    close(pipe_end[0]);
    return 0;
}
