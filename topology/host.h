/* SPDX-License-Identifier: Apache-2.0 */
/* What this process may use of this host. Read once, at the first call (some milliseconds), and
 * constant afterwards; every function may be called by any thread and costs a load from then on. */
#ifndef MT_TOPOLOGY_HOST_H
#define MT_TOPOLOGY_HOST_H

#include <stdint.h>

#include "topology/cpus.h"
#include "topology/topology.h"

struct mt_host {
    uint32_t cpus;            /* CPUs to count on: affinity and quota together, at least 1 */
    uint32_t affinity_cpus;   /* CPUs in the affinity mask */
    uint64_t quota_millicpus; /* quota of the control groups in thousandths of a CPU; 0: none */
    uint64_t l1d_bytes;       /* caches of the first CPU of the mask; 0: unknown */
    uint64_t l2_bytes;
    uint64_t l3_bytes;
    uint32_t l3_sharers; /* CPUs that share that L3, at least 1 */
    uint32_t numa_nodes; /* at least 1 */
};

/* Never NULL. */
const struct mt_host *mt_host(void);

/* The core, L3 cache, NUMA node or package that all these CPUs are of, by a number that it has on
 * this host: its lowest CPU, of all that there are. UINT32_MAX if they are of several, or there is
 * no CPU. Where the host does not have such a thing, it is that of the level above. */
uint32_t mt_host_unit(enum mt_level level, const struct mt_cpus *cpus);

/* Memory that this process can have now, of this host's and within the limits of its control
 * groups, without swapping; 0: unknown. Not kept: reads files at each call. */
uint64_t mt_host_available_bytes(void);
/* The same with swapping. */
uint64_t mt_host_obtainable_bytes(void);

#endif
