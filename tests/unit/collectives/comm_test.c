/* SPDX-License-Identifier: Apache-2.0 */
/* Communicators that are made while memory runs out, at each place that allocates: they say so, and
 * leave nothing. Others than this rank would only wait for it: see core/scarce_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <manta/manta.h>

#include "tests/support/scarce.h"

static long count_live(void)
{
    pthread_mutex_lock(&scarce.lock);
    long live = scarce.live;
    pthread_mutex_unlock(&scarce.lock);
    return live;
}

/* What the creation returns; the communicator, if there is one, is destroyed. */
static int create_alone(void)
{
    struct manta_config config = MANTA_CONFIG_INIT;
    struct manta_comm *comm;
    config.ranks = 1;
    int rc = manta_comm_create(&config, &comm);
    assert_int_equal(rc == 0, comm != NULL);
    manta_comm_destroy(comm);
    return rc;
}

static void nothing_is_left_without_memory(void **state)
{
    int refused = 0;
    (void)state;
    assert_int_equal(create_alone(), 0); /* what is made once for the process is there now */
    long live = count_live();
    scarce_begin(NULL, SCARCE_ALL, 1);
    assert_int_equal(create_alone(), 0);
    scarce_end();
    assert_int_equal(count_live(), live);
    int sites = scarce.site_count;
    for (int i = 0; i < sites; i++) {
        void *failing = scarce.sites[i].address;
        scarce_begin(failing, SCARCE_ALL, 1);
        int rc = create_alone();
        int failed = scarce_end();
        refused += rc == MANTA_ENOMEM;
        if (count_live() != live)
            fail_msg("%ld allocations are left after %p failed %d times (%d)", count_live() - live,
                     failing, failed, rc);
    }
    assert_true(refused >= 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_left_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
