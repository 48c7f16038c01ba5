/* SPDX-License-Identifier: Apache-2.0 */
/* One rank of a job on emulated nodes: the same collective again and again, so many times or until
 * it fails, and a line about how it ended. Before one call, rank 0 may wait for a line of input.
 * One that failed stays until it is ended, for its end would tell the others, too; with STAY in the
 * environment, one that is well does so, too.
 * Arguments: allreduce|broadcast CALLS CALL-TO-WAIT-BEFORE|-1 [ELEMENTS] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <manta/manta.h>

enum { COUNT_MOST = 65536, STAY_S = 60 };

static int32_t src[COUNT_MOST], dst[COUNT_MOST];
static int count = COUNT_MOST;

static int one_call(struct manta_comm *comm, int is_broadcast, int number)
{
    int rank = manta_comm_rank(comm), ranks = manta_comm_size(comm), root = number % ranks;
    int32_t first = is_broadcast ? root : ranks * (ranks - 1) / 2;
    int32_t times = is_broadcast ? 1 : ranks;
    int32_t *in = is_broadcast && rank == root ? dst : src;
    for (int i = 0; i < count; i++)
        in[i] = rank + i % 1000 + number;
    int rc = is_broadcast
                 ? manta_broadcast(comm, dst, (uint64_t)count, MANTA_INT32, root)
                 : manta_allreduce(comm, src, dst, (uint64_t)count, MANTA_INT32, MANTA_SUM);
    for (int i = 0; i < count && rc == 0; i++) {
        if (dst[i] == first + times * (i % 1000 + number))
            continue;
        printf("call %d: element %d is %d\n", number, i, dst[i]);
        exit(3);
    }
    return rc;
}

int main(int argc, char **argv)
{
    struct manta_comm *comm;
    struct manta_error_info info = {.size = sizeof(info)};
    if (argc > 4)
        count = atoi(argv[4]);
    if (argc < 4 || argc > 5 || count < 0 || count > COUNT_MOST)
        return 2;
    int is_broadcast = strcmp(argv[1], "broadcast") == 0;
    int calls = atoi(argv[2]), gate = atoi(argv[3]);
    if (manta_comm_create(NULL, &comm))
        return 4;
    int rc = 0, number = 0;
    for (; rc == 0 && number < calls; number++) {
        if (number == gate && manta_comm_rank(comm) == 0)
            (void)getchar();
        rc = one_call(comm, is_broadcast, number);
    }
    rc = rc ? rc : manta_barrier(comm);
    manta_comm_error(comm, &info);
    printf("ended with %d: %s\n", rc, rc ? info.sentence : "well");
    fflush(stdout);
    if (rc || getenv("STAY") != NULL) {
        alarm(STAY_S);
        pause();
    }
    manta_comm_destroy(comm);
    return 0;
}
