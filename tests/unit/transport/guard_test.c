/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever a plugin answers, what comes through the guard is what the host can work with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "transport/guard.h"
#include "transport/registry.h"

enum { RANKS = 4, WRONG = 7 };

/* What the plugin of this test answers next. */
static struct {
    int code, status;
    void *handle, *registration;
    size_t bytes;
    uint64_t message_bytes_max;
    int fd;
    uint32_t peer;
    int is_endless; /* texts have no end */
    const void *group;
    const struct manta_transport *transport;
} say;

static void write_text(char *text, size_t bytes)
{
    if (say.is_endless)
        memset(text, 'x', bytes);
}

static int open_op(const struct manta_transport_open *params, void **endpoint_out,
                   struct manta_transport_error *error)
{
    say.group = params->group;
    say.transport = params->transport;
    *endpoint_out = say.handle;
    error->code = say.code;
    error->peer = say.peer;
    write_text(error->sentence, sizeof error->sentence);
    return say.code;
}

static int address(void *endpoint, void *blob, size_t blob_bytes, size_t *bytes_out)
{
    (void)endpoint;
    (void)blob;
    (void)blob_bytes;
    *bytes_out = say.bytes;
    return say.code;
}

static int peers(void *endpoint, const void *const *addresses, const size_t *address_bytes)
{
    (void)endpoint;
    (void)addresses;
    (void)address_bytes;
    return say.code;
}

static int probe(void *endpoint, uint32_t peer, struct manta_transport_properties *properties)
{
    (void)endpoint;
    (void)peer;
    properties->size = 1 << 20;
    properties->message_bytes_max = say.message_bytes_max;
    write_text(properties->interface, sizeof properties->interface);
    write_text(properties->reason, sizeof properties->reason);
    return say.code;
}

static int connect_op(void *endpoint, uint32_t peer, uint64_t deadline_ns)
{
    (void)endpoint;
    (void)peer;
    (void)deadline_ns;
    return say.code;
}

static int mem_register(void *endpoint, const struct manta_transport_buffer *buffer, int dmabuf_fd,
                        uint64_t dmabuf_offset, void **registration_out)
{
    (void)endpoint;
    (void)buffer;
    (void)dmabuf_fd;
    (void)dmabuf_offset;
    *registration_out = say.registration;
    return say.code;
}

static int mem_deregister(void *endpoint, void *registration)
{
    (void)endpoint;
    (void)registration;
    return say.code;
}

static int mem_export(void *endpoint, void *registration, void *blob, size_t blob_bytes,
                      size_t *bytes_out)
{
    (void)registration;
    return address(endpoint, blob, blob_bytes, bytes_out);
}

static int mem_import(void *endpoint, uint32_t peer, const void *blob, size_t bytes,
                      void **remote_out)
{
    (void)endpoint;
    (void)peer;
    (void)blob;
    (void)bytes;
    *remote_out = say.registration;
    return say.code;
}

static int post(void *endpoint, const struct manta_transport_message *message,
                struct manta_transport_request *request)
{
    (void)endpoint;
    (void)message;
    request->status = say.status;
    return say.code;
}

static int look(void *endpoint)
{
    (void)endpoint;
    return say.code;
}

static int peer_status(void *endpoint, uint32_t peer)
{
    (void)endpoint;
    (void)peer;
    return say.code;
}

static int wait_fd(void *endpoint)
{
    (void)endpoint;
    return say.fd;
}

static void error_op(void *endpoint, struct manta_transport_error *error_out)
{
    (void)endpoint;
    error_out->code = say.code;
    error_out->peer = say.peer;
    write_text(error_out->sentence, sizeof error_out->sentence);
}

static int abort_op(void *endpoint, int code)
{
    (void)endpoint;
    (void)code;
    return say.code;
}

static void close_op(void *endpoint)
{
    (void)endpoint;
}

static const struct manta_transport plugin = {
    .size = sizeof plugin,
    .abi = MANTA_TRANSPORT_ABI,
    .name = "plugin",
    .version = "3",
    .open = open_op,
    .address = address,
    .peers = peers,
    .probe = probe,
    .connect = connect_op,
    .mem_register = mem_register,
    .mem_deregister = mem_deregister,
    .mem_export = mem_export,
    .mem_import = mem_import,
    .send = post,
    .recv = post,
    .progress = look,
    .wait_fd = wait_fd,
    .arm = look,
    .peer_status = peer_status,
    .error = error_op,
    .abort = abort_op,
    .drain = look,
    .close = close_op,
};

static struct mt_guard guard;

static void be_right(void)
{
    memset(&say, 0, sizeof say);
    say.handle = say.registration = &say;
    say.bytes = 8;
    say.message_bytes_max = UINT64_MAX;
    say.peer = MANTA_PLAN_NONE;
}

