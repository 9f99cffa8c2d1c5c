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

    ctypedef struct frnn_array:
        const void *data
        ptrdiff_t outer, row

    ctypedef struct frnn_call:
        size_t T, B
        frnn_array x, h, c
        const size_t *lengths
        bint return_sequences
        void *y
        ptrdiff_t y_time, y_row
        void *h_n
        void *c_n
        size_t threads
        c_bool (*interrupted)(void *context) noexcept
        void *context

    enum:
        FRNN_MOST_THREADS

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


MOST_THREADS = FRNN_MOST_THREADS
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
        cdef frnn_status status
        try:
            for i in range(n):
                W, U, b, d, V, p = weights[i]
                arrays[i] = frnn_weights(data_of(W), data_of(U), data_of(b), data_of(d), data_of(V), data_of(p))
            with nogil:
                status = frnn_params_new(&spec, arrays, chosen, &self.params)
        finally:
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


cdef cnp.ndarray read_state(frnn_array *to, name, value, Packed packed, int ndim, Py_ssize_t B, Py_ssize_t size):
    """Checks h or c and describes it to C; what comes back is to be kept while C reads it."""
    if not is_state(value, packed, ndim, B, size):
        value = _check.state_array(name, value, (packed.L * packed.D, B, size), ndim, packed.type_num)
    cdef cnp.ndarray state = value
    to.data = cnp.PyArray_DATA(state)
    to.outer = cnp.PyArray_STRIDE(state, 0)
    to.row = cnp.PyArray_STRIDE(state, 1) if ndim == 3 else 0
    return state


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


cdef class Call:
    """One call on its way: what C is told, and the arrays that it reads and writes."""

    cdef Packed packed
    cdef frnn_call c
    cdef int ndim, time, row  # axes of x, and which of them are which
    cdef cnp.ndarray x, h, cell, counts, y, h_n, c_n
    cdef list errors

    cdef read_x(self, x, bint batch_first):
        cdef Packed packed = self.packed
        if not cnp.PyArray_CheckExact(x):
            x = _check.as_array("x", x)
        self.x = x
        self.ndim = cnp.PyArray_NDIM(self.x)
        if (
            not (self.ndim == 2 or self.ndim == 3)
            or cnp.PyArray_DIM(self.x, self.ndim - 1) != packed.I
            or not is_dense(self.x, packed.type_num)
        ):
            _check.fail_x(x, packed.I, packed.type_num, batch_first)
        self.time = self.ndim == 3 and batch_first
        self.row = not self.time
        cdef Py_ssize_t T = cnp.PyArray_DIM(self.x, self.time), B = 1
        if self.ndim == 3:
            B = cnp.PyArray_DIM(self.x, self.row)
        # NumPy counts an axis of 0 as 1.
        if <double>(T or 1) * <double>(B or 1) * <double>(packed.D * packed.out) * 8 > 4e18:
            _check.fail_size(T, B, packed.D * packed.out)
        self.c.T, self.c.B = T, B
        self.c.x.data = cnp.PyArray_DATA(self.x)
        self.c.x.outer = cnp.PyArray_STRIDE(self.x, self.time)
        self.c.x.row = cnp.PyArray_STRIDE(self.x, self.row) if self.ndim == 3 else 0

    cdef read_states(self, state):
        cdef Packed packed = self.packed
        cdef Py_ssize_t B = self.c.B
        self.c.h = self.c.c = frnn_array(NULL, 0, 0)
        if state is None:
            return
        if not packed.lstm:
            self.h = read_state(&self.c.h, "state", state, packed, self.ndim, B, packed.out)
            return
        if type(state) is not tuple or len(state) != 2:
            state = _check.pair(state)
        self.h = read_state(&self.c.h, "state[0] (h)", state[0], packed, self.ndim, B, packed.out)
        self.cell = read_state(&self.c.c, "state[1] (c)", state[1], packed, self.ndim, B, packed.H)

    cdef make_results(self, out, bint sequences):
        """y, of the axes of x, less the time axis where sequences are not returned; and the final states."""
        cdef Packed packed = self.packed
        cdef cnp.npy_intp[3] shape
        cdef int axes = self.ndim if sequences else self.ndim - 1, row = self.row if sequences else 0
        shape[axes - 1] = packed.D * packed.out
        if self.ndim == 3:
            shape[row] = self.c.B
        if sequences:
            shape[self.time] = self.c.T
        if out is None:
            self.y = cnp.PyArray_EMPTY(axes, shape, packed.type_num, 0)
        else:
            expected = tuple([shape[i] for i in range(axes)])
            self.y = _check.out(out, expected, packed.type_num, self.x, self.h, self.cell)
        self.c.return_sequences = sequences
        self.c.y = cnp.PyArray_DATA(self.y)
        self.c.y_time = cnp.PyArray_STRIDE(self.y, self.time) if sequences else 0
        self.c.y_row = cnp.PyArray_STRIDE(self.y, row) if self.ndim == 3 else 0
        self.h_n = new_state(packed, self.ndim, self.c.B, packed.out)
        self.c.h_n = cnp.PyArray_DATA(self.h_n)
        self.c.c_n = NULL
        if packed.lstm:
            self.c_n = new_state(packed, self.ndim, self.c.B, packed.H)
            self.c.c_n = cnp.PyArray_DATA(self.c_n)

    cdef run(self):
        self.errors = []
        self.c.interrupted = interrupted
        self.c.context = <void *>self.errors
        cdef frnn_status status
        with nogil:
            status = frnn_run(self.packed.params, &self.c)
        if self.errors:
            raise self.errors[0]
        if status != FRNN_OK:
            raise MemoryError(f"no memory for the scratch of T={self.c.T} steps of B={self.c.B} rows")


def run(Packed packed not None, x, state, lengths, batch_first, return_sequences, out, threads):
    """What `functional.py` documents: (y, h_n), or (y, (h_n, c_n)) for an LSTM."""
    if not (batch_first is True or batch_first is False):
        batch_first = _check.flag("batch_first", batch_first)
    if not (return_sequences is True or return_sequences is False):
        return_sequences = _check.flag("return_sequences", return_sequences)
    cdef Call call = Call.__new__(Call)
    call.packed = packed
    call.read_x(x, batch_first)
    call.read_states(state)
    call.c.lengths = NULL
    if lengths is not None:
        call.counts = _check.lengths(lengths, call.c.T, call.c.B, call.ndim == 3)
        call.c.lengths = <const size_t *>cnp.PyArray_DATA(call.counts)
    call.c.threads = default_threads if threads is None else _check.threads(threads)
    call.make_results(out, return_sequences)
    call.run()
    y = call.y if out is None else out
    return (y, (call.h_n, call.c_n)) if packed.lstm else (y, call.h_n)
