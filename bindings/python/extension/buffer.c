/* SPDX-License-Identifier: Apache-2.0 */
/* Address, length and dtype of what Python code calls an array. */
#include "extension.h"

#include <string.h>

struct dtype_entry {
    const char *name; /* in NumPy, ml_dtypes and torch */
    int dtype;
    int kind;
};

static const struct dtype_entry dtype_entries[] = {
    {"int8", MANTA_INT8, MT_PYTHON_NUMBER},
    {"uint8", MANTA_UINT8, MT_PYTHON_NUMBER},
    {"int16", MANTA_INT16, MT_PYTHON_NUMBER},
    {"uint16", MANTA_UINT16, MT_PYTHON_NUMBER},
    {"int32", MANTA_INT32, MT_PYTHON_NUMBER},
    {"uint32", MANTA_UINT32, MT_PYTHON_NUMBER},
    {"int64", MANTA_INT64, MT_PYTHON_NUMBER},
    {"uint64", MANTA_UINT64, MT_PYTHON_NUMBER},
    {"float16", MANTA_FLOAT16, MT_PYTHON_NUMBER},
    {"bfloat16", MANTA_BFLOAT16, MT_PYTHON_NUMBER},
    {"float32", MANTA_FLOAT32, MT_PYTHON_NUMBER},
    {"float64", MANTA_FLOAT64, MT_PYTHON_NUMBER},
    {"float8_e4m3fn", MANTA_FLOAT8_E4M3, MT_PYTHON_NUMBER},
    {"float8_e5m2", MANTA_FLOAT8_E5M2, MT_PYTHON_NUMBER},
    {"bool", MANTA_UINT8, MT_PYTHON_BOOL},
    {"complex64", MANTA_FLOAT32, MT_PYTHON_COMPLEX},
    {"complex128", MANTA_FLOAT64, MT_PYTHON_COMPLEX},
};

enum { DTYPE_ENTRIES = sizeof(dtype_entries) / sizeof(dtype_entries[0]) };

const char *mt_python_dtype_name(int dtype)
{
    for (int i = 0; i < DTYPE_ENTRIES; i++)
        if (dtype_entries[i].dtype == dtype && dtype_entries[i].kind == MT_PYTHON_NUMBER)
            return dtype_entries[i].name;
    return "unknown";
}

static const struct dtype_entry *entry_of(PyObject *name)
{
    for (int i = 0; i < DTYPE_ENTRIES; i++)
        if (PyUnicode_CompareWithASCIIString(name, dtype_entries[i].name) == 0)
            return &dtype_entries[i];
    return NULL;
}

/* "torch.float32" -> "float32"; numpy.float32, numpy.dtype("float32") -> "float32". */
static PyObject *dtype_text(PyObject *object)
{
    if (PyType_Check(object))
        return PyObject_GetAttrString(object, "__name__");
    PyObject *text = PyObject_Str(object);
    if (!text || PyUnicode_Find(text, mt_python_state.torch_dot, 0, 6, 1) != 0)
        return text;
    PyObject *name = PyUnicode_Substring(text, 6, PyUnicode_GetLength(text));
    Py_DECREF(text);
    return name;
}

int mt_python_dtype_parse(PyObject *object)
{
    PyObject *name = dtype_text(object);
    if (!name)
        return -1;
    const struct dtype_entry *entry = entry_of(name);
    if (!entry || entry->kind != MT_PYTHON_NUMBER)
        PyErr_Format(PyExc_TypeError, "manta has no dtype %R; see manta.DTYPES", object);
    Py_DECREF(name);
    return PyErr_Occurred() ? -1 : entry->dtype;
}

static void raise_dtype(const char *role, PyObject *dtype)
{
    PyErr_Format(
        PyExc_TypeError,
        "%s has dtype %S, which manta does not support; see manta.DTYPES for those it does", role,
        dtype);
}

/* ---- the buffer protocol */

