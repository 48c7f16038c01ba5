/* SPDX-License-Identifier: Apache-2.0 */
/* Tuning files: what is taken, what is refused and by which words, and what becomes of it. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <manta/manta.h>

#include "plan/tuning.h"

#define HEAD "manta-tuning 1\n"

static void taken(const char *text, struct mt_tuning *tuning)
{
    struct mt_error error;
    if (mt_tuning_parse(text, "the test", tuning, &error))
        fail_msg("'%s' was refused: %s", text, error.sentence);
}

static void refused(const char *text, const char *part)
{
    struct mt_tuning tuning;
    struct mt_error error;
    memset(&tuning, 0x55, sizeof(tuning));
    if (mt_tuning_parse(text, "the test", &tuning, &error) != MANTA_EINVAL)
        fail_msg("'%s' was taken", text);
    if (!strstr(error.sentence, part))
        fail_msg("'%s': expected '%s' in '%s'", text, part, error.sentence);
    assert_true(tuning.given == 0);
}

static void takes_every_name(void **state)
{
    char text[8192] = HEAD, name[MT_TUNING_NAME];
    struct mt_tuning tuning;
    size_t used = strlen(text);
    (void)state;
    for (int i = 0; i < MT_TUNING_VALUES; i++) {
        mt_tuning_name(i, name);
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s %d\n", name, 1000 + i);
    }
    taken(text, &tuning);
    for (int i = 0; i < MT_TUNING_VALUES; i++) {
        assert_true(mt_tuning_has(&tuning, i));
        assert_int_equal(tuning.values[i], 1000 + i);
    }
    assert_true(tuning.given >> MT_TUNING_VALUES == 0);
}

static void takes_comments_and_an_unfinished_line(void **state)
{
    struct mt_tuning tuning;
    (void)state;
    taken("manta-tuning 1", &tuning);
    assert_true(tuning.given == 0);
    taken(HEAD "\n#\n# node alpha_ns 1\nrack uplink_ps_per_byte 3600000000000", &tuning);
    assert_true(tuning.given == UINT64_C(1)
                                    << (MT_LEVEL_RACK * MT_TUNING_LINK_VALUES + MT_TUNING_UPLINK));
}

static void refuses(void **state)
{
    char longer[400];
    (void)state;
    refused("", "is empty");
    refused("\n", "line 1");
    refused("# manta-tuning 1\n", "line 1");
    refused("manta-tuning 2\n", "'manta-tuning 2', is not 'manta-tuning 1'");
    refused("manta-tuning 1\r\n", "line 1");
    refused("{\"node\": 1}", "line 1");
    refused(HEAD "gamma_ps_per_byte\n", "line 2, 'gamma_ps_per_byte', is no name and number");
    refused(HEAD "gamma_ps_per_byte \n", "whole number");
    refused(HEAD "gamma_ps_per_byte -1\n", "whole number");
    refused(HEAD "gamma_ps_per_byte 1.5\n", "whole number");
    refused(HEAD "gamma_ps_per_byte 1e3\n", "whole number");
    refused(HEAD "gamma_ps_per_byte 0x10\n", "whole number");
    refused(HEAD "gamma_ps_per_byte 3600000000001\n", "whole number");
    refused(HEAD "gamma_ps_per_byte 18446744073709551617\n", "whole number");
    refused(HEAD "gamma_ps_per_byte  1\n", "does not exist");
    refused(HEAD " gamma_ps_per_byte 1\n", "does not exist");
    refused(HEAD "Gamma_ps_per_byte 1\n", "does not exist");
    refused(HEAD "alpha_ns 1\n", "does not exist");
    refused(HEAD "node 1\n", "does not exist");
    refused(HEAD "host alpha_ns 1\n", "does not exist");
    refused(HEAD "node alpha_ns 1\n#\nnode alpha_ns 1\n",
            "line 4, 'node alpha_ns 1', names a value "
            "for the second time");
    memset(longer, '#', sizeof(longer));
    memcpy(longer, HEAD, strlen(HEAD));
    longer[sizeof(longer) - 1] = '\0';
    refused(longer, "too long");
}

static void reads_files_only(void **state)
{
    char folder[] = "/tmp/manta-tuning-XXXXXX", path[64], zeros[16 << 10] = {0};
    struct mt_tuning tuning;
    struct mt_error error;
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/x", folder);
    assert_int_equal(mt_tuning_read(path, &tuning, &error), MANTA_EINVAL);
    assert_non_null(strstr(error.sentence, "No such file"));
    assert_int_equal(mt_tuning_read(folder, &tuning, &error), MANTA_EINVAL);
    assert_int_equal(mkfifo(path, 0600), 0); /* nobody will ever write into it */
    assert_int_equal(mt_tuning_read(path, &tuning, &error), MANTA_EINVAL);
    unlink(path);
    const struct {
        const void *bytes;
        size_t count;
        int rc;
    } contents[] = {
        {HEAD "gamma_ps_per_byte 5\n", strlen(HEAD) + 20, 0},
        {HEAD "#\0\ngamma_ps_per_byte x", strlen(HEAD) + 22, MANTA_EINVAL},
        {zeros, sizeof(zeros), MANTA_EINVAL},
        {zeros, 1, MANTA_EINVAL},
        {zeros, 0, MANTA_EINVAL},
    };
    for (size_t i = 0; i < sizeof(contents) / sizeof(*contents); i++) {
        int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
        assert_int_equal(write(fd, contents[i].bytes, contents[i].count), contents[i].count);
        close(fd);
        assert_int_equal(mt_tuning_read(path, &tuning, &error), contents[i].rc);
        assert_true(tuning.given == (contents[i].rc ? 0 : UINT64_C(1) << MT_TUNING_GAMMA));
    }
    unlink(path);
    rmdir(folder);
}

