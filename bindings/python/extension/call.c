/* SPDX-License-Identifier: Apache-2.0 */
/* A call under way: post, wait in slices so that Ctrl-C is noticed, let go of the buffers. */
#include "extension.h"

#include <string.h>

void mt_python_call_init(struct mt_python_call *call, int collective)
{
    memset(call, 0, sizeof(*call));
    call->collective = collective;
}

void mt_python_call_clear(struct mt_python_communicator *self, struct mt_python_call *call)
{
    mt_python_buffer_release(&call->src);
    mt_python_buffer_release(&call->dst);
    if (call->pieces)
        mt_python_pieces_release(self, call);
    Py_CLEAR(call->result);
}

static int post(struct manta_comm *comm, struct mt_python_call *call)
{
    const void *src = call->src_address;
    void *dst = call->dst_address;
    struct manta_request **out = &call->request;
    switch (call->collective) {
    case MANTA_ALLREDUCE:
        return manta_allreduce_post(comm, src, dst, call->count, call->dtype, call->op, out);
    case MANTA_BROADCAST:
        return manta_broadcast_post(comm, dst, call->count, call->dtype, call->root, out);
    case MANTA_REDUCE:
        return manta_reduce_post(comm, src, dst, call->count, call->dtype, call->op, call->root,
                                 out);
    case MANTA_ALLGATHER:
        return manta_allgather_post(comm, src, dst, call->count, call->dtype, out);
    case MANTA_REDUCE_SCATTER:
        mt_python_pieces_pack(call);
        return manta_reduce_scatter_post(comm, src, dst, call->count, call->dtype, call->op, out);
    case MANTA_BARRIER:
        return manta_barrier_post(comm, out);
    case MANTA_SEND:
        return manta_send_post(comm, src, call->count, call->dtype, call->root, out);
    case MANTA_RECV:
        return manta_recv_post(comm, dst, call->count, call->dtype, call->root, out);
    default:
        return MANTA_EINVAL;
    }
}

/* May libmanta still touch the buffers after this result? EBUSY, EFORK and EINVAL of a wait leave
 * the request as it was. */
static int leaves_buffers_unsafe(int result)
{
    return result == MANTA_EBUFFER || result == MANTA_EBUSY || result == MANTA_EFORK ||
           result == MANTA_EINVAL;
}

/* libmanta has given its last word on a posted call. 0, or -1 with an exception. */
static int finish(struct mt_python_communicator *self, struct mt_python_call *call, int result)
{
    call->request = NULL;
    if (result == 0) {
        if (call->collective == MANTA_ALLGATHER && call->staging) {
            Py_BEGIN_ALLOW_THREADS;
            mt_python_pieces_unpack(call);
            Py_END_ALLOW_THREADS;
        }
        return 0;
    }
    if (!PyErr_Occurred())
        mt_python_raise(result, self->comm);
    if (leaves_buffers_unsafe(result))
        mt_python_keep_unsafe(self, call);
    return -1;
}

/* A signal handler raised, as Ctrl-C does: give up on the communicator, so that the buffers are
 * the caller's again when the exception reaches him. */
static int interrupt(struct mt_python_communicator *self, struct mt_python_call *call)
{
    int rc;
    Py_BEGIN_ALLOW_THREADS;
    manta_comm_abort(self->comm, "a signal handler of this rank raised an exception in a call");
    rc = manta_wait(call->request, UINT64_MAX);
    Py_END_ALLOW_THREADS;
    finish(self, call, rc);
    return -1;
}

/* What remains to be done when `rc` came back from a wait. */
static int settle(struct mt_python_communicator *self, struct mt_python_call *call, int rc)
{
    if (rc != MANTA_INPROGRESS)
        return finish(self, call, rc);
    if (PyErr_CheckSignals() != 0)
        return interrupt(self, call);
    return MANTA_INPROGRESS;
}

int mt_python_call_test(struct mt_python_communicator *self, struct mt_python_call *call)
{
    int rc;
    Py_BEGIN_ALLOW_THREADS;
    rc = manta_test(call->request);
    Py_END_ALLOW_THREADS;
    return rc == MANTA_INPROGRESS ? rc : finish(self, call, rc);
}

int mt_python_call_wait(struct mt_python_communicator *self, struct mt_python_call *call,
                        uint64_t timeout_ns)
{
    for (;;) {
        uint64_t slice_ns = timeout_ns < MT_PYTHON_SLICE_NS ? timeout_ns : MT_PYTHON_SLICE_NS;
        int rc;
        Py_BEGIN_ALLOW_THREADS;
        rc = manta_wait(call->request, slice_ns);
        Py_END_ALLOW_THREADS;
        rc = settle(self, call, rc);
        if (timeout_ns != UINT64_MAX)
            timeout_ns -= slice_ns;
        if (rc != MANTA_INPROGRESS || timeout_ns == 0)
            return rc;
    }
}

int mt_python_call_start(struct mt_python_communicator *self, struct mt_python_call *call)
{
    int rc;
    Py_BEGIN_ALLOW_THREADS;
    rc = post(self->comm, call);
    Py_END_ALLOW_THREADS;
    if (rc != 0)
        mt_python_raise(rc, self->comm);
    return rc == 0 ? 0 : -1;
}

/* Post and the first slice of waiting under one release of the GIL: small calls end here. */
static int start_and_wait(struct mt_python_communicator *self, struct mt_python_call *call)
{
    int rc, waited;
    Py_BEGIN_ALLOW_THREADS;
    rc = post(self->comm, call);
    waited = rc == 0 ? manta_wait(call->request, MT_PYTHON_SLICE_NS) : 0;
    Py_END_ALLOW_THREADS;
    if (rc != 0) {
        mt_python_raise(rc, self->comm);
        return -1;
    }
    waited = settle(self, call, waited);
    return waited == MANTA_INPROGRESS ? mt_python_call_wait(self, call, UINT64_MAX) : waited;
}

PyObject *mt_python_call_block(struct mt_python_communicator *self, struct mt_python_call *call)
{
    PyObject *result = NULL;
    if (mt_python_enter(self) == 0) {
        if (start_and_wait(self, call) == 0) {
            result = call->result;
            call->result = NULL;
        }
        mt_python_leave(self);
    }
    mt_python_call_clear(self, call);
    return result;
}
