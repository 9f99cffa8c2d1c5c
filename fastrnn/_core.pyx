# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The binding: it owns memory, checks what every call must check, and makes one call into C.

(a) `Packed` holds the weights of one target, made by `params.py`.
(b) `rnn`, `gru` and `lstm` check with a few comparisons. Where one fails, `_check.py` finds the words and raises.
(c) The GIL is released around C, but where C is back sooner than releasing it pays.
(d) `Stream` keeps what a call makes: a step creates no object.
(e) Nothing here computes a number of a result.
"""
cimport cython
cimport numpy as cnp
from cpython.object cimport PyObject, PyTypeObject
from libc.stddef cimport ptrdiff_t
from libc.stdlib cimport free, malloc

import os
import threading

from fastrnn import _check

cnp.import_array()


cdef extern from *:
    """
    #undef I /* of complex.h, which NumPy includes */
    """


cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident() noexcept
    PyObject *PyErr_Occurred() noexcept
    int PyErr_CheckSignals() noexcept  # leaves its error set: of cpython.exc it would be raised at once


cdef extern from "numpy/arrayobject.h":
    PyTypeObject PyArray_Type
    object PyArray_New(PyTypeObject *, int, cnp.npy_intp *, int, cnp.npy_intp *, void *, int, int, PyObject *)


cdef extern from "<stdbool.h>":
    ctypedef bint c_bool "bool"


cdef extern from "fastrnn.h" nogil:
    ctypedef enum frnn_status:
        FRNN_OK
        FRNN_NO_MEMORY
        FRNN_INTERRUPTED
        FRNN_FORKED

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
        size_t input_size, hidden_size, proj_size, num_layers
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
    size_t frnn_explain(const frnn_params *params, size_t T, size_t B, size_t threads, char *text, size_t size)
    double frnn_step_seconds(const frnn_params *params)

    ctypedef struct frnn_stream:
        pass

    frnn_status frnn_stream_new(const frnn_params *params, size_t B, frnn_stream **stream)
    void frnn_stream_free(frnn_stream *stream)
    int frnn_stream_step(frnn_stream *stream, const void *x, ptrdiff_t x_row)
    int frnn_stream_newest(const frnn_stream *stream)
    const void *frnn_stream_output(const frnn_stream *stream, int slot)
    frnn_status frnn_stream_run(frnn_stream *stream, const frnn_call *call)
    void frnn_stream_get_state(const frnn_stream *stream, void *h, void *c)
    void frnn_stream_set_state(frnn_stream *stream, const void *h, const void *c)


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
    cdef frnn_cell cell
    cdef int type_num
    cdef bint forward  # and in no other direction
    cdef Py_ssize_t I, H, L, D, out
    cdef double step_seconds

    def __cinit__(self, str cell, dtype, sizes, directions, activations, *, double clip, bint reset_after,
                  bint input_forget, list weights, str target):
        cdef frnn_spec spec
        cdef size_t i, n = len(weights)
        self.type_num = (<cnp.dtype>dtype).type_num
        self.I, self.H, P, self.L = sizes
        self.out = P if P else self.H
        self.cell = spec.cell = CELLS[cell]
        spec.dtype = FRNN_FLOAT32 if self.type_num == cnp.NPY_FLOAT else FRNN_FLOAT64
        spec.input_size, spec.hidden_size, spec.proj_size, spec.num_layers = sizes
        spec.forward, spec.reverse = directions
        self.D = spec.forward + spec.reverse
        self.forward = spec.forward and not spec.reverse
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
        self.step_seconds = frnn_step_seconds(self.params)

    def __dealloc__(self):
        frnn_params_free(self.params)

    @property
    def nbytes(self):
        return frnn_params_bytes(self.params)

    def explain(self, size_t T, size_t B, size_t threads):
        cdef bytearray text = bytearray(frnn_explain(self.params, T, B, threads, NULL, 0))
        frnn_explain(self.params, T, B, threads, text, len(text))
        return text.decode().rstrip("\0\n")


@cython.auto_pickle(False)
cdef class Params:
    """What params are to this module. `params.py` makes the rest of them."""

    cdef public Packed _packed


cdef Packed packed_of(frnn_cell cell, params):
    cdef Packed packed
    if isinstance(params, Params):
        packed = (<Params>params)._packed
        if packed is not None and packed.cell == cell:
            return packed
    from fastrnn.params import to_params  # not before it is needed: that module imports this one
    packed = to_params([name for name in CELLS if CELLS[name] == cell][0], params)._packed
    return packed


# Up to so many expected seconds the GIL is kept: a call is back within 20 us, most of them within 10. Releasing it and
# taking it again where nobody else wants it was found to take some 30 ns, beside 130 to 210 for a step with 20 units.
cdef double BRIEF = 10e-6
cdef double BESIDE = 128e-9  # of a row's step, beside its products


cdef bint is_brief(Packed packed, double steps, double rows) noexcept:
    return (packed.step_seconds + BESIDE) * (steps or 1) * (rows or 1) <= BRIEF


cdef c_bool interrupted(void *context) noexcept with gil:
    return PyErr_CheckSignals() != 0  # the error stays set until the call is back, and is raised there


# Signal handlers run in one thread alone. Others ask for nothing: an interpreter that is about to end gives them the
# GIL no more and ends them where they ask for it, which must not be in the middle of a call.
cdef unsigned long main_thread = threading.main_thread().ident
cdef unsigned long generation = 1  # of this process: a child's is one more than its parent's


def after_fork():
    global main_thread, generation
    main_thread = PyThread_get_thread_ident()
    generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=after_fork)


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


def array_at(size_t address, shape, strides, dtype, owner):
    """An array in memory of another library, which `owner` keeps; strides are in elements. It can't be written to."""
    cdef cnp.npy_intp[8] sizes, steps
    cdef int ndim = len(shape), i
    if ndim > 8:
        raise ValueError(f"shape: expected at most 8 axes, got {ndim}")
    for i in range(ndim):
        sizes[i], steps[i] = shape[i], strides[i] * <Py_ssize_t>dtype.itemsize
    cdef cnp.ndarray array = PyArray_New(&PyArray_Type, ndim, sizes, (<cnp.dtype>dtype).type_num, steps,
                                         <void *>address, 0, 0, NULL)
    cnp.set_array_base(array, owner)
    return array