static void digests_tell_values_apart(void **state)
{
    struct mt_tuning one, other;
    (void)state;
    taken(HEAD "node alpha_ns 5\nnode core_ns 6\n", &one);
    taken(HEAD "node core_ns 6\n# x\nnode alpha_ns 5\n", &other);
    assert_true(mt_tuning_digest(&one) == mt_tuning_digest(&other));
    taken(HEAD "node core_ns 5\nnode alpha_ns 6\n", &other);
    assert_true(mt_tuning_digest(&one) != mt_tuning_digest(&other));
    taken(HEAD "node alpha_ns 5\n", &other);
    assert_true(mt_tuning_digest(&one) != mt_tuning_digest(&other));
    taken(HEAD "node alpha_ns 5\nnode core_ns 6\nturn_ns 0\n", &other); /* 0 is a value */
    assert_true(mt_tuning_digest(&one) != mt_tuning_digest(&other));
}

static void values_reach_topology_and_model(void **state)
{
    struct mt_topology *topology;
    struct mt_cost_model model, before;
    struct mt_tuning tuning;
    (void)state;
    assert_int_equal(mt_topology_of_nodes(4, (const uint64_t[]){0, 0, 1, 1}, &topology), 0);
    mt_cost_defaults(&model, topology, 1 << 20);
    before = model;
    struct mt_topology_link node = topology->links[MT_LEVEL_NODE];
    taken(
        HEAD
        "rack alpha_ns 11\nrack core_ns 12\nrack beta_ps_per_byte 13\n"
        "rack copy_ps_per_byte 16\nnode uplink_ps_per_byte 14\nmemory_ps_per_byte 15\nturn_ns 0\n",
        &tuning);
    mt_tuning_apply(&tuning, topology, &model);
    assert_int_equal(topology->links[MT_LEVEL_RACK].alpha_ns, 11);
    assert_int_equal(topology->links[MT_LEVEL_RACK].core_ns, 12);
    assert_int_equal(topology->links[MT_LEVEL_RACK].beta_ps_per_byte, 13);
    assert_int_equal(topology->links[MT_LEVEL_RACK].copy_ps_per_byte, 16);
    assert_int_equal(topology->uplink_ps_per_byte[MT_LEVEL_NODE], 14);
    assert_int_equal(model.memory_ps_per_byte, 15);
    assert_int_equal(model.turn_ns, 0);
    /* The rest is as it was. */
    assert_memory_equal(&topology->links[MT_LEVEL_NODE], &node, sizeof(node));
    assert_int_equal(model.gamma_ps_per_byte, before.gamma_ps_per_byte);
    assert_int_equal(model.fused_alpha_ns, before.fused_alpha_ns);
    mt_topology_free(topology);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_every_name),
        cmocka_unit_test(takes_comments_and_an_unfinished_line),
        cmocka_unit_test(refuses),
        cmocka_unit_test(reads_files_only),
        cmocka_unit_test(digests_tell_values_apart),
        cmocka_unit_test(values_reach_topology_and_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
