/* SPDX-License-Identifier: Apache-2.0 */
/* Symmetric memory: the type Memory owns a piece of it and lends it by the buffer protocol, so that
 * it lives as long as the last array over it; the type Registration is memory of somebody else that
 * is read in place for as long as the object lives. */
#include "extension.h"

/* ---- Memory */

struct memory {
    PyObject_HEAD void *address;
    Py_ssize_t bytes;
};

static PyObject *memory_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static const char *const names[] = {"nbytes", NULL};
    Py_ssize_t bytes;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "n:Memory", (char **)names, &bytes))
        return NULL;
    if (bytes < 1) {
        mt_python_invalid("nbytes must be at least 1");
        return NULL;
    }
    struct memory *self = (struct memory *)PyType_GenericAlloc(type, 0);
    if (!self)
        return NULL;
    int rc;
    Py_BEGIN_ALLOW_THREADS;
    rc = manta_mem_alloc(NULL, (uint64_t)bytes, &self->address);
    Py_END_ALLOW_THREADS;
    self->bytes = bytes;
    if (rc == 0)
        return (PyObject *)self;
    mt_python_raise(rc, NULL);
    Py_DECREF((PyObject *)self);
    return NULL;
}

static void memory_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    manta_mem_free(((struct memory *)object)->address); /* in a forked child: the parent's */
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static int memory_lend(PyObject *object, Py_buffer *view, int flags)
{
    struct memory *self = (struct memory *)object;
    return PyBuffer_FillInfo(view, object, self->address, self->bytes, 0, flags);
}

static PyObject *memory_nbytes(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromSsize_t(((struct memory *)object)->bytes);
}

static PyGetSetDef memory_properties[] = {
    {"nbytes", memory_nbytes, NULL, "Its length in bytes.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(memory_doc,
             "Memory(nbytes)\n--\n\n"
             "Zeroed memory that ranks of this node read in place; manta.empty() makes\n"
             "arrays of it. Freed when nothing refers to it any more.");

static PyType_Slot memory_slots[] = {
    {Py_tp_doc, (void *)memory_doc},   {Py_tp_new, memory_new},
    {Py_tp_dealloc, memory_dealloc},   {Py_bf_getbuffer, memory_lend},
    {Py_tp_getset, memory_properties}, {0, NULL},
};

PyType_Spec mt_python_memory_spec = {
    .name = "manta._manta.Memory",
    .basicsize = sizeof(struct memory),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = memory_slots,
};

/* ---- Registration */

struct registration {
    PyObject_HEAD struct mt_python_buffer buffer; /* held while registered */
};

/* The GIL is kept: other threads of Python must not write to pages that are being moved. */
PyObject *mt_python_register(PyObject *module, PyObject *arguments, PyObject *keywords)
{
    static const char *const names[] = {"buffer", "remap", NULL};
    (void)module;
    PyObject *object;
    int remap = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O|p:register", (char **)names, &object,
                                     &remap))
        return NULL;
    PyObject *made = PyType_GenericAlloc(mt_python_state.registration_type, 0);
    struct mt_python_buffer *buffer = made ? &((struct registration *)made)->buffer : NULL;
    if (!made || mt_python_buffer_get(object, "buffer", 0, buffer) != 0) {
        Py_XDECREF(made);
        return NULL;
    }
    uint64_t bytes = mt_python_buffer_bytes(buffer);
    int rc = bytes ? manta_mem_register(buffer->address, bytes, remap ? MANTA_MEM_REMAP : 0)
                   : MANTA_EINVAL;
    if (rc == 0)
        return made;
    if (bytes)
        mt_python_raise(rc, NULL);
    else
        mt_python_invalid("buffer has no elements, so there is nothing to register");
    mt_python_buffer_release(buffer);
    Py_DECREF(made);
    return NULL;
}

/* Memory that could not be moved back keeps its buffer, for good if the object goes: freed as it
 * is, whatever came there next would be taken for it. */
static int unregister(PyObject *object)
{
    struct mt_python_buffer *buffer = &((struct registration *)object)->buffer;
    int rc = buffer->held ? manta_mem_unregister(buffer->address) : 0;
    if (rc == MANTA_ENOMEM || rc == MANTA_ESYSTEM)
        return rc;
    mt_python_buffer_release(buffer); /* in a forked child the registration is the parent's */
    return 0;
}

static int registration_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct mt_python_buffer *buffer = &((struct registration *)object)->buffer;
    Py_VISIT(Py_TYPE(object));
    if (buffer->held) {
        Py_VISIT(buffer->view.obj);
        Py_VISIT(buffer->owner);
        Py_VISIT(buffer->shape);
    }
    return 0;
}

static void registration_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    unregister(object);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyObject *registration_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    int rc = unregister(object);
    if (rc == 0)
        Py_RETURN_NONE;
    mt_python_raise(rc, NULL); /* it stays registered: try again */
    return NULL;
}

static PyObject *registration_enter(PyObject *object, PyObject *unused)
{
    (void)unused;
    Py_INCREF(object);
    return object;
}

PyDoc_STRVAR(close_doc, "close($self)\n--\n\n"
                        "Forget the memory; not while a call that uses it is under way. Its\n"
                        "contents stay. Raises when it cannot be made private again: it then\n"
                        "stays registered.");

static PyMethodDef registration_methods[] = {
    {"close", registration_close, METH_NOARGS, close_doc},
    {"__enter__", registration_enter, METH_NOARGS, NULL},
    {"__exit__", registration_close, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(registration_doc,
             "What manta.register() returns: it keeps the buffer, and the memory is registered as\n"
             "long as this object lives or until close().");

static PyType_Slot registration_slots[] = {
    {Py_tp_doc, (void *)registration_doc},   {Py_tp_dealloc, registration_dealloc},
    {Py_tp_traverse, registration_traverse}, {Py_tp_clear, unregister},
    {Py_tp_methods, registration_methods},   {0, NULL},
};

PyType_Spec mt_python_registration_spec = {
    .name = "manta.Registration",
    .basicsize = sizeof(struct registration),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = registration_slots,
};

/* ---- what is known of a piece of memory */

PyObject *mt_python_memory_query(PyObject *module, PyObject *object)
{
    (void)module;
    struct manta_mem_info info = {.size = sizeof(info)};
    struct mt_python_buffer buffer;
    if (mt_python_buffer_get(object, "buffer", 0, &buffer) != 0)
        return NULL;
    int rc = manta_mem_query(buffer.address, &info);
    uint64_t bytes = mt_python_buffer_bytes(&buffer);
    const char *end = (const char *)buffer.address + bytes;
    int is_inside = bytes && info.bytes && end <= (const char *)info.start + info.bytes;
    mt_python_buffer_release(&buffer);
    if (rc == 0)
        return Py_BuildValue("(Ns)", PyBool_FromLong(info.in_place && is_inside), info.reason);
    mt_python_raise(rc, NULL);
    return NULL;
}