static int open_guarded(void **endpoint_out, struct manta_transport_error *error)
{
    static const char group[] = "a group";
    const struct manta_transport_open params = {.size = sizeof params,
                                                .host = mt_transport_host(),
                                                .transport = &guard.table,
                                                .ranks = RANKS,
                                                .group = group};
    *error = (struct manta_transport_error){.size = sizeof *error};
    return guard.table.open(&params, endpoint_out, error);
}

/* An endpoint of a plugin that has done nothing wrong yet. */
static void *endpoint(void)
{
    struct manta_transport_error error;
    void *opened = NULL;
    be_right();
    assert_int_equal(open_guarded(&opened, &error), 0);
    return opened;
}

static int make_guard(void **state)
{
    (void)state;
    mt_guard_init(&guard, &plugin, 0);
    return 0;
}

static void test_table(void **state)
{
    (void)state;
    assert_string_equal(guard.table.name, "plugin");
    assert_string_equal(guard.table.version, "3");
    assert_null(guard.table.query);
    assert_null(guard.table.put_signal);
    assert_null(guard.table.disarm);
    assert_null(guard.table.counters);
    assert_null(guard.table.fused_query);
    assert_non_null(guard.table.mem_export);
}

static void test_open(void **state)
{
    struct manta_transport_error error;
    void *opened = NULL;
    (void)state;
    be_right();
    assert_int_equal(open_guarded(&opened, &error), 0);
    assert_null(say.group); /* which is none of a plugin's business */
    assert_ptr_equal(say.transport, &plugin);
    guard.table.close(opened);
    say.handle = NULL;
    assert_int_equal(open_guarded(&opened, &error), MANTA_ETRANSPORT);
    assert_null(opened);
    assert_non_null(strstr(error.sentence, "open"));
    be_right();
    say.code = WRONG;
    assert_int_equal(open_guarded(&opened, &error), MANTA_ETRANSPORT);
    say.code = MANTA_ENOTSUP;
    assert_int_equal(open_guarded(&opened, &error), MANTA_ENOTSUP);
    assert_non_null(strstr(error.sentence, "does not say why"));
    say.is_endless = 1;
    say.peer = RANKS;
    assert_int_equal(open_guarded(&opened, &error), MANTA_ENOTSUP);
    assert_int_equal(strlen(error.sentence), sizeof error.sentence - 1);
    assert_int_equal(error.peer, MANTA_PLAN_NONE);
}

/* Sets what is wrong and asks one op of a fresh endpoint: the answer must be expected, and an error
 * that the guard has found must have a sentence with this word. */
