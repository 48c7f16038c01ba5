/* SPDX-License-Identifier: Apache-2.0 */
/* What ops answer: sentences, offers, structs of callers with another header. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/group.h"
#include "transport/answer.h"
#include "transport/registry.h"

static void refusals_tell_the_system_error_if_there_is_one(void **state)
{
    (void)state;
    struct manta_transport_error error = {.size = sizeof(error)};
    assert_int_equal(mt_transport_refuse(&error, MANTA_ESYSTEM, EMFILE, "no socket"),
                     MANTA_ESYSTEM);
    assert_int_equal(error.code, MANTA_ESYSTEM);
    assert_int_equal(error.system_errno, EMFILE);
    assert_int_equal(error.peer, MANTA_PLAN_NONE);
    assert_string_equal(error.sentence, "no socket: Too many open files");
    assert_int_equal(mt_transport_refuse(&error, MANTA_ENOMEM, 0, "no memory"), MANTA_ENOMEM);
    assert_string_equal(error.sentence, "no memory");
}

static void an_offer_is_its_four_characters(void **state)
{
    (void)state;
    static const char offer[4] = {'t', 'c', 'p', '1'};
    char blob[8];
    size_t bytes = 0;
    assert_int_equal(mt_transport_write_offer(offer, blob, 3, &bytes), MANTA_EINVAL);
    assert_int_equal(mt_transport_write_offer(offer, blob, sizeof blob, &bytes), 0);
    assert_true(mt_transport_is_offer(offer, blob, bytes));
    assert_false(mt_transport_is_offer(offer, blob, bytes - 1));
    assert_false(mt_transport_is_offer(offer, blob, bytes + 1));
    assert_false(mt_transport_is_offer(offer, NULL, 0));
    assert_false(mt_transport_is_offer(offer, "tcp2", 4));
}

static void exports_fit_the_callers_header(void **state)
{
    (void)state;
    const struct manta_transport_counters mine = {
        .size = sizeof(mine), .sent_messages = 1, .copied_bytes = 2, .registrations = 3};
    struct {
        struct manta_transport_counters known;
        uint64_t newer;
    } theirs = {.known = {.size = sizeof(theirs), .registrations = 9}, .newer = 7};
    mt_transport_export(&mine, sizeof(mine), &theirs);
    assert_int_equal(theirs.known.size, sizeof(theirs));
    assert_int_equal(theirs.known.sent_messages, 1);
    assert_int_equal(theirs.known.registrations, 3);
    assert_int_equal(theirs.newer, 7);

    struct manta_transport_counters older = {
        .size = offsetof(struct manta_transport_counters, registrations), .registrations = 9};
    mt_transport_export(&mine, sizeof(mine), &older);
    assert_int_equal(older.size, offsetof(struct manta_transport_counters, registrations));
    assert_int_equal(older.copied_bytes, 2);
    assert_int_equal(older.registrations, 9);

    older.size = 0; /* not filled in: nothing to write to */
    older.sent_messages = 8;
    mt_transport_export(&mine, sizeof(mine), &older);
    assert_int_equal(older.sent_messages, 8);
}

static void *no_memory(size_t bytes, size_t alignment)
{
    (void)bytes;
    (void)alignment;
    return NULL;
}

/* No sentence ends in the words for errno 0. */
static void endpoints_that_do_not_open_say_why(void **state)
{
    (void)state;
    static const struct manta_transport *const transports[] = {&mt_transport_tcp,
                                                               &mt_transport_shm};
    struct manta_transport_host host = *mt_transport_host();
    struct mt_member members[2] = {{.rank = 0}, {.rank = 1}};
    struct mt_group group = {.ranks = 2, .epoch = 7, .members = members};
    host.alloc = no_memory;
    for (size_t i = 0; i < sizeof transports / sizeof *transports; i++) {
        struct manta_transport_open params = {
            .size = sizeof(params), .host = &host, .ranks = 2, .epoch = 7, .local_ranks = 2};
        struct manta_transport_error error = {.size = sizeof(error)};
        void *endpoint = &host;
        errno = 0;
        assert_int_equal(transports[i]->open(&params, &endpoint, &error), MANTA_EINVAL);
        assert_null(endpoint);
        assert_non_null(strstr(error.sentence, "needs a group"));
        assert_null(strstr(error.sentence, strerror(0)));
        params.group = &group;
        assert_int_equal(transports[i]->open(&params, &endpoint, &error), MANTA_ENOMEM);
        assert_non_null(strstr(error.sentence, "no memory"));
        assert_null(strstr(error.sentence, strerror(0)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refusals_tell_the_system_error_if_there_is_one),
        cmocka_unit_test(an_offer_is_its_four_characters),
        cmocka_unit_test(exports_fit_the_callers_header),
        cmocka_unit_test(endpoints_that_do_not_open_say_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
