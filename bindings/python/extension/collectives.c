/* SPDX-License-Identifier: Apache-2.0 */
/* The collectives: arguments in, a struct mt_python_call out, then call.c or a Request. */
#include "extension.h"

typedef int prepare_fn(struct mt_python_communicator *self, PyObject *const *arguments,
                       Py_ssize_t count, PyObject *keywords, struct mt_python_call *call);

/* ---- arguments */

static int keyword_index(PyObject *name, PyObject *const *names)
{
    for (int i = 0; names[i]; i++)
        if (name == names[i])
            return i;
    for (int i = 0; names[i]; i++)
        if (PyUnicode_Compare(name, names[i]) == 0)
            return i;
    return -1;
}

static int spread_keywords(const char *method, PyObject *const *names, PyObject *const *arguments,
                           PyObject *keywords, PyObject **values)
{
    Py_ssize_t count = keywords ? PyTuple_Size(keywords) : 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GetItem(keywords, i);
        int index = keyword_index(name, names);
        if (index < 0 || values[index]) {
            PyErr_Format(PyExc_TypeError, "%s() got %s argument %R", method,
                         index < 0 ? "an unexpected" : "twice the", name);
            return -1;
        }
        values[index] = arguments[i];
    }
    return 0;
}

int mt_python_arguments(const char *method, PyObject *const *names, int required,
                        PyObject *const *arguments, Py_ssize_t count, PyObject *keywords,
                        PyObject **values)
{
    Py_ssize_t most = 0;
    for (; names[most]; most++)
        values[most] = NULL;
    if (count > most) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %zd arguments (%zd given)", method, most,
                     count);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        values[i] = arguments[i];
    if (spread_keywords(method, names, arguments + count, keywords, values) != 0)
        return -1;
    for (int i = 0; i < required; i++)
        if (!values[i]) {
            PyErr_Format(PyExc_TypeError, "%s() lacks the argument %R", method, names[i]);
            return -1;
        }
    return 0;
}

int mt_python_op_parse(PyObject *object)
{
    if (!object)
        return MANTA_SUM;
    if (PyUnicode_Check(object)) {
        PyObject *value = PyDict_GetItemWithError(mt_python_state.ops, object);
        if (value)
            return (int)PyLong_AsLong(value);
    } else if (PyLong_Check(object)) {
        long value = PyLong_AsLong(object);
        if (value >= 0 && value < MANTA_OP_COUNT)
            return (int)value;
    }
    if (PyErr_Occurred())
        PyErr_Clear();
    PyObject *text = PyObject_Repr(object);
    const char *shown = text ? PyUnicode_AsUTF8AndSize(text, NULL) : NULL;
    if (shown)
        mt_python_invalid("op must be 'sum', 'prod', 'min', 'max', 'avg', 'band', 'bor', 'bxor' "
                          "or the constant of that name, not %s",
                          shown);
    Py_XDECREF(text);
    return -1;
}

int mt_python_int_parse(PyObject *object, const char *name)
{
    if (!object)
        return 0;
    PyObject *index = PyNumber_Index(object);
    long value = index ? PyLong_AsLong(index) : -1;
    Py_XDECREF(index);
    if (value == -1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError))
            PyErr_Clear();
        else
            return -1;
    }
    if (value >= 0 && value <= INT32_MAX)
        return (int)value;
    return mt_python_invalid("%s must be a whole number, 0 or more", name);
}

/* ---- shared by the collectives */

static int set_op(PyObject *object, const struct mt_python_buffer *buffer,
                  struct mt_python_call *call)
{
    call->op = mt_python_op_parse(object);
    if (call->op < 0)
        return -1;
    int adds = call->op == MANTA_SUM || call->op == MANTA_AVG;
    if (buffer->kind == MT_PYTHON_BOOL && adds)
        return mt_python_invalid("booleans cannot be added; use 'bor', 'band' or 'bxor'");
    if (buffer->kind == MT_PYTHON_COMPLEX && !adds)
        return mt_python_invalid("complex numbers take 'sum' and 'avg' only");
    return 0;
}

static int same_dtype(const struct mt_python_buffer *src, const struct mt_python_buffer *dst)
{
    if (src->dtype == dst->dtype && src->kind == dst->kind)
        return 0;
    return mt_python_invalid(
        "array has dtype %s%s and out has %s%s; they must be the same",
        mt_python_dtype_name(src->dtype), src->kind == MT_PYTHON_COMPLEX ? " (complex)" : "",
        mt_python_dtype_name(dst->dtype), dst->kind == MT_PYTHON_COMPLEX ? " (complex)" : "");
}

