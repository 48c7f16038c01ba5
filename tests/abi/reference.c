/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference transport plugin: processes of one host over unix datagram sockets, with nothing
 * but libc and the installed headers. docs/transport-plugin.md goes through it. Datagrams are
 * neither lost nor reordered, and a full socket says EAGAIN.
 *
 * A posted send says WANT, a posted receive says GIVE. Who gets one and has posted nothing of that
 * id forgets it: its own word will follow once it has. A send that is told GIVE sends its DATA. So
 * nothing is stored for peers but what was posted, and there is no eager data.
 */
#include <errno.h>
#include <fcntl.h>
#include <manta/transport.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

enum { CHUNK = 32 << 10, READS = 64, HOST_BYTES = 64 };
enum { WANT, GIVE, DATA };

/* What ranks tell each other at creation. Who does not know the key cannot send us anything. */
struct address {
    char host[HOST_BYTES]; /* boot id and network namespace: where the name is known */
    struct sockaddr_un name;
    uint32_t name_bytes; /* 0: the rank offers nothing */
    uint64_t key;
};

struct head {
    uint64_t key; /* the receiver's */
    uint32_t type, from;
    struct manta_transport_id id;
    uint64_t bytes, offset; /* of the whole message; of the data in it */
};

/* A posted message: it lives in its request. */
struct work {
    struct manta_transport_request *next;
    struct manta_transport_id id;
    struct iovec pieces[MANTA_PLAN_LOCATIONS];
    uint64_t bytes, done;
    uint32_t piece_count, is_send;
    uint32_t owes, goes; /* it has to say WANT or GIVE; it was told GIVE */
};
_Static_assert(sizeof(struct work) <= 32 * sizeof(uint64_t), "a message fits into its request");

struct peer {
    struct address address;
    int is_full, lost; /* in this round; 1: it was just found out */
};

struct endpoint {
    struct manta_transport_open open;
    struct address address;
    struct manta_transport_request *first; /* posted, in order */
    struct manta_transport_error error;
    int fd, aborted, waits; /* waits: for room in a peer's socket */
    struct {
        struct head head;
        char data[CHUNK];
    } packet; /* that is read or written at the moment */
    struct peer peers[];
};

static struct work *work_of(struct manta_transport_request *request)
{
    return (struct work *)(void *)request->transport_private;
}

/* Who fills a struct that another made leaves its size alone, and what is beyond. */
static void fill(void *out, const void *from, size_t bytes)
{
    size_t size;
    memcpy(&size, out, sizeof size);
    memcpy((char *)out + sizeof size, (const char *)from + sizeof size,
           (size < bytes ? size : bytes) - sizeof size);
}

static int fail(struct manta_transport_error *error, int code, uint32_t peer, const char *what)
{
    struct manta_transport_error found = {.code = code, .peer = peer};
    snprintf(found.sentence, sizeof found.sentence, "%s", what);
    fill(error, &found, sizeof found);
    return code;
}

static void close_op(void *endpoint)
{
    struct endpoint *self = endpoint;
    const struct manta_transport_host *host = self->open.host;
    if (self->fd >= 0)
        host->fd_close(self->fd);
    host->free(self);
}

/* The socket under a name of the kernel's choice, and what peers must know to send to it. */
static int open_socket(struct endpoint *self)
{
    struct address *own = &self->address;
    struct stat network;
    int boot = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t got = boot < 0 ? -1 : read(boot, own->host, 36);
    close(boot);
    self->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (self->fd < 0 || got != 36 || stat("/proc/self/ns/net", &network) != 0)
        return -1;
    self->open.host->fd_enter(self->fd);
    snprintf(own->host + got, sizeof own->host - 36, " %lu", (unsigned long)network.st_ino);
    own->name.sun_family = AF_UNIX;
    own->name_bytes = sizeof own->name;
    return bind(self->fd, (struct sockaddr *)&own->name, sizeof own->name.sun_family) ||
           getsockname(self->fd, (struct sockaddr *)&own->name, &own->name_bytes) ||
           getrandom(&own->key, sizeof own->key, 0) != sizeof own->key;
}

static int open_op(const struct manta_transport_open *params, void **endpoint_out,
                   struct manta_transport_error *error)
{
    const struct manta_transport_host *host = params->host;
    size_t bytes = sizeof(struct endpoint) + params->ranks * sizeof(struct peer);
    struct endpoint *self = host->alloc(bytes, 64);
    if (self == NULL)
        return fail(error, MANTA_ENOMEM, MANTA_PLAN_NONE, "no memory for an endpoint");
    memset(self, 0, bytes);
    self->open = *params;
    self->error = (struct manta_transport_error){.size = sizeof self->error};
    if (open_socket(self) != 0) {
        close_op(self);
        return fail(error, MANTA_ESYSTEM, MANTA_PLAN_NONE, "no socket, or no /proc: ulimit -n?");
    }
    *endpoint_out = self;
    return 0;
}

