/* SPDX-License-Identifier: Apache-2.0 */
/* Topics: what ends otherwise than by being done. */
#include <dirent.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "tools/manta/plugin.h"

enum { UNDER_WAY = 24, SENT = 60, STILL_NS = 100 * MT_MS };

/* What has no other end stays, and no op waits for it. */
void topic_deadline(struct check_rank *self)
{
    struct check_message message;
    _Atomic int *over = check_flag(self, 0);
    const uint64_t limit_ns = 200 * MT_MS;
    uint64_t deadline_ns = mt_clock_now_ns() + limit_ns;
    int code = MANTA_INPROGRESS;
    if (self->rank == 1) { /* and does not look meanwhile */
        while (!atomic_load(over))
            usleep(1000);
        return;
    }
    while (code == MANTA_INPROGRESS && mt_clock_now_ns() < deadline_ns + limit_ns) {
        code = check_connect(self, 1, deadline_ns);
        (void)check_progress(self);
    }
    check_prepare(self, &message, 1, 0, 0, 64);
    code = check_post(self, &message, 0);
    for (uint64_t end_ns = mt_clock_now_ns() + limit_ns; mt_clock_now_ns() < end_ns;)
        (void)check_progress(self);
    if (code == 0 && message.request.status == 0)
        check_fail(self, "a receive is complete that nobody has sent to");
    check_answer(self, CHECK_ABORT, check_abort(self, MANTA_ETIMEOUT), 0);
    if (code == 0 && message.request.status == MANTA_INPROGRESS)
        check_fail(self, "after abort a receive is still under way");
    atomic_store(over, 1);
}

/* Messages of all sizes with all peers: some meet, of some there is one end only. */
static uint32_t post_many(struct check_rank *self, struct check_message *messages, uint32_t round)
{
    static const uint64_t bytes[4] = {8, 3000, 70000, 1 << 20};
    uint32_t count = 0;
    for (uint32_t peer = 0; peer < self->ranks; peer++) {
        for (uint32_t i = 0; peer != self->rank && i < UNDER_WAY; i++) {
            uint32_t index = round * UNDER_WAY + i;
            int is_send = (i + (self->rank < peer)) % 2;
            struct check_message *message = &messages[count];
            check_prepare(self, message, is_send ? self->rank : peer, is_send ? peer : self->rank,
                          index, bytes[i / 2 % 4]);
            message->id.number +=
                i % 3 == 0 ? 1000 + self->rank : 0; /* the other does not have it */
            int code = check_post(self, message, is_send);
            count += code == 0;
            if (code != 0 && code != MANTA_EAGAIN && code != MANTA_EPEER)
                check_answer(self, CHECK_SEND, code, 0);
        }
    }
    return count;
}

/* Nobody may touch the messages of this rank any more: neither their memory nor their requests. */
static void forbid(struct check_rank *self, struct check_message *messages, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        memset(&messages[i].request, 0xc3, sizeof messages[i].request);
    check_forbid(self);
}

static void check_forbidden(struct check_rank *self, const struct check_message *messages,
                            uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const unsigned char *bytes = (const unsigned char *)&messages[i].request;
        for (size_t b = 0; b < sizeof messages[i].request; b++)
            if (bytes[b] != 0xc3)
                check_fail(self, "a request was written after abort");
    }
}

static void abort_and_look(struct check_rank *self, struct check_message *messages, uint32_t count)
{
    struct check_message late;
    check_answer(self, CHECK_ABORT, check_abort(self, MANTA_EPEER), 0);
    for (uint32_t i = 0; i < count; i++) {
        int status = messages[i].request.status;
        if (status == MANTA_INPROGRESS)
            check_fail(self, "after abort a %s of %" PRIu64 " bytes is still under way",
                       messages[i].memory[0] == 0xee ? "receive" : "message", messages[i].bytes);
        if (status != 0 && status != MANTA_EPEER)
            check_answer(self, CHECK_ABORT, status, MANTA_EPEER);
    }
    check_prepare(self, &late, self->rank, (self->rank + 1) % self->ranks, 900, 8);
    if (check_post(self, &late, 1) == 0 && late.request.status == MANTA_INPROGRESS)
        check_fail(self, "after abort a send is accepted, and stays under way");
    forbid(self, messages, count);
}