cdef Py_ssize_t default_threads = 1


def set_default_threads(Py_ssize_t n):
    global default_threads
    default_threads = n


def get_default_threads():
    return default_threads


cdef struct Call:
    frnn_call c
    int ndim, time, row  # axes of x, and which of them are which
    bint brief


cdef cnp.ndarray read_x(Call *call, x, Packed packed, bint batch_first):
    """Checks x and describes it to C; what comes back is to be kept while C reads it."""
    if not cnp.PyArray_CheckExact(x):
        x = _check.as_array("x", x)
    cdef cnp.ndarray array = x
    cdef int ndim = cnp.PyArray_NDIM(array)
    if (
        not (ndim == 2 or ndim == 3)
        or cnp.PyArray_DIM(array, ndim - 1) != packed.I
        or not is_dense(array, packed.type_num)
    ):
        _check.fail_x(array, packed.I, packed.type_num, batch_first)
    cdef int time = ndim == 3 and batch_first, row = not time
    cdef Py_ssize_t T = cnp.PyArray_DIM(array, time), B = cnp.PyArray_DIM(array, row) if ndim == 3 else 1
    # NumPy counts an axis of 0 as 1.
    if <double>(T or 1) * <double>(B or 1) * <double>(packed.D * packed.out) * 8 > 4e18:
        _check.fail_size(T, B, packed.D * packed.out)
    call.ndim, call.time, call.row = ndim, time, row
    call.brief = is_brief(packed, T, B)
    call.c.T, call.c.B = T, B
    call.c.x.data = cnp.PyArray_DATA(array)
    call.c.x.outer = cnp.PyArray_STRIDE(array, time)
    call.c.x.row = cnp.PyArray_STRIDE(array, row) if ndim == 3 else 0
    return array


cdef cnp.ndarray new_y(Call *call, Packed packed, bint sequences, out, cnp.ndarray x, cnp.ndarray h, cnp.ndarray c):
    """y, or `out` checked: of the axes of x, less the time axis where sequences are not returned."""
    cdef cnp.npy_intp[3] shape
    cdef int axes = call.ndim if sequences else call.ndim - 1, row = call.row if sequences else 0
    cdef cnp.ndarray y
    shape[axes - 1] = packed.D * packed.out
    if call.ndim == 3:
        shape[row] = call.c.B
    if sequences:
        shape[call.time] = call.c.T
    if out is None:
        y = cnp.PyArray_EMPTY(axes, shape, packed.type_num, 0)
    else:
        y = _check.out(out, tuple([shape[i] for i in range(axes)]), packed.type_num, x, h, c)
    call.c.return_sequences = sequences
    call.c.y = cnp.PyArray_DATA(y)
    call.c.y_time = cnp.PyArray_STRIDE(y, call.time) if sequences else 0
    call.c.y_row = cnp.PyArray_STRIDE(y, row) if call.ndim == 3 else 0
    return y


