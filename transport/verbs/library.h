/* SPDX-License-Identifier: Apache-2.0 */
/* libibverbs, found at run time, as one table of functions, so that a test can put another in its
 * place. What posts and polls is reached through the context, as in <infiniband/verbs.h>. */
#ifndef MT_TRANSPORT_VERBS_LIBRARY_H
#define MT_TRANSPORT_VERBS_LIBRARY_H

#include <infiniband/verbs.h>
#include <stddef.h>

/* X(result, name, arguments): `name` is the symbol without ibv_. */
#define MT_VERBS_FUNCTIONS(X)                                                                      \
    X(struct ibv_device **, get_device_list, (int *count))                                         \
    X(void, free_device_list, (struct ibv_device * *list))                                         \
    X(const char *, get_device_name, (struct ibv_device * device))                                 \
    X(struct ibv_context *, open_device, (struct ibv_device * device))                             \
    X(int, close_device, (struct ibv_context * context))                                           \
    X(int, query_device, (struct ibv_context * context, struct ibv_device_attr * attr))            \
    X(int, query_gid, (struct ibv_context * context, uint8_t port, int index, union ibv_gid *gid)) \
    X(int, query_pkey, (struct ibv_context * context, uint8_t port, int index, __be16 *pkey))      \
    X(struct ibv_pd *, alloc_pd, (struct ibv_context * context))                                   \
    X(int, dealloc_pd, (struct ibv_pd * pd))                                                       \
    X(struct ibv_mr *, reg_mr_iova2,                                                               \
      (struct ibv_pd * pd, void *start, size_t bytes, uint64_t iova, unsigned int access))         \
    X(struct ibv_mr *, reg_dmabuf_mr,                                                              \
      (struct ibv_pd * pd, uint64_t offset, size_t bytes, uint64_t iova, int fd, int access))      \
    X(int, dereg_mr, (struct ibv_mr * mr))                                                         \
    X(struct ibv_comp_channel *, create_comp_channel, (struct ibv_context * context))              \
    X(int, destroy_comp_channel, (struct ibv_comp_channel * channel))                              \
    X(struct ibv_cq *, create_cq,                                                                  \
      (struct ibv_context * context, int entries, void *cq_context,                                \
       struct ibv_comp_channel *channel, int vector))                                              \
    X(int, destroy_cq, (struct ibv_cq * cq))                                                       \
    X(int, get_cq_event,                                                                           \
      (struct ibv_comp_channel * channel, struct ibv_cq * *cq, void **cq_context))                 \
    X(void, ack_cq_events, (struct ibv_cq * cq, unsigned int count))                               \
    X(struct ibv_srq *, create_srq, (struct ibv_pd * pd, struct ibv_srq_init_attr * attr))         \
    X(int, destroy_srq, (struct ibv_srq * srq))                                                    \
    X(struct ibv_qp *, create_qp, (struct ibv_pd * pd, struct ibv_qp_init_attr * attr))            \
    X(int, modify_qp, (struct ibv_qp * qp, struct ibv_qp_attr * attr, int mask))                   \
    X(int, destroy_qp, (struct ibv_qp * qp))                                                       \
    X(int, get_async_event, (struct ibv_context * context, struct ibv_async_event * event))        \
    X(void, ack_async_event, (struct ibv_async_event * event))                                     \
    X(const char *, event_type_str, (enum ibv_event_type event))

struct mt_verbs_library {
#define MT_VERBS_MEMBER(result, name, arguments) result(*name) arguments;
    MT_VERBS_FUNCTIONS(MT_VERBS_MEMBER)
#undef MT_VERBS_MEMBER
    int (*query_port)(struct ibv_context *context, uint8_t port, struct ibv_port_attr *attr);
};

/* 1 if the kernel has an RDMA device, be it that this process cannot open it. */
int mt_verbs_host_has_device(void);
/* The library, loaded at the first call and kept; NULL, and why not in words. Any thread. */
const struct mt_verbs_library *mt_verbs_library(char *why, size_t why_bytes);

/* Tests: use this table from now on; NULL: libibverbs again. While no endpoint is open. */
void mt_verbs_library_replace(const struct mt_verbs_library *library);

#endif
