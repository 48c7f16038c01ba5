/* SPDX-License-Identifier: Apache-2.0 */
/* manta.Communicator: what it tells of itself. */
#include "extension.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const collective_names[MANTA_COLLECTIVE_COUNT] = {
    "allreduce", "broadcast", "reduce", "allgather", "reduce_scatter", "barrier", "send", "recv"};

static PyObject *counters(const uint64_t *values)
{
    PyObject *dict = PyDict_New();
    for (int i = 0; dict && i < MANTA_COLLECTIVE_COUNT; i++) {
        PyObject *value = PyLong_FromUnsignedLongLong(values[i]);
        if (!value || PyDict_SetItemString(dict, collective_names[i], value) != 0)
            Py_CLEAR(dict);
        Py_XDECREF(value);
    }
    return dict;
}

PyDoc_STRVAR(
    stats_doc,
    "stats($self)\n--\n\n"
    "The counters of this rank: a dict of calls and bytes (dicts by collective),\n"
    "sent_bytes, received_bytes, copied_bytes, registrations, plans_compiled. They only grow.");

static PyObject *stats(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct mt_python_communicator *self = (struct mt_python_communicator *)object;
    struct manta_stats stats = {.size = sizeof(stats)};
    if (!mt_python_is_open(self))
        return NULL;
    int rc = manta_comm_stats(self->comm, &stats);
    if (rc != 0) {
        mt_python_raise(rc, self->comm);
        return NULL;
    }
    return Py_BuildValue("{s:N,s:N,s:K,s:K,s:K,s:K,s:K}", "calls", counters(stats.calls), "bytes",
                         counters(stats.bytes), "sent_bytes", (unsigned long long)stats.sent_bytes,
                         "received_bytes", (unsigned long long)stats.received_bytes, "copied_bytes",
                         (unsigned long long)stats.copied_bytes, "registrations",
                         (unsigned long long)stats.registrations, "plans_compiled",
                         (unsigned long long)stats.plans_compiled);
}

static int collective_argument(const char *name)
{
    for (int i = 0; i < MANTA_COLLECTIVE_COUNT; i++)
        if (strcmp(name, collective_names[i]) == 0)
            return i;
    return mt_python_invalid("there is no collective '%s'; the method names of Communicator are "
                             "meant",
                             name);
}

PyDoc_STRVAR(explain_doc,
             "explain($self, collective, count, dtype='float32', op='sum', root=0)\n--\n\n"
             "Tell in words how a call would run: algorithm, transports, predicted time, and the\n"
             "runners-up. collective: 'allreduce' and so on. count: elements, not bytes, of the\n"
             "vector; of one rank's part for allgather and reduce_scatter. Waits for no rank.");

static PyObject *explain(PyObject *object, PyObject *arguments, PyObject *keywords)
{
    static const char *const names[] = {"collective", "count", "dtype", "op", "root", NULL};
    enum { TEXT_BYTES = 64 << 10 };
    struct mt_python_communicator *self = (struct mt_python_communicator *)object;
    const char *collective_name;
    unsigned long long count;
    PyObject *dtype_object = NULL, *op_object = NULL;
    int root = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "sK|OOi:explain", (char **)names,
                                     &collective_name, &count, &dtype_object, &op_object, &root))
        return NULL;
    int collective = collective_argument(collective_name);
    int dtype = dtype_object ? mt_python_dtype_parse(dtype_object) : MANTA_FLOAT32;
    int op = collective < 0 || dtype < 0 ? -1 : mt_python_op_parse(op_object);
    if (op < 0 || mt_python_enter(self) != 0)
        return NULL;
    PyObject *answer = NULL;
    char *text = PyMem_Malloc(TEXT_BYTES);
    int rc = text ? manta_explain(self->comm, collective, count, dtype, op, root, text, TEXT_BYTES)
                  : MANTA_ENOMEM;
    if (rc == 0)
        answer = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
    else
        mt_python_raise(rc, self->comm);
    PyMem_Free(text);
    mt_python_leave(self);
    return answer;
}

PyDoc_STRVAR(dump_doc, "dump($self, path=None)\n--\n\n"
                       "Write the last 1,024 calls of this rank as JSON (the flight recorder) to\n"
                       "the file path; None: into the folder MANTA_TRACE_DIR, or the current one.\n"
                       "Raises SystemCallError when that cannot be written.");

/* The communicator is as it was, so the detail is not on it. */
static void raise_dump(int code, int system_errno, const char *path)
{
    struct manta_error_info info = {
        .size = sizeof(info), .code = code, .rank = -1, .system_errno = system_errno};
    if (code == MANTA_ESYSTEM)
        snprintf(info.sentence, sizeof(info.sentence), "cannot write %.300s: %s",
                 path ? path : "to MANTA_TRACE_DIR or the current folder", strerror(system_errno));
    mt_python_raise_info(&info);
}

static PyObject *dump(PyObject *object, PyObject *arguments, PyObject *keywords)
{
    static const char *const names[] = {"path", NULL};
    struct mt_python_communicator *self = (struct mt_python_communicator *)object;
    PyObject *path_object = Py_None, *encoded = NULL;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O:dump", (char **)names,
                                     &path_object) ||
        (path_object != Py_None && !PyUnicode_FSConverter(path_object, &encoded)))
        return NULL;
    const char *path = encoded ? PyBytes_AsString(encoded) : NULL;
    int rc = -1;
    if (mt_python_is_open(self)) {
        rc = manta_comm_dump(self->comm, path);
        if (rc != 0)
            raise_dump(rc, errno, path);
    }
    Py_XDECREF(encoded);
    if (rc != 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *get_rank(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromLong(((struct mt_python_communicator *)object)->rank);
}

static PyObject *get_size(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromLong(((struct mt_python_communicator *)object)->size);
}

static PyObject *get_closed(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(!((struct mt_python_communicator *)object)->comm);
}

static PyObject *get_error(PyObject *object, void *unused)
{
    (void)unused;
    struct mt_python_communicator *self = (struct mt_python_communicator *)object;
    struct manta_error_info info = {.size = sizeof(info)};
    if (!mt_python_is_open(self))
        return NULL;
    int rc = manta_comm_error(self->comm, &info);
    if (rc != 0) {
        mt_python_raise(rc, NULL);
        return NULL;
    }
    if (info.code != 0)
        return mt_python_error_make(&info);
    Py_RETURN_NONE;
}

PyObject *mt_python_communicator_repr(PyObject *object)
{
    struct mt_python_communicator *self = (struct mt_python_communicator *)object;
    return PyUnicode_FromFormat("<manta.Communicator rank %d of %d%s>", self->rank, self->size,
                                self->comm ? "" : ", closed");
}

const PyMethodDef mt_python_describe_methods[MT_PYTHON_DESCRIBE_METHODS] = {
    {"stats", stats, METH_NOARGS, stats_doc},
    {"explain", (PyCFunction)(void (*)(void))explain, METH_VARARGS | METH_KEYWORDS, explain_doc},
    {"dump", (PyCFunction)(void (*)(void))dump, METH_VARARGS | METH_KEYWORDS, dump_doc},
};

PyGetSetDef mt_python_communicator_properties[] = {
    {"rank", get_rank, NULL, "This process's rank.", NULL},
    {"size", get_size, NULL, "The number of ranks.", NULL},
    {"closed", get_closed, NULL, "Was close() called?", NULL},
    {"error", get_error, NULL, "The last error as an exception, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
