/* SPDX-License-Identifier: Apache-2.0 */
/* manta.Request: a posted call. While it is not done, its communicator holds a reference, so the
 * buffers live on even if nobody else holds the request. */
#include "extension.h"

#include <math.h>
#include <stdio.h>

struct mt_python_request *mt_python_request_new(struct mt_python_communicator *self, int collective)
{
    PyObject *object = PyType_GenericAlloc(mt_python_state.request_type, 0);
    struct mt_python_request *request = (struct mt_python_request *)object;
    if (!request)
        return NULL;
    mt_python_call_init(&request->call, collective);
    Py_INCREF((PyObject *)self);
    request->communicator = self;
    return request;
}

void mt_python_request_attach(struct mt_python_request *request)
{
    struct mt_python_communicator *self = request->communicator;
    request->next = self->requests;
    request->link = &self->requests;
    if (request->next)
        request->next->link = &request->next;
    self->requests = request;
    Py_INCREF((PyObject *)request);
}

/* The call is over: keep the result or the error, let go of everything else. */
static void retire(struct mt_python_request *request, PyObject *error)
{
    PyObject *result = request->call.result;
    request->call.result = NULL;
    request->done = 1;
    request->error = error;
    mt_python_call_clear(request->communicator, &request->call);
    request->call.result = error ? NULL : result;
    if (error)
        Py_XDECREF(result);
    *request->link = request->next;
    if (request->next)
        request->next->link = request->link;
    Py_CLEAR(request->communicator);
    Py_DECREF(request);
}

static PyObject *aborted(const char *sentence)
{
    struct manta_error_info info = {.size = sizeof(info), .code = MANTA_EABORTED, .rank = -1};
    snprintf(info.sentence, sizeof(info.sentence), "%s", sentence);
    PyObject *error = mt_python_error_make(&info);
    if (!error) /* no memory: at least the class */
        PyErr_Clear();
    return error ? error : PyObject_CallNoArgs(mt_python_state.error_class);
}

void mt_python_request_abandon(struct mt_python_request *request)
{
    request->call.request = NULL;
    retire(request, aborted("the communicator was closed before this request was done; wait for "
                            "requests before close()"));
}

static int raise_error(struct mt_python_request *request)
{
    PyErr_SetObject((PyObject *)Py_TYPE(request->error), request->error);
    return -1;
}

/* The call ended with the exception that is set. An exception of a signal handler is raised once;
 * later looks at the request say that it was aborted. Returns -1 with the exception. */
static int retire_failed(struct mt_python_request *request)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (PyObject_IsInstance(value, mt_python_state.error_class) > 0) {
        Py_INCREF(value);
        retire(request, value);
    } else {
        retire(request, aborted("a signal handler raised an exception in wait()"));
    }
    PyErr_Restore(type, value, traceback);
    return -1;
}

/* `rc` of a wait or test: 1 done, 0 not yet, -1 with an exception. */
static int settle(struct mt_python_request *request, int rc)
{
    if (rc < 0)
        return retire_failed(request);
    if (rc == 0)
        retire(request, NULL);
    return rc == 0;
}

/* Look, or wait when timeout_ns is not 0. 1 done, 0 not yet, -1 with an exception. */
static int advance(struct mt_python_request *request, uint64_t timeout_ns)
{
    if (request->done)
        return request->error ? raise_error(request) : 1;
    struct mt_python_communicator *self = request->communicator;
    if (mt_python_enter(self) != 0)
        return -1;
    Py_INCREF((PyObject *)self);
    int rc = timeout_ns ? mt_python_call_wait(self, &request->call, timeout_ns)
                        : mt_python_call_test(self, &request->call);
    mt_python_leave(self);
    rc = settle(request, rc);
    Py_DECREF(self);
    return rc;
}

void mt_python_request_reap(struct mt_python_communicator *self)
{
    for (struct mt_python_request *request = self->requests, *next; request; request = next) {
        next = request->next;
        if (Py_REFCNT((PyObject *)request) != 1)
            continue;
        if (settle(request, mt_python_call_test(self, &request->call)) < 0)
            PyErr_Clear(); /* the communicator failed: the call that is about to start says so */
    }
}

