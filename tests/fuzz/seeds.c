/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seeds that fuzzing starts from, written with the library's own encoders, so that they are
 * past the magic numbers, lengths and marks of today's formats:
 *   seeds FOLDER     writes FOLDER/<target>/<name>
 * Each is decoded again first: one that is refused here would be a seed of nothing.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <manta/plan.h>

#include "collectives/catalogue.h"
#include "core/session.h"
#include "core/stream.h"
#include "core/wire.h"
#include "plan/select.h"
#include "plan/tuning.h"
#include "topology/synthetic.h"
#include "transport/frame.h"

enum { ROOM = 64 * 1024 };

static const char *folder;
static uint8_t message[ROOM];

static void fail(const char *what)
{
    fprintf(stderr, "seeds: %s\n", what);
    exit(1);
}

static void write_seed(const char *target, const char *name, const void *bytes, size_t count)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, target);
    if (mkdir(path, 0777) && errno != EEXIST)
        fail("cannot make the folder of a target");
    snprintf(path, sizeof path, "%s/%s/%s", folder, target, name);
    FILE *file = fopen(path, "we");
    if (!file || fwrite(bytes, 1, count, file) != count || fclose(file))
        fail("cannot write a seed");
}

/* The first byte of a seed of bootstrap_fuzz chooses the decoder. */
static void write_message(int decoder, const char *name, size_t count, int is_taken)
{
    if (count == 0 || !is_taken)
        fail(name);
    memmove(message + 1, message, count);
    message[0] = (uint8_t)decoder;
    write_seed("bootstrap_fuzz", name, message, count + 1);
}

static const struct mt_member somebody = {.rank = 1,
                                          .node = 77,
                                          .boot = 78,
                                          .pid_namespace = 79,
                                          .net_namespace = 80,
                                          .pid = 4711,
                                          .process_start = 12,
                                          .unix_name = "manta-seed",
                                          .addresses = "10.0.0.1:4000 [fd00::1]:4000"};

static void write_joining(void)
{
    struct mt_join taken_join, join = {.version = 100, .ranks = 2, .member = somebody};
    char fingerprint[] = "version=100\ntransports=shm,tcp\n";
    struct mt_member members[4] = {somebody, somebody, somebody, somebody};
    struct mt_welcome taken_welcome, welcome = {.epoch = 3, .ranks = 4, .members = members};
    for (uint32_t r = 0; r < 4; r++) {
        members[r].rank = r;
        members[r].node = r / 2; /* two nodes in two racks */
        members[r].place = (struct mt_place){1, 2 + r / 2, 0, 0, 0, r % 2, 100000};
    }
    join.fingerprint = fingerprint;
    size_t count = mt_join_encode(&join, message, ROOM - 1);
    write_message(0, "join", count, mt_join_decode(message, count, &taken_join) == 0);
    free(taken_join.fingerprint);
    count = mt_welcome_encode(&welcome, message, ROOM - 1);
    write_message(1, "welcome", count, mt_welcome_decode(message, count, 4, &taken_welcome) == 0);
    free(taken_welcome.members);
}

static void write_questions(void)
{
    struct mt_error taken_error, error;
    struct mt_call call = {.sequence = 41, .count = 512, .dtype = MANTA_FLOAT32, .posted_ns = 1};
    struct mt_query taken_query, query = {.sequence = 41, .peer = MANTA_PLAN_NONE};
    struct mt_answer taken_answer, answer = {.query = 7, .same = {1, call, 5, 0}};
    answer.last = answer.open = answer.same;
    uint64_t sequence;
    mt_error_set_rank(&error, MANTA_EPEER, 1, "rank 1 is dead");
    size_t count = mt_failure_encode(&error, message, ROOM - 1);
    write_message(2, "failure", count, mt_failure_decode(message, count, &taken_error) == 0);
    count = mt_query_encode(&query, message, ROOM - 1);
    write_message(3, "query", count, mt_query_decode(message, count, &taken_query) == 0);
    count = mt_answer_encode(&answer, message, ROOM - 1);
    write_message(3, "answer", count, mt_answer_decode(message, count, &taken_answer) == 0);
    count = mt_goodbye_encode(41, message, ROOM - 1);
    write_message(3, "goodbye", count, mt_goodbye_decode(message, count, &sequence) == 0);
}

