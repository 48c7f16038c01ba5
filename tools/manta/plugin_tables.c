/* SPDX-License-Identifier: Apache-2.0 */
/* Topics: what an endpoint tells, and what it keeps. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "tools/manta/plugin.h"

enum { NO_KIND = 99, NOWHERE = 64, CANARY = 0x6b, REGISTERED = 1 << 20, REGISTRATIONS = 100 };

void topic_open(struct check_rank *self)
{
    for (uint32_t peer = 0; peer < self->ranks; peer++) {
        struct manta_transport_properties properties = {.size = sizeof properties};
        if (peer == self->rank)
            continue;
        check_reach(self, peer, &properties);
        if (properties.interface[0] == '\0')
            check_fail(self, "probe does not say by which interface rank %u is reached", peer);
        if (properties.size != sizeof properties)
            check_fail(self, "probe changed the size of the properties");
        int status = check_peer_status(self, peer);
        if (status != 0)
            check_answer(self, CHECK_PEER_STATUS, status, MANTA_INPROGRESS);
    }
    if (check_progress(self) < 0)
        check_answer(self, CHECK_PROGRESS, -1, 0);
    check_barrier(self);
}

/* An error has words, and a struct of an older library is filled as far as it goes. */
static void look_at_error(struct check_rank *self, const char *what, int code)
{
    struct {
        struct manta_transport_error error;
        unsigned char canary[64];
    } found;
    memset(&found, CANARY, sizeof found);
    memset(&found.error, 0, sizeof found.error);
    found.error.size = sizeof found.error;
    check_error(self, &found.error);
    if (memchr(found.error.sentence, '\0', sizeof found.error.sentence) == NULL)
        check_fail(self, "the sentence of an error has no end");
    if (found.error.code == 0 || found.error.sentence[0] == '\0')
        check_fail(self, "%s answered %d, and error has no words for it", what, code);
    if (found.error.code != code)
        check_fail(self, "%s answered %d, and error tells of %d: %s", what, code, found.error.code,
                   found.error.sentence);
    if (found.canary[0] != CANARY || found.error.size != sizeof found.error)
        check_fail(self, "error wrote beyond its struct, or changed its size");
}

static void expect_refusal(struct check_rank *self, const char *what, int code)
{
    if (code >= 0)
        check_fail(self, "%s answered %d", what, code);
    look_at_error(self, what, code);
}

/* Pieces that are not the message, or more than there may be, and memory that nobody knows how to
 * reach, at an address that nobody may touch. */
static void refuse_pieces(struct check_rank *self)
{
    static const struct {
        const char *what;
        uint32_t pieces;
        uint16_t memory;
        uint64_t bytes;
    } cases[] = {{"of pieces that have 16 bytes, and says 17", 2, MANTA_MEMORY_HOST, 17},
                 {"of more pieces than MANTA_PLAN_LOCATIONS", MANTA_PLAN_LOCATIONS + 1,
                  MANTA_MEMORY_HOST, 8 * (MANTA_PLAN_LOCATIONS + 1)},
                 {"in memory of an unknown kind", 1, NO_KIND, 8}};
    struct manta_transport_buffer buffers[MANTA_PLAN_LOCATIONS + 1];
    struct manta_transport_request request;
    char what[96];
    unsigned char *memory = check_memory(self, sizeof buffers);
    for (uint32_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        int is_send = i % 2;
        uint32_t pieces = cases[i / 2].pieces;
        uint16_t kind = cases[i / 2].memory;
        const struct manta_transport_message message = {
            .id = {.call = 900 + i, .epoch = self->epoch},
            .peer = 1 - self->rank,
            .buffers = buffers,
            .buffer_count = pieces,
            .bytes = cases[i / 2].bytes};
        for (uint32_t b = 0; b < pieces; b++)
            buffers[b] = (struct manta_transport_buffer){
                .address = kind == NO_KIND ? (void *)NOWHERE : memory + (size_t)8 * b,
                .bytes = 8,
                .memory = kind};
        snprintf(what, sizeof what, "%s of a message %s", is_send ? "send" : "recv",
                 cases[i / 2].what);
        expect_refusal(self, what, check_post_as(self, &message, &request, is_send));
    }
}