/* ---- methods */

PyDoc_STRVAR(test_doc, "test($self)\n--\n\n"
                       "Make progress and tell whether the call is done. Raises the call's error.");

static PyObject *request_test(PyObject *object, PyObject *unused)
{
    (void)unused;
    int rc = advance((struct mt_python_request *)object, 0);
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}

/* Seconds, or None for ever; 0, or -1 with an exception. */
static int parse_timeout(PyObject *object, uint64_t *timeout_ns_out)
{
    *timeout_ns_out = UINT64_MAX;
    if (!object || object == Py_None)
        return 0;
    double seconds = PyFloat_AsDouble(object);
    if (seconds == -1.0 && PyErr_Occurred())
        return -1;
    if (isnan(seconds) || seconds < 0)
        return mt_python_invalid("timeout must be a number of seconds >= 0, or None");
    if (seconds < 1e9)
        *timeout_ns_out = (uint64_t)(seconds * 1e9);
    return 0;
}

PyDoc_STRVAR(
    wait_doc,
    "wait($self, timeout=None)\n--\n\n"
    "Wait until the call is done: True. False when `timeout` seconds (None: no limit but the\n"
    "call's own deadline) ran out before; that harms nothing, and wait() may be called again. "
    "Raises the call's error.");

static PyObject *request_wait(PyObject *object, PyObject *arguments, PyObject *keywords)
{
    static const char *const names[] = {"timeout", NULL};
    PyObject *timeout = NULL;
    uint64_t timeout_ns;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O:wait", (char **)names, &timeout) ||
        parse_timeout(timeout, &timeout_ns) != 0)
        return NULL;
    int rc = advance((struct mt_python_request *)object, timeout_ns);
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}

static PyObject *request_result(PyObject *object, void *unused)
{
    (void)unused;
    struct mt_python_request *request = (struct mt_python_request *)object;
    if (!request->done) {
        mt_python_invalid("the result is there when the request is done; call wait() first");
        return NULL;
    }
    if (request->error) {
        raise_error(request);
        return NULL;
    }
    PyObject *result = request->call.result ? request->call.result : Py_None;
    Py_INCREF(result);
    return result;
}

static PyObject *request_done(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((struct mt_python_request *)object)->done);
}

/* ---- the type */

static int request_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct mt_python_request *request = (struct mt_python_request *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(request->communicator);
    Py_VISIT(request->error);
    Py_VISIT(request->call.result);
    return 0;
}

/* Never cleared while under way: the communicator's finaliser retires its requests first. */
static int request_clear(PyObject *object)
{
    struct mt_python_request *request = (struct mt_python_request *)object;
    Py_CLEAR(request->error);
    if (!request->call.request)
        Py_CLEAR(request->call.result);
    return 0;
}

static void request_dealloc(PyObject *object)
{
    struct mt_python_request *request = (struct mt_python_request *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    request_clear(object);
    mt_python_call_clear(request->communicator, &request->call);
    Py_CLEAR(request->communicator);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyMethodDef request_methods[] = {
    {"test", request_test, METH_NOARGS, test_doc},
    {"wait", (PyCFunction)(void (*)(void))request_wait, METH_VARARGS | METH_KEYWORDS, wait_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef request_properties[] = {
    {"result", request_result, NULL,
     "What the blocking form returns. InvalidArgumentError while the request is not done.", NULL},
    {"done", request_done, NULL, "Was the call seen to be done (by test() or wait())?", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(request_doc, "A posted call: test() it or wait() for it. It keeps its buffers alive.");

static PyType_Slot request_slots[] = {
    {Py_tp_doc, (void *)request_doc},
    {Py_tp_dealloc, request_dealloc},
    {Py_tp_traverse, request_traverse},
    {Py_tp_clear, request_clear},
    {Py_tp_methods, request_methods},
    {Py_tp_getset, request_properties},
    {0, NULL},
};

PyType_Spec mt_python_request_spec = {
    .name = "manta.Request",
    .basicsize = sizeof(struct mt_python_request),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = request_slots,
};
