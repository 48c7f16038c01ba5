/* SPDX-License-Identifier: Apache-2.0 */
/* manta.Communicator: creation, properties and everything but the collectives. */
#include "extension.h"

#include <math.h>
#include <string.h>

int mt_python_enter(struct mt_python_communicator *self)
{
    if (!self->comm)
        return mt_python_invalid("the communicator is closed");
    if (self->busy) {
        mt_python_raise(MANTA_EBUSY, self->comm);
        return -1;
    }
    self->busy = 1;
    return 0;
}

void mt_python_leave(struct mt_python_communicator *self)
{
    self->busy = 0;
}

int mt_python_is_open(struct mt_python_communicator *self)
{
    if (!self->comm)
        mt_python_invalid("the communicator is closed");
    return self->comm != NULL;
}

static void link_open(struct mt_python_communicator *self)
{
    self->next = mt_python_state.open;
    self->link = &mt_python_state.open;
    if (self->next)
        self->next->link = &self->next;
    mt_python_state.open = self;
}

static void unlink_open(struct mt_python_communicator *self)
{
    *self->link = self->next;
    if (self->next)
        self->next->link = self->link;
}

static void adopt(struct mt_python_communicator *self, struct manta_comm *comm)
{
    self->comm = comm;
    self->rank = manta_comm_rank(comm);
    self->size = manta_comm_size(comm);
    link_open(self);
}

PyObject *mt_python_communicator_new(struct manta_comm *comm)
{
    PyObject *object = PyType_GenericAlloc(mt_python_state.communicator_type, 0);
    if (object)
        adopt((struct mt_python_communicator *)object, comm);
    else
        manta_comm_destroy(comm);
    return object;
}

void mt_python_keep_unsafe(struct mt_python_communicator *self, struct mt_python_call *call)
{
    size_t bytes = (size_t)(self->unsafe_count + 1) * sizeof(*call);
    struct mt_python_call *grown = PyMem_Realloc(self->unsafe, bytes);
    if (grown) {
        self->unsafe = grown;
        self->unsafe[self->unsafe_count++] = *call;
    }
    /* Without memory for the list the buffers are leaked, which is as safe. */
    mt_python_call_init(call, call->collective);
}

/* ---- creation */

static int rank_argument(PyObject *object, const char *name, int *value_out)
{
    if (object == Py_None)
        return 0;
    *value_out = mt_python_int_parse(object, name);
    return *value_out < 0 ? -1 : 0;
}

static int timeout_argument(PyObject *object, uint64_t *timeout_ns_out)
{
    if (object == Py_None)
        return 0;
    double seconds = PyFloat_AsDouble(object);
    if (seconds == -1.0 && PyErr_Occurred())
        return -1;
    if (!(seconds > 0) || seconds > 1e9)
        return mt_python_invalid("timeout must be a number of seconds above 0, or None");
    *timeout_ns_out = (uint64_t)(seconds * 1e9);
    return *timeout_ns_out ? 0 : (*timeout_ns_out = 1, 0);
}

/* transports may be "shm,tcp" or ["shm", "tcp"]. A new reference, or NULL with an exception. */
static PyObject *transports_argument(PyObject *object)
{
    if (object == Py_None || PyUnicode_Check(object)) {
        Py_INCREF(object);
        return object;
    }
    PyObject *comma = PyUnicode_FromString(",");
    PyObject *joined = comma ? PyUnicode_Join(comma, object) : NULL;
    Py_XDECREF(comma);
    return joined;
}

static int text_of(PyObject *object, const char *name, const char **text_out)
{
    if (object == Py_None)
        return 0;
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be a string or None", name);
        return -1;
    }
    *text_out = PyUnicode_AsUTF8AndSize(object, NULL);
    return *text_out ? 0 : -1;
}

static int communicator_init(PyObject *object, PyObject *arguments, PyObject *keywords)
{
    static const char *const names[] = {"rank",       "size", "session", "timeout",
                                        "transports", "node", NULL};
    struct mt_python_communicator *self = (struct mt_python_communicator *)object;
    struct manta_config config = MANTA_CONFIG_INIT;
    PyObject *rank = Py_None, *size = Py_None, *session = Py_None;
    PyObject *timeout = Py_None, *transports = Py_None, *node = Py_None;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|OOOOOO:Communicator", (char **)names,
                                     &rank, &size, &session, &timeout, &transports, &node))
        return -1;
    if (self->comm || self->size)
        return mt_python_invalid("a communicator is created once; make a new object");
    PyObject *list = transports_argument(transports);
    struct manta_comm *comm = NULL;
    int rc = -1;
    if (list && rank_argument(rank, "rank", &config.rank) == 0 &&
        rank_argument(size, "size", &config.ranks) == 0 &&
        timeout_argument(timeout, &config.timeout_ns) == 0 &&
        text_of(session, "session", &config.session) == 0 &&
        text_of(list, "transports", &config.transports) == 0 &&
        text_of(node, "node", &config.node) == 0)
        rc = mt_python_join_create(&config, &comm);
    Py_XDECREF(list);
    if (rc == 0)
        adopt(self, comm);
    return rc;
}