static int address_op(void *endpoint, void *blob, size_t blob_bytes, size_t *bytes_out)
{
    const struct endpoint *self = endpoint;
    *bytes_out = sizeof self->address;
    if (blob_bytes < sizeof self->address)
        return MANTA_EINVAL;
    memcpy(blob, &self->address, sizeof self->address);
    return 0;
}

static int peers_op(void *endpoint, const void *const *addresses, const size_t *address_bytes)
{
    struct endpoint *self = endpoint;
    for (uint32_t r = 0; r < self->open.ranks; r++)
        if (address_bytes[r] == sizeof(struct address))
            memcpy(&self->peers[r].address, addresses[r], sizeof(struct address));
    return 0;
}

static int probe(void *endpoint, uint32_t peer, struct manta_transport_properties *properties)
{
    const struct manta_transport_properties found = {.message_bytes_max = UINT64_MAX,
                                                     .interface = "unix datagrams"};
    struct endpoint *self = endpoint;
    const struct address *theirs = &self->peers[peer].address;
    if (memcmp(theirs->host, self->address.host, HOST_BYTES) != 0 ||
        theirs->name_bytes > sizeof theirs->name)
        return fail(&self->error, MANTA_ENOTSUP, peer,
                    "the rank is on another host, or in another network namespace of this one");
    fill(properties, &found, sizeof found);
    return 0;
}

/* 0, or why nothing can be done with this peer. */
static int peer_status(void *endpoint, uint32_t peer)
{
    struct endpoint *self = endpoint;
    if (peer >= self->open.ranks || peer == self->open.rank)
        return fail(&self->error, MANTA_EINVAL, MANTA_PLAN_NONE, "there is no such peer");
    if (self->peers[peer].lost)
        return fail(&self->error, MANTA_EPEER, peer, "the rank has closed its socket");
    return 0;
}

/* There is nothing to connect, and so nothing to wait for. */
static int connect_op(void *endpoint, uint32_t peer, uint64_t deadline_ns)
{
    (void)deadline_ns;
    return peer_status(endpoint, peer);
}

/* This request, or (NULL) all of a peer, or of all peers: off the list, and not touched again. */
static void end(struct endpoint *self, struct manta_transport_request *request, uint32_t peer,
                int status)
{
    for (struct manta_transport_request **at = &self->first, *it; (it = *at) != NULL;) {
        if (request ? it != request : peer != MANTA_PLAN_NONE && it->peer != peer) {
            at = &work_of(it)->next;
            continue;
        }
        *at = work_of(it)->next;
        it->status = status;
    }
}

/* Copy between a packet and the pieces of a message, from where that is done on. */
static void copy(const struct work *work, char *data, uint64_t bytes)
{
    uint64_t offset = work->done;
    for (uint32_t i = 0; bytes > 0 && i < work->piece_count; i++) {
        uint64_t length = work->pieces[i].iov_len, skip = offset < length ? offset : length;
        uint64_t take = length - skip < bytes ? length - skip : bytes;
        char *piece = (char *)work->pieces[i].iov_base + skip;
        if (take > 0)
            memcpy(work->is_send ? data : piece, work->is_send ? piece : data, take);
        offset -= skip;
        data += take;
        bytes -= take;
    }
}

/* Send a packet of this request, unless its peer turns out to be full now, or lost. */
static void put(struct endpoint *self, struct manta_transport_request *request, uint32_t type)
{
    struct peer *peer = &self->peers[request->peer];
    struct work *work = work_of(request);
    uint64_t bytes = type != DATA ? 0 : work->bytes - work->done;
    bytes = bytes < CHUNK ? bytes : CHUNK;
    self->packet.head =
        (struct head){peer->address.key, type, self->open.rank, work->id, work->bytes, work->done};
    copy(work, self->packet.data, bytes);
    if (sendto(self->fd, &self->packet, sizeof(struct head) + bytes, 0,
               (struct sockaddr *)&peer->address.name, peer->address.name_bytes) < 0) {
        peer->is_full = errno == EAGAIN || errno == ENOBUFS;
        peer->lost = !peer->is_full;
        self->waits |= peer->is_full;
        return;
    }
    work->owes = 0;
    work->done += bytes;
    if (type == DATA && work->done == work->bytes) {
        work->goes = 0;
        end(self, request, 0, 0); /* all of it is in the peer's socket */
    }
}

static void send_what_can_be(struct endpoint *self)
{
    struct manta_transport_request *next;
    for (uint32_t r = 0; r < self->open.ranks; r++)
        self->peers[r].is_full = 0;
    self->waits = 0;
    for (struct manta_transport_request *at = self->first; at != NULL; at = next) {
        struct work *work = work_of(at);
        const struct peer *peer = &self->peers[at->peer];
        next = work->next;
        if (work->owes && !peer->is_full && !peer->lost)
            put(self, at, work->is_send ? WANT : GIVE);
        while (work->goes && !peer->is_full && !peer->lost)
            put(self, at, DATA);
    }
}

