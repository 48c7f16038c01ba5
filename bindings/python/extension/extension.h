/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manta._manta: libmanta for Python. Files of this folder, in reading order:
 *   module.c        what the module consists of: constants, functions, types
 *   errors.c        one exception class per code of errors.def
 *   buffer.c        address, length and dtype of arrays, tensors and the buffer protocol
 *   result.c        arrays made for results; lists of buffers in place of one array
 *   call.c          a call under way: it owns its buffers until libmanta has let go of them
 *   collectives.c   allreduce(), broadcast(), ...: arguments in, call out
 *   request.c       the type Request
 *   memory.c        the types Memory and Registration: symmetric memory
 *   communicator.c  the type Communicator; join.c: creation and split, interruptible by Ctrl-C;
 *                   describe.c: what it tells of itself
 *
 * The hot path (a collective on an array) does no Python-level call beyond the buffer protocol.
 * Everything here runs under the GIL but the sections between Py_BEGIN_ALLOW_THREADS and
 * Py_END_ALLOW_THREADS. A communicator's `busy` flag is set while a thread is inside libmanta with
 * it, also between the slices of one wait, so that a second thread gets BusyError.
 */
#ifndef MT_PYTHON_EXTENSION_H
#define MT_PYTHON_EXTENSION_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <manta/manta.h>

#include <stdint.h>

/* How long a wait lasts before Python's signal handlers get their turn. */
#define MT_PYTHON_SLICE_NS UINT64_C(100000000)

/* ---- buffer.c */

enum mt_python_kind { MT_PYTHON_NUMBER = 0, MT_PYTHON_BOOL = 1, MT_PYTHON_COMPLEX = 2 };

/* A caller's array. It stays exported or referenced until mt_python_buffer_release(). */
struct mt_python_buffer {
    Py_buffer view;  /* held while view.obj is set */
    PyObject *owner; /* a torch tensor, or NULL */
    PyObject *shape; /* a torch tensor's, once asked for; NULL: view.shape */
    void *address;
    uint64_t count; /* elements of dtype; a complex number is two */
    int dtype;
    int kind; /* enum mt_python_kind */
    int writable;
    int held; /* something is to be released */
};

/* Take hold of `object`; `role` names the argument in errors. 0, or -1 with an exception. */
int mt_python_buffer_get(PyObject *object, const char *role, int writable,
                         struct mt_python_buffer *buffer_out);
void mt_python_buffer_release(struct mt_python_buffer *buffer);
/* -1 with an exception. Before mt_python_buffer_extent(). */
Py_ssize_t mt_python_buffer_dimensions(struct mt_python_buffer *buffer);
Py_ssize_t mt_python_buffer_extent(const struct mt_python_buffer *buffer, Py_ssize_t dimension);
uint64_t mt_python_buffer_bytes(const struct mt_python_buffer *buffer);
/* torch.Tensor? NumPy array or scalar? Never fails. */
int mt_python_is_tensor(PyObject *object);
int mt_python_is_numpy(PyObject *object);
const char *mt_python_dtype_name(int dtype);
/* enum manta_dtype of a dtype given as name, NumPy or torch dtype; -1 with an exception. */
int mt_python_dtype_parse(PyObject *object);

/* ---- call.c */

struct mt_python_communicator;

/* A call under way. Blocking calls keep it on the stack, requests on the heap. */
struct mt_python_call {
    struct manta_request *request; /* NULL when libmanta is done with it */
    int collective;                /* enum manta_collective */
    int dtype, op, root;           /* root: also the peer of send and recv */
    uint64_t count;
    const void *src_address;
    void *dst_address;
    struct mt_python_buffer src, dst;
    struct mt_python_buffer *pieces; /* a list of buffers in place of src or dst, or NULL */
    Py_ssize_t piece_count;
    char *staging; /* the pieces one after another, where they are not so in memory; or NULL */
    size_t staging_bytes;
    PyObject *result;
};