PyDoc_STRVAR(split_doc,
             "split($self, colour, key=0)\n--\n\n"
             "Divide the communicator: ranks of equal colour (an integer from 0) form a new one,\n"
             "ordered by key (any integer), then by rank. All ranks call it. colour None: be in\n"
             "none, and get None. Raises what Communicator() raises.");

static PyObject *communicator_split(PyObject *object, PyObject *arguments, PyObject *keywords)
{
    static const char *const names[] = {"colour", "key", NULL};
    struct mt_python_communicator *self = (struct mt_python_communicator *)object;
    PyObject *colour_object;
    int colour = -1, key = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O|i:split", (char **)names,
                                     &colour_object, &key))
        return NULL;
    if (colour_object != Py_None) {
        colour = mt_python_int_parse(colour_object, "colour (None: in no part)");
        if (colour < 0)
            return NULL;
    }
    struct manta_comm *comm;
    if (mt_python_enter(self) != 0)
        return NULL;
    int rc = mt_python_join_split(self->comm, colour, key, &comm);
    mt_python_leave(self);
    if (rc != 0)
        return NULL;
    if (comm)
        return mt_python_communicator_new(comm);
    Py_RETURN_NONE;
}

/* ---- the end */

static void drop_spare(struct mt_python_communicator *self)
{
    PyMem_Free(self->spare);
    self->spare = NULL;
    self->spare_bytes = 0;
}

static void release_unsafe(struct mt_python_communicator *self)
{
    for (Py_ssize_t i = 0; i < self->unsafe_count; i++)
        mt_python_call_clear(self, &self->unsafe[i]);
    PyMem_Free(self->unsafe);
    self->unsafe = NULL;
    self->unsafe_count = 0;
}

/* 0, or -1 with an exception. Works on an object that is being deallocated, too: from here on no
 * other thread can find it. */
static int close_communicator(struct mt_python_communicator *self)
{
    if (!self->comm)
        return 0;
    if (mt_python_enter(self) != 0)
        return -1;
    struct manta_comm *comm = self->comm;
    self->comm = NULL; /* abort() of another thread must not reach it any more */
    unlink_open(self);
    int rc;
    Py_BEGIN_ALLOW_THREADS;
    rc = manta_comm_destroy(comm);
    Py_END_ALLOW_THREADS;
    mt_python_leave(self);
    if (rc == MANTA_EBUSY) {
        self->comm = comm;
        link_open(self);
        mt_python_raise(rc, comm);
        return -1;
    }
    while (self->requests)
        mt_python_request_abandon(self->requests);
    release_unsafe(self);
    drop_spare(self);
    return 0;
}

PyDoc_STRVAR(close_doc,
             "close($self)\n--\n\n"
             "Leave the communicator, after the last call on all ranks. Requests that\n"
             "are not done are aborted. Again does nothing; leaving a with block closes.");

static PyObject *communicator_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    if (close_communicator((struct mt_python_communicator *)object) != 0)
        return NULL;
    Py_RETURN_NONE;
}