static void write_fixed(void)
{
    static const char texts[] = "A=1\nB=2\n\1A=1\nB=3\nC=4\n";
    struct mt_hello hello = {.protocol = MT_WIRE_PROTOCOL, .kind = MT_STREAM_TCP, .from = 1};
    struct mt_challenge challenge = {.status = MT_CHALLENGE_GO, .protocol = MT_WIRE_PROTOCOL};
    struct mt_wire_frame frame = {.bytes = 16, .type = MT_WIRE_QUERY, .target = MANTA_PLAN_NONE};
    mt_hello_encode(&hello, message);
    write_message(4, "hello", MT_HELLO_BYTES, mt_hello_decode(message, &hello) == 0);
    mt_challenge_encode(&challenge, message);
    write_message(4, "challenge", MT_CHALLENGE_BYTES,
                  mt_challenge_decode(message, &challenge) == 0);
    mt_wire_frame_encode(&frame, message);
    write_message(4, "frame", MT_WIRE_FRAME_BYTES, mt_wire_frame_decode(message, &frame) == 0);
    memcpy(message, texts, sizeof texts - 1);
    write_message(5, "compare", sizeof texts - 1, 1);
}

/* Scripts of transport_fuzz. Actions: 0 send, 1 receive (then length and id), 12 a raw frame. */
struct frame_script {
    const char *name;
    struct mt_frame frame;
    uint8_t before[6]; /* of two posts */
    int posts;
};

static void write_frames(void)
{
    enum { EPOCH = 3, LENGTH_513 = 4, LENGTH_3000 = 7, RAW = 12, PIECES = 64 };
    const struct manta_transport_id id = {.call = 1, .epoch = EPOCH};
    const struct frame_script scripts[] = {
        {"eager", {MT_FRAME_EAGER, 513, 513, id}, {1, LENGTH_513, 1}, 1},
        {"unexpected", {MT_FRAME_EAGER, 513, 513, id}, {0}, 0},
        {"ready_to_send", {MT_FRAME_RTS, 0, 3000, id}, {1, LENGTH_3000, 1}, 1},
        {"data", {MT_FRAME_DATA, 3000, 3000, id}, {1, LENGTH_3000, 1}, 1},
        {"ready_to_receive", {MT_FRAME_RTR, 0, 3000, id}, {0, LENGTH_3000, 1}, 1},
        {"credit", {MT_FRAME_CREDIT, 0, 1, {.epoch = EPOCH}}, {0, LENGTH_513, 1}, 1},
        {"have", {MT_FRAME_HAVE, 0, 3000, id}, {0, LENGTH_3000, 1}, 1},
        {"offer", {MT_FRAME_RTR, 9, 3000, id}, {0, LENGTH_3000, 1}, 1},
        {"again", {MT_FRAME_AGAIN, 0, 3000, id}, {1, LENGTH_3000, 1}, 1},
    };
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        struct mt_frame taken;
        size_t used = 3 * (size_t)scripts[i].posts;
        memcpy(message, scripts[i].before, used);
        message[used++] = RAW;
        mt_frame_encode(&scripts[i].frame, message + used);
        if (mt_frame_decode(message + used, &taken) != 0)
            fail(scripts[i].name);
        used += MT_FRAME_BYTES;
        memset(message + used, 0xff, PIECES); /* how much of the payload comes at a time */
        write_seed("transport_fuzz", scripts[i].name, message, used + PIECES);
    }
}