void mt_python_call_init(struct mt_python_call *call, int collective);
void mt_python_call_clear(struct mt_python_communicator *self, struct mt_python_call *call);
/* Post and wait. The result (new reference), or NULL with an exception. Clears the call. */
PyObject *mt_python_call_block(struct mt_python_communicator *self, struct mt_python_call *call);
/* Wait until done (0), failed (-1 with an exception) or, after timeout_ns, MANTA_INPROGRESS; test
 * only looks, and leaves signals alone. The caller has entered the communicator. */
int mt_python_call_wait(struct mt_python_communicator *self, struct mt_python_call *call,
                        uint64_t timeout_ns);
int mt_python_call_test(struct mt_python_communicator *self, struct mt_python_call *call);
/* Start the call; 0, or -1 with an exception. The caller has entered the communicator. */
int mt_python_call_start(struct mt_python_communicator *self, struct mt_python_call *call);

/* ---- result.c */

/* A new array or tensor like `object`, which `buffer` describes: the same shape (multiplier 0), or
 * its first dimension times multiplier / divisor. NULL with an exception. */
PyObject *mt_python_result_like(PyObject *object, struct mt_python_buffer *buffer,
                                Py_ssize_t multiplier, Py_ssize_t divisor);
/* Do the two have the same shape? 1, 0, or -1 with an exception. */
int mt_python_same_shape(struct mt_python_buffer *a, struct mt_python_buffer *b);
/* Is `object` a list or tuple of buffers? */
int mt_python_is_sequence(PyObject *object);
/* Hold a buffer for each rank. The call gets a staging when they do not follow one another in
 * memory: the communicator's spare one, if it is large enough. The address of the first byte in
 * *address_out; 0, or -1 with an exception. */
int mt_python_pieces_get(struct mt_python_communicator *self, PyObject *sequence, const char *role,
                         int writable, struct mt_python_call *call, void **address_out);
void mt_python_pieces_pack(struct mt_python_call *call);
void mt_python_pieces_unpack(struct mt_python_call *call);
/* The staging becomes the communicator's spare one. */
void mt_python_pieces_release(struct mt_python_communicator *self, struct mt_python_call *call);

/* ---- communicator.c */

struct mt_python_request;

struct mt_python_communicator {
    PyObject_HEAD struct manta_comm *comm; /* NULL: not created yet, or closed */
    int busy;                              /* a thread is inside */
    int rank, size;                        /* also after close */
    struct mt_python_request *requests;    /* not done yet, also those nobody holds any more */
    struct mt_python_call *unsafe;         /* calls that ended with MANTA_EBUFFER */
    Py_ssize_t unsafe_count;
    char *spare; /* staging that no call uses, so that the next need not touch new memory */
    size_t spare_bytes;
    struct mt_python_communicator *next, **link; /* all open ones */
};

/* Claim the communicator for this thread. 0, or -1 with BusyError or ClosedError. */
int mt_python_enter(struct mt_python_communicator *self);
void mt_python_leave(struct mt_python_communicator *self);
/* 1, or 0 with an exception: for what any thread may do at any time. */
int mt_python_is_open(struct mt_python_communicator *self);
PyObject *mt_python_communicator_new(struct manta_comm *comm);
/* Keep a call's buffers until the communicator is destroyed (MANTA_EBUFFER). */
void mt_python_keep_unsafe(struct mt_python_communicator *self, struct mt_python_call *call);
PyObject *mt_python_close_all(PyObject *module, PyObject *unused);
/* Complete the table of methods; before the type is made. */
void mt_python_communicator_prepare(void);
extern PyType_Spec mt_python_communicator_spec;

/* ---- describe.c */

enum { MT_PYTHON_DESCRIBE_METHODS = 3 };
extern const PyMethodDef mt_python_describe_methods[MT_PYTHON_DESCRIBE_METHODS];
extern PyGetSetDef mt_python_communicator_properties[];
PyObject *mt_python_communicator_repr(PyObject *object);

/* ---- join.c */

/* manta_comm_create() and manta_comm_split(), with the GIL released and Ctrl-C looked for. The new
 * communicator (NULL for colour -1), or -1 with an exception. */
