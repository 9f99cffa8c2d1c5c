# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The binding: it owns memory, checks what every call must check, and makes one call into C with the GIL released.

(a) `Packed` holds the weights of one target, made by `params.py`.
(b) `run` checks with a few comparisons. Where one fails, `_check.py` finds the words and raises.
(c) Nothing here computes a number of a result.
"""
cimport cython
cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from libc.stddef cimport ptrdiff_t
from libc.stdlib cimport free, malloc

from fastrnn import _check

cnp.import_array()


cdef extern from *:
    """
    #undef I /* of complex.h, which NumPy includes */
    """


cdef extern from "<stdbool.h>":
    ctypedef bint c_bool "bool"


cdef extern from "fastrnn.h" nogil:
    ctypedef enum frnn_status:
        FRNN_OK
        FRNN_NO_MEMORY
        FRNN_INTERRUPTED

    ctypedef enum frnn_dtype:
        FRNN_FLOAT32
        FRNN_FLOAT64

    ctypedef enum frnn_cell:
        FRNN_RNN
        FRNN_LSTM
        FRNN_GRU

    ctypedef enum frnn_function:
        FRNN_TANH
        FRNN_SIGMOID
        FRNN_RELU
        FRNN_HARD_SIGMOID
        FRNN_SOFTSIGN
        FRNN_LINEAR

    ctypedef struct frnn_activation:
        frnn_function function
        double alpha, beta

    ctypedef struct frnn_spec:
        frnn_cell cell
        frnn_dtype dtype
        size_t I, H, P, L
        bint forward, reverse, reset_after, input_forget
        double clip
        frnn_activation activation, recurrent_activation, output_activation

    ctypedef struct frnn_weights:
        const void *W
        const void *U
        const void *b
        const void *d
        const void *V
        const void *p

    ctypedef struct frnn_target:
        pass

    ctypedef struct frnn_params:
        pass

    ctypedef struct frnn_call:
        size_t T, B
        const void *x
        ptrdiff_t x_time, x_row
        const void *h
        ptrdiff_t h_layer, h_row
        const void *c
        ptrdiff_t c_layer, c_row
        const size_t *lengths
        bint return_sequences
        void *y
        ptrdiff_t y_time, y_row
        void *h_n
        void *c_n
        size_t threads
        c_bool (*interrupted)(void *context) noexcept
        void *context

    size_t frnn_target_count()
    const frnn_target *frnn_target_at(size_t index)
    const char *frnn_target_name(const frnn_target *target)
    bint frnn_target_usable(const frnn_target *target)
    frnn_status frnn_params_new(const frnn_spec *spec, const frnn_weights *weights, const frnn_target *target,
                                frnn_params **params)
    void frnn_params_free(frnn_params *params)
    size_t frnn_params_bytes(const frnn_params *params)
    frnn_status frnn_run(const frnn_params *params, const frnn_call *call)


cdef extern from *:
    """
    #if defined(__clang__)
    #define FRNN_COMPILER "clang " __clang_version__
    #else
    #define FRNN_COMPILER "gcc " __VERSION__
    #endif
    """
    const char *FRNN_COMPILER


COMPILER = FRNN_COMPILER.decode().strip()
CELLS = {"rnn": FRNN_RNN, "lstm": FRNN_LSTM, "gru": FRNN_GRU}
FUNCTIONS = {
    "tanh": FRNN_TANH,
    "sigmoid": FRNN_SIGMOID,
    "relu": FRNN_RELU,
    "hard_sigmoid": FRNN_HARD_SIGMOID,
    "softsign": FRNN_SOFTSIGN,
    "linear": FRNN_LINEAR,
}


# Targets of this build with whether each can be used here: (name, usable), best first. Asked once: under a hypervisor
# the question takes tens of microseconds.
TARGETS = tuple([
    (frnn_target_name(frnn_target_at(i)).decode(), bool(frnn_target_usable(frnn_target_at(i))))
    for i in range(frnn_target_count())
])


cdef frnn_activation activation_of(activation):
    name, alpha, beta = activation
    return frnn_activation(FUNCTIONS[name], alpha, beta)


cdef const void *data_of(array):
    return NULL if array is None else cnp.PyArray_DATA(<cnp.ndarray>array)


@cython.final
cdef class Packed:
    """Weights in panels of one target. Built by `params.py` from arguments that it has checked.

    `weights` holds a tuple (W, U, b, d, V, p) for each layer and direction, layer by layer, forward before reverse:
    dense arrays of `dtype`, None where absent.
    """

    cdef frnn_params *params
    cdef readonly bint lstm
    cdef readonly int type_num
    cdef readonly Py_ssize_t I, H, L, D, out

    def __cinit__(self, str cell, dtype, sizes, directions, activations, *, double clip, bint reset_after,
                  bint input_forget, list weights, str target):
        cdef frnn_spec spec
        cdef size_t i, n = len(weights)
        self.type_num = (<cnp.dtype>dtype).type_num
        self.I, self.H, P, self.L = sizes
        self.lstm = cell == "lstm"
        self.out = P if P else self.H
        spec.cell = CELLS[cell]
        spec.dtype = FRNN_FLOAT32 if self.type_num == cnp.NPY_FLOAT else FRNN_FLOAT64
        spec.I, spec.H, spec.P, spec.L = sizes
        spec.forward, spec.reverse = directions
        self.D = spec.forward + spec.reverse
        spec.reset_after = reset_after
        spec.input_forget = input_forget
        spec.clip = clip
        spec.activation = activation_of(activations[0])
        spec.recurrent_activation = activation_of(activations[1])
        spec.output_activation = activation_of(activations[2])

        cdef const frnn_target *chosen = NULL
        for i in range(frnn_target_count()):
            if frnn_target_name(frnn_target_at(i)).decode() == target:
                chosen = frnn_target_at(i)
        cdef frnn_weights *arrays = <frnn_weights *>malloc(n * sizeof(frnn_weights))
        if arrays == NULL:
            raise MemoryError
        for i in range(n):
            W, U, b, d, V, p = weights[i]
            arrays[i] = frnn_weights(data_of(W), data_of(U), data_of(b), data_of(d), data_of(V), data_of(p))
        cdef frnn_status status
        with nogil:
            status = frnn_params_new(&spec, arrays, chosen, &self.params)
        free(arrays)
        if status != FRNN_OK:
            raise MemoryError("weights: no memory for the packed arrays")

    def __dealloc__(self):
        frnn_params_free(self.params)

    @property
    def nbytes(self):
        return frnn_params_bytes(self.params)


cdef c_bool interrupted(void *context) noexcept with gil:
    try:
        PyErr_CheckSignals()
    except BaseException as error:
        (<list>context).append(error)
        return True
    return False


cdef inline bint is_dense(cnp.ndarray a, int type_num) noexcept:
    """Whether C can read the array: exactly of the type, aligned, in native order, with a dense last axis.

    Strides of an axis that is never stepped along mean nothing, and NumPy leaves anything in them.
    """
    cdef int last = cnp.PyArray_NDIM(a) - 1
    return (
        cnp.PyArray_TYPE(a) == type_num
        and cnp.PyArray_ISBEHAVED_RO(a)
        and (
            cnp.PyArray_STRIDE(a, last) == cnp.PyArray_ITEMSIZE(a)
            or cnp.PyArray_DIM(a, last) <= 1
            or cnp.PyArray_SIZE(a) == 0
        )
    )


cdef inline bint is_state(a, Packed packed, int ndim, Py_ssize_t B, Py_ssize_t size) noexcept:
    """Whether an array is (L*D, B, size), or (L*D, size) where x has no batch axis."""
    return (
        cnp.PyArray_CheckExact(a)
        and cnp.PyArray_NDIM(<cnp.ndarray>a) == ndim
        and cnp.PyArray_DIM(<cnp.ndarray>a, 0) == packed.L * packed.D
        and (ndim == 2 or cnp.PyArray_DIM(<cnp.ndarray>a, 1) == B)
        and cnp.PyArray_DIM(<cnp.ndarray>a, ndim - 1) == size
        and is_dense(<cnp.ndarray>a, packed.type_num)
    )


cdef cnp.ndarray new_state(Packed packed, int ndim, Py_ssize_t B, Py_ssize_t size):
    cdef cnp.npy_intp[3] shape
    shape[0], shape[1], shape[ndim - 1] = packed.L * packed.D, B, size
    return cnp.PyArray_EMPTY(ndim, shape, packed.type_num, 0)


cdef Py_ssize_t default_threads = 1


def set_default_threads(Py_ssize_t n):
    global default_threads
    default_threads = n


def get_default_threads():
    return default_threads


def run(Packed packed not None, x, state, lengths, batch_first, return_sequences, out, threads):
    """What `functional.py` documents: (y, h_n), or (y, (h_n, c_n)) for an LSTM."""
    cdef frnn_call call
    cdef int type_num = packed.type_num, ndim
    cdef Py_ssize_t T, B, I, layers = packed.L * packed.D, width = packed.D * packed.out
    cdef cnp.ndarray xs, y, h_n, h, c, c_n = None, counts

    if not (batch_first is True or batch_first is False):
        batch_first = _check.flag("batch_first", batch_first)
    if not (return_sequences is True or return_sequences is False):
        return_sequences = _check.flag("return_sequences", return_sequences)
    cdef bint swap = batch_first, sequences = return_sequences

    if not cnp.PyArray_CheckExact(x):
        x = _check.as_array("x", x)
    xs = x
    ndim = cnp.PyArray_NDIM(xs)
    if not (ndim == 2 or ndim == 3) or not is_dense(xs, type_num) or cnp.PyArray_DIM(xs, ndim - 1) != packed.I:
        _check.fail_x(x, packed.I, type_num, swap)
    cdef int time = ndim == 3 and swap, row = not time
    T = cnp.PyArray_DIM(xs, time)
    B = cnp.PyArray_DIM(xs, row) if ndim == 3 else 1
    if <double>(T or 1) * <double>(B or 1) * <double>width * 8 > 4e18: # NumPy counts an axis of 0 as 1
        _check.fail_size(T, B, width)

    call.T, call.B = T, B
    call.x = cnp.PyArray_DATA(xs)
    call.x_time = cnp.PyArray_STRIDE(xs, time)
    call.x_row = cnp.PyArray_STRIDE(xs, row) if ndim == 3 else 0

    call.h = call.c = NULL
    call.h_layer = call.h_row = call.c_layer = call.c_row = 0
    if state is not None:
        if packed.lstm:
            if type(state) is not tuple or len(state) != 2:
                state = _check.pair(state)
            h_in, c_in = state
            if not is_state(c_in, packed, ndim, B, packed.H):
                c_in = _check.state_array("state[1] (c)", c_in, (layers, B, packed.H), ndim, type_num)
            c = c_in
            call.c = cnp.PyArray_DATA(c)
            call.c_layer = cnp.PyArray_STRIDE(c, 0)
            call.c_row = cnp.PyArray_STRIDE(c, 1) if ndim == 3 else 0
            name = "state[0] (h)"
        else:
            h_in = state
            name = "state"
        if not is_state(h_in, packed, ndim, B, packed.out):
            h_in = _check.state_array(name, h_in, (layers, B, packed.out), ndim, type_num)
        h = h_in
        call.h = cnp.PyArray_DATA(h)
        call.h_layer = cnp.PyArray_STRIDE(h, 0)
        call.h_row = cnp.PyArray_STRIDE(h, 1) if ndim == 3 else 0

    call.lengths = NULL
    if lengths is not None:
        counts = _check.lengths(lengths, T, B, ndim == 3)
        call.lengths = <const size_t *>cnp.PyArray_DATA(counts)

    if threads is None:
        call.threads = default_threads
    else:
        call.threads = _check.threads(threads)

    call.return_sequences = sequences
    cdef cnp.npy_intp[3] shape # of y: x's, less the time axis where sequences are not returned, and outputs last
    cdef int axes = ndim if sequences else ndim - 1
    shape[axes - 1] = width
    if ndim == 3:
        shape[row if sequences else 0] = B
    if sequences:
        shape[time] = T
    if out is None:
        y = cnp.PyArray_EMPTY(axes, shape, type_num, 0)
    else:
        y = _check.out(out, tuple([shape[i] for i in range(axes)]), type_num, x, state)
    call.y = cnp.PyArray_DATA(y)
    call.y_time = cnp.PyArray_STRIDE(y, time) if sequences else 0
    call.y_row = cnp.PyArray_STRIDE(y, row if sequences else 0) if ndim == 3 else 0

    h_n = new_state(packed, ndim, B, packed.out)
    call.h_n = cnp.PyArray_DATA(h_n)
    call.c_n = NULL
    if packed.lstm:
        c_n = new_state(packed, ndim, B, packed.H)
        call.c_n = cnp.PyArray_DATA(c_n)

    cdef list errors = []
    call.interrupted = interrupted
    call.context = <void *>errors
    cdef frnn_status status
    with nogil:
        status = frnn_run(packed.params, &call)
    if status == FRNN_INTERRUPTED:
        raise errors[0]
    if status == FRNN_NO_MEMORY:
        raise MemoryError(f"no memory for the scratch of T={T} steps of B={B} rows")
    return (y, (h_n, c_n)) if packed.lstm else (y, h_n)