static int integer_dtype(Py_ssize_t bytes, int is_signed)
{
    switch (bytes) {
    case 1:
        return is_signed ? MANTA_INT8 : MANTA_UINT8;
    case 2:
        return is_signed ? MANTA_INT16 : MANTA_UINT16;
    case 4:
        return is_signed ? MANTA_INT32 : MANTA_UINT32;
    case 8:
        return is_signed ? MANTA_INT64 : MANTA_UINT64;
    default:
        return -1;
    }
}

static int float_dtype(char code)
{
    switch (code) {
    case 'e':
        return MANTA_FLOAT16;
    case 'f':
        return MANTA_FLOAT32;
    case 'd':
        return MANTA_FLOAT64;
    default:
        return -1;
    }
}

/* The dtype of a struct-module format of one element, or -1. */
static int format_dtype(const char *format, Py_ssize_t bytes, int *kind_out)
{
    *kind_out = MT_PYTHON_NUMBER;
    if (*format == '@' || *format == '=' || *format == '<')
        format++;
    else if ((*format == '>' || *format == '!') && bytes == 1)
        format++;
    if (*format == 'Z' || *format == 'F' || *format == 'D') {
        *kind_out = MT_PYTHON_COMPLEX;
        char part = *format == 'F' ? 'f' : *format == 'D' ? 'd' : *++format;
        return part && !format[1] ? float_dtype(part) : -1;
    }
    if (!*format || format[1])
        return -1;
    if (*format == '?') {
        *kind_out = MT_PYTHON_BOOL;
        return MANTA_UINT8;
    }
    if (strchr("bhilqn", *format))
        return integer_dtype(bytes, 1);
    if (strchr("BcHILQN", *format))
        return integer_dtype(bytes, 0);
    return float_dtype(*format);
}

static int fill_from_view(const char *role, int writable, struct mt_python_buffer *buffer)
{
    const Py_buffer *view = &buffer->view;
    const char *format = view->format ? view->format : "B";
    if (buffer->dtype < 0)
        buffer->dtype = format_dtype(format, view->itemsize, &buffer->kind);
    Py_ssize_t parts = buffer->kind == MT_PYTHON_COMPLEX ? 2 : 1;
    if (buffer->dtype < 0 ||
        (Py_ssize_t)manta_dtype_size(buffer->dtype) * parts != view->itemsize) {
        PyErr_Format(PyExc_TypeError,
                     "%s has element format '%s' (%zd bytes), which manta does not support; "
                     "see manta.DTYPES for those it does",
                     role, format, view->itemsize);
        return -1;
    }
    if (!PyBuffer_IsContiguous(view, 'C'))
        return mt_python_invalid("%s is not C-contiguous; pass a contiguous copy "
                                 "(numpy.ascontiguousarray)",
                                 role);
    if (writable && view->readonly)
        return mt_python_invalid("%s is read-only, but this call writes it; pass a writable array",
                                 role);
    buffer->address = view->buf;
    buffer->count = (uint64_t)(view->len / view->itemsize * parts);
    buffer->writable = !view->readonly;
    return 0;
}

static int get_view(PyObject *object, const char *role, int writable,
                    struct mt_python_buffer *buffer)
{
    if (PyObject_GetBuffer(object, &buffer->view, PyBUF_RECORDS_RO) != 0)
        return -1;
    buffer->held = 1;
    if (fill_from_view(role, writable, buffer) == 0)
        return 0;
    mt_python_buffer_release(buffer);
    return -1;
}

static int is_extended(int dtype)
{
    return dtype == MANTA_BFLOAT16 || dtype == MANTA_FLOAT8_E4M3 || dtype == MANTA_FLOAT8_E5M2;
}