int mt_python_join_create(const struct manta_config *config, struct manta_comm **comm_out);
int mt_python_join_split(struct manta_comm *parent, int colour, int key,
                         struct manta_comm **comm_out);

/* ---- request.c */

struct mt_python_request {
    PyObject_HEAD struct mt_python_communicator *communicator; /* strong; NULL once done */
    struct mt_python_call call;
    int done;
    PyObject *error;                        /* the exception the call ended with, or NULL */
    struct mt_python_request *next, **link; /* the communicator's */
};

struct mt_python_request *mt_python_request_new(struct mt_python_communicator *self,
                                                int collective);
/* Its call was started: the communicator holds it until it is done. */
void mt_python_request_attach(struct mt_python_request *request);
/* Look at the posted requests that nobody holds any more. The caller has entered. */
void mt_python_request_reap(struct mt_python_communicator *self);
/* The communicator is gone, and with it the library's part of the request. */
void mt_python_request_abandon(struct mt_python_request *request);
extern PyType_Spec mt_python_request_spec;

/* ---- memory.c */

extern PyType_Spec mt_python_memory_spec, mt_python_registration_spec;
PyObject *mt_python_register(PyObject *module, PyObject *arguments, PyObject *keywords);
PyObject *mt_python_memory_query(PyObject *module, PyObject *object);

/* ---- collectives.c */

/* The methods allreduce ... recv_post, and the entry that ends the list. */
enum { MT_PYTHON_COLLECTIVE_METHODS = 2 * MANTA_COLLECTIVE_COUNT };
extern const PyMethodDef mt_python_collective_methods[MT_PYTHON_COLLECTIVE_METHODS];

/* Spread the arguments of a METH_FASTCALL | METH_KEYWORDS call over `values` (NULL where absent).
 * names: interned strings, NULL-terminated; the first `required` must be there. 0 or -1. */
int mt_python_arguments(const char *method, PyObject *const *names, int required,
                        PyObject *const *arguments, Py_ssize_t count, PyObject *keywords,
                        PyObject **values);
int mt_python_op_parse(PyObject *object);
int mt_python_int_parse(PyObject *object, const char *name);

/* ---- errors.c */

int mt_python_errors_init(PyObject *module);
/* Raise the class of `code`, with the detail of comm's last error when that has the same code. */
void mt_python_raise(int code, const struct manta_comm *comm);
void mt_python_raise_info(const struct manta_error_info *info);
/* Raise InvalidArgumentError (a ValueError) with this sentence. Returns -1. */
int mt_python_invalid(const char *format, ...);
PyObject *mt_python_error_make(const struct manta_error_info *info);
PyObject *mt_python_make_error(PyObject *module, PyObject *arguments);

/* ---- module.c */

#define MT_PYTHON_NAMES(X)                                                                         \
    X(array)                                                                                       \
    X(op)                                                                                          \
    X(root)                                                                                        \
    X(out)                                                                                         \
    X(peer)                                                                                        \
    X(dtype)                                                                                       \
    X(shape)                                                                                       \
    X(is_cpu)                                                                                      \
    X(is_contiguous)                                                                               \
    X(is_neg)                                                                                      \
    X(is_conj)                                                                                     \
    X(data_ptr)                                                                                    \
    X(numel)                                                                                       \
    X(new_empty)

extern struct mt_python_state {
    PyTypeObject *communicator_type, *request_type, *registration_type;
    PyObject *error_class; /* MantaError */
    PyObject *numpy_array, *numpy_scalar, *numpy_empty, *numpy_empty_like;
    PyObject *tensor_type;   /* torch.Tensor, once seen */
    PyObject *tensor_dtypes; /* dict: torch.dtype -> index in buffer.c's table */
    PyObject *tensor_empty_like;
    PyObject *ops; /* dict: name -> enum manta_op */
    /* interned names of parameters, attributes and methods */
#define MT_PYTHON_NAME(name) PyObject *name;
    MT_PYTHON_NAMES(MT_PYTHON_NAME)
#undef MT_PYTHON_NAME
    PyObject *torch_dot;                 /* "torch." */
    struct mt_python_communicator *open; /* all that are not closed */
} mt_python_state;

#endif
