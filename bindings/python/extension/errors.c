/* SPDX-License-Identifier: Apache-2.0 */
/* One exception class per code of errors.def. A code without a class does not compile. */
#include "extension.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The class of each code, and the built-in class that it also derives from ("" for none). */
#define CLASS_EINVAL "InvalidArgumentError", "ValueError"
#define CLASS_ENOMEM "OutOfMemoryError", "MemoryError"
#define CLASS_ETIMEOUT "DeadlineError", "TimeoutError"
#define CLASS_EPEER "PeerDiedError", "ConnectionError"
#define CLASS_EMISMATCH "MismatchError", ""
#define CLASS_EABORTED "AbortedError", ""
#define CLASS_EBUSY "BusyError", ""
#define CLASS_EFORK "ForkError", ""
#define CLASS_EAUTH "AuthenticationError", ""
#define CLASS_EVERSION "VersionError", ""
#define CLASS_ETRANSPORT "TransportError", ""
#define CLASS_ENOTSUP "NotSupportedError", ""
#define CLASS_EBUFFER "BufferUnsafeError", ""
#define CLASS_EAGAIN "TryAgainError", ""
#define CLASS_EPLAN "PlanError", ""
#define CLASS_EALGORITHM "AlgorithmError", ""
#define CLASS_ESYSTEM "SystemCallError", ""
#define CLASS_ELEFT "PeerLeftError", ""
#define CLASS_ESCHEDULER "SchedulerError", ""
#define CLASS_EINTERNAL "InternalError", ""

struct error_class {
    const char *code_name;
    int code;
    const char *sentence;
    const char *name, *builtin;
};

static const struct error_class error_classes[] = {
#define MANTA_ERROR(name, value, sentence) {#name, value, sentence, CLASS_##name},
#include <manta/errors.def>
#undef MANTA_ERROR
};

enum { ERROR_CLASSES = sizeof(error_classes) / sizeof(error_classes[0]) };

static PyObject *classes[ERROR_CLASSES];

static const char base_doc[] =
    "An error of libmanta.\n\n"
    "code: MANTA_E* as a number; rank: the rank at fault, or -1; sentence: what happened and what\n"
    "to do; transport: name of the transport, or ''; system_errno: errno of the cause, or 0.";

static PyObject *builtin_class(const char *name)
{
    PyObject *builtins = PyImport_ImportModule("builtins");
    PyObject *found = builtins ? PyObject_GetAttrString(builtins, name) : NULL;
    Py_XDECREF(builtins);
    return found;
}

static PyObject *make_class(const struct error_class *description)
{
    char name[64];
    snprintf(name, sizeof(name), "manta.%s", description->name);
    PyObject *bases = NULL, *made = NULL;
    PyObject *dict =
        Py_BuildValue("{s:i,s:s}", "code", description->code, "code_name", description->code_name);
    if (!dict)
        return NULL;
    if (description->builtin[0]) {
        PyObject *builtin = builtin_class(description->builtin);
        if (builtin)
            bases = PyTuple_Pack(2, mt_python_state.error_class, builtin);
        Py_XDECREF(builtin);
    } else {
        bases = PyTuple_Pack(1, mt_python_state.error_class);
    }
    if (bases)
        made = PyErr_NewExceptionWithDoc(name, description->sentence, bases, dict);
    Py_XDECREF(bases);
    Py_DECREF(dict);
    return made;
}

int mt_python_errors_init(PyObject *module)
{
    /* rank, sentence and so on are the instance's alone: an exception that Ray derives from ours
     * asks ours only for what its class does not have. */
    PyObject *dict = Py_BuildValue("{s:i,s:s}", "code", 0, "code_name", "");
    if (!dict)
        return -1;
    PyObject *base = PyErr_NewExceptionWithDoc("manta.MantaError", base_doc, PyExc_Exception, dict);
    Py_DECREF(dict);
    mt_python_state.error_class = base;
    PyObject *table = PyDict_New();
    if (!base || !table || PyModule_AddObjectRef(module, "MantaError", base) != 0)
        return -1;
    for (int i = 0; i < ERROR_CLASSES; i++) {
        classes[i] = make_class(&error_classes[i]);
        PyObject *code = PyLong_FromLong(error_classes[i].code);
        if (!classes[i] || !code || PyDict_SetItem(table, code, classes[i]) != 0 ||
            PyModule_AddObjectRef(module, error_classes[i].name, classes[i]) != 0)
            return -1;
        Py_DECREF(code);
    }
    int rc = PyModule_AddObjectRef(module, "ERROR_CLASSES", table);
    Py_DECREF(table);
    return rc;
}

static PyObject *class_of(int code)
{
    for (int i = 0; i < ERROR_CLASSES; i++)
        if (error_classes[i].code == code)
            return classes[i];
    return mt_python_state.error_class;
}

static int set_attribute(PyObject *object, const char *name, PyObject *value)
{
    int rc = value ? PyObject_SetAttrString(object, name, value) : -1;
    Py_XDECREF(value);
    return rc;
}

/* Text that libmanta wrote may have been cut within a character. */
static PyObject *text_of(const char *text)
{
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

PyObject *mt_python_error_make(const struct manta_error_info *info)
{
    const char *text = info->sentence[0] ? info->sentence : manta_strerror(info->code);
    PyObject *sentence = text_of(text);
    if (!sentence)
        return NULL;
    PyObject *error = PyObject_CallFunctionObjArgs(class_of(info->code), sentence, NULL);
    if (error && (set_attribute(error, "code", PyLong_FromLong(info->code)) != 0 ||
                  set_attribute(error, "rank", PyLong_FromLong(info->rank)) != 0 ||
                  set_attribute(error, "system_errno", PyLong_FromLong(info->system_errno)) != 0 ||
                  set_attribute(error, "transport", text_of(info->transport)) != 0 ||
                  PyObject_SetAttrString(error, "sentence", sentence) != 0))
        Py_CLEAR(error);
    Py_DECREF(sentence);
    return error;
}

void mt_python_raise_info(const struct manta_error_info *info)
{
    PyObject *error = mt_python_error_make(info);
    if (error)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
}

void mt_python_raise(int code, const struct manta_comm *comm)
{
    struct manta_error_info info = {.size = sizeof(info), .rank = -1};
    if (manta_comm_error(comm, &info) != 0 || info.code != code)
        info = (struct manta_error_info){.size = sizeof(info), .code = code, .rank = -1};
    mt_python_raise_info(&info);
}

int mt_python_invalid(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    struct manta_error_info info = {.size = sizeof(info), .code = MANTA_EINVAL, .rank = -1};
    vsnprintf(info.sentence, sizeof(info.sentence), format, arguments);
    va_end(arguments);
    mt_python_raise_info(&info);
    return -1;
}

/* make_error(code, sentence, rank=-1): an error that Python code of this package raises. */
PyObject *mt_python_make_error(PyObject *module, PyObject *arguments)
{
    (void)module;
    struct manta_error_info info = {.size = sizeof(info), .rank = -1};
    const char *sentence;
    if (!PyArg_ParseTuple(arguments, "is|i:make_error", &info.code, &sentence, &info.rank))
        return NULL;
    snprintf(info.sentence, sizeof(info.sentence), "%s", sentence);
    return mt_python_error_make(&info);
}