/* ml_dtypes (bfloat16, float8) refuse the buffer protocol: look at the bytes as integers. */
static int get_extended_numpy(PyObject *object, const char *role, int writable,
                              struct mt_python_buffer *buffer)
{
    PyErr_Clear();
    PyObject *dtype = PyObject_GetAttrString(object, "dtype");
    PyObject *name = dtype ? PyObject_GetAttrString(dtype, "name") : NULL;
    const struct dtype_entry *entry = name ? entry_of(name) : NULL;
    PyObject *integers = NULL;
    if (entry && is_extended(entry->dtype))
        integers = PyObject_CallMethod(object, "view", "s",
                                       manta_dtype_size(entry->dtype) == 1 ? "u1" : "u2");
    else if (name)
        raise_dtype(role, dtype);
    Py_XDECREF(name);
    Py_XDECREF(dtype);
    if (!integers)
        return -1;
    buffer->dtype = entry->dtype;
    int rc = get_view(integers, role, writable, buffer);
    Py_DECREF(integers);
    return rc;
}

/* ---- torch */

/* torch.Tensor, when the program has imported torch. Borrowed, or NULL. */
static PyObject *find_tensor_type(void)
{
    if (mt_python_state.tensor_type)
        return mt_python_state.tensor_type;
    PyObject *modules = PyImport_GetModuleDict();
    PyObject *torch = modules ? PyDict_GetItemString(modules, "torch") : NULL;
    if (!torch)
        return NULL;
    mt_python_state.tensor_type = PyObject_GetAttrString(torch, "Tensor");
    if (!mt_python_state.tensor_type)
        PyErr_Clear(); /* torch is being imported by another thread */
    return mt_python_state.tensor_type;
}

/* torch.dtype -> index of dtype_entries; dtypes that this torch lacks are left out. */
static PyObject *find_tensor_dtypes(void)
{
    if (mt_python_state.tensor_dtypes)
        return mt_python_state.tensor_dtypes;
    PyObject *torch = PyImport_ImportModule("torch");
    PyObject *table = torch ? PyDict_New() : NULL;
    for (int i = 0; table && i < DTYPE_ENTRIES; i++) {
        PyObject *dtype = PyObject_GetAttrString(torch, dtype_entries[i].name);
        PyObject *index = PyLong_FromLong(i);
        if (!dtype)
            PyErr_Clear();
        else if (!index || PyDict_SetItem(table, dtype, index) != 0)
            Py_CLEAR(table);
        Py_XDECREF(dtype);
        Py_XDECREF(index);
    }
    Py_XDECREF(torch);
    mt_python_state.tensor_dtypes = table;
    return table;
}

int mt_python_is_tensor(PyObject *object)
{
    PyObject *type = find_tensor_type();
    return type && PyObject_TypeCheck(object, (PyTypeObject *)type);
}

static const struct dtype_entry *tensor_dtype(PyObject *tensor, const char *role)
{
    PyObject *table = find_tensor_dtypes();
    PyObject *dtype = table ? PyObject_GetAttr(tensor, mt_python_state.dtype) : NULL;
    PyObject *index = dtype ? PyDict_GetItemWithError(table, dtype) : NULL;
    if (!index && dtype && !PyErr_Occurred())
        raise_dtype(role, dtype);
    Py_XDECREF(dtype);
    return index ? &dtype_entries[PyLong_AsLong(index)] : NULL;
}

/* 1, 0 or -1 with an exception. Steals `value`. */
static int truth(PyObject *value)
{
    int rc = value ? PyObject_IsTrue(value) : -1;
    Py_XDECREF(value);
    return rc;
}

static int check_tensor(PyObject *tensor, const char *role, int kind)
{
    int on_cpu = truth(PyObject_GetAttr(tensor, mt_python_state.is_cpu));
    if (on_cpu < 0)
        return -1;
    if (!on_cpu)
        return mt_python_invalid("%s is not on the CPU; copy it with .cpu()", role);
    int contiguous = truth(PyObject_CallMethodObjArgs(tensor, mt_python_state.is_contiguous, NULL));
    if (contiguous == 0)
        return mt_python_invalid("%s is not contiguous; pass tensor.contiguous(), or to_dense()",
                                 role);
    int lazy = contiguous < 0
                   ? -1
                   : truth(PyObject_CallMethodObjArgs(tensor, mt_python_state.is_neg, NULL));
    if (lazy == 0 && kind == MT_PYTHON_COMPLEX)
        lazy = truth(PyObject_CallMethodObjArgs(tensor, mt_python_state.is_conj, NULL));
    if (lazy > 0)
        return mt_python_invalid("%s is a lazy view (negated or conjugated); resolve it with "
                                 ".resolve_neg() or .resolve_conj()",
                                 role);
    return lazy;
}