void topic_errors(struct check_rank *self)
{
    struct manta_transport_error old;
    struct check_message message;
    const uint32_t nobody[2] = {self->ranks, self->rank};
    for (int i = 0; i < 2; i++) {
        check_prepare(self, &message, self->rank, 1 - self->rank, (uint32_t)i, 8);
        message.peer = nobody[i];
        expect_refusal(self, i ? "send to itself" : "send to a rank that does not exist",
                       check_post(self, &message, 1));
        expect_refusal(self, i ? "recv from itself" : "recv from a rank that does not exist",
                       check_post(self, &message, 0));
    }
    refuse_pieces(self);
    if (check_peer_status(self, self->ranks) >= 0)
        check_fail(self, "peer_status of a rank that does not exist is no error");
    memset(&old, CANARY, sizeof old);
    old.size = offsetof(struct manta_transport_error, system_errno);
    check_error(self, &old);
    if (old.sentence[0] != CANARY || old.sentence[1] != CANARY)
        check_fail(self, "error wrote beyond the size of the struct that it was given");
    check_barrier(self);
}

static void *count_beside(void *arg)
{
    struct check_rank *self = arg;
    for (int i = 0; i < 1000; i++) {
        struct manta_transport_counters counters = {.size = sizeof counters};
        self->transport->counters(self->endpoint, &counters);
    }
    return NULL;
}

void topic_counters(struct check_rank *self)
{
    struct manta_transport_counters before = {.size = sizeof before}, after = before, old;
    struct check_message message;
    pthread_t thread;
    if (self->transport->counters == NULL)
        check_skip(self, "it has no counters");
    check_counters(self, &before);
    if (pthread_create(&thread, NULL, count_beside, self) != 0)
        check_fail(self, "the check can start no thread");
    check_prepare(self, &message, 0, 1, 0, 5000);
    self->rank == 0 ? check_send(self, &message) : check_recv(self, &message);
    check_wait(self, &message, 1);
    pthread_join(thread, NULL);
    check_counters(self, &after);
    uint64_t bytes = self->rank == 0 ? after.sent_bytes - before.sent_bytes
                                     : after.received_bytes - before.received_bytes;
    if (bytes < 5000)
        check_fail(self, "a message of 5000 bytes was moved, and %llu are counted",
                   (unsigned long long)bytes);
    memset(&old, CANARY, sizeof old);
    old.size = offsetof(struct manta_transport_counters, sent_bytes);
    check_counters(self, &old);
    if (((const unsigned char *)&old.copied_bytes)[0] != CANARY)
        check_fail(self, "counters wrote beyond the size of the struct that it was given");
    check_barrier(self);
}

/* What a peer tells of its memory may be anything. */
static void exchange_keys(struct check_rank *self, void *registration)
{
    uint8_t blob[MANTA_TRANSPORT_ADDRESS_MAX];
    void *remote = NULL;
    size_t bytes = 0;
    if (self->transport->mem_export == NULL)
        return;
    check_answer(self, CHECK_EXPORT, check_export(self, registration, blob, sizeof blob, &bytes),
                 0);
    for (int is_garbage = 0; is_garbage < 2; is_garbage++) {
        int code = check_import(self, 1 - self->rank, blob, bytes, &remote);
        if (code > 0)
            check_answer(self, CHECK_IMPORT, code, 0);
        memset(blob, CANARY, sizeof blob);
    }
}

/* Memory is made known, named to the peer, forgotten, again and again. */
void topic_registration(struct check_rank *self)
{
    struct manta_transport_buffer buffer = {.bytes = REGISTERED};
    void *registration = NULL;
    if (self->transport->mem_register == NULL)
        check_skip(self, "it registers no memory");
    buffer.address = check_memory(self, REGISTERED);
    int code = check_register(self, &buffer, &registration);
    if (code == MANTA_ENOTSUP)
        check_skip(self, "it registers no memory of the host");
    check_answer(self, CHECK_REGISTER, code, 0);
    exchange_keys(self, registration);
    check_answer(self, CHECK_DEREGISTER, check_deregister(self, registration), 0);
    for (int i = 0; i < REGISTRATIONS; i++) {
        check_answer(self, CHECK_REGISTER, check_register(self, &buffer, &registration), 0);
        check_answer(self, CHECK_DEREGISTER, check_deregister(self, registration), 0);
    }
    check_barrier(self);
}