static int same_count(uint64_t expected, uint64_t found)
{
    if (expected == found)
        return 0;
    return mt_python_invalid("out must have %llu elements for this array, not %llu",
                             (unsigned long long)expected, (unsigned long long)found);
}

/* One array, read or written. */
static int set_one(PyObject *array, int writable, struct mt_python_call *call)
{
    if (mt_python_buffer_get(array, "array", writable, &call->src) != 0)
        return -1;
    call->count = call->src.count;
    call->dtype = call->src.dtype;
    call->src_address = call->src.address;
    call->dst_address = call->src.address;
    return 0;
}

static void set_result(PyObject *object, struct mt_python_call *call)
{
    Py_INCREF(object);
    call->result = object;
}

/* The destination of allreduce and reduce: `out`, or a new array. */
static int set_equal_out(PyObject *array, PyObject *out, struct mt_python_call *call)
{
    if (out == array) {
        set_result(array, call);
        return 0;
    }
    int given = out && out != Py_None;
    if (given)
        set_result(out, call);
    else
        call->result = mt_python_result_like(array, &call->src, 0, 1);
    if (!call->result || mt_python_buffer_get(call->result, "out", 1, &call->dst) != 0 ||
        same_dtype(&call->src, &call->dst) != 0)
        return -1;
    call->dst_address = call->dst.address;
    int same = given ? mt_python_same_shape(&call->src, &call->dst) : 1;
    if (same == 0)
        return mt_python_invalid("out must have the shape of array");
    return same < 0 ? -1 : 0;
}

/* ---- one function for each collective */

static int prepare_allreduce(struct mt_python_communicator *self, PyObject *const *arguments,
                             Py_ssize_t count, PyObject *keywords, struct mt_python_call *call)
{
    (void)self;
    PyObject *const names[] = {mt_python_state.array, mt_python_state.op, mt_python_state.out,
                               NULL};
    PyObject *values[3];
    if (mt_python_arguments("allreduce", names, 1, arguments, count, keywords, values) != 0 ||
        set_one(values[0], values[2] == values[0], call) != 0 ||
        set_op(values[1], &call->src, call) != 0)
        return -1;
    return set_equal_out(values[0], values[2], call);
}

static int prepare_broadcast(struct mt_python_communicator *self, PyObject *const *arguments,
                             Py_ssize_t count, PyObject *keywords, struct mt_python_call *call)
{
    PyObject *const names[] = {mt_python_state.array, mt_python_state.root, NULL};
    PyObject *values[2];
    if (mt_python_arguments("broadcast", names, 1, arguments, count, keywords, values) != 0)
        return -1;
    call->root = mt_python_int_parse(values[1], "root");
    if (call->root < 0 || set_one(values[0], call->root != self->rank, call) != 0)
        return -1;
    set_result(values[0], call);
    return 0;
}

static int prepare_reduce(struct mt_python_communicator *self, PyObject *const *arguments,
                          Py_ssize_t count, PyObject *keywords, struct mt_python_call *call)
{
    PyObject *const names[] = {mt_python_state.array, mt_python_state.op, mt_python_state.root,
                               mt_python_state.out, NULL};
    PyObject *values[4];
    if (mt_python_arguments("reduce", names, 1, arguments, count, keywords, values) != 0)
        return -1;
    call->root = mt_python_int_parse(values[2], "root");
    int is_root = call->root == self->rank;
    if (call->root < 0 || set_one(values[0], is_root && values[3] == values[0], call) != 0 ||
        set_op(values[1], &call->src, call) != 0)
        return -1;
    if (is_root)
        return set_equal_out(values[0], values[3], call);
    call->dst_address = NULL;
    set_result(Py_None, call);
    return 0;
}

static int prepare_allgather(struct mt_python_communicator *self, PyObject *const *arguments,
                             Py_ssize_t count, PyObject *keywords, struct mt_python_call *call)
{
    PyObject *const names[] = {mt_python_state.array, mt_python_state.out, NULL};
    PyObject *values[2];
    if (mt_python_arguments("allgather", names, 1, arguments, count, keywords, values) != 0 ||
        set_one(values[0], 0, call) != 0)
        return -1;
    PyObject *out = values[1] == Py_None ? NULL : values[1];
    if (out && mt_python_is_sequence(out)) {
        set_result(out, call);
        if (mt_python_pieces_get(self, out, "out", 1, call, &call->dst_address) != 0 ||
            same_dtype(&call->src, &call->pieces[0]) != 0)
            return -1;
        return same_count(call->count, call->pieces[0].count);
    }
    if (out)
        set_result(out, call);
    else
        call->result = mt_python_result_like(values[0], &call->src, self->size, 1);
    if (!call->result || mt_python_buffer_get(call->result, "out", 1, &call->dst) != 0 ||
        same_dtype(&call->src, &call->dst) != 0)
        return -1;
    call->dst_address = call->dst.address;
    return same_count(call->count * (uint64_t)self->size, call->dst.count);
}

