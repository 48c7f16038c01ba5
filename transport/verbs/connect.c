/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lanes are connected by threads, for the kernel may look for the way to a peer for seconds. An
 * alltoall begins with thousands of lanes at once: there are a few threads at a time, and the other
 * lanes wait in the order in which they came. The time that a lane is given begins when it has its
 * thread.
 */
#include <signal.h>
#include <string.h>

#include "transport/verbs/verbs.h"

static void *run_connector(void *arg)
{
    struct mt_verbs_lane *lane = arg;
    lane->connect_result = mt_verbs_lane_connect(lane->endpoint, lane);
    atomic_store(&lane->connected, 1); /* pairs with mt_verbs_connectors_look() */
    return NULL;
}

static struct mt_verbs_lane *take_first(struct mt_verbs_connectors *connectors)
{
    struct mt_verbs_lane *lane = connectors->first;
    connectors->first = lane->next_waiting;
    if (connectors->first == NULL)
        connectors->last = NULL;
    return lane;
}

/* 0, or why there is no thread. */
static int begin(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane, uint32_t place)
{
    sigset_t all, before;
    lane->endpoint = endpoint;
    lane->given_up = 0;
    lane->until_ns = endpoint->host->clock_ns() + endpoint->timeout_ns;
    atomic_store(&lane->connected, 0);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&lane->connector, NULL, run_connector, lane);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return error;
    lane->state = MT_VERBS_LANE_CONNECTING;
    endpoint->connectors.running[place] = lane;
    return 0;
}

/* A thread that cannot be had now may be when one of the others has ended. */
static void begin_waiting(struct mt_verbs_endpoint *endpoint)
{
    struct mt_verbs_connectors *connectors = &endpoint->connectors;
    int error = 0;
    for (uint32_t i = 0; i < MT_VERBS_CONNECTORS && connectors->first != NULL && !error; i++) {
        if (connectors->running[i] != NULL)
            continue;
        error = begin(endpoint, connectors->first, i);
        if (error == 0)
            take_first(connectors);
    }
    if (error != 0 && !mt_verbs_connectors_busy(endpoint)) {
        struct mt_verbs_lane *lane = take_first(connectors);
        lane->state = MT_VERBS_LANE_MADE;
        mt_verbs_lane_fail(endpoint, lane, "no thread to connect it: %s", strerror(error));
    }
}

void mt_verbs_lane_begin_connect(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane)
{
    struct mt_verbs_connectors *connectors = &endpoint->connectors;
    lane->state = MT_VERBS_LANE_WAITING;
    lane->next_waiting = NULL;
    if (connectors->last != NULL)
        connectors->last->next_waiting = lane;
    else
        connectors->first = lane;
    connectors->last = lane;
    begin_waiting(endpoint);
}

static void leave_line(struct mt_verbs_connectors *connectors, struct mt_verbs_lane *lane)
{
    struct mt_verbs_lane *before = NULL;
    for (struct mt_verbs_lane *at = connectors->first; at != lane; at = at->next_waiting)
        before = at;
    if (before == NULL)
        connectors->first = lane->next_waiting;
    else
        before->next_waiting = lane->next_waiting;
    if (connectors->last == lane)
        connectors->last = before;
}

static void join(struct mt_verbs_connectors *connectors, uint32_t place)
{
    pthread_join(connectors->running[place]->connector, NULL);
    connectors->running[place] = NULL;
}

void mt_verbs_lane_end_connect(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane)
{
    struct mt_verbs_connectors *connectors = &endpoint->connectors;
    if (lane->state == MT_VERBS_LANE_WAITING)
        leave_line(connectors, lane);
    for (uint32_t i = 0; i < MT_VERBS_CONNECTORS; i++) {
        if (connectors->running[i] == lane)
            join(connectors, i);
    }
}

/* Its peer may have been lost meanwhile, so that nobody asks for it any more. */
static void take_connected(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane)
{
    if (endpoint->peers[lane->peer]->link == MT_VERBS_LINK_OPEN) {
        mt_verbs_lane_ready(endpoint, lane, lane->connect_result != 0);
        return;
    }
    lane->state = MT_VERBS_LANE_READY;
    mt_verbs_lane_end(endpoint, lane);
}

int mt_verbs_connectors_busy(const struct mt_verbs_endpoint *endpoint)
{
    for (uint32_t i = 0; i < MT_VERBS_CONNECTORS; i++) {
        if (endpoint->connectors.running[i] != NULL)
            return 1;
    }
    return 0;
}

int mt_verbs_connectors_look(struct mt_verbs_endpoint *endpoint)
{
    struct mt_verbs_connectors *connectors = &endpoint->connectors;
    int moved = 0;
    for (uint32_t i = 0; i < MT_VERBS_CONNECTORS; i++) {
        struct mt_verbs_lane *lane = connectors->running[i];
        if (lane == NULL || !atomic_load(&lane->connected)) /* pairs with run_connector() */
            continue;
        join(connectors, i);
        take_connected(endpoint, lane);
        moved = 1;
    }
    begin_waiting(endpoint);
    return moved;
}