static int get_tensor(PyObject *tensor, const char *role, struct mt_python_buffer *buffer)
{
    const struct dtype_entry *entry = tensor_dtype(tensor, role);
    if (!entry || check_tensor(tensor, role, entry->kind) != 0)
        return -1;
    PyObject *address = PyObject_CallMethodObjArgs(tensor, mt_python_state.data_ptr, NULL);
    PyObject *count =
        address ? PyObject_CallMethodObjArgs(tensor, mt_python_state.numel, NULL) : NULL;
    if (count) {
        buffer->address = PyLong_AsVoidPtr(address);
        buffer->count = PyLong_AsUnsignedLongLong(count);
        buffer->dtype = entry->dtype;
        buffer->kind = entry->kind;
        if (entry->kind == MT_PYTHON_COMPLEX)
            buffer->count *= 2;
    }
    Py_XDECREF(address);
    Py_XDECREF(count);
    if (!count || PyErr_Occurred())
        return -1;
    Py_INCREF(tensor);
    buffer->owner = tensor;
    buffer->writable = 1;
    buffer->held = 1;
    return 0;
}

/* ---- either */

int mt_python_is_numpy(PyObject *object)
{
    return PyObject_TypeCheck(object, (PyTypeObject *)mt_python_state.numpy_array) ||
           PyObject_TypeCheck(object, (PyTypeObject *)mt_python_state.numpy_scalar);
}

int mt_python_buffer_get(PyObject *object, const char *role, int writable,
                         struct mt_python_buffer *buffer)
{
    memset(buffer, 0, sizeof(*buffer));
    buffer->dtype = -1;
    if (!PyObject_CheckBuffer(object)) {
        if (mt_python_is_tensor(object))
            return get_tensor(object, role, buffer);
        PyErr_Format(PyExc_TypeError,
                     "%s must be a NumPy array, a torch CPU tensor or a buffer, not %R", role,
                     (PyObject *)Py_TYPE(object));
        return -1;
    }
    if (get_view(object, role, writable, buffer) == 0)
        return 0;
    if (buffer->dtype >= 0 || !mt_python_is_numpy(object))
        return -1;
    return get_extended_numpy(object, role, writable, buffer);
}

void mt_python_buffer_release(struct mt_python_buffer *buffer)
{
    if (!buffer->held)
        return;
    buffer->held = 0;
    if (buffer->view.obj)
        PyBuffer_Release(&buffer->view);
    Py_CLEAR(buffer->owner);
    Py_CLEAR(buffer->shape);
}

Py_ssize_t mt_python_buffer_dimensions(struct mt_python_buffer *buffer)
{
    if (!buffer->owner)
        return buffer->view.ndim;
    if (!buffer->shape)
        buffer->shape = PyObject_GetAttr(buffer->owner, mt_python_state.shape);
    return buffer->shape ? PyTuple_Size(buffer->shape) : -1;
}

Py_ssize_t mt_python_buffer_extent(const struct mt_python_buffer *buffer, Py_ssize_t dimension)
{
    if (buffer->shape)
        return PyLong_AsSsize_t(PyTuple_GetItem(buffer->shape, dimension));
    return buffer->view.shape[dimension];
}

uint64_t mt_python_buffer_bytes(const struct mt_python_buffer *buffer)
{
    return buffer->count * manta_dtype_size(buffer->dtype);
}
