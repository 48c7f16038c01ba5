/* SPDX-License-Identifier: Apache-2.0 */
/* The loader: what it refuses, in which words, and what it takes. */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/meeting.h"
#include "transport/plugin.h"
#include "transport/registry.h"

enum { THREADS = 4, PATH_BYTES = 256 };

static char folder[] = "/tmp/plugin_test.XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    char command[PATH_BYTES];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* A copy of a built plugin in the folder; the path of the copy. */
static const char *copy(const char *plugin, const char *name)
{
    static char path[PATH_BYTES];
    char command[4 * PATH_BYTES], self[PATH_MAX] = "";
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        fail_msg("no /proc");
    char *build = strstr(self, "/tests/unit/");
    assert_non_null(build);
    *build = '\0';
    snprintf(path, sizeof path, "%s/%s.so", folder, name);
    snprintf(command, sizeof command, "install -m 755 '%.512s/tests/abi/%s.so' %s", self, plugin,
             path);
    assert_int_equal(system(command), 0);
    return path;
}

static void expect(const char *path, int expected, const char *part)
{
    const struct manta_transport *transport = NULL;
    struct mt_error error = {0};
    int code = mt_plugin_load(path, &transport, &error);
    if (code != expected || (part != NULL && strstr(error.sentence, part) == NULL))
        fail_msg("%s: %d, not %d with '%s': %s", path, code, expected, part ? part : "",
                 error.sentence);
    assert_int_equal(transport != NULL, expected == 0);
}