void topic_abort(struct check_rank *self)
{
    struct check_message messages[UNDER_WAY * CHECK_RANKS];
    _Atomic int *stopped = check_flag(self, 0);
    uint32_t count = post_many(self, messages, 0);
    check_barrier(self);
    if (self->rank == 0) {
        for (int i = 0; i < 5; i++)
            (void)check_progress(self);
        abort_and_look(self, messages, count);
        atomic_store(stopped, 1);
    }
    /* The others do not know yet, and go on sending to it. */
    for (uint64_t end_ns = mt_clock_now_ns() + STILL_NS; mt_clock_now_ns() < end_ns;)
        (void)check_progress(self);
    check_barrier(self);
    if (self->rank == 0)
        check_forbidden(self, messages, count);
    else
        abort_and_look(self, messages, count);
    check_barrier(self);
}

static uint32_t count_descriptors(void)
{
    uint32_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (folder != NULL && readdir(folder) != NULL)
        count++;
    if (folder != NULL)
        closedir(folder);
    return count;
}

/* An endpoint of its own beside that of the topic: opened, and closed with work under way. */
void topic_close(struct check_rank *self)
{
    struct check_message messages[UNDER_WAY * CHECK_RANKS];
    uint32_t count = post_many(self, messages, 0);
    struct manta_transport_error error = {.size = sizeof error};
    check_barrier(self);
    if (self->rank == 0) {
        (void)check_progress(self);
        check_close(self);
        forbid(self, messages, count);
    }
    for (uint64_t end_ns = mt_clock_now_ns() + STILL_NS; mt_clock_now_ns() < end_ns;)
        self->endpoint ? (void)check_progress(self) : (void)usleep(1000);
    check_barrier(self);
    if (self->rank != 0)
        check_close(self);
    check_barrier(self);
    uint32_t before = count_descriptors();
    check_barrier(self);
    if (check_open(self, &error) != 0)
        check_fail(self, "a second endpoint cannot be opened: %s", error.sentence);
    check_close(self);
    check_barrier(self);
    uint64_t until_ns = mt_clock_now_ns() + CHECK_WAIT_S * MT_SECOND;
    while (count_descriptors() > before)
        if (usleep(1000) != 0 || mt_clock_now_ns() > until_ns)
            check_fail(self, "close leaves descriptors behind: there are %u, before there were %u",
                       count_descriptors(), before);
    check_barrier(self);
}

/* What is complete for the sender arrives, though it closes at once. */
void topic_drain(struct check_rank *self)
{
    static const uint64_t bytes[3] = {5, 2000, 200000};
    struct check_message messages[SENT];
    uint64_t until_ns = mt_clock_now_ns() + CHECK_WAIT_S * MT_SECOND;
    for (uint32_t i = 0; i < SENT; i++) {
        check_prepare(self, &messages[i], 0, 1, i, bytes[i % 3]);
        self->rank == 0 ? check_send(self, &messages[i]) : check_recv(self, &messages[i]);
    }
    check_wait(self, messages, SENT);
    for (uint32_t i = 0; i < SENT && self->rank == 1; i++)
        check_content(self, &messages[i]);
    while (self->rank == 0 && check_drain(self) > 0) {
        (void)check_progress(self);
        if (mt_clock_now_ns() > until_ns)
            check_fail(self, "drain does not come to an end");
    }
    if (self->rank == 0)
        check_close(self);
}

/* A peer closes in the middle: the other rank gets errors, or waits; it is not stopped. */
void topic_lost(struct check_rank *self)
{
    struct check_message messages[UNDER_WAY * CHECK_RANKS], more[UNDER_WAY * CHECK_RANKS];
    uint32_t count = post_many(self, messages, 0);
    check_barrier(self);
    if (self->rank == 0)
        check_close(self);
    check_barrier(self);
    if (self->rank == 0)
        return;
    for (uint64_t end_ns = mt_clock_now_ns() + STILL_NS; mt_clock_now_ns() < end_ns;)
        (void)check_progress(self);
    uint32_t later = post_many(self, more, 1);
    for (uint64_t end_ns = mt_clock_now_ns() + STILL_NS; mt_clock_now_ns() < end_ns;)
        (void)check_progress(self);
    check_answer(self, CHECK_ABORT, check_abort(self, MANTA_EPEER), 0);
    for (uint32_t i = 0; i < count + later; i++) {
        const struct check_message *message = i < count ? &messages[i] : &more[i - count];
        if (message->request.status == MANTA_INPROGRESS)
            check_fail(self, "after the peer's end, and abort, a message is still under way");
    }
}