/* Registered with atexit: the other ranks get a goodbye rather than a closed socket. */
PyObject *mt_python_close_all(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    struct mt_python_communicator *self = mt_python_state.open;
    while (self) {
        Py_INCREF((PyObject *)self);
        int closed = close_communicator(self) == 0;
        if (!closed)
            PyErr_Clear(); /* a thread is still in a call: the process ends under it */
        struct mt_python_communicator *next = closed ? mt_python_state.open : self->next;
        Py_DECREF((PyObject *)self);
        self = next;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(abort_doc,
             "abort($self, reason=None)\n--\n\n"
             "Give up: the calls of all ranks on this communicator, and on those split from it,\n"
             "raise AbortedError within a second, with the reason in its sentence. Any thread may\n"
             "call it at any time.");

static PyObject *communicator_abort(PyObject *object, PyObject *arguments, PyObject *keywords)
{
    static const char *const names[] = {"reason", NULL};
    struct mt_python_communicator *self = (struct mt_python_communicator *)object;
    const char *reason = NULL;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|z:abort", (char **)names, &reason) ||
        !mt_python_is_open(self))
        return NULL;
    int rc = manta_comm_abort(self->comm, reason);
    if (rc != 0) {
        mt_python_raise(rc, self->comm);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *communicator_enter(PyObject *object, PyObject *unused)
{
    (void)unused;
    if (!mt_python_is_open((struct mt_python_communicator *)object))
        return NULL;
    Py_INCREF(object);
    return object;
}

static PyObject *communicator_exit(PyObject *object, PyObject *arguments)
{
    (void)arguments;
    return communicator_close(object, NULL);
}

/* ---- the type */

static int communicator_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct mt_python_communicator *self = (struct mt_python_communicator *)object;
    Py_VISIT(Py_TYPE(object));
    for (struct mt_python_request *request = self->requests; request; request = request->next)
        Py_VISIT(request);
    return 0;
}

/* Also breaks the cycle of a communicator and its requests. */
static void communicator_finalize(PyObject *object)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (close_communicator((struct mt_python_communicator *)object) != 0)
        PyErr_WriteUnraisable(object);
    PyErr_Restore(type, value, traceback);
}

static void communicator_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    communicator_finalize(object);
    drop_spare((struct mt_python_communicator *)object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

/* The methods of collectives.c and describe.c are appended when the module is made. */
enum { OWN_METHODS = 5 };
static PyMethodDef communicator_methods[OWN_METHODS + MT_PYTHON_COLLECTIVE_METHODS +
                                        MT_PYTHON_DESCRIBE_METHODS + 1] = {
    {"split", (PyCFunction)(void (*)(void))communicator_split, METH_VARARGS | METH_KEYWORDS,
     split_doc},
    {"abort", (PyCFunction)(void (*)(void))communicator_abort, METH_VARARGS | METH_KEYWORDS,
     abort_doc},
    {"close", communicator_close, METH_NOARGS, close_doc},
    {"__enter__", communicator_enter, METH_NOARGS, NULL},
    {"__exit__", communicator_exit, METH_VARARGS, NULL},
};

void mt_python_communicator_prepare(void)
{
    memcpy(&communicator_methods[OWN_METHODS], mt_python_collective_methods,
           sizeof(mt_python_collective_methods));
    memcpy(&communicator_methods[OWN_METHODS + MT_PYTHON_COLLECTIVE_METHODS],
           mt_python_describe_methods, sizeof(mt_python_describe_methods));
}

PyDoc_STRVAR(
    communicator_doc,
    "Communicator(rank=None, size=None, session=None, timeout=None, transports=None,\n"
    "             node=None)\n--\n\n"
    "Join a communicator; returns when all ranks have joined.\n\n"
    "rank, size, session: who this is (0 to size - 1), how many there are, and what\n"
    "manta.create_session() returned on rank 0; None: MANTA_RANK, MANTA_SIZE, MANTA_SESSION,\n"
    "which mantarun sets. timeout: seconds that joining, and each call, may take, above 0;\n"
    "None: MANTA_TIMEOUT (600). transports: 'shm,tcp' or a list, best first; None:\n"
    "MANTA_TRANSPORTS. node: name of this node, the same for ranks that share its memory;\n"
    "None: MANTA_NODE, or what the kernel tells.\n"
    "Ctrl-C ends the wait; then it may be tried again with the same session.\n\n"
    "Arrays are NumPy arrays, torch CPU tensors or anything with the buffer protocol,\n"
    "C-contiguous, of one of manta.DTYPES; root and peer are ranks. op: 'sum', 'prod', 'min',\n"
    "'max', 'avg', 'band', 'bor', 'bxor', or manta.SUM and so on. All ranks make the same calls\n"
    "in the same order. One thread at a time; another gets BusyError.\n\n"
    "Errors are of subclasses of manta.MantaError and say what to do: SchedulerError (rank, size\n"
    "or session is not told), InvalidArgumentError (a ValueError, too), DeadlineError (a\n"
    "TimeoutError, too; it names who was late), PeerDiedError (a ConnectionError, too),\n"
    "MismatchError (ranks called different things), and others. When a call has failed by a\n"
    "deadline, a rank or a transport, all that follow do: close the communicator, make another.");

static PyType_Slot communicator_slots[] = {
    {Py_tp_doc, (void *)communicator_doc},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, communicator_init},
    {Py_tp_dealloc, communicator_dealloc},
    {Py_tp_finalize, communicator_finalize},
    {Py_tp_traverse, communicator_traverse},
    {Py_tp_repr, mt_python_communicator_repr},
    {Py_tp_methods, communicator_methods},
    {Py_tp_getset, mt_python_communicator_properties},
    {0, NULL},
};

PyType_Spec mt_python_communicator_spec = {
    .name = "manta.Communicator",
    .basicsize = sizeof(struct mt_python_communicator),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = communicator_slots,
};
