"""The way back: tapes of calls, and the gradients that are made of them."""


@cython.final
cdef class Transposed:
    """Weights as the way back multiplies them."""

    cdef frnn_transposed *transposed

    def __cinit__(self, Packed packed not None, list weights):
        cdef frnn_weights *arrays = weights_of(weights)
        cdef frnn_status status = FRNN_NO_MEMORY
        try:
            with nogil:
                status = frnn_transposed_new(packed.params, arrays, &self.transposed)
        finally:
            free(arrays)
        if status != FRNN_OK:
            raise MemoryError("weights: no memory for the packed arrays of the way back")

    def __dealloc__(self):
        frnn_transposed_free(self.transposed)

    @property
    def nbytes(self):
        return frnn_transposed_bytes(self.transposed)


cdef enum:
    UNITS_DEAF = 1 << 20  # units of a tape that are read until signals are looked for: some hundredths of a second


@cython.final
cdef class Tape:
    """What a call kept of itself."""

    cdef frnn_tape *tape
    cdef Packed packed
    cdef readonly bint batch_first, return_sequences, of_tokens
    cdef readonly int ndim
    cdef readonly Py_ssize_t T, B
    cdef bint brief
    cdef object threads  # as the call was given them
    cdef size_t segment  # steps from a mark to the next; 0: every step is kept

    def __init__(self):
        raise TypeError("fastrnn.vjp and fastrnn.trace make tapes")

    cdef int record(self, Packed packed, Call *call, cnp.ndarray x) except -1:
        cdef frnn_status status
        self.packed = packed
        self.batch_first, self.ndim, self.return_sequences = call.batch_first, call.ndim, call.c.return_sequences
        self.T, self.B, self.brief = call.c.T, call.c.B, call.brief
        self.of_tokens = call.c.tokens != FRNN_NO_TOKENS
        with nogil:
            status = frnn_run_taped(packed.params, &call.c, self.segment, &self.tape)
        return check_status(status, call, x, packed)

    def __dealloc__(self):
        frnn_tape_free(self.tape)

    @property
    def nbytes(self):
        return frnn_tape_bytes(self.tape)

    cdef int read_some(self, size_t index, size_t begin, size_t end, const frnn_trace *to) except -1:
        cdef frnn_status status
        with nogil:
            status = frnn_tape_read(self.tape, index, begin, end, to)
        if status != FRNN_OK:
            raise MemoryError("no memory to read a tape")
        return PyErr_CheckSignals()  # -1 with its error

    def read(self, size_t index, list gates, list states):
        """Fill dense arrays (T, B, H), h (T, B, P or H), with what a layer in a direction did. Gates may be none."""
        cdef frnn_trace to
        cdef int i
        for i in range(FRNN_MOST_GATES):
            to.gates[i] = cnp.PyArray_DATA(<cnp.ndarray>gates[i]) if i < len(gates) else NULL
        for i in range(FRNN_MOST_STATES):
            to.states[i] = cnp.PyArray_DATA(<cnp.ndarray>states[i]) if i < len(states) else NULL
        cdef Py_ssize_t begin, some = max(1, UNITS_DEAF // max(1, self.B * self.packed.hidden_size))
        for begin in range(0, self.T, some):
            self.read_some(index, begin, min(begin + some, self.T), &to)

    def pull_back(self, Transposed transposed not None, dy, list dfinal, cnp.ndarray dx, list dinitial, list weights,
                  cnp.ndarray dE):
        """Fill arrays with gradients. All arrays are checked; those that are None are not given, or not wanted.

        dy and dx are laid out as y and x of the call, the others are dense; `weights` holds a tuple (W, U, b, d, V, p)
        for each layer and direction, or is None. dE is of the embedding.
        """
        cdef frnn_pull pull
        cdef Call call
        cdef frnn_weight_gradients *arrays = NULL
        cdef frnn_status status
        cdef Py_ssize_t i
        cdef bint batched = self.ndim == 3
        cdef int time = batched and self.batch_first, row = not time
        cdef cnp.ndarray a
        pull.dy = frnn_array(NULL, 0, 0)
        if dy is not None:
            a = dy
            if self.return_sequences:
                pull.dy = frnn_array(cnp.PyArray_DATA(a), cnp.PyArray_STRIDE(a, time),
                                     cnp.PyArray_STRIDE(a, row) if batched else 0)
            else:
                pull.dy = frnn_array(cnp.PyArray_DATA(a), 0, cnp.PyArray_STRIDE(a, 0) if batched else 0)
        for i in range(FRNN_MOST_STATES):
            pull.dfinal[i] = frnn_array(NULL, 0, 0)
            pull.dinitial[i] = NULL
            if i < len(dfinal) and dfinal[i] is not None:
                a = dfinal[i]
                pull.dfinal[i] = frnn_array(cnp.PyArray_DATA(a), cnp.PyArray_STRIDE(a, 0),
                                            cnp.PyArray_STRIDE(a, 1) if batched else 0)
            if i < len(dinitial) and dinitial[i] is not None:
                pull.dinitial[i] = cnp.PyArray_DATA(<cnp.ndarray>dinitial[i])
        pull.dx, pull.dx_time, pull.dx_row = NULL, 0, 0
        if dx is not None:
            pull.dx, pull.dx_time = cnp.PyArray_DATA(dx), cnp.PyArray_STRIDE(dx, time)
            pull.dx_row = cnp.PyArray_STRIDE(dx, row) if batched else 0
        call.c.T, call.c.B, call.brief = self.T, self.B, self.brief
        set_threads(&call, self.threads)
        pull.threads, pull.interrupted, pull.context = call.c.threads, call.c.interrupted, NULL
        if weights is not None:
            arrays = weight_gradients_of(weights)
        pull.weights = arrays
        pull.dE = NULL if dE is None else cnp.PyArray_DATA(dE)
        with nogil:
            status = frnn_pull_back(self.tape, transposed.transposed, &pull)
        free(arrays)
        check_status(status, &call)


cdef frnn_weight_gradients *weight_gradients_of(list weights) except NULL:
    """An array for C, to be freed, of tuples (W, U, b, d, V, p)."""
    cdef Py_ssize_t i, n = len(weights)
    cdef frnn_weight_gradients *arrays = <frnn_weight_gradients *>malloc(n * sizeof(frnn_weight_gradients))
    if arrays == NULL:
        raise MemoryError
    for i in range(n):
        W, U, b, d, V, p = weights[i]
        arrays[i] = frnn_weight_gradients(<void *>data_of(W), <void *>data_of(U), <void *>data_of(b),
                                          <void *>data_of(d), <void *>data_of(V), <void *>data_of(p))
    return arrays


def release_pages():
    """Give memory that is kept for the next tapes back to the system."""
    frnn_pages_release()


def run_taped(str cell, x, params, state, lengths, resets, batch_first, return_sequences, checkpoint, threads):
    """Results of a call, and its tape."""
    cdef Tape tape = Tape.__new__(Tape)  # not yet one of a call
    tape.threads = threads
    tape.segment = _check.checkpoint(checkpoint)
    cdef frnn_cell number = <frnn_cell><int>CELLS[cell]
    results = run(number, x, params, state, lengths, resets, batch_first, return_sequences, None, threads, tape)
    return results, tape