/* Scripts of lend_fuzz: 1: a record with a sealed file, 0: one without, 3: a place; see there. */
static void write_lent(void)
{
    enum { LEND = 1, FORGET = 2, RECORD = 32, PAGE = 4096 };
    const uint64_t segment = 1 << 8;
    const uint64_t lent[4] = {LEND, segment, PAGE, 2 * PAGE}, gone[4] = {FORGET, segment, 0, 0};
    const uint64_t place[3] = {segment, 100, 5000};
    size_t used = 0;
    message[used++] = RECORD * 4 + 1;
    memcpy(message + used, lent, sizeof lent);
    used += sizeof lent;
    message[used++] = 3;
    memcpy(message + used, place, sizeof place);
    used += sizeof place;
    write_seed("lend_fuzz", "lent", message, used);
    message[used++] = RECORD * 4;
    memcpy(message + used, gone, sizeof gone);
    used += sizeof gone;
    write_seed("lend_fuzz", "forgotten", message, used);
}

/* Sound plans of each algorithm, and one edit of each array. */
static void write_plans(void)
{
    char name[64];
    for (uint8_t a = 0; mt_catalogue[a]; a++) {
        const uint8_t ranks = 3, sound[] = {a, ranks};
        snprintf(name, sizeof name, "%s-%d", mt_catalogue[a]->name, a);
        write_seed("plan_fuzz", name, sound, sizeof sound);
        for (uint8_t array = 0; array < 6; array++) {
            const uint8_t edited[] = {a, ranks, 1, array, 2, 0, 1, 0, 0, 0};
            snprintf(name, sizeof name, "%s-%d-%d", mt_catalogue[a]->name, a, array);
            write_seed("plan_fuzz", name, edited, sizeof edited);
        }
    }
}

static void write_tuning(void)
{
    static const char text[] = "manta-tuning 1\n# 4 ranks on 2 nodes\nnode alpha_ns 412\n"
                               "cluster uplink_ps_per_byte 8000\n\ngamma_ps_per_byte 0\n";
    struct mt_tuning tuning;
    struct mt_error error;
    if (mt_tuning_parse(text, "a seed", &tuning, &error))
        fail(error.sentence);
    write_seed("tuning_fuzz", "all", text, strlen(text));
    write_seed("tuning_fuzz", "head", text, strlen("manta-tuning 1"));
}

static void write_texts(void)
{
    static const char head[] = "manta1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8@";
    static const char *const sessions[] = {"127.0.0.1:4000", "[fd00::1]:65535",
                                           "10.0.0.1:1,[::1]:2,192.168.7.7:40000"};
    static const char *const overrides[] = {"ring", "0-4k:recursive_doubling,4k-:ring",
                                            "1M-2M:fused,2M-1G:ring"};
    static const char *const clusters[] = {
        "rack:4@100Gbit/s,5us,oversub=2 node:16@200Gbit/s,core=2us numa:2 core:32 nic:4 gpu:8",
        "zone:2 package:2 l3:3 core:2@40GB/s,150ns nic:2@12.5GB/s ranks:5 size:7",
        "node:3 core:4 place=random:7"};
    struct mt_session session;
    struct mt_select_override override;
    struct mt_error error;
    for (int i = 0; i < 3; i++) {
        char text[256], name[16];
        snprintf(text, sizeof text, "%s%s", head, sessions[i]);
        snprintf(name, sizeof name, "%d", i);
        if (mt_session_parse(text, &session, &error) ||
            mt_select_parse(overrides[i], &override, &error))
            fail(error.sentence);
        write_seed("session_fuzz", name, sessions[i], strlen(sessions[i]));
        write_seed("override_fuzz", name, overrides[i], strlen(overrides[i]));
    }
    for (int i = 0; i < 3; i++) {
        struct mt_cluster cluster;
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        if (mt_cluster_parse(clusters[i], &cluster, &error))
            fail(error.sentence);
        mt_cluster_close(&cluster);
        write_seed("topology_fuzz", name, clusters[i], strlen(clusters[i]));
    }
    snprintf((char *)message, sizeof message, "%s%s", head, sessions[0]);
    write_seed("session_fuzz", "whole", message, strlen((char *)message));
}

int main(int argc, char **argv)
{
    if (argc != 2)
        fail("usage: seeds FOLDER");
    folder = argv[1];
    if (mkdir(folder, 0777) && errno != EEXIST)
        fail("cannot make the folder");
    write_joining();
    write_questions();
    write_fixed();
    write_frames();
    write_lent();
    write_plans();
    write_tuning();
    write_texts();
    return 0;
}
