/* SPDX-License-Identifier: Apache-2.0 */
/* What the module manta._manta consists of. */
#include "extension.h"

struct mt_python_state mt_python_state;

PyDoc_STRVAR(
    create_session_doc,
    "create_session()\n--\n\n"
    "Make a session in this process, which will be rank 0: a string with its address and a\n"
    "secret, to be given to the other ranks. Who knows it may join: treat it as a password.\n"
    "Raises SystemCallError when no address can be listened on.");

static PyObject *create_session(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    char text[2048];
    int rc = manta_session_create(text, sizeof(text));
    if (rc == 0)
        return PyUnicode_FromString(text);
    mt_python_raise(rc, NULL);
    return NULL;
}

PyDoc_STRVAR(
    register_doc,
    "register(buffer, remap=False)\n--\n\n"
    "Tell the library of memory that calls will use again and again; never needed. Returns a\n"
    "Registration, which keeps the buffer and ends the registration when it is closed or gone.\n\n"
    "remap: move private memory into shared memory at the same address, so that ranks of this\n"
    "node read it in place, as they do manta.empty()'s, until close() makes it private again. No\n"
    "other thread may write to its pages while either goes on. A child that is forked in between\n"
    "shares them, with whatever else malloc() has put there: do not fork a child that goes on as\n"
    "Python (spawn is fine). Without remap, memory that is not shared already is still copied.");

static PyMethodDef functions[] = {
    {"create_session", create_session, METH_NOARGS, create_session_doc},
    {"make_error", mt_python_make_error, METH_VARARGS,
     "make_error(code, sentence, rank=-1): the exception of an error code."},
    {"register", (PyCFunction)(void (*)(void))mt_python_register, METH_VARARGS | METH_KEYWORDS,
     register_doc},
    {"memory_query", mt_python_memory_query, METH_O,
     "memory_query(buffer): is it read in place, and why or why not?"},
    {"close_all", mt_python_close_all, METH_NOARGS, "Close all communicators of this process."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    "manta._manta",
    "libmanta for Python; use the package manta.",
    -1,
    functions,
    NULL,
    NULL,
    NULL,
    NULL,
};

static const struct {
    const char *constant, *name;
    int value;
} op_names[MANTA_OP_COUNT] = {
    {"SUM", "sum", MANTA_SUM}, {"PROD", "prod", MANTA_PROD}, {"MIN", "min", MANTA_MIN},
    {"MAX", "max", MANTA_MAX}, {"AVG", "avg", MANTA_AVG},    {"BAND", "band", MANTA_BAND},
    {"BOR", "bor", MANTA_BOR}, {"BXOR", "bxor", MANTA_BXOR},
};

static int add_ops(PyObject *module)
{
    mt_python_state.ops = PyDict_New();
    for (int i = 0; mt_python_state.ops && i < MANTA_OP_COUNT; i++) {
        PyObject *value = PyLong_FromLong(op_names[i].value);
        int rc = value ? PyDict_SetItemString(mt_python_state.ops, op_names[i].name, value) : -1;
        Py_XDECREF(value);
        if (rc != 0 ||
            PyModule_AddIntConstant(module, op_names[i].constant, op_names[i].value) != 0)
            return -1;
    }
    return mt_python_state.ops ? 0 : -1;
}

static int add_dtypes(PyObject *module)
{
    PyObject *names = PyTuple_New(MANTA_DTYPE_COUNT);
    for (int i = 0; names && i < MANTA_DTYPE_COUNT; i++) {
        PyObject *name = PyUnicode_FromString(mt_python_dtype_name(i));
        if (!name || PyTuple_SetItem(names, i, name) != 0)
            Py_CLEAR(names);
    }
    int rc = names ? PyModule_AddObjectRef(module, "DTYPES", names) : -1;
    Py_XDECREF(names);
    return rc;
}

static int add_version(PyObject *module)
{
    int version = manta_version();
    PyObject *text =
        PyUnicode_FromFormat("%d.%d.%d", version / 10000, version / 100 % 100, version % 100);
    int rc = text ? PyModule_AddObjectRef(module, "__version__", text) : -1;
    Py_XDECREF(text);
    return rc;
}

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromSpec(spec);
    if (type && PyModule_AddType(module, (PyTypeObject *)type) != 0)
        Py_CLEAR(type);
    return (PyTypeObject *)type;
}

static int find_numpy(void)
{
    PyObject *numpy = PyImport_ImportModule("numpy");
    if (!numpy)
        return -1;
    mt_python_state.numpy_array = PyObject_GetAttrString(numpy, "ndarray");
    mt_python_state.numpy_scalar = PyObject_GetAttrString(numpy, "generic");
    mt_python_state.numpy_empty = PyObject_GetAttrString(numpy, "empty");
    mt_python_state.numpy_empty_like = PyObject_GetAttrString(numpy, "empty_like");
    Py_DECREF(numpy);
    return PyErr_Occurred() ? -1 : 0;
}

static int intern_names(void)
{
#define MT_PYTHON_NAME(name) mt_python_state.name = PyUnicode_InternFromString(#name);
    MT_PYTHON_NAMES(MT_PYTHON_NAME)
#undef MT_PYTHON_NAME
    mt_python_state.torch_dot = PyUnicode_InternFromString("torch.");
    return PyErr_Occurred() ? -1 : 0;
}

static int fill(PyObject *module)
{
    mt_python_communicator_prepare();
    mt_python_state.communicator_type = add_type(module, &mt_python_communicator_spec);
    mt_python_state.request_type = add_type(module, &mt_python_request_spec);
    mt_python_state.registration_type = add_type(module, &mt_python_registration_spec);
    PyTypeObject *memory_type = add_type(module, &mt_python_memory_spec);
    if (!mt_python_state.communicator_type || !mt_python_state.request_type ||
        !mt_python_state.registration_type || !memory_type)
        return -1;
    Py_DECREF((PyObject *)memory_type);
    if (mt_python_errors_init(module) != 0 || find_numpy() != 0 || intern_names() != 0)
        return -1;
    if (add_ops(module) != 0 || add_dtypes(module) != 0)
        return -1;
    return add_version(module);
}

PyMODINIT_FUNC PyInit__manta(void);

PyMODINIT_FUNC PyInit__manta(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module && fill(module) != 0)
        Py_CLEAR(module);
    return module;
}