static void test_malformed(void **state)
{
    static const struct {
        const char *how;
        int code;
        const char *part;
    } all[] = {
        {"nothing", MANTA_ENOTSUP, "does not suit it"},
        {"abi-older", MANTA_ENOTSUP, "compile it against this library's headers"},
        {"abi-newer", MANTA_ENOTSUP, "install a newer libmanta"},
        {"size-0", MANTA_EINVAL, "sizeof(struct manta_transport)"},
        {"size-short", MANTA_EINVAL, "sizeof(struct manta_transport)"},
        {"size-wild", MANTA_EINVAL, "sizeof(struct manta_transport)"},
        {"flags", MANTA_ENOTSUP, "flags 0x4"},
        {"no-recv", MANTA_EINVAL, "has no op recv"},
        {"half-fused", MANTA_EINVAL, "fused_query and fused_post"},
        {"no-name", MANTA_EINVAL, "no proper name"},
        {"empty-name", MANTA_EINVAL, "no proper name"},
        {"long-name", MANTA_EINVAL, "no proper name"},
        {"loud-name", MANTA_EINVAL, "no proper name"},
        {"taken-name", MANTA_EINVAL, "which is the name of a built-in"},
        {"version", MANTA_EINVAL, "printable"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        setenv("MANTA_PLUGIN_MALFORMED", all[i].how, 1);
        const char *path = copy("malformed", "malformed");
        char own[2 * PATH_BYTES];
        snprintf(own, sizeof own, "%s.%zu", path, i);
        assert_int_equal(rename(path, own), 0);
        expect(own, all[i].code, all[i].part);
        unsetenv("MANTA_PLUGIN_MALFORMED");
        expect(own, all[i].code, all[i].part); /* it is not asked again */
    }
}

/* Tables of other sizes: what is not there is NULL, what is not known is not read. */
static void test_sizes(void **state)
{
    const struct manta_transport *transport = NULL;
    struct mt_error error = {0};
    (void)state;
    setenv("MANTA_PLUGIN_MALFORMED", "size-least", 1);
    assert_int_equal(mt_plugin_load(copy("malformed", "least"), &transport, &error), 0);
    assert_string_equal(transport->name, "least");
    assert_int_equal(transport->size, sizeof *transport);
    assert_null(transport->counters);
    assert_null(transport->fused_query);
    assert_null(transport->fused_memory);
    setenv("MANTA_PLUGIN_MALFORMED", "size-more", 1);
    assert_int_equal(mt_plugin_load(copy("malformed", "more"), &transport, &error), 0);
    assert_string_equal(transport->name, "more");
    expect(copy("malformed", "again"), MANTA_EINVAL, "both call themselves more");
    unsetenv("MANTA_PLUGIN_MALFORMED");
}

static void test_files(void **state)
{
    char path[2 * PATH_BYTES];
    (void)state;
    expect("some/plugin.so", MANTA_EINVAL, "absolute path");
    expect("/no/such/plugin.so", MANTA_ENOTSUP, "there is no plugin at /no/such/plugin.so");
    expect(folder, MANTA_EINVAL, "no regular file");
    expect("/dev/null", MANTA_EINVAL, "no regular file");
    snprintf(path, sizeof path, "%s/text.so", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("not a shared object\n", file);
    fclose(file);
    expect(path, MANTA_EINVAL, "cannot be loaded");
    Dl_info libc;
    assert_int_not_equal(dladdr((void *)(uintptr_t)&qsort, &libc), 0);
    expect(libc.dli_fname, MANTA_EINVAL, "no symbol manta_transport_plugin");
}

/* Who else could have put it there? */
static void test_writers(void **state)
{
    const char *path = copy("reference", "writers");
    char inner[PATH_BYTES + 16], inside[PATH_BYTES + 32];
    (void)state;
    assert_int_equal(chmod(path, 0775), 0);
    expect(path, MANTA_EAUTH, "others may write the plugin");
    assert_int_equal(chmod(path, 0757), 0);
    expect(path, MANTA_EAUTH, "others may write the plugin");
    assert_int_equal(chmod(path, 0755), 0);
    assert_int_equal(chmod(folder, 0770), 0);
    expect(path, MANTA_EAUTH, "others may write the folder");
    assert_int_equal(chmod(folder, 01777), 0); /* sticky is not enough for its own folder */
    expect(path, MANTA_EAUTH, "others may write the folder");
    snprintf(inner, sizeof inner, "%s/inner", folder);
    snprintf(inside, sizeof inside, "%s/inside.so", inner);
    assert_int_equal(mkdir(inner, 0755), 0);
    assert_int_equal(rename(path, inside), 0);
    assert_int_equal(chmod(folder, 0777), 0); /* a folder above it */
    expect(inside, MANTA_EAUTH, "others may write the folder");
    assert_int_equal(chmod(folder, 0700), 0);
    if (geteuid() != 0)
        return;
    assert_int_equal(chown(inside, 12345, 12345), 0);
    expect(inside, MANTA_EAUTH, "belongs to user 12345");
    assert_int_equal(chown(inside, 0, 0), 0);
    assert_int_equal(chown(inner, 12345, 12345), 0);
    expect(inside, MANTA_EAUTH, "belongs to user 12345");
    assert_int_equal(chown(inner, 0, 0), 0);
}

struct load {
    const char *path;
    struct meeting *barrier;
    const struct manta_transport *transport;
    int code;
};

static void *load(void *arg)
{
    struct load *own = arg;
    struct mt_error error;
    meeting_wait(own->barrier);
    own->code = mt_plugin_load(own->path, &own->transport, &error);
    return NULL;
}

/* Once in a process, from however many threads and by whatever names. */
static void test_once(void **state)
{
    struct load loads[THREADS];
    pthread_t threads[THREADS];
    struct meeting barrier;
    char path[PATH_BYTES], other[PATH_BYTES + 16];
    (void)state;
    strcpy(path, copy("reference", "once"));
    snprintf(other, sizeof other, "%s/link.so", folder);
    assert_int_equal(symlink(path, other), 0);
    meeting_begin(&barrier, THREADS);
    for (int i = 0; i < THREADS; i++) {
        loads[i] = (struct load){.path = i % 2 ? path : other, .barrier = &barrier};
        assert_int_equal(pthread_create(&threads[i], NULL, load, &loads[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    meeting_end(&barrier);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(loads[i].code, 0);
        assert_ptr_equal(loads[i].transport, loads[0].transport);
    }
    assert_string_equal(loads[0].transport->name, "reference");
    assert_string_equal(loads[0].transport->version, "1");
}

static void test_lists(void **state)
{
    struct mt_transport_listed listed[4];
    struct mt_error error = {0};
    uint32_t count = 0;
    char names[4 * PATH_BYTES];
    (void)state;
    snprintf(names, sizeof names, "shm,%s/once.so,/no/such.so", folder);
    assert_int_equal(mt_transport_list(names, listed, 4, &count, &error), 0);
    assert_int_equal(count, 3);
    assert_false(listed[0].is_plugin);
    assert_true(listed[1].is_plugin && listed[2].is_plugin);
    assert_string_equal(listed[1].transport->name, "reference");
    assert_null(listed[2].transport);
    assert_non_null(strstr(listed[2].why.sentence, "/no/such.so"));
    snprintf(names, sizeof names, "%s/once.so,%s/link.so", folder, folder);
    assert_int_equal(mt_transport_list(names, listed, 4, &count, &error), MANTA_EINVAL);
    assert_non_null(strstr(error.sentence, "twice"));
    memset(names, 'x', 400);
    names[0] = '/';
    names[400] = '\0';
    assert_int_equal(mt_transport_list(names, listed, 4, &count, &error), MANTA_EINVAL);
    assert_non_null(strstr(error.sentence, "255"));
}

/* What a plugin may read of the environment. */
static void test_config(void **state)
{
    const struct manta_transport_host *host = mt_transport_host();
    (void)state;
    setenv("MANTA_PLUGIN_THIS_ONE", "yes", 1);
    setenv("MANTA_ELSE", "no", 1);
    assert_string_equal(host->config("PLUGIN_THIS_ONE"), "yes");
    assert_null(host->config("PLUGIN_"));
    assert_null(host->config("ELSE"));
    assert_null(host->config("PLUGIN_NOT_SET"));
    unsetenv("MANTA_PLUGIN_THIS_ONE");
    unsetenv("MANTA_ELSE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),  cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_sizes),  cmocka_unit_test(test_writers),
        cmocka_unit_test(test_once),   cmocka_unit_test(test_lists),
        cmocka_unit_test(test_config),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