cdef int set_threads(Call *call, threads) except -1:
    if threads is None:
        call.c.threads = default_threads
    elif type(threads) is int and threads == 1:
        call.c.threads = 1
    else:
        call.c.threads = _check.threads(threads)
    call.c.interrupted = NULL
    if not call.brief and PyThread_get_thread_ident() == main_thread:
        call.c.interrupted = interrupted
    call.c.context = NULL
    return 0


cdef int check_status(frnn_status status, Call *call) except -1:
    if status == FRNN_OK:
        return 0
    if PyErr_Occurred() != NULL:
        return -1  # with the error that `interrupted` left, whatever else ended the call
    if status == FRNN_FORKED:
        raise RuntimeError(
            "no result: this process was forked, by a signal handler, from one whose threads were at work"
        )
    raise MemoryError(f"no memory for the scratch of T={call.c.T} steps of B={call.c.B} rows")


cdef run(frnn_cell cell, x, params, state, lengths, batch_first, return_sequences, out, threads):
    cdef Packed packed = packed_of(cell, params)
    cdef Call call
    cdef cnp.ndarray array, y, h_n, h = None, c = None, c_n = None, counts = None
    cdef frnn_status status
    if not (batch_first is True or batch_first is False):
        batch_first = _check.flag("batch_first", batch_first)
    if not (return_sequences is True or return_sequences is False):
        return_sequences = _check.flag("return_sequences", return_sequences)
    array = read_x(&call, x, packed, batch_first is True)
    cdef int ndim = call.ndim
    cdef Py_ssize_t B = call.c.B
    call.c.h = call.c.c = frnn_array(NULL, 0, 0)
    if state is not None and cell != FRNN_LSTM:
        h = read_state(&call.c.h, "state", state, packed, ndim, B, packed.out)
    elif state is not None:
        if type(state) is not tuple or len(<tuple>state) != 2:
            state = _check.pair(state)
        h = read_state(&call.c.h, "state[0] (h)", (<tuple>state)[0], packed, ndim, B, packed.out)
        c = read_state(&call.c.c, "state[1] (c)", (<tuple>state)[1], packed, ndim, B, packed.H)
    call.c.lengths = NULL
    if lengths is not None:
        counts = _check.lengths(lengths, call.c.T, B, ndim == 3)
        call.c.lengths = <const size_t *>cnp.PyArray_DATA(counts)
    set_threads(&call, threads)
    y = new_y(&call, packed, return_sequences is True, out, array, h, c)
    h_n = new_state(packed, ndim, B, packed.out)
    call.c.h_n = cnp.PyArray_DATA(h_n)
    call.c.c_n = NULL
    if cell == FRNN_LSTM:
        c_n = new_state(packed, ndim, B, packed.H)
        call.c.c_n = cnp.PyArray_DATA(c_n)
    if call.brief:
        status = frnn_run(packed.params, &call.c)
    else:
        with nogil:
            status = frnn_run(packed.params, &call.c)
    check_status(status, &call)
    return (y if out is None else out, (h_n, c_n) if cell == FRNN_LSTM else h_n)


# What `functional.py` documents.
def rnn(x, params, state=None, *, lengths=None, batch_first=False, return_sequences=True, out=None, threads=None):
    return run(FRNN_RNN, x, params, state, lengths, batch_first, return_sequences, out, threads)


def gru(x, params, state=None, *, lengths=None, batch_first=False, return_sequences=True, out=None, threads=None):
    return run(FRNN_GRU, x, params, state, lengths, batch_first, return_sequences, out, threads)


def lstm(x, params, state=None, *, lengths=None, batch_first=False, return_sequences=True, out=None, threads=None):
    return run(FRNN_LSTM, x, params, state, lengths, batch_first, return_sequences, out, threads)