/* What a peer says is checked. `length` bytes of data have come. */
static void take(struct endpoint *self, uint64_t length)
{
    const struct head *head = &self->packet.head;
    struct manta_transport_request *at = self->first;
    while (at != NULL &&
           (at->peer != head->from || work_of(at)->is_send != (head->type == GIVE) ||
            work_of(at)->id.call != head->id.call || work_of(at)->id.segment != head->id.segment ||
            work_of(at)->id.number != head->id.number))
        at = work_of(at)->next;
    if (at == NULL)
        return;
    struct work *work = work_of(at);
    if (work->id.hash != head->id.hash || work->bytes != head->bytes) {
        end(self, at, 0, fail(&self->error, MANTA_EMISMATCH, at->peer, "it is in another call"));
    } else if (head->type != DATA) {
        work->goes = head->type == GIVE;
        work->owes = head->type == WANT && work->done == 0;
    } else if (head->offset == work->done && length <= work->bytes - work->done) {
        copy(work, self->packet.data, length);
        work->done += length;
        if (work->done == work->bytes)
            end(self, at, 0, 0);
    }
}

/* Read some of what has come. 1 if there was anything. */
static int read_some(struct endpoint *self)
{
    const struct head *head = &self->packet.head;
    ssize_t got, count = 0;
    for (; count < READS && (got = recv(self->fd, &self->packet, sizeof self->packet, 0)) >= 0;
         count++)
        if ((size_t)got >= sizeof *head && head->key == self->address.key &&
            head->from < self->open.ranks && head->id.epoch == self->open.epoch)
            take(self, (uint64_t)got - sizeof *head);
    return count > 0;
}

static int progress(void *endpoint)
{
    struct endpoint *self = endpoint;
    int moved = read_some(self);
    send_what_can_be(self);
    for (uint32_t r = 0; r < self->open.ranks; r++) {
        if (self->peers[r].lost != 1)
            continue;
        while (read_some(self)) /* what it had sent before it closed counts */
            ;
        self->peers[r].lost = 2;
        end(self, NULL, r, peer_status(self, r));
    }
    return moved;
}

static int post(struct endpoint *self, const struct manta_transport_message *message,
                struct manta_transport_request *request, uint32_t is_send)
{
    struct work *work = work_of(request);
    struct manta_transport_request **last = &self->first;
    const struct manta_transport_buffer *buffer = message->buffers;
    if (self->aborted)
        return fail(&self->error, self->aborted, MANTA_PLAN_NONE, "it was aborted");
    int code = peer_status(self, message->peer);
    if (message->buffer_count > MANTA_PLAN_LOCATIONS || message->id.epoch != self->open.epoch)
        code = fail(&self->error, MANTA_EINVAL, message->peer, "too many pieces, or another epoch");
    if (code != 0)
        return code;
    *work = (struct work){.id = message->id, .is_send = is_send, .owes = 1};
    for (; work->piece_count < message->buffer_count; buffer++) {
        work->pieces[work->piece_count++] = (struct iovec){buffer->address, buffer->bytes};
        work->bytes += buffer->bytes;
        if (buffer->memory != MANTA_MEMORY_HOST)
            return fail(&self->error, MANTA_ENOTSUP, message->peer, "it moves host memory only");
    }
    if (work->bytes != message->bytes)
        return fail(&self->error, MANTA_EINVAL, message->peer, "the pieces are not the message");
    request->peer = message->peer;
    request->status = MANTA_INPROGRESS;
    while (*last != NULL)
        last = &work_of(*last)->next;
    *last = request;
    send_what_can_be(self);
    return 0;
}

static int send_op(void *endpoint, const struct manta_transport_message *message,
                   struct manta_transport_request *request)
{
    return post(endpoint, message, request, 1);
}

static int recv_op(void *endpoint, const struct manta_transport_message *message,
                   struct manta_transport_request *request)
{
    return post(endpoint, message, request, 0);
}

static int wait_fd(void *endpoint)
{
    return ((struct endpoint *)endpoint)->fd;
}

/* The socket is readable as long as something is in it. A peer whose socket is full does not tell
 * when it is not any more: so long as something waits for that, there is work. */
static int arm(void *endpoint)
{
    return ((struct endpoint *)endpoint)->waits;
}

static void error_op(void *endpoint, struct manta_transport_error *error_out)
{
    fill(error_out, &((struct endpoint *)endpoint)->error, sizeof *error_out);
}

/* Nobody but this thread touches buffers, so none is touched any more. */
static int abort_op(void *endpoint, int code)
{
    struct endpoint *self = endpoint;
    self->aborted = code;
    end(self, NULL, MANTA_PLAN_NONE, code);
    return 0;
}

const struct manta_transport *manta_transport_plugin(const struct manta_transport_host *host)
{
    /* clang-format off */
    static const struct manta_transport table = {
        .size = sizeof table, .abi = MANTA_TRANSPORT_ABI, .name = "reference", .version = "1",
        .open = open_op, .address = address_op, .peers = peers_op, .probe = probe,
        .connect = connect_op, .send = send_op, .recv = recv_op, .progress = progress,
        .wait_fd = wait_fd, .arm = arm, .peer_status = peer_status, .error = error_op,
        .abort = abort_op, .close = close_op,
    };
    /* clang-format on */
    return host->abi == MANTA_TRANSPORT_ABI ? &table : NULL;
}