#define ASK(expected, word, wrong, call)                                                           \
    do {                                                                                           \
        void *e = endpoint();                                                                      \
        struct manta_transport_error why = {.size = sizeof why};                                   \
        wrong;                                                                                     \
        int got = (call);                                                                          \
        if (got != (expected))                                                                     \
            fail_msg(#call ": %d", got);                                                           \
        say.code = 0;                                                                              \
        guard.table.error(e, &why);                                                                \
        if (got == MANTA_ETRANSPORT && strstr(why.sentence, word) == NULL)                         \
            fail_msg(#call ": %s", why.sentence);                                                  \
        guard.table.close(e);                                                                      \
    } while (0)

static void test_codes(void **state)
{
    const struct manta_transport *table = &guard.table;
    struct manta_transport_properties properties = {.size = sizeof properties};
    char blob[64];
    size_t bytes;
    static const int wrong[] = {WRONG, 2, -21, -1000, INT32_MIN};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int w = wrong[i];
        ASK(MANTA_ETRANSPORT, "address", say.code = w, table->address(e, blob, 64, &bytes));
        ASK(MANTA_ETRANSPORT, "peers", say.code = w, table->peers(e, NULL, NULL));
        ASK(MANTA_ETRANSPORT, "probe", say.code = w, table->probe(e, 1, &properties));
        ASK(MANTA_ETRANSPORT, "connect", say.code = w, table->connect(e, 1, 0));
        ASK(MANTA_ETRANSPORT, "progress", say.code = w, table->progress(e));
        ASK(MANTA_ETRANSPORT, "peer_status", say.code = w, table->peer_status(e, 1));
        ASK(MANTA_ETRANSPORT, "drain", say.code = w, table->drain(e));
        ASK(MANTA_EBUFFER, "", say.code = w, table->abort(e, MANTA_EPEER));
        ASK(1, "", say.code = w, table->arm(e));
    }
    ASK(MANTA_ETRANSPORT, "peers", say.code = 1, table->peers(e, NULL, NULL));
    ASK(MANTA_INPROGRESS, "", say.code = 1, table->connect(e, 1, 0));
    ASK(MANTA_EPEER, "", say.code = MANTA_EPEER, table->connect(e, 1, 0));
    ASK(1, "", say.code = 1, table->progress(e));
    ASK(MANTA_EINTERNAL, "", say.code = MANTA_EINTERNAL, table->progress(e));
}

static void test_posts(void **state)
{
    const struct manta_transport *table = &guard.table;
    struct manta_transport_request request;
    const struct manta_transport_message message = {.peer = 1};
    (void)state;
    ASK(MANTA_ETRANSPORT, "send", say.code = WRONG, table->send(e, &message, &request));
    ASK(MANTA_ETRANSPORT, "send", say.code = 1, table->send(e, &message, &request));
    ASK(MANTA_ETRANSPORT, "recv", say.code = -77, table->recv(e, &message, &request));
    ASK(MANTA_ETRANSPORT, "status 7", say.status = WRONG, table->send(e, &message, &request));
    ASK(MANTA_ETRANSPORT, "status -77", say.status = -77, table->recv(e, &message, &request));
    ASK(MANTA_ETRANSPORT, "status -14", say.status = MANTA_EAGAIN,
        table->recv(e, &message, &request));
    ASK(MANTA_EAGAIN, "", say.code = MANTA_EAGAIN;
        say.status = WRONG, table->send(e, &message, &request));
    ASK(0, "", say.status = MANTA_INPROGRESS, table->send(e, &message, &request));
    ASK(0, "", say.status = MANTA_EMISMATCH, table->recv(e, &message, &request));
    assert_int_equal(mt_guard_status(MANTA_EMISMATCH), MANTA_EMISMATCH);
    assert_int_equal(mt_guard_status(WRONG), MANTA_ETRANSPORT);
    assert_int_equal(mt_guard_status(MANTA_EAGAIN), MANTA_ETRANSPORT);
    assert_int_equal(mt_guard_status(-21), MANTA_ETRANSPORT);
}

static void test_sizes(void **state)
{
    const struct manta_transport *table = &guard.table;
    struct manta_transport_properties properties = {.size = sizeof properties};
    char blob[64];
    size_t bytes;
    void *out;
    (void)state;
    ASK(MANTA_ETRANSPORT, "size 65", say.bytes = 65, table->address(e, blob, 64, &bytes));
    ASK(MANTA_ETRANSPORT, "size 0", say.bytes = 0, table->address(e, blob, 64, &bytes));
    assert_int_equal(bytes, 0);
    ASK(MANTA_ETRANSPORT, "mem_export", say.bytes = 65,
        table->mem_export(e, &out, blob, 64, &bytes));
    ASK(MANTA_ETRANSPORT, "mem_register", say.registration = NULL,
        table->mem_register(e, NULL, -1, 0, &out));
    ASK(MANTA_ETRANSPORT, "mem_import", say.registration = NULL,
        table->mem_import(e, 1, blob, 8, &out));
    ASK(MANTA_ETRANSPORT, "message_bytes_max", say.message_bytes_max = 1 << 20,
        table->probe(e, 1, &properties));
    ASK(0, "", say.is_endless = 1, table->probe(e, 1, &properties));
    assert_int_equal(strlen(properties.interface), sizeof properties.interface - 1);
    assert_int_equal(strlen(properties.reason), sizeof properties.reason - 1);
    assert_int_equal(properties.size, sizeof properties);
}

static void test_errors(void **state)
{
    struct manta_transport_error error = {.size = sizeof error};
    (void)state;
    void *e = endpoint();
    guard.table.error(e, &error);
    assert_int_equal(error.code, 0);
    assert_string_equal(error.sentence, "");
    say.code = WRONG;
    say.peer = RANKS;
    guard.table.error(e, &error);
    assert_int_equal(error.code, MANTA_ETRANSPORT);
    assert_int_equal(error.peer, MANTA_PLAN_NONE);
    assert_string_equal(error.sentence, "it does not say why");
    say.is_endless = 1;
    say.code = MANTA_EPEER;
    say.peer = RANKS - 1;
    guard.table.error(e, &error);
    assert_int_equal(error.peer, RANKS - 1);
    assert_int_equal(strlen(error.sentence), sizeof error.sentence - 1);
    struct manta_transport_error old; /* of an older host */
    memset(&old, 0x5a, sizeof old);
    old.size = offsetof(struct manta_transport_error, peer);
    guard.table.error(e, &old);
    assert_int_equal(old.code, MANTA_EPEER);
    assert_int_equal(old.peer, 0x5a5a5a5a);
    guard.table.close(e);
}

/* Asked once, and only a descriptor is one. */
static void test_wait_fd(void **state)
{
    (void)state;
    void *e = endpoint();
    say.fd = 1 << 20;
    assert_int_equal(guard.table.wait_fd(e), -1);
    say.fd = 0;
    assert_int_equal(guard.table.wait_fd(e), -1);
    guard.table.close(e);
    e = endpoint();
    say.fd = 1;
    assert_int_equal(guard.table.wait_fd(e), 1);
    say.fd = 0;
    assert_int_equal(guard.table.wait_fd(e), 1);
    guard.table.close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),   cmocka_unit_test(test_open),  cmocka_unit_test(test_codes),
        cmocka_unit_test(test_posts),   cmocka_unit_test(test_sizes), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_wait_fd),
    };
    return cmocka_run_group_tests(tests, make_guard, NULL);
}