@cython.final
cdef class Memory:
    """A stream's memory. Outputs of steps keep it, and it keeps the weights; it knows nothing of a `Stream`.

    Arrays take no part in the search for cycles, so a stream that its own arrays kept would never be freed.
    """

    cdef frnn_stream *stream
    cdef Packed packed

    def __cinit__(self, Packed packed not None, Py_ssize_t B):
        self.packed = packed
        if frnn_stream_new(packed.params, B, &self.stream) != FRNN_OK:
            raise MemoryError(f"no memory for a stream of B={B} rows")

    def __dealloc__(self):
        frnn_stream_free(self.stream)

    cdef tuple outputs(self, int ndim, Py_ssize_t B):
        """What steps return, in turns: both slots, as arrays that can't be written to."""
        cdef cnp.npy_intp[2] shape
        cdef cnp.ndarray array
        arrays = []
        for slot in range(2):
            shape[0], shape[ndim - 1] = B, self.packed.out
            array = cnp.PyArray_SimpleNewFromData(ndim, shape, self.packed.type_num,
                                                  <void *>frnn_stream_output(self.stream, slot))
            cnp.PyArray_CLEARFLAGS(array, cnp.NPY_ARRAY_WRITEABLE)
            cnp.set_array_base(array, self)
            arrays.append(array)
        return tuple(arrays)


