/* SPDX-License-Identifier: Apache-2.0 */
/* The threads that connect lanes; see connect.c. */
#ifndef MT_TRANSPORT_VERBS_CONNECT_H
#define MT_TRANSPORT_VERBS_CONNECT_H

struct mt_verbs_endpoint;
struct mt_verbs_lane;

enum { MT_VERBS_CONNECTORS = 16 }; /* of an endpoint, at a time */

struct mt_verbs_connectors {
    struct mt_verbs_lane *running[MT_VERBS_CONNECTORS]; /* what each connects; NULL: free */
    struct mt_verbs_lane *first, *last;                 /* that wait for one */
};

/* The peer's numbers are here: it is connected by a thread of its own as soon as there may be one.
 * Its state is WAITING, then CONNECTING, until mt_verbs_lane_ready(). */
void mt_verbs_lane_begin_connect(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane);
/* It does not wait for a connector any more; the one that it has is waited for. */
void mt_verbs_lane_end_connect(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane);
/* Take what has been connected, and go on with those that wait. 1 if there was any. */
int mt_verbs_connectors_look(struct mt_verbs_endpoint *endpoint);
/* 1: one is at work, or has ended and was not looked at; also for a peer that was lost. */
int mt_verbs_connectors_busy(const struct mt_verbs_endpoint *endpoint);

#endif
