/* SPDX-License-Identifier: Apache-2.0 */
/* What an endpoint sleeps on: an epoll, and in it an eventfd, by which the service thread tells
 * that it has taken in a connection, and a timer. */
#ifndef MT_TRANSPORT_DESCRIPTORS_H
#define MT_TRANSPORT_DESCRIPTORS_H

#include <stdint.h>

/* Open all three, which are -1. events: EPOLLIN, and EPOLLET or not. The epoll knows the other two
 * by the places given here (data.ptr). 0, or -1 with errno; close what there is in either case. */
int mt_descriptors_open(int *epoll_fd, int *mail_fd, int *timer_fd, uint32_t events);
/* Those that are not -1. */
void mt_descriptors_close(int epoll_fd, int mail_fd, int timer_fd);

#endif