@cython.auto_pickle(False)
cdef class Stream:
    """The part of `fastrnn.Stream` that has to be fast, and what its other part is made of."""

    cdef readonly Params _params
    cdef readonly Py_ssize_t _batch_size
    cdef Memory memory
    cdef frnn_stream *stream  # of memory
    cdef Packed packed
    cdef tuple rows, single  # outputs (B, size), and (size,) where there is one row
    cdef bint brief
    # While C is at work without the GIL, or a signal handler runs within, nobody else may come in.
    cdef unsigned long busy  # the generation of the process in which C began its work; 0: it is not at work
    cdef unsigned long worker  # the thread

    def __cinit__(self, params, batch_size=1):
        if not isinstance(params, Params) or (<Params>params)._packed is None:
            _check.fail_stream_params(params)
        self._params = params
        self.packed = self._params._packed
        if not self.packed.forward:
            _check.fail_stream_direction(params.direction)
        self._batch_size = _check.batch_size(batch_size)
        self.memory = Memory(self.packed, self._batch_size)
        self.stream = self.memory.stream
        self.rows = self.memory.outputs(2, self._batch_size)
        self.single = self.memory.outputs(1, 1) if self._batch_size == 1 else None
        self.brief = is_brief(self.packed, 1, self._batch_size)

    cdef bint is_orphaned(self) noexcept:
        """Whether the thread that was at work is gone: another one forked this process meanwhile."""
        return self.busy != 0 and self.busy != generation and self.worker != main_thread

    cdef int fail_busy(self) except -1:
        _check.fail_orphaned() if self.is_orphaned() else _check.fail_busy()

    cdef inline void begin_work(self) noexcept:
        self.worker = PyThread_get_thread_ident()
        self.busy = generation

    cdef int enter(self, const void *x) except -1:
        """Raises where another call is at work, or where x lies in the slot that the call writes over."""
        if self.busy:
            self.fail_busy()
        cdef const char *older = <const char *>frnn_stream_output(self.stream, not frnn_stream_newest(self.stream))
        if <size_t>(<const char *>x - older) < <size_t>cnp.PyArray_NBYTES(<cnp.ndarray>self.rows[0]):
            _check.fail_output_as_input()
        return 0

    def step(self, x):
        """Take one step.

        Nothing is allocated, and it runs on the calling thread.

        Parameters
        ----------
        x : (B, I) ndarray, or (I,) where the batch has one row
            Inputs of the step, of the params' dtype, the last axis dense.

        Returns
        -------
        y : (B, H) ndarray, or (H,) where `x` is (I,)
            Output of the last layer, (B, P) with a projection. It shows the stream's own memory: it can't be written
            to, and is valid until the next step or run. ``y.copy()`` keeps it.
        """
        if not cnp.PyArray_CheckExact(x):
            x = _check.as_array("x", x)
        cdef cnp.ndarray array = x
        cdef Packed packed = self.packed
        cdef int ndim = cnp.PyArray_NDIM(array), slot
        if (
            not (ndim == 2 and cnp.PyArray_DIM(array, 0) == self._batch_size or ndim == 1 and self._batch_size == 1)
            or cnp.PyArray_DIM(array, ndim - 1) != packed.I
            or not is_dense(array, packed.type_num)
        ):
            _check.fail_step(array, self._batch_size, packed.I, packed.type_num)
        cdef const void *data = cnp.PyArray_DATA(array)
        cdef ptrdiff_t row = cnp.PyArray_STRIDE(array, 0)
        self.enter(data)
        if self.brief:
            slot = frnn_stream_step(self.stream, data, row)
        else:
            self.begin_work()
            with nogil:
                slot = frnn_stream_step(self.stream, data, row)
            self.busy = 0
        cdef cnp.ndarray y = (self.rows if ndim == 2 else self.single)[slot]
        if not self.is_untouched(y, ndim):  # somebody has set its shape or dtype
            self.rows = self.memory.outputs(2, self._batch_size)
            self.single = self.memory.outputs(1, 1) if self._batch_size == 1 else None
            y = (self.rows if ndim == 2 else self.single)[slot]
        return y

    cdef inline bint is_untouched(self, cnp.ndarray y, int ndim) noexcept:
        return (
            cnp.PyArray_NDIM(y) == ndim
            and cnp.PyArray_TYPE(y) == self.packed.type_num
            and cnp.PyArray_DIM(y, ndim - 1) == self.packed.out
            and (ndim == 1 or cnp.PyArray_DIM(y, 0) == self._batch_size)
            and cnp.PyArray_ISCARRAY_RO(y)
        )

    def run(self, x, *, threads=1):
        """Take any number of steps at once.

        Parameters
        ----------
        x : (T, B, I) ndarray, or (T, I) where the batch has one row
            Inputs, of the params' dtype, the last axis dense. T may be 0.
        threads : int or None
            Threads at most; None: those of `get_num_threads`. The results do not depend on it.

        Returns
        -------
        y : (T, B, H) ndarray, or (T, H) where `x` is (T, I)
            Outputs of the last layer, with P in place of H if there is a projection. A new array.
        """
        cdef Call call
        cdef cnp.ndarray array = read_x(&call, x, self.packed, False), y
        cdef frnn_status status
        if <Py_ssize_t>call.c.B != self._batch_size:
            _check.fail_chunk(array, self._batch_size, self.packed.I)
        set_threads(&call, threads)
        y = new_y(&call, self.packed, True, None, array, None, None)
        self.enter(call.c.x.data)
        self.begin_work()
        if call.brief:
            status = frnn_stream_run(self.stream, &call.c)
        else:
            with nogil:
                status = frnn_stream_run(self.stream, &call.c)
        self.busy = 0
        check_status(status, &call)
        return y

    def _get_state(self):
        cdef cnp.ndarray h, c = None
        h = new_state(self.packed, 3, self._batch_size, self.packed.out)
        if self.packed.cell == FRNN_LSTM:
            c = new_state(self.packed, 3, self._batch_size, self.packed.H)
        if self.busy:
            self.fail_busy()
        frnn_stream_get_state(self.stream, cnp.PyArray_DATA(h), NULL if c is None else cnp.PyArray_DATA(c))
        return h if c is None else (h, c)

    def _set_state(self, state):
        cdef cnp.ndarray h = None, c = None
        if state is not None and self.packed.cell == FRNN_LSTM:
            pair = state if type(state) is tuple and len(state) == 2 else _check.pair(state)
            h = self.own_state("state[0] (h)", pair[0], self.packed.out)
            c = self.own_state("state[1] (c)", pair[1], self.packed.H)
        elif state is not None:
            h = self.own_state("state", state, self.packed.out)
        if self.busy and not self.is_orphaned():
            self.fail_busy()
        self.busy = 0
        frnn_stream_set_state(self.stream, NULL if h is None else cnp.PyArray_DATA(h),
                              NULL if c is None else cnp.PyArray_DATA(c))

    cdef cnp.ndarray own_state(self, name, value, Py_ssize_t size):
        """A dense copy of h or c: what is given may be an output, in the memory that is written."""
        cdef frnn_array unused
        cdef int ndim = 3
        if self._batch_size == 1 and cnp.PyArray_Check(value) and cnp.PyArray_NDIM(<cnp.ndarray>value) == 2:
            ndim = 2
        return cnp.PyArray_NewCopy(read_state(&unused, name, value, self.packed, ndim, self._batch_size, size),
                                   cnp.NPY_CORDER)