/* reduce_scatter of a list: one buffer for each rank. */
static int set_listed_source(struct mt_python_communicator *self, PyObject *list,
                             struct mt_python_call *call)
{
    void *address;
    if (mt_python_pieces_get(self, list, "array", 0, call, &address) != 0)
        return -1;
    call->src_address = address;
    call->count = call->pieces[0].count;
    call->dtype = call->pieces[0].dtype;
    return 0;
}

static int set_split_source(struct mt_python_communicator *self, PyObject *array,
                            struct mt_python_call *call)
{
    if (set_one(array, 0, call) != 0)
        return -1;
    Py_ssize_t dimensions = mt_python_buffer_dimensions(&call->src);
    if (dimensions < 0)
        return -1;
    Py_ssize_t rows = dimensions ? mt_python_buffer_extent(&call->src, 0) : -1;
    if (rows < 0 || rows % self->size)
        return mt_python_invalid("the first dimension of array must be divisible by the %d ranks",
                                 self->size);
    call->count /= (uint64_t)self->size;
    return 0;
}

static int prepare_reduce_scatter(struct mt_python_communicator *self, PyObject *const *arguments,
                                  Py_ssize_t count, PyObject *keywords, struct mt_python_call *call)
{
    PyObject *const names[] = {mt_python_state.array, mt_python_state.op, mt_python_state.out,
                               NULL};
    PyObject *values[3];
    if (mt_python_arguments("reduce_scatter", names, 1, arguments, count, keywords, values) != 0)
        return -1;
    int listed = mt_python_is_sequence(values[0]);
    int rc =
        listed ? set_listed_source(self, values[0], call) : set_split_source(self, values[0], call);
    struct mt_python_buffer *src = listed ? &call->pieces[0] : &call->src;
    if (rc != 0 || set_op(values[1], src, call) != 0)
        return -1;
    if (values[2] && values[2] != Py_None) {
        set_result(values[2], call);
    } else {
        PyObject *like = listed ? PySequence_GetItem(values[0], 0) : values[0];
        call->result = like ? mt_python_result_like(like, src, !listed, self->size) : NULL;
        if (listed)
            Py_XDECREF(like);
    }
    if (!call->result || mt_python_buffer_get(call->result, "out", 1, &call->dst) != 0 ||
        same_dtype(src, &call->dst) != 0)
        return -1;
    call->dst_address = call->dst.address;
    return same_count(call->count, call->dst.count);
}

static int prepare_barrier(struct mt_python_communicator *self, PyObject *const *arguments,
                           Py_ssize_t count, PyObject *keywords, struct mt_python_call *call)
{
    (void)self;
    PyObject *const names[] = {NULL};
    if (mt_python_arguments("barrier", names, 0, arguments, count, keywords, NULL) != 0)
        return -1;
    set_result(Py_None, call);
    return 0;
}

static int set_peer(const char *method, int writable, PyObject *const *arguments, Py_ssize_t count,
                    PyObject *keywords, struct mt_python_call *call)
{
    PyObject *const names[] = {mt_python_state.array, mt_python_state.peer, NULL};
    PyObject *values[2];
    if (mt_python_arguments(method, names, 2, arguments, count, keywords, values) != 0)
        return -1;
    call->root = mt_python_int_parse(values[1], "peer");
    if (call->root < 0 || set_one(values[0], writable, call) != 0)
        return -1;
    set_result(writable ? values[0] : Py_None, call);
    return 0;
}

static int prepare_send(struct mt_python_communicator *self, PyObject *const *arguments,
                        Py_ssize_t count, PyObject *keywords, struct mt_python_call *call)
{
    (void)self;
    return set_peer("send", 0, arguments, count, keywords, call);
}

static int prepare_recv(struct mt_python_communicator *self, PyObject *const *arguments,
                        Py_ssize_t count, PyObject *keywords, struct mt_python_call *call)
{
    (void)self;
    return set_peer("recv", 1, arguments, count, keywords, call);
}

/* ---- the methods */

static PyObject *run_blocking(PyObject *object, int collective, prepare_fn *prepare,
                              PyObject *const *arguments, Py_ssize_t count, PyObject *keywords)
{
    struct mt_python_communicator *self = (struct mt_python_communicator *)object;
    struct mt_python_call call;
    mt_python_call_init(&call, collective);
    if (prepare(self, arguments, count, keywords, &call) == 0)
        return mt_python_call_block(self, &call);
    mt_python_call_clear(self, &call);
    return NULL;
}

static PyObject *run_posted(PyObject *object, int collective, prepare_fn *prepare,
                            PyObject *const *arguments, Py_ssize_t count, PyObject *keywords)
{
    struct mt_python_communicator *self = (struct mt_python_communicator *)object;
    struct mt_python_request *request = mt_python_request_new(self, collective);
    if (!request)
        return NULL;
    int rc = prepare(self, arguments, count, keywords, &request->call);
    if (rc == 0)
        rc = mt_python_enter(self);
    if (rc == 0) {
        mt_python_request_reap(self);
        rc = mt_python_call_start(self, &request->call);
        if (rc == 0)
            mt_python_request_attach(request);
        mt_python_leave(self);
    }
    if (rc != 0)
        Py_CLEAR(request);
    return (PyObject *)request;
}

/* Method name, collective, its parameters, and what it does. */
#define COLLECTIVES(X)                                                                             \
    X(allreduce, MANTA_ALLREDUCE, "array, op='sum', out=None",                                     \
      "Combine the ranks' arrays element by element; every rank gets the result in out\n"          \
      "(out=array: in place; None: a new array), which is returned.")                              \
    X(broadcast, MANTA_BROADCAST, "array, root=0",                                                 \
      "Copy root's array to every rank, in place. Returns array.")                                 \
    X(reduce, MANTA_REDUCE, "array, op='sum', root=0, out=None",                                   \
      "Combine the ranks' arrays element by element; root gets the result in out, the others\n"    \
      "None. out is ignored elsewhere.")                                                           \
    X(allgather, MANTA_ALLGATHER, "array, out=None",                                               \
      "Concatenate the ranks' arrays along the first dimension, on every rank. out: an array of\n" \
      "size times the elements, or a list of one buffer for each rank.")                           \
    X(reduce_scatter, MANTA_REDUCE_SCATTER, "array, op='sum', out=None",                           \
      "Combine the ranks' arrays, and give each rank its part of the first dimension, of which\n"  \
      "size must be a divisor. array may be a list of one buffer for each rank.")                  \
    X(barrier, MANTA_BARRIER, "", "Return when every rank has called it.")                         \
    X(send, MANTA_SEND, "array, peer",                                                             \
      "Send array to one rank, which calls recv() with one of equal length and dtype.")            \
    X(recv, MANTA_RECV, "array, peer",                                                             \
      "Receive array from one rank, which calls send(). Returns array.")

#define DEFINE_METHODS(name, collective, parameters, doc)                                          \
    static PyObject *method_##name(PyObject *self, PyObject *const *arguments, Py_ssize_t count,   \
                                   PyObject *keywords)                                             \
    {                                                                                              \
        return run_blocking(self, collective, prepare_##name, arguments, count, keywords);         \
    }                                                                                              \
    static PyObject *method_##name##_post(PyObject *self, PyObject *const *arguments,              \
                                          Py_ssize_t count, PyObject *keywords)                    \
    {                                                                                              \
        return run_posted(self, collective, prepare_##name, arguments, count, keywords);           \
    }
COLLECTIVES(DEFINE_METHODS)

#define SIGNATURE(name, parameters) name "($self, " parameters ")\n--\n\n"
#define LIST_METHODS(name, collective, parameters, doc)                                            \
    {#name, (PyCFunction)(void (*)(void))method_##name, METH_FASTCALL | METH_KEYWORDS,             \
     SIGNATURE(#name, parameters) doc},                                                            \
        {#name "_post", (PyCFunction)(void (*)(void))method_##name##_post,                         \
         METH_FASTCALL | METH_KEYWORDS,                                                            \
         SIGNATURE(#name "_post", parameters) "The posted form of " #name                          \
                                              "(): starts it and returns a Request. Leave\n"       \
                                              "the arrays alone until that is done."},

const PyMethodDef mt_python_collective_methods[MT_PYTHON_COLLECTIVE_METHODS] = {
    COLLECTIVES(LIST_METHODS)};
